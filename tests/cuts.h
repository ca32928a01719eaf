/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of backend/cpu/cut.h one after the other, for tests: the cut of a row of logits in any number of slices. */
#ifndef TESTS_CUTS_H
#define TESTS_CUTS_H

#include <stdlib.h>

#include "backend/cpu/ops.h"

static inline struct cut cut_in_slices(const struct ops *o, const float *logits, int n, float max, const struct sampling *s, int slices)
{
    struct histogram all, more;
    int32_t *list = malloc((size_t)n * sizeof *list);
    int listed = 0;
    o->bins(logits, 0, n / slices, s, max, &all);
    for (int i = 1; i < slices; i++) {
        o->bins(logits, n * i / slices, n * (i + 1) / slices, s, max, &more);
        cut_join(&all, &more);
    }
    struct search search = cut_search(&all, s);
    for (int i = 0; i < slices; i++)
        listed += o->list(logits, n * i / slices, n * (i + 1) / slices, s, max, &search, list + listed);
    struct cut cut = cut_find(&search, logits, list, listed, max, s);
    free(list);
    return cut;
}

/* In one slice, by the plain set. */
static inline struct cut cut_of(const float *logits, int n, float max, const struct sampling *s) { return cut_in_slices(ops_pick("plain"), logits, n, max, s, 1); }

#endif
