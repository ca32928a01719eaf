/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's part of the seam: forward, backward and update on one device. It knows weights, gradients and losses; which layers are dropped, which exits
   count how much and how fast to learn is the recipe's business (src/train). Everything is deterministic: the same calls on the same device with the same number
   of threads give the same bits. */
#ifndef BACKEND_TRAIN_H
#define BACKEND_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/model.h"

struct train_options {
    int batch, length;   /* most sequences of a call; most tokens of each, at most the model's context */
    int exits;           /* most exits of one `backward`; 0: as many as layers */
    int threads;         /* 0: all */
    int ordinal;         /* which device of its kind */
    bool anchor;         /* keep the weights as they were opened, for a loss against that model */
    enum dtype fit;      /* a pass sees matrices as they will be in this type, Q8_0, Q4_0 or Q4_1, and gradients go straight through that rounding: the model learns
                            to live with it (Bengio et al. 2013). A device whose products read bf16 rounds once more. DT_F32: it sees them as they are */
    bool recompute;      /* activations inside a layer are computed again on the way back: memory for one layer instead of all */
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* or NULL; non-zero stops */
    void *progress_ud;
};

struct train_plan {
    uint64_t weights, gradients, optimizer, activations, anchor; /* bytes */
};

/* n sequences of `length` tokens. A sequence is one sample of layer dropout. */
struct train_batch {
    int n, length;
    const int32_t *token;  /* [n][length] */
    const int32_t *target; /* [n][length]: what should follow; below zero: no loss here */
    const int32_t *start;  /* [n][length]: the first position that this one may attend to (documents do not see one another), or NULL: 0 everywhere */
                           /* Rotary angles count from the sequence's start. Attention depends on distances alone, so this is what transformers computes from
                              packed position_ids that begin again with every document, but for rounding. */
    const uint8_t *keep;   /* [layers][n]: 0: this sample goes past this layer unchanged; or NULL: all go through all */
};

/* What one exit (the final norm and the head after `layer` layers) adds to the loss: a mean over the positions with a target of
     ce * CE(target, q) + kl * KL(p || q) + accept * -log(sum_v min(p_v, q_v)) + anchor * KL(p0 || q)
   q: this exit's distribution; p: the last layer's of the same pass, held fixed (no gradient flows into it); p0: the anchor's last layer with no layer dropped,
   held fixed. A batch without any target has losses 0 and adds nothing. */
struct train_exit {
    int layer; /* 1 .. layers */
    float ce, kl, accept, anchor;
};

/* What came out, for every exit: means over the positions with a target, whatever the weights are. Those that were not asked for (weight 0) are computed
   only by evaluate. */
struct train_result {
    double ce, kl, accept, anchor; /* in nats; accept as in the formula */
    double agree;                  /* share of positions where the most likely token (ties: the lowest id) equals the last layer's: greedy acceptance per token;
                                      backward knows it only where kl or accept ask for the last layer, else it is 0 */
    int64_t positions;
};

/* AdamW (Loshchilov and Hutter 2019), decay decoupled and not applied to vectors (norms, biases); step counts from 1. */
struct train_step {
    int64_t step;
    double rate, beta1, beta2, eps, decay;
    double clip;    /* most norm of all gradients together; 0: no limit */
    double divide;  /* gradients are divided by this first: batches accumulated */
};

enum train_state { TRAIN_WEIGHT, TRAIN_GRADIENT, TRAIN_MOMENT1, TRAIN_MOMENT2 };

struct train_tensor {
    const char *name; /* canonical, as checkpoint_find knows it */
    int64_t rows, cols; /* of a vector: 1 row */
};

struct trainer; /* a device's: weights in f32, gradients, moments, activations */

struct train_ops {
    int (*plan)(const struct model *m, const struct train_options *o, struct train_plan *out, struct error *err);
    struct trainer *(*open)(const struct model *m, const struct train_options *o, struct error *err); /* borrows m */
    void (*close)(struct trainer *t);

    int (*n_tensors)(const struct trainer *t);
    struct train_tensor (*tensor)(const struct trainer *t, int i);
    int (*get)(struct trainer *t, int i, enum train_state what, float *out, struct error *err);      /* [rows * cols] */
    int (*set)(struct trainer *t, int i, enum train_state what, const float *in, struct error *err);

    /* Adds the gradients of this batch's loss; zero them with `update` or `clear`. A loss that is not finite is ERR_DATA and leaves the gradients undefined. */
    int (*backward)(struct trainer *t, const struct train_batch *b, const struct train_exit *exits, int n_exits, struct train_result *out, struct error *err);
    /* Forward only, all layers kept. */
    int (*evaluate)(struct trainer *t, const struct train_batch *b, const int *layers, int n_layers, struct train_result *out, struct error *err);
    void (*clear)(struct trainer *t); /* gradients := 0 */
    /* One step, and gradients := 0. *norm: of the divided gradients, before clipping. A norm that is not finite is ERR_DATA and changes nothing. */
    int (*update)(struct trainer *t, const struct train_step *s, double *norm, struct error *err);
};

/* ---- train_check.c: for those who implement it ---- */
int train_check_options(const struct config *c, const struct train_options *o, struct error *err);
int train_check_batch(const struct config *c, const struct train_options *o, const struct train_batch *b, struct error *err);
int train_check_exits(const struct config *c, const struct train_options *o, const struct train_exit *exits, int n, struct error *err);
enum dtype train_fit_type(const struct train_options *o, const struct view *v); /* of one tensor; as `quantize` chooses: rows of whole blocks alone, and 8 bits for embedding and head */
int train_check_step(const struct train_step *s, struct error *err);

/* How far the layers have to run for these exits: forward, back (the deepest exit), and whether the anchor is asked for. Layers that no loss looks at are not run. */
struct train_depths {
    int forward, back;
    bool anchor;
};
struct train_depths train_depths(const struct config *c, const struct train_exit *exits, int n);

#endif
