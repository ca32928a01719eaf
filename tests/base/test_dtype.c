/* SPDX-License-Identifier: Apache-2.0 */
#include "base/dtype.h"
#include "base/half.h"
#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_row_bytes(void **state)
{
    (void)state;
    static const uint64_t row256[DT_COUNT] = {1024, 512, 512, 272, 144, 160, 144, 210};
    for (int t = 0; t < DT_COUNT; t++)
        assert_int_equal(dtype_row_bytes((enum dtype)t, 256), row256[t]);
    assert_int_equal(dtype_row_bytes(DT_Q6_K, 128), 0);
    assert_int_equal(dtype_row_bytes(DT_Q8_0, 63), 0);
    assert_int_equal(dtype_row_bytes(DT_Q4_0, UINT64_MAX / 32 * 32), 10376293541461622766u);
    assert_int_equal(dtype_row_bytes(DT_Q8_0, UINT64_MAX / 32 * 32), 0);
    assert_int_equal(dtype_row_bytes(DT_F32, UINT64_MAX / 2), 0);
}

/* Blocks written by hand, read at an odd address. */
static void test_blocks_by_hand(void **state)
{
    (void)state;
    uint8_t p[1 + 34] = {0};
    float out[32];
    p[1] = 0x00; /* d = 0.5 */
    p[2] = 0x38;
    for (int j = 0; j < 32; j++)
        p[3 + j] = (uint8_t)(int8_t)(j - 16);
    dtype_to_f32(DT_Q8_0, p + 1, out, 32);
    for (int j = 0; j < 32; j++)
        assert_true(out[j] == 0.5f * (float)(j - 16));
    for (int j = 0; j < 16; j++)
        p[3 + j] = (uint8_t)(j | (15 - j) << 4);
    dtype_to_f32(DT_Q4_0, p + 1, out, 32);
    for (int j = 0; j < 16; j++)
        assert_true(out[j] == 0.5f * (float)(j - 8) && out[j + 16] == 0.5f * (float)(7 - j));
    p[3] = 0x00; /* m = -2 */
    p[4] = 0xc0;
    for (int j = 0; j < 16; j++)
        p[5 + j] = (uint8_t)(j | (15 - j) << 4);
    dtype_to_f32(DT_Q4_1, p + 1, out, 32);
    for (int j = 0; j < 16; j++)
        assert_true(out[j] == 0.5f * (float)j - 2 && out[j + 16] == 0.5f * (float)(15 - j) - 2);
}

static void make_values(float *x, int n, uint32_t seed)
{
    for (int i = 0; i < n; i++)
        x[i] = ((float)(philox(seed, (uint32_t)i, 0, 0, 0).v[0] >> 8) - 8388608.0f) / 8388608.0f;
}

/* A value is off by half a step at most, and by what the scale loses in f16 times the largest code. */
static void test_quantised_is_near(void **state)
{
    (void)state;
    static const struct {
        enum dtype type;
        float bound; /* for values in (-1, 1) */
    } types[] = {{DT_Q8_0, 0.5f / 127 + 127 * 4e-6f}, {DT_Q4_0, 1.0f / 8 + 0.002f}, {DT_Q4_1, 0.5f * 2 / 15 + 0.002f}};
    float x[320], y[320];
    uint8_t packed[340];
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (uint32_t seed = 0; seed < 50; seed++) {
            make_values(x, 320, seed);
            dtype_from_f32(types[t].type, x, packed, 320);
            dtype_to_f32(types[t].type, packed, y, 320);
            for (int i = 0; i < 320; i++)
                assert_true(fabsf(x[i] - y[i]) <= types[t].bound);
        }
}

/* What comes out of a block goes in again unchanged; the largest value is met exactly where the type says so. */
static void test_stable(void **state)
{
    (void)state;
    float x[32], y[32], z[32];
    uint8_t a[34], b[34];
    for (uint32_t seed = 0; seed < 200; seed++) {
        make_values(x, 32, seed);
        x[3] = 1; /* peaks whose scale is exact in f16 */
        x[4] = -1;
        dtype_from_f32(DT_Q4_0, x, a, 32);
        dtype_to_f32(DT_Q4_0, a, y, 32);
        assert_true(y[3] == 1);
        dtype_from_f32(DT_Q4_0, y, b, 32);
        dtype_to_f32(DT_Q4_0, b, z, 32);
        assert_memory_equal(y, z, sizeof y);
    }
}

static void test_odd_values(void **state)
{
    (void)state;
    static const float odd[] = {0, -0.0f, 1e-45f, 1e-38f, 3e38f, INFINITY, -INFINITY, NAN};
    float x[32], y[32];
    uint8_t packed[34];
    for (size_t v = 0; v < sizeof odd / sizeof *odd; v++)
        for (int t = DT_Q8_0; t <= DT_Q4_1; t++) { /* the sanitizers watch the conversions */
            for (int i = 0; i < 32; i++)
                x[i] = i % 3 ? odd[v] : 1;
            dtype_from_f32((enum dtype)t, x, packed, 32);
            for (int i = 0; i < 32; i++)
                x[i] = odd[v];
            dtype_from_f32((enum dtype)t, x, packed, 32);
            dtype_to_f32((enum dtype)t, packed, y, 32);
            if (odd[v] == 0)
                for (int i = 0; i < 32; i++)
                    assert_true(y[i] == 0);
        }
}

static void test_float_types(void **state)
{
    (void)state;
    float x[5] = {1, -2.5f, 65504, 1e-3f, 0}, y[5];
    uint8_t p[21];
    dtype_from_f32(DT_F32, x, p + 1, 5);
    dtype_to_f32(DT_F32, p + 1, y, 5);
    assert_memory_equal(x, y, sizeof x);
    dtype_from_f32(DT_F16, x, p + 1, 5);
    dtype_to_f32(DT_F16, p + 1, y, 5);
    for (int i = 0; i < 5; i++)
        assert_true(y[i] == f16_to_f32(f32_to_f16(x[i])));
    assert_true(y[1] == -2.5f && y[2] == 65504);
    dtype_from_f32(DT_BF16, x, p + 1, 5);
    dtype_to_f32(DT_BF16, p + 1, y, 5);
    for (int i = 0; i < 5; i++)
        assert_true(y[i] == bf16_to_f32(f32_to_bf16(x[i])));
    assert_true(y[1] == -2.5f && y[2] == 65536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_row_bytes),  cmocka_unit_test(test_blocks_by_hand), cmocka_unit_test(test_quantised_is_near),
                                       cmocka_unit_test(test_stable), cmocka_unit_test(test_odd_values), cmocka_unit_test(test_float_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
