/* SPDX-License-Identifier: Apache-2.0 */
/* Where a trainer's numbers lie. Tensors: the same place in each of its flat arrays (weights, gradients, moments), matrices first, since those decay. Arrays: one behind the
   other in one block; the same walk over all of them counts their bytes and, later, sets their pointers. */
#ifndef BACKEND_TRAIN_LAYOUT_H
#define BACKEND_TRAIN_LAYOUT_H

#include "backend/train.h"
#include "base/arena.h"

#define NOWHERE SIZE_MAX

struct train_item {
    struct train_tensor is;
    const struct view *view;
    size_t at; /* elements */
    int ld;    /* from row to row; of a vector: its length */
};

/* Places of a layer's weights and biases (NOWHERE: none). */
struct layer_at {
    size_t weight[W_COUNT], bias[W_COUNT];
};

struct train_layout {
    struct train_item *item; /* [n_items] */
    int n_items;
    struct layer_at *at;     /* [n_layers] */
    size_t embed_at, norm_at, head_at; /* head_at == embed_at when tied */
    size_t n_weights, n_matrices;      /* elements */
};

/* Tensors begin at multiples of 16 and may be read 15 elements behind their end. */
struct train_layout_rule {
    int unit;    /* rows of a matrix are a multiple of so many elements apart */
    int block;   /* of the update: all of it decays or nothing */
    bool joined; /* weights and biases of q, k and v lie one behind the other without a gap, those of gate and up too: each is one product */
};
int train_lay_tensors(struct train_layout *l, const struct model *m, struct arena *arena, struct train_layout_rule rule, struct error *err);

/* Counts, or hands out when there is a base. */
struct train_carve {
    uint8_t *base;
    uint64_t used, align; /* align: a power of two */
    bool overflow;
};

void *train_take(struct train_carve *c, uint64_t count, uint64_t each, uint64_t size);

#endif
