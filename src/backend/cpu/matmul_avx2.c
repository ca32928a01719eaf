/* SPDX-License-Identifier: Apache-2.0 */
/* AVX2 with FMA and F16C, the bits of the others. A 64-byte line of weights is two registers, of 8 outputs each; there are 16 registers in all.

   bf16: a pair becomes two floats by a mask and a shift, and takes two multiply-adds, odd first. A chain waits four cycles for each, so that few rows take two
   blocks at a time, where memory would else wait for the chains.
   8-bit codes: the sum of two products of unsigned and signed bytes has 16 bits, so the sign goes to the activation: |w| <= 128 times |x| <= 127, twice, fits.
   4-bit codes: all eight sums of a 32-block's pairs stay in 16 bits, at most 16 * 15 * 127, and are widened once. */
#ifdef __AVX2__
#include "backend/cpu/tiles.h"

INLINE __m256i load_part(const uint8_t *line, int p) { return _mm256_load_si256((const __m256i *)(const void *)(line + 32 * p)); }

INLINE __m256i broadcast4(const uint8_t *p) { return _mm256_set1_epi32(four_bytes(p)); }

/* The odd or the even of each pair of bf16 as floats. */
INLINE __m256 half_of(__m256i pairs, const bool odd)
{
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000u)) : _mm256_slli_epi32(pairs, 16));
}

INLINE void tile_bf16(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    struct sums acc[MAX_R][MAX_B];
    load_acc(s, acc, R, B);
    const uint8_t *x = s->x + 2 * s->k;
    for (size_t line = 0; line < (size_t)s->n / 2; line++) {
        fetch(s, line, R, B);
        for (int odd = 1; odd >= 0; odd--) {
            __m256 w[MAX_B][PARTS];
            EACH(b, B) EACH_PART(p) w[b][p] = half_of(load_part(s->w[b] + 64 * line, p), odd);
            EACH(r, R)
            {
                __m256 a = half_of(broadcast4(x + (size_t)r * s->x_stride + 4 * line), odd);
                EACH(b, B) EACH_PART(p) acc[r][b].part[p] = lanes_fma((lanes)w[b][p], (lanes)a, acc[r][b].part[p]);
            }
        }
    }
    store_acc(s, acc, R, B);
}

/* Sums of two products of bytes, in 16 bits, widened to sums of four. */
INLINE __m256i widen_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

INLINE void dot_q8(const struct slice *s, size_t line, const uint8_t *x, struct dots dot[][MAX_B], const int R, const int B)
{
    EACH(r, R) EACH(b, B) EACH_PART(p) dot[r][b].part[p] = (ilanes){0};
    EACH(j, Q8_LINES)
    {
        __m256i w[MAX_B][PARTS], size[MAX_B][PARTS];
        EACH(b, B) EACH_PART(p)
        {
            w[b][p] = _mm256_xor_si256(load_part(s->w[b] + 64 * (line + (size_t)j), p), _mm256_set1_epi8(-128));
            size[b][p] = _mm256_abs_epi8(w[b][p]);
        }
        fetch(s, line + (size_t)j, R, B);
        EACH(r, R)
        {
            __m256i a = broadcast4(x + (size_t)r * s->x_stride + 4 * j);
            EACH(b, B) EACH_PART(p) dot[r][b].part[p] += (ilanes)widen_pairs(_mm256_maddubs_epi16(size[b][p], _mm256_sign_epi8(a, w[b][p])));
        }
    }
}

INLINE void dot_q4(const struct slice *s, enum matrix_kind kind, size_t line, const uint8_t *x, const uint8_t *sum, struct dots dot[][MAX_B], const int R, const int B)
{
    __m256i few[MAX_R][MAX_B][PARTS];
    EACH(r, R) EACH(b, B) EACH_PART(p) few[r][b][p] = _mm256_setzero_si256();
    EACH(j, Q4_LINES)
    {
        fetch(s, line + (size_t)j, R, B);
        for (int high = 0; high < 2; high++) {
            __m256i w[MAX_B][PARTS];
            EACH(b, B) EACH_PART(p)
            {
                __m256i codes = load_part(s->w[b] + 64 * (line + (size_t)j), p);
                w[b][p] = _mm256_and_si256(high ? _mm256_srli_epi16(codes, 4) : codes, _mm256_set1_epi8(15));
            }
            EACH(r, R)
            {
                __m256i a = broadcast4(x + (size_t)r * s->x_stride + 16 * high + 4 * j);
                EACH(b, B) EACH_PART(p) few[r][b][p] = _mm256_add_epi16(few[r][b][p], _mm256_maddubs_epi16(w[b][p], a));
            }
        }
    }
    EACH(r, R)
    {
        ilanes start = {0};
        if (quant_offset(kind))
            start -= (ilanes)_mm256_slli_epi32(broadcast4(sum + (size_t)r * s->x_stride), 3);
        EACH(b, B) EACH_PART(p) dot[r][b].part[p] = (ilanes)widen_pairs(few[r][b][p]) + start;
    }
}

INLINE void dot_block(const struct slice *s, enum matrix_kind kind, size_t line, const uint8_t *x, const uint8_t *sum, struct dots dot[][MAX_B], const int R, const int B)
{
    if (kind == MATRIX_Q8)
        dot_q8(s, line, x, dot, R, B);
    else
        dot_q4(s, kind, line, x, sum, dot, R, B);
}

TILES_6(f32, tile_f32, MATRIX_F32, 1)
TILES_3(f32, tile_f32, MATRIX_F32, 2)
TILES_6(bf16, tile_bf16, MATRIX_BF16, 1)
TILES_3(bf16, tile_bf16, MATRIX_BF16, 2)
TILES_6(q8, tile_quant, MATRIX_Q8, 1)
TILES_6(q4_0, tile_quant, MATRIX_Q4_0, 1)
TILES_6(q4_1, tile_quant, MATRIX_Q4_1, 1)

static tile_fn *const tile_table[MATRIX_KINDS][MAX_B][MAX_R + 1] = {
    [MATRIX_F32] = {{ROW_6(f32, 1)}, {ROW_3(f32, 2)}}, [MATRIX_BF16] = {{ROW_6(bf16, 1)}, {ROW_3(bf16, 2)}}, [MATRIX_Q8] = {{ROW_6(q8, 1)}},
    [MATRIX_Q4_0] = {{ROW_6(q4_0, 1)}},                [MATRIX_Q4_1] = {{ROW_6(q4_1, 1)}},
};

/* As many sums as there are registers for, beside weights and an activation. */
enum { PAIR_ROWS = 3, SINGLE_ROWS = 6, SINGLE_ROWS_Q8 = 5 };
static bool side_by_side(enum operand_kind kind, int rows) { return kind != OPERAND_Q8 && rows <= PAIR_ROWS; }
static int most_rows(enum operand_kind operand, enum matrix_kind kind, int B)
{
    return B > 1 ? PAIR_ROWS : operand == OPERAND_Q8 && kind == MATRIX_Q8 ? SINGLE_ROWS_Q8 : SINGLE_ROWS;
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
