/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <jansson.h>

#include "record.h"

static struct record sample(void)
{
    struct record r = {0};
    record_text(&r, "name", "a \"b\"\n\x01\xff\\");
    record_whole(&r, "count", 9007199254740993u);
    record_number(&r, "rate", "%.2f", 1.5);
    record_number(&r, "none", "%.2f", NAN);
    record_raw(&r, "list", "[1, 2]");
    return r;
}

static char *text;
static size_t n_text;

static void prints(void (*form)(FILE *, const struct record *, int), const struct record *r, int header)
{
    FILE *f = open_memstream(&text, &n_text);
    if (form)
        form(f, r, header);
    else
        record_json(f, r);
    fclose(f);
}

static void json(void **state)
{
    struct record r = sample();
    (void)state;
    prints(NULL, &r, 0);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "name")), "a \"b\"\n\x01\xef\xbf\xbd\\");
    assert_true(json_is_null(json_object_get(j, "none")));
    assert_int_equal(json_array_size(json_object_get(j, "list")), 2);
    json_decref(j);
    free(text);
}

static void csv(void **state)
{
    struct record r = {0};
    (void)state;
    record_text(&r, "name", "a, \"b\"");
    record_number(&r, "none", "%.2f", INFINITY);
    record_whole(&r, "count", 3);
    prints(record_csv, &r, 1);
    assert_string_equal(text, "\"name\",\"none\",\"count\"\n");
    free(text);
    prints(record_csv, &r, 0);
    assert_string_equal(text, "\"a, \"\"b\"\"\",,3\n");
    free(text);
}

static void markdown(void **state)
{
    struct record r = {0};
    (void)state;
    record_text(&r, "test", "tg128");
    record_number(&r, "t/s", "%.1f", 12);
    record_number(&r, "none", "%.1f", NAN);
    prints(record_markdown, &r, 1);
    assert_string_equal(text, "| test           |      t/s |     none |\n| --- | --: | --: |\n");
    free(text);
    prints(record_markdown, &r, 0);
    assert_string_equal(text, "| tg128          |     12.0 |          |\n");
    free(text);
}

static void markdown_of_hostile_names(void **state)
{
    struct record r = {0};
    (void)state;
    record_text(&r, "m", "a|b\x1b[31m\n");
    record_text(&r, "n", "x");
    prints(record_markdown, &r, 0);
    assert_string_equal(text, "| a\\|b\\x1B[31m\\n | x              |\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(json), cmocka_unit_test(csv), cmocka_unit_test(markdown),
                                       cmocka_unit_test(markdown_of_hostile_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
