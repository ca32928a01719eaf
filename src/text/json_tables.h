/* SPDX-License-Identifier: Apache-2.0 */
/* The two large tables of tokenizer.json, model.vocab and model.merges, read in place: a tree of half a million small values would cost ten
   times the work and memory. Everything else in the file is small and becomes a tree. */
#ifndef TEXT_JSON_TABLES_H
#define TEXT_JSON_TABLES_H

#include <jansson.h>

#include "base/error.h"
#include "text/piece_map.h"

struct json_texts {
    struct bytes *p; /* [n] with a zero behind each */
    size_t n, cap;
};

struct json_tables {
    json_t *rest;            /* the file, both tables empty */
    struct json_texts token; /* the keys of model.vocab in file order, */
    struct json_texts id;    /* and what each stands for, as it is written */
    struct piece_map map;    /* token -> its index in both */
    struct json_texts part;  /* left and right of every merge in turn */
    char *text;              /* a copy of the file, which all of these point into */
    struct arena arena;
};

/* On failure *t holds nothing; else the caller closes it. */
int json_tables_open(struct json_tables *t, const char *name, struct bytes json, struct error *err);
void json_tables_close(struct json_tables *t);

#endif
