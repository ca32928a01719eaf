/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "messages.h"

static void excerpts_are_safe_and_short(void **state)
{
    char longest[200];
    (void)state;
    assert_string_equal(excerpt_of("plain é").text, "plain é");
    assert_string_equal(excerpt_of("a\nb\x1b[31m\x7f").text, "a\\nb\\x1B[31m\\x7F");
    assert_string_equal(excerpt_of("\xc3").text, "\\xC3");
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(strlen(excerpt_of(longest).text), 67);
}

static void utf8_as_the_standard_says(void **state)
{
    static const struct {
        const char *text;
        int length;
    } cases[] = {{"a", 1},
                 {"\xc3\xa9", 2},
                 {"\xe2\x82\xac", 3},
                 {"\xf0\x9f\x98\x80", 4},
                 {"\x80", 0},
                 {"\xc0\x80", 0},
                 {"\xe0\x80\x80", 0},
                 {"\xed\xa0\x80", 0},
                 {"\xee\x80\x80", 3},
                 {"\xf0\x80\x80\x80", 0},
                 {"\xf4\x8f\xbf\xbf", 4},
                 {"\xf4\x90\x80\x80", 0},
                 {"\xf5\x80\x80\x80", 0},
                 {"\xe2\x82", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_length(cases[i].text, strlen(cases[i].text)), cases[i].length);
    assert_int_equal(utf8_length("", 0), 0);
}

static void whole_texts_are_safe(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    (void)state;
    print_shown(f, "a\n\x1b\xc2\x9b\xc2\xa9\x7f");
    fclose(f);
    assert_string_equal(text, "a\\n\\x1B\\xC2\\x9B\xc2\xa9\\x7F");
    free(text);
}

static void suggestions_are_near(void **state)
{
    char near[32] = "";
    int best = 99;
    (void)state;
    assert_true(suggest("run bench verify", "rnu", near, sizeof near, &best));
    assert_string_equal(near, "run");
    best = 99;
    assert_true(suggest("run bench verify", "verfy", near, sizeof near, &best));
    assert_string_equal(near, "verify");
    best = 99;
    assert_false(suggest("run bench verify", "train", near, sizeof near, &best));
    assert_false(suggest("m n", "x", near, sizeof near, &best));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(excerpts_are_safe_and_short), cmocka_unit_test(utf8_as_the_standard_says),
                                       cmocka_unit_test(whole_texts_are_safe), cmocka_unit_test(suggestions_are_near)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
