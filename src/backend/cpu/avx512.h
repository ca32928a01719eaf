/* SPDX-License-Identifier: Apache-2.0 */
/* Does this CPU have what the files named *_avx512.c are compiled for? */
#ifndef BACKEND_CPU_AVX512_H
#define BACKEND_CPU_AVX512_H

#include <stdbool.h>

#ifdef __x86_64__
static inline bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma"); /* F16C comes with AVX-512 */
}
#endif

#endif
