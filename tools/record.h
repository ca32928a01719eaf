/* SPDX-License-Identifier: Apache-2.0 */
/* One result as named fields, printable as JSON, CSV or a Markdown row: what is measured is listed once, whatever the form. */
#ifndef TOOLS_RECORD_H
#define TOOLS_RECORD_H

#include <stddef.h>
#include <stdio.h>

enum { FIELDS_MAX = 72 };

struct record {
    int n;
    struct {
        const char *key;  /* borrowed */
        const char *text; /* quoted where the form wants it; borrowed; NULL: `number` holds it as it is printed */
        char number[40];
        int raw; /* text is JSON already */
    } field[FIELDS_MAX];
};

void record_text(struct record *r, const char *key, const char *text);
void record_raw(struct record *r, const char *key, const char *json);
void record_number(struct record *r, const char *key, const char *format, double v); /* not finite: null */
void record_whole(struct record *r, const char *key, unsigned long long v);

void print_json_string(FILE *out, const char *text, size_t n); /* quoted; bytes that are not UTF-8 become U+FFFD */
void record_json(FILE *out, const struct record *r);           /* one object, one line, no newline */
void record_csv(FILE *out, const struct record *r, int header);
void record_markdown(FILE *out, const struct record *r, int header);

#endif
