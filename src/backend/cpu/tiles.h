/* SPDX-License-Identifier: Apache-2.0 */
/* What the vector kernel sets have in common: the work of one tile, and the steps that are lanes whatever the set (base/lanes.h). Private to them. A set's file
   writes its dots, lists its tiles, and then includes matmul.inc, which takes a product apart.

   A call goes by blocks, a block by slices of its columns, a slice by tiles of R rows: a slice comes from memory once and from the first-level cache for
   every further tile. */
#ifndef BACKEND_CPU_TILES_H
#define BACKEND_CPU_TILES_H

#ifdef __AVX2__
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/instructions.h"
#include "backend/cpu/layout.h"
#include "base/denormals.h"
#include "base/lanes.h"

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

typedef void tile_fn(const struct slice *);

#define INLINE static inline __attribute__((always_inline))
#define EACH(i, n) _Pragma("GCC unroll 8") for (int i = 0; i < (n); i++)

/* Into the second-level cache, some slices ahead. A single row runs at the speed of memory by itself, and would only lose fill buffers to this. */
INLINE void fetch(const struct slice *s, size_t line, const int R, const int B)
{
    if (R > 1)
        EACH(b, B) _mm_prefetch((const char *)s->next[b] + line * s->step, _MM_HINT_T1);
}

INLINE int32_t four_bytes(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return four;
}

INLINE float one_float(const uint8_t *p)
{
    float x;
    memcpy(&x, p, 4);
    return x;
}

/* To the nearest integers, ties to even; the larger of each; and of a register of integers the largest, the sum, and the low bytes (which hold each) to memory. */
#ifdef __AVX512F__
INLINE ilanes nearest(lanes x) { return (ilanes)_mm512_cvtps_epi32((__m512)x); }
INLINE ilanes larger(ilanes a, ilanes b) { return (ilanes)_mm512_max_epi32((__m512i)a, (__m512i)b); }
INLINE int32_t largest(ilanes v) { return _mm512_reduce_max_epi32((__m512i)v); }
INLINE int32_t total(ilanes v) { return _mm512_reduce_add_epi32((__m512i)v); }
INLINE void store_bytes(int8_t *to, ilanes v) { _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8((__m512i)v)); }
#else
INLINE ilanes nearest(lanes x) { return (ilanes)_mm256_cvtps_epi32((__m256)x); }
INLINE ilanes larger(ilanes a, ilanes b) { return (ilanes)_mm256_max_epi32((__m256i)a, (__m256i)b); }
INLINE __m128i low_half(ilanes v) { return _mm256_castsi256_si128((__m256i)v); }
INLINE __m128i high_half(ilanes v) { return _mm256_extracti128_si256((__m256i)v, 1); }

INLINE int32_t largest(ilanes v)
{
    __m128i m = _mm_max_epi32(low_half(v), high_half(v));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}

INLINE int32_t total(ilanes v)
{
    __m128i s = _mm_add_epi32(low_half(v), high_half(v));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

INLINE void store_bytes(int8_t *to, ilanes v)
{
    __m128i words = _mm_packs_epi32(low_half(v), high_half(v));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
}
#endif

/* The sums of a tile, in registers between these two. */
INLINE void load_acc(const struct slice *s, struct sums acc[][MAX_B], const int R, const int B)
{
    EACH(r, R) EACH(b, B) EACH_PART(p) acc[r][b].part[p] = lanes_load(s->acc[b] + SUM_LANES * r + LANES * p);
}

INLINE void store_acc(const struct slice *s, struct sums acc[][MAX_B], const int R, const int B)
{
    EACH(r, R) EACH(b, B) EACH_PART(p) lanes_store(s->acc[b] + SUM_LANES * r + LANES * p, acc[r][b].part[p]);
}

/* The chain of fused multiply-adds, over f32 lines [n][16]. */
INLINE void tile_f32(const struct slice *s, enum matrix_kind kind, const int R, const int B)
{
    (void)kind;
    struct sums acc[MAX_R][MAX_B], w[MAX_B];
    load_acc(s, acc, R, B);
    const uint8_t *x = s->x + 4 * s->k;
    for (size_t line = 0; line < (size_t)s->n; line++) {
        EACH(b, B) EACH_PART(p) w[b].part[p] = lanes_load((const float *)(const void *)(s->w[b] + 64 * line) + LANES * p);
        fetch(s, line, R, B);
        EACH(r, R)
        {
            lanes a = lanes_all(one_float(x + (size_t)r * s->x_stride + 4 * line));
            EACH(b, B) EACH_PART(p) acc[r][b].part[p] = lanes_fma(w[b].part[p], a, acc[r][b].part[p]);
        }
    }
    store_acc(s, acc, R, B);
}

INLINE lanes load_half(const uint8_t *p)
{
#ifdef __AVX512F__
    return (lanes)_mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
#else
    return (lanes)_mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p));
#endif
}

/* 8-bit numbers of 16 rows as floats. */
INLINE lanes load_bytes(const uint8_t *p, const bool sign)
{
#ifdef __AVX512F__
    __m128i b = _mm_load_si128((const __m128i *)(const void *)p);
    return (lanes)_mm512_cvtepi32_ps(sign ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b));
#else
    __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return (lanes)_mm256_cvtepi32_ps(sign ? _mm256_cvtepi8_epi32(b) : _mm256_cvtepu8_epi32(b));
#endif
}

/* Part p of the scales and the minima of stretch b of a group. */
INLINE lanes stretch_scale(enum matrix_kind kind, const uint8_t *group, size_t b, int p)
{
    const uint8_t *at = group + scale_at(kind, b);
    return quants[kind].factors ? load_half(group + factor_at(kind) + 2 * LANES * p) * load_bytes(at + LANES * p, kind == MATRIX_Q6_K) : load_half(at + 2 * LANES * p);
}

INLINE lanes stretch_minimum(enum matrix_kind kind, const uint8_t *group, size_t b, int p)
{
    const uint8_t *at = group + minimum_at(kind, b);
    return quants[kind].factors ? load_half(group + factor_at(kind) + SCALE_BYTES + 2 * LANES * p) * load_bytes(at + LANES * p, false) : load_half(at + 2 * LANES * p);
}

/* The integer dots of a stretch. */
struct dots {
    ilanes part[PARTS];
};

/* Codes of activations as a set's dots want them: of R rows, the slice's columns. */
struct codes {
    const uint8_t *row; /* the first, `stride` bytes to the next */
    size_t stride;
};

/* A stretch of each row and block of weights: column k of the slice, whose first line is w[b] + 64 * line; sum: of row 0's activations. */
struct spot {
    size_t k, line;
    const uint8_t *sum;
};

/* dot[r][b] = the exact dots at a spot. Each set's own. */
INLINE void dot_block(const struct slice *s, enum matrix_kind kind, struct codes x, struct spot at, struct dots dot[][MAX_B], const int R, const int B);

/* The dots of stretch i of a group of the slice. */
INLINE void dot_stretch(const struct slice *s, enum matrix_kind kind, struct codes x, size_t group, size_t i, struct dots dot[][MAX_B], const int R, const int B)
{
    const size_t k = group * (size_t)group_k(kind) + i * (size_t)quants[kind].k, column = (size_t)s->k + k, all = (size_t)s->x_k / QUANT_K;
    const uint8_t *sums = s->x + s->x_k + 4 * all, *halves = sums + 8 * all;
    const uint8_t *sum = quants[kind].k == QUANT_K ? sums + 4 * (column / QUANT_K) : halves + 4 * (column / (QUANT_K / 2));
    dot_block(s, kind, x, (struct spot){k, (group * group_bytes(kind) + codes_at(kind, i)) / 64, sum}, dot, R, B);
}

/* acc += scale * dx * dots, and minimum * (dx * sum of activations). */
INLINE void add_stretch(const struct slice *s, enum matrix_kind kind, size_t group, size_t i, struct dots dot[][MAX_B], struct sums acc[][MAX_B], const int R, const int B)
{
    const size_t block = ((size_t)s->k + group * (size_t)group_k(kind) + i * (size_t)quants[kind].k) / QUANT_K, from = group * group_bytes(kind);
    const uint8_t *dx = s->x + s->x_k + 4 * block, *part = dx + 8 * ((size_t)s->x_k / QUANT_K);
    EACH(b, B) EACH_PART(p)
    {
        lanes scale = stretch_scale(kind, s->w[b] + from, i, p);
        EACH(r, R)
        {
            lanes n = __builtin_convertvector(dot[r][b].part[p], lanes);
            acc[r][b].part[p] = lanes_fma(scale * lanes_all(one_float(dx + (size_t)r * s->x_stride)), n, acc[r][b].part[p]);
        }
        if (!quants[kind].minima)
            continue;
        lanes minimum = stretch_minimum(kind, s->w[b] + from, i, p);
        EACH(r, R) acc[r][b].part[p] = lanes_fma(minimum, lanes_all(one_float(part + (size_t)r * s->x_stride)), acc[r][b].part[p]);
    }
}

/* Stretches i and i + 1. One row runs at the speed of memory, which is fastest in order: codes are all loaded before the scales that lie behind them. */
INLINE void quant_pair(const struct slice *s, enum matrix_kind kind, struct codes x, size_t group, size_t i, struct sums acc[][MAX_B], const int R, const int B)
{
    const bool behind = R == 1 && !quants[kind].factors;
    struct dots dot[2][MAX_R][MAX_B];
    EACH(j, 2)
    {
        dot_stretch(s, kind, x, group, i + (size_t)j, dot[j], R, B);
        if (!behind)
            add_stretch(s, kind, group, i + (size_t)j, dot[j], acc, R, B);
    }
    if (!behind)
        return;
    __asm__ volatile("" ::: "memory");
    EACH(j, 2) add_stretch(s, kind, group, i + (size_t)j, dot[j], acc, R, B);
}

INLINE void tile_codes(const struct slice *s, enum matrix_kind kind, struct codes x, const int R, const int B)
{
    struct sums acc[MAX_R][MAX_B];
    load_acc(s, acc, R, B);
    for (size_t group = 0; group < (size_t)(s->n / group_k(kind)); group++) {
        for (size_t i = 0; i < (size_t)quants[kind].stretches; i += 2)
            quant_pair(s, kind, x, group, i, acc, R, B);
        for (size_t line = 0; line < (size_t)quants[kind].scale_lines; line++)
            fetch(s, (group * group_bytes(kind) + scale_at(kind, 0)) / 64 + line, R, B);
    }
    store_acc(s, acc, R, B);
}

/* The same tile for every kind, number of rows R and of blocks B, as functions and as rows of the table [R]. */
#define TILE(name, tile, kind, B, R) \
    static void name##_##B##_##R(const struct slice *s) { tile(s, kind, R, B); }
#define TILES_2(name, tile, kind, B) TILE(name, tile, kind, B, 1) TILE(name, tile, kind, B, 2)
#define TILES_5(name, tile, kind, B) TILES_2(name, tile, kind, B) TILE(name, tile, kind, B, 3) TILE(name, tile, kind, B, 4) TILE(name, tile, kind, B, 5)
#define TILES_6(name, tile, kind, B) TILES_5(name, tile, kind, B) TILE(name, tile, kind, B, 6)
#define TILES_8(name, tile, kind, B) TILES_6(name, tile, kind, B) TILE(name, tile, kind, B, 7) TILE(name, tile, kind, B, 8)
#define ROW_2(name, B) NULL, name##_##B##_1, name##_##B##_2
#define ROW_5(name, B) ROW_2(name, B), name##_##B##_3, name##_##B##_4, name##_##B##_5
#define ROW_6(name, B) ROW_5(name, B), name##_##B##_6
#define ROW_8(name, B) ROW_6(name, B), name##_##B##_7, name##_##B##_8

#endif
#endif
