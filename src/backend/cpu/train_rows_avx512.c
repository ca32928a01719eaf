/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX512F__
#define ROWS_TABLE train_rows_avx512
#define ROWS_NAME "avx512"
#include "backend/cpu/train_rows.inc"
#endif
