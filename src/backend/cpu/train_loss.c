/* SPDX-License-Identifier: Apache-2.0 */
/* Losses at the exits. Logits of all positions would be the largest array by far: so a chunk of rows goes through the head, is compared, becomes the gradient of
   its logits in place, and through both products of the way back, before the next chunk comes. */
#include <math.h>
#include <string.h>

#include "backend/cpu/trainer.h"

/* The least sum of minima that counts, so that the loss stays finite where p and q share nothing that f32 can hold. */
#define LEAST_SHARED 1e-30

struct chunk {
    struct train_pass *p;
    const int32_t *row; /* [n]: their places in the batch */
    int n;
    const float *state; /* [rows][hidden] */
    const float *weights;
    float *z;                 /* [n][vocab] */
    struct row_loss *to;      /* [n] */
    const struct train_exit *exit;
    bool back;
    double share;             /* 1 / positions with a target */
    float *pull;              /* [rows][hidden] */
};

/* ---- logits ---- */

static void norm_row(void *ctx, int i, int worker)
{
    const struct chunk *c = ctx;
    const struct trainer *t = c->p->t;
    const struct chunk_kept *k = &t->at_exit;
    size_t at = row_at(i, t->hidden_pad);
    (void)worker;
    memcpy(k->x + at, c->state + row_at(c->row[i], t->hidden_pad), (size_t)t->hidden_pad * sizeof *k->x);
    t->ops->norm(k->normed + at, k->x + at, c->weights + t->lay.norm_at, t->hidden_pad, t->c->hidden, (float)t->c->norm_eps);
}

static void describe_row(void *ctx, int i, int worker)
{
    const struct chunk *c = ctx;
    const struct trainer *t = c->p->t;
    float *z = c->z + row_at(i, t->vocab_pad);
    (void)worker;
    for (int v = t->c->vocab; v < t->vocab_pad; v++)
        z[v] = LOGIT_PAD;
    struct scan s = t->ops->scan(z, 0, t->c->vocab);
    double sum = t->rows->sum_exp(z, t->vocab_pad, s.max);
    c->to[i] = (struct row_loss){.q = {.z = z, .max = s.max, .scale = (float)(1 / sum), .lse = (double)s.max + log(sum)}, .best = s.id, .finite = s.finite};
}

/* z and what it says, from c->state by c->weights. */
static void take_logits(struct chunk *c)
{
    struct trainer *t = c->p->t;
    pool_each(t->pool, c->n, 16, norm_row, c);
    const struct product head = product_forward(c->z, t->at_exit.normed, c->weights + t->lay.head_at, c->n, t->c->hidden, t->c->vocab);
    gemm_run(&t->gemm, t->pool, &head, 1);
    pool_each(t->pool, c->n, 1, describe_row, c);
}

/* ---- losses ---- */

/* What is asked for of a row, and the gradient of its logits in their place. */
static void lose_row(void *ctx, int i, int worker)
{
    const struct chunk *c = ctx;
    const struct trainer *t = c->p->t;
    const struct train_exit *e = c->exit;
    struct row_loss *r = &c->to[i];
    int32_t target = c->p->b->target[c->row[i]];
    const struct softmax *p = e->kl != 0 || e->accept != 0 ? &t->at_exit.last[i].q : NULL, *p0 = e->anchor != 0 ? &t->at_exit.anchor[i].q : NULL;
    struct pull by = {.all = (float)(c->share * ((double)e->ce + (double)e->kl + (double)e->anchor)), .kl = (float)(c->share * (double)e->kl),
                      .anchor = (float)(c->share * (double)e->anchor)};
    (void)worker;
    if (e->ce != 0)
        r->ce = r->q.lse - (double)r->q.z[target];
    if (p) {
        struct contrast x = t->rows->contrast(&r->q, p, t->vocab_pad);
        double shared = x.least > LEAST_SHARED ? x.least : LEAST_SHARED;
        r->kl = e->kl != 0 ? x.kl : 0;
        r->accept = e->accept != 0 ? -log(shared) : 0;
        by.accept = (float)(c->share * (double)e->accept / shared);
        by.below = (float)x.below;
        r->finite &= t->at_exit.last[i].finite && isfinite(x.least);
    }
    if (p0) {
        r->anchor = t->rows->contrast(&r->q, p0, t->vocab_pad).kl;
        r->finite &= t->at_exit.anchor[i].finite;
    }
    r->finite &= isfinite(r->ce) && isfinite(r->kl) && isfinite(r->anchor);
    if (c->back) {
        t->rows->pull(c->z + row_at(i, t->vocab_pad), &r->q, p, p0, t->vocab_pad, &by);
        c->z[row_at(i, t->vocab_pad) + (size_t)target] -= (float)(c->share * (double)e->ce);
    }
}

static void scatter_row(void *ctx, int i, int worker)
{
    const struct chunk *c = ctx;
    const struct trainer *t = c->p->t;
    (void)worker;
    memcpy(c->pull + row_at(c->row[i], t->hidden_pad), t->at_exit.back + row_at(i, t->hidden_pad), (size_t)t->hidden_pad * sizeof *c->pull);
}

/* From the gradient of the logits to those of head, norm and state. */
static void go_back(struct chunk *c)
{
    struct trainer *t = c->p->t;
    const struct chunk_kept *k = &t->at_exit;
    int hidden = t->c->hidden, vocab = t->c->vocab;
    const struct product head[] = {
        product_weight(t->gradient + t->lay.head_at, c->z, k->normed, c->n, hidden, vocab),
        product_back(t->dnormed, c->z, c->weights + t->lay.head_at, c->n, hidden, vocab, false),
    };
    gemm_run(&t->gemm, t->pool, head, 2);
    memset(k->back, 0, row_at(c->n, t->hidden_pad) * sizeof *k->back);
    train_norm_back(t, k->back, k->x, t->lay.norm_at, t->dnormed, c->n);
    pool_each(t->pool, c->n, 16, scatter_row, c);
}

/* Adds the chunk's losses to the sums in out, in order of position. */
static int sum_up(const struct chunk *c, struct train_result *out, struct error *err)
{
    const struct train_batch *b = c->p->b;
    bool compared = c->exit->kl != 0 || c->exit->accept != 0;
    for (int i = 0; i < c->n; i++) {
        const struct row_loss *r = &c->to[i];
        if (!r->finite)
            return fail(err, ERR_DATA, "training: the loss after %d layers is not finite at sequence %d, position %d: weights or steps have grown too large; lower the rate, or clip",
                        c->exit->layer, c->row[i] / b->length, c->row[i] % b->length);
        out->ce += r->ce;
        out->kl += r->kl;
        out->accept += r->accept;
        out->anchor += r->anchor;
        out->agree += compared && r->best == c->p->t->at_exit.last[i].best;
    }
    return 0;
}

/* ---- chunks ---- */

static bool asks(const struct train_exit *e) { return e->ce != 0 || e->kl != 0 || e->accept != 0 || e->anchor != 0; }

/* The distributions that exits are held against. */
static void take_references(const struct chunk *c, const struct train_exit *exits, int n)
{
    struct trainer *t = c->p->t;
    bool last = false, anchor = false;
    for (int i = 0; i < n; i++) {
        last |= exits[i].kl != 0 || exits[i].accept != 0;
        anchor |= exits[i].anchor != 0;
    }
    struct chunk ref = *c;
    ref.z = t->at_exit.z_last;
    ref.to = t->at_exit.last;
    ref.state = t->state[t->c->n_layers];
    if (last)
        take_logits(&ref);
    ref.z = t->at_exit.z_anchor;
    ref.to = t->at_exit.anchor;
    ref.state = t->anchor_state;
    ref.weights = t->anchor;
    if (anchor)
        take_logits(&ref);
}

static int lose_chunk(struct chunk *c, const struct train_exit *exits, int n, struct train_result *out, struct error *err)
{
    struct trainer *t = c->p->t;
    int rc = 0;
    take_references(c, exits, n);
    for (int i = 0; i < n && !rc; i++) {
        if (!asks(&exits[i]))
            continue;
        c->exit = &exits[i];
        c->state = t->state[exits[i].layer];
        c->pull = c->back ? t->pull[i] : NULL;
        take_logits(c);
        pool_each(t->pool, c->n, 1, lose_row, c);
        rc = sum_up(c, &out[i], err);
        if (!rc && c->back)
            go_back(c);
    }
    return rc;
}

static int list_targets(const struct train_pass *p, int32_t *row)
{
    int n = 0;
    for (int i = 0; i < p->b->n * p->b->length; i++)
        if (p->b->target[i] >= 0)
            row[n++] = i;
    return n;
}

int train_losses(struct train_pass *p, const struct train_exit *exits, int n, bool back, struct train_result *out, struct error *err)
{
    struct trainer *t = p->t;
    int rows = list_targets(p, t->at_exit.row), rc = 0;
    memset(out, 0, (size_t)n * sizeof *out);
    for (int i = 0; back && i < n; i++)
        memset(t->pull[i], 0, row_at(p->b->n * p->b->length, t->hidden_pad) * sizeof *t->pull[i]);
    for (int at = 0; at < rows && !rc; at += t->chunk) {
        struct chunk c = {.p = p, .row = t->at_exit.row + at, .n = rows - at < t->chunk ? rows - at : t->chunk, .weights = p->weights, .z = t->at_exit.z, .to = t->at_exit.loss,
                          .back = back, .share = 1.0 / rows};
        rc = lose_chunk(&c, exits, n, out, err);
    }
    for (int i = 0; i < n; i++) {
        double *const means[] = {&out[i].ce, &out[i].kl, &out[i].accept, &out[i].anchor, &out[i].agree};
        for (int j = 0; rows && j < 5; j++)
            *means[j] /= rows;
        out[i].positions = rows;
    }
    return rc;
}
