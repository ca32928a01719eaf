/* SPDX-License-Identifier: Apache-2.0 */
#include "base/dtype.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/half.h"
#include "base/kquants.h"

const struct dtype_info dtype_table[DT_COUNT] = {
    [DT_F32] = {"F32", 1, 4},    [DT_F16] = {"F16", 1, 2},    [DT_BF16] = {"BF16", 1, 2},
    [DT_Q8_0] = {"Q8_0", 32, 34}, [DT_Q4_0] = {"Q4_0", 32, 18}, [DT_Q4_1] = {"Q4_1", 32, 20},
    [DT_Q4_K] = {"Q4_K", KQUANT_K, Q4_K_BYTES}, [DT_Q6_K] = {"Q6_K", KQUANT_K, Q6_K_BYTES},
};

uint64_t dtype_row_bytes(enum dtype type, uint64_t n)
{
    const struct dtype_info *t = &dtype_table[type];
    uint64_t bytes;
    if (n % (uint64_t)t->block || mul_u64(n / (uint64_t)t->block, (uint64_t)t->bytes, &bytes))
        return 0;
    return bytes;
}

static uint16_t get_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void q8_to_f32(const uint8_t *p, float *out)
{
    float d = f16_to_f32(get_u16(p));
    for (int j = 0; j < 32; j++)
        out[j] = d * (float)(int8_t)p[2 + j];
}

static void q4_0_to_f32(const uint8_t *p, float *out)
{
    float d = f16_to_f32(get_u16(p));
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)((p[2 + j] & 15) - 8);
        out[j + 16] = d * (float)((p[2 + j] >> 4) - 8);
    }
}

/* w = d q + m */
static void q4_1_to_f32(const uint8_t *p, float *out)
{
    float d = f16_to_f32(get_u16(p)), m = f16_to_f32(get_u16(p + 2));
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)(p[4 + j] & 15) + m;
        out[j + 16] = d * (float)(p[4 + j] >> 4) + m;
    }
}

void dtype_to_f32(enum dtype type, const void *src, float *out, uint64_t n)
{
    static void (*const block_to_f32[DT_COUNT])(const uint8_t *, float *) = {
        [DT_Q8_0] = q8_to_f32, [DT_Q4_0] = q4_0_to_f32, [DT_Q4_1] = q4_1_to_f32, [DT_Q4_K] = q4_k_to_f32, [DT_Q6_K] = q6_k_to_f32};
    const uint64_t block = (uint64_t)dtype_table[type].block, bytes = (uint64_t)dtype_table[type].bytes;
    const uint8_t *p = src;
    switch (type) {
    case DT_F32:
        memcpy(out, p, n * 4);
        return;
    case DT_F16:
        for (uint64_t i = 0; i < n; i++)
            out[i] = f16_to_f32(get_u16(p + 2 * i));
        return;
    case DT_BF16:
        for (uint64_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(get_u16(p + 2 * i));
        return;
    default:
        for (uint64_t b = 0; b < n / block; b++)
            block_to_f32[type](p + b * bytes, out + b * block);
    }
}

/* The loops below are plain and of fixed length so that every compiler makes vector code of them: a checkpoint has billions of values. */

/* The largest of 32 values; NaN counts as `least`. */
static float largest(const float *x, float least)
{
    float m[16];
    for (int j = 0; j < 16; j++) {
        float a = x[j] > least ? x[j] : least;
        m[j] = x[j + 16] > a ? x[j + 16] : a;
    }
    for (int n = 8; n; n /= 2)
        for (int j = 0; j < n; j++)
            m[j] = m[j] > m[j + n] ? m[j] : m[j + n];
    return m[0];
}

/* Cut to [lo, hi] while they are still floats: infinity and NaN (which gives lo) fit no int. */
static void to_codes(const float *x, float lo, float hi, int32_t *q)
{
    for (int j = 0; j < 32; j++) {
        float v = x[j] > lo ? x[j] : lo;
        q[j] = (int32_t)(v < hi ? v : hi);
    }
}

static void q8_from_f32(const float *x, uint8_t *p)
{
    float t[32];
    int32_t q[32];
    for (int j = 0; j < 32; j++)
        t[j] = fabsf(x[j]);
    float d = largest(t, 0) / 127.0f, inv = d > 0 ? 1.0f / d : 0;
    put_u16(p, f32_to_f16(d));
    /* To nearest, halves away from zero: the number below one half, so that no sum is rounded up to the next integer before its fraction is cut off. */
    for (int j = 0; j < 32; j++)
        t[j] = x[j] * inv + copysignf(0.49999997f, x[j]);
    to_codes(t, -127, 127, q);
    for (int j = 0; j < 32; j++)
        p[2 + j] = (uint8_t)q[j];
}

/* The value of largest magnitude; of equal ones the first. */
static float find_peak(const float *x, float lo, float hi)
{
    if (hi != -lo)
        return hi > -lo ? hi : lo;
    for (int j = 0; j < 32; j++)
        if (x[j] == lo || x[j] == hi)
            return x[j];
    return hi;
}

/* Codes q = (x - m) / d rounded half up, 0..15, packed low nibbles first. */
static void q4_from_f32(enum dtype type, const float *x, uint8_t *p)
{
    float t[32];
    int32_t q[32];
    for (int j = 0; j < 32; j++)
        t[j] = -x[j];
    float hi = largest(x, -INFINITY), lo = -largest(t, -INFINITY);
    float d = type == DT_Q4_0 ? find_peak(x, lo, hi) / -8.0f : (hi - lo) / 15.0f;
    float m = type == DT_Q4_0 ? -8.0f * d : lo, inv = d != 0 ? 1.0f / d : 0;
    put_u16(p, f32_to_f16(d));
    if (type == DT_Q4_1)
        put_u16(p + 2, f32_to_f16(m));
    p += dtype_table[type].bytes - 16;
    for (int j = 0; j < 32; j++)
        t[j] = (x[j] - m) * inv + 0.5f;
    to_codes(t, 0, 15, q);
    for (int j = 0; j < 16; j++)
        p[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static void q4_0_from_f32(const float *x, uint8_t *p) { q4_from_f32(DT_Q4_0, x, p); }
static void q4_1_from_f32(const float *x, uint8_t *p) { q4_from_f32(DT_Q4_1, x, p); }

void dtype_from_f32(enum dtype type, const float *src, void *out, uint64_t n)
{
    static void (*const block_from_f32[DT_COUNT])(const float *, uint8_t *) = {
        [DT_Q8_0] = q8_from_f32, [DT_Q4_0] = q4_0_from_f32, [DT_Q4_1] = q4_1_from_f32, [DT_Q4_K] = q4_k_from_f32, [DT_Q6_K] = q6_k_from_f32};
    const uint64_t block = (uint64_t)dtype_table[type].block, bytes = (uint64_t)dtype_table[type].bytes;
    uint8_t *p = out;
    switch (type) {
    case DT_F32:
        memcpy(p, src, n * 4);
        return;
    case DT_F16:
        for (uint64_t i = 0; i < n; i++)
            put_u16(p + 2 * i, f32_to_f16(src[i]));
        return;
    case DT_BF16:
        for (uint64_t i = 0; i < n; i++)
            put_u16(p + 2 * i, f32_to_bf16(src[i]));
        return;
    default:
        for (uint64_t b = 0; b < n / block; b++)
            block_from_f32[type](src + b * block, p + b * bytes);
    }
}
