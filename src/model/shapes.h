/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes that synthetic checkpoints come in: dimensions of published models, and tiny ones for tests. */
#ifndef MODEL_SHAPES_H
#define MODEL_SHAPES_H

#include <stdbool.h>

struct shape {
    const char *name, *help;
    int layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context;
    double rope_theta, norm_eps;
    double range; /* standard deviation of the matrices: 0.02; more for the tiny shapes, where 0.02 would make attention all but uniform */
    double rope_factor, rope_low, rope_high; /* "llama3" scaling; factor 0: none */
    int rope_original;                       /* context before the scaling */
    bool biases, tied;
    bool twins; /* head rows 2k and 2k + 1 differ by one ulp in a few places */
    int bos, eos;
};

/* NULL: no such shape, or past the last. */
const struct shape *shape_find(const char *name);
const struct shape *shape_at(int i);

#endif
