/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen floats side by side: the shape in which every sum of the CPU backend is defined. One text, compiled per instruction set; since each lane
   is computed by itself with IEEE operations (FMA written out), all sets give the same bits. */
#ifndef BASE_LANES_H
#define BASE_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float lanes __attribute__((vector_size(64)));
typedef int32_t ilanes __attribute__((vector_size(64)));
typedef uint32_t ulanes __attribute__((vector_size(64)));

enum { LANES = 16 };

static inline lanes lanes_load(const float *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void lanes_store(float *p, lanes v) { memcpy(p, &v, sizeof v); }

static inline lanes lanes_all(float x) { return (lanes){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

static inline lanes lanes_fma(lanes a, lanes b, lanes c)
{
#ifdef __AVX512F__
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
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
#ifdef __AVX512F__
    return (lanes)_mm512_max_ps((__m512)a, (__m512)b);
#else
    ilanes m = a > b;
    return (lanes)((m & (ilanes)a) | (~m & (ilanes)b));
#endif
}

/* bf16 widened, exactly */
static inline lanes lanes_load_bf16(const uint16_t *p)
{
#ifdef __AVX512F__
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#else
    ilanes v;
    for (int i = 0; i < LANES; i++)
        v[i] = (int32_t)((uint32_t)p[i] << 16);
    return (lanes)v;
#endif
}

/* The sum of all lanes: halves are added, 8 + 8, 4 + 4, 2 + 2, 1 + 1. */
static inline float lanes_sum(lanes v)
{
    float a[LANES];
    lanes_store(a, v);
    for (int n = LANES / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            a[i] = a[i] + a[i + n];
    return a[0];
}

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
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
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
