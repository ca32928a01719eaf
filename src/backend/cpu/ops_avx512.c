/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#ifdef __AVX512F__
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"); /* what this file is compiled for */
}

#define OPS_TABLE ops_avx512
#define OPS_NAME "avx512"
#define OPS_USABLE has_avx512
#include "backend/cpu/ops.inc"
#endif
