/* SPDX-License-Identifier: Apache-2.0 */
/* Keywords: which there are, what they speak of, and what two of them mean together ($ref beside others, allOf, branches of anyOf). */
#include <stdlib.h>
#include <string.h>

#include "text/json_schema_parts.h"

enum { HOPS_MAX = 32, WORK_MAX = 1 << 18, BRANCHES_MAX = 128 };

enum meaning {
    NOTE,       /* says nothing about the value */
    ONCE,       /* two different ones are refused */
    LARGEST,    /* numbers */
    SMALLEST,
    UNION,      /* lists */
    COMMON,
    BOTH,       /* schemas: both hold */
    EACH_BOTH,  /* objects of schemas */
    CLOSED,     /* additionalProperties */
    STRUCTURE,  /* $ref and allOf: what is merged */
    NO          /* only `false` is understood */
};

static const struct keyword {
    const char *name;
    enum meaning meaning;
    unsigned types; /* that it speaks of */
} keywords[] = {
    {"$anchor", NOTE, 0}, {"$comment", NOTE, 0}, {"$defs", NOTE, 0}, {"$id", NOTE, 0}, {"$schema", NOTE, 0}, {"default", NOTE, 0}, {"definitions", NOTE, 0},
    {"deprecated", NOTE, 0}, {"description", NOTE, 0}, {"discriminator", NOTE, 0}, {"example", NOTE, 0}, {"examples", NOTE, 0}, {"id", NOTE, 0},
    {"readOnly", NOTE, 0}, {"strict", NOTE, 0}, {"title", NOTE, 0}, {"writeOnly", NOTE, 0},
    {"$ref", STRUCTURE, 0}, {"allOf", STRUCTURE, 0}, {"anyOf", ONCE, 0}, {"oneOf", ONCE, 0},
    {"type", COMMON, 0}, {"enum", COMMON, 0}, {"const", ONCE, 0},
    {"properties", EACH_BOTH, IS_OBJECT}, {"required", UNION, IS_OBJECT}, {"additionalProperties", CLOSED, IS_OBJECT},
    {"minProperties", LARGEST, IS_OBJECT}, {"maxProperties", SMALLEST, IS_OBJECT},
    {"items", BOTH, IS_ARRAY}, {"prefixItems", ONCE, IS_ARRAY}, {"minItems", LARGEST, IS_ARRAY}, {"maxItems", SMALLEST, IS_ARRAY}, {"uniqueItems", NO, IS_ARRAY},
    {"minLength", LARGEST, IS_STRING}, {"maxLength", SMALLEST, IS_STRING}, {"pattern", ONCE, IS_STRING}, {"format", ONCE, IS_STRING},
    {"minimum", LARGEST, IS_NUMBER}, {"exclusiveMinimum", LARGEST, IS_NUMBER}, {"maximum", SMALLEST, IS_NUMBER}, {"exclusiveMaximum", SMALLEST, IS_NUMBER},
    {"nullable", NO, 0},
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

bool schema_asserts(const char *key) { return find_keyword(key)->meaning != NOTE; }

static unsigned type_named(const char *name)
{
    static const char *const names[] = {"string", "number", "integer", "object", "array", "boolean", "null"};
    for (unsigned i = 0; name && i < 7; i++)
        if (strcmp(names[i], name) == 0)
            return 1u << i;
    return 0;
}

static unsigned types_said(const json_t *type)
{
    unsigned types = type_named(json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++)
        types |= type_named(json_string_value(json_array_get(type, i)));
    return types;
}

static bool types_known(const json_t *type)
{
    for (size_t i = 0; i < json_array_size(type); i++)
        if (!type_named(json_string_value(json_array_get(type, i))))
            return false;
    return types_said(type) != 0;
}

int schema_check(struct schema_writer *w, const json_t *s)
{
    const char *key;
    json_t *value;
    if (json_is_false(s))
        return schema_fail(w, "false: no value is allowed here: remove what leads to it");
    if (!json_is_object(s) && !json_is_true(s))
        return schema_fail(w, "a schema is an object, true or false");
    json_object_foreach((json_t *)s, key, value) {
        const struct keyword *k = find_keyword(key);
        if (!k || (k->meaning == NO && !json_is_false(value)))
            return schema_fail(w, "keyword '%s' is not supported: remove it, or say it another way", key);
        if (strcmp(key, "type") == 0 && !types_known(value))
            return schema_fail(w, "type is a name or a list of names: string, number, integer, object, array, boolean, null");
    }
    return 0;
}

unsigned schema_types(const json_t *s)
{
    const json_t *type = json_object_get(s, "type");
    unsigned types = types_said(type);
    const char *key;
    json_t *value;
    if (!type)
        json_object_foreach((json_t *)s, key, value)
            types |= find_keyword(key)->types;
    return types;
}

/* ---- references ---- */

/* One step of a JSON pointer; *at moves behind it. */
static json_t *follow(json_t *in, const char **at)
{
    char key[256];
    size_t n = 0;
    const char *p = *at;
    for (; *p && *p != '/' && n < sizeof key - 1; p++) {
        char c = *p;
        if (c == '%' || (c == '~' && p[1] != '0' && p[1] != '1'))
            return NULL;
        if (c == '~')
            c = *++p == '0' ? '~' : '/';
        key[n++] = c;
    }
    if (*p && *p != '/')
        return NULL;
    key[n] = 0;
    *at = p;
    if (!json_is_array(in))
        return json_object_get(in, key);
    char *end;
    unsigned long index = strtoul(key, &end, 10);
    return !n || *end || *key < '0' || *key > '9' ? NULL : json_array_get(in, index);
}

int schema_find_ref(struct schema_writer *w, const json_t *ref, json_t **found)
{
    const char *text = json_string_value(ref), *at = text ? text + 1 : NULL;
    json_t *s = w->root;
    if (!text || *text != '#' || (*at && *at != '/'))
        return schema_fail(w, "$ref '%s': only references into this schema (#, #/...) are followed: copy the other one into $defs", text ? text : "");
    while (s && *at++ == '/')
        s = follow(s, &at);
    if (!s)
        return schema_fail(w, "$ref '%s': there is nothing", text);
    *found = s;
    return 0;
}

/* ---- merging ---- */

/* Counts work, so that a small schema cannot make much of it; false: it is too much. */
static bool worth(struct schema_writer *w, size_t steps)
{
    w->work += steps < WORK_MAX && w->work <= WORK_MAX ? (uint32_t)steps : WORK_MAX;
    return w->work <= WORK_MAX;
}

static bool contains(const json_t *list, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), value))
            return true;
    return false;
}

/* The value, or NULL when making it failed. */
static json_t *unless(int bad, json_t *made)
{
    if (!bad)
        return made;
    json_decref(made);
    return NULL;
}

/* Lists, or for `type` perhaps a single name. */
static json_t *join_lists(json_t *a, json_t *b, bool common)
{
    json_t *list = json_array();
    const json_t *second = json_is_array(b) ? b : NULL;
    int bad = 0;
    for (size_t i = 0, n = json_is_array(a) ? json_array_size(a) : 1; i < n; i++) {
        json_t *v = json_is_array(a) ? json_array_get(a, i) : a;
        if (!common || (second ? contains(second, v) : json_equal(b, v)))
            bad |= json_array_append(list, v);
    }
    for (size_t i = 0; !common && i < json_array_size(b); i++)
        if (!contains(a, json_array_get(b, i)))
            bad |= json_array_append(list, json_array_get(b, i));
    return unless(bad, list);
}

static json_t *both(json_t *a, json_t *b) { return json_equal(a, b) ? json_incref(a) : json_pack("{s[OO]}", "allOf", a, b); }

static json_t *join_properties(json_t *a, json_t *b)
{
    json_t *out = json_copy(a), *value;
    const char *key;
    int bad = 0;
    json_object_foreach(b, key, value) {
        json_t *had = json_object_get(a, key);
        bad |= json_object_set_new(out, key, had ? both(had, value) : json_incref(value));
    }
    return unless(bad, out);
}

/* "number" and "integer" have integers in common. */
static json_t *join_types(json_t *a, json_t *b)
{
    bool integer_a = (types_said(a) & (IS_INTEGER | IS_NUMBER)) == IS_INTEGER, integer_b = (types_said(b) & (IS_INTEGER | IS_NUMBER)) == IS_INTEGER;
    json_t *list = join_lists(a, b, true);
    int bad = 0;
    if ((integer_a && types_said(b) & IS_NUMBER && !(types_said(b) & IS_INTEGER)) || (integer_b && types_said(a) & IS_NUMBER && !(types_said(a) & IS_INTEGER)))
        bad = json_array_append_new(list, json_string("integer"));
    return unless(bad, list);
}

/* A second value of a keyword; NULL: they do not go together. */
static json_t *join(const struct keyword *k, json_t *a, json_t *b)
{
    bool numbers = json_is_number(a) && json_is_number(b), larger = numbers && json_number_value(a) > json_number_value(b);
    if (k->meaning == NOTE || k->meaning == NO || json_equal(a, b))
        return json_incref(a);
    switch (k->meaning) {
    case LARGEST: return numbers ? json_incref(larger ? a : b) : NULL;
    case SMALLEST: return numbers ? json_incref(larger ? b : a) : NULL;
    case UNION: return json_is_array(a) && json_is_array(b) ? join_lists(a, b, false) : NULL;
    case COMMON: return strcmp(k->name, "type") == 0 ? join_types(a, b) : json_is_array(a) && json_is_array(b) ? join_lists(a, b, true) : NULL;
    case BOTH: return both(a, b);
    case EACH_BOTH: return json_is_object(a) && json_is_object(b) ? join_properties(a, b) : NULL;
    case CLOSED: return json_is_false(a) || json_is_true(b) ? json_incref(a) : json_is_false(b) || json_is_true(a) ? json_incref(b) : both(a, b);
    default: return NULL;
    }
}

/* What `items` speaks of depends on prefixItems beside it, so two lists of items go together only where those are the same. */
static bool items_agree(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "prefixItems"), *y = json_object_get(b, "prefixItems");
    bool both_say = (x || json_object_get(a, "items")) && (y || json_object_get(b, "items"));
    return !both_say || (!x && !y) || (x && y && json_equal(x, y));
}

/* Adds a part to *out; closed: the parts that say additionalProperties. Depth: HOPS_MAX. */
static int merge(struct schema_writer *w, json_t *part, json_t *out, json_t *closed, int hops)
{
    const char *key;
    json_t *value, *target = NULL;
    int rc = schema_check(w, part);
    if (rc == 0 && (hops > HOPS_MAX || !worth(w, 1 + json_object_size(part) + json_object_size(json_object_get(part, "properties")))))
        rc = schema_fail(w, "$ref and allOf lead through too many schemas: one of them contains itself, perhaps");
    if (rc < 0 || json_is_true(part))
        return rc;
    if (!items_agree(part, out))
        return schema_fail(w, "'prefixItems' and 'items' of different parts ($ref and allOf taken together): say them in one");
    json_object_foreach(part, key, value) {
        const struct keyword *k = find_keyword(key);
        json_t *had = json_object_get(out, key);
        if (k->meaning == STRUCTURE)
            continue;
        if (had && !worth(w, json_array_size(had) * json_array_size(value)))
            return schema_fail(w, "'%s' is said twice ($ref and allOf taken together), at great length: say it once", key);
        json_t *joined = had ? join(k, had, value) : json_incref(value);
        if (!joined)
            return schema_fail(w, "'%s' is said twice and differently ($ref and allOf taken together): say it once", key);
        if (json_object_set_new(out, key, joined))
            return fail(w->err, ERR_OS, "%s: out of memory", w->name);
    }
    value = json_object_get(part, "additionalProperties");
    if (value && !json_is_true(value) && json_array_append(closed, part))
        return fail(w->err, ERR_OS, "%s: out of memory", w->name);
    if ((value = json_object_get(part, "$ref")) != NULL)
        rc = schema_find_ref(w, value, &target);
    if (rc == 0 && target)
        rc = merge(w, target, out, closed, hops + 1);
    value = json_object_get(part, "allOf");
    if (rc == 0 && value && !json_array_size(value))
        rc = schema_fail(w, "allOf is a list of schemas");
    for (size_t i = 0; rc == 0 && i < json_array_size(value); i++)
        rc = merge(w, json_array_get(value, i), out, closed, hops + 1);
    return rc;
}

int schema_merge(struct schema_writer *w, json_t *s, json_t **merged)
{
    json_t *closed = schema_keep(w, json_array()), *out = schema_keep(w, json_object()), *value;
    const char *key;
    int rc = closed && out ? merge(w, s, out, closed, 0) : ERR_OS;
    if (rc == 0)
        json_object_foreach(json_object_get(out, "properties"), key, value)
            for (size_t i = 0; i < json_array_size(closed); i++)
                if (!json_object_get(json_object_get(json_array_get(closed, i), "properties"), key))
                    return schema_fail(w, "property '%s' is not among those of a part of $ref or allOf that says additionalProperties: add it there", key);
    *merged = out;
    return rc;
}

/* ---- oneOf ---- */

/* A schema that allows a few values only: their number, and each. */
static size_t n_values(const json_t *s) { return json_object_get(s, "const") ? 1 : json_array_size(json_object_get(s, "enum")); }

static const json_t *value_at(const json_t *s, size_t i)
{
    const json_t *one = json_object_get(s, "const");
    return one ? one : json_array_get(json_object_get(s, "enum"), i);
}

/* Both allow a few values, none in common. Only plain values are compared, so that 1 and 1.0 are seen to be equal. */
static bool values_differ(struct schema_writer *w, const json_t *a, const json_t *b)
{
    size_t n = n_values(a), m = n_values(b);
    if (!n || !m || !worth(w, n * m))
        return false;
    for (size_t i = 0; i < n * m; i++) {
        const json_t *x = value_at(a, i / m), *y = value_at(b, i % m);
        bool numbers = json_is_number(x) && json_is_number(y), deep = json_is_array(x) || json_is_object(x);
        if (deep || (numbers ? json_number_value(x) == json_number_value(y) : json_equal(x, y)))
            return false;
    }
    return true;
}

static bool requires(struct schema_writer *w, const json_t *s, const char *key)
{
    const json_t *list = json_object_get(s, "required");
    bool found = false;
    for (size_t i = 0; worth(w, 1) && !found && i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        found = name && strcmp(name, key) == 0;
    }
    return found;
}

/* No value is valid against both: other types, other values, or a property that tells them apart. */
static bool apart(struct schema_writer *w, const json_t *a, const json_t *b)
{
    bool typed = json_object_get(a, "type") && json_object_get(b, "type");
    unsigned x = schema_types(a), y = schema_types(b);
    json_t *value;
    const char *key;
    x |= x & IS_NUMBER ? IS_INTEGER : 0;
    y |= y & IS_NUMBER ? IS_INTEGER : 0;
    if ((typed && !(x & y)) || values_differ(w, a, b))
        return true;
    if (!typed || (x & y) != IS_OBJECT)
        return false;
    json_object_foreach(json_object_get(a, "properties"), key, value)
        if ((requires(w, a, key) || requires(w, b, key)) && values_differ(w, value, json_object_get(json_object_get(b, "properties"), key)))
            return true;
    return false;
}

int schema_check_one_of(struct schema_writer *w, const json_t *branches)
{
    json_t *merged[BRANCHES_MAX];
    size_t n = json_array_size(branches);
    if (n > BRANCHES_MAX)
        return schema_fail(w, "oneOf has %zu branches, up to %d are supported: use anyOf", n, BRANCHES_MAX);
    for (size_t i = 0; i < n; i++) {
        int rc = schema_merge(w, json_array_get(branches, i), &merged[i]);
        if (rc < 0)
            return rc;
        for (size_t k = 0; k < i; k++)
            if (!apart(w, merged[k], merged[i]))
                return schema_fail(w, "oneOf: a value might fit branches %zu and %zu: use anyOf, or tell them apart by type, const, enum or a required property with those", k, i);
    }
    return 0;
}
