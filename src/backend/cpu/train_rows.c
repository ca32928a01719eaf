/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/train_rows.h"

#include <string.h>

#include "backend/cpu/ops.h"

#if defined(__x86_64__)
extern const struct train_rows train_rows_avx512, train_rows_avx2;
#endif

const struct train_rows *const train_rows_table[] = {
#if defined(__x86_64__)
    &train_rows_avx512,
    &train_rows_avx2,
#endif
    &train_rows_plain,
    NULL,
};

/* The set of the name that ops_pick finds usable. */
const struct train_rows *train_rows_pick(const char *name)
{
    const struct ops *ops = ops_pick(name);
    int i = 0;
    while (ops && strcmp(train_rows_table[i]->name, ops->name))
        i++;
    return ops ? train_rows_table[i] : NULL;
}
