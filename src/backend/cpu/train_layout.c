/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes follow from the config before anything is allocated: the same walk over all arrays counts their bytes and, later, sets their pointers. */
#include <string.h>

#include "backend/cpu/trainer.h"
#include "base/checked.h"

enum { CHUNK_FLOATS = 1 << 24, CHUNK_LEAST = 64 }; /* logits held at once: 64 MiB, but some rows in any case */

/* ---- tensors ---- */

static size_t add_item(struct trainer *t, const struct view *v)
{
    if (!v)
        return NOWHERE;
    bool matrix = v->rank == 2;
    t->item[t->n_items++] = (struct train_item){
        .view = v, .is = {.name = v->name, .rows = matrix ? (int64_t)v->dim[0] : 1, .cols = (int64_t)(matrix ? v->dim[1] : v->dim[0])}};
    return (size_t)(t->n_items - 1);
}

/* Numbers of items, which place_items turns into places. */
static void list_items(struct trainer *t)
{
    t->embed_at = add_item(t, checkpoint_find(t->model->file, "embed"));
    for (int l = 0; l < t->c->n_layers; l++)
        for (int w = 0; w < W_COUNT; w++) {
            t->at[l].weight[w] = add_item(t, model_weight(t->model, l, (enum layer_weight)w));
            t->at[l].bias[w] = add_item(t, model_bias(t->model, l, (enum layer_weight)w));
        }
    t->norm_at = add_item(t, checkpoint_find(t->model->file, "norm"));
    t->head_at = t->c->tied ? t->embed_at : add_item(t, checkpoint_find(t->model->file, "head"));
}

static size_t place_of(const struct trainer *t, size_t item) { return item == NOWHERE ? NOWHERE : t->item[item].at; }

static bool place_items(struct trainer *t)
{
    uint64_t at = 0, size;
    bool overflow = false;
    for (int vectors = 0; vectors < 2; vectors++) {
        for (int i = 0; i < t->n_items; i++) {
            struct train_item *it = &t->item[i];
            if ((it->view->rank == 1) != vectors)
                continue;
            it->at = (size_t)at;
            overflow |= mul_u64((uint64_t)it->is.rows, (uint64_t)it->is.cols, &size) || add_u64(size, 15, &size) || add_u64(at, size & ~(uint64_t)15, &at);
        }
        overflow |= add_u64(at, UPDATE_BLOCK - 1, &at); /* a block of the update decays or does not */
        at -= at % UPDATE_BLOCK;
        if (!vectors)
            t->n_matrices = (size_t)at;
    }
    t->n_weights = (size_t)at;
    for (int l = 0; l < t->c->n_layers; l++)
        for (int w = 0; w < W_COUNT; w++) {
            t->at[l].weight[w] = place_of(t, t->at[l].weight[w]);
            t->at[l].bias[w] = place_of(t, t->at[l].bias[w]);
        }
    t->embed_at = place_of(t, t->embed_at);
    t->norm_at = place_of(t, t->norm_at);
    t->head_at = place_of(t, t->head_at);
    return !overflow;
}

/* ---- arrays ---- */

/* Counts, or hands out when there is a base. */
struct carve {
    uint8_t *base;
    uint64_t used;
    bool overflow;
};

static void *take(struct carve *c, uint64_t count, uint64_t each, uint64_t size)
{
    void *p = c->base ? c->base + c->used : NULL;
    uint64_t n = 0;
    c->overflow |= mul_u64(count, each, &n) || mul_u64(n, size, &n) || add_u64(n, 63, &n) || add_u64(c->used, n & ~(uint64_t)63, &c->used);
    return p;
}

static float *floats(struct carve *c, int count, int each) { return take(c, (uint64_t)count, (uint64_t)each, sizeof(float)); }

static void carve_kept(struct trainer *t, struct carve *c)
{
    int n = t->o.recompute ? 1 : t->c->n_layers, r = t->max_rows;
    for (int i = 0; i < t->c->n_layers; i++) {
        struct layer_kept *k = &t->kept[i];
        if (i >= n) {
            *k = t->kept[0];
            continue;
        }
        k->q = floats(c, r, t->q_pad);
        k->k = floats(c, r, t->kv_pad);
        k->v = floats(c, r, t->kv_pad);
        k->stat = floats(c, r, 2 * t->c->n_heads);
        k->att = floats(c, r, t->q_pad);
        k->mid = floats(c, r, t->hidden_pad);
        k->gate = floats(c, r, t->ffn_pad);
        k->up = floats(c, r, t->ffn_pad);
    }
}

static void carve_exit(struct trainer *t, struct carve *c)
{
    struct chunk_kept *k = &t->at_exit;
    k->x = floats(c, t->chunk, t->hidden_pad);
    k->normed = floats(c, t->chunk, t->hidden_pad);
    k->back = floats(c, t->chunk, t->hidden_pad);
    k->z = floats(c, t->chunk, t->vocab_pad);
    k->z_last = floats(c, t->chunk, t->vocab_pad);
    k->last = take(c, (uint64_t)t->chunk, 1, sizeof *k->last);
    k->loss = take(c, (uint64_t)t->chunk, 1, sizeof *k->loss);
    k->row = take(c, (uint64_t)t->max_rows, 1, sizeof *k->row);
}

static void carve_activations(struct trainer *t, struct carve *c)
{
    int r = t->max_rows, half = t->c->head_dim / 2;
    for (int i = 0; i <= t->c->n_layers; i++)
        t->state[i] = floats(c, r, t->hidden_pad);
    for (int i = 0; i < t->max_exits; i++)
        t->pull[i] = floats(c, r, t->hidden_pad);
    float **const hidden[] = {&t->dx, &t->in, &t->out, &t->normed, &t->dnormed};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        *hidden[i] = floats(c, r, t->hidden_pad);
    t->wide = floats(c, r, t->ffn_pad);
    t->datt = floats(c, r, t->q_pad);
    t->dq = floats(c, r, t->q_pad);
    t->dk = floats(c, r, t->kv_pad);
    t->dv = floats(c, r, t->kv_pad);
    t->scale = floats(c, r, 1);
    t->cs = floats(c, t->o.length, half);
    t->sn = floats(c, t->o.length, half);
    t->sn_back = floats(c, t->o.length, half);
    t->score = take(c, (uint64_t)t->threads * 2 * QUERY_BLOCK, (uint64_t)t->score_pad, sizeof(float));
    t->partial = take(c, t->n_weights / UPDATE_BLOCK, 1, sizeof *t->partial);
    t->sample = take(c, (uint64_t)t->o.batch, 1, sizeof *t->sample);
    carve_kept(t, c);
    carve_exit(t, c);
}

static void carve_anchor(struct trainer *t, struct carve *c)
{
    if (!t->o.anchor)
        return;
    t->anchor = take(c, t->n_weights, 1, sizeof(float));
    t->anchor_state = floats(c, t->max_rows, t->hidden_pad);
    t->at_exit.z_anchor = floats(c, t->chunk, t->vocab_pad);
    t->at_exit.anchor = take(c, (uint64_t)t->chunk, 1, sizeof *t->at_exit.anchor);
}

static void carve_all(struct trainer *t, struct carve *c, struct train_plan *plan)
{
    uint64_t at[6] = {0};
    t->weight = take(c, t->n_weights, 1, sizeof(float));
    if (t->o.fit != DT_F32)
        t->fitted = take(c, t->n_weights, 1, sizeof(float));
    at[1] = c->used;
    t->gradient = take(c, t->n_weights, 1, sizeof(float));
    at[2] = c->used;
    t->moment1 = take(c, t->n_weights, 1, sizeof(float));
    t->moment2 = take(c, t->n_weights, 1, sizeof(float));
    at[3] = c->used;
    carve_activations(t, c);
    at[4] = c->used;
    carve_anchor(t, c);
    at[5] = c->used;
    *plan = (struct train_plan){.weights = at[1], .gradients = at[2] - at[1], .optimizer = at[3] - at[2], .activations = at[4] - at[3], .anchor = at[5] - at[4]};
}

void train_place(struct trainer *t, uint8_t *memory)
{
    struct carve c = {.base = memory};
    struct train_plan plan;
    t->memory = memory;
    carve_all(t, &c, &plan);
}

/* ---- sizes ---- */

static void set_sizes(struct trainer *t)
{
    const struct config *c = t->c;
    t->threads = t->o.threads ? t->o.threads : pool_default_threads();
    t->max_rows = t->o.batch * t->o.length;
    t->max_exits = t->o.exits ? t->o.exits : c->n_layers;
    t->q_dim = c->n_heads * c->head_dim;
    t->kv_dim = c->n_kv_heads * c->head_dim;
    t->hidden_pad = pad16(c->hidden);
    t->q_pad = pad16(t->q_dim);
    t->kv_pad = pad16(t->kv_dim);
    t->ffn_pad = pad16(c->ffn);
    t->vocab_pad = pad16(c->vocab);
    t->score_pad = pad16(t->o.length);
    t->chunk = CHUNK_FLOATS / t->vocab_pad > CHUNK_LEAST ? CHUNK_FLOATS / t->vocab_pad : CHUNK_LEAST;
    t->chunk = t->chunk < t->max_rows ? t->chunk : t->max_rows;
}

int train_lay_out(struct trainer *t, const struct model *m, const struct train_options *o, struct train_plan *plan, struct error *err)
{
    *t = (struct trainer){.model = m, .c = &m->config, .o = *o};
    int rc = train_check_options(t->c, o, err);
    if (rc)
        return rc;
    set_sizes(t);
    uint64_t layers = (uint64_t)t->c->n_layers;
    t->item = arena_array(&t->arena, (uint64_t)m->file->n_views, sizeof *t->item);
    t->at = arena_array(&t->arena, layers, sizeof *t->at);
    t->state = arena_array(&t->arena, layers + 1, sizeof *t->state);
    t->pull = arena_array(&t->arena, (uint64_t)t->max_exits, sizeof *t->pull);
    t->kept = arena_array(&t->arena, layers, sizeof *t->kept);
    t->inv_freq = arena_array(&t->arena, (uint64_t)t->c->head_dim / 2, sizeof *t->inv_freq);
    if (!t->item || !t->at || !t->state || !t->pull || !t->kept || !t->inv_freq)
        return fail(err, ERR_OS, "out of memory");
    list_items(t);
    struct carve c = {0};
    bool fits = place_items(t);
    carve_all(t, &c, plan);
    t->memory_bytes = c.used;
    return fits && !c.overflow && c.used <= SIZE_MAX / 2 ? 0 : fail(err, ERR_USAGE, "training: batch %d of length %d needs more memory than there are addresses", o->batch, o->length);
}
