/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "table.h"

static lsk_error err;

static void start(struct table *t, const char *text, size_t n, const char *name)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, n, "r");
    assert_non_null(f);
    if (table_start(t, f, name, &err))
        fail_with(err.text);
}

/* All rows, one after the other: "LINE: {object}" or "LINE! why". */
static void reads(const char *name, const char *text, const char *want)
{
    struct table t;
    struct table_row row;
    char have[2000] = "";
    size_t n = 0;
    start(&t, text, strlen(text), name);
    while (table_next(&t, &row, &err) > 0) {
        char *json = row.object ? json_dumps(row.object, JSON_COMPACT) : NULL;
        n += (size_t)snprintf(have + n, sizeof have - n, "%lld%s %s\n", (long long)row.line, json ? ":" : "!", json ? json : row.bad);
        assert_true(!row.object == (*row.bad != 0));
        json_decref(row.object);
        free(json);
    }
    table_close(&t);
    assert_string_equal(have, want);
}

static void refuses(const char *name, const char *text, const char *why)
{
    struct table t;
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    assert_int_equal(table_start(&t, f, name, &err), LSK_EDATA);
    table_close(&t);
    if (!strstr(err.text, why) || !strstr(err.text, name) || strchr(err.text, '\n'))
        fail_msg("\"%s\", not \"%s\"", err.text, why);
}

static void lines_of_json(void **state)
{
    (void)state;
    reads("a.jsonl", "{\"a\": 1}\n\n  {\"b\": [2]}\r\n{\"c\": \"d\"}", "1: {\"a\":1}\n3: {\"b\":[2]}\n4: {\"c\":\"d\"}\n");
    reads("a.jsonl", "{\"a\": 1}\n{\"a\": }\n[1]\n{\"a\": 1, \"a\": 2}\n{\"z\": \"\\u0000\"}\n{\"x\": \"\xff\"}\n{} {}\n{\"y\": 2}\n",
          "1: {\"a\":1}\n2! not JSON: column 7: unexpected token near '}'\n3! not a JSON object\n4! not JSON: column 12: duplicate object key near '\"a\"'\n"
          "5: {\"z\":\"\\u0000\"}\n6! not JSON: column 7: unable to decode byte 0xff near '\"'\n"
          "7! not JSON: column 4: end of file expected near '{'\n8: {\"y\":2}\n");
    reads("no-name", "\xef\xbb\xbf{\"a\": 1}\n", "1: {\"a\":1}\n");
}

static void fields_of_csv(void **state)
{
    (void)state;
    reads("a.csv", "a,b\n1,2\n\"x, \"\"y\"\"\nz\",\n,\"\"\r\n", "2: {\"a\":\"1\",\"b\":\"2\"}\n3: {\"a\":\"x, \\\"y\\\"\\nz\",\"b\":\"\"}\n5: {\"a\":\"\",\"b\":\"\"}\n");
    reads("a.csv", "a,b\n1\n1,2,3\n\"1\"x,2\n1\",2\n\"1,2\n3", "2! 1 field, the first line names 2\n3! 3 fields, the first line names 2\n"
                                                              "4! text behind a quoted field: a quote in a field is written twice\n5: {\"a\":\"1\\\"\",\"b\":\"2\"}\n"
                                                              "6! a quote is not closed before the end of the file\n");
    reads("a.CSV", "\xef\xbb\xbf" "a\n\xc3\xa9\n\xc3\n", "2: {\"a\":\"\xc3\xa9\"}\n3! not UTF-8\n");
}

static void fields_of_tsv(void **state)
{
    (void)state;
    reads("a.tsv", "domain\tutterance\nx\t\"quoted\", as it is\n\ty\n", "2: {\"domain\":\"x\",\"utterance\":\"\\\"quoted\\\", as it is\"}\n3: {\"domain\":\"\",\"utterance\":\"y\"}\n");
}

static void zero_bytes_are_bad(void **state)
{
    static const char text[] = "a,b\nx\0y,2\n3,4\n";
    struct table t;
    struct table_row row;
    (void)state;
    start(&t, text, sizeof text - 1, "a.csv");
    assert_int_equal(table_next(&t, &row, &err), 1);
    assert_string_equal(row.bad, "a zero byte");
    assert_int_equal(table_next(&t, &row, &err), 1);
    assert_int_equal(row.line, 3);
    json_decref(row.object);
    table_close(&t);
}

static void a_row_that_is_too_long_is_passed(void **state)
{
    const size_t n = (size_t)TABLE_ROW_MAX + 100;
    char *text = malloc(n + 20);
    struct table t;
    struct table_row row;
    (void)state;
    assert_non_null(text);
    memset(text, 'x', n);
    memcpy(text, "{\"a\": \"", 7);
    strcpy(text + n, "\"}\n{\"b\": 1}\n");
    start(&t, text, strlen(text), "a.jsonl");
    assert_int_equal(table_next(&t, &row, &err), 1);
    assert_string_equal(row.bad, "longer than 4 MiB");
    assert_int_equal(table_next(&t, &row, &err), 1);
    assert_non_null(json_object_get(row.object, "b"));
    json_decref(row.object);
    table_close(&t);
    free(text);
}

static void rows_are_found_again(void **state)
{
    static const char text[] = "a,b\n1,2\n\"3\n\",4\n5,6\n";
    struct table t;
    struct table_row row;
    int64_t at[3];
    (void)state;
    start(&t, text, strlen(text), "a.csv");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(table_next(&t, &row, &err), 1);
        at[i] = row.offset;
        json_decref(row.object);
    }
    assert_int_equal(table_next(&t, &row, &err), 0);
    for (int i = 2; i >= 0; i--) {
        assert_int_equal(table_read(&t, at[i], &row, &err), 1);
        assert_string_equal(json_string_value(json_object_get(row.object, "b")), i == 0 ? "2" : i == 1 ? "4" : "6");
        assert_string_equal(table_columns(row.object).text, "\"a\", \"b\"");
        json_decref(row.object);
    }
    assert_int_equal(table_read(&t, (int64_t)strlen(text), &row, &err), LSK_EDATA);
    table_close(&t);
}

/* A pipe is read once, from its first byte on. */
static void a_pipe_is_read(void **state)
{
    static const char text[] = "{\"a\": 1}\n\n{\"a\": 2}\n";
    struct table t;
    struct table_row row;
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, sizeof text - 1), sizeof text - 1);
    close(ends[1]);
    if (table_start(&t, fdopen(ends[0], "r"), "pipe", &err))
        fail_with(err.text);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(table_next(&t, &row, &err), 1);
        assert_int_equal(json_integer_value(json_object_get(row.object, "a")), i);
        json_decref(row.object);
    }
    assert_int_equal(table_next(&t, &row, &err), 0);
    assert_int_equal(table_read(&t, 0, &row, &err), LSK_EIO);
    table_close(&t);
}

static void names_of_columns(void **state)
{
    struct table t;
    struct table_row row;
    (void)state;
    static const char text[] = "{\"id\": 1, \"tex\\u001bt\": 2}";
    start(&t, text, strlen(text), "a");
    assert_int_equal(table_next(&t, &row, &err), 1);
    assert_non_null(strstr(table_columns(row.object).text, "tex\\x1Bt"));
    json_decref(row.object);
    row = (struct table_row){.object = json_object()};
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        json_object_set_new(row.object, name, json_null());
    }
    const struct column_names names = table_columns(row.object);
    assert_true(strlen(names.text) < sizeof names.text && strstr(names.text, "..."));
    json_decref(row.object);
    table_close(&t);
}

static void other_files_are_refused(void **state)
{
    struct table t;
    (void)state;
    refuses("a.parquet", "PAR1....", "a Parquet file");
    refuses("a.jsonl.gz", "\x1f\x8b\x08", "gunzip it first");
    refuses("a.json", " [{\"a\": 1}]", "a JSON array");
    refuses("a.txt", "plain", "neither JSONL");
    reads("a.jsonl", "plain\n{\"a\": 1}\n", "1! not JSON: column 5: '[' or '{' expected near 'plain'\n2: {\"a\":1}\n");
    refuses("a.jsonl", " \n", "nothing in it");
    refuses("a.csv", "\"a\nb", "line 1: no names of columns");
    refuses("a.tsv", "\na\tb\ta\n", "line 2: no names of columns: one of them is there twice");
    assert_int_equal(table_open(&t, "/nonexistent/a.csv", &err), LSK_ENOINPUT);
    table_close(&t);
    assert_true(table_open(&t, "/tmp", &err) < 0);
    table_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_json),        cmocka_unit_test(fields_of_csv),    cmocka_unit_test(fields_of_tsv),
        cmocka_unit_test(zero_bytes_are_bad),   cmocka_unit_test(a_row_that_is_too_long_is_passed), cmocka_unit_test(rows_are_found_again),
        cmocka_unit_test(a_pipe_is_read),       cmocka_unit_test(names_of_columns),     cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
