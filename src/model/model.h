/* SPDX-License-Identifier: Apache-2.0 */
/* A model as the backends see it: a checked config, and canonical names for where each weight lies in the file. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/error.h"
#include "format/checkpoint.h"
#include "model/config.h"
#include "text/tokenizer.h"

enum layer_weight { W_ATTN_NORM, W_Q, W_K, W_V, W_O, W_FFN_NORM, W_GATE, W_UP, W_DOWN, W_COUNT };

struct model {
    struct config config;
    struct checkpoint *file;
    struct vocab vocab;
    struct tokenizer *tokenizer; /* borrows vocab */
};

/* Reads headers, config and tokenizer; no weights. ignore: config keys to pass over, NULL-terminated, or NULL. On failure nothing is held. */
int model_open(struct model *m, const char *path, const char *const *ignore, struct error *err);
void model_close(struct model *m);

/* Where a layer's weight (or its bias: NULL when the model has none) lies. */
const struct view *model_weight(const struct model *m, int layer, enum layer_weight w);
const struct view *model_bias(const struct model *m, int layer, enum layer_weight w);

/* Rotary frequencies f32[head_dim / 2], scaling applied, computed in the order and precision of transformers. */
int model_frequencies(const struct model *m, float *inv_freq, struct error *err);

#endif
