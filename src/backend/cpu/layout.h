/* SPDX-License-Identifier: Apache-2.0 */
/* Where each number lies in a packed block and in an operand's row: shared by the packing and the kernel sets, private to the CPU backend. */
#ifndef BACKEND_CPU_LAYOUT_H
#define BACKEND_CPU_LAYOUT_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/cpu/matmul.h"
#include "base/half.h"

extern const struct kernels kernels_plain;
#ifdef __x86_64__
extern const struct kernels kernels_avx512, kernels_avx2;
#endif

/* Quantised kinds: stretches of columns that have one scale, and groups of them: first the codes of all, then their scales, 16 rows each. Large groups, whose scales
   are many lines, have them first: memory is fastest in order. */
enum { QUANT_K = 32, GROUP_K = 64, SCALE_BYTES = 2 * MATRIX_ROWS }; /* columns of a block of activations, and what all groups are multiples of; 16 bits for each row */

static const struct quant {
    int k, lines, offset; /* of a stretch: columns; 64-byte lines of codes; w = scale * (code - offset), and plus a minimum where there are such */
    int stretches, scale_lines; /* of a group */
    bool minima, factors; /* factors: a stretch has 8 bits, to be multiplied with 16 bits of the group */
} quants[MATRIX_KINDS] = {
    [MATRIX_Q8] = {32, 8, 128, 2, 1, false, false}, [MATRIX_Q4_0] = {32, 4, 8, 2, 1, false, false}, [MATRIX_Q4_1] = {32, 4, 0, 2, 2, true, false},
    [MATRIX_Q4_K] = {32, 4, 0, 8, 5, true, true},   [MATRIX_Q6_K] = {16, 3, 32, 16, 5, false, true},
};

static inline bool matrix_quantised(enum matrix_kind kind) { return kind >= MATRIX_Q8; }

/* Columns of a group; of a float kind what they are padded to. */
static inline int group_k(enum matrix_kind kind) { return matrix_quantised(kind) ? quants[kind].k * quants[kind].stretches : GROUP_K; }

static inline size_t group_bytes(enum matrix_kind kind) { return 64 * (size_t)(quants[kind].lines * quants[kind].stretches + quants[kind].scale_lines); }

/* In a group, where what belongs to stretch b begins: codes [lines][16][4], scale [16], minimum [16]; and the factors of scales and minima, [16] f16 each. */
static inline size_t codes_at(enum matrix_kind kind, size_t b) { return 64 * (b * (size_t)quants[kind].lines + (size_t)(quants[kind].factors ? quants[kind].scale_lines : 0)); }
static inline size_t scale_at(enum matrix_kind kind, size_t b) { return quants[kind].factors ? b * MATRIX_ROWS : codes_at(kind, (size_t)quants[kind].stretches) + b * SCALE_BYTES; }
static inline size_t minimum_at(enum matrix_kind kind, size_t b) { return scale_at(kind, b + (size_t)quants[kind].stretches); }
static inline size_t factor_at(enum matrix_kind kind) { return (quants[kind].minima ? minimum_at : scale_at)(kind, (size_t)quants[kind].stretches); }

/* The group that has stretch b of a packed block of rows. */
static inline const uint8_t *group_of(enum matrix_kind kind, const uint8_t *data, int b) { return data + (size_t)(b / quants[kind].stretches) * group_bytes(kind); }

/* Of word k / 4 of a stretch's codes, a byte for each k: the line that has its nibbles, and are they the high ones. In Q6_K a third line has the pairs of bits above
   them, those of word j from bit 2 j of a byte on. */
static inline int nibble_line(enum matrix_kind kind, int word) { return word % (quants[kind].k / 8); }
static inline int nibble_shift(enum matrix_kind kind, int word) { return word / (quants[kind].k / 8) * 4; }

/* The code of row i at column k of a stretch. */
static inline int quant_code(enum matrix_kind kind, const uint8_t *codes, int i, int k)
{
    const uint8_t *of = codes + i * 4 + k % 4;
    int word = k / 4;
    if (kind == MATRIX_Q8)
        return of[64 * word];
    int low = of[64 * nibble_line(kind, word)] >> nibble_shift(kind, word) & 15;
    return kind == MATRIX_Q6_K ? low | (of[64 * 2] >> 2 * word & 3) << 4 : low;
}

static inline float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return f16_to_f32(h);
}

/* The scale and the minimum of stretch b of a group, row i: exact. Scales of Q4_K are unsigned, of Q6_K signed. */
static inline float quant_scale(enum matrix_kind kind, const uint8_t *group, size_t b, int i)
{
    const uint8_t *at = group + scale_at(kind, b);
    return !quants[kind].factors ? half_at(at + 2 * i) : half_at(group + factor_at(kind) + 2 * i) * (float)(kind == MATRIX_Q6_K ? (int8_t)at[i] : at[i]);
}

static inline float quant_minimum(enum matrix_kind kind, const uint8_t *group, size_t b, int i)
{
    const uint8_t *at = group + minimum_at(kind, b);
    return !quants[kind].factors ? half_at(at + 2 * i) : half_at(group + factor_at(kind) + SCALE_BYTES + 2 * i) * (float)at[i];
}

/* The weight of row i at column k of a packed block, exactly (with a minimum the sum is rounded, as dtype_to_f32 does). */
float matrix_weight(enum matrix_kind kind, const uint8_t *data, int i, int k);

/* Bytes of an operand's row that are used. */
static inline size_t operand_bytes(enum operand_kind kind, int k)
{
    size_t n = (size_t)k;
    return kind == OPERAND_F32 ? n * 4 : kind == OPERAND_BF16 ? n * 2 : n + n / QUANT_K * 20;
}

/* A Q8 operand's row: int8 q[k], then of each 32-block f32 dx, int32 sum of q, f32 dx * sum, int32 sums of its halves [2]. */
static inline uint8_t *operand_at(const struct operand *x, int r) { return x->data + (size_t)r * x->row_bytes; }
static inline float *operand_scales(uint8_t *row, int k) { return (float *)(void *)(row + k); }
static inline int32_t *operand_sums(uint8_t *row, int k) { return (int32_t *)(void *)(row + k + (size_t)(k / QUANT_K) * 4); }
static inline float *operand_parts(uint8_t *row, int k) { return (float *)(void *)(row + k + (size_t)(k / QUANT_K) * 8); }
static inline int32_t *operand_halves(uint8_t *row, int k) { return (int32_t *)(void *)(row + k + (size_t)(k / QUANT_K) * 12); }

/* Everything of a 32-block b that follows from its scale and the sums of its halves' codes. */
static inline void operand_sum(uint8_t *row, int k, int b, const int32_t half[2])
{
    memcpy(operand_halves(row, k) + 2 * b, half, 2 * sizeof *half);
    operand_sums(row, k)[b] = half[0] + half[1];
    operand_parts(row, k)[b] = operand_scales(row, k)[b] * (float)(half[0] + half[1]);
}

/* The scale of a 32-block of activations, and what they are multiplied with to give the codes; 0: all codes are zero. amax is the largest magnitude as bits,
   which orders NaN behind infinity. A scale that would be denormal counts as zero; a block with an infinity or a NaN gets the scale NaN, so that it shows in
   every product. */
static inline float quant_inverse(uint32_t amax, float *dx)
{
    *dx = amax >= 0x7f800000u ? NAN : f32_from_bits(amax) >= 127 * FLT_MIN ? f32_from_bits(amax) / 127.0f : 0;
    return *dx > 0 ? 1.0f / *dx : 0;
}

#endif
