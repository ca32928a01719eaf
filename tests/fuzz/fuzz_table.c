/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a JSONL, CSV or TSV file: every row is an object or says in one line why not, and is found again where it began. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void read_rows(struct table *t)
{
    lsk_error err = {0};
    struct table_row row, again;
    int64_t line = 0;
    for (int r; (r = table_next(t, &row, &err)) != 0;) {
        must(r == 1 && row.line > line && !row.object == (*row.bad != 0) && !strchr(row.bad, '\n'));
        must(strlen(table_columns(row.object).text) < sizeof(struct column_names));
        line = row.line;
        if (row.object) {
            const int64_t offset = t->offset, next = t->line;
            must(table_read(t, row.offset, &again, &err) == 1 && json_equal(row.object, again.object) && t->offset == offset);
            t->line = next;
            json_decref(again.object);
        }
        json_decref(row.object);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a", "a.csv", "a.tsv"};
    for (int i = 0; i < 3 && size; i++) {
        lsk_error err = {0};
        struct table t;
        FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
        must(f != NULL);
        if (!table_start(&t, f, names[i], &err))
            read_rows(&t);
        else
            must(*err.text && !strchr(err.text, '\n'));
        table_close(&t);
    }
    return 0;
}
