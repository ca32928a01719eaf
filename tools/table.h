/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of a JSONL, CSV or TSV file, one after the other, as JSON objects: one reader for data sets, whatever form they were published in. A row that cannot be read is said to be bad, and why;
   the next one is read all the same. Memory is that of one row. */
#ifndef TOOLS_TABLE_H
#define TOOLS_TABLE_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "layerskip.h"

enum { TABLE_ROW_MAX = 4 << 20 /* bytes */ };
enum table_form { TABLE_JSONL, TABLE_CSV, TABLE_TSV };

struct table {
    FILE *file;
    const char *name; /* for messages; borrowed */
    enum table_form form;
    int64_t offset, line; /* where the next row begins; lines from 1 */
    unsigned char head[256]; /* what was read to see the form, */
    size_t n_head, at_head;  /* and what of it no row has yet: a pipe has no way back */
    uint64_t hash;        /* of the bytes read so far, in order */
    json_t *columns;      /* the names in the first line; NULL in JSONL */
    char *text;           /* of the present row */
    size_t n, cap;
    int too_long;
};

struct table_row {
    int64_t offset, line;
    json_t *object; /* owned by the caller; NULL: a bad row */
    char bad[160];  /* why */
};

/* JSONL begins with { or is named .jsonl, the others are told apart by their name (.csv, .tsv). "-" is stdin. Close it in any case. */
int table_open(struct table *t, const char *path, lsk_error *err);
int table_start(struct table *t, FILE *file, const char *name, lsk_error *err); /* takes the file over */
void table_close(struct table *t);

int table_next(struct table *t, struct table_row *row, lsk_error *err);                   /* 1, or 0 at the end; empty lines are no rows */
int table_read(struct table *t, int64_t offset, struct table_row *row, lsk_error *err);   /* the row that began there; 1, or an error when it is there no more. Not of a pipe */

/* "\"a\", \"b\"": the columns of a row. */
struct column_names {
    char text[200];
};
struct column_names table_columns(const json_t *row);

#endif
