/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with BF16 and VNNI. One 64-byte line of weights is one register, an activation is broadcast to all its lanes, so there is no horizontal sum and
   one chain per output whatever the tile.

   A call goes by blocks, a block by slices of its columns, a slice by tiles of R rows: a slice comes from memory once and from the first-level cache for
   every further tile. Few rows take one block at a time: memory is fastest as one long run of lines. Where the dots are the limit, two blocks go side by
   side, so that a broadcast feeds two dots (one load a cycle, and one dot a cycle). */
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/avx512.h"
#include "backend/cpu/layout.h"
#include "base/denormals.h"

enum { MAX_R = 8, MAX_B = 2, SLICE_BYTES = 16384, AHEAD_BYTES = 16384 };

/* One tile's work: R rows of activations times one slice of each of B blocks. */
struct slice {
    const uint8_t *w[MAX_B];    /* the first line */
    const uint8_t *next[MAX_B]; /* what to prefetch: `step` bytes for every line */
    size_t step;
    const uint8_t *x; /* the first row, x_stride bytes to the next */
    size_t x_stride;
    int k, n, x_k;     /* first column, columns, columns of the whole row */
    float *acc[MAX_B]; /* [R][16] */
};

#define INLINE static inline __attribute__((always_inline))
#define EACH(i, n) _Pragma("GCC unroll 8") for (int i = 0; i < (n); i++)

INLINE __m512i load_line(const uint8_t *p) { return _mm512_load_si512(p); }

INLINE __m512i broadcast4(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}

/* Four activations of row r, line j of a quad, to all lanes. With one block a load for each would be the limit: the first rows take one load for the whole
   quad, and shuffles. */
enum { SHUFFLED_ROWS = 2 };
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

INLINE __m512 half16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p)); }

/* Into the second-level cache, some slices ahead. A single row runs at the speed of memory by itself, and would only lose fill buffers to this. */
INLINE void fetch(const struct slice *s, size_t line, const int R, const int B)
{
    if (R > 1)
        EACH(b, B) _mm_prefetch((const char *)s->next[b] + line * s->step, _MM_HINT_T1);
}

/* The sums of a tile, in registers between these two. */
INLINE void load_acc(const struct slice *s, __m512 acc[][MAX_B], const int R, const int B)
{
    EACH(r, R) EACH(b, B) acc[r][b] = _mm512_load_ps(s->acc[b] + 16 * r);
}

INLINE void store_acc(const struct slice *s, __m512 acc[][MAX_B], const int R, const int B)
{
    EACH(r, R) EACH(b, B) _mm512_store_ps(s->acc[b] + 16 * r, acc[r][b]);
}

INLINE void tile_bf16(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    __m512 acc[MAX_R][MAX_B];
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
                EACH(b, B) acc[r][b] = _mm512_dpbf16_ps(acc[r][b], w[b], a);
            }
        }
    }
    store_acc(s, acc, R, B);
}

/* The chain of fused multiply-adds, over f32 lines [n][16]. */
INLINE void tile_f32(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    __m512 acc[MAX_R][MAX_B], w[MAX_B];
    load_acc(s, acc, R, B);
    const uint8_t *x = s->x + 4 * s->k;
    for (size_t line = 0; line < (size_t)s->n; line++) {
        EACH(b, B) w[b] = _mm512_load_ps(s->w[b] + 64 * line);
        fetch(s, line, R, B);
        EACH(r, R)
        {
            __m512 a = _mm512_castsi512_ps(broadcast4(x + (size_t)r * s->x_stride + 4 * line));
            EACH(b, B) acc[r][b] = _mm512_fmadd_ps(w[b], a, acc[r][b]);
        }
    }
    store_acc(s, acc, R, B);
}

/* Four lines of 4 k of one block, whose activations are at x. */
INLINE void dot_quad(const struct slice *s, const __m512i *w, const uint8_t *x, __m512i dot[][MAX_B], const int R)
{
    EACH(r, R)
    {
        const uint8_t *row = x + (size_t)r * s->x_stride;
        __m512i quad = load_quad(row);
        EACH(j, 4) dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], w[j], activation(row, quad, r, j, 1));
    }
}

/* One line of 4 k of each block. */
INLINE void dot_line(const struct slice *s, const __m512i *w, const uint8_t *x, __m512i dot[][MAX_B], const int R, const int B)
{
    EACH(r, R)
    {
        __m512i a = broadcast4(x + (size_t)r * s->x_stride);
        EACH(b, B) dot[r][b] = _mm512_dpbusd_epi32(dot[r][b], w[b], a);
    }
}

/* The integer dots of one 32-block: Q8 has 8 lines of 4 k; Q4 has 4 lines of 4 k in the low nibbles and 4 k sixteen further on in the high ones. One block
   goes by rows, so that a quad of activations is one load; two by lines, which leaves the registers to the sums. */
INLINE void dot_lines(const struct slice *s, enum matrix_kind kind, size_t line, const uint8_t *x, __m512i dot[][MAX_B], const int R, const int B)
{
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i w[Q8_LINES][MAX_B], one[Q8_LINES];
    EACH(j, quant_lines(kind))
    {
        EACH(b, B)
        {
            w[j][b] = load_line(s->w[b] + 64 * (line + (size_t)j));
            if (kind != MATRIX_Q8) {
                w[j + 4][b] = _mm512_and_si512(_mm512_srli_epi16(w[j][b], 4), mask);
                w[j][b] = _mm512_and_si512(w[j][b], mask);
            }
        }
        fetch(s, line + (size_t)j, R, B);
        if (B > 1) {
            dot_line(s, w[j], x + 4 * j, dot, R, B);
            if (kind != MATRIX_Q8)
                dot_line(s, w[j + 4], x + 16 + 4 * j, dot, R, B);
        }
    }
    if (B == 1) {
        EACH(j, Q8_LINES) one[j] = w[j][0];
        dot_quad(s, one, x, dot, R);
        dot_quad(s, one + 4, x + 16, dot, R);
    }
}

/* acc += scale * dx * dots, of one 32-block. */
INLINE void add_scaled(__m512 scale, __m512 dx, __m512i dot, __m512 *acc)
{
    *acc = _mm512_fmadd_ps(_mm512_mul_ps(scale, dx), _mm512_cvtepi32_ps(dot), *acc);
}

/* 32-block b of the slice: dots that start at -offset * sum, which undoes the unsigned codes, then the scaled sums. */
INLINE void quant_block(const struct slice *s, enum matrix_kind kind, size_t group, size_t half, __m512 acc[][MAX_B], const int R, const int B)
{
    const size_t lines = (size_t)quant_lines(kind), first = group * (group_bytes(kind) / 64), k = (size_t)s->k + group * GROUP_K + half * QUANT_K;
    const size_t scales = 64 * (first + 2 * lines) + half * (SCALE_LINE / 2);
    const uint8_t *dx = s->x + s->x_k + k / QUANT_K * 4, *sum = dx + (size_t)s->x_k / QUANT_K * 4;
    __m512i dot[MAX_R][MAX_B];
    EACH(r, R)
    {
        __m512i start = _mm512_setzero_si512();
        if (quant_offset(kind))
            start = _mm512_sub_epi32(start, _mm512_slli_epi32(broadcast4(sum + (size_t)r * s->x_stride), kind == MATRIX_Q8 ? 7 : 3));
        EACH(b, B) dot[r][b] = start;
    }
    dot_lines(s, kind, first + half * lines, s->x + k, dot, R, B);
    EACH(r, R)
    {
        __m512 scale = _mm512_castsi512_ps(broadcast4(dx + (size_t)r * s->x_stride));
        EACH(b, B) add_scaled(half16(s->w[b] + scales), scale, dot[r][b], &acc[r][b]);
        if (kind == MATRIX_Q4_1)
            EACH(b, B) add_scaled(half16(s->w[b] + scales + SCALE_LINE), scale, broadcast4(sum + (size_t)r * s->x_stride), &acc[r][b]);
    }
}

INLINE void tile_quant(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    __m512 acc[MAX_R][MAX_B];
    load_acc(s, acc, R, B);
    for (size_t group = 0; group < (size_t)s->n / GROUP_K; group++) {
        quant_block(s, kind, group, 0, acc, R, B);
        quant_block(s, kind, group, 1, acc, R, B);
        for (size_t line = 2 * (size_t)quant_lines(kind); line < group_bytes(kind) / 64; line++) /* the scales */
            fetch(s, group * (group_bytes(kind) / 64) + line, R, B);
    }
    store_acc(s, acc, R, B);
}

/* The same tile for every kind, number of blocks B and row count R; quantised ones of two blocks have at most QUANT_PAIR_R rows. */
enum { QUANT_PAIR_R = 6 }; /* 12 dots and 12 sums are registers, and 4 weights */
typedef void tile_fn(const struct slice *);
#define TILE(name, tile, kind, B, R) \
    static void name##_##B##_##R(const struct slice *s) { tile(s, kind, R, B); }
#define TILES_6(name, tile, kind, B) \
    TILE(name, tile, kind, B, 1) TILE(name, tile, kind, B, 2) TILE(name, tile, kind, B, 3) TILE(name, tile, kind, B, 4) TILE(name, tile, kind, B, 5) TILE(name, tile, kind, B, 6)
#define TILES_8(name, tile, kind, B) TILES_6(name, tile, kind, B) TILE(name, tile, kind, B, 7) TILE(name, tile, kind, B, 8)
#define ROW_6(name, B) NULL, name##_##B##_1, name##_##B##_2, name##_##B##_3, name##_##B##_4, name##_##B##_5, name##_##B##_6
#define ROW_8(name, B) ROW_6(name, B), name##_##B##_7, name##_##B##_8

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

static tile_fn *const tile_table[MATRIX_KINDS][MAX_B][MAX_R + 1] = {
    [MATRIX_F32] = {{ROW_8(f32, 1)}, {ROW_8(f32, 2)}},    [MATRIX_BF16] = {{ROW_8(bf16, 1)}, {ROW_8(bf16, 2)}}, [MATRIX_Q8] = {{ROW_8(q8, 1)}, {ROW_6(q8, 2)}},
    [MATRIX_Q4_0] = {{ROW_8(q4_0, 1)}, {ROW_6(q4_0, 2)}}, [MATRIX_Q4_1] = {{ROW_8(q4_1, 1)}, {ROW_6(q4_1, 2)}},
};

/* Widens one 32-block of a quantised kind to [32][16] f32. */
static void widen_quant(enum matrix_kind kind, const uint8_t *data, int block, float *out)
{
    const uint8_t *codes = quant_codes(kind, data, block);
    const __m512 d = half16(quant_scales(kind, data, block));
    const __m512i mask = _mm512_set1_epi32(kind == MATRIX_Q8 ? 255 : 15), offset = _mm512_set1_epi32(quant_offset(kind));
    for (int k = 0; k < QUANT_K; k++) {
        int line = kind == MATRIX_Q8 ? k / 4 : k % 16 / 4, shift = 8 * (k % 4) + (kind != MATRIX_Q8 && k >= 16 ? 4 : 0);
        __m512i q = _mm512_and_si512(_mm512_srl_epi32(load_line(codes + 64 * line), _mm_cvtsi32_si128(shift)), mask);
        __m512 w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(q, offset)));
        if (kind == MATRIX_Q4_1)
            w = _mm512_add_ps(w, half16(quant_minima(kind, data, block)));
        _mm512_store_ps(out + 16 * k, w);
    }
}

/* Columns [k, k + n) of one block to [n][16] f32; k and n are multiples of 64. */
static void widen(enum matrix_kind kind, const uint8_t *data, int k, int n, float *out)
{
    const uint8_t *from = data + (size_t)k * MATRIX_ROWS * 2; /* of the 16-bit kinds */
    if (kind == MATRIX_F16) {
        for (int i = 0; i < n; i++)
            _mm512_store_ps(out + 16 * i, half16(from + 32 * i));
    } else if (kind == MATRIX_BF16) {
        for (int i = 0; i < n / 2; i++) {
            __m512i pair = load_line(from + 64 * i);
            _mm512_store_si512(out + 32 * i, _mm512_slli_epi32(pair, 16));
            _mm512_store_si512(out + 32 * i + 16, _mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000u)));
        }
    } else {
        for (int b = 0; b < n / QUANT_K; b++)
            widen_quant(kind, data, k / QUANT_K + b, out + 16 * QUANT_K * b);
    }
}

/* How a call is cut into slices and tiles. */
enum {
    WIDE_K = 64,
    PAIR_ROWS = 9,      /* from how many rows on two blocks are faster: with fewer, memory is the limit, and one run of lines */
    PAIR_ROWS_BF16 = 8
};
struct plan {
    const struct matrix *w;
    const struct operand *x;
    tile_fn *const *tile; /* [rows] */
    bool widened;         /* through a buffer of f32 */
    int B, tiles, R;      /* blocks at a time; rows are split evenly */
    int slice_k, slices;  /* columns of a slice, slices of a block */
    size_t slice_bytes, step;
};

static struct plan make_plan(const struct matrix *w, const struct operand *x, int B)
{
    struct plan plan = {.w = w, .x = x, .B = B, .widened = x->kind == OPERAND_F32 && w->kind != MATRIX_F32};
    int max = B > 1 && x->kind == OPERAND_Q8 ? QUANT_PAIR_R : MAX_R;
    plan.tiles = (x->rows + max - 1) / max;
    plan.R = (x->rows + plan.tiles - 1) / plan.tiles;
    plan.tile = tile_table[x->kind == OPERAND_F32 ? MATRIX_F32 : w->kind][B - 1];
    const size_t all = (size_t)(w->k / GROUP_K), group = w->block_bytes / all, most = plan.widened ? 1 : SLICE_BYTES / (size_t)B / group;
    const size_t cuts = (all + most - 1) / most, groups = (all + cuts - 1) / cuts; /* evenly: a short slice would fetch too little ahead */
    plan.slice_k = (int)groups * GROUP_K;
    plan.slices = (w->k + plan.slice_k - 1) / plan.slice_k;
    plan.slice_bytes = groups * group;
    size_t fetches = (plan.widened ? WIDE_K : plan.slice_bytes / 64) * (size_t)plan.tiles;
    plan.step = (plan.slice_bytes + fetches - 1) / fetches;
    return plan;
}

/* Slice i of B blocks and all rows; meanwhile what lies AHEAD_BYTES behind it comes into the cache. acc [B][MATMUL_MAX_ROWS][16]. */
static void run_slice(const struct plan *plan, const uint8_t *block, int i, float *acc)
{
    _Alignas(64) float wide[MAX_B][WIDE_K][MATRIX_ROWS];
    const struct matrix *w = plan->w;
    const size_t at = (size_t)i + AHEAD_BYTES / (plan->slice_bytes * (size_t)plan->B), slices = (size_t)plan->slices;
    const uint8_t *ahead = block + at / slices * (size_t)plan->B * w->block_bytes + at % slices * plan->slice_bytes;
    struct slice s = {.step = plan->step, .x_stride = plan->x->row_bytes, .k = i * plan->slice_k, .x_k = w->k};
    s.n = w->k - s.k < plan->slice_k ? w->k - s.k : plan->slice_k;
    for (int b = 0; b < plan->B; b++) {
        const uint8_t *data = block + (size_t)b * w->block_bytes;
        s.w[b] = plan->widened ? (const uint8_t *)wide[b] : data + (size_t)i * plan->slice_bytes;
        s.next[b] = ahead + (size_t)b * w->block_bytes;
        if (plan->widened)
            widen(w->kind, data, s.k, s.n, wide[b][0]);
    }
    for (int row = 0; row < plan->x->rows; row += plan->R) {
        int left = plan->x->rows - row;
        s.x = operand_at(plan->x, row);
        for (int b = 0; b < plan->B; b++)
            s.acc[b] = acc + (b * MATMUL_MAX_ROWS + row) * MATRIX_ROWS;
        plan->tile[left < plan->R ? left : plan->R](&s);
        for (int b = 0; b < plan->B; b++)
            s.next[b] += plan->slice_bytes / (size_t)plan->tiles;
    }
}

/* plan->B blocks from `block` on. */
static void run_blocks(const struct plan *plan, int block, float *out, size_t out_stride)
{
    _Alignas(64) float acc[MAX_B][MATMUL_MAX_ROWS][MATRIX_ROWS];
    const struct matrix *w = plan->w;
    for (int b = 0; b < plan->B; b++)
        memset(acc[b], 0, (size_t)plan->x->rows * sizeof *acc[b]);
    for (int i = 0; i < plan->slices; i++)
        run_slice(plan, w->data + (size_t)block * w->block_bytes, i, acc[0][0]);
    for (int b = 0; b < plan->B; b++) {
        int first = (block + b) * MATRIX_ROWS, n = w->rows - first < MATRIX_ROWS ? w->rows - first : MATRIX_ROWS;
        for (int r = 0; r < plan->x->rows; r++)
            _mm512_mask_storeu_ps(out + (size_t)r * out_stride + first, (__mmask16)((1u << n) - 1), _mm512_load_ps(acc[b][r]));
    }
}

/* Denormals count as zero here whatever mode the caller's thread is in. */
static void matmul(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    unsigned mode = denormals_flush();
    struct plan single = make_plan(w, x, 1), pair = make_plan(w, x, 2);
    int block = from, pair_rows = x->kind == OPERAND_BF16 ? PAIR_ROWS_BF16 : PAIR_ROWS;
    for (; x->rows >= pair_rows && block + 2 <= to; block += 2)
        run_blocks(&pair, block, out, out_stride);
    for (; block < to; block++)
        run_blocks(&single, block, out, out_stride);
    denormals_restore(mode);
}

INLINE __mmask16 tail_mask(int left) { return (__mmask16)(left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1); }

/* One 32-block to int8: see the plain set. */
static void quantise(const float *x, int left, int8_t *q, float *dx, int32_t *sum)
{
    __m512 lo = _mm512_maskz_loadu_ps(tail_mask(left), x), hi = _mm512_maskz_loadu_ps(tail_mask(left - 16), x + 16);
    __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    uint32_t amax = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(lo), magnitude), _mm512_and_si512(_mm512_castps_si512(hi), magnitude)));
    float inverse = quant_inverse(amax, dx);
    __mmask16 finite = inverse == 0 ? 0 : 0xffff; /* else all codes are zero: a NaN has none */
    __m512i a = _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(lo, _mm512_set1_ps(inverse)));
    __m512i b = _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(hi, _mm512_set1_ps(inverse)));
    _mm_store_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8(a));
    _mm_store_si128((__m128i *)(void *)(q + 16), _mm512_cvtepi32_epi8(b));
    *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}

static void operand_row(struct operand *op, int r, const float *x, int cols)
{
    uint8_t *row = operand_at(op, r);
    unsigned mode = denormals_flush();
    if (op->kind == OPERAND_F32) {
        memcpy(row, x, (size_t)cols * sizeof *x);
        memset(row + (size_t)cols * 4, 0, op->row_bytes - (size_t)cols * 4);
    } else if (op->kind == OPERAND_BF16) {
        for (int k = 0; k < op->k; k += 16)
            _mm256_store_si256((__m256i *)(void *)(row + 2 * k), (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(tail_mask(cols - k), x + k)));
        memset(row + (size_t)op->k * 2, 0, op->row_bytes - (size_t)op->k * 2);
    } else {
        for (int b = 0; b < op->k / QUANT_K; b++)
            quantise(x + b * QUANT_K, cols - b * QUANT_K, (int8_t *)row + b * QUANT_K, operand_scales(row, op->k) + b, operand_sums(row, op->k) + b);
        size_t used = operand_bytes(OPERAND_Q8, op->k);
        memset(row + used, 0, op->row_bytes - used);
    }
    denormals_restore(mode);
}

const struct kernels kernels_avx512 = {.name = "avx512", .usable = has_avx512, .operand_row = operand_row, .matmul = matmul};
