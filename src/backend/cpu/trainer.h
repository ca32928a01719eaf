/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the CPU trainer share. A step goes: residual states 0..L forward, losses and their gradients at the exits by chunks of rows, layers backward.
   Rows of activations are padded with zeros to a multiple of 16 floats (ld), weights are not. */
#ifndef BACKEND_CPU_TRAINER_H
#define BACKEND_CPU_TRAINER_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/train_gemm.h"
#include "backend/cpu/train_rows.h"
#include "backend/train_layout.h"

enum { QUERY_BLOCK = 64, UPDATE_BLOCK = 16384 };

/* What a layer keeps for the way back; M: rows that went through it. */
struct layer_kept {
    float *q, *k, *v;  /* [M][q_dim], [M][kv_dim]: rotated q and k */
    float *stat;       /* [M][n_heads][2]: see train_rows.h */
    float *att;        /* [M][q_dim] */
    float *mid;        /* [M][hidden]: the residual behind attention */
    float *gate, *up;  /* [M][ffn] */
};

/* What a position gives: its distribution, and what an exit loses there. */
struct row_loss {
    struct softmax q;
    double ce, kl, accept, anchor;
    int32_t best; /* lowest of the most likely tokens */
    bool finite;
};

/* A chunk of rows at an exit. */
struct chunk_kept {
    float *x, *normed, *back; /* [chunk][hidden] */
    float *z, *z_last, *z_anchor; /* [chunk][vocab]; z_last: the last layer's logits; z_anchor: NULL without an anchor */
    struct row_loss *loss, *last, *anchor; /* [chunk] */
    int32_t *row;          /* [rows]: those that have a target */
};

struct trainer {
    const struct model *model;
    const struct config *c;
    struct train_options o;
    struct gemm gemm;
    const struct ops *ops;
    const struct train_rows *rows;
    struct pool *pool;
    int threads;
    int max_rows, max_exits, chunk; /* batch * length; exits; rows whose logits are held at once */
    int q_dim, kv_dim, hidden_pad, q_pad, kv_pad, ffn_pad, vocab_pad, score_pad;
    float *inv_freq; /* [head_dim / 2] */

    struct train_layout lay;

    float *weight, *gradient, *moment1, *moment2; /* [n_weights] */
    float *anchor;                                /* [n_weights] or NULL */
    float *fitted;                                /* [n_weights]: what a pass sees, with o.fit; else NULL */
    bool stale;                                   /* weights have changed since it was made */

    float **state;            /* [n_layers + 1]: [rows][hidden], the residual stream before each layer and behind the last */
    float *anchor_state;      /* [rows][hidden], or NULL */
    float **pull;             /* [max_exits]: [rows][hidden], an exit's gradient of its state */
    float *dx;                /* [rows][hidden] */
    struct layer_kept *kept;  /* [n_layers], or one for all with recompute */
    float *in, *out;          /* [rows][hidden]: gathered rows of a layer, and what becomes of them */
    float *normed, *dnormed;  /* [rows][hidden] */
    float *wide;              /* [rows][ffn] */
    float *datt, *dq, *dk, *dv; /* [rows][q_dim], [rows][kv_dim] */
    float *scale;             /* [rows] */
    float *cs, *sn, *sn_back; /* [length][head_dim / 2]; sn_back = -sn */
    float *score;             /* [threads][2][QUERY_BLOCK][score_pad] */
    double *partial;          /* [update blocks] */
    int32_t *sample;          /* [batch]: those that go through a layer */
    struct chunk_kept at_exit;

    uint8_t *memory; /* one block that all of the large arrays lie in */
    uint64_t memory_bytes;
    struct arena arena; /* everything small */
};

/* One forward pass: which weights (the trained or the anchor's), and which rows. */
struct train_pass {
    struct trainer *t;
    const float *weights;
    const struct train_batch *b;
    const uint8_t *keep; /* [n_layers][n], or NULL */
    uint64_t done, total; /* progress, in layers */
};

extern const struct train_ops cpu_train;

/* ---- layout: train_layout.c ---- */
int train_lay_out(struct trainer *t, const struct model *m, const struct train_options *o, struct train_plan *plan, struct error *err); /* sizes and tensor table */
void train_place(struct trainer *t, uint8_t *memory); /* pointers into memory, as sized before */

/* ---- forward: train_forward.c ---- */
int train_forward(struct train_pass *p, int depth, struct error *err); /* states 0 .. depth */
void train_layer_forward(const struct train_pass *p, int layer, const struct layer_kept *k, bool to_the_end);
int train_samples(const struct train_pass *p, int layer); /* fills t->sample with those that the layer keeps */
float *train_gather(const struct train_pass *p, int n, float *from, float *to); /* rows of n samples: `from` itself when they are all */
void train_scatter(const struct train_pass *p, int n, const float *from, float *to);
void train_gate(struct trainer *t, const struct layer_kept *k, int rows); /* t->wide = silu(gate) up */
void train_norm(struct trainer *t, float *out, const float *x, const float *w, int rows);
int train_report(struct train_pass *p, struct error *err); /* one more layer is done */

/* ---- attention: train_attention.c ---- */
void train_angles(struct trainer *t);
void train_rotate(struct trainer *t, const struct train_batch *b, float *q, float *k, int samples, bool back);
void train_attend(const struct train_pass *p, const struct layer_kept *k, int samples);
void train_attend_back(const struct train_pass *p, const struct layer_kept *k, int samples); /* datt -> dq, dk, dv */

/* ---- losses: train_loss.c ---- */
/* Losses at each exit; with back, gradients too: of the states into t->pull[i], of head and norm into the gradients. */
int train_losses(struct train_pass *p, const struct train_exit *exits, int n, bool back, struct train_result *out, struct error *err);

/* ---- backward: train_backward.c ---- */
int train_backward(struct train_pass *p, const struct train_exit *exits, int n, struct error *err);
void train_norm_back(struct trainer *t, float *dx, const float *x, size_t norm_at, const float *dy, int rows); /* dx += ...; the norm's own gradient too */

/* ---- update: train_update.c ---- */
int train_update(struct trainer *t, const struct train_step *s, double *norm, struct error *err);

static inline size_t row_at(int row, int pad) { return (size_t)row * (size_t)pad; } /* floats before a row */

static inline const float *train_weight(const struct train_pass *p, int layer, enum layer_weight w) { return p->weights + p->t->lay.at[layer].weight[w]; }

/* ---- products of rows with a weight [out][in] ---- */

/* y [rows][out] = x w^T */
static inline struct product product_forward(float *y, const float *x, const float *w, int rows, int in, int out)
{
    return (struct product){.a = x, .b = w, .c = y, .m = rows, .n = out, .k = in, .lda = pad16(in), .ldb = in, .ldc = pad16(out), .turn_b = true};
}

/* dx [rows][in] = or += dy w */
static inline struct product product_back(float *dx, const float *dy, const float *w, int rows, int in, int out, bool add)
{
    return (struct product){.a = dy, .b = w, .c = dx, .m = rows, .n = in, .k = out, .lda = pad16(out), .ldb = in, .ldc = pad16(in), .add = add};
}

/* dw [out][in] += dy^T x */
static inline struct product product_weight(float *dw, const float *dy, const float *x, int rows, int in, int out)
{
    return (struct product){.a = dy, .b = x, .c = dw, .m = out, .n = in, .k = rows, .lda = pad16(out), .ldb = pad16(in), .ldc = in, .turn_a = true, .add = true};
}

#endif
