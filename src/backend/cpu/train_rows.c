/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/train_rows.h"

#include <string.h>

#include "backend/cpu/ops.h"

#if defined(__x86_64__)
extern const struct train_rows train_rows_avx512;
#endif

const struct train_rows *train_rows_pick(void)
{
#if defined(__x86_64__)
    if (!strcmp(ops_pick(NULL)->name, "avx512"))
        return &train_rows_avx512;
#endif
    return &train_rows_plain;
}
