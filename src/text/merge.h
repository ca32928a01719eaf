/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair merging: of all neighbours that may merge, those of the lowest rank first, the leftmost on ties. */
#ifndef TEXT_MERGE_H
#define TEXT_MERGE_H

#include "base/arena.h"
#include "base/error.h"

struct merge {
    int32_t left, right, id; /* the two symbols and the one they become */
    uint32_t rank;
};

struct merge_table {
    const struct merge *merge; /* borrowed */
    struct merge_slot {
        uint32_t hash; /* so that merges are touched for equal hashes only */
        int32_t at;    /* the merge's index; -1: free */
    } *slot; /* [mask + 1] */
    uint32_t mask;
};

/* Of two merges with one pair the later holds. name: the file, for messages. ERR_OS; ERR_DATA when the pairs are chosen to share one place. */
int merge_table_init(struct merge_table *t, struct arena *a, const struct merge *m, int n, const char *name, struct error *err);

/* What one call at a time needs; grows as it must and is freed by merge_work_free. */
struct merge_work {
    int32_t *id;     /* [cap] the symbols: filled in by the caller, merged in place */
    uint32_t *next;  /* [cap] index of the symbol behind, */
    uint32_t *prev;  /* [cap] and of the one before */
    uint64_t *heap;  /* [2 * cap] rank << 32 | index of the left symbol, smallest first */
    uint32_t n_heap, cap;
};

int merge_work_grow(struct merge_work *w, size_t cap, struct error *err); /* keeps the symbols; ERR_OS, ERR_USAGE when cap is above 2^30 */
void merge_work_free(struct merge_work *w);

/* Merges w->id[0 .. n) and returns how many are left, in order, at its start. */
uint32_t merge_run(const struct merge_table *t, struct merge_work *w, uint32_t n);

#endif
