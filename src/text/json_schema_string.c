/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: lengths, and patterns (ECMAScript's, without what looks around or back) as a grammar of their JSON text. */
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"
#include "text/json_schema_parts.h"

enum { SPANS_MAX = 256, LAST = 0x10ffff };

struct pattern {
    struct schema_writer *w;
    const char *all, *at;
    int depth;         /* of parentheses */
    bool item;         /* a quantifier may follow */
    bool negated;      /* within [^...] */
    int n;
    struct span set[SPANS_MAX];
};

static const struct escape {
    char name;
    int n;
    struct span set[12];
} escapes[] = {
    {'d', 1, {{'0', '9'}}},
    {'D', 2, {{0, '/'}, {':', LAST}}},
    {'w', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
    {'W', 5, {{0, '/'}, {':', '@'}, {'[', '^'}, {'`', '`'}, {'{', LAST}}},
    {'s', 2, {{9, 13}, {' ', ' '}}}, /* \s and \S leave out what only some regular expressions count as white space ... */
    {'S', 10, {{0, 8}, {14, 0x1b}, {'!', 0x84}, {0x86, 0x9f}, {0xa1, 0x167f}, {0x1681, 0x1fff}, {0x2030, 0x205e}, {0x2060, 0x2fff}, {0x3001, 0xfefe}, {0xff00, LAST}}},
    {'n', 1, {{10, 10}}}, {'r', 1, {{13, 13}}}, {'t', 1, {{9, 9}}}, {'f', 1, {{12, 12}}}, {'v', 1, {{11, 11}}}, {'0', 1, {{0, 0}}},
};
static const struct escape wide_space = {'s', 11, {{9, 13}, {0x1c, ' '}, {0x85, 0x85}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                                   {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}}}; /* ... so [^\s] leaves out all of it */
static const struct escape any = {'.', 4, {{0, 9}, {11, 12}, {14, 0x2027}, {0x202a, LAST}}};

static int refuse(struct pattern *p, const char *what)
{
    return schema_fail(p->w, "pattern: %s at character %d: only literals, classes, groups, | and * + ? {m,n} are supported, ^ and $ at the ends", what, (int)(p->at - p->all) + 1);
}

/* ---- sets of characters ---- */

static int add_span(struct pattern *p, uint32_t lo, uint32_t hi)
{
    if (p->n == SPANS_MAX)
        return refuse(p, "a class of more than 256 ranges");
    p->set[p->n++] = (struct span){lo, hi};
    return 0;
}

static int add_escape(struct pattern *p, const struct escape *e)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < e->n; i++)
        rc = add_span(p, e->set[i].lo, e->set[i].hi);
    return rc;
}

static bool has(const struct pattern *p, uint32_t c)
{
    for (int i = 0; i < p->n; i++)
        if (c >= p->set[i].lo && c <= p->set[i].hi)
            return true;
    return false;
}

/* The set as JSON writes it in a string: most characters as themselves, some behind a backslash. Other control characters are left out. */
static int put_set(struct pattern *p)
{
    bool negated = p->negated;
    static const struct span plain[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, LAST}};
    static const char special[] = "\"\\\b\f\n\r\t", name[] = "\"\\bfnrt";
    int parts = 0, ranges = 0, rc = schema_put(p->w, "( ");
    for (int k = 0; rc == 0 && special[k]; k++)
        if (has(p, (uint32_t)special[k]) != negated)
            rc = schema_put(p->w, "%s\"\\\\%s%c\"", parts++ ? " | " : "", k < 2 ? "\\" : "", name[k]);
    for (int i = 0; rc == 0 && i < p->n; i++)
        for (int k = 0; rc == 0 && k < 3; k++) {
            uint32_t lo = p->set[i].lo > plain[k].lo ? p->set[i].lo : plain[k].lo, hi = p->set[i].hi < plain[k].hi ? p->set[i].hi : plain[k].hi;
            if (lo <= hi)
                rc = schema_put(p->w, "%s\\U%08X-\\U%08X", ranges++ ? "" : !negated ? parts++ ? " | [" : "[" : parts++ ? " | [^\"\\\\\\x00-\\x1F" : "[^\"\\\\\\x00-\\x1F", lo, hi);
        }
    if (rc == 0 && negated && !ranges)
        rc = schema_put(p->w, "%s", parts++ ? " | [^\"\\\\\\x00-\\x1F]" : "[^\"\\\\\\x00-\\x1F]");
    if (rc == 0 && !parts)
        rc = refuse(p, "a class without characters that JSON writes in a short form");
    return rc < 0 ? rc : schema_put(p->w, ranges ? "] )" : " )");
}

/* ---- characters ---- */

static int read_hex(struct pattern *p, int digits, uint32_t *c)
{
    *c = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        const char *all = "0123456789abcdefABCDEF", *d = *p->at ? strchr(all, *p->at) : NULL;
        if (!d)
            return refuse(p, "an escape that is too short");
        *c = *c << 4 | (uint32_t)(d - all < 16 ? d - all : d - all - 6);
    }
    return *c >= 0xd800 && *c <= 0xdfff ? refuse(p, "an escaped surrogate") : 0;
}

/* Behind a backslash: adds its characters. *c: the only one, or LAST + 1. */
static int read_escape(struct pattern *p, uint32_t *c)
{
    char e = *p->at;
    *c = LAST + 1;
    if (e == 'x' || e == 'u') {
        p->at++;
        int rc = read_hex(p, e == 'x' ? 2 : 4, c);
        return rc < 0 ? rc : add_span(p, *c, *c);
    }
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        if (e == escapes[i].name) {
            if (p->negated && e == 'S')
                return refuse(p, "\\S within [^...]");
            p->at++;
            if (escapes[i].n == 1 && e != 'd')
                *c = escapes[i].set[0].lo;
            return add_escape(p, p->negated && e == 's' ? &wide_space : &escapes[i]);
        }
    if (!e || !strchr("^$\\.*+?()[]{}|/-\"'!#%&,:;<=>@`~_ ", e))
        return refuse(p, "an escape that is not supported");
    p->at++;
    *c = (uint32_t)e;
    return add_span(p, *c, *c);
}

/* One character or escape; adds what it stands for. */
static int read_char(struct pattern *p, uint32_t *c)
{
    if (*p->at == '\\') {
        p->at++;
        return read_escape(p, c);
    }
    int n = utf8_next((const uint8_t *)p->at, strlen(p->at), c);
    if (n <= 0)
        return refuse(p, "an end or no UTF-8");
    p->at += n;
    return add_span(p, *c, *c);
}

static int read_class(struct pattern *p)
{
    uint32_t lo, hi;
    p->negated = *++p->at == '^';
    p->at += p->negated;
    while (*p->at != ']') {
        int rc = *p->at ? read_char(p, &lo) : refuse(p, "a class without ]");
        if (rc == 0 && p->at[0] == '-' && p->at[1] && p->at[1] != ']') {
            p->at++;
            rc = lo <= LAST ? read_char(p, &hi) : refuse(p, "a range that begins with a class");
            if (rc == 0 && (hi > LAST || hi < lo))
                rc = refuse(p, "a range that ends before it begins");
            if (rc == 0)
                p->set[--p->n - 1].hi = hi;
        }
        if (rc < 0)
            return rc;
    }
    p->at++;
    return put_set(p);
}

/* ---- the pattern ---- */

#define DIGITS "0123456789"

static int read_quantifier(struct pattern *p)
{
    const char *from = p->at;
    size_t n = 1;
    if (!p->item)
        return refuse(p, "nothing to repeat");
    if (*from == '{') {
        size_t least = strspn(from + 1, DIGITS), comma = 1 + least, most = from[comma] == ',' ? strspn(from + comma + 1, DIGITS) : 0;
        n = comma + (from[comma] == ',') + most;
        if (!least || from[n++] != '}')
            return refuse(p, "a { that is no quantifier");
        if (least > 6 || most > 6 || (most && atoi(from + comma + 1) < atoi(from + 1)))
            return refuse(p, "a quantifier with bounds that are too large or the wrong way round");
    }
    p->at += n;
    p->at += *p->at == '?'; /* not greedy: the same texts */
    p->item = false;
    return schema_put(p->w, "%.*s", (int)n, from);
}

static int open_group(struct pattern *p)
{
    if (p->at[1] == '?' && p->at[2] != ':')
        return refuse(p, "a group that looks around or has a name");
    p->at += p->at[1] == '?' ? 3 : 1;
    p->depth++;
    p->item = false;
    return schema_put(p->w, " (");
}

/* A pattern holds anywhere in the string: without ^ and $ any text may stand before and behind it. */
static int begin_branch(struct pattern *p)
{
    p->item = false;
    if (*p->at != '^')
        return schema_put(p->w, " char*");
    p->at++;
    return 0;
}

static int read_bar(struct pattern *p, bool closed)
{
    int rc = p->depth || closed ? 0 : schema_put(p->w, " char*");
    p->at++;
    p->item = false;
    if (rc == 0)
        rc = schema_put(p->w, " |");
    return rc < 0 || p->depth ? rc : begin_branch(p);
}

static int read_part(struct pattern *p, bool *closed)
{
    uint32_t c;
    int rc;
    switch (*p->at) {
    case '*': case '+': case '?': case '{': return read_quantifier(p);
    case '(': return open_group(p);
    case ')':
        if (!p->depth--)
            return refuse(p, "a ) without (");
        p->at++;
        p->item = true;
        return schema_put(p->w, " )");
    case '|': rc = read_bar(p, *closed); *closed = false; return rc;
    case '^': return refuse(p, "a ^ within");
    case '$':
        if (p->depth || (p->at[1] && p->at[1] != '|'))
            return refuse(p, "a $ within");
        p->at++;
        *closed = true;
        p->item = false;
        return 0;
    default: break;
    }
    p->n = 0;
    p->item = true;
    p->negated = false;
    if (*p->at == '[')
        return read_class(p);
    if (*p->at == '.') {
        p->at++;
        rc = add_escape(p, &any);
    } else
        rc = read_char(p, &c);
    return rc < 0 ? rc : put_set(p);
}

static int write_pattern(struct schema_writer *w, const char *text)
{
    struct pattern p = {.w = w, .all = text, .at = text};
    bool closed = false;
    int rc = schema_put(w, "\"\\\"\" (");
    if (rc == 0)
        rc = begin_branch(&p);
    while (rc == 0 && *p.at)
        rc = read_part(&p, &closed);
    if (rc == 0 && p.depth)
        rc = refuse(&p, "a ( without )");
    if (rc == 0 && !closed)
        rc = schema_put(w, " char*");
    return rc < 0 ? rc : schema_put(w, " ) \"\\\"\"");
}

#define DATE "([12]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8])))"
#define TIME "(([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d))"
#define OCTET "(\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])"

static const char *format_pattern(const char *name)
{
    static const char *const formats[][2] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        {"ipv4", "^(" OCTET "\\.){3}" OCTET "$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i][0], name) == 0)
            return formats[i][1];
    return NULL;
}

int schema_write_string(struct schema_writer *w, const json_t *s)
{
    const json_t *pattern = json_object_get(s, "pattern"), *format = json_object_get(s, "format");
    const char *text = json_string_value(pattern ? pattern : format);
    int64_t min, max;
    int rc = schema_count(w, s, "minLength", 0, &min);
    if (rc == 0)
        rc = schema_count(w, s, "maxLength", -1, &max);
    if (rc < 0)
        return rc;
    if (pattern || format) {
        if (!text || (pattern && format) || min || max >= 0)
            return schema_fail(w, "pattern and format are strings, and go neither together nor with minLength and maxLength: say all in one pattern");
        if (format && !(text = format_pattern(text)))
            return schema_fail(w, "format '%s' is not supported, only date, time, date-time, uuid and ipv4 are: write a pattern", json_string_value(format));
        return write_pattern(w, text);
    }
    if (!min && max < 0)
        return schema_put(w, "string");
    if (max >= 0 && max < min)
        return schema_fail(w, "maxLength %lld is less than minLength %lld", (long long)max, (long long)min);
    return max < 0 ? schema_put(w, "\"\\\"\" char{%lld,} \"\\\"\"", (long long)min) : schema_put(w, "\"\\\"\" char{%lld,%lld} \"\\\"\"", (long long)min, (long long)max);
}
