/* SPDX-License-Identifier: Apache-2.0 */
/* GBNF to code in one pass, without recursion: what a repetition or an alternative needs before itself is put there by moving code. */
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"
#include "text/piece_map.h"

struct group {
    size_t at;    /* of its parenthesis in the text */
    int32_t item; /* its first instruction */
    int32_t alt;  /* of the alternative that is being read */
    int32_t jump; /* the last jump to its end; each holds the place of the one before it, -1: none */
};

struct parser {
    const char *name; /* for messages */
    struct bytes in;
    size_t at;
    struct grammar *g;
    uint32_t cap_code;
    struct arena arena;
    struct piece_map map;
    struct bytes *rule;      /* [n_rules] names */
    size_t *mention;         /* [n_rules] where each was first said */
    int n_groups;
    struct group group[GRAMMAR_GROUPS_MAX + 1]; /* [0]: the rule itself */
    struct span set[GRAMMAR_SPANS_MAX + 4];
    struct error *err;
};

/* Line and column (in bytes) of a place, as printf arguments. */
struct place {
    int line, column;
};

static struct place place(const struct parser *p, size_t at)
{
    struct place w = {1, 1};
    for (size_t i = 0; i < at && i < p->in.n; i++)
        w = p->in.p[i] == '\n' ? (struct place){w.line + 1, 1} : (struct place){w.line, w.column + 1};
    return w;
}

#define REFUSE(p, where, fmt, ...)                                                                                                   \
    do {                                                                                                                              \
        struct place w_ = place(p, where);                                                                                            \
        return fail((p)->err, ERR_DATA, "%s: line %d, column %d: " fmt, (p)->name, w_.line, w_.column, __VA_ARGS__);                  \
    } while (0)

static int out_of_memory(const struct parser *p) { return fail(p->err, ERR_OS, "%s: out of memory", p->name); }

static int peek(const struct parser *p) { return p->at < p->in.n ? p->in.p[p->at] : -1; }

static bool is_name(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

static void skip_space(struct parser *p, bool lines)
{
    for (int c; (c = peek(p)) >= 0; p->at++)
        if (c == '#')
            while (p->at + 1 < p->in.n && p->in.p[p->at + 1] != '\n')
                p->at++;
        else if (c != ' ' && c != '\t' && (!lines || (c != '\n' && c != '\r')))
            return;
}

/* ---- code ---- */

static int reserve(struct parser *p, uint64_t more)
{
    if (more + (uint64_t)p->g->n_code > GRAMMAR_CODE_MAX)
        REFUSE(p, p->at, "the grammar is larger than %d instructions, repetitions written out: use smaller bounds, or * instead of {m,n}", GRAMMAR_CODE_MAX);
    struct instr *code = grow(p->g->code, &p->cap_code, more + (uint64_t)p->g->n_code, sizeof *code);
    if (!code)
        return out_of_memory(p);
    p->g->code = code;
    return 0;
}

static int insert(struct parser *p, int32_t at, enum grammar_op op, int32_t arg)
{
    if (reserve(p, 1) < 0)
        return p->err ? p->err->code : ERR_DATA;
    struct instr *code = p->g->code + at;
    memmove(code + 1, code, (size_t)(p->g->n_code++ - at) * sizeof *code);
    *code = (struct instr){.op = (uint8_t)op, .arg = arg};
    return 0;
}

static int emit(struct parser *p, enum grammar_op op, int32_t arg) { return insert(p, p->g->n_code, op, arg); }

static int emit_row(struct parser *p, size_t at, int64_t row)
{
    if (row < 0)
        return out_of_memory(p);
    if (row == ROW_DONE)
        REFUSE(p, at, "no character is in this class: %s", "give it one");
    if (p->g->rows.n > GRAMMAR_ROWS_MAX)
        REFUSE(p, at, "the character classes need more than %d automaton rows: use simpler ones", GRAMMAR_ROWS_MAX);
    return emit(p, OP_CHAR, (int32_t)row);
}

/* Replaces the code from `item` on by min to max of it; max < 0: any number. */
static int repeat(struct parser *p, int32_t item, uint32_t min, int64_t max)
{
    int32_t n = p->g->n_code - item, rc = reserve(p, max < 0 ? (uint64_t)(min ? min : 1) * (uint64_t)n + 2 : (uint64_t)max * ((uint64_t)n + 1));
    struct instr *body = rc < 0 ? NULL : malloc(((size_t)n + 1) * sizeof *body);
    if (rc < 0)
        return rc;
    if (!body)
        return out_of_memory(p);
    struct instr *code = p->g->code + item;
    if (n)
        memcpy(body, code, (size_t)n * sizeof *body);
    for (int64_t i = 0, copies = max < 0 ? (min ? min : 1) : max; i < copies; i++) { /* room is reserved */
        if (i >= min)
            *code++ = (struct instr){.op = OP_SPLIT, .arg = max < 0 ? n + 2 : (int32_t)((max - i) * (n + 1))};
        if (n)
            memcpy(code, body, (size_t)n * sizeof *body);
        code += n;
    }
    if (max < 0)
        *code++ = min ? (struct instr){.op = OP_SPLIT, .arg = -n} : (struct instr){.op = OP_JUMP, .arg = -n - 1};
    free(body);
    p->g->n_code = (int)(code - p->g->code);
    return 0;
}

static int next_alternative(struct parser *p)
{
    struct group *g = &p->group[p->n_groups];
    int rc = insert(p, g->alt, OP_SPLIT, p->g->n_code - g->alt + 2);
    if (rc == 0)
        rc = emit(p, OP_JUMP, g->jump);
    g->jump = p->g->n_code - 1;
    g->alt = p->g->n_code;
    return rc;
}

static void end_alternatives(struct parser *p)
{
    for (int32_t at = p->group[p->n_groups].jump, before; at >= 0; at = before) {
        before = p->g->code[at].arg;
        p->g->code[at].arg = p->g->n_code - at;
    }
}

/* ---- characters ---- */

static int read_hex(struct parser *p, int digits, uint32_t *c)
{
    size_t from = p->at;
    *c = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        int d = peek(p);
        int v = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (v < 0)
            REFUSE(p, from, "an escape has %d hexadecimal digits here", digits);
        *c = *c << 4 | (uint32_t)v;
    }
    return 0;
}

/* A character of a literal or a class. */
static int read_char(struct parser *p, uint32_t *c)
{
    static const char plain[] = "\\\"[]-^", names[] = "nrt", values[] = "\n\r\t", *found;
    size_t from = p->at;
    int rc = 0;
    if (peek(p) == '\\') {
        int e = ++p->at < p->in.n ? p->in.p[p->at++] : -1;
        if (e == 'x' || e == 'u' || e == 'U')
            rc = read_hex(p, e == 'x' ? 2 : e == 'u' ? 4 : 8, c);
        else if (e > 0 && (found = strchr(names, e)))
            *c = (uint32_t)values[found - names];
        else if (e > 0 && strchr(plain, e))
            *c = (uint32_t)e;
        else
            REFUSE(p, from, "escape '\\%c': use \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\^ \\xHH \\uHHHH or \\UHHHHHHHH", e < 0x20 ? ' ' : e);
    } else {
        int n = p->at < p->in.n ? utf8_next(p->in.p + p->at, p->in.n - p->at, c) : 0;
        if (n <= 0)
            REFUSE(p, from, "%s", p->at < p->in.n ? "this is not UTF-8" : "the grammar ends within a literal or a class");
        p->at += (size_t)n;
    }
    if (rc == 0 && *c > 0x10ffff)
        REFUSE(p, from, "U+%X is no character: the last one is U+10FFFF", *c);
    return rc;
}

static int read_literal(struct parser *p)
{
    size_t open = p->at++;
    while (peek(p) != '"') {
        size_t at = p->at;
        uint32_t c = 0;
        if (peek(p) < 0)
            REFUSE(p, open, "this literal has no end: write %s", "\"");
        int rc = read_char(p, &c);
        if (rc == 0 && c >= 0xd800 && c <= 0xdfff)
            REFUSE(p, at, "U+%X is a surrogate, which no text holds: write the character itself", c);
        if (rc == 0)
            rc = emit_row(p, at, grammar_row_of(&p->g->rows, c));
        if (rc < 0)
            return rc;
    }
    p->at++;
    return 0;
}

static int read_class(struct parser *p)
{
    size_t open = p->at++;
    bool negated = peek(p) == '^';
    int n = 0, rc;
    p->at += negated;
    for (; peek(p) != ']'; n++) {
        struct span s = {0};
        size_t at = p->at;
        if (peek(p) < 0)
            REFUSE(p, open, "this class has no end: write %s", "]");
        if (n == GRAMMAR_SPANS_MAX)
            REFUSE(p, at, "more than %d ranges in one class: split it", GRAMMAR_SPANS_MAX);
        if ((rc = read_char(p, &s.lo)) < 0)
            return rc;
        s.hi = s.lo;
        if (peek(p) == '-' && p->at + 1 < p->in.n && p->in.p[p->at + 1] != ']') {
            p->at++;
            if ((rc = read_char(p, &s.hi)) < 0)
                return rc;
            if (s.hi < s.lo)
                REFUSE(p, at, "range from U+%04X down to U+%04X: swap them", s.lo, s.hi);
        }
        p->set[n] = s;
    }
    p->at++;
    return emit_row(p, open, grammar_row(&p->g->rows, p->set, n, negated));
}

/* ---- rules ---- */

static int read_name(struct parser *p, int32_t *rule)
{
    struct bytes name = {p->in.p + p->at, 0};
    size_t from = p->at;
    while (is_name(peek(p))) {
        p->at++;
        name.n++;
    }
    if (!name.n)
        REFUSE(p, from, "%s", "a rule's name was expected: letters, digits, - and _");
    *rule = piece_map_find(&p->map, name.p, name.n);
    if (*rule >= 0)
        return 0;
    if (p->g->n_rules == GRAMMAR_RULES_MAX)
        REFUSE(p, from, "more than %d rules: write some of them into others", GRAMMAR_RULES_MAX);
    p->rule[p->g->n_rules] = name;
    p->mention[p->g->n_rules] = from;
    p->g->start[p->g->n_rules] = -1;
    *rule = piece_map_add(&p->map, p->g->n_rules);
    if (*rule < 0)
        REFUSE(p, from, "rule '%.*s': %s", (int)(name.n < 80 ? name.n : 80), (const char *)name.p, PIECE_MAP_CROWDED);
    p->g->n_rules++;
    return 0;
}

static int read_count(struct parser *p, uint32_t *n)
{
    size_t from = p->at;
    uint64_t v = 0;
    for (; peek(p) >= '0' && peek(p) <= '9' && v <= GRAMMAR_CODE_MAX; p->at++)
        v = v * 10 + (uint64_t)(peek(p) - '0');
    if (p->at == from || v > GRAMMAR_CODE_MAX)
        REFUSE(p, from, "a repetition is {m}, {m,} or {m,n} with numbers up to %d", GRAMMAR_CODE_MAX);
    *n = (uint32_t)v;
    skip_space(p, p->n_groups > 0);
    return 0;
}

/* {m}, {m,} and {m,n} */
static int read_bounds(struct parser *p, uint32_t *min, int64_t *max)
{
    size_t from = p->at++;
    uint32_t n = 0;
    skip_space(p, p->n_groups > 0);
    int rc = read_count(p, min);
    *max = *min;
    if (rc == 0 && peek(p) == ',') {
        p->at++;
        skip_space(p, p->n_groups > 0);
        *max = -1;
        if (peek(p) != '}' && (rc = read_count(p, &n)) == 0)
            *max = n;
    }
    if (rc < 0)
        return rc;
    if (peek(p) != '}')
        REFUSE(p, from, "this repetition has no end: write %s", "}");
    if (*max >= 0 && *max < *min)
        REFUSE(p, from, "at least %u and at most %u: swap them", *min, (unsigned)*max);
    p->at++;
    return 0;
}

static int read_repetition(struct parser *p, int32_t item)
{
    uint32_t min = peek(p) == '+';
    int64_t max = peek(p) == '?' ? 1 : -1;
    if (item < 0)
        REFUSE(p, p->at, "'%c' repeats the element before it, and there is none: put what it repeats into parentheses", peek(p));
    if (peek(p) == '{') {
        int rc = read_bounds(p, &min, &max);
        if (rc < 0)
            return rc;
    } else
        p->at++;
    return repeat(p, item, min, max);
}

static int open_group(struct parser *p)
{
    if (p->n_groups == GRAMMAR_GROUPS_MAX)
        REFUSE(p, p->at, "more than %d parentheses within one another: make rules of some", GRAMMAR_GROUPS_MAX);
    p->group[++p->n_groups] = (struct group){p->at++, p->g->n_code, p->g->n_code, -1};
    return 0;
}

/* One element. *item: the first instruction of what a repetition would repeat, -1: nothing. *done: the rule has ended. */
static int read_element(struct parser *p, int32_t *item, bool *done)
{
    int32_t rule = 0, at = p->g->n_code;
    struct span any = {0, 0x10ffff};
    int c = peek(p), rc;
    if (c == '*' || c == '+' || c == '?' || c == '{') {
        rc = read_repetition(p, *item);
        *item = -1; /* repeating a repetition moves its code again: parentheses, whose number is bounded, have to ask for that */
        return rc;
    }
    *item = at;
    switch (c) {
    case '"': return read_literal(p);
    case '[': return read_class(p);
    case '.':
        p->set[0] = any;
        return emit_row(p, p->at++, grammar_row(&p->g->rows, p->set, 1, false));
    case '(': *item = -1; return open_group(p);
    case '|': *item = -1; p->at++; return next_alternative(p);
    case ')':
        if (!p->n_groups)
            REFUSE(p, p->at, "%s", "')' without '('");
        end_alternatives(p);
        *item = p->group[p->n_groups--].item;
        p->at++;
        return 0;
    case '<':
    case '!': REFUSE(p, p->at, "'%c': references to tokens are not supported: write the text", c);
    case '\n':
    case '\r':
    case -1: *done = true; return 0;
    default: break;
    }
    if ((rc = read_name(p, &rule)) < 0)
        return rc;
    return emit(p, OP_CALL, rule);
}

static int read_rule(struct parser *p)
{
    int32_t rule = 0, item = -1;
    bool done = false;
    size_t from = p->at;
    int rc = read_name(p, &rule);
    if (rc < 0)
        return rc;
    skip_space(p, false);
    if (p->in.n - p->at < 3 || memcmp(p->in.p + p->at, "::=", 3) != 0)
        REFUSE(p, p->at, "%s", "::= was expected behind the rule's name");
    if (p->g->start[rule] >= 0)
        REFUSE(p, from, "rule '%.*s' is there twice: join them with |", (int)(p->rule[rule].n < 80 ? p->rule[rule].n : 80), (const char *)p->rule[rule].p);
    p->at += 3;
    p->g->start[rule] = p->g->n_code;
    p->group[0] = (struct group){from, p->g->n_code, p->g->n_code, -1};
    skip_space(p, true);
    while (rc == 0 && !done) {
        bool bar = peek(p) == '|';
        rc = read_element(p, &item, &done);
        skip_space(p, p->n_groups > 0 || bar);
    }
    if (rc == 0 && p->n_groups)
        REFUSE(p, p->group[p->n_groups].at, "%s", "'(' without ')'");
    if (rc == 0)
        end_alternatives(p);
    return rc == 0 ? emit(p, OP_END, 0) : rc;
}

static int read_rules(struct parser *p)
{
    int rc = 0;
    p->g->root = -1;
    for (skip_space(p, true); rc == 0 && peek(p) >= 0; skip_space(p, true))
        rc = read_rule(p);
    for (int i = 0; rc == 0 && i < p->g->n_rules; i++) {
        if (p->g->start[i] < 0)
            REFUSE(p, p->mention[i], "there is no rule '%.*s'", (int)(p->rule[i].n < 80 ? p->rule[i].n : 80), (const char *)p->rule[i].p);
        if (bytes_equal(p->rule[i], "root"))
            p->g->root = i;
    }
    if (rc == 0 && p->g->root < 0)
        return fail(p->err, ERR_DATA, "%s: there is no rule 'root': it says what the whole text is", p->name);
    return rc;
}

int grammar_parse(struct grammar *g, const char *name, struct bytes gbnf, struct bytes **names, struct error *err)
{
    struct error own;
    struct parser *p = calloc(1, sizeof *p);
    int rc = -1;
    err = err ? err : &own;
    *names = calloc(GRAMMAR_RULES_MAX, sizeof **names);
    g->start = calloc(GRAMMAR_RULES_MAX, sizeof *g->start);
    if (p && *names && g->start) {
        *p = (struct parser){.name = name, .in = gbnf, .g = g, .rule = *names, .err = err};
        p->mention = arena_array(&p->arena, GRAMMAR_RULES_MAX, sizeof *p->mention);
    }
    if (!p || !p->mention || !piece_map_init(&p->map, &p->arena, *names, GRAMMAR_RULES_MAX) || word_sets_add(&g->rows, NULL, 0) != ROW_DONE)
        rc = fail(err, ERR_OS, "%s: out of memory", name);
    else if (gbnf.n > GRAMMAR_TEXT_MAX)
        rc = fail(err, ERR_DATA, "%s: %zu bytes; a grammar of up to %d is read", name, gbnf.n, GRAMMAR_TEXT_MAX);
    else
        rc = read_rules(p);
    if (p)
        arena_free(&p->arena);
    free(p);
    return rc;
}
