/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that turn a schema into a grammar. Every subschema becomes a rule s0, s1, ... in the order of a queue, so nothing here recurses on input. */
#ifndef TEXT_JSON_SCHEMA_PARTS_H
#define TEXT_JSON_SCHEMA_PARTS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "text/word_sets.h"

enum json_types { IS_STRING = 1, IS_NUMBER = 2, IS_INTEGER = 4, IS_OBJECT = 8, IS_ARRAY = 16, IS_BOOLEAN = 32, IS_NULL = 64, IS_ANY = 127 };

struct subschema {
    json_t *schema;  /* borrowed from the root or from `kept` */
    int parent;      /* -1: the root */
    const char *key; /* below the parent */
    size_t index;    /* key == NULL: in an array */
};

struct schema_writer {
    const char *name;
    json_t *root, *kept;      /* kept: an array of what was made on the way */
    char *text;
    uint32_t n, cap;
    struct word_sets numbers; /* a subschema's address gives its number */
    struct subschema *list;   /* [numbers.n] */
    uint32_t cap_list;
    int at;                   /* the one that is being written */
    const json_t *object;     /* that it is, if it may be one: its rules come behind it */
    uint32_t work;            /* of merging and comparing */
    struct error *err;
};

/* All return below zero after an error. */
int schema_fail(struct schema_writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* with the place in front */
int schema_put(struct schema_writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int schema_put_literal(struct schema_writer *w, const char *text);      /* as a GBNF literal */
int schema_put_value(struct schema_writer *w, const json_t *value);     /* the literal of its JSON text */
int schema_number(struct schema_writer *w, json_t *schema, const char *key, size_t index); /* the subschema's number, old or new */
json_t *schema_keep(struct schema_writer *w, json_t *made);             /* takes the reference; NULL: out of memory, err is set */
int schema_count(struct schema_writer *w, const json_t *s, const char *key, int64_t otherwise, int64_t *n);

/* json_schema_merge.c */
int schema_check(struct schema_writer *w, const json_t *s);             /* every keyword is known */
int schema_find_ref(struct schema_writer *w, const json_t *ref, json_t **found);
int schema_merge(struct schema_writer *w, json_t *s, json_t **merged);  /* without $ref and allOf */
bool schema_asserts(const char *key);                                   /* no annotation */
unsigned schema_types(const json_t *s);                                 /* enum json_types, as `type` or else the keywords say; 0: any */
int schema_check_one_of(struct schema_writer *w, const json_t *branches);

int schema_write_string(struct schema_writer *w, const json_t *s);
int schema_write_number(struct schema_writer *w, const json_t *s, bool integer);
int schema_write_object(struct schema_writer *w, const json_t *s); /* whole rules, that of the object itself being s<at>-x */
int schema_write_array(struct schema_writer *w, const json_t *s);

#endif
