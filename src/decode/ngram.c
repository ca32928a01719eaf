/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/ngram.h"

#include <stdlib.h>

enum { PLACES = 48 }; /* that one search looks at */

static uint32_t buckets(int n_slots)
{
    uint32_t n = 256;
    while (n < (uint32_t)n_slots)
        n *= 2;
    return n;
}

uint64_t ngram_bytes(int n_slots) { return sizeof(int32_t) * ((uint64_t)buckets(n_slots) + (uint64_t)n_slots); }

int ngram_open(struct ngram *g, int n_slots, struct error *err)
{
    *g = (struct ngram){.n_buckets = buckets(n_slots)};
    g->last = calloc(g->n_buckets, sizeof *g->last);
    g->before = calloc((size_t)n_slots, sizeof *g->before);
    if (g->last && g->before)
        return 0;
    ngram_close(g);
    return fail(err, ERR_OS, "out of memory for the index of a text of %d tokens", n_slots);
}

void ngram_close(struct ngram *g)
{
    free(g->last);
    free(g->before);
    *g = (struct ngram){0};
}

static int32_t *bucket(const struct ngram *g, const int32_t *text, int p)
{
    uint64_t pair = (uint64_t)(uint32_t)text[p - 1] << 32 | (uint32_t)text[p];
    return &g->last[(uint32_t)(pair * 0x9e3779b97f4a7c15u >> 32) & (g->n_buckets - 1)];
}

void ngram_extend(struct ngram *g, const int32_t *text, int n)
{
    for (int p = g->n > 1 ? g->n : 1; p < n; p++) {
        int32_t *b = bucket(g, text, p);
        g->before[p] = *b;
        *b = p;
    }
    g->n = n > g->n ? n : g->n;
}

/* Backwards, so that each place is the last of its bucket when its turn comes. */
void ngram_cut(struct ngram *g, const int32_t *text, int n)
{
    for (int p = g->n - 1; p >= n && p >= 1; p--)
        *bucket(g, text, p) = g->before[p];
    g->n = n < g->n ? n : g->n;
}

static int shared(const int32_t *text, int p, int last)
{
    int n = 0;
    while (n < NGRAM_MAX && n <= p && text[p - n] == text[last - n])
        n++;
    return n;
}

int ngram_match(const struct ngram *g, const int32_t *text, int n, int *length)
{
    int best = 0;
    *length = NGRAM_MIN - 1;
    if (n < NGRAM_MIN)
        return 0;
    int32_t p = *bucket(g, text, n - 1);
    for (int i = 0; p > 0 && i < PLACES && *length < NGRAM_MAX; i++, p = g->before[p]) {
        int l = p < n - 1 ? shared(text, p, n - 1) : 0;
        if (l > *length) {
            *length = l;
            best = p;
        }
    }
    return best;
}
