/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/pages.h"

#include "backend/backend.h"

int pages_open(struct pages *p, struct arena *a, int n_seqs, int n_slots, int (*copy)(void *, int, int, struct error *), void *arg, struct error *err)
{
    *p = (struct pages){.n_seqs = n_seqs, .n_slots = n_slots, .pages_per_seq = pages_of(n_slots), .copy = copy, .arg = arg};
    p->n_pages = p->n_free = p->pages_per_seq * n_seqs;
    p->free_page = arena_array(a, (uint64_t)p->n_pages, sizeof *p->free_page);
    p->users = arena_array(a, (uint64_t)p->n_pages, sizeof *p->users);
    p->seq = arena_array(a, (uint64_t)n_seqs, sizeof *p->seq);
    bool good = p->free_page && p->users && p->seq;
    for (int i = 0; i < n_seqs && good; i++)
        good = (p->seq[i].page = arena_array(a, (uint64_t)p->pages_per_seq, sizeof(int32_t))) != NULL;
    if (!good)
        return fail(err, ERR_OS, "out of memory");
    for (int i = 0; i < p->n_pages; i++)
        p->free_page[i] = p->n_pages - 1 - i;
    return 0;
}

int pages_seq_open(struct pages *p, struct error *err)
{
    for (int i = 0; i < p->n_seqs; i++)
        if (!p->seq[i].open) {
            p->seq[i].open = true;
            p->seq[i].n_pages = 0;
            return i;
        }
    return fail(err, ERR_USAGE, "all %d timelines of this model are in use; open it for more", p->n_seqs);
}

static void drop_page(struct pages *p, int page)
{
    if (--p->users[page] == 0)
        p->free_page[p->n_free++] = page;
}

void pages_trim(struct pages *p, int seq, int n_slots)
{
    struct page_list *s = &p->seq[seq];
    while (s->n_pages > 0 && (s->n_pages - 1) * KV_PAGE >= n_slots)
        drop_page(p, s->page[--s->n_pages]);
}

void pages_seq_close(struct pages *p, int seq)
{
    pages_trim(p, seq, 0);
    p->seq[seq].open = false;
}

int pages_share(struct pages *p, int from, int to, int n_slots, struct error *err)
{
    struct page_list *a = &p->seq[from], *b = &p->seq[to];
    int n = pages_of(n_slots);
    if (from == to || n > a->n_pages)
        return fail(err, ERR_INTERNAL, "timeline %d has no %d slots to share with %d", from, n_slots, to);
    pages_trim(p, to, 0);
    for (int i = 0; i < n; i++) {
        b->page[i] = a->page[i];
        p->users[a->page[i]]++;
    }
    b->n_pages = n;
    return 0;
}

/* A free page, or below zero: can only happen when shared pages were copied and others hold the rest. */
static int take_page(struct pages *p, struct error *err)
{
    if (p->n_free == 0)
        return fail(err, ERR_OS, "the KV cache is full: all %d pages of %d tokens are in use", p->n_pages, KV_PAGE);
    int page = p->free_page[--p->n_free];
    p->users[page] = 1;
    return page;
}

int pages_reserve(struct pages *p, int seq, int slot, struct error *err)
{
    struct page_list *s = &p->seq[seq];
    int index = slot / KV_PAGE, changed = 0;
    if (slot < 0 || index >= p->pages_per_seq)
        return fail(err, ERR_INTERNAL, "slot %d lies outside a timeline of %d", slot, p->n_slots);
    while (s->n_pages <= index) {
        int page = take_page(p, err);
        if (page < 0)
            return page;
        s->page[s->n_pages++] = page;
        changed = 1;
    }
    int old = s->page[index];
    if (p->users[old] == 1)
        return changed;
    int page = take_page(p, err), rc = page < 0 ? page : p->copy(p->arg, page, old, err);
    if (rc) {
        if (page >= 0)
            drop_page(p, page);
        return rc;
    }
    drop_page(p, old);
    s->page[index] = page;
    return 1;
}
