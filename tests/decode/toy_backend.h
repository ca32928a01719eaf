/* SPDX-License-Identifier: Apache-2.0 */
/* A backend of exact integers: no weights, no floats, every mistake visible.

   The K/V cell of (layer, slot) holds the token and position of the row that wrote it. A layer hashes, in order, the cells that a row sees. When decoding is right
   every layer sees the same history h, and the pick at full depth is a function of h alone. A stale, missing or foreign cell in any layer makes that layer's
   hash differ, and so the pick. An exit at depth e picks what the full depth would in AGREE of 100 histories.

   toy_prefilling is the same with a prefill whose K and V differ from those of forward, as on a device with other products for many rows. */
#ifndef TESTS_DECODE_TOY_BACKEND_H
#define TESTS_DECODE_TOY_BACKEND_H

#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"

enum { TOY_LAYERS = 6, TOY_VOCAB = 64, TOY_AGREE = 70 };

enum toy_fault { TOY_NO_FAULT, TOY_SKIP_EARLY, TOY_STALE_SLOT, TOY_NOISE_KEY, TOY_SIBLING, TOY_NO_MOVE };

struct toy_cell {
    int32_t token, pos, role; /* role: 1 of prefill */
};

struct toy_row {
    uint64_t hist[TOY_LAYERS]; /* what each layer saw */
    int32_t token, at;
};

struct kv {
    int n_slots, n_seqs, n_hidden;
    struct toy_cell *cell; /* [seq][layer][slot] */
    struct toy_row *row;   /* [n_hidden] */
    bool *open;
    uint64_t forwards, prefills, picks, rows;
    enum toy_fault fault;
    int exit_layer; /* of the fault */
};

static uint64_t toy_mix(uint64_t a, uint64_t b)
{
    a ^= b + 0x9e3779b97f4a7c15ull + (a << 6) + (a >> 2);
    a ^= a >> 31;
    a *= 0xbf58476d1ce4e5b9ull;
    return a ^ (a >> 29);
}

static struct toy_cell *toy_cell_at(struct kv *kv, int seq, int layer, int slot) { return &kv->cell[((size_t)seq * TOY_LAYERS + (size_t)layer) * (size_t)kv->n_slots + (size_t)slot]; }

static uint64_t toy_taste(uint64_t h, const struct toy_cell *c)
{
    h = toy_mix(toy_mix(h, (uint64_t)c->token), (uint64_t)c->pos);
    return c->role ? toy_mix(h, (uint64_t)c->role) : h;
}

static uint64_t toy_see(struct kv *kv, int layer, const struct row *r)
{
    uint64_t h = 1;
    for (int s = 0; s < r->prefix; s++)
        h = toy_taste(h, toy_cell_at(kv, r->seq, layer, s));
    for (int i = 0; i < 64; i++)
        if (r->also >> i & 1)
            h = toy_taste(h, toy_cell_at(kv, r->seq, layer, r->prefix + i));
    return toy_taste(h, toy_cell_at(kv, r->seq, layer, r->slot));
}

static int toy_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err)
{
    (void)err;
    kv->forwards++;
    kv->rows += (uint64_t)n;
    for (int i = 0; i < n; i++) {
        struct toy_row *h = &kv->row[rows[i].h];
        if (first == 0)
            *h = (struct toy_row){.token = rows[i].token};
        else if (h->at != first)
            return fail(err, ERR_INTERNAL, "row %d stands at layer %d, not at %d", i, h->at, first);
    }
    for (int l = first; l < last; l++) {
        for (int i = 0; i < n; i++) {
            bool last_draft = n == 1 && rows[0].also && first == 0 && last == kv->exit_layer;
            if (kv->fault == TOY_SKIP_EARLY && last_draft)
                continue; /* computed, but K and V are not written */
            *toy_cell_at(kv, rows[i].seq, l, rows[i].slot) = (struct toy_cell){kv->row[rows[i].h].token, rows[i].pos, 0};
        }
        for (int i = 0; i < n; i++) {
            struct row r = rows[i];
            if (kv->fault == TOY_STALE_SLOT && r.prefix > 3 && l == TOY_LAYERS - 1 && r.prefix % 7 == 0)
                r.prefix--; /* one committed slot is not seen */
            if (kv->fault == TOY_SIBLING && r.slot - r.prefix > __builtin_popcountll(r.also))
                r.also = ((uint64_t)1 << (r.slot - r.prefix)) - 1; /* everything that stands before it in the tree is seen */
            kv->row[r.h].hist[l] = toy_see(kv, l, &r);
            kv->row[r.h].at = l + 1;
        }
    }
    return 0;
}

/* Keeps no hidden states; every row's cells have the mark of prefill. */
static inline int toy_prefill(struct kv *kv, int last, const struct row *rows, int n, struct error *err)
{
    (void)err;
    kv->prefills++;
    kv->rows += (uint64_t)n;
    for (int l = 0; l < last; l++)
        for (int i = 0; i < n; i++)
            *toy_cell_at(kv, rows[i].seq, l, rows[i].slot) = (struct toy_cell){rows[i].token, rows[i].pos, 1};
    return 0;
}

static inline uint64_t toy_waits(const struct kv *kv) { return kv->picks; }

/* What a request changes goes into the choice in whole, so that any edit too many, too few or with another number changes the text. */
static uint64_t toy_edit(uint64_t seen, const struct ask *a)
{
    uint64_t sum = 0;
    for (int i = 0; i < a->n_edits; i++) {
        uint32_t bits[3];
        memcpy(bits, &a->edits[i].bias, sizeof bits); /* bias, repeat, less */
        sum += toy_mix(toy_mix(toy_mix(toy_mix(3, (uint64_t)a->edits[i].token), bits[0]), bits[1]), bits[2]);
    }
    for (int w = 0; a->allow && w < TOY_VOCAB / 32; w++)
        sum = toy_mix(sum, a->allow[w]);
    return sum ? toy_mix(seen, sum) : seen;
}

static bool toy_may(const struct ask *a, int32_t token)
{
    for (int i = 0; i < a->n_edits; i++)
        if (a->edits[i].token == token && !(a->edits[i].bias > PICK_OUT))
            return false;
    return pick_allows(a->allow, token);
}

/* The token, or the next one that may be chosen. */
static int32_t toy_next(const struct ask *a, int32_t token)
{
    for (int i = 0; i < TOY_VOCAB; i++)
        if (toy_may(a, (token + i) % TOY_VOCAB))
            return (token + i) % TOY_VOCAB;
    return PICK_NONE;
}

static int toy_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err)
{
    (void)err;
    kv->picks++;
    for (int i = 0; i < n; i++) {
        const struct toy_row *h = &kv->row[rows[i].h];
        uint64_t seen = h->hist[0];
        for (int l = 1; l < h->at; l++)
            if (h->hist[l] != seen)
                seen = toy_mix(seen, h->hist[l]); /* layers disagree about the past: another history */
        if (asks[i].s->temperature > 0) { /* noise by seed and position, as pick.h keys it */
            int32_t position = rows[i].pos + 1 - (kv->fault == TOY_NOISE_KEY && rows[i].also ? 1 : 0);
            seen = toy_mix(seen, pick_noise(asks[i].s, position, 0).v[0]);
        }
        seen = toy_edit(seen, &asks[i]);
        bool agree = h->at == TOY_LAYERS || toy_mix(seen, (uint64_t)h->at) % 100 < TOY_AGREE;
        picks[i] = (struct pick){.token = toy_next(&asks[i], (int32_t)(toy_mix(seen, agree ? 7 : 8) % TOY_VOCAB)), .logprob = -1, .conf = 0.5f, .n_top = asks[i].n_top};
        for (int k = 0; k < asks[i].n_top; k++) /* the pick is the third of them */
            picks[i].top[k] = (struct candidate){(picks[i].token + TOY_VOCAB + k - 2) % TOY_VOCAB, -1.0f - (float)k};
    }
    return 0;
}

static int toy_kv_move(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err)
{
    (void)err;
    for (int i = 0; i < n && kv->fault != TOY_NO_MOVE; i++)
        for (int l = 0; l < TOY_LAYERS; l++)
            *toy_cell_at(kv, seq, l, dst + i) = *toy_cell_at(kv, seq, l, src[i]);
    return 0;
}

static int toy_seq_open(struct kv *kv, struct error *err)
{
    for (int i = 0; i < kv->n_seqs; i++)
        if (!kv->open[i]) {
            kv->open[i] = true;
            return i;
        }
    return fail(err, ERR_USAGE, "no timeline left");
}

static void toy_seq_close(struct kv *kv, int seq) { kv->open[seq] = false; }

/* What lies behind the trim is poisoned: nobody may read it before it is written again. */
static void toy_seq_trim(struct kv *kv, int seq, int n_slots)
{
    for (int l = 0; l < TOY_LAYERS; l++)
        for (int s = n_slots; s < kv->n_slots; s++)
            *toy_cell_at(kv, seq, l, s) = (struct toy_cell){-1, -1, 0};
}

static uint64_t toy_bytes_read(const struct kv *kv) { return kv->rows; }

static const struct backend toy_backend = {
    .name = "toy", .seq_open = toy_seq_open, .seq_close = toy_seq_close, .seq_trim = toy_seq_trim, .kv_move = toy_kv_move,
    .forward = toy_forward, .pick = toy_pick, .bytes_read = toy_bytes_read,
};

static inline struct backend toy_prefilling(void)
{
    struct backend b = toy_backend;
    b.prefill = toy_prefill;
    b.waits = toy_waits;
    return b;
}

/* The same with chains of drafts in one go. */
static int toy_draft(struct kv *kv, int last, const struct row *rows, const struct ask *asks, const int *count, int steps, struct pick *picks, struct error *err)
{
    const struct pick *before = picks;
    for (int k = 0; k < steps; k++) {
        struct row step[ROWS_MAX];
        if (count[k] < 1 || count[k] > (k ? count[k - 1] : ROWS_MAX))
            return fail(err, ERR_INTERNAL, "step %d has %d rows", k, count[k]);
        for (int i = 0; i < count[k]; i++) {
            step[i] = rows[i];
            if (step[i].token < 0)
                step[i].token = before[-1 - step[i].token].token;
        }
        int rc = toy_forward(kv, 0, last, step, count[k], err);
        rc = rc ? rc : toy_pick(kv, step, asks, count[k], picks, err);
        if (rc)
            return rc;
        before = picks;
        rows += count[k];
        asks += count[k];
        picks += count[k];
    }
    return 0;
}

static const struct backend toy_chain_backend = {
    .name = "toy", .seq_open = toy_seq_open, .seq_close = toy_seq_close, .seq_trim = toy_seq_trim, .kv_move = toy_kv_move,
    .forward = toy_forward, .pick = toy_pick, .draft = toy_draft, .bytes_read = toy_bytes_read,
};

static inline struct kv *toy_open(int n_slots, int n_seqs, int n_hidden)
{
    struct kv *kv = calloc(1, sizeof *kv);
    *kv = (struct kv){.n_slots = n_slots, .n_seqs = n_seqs, .n_hidden = n_hidden};
    kv->cell = calloc((size_t)n_seqs * TOY_LAYERS * (size_t)n_slots, sizeof *kv->cell);
    kv->row = calloc((size_t)n_hidden, sizeof *kv->row);
    kv->open = calloc((size_t)n_seqs, sizeof *kv->open);
    return kv;
}

static inline void toy_close(struct kv *kv)
{
    free(kv->cell);
    free(kv->row);
    free(kv->open);
    free(kv);
}

#endif
