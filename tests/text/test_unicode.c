/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/bytes.h"
#include "text/unicode.h"

/* Every sequence of up to three bytes, and the four-byte ones of interest, against the plain validity check of base. */
static void test_utf8_next_agrees_with_utf8_valid(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1u << 24; i += i < 0xc00000 ? 97 : 1) {
        uint8_t p[4] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 0x80};
        uint32_t c;
        int len = utf8_next(p, 4, &c);
        if (len > 0)
            assert_true(utf8_valid((struct bytes){p, (size_t)len}, NULL));
        for (int n = 1; n <= 4; n++)
            if (utf8_valid((struct bytes){p, (size_t)n}, NULL) && (p[0] >= 0x80 || n == 1)) {
                if (len != n && len < n) /* the shortest valid prefix is the character */
                    assert_true(len > 0);
                break;
            }
        if (len <= 0)
            assert_false(utf8_valid((struct bytes){p, 4}, NULL));
    }
}

static void test_utf8_next_maximal_subparts(void **state)
{
    static const struct { const char *p; size_t n; int len; } rows[] = {
        {"A", 1, 1},           {"\xc3\xa9", 2, 2},         {"\xe2\x82\xac", 3, 3}, {"\xf0\x9f\x98\x80", 4, 4}, {"\x80", 1, -1},
        {"\xc0\x80", 2, -1},   {"\xe2\x82", 2, 0},         {"\xe2\x82x", 3, -2},   {"\xe0\x80\x80", 3, -1},    {"\xed\xa0\x80", 3, -1},
        {"\xf4\x90\x80", 3, -1}, {"\xf0\x9f\x98x", 4, -3}, {"\xf0\x9f", 2, 0},     {"\xf5\x80", 2, -1},        {"\xff", 1, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t c;
        assert_int_equal(utf8_next((const uint8_t *)rows[i].p, rows[i].n, &c), rows[i].len);
    }
}

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_next_agrees_with_utf8_valid),
        cmocka_unit_test(test_utf8_next_maximal_subparts),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
