/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of subschemas, and what a schema is made of: values, alternatives, arrays. White space is llama.cpp's: nothing, a space, or a line and up to 20 blanks. */
#include "text/json_schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar.h"
#include "text/json_schema_parts.h"

enum { PATH_MAX_KEYS = 16, PATH_BYTES = 160 };

static const char prelude[] =
    "root ::= s0\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"
    "value ::= object | array | string | number | \"true\" | \"false\" | \"null\"\n"
    "object ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)* ws)? \"}\"\n"
    "array ::= \"[\" ws (value (\",\" ws value)* ws)? \"]\"\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "char ::= plain | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" unit)\n"
    "plain ::= [^\"\\\\\\x00-\\x1F]\n"
    "unit ::= [0-9A-CE-Fa-ce-f] hex{3} | [dD] ([0-7] hex{2} | [89abAB] hex{2} \"\\\\u\" [dD] [c-fC-F] hex{2})\n" /* no half of a pair */
    "hex ::= [0-9A-Fa-f]\n"
    "integer ::= \"-\"? digits\n"
    "digits ::= \"0\" | [1-9] [0-9]{0,15}\n"
    "number ::= integer (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?\n"
    "part ::= \".\" [0-9]{1,6}\n"
    "above ::= \".\" [0-9]{0,5} [1-9]\n"
    "zeros ::= \".\" \"0\"{1,6}\n";

/* ---- the writer ---- */

/* Where the subschema is, the last few steps of it, as a JSON pointer. */
static void write_path(const struct schema_writer *w, char out[PATH_BYTES])
{
    int way[PATH_MAX_KEYS], n = 0, i = w->at;
    for (; n < PATH_MAX_KEYS && i > 0; i = w->list[i].parent)
        way[n++] = i;
    size_t at = (size_t)snprintf(out, PATH_BYTES, "#%s", i > 0 ? "/.." : "");
    while (n-- && at < PATH_BYTES - 1) {
        const struct subschema *s = &w->list[way[n]];
        int k = s->key ? snprintf(out + at, PATH_BYTES - at, "/%s", s->key) : snprintf(out + at, PATH_BYTES - at, "/%zu", s->index);
        at += (size_t)k;
    }
}

int schema_fail(struct schema_writer *w, const char *fmt, ...)
{
    char text[300], path[PATH_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    write_path(w, path);
    fail(w->err, ERR_DATA, "%s: %s: %s", w->name, path, text);
    return ERR_DATA;
}

static int out_of_memory(struct schema_writer *w) { return fail(w->err, ERR_OS, "%s: out of memory", w->name); }

int schema_put(struct schema_writer *w, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *text = n < 0 ? NULL : grow(w->text, &w->cap, (uint64_t)w->n + (unsigned)n + 1, 1);
    if (text) {
        w->text = text;
        w->n += (uint32_t)vsnprintf(text + w->n, (size_t)n + 1, fmt, ap);
    }
    va_end(ap);
    if (!text)
        return out_of_memory(w);
    return w->n > GRAMMAR_TEXT_MAX ? schema_fail(w, "the grammar grows over %d MiB: use a smaller schema", GRAMMAR_TEXT_MAX >> 20) : 0;
}

int schema_put_literal(struct schema_writer *w, const char *text)
{
    int rc = schema_put(w, "\"");
    while (rc == 0 && *text) {
        size_t n = strcspn(text, "\"\\\n\r\t");
        rc = n ? schema_put(w, "%.*s", (int)n, text) : schema_put(w, strchr("\"\\", *text) ? "\\%c" : "\\x%02X", *text);
        text += n ? n : 1;
    }
    return rc < 0 ? rc : schema_put(w, "\"");
}

/* Reals in as few digits as say the same number: 0.1, not 0.10000000000000001. */
static char *write_value(const json_t *value)
{
    for (size_t digits = 15;; digits++) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(digits));
        json_t *again = text && digits < 17 ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        bool same = json_equal(again, value);
        json_decref(again);
        if (!text || same || digits == 17)
            return text;
        free(text);
    }
}

int schema_put_value(struct schema_writer *w, const json_t *value)
{
    char *text = write_value(value);
    int rc = text ? schema_put_literal(w, text) : out_of_memory(w);
    free(text);
    return rc;
}

int schema_number(struct schema_writer *w, json_t *schema, const char *key, size_t index)
{
    uint64_t address = (uint64_t)(uintptr_t)schema;
    struct subschema *list = grow(w->list, &w->cap_list, (uint64_t)w->numbers.n + 1, sizeof *list);
    uint32_t n = w->numbers.n;
    if (!list)
        return out_of_memory(w);
    w->list = list;
    if (n >= GRAMMAR_RULES_MAX)
        return schema_fail(w, "the schema and what its references make of it have more than %d parts", GRAMMAR_RULES_MAX);
    int64_t id = word_sets_add(&w->numbers, (uint32_t[]){(uint32_t)address, (uint32_t)(address >> 32)}, 2);
    if (id < 0)
        return out_of_memory(w);
    if (w->numbers.n > n)
        list[n] = (struct subschema){schema, w->at, key, index};
    return (int)id;
}

json_t *schema_keep(struct schema_writer *w, json_t *made)
{
    if (made && json_array_append_new(w->kept, made) == 0)
        return made;
    out_of_memory(w);
    return NULL;
}

int schema_count(struct schema_writer *w, const json_t *s, const char *key, int64_t otherwise, int64_t *n)
{
    const json_t *v = json_object_get(s, key);
    *n = v ? json_integer_value(v) : otherwise;
    if (v && (!json_is_integer(v) || *n < 0 || *n > GRAMMAR_CODE_MAX))
        return schema_fail(w, "%s is a whole number from 0 to %d", key, GRAMMAR_CODE_MAX);
    return 0;
}

/* ---- values ---- */

static int put_rule(struct schema_writer *w, json_t *schema, const char *key, size_t index)
{
    int id = schema_number(w, schema, key, index);
    return id < 0 ? id : schema_put(w, "s%d", id);
}

/* `rest` of the array: from min to max more, max < 0: any number. `first`: nothing stands before. */
static int put_rest(struct schema_writer *w, json_t *items, int64_t min, int64_t max, bool first)
{
    if (max == 0)
        return 0;
    int id = items ? schema_number(w, items, "items", 0) : 0, rc = id < 0 ? id : 0;
    char rule[16], bounds[48];
    snprintf(rule, sizeof rule, items ? "s%d" : "value", id);
    min -= min > 0 && first;
    max -= max > 0 && first;
    snprintf(bounds, sizeof bounds, max < 0 ? "{%lld,}" : "{%lld,%lld}", (long long)min, (long long)max);
    if (rc == 0 && first)
        rc = schema_put(w, "%s ", rule);
    return rc < 0 ? rc : schema_put(w, "(\",\" ws %s)%s ", rule, bounds);
}

int schema_write_array(struct schema_writer *w, const json_t *s)
{
    json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    size_t n = json_array_size(prefix);
    int64_t min, max;
    int rc = schema_count(w, s, "minItems", 0, &min);
    if (rc == 0)
        rc = schema_count(w, s, "maxItems", -1, &max);
    if (rc < 0)
        return rc;
    if (json_is_array(items) || (prefix && !json_is_array(prefix)))
        return schema_fail(w, "items is one schema and prefixItems a list of them");
    if (max >= 0 && (size_t)max < n)
        n = (size_t)max;
    int64_t more = (int64_t)n < min ? min - (int64_t)n : 0, most = json_is_false(items) ? 0 : prefix && !items ? more : max < 0 ? -1 : max - (int64_t)n;
    if (most >= 0 && most < more)
        return schema_fail(w, "minItems %lld is more than there may be", (long long)min);
    bool optional = !n && !more && most;
    rc = schema_put(w, "\"[\" ws %s", optional ? "( " : "");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = schema_put(w, i ? "\",\" ws " : "");
        if (rc == 0)
            rc = put_rule(w, json_array_get(prefix, i), "prefixItems", i);
        if (rc == 0)
            rc = schema_put(w, " ");
    }
    if (rc == 0)
        rc = put_rest(w, items, more, most, !n);
    return rc < 0 ? rc : schema_put(w, optional ? "ws )? \"]\"" : n || most ? "ws \"]\"" : "\"]\"");
}

static int write_type(struct schema_writer *w, const json_t *s, unsigned type)
{
    switch (type) {
    case IS_STRING: return schema_write_string(w, s);
    case IS_NUMBER:
    case IS_INTEGER: return schema_write_number(w, s, type == IS_INTEGER);
    case IS_OBJECT: w->object = s; return schema_put(w, "s%d-x", w->at);
    case IS_ARRAY: return schema_write_array(w, s);
    case IS_BOOLEAN: return schema_put(w, "( \"true\" | \"false\" )");
    default: return schema_put(w, "\"null\"");
    }
}

static unsigned type_of(const json_t *v)
{
    static const unsigned types[] = {[JSON_OBJECT] = IS_OBJECT, [JSON_ARRAY] = IS_ARRAY, [JSON_STRING] = IS_STRING, [JSON_INTEGER] = IS_INTEGER | IS_NUMBER, [JSON_REAL] = IS_NUMBER,
                                     [JSON_TRUE] = IS_BOOLEAN, [JSON_FALSE] = IS_BOOLEAN, [JSON_NULL] = IS_NULL};
    const unsigned t = types[json_typeof(v)];
    return json_is_real(v) && floor(json_real_value(v)) == json_real_value(v) ? t | IS_INTEGER : t;
}

/* enum and const: those values that have the type. */
static int write_values(struct schema_writer *w, json_t *s)
{
    json_t *one = json_object_get(s, "const"), *list = json_object_get(s, "enum"), *value;
    const char *key;
    unsigned types = json_object_get(s, "type") ? schema_types(s) : IS_ANY;
    int rc = 0, n = 0;
    json_object_foreach(s, key, value)
        if (schema_asserts(key) && strcmp(key, "type") != 0 && value != one && value != list)
            return schema_fail(w, "'%s' beside %s is not supported: leave out the values that it excludes", key, one ? "const" : "enum");
    if (one && list)
        return schema_fail(w, "enum beside const is not supported: const alone says it");
    for (size_t i = 0, count = one ? 1 : json_array_size(list); rc == 0 && i < count; i++) {
        value = one ? one : json_array_get(list, i);
        if (!(types & type_of(value)))
            continue;
        rc = schema_put(w, n++ ? " | " : "");
        if (rc == 0)
            rc = schema_put_value(w, value);
    }
    return rc < 0 || n ? rc : schema_fail(w, "%s has no value of the type that is asked for", one ? "const" : "enum");
}

/* The branches of anyOf or oneOf, each together with what stands beside them. */
static int write_branches(struct schema_writer *w, json_t *s, const char *key)
{
    json_t *branches = json_object_get(s, key), *rest = schema_keep(w, json_copy(s)), *value, *both = rest ? schema_keep(w, json_array()) : NULL;
    const char *other;
    bool alone = true;
    int rc = both ? 0 : ERR_OS;
    if (rc == 0 && !json_array_size(branches))
        rc = schema_fail(w, "%s is a list of schemas", key);
    if (rc < 0)
        return rc;
    json_object_del(rest, key);
    json_object_foreach(rest, other, value)
        alone = alone && !schema_asserts(other);
    for (size_t i = 0; rc == 0 && i < json_array_size(branches); i++) {
        json_t *branch = json_array_get(branches, i), *joined = alone ? NULL : json_pack("{s[OO]}", "allOf", rest, branch);
        if (!alone && (!joined || json_array_append_new(both, joined)))
            return out_of_memory(w);
        rc = schema_put(w, i ? " | " : "");
        if (rc == 0)
            rc = put_rule(w, joined ? joined : branch, key, i);
    }
    return rc < 0 || strcmp(key, "oneOf") != 0 ? rc : schema_check_one_of(w, alone ? branches : both);
}

/* A reference alone is the rule that it refers to; others become parts of a new schema. */
static int write_ref(struct schema_writer *w, json_t *s, bool *done)
{
    json_t *target = json_object_get(s, "$ref"), *value;
    const char *key;
    *done = target != NULL;
    json_object_foreach(s, key, value)
        *done = *done && (value == target || !schema_asserts(key));
    int rc = *done ? schema_find_ref(w, target, &target) : 0;
    return rc < 0 || !*done ? rc : put_rule(w, target, "$ref", 0);
}

static int write_schema(struct schema_writer *w, json_t *s)
{
    unsigned types, n = 0;
    bool done = false;
    int rc = schema_check(w, s);
    if (rc == 0)
        rc = write_ref(w, s, &done);
    if (rc == 0 && !done && (json_object_get(s, "$ref") || json_object_get(s, "allOf")))
        rc = schema_merge(w, s, &s);
    if (rc < 0 || done)
        return rc;
    if (json_object_get(s, "anyOf"))
        return write_branches(w, s, "anyOf");
    if (json_object_get(s, "oneOf"))
        return write_branches(w, s, "oneOf");
    if (json_object_get(s, "enum") || json_object_get(s, "const"))
        return write_values(w, s);
    types = schema_types(s);
    if (!types)
        return json_object_get(s, "type") ? schema_fail(w, "no type is allowed by all parts") : schema_put(w, "value");
    if (types & IS_NUMBER)
        types &= ~(unsigned)IS_INTEGER;
    for (unsigned t = 1; rc == 0 && t <= types; t *= 2)
        if (types & t) {
            rc = schema_put(w, n++ ? " | " : "");
            if (rc == 0)
                rc = write_type(w, s, t);
        }
    return rc;
}

/* ---- the whole ---- */

static int write_all(struct schema_writer *w)
{
    int rc = schema_put(w, "%s", prelude);
    if (rc == 0)
        rc = schema_number(w, w->root, "", 0);
    for (int i = 0; rc >= 0 && i < (int)w->numbers.n; i++) {
        w->at = i;
        rc = schema_put(w, "s%d ::= ", i);
        if (rc == 0)
            rc = write_schema(w, w->list[i].schema);
        if (rc == 0)
            rc = schema_put(w, "\n");
        if (rc == 0 && w->object)
            rc = schema_write_object(w, w->object);
        w->object = NULL;
    }
    return rc;
}

char *json_schema_to_gbnf(const char *name, struct bytes schema, struct error *err)
{
    json_error_t e;
    struct schema_writer w = {.name = name, .err = err, .at = -1};
    if (schema.n > JSON_SCHEMA_MAX) {
        fail(err, ERR_DATA, "%s: %zu bytes; a schema of up to %d is read", name, schema.n, JSON_SCHEMA_MAX);
        return NULL;
    }
    w.root = json_loadb((const char *)schema.p, schema.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    w.kept = json_array();
    int rc = -1;
    if (!w.root)
        rc = fail(err, ERR_DATA, "%s: line %d, column %d: %s", name, e.line, e.column, e.text);
    else
        rc = w.kept ? write_all(&w) : out_of_memory(&w);
    json_decref(w.root);
    json_decref(w.kept);
    word_sets_free(&w.numbers);
    free(w.list);
    if (rc >= 0)
        return w.text;
    free(w.text);
    return NULL;
}
