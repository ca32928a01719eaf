/* SPDX-License-Identifier: Apache-2.0 */
/* Where each number lies in a packed block and in an operand's row: shared by the packing and the kernel sets, private to the CPU backend. */
#ifndef BACKEND_CPU_LAYOUT_H
#define BACKEND_CPU_LAYOUT_H

#include <float.h>
#include <math.h>

#include "backend/cpu/matmul.h"
#include "base/half.h"

extern const struct kernels kernels_plain;
#ifdef __x86_64__
extern const struct kernels kernels_avx512, kernels_avx2;
#endif

/* Quantised kinds: per 64 k a group of two 32-blocks; codes first, then the scales of both, 16 rows each. */
enum {
    QUANT_K = 32,
    GROUP_K = 64,
    SCALE_LINE = 2 * MATRIX_ROWS * 2, /* [2][16] f16 */
    Q8_LINES = 8,                     /* 64-byte lines of codes in a 32-block: 4 k of 16 rows each */
    Q4_LINES = 4                      /* low nibbles k 4j..4j+3, high nibbles k 16+4j..16+4j+3 */
};

static inline bool matrix_quantised(enum matrix_kind kind) { return kind >= MATRIX_Q8; }

static inline int quant_lines(enum matrix_kind kind) { return kind == MATRIX_Q8 ? Q8_LINES : Q4_LINES; }

/* Codes are stored unsigned: w = d * (code - offset), Q4_1: w = d * code + m. */
static inline int quant_offset(enum matrix_kind kind) { return kind == MATRIX_Q8 ? 128 : kind == MATRIX_Q4_0 ? 8 : 0; }

static inline size_t group_bytes(enum matrix_kind kind)
{
    return (size_t)quant_lines(kind) * 128 + (kind == MATRIX_Q4_1 ? 2 * SCALE_LINE : SCALE_LINE);
}

/* 32-block b of a packed block of rows: its codes [lines][16][4], its scales d [16] f16, its minima m [16] f16 (Q4_1 only). */
static inline const uint8_t *quant_codes(enum matrix_kind kind, const uint8_t *data, int b)
{
    return data + (size_t)(b / 2) * group_bytes(kind) + (size_t)(b % 2) * (size_t)quant_lines(kind) * 64;
}

static inline const uint8_t *quant_scales(enum matrix_kind kind, const uint8_t *data, int b)
{
    return data + (size_t)(b / 2) * group_bytes(kind) + (size_t)quant_lines(kind) * 128 + (size_t)(b % 2) * (SCALE_LINE / 2);
}

static inline const uint8_t *quant_minima(enum matrix_kind kind, const uint8_t *data, int b) { return quant_scales(kind, data, b) + SCALE_LINE; }

/* The code of row i at position k (0..31) of a 32-block. */
static inline int quant_code(enum matrix_kind kind, const uint8_t *codes, int i, int k)
{
    if (kind == MATRIX_Q8)
        return codes[k / 4 * 64 + i * 4 + k % 4];
    uint8_t pair = codes[k % 16 / 4 * 64 + i * 4 + k % 4];
    return k < 16 ? pair & 15 : pair >> 4;
}

/* The weight of row i at column k of a packed block, exactly (Q4_1: product and sum rounded, as dtype_to_f32 does). */
float matrix_weight(enum matrix_kind kind, const uint8_t *data, int i, int k);

/* Bytes of an operand's row that are used. */
static inline size_t operand_bytes(enum operand_kind kind, int k)
{
    size_t n = (size_t)k;
    return kind == OPERAND_F32 ? n * 4 : kind == OPERAND_BF16 ? n * 2 : n + n / QUANT_K * 8;
}

/* A Q8 operand's row: int8 q[k], then f32 dx[k / 32], then int32 sum[k / 32]. */
static inline uint8_t *operand_at(const struct operand *x, int r) { return x->data + (size_t)r * x->row_bytes; }
static inline float *operand_scales(uint8_t *row, int k) { return (float *)(void *)(row + k); }
static inline int32_t *operand_sums(uint8_t *row, int k) { return (int32_t *)(void *)(row + k + (size_t)(k / QUANT_K) * 4); }

/* The scale of a 32-block of activations, and what they are multiplied with to give the codes; 0: all codes are zero. amax is the largest magnitude as bits,
   which orders NaN behind infinity. A scale that would be denormal counts as zero; a block with an infinity or a NaN gets the scale NaN, so that it shows in
   every product. */
static inline float quant_inverse(uint32_t amax, float *dx)
{
    *dx = amax >= 0x7f800000u ? NAN : f32_from_bits(amax) >= 127 * FLT_MIN ? f32_from_bits(amax) / 127.0f : 0;
    return *dx > 0 ? 1.0f / *dx : 0;
}

#endif
