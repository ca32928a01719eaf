/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K and Q6_K: blocks written by hand, blocks of any bytes against the formula of the format spelled out anew, and how near rounding comes. (tests/scripts/test_gguf_package.py holds
   files to the Python package gguf.) */
#include "base/kquants.h"
#include "base/dtype.h"
#include "base/half.h"
#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static uint32_t random_bits(uint32_t seed, uint32_t i) { return philox(seed, i, 0, 0, 0).v[0]; }

static void fill(uint8_t *block, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        block[i] = (uint8_t)random_bits(seed, (uint32_t)i);
}

static void put_half(uint8_t *p, float x)
{
    uint16_t h = f32_to_f16(x);
    memcpy(p, &h, 2);
}

/* Value i of a block, from the words of the format: six bits of a 96-bit field, four of the codes. */
static double q4_k_value(const uint8_t *block, int i, double d, double m)
{
    int b = i / 32, s, t;
    const uint8_t *f = block + 4;
    if (b < 4) {
        s = f[b] % 64;
        t = f[b + 4] % 64;
    } else {
        s = f[b + 4] % 16 + 16 * (f[b - 4] / 64);
        t = f[b + 4] / 16 + 16 * (f[b] / 64);
    }
    uint8_t pair = block[16 + 32 * (i / 64) + i % 32];
    return d * s * (i % 64 < 32 ? pair % 16 : pair / 16) - m * t;
}

static double q6_k_value(const uint8_t *block, int i, double d)
{
    int half = i / 128, in = i % 128, low = block[64 * half + in % 64], high = block[128 + 32 * half + in % 32];
    int q = (in < 64 ? low % 16 : low / 16) + 16 * (high >> in / 32 * 2 & 3);
    return d * (int8_t)block[192 + i / 16] * (q - 32);
}

static void test_any_bytes(void **state)
{
    (void)state;
    uint8_t raw[1 + 210], *block = raw + 1; /* at an odd address */
    float out[256];
    for (uint32_t seed = 0; seed < 100; seed++) {
        fill(block, 210, seed);
        float d = f16_to_f32((uint16_t)(random_bits(seed, 1000) & 0xbfff)), m = f16_to_f32((uint16_t)(random_bits(seed, 1001) & 0xbfff));
        put_half(block, d);
        put_half(block + 2, m);
        dtype_to_f32(DT_Q4_K, block, out, 256);
        for (int i = 0; i < 256; i++)
            assert_true(out[i] == (float)q4_k_value(block, i, d, m)); /* one rounding */
        fill(block, 208, seed + 1000);
        put_half(block + 208, d);
        dtype_to_f32(DT_Q6_K, block, out, 256);
        for (int i = 0; i < 256; i++)
            assert_true(out[i] == (float)q6_k_value(block, i, d));
    }
}

static void test_scales_that_are_no_numbers(void **state)
{
    (void)state;
    static const uint16_t odd[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x0001};
    uint8_t block[210];
    float out[256];
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        fill(block, sizeof block, 7);
        memcpy(block, &odd[i], 2);
        memcpy(block + 208, &odd[i], 2);
        q4_k_to_f32(block, out);
        assert_true(i == 4 || !isfinite(out[255]));
        q6_k_to_f32(block, out);
        assert_true(i == 4 || !isfinite(out[255]));
    }
}

enum { N = 40 * 256 };
static float x[N], y[N];
static uint8_t packed[N];

/* Normal, or with long tails, or off zero. */
static void make_values(int how, uint32_t seed)
{
    for (uint32_t i = 0; i < N; i++) {
        struct philox p = philox(seed, i, 1, 0, 0);
        double u = (p.v[0] + 0.5) * 0x1p-32, v = p.v[1] * 0x1p-32, normal = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
        x[i] = (float)(0.02 * (how == 1 ? normal * normal * normal / 4 : normal) + (how == 2 ? 0.03 : how == 3 ? -0.03 : 0));
    }
}

static double error_of(enum dtype type)
{
    double square = 0, error = 0;
    dtype_from_f32(type, x, packed, N);
    dtype_to_f32(type, packed, y, N);
    for (int i = 0; i < N; i++) {
        square += (double)x[i] * x[i];
        error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    }
    return sqrt(error / square);
}

/* Smaller than Q4_1 and nearer than it; what searches for scales is worth its time. Q6_K: a quarter of that. */
static void test_rounding_is_near(void **state)
{
    (void)state;
    static const double most[4][2] = {{0.072, 0.0176}, {0.115, 0.029}, {0.041, 0.0147}, {0.041, 0.0147}};
    for (int how = 0; how < 4; how++) {
        make_values(how, 5 + (uint32_t)how);
        double q4 = error_of(DT_Q4_K), simple = error_of(DT_Q4_1), q6 = error_of(DT_Q6_K);
        if (!(q4 < most[how][0] && q4 < 0.95 * simple && q6 < most[how][1]))
            fail_msg("values %d: Q4_K %g, Q4_1 %g, Q6_K %g", how, q4, simple, q6);
    }
}

/* A value that has a code of its own comes back; so do zeros, one value throughout, and what a file holds. */
static void test_exact_values_come_back(void **state)
{
    (void)state;
    static const float same[] = {0, -0.0f, 1, -1, 1e-3f, -65000};
    float back[256];
    uint8_t block[210];
    for (size_t v = 0; v < sizeof same / sizeof *same; v++)
        for (int t = DT_Q4_K; t <= DT_Q6_K; t++) {
            for (int i = 0; i < 256; i++)
                x[i] = same[v];
            dtype_from_f32((enum dtype)t, x, block, 256);
            dtype_to_f32((enum dtype)t, block, back, 256);
            for (int i = 0; i < 256; i++)
                assert_true(fabsf(back[i] - same[v]) <= (same[v] == 1e-3f ? 0.03f : 6e-4f) * fabsf(same[v])); /* the scale of so small values is denormal */
        }
    for (int i = 0; i < 256; i++)
        x[i] = (float)(i / 32 + 1) * 0.125f * (float)(i * 7 % 16) - (float)(i / 32 * 8); /* scales 1..8, minima 0..56 */
    dtype_from_f32(DT_Q4_K, x, block, 256);
    dtype_to_f32(DT_Q4_K, block, back, 256);
    for (int i = 0; i < 256; i++)
        assert_true(fabsf(back[i] - x[i]) < 0.06f * (float)(i / 32 + 1));
}

/* What fits no code does no harm (the sanitizers watch the conversions) and is not hidden. */
static void test_odd_values(void **state)
{
    (void)state;
    static const float odd[] = {1e-45f, 1e-38f, 3e38f, INFINITY, -INFINITY, NAN};
    float back[256];
    uint8_t block[210];
    for (size_t v = 0; v < sizeof odd / sizeof *odd; v++)
        for (int t = DT_Q4_K; t <= DT_Q6_K; t++)
            for (int every = 1; every < 4; every++) {
                bool finite = true;
                for (int i = 0; i < 256; i++)
                    x[i] = i % every ? 1 : odd[v];
                dtype_from_f32((enum dtype)t, x, block, 256);
                dtype_to_f32((enum dtype)t, block, back, 256);
                for (int i = 0; i < 256; i++)
                    finite &= isfinite(back[i]) != 0;
                assert_true(finite == (fabsf(odd[v]) < 1) || isnan(odd[v])); /* of a NaN `quantize` refuses the source */
            }
}

/* For a GPU: the same codes, scales of 16 bits. */
static void test_as_q4_1(void **state)
{
    (void)state;
    uint8_t block[144], other[160];
    float want[256], got[256];
    for (uint32_t seed = 0; seed < 50; seed++) {
        fill(block, sizeof block, seed);
        put_half(block, 0.01f);
        put_half(block + 2, 0.02f);
        q4_k_to_q4_1(block, other);
        dtype_to_f32(DT_Q4_K, block, want, 256);
        dtype_to_f32(DT_Q4_1, other, got, 256);
        for (int i = 0; i < 256; i++) {
            int scale, minimum;
            q4_k_scale(block, i / 32, &scale, &minimum);
            assert_true(fabsf(want[i] - got[i]) <= 0x1.01p-11f * (0.01f * 15 * (float)scale + 0.02f * (float)minimum)); /* half a unit in the last place of each */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_bytes),  cmocka_unit_test(test_scales_that_are_no_numbers), cmocka_unit_test(test_rounding_is_near),
                                       cmocka_unit_test(test_exact_values_come_back), cmocka_unit_test(test_odd_values), cmocka_unit_test(test_as_q4_1)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
