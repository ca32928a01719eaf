/* SPDX-License-Identifier: Apache-2.0 */
/* The run: batches in, steps, looks at held-out text, a log, checkpoints. In the output folder:
     data.tokens      the text (dataset.h)
     log.csv          a row for every step or look and exit
     step-000500/     a Hugging Face folder; trainer/ in it holds what going on needs: 32-bit weights, moments, the step
   A checkpoint has its name only when it is complete. All randomness is a function of (seed, step): the step is the whole position. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "train/corpus.h"
#include "train/recipe.h"

enum train_event_kind { TRAIN_STARTED, TRAIN_STEPPED, TRAIN_LOOKED, TRAIN_SAVED };

struct train_point {
    int layer;
    struct train_result result; /* of a step: only what the recipe asks for; the rest is 0 */
};

struct train_event {
    enum train_event_kind kind;
    int step, steps;           /* steps done, of */
    uint64_t tokens;           /* seen by the run so far */
    double loss, rate, norm;   /* STEPPED */
    double seconds;            /* of training in this process, looks and saves not counted */
    double speed, flops, left; /* tokens and operations a second over the last steps; seconds to the end, 0: not known yet */
    int n;
    const struct train_point *point; /* [n] STEPPED, LOOKED: ascending layers, the model's last one last */
    const char *path;                /* SAVED: the checkpoint; STARTED: the one that is gone on from, or NULL */
    struct train_plan plan;          /* STARTED */
    uint64_t blocks, held;           /* STARTED: trained on in a pass, held out */
};

struct training {
    const struct model *model;
    const struct model *start; /* the weights to begin with, where they are not the model's; those stay the anchor. Or NULL */
    const struct train_ops *ops;
    const char *device;     /* their kind, "cpu" or "cuda": checkpoints name it, since each kind has its own bits */
    const char *folder;     /* of the run; made when it is not there */
    struct corpus corpus;   /* its tokenizer and vocab are filled in from the model; its note is told too that a run goes on on another device */
    struct schedule schedule; /* layers are filled in from the model; steps 0: one pass over the data */
    int batch, accumulate, length; /* sequences of a call, calls of a step, tokens of a sequence */
    double beta1, beta2, eps, clip;
    double held_share;
    bool learn_given;
    int look[RECIPE_EXITS_MAX]; /* exits that looks measure beside the last layer; none: as for distill */
    int n_look, look_every, look_blocks; /* every 0: at the end only */
    int save_every, keep;       /* keep: the newest checkpoints that stay; 0: all */
    bool resume;
    int threads, ordinal;       /* ordinal: which device of its kind */
    enum dtype fit; /* train_options */
    bool recompute;
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* before the first step; or NULL; non-zero stops */
    int (*event)(void *ud, const struct train_event *e); /* non-zero: the run saves and ends */
    void *ud;
};

/* 0: done; 1: ended early because event said so, and saved. */
int training_run(const struct training *t, struct error *err);

#endif
