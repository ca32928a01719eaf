/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t data[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88, 0x00, 0x00, 0xc0, 0x3f, 0, 0, 0, 0, 0, 0, 0x04, 0xc0};

static void test_little_endian(void **state)
{
    (void)state;
    struct reader r = {data, sizeof data, 0};
    uint8_t a = 0;
    uint16_t b = 0;
    uint32_t c = 0;
    uint64_t d = 0;
    float f = 0;
    double g = 0;
    assert_true(read_u8(&r, &a) && read_u16(&r, &b) && read_u32(&r, &c));
    assert_int_equal(a, 0x01);
    assert_int_equal(b, 0x0302);
    assert_int_equal(c, 0x07060504);
    assert_int_equal(r.at, 7);
    r.at = 0;
    assert_true(read_u64(&r, &d) && read_f32(&r, &f) && read_f64(&r, &g));
    assert_true(d == 0x8807060504030201u && f == 1.5f && g == -2.5);
    assert_int_equal(reader_left(&r), 0);
}

/* A read that does not fit says so and leaves reader and result as they were. */
static void test_bounds(void **state)
{
    (void)state;
    struct reader r = {data, 3, 0};
    struct bytes b = {0};
    uint8_t u8 = 0;
    uint16_t u16 = 7;
    uint32_t u32 = 7;
    uint64_t u64 = 7;
    float f = 7;
    double d = 7;
    assert_false(read_u32(&r, &u32) || read_u64(&r, &u64) || read_f32(&r, &f) || read_f64(&r, &d) || read_bytes(&r, 4, &b));
    assert_false(read_bytes(&r, UINT64_MAX, &b));
    assert_true(u32 == 7 && u64 == 7 && f == 7 && d == 7 && b.p == NULL && r.at == 0);
    assert_true(read_bytes(&r, 2, &b) && b.p == data && b.n == 2);
    assert_false(read_u16(&r, &u16));
    assert_int_equal(u16, 7);
    assert_true(read_u8(&r, &u8) && u8 == 3);
    assert_false(read_u8(&r, &u8));
    assert_true(read_bytes(&r, 0, &b) && b.n == 0);
}

static void test_equal(void **state)
{
    (void)state;
    struct bytes b = {(const uint8_t *)"GGUFx", 4};
    assert_true(bytes_equal(b, "GGUF"));
    assert_false(bytes_equal(b, "GGU") || bytes_equal(b, "GGUFx") || bytes_equal(b, "GGUf"));
    assert_true(bytes_equal((struct bytes){NULL, 0}, ""));
}

/* Writes any number as if it were a code point, in the given length. */
static void spell(uint32_t c, unsigned len, uint8_t out[4])
{
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (unsigned i = len; i-- > 1; c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 63));
    out[0] = (uint8_t)(lead[len] | c);
}

/* Every number below 2^21 in every length that holds it: well-formed is the shortest form of what is no surrogate and at most U+10FFFF. */
static void test_utf8_exhaustively(void **state)
{
    (void)state;
    static const uint32_t end[5] = {0, 0x80, 0x800, 0x10000, 0x200000};
    for (unsigned len = 1; len <= 4; len++)
        for (uint32_t c = 0; c < end[len]; c++) {
            uint8_t s[4];
            size_t bad = 99;
            spell(c, len, s);
            bool right = c >= end[len - 1] && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
            if (utf8_valid((struct bytes){s, len}, &bad) != right || (right && len > 1 && utf8_valid((struct bytes){s, len - 1}, NULL)))
                fail_msg("U+%04X in %u bytes", c, len);
            assert_int_equal(bad, right ? 99 : 0);
        }
}

static void test_utf8_places(void **state)
{
    (void)state;
    size_t bad;
    assert_true(utf8_valid((struct bytes){NULL, 0}, &bad));
    assert_false(utf8_valid((struct bytes){(const uint8_t *)"ab\xc3\xa9\xff", 5}, &bad));
    assert_int_equal(bad, 4);
    assert_false(utf8_valid((struct bytes){(const uint8_t *)"ab\xe2\x82z", 5}, &bad));
    assert_int_equal(bad, 2);
    assert_false(utf8_valid((struct bytes){(const uint8_t *)"\x80", 1}, NULL));
    for (size_t n = 1; n < 40; n++) /* in runs of ASCII, which go by eight */
        for (size_t at = 0; at < n; at++) {
            uint8_t text[40];
            memset(text, 'a', n);
            assert_true(utf8_valid((struct bytes){text, n}, NULL));
            text[at] = 0x80;
            assert_false(utf8_valid((struct bytes){text, n}, &bad));
            assert_int_equal(bad, at);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_little_endian), cmocka_unit_test(test_bounds), cmocka_unit_test(test_equal),
                                       cmocka_unit_test(test_utf8_exhaustively), cmocka_unit_test(test_utf8_places),
                                       cmocka_unit_test(test_utf8_next_maximal_subparts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
