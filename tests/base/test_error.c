/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#undef fail /* ours, not cmocka's */

static void test_text_and_code(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(fail(&err, ERR_DATA, "%s: offset 0x%x", "file", 16), ERR_DATA);
    assert_int_equal(err.code, ERR_DATA);
    assert_string_equal(err.text, "file: offset 0x10");
    assert_int_equal(fail(NULL, ERR_IO, "nobody listens"), ERR_IO);
    assert_int_equal(error_prefix(NULL, "x"), ERR_INTERNAL);
}

static void test_stays_one_line(void **state)
{
    (void)state;
    struct error err = {0};
    fail(&err, ERR_DATA, "name \"%s\"", "a\nb\x1b[31m\x7f\t\xc3\xa9");
    assert_string_equal(err.text, "name \"a?b?[31m??\xc3\xa9\"");
    error_prefix(&err, "shard\r%d", 3);
    assert_string_equal(err.text, "shard?3: name \"a?b?[31m??\xc3\xa9\"");
    fail(&err, ERR_DATA, "%s", "\xc2\x80 \xc2\x9b\x31m \xc2\x9f\xc2\xa0 \xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa \xe2\x80"); /* U+0080, CSI, U+009F and U+00A0, U+2027 to U+202A, cut */
    assert_string_equal(err.text, "? ?1m ?\xc2\xa0 \xe2\x80\xa7??\xe2\x80\xaa \xe2\x80");
    assert_int_equal(err.code, ERR_DATA);
}

static void test_long_text_is_cut(void **state)
{
    (void)state;
    char text[2000];
    struct error err = {0};
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    fail(&err, ERR_DATA, "%s", text);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(error_prefix(&err, "%s", i ? "head" : text), ERR_DATA);
        assert_in_range(strlen(err.text), 200, sizeof err.text - 1);
    }
    assert_memory_equal(err.text, "head: head: xxx", 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text_and_code), cmocka_unit_test(test_stays_one_line), cmocka_unit_test(test_long_text_is_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
