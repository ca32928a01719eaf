/* SPDX-License-Identifier: Apache-2.0 */
/* An array of flat objects as a table: the first object's keys are its columns. */
#ifndef TOOLS_JSON_TABLE_H
#define TOOLS_JSON_TABLE_H

#include <jansson.h>
#include <stdio.h>

void json_table_markdown(FILE *out, const json_t *rows);
void json_table_html(FILE *out, const json_t *rows);

double json_number(const json_t *object, const char *key);      /* NAN where it is none */
const char *json_text(const json_t *object, const char *key);   /* "" where it is none */
json_t *json_whole(json_t *list, size_t n); /* the list, if as many were added to it; else it is freed, and NULL */
json_t *json_of_bytes(const char *text); /* a file's name or an argument; bytes that are not UTF-8 become U+FFFD; NULL: out of memory */

#endif
