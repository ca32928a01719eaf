/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "values.h"

static void whole_numbers_are_strict(void **state)
{
    static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "1.0", "0x10", "1e3", "--1", "99999999999999999999999x"};
    int64_t v = 7;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(read_whole(bad[i], &v), NO_NUMBER);
    assert_int_equal(read_whole("9223372036854775808", &v), TOO_LARGE);
    assert_int_equal(read_whole("-99999999999999999999999", &v), TOO_LARGE);
    assert_int_equal(v, 7);
    assert_int_equal(read_whole("-12", &v), 0);
    assert_int_equal(v, -12);
    assert_int_equal(read_whole("9223372036854775807", &v), 0);
    assert_true(v == INT64_MAX);
}

static void naturals_reach_64_bits(void **state)
{
    uint64_t v = 0;
    (void)state;
    assert_int_equal(read_natural("18446744073709551615", &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(read_natural("18446744073709551616", &v), TOO_LARGE);
    assert_int_equal(read_natural("-1", &v), -1);
}

static void reals_are_strict(void **state)
{
    static const char *const bad[] = {"", ".", "-", "1,5", "nan", "inf", "0x1p3", "1e", "1e+", "1e999x", " 1", "1 ", "1.5f", "+1"};
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0}, {"-0.5", -0.5}, {".25", .25}, {"3.", 3}, {"1e-3", 1e-3}, {"2E+2", 200}, {"1e-999", 0}};
    double v;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(read_real(bad[i], &v), NO_NUMBER);
    assert_int_equal(read_real("1e999", &v), TOO_LARGE);
    assert_int_equal(read_real("-1e999", &v), TOO_LARGE);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(read_real(good[i].text, &v), 0);
        assert_true(v == good[i].value);
    }
}

static void check_list(const char *text, int n, const int *expected)
{
    struct numbers list = {0};
    assert_int_equal(read_numbers(text, &list), 0);
    assert_int_equal(list.n, n);
    assert_memory_equal(list.value, expected, (size_t)n * sizeof(int));
}

static void lists_and_ranges(void **state)
{
    (void)state;
    check_list("7", 1, (int[]){7});
    check_list("-1,2", 2, (int[]){-1, 2});
    check_list("1-4", 4, (int[]){1, 2, 3, 4});
    check_list("4-13+4", 3, (int[]){4, 8, 12});
    check_list("1-64*2", 7, (int[]){1, 2, 4, 8, 16, 32, 64});
    check_list("512,1-3,3-3", 5, (int[]){512, 1, 2, 3, 3});
    check_list("2147483646-2147483647", 2, (int[]){INT_MAX - 1, INT_MAX});
}

static void bad_lists_are_refused(void **state)
{
    static const char *const bad[] = {"",      ",",       "1,",  ",1",  "1,,2", "3-1",        "1-",   "1-4+0",  "1-4+-1", "0-4*2",
                                      "1-4*1", "1-4+1*2", "1+2", "1 2", "a",    "0.1", "1--2", "0-9999", "1-9-12", "1-4*"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct numbers list = {0};
        if (read_numbers(bad[i], &list) != -1)
            fail_msg("accepted \"%s\"", bad[i]);
    }
    assert_int_equal(read_numbers("1,2147483648", &(struct numbers){0}), TOO_LARGE);
    assert_int_equal(read_numbers("1-99999999999999999999", &(struct numbers){0}), TOO_LARGE);
}

static void real_lists(void **state)
{
    struct reals list = {0};
    (void)state;
    assert_int_equal(read_reals("0,0.6,1", &list), 0);
    assert_int_equal(list.n, 3);
    assert_true(list.value[1] == 0.6);
    assert_int_equal(read_reals("", &list), -1);
    assert_int_equal(read_reals("1,", &list), -1);
    assert_int_equal(read_reals("0.00000000000000000000000000000000000000000000001", &list), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_numbers_are_strict), cmocka_unit_test(naturals_reach_64_bits),
                                       cmocka_unit_test(reals_are_strict),         cmocka_unit_test(lists_and_ranges),
                                       cmocka_unit_test(bad_lists_are_refused),    cmocka_unit_test(real_lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
