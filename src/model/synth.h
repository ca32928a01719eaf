/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic checkpoints: Hugging Face folders of a named shape with seeded random weights, for speed and correctness at real size.

   Value i of tensor "name": with key = seed XOR FNV-1a-64(name), word w = philox(key, low(i/4), high(i/4), 0, 0).v[i % 4] of bytes b0..b3,
     value = (float)(2 (b0 + b1 + b2 + b3) - 1020) * (float)(std / (2 sqrt(21845))),  rounded to the stored type.
   The sum of four uniform bytes is near enough to a normal distribution; a value has 1021 levels.
   std: embedding 1; matrices and head r, the shape's range (0.02); o_proj and down_proj of layer l r s(l), s = 1 for l < 2, else exp(-(l-2)/5) / 4; a bias as
   its matrix; norms are 1. The same definition in Python: tests/golden/synth.py.
   Late layers then add little, as in a model that was trained for early exit: exits agree with the full depth as often as the published ones do. */
#ifndef MODEL_SYNTH_H
#define MODEL_SYNTH_H

#include <stdint.h>

#include "base/error.h"

struct synth_options {
    const char *shape;    /* a name of shapes.h */
    uint64_t seed;        /* 0: 1 */
    int tie;              /* non-zero: the head is the embedding */
    int layers;           /* 0: the shape's */
    const char *dtype;    /* NULL: "bf16"; "f16", "f32" */
    uint64_t shard_bytes; /* 0: 4 GiB */
    int threads;          /* 0: all */
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* or NULL; on the calling thread; non-zero stops with ERR_USAGE */
    void *progress_ud;
};

/* The folder appears only when it is complete; it must not exist. */
int synth_write(const char *folder, const struct synth_options *o, struct error *err);

#endif
