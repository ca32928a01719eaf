/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes follow from the config before anything is allocated: the same walk over all arrays counts their bytes and, later, sets their pointers. */
#include <string.h>

#include "backend/cuda/trainer.h"

enum { CHUNK_FLOATS = 1 << 27, CHUNK_LEAST = 256, CHUNK_UNIT = 128, ALIGN = 256 }; /* logits held at once: 512 MiB, but some rows in any case */

static float *floats(struct train_carve *c, int count, int each) { return train_take(c, (uint64_t)count, (uint64_t)each, sizeof(float)); }
static uint16_t *halves(struct train_carve *c, int count, int each) { return train_take(c, (uint64_t)count, (uint64_t)each, sizeof(uint16_t)); }

static void carve_kept(struct trainer *t, struct train_carve *c)
{
    int r = t->max_rows;
    for (int i = 0; i < t->c->n_layers; i++) {
        struct layer_kept *k = &t->kept[i];
        if (i && t->o.recompute) {
            *k = t->kept[0];
            continue;
        }
        k->in = halves(c, r, t->hidden_pad);
        k->ffn_in = halves(c, r, t->hidden_pad);
        k->q = halves(c, r, t->q_dim);
        k->k = halves(c, r, t->kv_dim);
        k->v = halves(c, r, t->kv_dim);
        k->stat = floats(c, r, t->c->n_heads);
        k->att = halves(c, r, t->q_dim);
        k->mid = floats(c, r, t->hidden_pad);
        k->gate = halves(c, r, t->gate_pad);
    }
}

static void carve_exit(struct trainer *t, struct train_carve *c)
{
    struct chunk_kept *k = &t->at_exit;
    k->normed = halves(c, t->chunk, t->hidden_pad);
    k->z = floats(c, t->chunk, t->vocab_pad);
    k->z_last = floats(c, t->chunk, t->vocab_pad);
    k->dz = halves(c, t->chunk, t->vocab_pad);
    k->last = train_take(c, (uint64_t)t->chunk, 1, sizeof *k->last);
    k->loss = train_take(c, (uint64_t)t->chunk, 1, sizeof *k->loss);
}

/* On the device and, in the same shape, pinned. */
static void carve_numbers(struct train_numbers *n, const struct trainer *t, struct train_carve *c)
{
    const uint64_t r = (uint64_t)t->max_rows, maps = (uint64_t)t->c->n_layers * (uint64_t)t->o.batch;
    n->token = train_take(c, r, 1, sizeof(int32_t));
    n->row = train_take(c, r, 1, sizeof(int32_t));
    n->target = train_take(c, r, 1, sizeof(int32_t));
    n->start = train_take(c, r, 1, sizeof(int32_t));
    n->order = train_take(c, r, 1, sizeof(int32_t));
    n->begin = train_take(c, r + 1, 1, sizeof(int32_t));
    n->segment = train_take(c, r, 1, sizeof(int32_t));
    n->list = train_take(c, maps, 1, sizeof(int32_t));
    n->place = train_take(c, maps, 1, sizeof(int32_t));
}

static int widest(const struct trainer *t)
{
    int n = t->hidden_pad > t->qkv_dim ? t->hidden_pad : t->qkv_dim;
    return n > t->gate_pad ? n : t->gate_pad;
}

/* Partial sums of a norm's gradient or of the widest bias's. */
static uint64_t partial_floats(const struct trainer *t)
{
    uint64_t norm = (uint64_t)train_norm_blocks(t->max_rows, t->hidden_pad) * (uint64_t)t->hidden_pad;
    uint64_t bias = ((uint64_t)t->max_rows + TRAIN_BIAS_ROWS - 1) / TRAIN_BIAS_ROWS * (uint64_t)widest(t);
    return norm > bias ? norm : bias;
}

static void carve_activations(struct trainer *t, struct train_carve *c)
{
    int r = t->max_rows;
    for (int i = 0; i <= t->c->n_layers; i++)
        t->state[i] = floats(c, r, t->hidden_pad);
    for (int i = 0; i < t->max_exits; i++)
        t->pull[i] = floats(c, r, t->hidden_pad);
    t->dx = floats(c, r, t->hidden_pad);
    t->dy = halves(c, r, t->hidden_pad);
    t->y = halves(c, r, t->hidden_pad);
    t->qkv = halves(c, r, t->qkv_dim);
    t->wide = halves(c, r, t->ffn_pad);
    t->datt = halves(c, r, t->q_dim);
    t->dq = halves(c, r, t->q_dim);
    t->dk = halves(c, r, t->kv_dim);
    t->dv = halves(c, r, t->kv_dim);
    t->delta = floats(c, r, t->c->n_heads);
    t->angle = floats(c, t->o.length, t->c->head_dim);
    t->partial = train_take(c, partial_floats(t), 1, sizeof(float));
    t->room = train_take(c, TRAIN_ROOM_MOST, 1, 1);
    t->square = train_take(c, t->lay.n_weights / TRAIN_UPDATE_BLOCK, 1, sizeof *t->square);
    t->decision = train_take(c, 1, 1, sizeof *t->decision);
    t->total = train_take(c, TOTALS_MOST, 1, sizeof *t->total);
    carve_numbers(&t->numbers, t, c);
    carve_kept(t, c);
    carve_exit(t, c);
}

static void carve_anchor(struct trainer *t, struct train_carve *c)
{
    if (!t->o.anchor)
        return;
    t->anchor = train_take(c, t->lay.n_matrices, 1, sizeof *t->anchor);
    t->anchor_vector = train_take(c, t->lay.n_weights - t->lay.n_matrices, 1, sizeof *t->anchor_vector);
    t->anchor_state = floats(c, t->max_rows, t->hidden_pad);
    t->at_exit.z_anchor = floats(c, t->chunk, t->vocab_pad);
    t->at_exit.anchor = train_take(c, (uint64_t)t->chunk, 1, sizeof *t->at_exit.anchor);
}

static void carve_all(struct trainer *t, struct train_carve *c, struct train_plan *plan)
{
    uint64_t at[6] = {0};
    t->weight = train_take(c, t->lay.n_weights, 1, sizeof(float));
    t->half = train_take(c, t->lay.n_matrices, 1, sizeof *t->half);
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

static void carve_pinned(struct trainer *t, struct train_carve *c)
{
    carve_numbers(&t->host.numbers, t, c);
    t->numbers_bytes = c->used; /* they come first: as many bytes as on the device */
    t->host.total = train_take(c, TOTALS_MOST, 1, sizeof *t->host.total);
    t->host.decision = train_take(c, 1, 1, sizeof *t->host.decision);
    t->host.staging = train_take(c, STAGING_FLOATS, 1, sizeof *t->host.staging);
}

void cuda_train_place(struct trainer *t, uint8_t *device, uint8_t *pinned)
{
    struct train_carve c = {.base = device, .align = ALIGN}, p = {.base = pinned, .align = ALIGN};
    struct train_plan plan;
    t->memory = device;
    t->host.memory = pinned;
    carve_all(t, &c, &plan);
    carve_pinned(t, &p);
}

/* ---- sizes ---- */

static int check_options(const struct config *c, const struct train_options *o, struct error *err)
{
    int rc = train_check_options(c, o, err);
    if (rc)
        return rc;
    if (o->batch > TRAIN_ROWS_MOST / o->length)
        return fail(err, ERR_USAGE, "training: batch %d of length %d: a GPU takes %d positions at once; accumulate gradients over several batches", o->batch, o->length, TRAIN_ROWS_MOST);
    if (o->exits > TOTALS_MOST || c->n_layers > TOTALS_MOST)
        return fail(err, ERR_USAGE, "training: %d exits, %d layers: a GPU takes %d of each at most", o->exits, c->n_layers, TOTALS_MOST);
    if (c->head_dim % 8 || c->head_dim < 16 || c->head_dim > 128)
        return fail(err, ERR_CONFIG, "heads of %d values: training on a GPU needs a multiple of 8 from 16 to 128; use --device cpu", c->head_dim);
    if (c->hidden > TRAIN_HIDDEN_MOST)
        return fail(err, ERR_CONFIG, "hidden states of %d values: training on a GPU takes %d at most; use --device cpu", c->hidden, TRAIN_HIDDEN_MOST);
    return 0;
}

static void set_sizes(struct trainer *t)
{
    const struct config *c = t->c;
    t->max_rows = t->o.batch * t->o.length;
    t->max_exits = t->o.exits ? t->o.exits : c->n_layers;
    t->q_dim = c->n_heads * c->head_dim;
    t->kv_dim = c->n_kv_heads * c->head_dim;
    t->qkv_dim = t->q_dim + 2 * t->kv_dim;
    t->hidden_pad = pad8(c->hidden);
    t->ffn_pad = pad8(c->ffn);
    t->gate_pad = pad8(2 * c->ffn);
    t->vocab_pad = pad8(c->vocab);
    t->chunk = CHUNK_FLOATS / t->vocab_pad > CHUNK_LEAST ? CHUNK_FLOATS / t->vocab_pad / CHUNK_UNIT * CHUNK_UNIT : CHUNK_LEAST;
    t->chunk = t->chunk < t->max_rows ? t->chunk : t->max_rows;
}

static int take_lists(struct trainer *t, struct error *err)
{
    uint64_t layers = (uint64_t)t->c->n_layers;
    t->state = arena_array(&t->arena, layers + 1, sizeof *t->state);
    t->pull = arena_array(&t->arena, (uint64_t)t->max_exits, sizeof *t->pull);
    t->kept = arena_array(&t->arena, layers, sizeof *t->kept);
    t->inv_freq = arena_array(&t->arena, (uint64_t)t->c->head_dim / 2, sizeof *t->inv_freq);
    t->n_kept = arena_array(&t->arena, layers, sizeof *t->n_kept);
    t->counts = arena_array(&t->arena, (uint64_t)t->c->vocab + 1, sizeof *t->counts);
    return t->state && t->pull && t->kept && t->inv_freq && t->n_kept && t->counts ? 0 : fail(err, ERR_OS, "out of memory");
}

int cuda_train_lay_out(struct trainer *t, const struct model *m, const struct train_options *o, struct train_plan *plan, struct error *err)
{
    *t = (struct trainer){.model = m, .c = &m->config, .o = *o};
    int rc = check_options(t->c, o, err);
    if (rc)
        return rc;
    set_sizes(t);
    rc = take_lists(t, err);
    if (!rc)
        rc = train_lay_tensors(&t->lay, m, &t->arena, (struct train_layout_rule){.unit = 8, .block = TRAIN_UPDATE_BLOCK, .joined = true}, err);
    if (rc)
        return rc;
    struct train_carve c = {.align = ALIGN}, pinned = {.align = ALIGN};
    carve_all(t, &c, plan);
    carve_pinned(t, &pinned);
    t->memory_bytes = c.used;
    t->host.bytes = pinned.used;
    return !c.overflow && !pinned.overflow && c.used <= SIZE_MAX / 2 ? 0 : fail(err, ERR_USAGE, "training: batch %d of length %d needs more memory than there are addresses", o->batch, o->length);
}
