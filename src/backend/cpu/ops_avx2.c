/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/instructions.h"

#ifdef __AVX2__
#define OPS_TABLE ops_avx2
#define OPS_NAME "avx2"
#define OPS_USABLE has_avx2
#include "backend/cpu/ops.inc"
#endif
