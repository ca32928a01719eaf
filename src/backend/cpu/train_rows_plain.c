/* SPDX-License-Identifier: Apache-2.0 */
#define ROWS_TABLE train_rows_plain
#define ROWS_NAME "plain"
#include "backend/cpu/train_rows.inc"
