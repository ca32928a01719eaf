/* SPDX-License-Identifier: Apache-2.0 */
/* From the exits' gradients back through the layers to the embedding. */
#include <string.h>

#include "backend/cpu/trainer.h"

/* ---- sums over rows ---- */

struct sum {
    struct trainer *t;
    float *out;
    const float *y, *x;
    int rows, pad;
};

static void sum_columns(void *ctx, int i, int worker)
{
    const struct sum *s = ctx;
    size_t at = (size_t)i * 16;
    (void)worker;
    s->t->rows->columns(s->out + at, s->y + at, (size_t)s->pad, s->x ? s->x + at : NULL, (size_t)s->pad, s->t->scale, s->rows);
}

/* The bias's gradient: dy [rows][n] summed over the rows. */
static void bias_back(struct trainer *t, size_t bias, const float *dy, int n, int rows)
{
    if (bias == NOWHERE)
        return;
    struct sum s = {t, t->gradient + bias, dy, NULL, rows, pad16(n)};
    pool_each(t->pool, s.pad / 16, 1, sum_columns, &s);
}

struct norm {
    struct trainer *t;
    float *dx;
    const float *x, *w, *dy;
};

static void norm_back_row(void *ctx, int i, int worker)
{
    const struct norm *n = ctx;
    struct trainer *t = n->t;
    size_t at = row_at(i, t->hidden_pad);
    (void)worker;
    t->scale[i] = t->rows->norm_back(n->dx + at, n->x + at, n->w, n->dy + at, t->hidden_pad, t->c->hidden, (float)t->c->norm_eps);
}

void train_norm_back(struct trainer *t, float *dx, const float *x, size_t norm_at, const float *dy, int rows)
{
    struct norm n = {t, dx, x, t->weight + norm_at, dy};
    struct sum s = {t, t->gradient + norm_at, dy, x, rows, t->hidden_pad};
    pool_each(t->pool, rows, 16, norm_back_row, &n);
    pool_each(t->pool, t->hidden_pad / 16, 1, sum_columns, &s);
}

/* ---- a layer ---- */

struct gate {
    struct trainer *t;
    const struct layer_kept *k;
};

static void gate_back_row(void *ctx, int i, int worker)
{
    const struct gate *g = ctx;
    size_t at = row_at(i, g->t->ffn_pad);
    (void)worker;
    g->t->rows->gate_back(g->k->gate + at, g->k->up + at, g->t->wide + at, g->t->ffn_pad);
}

static float *gradient(const struct trainer *t, int layer, enum layer_weight w) { return t->gradient + t->lay.at[layer].weight[w]; }

/* dy: of the layer's output, becomes that of the residual behind attention. gate and up become their gradients. */
static void feed_forward_back(const struct train_pass *p, int layer, const struct layer_kept *k, float *dy, int rows)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    int hidden = t->c->hidden, ffn = t->c->ffn;
    train_gate(t, k, rows);
    const struct product of_down = product_weight(gradient(t, layer, W_DOWN), dy, t->wide, rows, ffn, hidden);
    gemm_run(&t->gemm, t->pool, &of_down, 1);
    bias_back(t, at->bias[W_DOWN], dy, hidden, rows);
    const struct product of_wide = product_back(t->wide, dy, train_weight(p, layer, W_DOWN), rows, ffn, hidden, false);
    gemm_run(&t->gemm, t->pool, &of_wide, 1);
    struct gate g = {t, k};
    pool_each(t->pool, rows, 16, gate_back_row, &g);
    train_norm(t, t->normed, k->mid, train_weight(p, layer, W_FFN_NORM), rows);
    const struct product back[] = {
        product_weight(gradient(t, layer, W_GATE), k->gate, t->normed, rows, hidden, ffn),
        product_weight(gradient(t, layer, W_UP), k->up, t->normed, rows, hidden, ffn),
        product_back(t->dnormed, k->gate, train_weight(p, layer, W_GATE), rows, hidden, ffn, false),
        product_back(t->dnormed, k->up, train_weight(p, layer, W_UP), rows, hidden, ffn, true),
    };
    gemm_run(&t->gemm, t->pool, back, 3);
    gemm_run(&t->gemm, t->pool, back + 3, 1);
    bias_back(t, at->bias[W_GATE], k->gate, ffn, rows);
    bias_back(t, at->bias[W_UP], k->up, ffn, rows);
    train_norm_back(t, dy, k->mid, at->weight[W_FFN_NORM], t->dnormed, rows);
}

/* dy: of the residual behind attention, becomes that of the layer's input x. */
static void attention_back(const struct train_pass *p, int layer, const struct layer_kept *k, const float *x, float *dy, int samples)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    int rows = samples * p->b->length, hidden = t->c->hidden;
    const struct product of_o[] = {
        product_weight(gradient(t, layer, W_O), dy, k->att, rows, t->q_dim, hidden),
        product_back(t->datt, dy, train_weight(p, layer, W_O), rows, t->q_dim, hidden, false),
    };
    gemm_run(&t->gemm, t->pool, of_o, 2);
    bias_back(t, at->bias[W_O], dy, hidden, rows);
    train_attend_back(p, k, samples);
    train_rotate(t, p->b, t->dq, t->dk, samples, true);
    train_norm(t, t->normed, x, train_weight(p, layer, W_ATTN_NORM), rows);
    const struct {
        enum layer_weight w;
        const float *d;
        int n;
    } in[] = {{W_Q, t->dq, t->q_dim}, {W_K, t->dk, t->kv_dim}, {W_V, t->dv, t->kv_dim}};
    for (int i = 0; i < 3; i++) {
        const struct product back[] = {
            product_weight(gradient(t, layer, in[i].w), in[i].d, t->normed, rows, hidden, in[i].n),
            product_back(t->dnormed, in[i].d, train_weight(p, layer, in[i].w), rows, hidden, in[i].n, i > 0),
        };
        gemm_run(&t->gemm, t->pool, back, 2);
        bias_back(t, at->bias[in[i].w], in[i].d, in[i].n, rows);
    }
    train_norm_back(t, dy, x, at->weight[W_ATTN_NORM], t->dnormed, rows);
}

static void layer_back(const struct train_pass *p, int layer)
{
    struct trainer *t = p->t;
    const struct layer_kept *k = &t->kept[layer];
    if (t->o.recompute)
        train_layer_forward(p, layer, k, false);
    int samples = train_samples(p, layer);
    if (!samples)
        return;
    const float *x = train_gather(p, samples, t->state[layer], t->in);
    float *dy = train_gather(p, samples, t->dx, t->out);
    feed_forward_back(p, layer, k, dy, samples * p->b->length);
    attention_back(p, layer, k, x, dy, samples);
    train_scatter(p, samples, dy, t->dx);
}

/* ---- all of them ---- */

struct from_exit {
    struct trainer *t;
    const float *pull;
};

static void add_exit_row(void *ctx, int i, int worker)
{
    const struct from_exit *f = ctx;
    size_t at = row_at(i, f->t->hidden_pad);
    (void)worker;
    f->t->ops->add(f->t->dx + at, f->pull + at, f->t->hidden_pad);
}

/* Columns i * 16 .. of the embedding's gradient, over all rows in order: a token may come more than once. */
static void embed_back_columns(void *ctx, int i, int worker)
{
    const struct train_pass *p = ctx;
    struct trainer *t = p->t;
    int from = i * 16, to = from + 16 < t->c->hidden ? from + 16 : t->c->hidden;
    (void)worker;
    for (int r = 0; r < p->b->n * p->b->length; r++) {
        float *out = t->gradient + t->lay.embed_at + (size_t)p->b->token[r] * (size_t)t->c->hidden;
        const float *d = t->dx + row_at(r, t->hidden_pad);
        for (int j = from; j < to; j++)
            out[j] += d[j];
    }
}

int train_backward(struct train_pass *p, const struct train_exit *exits, int n, struct error *err)
{
    struct trainer *t = p->t;
    int rows = p->b->n * p->b->length, depth = 0, rc = 0;
    memset(t->dx, 0, row_at(rows, t->hidden_pad) * sizeof *t->dx);
    for (int i = 0; i < n; i++)
        depth = exits[i].layer > depth ? exits[i].layer : depth;
    for (int l = depth; l > 0 && !rc; l--) {
        for (int i = 0; i < n; i++)
            if (exits[i].layer == l)
                pool_each(t->pool, rows, 16, add_exit_row, &(struct from_exit){t, t->pull[i]});
        layer_back(p, l - 1);
        rc = train_report(p, err);
    }
    pool_each(t->pool, t->hidden_pad / 16, 1, embed_back_columns, p);
    return rc;
}
