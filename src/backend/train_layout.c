/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/train_layout.h"

#include "base/checked.h"

/* ---- tensors ---- */

static size_t add_item(struct train_layout *l, const struct view *v, int unit)
{
    if (!v)
        return NOWHERE;
    const bool matrix = v->rank == 2;
    const int cols = (int)(matrix ? v->dim[1] : v->dim[0]);
    l->item[l->n_items++] = (struct train_item){.view = v, .is = {.name = v->name, .rows = matrix ? (int64_t)v->dim[0] : 1, .cols = cols}, .ld = matrix ? (cols + unit - 1) / unit * unit : cols};
    return (size_t)(l->n_items - 1);
}

/* Numbers of items, which place_items turns into places. */
static void list_items(struct train_layout *l, const struct model *m, int unit)
{
    l->embed_at = add_item(l, checkpoint_find(m->file, "embed"), unit);
    for (int i = 0; i < m->config.n_layers; i++)
        for (int w = 0; w < W_COUNT; w++) {
            l->at[i].weight[w] = add_item(l, model_weight(m, i, (enum layer_weight)w), unit);
            l->at[i].bias[w] = add_item(l, model_bias(m, i, (enum layer_weight)w), unit);
        }
    l->norm_at = add_item(l, checkpoint_find(m->file, "norm"), unit);
    l->head_at = m->config.tied ? l->embed_at : add_item(l, checkpoint_find(m->file, "head"), unit);
}

/* Items that go on where the one before them ends. */
static void mark_joins(const struct train_layout *l, int n_layers, bool *join)
{
    static const enum layer_weight follow[] = {W_K, W_V, W_UP};
    for (int i = 0; i < n_layers; i++)
        for (size_t j = 0; j < sizeof follow / sizeof *follow; j++) {
            join[l->at[i].weight[follow[j]]] = true;
            if (l->at[i].bias[follow[j]] != NOWHERE)
                join[l->at[i].bias[follow[j]]] = true;
        }
}

static size_t place_of(const struct train_layout *l, size_t item) { return item == NOWHERE ? NOWHERE : l->item[item].at; }

static bool place_items(struct train_layout *l, int n_layers, uint64_t block, const bool *join)
{
    uint64_t at = 0, size;
    bool overflow = false;
    for (int vectors = 0; vectors < 2; vectors++) {
        for (int i = 0; i < l->n_items; i++) {
            struct train_item *it = &l->item[i];
            if ((it->view->rank == 1) != vectors)
                continue;
            if (!join[i]) {
                overflow |= add_u64(at, 15, &at);
                at &= ~(uint64_t)15;
            }
            it->at = (size_t)at;
            overflow |= mul_u64((uint64_t)it->is.rows, (uint64_t)it->ld, &size) || add_u64(at, size, &at);
        }
        overflow |= add_u64(at, block - 1 + 15, &at);
        at -= at % block;
        if (!vectors)
            l->n_matrices = (size_t)at;
    }
    l->n_weights = (size_t)at;
    for (int i = 0; i < n_layers; i++)
        for (int w = 0; w < W_COUNT; w++) {
            l->at[i].weight[w] = place_of(l, l->at[i].weight[w]);
            l->at[i].bias[w] = place_of(l, l->at[i].bias[w]);
        }
    l->embed_at = place_of(l, l->embed_at);
    l->norm_at = place_of(l, l->norm_at);
    l->head_at = place_of(l, l->head_at);
    return !overflow;
}

int train_lay_tensors(struct train_layout *l, const struct model *m, struct arena *arena, struct train_layout_rule rule, struct error *err)
{
    const uint64_t views = (uint64_t)m->file->n_views;
    bool *join = arena_array(arena, views, sizeof *join);
    l->item = arena_array(arena, views, sizeof *l->item);
    l->at = arena_array(arena, (uint64_t)m->config.n_layers, sizeof *l->at);
    if (!join || !l->item || !l->at)
        return fail(err, ERR_OS, "out of memory");
    list_items(l, m, rule.unit);
    if (rule.joined)
        mark_joins(l, m->config.n_layers, join);
    return place_items(l, m->config.n_layers, (uint64_t)rule.block, join) ? 0 : fail(err, ERR_USAGE, "training: the model needs more memory than there are addresses");
}

/* ---- arrays ---- */

void *train_take(struct train_carve *c, uint64_t count, uint64_t each, uint64_t size)
{
    void *p = c->base ? c->base + c->used : NULL;
    uint64_t n = 0;
    c->overflow |= mul_u64(count, each, &n) || mul_u64(n, size, &n) || add_u64(n, c->align - 1, &n) || add_u64(c->used, n & ~(c->align - 1), &c->used);
    return p;
}
