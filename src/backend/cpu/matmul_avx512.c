/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with BF16 and VNNI. One 64-byte line of weights is one register, an activation is broadcast to all its lanes, so there is no horizontal sum and
   one chain per output whatever the tile.

   A call goes block by block, a block by slices of its columns, a slice by tiles of R rows: a slice comes from memory once and from the first-level cache for
   every further tile. Only one block at a time: memory is fastest as one long run of lines, and several blocks at once gained less in broadcasts than they
   lost there (Zen 4: 60 % instead of 97 % of the read bandwidth for a row of q4). */
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/layout.h"

enum { MAX_R = 8, SLICE_BYTES = 16384, AHEAD_BYTES = 16384 };

/* One tile's work: R rows of activations times one slice. */
struct slice {
    const uint8_t *w;    /* its first line */
    const uint8_t *next; /* what to prefetch: `step` bytes for every line */
    size_t step;
    const uint8_t *x; /* the first row, x_stride bytes to the next */
    size_t x_stride;
    int k, n, x_k;    /* first column, columns, columns of the whole row */
    float *acc;       /* [R][16] */
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

/* Four activations of row r, line j of a quad, to all lanes. A load for each would be the limit (one a cycle, and one dot a cycle): the first rows take one
   load for the whole quad, and shuffles. */
enum { SHUFFLED_ROWS = 2 };
INLINE __m512i load_quad(const uint8_t *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p)); }

INLINE __m512i activation(const uint8_t *row, __m512i quad, int r, int j)
{
    if (r >= SHUFFLED_ROWS)
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

/* Into the second-level cache, one slice ahead. A single row runs at the speed of memory by itself, and would only lose fill buffers to this. */
INLINE void fetch(const struct slice *s, size_t line, const int R)
{
    if (R > 1)
        _mm_prefetch((const char *)s->next + line * s->step, _MM_HINT_T1);
}

INLINE void tile_bf16(const struct slice *s, enum matrix_kind kind, const int R)
{
    (void)kind;
    __m512 acc[MAX_R];
    __m512i quad[MAX_R];
    EACH(r, R) acc[r] = _mm512_load_ps(s->acc + 16 * r);
    const uint8_t *x = s->x + 2 * s->k;
    for (size_t line = 0; line < (size_t)s->n / 2; line += 4) {
        EACH(r, R) quad[r] = load_quad(x + (size_t)r * s->x_stride + 4 * line);
        EACH(j, 4)
        {
            __m512bh w = (__m512bh)load_line(s->w + 64 * (line + (size_t)j));
            fetch(s, line + (size_t)j, R);
            EACH(r, R) acc[r] = _mm512_dpbf16_ps(acc[r], w, (__m512bh)activation(x + (size_t)r * s->x_stride + 4 * line, quad[r], r, j));
        }
    }
    EACH(r, R) _mm512_store_ps(s->acc + 16 * r, acc[r]);
}

/* The chain of fused multiply-adds, over f32 lines [n][16]. */
INLINE void tile_f32(const struct slice *s, enum matrix_kind kind, const int R)
{
    (void)kind;
    __m512 acc[MAX_R];
    EACH(r, R) acc[r] = _mm512_load_ps(s->acc + 16 * r);
    const uint8_t *x = s->x + 4 * s->k;
    for (size_t line = 0; line < (size_t)s->n; line++) {
        __m512 w = _mm512_load_ps(s->w + 64 * line);
        fetch(s, line, R);
        EACH(r, R) acc[r] = _mm512_fmadd_ps(w, _mm512_castsi512_ps(broadcast4(x + (size_t)r * s->x_stride + 4 * line)), acc[r]);
    }
    EACH(r, R) _mm512_store_ps(s->acc + 16 * r, acc[r]);
}

/* Four lines of 4 k, whose activations are at x. */
INLINE void dot_quad(const struct slice *s, const __m512i *w, const uint8_t *x, __m512i *dot, const int R)
{
    EACH(r, R)
    {
        const uint8_t *row = x + (size_t)r * s->x_stride;
        __m512i quad = load_quad(row);
        EACH(j, 4) dot[r] = _mm512_dpbusd_epi32(dot[r], w[j], activation(row, quad, r, j));
    }
}

/* The integer dots of one 32-block: Q8 has 8 lines of 4 k; Q4 has 4 lines of 4 k in the low nibbles and 4 k sixteen further on in the high ones. */
INLINE void dot_lines(const struct slice *s, enum matrix_kind kind, size_t line, const uint8_t *x, __m512i *dot, const int R)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i w[Q8_LINES];
    EACH(j, quant_lines(kind))
    {
        w[j] = load_line(s->w + 64 * (line + (size_t)j));
        fetch(s, line + (size_t)j, R);
        if (kind != MATRIX_Q8) {
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(w[j], 4), low);
            w[j] = _mm512_and_si512(w[j], low);
        }
    }
    dot_quad(s, w, x, dot, R);
    dot_quad(s, w + 4, x + 16, dot, R);
}

/* 32-block b of the slice: dots that start at -offset * sum, which undoes the unsigned codes, then the scaled sums. */
INLINE void quant_block(const struct slice *s, enum matrix_kind kind, size_t group, size_t half, __m512 *acc, const int R)
{
    const size_t lines = (size_t)quant_lines(kind), first = group * (group_bytes(kind) / 64), k = (size_t)s->k + group * GROUP_K + half * QUANT_K;
    const uint8_t *scales = s->w + 64 * (first + 2 * lines) + half * (SCALE_LINE / 2);
    const uint8_t *dx = s->x + s->x_k + k / QUANT_K * 4, *sum = dx + (size_t)s->x_k / QUANT_K * 4;
    __m512i dot[MAX_R];
    EACH(r, R)
    {
        dot[r] = _mm512_setzero_si512();
        if (quant_offset(kind))
            dot[r] = _mm512_sub_epi32(dot[r], _mm512_slli_epi32(broadcast4(sum + (size_t)r * s->x_stride), kind == MATRIX_Q8 ? 7 : 3));
    }
    dot_lines(s, kind, first + half * lines, s->x + k, dot, R);
    __m512 d = half16(scales);
    EACH(r, R)
    {
        __m512 t = _mm512_mul_ps(d, _mm512_castsi512_ps(broadcast4(dx + (size_t)r * s->x_stride)));
        acc[r] = _mm512_fmadd_ps(t, _mm512_cvtepi32_ps(dot[r]), acc[r]);
    }
    if (kind == MATRIX_Q4_1) {
        __m512 m = half16(scales + SCALE_LINE);
        EACH(r, R)
        {
            __m512 t = _mm512_mul_ps(m, _mm512_castsi512_ps(broadcast4(dx + (size_t)r * s->x_stride)));
            acc[r] = _mm512_fmadd_ps(t, _mm512_cvtepi32_ps(broadcast4(sum + (size_t)r * s->x_stride)), acc[r]);
        }
    }
}

INLINE void tile_quant(const struct slice *s, enum matrix_kind kind, const int R)
{
    __m512 acc[MAX_R];
    EACH(r, R) acc[r] = _mm512_load_ps(s->acc + 16 * r);
    for (size_t group = 0; group < (size_t)s->n / GROUP_K; group++) {
        quant_block(s, kind, group, 0, acc, R);
        quant_block(s, kind, group, 1, acc, R);
        for (size_t line = 2 * (size_t)quant_lines(kind); line < group_bytes(kind) / 64; line++) /* the scales */
            fetch(s, group * (group_bytes(kind) / 64) + line, R);
    }
    EACH(r, R) _mm512_store_ps(s->acc + 16 * r, acc[r]);
}

/* The same tile for every row count and kind. */
typedef void tile_fn(const struct slice *);
#define TILE(name, tile, kind, R) \
    static void name##_##R(const struct slice *s) { tile(s, kind, R); }
#define TILES(name, tile, kind) \
    TILE(name, tile, kind, 1) TILE(name, tile, kind, 2) TILE(name, tile, kind, 3) TILE(name, tile, kind, 4) \
    TILE(name, tile, kind, 5) TILE(name, tile, kind, 6) TILE(name, tile, kind, 7) TILE(name, tile, kind, 8)
#define TILE_ROW(name) {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}

TILES(f32, tile_f32, MATRIX_F32)
TILES(bf16, tile_bf16, MATRIX_BF16)
TILES(q8, tile_quant, MATRIX_Q8)
TILES(q4_0, tile_quant, MATRIX_Q4_0)
TILES(q4_1, tile_quant, MATRIX_Q4_1)

static tile_fn *const tile_table[MATRIX_KINDS][MAX_R + 1] = {
    [MATRIX_F32] = TILE_ROW(f32), [MATRIX_BF16] = TILE_ROW(bf16), [MATRIX_Q8] = TILE_ROW(q8), [MATRIX_Q4_0] = TILE_ROW(q4_0), [MATRIX_Q4_1] = TILE_ROW(q4_1),
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
enum { WIDE_K = 64 };
struct plan {
    const struct matrix *w;
    const struct operand *x;
    tile_fn *const *tile; /* [rows] */
    bool widened;         /* through a buffer of f32 */
    int tiles, R;         /* rows are split evenly */
    int slice_k;          /* columns of a slice */
    size_t slice_bytes, step;
};

static struct plan make_plan(const struct matrix *w, const struct operand *x)
{
    struct plan plan = {.w = w, .x = x, .widened = x->kind == OPERAND_F32 && w->kind != MATRIX_F32};
    plan.tiles = (x->rows + MAX_R - 1) / MAX_R;
    plan.R = (x->rows + plan.tiles - 1) / plan.tiles;
    plan.tile = tile_table[x->kind == OPERAND_F32 ? MATRIX_F32 : w->kind];
    size_t group = w->block_bytes / (size_t)(w->k / GROUP_K), groups = plan.widened ? 1 : SLICE_BYTES / group;
    plan.slice_k = (int)groups * GROUP_K;
    plan.slice_bytes = groups * group;
    size_t fetches = (plan.widened ? WIDE_K : plan.slice_bytes / 64) * (size_t)plan.tiles;
    plan.step = (plan.slice_bytes + fetches - 1) / fetches;
    return plan;
}

/* Columns [k, k + slice_k) of one block and all rows; meanwhile what lies AHEAD_BYTES behind it comes into the cache. acc [rows][16]. */
static void run_slice(const struct plan *plan, const uint8_t *block, int k, float *acc)
{
    _Alignas(64) float wide[WIDE_K][MATRIX_ROWS];
    const struct matrix *w = plan->w;
    const uint8_t *first = block + (size_t)(k / plan->slice_k) * plan->slice_bytes;
    struct slice s = {.w = first, .next = first + AHEAD_BYTES, .step = plan->step, .x_stride = plan->x->row_bytes, .k = k, .x_k = w->k};
    s.n = w->k - k < plan->slice_k ? w->k - k : plan->slice_k;
    if (plan->widened) {
        widen(w->kind, block, k, s.n, wide[0]);
        s.w = (const uint8_t *)wide;
    }
    for (int row = 0; row < plan->x->rows; row += plan->R) {
        int left = plan->x->rows - row;
        s.x = operand_at(plan->x, row);
        s.acc = acc + row * MATRIX_ROWS;
        plan->tile[left < plan->R ? left : plan->R](&s);
        s.next += plan->slice_bytes / (size_t)plan->tiles;
    }
}

/* Denormals count as zero here whatever mode the caller's thread is in; returns the old one. */
static unsigned flush_denormals(void)
{
    unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u);
    return old;
}

static void matmul(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    _Alignas(64) float acc[MATMUL_MAX_ROWS][MATRIX_ROWS];
    unsigned mode = flush_denormals();
    struct plan plan = make_plan(w, x);
    for (int block = from; block < to; block++) {
        int first = block * MATRIX_ROWS, n = w->rows - first < MATRIX_ROWS ? w->rows - first : MATRIX_ROWS;
        memset(acc, 0, (size_t)x->rows * sizeof *acc);
        for (int k = 0; k < w->k; k += plan.slice_k)
            run_slice(&plan, w->data + (size_t)block * w->block_bytes, k, acc[0]);
        for (int r = 0; r < x->rows; r++)
            _mm512_mask_storeu_ps(out + (size_t)r * out_stride + first, (__mmask16)((1u << n) - 1), _mm512_load_ps(acc[r]));
    }
    _mm_setcsr(mode);
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
    unsigned mode = flush_denormals();
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
    _mm_setcsr(mode);
}

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("fma"); /* F16C comes with AVX-512 */
}

const struct kernels kernels_avx512 = {.name = "avx512", .usable = usable, .operand_row = operand_row, .matmul = matmul};
