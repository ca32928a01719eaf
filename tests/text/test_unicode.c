/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "text/unicode.h"

static void test_classes(void **state)
{
    (void)state;
    assert_int_equal(char_class('a'), CLASS_LETTER);
    assert_int_equal(char_class('7'), CLASS_NUMBER);
    assert_int_equal(char_class('_'), CLASS_OTHER);
    assert_int_equal(char_class('\r'), CLASS_NEWLINE);
    assert_int_equal(char_class(0x3000), CLASS_SPACE);
    assert_int_equal(char_class(0x180e), CLASS_OTHER); /* white space for some regex libraries, not for the reference */
    assert_int_equal(char_class(0x2167), CLASS_NUMBER);
    assert_int_equal(char_class(0x31350), CLASS_LETTER); /* a letter since Unicode 15 */
    assert_int_equal(char_class(0x10ffff), CLASS_OTHER);
    int letters = 0, numbers = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        letters += char_class(c) == CLASS_LETTER;
        numbers += char_class(c) == CLASS_NUMBER;
    }
    assert_int_equal(letters, 141028); /* as counted in tokenizers 0.23.3 */
    assert_int_equal(numbers, 1911);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_classes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
