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

#endif
