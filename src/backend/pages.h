/* SPDX-License-Identifier: Apache-2.0 */
/* Which page of a KV cache holds which slots of which timeline: counted pages, copied before a shared one is written. Bookkeeping alone: where the bytes lie and
   how they are copied is the backend's. */
#ifndef BACKEND_PAGES_H
#define BACKEND_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

struct page_list {
    bool open;
    int n_pages;
    int32_t *page; /* [pages_per_seq] */
};

struct pages {
    int n_pages, pages_per_seq, n_seqs, n_slots, n_free;
    int32_t *free_page; /* [n_pages], the first n_free are free */
    int32_t *users;     /* [n_pages] */
    struct page_list *seq; /* [n_seqs] */
    int (*copy)(void *arg, int to, int from, struct error *err); /* one page's bytes */
    void *arg;
};

/* Pages for n_seqs timelines of n_slots each; memory from the arena. */
int pages_open(struct pages *p, struct arena *a, int n_seqs, int n_slots, int (*copy)(void *, int, int, struct error *), void *arg, struct error *err);

int pages_seq_open(struct pages *p, struct error *err); /* its number, or below zero */
void pages_seq_close(struct pages *p, int seq);
void pages_trim(struct pages *p, int seq, int n_slots);
int pages_share(struct pages *p, int from, int to, int n_slots, struct error *err);

/* The slot's page is there and this timeline's alone. Returns 1 when the timeline's list changed, else 0, or below zero. */
int pages_reserve(struct pages *p, int seq, int slot, struct error *err);

static inline int pages_of(int n_slots) { return (n_slots + 255) / 256; } /* KV_PAGE slots each */

#endif
