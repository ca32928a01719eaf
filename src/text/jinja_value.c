/* SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja_run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { JSON_DEPTH = 64 }; /* of values from outside, and of printing */

int run_fail(struct run *r, const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return fail(r->err, ERR_DATA, "%s: line %d: %s", r->name, r->line, text);
}

int run_charge(struct run *r, uint64_t steps)
{
    r->steps += steps;
    return r->steps <= JINJA_STEPS_MAX ? 0 : run_fail(r, "more than %d steps: the template does not end", JINJA_STEPS_MAX);
}

int run_charge_texts(struct run *r, struct marked a, struct marked b) { return run_charge(r, (a.n < b.n ? a.n : b.n) / 16); }

void *run_alloc(struct run *r, uint64_t n, size_t size)
{
    uint64_t bytes;
    void *p = NULL;
    if (mul_u64(n, size, &bytes) || bytes > JINJA_MEMORY_MAX || r->arena->used > JINJA_MEMORY_MAX - bytes)
        run_fail(r, "needs more than %d MiB of memory", JINJA_MEMORY_MAX >> 20);
    else if (!(p = arena_alloc(r->arena, (size_t)bytes)))
        fail(r->err, ERR_OS, "%s: out of memory", r->name);
    return p;
}

/* ---- texts ---- */

int build_add(struct run *r, struct build *b, struct marked text)
{
    size_t need = b->n + text.n; /* both are below JINJA_MEMORY_MAX */
    if (run_charge(r, text.n / 16))
        return r->err->code;
    if (need > b->cap) {
        size_t cap = 2 * need + 64;
        uint8_t *p = run_alloc(r, 2, cap);
        if (!p)
            return r->err->code;
        if (b->n) {
            memcpy(p, b->p, b->n);
            memcpy(p + cap, b->user, b->n);
        }
        *b = (struct build){p, p + cap, b->n, cap};
    }
    if (text.n) {
        memcpy(b->p + b->n, text.p, text.n);
        if (text.user)
            memcpy(b->user + b->n, text.user, text.n);
        else
            memset(b->user + b->n, 0, text.n);
    }
    b->n = need;
    return 0;
}

int build_text(struct run *r, struct build *b, const char *text) { return build_add(r, b, marked_of(text)); }
struct value build_done(const struct build *b) { return value_text((struct marked){b->n ? (char *)b->p : "", b->user, b->n}); }

struct marked marked_slice(struct marked t, size_t from, size_t to)
{
    return to > from ? (struct marked){t.p + from, t.user ? t.user + from : NULL, to - from} : marked_of("");
}

bool marked_equal(struct marked a, struct marked b) { return a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n)); }

size_t marked_find(struct marked t, struct marked what, size_t from)
{
    if (from > t.n || what.n > t.n - from)
        return t.n;
    const char *at = what.n ? memmem(t.p + from, t.n - from, what.p, what.n) : t.p + from;
    return at ? (size_t)(at - t.p) : t.n;
}

size_t marked_next(struct marked t, size_t at)
{
    size_t n = 1;
    while (at + n < t.n && (t.p[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

size_t marked_length(struct marked t)
{
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++)
        n += (t.p[i] & 0xc0) != 0x80;
    return n;
}

/* ---- values ---- */

struct value value_undefined(struct marked name) { return (struct value){.kind = V_UNDEFINED, .text = name}; }

int value_list(struct run *r, size_t n, struct value *out)
{
    struct list *l = run_alloc(r, 1, sizeof *l);
    if (!l || run_charge(r, n) || !(l->item = run_alloc(r, n, sizeof *l->item)))
        return r->err->code;
    l->n = n;
    *out = (struct value){.kind = V_LIST, .list = l};
    return 0;
}

const char *value_kind_name(const struct value *v)
{
    static const char *const names[] = {"undefined", "None", "bool", "int", "float", "str", "list", "dict", "namespace", "loop", "macro", "function"};
    return v->kind == V_LIST && v->list->tuple ? "tuple" : names[v->kind];
}

bool value_is_number(const struct value *v) { return v->kind == V_BOOL || v->kind == V_INT || v->kind == V_REAL; }
double value_real(const struct value *v) { return v->kind == V_REAL ? v->real : v->kind == V_INT ? (double)v->i : v->truth; }
static int64_t whole(const struct value *v) { return v->kind == V_INT ? v->i : v->truth; }

bool value_true(const struct value *v)
{
    switch (v->kind) {
    case V_UNDEFINED:
    case V_NONE: return false;
    case V_BOOL: return v->truth;
    case V_INT: return v->i != 0;
    case V_REAL: return v->real != 0;
    case V_TEXT: return v->text.n > 0;
    case V_LIST: return v->list->n > 0;
    case V_DICT: return v->dict->n > 0;
    default: return true;
    }
}

static int compare_numbers(const struct value *a, const struct value *b)
{
    if (a->kind == V_REAL || b->kind == V_REAL)
        return value_real(a) < value_real(b) ? -1 : value_real(a) > value_real(b);
    return whole(a) < whole(b) ? -1 : whole(a) > whole(b);
}

static int compare_texts(struct marked a, struct marked b)
{
    int order = a.n && b.n ? memcmp(a.p, b.p, a.n < b.n ? a.n : b.n) : 0;
    return order ? order : a.n < b.n ? -1 : a.n > b.n;
}

/* Nesting is charged like depth of evaluation. */
static int enter(struct run *r)
{
    return r->depth++ < JINJA_DEPTH_MAX ? run_charge(r, 1) : run_fail(r, "nested more than %d deep", JINJA_DEPTH_MAX);
}

static int lists_equal(struct run *r, const struct list *a, const struct list *b, bool *out)
{
    int rc = 0;
    *out = a->n == b->n && a->tuple == b->tuple;
    for (size_t i = 0; !rc && *out && i < a->n; i++)
        rc = value_equal(r, &a->item[i], &b->item[i], out);
    return rc;
}

static int dicts_equal(struct run *r, const struct dict *a, const struct dict *b, bool *out)
{
    int rc = 0;
    *out = a->n == b->n;
    for (size_t i = 0; !rc && *out && i < a->n; i++) {
        struct value *other;
        rc = dict_find(r, b, a->pair[i].key, &other);
        *out = other != NULL;
        if (!rc && other)
            rc = value_equal(r, &a->pair[i].value, other, out);
    }
    return rc;
}

int value_equal(struct run *r, const struct value *a, const struct value *b, bool *out)
{
    int rc = enter(r);
    if (value_is_number(a) && value_is_number(b))
        *out = a->kind == V_REAL || b->kind == V_REAL ? value_real(a) == value_real(b) : whole(a) == whole(b);
    else if (a->kind != b->kind)
        *out = false;
    else if (a->kind == V_TEXT)
        *out = !(rc = rc ? rc : run_charge_texts(r, a->text, b->text)) && marked_equal(a->text, b->text);
    else if (!rc && a->kind == V_LIST)
        rc = lists_equal(r, a->list, b->list, out);
    else if (!rc && a->kind == V_DICT)
        rc = dicts_equal(r, a->dict, b->dict, out);
    else
        *out = a->kind <= V_NONE || a->dict == b->dict; /* any pointer of the union */
    r->depth--;
    return rc;
}

int value_compare(struct run *r, const struct value *a, const struct value *b, int *out)
{
    if (value_is_number(a) && value_is_number(b))
        *out = compare_numbers(a, b);
    else if (a->kind == V_TEXT && b->kind == V_TEXT)
        *out = compare_texts(a->text, b->text);
    else
        return run_fail(r, "%s and %s cannot be compared", value_kind_name(a), value_kind_name(b));
    return a->kind == V_TEXT ? run_charge_texts(r, a->text, b->text) : 0;
}

int value_contains(struct run *r, const struct value *in, const struct value *what, bool *out)
{
    *out = false;
    if (in->kind == V_TEXT) {
        if (what->kind != V_TEXT)
            return run_fail(r, "\"in\" a text asks for a text, not for %s", value_kind_name(what));
        *out = marked_find(in->text, what->text, 0) < in->text.n || !what->text.n;
        return run_charge(r, in->text.n / 16);
    }
    if (in->kind == V_DICT) {
        struct value *found = NULL;
        int rc = what->kind == V_TEXT ? dict_find(r, in->dict, what->text, &found) : 0;
        *out = found != NULL;
        return rc;
    }
    const struct list *l;
    int rc = value_items(r, in, &l);
    for (size_t i = 0; !rc && !*out && i < l->n; i++)
        rc = value_equal(r, &l->item[i], what, out);
    return rc;
}

int value_length(struct run *r, const struct value *v, size_t *out)
{
    *out = v->kind == V_TEXT ? marked_length(v->text) : v->kind == V_LIST ? v->list->n : v->kind == V_DICT ? v->dict->n : 0;
    if (v->kind != V_UNDEFINED && v->kind != V_TEXT && v->kind != V_LIST && v->kind != V_DICT)
        return run_fail(r, "%s has no length", value_kind_name(v));
    return run_charge(r, v->kind == V_TEXT ? v->text.n / 16 : 0);
}

int value_items(struct run *r, const struct value *v, const struct list **out)
{
    static const struct list empty;
    struct value list;
    size_t n = 0;
    *out = v->kind == V_LIST ? v->list : &empty;
    if (v->kind == V_LIST || v->kind == V_UNDEFINED)
        return 0;
    if (v->kind != V_TEXT && v->kind != V_DICT)
        return run_fail(r, "%s is no list", value_kind_name(v));
    if (value_length(r, v, &n) || value_list(r, n, &list))
        return r->err->code;
    for (size_t i = 0, at = 0, step; i < n; i++, at += v->kind == V_TEXT ? step : 0) {
        step = v->kind == V_TEXT ? marked_next(v->text, at) : 0;
        list.list->item[i] = value_text(v->kind == V_TEXT ? marked_slice(v->text, at, at + step) : v->dict->pair[i].key);
    }
    *out = list.list;
    return 0;
}

int dict_find(struct run *r, const struct dict *d, struct marked key, struct value **out)
{
    int rc = run_charge(r, d->n / 16);
    *out = NULL;
    for (size_t i = 0; !rc && !*out && i < d->n; i++) {
        struct pair *p = &d->pair[i];
        if (p->key.n == key.n && !(rc = run_charge_texts(r, p->key, key)) && marked_equal(p->key, key))
            *out = &p->value;
    }
    return rc;
}

int dict_set(struct run *r, struct dict *d, struct marked key, const struct value *v)
{
    struct value *there;
    if (run_charge(r, 1) || dict_find(r, d, key, &there))
        return r->err->code;
    if (!there && d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 4;
        struct pair *bigger = run_alloc(r, cap, sizeof *bigger);
        if (!bigger)
            return r->err->code;
        if (d->n)
            memcpy(bigger, d->pair, d->n * sizeof *bigger);
        d->pair = bigger;
        d->cap = cap;
    }
    if (!there) {
        d->pair[d->n].key = key;
        there = &d->pair[d->n++].value;
    }
    *there = *v;
    return 0;
}

/* ---- JSON in ---- */

/* What a message says it is belongs to the template's words ("<|" + role + "|>"), as long as it is one of these. */
static bool is_role(struct marked key, struct marked value)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "developer", "function", "ipython", "tool_response"};
    for (size_t i = 0; marked_equal(key, marked_of("role")) && i < sizeof roles / sizeof *roles; i++)
        if (marked_equal(value, marked_of(roles[i])))
            return true;
    return false;
}

static int list_from_json(struct run *r, const json_t *json, bool trusted, int depth, struct value *out)
{
    int rc = value_list(r, json_array_size(json), out);
    for (size_t i = 0; !rc && i < out->list->n; i++)
        rc = value_from_json(r, json_array_get(json, i), trusted, depth + 1, &out->list->item[i]);
    return rc;
}

static int dict_from_json(struct run *r, const json_t *json, bool trusted, int depth, struct value *out)
{
    struct dict *d = run_alloc(r, 1, sizeof *d);
    const char *key;
    json_t *member;
    *out = (struct value){.kind = V_DICT, .dict = d};
    if (!d || (json_object_size(json) && !(d->pair = run_alloc(r, json_object_size(json), sizeof *d->pair))))
        return r->err->code;
    d->cap = json_object_size(json);
    json_object_foreach((json_t *)(uintptr_t)json, key, member)
    {
        struct pair *p = &d->pair[d->n++];
        p->key = (struct marked){key, trusted ? NULL : r->ones, strlen(key)};
        int rc = value_from_json(r, member, trusted, depth + 1, &p->value);
        if (rc)
            return rc;
        if (p->value.kind == V_TEXT && is_role(p->key, p->value.text))
            p->value.text.user = NULL;
    }
    return 0;
}

int value_from_json(struct run *r, const json_t *json, bool trusted, int depth, struct value *out)
{
    if (depth > JSON_DEPTH)
        return run_fail(r, "a value is nested more than %d deep", JSON_DEPTH);
    switch (json_typeof(json)) {
    case JSON_OBJECT: return dict_from_json(r, json, trusted, depth, out);
    case JSON_ARRAY: return list_from_json(r, json, trusted, depth, out);
    case JSON_STRING: *out = value_text((struct marked){json_string_value(json), trusted ? NULL : r->ones, json_string_length(json)}); break;
    case JSON_INTEGER: *out = value_int(json_integer_value(json)); break;
    case JSON_REAL: *out = (struct value){.kind = V_REAL, .real = json_real_value(json)}; break;
    case JSON_NULL: *out = value_none(); break;
    default: *out = value_bool(json_is_true(json));
    }
    return 0;
}

size_t json_longest_text(const json_t *json, int depth)
{
    size_t longest = json_is_string(json) ? json_string_length(json) : 0, n;
    const char *key;
    json_t *member;
    if (depth > JSON_DEPTH)
        return 0; /* value_from_json refuses it */
    json_object_foreach((json_t *)(uintptr_t)json, key, member)
    {
        n = json_longest_text(member, depth + 1);
        longest = n > longest ? n : longest;
        longest = strlen(key) > longest ? strlen(key) : longest;
    }
    for (size_t i = 0; i < json_array_size(json); i++) {
        n = json_longest_text(json_array_get(json, i), depth + 1);
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* ---- text out ---- */

/* A float as Python writes it: the fewest digits that give it back, without an exponent from 1e-4 up to 1e16. */
static int print_real(struct run *r, double v, struct build *b)
{
    char digits[40], out[64];
    int precision = 0, n = 0, exponent;
    if (!isfinite(v))
        return build_text(r, b, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    do
        snprintf(digits, sizeof digits, "%.*e", precision, fabs(v));
    while (strtod(digits, NULL) != fabs(v) && ++precision < 17);
    exponent = atoi(strchr(digits, 'e') + 1);
    for (char *d = digits + 1; precision; d++) /* a locale's point, perhaps of several bytes, goes */
        if (*d >= '0' && *d <= '9') {
            memmove(digits + 1, d, (size_t)precision);
            break;
        }
    digits[precision + 1] = 0;
    n += snprintf(out, sizeof out, "%s", signbit(v) ? "-" : "");
    if (exponent < -4 || exponent >= 16)
        snprintf(out + n, sizeof out - (size_t)n, "%c%s%se%c%02d", digits[0], precision ? "." : "", digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    else if (exponent < 0)
        snprintf(out + n, sizeof out - (size_t)n, "0.%.*s%s", -exponent - 1, "0000", digits);
    else if (precision <= exponent)
        snprintf(out + n, sizeof out - (size_t)n, "%s%.*s.0", digits, exponent - precision, "0000000000000000");
    else
        snprintf(out + n, sizeof out - (size_t)n, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    return build_text(r, b, out);
}

static int print_int(struct run *r, int64_t i, struct build *b)
{
    char out[32];
    snprintf(out, sizeof out, "%lld", (long long)i);
    return build_text(r, b, out);
}

/* Between quotes. Characters of `escaped` get a backslash, others below blank a letter or a number; ascii: all beyond too, as JSON writes them. */
static int print_quoted(struct run *r, struct marked t, char quote, bool ascii, struct build *b)
{
    static const char from[] = "\n\r\t\b\f", to[] = "nrtbf";
    char text[16] = {quote};
    int rc = build_text(r, b, text);
    for (size_t at = 0, n; !rc && at < t.n; at += n) {
        uint32_t c = (uint8_t)t.p[at];
        const char *known = c && c < ' ' ? memchr(from, (int)c, quote == '"' ? 5 : 3) : NULL;
        n = marked_next(t, at);
        if (c == (uint8_t)quote || c == '\\')
            snprintf(text, sizeof text, "\\%c", (char)c);
        else if (known)
            snprintf(text, sizeof text, "\\%c", to[known - from]);
        else if (c < ' ' || (c == 0x7f && quote == '\''))
            snprintf(text, sizeof text, quote == '"' ? "\\u%04x" : "\\x%02x", c);
        else if (ascii && c >= 0x80 && utf8_next((const uint8_t *)t.p + at, n, &c) > 0 && c >= 0x10000)
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        else if (ascii && c >= 0x80)
            snprintf(text, sizeof text, "\\u%04x", c);
        else {
            rc = build_add(r, b, marked_slice(t, at, at + n));
            continue;
        }
        rc = build_add(r, b, (struct marked){text, t.user ? r->ones : NULL, strlen(text)});
    }
    return rc ? rc : build_add(r, b, (struct marked){&quote, NULL, 1});
}

static int print_inside(struct run *r, const struct value *v, struct build *b)
{
    if (v->kind == V_TEXT) {
        bool plain = !memchr(v->text.p, '\'', v->text.n), twice = memchr(v->text.p, '"', v->text.n) != NULL;
        return print_quoted(r, v->text, plain || twice ? '\'' : '"', false, b);
    }
    return value_print(r, v, b);
}

static int print_list(struct run *r, const struct list *l, struct build *b)
{
    int rc = build_text(r, b, l->tuple ? "(" : "[");
    for (size_t i = 0; !rc && i < l->n; i++) {
        rc = build_text(r, b, i ? ", " : "");
        rc = rc ? rc : print_inside(r, &l->item[i], b);
    }
    return rc ? rc : build_text(r, b, !l->tuple ? "]" : l->n == 1 ? ",)" : ")");
}

static int print_dict(struct run *r, const struct dict *d, struct build *b)
{
    int rc = build_text(r, b, "{");
    for (size_t i = 0; !rc && i < d->n; i++) {
        struct value key = value_text(d->pair[i].key);
        rc = build_text(r, b, i ? ", " : "");
        rc = rc ? rc : print_inside(r, &key, b);
        rc = rc ? rc : build_text(r, b, ": ");
        rc = rc ? rc : print_inside(r, &d->pair[i].value, b);
    }
    return rc ? rc : build_text(r, b, "}");
}

int value_print(struct run *r, const struct value *v, struct build *b)
{
    int rc = enter(r);
    if (!rc)
        switch (v->kind) {
        case V_UNDEFINED: break;
        case V_NONE: rc = build_text(r, b, "None"); break;
        case V_BOOL: rc = build_text(r, b, v->truth ? "True" : "False"); break;
        case V_INT: rc = print_int(r, v->i, b); break;
        case V_REAL: rc = print_real(r, v->real, b); break;
        case V_TEXT: rc = build_add(r, b, v->text); break;
        case V_LIST: rc = print_list(r, v->list, b); break;
        case V_DICT: rc = print_dict(r, v->dict, b); break;
        default: rc = run_fail(r, "a %s cannot be printed", value_kind_name(v));
        }
    r->depth--;
    return rc;
}

static int json_newline(struct run *r, const struct json_style *s, int depth, struct build *b)
{
    int rc = s->indent.p ? build_text(r, b, "\n") : 0;
    for (int i = 0; s->indent.p && !rc && i < depth; i++)
        rc = build_add(r, b, s->indent);
    return rc;
}

static int write_json(struct run *r, const struct value *v, const struct json_style *s, int depth, struct build *b);

static int by_key(const void *a, const void *b) { return compare_texts(((const struct pair *)a)->key, ((const struct pair *)b)->key); }

/* The parts of a list or a dict: pair[i] or item[i]. */
static int write_parts(struct run *r, const struct pair *pair, const struct value *item, size_t n, const struct json_style *s, int depth, struct build *b)
{
    int rc = build_text(r, b, pair ? "{" : "[");
    for (size_t i = 0; !rc && i < n; i++) {
        rc = i ? build_add(r, b, s->comma) : 0;
        rc = rc ? rc : json_newline(r, s, depth + 1, b);
        if (!rc && pair)
            rc = print_quoted(r, pair[i].key, '"', s->ascii, b);
        if (!rc && pair)
            rc = build_add(r, b, s->colon);
        rc = rc ? rc : write_json(r, pair ? &pair[i].value : &item[i], s, depth + 1, b);
    }
    rc = rc || !n ? rc : json_newline(r, s, depth, b);
    return rc ? rc : build_text(r, b, pair ? "}" : "]");
}

static int write_dict(struct run *r, const struct dict *d, const struct json_style *s, int depth, struct build *b)
{
    static const struct pair none;
    struct pair *sorted = s->sorted && d->n ? run_alloc(r, d->n, sizeof *sorted) : NULL;
    if (s->sorted && d->n) {
        int rc = sorted ? run_charge(r, 16 * d->n) : r->err->code;
        for (size_t i = 0; !rc && i < d->n; i++)
            rc = run_charge(r, d->pair[i].key.n); /* a 16th of it for each of some 16 comparisons */
        if (rc)
            return rc;
        memcpy(sorted, d->pair, d->n * sizeof *sorted);
        qsort(sorted, d->n, sizeof *sorted, by_key);
    }
    return write_parts(r, sorted ? sorted : d->n ? d->pair : &none, NULL, d->n, s, depth, b);
}

static int write_json(struct run *r, const struct value *v, const struct json_style *s, int depth, struct build *b)
{
    int rc = enter(r);
    if (!rc)
        switch (v->kind) {
        case V_NONE: rc = build_text(r, b, "null"); break;
        case V_BOOL: rc = build_text(r, b, v->truth ? "true" : "false"); break;
        case V_TEXT: rc = print_quoted(r, v->text, '"', s->ascii, b); break;
        case V_LIST: rc = write_parts(r, NULL, v->list->item, v->list->n, s, depth, b); break;
        case V_DICT: rc = write_dict(r, v->dict, s, depth, b); break;
        case V_INT:
        case V_REAL: rc = value_print(r, v, b); break;
        default: rc = run_fail(r, "%s cannot be written as JSON", value_kind_name(v));
        }
    r->depth--;
    return rc;
}

int value_json(struct run *r, const struct value *v, const struct json_style *style, struct build *b) { return write_json(r, v, style, 0, b); }
