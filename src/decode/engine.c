/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/clock.h"
#include "decode/decode.h"

int engine_open(struct engine *e, const struct backend *b, struct kv *kv, const struct device_options *o, int n_layers, int n_vocab, int batch, int max_drafts, struct error *err)
{
    size_t n = (size_t)o->n_hidden;
    *e = (struct engine){.b = b, .kv = kv, .n_layers = n_layers, .n_vocab = n_vocab, .n_slots = o->n_slots, .batch = batch, .max_drafts = max_drafts, .n_hidden = o->n_hidden, .draft_head = o->n_draft_tokens > 0};
    e->list = calloc(n, sizeof *e->list);
    e->who = calloc(n, sizeof *e->who);
    e->ready = calloc((size_t)o->n_seqs, sizeof *e->ready);
    e->to = calloc(n, sizeof *e->to);
    e->rows = calloc(n, sizeof *e->rows);
    e->asks = calloc(n, sizeof *e->asks);
    e->picks = calloc(n, sizeof *e->picks);
    if (e->list && e->who && e->ready && e->to && e->rows && e->asks && e->picks)
        return 0;
    engine_close(e);
    return fail(err, ERR_OS, "out of memory");
}

void engine_close(struct engine *e)
{
    free(e->list);
    free(e->who);
    free(e->ready);
    free(e->to);
    free(e->rows);
    free(e->asks);
    free(e->picks);
    *e = (struct engine){0};
}

/* The lowest layer at which an unfinished node stands, and the next one where anything starts or ends; false when all are done. */
static bool next_range(struct node *const *list, const int16_t *to, int n, int *first, int *last)
{
    *first = *last = INT16_MAX;
    for (int i = 0; i < n; i++)
        if (list[i]->at < to[i] && list[i]->at < *first)
            *first = list[i]->at;
    for (int i = 0; i < n; i++) {
        if (list[i]->at >= to[i])
            continue;
        int edge = list[i]->at > *first ? list[i]->at : to[i];
        *last = edge < *last ? edge : *last;
    }
    return *first < *last;
}

/* What a pass cost: `bytes` had been read and it was `start` before it. A device that the host waits for only at picks has just begun with it. */
static void note(struct engine *e, struct cost *c, int rows, int passes, uint64_t bytes, int64_t start)
{
    if (e->b->waits)
        pace_queue(&e->pace, c, rows, passes, e->b->bytes_read(e->kv) - bytes, start);
    else
        pace_note(&e->pace, c, rows, passes, clock_ns() - start);
    if (e->b->waits && c != &e->pace.layer)
        pace_drain(&e->pace, clock_ns());
}

int engine_advance(struct engine *e, struct node **list, const int16_t *to, int n, struct error *err)
{
    for (int first, last; next_range(list, to, n, &first, &last);) {
        int m = 0;
        for (int i = 0; i < n; i++)
            if (list[i]->at == first && to[i] > first)
                e->rows[m++] = list[i]->row;
        int64_t start = clock_ns();
        uint64_t bytes = e->b->bytes_read(e->kv);
        int rc = e->b->forward(e->kv, first, last, e->rows, m, err);
        note(e, &e->pace.layer, m, last - first, bytes, start);
        if (rc)
            return rc;
        for (int i = 0; i < n; i++)
            if (list[i]->at == first && to[i] > first)
                list[i]->at = (int16_t)last;
    }
    return 0;
}

struct ask engine_ask(const struct timeline *t, bool draft)
{
    int n = t->ask.drafters & DRAFT_RECYCLE ? RECYCLE_TOP : 0;
    return (struct ask){.s = &t->ask.sampling, .n_top = n > t->ask.n_top ? n : t->ask.n_top, .draft = draft};
}

int engine_pick(struct engine *e, int n, bool draft, struct error *err)
{
    for (int i = 0; i < n; i++) {
        e->rows[i] = e->list[i]->row;
        e->asks[i] = engine_ask(e->who[i], draft);
        edits_ask(e->who[i], e->list[i], &e->asks[i]);
    }
    int64_t start = clock_ns();
    uint64_t bytes = e->b->bytes_read(e->kv);
    int rc = e->b->pick(e->kv, e->rows, e->asks, n, e->picks, err);
    note(e, draft && e->draft_head ? &e->pace.draft_head : &e->pace.head, n, 1, bytes, start);
    for (int i = 0; i < n && !rc; i++)
        recycle_learn(&e->who[i]->recycle, e->rows[i].token, &e->picks[i]);
    return rc;
}
