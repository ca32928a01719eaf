/* SPDX-License-Identifier: Apache-2.0 */
/* Which type every matrix of a model is loaded as: the policy behind --weights, the same on every device. */
#ifndef BACKEND_WEIGHTS_H
#define BACKEND_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"

enum { LAYER_MATRICES = 7 };
#define WEIGHTS_MOST(layers) (LAYER_MATRICES * (uint64_t)(layers) + 3) /* embedding, head, draft head */

/* One matrix. */
struct weight {
    const struct view *v;
    enum dtype type;         /* that it is loaded as */
    int layer;               /* -1: embedding or head */
    enum layer_weight which; /* of a layer */
    bool is_head;            /* embedding or head */
    uint64_t bytes;          /* packed: for whoever packs to fill in */
    const int32_t *row;      /* [n_rows] the rows of v that it has, ascending; NULL: all */
    int n_rows;
};

/* All matrices in order: q, k, v, o, gate, up, down of each layer, the embedding, the head unless tied. out has room for WEIGHTS_MOST(layers).
   weights: NULL, "file", "bf16", "q8" or "q4"; only float tensors are converted, and embedding and head keep 8 bits under q4, since they decide every token.
   Rows that do not divide into a type's blocks are refused. Returns how many matrices there are. */
int weights_list(const struct model *m, const char *weights, struct weight *out, struct error *err);

/* Behind those n, where there are draft tokens: their rows of the last, which is the head (or the embedding that is the head). Returns how many matrices there are then. */
int weights_add_draft_head(struct weight *list, int n, const struct device_options *o);

/* n rows of a matrix from row `from` on, in the file's type: of w->row where it has one. Thread-safe. */
int weights_read_rows(const struct checkpoint *c, const struct view *v, const int32_t *row, int from, int n, void *out, struct error *err);

/* The type of most bytes in the layers, and what the file has quantised otherwise than was wished. */
void weights_describe(const struct weight *w, int n, const char *weights, struct device_plan *out);

#endif
