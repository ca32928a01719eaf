/* SPDX-License-Identifier: Apache-2.0 */
/* Global functions, tests, and filters and methods of lists and dicts; what is done to texts is in jinja_text.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/jinja_run.h"

int call_text(struct run *r, const struct call *c, int i, const char *fallback, struct marked *out)
{
    if (!c->arg[i] && fallback) {
        *out = marked_of(fallback);
        return 0;
    }
    if (!c->arg[i] || c->arg[i]->kind != V_TEXT)
        return run_fail(r, "%s: argument %d must be a text%s%s", c->name, i + 1, c->arg[i] ? ", not " : "", c->arg[i] ? value_kind_name(c->arg[i]) : "");
    *out = c->arg[i]->text;
    return 0;
}

int call_int(struct run *r, const struct call *c, int i, int64_t fallback, int64_t *out)
{
    const struct value *v = c->arg[i];
    *out = !v || v->kind == V_NONE ? fallback : v->kind == V_INT ? v->i : v->kind == V_BOOL ? v->truth : 0;
    if (v && v->kind != V_NONE && v->kind != V_INT && v->kind != V_BOOL)
        return run_fail(r, "%s: argument %d must be a whole number, not %s", c->name, i + 1, value_kind_name(v));
    return 0;
}

static bool given(const struct call *c, int i) { return c->arg[i] && value_true(c->arg[i]); }

/* A filter or test on one value, by name, with the arguments from plain[first] on. */
static int apply(struct run *r, unsigned place, const struct value *name, const struct call *c, int first, const struct value *self, struct value *out)
{
    struct call inner = {.self = *self};
    const struct builtin *b = name->kind == V_TEXT ? builtin_find(place, name->text) : NULL;
    if (!b)
        return run_fail(r, "%s: no such %s: \"%.*s\"", c->name, place == IN_TESTS ? "test" : "filter", name->kind == V_TEXT ? (int)name->text.n : 0, name->kind == V_TEXT ? name->text.p : "");
    for (int i = first; i < c->n_plain; i++)
        inner.plain[inner.n_plain++] = c->plain[i];
    return builtin_run(r, b, &inner, out);
}

/* ---- globals ---- */

static int do_range(struct run *r, struct call *c, struct value *out)
{
    int64_t from = 0, to, step;
    if (call_int(r, c, 0, 0, &to) || call_int(r, c, 2, 1, &step))
        return r->err->code;
    if (c->arg[1]) {
        from = to;
        if (call_int(r, c, 1, 0, &to))
            return r->err->code;
    }
    if (!step || !c->arg[0])
        return run_fail(r, "range: needs an end, and no step of 0");
    /* modulo 2^64, where neither the distance nor the step overflows */
    uint64_t far = step > 0 ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to, by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t n = (step > 0 ? to > from : from > to) ? (far - 1) / by + 1 : 0;
    if (n > 100000)
        return run_fail(r, "range: more than 100000 numbers");
    int rc = value_list(r, (size_t)n, out);
    for (uint64_t i = 0; !rc && i < n; i++)
        out->list->item[i] = value_int((int64_t)((uint64_t)from + i * (uint64_t)step));
    return rc;
}

static int make_dict(struct run *r, struct call *c, struct value *out, enum value_kind kind)
{
    struct dict *d = run_alloc(r, 1, sizeof *d);
    int rc = d ? 0 : r->err->code;
    if (!rc && (c->n_plain > 1 || (c->n_plain && c->plain[0].kind != V_DICT)))
        rc = run_fail(r, "%s: takes named values, or one dict", c->name);
    for (size_t i = 0; !rc && c->n_plain && i < c->plain[0].dict->n; i++)
        rc = dict_set(r, d, c->plain[0].dict->pair[i].key, &c->plain[0].dict->pair[i].value);
    for (int i = 0; !rc && i < c->n_named; i++)
        rc = dict_set(r, d, c->named[i].key, &c->named[i].value);
    *out = (struct value){.kind = kind, .dict = d};
    return rc;
}

static int do_namespace(struct run *r, struct call *c, struct value *out) { return make_dict(r, c, out, V_NAMESPACE); }
static int do_dict(struct run *r, struct call *c, struct value *out) { return make_dict(r, c, out, V_DICT); }

static int do_raise(struct run *r, struct call *c, struct value *out)
{
    struct marked t;
    (void)out;
    int rc = call_text(r, c, 0, NULL, &t);
    return rc ? rc : run_fail(r, "the template refuses these messages: %.*s", t.n < 300 ? (int)t.n : 300, t.p);
}

static int do_strftime_now(struct run *r, struct call *c, struct value *out)
{
    struct marked t;
    struct tm when;
    time_t now = (time_t)r->now;
    char format[128], *text = run_alloc(r, 512, 1);
    int rc = text ? call_text(r, c, 0, NULL, &t) : r->err->code;
    if (!rc && (t.n >= sizeof format || memchr(t.p, 0, t.n) || !gmtime_r(&now, &when)))
        rc = run_fail(r, "strftime_now: a format of %zu bytes: must be less than %zu, without a zero", t.n, sizeof format);
    if (rc)
        return rc;
    memcpy(format, t.p, t.n);
    format[t.n] = 0;
    *out = value_text((struct marked){text, NULL, strftime(text, 512, format, &when)});
    return 0;
}

/* ---- values ---- */

static int do_default(struct run *r, struct call *c, struct value *out)
{
    static const struct value empty = {.kind = V_TEXT, .text = {"", NULL, 0}};
    (void)r;
    bool missing = c->self.kind == V_UNDEFINED || (given(c, 1) && !value_true(&c->self));
    *out = !missing ? c->self : c->arg[0] ? *c->arg[0] : empty;
    return 0;
}

static int do_length(struct run *r, struct call *c, struct value *out)
{
    size_t n;
    int rc = value_length(r, &c->self, &n);
    *out = rc ? value_none() : value_int((int64_t)n);
    return rc;
}

/* A text as number, as json reads it; whole: cut to an int. */
static int to_number(struct run *r, struct call *c, struct value *out, bool whole)
{
    char text[64];
    double v = 0;
    bool ok = value_is_number(&c->self);
    struct marked t = c->self.text;
    if (ok) {
        v = value_real(&c->self);
    } else if (c->self.kind == V_TEXT && t.n < sizeof text) {
        memcpy(text, t.p, t.n);
        text[t.n] = 0;
        json_t *j = json_loads(text + (*text == '+'), JSON_DECODE_ANY, NULL);
        if ((ok = json_is_number(j)))
            v = json_number_value(j);
        if (whole && json_is_integer(j)) {
            *out = value_int(json_integer_value(j));
            json_decref(j);
            return 0;
        }
        json_decref(j);
    }
    if (whole && (c->self.kind == V_INT || c->self.kind == V_BOOL)) {
        *out = value_int(c->self.kind == V_INT ? c->self.i : c->self.truth);
        return 0;
    }
    if (!ok || (whole && !(fabs(v) < 9e18))) {
        *out = c->arg[0] ? *c->arg[0] : whole ? value_int(0) : (struct value){.kind = V_REAL};
        return 0;
    }
    (void)r;
    *out = whole ? value_int((int64_t)v) : (struct value){.kind = V_REAL, .real = v};
    return 0;
}

static int do_int(struct run *r, struct call *c, struct value *out) { return to_number(r, c, out, true); }
static int do_float(struct run *r, struct call *c, struct value *out) { return to_number(r, c, out, false); }

static int do_abs(struct run *r, struct call *c, struct value *out)
{
    if (!value_is_number(&c->self) || (c->self.kind == V_INT && c->self.i == INT64_MIN))
        return run_fail(r, "abs: of %s", value_kind_name(&c->self));
    *out = c->self.kind == V_REAL ? (struct value){.kind = V_REAL, .real = fabs(c->self.real)} : value_int(llabs(c->self.kind == V_INT ? c->self.i : c->self.truth));
    return 0;
}

static int do_round(struct run *r, struct call *c, struct value *out)
{
    int64_t digits;
    int rc = call_int(r, c, 0, 0, &digits);
    if (rc || !value_is_number(&c->self) || digits < 0 || digits > 15)
        return rc ? rc : run_fail(r, "round: needs a number, and 0 to 15 digits");
    double scale = pow(10, (double)digits);
    *out = (struct value){.kind = V_REAL, .real = nearbyint(value_real(&c->self) * scale) / scale};
    return 0;
}

static int do_tojson(struct run *r, struct call *c, struct value *out)
{
    const struct value *separators = c->arg[1], *indent = c->arg[0];
    struct json_style s = {.comma = marked_of(", "), .colon = marked_of(": "), .ascii = given(c, 2), .sorted = given(c, 3)};
    struct build b = {0};
    int64_t width = -1;
    int rc = indent && indent->kind == V_TEXT ? 0 : call_int(r, c, 0, -1, &width);
    if (!rc && width > 64)
        rc = run_fail(r, "tojson: an indent of %lld: must be at most 64", (long long)width);
    if (rc)
        return rc;
    if (width >= 0 || (indent && indent->kind == V_TEXT)) {
        static const char blanks[] = "                                                                ";
        s.indent = width >= 0 ? (struct marked){blanks, NULL, (size_t)width} : indent->text;
        s.comma = marked_of(",");
    }
    if (separators && separators->kind == V_LIST && separators->list->n == 2 && separators->list->item[0].kind == V_TEXT && separators->list->item[1].kind == V_TEXT) {
        s.comma = separators->list->item[0].text;
        s.colon = separators->list->item[1].text;
    }
    rc = value_json(r, &c->self, &s, &b);
    *out = build_done(&b);
    return rc;
}

/* ---- lists ---- */

static int end_of(struct run *r, struct call *c, struct value *out, bool last)
{
    const struct list *l;
    int rc = value_items(r, &c->self, &l);
    *out = !rc && l->n ? l->item[last ? l->n - 1 : 0] : value_undefined(marked_of(last ? "last" : "first"));
    return rc;
}

static int do_first(struct run *r, struct call *c, struct value *out) { return end_of(r, c, out, false); }
static int do_last(struct run *r, struct call *c, struct value *out) { return end_of(r, c, out, true); }

static int copy_items(struct run *r, const struct value *v, struct value *out)
{
    const struct list *l;
    if (value_items(r, v, &l) || value_list(r, l->n, out))
        return r->err->code;
    if (l->n)
        memcpy(out->list->item, l->item, l->n * sizeof *l->item);
    return 0;
}

static int do_list(struct run *r, struct call *c, struct value *out) { return copy_items(r, &c->self, out); }

static int do_reverse(struct run *r, struct call *c, struct value *out)
{
    const struct list *l;
    struct build b = {0};
    bool text = c->self.kind == V_TEXT;
    int rc = value_items(r, &c->self, &l);
    rc = rc ? rc : value_list(r, l->n, out);
    for (size_t i = 0, n = rc ? 0 : l->n; i < n && !rc; i++) {
        out->list->item[i] = l->item[n - 1 - i];
        rc = text ? build_add(r, &b, out->list->item[i].text) : 0;
    }
    if (text)
        *out = build_done(&b);
    return rc;
}

static int do_unique(struct run *r, struct call *c, struct value *out)
{
    const struct list *l;
    int rc = value_items(r, &c->self, &l);
    rc = rc ? rc : value_list(r, l->n, out);
    for (size_t i = 0, n = rc ? 0 : out->list->n; i < n && !rc; i++) {
        bool seen = false;
        out->list->n = i ? out->list->n : 0;
        rc = value_contains(r, out, &l->item[i], &seen);
        if (!seen)
            out->list->item[out->list->n++] = l->item[i];
    }
    return rc;
}

/* By insertion: lists that templates sort are short, and steps are charged. Texts without regard to case unless case_sensitive. */
static int do_sort(struct run *r, struct call *c, struct value *out)
{
    bool reverse = given(c, 0);
    int rc = copy_items(r, &c->self, out);
    for (size_t i = 1; !rc && i < out->list->n; i++) {
        struct value one = out->list->item[i], a, b;
        size_t k = i;
        for (int order = 0; k > 0; k--) {
            a = out->list->item[k - 1];
            b = one;
            if (c->arg[2] && c->arg[2]->kind == V_TEXT && (run_path(r, &a, c->arg[2]->text, &a) || run_path(r, &b, c->arg[2]->text, &b)))
                return r->err->code;
            if (!given(c, 1) && a.kind == V_TEXT && b.kind == V_TEXT) {
                struct call lower = {.name = "sort", .self = a};
                const struct builtin *f = builtin_find(IN_FILTERS, marked_of("lower"));
                if (builtin_run(r, f, &lower, &a) || (lower.self = b, builtin_run(r, f, &lower, &b)))
                    return r->err->code;
            }
            if (run_charge(r, 1) || value_compare(r, &a, &b, &order))
                return r->err->code;
            if (reverse ? order >= 0 : order <= 0)
                break;
            out->list->item[k] = out->list->item[k - 1];
        }
        out->list->item[k] = one;
    }
    return rc;
}

static int extreme(struct run *r, struct call *c, struct value *out, int wanted)
{
    const struct list *l;
    int rc = value_items(r, &c->self, &l), order;
    *out = !rc && l->n ? l->item[0] : value_undefined(marked_of("min"));
    for (size_t i = 1; !rc && i < l->n; i++) {
        rc = value_compare(r, &l->item[i], out, &order);
        if (!rc && order * wanted > 0)
            *out = l->item[i];
    }
    return rc;
}

static int do_min(struct run *r, struct call *c, struct value *out) { return extreme(r, c, out, -1); }
static int do_max(struct run *r, struct call *c, struct value *out) { return extreme(r, c, out, 1); }

static int do_sum(struct run *r, struct call *c, struct value *out)
{
    const struct list *l;
    int rc = value_items(r, &c->self, &l);
    *out = value_int(0);
    for (size_t i = 0; !rc && i < l->n; i++) {
        const struct value *v = &l->item[i];
        if (!value_is_number(v))
            rc = run_fail(r, "sum: of %s", value_kind_name(v));
        else if (out->kind == V_INT && v->kind == V_INT && !__builtin_add_overflow(out->i, v->i, &out->i))
            continue;
        else
            *out = (struct value){.kind = V_REAL, .real = value_real(out) + value_real(v)};
    }
    return rc;
}

/* | map("filter", ...) and | map(attribute="x", default=y) */
static int do_map(struct run *r, struct call *c, struct value *out)
{
    const struct list *l;
    const struct value *attribute = NULL, *fallback = NULL;
    for (int i = 0; i < c->n_named; i++)
        if (marked_equal(c->named[i].key, marked_of("attribute")))
            attribute = &c->named[i].value;
        else if (marked_equal(c->named[i].key, marked_of("default")))
            fallback = &c->named[i].value;
    if (attribute ? attribute->kind != V_TEXT : !c->n_plain)
        return run_fail(r, "map: needs the name of a filter, or attribute=");
    int rc = value_items(r, &c->self, &l);
    rc = rc ? rc : value_list(r, l->n, out);
    for (size_t i = 0; !rc && i < l->n; i++) {
        struct value *to = &out->list->item[i];
        rc = attribute ? run_path(r, &l->item[i], attribute->text, to) : apply(r, IN_FILTERS, &c->plain[0], c, 1, &l->item[i], to);
        if (!rc && to->kind == V_UNDEFINED && fallback)
            *to = *fallback;
    }
    return rc;
}

/* Items (or one attribute of them) that pass a test, or do not; without a test, what is true. */
static int pick(struct run *r, struct call *c, struct value *out, bool by_attribute, bool wanted)
{
    const struct list *l;
    int first = by_attribute, rc = value_items(r, &c->self, &l);
    if (!rc && by_attribute && (!c->n_plain || c->plain[0].kind != V_TEXT))
        rc = run_fail(r, "%s: needs the name of an attribute", c->name);
    rc = rc ? rc : value_list(r, l->n, out);
    if (rc)
        return rc;
    out->list->n = 0;
    for (size_t i = 0; !rc && i < l->n; i++) {
        struct value v = l->item[i];
        if (by_attribute)
            rc = run_path(r, &l->item[i], c->plain[0].text, &v);
        if (!rc && c->n_plain > first)
            rc = apply(r, IN_TESTS, &c->plain[first], c, first + 1, &v, &v);
        if (!rc && value_true(&v) == wanted)
            out->list->item[out->list->n++] = l->item[i];
    }
    return rc;
}

static int do_select(struct run *r, struct call *c, struct value *out) { return pick(r, c, out, false, true); }
static int do_reject(struct run *r, struct call *c, struct value *out) { return pick(r, c, out, false, false); }
static int do_selectattr(struct run *r, struct call *c, struct value *out) { return pick(r, c, out, true, true); }
static int do_rejectattr(struct run *r, struct call *c, struct value *out) { return pick(r, c, out, true, false); }

/* ---- dicts ---- */

static int dict_parts(struct run *r, struct call *c, struct value *out, bool keys, bool values)
{
    if (c->self.kind == V_UNDEFINED)
        return value_list(r, 0, out);
    if (c->self.kind != V_DICT)
        return run_fail(r, "%s: of %s, which is no dict", c->name, value_kind_name(&c->self));
    const struct dict *d = c->self.dict;
    int rc = value_list(r, d->n, out);
    for (size_t i = 0; !rc && i < d->n; i++) {
        struct value *to = &out->list->item[i], key = value_text(d->pair[i].key);
        if (!keys || !values) {
            *to = keys ? key : d->pair[i].value;
        } else if (!(rc = value_list(r, 2, to))) {
            to->list->tuple = true;
            to->list->item[0] = key;
            to->list->item[1] = d->pair[i].value;
        }
    }
    return rc;
}

static int do_items(struct run *r, struct call *c, struct value *out) { return dict_parts(r, c, out, true, true); }
static int do_keys(struct run *r, struct call *c, struct value *out) { return dict_parts(r, c, out, true, false); }
static int do_values(struct run *r, struct call *c, struct value *out) { return dict_parts(r, c, out, false, true); }

static int do_dictsort(struct run *r, struct call *c, struct value *out)
{
    const struct value key = value_text(marked_of("0")); /* of a pair (key, value) */
    struct call sort = {.name = "dictsort", .arg = {c->arg[2], c->arg[0], &key}};
    int rc = dict_parts(r, c, &sort.self, true, true);
    return rc ? rc : do_sort(r, &sort, out);
}

static int do_get(struct run *r, struct call *c, struct value *out)
{
    struct value *found = NULL;
    int rc = c->arg[0] && c->arg[0]->kind == V_TEXT ? dict_find(r, c->self.dict, c->arg[0]->text, &found) : 0;
    *out = found ? *found : c->arg[1] ? *c->arg[1] : value_none();
    return rc;
}

/* ---- loops ---- */

static int do_cycle(struct run *r, struct call *c, struct value *out)
{
    if (!c->n_plain)
        return run_fail(r, "cycle: of what?");
    *out = c->plain[c->self.loop->at % (size_t)c->n_plain];
    return 0;
}

static int do_changed(struct run *r, struct call *c, struct value *out)
{
    struct loop *l = c->self.loop;
    struct value now;
    bool same = false;
    int rc = value_list(r, (size_t)c->n_plain, &now);
    for (int i = 0; !rc && i < c->n_plain; i++)
        now.list->item[i] = c->plain[i];
    if (!rc && l->has_changed)
        rc = value_equal(r, &now, &l->changed, &same);
    l->changed = now;
    l->has_changed = true;
    *out = value_bool(!same);
    return rc;
}

/* ---- tests ---- */

#define IS(test, condition)                                                      \
    static int is_##test(struct run *r, struct call *c, struct value *out)       \
    {                                                                            \
        const struct value *v = &c->self;                                        \
        (void)r;                                                                 \
        *out = value_bool(condition);                                            \
        return 0;                                                                \
    }
IS(defined, v->kind != V_UNDEFINED)
IS(undefined, v->kind == V_UNDEFINED)
IS(none, v->kind == V_NONE)
IS(string, v->kind == V_TEXT)
IS(mapping, v->kind == V_DICT)
IS(sequence, v->kind == V_TEXT || v->kind == V_LIST || v->kind == V_DICT || v->kind == V_UNDEFINED)
IS(number, value_is_number(v))
IS(integer, v->kind == V_INT)
IS(float, v->kind == V_REAL)
IS(boolean, v->kind == V_BOOL)
IS(true, v->kind == V_BOOL && v->truth)
IS(false, v->kind == V_BOOL && !v->truth)
IS(callable, v->kind == V_MACRO || v->kind == V_FUNCTION)
IS(odd, v->kind == V_INT && v->i & 1)
IS(even, v->kind == V_INT && !(v->i & 1))

static int is_divisibleby(struct run *r, struct call *c, struct value *out)
{
    int64_t by;
    int rc = call_int(r, c, 0, 0, &by);
    if (!rc && (c->self.kind != V_INT || !by))
        rc = run_fail(r, "divisibleby: needs whole numbers, and none by 0");
    *out = value_bool(!rc && (by == -1 || c->self.i % by == 0));
    return rc;
}

static int is_equal(struct run *r, struct call *c, struct value *out)
{
    bool same = false;
    int rc = c->arg[0] ? value_equal(r, &c->self, c->arg[0], &same) : run_fail(r, "equalto: what?");
    *out = value_bool(same);
    return rc;
}

static int is_unequal(struct run *r, struct call *c, struct value *out)
{
    int rc = is_equal(r, c, out);
    out->truth = !out->truth;
    return rc;
}

static int is_among(struct run *r, struct call *c, struct value *out)
{
    bool found = false;
    int rc = c->arg[0] ? value_contains(r, c->arg[0], &c->self, &found) : run_fail(r, "in: what?");
    *out = value_bool(found);
    return rc;
}

static int ordered(struct run *r, struct call *c, struct value *out, int wanted, bool or_equal)
{
    int order = 0, rc = c->arg[0] ? value_compare(r, &c->self, c->arg[0], &order) : run_fail(r, "%s: than what?", c->name);
    *out = value_bool(order * wanted > 0 || (or_equal && !order));
    return rc;
}

static int is_below(struct run *r, struct call *c, struct value *out) { return ordered(r, c, out, -1, false); }
static int is_at_most(struct run *r, struct call *c, struct value *out) { return ordered(r, c, out, -1, true); }
static int is_above(struct run *r, struct call *c, struct value *out) { return ordered(r, c, out, 1, false); }
static int is_at_least(struct run *r, struct call *c, struct value *out) { return ordered(r, c, out, 1, true); }

/* ---- the table ---- */

static const struct builtin builtins[] = {
    {"range", IN_GLOBALS, "start stop step", do_range},
    {"namespace", IN_GLOBALS, NULL, do_namespace},
    {"dict", IN_GLOBALS, NULL, do_dict},
    {"raise_exception", IN_GLOBALS, "message", do_raise},
    {"strftime_now", IN_GLOBALS, "format", do_strftime_now},
    {"default", IN_FILTERS, "default_value boolean", do_default},
    {"d", IN_FILTERS, "default_value boolean", do_default},
    {"length", IN_FILTERS, "", do_length},
    {"count", IN_FILTERS, "", do_length},
    {"int", IN_FILTERS, "default base", do_int},
    {"float", IN_FILTERS, "default", do_float},
    {"abs", IN_FILTERS, "", do_abs},
    {"round", IN_FILTERS, "precision", do_round},
    {"tojson", IN_FILTERS, "indent separators ensure_ascii sort_keys", do_tojson},
    {"first", IN_FILTERS, "", do_first},
    {"last", IN_FILTERS, "", do_last},
    {"list", IN_FILTERS, "", do_list},
    {"reverse", IN_FILTERS, "", do_reverse},
    {"unique", IN_FILTERS, "", do_unique},
    {"sort", IN_FILTERS, "reverse case_sensitive attribute", do_sort},
    {"min", IN_FILTERS, "", do_min},
    {"max", IN_FILTERS, "", do_max},
    {"sum", IN_FILTERS, "", do_sum},
    {"map", IN_FILTERS, NULL, do_map},
    {"select", IN_FILTERS, NULL, do_select},
    {"reject", IN_FILTERS, NULL, do_reject},
    {"selectattr", IN_FILTERS, NULL, do_selectattr},
    {"rejectattr", IN_FILTERS, NULL, do_rejectattr},
    {"items", IN_FILTERS | IN_DICTS, "", do_items},
    {"keys", IN_DICTS, "", do_keys},
    {"values", IN_DICTS, "", do_values},
    {"dictsort", IN_FILTERS, "case_sensitive by reverse", do_dictsort},
    {"get", IN_DICTS, "key default", do_get},
    {"cycle", IN_LOOPS, NULL, do_cycle},
    {"changed", IN_LOOPS, NULL, do_changed},
    {"defined", IN_TESTS, "", is_defined},
    {"undefined", IN_TESTS, "", is_undefined},
    {"none", IN_TESTS, "", is_none},
    {"string", IN_TESTS, "", is_string},
    {"mapping", IN_TESTS, "", is_mapping},
    {"iterable", IN_TESTS, "", is_sequence},
    {"sequence", IN_TESTS, "", is_sequence},
    {"number", IN_TESTS, "", is_number},
    {"integer", IN_TESTS, "", is_integer},
    {"float", IN_TESTS, "", is_float},
    {"boolean", IN_TESTS, "", is_boolean},
    {"true", IN_TESTS, "", is_true},
    {"false", IN_TESTS, "", is_false},
    {"callable", IN_TESTS, "", is_callable},
    {"odd", IN_TESTS, "", is_odd},
    {"even", IN_TESTS, "", is_even},
    {"divisibleby", IN_TESTS, "num", is_divisibleby},
    {"equalto", IN_TESTS, "other", is_equal},
    {"eq", IN_TESTS, "other", is_equal},
    {"==", IN_TESTS, "other", is_equal},
    {"sameas", IN_TESTS, "other", is_equal},
    {"ne", IN_TESTS, "other", is_unequal},
    {"!=", IN_TESTS, "other", is_unequal},
    {"in", IN_TESTS, "seq", is_among},
    {"lessthan", IN_TESTS, "other", is_below},
    {"lt", IN_TESTS, "other", is_below},
    {"<", IN_TESTS, "other", is_below},
    {"le", IN_TESTS, "other", is_at_most},
    {"<=", IN_TESTS, "other", is_at_most},
    {"greaterthan", IN_TESTS, "other", is_above},
    {"gt", IN_TESTS, "other", is_above},
    {">", IN_TESTS, "other", is_above},
    {"ge", IN_TESTS, "other", is_at_least},
    {">=", IN_TESTS, "other", is_at_least},
    {0}};

const struct builtin *builtin_find(unsigned place, struct marked name)
{
    const struct builtin *const tables[] = {builtins, text_builtins};
    for (int t = 0; t < 2; t++)
        for (const struct builtin *b = tables[t]; b->name; b++)
            if (b->places & place && marked_equal(name, marked_of(b->name)))
                return b;
    return NULL;
}

/* The place of a parameter of that name, or -1. */
static int find_parameter(const char *parameters, struct marked name)
{
    for (int i = 0; *parameters; i++) {
        size_t n = strcspn(parameters, " ");
        if (marked_equal((struct marked){parameters, NULL, n}, name))
            return i;
        parameters += n + (parameters[n] == ' ');
    }
    return -1;
}

int builtin_run(struct run *r, const struct builtin *b, struct call *c, struct value *out)
{
    int n = b->parameters && *b->parameters ? 1 : 0;
    for (const char *p = b->parameters; p && *p; p++)
        n += *p == ' ';
    c->name = b->name;
    if (run_charge(r, 1))
        return r->err->code;
    if (b->parameters && c->n_plain > n)
        return run_fail(r, "%s: %d arguments, it takes %d", b->name, c->n_plain, n);
    for (int i = 0; i < PARAMETERS_MAX; i++)
        c->arg[i] = b->parameters && i < c->n_plain ? &c->plain[i] : NULL;
    for (int i = 0; b->parameters && i < c->n_named; i++) {
        int at = find_parameter(b->parameters, c->named[i].key);
        if (at < 0 || c->arg[at])
            return run_fail(r, "%s: argument \"%.*s\" is %s", b->name, c->named[i].key.n < 40 ? (int)c->named[i].key.n : 40, c->named[i].key.p, at < 0 ? "not known" : "there twice");
        c->arg[at] = &c->named[i].value;
    }
    return b->run(r, c, out);
}
