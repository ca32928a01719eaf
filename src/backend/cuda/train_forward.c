/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to residual states, layer by layer. Rows of a layer are those of the samples that it keeps, packed; maps lead to and from their places in the states, so that
   nothing is gathered for its own sake. */
#include <math.h>
#include <string.h>

#include "backend/cuda/trainer.h"

int cuda_train_report(struct train_pass *p, struct error *err)
{
    const struct train_options *o = &p->t->o;
    p->done++;
    return o->progress && o->progress(o->progress_ud, "training", p->done, p->total) ? fail(err, ERR_USAGE, "training was stopped") : 0;
}

int cuda_train_product(struct trainer *t, struct train_product p, struct error *err)
{
    p.room = t->room;
    p.room_bytes = TRAIN_ROOM_MOST;
    return CUDA_TRY(err, train_product(t->stream, &p));
}

/* ---- a batch's numbers ---- */

static void list_targets(struct train_pass *p)
{
    struct train_numbers *n = &p->t->host.numbers;
    p->targets = 0;
    for (int i = 0; i < p->b->n * p->b->length; i++)
        if (p->b->target[i] >= 0) {
            n->row[p->targets] = i;
            n->target[p->targets++] = p->b->target[i];
        }
}

static void list_samples(struct train_pass *p)
{
    struct trainer *t = p->t;
    for (int l = 0; l < t->c->n_layers; l++) {
        size_t at = (size_t)l * (size_t)p->b->n;
        int n = 0;
        for (int s = 0; s < p->b->n; s++) {
            bool kept = p->b->keep[at + (size_t)s];
            t->host.numbers.place[at + (size_t)s] = kept ? n : -1;
            if (kept)
                t->host.numbers.list[at + (size_t)n++] = s;
        }
        t->n_kept[l] = n;
    }
}

/* Places of each token, in order: what the embedding's gradient adds up. */
static void sort_tokens(struct train_pass *p)
{
    struct trainer *t = p->t;
    struct train_numbers *n = &t->host.numbers;
    const int rows = p->b->n * p->b->length;
    int *count = t->counts, at = 0;
    memset(count, 0, ((size_t)t->c->vocab + 1) * sizeof *count);
    for (int i = 0; i < rows; i++)
        count[p->b->token[i]]++;
    p->segments = 0;
    for (int v = 0; v < t->c->vocab; v++) {
        int here = count[v];
        count[v] = at;
        if (!here)
            continue;
        n->begin[p->segments] = at;
        n->segment[p->segments++] = v;
        at += here;
    }
    n->begin[p->segments] = at;
    for (int i = 0; i < rows; i++)
        n->order[count[p->b->token[i]]++] = i;
}

int cuda_train_prepare(struct train_pass *p, bool back, struct error *err)
{
    struct trainer *t = p->t;
    struct train_numbers *n = &t->host.numbers;
    const size_t bytes = (size_t)(p->b->n * p->b->length) * sizeof(int32_t);
    memcpy(n->token, p->b->token, bytes);
    if (p->b->start)
        memcpy(n->start, p->b->start, bytes);
    list_targets(p);
    p->drops = back && p->b->keep;
    if (p->drops)
        list_samples(p);
    if (back)
        sort_tokens(p);
    int rc = CUDA_TRY(err, cudaMemcpyAsync(t->numbers.token, n->token, t->numbers_bytes, cudaMemcpyHostToDevice, t->stream));
    return rc ? rc : CUDA_TRY(err, cudaMemsetAsync(t->total, 0, TOTALS_MOST * sizeof *t->total, t->stream));
}

/* ---- a layer ---- */

static struct train_join join_of(const struct train_pass *p, int rows, const float *x)
{
    const struct trainer *t = p->t;
    return (struct train_join){.rows = rows, .length = p->b->length, .hidden = t->c->hidden, .pad = t->hidden_pad, .eps = (float)t->c->norm_eps, .x = x};
}

/* The input of a layer's first half, from the state before it. */
static int first_norm(const struct train_pass *p, int layer, struct error *err)
{
    struct trainer *t = p->t;
    struct train_join j = join_of(p, p->b->n * p->b->length, t->state[layer]);
    j.w = train_vector(p, t->lay.at[layer].weight[W_ATTN_NORM]);
    j.normed = t->kept[layer].in;
    j.normed_map = train_place(p, layer);
    return CUDA_TRY(err, cuda_train_join(t->stream, &j));
}

static int attend(const struct train_pass *p, int layer, const struct layer_kept *k, int samples, struct error *err)
{
    struct trainer *t = p->t;
    const struct train_attention a = {
        .samples = samples, .length = p->b->length, .n_heads = t->c->n_heads, .n_kv_heads = t->c->n_kv_heads, .head_dim = t->c->head_dim,
        .scale = 1.0f / sqrtf((float)t->c->head_dim), .start = p->b->start ? t->numbers.start : NULL, .sample = train_list(p, layer),
        .q = k->q, .k = k->k, .v = k->v, .out = k->att, .stat = k->stat,
    };
    return CUDA_TRY(err, train_attention_forward(t->stream, &a));
}

/* From normed rows to the residual behind attention, and its norm. */
static int attention_half(const struct train_pass *p, int layer, const struct layer_kept *k, int samples, struct error *err)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    const int rows = samples * p->b->length, hidden = t->c->hidden;
    const struct train_heads h = {.rows = rows, .length = p->b->length, .n_heads = t->c->n_heads, .n_kv_heads = t->c->n_kv_heads, .head_dim = t->c->head_dim,
                                  .qkv = t->qkv, .bias = train_vector(p, at->bias[W_Q]), .angle = t->angle, .q = k->q, .k = k->k, .v = k->v};
    struct train_join j = join_of(p, rows, t->state[layer]);
    j.x_map = train_list(p, layer);
    j.y = t->y;
    j.bias = train_vector(p, at->bias[W_O]);
    j.out = k->mid;
    j.w = train_vector(p, at->weight[W_FFN_NORM]);
    j.normed = k->ffn_in;
    int rc = cuda_train_product(t, product_forward(t->qkv, t->qkv_dim, k->in, t->hidden_pad, train_matrix(p, at->weight[W_Q]), rows, hidden, t->qkv_dim), err);
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_heads(t->stream, &h));
    if (!rc)
        rc = attend(p, layer, k, samples, err);
    if (!rc)
        rc = cuda_train_product(t, product_forward(t->y, t->hidden_pad, k->att, t->q_dim, train_matrix(p, at->weight[W_O]), rows, t->q_dim, hidden), err);
    return rc ? rc : CUDA_TRY(err, cuda_train_join(t->stream, &j));
}

static int gate_product(const struct train_pass *p, int layer, const struct layer_kept *k, int rows, struct error *err)
{
    struct trainer *t = p->t;
    return cuda_train_product(t, product_forward(k->gate, t->gate_pad, k->ffn_in, t->hidden_pad, train_matrix(p, t->lay.at[layer].weight[W_GATE]), rows, t->c->hidden, 2 * t->c->ffn), err);
}

/* What the feed-forward half adds, into t->y. */
static int feed_forward_out(const struct train_pass *p, int layer, const struct layer_kept *k, int rows, struct error *err)
{
    struct trainer *t = p->t;
    const struct layer_at *at = &t->lay.at[layer];
    const struct train_gate g = {.rows = rows, .ffn = t->c->ffn, .pad = t->gate_pad, .wide_pad = t->ffn_pad, .both = k->gate, .bias = train_vector(p, at->bias[W_GATE]), .wide = t->wide};
    int rc = CUDA_TRY(err, cuda_train_gate(t->stream, &g));
    return rc ? rc : cuda_train_product(t, product_forward(t->y, t->hidden_pad, t->wide, t->ffn_pad, train_matrix(p, at->weight[W_DOWN]), rows, t->c->ffn, t->c->hidden), err);
}

/* The next state, of the samples that the layer kept and of those that it did not, and the input of the layer behind it. */
static int next_state(const struct train_pass *p, int layer, int depth, struct error *err)
{
    struct trainer *t = p->t;
    struct train_join j = join_of(p, p->b->n * p->b->length, t->kept[layer].mid);
    j.past = t->state[layer];
    j.y = t->y;
    j.bias = train_vector(p, t->lay.at[layer].bias[W_DOWN]);
    j.x_map = j.y_map = train_place(p, layer);
    j.out = t->state[layer + 1];
    if (layer + 1 < depth) {
        j.w = train_vector(p, t->lay.at[layer + 1].weight[W_ATTN_NORM]);
        j.normed = t->kept[layer + 1].in;
        j.normed_map = train_place(p, layer + 1);
    }
    return CUDA_TRY(err, cuda_train_join(t->stream, &j));
}

static int run_layer(const struct train_pass *p, int layer, int depth, struct error *err)
{
    const struct layer_kept *k = &p->t->kept[layer];
    const int samples = train_samples(p, layer);
    int rc = 0;
    if (samples)
        rc = attention_half(p, layer, k, samples, err);
    if (samples && !rc)
        rc = gate_product(p, layer, k, samples * p->b->length, err);
    if (samples && !rc)
        rc = feed_forward_out(p, layer, k, samples * p->b->length, err);
    return rc ? rc : next_state(p, layer, depth, err);
}

/* ---- all of them ---- */

int cuda_train_again(const struct train_pass *p, int layer, struct error *err)
{
    const struct layer_kept *k = &p->t->kept[layer];
    const int samples = train_samples(p, layer);
    int rc = samples ? first_norm(p, layer, err) : 0;
    if (samples && !rc)
        rc = attention_half(p, layer, k, samples, err);
    return !samples || rc ? rc : gate_product(p, layer, k, samples * p->b->length, err);
}

int cuda_train_forward(struct train_pass *p, int depth, struct error *err)
{
    struct trainer *t = p->t;
    const struct train_embed e = {.rows = p->b->n * p->b->length, .pad = t->hidden_pad, .token = t->numbers.token, .table = train_matrix(p, t->lay.embed_at), .state = t->state[0]};
    int rc = CUDA_TRY(err, cuda_train_embed(t->stream, &e));
    if (!rc)
        rc = first_norm(p, 0, err);
    for (int l = 0; l < depth && !rc; l++) {
        rc = run_layer(p, l, depth, err);
        if (!rc)
            rc = cuda_train_report(p, err);
    }
    return rc;
}
