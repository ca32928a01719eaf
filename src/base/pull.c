/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pull.h"

#include <string.h>

int pull_refuse(struct pull *j, const char *what)
{
    return fail(j->err, ERR_DATA, "%s: offset 0x%llx: %s", j->path, (unsigned long long)(j->origin + j->at), what);
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static void skip_space(struct pull *j)
{
    while (j->at < j->n && is_space(j->text[j->at]))
        j->at++;
}

bool pull_peek(struct pull *j, char c)
{
    skip_space(j);
    return j->at < j->n && j->text[j->at] == c;
}

int pull_expect(struct pull *j, char c)
{
    char what[] = "expected ' '";
    what[10] = c;
    if (!pull_peek(j, c))
        return pull_refuse(j, what);
    j->at++;
    return 0;
}

int pull_more(struct pull *j, char close, bool first)
{
    if (pull_peek(j, close)) {
        j->at++;
        return 0;
    }
    if (first)
        return 1;
    int rc = pull_expect(j, ',');
    return rc ? rc : 1;
}

/* Four hexadecimal digits at text[at], or -1. */
static int32_t hex4(const struct pull *j, size_t at)
{
    int32_t v = 0;
    if (j->n - at < 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        const char *digits = "0123456789abcdefABCDEF", *d = j->text[i] ? strchr(digits, j->text[i]) : NULL;
        if (!d)
            return -1;
        int x = (int)(d - digits);
        v = v * 16 + (x < 16 ? x : x - 6);
    }
    return v;
}

static size_t put_utf8(char *to, uint32_t c)
{
    static const struct { uint32_t below; uint8_t mark, n; } rows[] = {{0x80, 0, 1}, {0x800, 0xc0, 2}, {0x10000, 0xe0, 3}, {0x110000, 0xf0, 4}};
    int k = 0;
    while (c >= rows[k].below)
        k++;
    for (int i = rows[k].n - 1; i > 0; i--, c >>= 6)
        to[i] = (char)(0x80 | (c & 63));
    to[0] = (char)(rows[k].mark | c);
    return rows[k].n;
}

/* The character of \uXXXX or a pair of them; text[at] is behind the u. */
static int take_unicode(struct pull *j, char **to)
{
    int32_t c = hex4(j, j->at);
    if (c <= 0)
        return pull_refuse(j, "\\u needs four hexadecimal digits, and not 0000");
    j->at += 4;
    if (c >= 0xd800 && c <= 0xdfff) {
        bool pair = c < 0xdc00 && j->n - j->at >= 6 && j->text[j->at] == '\\' && j->text[j->at + 1] == 'u';
        int32_t low = pair ? hex4(j, j->at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return pull_refuse(j, "half of a surrogate pair");
        j->at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *to += put_utf8(*to, (uint32_t)c);
    return 0;
}

static int take_escape(struct pull *j, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (j->at >= j->n)
        return pull_refuse(j, "ends inside a string");
    char c = j->text[j->at++];
    const char *d = c ? strchr(from, c) : NULL;
    if (c == 'u')
        return take_unicode(j, to);
    if (!d)
        return pull_refuse(j, "unknown escape");
    *(*to)++ = into[d - from];
    return 0;
}

int pull_text(struct pull *j, struct bytes *out)
{
    int rc = pull_expect(j, '"');
    char *from = j->text + j->at, *to = from;
    while (!rc && j->at < j->n) {
        char c = j->text[j->at++];
        if (c == '"') {
            *to = 0; /* at the latest in place of the quote */
            *out = (struct bytes){(uint8_t *)from, (size_t)(to - from)};
            return 0;
        }
        if ((unsigned char)c < 0x20)
            return pull_refuse(j, "control character in a string");
        if (c == '\\')
            rc = take_escape(j, &to);
        else
            *to++ = c;
    }
    return rc ? rc : pull_refuse(j, "ends inside a string");
}

int pull_string(struct pull *j, char **out)
{
    struct bytes text = {0};
    int rc = pull_text(j, &text);
    *out = (char *)text.p;
    return rc;
}

int pull_number(struct pull *j, uint64_t *out)
{
    skip_space(j);
    size_t from = j->at;
    uint64_t v = 0;
    for (; j->at < j->n && j->text[j->at] >= '0' && j->text[j->at] <= '9'; j->at++) {
        v = v * 10 + (uint64_t)(j->text[j->at] - '0');
        if (v > PULL_NUMBER_MAX)
            return pull_refuse(j, "number above 2^48");
    }
    bool zeros = j->at - from > 1 && j->text[from] == '0';
    if (j->at == from || zeros || (j->at < j->n && memchr(".eE+-", j->text[j->at], 5)))
        return pull_refuse(j, "a number must be a plain decimal: digits only, no leading zero");
    *out = v;
    return 0;
}

/* A string that nobody wants: only its end is looked for. */
static int pass_string(struct pull *j)
{
    while (++j->at < j->n) {
        if (j->text[j->at] == '"') {
            j->at++;
            return 0;
        }
        j->at += j->text[j->at] == '\\' && j->at + 1 < j->n;
    }
    return pull_refuse(j, "ends inside a string");
}

/* Of a number, true, false or null. */
static bool in_scalar(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E'; }

/* Brackets are counted, so that no depth of nesting costs anything. */
int pull_skip(struct pull *j, struct bytes *raw)
{
    skip_space(j);
    size_t from = j->at, depth = 0;
    int rc = 0;
    while (!rc && j->at < j->n) {
        char c = j->text[j->at];
        bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
        if (c == '"') {
            rc = pass_string(j);
        } else if (depth || opens) {
            depth += opens;
            depth -= closes;
            j->at++;
        } else {
            while (j->at < j->n && in_scalar(j->text[j->at]))
                j->at++;
        }
        if (!depth)
            break;
    }
    if (!rc && (depth || j->at == from))
        rc = pull_refuse(j, depth ? "ends inside a value" : "expected a value");
    *raw = (struct bytes){(const uint8_t *)j->text + from, j->at - from};
    return rc;
}

int pull_end(struct pull *j)
{
    skip_space(j);
    return j->at == j->n ? 0 : pull_refuse(j, "text after the end of the JSON");
}
