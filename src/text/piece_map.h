/* SPDX-License-Identifier: Apache-2.0 */
/* From a token's bytes to its id. Keys are borrowed. */
#ifndef TEXT_PIECE_MAP_H
#define TEXT_PIECE_MAP_H

#include "base/arena.h"
#include "base/bytes.h"

struct piece_map {
    const struct bytes *key; /* [ids] */
    struct piece_slot {
        uint32_t hash; /* so that keys are touched for equal hashes only */
        int32_t id;    /* -1: free */
    } *slot; /* [mask + 1] */
    uint32_t mask;
};

/* Looking up takes a bounded time whatever the keys are: a key too far from its place is not taken. Keys that were not made for it (a
   file of 100,000 with one hash value would take minutes) never are. */
enum { PROBES_MAX = 256 };
#define PIECE_MAP_CROWDED "too many others have its place in the index, as if the file were made for that: do not use it"

bool piece_map_init(struct piece_map *m, struct arena *a, const struct bytes *key, int n); /* room for n ids; false: out of memory */
int32_t piece_map_add(struct piece_map *m, int32_t id); /* id, or the one that already has these bytes; -1: too many keys share this place */
int32_t piece_map_find(const struct piece_map *m, const void *p, size_t n); /* -1: none */

#endif
