/* SPDX-License-Identifier: Apache-2.0 */
/* Where top-k, top-p and min-p cut the order of x = logit / temperature (pick.h), found by all threads together:

     1. ops->bins: each slice of the vocabulary counts and weighs its tokens by bins of x;
     2. cut_search: the joined bins tell in which of them the cuts lie;
     3. ops->list: each slice lists its tokens in those bins;
     4. cut_find: the lists, one behind the other, tell the cut.

   The bins follow the order, counts and masses are integers: however the vocabulary is sliced, the cut is the same. */
#ifndef BACKEND_CPU_CUT_H
#define BACKEND_CPU_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/pick.h"

/* Bins of equal width over the distance from the largest x, as far as a token has any mass: 2^-40 is exp(-27.7). */
enum { CUT_BINS = 512, CUT_REACH = 28 };

struct histogram {
    struct {
        uint64_t count, mass;
    } bin[CUT_BINS];
    float lowest; /* the lowest x that min-p keeps */
};

struct search {
    bool top_k, top_p;       /* does it take away anything */
    int first, last;         /* the bins to be listed; none when last < first */
    uint64_t before, target; /* of the measure of the first cut (tokens for top-k, else mass): what lies before those bins, and what the cut has to reach */
    float lowest;
};

/* The mass that min-p asks of a token. */
static inline uint64_t cut_least_mass(const struct sampling *s)
{
    return s->min_p > 0 && s->min_p <= 1 ? (uint64_t)ceil((double)s->min_p * (double)PICK_ONE) : UINT64_MAX;
}

void cut_join(struct histogram *h, const struct histogram *more);
struct search cut_search(const struct histogram *all, const struct sampling *s);

/* list: the n listed tokens, ascending. max: the largest logit. */
struct cut cut_find(const struct search *c, const float *logits, const int32_t *list, int n, float max, const struct sampling *s);

#endif
