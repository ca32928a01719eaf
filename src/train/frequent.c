/* SPDX-License-Identifier: Apache-2.0 */
#include "train/frequent.h"

#include <stdlib.h>

static int by_count(const void *a, const void *b, void *ud)
{
    const uint64_t *count = ud;
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return count[x] != count[y] ? (count[x] < count[y]) - (count[x] > count[y]) : (x > y) - (x < y);
}

struct frequent frequent_tokens(const uint64_t *count, int vocab, int want, int64_t *list)
{
    struct frequent f = {0};
    for (int i = 0; i < vocab; i++) {
        f.tokens += count[i];
        if (count[i])
            list[f.n_seen++] = i;
    }
    qsort_r(list, (size_t)f.n_seen, sizeof *list, by_count, (void *)count);
    while (f.n < f.n_seen && (want ? f.n < want : f.n % FREQUENT_STEP || (double)f.covered < FREQUENT_SHARE * (double)f.tokens))
        f.covered += count[list[f.n++]];
    return f;
}
