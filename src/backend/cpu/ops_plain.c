/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

static bool always(void) { return true; }

#define OPS_TABLE ops_plain
#define OPS_NAME "plain"
#define OPS_USABLE always
#include "backend/cpu/ops.inc"
