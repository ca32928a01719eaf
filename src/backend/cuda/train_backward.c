/* SPDX-License-Identifier: Apache-2.0 */
/* From the exits' gradients back through the layers to the embedding. t->dx is the gradient of the residual stream, f32, of all rows; t->dy its rows of the layer at
   hand, in bf16 for the products, which the kernel before leaves there. */
#include <math.h>
#include <string.h>

#include "backend/cuda/trainer.h"

/* ---- sums over rows ---- */

/* The bias's gradient: dy [rows][pad] summed over the rows. */
static int bias_back(struct trainer *t, size_t bias, const uint16_t *dy, int n, int pad, int rows, struct error *err)
{
    if (bias == NOWHERE)
        return 0;
    int rc = CUDA_TRY(err, cuda_train_columns(t->stream, t->partial, dy, rows, pad));
    return rc ? rc : CUDA_TRY(err, cuda_train_add_up(t->stream, t->gradient + bias, t->partial, (rows + TRAIN_BIAS_ROWS - 1) / TRAIN_BIAS_ROWS, n, pad));
}

int cuda_train_norm_gradient(struct trainer *t, struct train_norm_back n, size_t norm_at, struct error *err)
{
    n.hidden = t->c->hidden;
    n.pad = t->hidden_pad;
    n.eps = (float)t->c->norm_eps;
    n.partial = t->partial;
    int rc = CUDA_TRY(err, cuda_train_norm_back(t->stream, &n));
    return rc || !n.dy ? rc : CUDA_TRY(err, cuda_train_add_up(t->stream, t->gradient + norm_at, t->partial, train_norm_blocks(n.rows, n.pad), n.hidden, n.pad));
}

/* ---- a layer ---- */

static float *gradient(const struct trainer *t, int layer, enum layer_weight w) { return t->gradient + t->lay.at[layer].weight[w]; }

/* t->dy: of the layer's output, becomes that of the residual behind attention, as do the rows of t->dx. gate and up become their gradients. */
static int feed_forward_back(const struct train_pass *p, int layer, const struct layer_kept *k, int rows, struct error *err)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    const int hidden = t->c->hidden, ffn = t->c->ffn;
    const struct train_gate g = {.rows = rows, .ffn = ffn, .pad = t->gate_pad, .wide_pad = t->ffn_pad, .both = k->gate, .bias = train_vector(p, at->bias[W_GATE]), .wide = t->wide, .back = true};
    const struct train_norm_back norm = {.rows = rows, .length = p->b->length, .dx = t->dx, .dx_map = train_list(p, layer), .x = k->mid, .dy = t->y,
                                         .w = train_vector(p, at->weight[W_FFN_NORM]), .half = t->dy};
    int rc = cuda_train_product(t, product_back(t->wide, t->ffn_pad, t->dy, t->hidden_pad, train_matrix(p, at->weight[W_DOWN]), rows, ffn, hidden), err);
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_gate(t->stream, &g));
    if (!rc)
        rc = cuda_train_product(t, product_weight(gradient(t, layer, W_DOWN), t->dy, t->hidden_pad, t->wide, t->ffn_pad, rows, ffn, hidden), err);
    if (!rc)
        rc = bias_back(t, at->bias[W_DOWN], t->dy, hidden, t->hidden_pad, rows, err);
    if (!rc)
        rc = cuda_train_product(t, product_weight(gradient(t, layer, W_GATE), k->gate, t->gate_pad, k->ffn_in, t->hidden_pad, rows, hidden, 2 * ffn), err);
    if (!rc)
        rc = bias_back(t, at->bias[W_GATE], k->gate, 2 * ffn, t->gate_pad, rows, err);
    if (!rc)
        rc = cuda_train_product(t, product_back(t->y, t->hidden_pad, k->gate, t->gate_pad, train_matrix(p, at->weight[W_GATE]), rows, hidden, 2 * ffn), err);
    return rc ? rc : cuda_train_norm_gradient(t, norm, at->weight[W_FFN_NORM], err);
}

/* From t->datt to the gradients of q, k and v side by side in t->qkv. */
static int attend_back(const struct train_pass *p, int layer, const struct layer_kept *k, int samples, struct error *err)
{
    struct trainer *t = p->t;
    const struct train_attention a = {
        .samples = samples, .length = p->b->length, .n_heads = t->c->n_heads, .n_kv_heads = t->c->n_kv_heads, .head_dim = t->c->head_dim,
        .scale = 1.0f / sqrtf((float)t->c->head_dim), .start = p->b->start ? t->numbers.start : NULL, .sample = train_list(p, layer),
        .q = k->q, .k = k->k, .v = k->v, .out = k->att, .stat = k->stat, .d_out = t->datt, .delta = t->delta, .dq = t->dq, .dk = t->dk, .dv = t->dv,
    };
    const struct train_heads h = {.rows = samples * p->b->length, .length = p->b->length, .n_heads = t->c->n_heads, .n_kv_heads = t->c->n_kv_heads, .head_dim = t->c->head_dim,
                                  .qkv = t->qkv, .angle = t->angle, .q = t->dq, .k = t->dk, .v = t->dv, .back = true};
    int rc = CUDA_TRY(err, train_attention_backward(t->stream, &a));
    return rc ? rc : CUDA_TRY(err, cuda_train_heads(t->stream, &h));
}

/* t->dy: of the residual behind attention. Leaves the gradient of the normed input in t->y. */
static int attention_back(const struct train_pass *p, int layer, const struct layer_kept *k, int samples, struct error *err)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    const int rows = samples * p->b->length, hidden = t->c->hidden;
    int rc = cuda_train_product(t, product_back(t->datt, t->q_dim, t->dy, t->hidden_pad, train_matrix(p, at->weight[W_O]), rows, t->q_dim, hidden), err);
    if (!rc)
        rc = cuda_train_product(t, product_weight(gradient(t, layer, W_O), t->dy, t->hidden_pad, k->att, t->q_dim, rows, t->q_dim, hidden), err);
    if (!rc)
        rc = bias_back(t, at->bias[W_O], t->dy, hidden, t->hidden_pad, rows, err);
    if (!rc)
        rc = attend_back(p, layer, k, samples, err);
    if (!rc)
        rc = cuda_train_product(t, product_weight(gradient(t, layer, W_Q), t->qkv, t->qkv_dim, k->in, t->hidden_pad, rows, hidden, t->qkv_dim), err);
    if (!rc)
        rc = bias_back(t, at->bias[W_Q], t->qkv, t->qkv_dim, t->qkv_dim, rows, err);
    return rc ? rc : cuda_train_product(t, product_back(t->y, t->hidden_pad, t->qkv, t->qkv_dim, train_matrix(p, at->weight[W_Q]), rows, hidden, t->qkv_dim), err);
}

/* ---- between layers ---- */

/* t->dx at the state behind `layer` layers: what the layer above (NULL: there is none) pulls at it, what the exits there do, and the rows of the layer below for its
   products. All in one kernel, but for a second exit at one place. */
static int cross(const struct train_pass *p, int layer, bool above, const struct train_exit *exits, int n, struct error *err)
{
    struct trainer *t = p->t;
    struct train_norm_back b = {.rows = p->b->n * p->b->length, .length = p->b->length, .dx = t->dx};
    size_t norm_at = NOWHERE;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        if (exits[i].layer != layer)
            continue;
        if (b.pull)
            rc = cuda_train_norm_gradient(t, b, NOWHERE, err);
        b.pull = t->pull[i];
    }
    if (above && train_samples(p, layer)) {
        norm_at = t->lay.at[layer].weight[W_ATTN_NORM];
        b.x = t->state[layer];
        b.w = train_vector(p, norm_at);
        b.dy = t->y;
        b.dy_map = train_place(p, layer);
    }
    if (layer) {
        b.half = t->dy;
        b.half_map = train_place(p, layer - 1);
    }
    return rc || (!b.pull && !b.dy && !b.half) ? rc : cuda_train_norm_gradient(t, b, norm_at, err);
}

static int layer_back(const struct train_pass *p, int layer, struct error *err)
{
    struct trainer *t = p->t;
    const struct layer_kept *k = &t->kept[layer];
    const int samples = train_samples(p, layer);
    int rc = t->o.recompute ? cuda_train_again(p, layer, err) : 0;
    if (samples && !rc)
        rc = feed_forward_back(p, layer, k, samples * p->b->length, err);
    return !samples || rc ? rc : attention_back(p, layer, k, samples, err);
}

int cuda_train_backward(struct train_pass *p, const struct train_exit *exits, int n, struct error *err)
{
    struct trainer *t = p->t;
    const int rows = p->b->n * p->b->length;
    int depth = 0, rc = CUDA_TRY(err, cudaMemsetAsync(t->dx, 0, row_at(rows, t->hidden_pad) * sizeof *t->dx, t->stream));
    for (int i = 0; i < n; i++)
        depth = exits[i].layer > depth ? exits[i].layer : depth;
    if (!rc)
        rc = cross(p, depth, false, exits, n, err);
    for (int l = depth - 1; l >= 0 && !rc; l--) {
        rc = layer_back(p, l, err);
        if (!rc)
            rc = cross(p, l, true, exits, n, err);
        if (!rc)
            rc = cuda_train_report(p, err);
    }
    const struct train_embed_back e = {.segments = p->segments, .pad = t->hidden_pad, .token = t->numbers.segment, .begin = t->numbers.begin, .order = t->numbers.order,
                                       .dx = t->dx, .gradient = t->gradient + t->lay.embed_at};
    return rc ? rc : CUDA_TRY(err, cuda_train_embed_back(t->stream, &e));
}
