/* SPDX-License-Identifier: Apache-2.0 */
/* What templates do to texts: as methods, ".strip()", and as filters, "| trim". Marks go along with their bytes. Case is ASCII's. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/unicode.h"

/* A filter's value as text. */
static int self_text(struct run *r, const struct call *c, struct marked *out)
{
    struct build b = {0};
    *out = c->self.text;
    if (c->self.kind == V_TEXT)
        return run_charge(r, c->self.text.n / 16);
    int rc = value_print(r, &c->self, &b);
    *out = build_done(&b).text;
    return rc;
}

/* Is the character at t[at] of n bytes one of these? None given: white space. */
static bool is_among(struct marked t, size_t at, size_t n, struct marked chars, bool given)
{
    uint32_t c = 0;
    if (!given)
        return (utf8_next((const uint8_t *)t.p + at, n, &c) > 0 && char_class(c) >= CLASS_SPACE) || (c >= 0x1c && c <= 0x1f);
    for (size_t i = 0, m; i < chars.n; i += m) {
        m = marked_next(chars, i);
        if (m == n && !memcmp(chars.p + i, t.p + at, n))
            return true;
    }
    return false;
}

static int strip(struct run *r, struct call *c, struct value *out, bool left, bool right)
{
    struct marked t, chars;
    bool given = c->arg[0] && c->arg[0]->kind != V_NONE;
    if (self_text(r, c, &t) || (given && call_text(r, c, 0, "", &chars)))
        return r->err->code;
    if (!given)
        chars = marked_of("");
    size_t from = 0, to = t.n, n;
    if (run_charge(r, t.n * (1 + chars.n) / 16))
        return r->err->code;
    while (left && from < to && is_among(t, from, n = marked_next(t, from), chars, given))
        from += n;
    while (right && to > from) {
        size_t at = to - 1;
        while (at > from && (t.p[at] & 0xc0) == 0x80)
            at--;
        if (!is_among(t, at, to - at, chars, given))
            break;
        to = at;
    }
    *out = value_text(marked_slice(t, from, to));
    return 0;
}

static int do_strip(struct run *r, struct call *c, struct value *out) { return strip(r, c, out, true, true); }
static int do_lstrip(struct run *r, struct call *c, struct value *out) { return strip(r, c, out, true, false); }
static int do_rstrip(struct run *r, struct call *c, struct value *out) { return strip(r, c, out, false, true); }

static bool is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

/* first, later: what becomes of a letter at the beginning of a word (of the text, unless each_word), and of the others. */
static int change_case(struct run *r, struct call *c, struct value *out, bool first_up, bool later_up, bool each_word)
{
    struct marked t;
    if (self_text(r, c, &t))
        return r->err->code;
    char *p = run_alloc(r, t.n + 1, 1);
    if (!p || run_charge(r, t.n / 16))
        return r->err->code;
    for (size_t i = 0; i < t.n; i++) {
        bool first = each_word ? !i || !is_letter(t.p[i - 1]) : !i;
        p[i] = is_letter(t.p[i]) ? (char)((first ? first_up : later_up) ? t.p[i] & ~32 : t.p[i] | 32) : t.p[i];
    }
    *out = value_text((struct marked){p, t.user, t.n});
    return 0;
}

static int do_upper(struct run *r, struct call *c, struct value *out) { return change_case(r, c, out, true, true, false); }
static int do_lower(struct run *r, struct call *c, struct value *out) { return change_case(r, c, out, false, false, false); }
static int do_capitalize(struct run *r, struct call *c, struct value *out) { return change_case(r, c, out, true, false, false); }
static int do_title(struct run *r, struct call *c, struct value *out) { return change_case(r, c, out, true, false, true); }

static int do_string(struct run *r, struct call *c, struct value *out)
{
    struct marked t;
    int rc = self_text(r, c, &t);
    *out = value_text(t);
    return rc;
}

static int do_replace(struct run *r, struct call *c, struct value *out)
{
    struct marked t, old, new;
    struct build b = {0};
    int64_t most;
    int rc = self_text(r, c, &t);
    if (rc || (rc = call_text(r, c, 0, NULL, &old)) || (rc = call_text(r, c, 1, NULL, &new)) || (rc = call_int(r, c, 2, -1, &most)))
        return rc;
    if (!old.n)
        return run_fail(r, "replace: the text that is looked for is empty");
    size_t at = 0;
    for (size_t found; !rc && most && (found = marked_find(t, old, at)) < t.n; at = found + old.n, most--) {
        rc = run_charge(r, 1);
        rc = rc ? rc : build_add(r, &b, marked_slice(t, at, found));
        rc = rc ? rc : build_add(r, &b, new);
    }
    rc = rc ? rc : build_add(r, &b, marked_slice(t, at, t.n));
    *out = build_done(&b);
    return rc;
}

/* ---- parts ---- */

struct parts {
    struct value *item;
    size_t n, cap;
};

static int add_part(struct run *r, struct parts *p, struct marked text)
{
    if (p->n == p->cap) {
        struct value *bigger = run_alloc(r, 2 * p->cap + 8, sizeof *bigger);
        if (!bigger)
            return r->err->code;
        if (p->n)
            memcpy(bigger, p->item, p->n * sizeof *bigger);
        p->item = bigger;
        p->cap = 2 * p->cap + 8;
    }
    p->item[p->n++] = value_text(text);
    return run_charge(r, 1);
}

static int parts_done(struct run *r, const struct parts *p, struct value *out)
{
    struct list *l = run_alloc(r, 1, sizeof *l);
    if (!l)
        return r->err->code;
    *l = (struct list){.item = p->item, .n = p->n};
    *out = (struct value){.kind = V_LIST, .list = l};
    return 0;
}

/* At white space, runs of which are one, and none at the ends. */
static int split_words(struct run *r, struct marked t, int64_t most, struct parts *p)
{
    const struct marked none = marked_of("");
    int rc = 0;
    for (size_t at = 0, from, n; !rc;) {
        while (at < t.n && is_among(t, at, n = marked_next(t, at), none, false))
            at += n;
        if (at == t.n)
            break;
        for (from = at; at < t.n && (!most || !is_among(t, at, marked_next(t, at), none, false));)
            at += marked_next(t, at);
        most--;
        rc = add_part(r, p, marked_slice(t, from, at));
    }
    return rc;
}

static int do_split(struct run *r, struct call *c, struct value *out)
{
    struct marked t, by;
    struct parts p = {0};
    int64_t most;
    int rc = self_text(r, c, &t);
    if (rc || (rc = call_int(r, c, 1, -1, &most)))
        return rc;
    if (most < 0)
        most = INT64_MAX;
    if (!c->arg[0] || c->arg[0]->kind == V_NONE) {
        rc = split_words(r, t, most, &p);
        return rc ? rc : parts_done(r, &p, out);
    }
    if ((rc = call_text(r, c, 0, NULL, &by)))
        return rc;
    if (!by.n)
        return run_fail(r, "split: the separator is empty");
    size_t at = 0;
    for (size_t found; !rc && most-- && (found = marked_find(t, by, at)) < t.n; at = found + by.n)
        rc = add_part(r, &p, marked_slice(t, at, found));
    rc = rc ? rc : add_part(r, &p, marked_slice(t, at, t.n));
    return rc ? rc : parts_done(r, &p, out);
}

static size_t find_last(struct marked t, struct marked what, size_t to)
{
    for (size_t at = to < what.n ? 0 : to - what.n + 1; at-- > 0;)
        if (!memcmp(t.p + at, what.p, what.n))
            return at;
    return t.n;
}

static int do_rsplit(struct run *r, struct call *c, struct value *out)
{
    struct marked t, by;
    struct parts p = {0};
    int64_t most;
    int rc = self_text(r, c, &t);
    if (rc || (rc = call_text(r, c, 0, NULL, &by)) || (rc = call_int(r, c, 1, -1, &most)))
        return rc;
    if (!by.n)
        return run_fail(r, "rsplit: the separator is empty");
    size_t to = t.n;
    rc = run_charge(r, t.n * (1 + by.n / 16));
    for (size_t found; !rc && most-- && (found = find_last(t, by, to)) < t.n; to = found)
        rc = add_part(r, &p, marked_slice(t, found + by.n, to));
    rc = rc ? rc : add_part(r, &p, marked_slice(t, 0, to));
    for (size_t i = 0; i < p.n / 2; i++) {
        struct value swap = p.item[i];
        p.item[i] = p.item[p.n - 1 - i];
        p.item[p.n - 1 - i] = swap;
    }
    return rc ? rc : parts_done(r, &p, out);
}

static int do_splitlines(struct run *r, struct call *c, struct value *out)
{
    struct marked t;
    struct parts p = {0};
    int rc = self_text(r, c, &t);
    for (size_t at = 0, end; !rc && at < t.n; at = end + (end + 1 < t.n && t.p[end] == '\r' && t.p[end + 1] == '\n' ? 2 : 1)) {
        for (end = at; end < t.n && t.p[end] != '\n' && t.p[end] != '\r';)
            end++;
        rc = add_part(r, &p, marked_slice(t, at, end));
    }
    return rc ? rc : parts_done(r, &p, out);
}

/* ---- questions ---- */

static bool stands_at(struct marked t, struct marked what, bool end)
{
    return what.n <= t.n && (!what.n || !memcmp(end ? t.p + t.n - what.n : t.p, what.p, what.n));
}

static int stands(struct run *r, struct call *c, struct value *out, bool end)
{
    struct marked t, what;
    const struct list *l = c->arg[0] && c->arg[0]->kind == V_LIST ? c->arg[0]->list : NULL;
    int rc = self_text(r, c, &t);
    bool found = false;
    for (size_t i = 0; !rc && l && i < l->n; i++) {
        what = l->item[i].kind == V_TEXT ? l->item[i].text : marked_of("");
        rc = run_charge_texts(r, t, what);
        found |= !rc && l->item[i].kind == V_TEXT && stands_at(t, what, end);
    }
    if (!rc && !l && !(rc = call_text(r, c, 0, NULL, &what)) && !(rc = run_charge_texts(r, t, what)))
        found = stands_at(t, what, end);
    *out = value_bool(found);
    return rc;
}

static int do_startswith(struct run *r, struct call *c, struct value *out) { return stands(r, c, out, false); }
static int do_endswith(struct run *r, struct call *c, struct value *out) { return stands(r, c, out, true); }

static int remove_at(struct run *r, struct call *c, struct value *out, bool end)
{
    struct marked t, what;
    int rc = self_text(r, c, &t);
    rc = rc ? rc : call_text(r, c, 0, NULL, &what);
    if (rc)
        return rc;
    size_t n = stands_at(t, what, end) ? what.n : 0;
    *out = value_text(end ? marked_slice(t, 0, t.n - n) : marked_slice(t, n, t.n));
    return 0;
}

static int do_removeprefix(struct run *r, struct call *c, struct value *out) { return remove_at(r, c, out, false); }
static int do_removesuffix(struct run *r, struct call *c, struct value *out) { return remove_at(r, c, out, true); }

static int find(struct run *r, struct call *c, struct value *out, bool last)
{
    struct marked t, what;
    int rc = self_text(r, c, &t);
    rc = rc ? rc : call_text(r, c, 0, NULL, &what);
    rc = rc ? rc : run_charge(r, t.n * (last ? 1 + what.n / 16 : 1));
    if (rc)
        return rc;
    size_t at = last ? find_last(t, what, t.n) : marked_find(t, what, 0);
    *out = value_int(at < t.n || !what.n ? (int64_t)marked_length(marked_slice(t, 0, at)) : -1);
    return 0;
}

static int do_find(struct run *r, struct call *c, struct value *out) { return find(r, c, out, false); }
static int do_rfind(struct run *r, struct call *c, struct value *out) { return find(r, c, out, true); }

static int do_count(struct run *r, struct call *c, struct value *out)
{
    struct marked t, what;
    int64_t n = 0;
    int rc = self_text(r, c, &t);
    rc = rc ? rc : call_text(r, c, 0, NULL, &what);
    if (!rc && !what.n)
        rc = run_fail(r, "count: the text that is looked for is empty");
    for (size_t at = 0; !rc && (at = marked_find(t, what, at)) < t.n; at += what.n)
        n++;
    *out = value_int(n);
    return rc;
}

static int all_of(struct run *r, struct call *c, struct value *out, bool (*is)(char))
{
    struct marked t;
    int rc = self_text(r, c, &t);
    bool all = t.n > 0;
    for (size_t i = 0; !rc && all && i < t.n; i++)
        all = is(t.p[i]);
    *out = value_bool(all);
    return rc;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static int do_isdigit(struct run *r, struct call *c, struct value *out) { return all_of(r, c, out, is_digit); }
static int do_isalpha(struct run *r, struct call *c, struct value *out) { return all_of(r, c, out, is_letter); }

/* No letter of the other case, and at least one of its own. */
static int is_case(struct run *r, struct call *c, struct value *out, int bit)
{
    struct marked t;
    bool any = false, other = false;
    int rc = self_text(r, c, &t);
    for (size_t i = 0; !rc && i < t.n; i++) {
        any |= is_letter(t.p[i]) && (t.p[i] & 32) == bit;
        other |= is_letter(t.p[i]) && (t.p[i] & 32) != bit;
    }
    *out = value_bool(any && !other);
    return rc;
}

static int do_is_lower(struct run *r, struct call *c, struct value *out) { return is_case(r, c, out, 32); }
static int do_is_upper(struct run *r, struct call *c, struct value *out) { return is_case(r, c, out, 0); }

/* ---- joining and indenting ---- */

static int join(struct run *r, const struct value *items, struct marked by, const struct value *attribute, struct value *out)
{
    const struct list *l;
    struct build b = {0};
    int rc = value_items(r, items, &l);
    for (size_t i = 0; !rc && i < l->n; i++) {
        struct value one = l->item[i];
        if (attribute && attribute->kind == V_TEXT)
            rc = run_path(r, &l->item[i], attribute->text, &one);
        rc = rc || !i ? rc : build_add(r, &b, by);
        rc = rc ? rc : value_print(r, &one, &b);
    }
    *out = build_done(&b);
    return rc;
}

static int do_join(struct run *r, struct call *c, struct value *out)
{
    struct marked by;
    int rc = call_text(r, c, 0, "", &by);
    return rc ? rc : join(r, &c->self, by, c->arg[1], out);
}

static int do_join_method(struct run *r, struct call *c, struct value *out)
{
    return c->arg[0] ? join(r, c->arg[0], c->self.text, NULL, out) : run_fail(r, "join: of what?");
}

/* | indent(width, first, blank): later lines get that many blanks (or that text) in front; empty ones only where blank is true. */
static int do_indent(struct run *r, struct call *c, struct value *out)
{
    struct marked t, by = marked_of("");
    int64_t width = 4;
    bool first = c->arg[1] && value_true(c->arg[1]), blank = c->arg[2] && value_true(c->arg[2]), as_text = c->arg[0] && c->arg[0]->kind == V_TEXT;
    struct build b = {0};
    int rc = self_text(r, c, &t);
    rc = rc ? rc : as_text ? call_text(r, c, 0, NULL, &by) : call_int(r, c, 0, 4, &width);
    if (rc || width < 0 || width > 1000)
        return rc ? rc : run_fail(r, "indent: a width of %lld: must be 0 to 1000", (long long)width);
    char *blanks = run_alloc(r, (uint64_t)width + 1, 1);
    if (!blanks)
        return r->err->code;
    if (!as_text)
        by = (struct marked){memset(blanks, ' ', (size_t)width), NULL, (size_t)width};
    for (size_t at = 0, end; !rc && at < t.n; at = end) {
        for (end = at; end < t.n && t.p[end] != '\n';)
            end++;
        rc = (at ? blank || end > at : first) ? build_add(r, &b, by) : 0;
        end += end < t.n;
        rc = rc ? rc : build_add(r, &b, marked_slice(t, at, end));
    }
    *out = build_done(&b);
    return rc;
}

const struct builtin text_builtins[] = {
    {"trim", IN_FILTERS, "chars", do_strip},
    {"strip", IN_TEXTS, "chars", do_strip},
    {"lstrip", IN_TEXTS, "chars", do_lstrip},
    {"rstrip", IN_TEXTS, "chars", do_rstrip},
    {"upper", IN_FILTERS | IN_TEXTS, "", do_upper},
    {"lower", IN_FILTERS | IN_TEXTS, "", do_lower},
    {"capitalize", IN_FILTERS | IN_TEXTS, "", do_capitalize},
    {"title", IN_FILTERS | IN_TEXTS, "", do_title},
    {"string", IN_FILTERS, "", do_string},
    {"safe", IN_FILTERS, "", do_string},
    {"replace", IN_FILTERS | IN_TEXTS, "old new count", do_replace},
    {"split", IN_TEXTS, "sep maxsplit", do_split},
    {"rsplit", IN_TEXTS, "sep maxsplit", do_rsplit},
    {"splitlines", IN_TEXTS, "", do_splitlines},
    {"startswith", IN_TEXTS, "prefix", do_startswith},
    {"endswith", IN_TEXTS, "suffix", do_endswith},
    {"removeprefix", IN_TEXTS, "prefix", do_removeprefix},
    {"removesuffix", IN_TEXTS, "suffix", do_removesuffix},
    {"find", IN_TEXTS, "sub", do_find},
    {"rfind", IN_TEXTS, "sub", do_rfind},
    {"count", IN_TEXTS, "sub", do_count},
    {"isdigit", IN_TEXTS, "", do_isdigit},
    {"isalpha", IN_TEXTS, "", do_isalpha},
    {"lower", IN_TESTS, "", do_is_lower},
    {"upper", IN_TESTS, "", do_is_upper},
    {"islower", IN_TEXTS, "", do_is_lower},
    {"isupper", IN_TEXTS, "", do_is_upper},
    {"join", IN_FILTERS, "d attribute", do_join},
    {"join", IN_TEXTS, "items", do_join_method},
    {"indent", IN_FILTERS, "width first blank", do_indent},
    {0}};
