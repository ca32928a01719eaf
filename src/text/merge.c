/* SPDX-License-Identifier: Apache-2.0 */
#include "text/merge.h"

#include <stdlib.h>
#include <string.h>

#include "text/piece_map.h"

static uint32_t hash(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) ^ (uint32_t)(h >> 15);
}

/* The slot of this pair, or the free one where it belongs; NULL: PROBES_MAX slots on the way are taken. */
static struct merge_slot *find_slot(const struct merge_table *t, uint32_t h, int32_t left, int32_t right)
{
    uint32_t i = h & t->mask;
    for (int probe = 0; probe < PROBES_MAX; probe++, i = (i + 1) & t->mask) {
        struct merge_slot *slot = &t->slot[i];
        if (slot->at < 0 || (slot->hash == h && t->merge[slot->at].left == left && t->merge[slot->at].right == right))
            return slot;
    }
    return NULL;
}

static const struct merge *find(const struct merge_table *t, int32_t left, int32_t right)
{
    const struct merge_slot *slot = find_slot(t, hash(left, right), left, right);
    return slot && slot->at >= 0 ? &t->merge[slot->at] : NULL;
}

int merge_table_init(struct merge_table *t, struct arena *a, const struct merge *m, int n, const char *name, struct error *err)
{
    uint64_t size = 16;
    while (size < (uint64_t)n * 2)
        size *= 2;
    *t = (struct merge_table){m, arena_array(a, size, sizeof *t->slot), (uint32_t)(size - 1)};
    if (!t->slot)
        return fail(err, ERR_OS, "%s: out of memory for %d merges", name, n);
    memset(t->slot, 0xff, size * sizeof *t->slot);
    for (int i = 0; i < n; i++) {
        uint32_t h = hash(m[i].left, m[i].right);
        struct merge_slot *slot = find_slot(t, h, m[i].left, m[i].right);
        if (!slot)
            return fail(err, ERR_DATA, "%s: merge of tokens %d and %d: %d others have its place in the index, as if the file were made for that: do not use it", name,
                        m[i].left, m[i].right, PROBES_MAX);
        *slot = (struct merge_slot){h, i};
    }
    return 0;
}

int merge_work_grow(struct merge_work *w, size_t cap, struct error *err)
{
    if (cap <= w->cap)
        return 0;
    if (cap > 1u << 30)
        return fail(err, ERR_USAGE, "text: longer than 1 GiB; encode it in parts");
    cap = cap < 256 ? 256 : cap + cap / 2;
    int32_t *id = realloc(w->id, cap * sizeof *id);
    w->id = id ? id : w->id;
    free(w->next); /* next, prev and heap hold nothing between runs */
    free(w->prev);
    free(w->heap);
    w->next = malloc(cap * sizeof *w->next);
    w->prev = malloc(cap * sizeof *w->prev);
    w->heap = malloc(2 * cap * sizeof *w->heap);
    if (!id || !w->next || !w->prev || !w->heap)
        return fail(err, ERR_OS, "text: out of memory for %zu symbols", cap);
    w->cap = (uint32_t)cap;
    return 0;
}

void merge_work_free(struct merge_work *w)
{
    free(w->id);
    free(w->next);
    free(w->prev);
    free(w->heap);
    *w = (struct merge_work){0};
}

static void push(struct merge_work *w, uint64_t key)
{
    uint32_t i = w->n_heap++;
    for (; i && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
}

static uint64_t pop(struct merge_work *w)
{
    uint64_t top = w->heap[0], key = w->heap[--w->n_heap];
    uint32_t i = 0;
    for (uint32_t c; (c = 2 * i + 1) < w->n_heap; i = c) {
        if (c + 1 < w->n_heap && w->heap[c + 1] < w->heap[c])
            c++;
        if (w->heap[c] >= key)
            break;
        w->heap[i] = w->heap[c];
    }
    w->heap[i] = key;
    return top;
}

static void propose(const struct merge_table *t, struct merge_work *w, uint32_t at, uint32_t right)
{
    const struct merge *m = find(t, w->id[at], w->id[right]);
    if (m)
        push(w, (uint64_t)m->rank << 32 | at);
}

/* Every merge takes one entry off the heap and adds at most two, so 2 n entries suffice. */
uint32_t merge_run(const struct merge_table *t, struct merge_work *w, uint32_t n)
{
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->next[i] = i + 1;
        w->prev[i] = i - 1;
        if (i + 1 < n)
            propose(t, w, i, i + 1);
    }
    while (w->n_heap) {
        uint64_t key = pop(w);
        uint32_t at = (uint32_t)key, right = w->next[at];
        if (w->id[at] < 0 || right >= n)
            continue;
        const struct merge *m = find(t, w->id[at], w->id[right]);
        if (!m || m->rank != key >> 32) /* an entry from before its pair changed */
            continue;
        w->id[at] = m->id;
        w->id[right] = -1;
        w->next[at] = w->next[right];
        if (w->next[at] < n) {
            w->prev[w->next[at]] = at;
            propose(t, w, at, w->next[at]);
        }
        if (at)
            propose(t, w, w->prev[at], at);
    }
    uint32_t left = 0;
    for (uint32_t i = 0; i < n; i = w->next[i])
        w->id[left++] = w->id[i];
    return left;
}
