/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include <string.h>

#include "messages.h"
#include "table.h"

int rows_are(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && !strcmp(path + n - 6, ".jsonl");
}

int rows_read(struct rows *rows, const char *path, row_fn take, void *ud, lsk_error *err)
{
    char place[160];
    struct table t;
    struct table_row row;
    int r = table_open(&t, path, err);
    while (r >= 0 && !(rows->limit && rows->good == rows->limit) && (r = table_next(&t, &row, err)) > 0) {
        snprintf(place, sizeof place, "%s: line %lld", excerpt_of(path).text, (long long)row.line);
        r = row.object ? take(ud, row.object, place, err) : complain(err, LSK_EDATA, "%s: %s", place, row.bad);
        json_decref(row.object);
        rows->good += r >= 0;
        if (r != LSK_EDATA)
            continue;
        size_t used = strlen(err->text);
        if (rows->bad++ < rows->allowed) {
            print_warning(err->text);
            r = 0;
        } else {
            snprintf(err->text + used, sizeof err->text - used, rows->allowed ? " (--bad-rows %d: one more)" : " (--bad-rows N passes such rows over)", rows->allowed);
        }
    }
    table_close(&t);
    return r;
}

json_t *row_column(const json_t *row, const char *name, const char *place, lsk_error *err)
{
    json_t *value = json_object_get(row, name);
    const struct column_names names = table_columns(row);
    if (!value)
        complain(err, LSK_EDATA, "%s: no column \"%s\": there %s%s", place, excerpt_of(name).text, *names.text ? "are " : "is none", names.text);
    return value;
}
