/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/instructions.h"

#ifdef __AVX512F__
#define OPS_TABLE ops_avx512
#define OPS_NAME "avx512"
#define OPS_USABLE has_avx512
#include "backend/cpu/ops.inc"
#endif
