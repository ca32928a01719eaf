/* SPDX-License-Identifier: Apache-2.0 */
/* Objects: properties in the order of the schema, those that are not required left out or not, then others where they are asked for.
   Rules of the object in s3: s3-x is it, s3-p0, s3-p1, ... continue it where no property stands yet, s3-q0, s3-q1, ... where one does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar.h"
#include "text/json_schema_parts.h"

struct property {
    const char *name;
    json_t *schema; /* NULL: any value */
    bool required, never; /* never: it may not be there at all */
};

struct object {
    struct property *list; /* required ones that `properties` lacks come last */
    uint32_t n, cap;
    bool more;             /* others may follow */
    json_t *others;        /* their schema, NULL: any value */
};

static int out_of_memory(struct schema_writer *w) { return fail(w->err, ERR_OS, "%s: out of memory", w->name); }

static int add_property(struct schema_writer *w, struct object *o, const char *name, json_t *schema, bool required)
{
    bool never = json_is_false(schema);
    struct property *list = grow(o->list, &o->cap, (uint64_t)o->n + 1, sizeof *list);
    if (!list)
        return out_of_memory(w);
    o->list = list;
    if (never && required)
        return schema_fail(w, "required: '%s' can never be there: its schema is false", name);
    list[o->n++] = (struct property){name, schema, required, never};
    return 0;
}

/* The list of names as an object, for looking them up. */
static json_t *index_names(struct schema_writer *w, const json_t *list)
{
    json_t *names = schema_keep(w, json_object());
    for (size_t i = 0; names && i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name)
            schema_fail(w, "required is a list of names");
        else if (json_object_set_new(names, name, json_true()))
            out_of_memory(w);
        else
            continue;
        return NULL;
    }
    return names;
}

static int read_object(struct schema_writer *w, const json_t *s, struct object *o)
{
    json_t *properties = json_object_get(s, "properties"), *required = json_object_get(s, "required"), *additional = json_object_get(s, "additionalProperties"), *value;
    const char *key;
    int rc = 0;
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required)))
        return schema_fail(w, "properties is an object of schemas and required a list of names");
    json_t *needed = index_names(w, required);
    if (!needed)
        return ERR_DATA;
    o->more = additional ? !json_is_false(additional) : !properties && !required;
    o->others = json_is_boolean(additional) ? NULL : additional;
    json_object_foreach(properties, key, value)
        if (rc == 0)
            rc = add_property(w, o, key, value, json_object_get(needed, key) != NULL);
    json_object_foreach(needed, key, value) {
        bool named = json_object_get(properties, key) != NULL;
        if (!named && json_is_false(additional))
            return schema_fail(w, "required: '%s' can never be there: add it to properties", key);
        if (rc == 0 && !named)
            rc = add_property(w, o, key, o->others, true);
    }
    return rc;
}

/* ---- other properties: a key that is none of the names ---- */

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* A node of the tree of names: names lo .. hi-1 have their first `depth` bytes in common. */
struct names {
    uint32_t lo, hi, depth;
};

/* Keys that leave the tree at this node, or go on to a child. */
static int put_node(struct schema_writer *w, const char **name, struct names node, struct names **list, uint32_t *n, uint32_t *cap)
{
    bool ends = !name[node.lo][node.depth];
    int rc = schema_put(w, "%s", ends ? "" : "\"\\\"\" | ");
    uint32_t from = *n;
    for (uint32_t i = node.lo + ends; rc == 0 && i < node.hi;) {
        const char *at = name[i] + node.depth;
        uint32_t c, end = i + 1;
        int bytes = utf8_next((const uint8_t *)at, strnlen(at, 4), &c);
        while (end < node.hi && strncmp(name[end] + node.depth, at, (size_t)bytes) == 0)
            end++;
        if (*n >= GRAMMAR_RULES_MAX)
            return schema_fail(w, "additionalProperties beside properties whose names have more than %d characters: use false", GRAMMAR_RULES_MAX);
        struct names *grown = grow(*list, cap, (uint64_t)*n + 1, sizeof *grown);
        if (!grown)
            return out_of_memory(w);
        *list = grown;
        rc = schema_put(w, "[\\U%08X] s%d-k%u | ", c, w->at, *n);
        grown[(*n)++] = (struct names){i, end, node.depth + (uint32_t)bytes};
        i = end;
    }
    if (rc == 0)
        rc = schema_put(w, "[^\"\\\\\\x00-\\x1F");
    for (uint32_t i = from; rc == 0 && i < *n; i++) {
        uint32_t c;
        const char *at = name[(*list)[i].lo] + node.depth;
        utf8_next((const uint8_t *)at, strnlen(at, 4), &c);
        rc = schema_put(w, "\\U%08X", c);
    }
    return rc < 0 ? rc : schema_put(w, "] plain* \"\\\"\"\n");
}

/* Rules s3-k0, ...: what follows the quotation mark of such a key, which is written without escapes: names that need some cannot come about. */
static int put_other_keys(struct schema_writer *w, const struct object *o)
{
    const char **name = calloc((size_t)o->n + 1, sizeof *name);
    struct names *list = NULL;
    uint32_t used = 0, n = 0, cap = 0;
    int rc = name ? 0 : out_of_memory(w);
    for (uint32_t i = 0; rc == 0 && i < o->n; i++) {
        bool plain = true;
        for (const char *c = o->list[i].name; *c; c++)
            plain = plain && *c != '"' && *c != '\\' && (unsigned char)*c >= ' ';
        if (plain)
            name[used++] = o->list[i].name;
    }
    if (rc == 0 && used) {
        qsort(name, used, sizeof *name, by_name);
        list = grow(NULL, &cap, 1, sizeof *list);
        rc = list ? 0 : out_of_memory(w);
        n = 1;
        if (list)
            *list = (struct names){0, used, 0};
    } else if (rc == 0)
        rc = schema_put(w, "s%d-k0 ::= plain* \"\\\"\"\n", w->at);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = schema_put(w, "s%d-k%u ::= ", w->at, i);
        if (rc == 0)
            rc = put_node(w, name, list[i], &list, &n, &cap);
    }
    free(name);
    free(list);
    return rc;
}

/* ---- members ---- */

/* s3-o: another property. */
static int put_others(struct schema_writer *w, const struct object *o)
{
    int id = o->others ? schema_number(w, o->others, "additionalProperties", 0) : 0, rc = id < 0 ? id : 0;
    if (rc == 0)
        rc = o->n ? schema_put(w, "s%d-o ::= \"\\\"\" s%d-k0 \":\" ws ", w->at, w->at) : schema_put(w, "s%d-o ::= string \":\" ws ", w->at);
    if (rc == 0)
        rc = o->others ? schema_put(w, "s%d\n", id) : schema_put(w, "value\n");
    return rc < 0 || !o->n ? rc : put_other_keys(w, o);
}

/* "name": value */
static int put_member(struct schema_writer *w, const struct property *p)
{
    json_t *name = json_string(p->name);
    int id = p->schema ? schema_number(w, p->schema, p->name, 0) : 0;
    int rc = id < 0 ? id : name ? schema_put_value(w, name) : out_of_memory(w);
    json_decref(name);
    if (rc == 0)
        rc = schema_put(w, " \":\" ws ");
    return rc < 0 ? rc : p->schema ? schema_put(w, "s%d ", id) : schema_put(w, "value ");
}

/* Rules s3-p0, ... up to the first required property, s3-q0, ...: each says its property, or not, and goes on with the next. */
static int put_chain(struct schema_writer *w, const struct object *o, char chain, const char *none)
{
    int rc = 0;
    bool open = true;
    for (uint32_t i = 0; rc == 0 && open && i < o->n; i++) {
        const struct property *p = &o->list[i];
        if (p->never) {
            rc = schema_put(w, "s%d-%c%u ::= s%d-%c%u\n", w->at, chain, i, w->at, chain, i + 1);
            continue;
        }
        rc = schema_put(w, chain == 'p' ? "s%d-%c%u ::= " : "s%d-%c%u ::= \",\" ws ", w->at, chain, i);
        if (rc == 0)
            rc = put_member(w, p);
        if (rc == 0)
            rc = schema_put(w, "s%d-q%u", w->at, i + 1);
        if (rc == 0 && !p->required)
            rc = schema_put(w, " | s%d-%c%u", w->at, chain, i + 1);
        if (rc == 0)
            rc = schema_put(w, "\n");
        open = chain == 'q' || !p->required;
    }
    return rc < 0 || !open ? rc : schema_put(w, "s%d-%c%u ::= %s\n", w->at, chain, o->n, none);
}

/* s3-x without named properties: their number can be bounded. */
static int put_map(struct schema_writer *w, int64_t min, int64_t max)
{
    if (max == 0)
        return schema_put(w, "s%d-x ::= \"{\" ws \"}\"\n", w->at);
    int rc = schema_put(w, "s%d-x ::= \"{\" ws ( s%d-o (\",\" ws s%d-o){%lld,", w->at, w->at, w->at, (long long)(min ? min - 1 : 0));
    if (rc == 0 && max > 0)
        rc = schema_put(w, "%lld", (long long)max - 1);
    return rc < 0 ? rc : schema_put(w, "} ws )%s \"}\"\n", min ? "" : "?");
}

static int put_object(struct schema_writer *w, const struct object *o)
{
    char others[64], all[96];
    snprintf(others, sizeof others, o->more ? "(\",\" ws s%d-o)* ws" : "ws", w->at);
    snprintf(all, sizeof all, o->more ? "( s%d-o %s )?" : "\"\"", w->at, others);
    int rc = schema_put(w, "s%d-x ::= \"{\" ws s%d-p0 \"}\"\n", w->at, w->at);
    if (rc == 0)
        rc = put_chain(w, o, 'p', all);
    return rc < 0 ? rc : put_chain(w, o, 'q', others);
}

static int write_object(struct schema_writer *w, const json_t *s, struct object *o)
{
    int64_t required = 0, min, max;
    int rc = read_object(w, s, o);
    if (rc == 0)
        rc = schema_count(w, s, "minProperties", 0, &min);
    if (rc == 0)
        rc = schema_count(w, s, "maxProperties", -1, &max);
    for (uint32_t i = 0; i < o->n; i++)
        required += o->list[i].required;
    if (rc < 0)
        return rc;
    bool map = o->more && !o->n;
    if ((max >= 0 && max < min) || (!map && (min > required || (max >= 0 && (o->more || max < (int64_t)o->n)))))
        return schema_fail(w, "minProperties and maxProperties bound objects without named properties only: say required instead");
    rc = map ? put_map(w, min, max) : put_object(w, o);
    return rc < 0 || !o->more ? rc : put_others(w, o);
}

int schema_write_object(struct schema_writer *w, const json_t *s)
{
    struct object o = {0};
    int rc = write_object(w, s, &o);
    free(o.list);
    return rc;
}
