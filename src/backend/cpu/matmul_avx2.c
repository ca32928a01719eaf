/* SPDX-License-Identifier: Apache-2.0 */
/* AVX2 with FMA and F16C, the bits of the others. A 64-byte line of weights is two registers, of 8 outputs each; there are 16 registers in all.

   bf16: a pair becomes two floats by a mask and a shift, and takes two multiply-adds, odd first. A chain waits four cycles for each, so that few rows take two
   blocks at a time, where memory would else wait for the chains.
   8-bit codes: the sum of two products of unsigned and signed bytes has 16 bits, so the sign goes to the activation: |w| <= 128 times |x| <= 127, twice, fits.
   4-bit codes: all eight sums of a stretch's pairs stay in 16 bits, at most 16 * 15 * 127, and are widened once; 6-bit codes: two sums, at most 4 * 63 * 127. */
#ifdef __AVX2__
#include "backend/cpu/tiles.h"

/* As many sums as there are registers for, beside weights and an activation. */
enum { PAIR_ROWS = 2, SINGLE_ROWS = 5 };

/* A tile's activations brought together, so that all rows are reached from one pointer. Bytes of a row: those of the kind that has most, and a line so that
   rows do not fall into the same cache sets. */
enum { NEAR_BYTES = 2048 + 64 };
struct near {
    _Alignas(64) uint8_t row[SINGLE_ROWS][NEAR_BYTES];
};

/* Not unrolled: compilers would mix the steps, and have too few registers for that. */
#define LOOP(i, n) _Pragma("GCC unroll 1") for (int i = 0; i < (n); i++)

INLINE __m256i load_part(const uint8_t *line, int p) { return _mm256_load_si256((const __m256i *)(const void *)(line + 32 * p)); }

INLINE __m256i broadcast4(const uint8_t *p) { return _mm256_set1_epi32(four_bytes(p)); }

/* As floats. */
INLINE void widen_rows(const struct slice *s, struct near *near, const int R)
{
    EACH(r, R)
        for (int k = 0; k < s->n; k += LANES)
            lanes_store((float *)(void *)near->row[r] + k, lanes_load_bf16((const uint16_t *)(const void *)(s->x + (size_t)r * s->x_stride) + s->k + k));
}

INLINE void tile_bf16(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    struct near near;
    struct sums acc[MAX_R][MAX_B];
    widen_rows(s, &near, R);
    load_acc(s, acc, R, B);
    for (size_t line = 0; line < (size_t)s->n / 2; line++) {
        fetch(s, line, R, B);
        EACH(even, 2)
        {
            __m256i w[MAX_B][PARTS];
            EACH(b, B) EACH_PART(p)
            {
                __m256i pairs = load_part(s->w[b] + 64 * line, p);
                w[b][p] = even ? _mm256_slli_epi32(pairs, 16) : _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000u));
            }
            EACH(r, R)
            {
                lanes a = lanes_all(one_float(near.row[r] + 8 * line + (even ? 0 : 4)));
                EACH(b, B) EACH_PART(p) acc[r][b].part[p] = lanes_fma((lanes)w[b][p], a, acc[r][b].part[p]);
            }
        }
    }
    store_acc(s, acc, R, B);
}

/* sum += more, in this order: compilers would add other terms first, and have too few registers for that. */
INLINE void add_here(__m256i *sum, __m256i more, const int bits)
{
    *sum = bits == 16 ? _mm256_add_epi16(*sum, more) : _mm256_add_epi32(*sum, more);
    __asm__("" : "+x"(*sum));
}

/* 8-bit codes in 16 bits: of each 32-block the even ones, then the odd ones. */
INLINE void split_rows(const struct slice *s, struct near *near, const int R)
{
    EACH(r, R)
        for (int k = 0; k < s->n; k += QUANT_K) {
            __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)(s->x + (size_t)r * s->x_stride + s->k + k));
            _mm256_store_si256((__m256i *)(void *)(near->row[r] + 2 * k), _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8));
            _mm256_store_si256((__m256i *)(void *)(near->row[r] + 2 * k + 32), _mm256_srai_epi16(codes, 8));
        }
}

INLINE void dot_q8(const struct slice *s, const uint8_t *x, size_t line, __m256i dot[][MAX_B][PARTS], const int R, const int B)
{
    LOOP(j, quants[MATRIX_Q8].lines)
    {
        fetch(s, line + (size_t)j, R, B);
        EACH(odd, 2)
        {
            __m256i w[MAX_B][PARTS];
            EACH(b, B) EACH_PART(p)
            {
                __m256i codes = load_part(s->w[b] + 64 * (line + (size_t)j), p);
                w[b][p] = odd ? _mm256_srli_epi16(codes, 8) : _mm256_and_si256(codes, _mm256_set1_epi16(255));
            }
            EACH(r, R)
            {
                __m256i a = broadcast4(x + r * NEAR_BYTES + 4 * j + 32 * odd);
                EACH(b, B) EACH_PART(p) add_here(&dot[r][b][p], _mm256_madd_epi16(w[b][p], a), 32);
            }
        }
    }
}

/* All eight pairs' sums in 16 bits, then widened. */
INLINE void dot_q4(const struct slice *s, const uint8_t *x, size_t line, __m256i dot[][MAX_B][PARTS], const int R, const int B)
{
    LOOP(j, quants[MATRIX_Q4_0].lines)
    {
        fetch(s, line + (size_t)j, R, B);
        EACH(high, 2)
        {
            __m256i w[MAX_B][PARTS];
            EACH(b, B) EACH_PART(p)
            {
                __m256i codes = load_part(s->w[b] + 64 * (line + (size_t)j), p);
                w[b][p] = _mm256_and_si256(high ? _mm256_srli_epi16(codes, 4) : codes, _mm256_set1_epi8(15));
            }
            EACH(r, R)
            {
                __m256i a = broadcast4(x + r * NEAR_BYTES + 16 * high + 4 * j);
                EACH(b, B) EACH_PART(p) add_here(&dot[r][b][p], _mm256_maddubs_epi16(w[b][p], a), 16);
            }
        }
    }
    EACH(r, R) EACH(b, B) EACH_PART(p) dot[r][b][p] = _mm256_madd_epi16(dot[r][b][p], _mm256_set1_epi16(1));
}

/* The words of the low nibbles, then those of the high ones; a pair's sums are widened. */
INLINE void dot_q6(const struct slice *s, const uint8_t *x, size_t line, __m256i dot[][MAX_B][PARTS], const int R, const int B)
{
    const __m256i mask = _mm256_set1_epi8(15), pair = _mm256_set1_epi8(0x30), ones = _mm256_set1_epi16(1);
    EACH(j, quants[MATRIX_Q6_K].lines) fetch(s, line + (size_t)j, R, B);
    EACH(high, 2)
    {
        __m256i w[MAX_B][PARTS][2];
        EACH(b, B) EACH_PART(p)
        {
            const uint8_t *from = s->w[b] + 64 * line;
            __m256i above = load_part(from + 64 * 2, p), a = load_part(from, p), c = load_part(from + 64, p);
            w[b][p][0] = _mm256_and_si256(high ? above : _mm256_slli_epi16(above, 4), pair);
            w[b][p][1] = _mm256_and_si256(high ? _mm256_srli_epi16(above, 2) : _mm256_slli_epi16(above, 2), pair);
            w[b][p][0] = _mm256_or_si256(w[b][p][0], _mm256_and_si256(high ? _mm256_srli_epi16(a, 4) : a, mask));
            w[b][p][1] = _mm256_or_si256(w[b][p][1], _mm256_and_si256(high ? _mm256_srli_epi16(c, 4) : c, mask));
        }
        EACH(r, R)
        {
            const uint8_t *row = x + r * NEAR_BYTES + 8 * high;
            __m256i first = broadcast4(row), second = broadcast4(row + 4);
            EACH(b, B) EACH_PART(p)
            {
                __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(w[b][p][0], first), _mm256_maddubs_epi16(w[b][p][1], second));
                add_here(&dot[r][b][p], _mm256_madd_epi16(sum, ones), 32);
            }
        }
    }
}

/* Minus offset * sum, which undoes the unsigned codes. */
INLINE void dot_block(const struct slice *s, enum matrix_kind kind, struct codes x, struct spot at, struct dots dot[][MAX_B], const int R, const int B)
{
    __m256i unsigned_dot[MAX_R][MAX_B][PARTS];
    EACH(r, R) EACH(b, B) EACH_PART(p) unsigned_dot[r][b][p] = _mm256_setzero_si256();
    if (kind == MATRIX_Q8)
        dot_q8(s, x.row + 2 * at.k, at.line, unsigned_dot, R, B);
    else if (kind == MATRIX_Q6_K)
        dot_q6(s, x.row + at.k, at.line, unsigned_dot, R, B);
    else
        dot_q4(s, x.row + at.k, at.line, unsigned_dot, R, B);
    EACH(r, R)
    {
        ilanes surplus = {0};
        if (quants[kind].offset)
            surplus += (ilanes)_mm256_slli_epi32(broadcast4(at.sum + (size_t)r * s->x_stride), __builtin_ctz((unsigned)quants[kind].offset));
        EACH(b, B) EACH_PART(p) dot[r][b].part[p] = (ilanes)unsigned_dot[r][b][p] - surplus;
    }
}

INLINE void tile_quant(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    struct near near;
    if (kind == MATRIX_Q8)
        split_rows(s, &near, R);
    else
        EACH(r, R) memcpy(near.row[r], s->x + (size_t)r * s->x_stride + s->k, (size_t)s->n);
    tile_codes(s, kind, (struct codes){near.row[0], NEAR_BYTES}, R, B);
}

TILES_5(f32, tile_f32, MATRIX_F32, 1)
TILES_2(f32, tile_f32, MATRIX_F32, 2)
TILES_5(bf16, tile_bf16, MATRIX_BF16, 1)
TILES_2(bf16, tile_bf16, MATRIX_BF16, 2)
TILES_5(q8, tile_quant, MATRIX_Q8, 1)
TILES_5(q4_0, tile_quant, MATRIX_Q4_0, 1)
TILES_5(q4_1, tile_quant, MATRIX_Q4_1, 1)
TILES_5(q4_k, tile_quant, MATRIX_Q4_K, 1)
TILES_5(q6_k, tile_quant, MATRIX_Q6_K, 1)

static tile_fn *const tile_table[MATRIX_KINDS][MAX_B][MAX_R + 1] = {
    [MATRIX_F32] = {{ROW_5(f32, 1)}, {ROW_2(f32, 2)}}, [MATRIX_BF16] = {{ROW_5(bf16, 1)}, {ROW_2(bf16, 2)}}, [MATRIX_Q8] = {{ROW_5(q8, 1)}},
    [MATRIX_Q4_0] = {{ROW_5(q4_0, 1)}},                [MATRIX_Q4_1] = {{ROW_5(q4_1, 1)}},
    [MATRIX_Q4_K] = {{ROW_5(q4_k, 1)}},                [MATRIX_Q6_K] = {{ROW_5(q6_k, 1)}},
};

static bool side_by_side(enum operand_kind kind, int rows) { return kind != OPERAND_Q8 && rows <= PAIR_ROWS; }
static int most_rows(enum operand_kind operand, enum matrix_kind kind, int B)
{
    (void)operand, (void)kind;
    return B > 1 ? PAIR_ROWS : SINGLE_ROWS;
}

static void round_bf16(const float *x, uint8_t *out)
{
    for (int k = 0; k < QUANT_K; k++)
        ((uint16_t *)(void *)out)[k] = f32_to_bf16(x[k]);
}

#define KERNELS_TABLE kernels_avx2
#define KERNELS_NAME "avx2"
#define KERNELS_USABLE has_avx2
#include "backend/cpu/matmul.inc"
#endif
