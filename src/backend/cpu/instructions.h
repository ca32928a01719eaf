/* SPDX-License-Identifier: Apache-2.0 */
/* Does this CPU have what the files named *_avx512.c and *_avx2.c are compiled for (cmake/Instructions.cmake)? */
#ifndef BACKEND_CPU_INSTRUCTIONS_H
#define BACKEND_CPU_INSTRUCTIONS_H

#include <stdbool.h>

#ifdef __x86_64__
#include <cpuid.h>

static inline bool has_avx2(void)
{
    unsigned a, b, c, d; /* not every compiler's __builtin_cpu_supports knows "f16c" */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static inline bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}
#endif

#endif
