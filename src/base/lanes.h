/* SPDX-License-Identifier: Apache-2.0 */
/* Floats side by side, as many as a register holds. One text, compiled per instruction set; since each lane is computed by itself with IEEE operations
   (FMA written out), and every sum is defined over sixteen lanes, however many registers those are, all sets give the same bits. */
#ifndef BASE_LANES_H
#define BASE_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANE_BYTES 64
#elif defined(__AVX2__)
#define LANE_BYTES 32
#else
#define LANE_BYTES 16
#endif

typedef float lanes __attribute__((vector_size(LANE_BYTES)));
typedef int32_t ilanes __attribute__((vector_size(LANE_BYTES)));
typedef uint32_t ulanes __attribute__((vector_size(LANE_BYTES)));

/* The shape in which sums are defined: what is at place i goes into lane i % 16. */
enum { LANES = LANE_BYTES / 4, SUM_LANES = 16, PARTS = SUM_LANES / LANES };

struct sums {
    lanes part[PARTS];
};

/* A register's worth at a time: i from `from`, a multiple of 16, up to `to`, another; p is the part of the sums that takes what lies there. */
#define EACH_PART(p) _Pragma("GCC unroll 4") for (int p = 0; p < PARTS; p++)
#define EACH_LANE(i, p, from, to)                             \
    for (int i##_ = (from); i##_ < (to); i##_ += SUM_LANES)    \
        EACH_PART(p)                                          \
        for (int i = i##_ + p * LANES, i##_once = 1; i##_once; i##_once = 0)

static inline lanes lanes_load(const float *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void lanes_store(float *p, lanes v) { memcpy(p, &v, sizeof v); }

static inline lanes lanes_all(float x) { return x - (lanes){0}; }

static inline lanes lanes_fma(lanes a, lanes b, lanes c)
{
#if defined(__AVX512F__)
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    lanes r;
    for (int i = 0; i < LANES; i++)
        r[i] = fmaf(a[i], b[i], c[i]);
    return r;
#endif
}

/* a > b ? a : b, so b where either is NaN */
static inline lanes lanes_max(lanes a, lanes b)
{
#if defined(__AVX512F__)
    return (lanes)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (lanes)_mm256_max_ps((__m256)a, (__m256)b);
#else
    ilanes m = a > b;
    return (lanes)((m & (ilanes)a) | (~m & (ilanes)b));
#endif
}

/* bf16 widened, exactly */
static inline lanes lanes_load_bf16(const uint16_t *p)
{
#if defined(__AVX512F__)
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#elif defined(__AVX2__)
    return (lanes)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
#else
    ilanes v;
    for (int i = 0; i < LANES; i++)
        v[i] = (int32_t)((uint32_t)p[i] << 16);
    return (lanes)v;
#endif
}

static inline void sums_store(float *p, const struct sums *s) { memcpy(p, s, sizeof *s); }

/* The sum of all lanes: halves are added, 8 + 8, 4 + 4, 2 + 2, 1 + 1. */
static inline float sums_total(const struct sums *s)
{
    float a[SUM_LANES];
    sums_store(a, s);
    for (int n = SUM_LANES / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            a[i] = a[i] + a[i + n];
    return a[0];
}

static inline float sums_top(const struct sums *s)
{
    float a[SUM_LANES];
    sums_store(a, s);
    for (int i = 1; i < SUM_LANES; i++)
        a[0] = a[i] > a[0] ? a[i] : a[0];
    return a[0];
}

/* The largest lane. */
static inline float lanes_top(lanes v)
{
    float m = v[0];
    for (int i = 1; i < LANES; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* Is a lane of a comparison true? */
static inline int lanes_any(ilanes v)
{
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#else
    int32_t any = 0;
    for (int i = 0; i < LANES; i++)
        any |= v[i];
    return any != 0;
#endif
}

/* exp, the steps of pick_exp (backend/pick.h) in every lane; inputs up to 88, 0 below -87. */
static inline lanes lanes_exp(lanes x)
{
    const lanes magic = lanes_all(12582912.0f);
    ilanes live = x >= lanes_all(-87.0f);
    lanes t = lanes_fma(x, lanes_all(1.44269504f), magic), n = t - magic;
    lanes r = lanes_fma(n, lanes_all(-0.693359375f), x);
    r = lanes_fma(n, lanes_all(2.12194440e-4f), r);
    lanes p = lanes_fma(r, lanes_all(1.3981999e-3f), lanes_all(8.3334519e-3f));
    p = lanes_fma(p, r, lanes_all(4.1665796e-2f));
    p = lanes_fma(p, r, lanes_all(1.6666666e-1f));
    p = lanes_fma(p, r, lanes_all(0.5f));
    p = lanes_fma(p, r * r, r) + lanes_all(1.0f);
    ulanes scale = ((ulanes)t - (0x4b400000u - 127u)) << 23; /* unsigned: far below -87, where it is not used, it goes around */
    return (lanes)((ilanes)(p * (lanes)scale) & live);
}

#endif
