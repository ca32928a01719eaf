/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/pull.h"

static struct error err;

/* A parser over a copy of exactly n bytes, so that a read behind them is seen. */
static struct pull open_text(const char *text, size_t n)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    err = (struct error){0};
    return (struct pull){.text = copy, .n = n, .path = "file", .origin = 8, .err = &err};
}

static int string_of(const char *text, char *out)
{
    struct pull j = open_text(text, strlen(text));
    char *s;
    int rc = pull_string(&j, &s);
    if (!rc)
        strcpy(out, s);
    free(j.text);
    return rc;
}

static void strings_are_unescaped(void **state)
{
    (void)state;
    static const struct { const char *text, *value; } good[] = {
        {"\"\"", ""}, {" \n\"ab\"", "ab"}, {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"}, {"\"\\u0077\\u00e9\\u20AC\"", "w\xc3\xa9\xe2\x82\xac"}, {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
    };
    char out[64];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(string_of(good[i].text, out), 0);
        assert_string_equal(out, good[i].value);
    }
}

static void item_03_strings_that_are_not_text(void **state)
{
    (void)state;
    static const struct { const char *text, *word; } bad[] = {
        {"\"\\u0000\"", "0000"}, {"\"\\ud800\"", "surrogate"}, {"\"\\udc00\"", "surrogate"}, {"\"\\ud800\\u0041\"", "surrogate"}, {"\"\\ud800\\ud800\"", "surrogate"}, {"\"\\u12g4\"", "hexadecimal"},
        {"\"\\u12", "hexadecimal"}, {"\"\\ud83d\\ude0", "surrogate"}, {"\"\\x\"", "escape"}, {"\"a\nb\"", "control"}, {"\"abc", "ends inside"}, {"\"abc\\", "ends inside"}, {"abc", "expected '\"'"}, {"", "expected"},
    };
    char out[64];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(string_of(bad[i].text, out), ERR_DATA);
        assert_non_null(strstr(err.text, bad[i].word));
        assert_non_null(strstr(err.text, "file: offset 0x"));
    }
}

static void item_06_numbers_are_plain_decimals(void **state)
{
    (void)state;
    static const struct { const char *text; uint64_t value; } good[] = {{"0", 0}, {" 17,", 17}, {"281474976710656]", PULL_NUMBER_MAX}};
    static const char *const bad[] = {"-1", "+1", "1.0", "1e3", "1E3", "01", "00", "281474976710657", "9007199254740993", "18446744073709551616", "", "x", "0x10", ".5"};
    char digits[401];
    uint64_t v;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct pull j = open_text(good[i].text, strlen(good[i].text));
        assert_int_equal(pull_number(&j, &v), 0);
        assert_true(v == good[i].value);
        free(j.text);
    }
    memset(digits, '9', 400);
    digits[400] = 0;
    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        const char *text = i < sizeof bad / sizeof *bad ? bad[i] : digits;
        struct pull j = open_text(text, strlen(text));
        int rc = pull_number(&j, &v);
        if (!rc)
            rc = pull_end(&j);
        assert_int_equal(rc, ERR_DATA);
        free(j.text);
    }
}

static void members_are_separated_by_commas(void **state)
{
    (void)state;
    static const struct { const char *text; int n; } lists[] = {{"[]", 0}, {"[ 1 ]", 1}, {"[1,2 , 3]", 3}, {"[,1]", -1}, {"[1,]", -1}, {"[1 2]", -1}, {"[1,2", -1}, {"[1]]", -1}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct pull j = open_text(lists[i].text, strlen(lists[i].text));
        int rc = pull_expect(&j, '['), n = 0, more = 1;
        uint64_t v;
        for (; !rc && (more = pull_more(&j, ']', n == 0)) > 0; n++)
            rc = pull_number(&j, &v);
        if (!rc)
            rc = more < 0 ? more : pull_end(&j);
        assert_int_equal(rc ? -1 : n, lists[i].n);
        free(j.text);
    }
}

/* Any value, and what stands behind it. */
static void values_are_passed_over(void **state)
{
    (void)state;
    static const struct { const char *text, *raw, *rest; } good[] = {
        {" 17,", "17", ","}, {"-1.5E+3]", "-1.5E+3", "]"}, {"null }", "null", " }"}, {"true", "true", ""}, {"\"a]\\\"}\\\\\":1", "\"a]\\\"}\\\\\"", ":1"},
        {"\"\",", "\"\"", ","}, {"{}", "{}", ""}, {"\n[ ] 1", "[ ]", " 1"}, {"{\"a\":[1,{\"b\":\"}\"}]}}", "{\"a\":[1,{\"b\":\"}\"}]}", "}"},
    };
    static const struct { const char *text, *word; } bad[] = {
        {"", "a value"}, {"  ", "a value"}, {",", "a value"}, {"]", "a value"}, {"}", "a value"}, {":", "a value"}, {"[", "inside a value"}, {"{\"a\":[1}", "inside a value"},
        {"\"", "inside a string"}, {"\"a\\\"", "inside a string"}, {"\"a\\", "inside a string"}, {"[\"a]", "inside a string"}, {"\x80", "a value"},
    };
    struct bytes raw;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct pull j = open_text(good[i].text, strlen(good[i].text));
        assert_int_equal(pull_skip(&j, &raw), 0);
        assert_true(bytes_equal(raw, good[i].raw));
        assert_true(bytes_equal((struct bytes){(uint8_t *)j.text + j.at, j.n - j.at}, good[i].rest));
        free(j.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pull j = open_text(bad[i].text, strlen(bad[i].text));
        assert_int_equal(pull_skip(&j, &raw), ERR_DATA);
        assert_non_null(strstr(err.text, bad[i].word));
        free(j.text);
    }
}

static void nesting_costs_nothing(void **state)
{
    (void)state;
    enum { DEEP = 1000000 };
    char *text = malloc(2 * DEEP);
    struct bytes raw;
    assert_non_null(text);
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    for (size_t n = 2 * DEEP - 1; n <= 2 * DEEP; n++) {
        struct pull j = open_text(text, n);
        assert_int_equal(pull_skip(&j, &raw), n == 2 * DEEP ? 0 : ERR_DATA);
        assert_true(raw.n == n);
        free(j.text);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_unescaped), cmocka_unit_test(item_03_strings_that_are_not_text), cmocka_unit_test(item_06_numbers_are_plain_decimals),
        cmocka_unit_test(members_are_separated_by_commas), cmocka_unit_test(values_are_passed_over), cmocka_unit_test(nesting_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
