/* SPDX-License-Identifier: Apache-2.0 */
/* Losses at the exits. Logits of all positions would be the largest array by far: so a chunk of rows goes through the head, is compared, becomes the gradient of
   its logits, and goes through both products of the way back, before the next chunk comes. */
#include "backend/cuda/trainer.h"

struct chunk {
    struct train_pass *p;
    const int32_t *row, *target; /* [n], on the device: their places in the batch, and what should follow */
    int n;
    double share; /* 1 / positions with a target */
    bool back;
};

/* z := logits of the chunk's rows of a state, by weights w. */
static int take_logits(const struct chunk *c, const struct train_weights *w, const float *state, float *z, struct error *err)
{
    struct trainer *t = c->p->t;
    const struct train_join j = {.rows = c->n, .length = 1, .hidden = t->c->hidden, .pad = t->hidden_pad, .eps = (float)t->c->norm_eps, .x = state, .x_map = c->row,
                                 .w = w->vector + (t->lay.norm_at - t->lay.n_matrices), .normed = t->at_exit.normed};
    int rc = CUDA_TRY(err, cuda_train_join(t->stream, &j));
    struct train_product head = product_forward(z, t->vocab_pad, t->at_exit.normed, t->hidden_pad, w->matrix + t->lay.head_at, c->n, t->c->hidden, t->c->vocab);
    head.c_f32 = true;
    return rc ? rc : cuda_train_product(t, head, err);
}

static int take_reference(const struct chunk *c, const struct train_weights *w, const float *state, float *z, struct train_stat *stat, struct error *err)
{
    struct trainer *t = c->p->t;
    int rc = take_logits(c, w, state, z, err);
    return rc ? rc : CUDA_TRY(err, cuda_train_describe(t->stream, stat, z, c->n, t->c->vocab, t->vocab_pad));
}

static bool asks_last(const struct train_exit *e) { return e->kl != 0 || e->accept != 0; }
static bool asks(const struct train_exit *e) { return e->ce != 0 || asks_last(e) || e->anchor != 0; }

/* The distributions that exits are held against. */
static int take_references(const struct chunk *c, const struct train_exit *exits, int n, struct error *err)
{
    struct trainer *t = c->p->t;
    const struct train_weights original = {t->anchor, t->anchor_vector};
    bool last = false, anchor = false;
    for (int i = 0; i < n; i++) {
        last |= asks_last(&exits[i]);
        anchor |= exits[i].anchor != 0;
    }
    int rc = last ? take_reference(c, &c->p->weights, t->state[t->c->n_layers], t->at_exit.z_last, t->at_exit.last, err) : 0;
    return rc || !anchor ? rc : take_reference(c, &original, t->anchor_state, t->at_exit.z_anchor, t->at_exit.anchor, err);
}

/* From the gradient of the logits to those of head, norm and state. */
static int go_back(const struct chunk *c, const float *state, float *pull, struct error *err)
{
    struct trainer *t = c->p->t;
    const struct chunk_kept *k = &t->at_exit;
    const int hidden = t->c->hidden, vocab = t->c->vocab;
    const struct train_norm_back norm = {.rows = c->n, .length = 1, .dx = pull, .dx_map = c->row, .x = state, .x_map = c->row, .dy = t->y, .w = train_vector(c->p, t->lay.norm_at)};
    int rc = cuda_train_product(t, product_weight(t->gradient + t->lay.head_at, k->dz, t->vocab_pad, k->normed, t->hidden_pad, c->n, hidden, vocab), err);
    if (!rc)
        rc = cuda_train_product(t, product_back(t->y, t->hidden_pad, k->dz, t->vocab_pad, train_matrix(c->p, t->lay.head_at), c->n, hidden, vocab), err);
    return rc ? rc : cuda_train_norm_gradient(t, norm, t->lay.norm_at, err);
}

static int lose_at(const struct chunk *c, const struct train_exit *e, int exit, struct error *err)
{
    struct trainer *t = c->p->t;
    const struct chunk_kept *k = &t->at_exit;
    const struct train_lose l = {.rows = c->n, .vocab = t->c->vocab, .pad = t->vocab_pad, .z = k->z, .z_last = asks_last(e) ? k->z_last : NULL,
                                 .z_anchor = e->anchor != 0 ? k->z_anchor : NULL, .last = k->last, .anchor = k->anchor, .target = c->target, .share = c->share, .ce = e->ce,
                                 .kl = e->kl, .accept = e->accept, .anchor_weight = e->anchor, .loss = k->loss, .dz = c->back ? k->dz : NULL};
    int rc = take_logits(c, &c->p->weights, t->state[e->layer], k->z, err);
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_lose(t->stream, &l));
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_total(t->stream, &t->total[exit], k->loss, c->row, c->n));
    return rc || !c->back ? rc : go_back(c, t->state[e->layer], t->pull[exit], err);
}

int cuda_train_losses(struct train_pass *p, const struct train_exit *exits, int n, bool back, struct error *err)
{
    struct trainer *t = p->t;
    int rc = 0;
    for (int i = 0; back && i < n && !rc; i++)
        rc = CUDA_TRY(err, cudaMemsetAsync(t->pull[i], 0, row_at(p->b->n * p->b->length, t->hidden_pad) * sizeof *t->pull[i], t->stream));
    for (int at = 0; at < p->targets && !rc; at += t->chunk) {
        const struct chunk c = {.p = p, .row = t->numbers.row + at, .target = t->numbers.target + at, .n = p->targets - at < t->chunk ? p->targets - at : t->chunk,
                                .share = 1.0 / p->targets, .back = back};
        rc = take_references(&c, exits, n, err);
        for (int i = 0; i < n && !rc; i++)
            if (asks(&exits[i]))
                rc = lose_at(&c, &exits[i], i, err);
    }
    return rc;
}

int cuda_train_results(struct train_pass *p, const struct train_exit *exits, int n, struct train_result *out, struct error *err)
{
    struct trainer *t = p->t;
    const double rows = p->targets ? p->targets : 1;
    int rc = CUDA_TRY(err, cudaMemcpyAsync(t->host.total, t->total, (size_t)n * sizeof *t->total, cudaMemcpyDeviceToHost, t->stream));
    if (!rc)
        rc = CUDA_TRY(err, cudaStreamSynchronize(t->stream));
    for (int i = 0; i < n && !rc; i++) {
        const struct train_total *s = &t->host.total[i];
        const int bad = (int)s->bad - 1;
        out[i] = (struct train_result){.ce = s->ce / rows, .kl = s->kl / rows, .accept = s->accept / rows, .anchor = s->anchor / rows, .agree = (double)s->agree / rows,
                                       .positions = p->targets};
        if (bad >= 0)
            rc = fail(err, ERR_DATA, "training: the loss after %d layers is not finite at sequence %d, position %d: weights or steps have grown too large; lower the rate, or clip",
                      exits[i].layer, bad / p->b->length, bad % p->b->length);
    }
    return rc;
}
