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

bool piece_map_init(struct piece_map *m, struct arena *a, const struct bytes *key, int n); /* room for n ids; false: out of memory */
int32_t piece_map_add(struct piece_map *m, int32_t id);                /* id, or the one that already has these bytes */
int32_t piece_map_find(const struct piece_map *m, const void *p, size_t n); /* -1: none */

#endif
