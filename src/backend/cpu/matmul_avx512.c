/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with BF16 and VNNI. One 64-byte line of weights is one register, an activation is broadcast to all its lanes, so there is no horizontal sum and
   one chain per output whatever the tile.

   Few rows take one block at a time: memory is fastest as one long run of lines. Where the dots are the limit, two blocks go side by
   side, so that a broadcast feeds two dots (one load a cycle, and one dot a cycle). */
#include "backend/cpu/tiles.h"

INLINE __m512i load_line(const uint8_t *p) { return _mm512_load_si512(p); }

INLINE __m512i broadcast4(const uint8_t *p) { return _mm512_set1_epi32(four_bytes(p)); }

/* Four activations of row r, line j of a quad, to all lanes. With one block a load for each would be the limit: the first rows take one load for the whole
   quad, and shuffles. */
enum { SHUFFLED_ROWS = 2, WORDS = 8 };
INLINE __m512i load_quad(const uint8_t *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p)); }

INLINE __m512i activation(const uint8_t *row, __m512i quad, int r, int j, const int B)
{
    if (B > 1 || r >= SHUFFLED_ROWS)
        return broadcast4(row + 4 * j);
    switch (j) {
    case 0:
        return _mm512_shuffle_epi32(quad, 0x00);
    case 1:
        return _mm512_shuffle_epi32(quad, 0x55);
    case 2:
        return _mm512_shuffle_epi32(quad, 0xaa);
    default:
        return _mm512_shuffle_epi32(quad, 0xff);
    }
}

INLINE void tile_bf16(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    struct sums acc[MAX_R][MAX_B];
    __m512i quad[MAX_R];
    __m512bh w[MAX_B];
    load_acc(s, acc, R, B);
    const uint8_t *x = s->x + 2 * s->k;
    for (size_t line = 0; line < (size_t)s->n / 2; line += 4) {
        EACH(r, R) quad[r] = load_quad(x + (size_t)r * s->x_stride + 4 * line);
        EACH(j, 4)
        {
            EACH(b, B) w[b] = (__m512bh)load_line(s->w[b] + 64 * (line + (size_t)j));
            fetch(s, line + (size_t)j, R, B);
            EACH(r, R)
            {
                __m512bh a = (__m512bh)activation(x + (size_t)r * s->x_stride + 4 * line, quad[r], r, j, B);
                EACH(b, B) acc[r][b].part[0] = (lanes)_mm512_dpbf16_ps((__m512)acc[r][b].part[0], w[b], a);
            }
        }
    }
    store_acc(s, acc, R, B);
}

/* Four lines of 4 k of one block, whose activations are at x. */
INLINE void dot_quad(const struct slice *s, const __m512i *w, const uint8_t *x, struct dots dot[][MAX_B], const int R)
{
    EACH(r, R)
    {
        const uint8_t *row = x + (size_t)r * s->x_stride;
        __m512i quad = load_quad(row);
        EACH(j, 4) dot[r][0].part[0] = (ilanes)_mm512_dpbusd_epi32((__m512i)dot[r][0].part[0], w[j], activation(row, quad, r, j, 1));
    }
}

/* One line of 4 k of each block. */
INLINE void dot_line(const struct slice *s, const __m512i *w, const uint8_t *x, struct dots dot[][MAX_B], const int R, const int B)
{
    EACH(r, R)
    {
        __m512i a = broadcast4(x + (size_t)r * s->x_stride);
        EACH(b, B) dot[r][b].part[0] = (ilanes)_mm512_dpbusd_epi32((__m512i)dot[r][b].part[0], w[b], a);
    }
}

/* Line j of nibbles of each block: word j, and the one that the high nibbles are. */
INLINE void unpack_q4(const struct slice *s, size_t line, int j, __m512i w[][MAX_B], const int B)
{
    const __m512i mask = _mm512_set1_epi8(15);
    EACH(b, B)
    {
        __m512i codes = load_line(s->w[b] + 64 * (line + (size_t)j));
        w[j][b] = _mm512_and_si512(codes, mask);
        w[j + 4][b] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask);
    }
}

/* Two lines of nibbles and one of the pairs of bits above them. */
INLINE void unpack_q6(const struct slice *s, size_t line, __m512i w[][MAX_B], const int B)
{
    const __m512i mask = _mm512_set1_epi8(15), pair = _mm512_set1_epi8(0x30);
    EACH(b, B)
    {
        const uint8_t *from = s->w[b] + 64 * line;
        __m512i high = load_line(from + 64 * 2);
        const __m512i place[4] = {_mm512_slli_epi16(high, 4), _mm512_slli_epi16(high, 2), high, _mm512_srli_epi16(high, 2)};
        EACH(j, 4)
        {
            __m512i codes = load_line(from + 64 * (j % 2));
            codes = _mm512_and_si512(j < 2 ? codes : _mm512_srli_epi16(codes, 4), mask);
            w[j][b] = _mm512_ternarylogic_epi32(codes, place[j], pair, 0xf8); /* codes | (place & pair) */
        }
    }
}

/* Dots start at -offset * sum, which undoes the unsigned codes. One block goes by rows, so that a quad of activations is one load; two by lines, which leaves
   the registers to the sums. */
INLINE void dot_block(const struct slice *s, enum matrix_kind kind, struct codes codes, struct spot at, struct dots dot[][MAX_B], const int R, const int B)
{
    const uint8_t *x = codes.row + at.k;
    const int words = quants[kind].k / 4;
    __m512i w[WORDS][MAX_B], one[WORDS];
    EACH(r, R)
    {
        ilanes start = {0};
        if (quants[kind].offset)
            start -= (ilanes)_mm512_slli_epi32(broadcast4(at.sum + (size_t)r * s->x_stride), __builtin_ctz((unsigned)quants[kind].offset));
        EACH(b, B) dot[r][b].part[0] = start;
    }
    if (kind == MATRIX_Q6_K)
        unpack_q6(s, at.line, w, B);
    EACH(j, quants[kind].lines)
    {
        if (kind == MATRIX_Q8)
            EACH(b, B) w[j][b] = load_line(s->w[b] + 64 * (at.line + (size_t)j));
        else if (kind != MATRIX_Q6_K)
            unpack_q4(s, at.line, j, w, B);
        fetch(s, at.line + (size_t)j, R, B);
        if (B > 1 && kind != MATRIX_Q6_K) {
            dot_line(s, w[j], x + 4 * j, dot, R, B);
            if (kind != MATRIX_Q8)
                dot_line(s, w[j + 4], x + 16 + 4 * j, dot, R, B);
        }
    }
    if (B > 1 && kind == MATRIX_Q6_K)
        EACH(j, words) dot_line(s, w[j], x + 4 * j, dot, R, B);
    if (B == 1) {
        EACH(j, words) one[j] = w[j][0];
        EACH(quad, words / 4) dot_quad(s, one + 4 * quad, x + 16 * quad, dot, R);
    }
}

/* Codes are read where they lie. */
INLINE void tile_quant(const struct slice *s, enum matrix_kind kind, const int R, const int B) { tile_codes(s, kind, (struct codes){s->x + s->k, s->x_stride}, R, B); }

enum { QUANT_PAIR_R = 6 }; /* 12 dots and 12 sums are registers, and 4 weights */
TILES_8(f32, tile_f32, MATRIX_F32, 1)
TILES_8(f32, tile_f32, MATRIX_F32, 2)
TILES_8(bf16, tile_bf16, MATRIX_BF16, 1)
TILES_8(bf16, tile_bf16, MATRIX_BF16, 2)
TILES_8(q8, tile_quant, MATRIX_Q8, 1)
TILES_6(q8, tile_quant, MATRIX_Q8, 2)
TILES_8(q4_0, tile_quant, MATRIX_Q4_0, 1)
TILES_6(q4_0, tile_quant, MATRIX_Q4_0, 2)
TILES_8(q4_1, tile_quant, MATRIX_Q4_1, 1)
TILES_6(q4_1, tile_quant, MATRIX_Q4_1, 2)
TILES_8(q4_k, tile_quant, MATRIX_Q4_K, 1)
TILES_6(q4_k, tile_quant, MATRIX_Q4_K, 2)
TILES_8(q6_k, tile_quant, MATRIX_Q6_K, 1)
TILES_6(q6_k, tile_quant, MATRIX_Q6_K, 2)

static tile_fn *const tile_table[MATRIX_KINDS][MAX_B][MAX_R + 1] = {
    [MATRIX_F32] = {{ROW_8(f32, 1)}, {ROW_8(f32, 2)}},    [MATRIX_BF16] = {{ROW_8(bf16, 1)}, {ROW_8(bf16, 2)}}, [MATRIX_Q8] = {{ROW_8(q8, 1)}, {ROW_6(q8, 2)}},
    [MATRIX_Q4_0] = {{ROW_8(q4_0, 1)}, {ROW_6(q4_0, 2)}}, [MATRIX_Q4_1] = {{ROW_8(q4_1, 1)}, {ROW_6(q4_1, 2)}},
    [MATRIX_Q4_K] = {{ROW_8(q4_k, 1)}, {ROW_6(q4_k, 2)}}, [MATRIX_Q6_K] = {{ROW_8(q6_k, 1)}, {ROW_6(q6_k, 2)}},
};

/* From how many rows on two blocks are faster: with fewer, memory is the limit, and one run of lines. */
enum { PAIR_ROWS = 9, PAIR_ROWS_BF16 = 8 };
static bool side_by_side(enum operand_kind kind, int rows) { return rows >= (kind == OPERAND_BF16 ? PAIR_ROWS_BF16 : PAIR_ROWS); }

static int most_rows(enum operand_kind operand, enum matrix_kind kind, int B)
{
    (void)kind;
    return B > 1 && operand == OPERAND_Q8 ? QUANT_PAIR_R : MAX_R;
}

static void round_bf16(const float *x, uint8_t *out) { _mm512_store_si512(out, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x))); }

#define KERNELS_TABLE kernels_avx512
#define KERNELS_NAME "avx512"
#define KERNELS_USABLE has_avx512
#include "backend/cpu/matmul.inc"
