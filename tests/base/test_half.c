/* SPDX-License-Identifier: Apache-2.0 */
#include "base/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* The definition: (-1)^s 2^(e-15) (1 + m/1024), denormals 2^-14 m/1024. */
static float by_definition(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float v = e == 31 ? INFINITY : e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
    return h >> 15 ? -v : v;
}

static void test_f16_values(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float v = f16_to_f32((uint16_t)h);
        if ((h & 0x7c00) == 0x7c00 && (h & 1023)) {
            assert_true(isnan(v));
            assert_int_equal(f32_to_f16(v), h | 0x200); /* a NaN keeps sign and payload, quiet */
        } else {
            assert_int_equal(f32_bits(v), f32_bits(by_definition((uint16_t)h)));
            assert_int_equal(f32_to_f16(v), h);
        }
    }
}

/* Around the middle of every two neighbours, infinity counting as 65536: below it down, above it up, on it to the even one. */
static void test_f16_rounding(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float low = f16_to_f32((uint16_t)h), high = h == 0x7bff ? 65536.0f : f16_to_f32((uint16_t)(h + 1)), middle = low + (high - low) / 2;
        uint32_t even = h & 1 ? h + 1 : h;
        assert_int_equal(f32_to_f16(middle), even);
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(f32_to_f16(-middle), even | 0x8000);
    }
    assert_int_equal(f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(1e-44f), 0);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float v = bf16_to_f32((uint16_t)h);
        uint32_t bits = h << 16, e = h >> 7 & 255, m = h & 127;
        assert_int_equal(f32_bits(v), bits);
        uint32_t want = e == 0 ? h & 0x8000 : e == 255 && m ? h | 0x40 : h; /* denormals become zero, NaNs quiet */
        assert_int_equal(f32_to_bf16(v), want);
        if (e == 0 || e == 255)
            continue;
        assert_int_equal(f32_to_bf16(f32_from_bits(bits + 0x7fff)), h);
        assert_int_equal(f32_to_bf16(f32_from_bits(bits + 0x8000)), h + (h & 1));
        assert_int_equal(f32_to_bf16(f32_from_bits(bits + 0x8001)), h + 1);
    }
    assert_int_equal(f32_to_bf16(f32_from_bits(0x7f800001)), 0x7fc0); /* a NaN whose payload is cut off stays one */
    assert_int_equal(f32_to_bf16(f32_from_bits(0x007fffff)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f16_values), cmocka_unit_test(test_f16_rounding), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
