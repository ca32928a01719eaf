/* SPDX-License-Identifier: Apache-2.0 */
/* Source to tokens. White space around tags goes here: "-" takes all of it, a block takes the newline behind it (trim_blocks) and the blanks before it when it
   begins its line (lstrip_blocks), "+" keeps them. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_node.h"

enum eat { EAT_NOTHING, EAT_NEWLINE, EAT_SPACE };

struct lexer {
    const char *name, *p;
    size_t n, at;
    int line;
    size_t counted; /* lines are counted up to here */
    enum eat eat;   /* what the tag before takes of the text behind it */
    struct tokens *out;
    struct error *err;
};

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || (c & 0x80); }
static bool looking_at(const struct lexer *l, size_t at, const char *text) { return at + strlen(text) <= l->n && !memcmp(l->p + at, text, strlen(text)); }

static int line_at(struct lexer *l, size_t at)
{
    for (; l->counted < at; l->counted++)
        l->line += l->p[l->counted] == '\n';
    return l->line;
}

static int add(struct lexer *l, enum token_kind kind, size_t from, size_t to)
{
    struct tokens *t = l->out;
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 256;
        struct token *bigger = realloc(t->item, (size_t)cap * sizeof *bigger);
        if (!bigger)
            return fail(l->err, ERR_OS, "%s: out of memory for %d tokens", l->name, cap);
        t->item = bigger;
        t->cap = cap;
    }
    t->item[t->n++] = (struct token){kind, line_at(l, from), {(const uint8_t *)l->p + from, to - from}};
    return 0;
}

/* Text from..to, before a tag ("{{", "{%" or "{#") with this sign, or at the end of the source (tag 0). */
static int add_text(struct lexer *l, size_t from, size_t to, char tag, char sign)
{
    if (l->eat == EAT_NEWLINE && from < to && l->p[from] == '\n')
        from++;
    while (l->eat == EAT_SPACE && from < to && is_blank(l->p[from]))
        from++;
    size_t line = to;
    while (line > from && is_blank(l->p[line - 1]) && (sign == '-' || l->p[line - 1] != '\n'))
        line--;
    bool first = line == 0 || l->p[line - 1] == '\n'; /* nothing but blanks stands before the tag in its line */
    if (sign == '-' || (tag && tag != '{' && sign != '+' && first))
        to = line;
    return from < to ? add(l, T_TEXT, from, to) : 0;
}

/* Behind a tag's end: "-%}", "+%}", "%}" and so on. */
static void end_tag(struct lexer *l, char sign, bool block)
{
    l->eat = sign == '-' ? EAT_SPACE : block && sign != '+' ? EAT_NEWLINE : EAT_NOTHING;
}

/* The end of a tag at `at`, "%}" with or without a sign: its length and sign. */
static size_t match_end(const struct lexer *l, size_t at, const char *end, char *sign)
{
    *sign = l->p[at] == '-' || (l->p[at] == '+' && *end != '}') ? l->p[at] : 0;
    size_t skip = *sign ? 1 : 0;
    return looking_at(l, at + skip, end) ? skip + 2 : 0;
}

static int skip_comment(struct lexer *l)
{
    size_t start = l->at, n;
    char sign = 0;
    for (l->at += 2; l->at < l->n; l->at++)
        if ((n = match_end(l, l->at, "#}", &sign))) {
            l->at += n;
            end_tag(l, sign, true);
            return 0;
        }
    return fail(l->err, ERR_DATA, "%s: line %d: a comment that does not end: write #} behind it", l->name, line_at(l, start));
}

/* "{% WORD %}" at `at`: where it ends, else 0. */
static size_t match_word_tag(const struct lexer *l, size_t at, const char *word, char *before, char *behind)
{
    if (!looking_at(l, at, "{%"))
        return 0;
    at += 2;
    *before = l->p[at] == '-' || l->p[at] == '+' ? l->p[at++] : 0;
    while (at < l->n && is_blank(l->p[at]))
        at++;
    if (!looking_at(l, at, word))
        return 0;
    at += strlen(word);
    while (at < l->n && is_blank(l->p[at]))
        at++;
    size_t n = match_end(l, at, "%}", behind);
    return n ? at + n : 0;
}

/* Behind "{% raw %}": text up to "{% endraw %}". */
static int lex_raw(struct lexer *l, size_t from, char sign)
{
    char before, behind;
    end_tag(l, sign, false);
    for (size_t at = from, end; at < l->n; at++)
        if ((end = match_word_tag(l, at, "endraw", &before, &behind))) {
            int rc = add_text(l, from, at, '%', before);
            l->at = end;
            end_tag(l, behind, true);
            return rc;
        }
    return fail(l->err, ERR_DATA, "%s: line %d: {%% raw %%} without {%% endraw %%}: write one", l->name, line_at(l, from));
}

static int lex_string(struct lexer *l)
{
    size_t start = l->at, at = start + 1;
    while (at < l->n && l->p[at] != l->p[start])
        at += l->p[at] == '\\' ? 2 : 1;
    if (at >= l->n)
        return fail(l->err, ERR_DATA, "%s: line %d: a string that does not end: write %c behind it", l->name, line_at(l, start), l->p[start]);
    l->at = at + 1;
    return add(l, T_STRING, start + 1, at);
}

static size_t digits(const struct lexer *l, size_t at)
{
    while (at < l->n && (is_digit(l->p[at]) || (l->p[at] == '_' && at + 1 < l->n && is_digit(l->p[at + 1]))))
        at++;
    return at;
}

static int lex_number(struct lexer *l)
{
    size_t start = l->at, at = digits(l, start), e;
    bool real = false;
    if (at + 1 < l->n && l->p[at] == '.' && is_digit(l->p[at + 1]) && !(start && l->p[start - 1] == '.')) {
        at = digits(l, at + 1);
        real = true;
    }
    e = at + 1;
    if (at < l->n && (l->p[at] | 32) == 'e' && e < l->n && (l->p[e] == '+' || l->p[e] == '-'))
        e++;
    if (at < l->n && (l->p[at] | 32) == 'e' && e < l->n && is_digit(l->p[e])) {
        at = digits(l, e);
        real = true;
    }
    l->at = at;
    return add(l, real ? T_REAL : T_INT, start, at);
}

static int lex_sign(struct lexer *l, int *open)
{
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    char c = l->p[l->at];
    size_t n = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (looking_at(l, l->at, pairs[i]))
            n = 2;
    if (n == 1 && (!c || !strchr("+-*/%~[](){}<>=.:|,", c)))
        return fail(l->err, ERR_DATA, "%s: line %d: unexpected \"%.1s\"", l->name, line_at(l, l->at), l->p + l->at);
    *open += strchr("([{", c) ? 1 : strchr(")]}", c) ? -1 : 0;
    l->at += n;
    return add(l, T_SIGN, l->at - n, l->at);
}

/* What stands between "{{" and "}}", or "{%" and "%}"; within brackets those close nothing. */
static int lex_inside(struct lexer *l, const char *end, enum token_kind end_kind)
{
    int rc = 0, open = 0, line = line_at(l, l->at);
    size_t n;
    char sign = 0;
    while (!rc && l->at < l->n) {
        char c = l->p[l->at];
        if (is_blank(c)) {
            l->at++;
        } else if (open <= 0 && (n = match_end(l, l->at, end, &sign))) {
            rc = add(l, end_kind, l->at, l->at + n);
            l->at += n;
            end_tag(l, sign, end_kind == T_BLOCK_END);
            return rc;
        } else if (c == '"' || c == '\'') {
            rc = lex_string(l);
        } else if (is_digit(c)) {
            rc = lex_number(l);
        } else if (is_word(c)) {
            size_t from = l->at;
            while (l->at < l->n && is_word(l->p[l->at]))
                l->at++;
            rc = add(l, T_NAME, from, l->at);
        } else {
            rc = lex_sign(l, &open);
        }
    }
    return rc ? rc : fail(l->err, ERR_DATA, "%s: line %d: a tag that does not end: write %s behind it", l->name, line, end);
}

static int lex_tag(struct lexer *l)
{
    char tag = l->p[l->at + 1], before, behind;
    size_t raw = match_word_tag(l, l->at, "raw", &before, &behind);
    if (tag == '#')
        return skip_comment(l);
    if (raw)
        return lex_raw(l, raw, behind);
    int rc = add(l, tag == '{' ? T_PRINT : T_BLOCK, l->at, l->at + 2);
    l->at += 2;
    if (l->at < l->n && (l->p[l->at] == '-' || l->p[l->at] == '+'))
        l->at++;
    if (rc)
        return rc;
    return tag == '{' ? lex_inside(l, "}}", T_PRINT_END) : lex_inside(l, "%}", T_BLOCK_END);
}

int jinja_lex(const char *name, struct bytes source, struct tokens *out, struct error *err)
{
    struct lexer l = {.name = name, .p = (const char *)source.p, .n = source.n, .line = 1, .out = out, .err = err};
    int rc = 0;
    while (!rc && l.at < l.n) {
        size_t from = l.at, at = from;
        while (at < l.n && !(l.p[at] == '{' && at + 1 < l.n && strchr("{%#", l.p[at + 1]) && l.p[at + 1]))
            at++;
        char tag = 0, sign = 0;
        if (at < l.n) {
            tag = l.p[at + 1];
            sign = at + 2 < l.n && (l.p[at + 2] == '-' || l.p[at + 2] == '+') ? l.p[at + 2] : 0;
        }
        rc = add_text(&l, from, at, tag, sign);
        l.eat = EAT_NOTHING;
        l.at = at;
        if (!rc && tag)
            rc = lex_tag(&l);
    }
    return rc ? rc : add(&l, T_END, l.n, l.n);
}
