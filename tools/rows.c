/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include <string.h>

#include "messages.h"

int rows_are(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && !strcmp(path + n - 6, ".jsonl");
}

static int take_line(const char *line, const char *place, row_fn take, void *ud, lsk_error *err)
{
    json_error_t where;
    json_t *row = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    int r = !row                  ? complain(err, LSK_EDATA, "%s: %s", place, where.text)
            : json_is_object(row) ? take(ud, row, place, err)
                                  : complain(err, LSK_EDATA, "%s: a row must be an object, {\"name\": value, ...}", place);
    json_decref(row);
    return r;
}

int rows_read(struct rows *rows, const char *path, char *text, size_t n, row_fn take, void *ud, lsk_error *err)
{
    char place[160];
    int r = 0, number = 0;
    if (memchr(text, 0, n))
        return complain(err, LSK_EDATA, "%s: a zero byte: this is no JSONL", excerpt_of(path).text);
    for (char *line; r >= 0 && !(rows->limit && rows->good == rows->limit) && (line = strsep(&text, "\n"));) {
        snprintf(place, sizeof place, "%s: line %d", excerpt_of(path).text, ++number);
        if (!line[strspn(line, " \t\r")])
            continue;
        r = take_line(line, place, take, ud, err);
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
    return r;
}

json_t *row_column(const json_t *row, const char *name, const char *place, lsk_error *err)
{
    char names[200] = "";
    size_t n = 0;
    const char *key;
    json_t *value = json_object_get(row, name), *other;
    if (value)
        return value;
    json_object_foreach((json_t *)row, key, other)
        if (n < sizeof names)
            n += (size_t)snprintf(names + n, sizeof names - n, "%s\"%s\"", n ? ", " : "", excerpt_of(key).text);
    complain(err, LSK_EDATA, "%s: no column \"%s\": there %s", place, excerpt_of(name).text, n ? "are " : "is none");
    snprintf(err->text + strlen(err->text), sizeof err->text - strlen(err->text), "%s", names);
    return NULL;
}
