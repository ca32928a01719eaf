/* SPDX-License-Identifier: Apache-2.0 */
#include "text/piece_map.h"

#include <string.h>

static uint32_t hash(const uint8_t *p, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u;
    for (; n; ) {
        size_t k = n < 8 ? n : 8;
        uint64_t v = 0;
        memcpy(&v, p, k);
        h = (h ^ v) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
        p += k;
        n -= k;
    }
    return (uint32_t)h;
}

/* The slot of these bytes, or the free one where they belong. */
static int32_t *find(const struct piece_map *m, const uint8_t *p, size_t n)
{
    uint32_t i = hash(p, n) & m->mask;
    for (; m->slot[i] >= 0; i = (i + 1) & m->mask) {
        struct bytes k = m->key[m->slot[i]];
        if (k.n == n && memcmp(k.p, p, n) == 0)
            break;
    }
    return &m->slot[i];
}

bool piece_map_init(struct piece_map *m, struct arena *a, const struct bytes *key, int n)
{
    uint64_t size = 16;
    while (size < (uint64_t)n * 2)
        size *= 2;
    *m = (struct piece_map){key, arena_array(a, size, sizeof *m->slot), (uint32_t)(size - 1)};
    if (m->slot)
        memset(m->slot, 0xff, size * sizeof *m->slot);
    return m->slot != NULL;
}

int32_t piece_map_add(struct piece_map *m, int32_t id)
{
    int32_t *slot = find(m, m->key[id].p, m->key[id].n);
    if (*slot < 0)
        *slot = id;
    return *slot;
}

int32_t piece_map_find(const struct piece_map *m, const void *p, size_t n) { return *find(m, p, n); }
