/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to residual states, layer by layer. A dropped sample's rows go past a layer as they are; the kept ones are gathered, run, and put back. */
#include <string.h>

#include "backend/cpu/trainer.h"

int train_report(struct train_pass *p, struct error *err)
{
    const struct train_options *o = &p->t->o;
    p->done++;
    return o->progress && o->progress(o->progress_ud, "training", p->done, p->total) ? fail(err, ERR_USAGE, "training was stopped") : 0;
}

/* ---- samples of a layer ---- */

int train_samples(const struct train_pass *p, int layer)
{
    int n = 0;
    for (int s = 0; s < p->b->n; s++)
        if (!p->keep || p->keep[(size_t)layer * (size_t)p->b->n + (size_t)s])
            p->t->sample[n++] = s;
    return n;
}

struct move {
    const struct trainer *t;
    const float *from;
    float *to;
    size_t floats; /* of a sample */
    bool back;
};

static void move_sample(void *ctx, int i, int worker)
{
    const struct move *m = ctx;
    size_t packed = (size_t)i * m->floats, spread = (size_t)m->t->sample[i] * m->floats;
    (void)worker;
    memcpy(m->to + (m->back ? spread : packed), m->from + (m->back ? packed : spread), m->floats * sizeof *m->to);
}

static void move_samples(const struct train_pass *p, int n, const float *from, float *to, bool back)
{
    struct move m = {p->t, from, to, row_at(p->b->length, p->t->hidden_pad), back};
    pool_each(p->t->pool, n, 1, move_sample, &m);
}

float *train_gather(const struct train_pass *p, int n, float *from, float *to)
{
    if (n == p->b->n)
        return from;
    move_samples(p, n, from, to, false);
    return to;
}

void train_scatter(const struct train_pass *p, int n, const float *from, float *to)
{
    if (from != to)
        move_samples(p, n, from, to, true);
}

/* ---- rows ---- */

struct rows {
    const struct trainer *t;
    float *y;
    const float *x, *w;
    int n, pad; /* of a row; padded */
};

static void norm_row(void *ctx, int i, int worker)
{
    const struct rows *r = ctx;
    (void)worker;
    r->t->ops->norm(r->y + row_at(i, r->pad), r->x + row_at(i, r->pad), r->w, r->pad, r->n, (float)r->t->c->norm_eps);
}

void train_norm(struct trainer *t, float *out, const float *x, const float *w, int rows)
{
    struct rows r = {t, out, x, w, t->c->hidden, t->hidden_pad};
    pool_each(t->pool, rows, 16, norm_row, &r);
}

/* y += x, a row of its own for each or (w) the same for all */
static void add_row(void *ctx, int i, int worker)
{
    const struct rows *r = ctx;
    float *y = r->y + row_at(i, r->pad);
    (void)worker;
    if (r->w)
        r->t->ops->add(y, r->w, r->pad);
    if (r->x)
        r->t->ops->add(y, r->x + row_at(i, r->pad), r->pad);
}

/* y [rows][n] += bias (NOWHERE: none) + x (NULL: none) */
static void add(const struct train_pass *p, float *y, int n, size_t bias, const float *x, int rows)
{
    struct rows r = {p->t, y, x, bias == NOWHERE ? NULL : p->weights + bias, n, pad16(n)};
    if (r.w || r.x)
        pool_each(p->t->pool, rows, 16, add_row, &r);
}

struct gate {
    const struct trainer *t;
    const struct layer_kept *k;
};

static void gate_row(void *ctx, int i, int worker)
{
    const struct gate *g = ctx;
    size_t at = row_at(i, g->t->ffn_pad);
    (void)worker;
    memcpy(g->t->wide + at, g->k->gate + at, (size_t)g->t->ffn_pad * sizeof(float));
    g->t->ops->gate(g->t->wide + at, g->k->up + at, g->t->ffn_pad);
}

void train_gate(struct trainer *t, const struct layer_kept *k, int rows)
{
    struct gate g = {t, k};
    pool_each(t->pool, rows, 16, gate_row, &g);
}

/* ---- a layer ---- */

static void attention_half(const struct train_pass *p, int layer, const struct layer_kept *k, const float *x, int samples)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    int rows = samples * p->b->length, hidden = t->c->hidden;
    train_norm(t, t->normed, x, train_weight(p, layer, W_ATTN_NORM), rows);
    const struct product in[] = {
        product_forward(k->q, t->normed, train_weight(p, layer, W_Q), rows, hidden, t->q_dim),
        product_forward(k->k, t->normed, train_weight(p, layer, W_K), rows, hidden, t->kv_dim),
        product_forward(k->v, t->normed, train_weight(p, layer, W_V), rows, hidden, t->kv_dim),
    };
    gemm_run(&t->gemm, t->pool, in, 3);
    add(p, k->q, t->q_dim, at->bias[W_Q], NULL, rows);
    add(p, k->k, t->kv_dim, at->bias[W_K], NULL, rows);
    add(p, k->v, t->kv_dim, at->bias[W_V], NULL, rows);
    train_rotate(t, p->b, k->q, k->k, samples, false);
    train_attend(p, k, samples);
    const struct product out = product_forward(k->mid, k->att, train_weight(p, layer, W_O), rows, t->q_dim, hidden);
    gemm_run(&t->gemm, t->pool, &out, 1);
    add(p, k->mid, hidden, at->bias[W_O], x, rows);
}

/* t->normed is left as the input of the feed-forward half. */
static void feed_forward_in(const struct train_pass *p, int layer, const struct layer_kept *k, int rows)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    train_norm(t, t->normed, k->mid, train_weight(p, layer, W_FFN_NORM), rows);
    const struct product in[] = {
        product_forward(k->gate, t->normed, train_weight(p, layer, W_GATE), rows, t->c->hidden, t->c->ffn),
        product_forward(k->up, t->normed, train_weight(p, layer, W_UP), rows, t->c->hidden, t->c->ffn),
    };
    gemm_run(&t->gemm, t->pool, in, 2);
    add(p, k->gate, t->c->ffn, at->bias[W_GATE], NULL, rows);
    add(p, k->up, t->c->ffn, at->bias[W_UP], NULL, rows);
}

void train_layer_forward(const struct train_pass *p, int layer, const struct layer_kept *k, bool to_the_end)
{
    struct trainer *t = p->t;
    int samples = train_samples(p, layer), rows = samples * p->b->length;
    float *next = t->state[layer + 1];
    if (samples) {
        const float *x = train_gather(p, samples, t->state[layer], t->in);
        attention_half(p, layer, k, x, samples);
        feed_forward_in(p, layer, k, rows);
    }
    if (!to_the_end)
        return;
    if (samples < p->b->n)
        memcpy(next, t->state[layer], row_at(p->b->n * p->b->length, t->hidden_pad) * sizeof *next);
    if (!samples)
        return;
    train_gate(t, k, rows);
    float *out = samples < p->b->n ? t->out : next;
    const struct product down = product_forward(out, t->wide, train_weight(p, layer, W_DOWN), rows, t->c->ffn, t->c->hidden);
    gemm_run(&t->gemm, t->pool, &down, 1);
    add(p, out, t->c->hidden, t->lay.at[layer].bias[W_DOWN], k->mid, rows);
    train_scatter(p, samples, out, next);
}

/* ---- all of them ---- */

static void embed_row(void *ctx, int i, int worker)
{
    const struct train_pass *p = ctx;
    size_t hidden = (size_t)p->t->c->hidden;
    (void)worker;
    memcpy(p->t->state[0] + row_at(i, p->t->hidden_pad), p->weights + p->t->lay.embed_at + (size_t)p->b->token[i] * hidden, hidden * sizeof(float));
}

int train_forward(struct train_pass *p, int depth, struct error *err)
{
    int rc = 0;
    pool_each(p->t->pool, p->b->n * p->b->length, 16, embed_row, p);
    for (int l = 0; l < depth && !rc; l++) {
        train_layer_forward(p, l, &p->t->kept[l], true);
        rc = train_report(p, err);
    }
    return rc;
}
