/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: what every kernel set must compute, bit for bit. It needs nothing of the CPU, neither fused multiply-add nor flush-to-zero mode. Weights are
   decoded once for all rows, and loops go over 16 outputs, which compilers turn into whatever vectors there are. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/cpu/layout.h"
#include "base/half.h"

/* A denormal counts as zero of its sign. By bits, so that it holds whatever mode the thread is in. */
static float flush(float x)
{
    uint32_t u = f32_bits(x);
    return u & 0x7f800000u ? x : f32_from_bits(u & 0x80000000u);
}

/* a * b + c rounded once; inputs and results that are denormal count as zero. A result is denormal when it is below FLT_MIN after rounding to 24 bits
   as if exponents had no end. So fmaf's FLT_MIN may have been less: then the same sum 2^32 times larger tells (|a b| and |c| are far below 2^-70 there,
   and the factor that is scaled is the smaller one: nothing overflows).
   vdpbf16ps does exactly two of these, whatever MXCSR says: 6 * 10^8 random sums on Zen 4 (any bits, cancelling, around the smallest normal number)
   without a difference, while flushing what fmaf returns is wrong in 3 % of the sums that end within a few ulp of FLT_MIN. */
static float fma_flush(float a, float b, float c)
{
    a = flush(a), b = flush(b), c = flush(c);
    float sum = fmaf(a, b, c);
    if (sum == 0 || !(fabsf(sum) <= FLT_MIN))
        return sum;
    float small = fabsf(a) < fabsf(b) ? a : b, large = fabsf(a) < fabsf(b) ? b : a;
    bool tiny = fabsf(fmaf(small * 0x1p32f, large, c * 0x1p32f)) < FLT_MIN * 0x1p32f;
    return copysignf(tiny ? 0 : FLT_MIN, sum);
}

/* What 16 outputs have at one place. */
typedef float line[MATRIX_ROWS];

/* s = a b + c in double, of floats, rounded to float next: were both roundings one? The product is exact, so the second can only go wrong where the first one was not
   exact and ended half way between two floats. */
static bool one_rounding(const line a, const line b, const line c, const double *s)
{
    uint32_t word[2 * MATRIX_ROWS], half = 0; /* both words of s are looked at, whichever is the lower: a false alarm only costs time */
    memcpy(word, s, sizeof word);
    for (int i = 0; i < 2 * MATRIX_ROWS; i++)
        half |= (word[i] & 0x1fffffffu) == 0x10000000u;
    int64_t inexact = 0; /* as wide as what is compared, for the vectors' sake */
    if (!half)
        return true;
    for (int i = 0; i < MATRIX_ROWS; i++) {
        double product = (double)a[i] * (double)b[i];
        inexact |= (int64_t)(s[i] - product != (double)c[i]) | (int64_t)(s[i] - (double)c[i] != product);
    }
    return !inexact;
}

/* Is one of them so small, and not zero, that it may count as a denormal? */
static bool any_tiny(const double *s)
{
    int64_t tiny = 0;
    for (int i = 0; i < MATRIX_ROWS; i++)
        tiny |= (int64_t)(fabs(s[i]) <= 2 * (double)FLT_MIN) & (int64_t)(s[i] != 0);
    return tiny;
}

/* c = fma_flush(a, b, c), of inputs that have no denormals. libm's fmaf is called only where the way through double may end in another bit. */
static inline __attribute__((always_inline)) void fma_line(const line a, const line b, line c)
{
    double s[MATRIX_ROWS];
    line sum;
    uint32_t small = 0; /* what is zero is so too, and common */
    for (int i = 0; i < MATRIX_ROWS; i++)
        s[i] = (double)a[i] * (double)b[i] + (double)c[i];
    for (int i = 0; i < MATRIX_ROWS; i++)
        sum[i] = (float)s[i];
    for (int i = 0; i < MATRIX_ROWS; i++)
        small |= (uint32_t)(fabsf(sum[i]) <= 2 * FLT_MIN);
    if (!(small && any_tiny(s)) && one_rounding(a, b, c, s)) {
        memcpy(c, sum, sizeof sum);
        return;
    }
    for (int i = 0; i < MATRIX_ROWS; i++)
        c[i] = fma_flush(a[i], b[i], c[i]);
}

static void fill_line(line x, float value)
{
    for (int i = 0; i < MATRIX_ROWS; i++)
        x[i] = value;
}

static void flush_line(line x)
{
    for (int i = 0; i < MATRIX_ROWS; i++)
        x[i] = flush(x[i]);
}

/* Columns [k, k + GROUP_K) of a packed block. */
static void widen(enum matrix_kind kind, const uint8_t *w, int k, line *out)
{
    if (kind == MATRIX_BF16) {
        uint16_t pair[2 * MATRIX_ROWS];
        for (int j = 0; j < GROUP_K; j += 2) {
            memcpy(pair, w + (size_t)(k + j) * MATRIX_ROWS * 2, sizeof pair);
            for (int i = 0; i < MATRIX_ROWS; i++) {
                out[j][i] = bf16_to_f32(pair[2 * i]);
                out[j + 1][i] = bf16_to_f32(pair[2 * i + 1]);
            }
        }
    } else if (kind == MATRIX_F32) {
        memcpy(out, w + (size_t)k * sizeof *out, GROUP_K * sizeof *out);
    } else {
        for (int j = 0; j < GROUP_K; j++)
            for (int i = 0; i < MATRIX_ROWS; i++)
                out[j][i] = matrix_weight(kind, w, i, k + j);
    }
    for (int j = 0; j < GROUP_K; j++)
        flush_line(out[j]);
}

/* acc[r] += a group of 64 columns times row r of f32 or bf16 activations; of those each odd column goes before its even one. */
static void group_float(const struct matrix *w, const uint8_t *block, const struct operand *x, int k, line *acc)
{
    line wide[GROUP_K], activation;
    widen(w->kind, block, k, wide);
    for (int r = 0; r < x->rows; r++)
        for (int j = 0; j < GROUP_K; j++) {
            const uint8_t *row = operand_at(x, r);
            bool pairs = x->kind == OPERAND_BF16;
            int at = pairs ? j ^ 1 : j;
            fill_line(activation, flush(pairs ? bf16_to_f32(((const uint16_t *)(const void *)row)[k + at]) : ((const float *)(const void *)row)[k + at]));
            fma_line(wide[at], activation, acc[r]);
        }
}

/* acc += scale * dx * n */
static void add_scaled(const line scale, float dx, const int32_t *n, line acc)
{
    line factor, number, product;
    for (int i = 0; i < MATRIX_ROWS; i++)
        number[i] = (float)n[i];
    fill_line(factor, dx);
    fill_line(product, -0.0f); /* the sum keeps the product's sign also when that is a zero */
    fma_line(scale, factor, product);
    fma_line(product, number, acc);
}

/* Stretch b of a packed block, for all rows. */
static void stretch_quant(const struct matrix *w, const uint8_t *block, const struct operand *x, int b, line *acc)
{
    const struct quant *quant = &quants[w->kind];
    const size_t at = (size_t)(b % quant->stretches);
    const uint8_t *group = group_of(w->kind, block, b);
    int16_t code[QUANT_K][MATRIX_ROWS];
    line scale, minimum, part;
    for (int i = 0; i < MATRIX_ROWS; i++) {
        scale[i] = quant_scale(w->kind, group, at, i);
        minimum[i] = quant->minima ? quant_minimum(w->kind, group, at, i) : 0;
        for (int j = 0; j < quant->k; j++)
            code[j][i] = (int16_t)(quant_code(w->kind, group + codes_at(w->kind, at), i, j) - quant->offset);
    }
    for (int r = 0; r < x->rows; r++) {
        uint8_t *row = operand_at(x, r);
        const int8_t *q = (const int8_t *)row + b * quant->k;
        const int block_32 = b * quant->k / QUANT_K;
        int32_t dot[MATRIX_ROWS] = {0};
        for (int j = 0; j < quant->k; j += 2)
            for (int i = 0; i < MATRIX_ROWS; i++)
                dot[i] += (int16_t)(code[j][i] * q[j] + code[j + 1][i] * q[j + 1]); /* at most 2 * 128 * 127 */
        add_scaled(scale, operand_scales(row, w->k)[block_32], dot, acc[r]);
        fill_line(part, operand_parts(row, w->k)[block_32]);
        if (quant->minima)
            fma_line(minimum, part, acc[r]);
    }
}

static void group_quant(const struct matrix *w, const uint8_t *block, const struct operand *x, int k, line *acc)
{
    for (int b = k / quants[w->kind].k; b < (k + GROUP_K) / quants[w->kind].k; b++)
        stretch_quant(w, block, x, b, acc);
}

static void matmul(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    line acc[MATMUL_MAX_ROWS];
    for (int block = from; block < to; block++) {
        int first = block * MATRIX_ROWS, n = w->rows - first < MATRIX_ROWS ? w->rows - first : MATRIX_ROWS;
        memset(acc, 0, sizeof acc);
        for (int k = 0; k < w->k; k += GROUP_K)
            (x->kind == OPERAND_Q8 ? group_quant : group_float)(w, w->data + (size_t)block * w->block_bytes, x, k, acc);
        for (int r = 0; r < x->rows; r++)
            memcpy(out + (size_t)r * out_stride + first, acc[r], (size_t)n * sizeof **acc);
    }
}

/* One block of 32 to int8. */
static void quantise(uint8_t *row, int all, int b, const float *x)
{
    int8_t *q = (int8_t *)row + b * QUANT_K;
    int32_t half[2] = {0};
    uint32_t amax = 0;
    for (int k = 0; k < QUANT_K; k++) {
        uint32_t magnitude = f32_bits(x[k]) & 0x7fffffffu;
        amax = magnitude > amax ? magnitude : amax;
    }
    float inverse = quant_inverse(amax, operand_scales(row, all) + b);
    for (int k = 0; k < QUANT_K; k++) {
        q[k] = inverse > 0 ? (int8_t)rintf(flush(x[k]) * inverse) : 0;
        half[k / (QUANT_K / 2)] += q[k];
    }
    operand_sum(row, all, b, half);
}

static void operand_row(struct operand *op, int r, const float *x, int cols)
{
    uint8_t *row = operand_at(op, r);
    memset(row, 0, op->row_bytes);
    if (op->kind == OPERAND_F32) {
        memcpy(row, x, (size_t)cols * sizeof *x);
    } else if (op->kind == OPERAND_BF16) {
        for (int k = 0; k < cols; k++)
            ((uint16_t *)(void *)row)[k] = f32_to_bf16(x[k]);
    } else {
        for (int b = 0; b * QUANT_K < cols; b++) {
            float block[QUANT_K] = {0};
            int n = cols - b * QUANT_K < QUANT_K ? cols - b * QUANT_K : QUANT_K;
            memcpy(block, x + b * QUANT_K, (size_t)n * sizeof *x);
            quantise(row, op->k, b, block);
        }
    }
}

static bool usable(void) { return true; }

const struct kernels kernels_plain = {.name = "plain", .usable = usable, .operand_row = operand_row, .matmul = matmul};
