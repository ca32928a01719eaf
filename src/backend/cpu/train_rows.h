/* SPDX-License-Identifier: Apache-2.0 */
/* What training does between the matrix products, a row at a time: one text (train_rows.inc), compiled per instruction set; all sets give the same bits.
   Rows are padded with zeros to a multiple of 16; `n` below is the padded length unless said otherwise. */
#ifndef BACKEND_CPU_TRAIN_ROWS_H
#define BACKEND_CPU_TRAIN_ROWS_H

#include <stdbool.h>
#include <stddef.h>

/* A distribution over tokens: softmax of logits z [n]; what lies behind the vocabulary is LOGIT_PAD. */
struct softmax {
    const float *z;
    float max, scale; /* scale: 1 / sum of exp(z - max) */
    double lse;       /* log of the sum of all exponentials */
};

#define LOGIT_PAD (-1e30f)

/* How an exit's distribution q lies to the last layer's p. */
struct contrast {
    double kl;           /* KL(p || q) */
    double least, below; /* sum of min(p, q); sum of q where q < p */
};

/* dz = q (all + accept (below - [q < p])) - kl p - anchor p0 */
struct pull {
    float all, accept, below, kl, anchor;
};

/* AdamW, all that is the same for every weight: g = gradient * scale. */
struct adam {
    float scale, old1, new1, old2, new2; /* old: beta; new: 1 - beta */
    float keep, rate, root, eps;         /* keep: 1 - rate * decay; rate: over 1 - beta1^step; root: 1 / sqrt(1 - beta2^step) */
};

struct train_rows {
    const char *name;

    /* dx += the gradient of x / sqrt(mean(x^2) + eps) * w for dy; returns 1 / sqrt(mean(x^2) + eps). dim: the unpadded length */
    float (*norm_back)(float *dx, const float *x, const float *w, const float *dy, int n, int dim, float eps);
    /* y = silu(g) u: from dy, g and u become their gradients */
    void (*gate_back)(float *g, float *u, const float *dy, int n);
    /* out [16] += sum over rows of y * scale * x, 16 columns; x == NULL: of y alone. Strides in floats. */
    void (*columns)(float *out, const float *y, size_t y_stride, const float *x, size_t x_stride, const float *scale, int rows);

    /* Scores of one query: softmax of s * factor over [from, to), zero elsewhere up to n; stat: maximum and 1 / sum. */
    void (*attend)(float *s, int from, int to, int n, float factor, float stat[2]);
    void (*attend_again)(float *s, int from, int to, int n, float factor, const float stat[2]); /* with what attend found */
    /* dp: the gradient of probabilities p becomes that of the scores, times factor */
    void (*attend_back)(float *dp, const float *p, int n, float factor);

    double (*sum_exp)(const float *z, int n, float max);
    struct contrast (*contrast)(const struct softmax *q, const struct softmax *p, int n);
    void (*pull)(float *dz, const struct softmax *q, const struct softmax *p, const struct softmax *p0, int n, const struct pull *by); /* dz may be q->z; p, p0: or NULL */

    double (*sum_squares)(const float *x, int n);
    void (*adam)(float *w, float *g, float *m, float *v, int n, const struct adam *a); /* g := 0 */
};

extern const struct train_rows train_rows_plain;
extern const struct train_rows *const train_rows_table[]; /* best first, "plain" last, then NULL */
const struct train_rows *train_rows_pick(const char *name); /* as kernels_pick */

#endif
