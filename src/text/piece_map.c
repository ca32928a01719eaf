/* SPDX-License-Identifier: Apache-2.0 */
#include "text/piece_map.h"

#include <string.h>

/* The first 8 bytes of n, or all of fewer, in loads of fixed size: a memcpy of n bytes would be a call. */
static uint64_t word(const uint8_t *p, size_t n)
{
    uint64_t v;
    uint32_t head, tail;
    if (n >= 8) {
        memcpy(&v, p, 8);
        return v;
    }
    if (n < 4)
        return p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
    memcpy(&head, p, 4);
    memcpy(&tail, p + n - 4, 4);
    return head | (uint64_t)tail << 32;
}

static uint32_t hash(const uint8_t *p, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u;
    while (n) {
        size_t k = n < 8 ? n : 8;
        h = (h ^ word(p, n)) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
        p += k;
        n -= k;
    }
    return (uint32_t)(h * 0xd6e8feb86659fd93u >> 32); /* bits that all bits of the text have come to */
}

/* The slot of these bytes, or the free one where they belong; NULL: PROBES_MAX slots on the way are taken. A key of equal hash costs as
   much as many slots: it is compared, and by chance not three are met. */
static struct piece_slot *find(const struct piece_map *m, uint32_t h, const uint8_t *p, size_t n)
{
    uint32_t i = h & m->mask;
    for (int left = PROBES_MAX; left > 0; left--, i = (i + 1) & m->mask) {
        struct piece_slot *slot = &m->slot[i];
        if (slot->id < 0)
            return slot;
        if (slot->hash != h)
            continue;
        struct bytes k = m->key[slot->id];
        if (k.n == n && memcmp(k.p, p, n) == 0)
            return slot;
        left -= PROBES_MAX / 8;
    }
    return NULL;
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
    struct bytes k = m->key[id];
    uint32_t h = hash(k.p, k.n);
    struct piece_slot *slot = find(m, h, k.p, k.n);
    if (slot && slot->id < 0)
        *slot = (struct piece_slot){h, id};
    return slot ? slot->id : -1;
}

int32_t piece_map_find(const struct piece_map *m, const void *p, size_t n)
{
    const struct piece_slot *slot = find(m, hash(p, n), p, n);
    return slot ? slot->id : -1;
}
