/* SPDX-License-Identifier: Apache-2.0 */
#include "text/word_sets.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

void *grow(void *p, uint32_t *cap, uint64_t need, size_t size)
{
    uint64_t n = *cap ? *cap : 64;
    size_t bytes;
    if (need <= *cap)
        return p;
    while (n < need)
        n *= 2;
    if (n > UINT32_MAX || mul_size((size_t)n, size, &bytes))
        return NULL;
    p = realloc(p, bytes);
    if (p)
        *cap = (uint32_t)n;
    return p;
}

static uint32_t hash(const uint32_t *word, uint32_t n)
{
    uint64_t h = n + 1;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ word[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (uint32_t)(h * 0xd6e8feb86659fd93u >> 32);
}

/* The slot of this sequence, or the free one where it belongs. There always is one: slots are at most half full. */
static struct word_slot *find(const struct word_sets *s, const uint32_t *word, uint32_t n)
{
    for (uint32_t i = hash(word, n) & s->mask;; i = (i + 1) & s->mask) {
        struct word_slot *slot = &s->slot[i];
        uint32_t have;
        if (slot->round != s->round)
            return slot;
        const uint32_t *w = word_sets_at(s, slot->id, &have);
        if (have == n && (!n || memcmp(w, word, n * sizeof *word) == 0))
            return slot;
    }
}

static bool make_slots(struct word_sets *s, uint32_t n)
{
    struct word_slot *old = s->slot;
    s->slot = calloc(n, sizeof *s->slot);
    if (!s->slot) {
        s->slot = old;
        return false;
    }
    free(old);
    s->mask = n - 1;
    s->round = 1;
    for (uint32_t id = 0; id < s->n; id++) {
        uint32_t words;
        const uint32_t *w = word_sets_at(s, id, &words);
        *find(s, w, words) = (struct word_slot){1, id};
    }
    return true;
}

int64_t word_sets_add(struct word_sets *s, const uint32_t *word, uint32_t n)
{
    if ((!s->slot || s->n >= s->mask / 2) && (s->mask >= UINT32_MAX / 4 || !make_slots(s, s->slot ? (s->mask + 1) * 2 : 64)))
        return -1;
    struct word_slot *slot = find(s, word, n);
    if (slot->round == s->round)
        return slot->id;
    uint32_t *first = grow(s->first, &s->cap, (uint64_t)s->n + 2, sizeof *first);
    if (!first)
        return -1;
    s->first = first;
    uint32_t *w = grow(s->word, &s->cap_words, (uint64_t)s->n_words + n + 1, sizeof *w);
    if (!w)
        return -1;
    s->word = w;
    if (n)
        memcpy(w + s->n_words, word, n * sizeof *w);
    first[s->n] = s->n_words;
    first[s->n + 1] = s->n_words += n;
    *slot = (struct word_slot){s->round, s->n};
    return s->n++;
}

void word_sets_clear(struct word_sets *s)
{
    s->n = s->n_words = 0;
    if (s->slot && ++s->round == 0) {
        memset(s->slot, 0, ((size_t)s->mask + 1) * sizeof *s->slot);
        s->round = 1;
    }
}

void word_sets_free(struct word_sets *s)
{
    free(s->word);
    free(s->first);
    free(s->slot);
    *s = (struct word_sets){0};
}

size_t word_sets_bytes(const struct word_sets *s)
{
    return (s->cap_words + (size_t)s->cap) * sizeof(uint32_t) + (s->slot ? ((size_t)s->mask + 1) * sizeof *s->slot : 0);
}
