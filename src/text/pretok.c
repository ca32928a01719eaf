/* SPDX-License-Identifier: Apache-2.0 */
#include "text/pretok.h"

#include <string.h>

#include "text/unicode.h"

#define GPT2_REGEX "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_REGEX                                                                                                                                 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct { enum pretok kind; const char *name, *regex; } known[] = {
    {PRETOK_GPT2, "gpt-2", GPT2_REGEX}, {PRETOK_SMOLLM, "smollm", NULL}, {PRETOK_LLAMA3, "llama-bpe", LLAMA3_REGEX},
    {PRETOK_LLAMA3, "llama3", NULL},    {PRETOK_LLAMA3, "llama-v3", NULL},
};

enum pretok pretok_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].kind;
    return PRETOK_UNKNOWN;
}

enum pretok pretok_by_regex(struct bytes regex)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].regex && bytes_equal(regex, known[i].regex))
            return known[i].kind;
    return PRETOK_UNKNOWN;
}

const char *pretok_names(void) { return "gpt-2, smollm, llama-bpe, llama3, llama-v3"; }

struct scan { const uint8_t *p; size_t n; };

/* The character at i: its length (0 at the end) and class. */
static size_t look(struct scan s, size_t i, enum char_class *what)
{
    uint32_t c;
    *what = CLASS_OTHER;
    if (i >= s.n)
        return 0;
    size_t len = (size_t)utf8_next(s.p + i, s.n - i, &c);
    *what = char_class(c);
    return len;
}

static size_t run(struct scan s, size_t i, enum char_class wanted) /* where the run of one class that starts at i ends */
{
    enum char_class what;
    for (size_t len; (len = look(s, i, &what)) && what == wanted;)
        i += len;
    return i;
}

/* 's 't 're 've 'm 'll 'd; the case-blind form also takes the long s, as Unicode folds it. */
static size_t contraction(struct scan s, bool any_case)
{
    if (s.n < 2 || s.p[0] != '\'')
        return 0;
    uint8_t c[2] = {s.p[1], s.n > 2 ? s.p[2] : 0};
    for (int i = 0; i < 2; i++)
        if (any_case && c[i] >= 'A' && c[i] <= 'Z')
            c[i] |= 32;
    if (c[0] == 's' || c[0] == 't' || c[0] == 'm' || c[0] == 'd')
        return 2;
    if (c[1] == 'e' ? c[0] == 'r' || c[0] == 'v' : c[0] == 'l' && c[1] == 'l')
        return 3;
    return any_case && c[0] == 0xc5 && c[1] == 0xbf ? 3 : 0;
}

/* \s+(?!\S)|\s+ : white space up to the last one before a word, which goes with the word; all of it at the end of the text. With `newlines`
   \s*[\r\n]+ comes first: up to the last line break of the run. With `digits` a number ends the text, since numbers were cut out before. */
static size_t spaces(struct scan s, bool newlines, bool digits)
{
    enum char_class what = CLASS_SPACE;
    size_t i = 0, last = 0, after_newline = 0;
    for (size_t len; (len = look(s, i, &what)) && what >= CLASS_SPACE;) {
        last = i;
        i += len;
        if (what == CLASS_NEWLINE)
            after_newline = i;
    }
    if (newlines && after_newline)
        return after_newline;
    return i == s.n || !last || (digits && what == CLASS_NUMBER) ? i : last;
}

static size_t gpt2_word(struct scan s, bool digits)
{
    enum char_class what;
    size_t skip = s.p[0] == ' ' && s.n > 1, i = contraction(s, false);
    if (i)
        return i;
    size_t len = look(s, skip, &what);
    if (digits && what == CLASS_NUMBER)
        return skip ? skip : len;
    if (what < CLASS_SPACE)
        return run(s, skip + len, what);
    return spaces(s, false, digits);
}

static size_t llama3_word(struct scan s)
{
    enum char_class first, next;
    size_t i = contraction(s, true), len = look(s, 0, &first);
    if (i)
        return i;
    if (first == CLASS_LETTER)
        return run(s, len, CLASS_LETTER);
    if (first == CLASS_NUMBER) {
        i = len;
        for (int k = 1; k < 3 && (len = look(s, i, &next)) && next == CLASS_NUMBER; k++)
            i += len;
        return i;
    }
    size_t next_len = look(s, len, &next);
    if (first != CLASS_NEWLINE && next_len && next == CLASS_LETTER)
        return run(s, len + next_len, CLASS_LETTER);
    if (first == CLASS_OTHER || (s.p[0] == ' ' && next_len && next == CLASS_OTHER)) {
        i = run(s, first == CLASS_OTHER ? len : len + next_len, CLASS_OTHER);
        return run(s, i, CLASS_NEWLINE);
    }
    return spaces(s, true, false);
}

static size_t spaces_word(struct scan s)
{
    for (size_t i = 1; i + 3 <= s.n; i++)
        if (memcmp(s.p + i, "\xe2\x96\x81", 3) == 0)
            return i;
    return s.n;
}

size_t pretok_word(enum pretok kind, const uint8_t *p, size_t n)
{
    struct scan s = {p, n};
    switch (kind) {
    case PRETOK_GPT2:
    case PRETOK_SMOLLM:
        return gpt2_word(s, kind == PRETOK_SMOLLM);
    case PRETOK_LLAMA3:
        return llama3_word(s);
    case PRETOK_SPACES:
        return spaces_word(s);
    default:
        return n;
    }
}
