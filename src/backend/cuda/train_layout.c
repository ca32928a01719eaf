/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes follow from the config before anything is allocated: the same walk over all arrays counts their bytes and, later, sets their pointers. */
#include <string.h>

#include "backend/cuda/trainer.h"
#include "base/checked.h"

enum { CHUNK_FLOATS = 1 << 27, CHUNK_LEAST = 256, CHUNK_UNIT = 128 }; /* logits held at once: 512 MiB, but some rows in any case */

/* ---- tensors ---- */

static size_t add_item(struct trainer *t, const struct view *v)
{
    if (!v)
        return NOWHERE;
    bool matrix = v->rank == 2;
    int cols = (int)(matrix ? v->dim[1] : v->dim[0]);
    t->item[t->n_items++] = (struct train_item){.view = v, .is = {.name = v->name, .rows = matrix ? (int64_t)v->dim[0] : 1, .cols = cols}, .ld = matrix ? pad8(cols) : cols};
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

/* Items that go on where the one before them ends, so that both are one matrix. `at` holds numbers of items still. */
static void mark_joins(const struct trainer *t, bool *join)
{
    for (int l = 0; l < t->c->n_layers; l++) {
        static const enum layer_weight follow[] = {W_K, W_V, W_UP};
        for (size_t j = 0; j < sizeof follow / sizeof *follow; j++) {
            join[t->at[l].weight[follow[j]]] = true;
            if (t->at[l].bias[follow[j]] != NOWHERE)
                join[t->at[l].bias[follow[j]]] = true;
        }
    }
}

static size_t place_of(const struct trainer *t, size_t item) { return item == NOWHERE ? NOWHERE : t->item[item].at; }

static bool place_items(struct trainer *t, const bool *join)
{
    uint64_t at = 0, size;
    bool overflow = false;
    for (int vectors = 0; vectors < 2; vectors++) {
        for (int i = 0; i < t->n_items; i++) {
            struct train_item *it = &t->item[i];
            if ((it->view->rank == 1) != vectors)
                continue;
            if (!join[i]) {
                overflow |= add_u64(at, 15, &at);
                at &= ~(uint64_t)15;
            }
            it->at = (size_t)at;
            overflow |= mul_u64((uint64_t)it->is.rows, (uint64_t)it->ld, &size) || add_u64(at, size, &at);
        }
        overflow |= add_u64(at, TRAIN_UPDATE_BLOCK - 1 + 15, &at); /* a block of the update decays or does not; the row kernels may read 15 behind a vector's end */
        at -= at % TRAIN_UPDATE_BLOCK;
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
    c->overflow |= mul_u64(count, each, &n) || mul_u64(n, size, &n) || add_u64(n, 255, &n) || add_u64(c->used, n & ~(uint64_t)255, &c->used);
    return p;
}

static float *floats(struct carve *c, int count, int each) { return take(c, (uint64_t)count, (uint64_t)each, sizeof(float)); }
static uint16_t *halves(struct carve *c, int count, int each) { return take(c, (uint64_t)count, (uint64_t)each, sizeof(uint16_t)); }

static void carve_kept(struct trainer *t, struct carve *c)
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

static void carve_exit(struct trainer *t, struct carve *c)
{
    struct chunk_kept *k = &t->at_exit;
    k->normed = halves(c, t->chunk, t->hidden_pad);
    k->z = floats(c, t->chunk, t->vocab_pad);
    k->z_last = floats(c, t->chunk, t->vocab_pad);
    k->dz = halves(c, t->chunk, t->vocab_pad);
    k->last = take(c, (uint64_t)t->chunk, 1, sizeof *k->last);
    k->loss = take(c, (uint64_t)t->chunk, 1, sizeof *k->loss);
}

/* On the device and, in the same shape, pinned. */
static void carve_numbers(struct train_numbers *n, const struct trainer *t, struct carve *c)
{
    const uint64_t r = (uint64_t)t->max_rows, maps = (uint64_t)t->c->n_layers * (uint64_t)t->o.batch;
    n->token = take(c, r, 1, sizeof(int32_t));
    n->row = take(c, r, 1, sizeof(int32_t));
    n->target = take(c, r, 1, sizeof(int32_t));
    n->start = take(c, r, 1, sizeof(int32_t));
    n->order = take(c, r, 1, sizeof(int32_t));
    n->begin = take(c, r + 1, 1, sizeof(int32_t));
    n->segment = take(c, r, 1, sizeof(int32_t));
    n->list = take(c, maps, 1, sizeof(int32_t));
    n->place = take(c, maps, 1, sizeof(int32_t));
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

static void carve_activations(struct trainer *t, struct carve *c)
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
    t->partial = take(c, partial_floats(t), 1, sizeof(float));
    t->room = take(c, TRAIN_ROOM_MOST, 1, 1);
    t->square = take(c, t->n_weights / TRAIN_UPDATE_BLOCK, 1, sizeof *t->square);
    t->decision = take(c, 1, 1, sizeof *t->decision);
    t->total = take(c, TOTALS_MOST, 1, sizeof *t->total);
    carve_numbers(&t->numbers, t, c);
    carve_kept(t, c);
    carve_exit(t, c);
}

static void carve_anchor(struct trainer *t, struct carve *c)
{
    if (!t->o.anchor)
        return;
    t->anchor = take(c, t->n_matrices, 1, sizeof *t->anchor);
    t->anchor_vector = take(c, t->n_weights - t->n_matrices, 1, sizeof *t->anchor_vector);
    t->anchor_state = floats(c, t->max_rows, t->hidden_pad);
    t->at_exit.z_anchor = floats(c, t->chunk, t->vocab_pad);
    t->at_exit.anchor = take(c, (uint64_t)t->chunk, 1, sizeof *t->at_exit.anchor);
}

static void carve_all(struct trainer *t, struct carve *c, struct train_plan *plan)
{
    uint64_t at[6] = {0};
    t->weight = take(c, t->n_weights, 1, sizeof(float));
    t->half = take(c, t->n_matrices, 1, sizeof *t->half);
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

static void carve_pinned(struct trainer *t, struct carve *c)
{
    carve_numbers(&t->host.numbers, t, c);
    t->numbers_bytes = c->used; /* they come first: as many bytes as on the device */
    t->host.total = take(c, TOTALS_MOST, 1, sizeof *t->host.total);
    t->host.decision = take(c, 1, 1, sizeof *t->host.decision);
    t->host.staging = take(c, STAGING_FLOATS, 1, sizeof *t->host.staging);
}

void cuda_train_place(struct trainer *t, uint8_t *device, uint8_t *pinned)
{
    struct carve c = {.base = device}, p = {.base = pinned};
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
    t->item = arena_array(&t->arena, (uint64_t)t->model->file->n_views, sizeof *t->item);
    t->at = arena_array(&t->arena, layers, sizeof *t->at);
    t->state = arena_array(&t->arena, layers + 1, sizeof *t->state);
    t->pull = arena_array(&t->arena, (uint64_t)t->max_exits, sizeof *t->pull);
    t->kept = arena_array(&t->arena, layers, sizeof *t->kept);
    t->inv_freq = arena_array(&t->arena, (uint64_t)t->c->head_dim / 2, sizeof *t->inv_freq);
    t->n_kept = arena_array(&t->arena, layers, sizeof *t->n_kept);
    t->counts = arena_array(&t->arena, (uint64_t)t->c->vocab + 1, sizeof *t->counts);
    return t->item && t->at && t->state && t->pull && t->kept && t->inv_freq && t->n_kept && t->counts ? 0 : fail(err, ERR_OS, "out of memory");
}

int cuda_train_lay_out(struct trainer *t, const struct model *m, const struct train_options *o, struct train_plan *plan, struct error *err)
{
    *t = (struct trainer){.model = m, .c = &m->config, .o = *o};
    int rc = check_options(t->c, o, err);
    if (rc)
        return rc;
    set_sizes(t);
    rc = take_lists(t, err);
    bool *join = rc ? NULL : arena_array(&t->arena, (uint64_t)m->file->n_views, sizeof *join);
    if (!join)
        return rc ? rc : fail(err, ERR_OS, "out of memory");
    list_items(t);
    mark_joins(t, join);
    struct carve c = {0}, pinned = {0};
    bool fits = place_items(t, join);
    carve_all(t, &c, plan);
    carve_pinned(t, &pinned);
    t->memory_bytes = c.used;
    t->host.bytes = pinned.used;
    return fits && !c.overflow && !pinned.overflow && c.used <= SIZE_MAX / 2 ? 0 : fail(err, ERR_USAGE, "training: batch %d of length %d needs more memory than there are addresses", o->batch, o->length);
}
