/* SPDX-License-Identifier: Apache-2.0 */
/* The recipe: how often each layer is dropped, what each exit adds to the loss, how fast to learn; all of it a function of the step alone.

   LayerSkip (Elhoushi et al. 2024), layers l = 0 .. L-1, steps t = 0 .. T-1:
     layer dropout  p(l,t) = S(t) D(l) p_max   D(l) = 2^(l/(L-1)) - 1   S(t) = 1, or from scratch 2^(t/(T-1)) - 1
     exit weights   w(l,t) = C(t,l) e(l) / sum_i C(t,i) e(i)
                    e(l) = scale * (0 + 1 + .. + l) for l < L-1, e(L-1) = (L-1) + scale * (0 + 1 + .. + L-2)
     curriculum     rotational: C(t,l) = 1 where l = t mod R; gradual: one layer more, from the last down, every T/(2L) steps.
   The last layer is enabled at every step. Layer l is the exit l + 1 of struct train_exit: the hidden state behind l + 1 layers.

   distill: the model's own last layer teaches one exit at a time, first by KL divergence, then more and more by the share of drafts that it would have
   accepted; the last layer itself is held to the model as it was opened, by a heavier KL divergence and without weight decay. */
#ifndef TRAIN_RECIPE_H
#define TRAIN_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/train.h"
#include "base/error.h"

enum { RECIPE_EXITS_MAX = 16, RECIPE_LAYERS_MAX = 1024 };

enum curriculum { CURRICULUM_NONE, CURRICULUM_ROTATIONAL, CURRICULUM_GRADUAL, CURRICULUM_DISTILL };

struct recipe {
    const char *name, *help;
    double drop_max;    /* p_max: how often the last layer is dropped */
    bool drop_grows;    /* S grows over the run */
    double exit_scale;  /* 0 .. 1 */
    enum curriculum curriculum;
    int rotation;       /* R */
    double rate;        /* peak of the learning rate */
    double anchor;      /* distill: how much it weighs that the last layer stays what it was; an exit weighs .5 to 1 */
    double decay;       /* of AdamW */
    int batch;          /* sequences of a step in the published run, all devices together; 0: not published */
    int steps, length;  /* the same */
};

/* Presets, named after the published runs. NULL: no such recipe, or past the last. */
const struct recipe *recipe_find(const char *name);
const struct recipe *recipe_at(int i);

/* A recipe bound to a model and a run. */
struct schedule {
    struct recipe recipe;
    int layers, steps;
    uint64_t seed;
    double warmup, floor;       /* share of the steps; share of the peak that is left at the end */
    int exit[RECIPE_EXITS_MAX]; /* distill: the exits that are taught in turn */
    int n_exits;
};

/* ERR_USAGE names what is out of range. exits may be empty: then L/4, L/3 and L/2. */
int schedule_check(const struct schedule *s, struct error *err);
void schedule_default_exits(struct schedule *s);

double schedule_drop(const struct schedule *s, int step, int layer); /* p(l,t) */

/* keep [layers][n] for samples first .. first + n - 1 of a step: each decided alone, by (seed, step, layer, sample). */
void schedule_keep(const struct schedule *s, int step, int first, int n, uint8_t *keep);

/* What this micro-step (of `micros` in the step) trains; room for layers + 1. Returns how many exits: the last is the last layer, ascending. */
int schedule_exits(const struct schedule *s, int step, int micro, int micros, struct train_exit *out);

int schedule_most_exits(const struct schedule *s); /* of any micro-step */

double schedule_rate(const struct schedule *s, int step); /* linear warm-up, then cosine */

static inline bool schedule_anchored(const struct schedule *s) { return s->recipe.curriculum == CURRICULUM_DISTILL; }

#endif
