/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX2__
#define ROWS_TABLE train_rows_avx2
#define ROWS_NAME "avx2"
#include "backend/cpu/train_rows.inc"
#endif
