/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: what every kernel set must compute, bit for bit. It needs nothing of the CPU, neither fused multiply-add nor flush-to-zero mode. */
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

static float mul_flush(float a, float b) { return fma_flush(a, b, -0.0f); } /* -0: the sum keeps the product's sign also when that is a zero */

/* One block times one row of a wide operand: acc[16]. */
static void product_wide(enum matrix_kind kind, const uint8_t *w, const uint8_t *row, int n, float *acc)
{
    const float *x = (const float *)(const void *)row;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < MATRIX_ROWS; i++)
            acc[i] = fma_flush(matrix_weight(kind, w, i, k), x[k], acc[i]);
}

static void product_bf16(enum matrix_kind kind, const uint8_t *w, const uint8_t *row, int n, float *acc)
{
    const uint16_t *x = (const uint16_t *)(const void *)row;
    for (int k = 0; k < n; k += 2)
        for (int i = 0; i < MATRIX_ROWS; i++) {
            acc[i] = fma_flush(matrix_weight(kind, w, i, k + 1), bf16_to_f32(x[k + 1]), acc[i]);
            acc[i] = fma_flush(matrix_weight(kind, w, i, k), bf16_to_f32(x[k]), acc[i]);
        }
}

static void product_quant(enum matrix_kind kind, const uint8_t *w, const uint8_t *row, int n, float *acc)
{
    const float *dx = operand_scales((uint8_t *)row, n);
    const int32_t *sum = operand_sums((uint8_t *)row, n);
    for (int b = 0; b < n / QUANT_K; b++) {
        const uint8_t *codes = quant_codes(kind, w, b);
        const int8_t *q = (const int8_t *)row + b * QUANT_K;
        for (int i = 0; i < MATRIX_ROWS; i++) {
            int32_t dot = -quant_offset(kind) * sum[b];
            for (int k = 0; k < QUANT_K; k++)
                dot += quant_code(kind, codes, i, k) * q[k];
            uint16_t d, m;
            memcpy(&d, quant_scales(kind, w, b) + 2 * i, 2);
            acc[i] = fma_flush(mul_flush(f16_to_f32(d), dx[b]), (float)dot, acc[i]);
            if (kind == MATRIX_Q4_1) {
                memcpy(&m, quant_minima(kind, w, b) + 2 * i, 2);
                acc[i] = fma_flush(mul_flush(f16_to_f32(m), dx[b]), (float)sum[b], acc[i]);
            }
        }
    }
}

static void matmul(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    static void (*const product[OPERAND_KINDS])(enum matrix_kind, const uint8_t *, const uint8_t *, int, float *) = {
        [OPERAND_F32] = product_wide, [OPERAND_BF16] = product_bf16, [OPERAND_Q8] = product_quant};
    for (int block = from; block < to; block++) {
        int first = block * MATRIX_ROWS, n = w->rows - first < MATRIX_ROWS ? w->rows - first : MATRIX_ROWS;
        for (int r = 0; r < x->rows; r++) {
            float acc[MATRIX_ROWS] = {0};
            product[x->kind](w->kind, w->data + (size_t)block * w->block_bytes, operand_at(x, r), w->k, acc);
            memcpy(out + (size_t)r * out_stride + first, acc, (size_t)n * sizeof *acc);
        }
    }
}

/* One block of 32 to int8. */
static void quantise(const float *x, int8_t *q, float *dx, int32_t *sum)
{
    uint32_t amax = 0;
    for (int k = 0; k < QUANT_K; k++) {
        uint32_t magnitude = f32_bits(x[k]) & 0x7fffffffu;
        amax = magnitude > amax ? magnitude : amax;
    }
    float inverse = quant_inverse(amax, dx);
    *sum = 0;
    for (int k = 0; k < QUANT_K; k++) {
        q[k] = inverse > 0 ? (int8_t)rintf(flush(x[k]) * inverse) : 0;
        *sum += q[k];
    }
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
        float *dx = operand_scales(row, op->k);
        int32_t *sum = operand_sums(row, op->k);
        for (int b = 0; b * QUANT_K < cols; b++) {
            float block[QUANT_K] = {0};
            int n = cols - b * QUANT_K < QUANT_K ? cols - b * QUANT_K : QUANT_K;
            memcpy(block, x + b * QUANT_K, (size_t)n * sizeof *x);
            quantise(block, (int8_t *)row + b * QUANT_K, &dx[b], &sum[b]);
        }
    }
}

static bool usable(void) { return true; }

const struct kernels kernels_plain = {.name = "plain", .usable = usable, .operand_row = operand_row, .matmul = matmul};
