/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes follow from the config before anything is allocated: the same walk over all arrays counts their bytes and, later, sets their pointers. */
#include <string.h>

#include "backend/cpu/trainer.h"

enum { CHUNK_FLOATS = 1 << 24, CHUNK_LEAST = 64, ALIGN = 64 }; /* logits held at once: 64 MiB, but some rows in any case */

static float *floats(struct train_carve *c, int count, int each) { return train_take(c, (uint64_t)count, (uint64_t)each, sizeof(float)); }

static void carve_kept(struct trainer *t, struct train_carve *c)
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

static void carve_exit(struct trainer *t, struct train_carve *c)
{
    struct chunk_kept *k = &t->at_exit;
    k->x = floats(c, t->chunk, t->hidden_pad);
    k->normed = floats(c, t->chunk, t->hidden_pad);
    k->back = floats(c, t->chunk, t->hidden_pad);
    k->z = floats(c, t->chunk, t->vocab_pad);
    k->z_last = floats(c, t->chunk, t->vocab_pad);
    k->last = train_take(c, (uint64_t)t->chunk, 1, sizeof *k->last);
    k->loss = train_take(c, (uint64_t)t->chunk, 1, sizeof *k->loss);
    k->row = train_take(c, (uint64_t)t->max_rows, 1, sizeof *k->row);
}

static void carve_activations(struct trainer *t, struct train_carve *c)
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
    t->score = train_take(c, (uint64_t)t->threads * 2 * QUERY_BLOCK, (uint64_t)t->score_pad, sizeof(float));
    t->partial = train_take(c, t->lay.n_weights / UPDATE_BLOCK, 1, sizeof *t->partial);
    t->sample = train_take(c, (uint64_t)t->o.batch, 1, sizeof *t->sample);
    carve_kept(t, c);
    carve_exit(t, c);
}

static void carve_anchor(struct trainer *t, struct train_carve *c)
{
    if (!t->o.anchor)
        return;
    t->anchor = train_take(c, t->lay.n_weights, 1, sizeof(float));
    t->anchor_state = floats(c, t->max_rows, t->hidden_pad);
    t->at_exit.z_anchor = floats(c, t->chunk, t->vocab_pad);
    t->at_exit.anchor = train_take(c, (uint64_t)t->chunk, 1, sizeof *t->at_exit.anchor);
}

static void carve_all(struct trainer *t, struct train_carve *c, struct train_plan *plan)
{
    uint64_t at[6] = {0};
    t->weight = train_take(c, t->lay.n_weights, 1, sizeof(float));
    if (t->o.fit != DT_F32)
        t->fitted = train_take(c, t->lay.n_weights, 1, sizeof(float));
    at[1] = c->used;
    t->gradient = train_take(c, t->lay.n_weights, 1, sizeof(float));
    at[2] = c->used;
    t->moment1 = train_take(c, t->lay.n_weights, 1, sizeof(float));
    t->moment2 = train_take(c, t->lay.n_weights, 1, sizeof(float));
    at[3] = c->used;
    carve_activations(t, c);
    at[4] = c->used;
    carve_anchor(t, c);
    at[5] = c->used;
    *plan = (struct train_plan){.weights = at[1], .gradients = at[2] - at[1], .optimizer = at[3] - at[2], .activations = at[4] - at[3], .anchor = at[5] - at[4]};
}

void train_place(struct trainer *t, uint8_t *memory)
{
    struct train_carve c = {.base = memory, .align = ALIGN};
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
    t->state = arena_array(&t->arena, layers + 1, sizeof *t->state);
    t->pull = arena_array(&t->arena, (uint64_t)t->max_exits, sizeof *t->pull);
    t->kept = arena_array(&t->arena, layers, sizeof *t->kept);
    t->inv_freq = arena_array(&t->arena, (uint64_t)t->c->head_dim / 2, sizeof *t->inv_freq);
    if (!t->state || !t->pull || !t->kept || !t->inv_freq)
        return fail(err, ERR_OS, "out of memory");
    rc = train_lay_tensors(&t->lay, m, &t->arena, (struct train_layout_rule){.unit = 1, .block = UPDATE_BLOCK}, err);
    if (rc)
        return rc;
    struct train_carve c = {.align = ALIGN};
    carve_all(t, &c, plan);
    t->memory_bytes = c.used;
    return !c.overflow && c.used <= SIZE_MAX / 2 ? 0 : fail(err, ERR_USAGE, "training: batch %d of length %d needs more memory than there are addresses", o->batch, o->length);
}
