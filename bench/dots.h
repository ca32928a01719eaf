/* SPDX-License-Identifier: Apache-2.0 */
/* The compute ceiling: loops of one dot instruction over registers, 16 independent chains, nothing loaded. Compiled for AVX-512 whatever the file's flags are;
   dots_usable says whether this CPU has the instructions. */
#ifndef BENCH_DOTS_H
#define BENCH_DOTS_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { DOT_LOOPS = 20000, DOT_CHAINS = 16 };

struct dots {
    const char *name;
    double macs; /* of one instruction */
    uint64_t (*run)(void); /* DOT_LOOPS * DOT_CHAINS instructions */
};

#define DOT_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,avx512vnni"), noinline))
#define DOT_LOOP(name, type, start, step, end)                                                       \
    static DOT_TARGET uint64_t name(void)                                                             \
    {                                                                                                 \
        type acc[DOT_CHAINS];                                                                         \
        uint64_t sum = 0;                                                                             \
        __m512i w = _mm512_set1_epi32(0x3c013c01), x = _mm512_set1_epi32(0x3c023c02);                 \
        for (int i = 0; i < DOT_CHAINS; i++)                                                          \
            acc[i] = start;                                                                           \
        for (long l = 0; l < DOT_LOOPS; l++) {                                                        \
            _Pragma("GCC unroll 16") for (int i = 0; i < DOT_CHAINS; i++) acc[i] = step;              \
            __asm__ volatile("" : "+v"(w), "+v"(x));                                                  \
        }                                                                                             \
        for (int i = 0; i < DOT_CHAINS; i++)                                                          \
            sum += (uint64_t)_mm512_reduce_add_epi32(end);                                            \
        return sum;                                                                                   \
    }
DOT_LOOP(dot_bf16, __m512, _mm512_setzero_ps(), _mm512_dpbf16_ps(acc[i], (__m512bh)w, (__m512bh)x), _mm512_castps_si512(acc[i]))
DOT_LOOP(dot_int8, __m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(acc[i], w, x), acc[i])
DOT_LOOP(dot_f32, __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), acc[i]), _mm512_castps_si512(acc[i]))

static const struct dots dots_bf16 = {"vdpbf16ps", 32, dot_bf16}, dots_int8 = {"vpdpbusd", 64, dot_int8}, dots_f32 = {"vfmadd", 16, dot_f32};

static inline bool dots_usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}

#endif
