/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the tree. Depth is bounded in eval and run_statements, through which every recursion goes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"

static int eval(struct run *r, const struct node *n, struct value *out);

static struct marked own(struct bytes b) { return (struct marked){(const char *)b.p, NULL, b.n}; }
static int shown(struct marked t) { return t.n < 60 ? (int)t.n : 60; }

/* ---- names, attributes, items ---- */

static int bind(struct run *r, const struct builtin *b, const struct value *self, struct value *out)
{
    struct function *f = run_alloc(r, 1, sizeof *f);
    if (!f)
        return r->err->code;
    *f = (struct function){b, *self};
    *out = (struct value){.kind = V_FUNCTION, .function = f};
    return 0;
}

static int eval_name(struct run *r, const struct node *n, struct value *out)
{
    struct marked name = own(n->text);
    for (const struct scope *s = r->scope; s; s = s->outer) {
        struct value *v;
        int rc = dict_find(r, &s->names, name, &v);
        if (v)
            *out = *v;
        if (rc || v)
            return rc;
    }
    const struct builtin *b = builtin_find(IN_GLOBALS, name);
    *out = value_undefined(name);
    return b ? bind(r, b, out, out) : 0;
}

static struct value loop_attribute(const struct loop *l, struct marked name)
{
    const size_t n = l->list->n, at = l->at;
    const struct {
        const char *name;
        struct value value;
    } table[] = {
        {"index", value_int((int64_t)at + 1)},  {"index0", value_int((int64_t)at)},          {"revindex", value_int((int64_t)(n - at))},
        {"first", value_bool(at == 0)},         {"revindex0", value_int((int64_t)(n - at) - 1)}, {"last", value_bool(at + 1 == n)},
        {"length", value_int((int64_t)n)},      {"depth", value_int((int64_t)l->depth)},     {"depth0", value_int((int64_t)l->depth - 1)},
        {"previtem", at ? l->list->item[at - 1] : value_undefined(name)},
        {"nextitem", at + 1 < n ? l->list->item[at + 1] : value_undefined(name)}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (marked_equal(name, marked_of(table[i].name)))
            return table[i].value;
    return value_undefined(name);
}

int run_attribute(struct run *r, const struct value *of, struct marked name, struct value *out)
{
    struct value self = *of;
    *out = value_undefined(name);
    if (self.kind == V_UNDEFINED)
        return run_fail(r, "\"%.*s\" is undefined, so it has no \"%.*s\"", shown(self.text), self.text.p, shown(name), name.p);
    if (self.kind == V_DICT || self.kind == V_NAMESPACE) {
        struct value *v;
        int rc = dict_find(r, self.dict, name, &v);
        *out = v ? *v : *out;
        return rc;
    }
    if (self.kind == V_LOOP)
        *out = loop_attribute(self.loop, name);
    else if (self.kind == V_LIST && name.n == 1 && *name.p >= '0' && *name.p <= '9' && (size_t)(*name.p - '0') < self.list->n)
        *out = self.list->item[*name.p - '0'];
    return 0;
}

int run_path(struct run *r, const struct value *of, struct marked path, struct value *out)
{
    struct value self = *of;
    int rc = 0;
    for (size_t at = 0, end; !rc && at <= path.n; at = end + 1) {
        end = marked_find(path, marked_of("."), at);
        rc = run_charge(r, 1);
        rc = rc ? rc : run_attribute(r, &self, marked_slice(path, at, end), out);
        self = *out;
    }
    return rc;
}

static const struct builtin *find_method(const struct value *v, struct marked name)
{
    unsigned place = v->kind == V_TEXT ? IN_TEXTS : v->kind == V_DICT ? IN_DICTS : v->kind == V_LOOP ? IN_LOOPS : 0;
    return place ? builtin_find(place, name) : NULL;
}

/* a.b: a method, then an item. */
static int eval_attribute(struct run *r, const struct node *n, struct value *out)
{
    struct value of;
    struct marked name = own(n->text);
    int rc = eval(r, n->a, &of);
    const struct builtin *b = rc ? NULL : find_method(&of, name);
    r->line = n->line;
    return rc ? rc : b ? bind(r, b, &of, out) : run_attribute(r, &of, name, out);
}

static size_t byte_at(struct marked t, int64_t character)
{
    size_t at = 0;
    while (character-- > 0 && at < t.n)
        at += marked_next(t, at);
    return at;
}

/* Of a list or the characters of a text; below zero counts from the end. */
static int index_of(struct run *r, const struct value *of, int64_t i, struct value *out)
{
    size_t n;
    int rc = value_length(r, of, &n);
    if (rc)
        return rc;
    i += i < 0 ? (int64_t)n : 0;
    if (i < 0 || (uint64_t)i >= n) {
        *out = value_undefined(marked_of("an item past the end"));
    } else if (of->kind == V_LIST) {
        *out = of->list->item[i];
    } else {
        size_t at = byte_at(of->text, i);
        *out = value_text(marked_slice(of->text, at, at + marked_next(of->text, at)));
    }
    return 0;
}

/* a[b]: an item, then a method. */
static int eval_item(struct run *r, const struct node *n, struct value *out)
{
    struct value of, key;
    if (eval(r, n->a, &of) || eval(r, n->b, &key))
        return r->err->code;
    r->line = n->line;
    if (key.kind == V_TEXT) {
        int rc = run_attribute(r, &of, key.text, out);
        const struct builtin *b = rc || out->kind != V_UNDEFINED ? NULL : find_method(&of, key.text);
        return b ? bind(r, b, &of, out) : rc;
    }
    if (of.kind == V_UNDEFINED)
        return run_fail(r, "\"%.*s\" is undefined, so it has no items", shown(of.text), of.text.p);
    if ((key.kind == V_INT || key.kind == V_BOOL) && (of.kind == V_LIST || of.kind == V_TEXT))
        return index_of(r, &of, key.kind == V_INT ? key.i : key.truth, out);
    *out = value_undefined(marked_of("an item"));
    return 0;
}

/* A part of a slice: a number, or fallback when it is missing or none; as Python clamps it to [low, high]. */
static int slice_part(struct run *r, const struct node *n, int64_t fallback, int64_t length, int64_t low, int64_t high, int64_t *out)
{
    struct value v = value_none();
    if (n && eval(r, n, &v))
        return r->err->code;
    *out = fallback;
    if (v.kind == V_NONE)
        return 0;
    if (v.kind != V_INT)
        return run_fail(r, "a slice needs whole numbers, not %s", value_kind_name(&v));
    *out = v.i < 0 ? v.i + length : v.i;
    *out = *out < low ? low : *out > high ? high : *out;
    return 0;
}

static int pick_items(struct run *r, const struct value *of, int64_t from, int64_t to, int64_t step, struct value *out)
{
    const struct list *l;
    int64_t n = step > 0 ? (to - from + step - 1) / step : (from - to - step - 1) / -step;
    int rc = value_items(r, of, &l);
    rc = rc ? rc : value_list(r, n > 0 ? (size_t)n : 0, out);
    for (int64_t i = 0; !rc && i < n; i++)
        out->list->item[i] = l->item[from + i * step];
    if (rc || of->kind == V_LIST)
        return rc;
    struct build b = {0};
    rc = 0;
    for (int64_t i = 0; !rc && i < n; i++)
        rc = build_add(r, &b, out->list->item[i].text);
    *out = build_done(&b);
    return rc;
}

static int eval_slice(struct run *r, const struct node *n, struct value *out)
{
    struct value of, by = value_int(1);
    size_t length;
    int64_t from, to;
    if (eval(r, n->a, &of) || (n->d && eval(r, n->d, &by)) || value_length(r, &of, &length))
        return r->err->code;
    r->line = n->line;
    if (by.kind == V_NONE)
        by = value_int(1);
    if ((of.kind != V_LIST && of.kind != V_TEXT) || by.kind != V_INT || !by.i || by.i < -JINJA_MEMORY_MAX || by.i > JINJA_MEMORY_MAX)
        return run_fail(r, "a slice needs a list or a text, and a step that is not 0");
    int64_t all = (int64_t)length, low = by.i < 0 ? -1 : 0, high = by.i < 0 ? all - 1 : all;
    if (slice_part(r, n->b, by.i < 0 ? high : low, all, low, high, &from) || slice_part(r, n->c, by.i < 0 ? low : high, all, low, high, &to))
        return r->err->code;
    if (of.kind == V_LIST || by.i != 1)
        return pick_items(r, &of, from, to, by.i, out);
    *out = value_text(marked_slice(of.text, byte_at(of.text, from), byte_at(of.text, to)));
    return 0;
}

/* ---- calls ---- */

static int eval_arguments(struct run *r, const struct node *n, struct call *c)
{
    int rc = 0;
    for (; n && !rc; n = n->next) {
        bool named = n->kind == N_ARGUMENT;
        if ((named ? c->n_named : c->n_plain) == ARGUMENTS_MAX)
            return run_fail(r, "more than %d arguments", ARGUMENTS_MAX);
        if (named) {
            c->named[c->n_named].key = own(n->text);
            rc = eval(r, n->a, &c->named[c->n_named++].value);
        } else {
            rc = eval(r, n, &c->plain[c->n_plain++]);
        }
    }
    return rc;
}

/* Parameters in a new scope: as given, else their defaults, else undefined. */
static int bind_parameters(struct run *r, const struct macro *m, const struct call *c, struct scope *s)
{
    int i = 0, used = 0, rc = 0;
    for (const struct node *p = m->node->a; p && !rc; p = p->next, i++) {
        struct value v = value_undefined(own(p->text));
        bool found = i < c->n_plain;
        if (found)
            v = c->plain[i];
        for (int k = 0; k < c->n_named && !found; k++)
            if (marked_equal(c->named[k].key, own(p->text))) {
                v = c->named[k].value;
                found = true;
                used++;
            }
        if (!found && p->kind == N_ARGUMENT)
            rc = eval(r, p->a, &v);
        rc = rc ? rc : dict_set(r, &s->names, own(p->text), &v);
    }
    return rc || (c->n_plain <= i && used == c->n_named) ? rc : run_fail(r, "macro %.*s: arguments that it does not take", shown(own(m->node->text)), m->node->text.p);
}

/* Runs a body with its text going to *b instead of the output, in a scope of its own. */
static int capture(struct run *r, const struct node *body, struct scope *s, struct build *b)
{
    struct scope *outer = r->scope;
    struct build *out = r->out;
    r->scope = s;
    r->out = b;
    int rc = run_statements(r, body);
    r->scope = outer;
    r->out = out;
    return rc;
}

static int call_macro(struct run *r, const struct macro *m, const struct call *c, struct value *out)
{
    struct scope *s = run_alloc(r, 1, sizeof *s), *caller = r->scope;
    struct build b = {0};
    if (!s)
        return r->err->code;
    s->outer = m->scope;
    r->scope = s;
    int rc = bind_parameters(r, m, c, s);
    r->scope = caller;
    rc = rc ? rc : capture(r, m->node->b, s, &b);
    r->flow = RUN_ON;
    *out = build_done(&b);
    return rc;
}

static int eval_call(struct run *r, const struct node *n, struct value *out)
{
    struct value f;
    struct call c = {0};
    if (eval(r, n->a, &f) || eval_arguments(r, n->b, &c))
        return r->err->code;
    r->line = n->line;
    if (f.kind == V_MACRO)
        return call_macro(r, f.macro, &c, out);
    if (f.kind == V_FUNCTION) {
        c.self = f.function->self;
        return builtin_run(r, f.function->builtin, &c, out);
    }
    if (f.kind == V_UNDEFINED)
        return run_fail(r, "\"%.*s\" is undefined and cannot be called", shown(f.text), f.text.p);
    return run_fail(r, "a value of type %s cannot be called", value_kind_name(&f));
}

/* a | filter and a is test. */
static int eval_applied(struct run *r, const struct node *n, struct value *out)
{
    const struct builtin *b = builtin_find(n->kind == N_FILTER ? IN_FILTERS : IN_TESTS, own(n->text));
    struct call c = {0};
    r->line = n->line;
    if (!b)
        return run_fail(r, "no such %s: \"%.*s\"", n->kind == N_FILTER ? "filter" : "test", shown(own(n->text)), n->text.p);
    if (eval(r, n->a, &c.self) || eval_arguments(r, n->b, &c))
        return r->err->code;
    r->line = n->line;
    return builtin_run(r, b, &c, out);
}

/* ---- operators ---- */

static int refuse_operands(struct run *r, const struct node *n, const struct value *a, const struct value *b)
{
    const struct value *u = a->kind == V_UNDEFINED ? a : b;
    if (u->kind == V_UNDEFINED)
        return run_fail(r, "\"%.*s\" is undefined: %.*s needs values", shown(u->text), u->text.p, (int)n->text.n, n->text.p);
    return run_fail(r, "%s %.*s %s: not defined", value_kind_name(a), (int)n->text.n, n->text.p, value_kind_name(b));
}

static int concatenate(struct run *r, const struct value *a, const struct value *b, struct value *out)
{
    struct build text = {0};
    if (a->kind == V_LIST) {
        if (value_list(r, a->list->n + b->list->n, out))
            return r->err->code;
        if (a->list->n)
            memcpy(out->list->item, a->list->item, a->list->n * sizeof *a->list->item);
        if (b->list->n)
            memcpy(out->list->item + a->list->n, b->list->item, b->list->n * sizeof *b->list->item);
        return 0;
    }
    int rc = value_print(r, a, &text);
    rc = rc ? rc : value_print(r, b, &text);
    *out = build_done(&text);
    return rc;
}

static int repeat(struct run *r, struct marked t, int64_t times, struct value *out)
{
    struct build b = {0};
    int rc = 0;
    for (int64_t i = 0; !rc && i < times && t.n; i++) {
        rc = run_charge(r, 1);
        rc = rc ? rc : build_add(r, &b, t);
    }
    *out = build_done(&b);
    return rc;
}

/* Whole numbers, as Python divides them: towards minus infinity. False: the result does not fit, or there is none. */
static bool whole_arithmetic(char op, bool twice, int64_t a, int64_t b, int64_t *out)
{
    int64_t rest, power = 1;
    switch (op) {
    case '+': return !__builtin_add_overflow(a, b, out);
    case '-': return !__builtin_sub_overflow(a, b, out);
    case '*':
        if (!twice)
            return !__builtin_mul_overflow(a, b, out);
        for (int64_t i = 0; i < b && power && (power != 1 || i < 1); i++)
            if (__builtin_mul_overflow(power, a, &power))
                return false;
        if (a == -1 && b >= 0)
            power = b & 1 ? -1 : 1;
        *out = power;
        return b >= 0;
    default:
        if (!b || (a == INT64_MIN && b == -1))
            return false;
        rest = a % b && (a % b < 0) != (b < 0) ? a % b + b : a % b;
        *out = op == '%' ? rest : (a - rest) / b;
        return true;
    }
}

static double real_arithmetic(char op, bool twice, double a, double b)
{
    double rest;
    switch (op) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return twice ? pow(a, b) : a * b;
    case '/': return twice ? floor(a / b) : a / b;
    default:
        rest = fmod(a, b);
        return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
}

static int eval_arithmetic(struct run *r, const struct node *n, struct value *out)
{
    struct value a, b;
    char op = (char)*n->text.p;
    bool twice = n->text.n == 2;
    if (eval(r, n->a, &a) || eval(r, n->b, &b))
        return r->err->code;
    r->line = n->line;
    if (op == '~' || (op == '+' && a.kind == b.kind && (a.kind == V_TEXT || a.kind == V_LIST))) {
        if (op == '~' && a.kind == V_LIST) { /* printed, not joined */
            struct build text = {0};
            int rc = value_print(r, &a, &text);
            a = build_done(&text);
            if (rc)
                return rc;
        }
        return concatenate(r, &a, &b, out);
    }
    if (op == '*' && !twice && (a.kind == V_TEXT || b.kind == V_TEXT) && (a.kind == V_INT || b.kind == V_INT))
        return repeat(r, a.kind == V_TEXT ? a.text : b.text, a.kind == V_INT ? a.i : b.i, out);
    if (!value_is_number(&a) || !value_is_number(&b))
        return refuse_operands(r, n, &a, &b);
    if (a.kind == V_REAL || b.kind == V_REAL || (op == '/' && !twice)) {
        if ((op == '/' || op == '%') && value_real(&b) == 0)
            return run_fail(r, "division by zero");
        *out = (struct value){.kind = V_REAL, .real = real_arithmetic(op, twice, value_real(&a), value_real(&b))};
        return 0;
    }
    int64_t i = 0;
    if (!whole_arithmetic(op, twice, a.kind == V_INT ? a.i : a.truth, b.kind == V_INT ? b.i : b.truth, &i))
        return run_fail(r, "%.*s: division by zero, or a number too large", (int)n->text.n, n->text.p);
    *out = value_int(i);
    return 0;
}

static int eval_signed(struct run *r, const struct node *n, struct value *out)
{
    int rc = eval(r, n->a, out);
    if (rc || n->kind == N_PLUS)
        return rc;
    if (!value_is_number(out) || (out->kind == V_INT && out->i == INT64_MIN))
        return run_fail(r, "- needs a number, not %s", value_kind_name(out));
    *out = out->kind == V_REAL ? (struct value){.kind = V_REAL, .real = -out->real} : value_int(-(out->kind == V_INT ? out->i : (int64_t)out->truth));
    return 0;
}

static int compare(struct run *r, struct bytes sign, const struct value *a, const struct value *b, bool *out)
{
    int order = 0, rc;
    bool equal = sign.n == 2 && (sign.p[0] == '=' || sign.p[0] == '!');
    if (equal)
        rc = value_equal(r, a, b, out);
    else if (*sign.p == 'i' || *sign.p == 'n') /* in, not in */
        rc = value_contains(r, b, a, out);
    else
        rc = value_compare(r, a, b, &order);
    if (*sign.p == '<' || *sign.p == '>')
        *out = (sign.n == 2 && !order) || (*sign.p == '<' ? order < 0 : order > 0);
    else if (*sign.p == '!' || *sign.p == 'n')
        *out = !*out;
    return rc;
}

/* a < b < c: all of them. */
static int eval_compare(struct run *r, const struct node *n, struct value *out)
{
    struct value left, right;
    bool truth = true;
    int rc = eval(r, n->a, &left);
    for (const struct node *one = n->b; one && truth && !rc; one = one->next, left = right) {
        rc = eval(r, one->a, &right);
        r->line = n->line;
        rc = rc ? rc : compare(r, one->text, &left, &right, &truth);
    }
    *out = value_bool(truth);
    return rc;
}

static int eval_not(struct run *r, const struct node *n, struct value *out)
{
    struct value v;
    int rc = eval(r, n->a, &v);
    *out = value_bool(!rc && !value_true(&v));
    return rc;
}

static int eval_logic(struct run *r, const struct node *n, struct value *out)
{
    int rc = eval(r, n->a, out);
    return rc || value_true(out) == (n->kind == N_OR) ? rc : eval(r, n->b, out);
}

static int eval_choice(struct run *r, const struct node *n, struct value *out)
{
    struct value condition;
    int rc = eval(r, n->b, &condition);
    if (rc || value_true(&condition))
        return rc ? rc : eval(r, n->a, out);
    *out = value_undefined(marked_of("the value of an if without else"));
    return n->c ? eval(r, n->c, out) : 0;
}

/* ---- literals ---- */

static int eval_literal(struct run *r, const struct node *n, struct value *out)
{
    switch (n->kind) {
    case N_TEXT_LITERAL: *out = value_text(own(n->text)); break;
    case N_INT: *out = value_int(n->i); break;
    case N_REAL: *out = (struct value){.kind = V_REAL, .real = n->real}; break;
    case N_NONE: *out = value_none(); break;
    case N_CAPTURED: *out = r->captured; break;
    default: *out = value_bool(n->kind == N_TRUE);
    }
    return 0;
}

static int eval_list(struct run *r, const struct node *n, struct value *out)
{
    size_t count = 0;
    for (const struct node *one = n->a; one; one = one->next)
        count++;
    int rc = value_list(r, count, out);
    struct list *l = rc ? NULL : out->list;
    const struct node *one = n->a;
    for (size_t i = 0; !rc && i < count; i++, one = one->next)
        rc = eval(r, one, &l->item[i]);
    if (l)
        l->tuple = n->kind == N_TUPLE;
    return rc;
}

static int eval_dict(struct run *r, const struct node *n, struct value *out)
{
    struct dict *d = run_alloc(r, 1, sizeof *d);
    int rc = d ? 0 : r->err->code;
    *out = (struct value){.kind = V_DICT, .dict = d};
    for (const struct node *one = n->a; one && !rc; one = one->next->next) {
        struct value key, v;
        rc = eval(r, one, &key);
        rc = rc ? rc : eval(r, one->next, &v);
        if (!rc && key.kind != V_TEXT)
            rc = run_fail(r, "a dict's key is %s: only texts are supported", value_kind_name(&key));
        rc = rc ? rc : dict_set(r, d, key.text, &v);
    }
    return rc;
}

typedef int eval_fn(struct run *r, const struct node *n, struct value *out);
static eval_fn *const evaluators[N_KINDS] = {
    [N_TEXT_LITERAL] = eval_literal, [N_INT] = eval_literal, [N_REAL] = eval_literal, [N_TRUE] = eval_literal, [N_FALSE] = eval_literal, [N_NONE] = eval_literal,
    [N_CAPTURED] = eval_literal, [N_NAME] = eval_name, [N_LIST] = eval_list, [N_TUPLE] = eval_list, [N_DICT] = eval_dict, [N_ATTRIBUTE] = eval_attribute,
    [N_ITEM] = eval_item, [N_SLICE] = eval_slice, [N_CALL] = eval_call, [N_FILTER] = eval_applied, [N_TEST] = eval_applied, [N_NOT] = eval_not,
    [N_MINUS] = eval_signed, [N_PLUS] = eval_signed, [N_AND] = eval_logic, [N_OR] = eval_logic, [N_COMPARE] = eval_compare, [N_ARITHMETIC] = eval_arithmetic,
    [N_CHOICE] = eval_choice};

static int enter(struct run *r, const struct node *n)
{
    r->line = n->line;
    return r->depth++ < JINJA_DEPTH_MAX ? run_charge(r, 1) : run_fail(r, "nested more than %d deep: does a macro call itself?", JINJA_DEPTH_MAX);
}

static int eval(struct run *r, const struct node *n, struct value *out)
{
    int rc = enter(r, n);
    rc = rc ? rc : evaluators[n->kind](r, n, out);
    r->depth--;
    return rc;
}

/* ---- statements ---- */

static int assign(struct run *r, const struct node *target, const struct value *v)
{
    const struct list *l;
    int rc;
    if (target->kind == N_NAME)
        return dict_set(r, &r->scope->names, own(target->text), v);
    if (target->kind == N_ATTRIBUTE) {
        struct value of;
        rc = eval(r, target->a, &of);
        if (!rc && of.kind != V_NAMESPACE)
            rc = run_fail(r, "%.*s.%.*s: only attributes of a namespace can be set", (int)target->a->text.n, target->a->text.p, (int)target->text.n, target->text.p);
        return rc ? rc : dict_set(r, of.dict, own(target->text), v);
    }
    if ((rc = value_items(r, v, &l)))
        return rc;
    size_t n = 0;
    for (const struct node *one = target->a; one && !rc; one = one->next, n++)
        rc = n < l->n ? assign(r, one, &l->item[n]) : run_fail(r, "%zu values for more names", l->n);
    return rc || n == l->n ? rc : run_fail(r, "%zu values for %zu names", l->n, n);
}

static int run_set(struct run *r, const struct node *n)
{
    struct value v;
    struct build b = {0};
    if (n->kind == N_SET) {
        int rc = eval(r, n->b, &v);
        return rc ? rc : assign(r, n->a, &v);
    }
    struct value captured = r->captured;
    struct scope *s = run_alloc(r, 1, sizeof *s);
    if (!s)
        return r->err->code;
    s->outer = r->scope;
    int rc = capture(r, n->b, s, &b);
    v = r->captured = build_done(&b);
    if (!rc && n->c)
        rc = eval(r, n->c, &v);
    r->captured = captured;
    return rc ? rc : assign(r, n->a, &v);
}

static int run_filter(struct run *r, const struct node *n)
{
    struct value v, captured = r->captured;
    struct build b = {0};
    struct scope *s = run_alloc(r, 1, sizeof *s);
    if (!s)
        return r->err->code;
    s->outer = r->scope;
    int rc = capture(r, n->b, s, &b);
    r->captured = build_done(&b);
    rc = rc ? rc : eval(r, n->a, &v);
    r->captured = captured;
    return rc ? rc : value_print(r, &v, r->out);
}

static int run_print(struct run *r, const struct node *n)
{
    struct value v;
    int rc = eval(r, n->a, &v);
    r->line = n->line;
    return rc ? rc : value_print(r, &v, r->out);
}

static int run_if(struct run *r, const struct node *n)
{
    struct value condition;
    for (;;) {
        int rc = eval(r, n->a, &condition);
        if (rc || value_true(&condition))
            return rc ? rc : run_statements(r, n->b);
        if (!n->c || n->c->kind != N_IF || n->c->next) /* an elif is an if alone in the else */
            return run_statements(r, n->c);
        n = n->c;
    }
}

static int run_macro(struct run *r, const struct node *n)
{
    struct macro *m = run_alloc(r, 1, sizeof *m);
    if (!m)
        return r->err->code;
    *m = (struct macro){n, r->scope};
    const struct value v = {.kind = V_MACRO, .macro = m};
    return dict_set(r, &r->scope->names, own(n->text), &v);
}

static int new_scope(struct run *r, struct scope *outer)
{
    struct scope *s = run_alloc(r, 1, sizeof *s);
    if (!s)
        return r->err->code;
    s->outer = outer;
    r->scope = s;
    return 0;
}

/* The items that pass the loop's own condition. */
static int filter_items(struct run *r, const struct node *n, const struct list **items)
{
    struct scope *outer = r->scope;
    struct value kept, condition;
    const struct list *all = *items;
    int rc = value_list(r, all->n, &kept);
    if (rc)
        return rc;
    kept.list->n = 0;
    for (size_t i = 0; !rc && i < all->n; i++) {
        rc = new_scope(r, outer);
        rc = rc ? rc : assign(r, n->a, &all->item[i]);
        rc = rc ? rc : eval(r, n->c, &condition);
        if (!rc && value_true(&condition))
            kept.list->item[kept.list->n++] = all->item[i];
    }
    r->scope = outer;
    *items = kept.list;
    return rc;
}

static int run_for(struct run *r, const struct node *n)
{
    struct scope *outer = r->scope;
    struct loop *loop = run_alloc(r, 1, sizeof *loop);
    struct value over;
    const struct list *items;
    if (!loop || eval(r, n->b, &over) || value_items(r, &over, &items) || (n->c && filter_items(r, n, &items)))
        return r->err->code;
    if (!items->n)
        return run_statements(r, n->e);
    *loop = (struct loop){.list = items, .depth = ++r->loops};
    const struct value name = {.kind = V_LOOP, .loop = loop};
    int rc = 0;
    for (; !rc && loop->at < items->n && r->flow != RUN_BREAK; loop->at++) {
        r->flow = RUN_ON;
        rc = new_scope(r, outer);
        rc = rc ? rc : dict_set(r, &r->scope->names, marked_of("loop"), &name);
        rc = rc ? rc : assign(r, n->a, &items->item[loop->at]);
        rc = rc ? rc : run_statements(r, n->d);
    }
    r->flow = RUN_ON;
    r->scope = outer;
    r->loops--;
    return rc;
}

static int run_one(struct run *r, const struct node *n)
{
    switch (n->kind) {
    case N_TEXT: return build_add(r, r->out, own(n->text));
    case N_PRINT: return run_print(r, n);
    case N_IF: return run_if(r, n);
    case N_FOR: return run_for(r, n);
    case N_SET:
    case N_SET_BLOCK: return run_set(r, n);
    case N_FILTER_BLOCK: return run_filter(r, n);
    case N_MACRO: return run_macro(r, n);
    case N_BODY: return run_statements(r, n->a);
    default:
        r->flow = n->kind == N_BREAK ? RUN_BREAK : RUN_CONTINUE;
        return r->loops ? 0 : run_fail(r, "break and continue belong into a for");
    }
}

int run_statements(struct run *r, const struct node *n)
{
    int rc = 0;
    for (; n && !rc && r->flow == RUN_ON; n = n->next) {
        rc = enter(r, n);
        rc = rc ? rc : run_one(r, n);
        r->depth--;
    }
    return rc;
}
