/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"

/* Where in a field of CSV a character stands. */
enum csv { FIELD_START, PLAIN, QUOTED, CLOSED };

static enum csv csv_step(enum csv at, int c)
{
    if (at == QUOTED)
        return c == '"' ? CLOSED : QUOTED;
    if (c == '"' && at != PLAIN)
        return QUOTED;
    return c == ',' ? FIELD_START : PLAIN;
}

static int put(struct table *t, int c, lsk_error *err)
{
    if (t->n + 1 >= t->cap && t->n < TABLE_ROW_MAX) {
        const size_t cap = 2 * t->cap + 4096;
        char *bigger = realloc(t->text, cap);
        if (!bigger)
            return complain(err, LSK_EOS, "out of memory");
        t->text = bigger;
        t->cap = cap;
    }
    t->too_long |= t->n >= TABLE_ROW_MAX;
    if (!t->too_long)
        t->text[t->n++] = (char)c;
    return 0;
}

static int next_byte(struct table *t)
{
    return t->at_head < t->n_head ? t->head[t->at_head++] : getc(t->file);
}

/* The bytes up to the end of the line, in CSV up to that of the row. Returns 0 at the end of the file. */
static int read_bytes(struct table *t, lsk_error *err)
{
    enum csv at = FIELD_START;
    int c, any = 0, r;
    t->n = 0;
    r = put(t, 0, err); /* there is a place for the zero at the end */
    t->n = 0;
    t->too_long = 0;
    while (r >= 0 && (c = next_byte(t)) != EOF) {
        any = 1;
        t->hash = (t->hash ^ (unsigned char)c) * 0x100000001b3u;
        t->offset++;
        t->line += c == '\n';
        if (c == '\n' && (t->form != TABLE_CSV || at != QUOTED))
            break;
        at = csv_step(at, c);
        r = put(t, c, err);
    }
    if (r >= 0 && ferror(t->file))
        r = complain(err, LSK_EIO, "%s: line %lld: %s", excerpt_of(t->name).text, (long long)t->line, strerror(errno));
    if (r < 0)
        return r;
    t->n -= t->n && t->text[t->n - 1] == '\r';
    t->text[t->n] = 0;
    return any;
}

/* ---- fields ---- */

static json_t *spoil(struct table_row *row, const char *why)
{
    snprintf(row->bad, sizeof row->bad, "%s", why);
    return NULL;
}

/* Cuts the next field out of *text, in place; NULL with the row spoilt when it is none. *text: behind it, NULL behind the last. */
static const char *cut_field(struct table *t, char **text, size_t *n, struct table_row *row)
{
    char *field = *text, *out = field, *c = field;
    const char *const end = t->text + t->n;
    enum csv at = FIELD_START, next;
    if (t->form == TABLE_TSV) {
        while (c < end && *c != '\t')
            c++;
        out = c;
    }
    for (; t->form == TABLE_CSV && c < end && (at == QUOTED || *c != ','); c++, at = next) {
        next = csv_step(at, (unsigned char)*c);
        if (at == CLOSED && next != QUOTED)
            return (const char *)spoil(row, "text behind a quoted field: a quote in a field is written twice");
        if (!((at == FIELD_START && next == QUOTED) || (at == QUOTED && next == CLOSED)))
            *out++ = *c;
    }
    if (at == QUOTED)
        return (const char *)spoil(row, "a quote is not closed before the end of the file");
    *n = (size_t)(out - field);
    *text = c < end ? c + 1 : NULL;
    return field;
}

static json_t *cut_row(struct table *t, struct table_row *row, int as_names)
{
    json_t *all = as_names ? json_array() : json_object();
    const size_t want = json_array_size(t->columns);
    size_t count = 0, n = 0;
    for (char *at = t->text; all && at && !*row->bad; count++) {
        const char *field = cut_field(t, &at, &n, row), *name = json_string_value(json_array_get(t->columns, count));
        json_t *text = field ? json_stringn(field, n) : NULL;
        if (field && (!text || memchr(field, 0, n)))
            spoil(row, text ? "a zero byte" : "not UTF-8");
        if (text && (as_names ? json_array_append(all, text) : name ? json_object_set(all, name, text) : 0))
            spoil(row, "out of memory");
        json_decref(text);
    }
    if (!*row->bad && !as_names && count != want)
        snprintf(row->bad, sizeof row->bad, "%zu field%s, the first line names %zu", count, count == 1 ? "" : "s", want);
    if (!*row->bad)
        return all;
    json_decref(all);
    return NULL;
}

static json_t *parse_object(struct table *t, struct table_row *row)
{
    json_error_t why;
    json_t *j = json_loadb(t->text, t->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!j) {
        struct excerpt shown = excerpt_of(why.text);
        snprintf(row->bad, sizeof row->bad, "not JSON: column %d: %s", why.column, shown.text);
        return NULL;
    }
    if (json_is_object(j))
        return j;
    json_decref(j);
    return spoil(row, "not a JSON object");
}

int table_next(struct table *t, struct table_row *row, lsk_error *err)
{
    int r;
    *row = (struct table_row){0};
    do {
        row->offset = t->offset;
        row->line = t->line;
        r = read_bytes(t, err);
    } while (r > 0 && !t->n && !t->too_long);
    if (r <= 0)
        return r;
    if (t->too_long)
        snprintf(row->bad, sizeof row->bad, "longer than %d MiB", TABLE_ROW_MAX >> 20);
    else
        row->object = t->form == TABLE_JSONL ? parse_object(t, row) : cut_row(t, row, 0);
    return 1;
}

int table_read(struct table *t, int64_t offset, struct table_row *row, lsk_error *err)
{
    t->offset = offset;
    t->at_head = t->n_head;
    if (fseeko(t->file, offset, SEEK_SET))
        return complain(err, LSK_EIO, "%s: offset %lld: %s: a data set must be a file", excerpt_of(t->name).text, (long long)offset, strerror(errno));
    int r = table_next(t, row, err);
    if (r >= 0 && !row->object)
        r = complain(err, LSK_EDATA, "%s: offset %lld: the row that was here is gone: the file was changed meanwhile", excerpt_of(t->name).text, (long long)offset);
    return r;
}

/* ---- opening ---- */

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && !strcasecmp(name + n - n_end, end);
}

static int guess_form(struct table *t, lsk_error *err)
{
    const unsigned char *head = t->head;
    const size_t n = t->n_head = fread(t->head, 1, sizeof t->head, t->file);
    size_t at = n >= 3 && !memcmp(head, "\xef\xbb\xbf", 3) ? 3 : 0;
    const char *wrong = NULL;
    struct excerpt shown = excerpt_of(t->name);
    t->offset = (int64_t)(t->at_head = at);
    t->form = ends_with(t->name, ".tsv") ? TABLE_TSV : ends_with(t->name, ".csv") ? TABLE_CSV : TABLE_JSONL;
    while (at < n && strchr(" \t\r\n", head[at]))
        at++;
    if (at == n)
        wrong = ferror(t->file) ? strerror(errno) : "nothing in it";
    else if (n >= 4 && !memcmp(head, "PAR1", 4))
        wrong = "a Parquet file: write it as JSONL first, as pandas' to_json(orient=\"records\", lines=True) does";
    else if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b)
        wrong = "a gzip file: gunzip it first";
    else if (head[at] == '[')
        wrong = "a JSON array: an object on every line is needed, as `jq -c .[]` gives it";
    else if (head[at] != '{' && t->form == TABLE_JSONL && !ends_with(t->name, ".jsonl"))
        wrong = "neither JSONL (begins with {) nor named .jsonl, .csv or .tsv";
    if (wrong)
        return complain(err, ferror(t->file) ? LSK_EIO : LSK_EDATA, "%s: %s", shown.text, wrong);
    return 0;
}

static int read_names(struct table *t, lsk_error *err)
{
    struct table_row row = {.line = t->line};
    int r;
    while ((r = read_bytes(t, err)) > 0 && !t->n)
        row.line = t->line;
    t->columns = r <= 0 ? NULL : t->too_long ? spoil(&row, "the line is too long") : cut_row(t, &row, 1);
    for (size_t i = 0; i < json_array_size(t->columns); i++)
        for (size_t k = 0; k < i; k++)
            if (json_equal(json_array_get(t->columns, i), json_array_get(t->columns, k)))
                spoil(&row, "one of them is there twice");
    if (r > 0 && *row.bad)
        r = complain(err, LSK_EDATA, "%s: line %lld: no names of columns: %s", excerpt_of(t->name).text, (long long)row.line, row.bad);
    return r < 0 ? r : 0;
}

int table_start(struct table *t, FILE *file, const char *name, lsk_error *err)
{
    *t = (struct table){.file = file, .name = name, .line = 1, .hash = 0xcbf29ce484222325u};
    int r = guess_form(t, err);
    return r >= 0 && t->form != TABLE_JSONL ? read_names(t, err) : r;
}

int table_open(struct table *t, const char *path, lsk_error *err)
{
    FILE *f = fopen(strcmp(path, "-") ? path : "/dev/stdin", "re");
    if (f)
        return table_start(t, f, path, err);
    *t = (struct table){0};
    return complain(err, LSK_ENOINPUT, "%s: %s", excerpt_of(path).text, strerror(errno));
}

void table_close(struct table *t)
{
    if (t->file)
        fclose(t->file);
    json_decref(t->columns);
    free(t->text);
    *t = (struct table){0};
}

struct column_names table_columns(const json_t *row)
{
    struct column_names out = {""};
    const size_t cap = sizeof out.text - 8;
    size_t used = 0;
    for (void *at = json_object_iter((json_t *)row); at && used < cap; at = json_object_iter_next((json_t *)row, at))
        used += (size_t)snprintf(out.text + used, cap - used, "%s\"%s\"", used ? ", " : "", excerpt_of(json_object_iter_key(at)).text);
    if (used >= cap)
        strcpy(out.text + cap - 1, "...");
    return out;
}
