/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a file (table.h), and what becomes of those that cannot be used: each is said with its line and counted; one more than allowed ends the reading. */
#ifndef TOOLS_ROWS_H
#define TOOLS_ROWS_H

#include <jansson.h>
#include <stddef.h>

#include "layerskip.h"

struct rows {
    int allowed;   /* bad ones that are passed over */
    int limit;     /* read so many good ones and no more; 0: all */
    int good, bad; /* counted over all files */
};

/* place: "FILE: line 3", for messages. A row is an object. LSK_EDATA: the row cannot be used; other codes end the reading. */
typedef int (*row_fn)(void *ud, const json_t *row, const char *place, lsk_error *err);

int rows_are(const char *path); /* is it a NAME.jsonl? */

int rows_read(struct rows *r, const char *path, row_fn take, void *ud, lsk_error *err);

/* The row's value under that name; NULL with err set (LSK_EDATA), which names the columns that there are. */
json_t *row_column(const json_t *row, const char *name, const char *place, lsk_error *err);

#endif
