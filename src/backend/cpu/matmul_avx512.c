/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with BF16 and VNNI. One 64-byte line of weights is one register, an activation is broadcast to all its lanes, so there is no horizontal sum and
   one chain per output whatever the tile.

   A call goes by groups of B blocks, a group by panels of K, a panel by tiles of R rows: a panel comes from memory once and from the first-level cache for
   every further tile. While a panel is worked on, the next one is prefetched, spread evenly over its lines: without that 8 rows cost 3 times one row. */
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/layout.h"

/* One tile's work: R rows of activations times B blocks over one panel. */
enum { MAX_R = 8, MAX_B = 4 };
struct panel {
    const uint8_t *w[MAX_B];    /* the panel's first line in each block */
    const uint8_t *next[MAX_B]; /* what to prefetch: line i of this panel fetches next + i * step */
    size_t step;
    const uint8_t *x; /* the first row, x_stride bytes to the next */
    size_t x_stride;
    int k, n, x_k;    /* first column, columns, columns of the whole row */
    float *acc;       /* [R][B][16] */
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

INLINE __m512 half16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p)); }

INLINE void fetch(const struct panel *p, int b, size_t line) { _mm_prefetch((const char *)p->next[b] + line * p->step, _MM_HINT_T0); }

INLINE void tile_bf16(const struct panel *p, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    __m512 acc[MAX_R * MAX_B];
    EACH(i, R * B) acc[i] = _mm512_load_ps(p->acc + 16 * i);
    const uint8_t *x = p->x + 2 * p->k;
    for (size_t line = 0; line < (size_t)p->n / 2; line++) {
        __m512i w[MAX_B];
        EACH(b, B)
        {
            w[b] = load_line(p->w[b] + 64 * line);
            fetch(p, b, line);
        }
        EACH(r, R)
        {
            __m512i pair = broadcast4(x + (size_t)r * p->x_stride + 4 * line);
            EACH(b, B) acc[r * B + b] = _mm512_dpbf16_ps(acc[r * B + b], (__m512bh)w[b], (__m512bh)pair);
        }
    }
    EACH(i, R * B) _mm512_store_ps(p->acc + 16 * i, acc[i]);
}

/* The integer dots of one 32-block: Q8 has 8 lines of 4 k; Q4 has 4 lines of 4 k in the low nibbles and 4 k sixteen further on in the high ones. */
INLINE void dot_lines(const struct panel *p, enum matrix_kind kind, size_t at, const uint8_t *x, __m512i *dot, size_t line, const int R, const int B)
{
    const __m512i low = _mm512_set1_epi8(15);
    EACH(j, quant_lines(kind))
    {
        __m512i w[MAX_B], high[MAX_B];
        EACH(b, B)
        {
            w[b] = load_line(p->w[b] + at + 64 * (size_t)j);
            fetch(p, b, line + (size_t)j);
            if (kind != MATRIX_Q8) {
                high[b] = _mm512_and_si512(_mm512_srli_epi16(w[b], 4), low);
                w[b] = _mm512_and_si512(w[b], low);
            }
        }
        EACH(r, R)
        {
            const uint8_t *q = x + (size_t)r * p->x_stride + 4 * j;
            __m512i four = broadcast4(q);
            EACH(b, B) dot[r * B + b] = _mm512_dpbusd_epi32(dot[r * B + b], w[b], four);
            if (kind != MATRIX_Q8) {
                four = broadcast4(q + 16);
                EACH(b, B) dot[r * B + b] = _mm512_dpbusd_epi32(dot[r * B + b], high[b], four);
            }
        }
    }
}

/* One 32-block, half h of its group: dots that start at -offset * sum, which undoes the unsigned codes, then the scaled sums. */
INLINE void quant_block(const struct panel *p, enum matrix_kind kind, size_t group, int h, __m512 *acc, const int R, const int B)
{
    const size_t lines = (size_t)quant_lines(kind), scales = group * group_bytes(kind) + lines * 128 + (size_t)h * (SCALE_LINE / 2);
    const size_t k = (size_t)p->k + group * GROUP_K + (size_t)h * QUANT_K;
    const uint8_t *dx = p->x + p->x_k + k / QUANT_K * 4, *sum = dx + (size_t)p->x_k / QUANT_K * 4;
    __m512i dot[MAX_R * MAX_B];
    EACH(r, R)
    {
        __m512i start = _mm512_setzero_si512();
        if (quant_offset(kind))
            start = _mm512_sub_epi32(start, _mm512_slli_epi32(broadcast4(sum + (size_t)r * p->x_stride), kind == MATRIX_Q8 ? 7 : 3));
        EACH(b, B) dot[r * B + b] = start;
    }
    dot_lines(p, kind, group * group_bytes(kind) + (size_t)h * lines * 64, p->x + k, dot, group * (group_bytes(kind) / 64) + (size_t)h * lines, R, B);
    EACH(b, B)
    {
        __m512 d = half16(p->w[b] + scales);
        EACH(r, R)
        {
            __m512 t = _mm512_mul_ps(d, _mm512_castsi512_ps(broadcast4(dx + (size_t)r * p->x_stride)));
            acc[r * B + b] = _mm512_fmadd_ps(t, _mm512_cvtepi32_ps(dot[r * B + b]), acc[r * B + b]);
        }
        if (kind == MATRIX_Q4_1) {
            __m512 m = half16(p->w[b] + scales + SCALE_LINE);
            EACH(r, R)
            {
                __m512 t = _mm512_mul_ps(m, _mm512_castsi512_ps(broadcast4(dx + (size_t)r * p->x_stride)));
                acc[r * B + b] = _mm512_fmadd_ps(t, _mm512_cvtepi32_ps(broadcast4(sum + (size_t)r * p->x_stride)), acc[r * B + b]);
            }
        }
    }
}

INLINE void tile_quant(const struct panel *p, enum matrix_kind kind, const int R, const int B)
{
    __m512 acc[MAX_R * MAX_B];
    EACH(i, R * B) acc[i] = _mm512_load_ps(p->acc + 16 * i);
    for (size_t group = 0; group < (size_t)p->n / GROUP_K; group++) {
        quant_block(p, kind, group, 0, acc, R, B);
        quant_block(p, kind, group, 1, acc, R, B);
        EACH(b, B) for (size_t line = 2 * (size_t)quant_lines(kind); line < group_bytes(kind) / 64; line++) /* the lines of scales */
            fetch(p, b, group * (group_bytes(kind) / 64) + line);
    }
    EACH(i, R * B) _mm512_store_ps(p->acc + 16 * i, acc[i]);
}

/* The chain of fused multiply-adds, over f32 lines [n][16] of each block. */
INLINE void tile_f32(const struct panel *p, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    __m512 acc[MAX_R * MAX_B];
    EACH(i, R * B) acc[i] = _mm512_load_ps(p->acc + 16 * i);
    const uint8_t *x = p->x + 4 * p->k;
    for (size_t line = 0; line < (size_t)p->n; line++) {
        __m512 w[MAX_B];
        EACH(b, B)
        {
            w[b] = _mm512_load_ps(p->w[b] + 64 * line);
            fetch(p, b, line);
        }
        EACH(r, R)
        {
            __m512 one = _mm512_castsi512_ps(broadcast4(x + (size_t)r * p->x_stride + 4 * line));
            EACH(b, B) acc[r * B + b] = _mm512_fmadd_ps(w[b], one, acc[r * B + b]);
        }
    }
    EACH(i, R * B) _mm512_store_ps(p->acc + 16 * i, acc[i]);
}

/* The same tile for every row count and kind. A tile of R rows takes as many blocks as registers allow, and enough that one row has several chains in flight. */
enum { B1 = 4, B2 = 4, B3 = 4, B4 = 4, B5 = 2, B6 = 2, B7 = 2, B8 = 2 };
static const int tile_blocks[MAX_R + 1] = {0, B1, B2, B3, B4, B5, B6, B7, B8};

typedef void tile_fn(const struct panel *);
#define TILE(name, tile, kind, R) \
    static void name##_##R(const struct panel *p) { tile(p, kind, R, B##R); }
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

/* How a call is cut. */
enum { PANEL_BYTES = 8192, WIDE_K = 64 };
struct plan {
    const struct matrix *w;
    const struct operand *x;
    tile_fn *tile;
    bool widened;         /* through a buffer of f32 */
    int tiles, R, B;      /* the last tile moves up when rows are no multiple of R: some are then computed twice */
    int panel_k, panels;
    size_t panel_bytes;
};

static struct plan make_plan(const struct matrix *w, const struct operand *x)
{
    struct plan plan = {.w = w, .x = x, .widened = x->kind == OPERAND_F32 && w->kind != MATRIX_F32};
    plan.tiles = (x->rows + MAX_R - 1) / MAX_R;
    plan.R = (x->rows + plan.tiles - 1) / plan.tiles;
    plan.B = tile_blocks[plan.R];
    plan.tile = tile_table[x->kind == OPERAND_F32 ? MATRIX_F32 : w->kind][plan.R];
    int groups = w->k / GROUP_K, panels = (int)((w->block_bytes + PANEL_BYTES - 1) / PANEL_BYTES);
    plan.panel_k = plan.widened ? WIDE_K : (groups + panels - 1) / panels * GROUP_K;
    plan.panels = (w->k + plan.panel_k - 1) / plan.panel_k;
    plan.panel_bytes = w->block_bytes / (size_t)groups * (size_t)(plan.panel_k / GROUP_K);
    return plan;
}

/* Blocks [block, block + B) (the last ones repeated when there are fewer up to `to`), all rows, one panel. acc [tiles][R][B][16]. */
static void run_panel(const struct plan *plan, int block, int to, int panel, float *acc)
{
    _Alignas(64) float wide[MAX_B][WIDE_K][MATRIX_ROWS];
    const struct matrix *w = plan->w;
    int k = panel * plan->panel_k, n = w->k - k < plan->panel_k ? w->k - k : plan->panel_k;
    int next_block = panel + 1 < plan->panels ? block : block + plan->B, next_panel = panel + 1 < plan->panels ? panel + 1 : 0;
    size_t lines = plan->widened ? (size_t)plan->panel_k : plan->panel_bytes / 64;
    struct panel p = {.x_stride = plan->x->row_bytes, .k = k, .n = n, .x_k = w->k};
    p.step = (plan->panel_bytes + lines * (size_t)plan->tiles - 1) / (lines * (size_t)plan->tiles);
    for (int b = 0; b < plan->B; b++) {
        const uint8_t *data = w->data + (size_t)(block + b < to ? block + b : to - 1) * w->block_bytes;
        p.w[b] = data + (size_t)panel * plan->panel_bytes;
        p.next[b] = w->data + (size_t)(next_block + b < to ? next_block + b : to - 1) * w->block_bytes + (size_t)next_panel * plan->panel_bytes;
        if (plan->widened) {
            widen(w->kind, data, k, n, wide[b][0]);
            p.w[b] = (const uint8_t *)wide[b];
        }
    }
    for (int t = 0; t < plan->tiles; t++) {
        int row = t * plan->R + plan->R <= plan->x->rows ? t * plan->R : plan->x->rows - plan->R;
        p.x = operand_at(plan->x, row);
        p.acc = acc + (size_t)t * (size_t)(plan->R * plan->B * MATRIX_ROWS);
        plan->tile(&p);
        for (int b = 0; b < plan->B; b++)
            p.next[b] += lines * p.step;
    }
}

static void store_group(const struct plan *plan, int block, int to, const float *acc, float *out, size_t out_stride)
{
    for (int r = 0; r < plan->x->rows; r++) {
        int last = (plan->tiles - 1) * plan->R, moved = plan->tiles * plan->R - plan->x->rows; /* the last tile starts `moved` rows early */
        const float *from = acc + (size_t)((r < last ? r : r + moved) * plan->B) * MATRIX_ROWS;
        for (int b = 0; b < plan->B && block + b < to; b++) {
            int first = (block + b) * MATRIX_ROWS, n = plan->w->rows - first < MATRIX_ROWS ? plan->w->rows - first : MATRIX_ROWS;
            _mm512_mask_storeu_ps(out + (size_t)r * out_stride + first, (__mmask16)((1u << n) - 1), _mm512_load_ps(from + b * MATRIX_ROWS));
        }
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
    _Alignas(64) float acc[(MATMUL_MAX_ROWS + MAX_R) * MAX_B * MATRIX_ROWS];
    unsigned mode = flush_denormals();
    struct plan plan = make_plan(w, x);
    for (int block = from; block < to; block += plan.B) {
        memset(acc, 0, (size_t)(plan.tiles * plan.R * plan.B * MATRIX_ROWS) * sizeof *acc);
        for (int panel = 0; panel < plan.panels; panel++)
            run_panel(&plan, block, to, panel, acc);
        store_group(&plan, block, to, acc, out, out_stride);
    }
    _mm_setcsr(mode);
}

INLINE __mmask16 tail_mask(int left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1); }

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
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

const struct kernels kernels_avx512 = {.name = "avx512", .usable = usable, .operand_row = operand_row, .matmul = matmul};
