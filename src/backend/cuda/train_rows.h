/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's kernels without tensor cores: what happens to rows between products, losses, the step. Every sum has a fixed order; there are no atomics. Rows of
   activations are `pad` elements apart, a multiple of 8, with zeros behind their end. bf16 is uint16_t here. */
#ifndef BACKEND_CUDA_TRAIN_ROWS_H
#define BACKEND_CUDA_TRAIN_ROWS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TRAIN_HIDDEN_MOST = 8192, /* what a block of the row kernels holds of a residual row */
    TRAIN_UPDATE_BLOCK = 16384, /* floats */
    TRAIN_BIAS_ROWS = 64,     /* that a block adds up for a bias */
    TRAIN_ROWS_MOST = 65535 * TRAIN_BIAS_ROWS /* of a call: those blocks lie along a grid's second dimension */
};

/* ---- train_rows.cu ----
   Maps lead from the rows of a call to those of an array, a sample of `length` rows at a time: row r is row map[r / length] * length + r % length there; none where
   the map is below zero; NULL: row r itself. */

/* state [rows][pad] := rows `token` of the bf16 table */
struct train_embed {
    int rows, pad;
    const int32_t *token;
    const uint16_t *table;
    float *state;
};
cudaError_t cuda_train_embed(cudaStream_t s, const struct train_embed *e);

/* sum = x + y + bias; out := sum; normed := sum / sqrt(mean(sum^2) + eps) * w */
struct train_join {
    int rows, length, hidden, pad;
    float eps;
    const float *x;        /* at x_map; */
    const float *past;     /* where that has none, the sum is this array's row r alone */
    const uint16_t *y;     /* at y_map; or NULL */
    const float *bias;     /* [pad], where there is a y; or NULL */
    const int32_t *x_map, *y_map, *normed_map;
    float *out;            /* row r; or NULL */
    const float *w;        /* [pad] */
    uint16_t *normed;      /* at normed_map; or NULL */
};
cudaError_t cuda_train_join(cudaStream_t s, const struct train_join *j);

/* Heads of q and k, rotated, and of v, apart and dense, from a row that has them side by side; and their gradients back into such rows. */
struct train_heads {
    int rows, length, n_heads, n_kv_heads, head_dim; /* head_dim: a multiple of 8 */
    uint16_t *qkv;         /* [rows][(n_heads + 2 n_kv_heads) head_dim] */
    const float *bias;     /* as wide as such a row; or NULL. Not used on the way back. */
    const float *angle;    /* [length][head_dim / 2][2]: cosine, sine */
    uint16_t *q, *k, *v;
    bool back;
};
cudaError_t cuda_train_heads(cudaStream_t s, const struct train_heads *h);

/* wide := silu(gate) up; back: wide holds the gradient of that, both become their gradients, and wide what it was forward. */
struct train_gate {
    int rows, ffn, pad, wide_pad;
    uint16_t *both;        /* [rows][pad]: gate, from column ffn on up; without their biases */
    const float *bias;     /* [2 ffn], or NULL */
    uint16_t *wide;        /* [rows][wide_pad] */
    bool back;
};
cudaError_t cuda_train_gate(cudaStream_t s, const struct train_gate *g);

/* dx += pull + the gradient of x / sqrt(mean(x^2) + eps) * w for dy; half := dx; partial [blocks][pad]: sums for w's gradient, one row a block */
struct train_norm_back {
    int rows, length, hidden, pad;
    float eps;
    float *dx;             /* at dx_map */
    const float *pull;     /* row r; or NULL */
    const float *x;        /* at x_map */
    const float *w;        /* [pad] */
    const uint16_t *dy;    /* at dy_map: none there, nothing comes from the norm; NULL: from no row, then x, w and partial are not used */
    uint16_t *half;        /* at half_map; or NULL */
    const int32_t *dx_map, *x_map, *dy_map, *half_map;
    float *partial;
};
cudaError_t cuda_train_norm_back(cudaStream_t s, const struct train_norm_back *n);

static inline int train_norm_warps(int pad) { return pad / 4 <= 64 ? 2 : pad / 4 >= 256 ? 8 : (pad / 4 + 31) / 32; }
static inline int train_norm_blocks(int rows, int pad) { return (rows + 4 * train_norm_warps(pad) - 1) / (4 * train_norm_warps(pad)); }

/* partial [blocks of TRAIN_BIAS_ROWS rows][pad] := sums of columns of dy [rows][pad] */
cudaError_t cuda_train_columns(cudaStream_t s, float *partial, const uint16_t *dy, int rows, int pad);
/* out [n] += sum over the blocks, in order within each of 32 strides, these in order */
cudaError_t cuda_train_add_up(cudaStream_t s, float *out, const float *partial, int blocks, int n, int pad);

/* gradient [token][pad] += the rows of dx with that token, in order: segment i is of token[i] and has order[begin[i] .. begin[i + 1]). */
struct train_embed_back {
    int segments, pad;
    const int32_t *token, *begin, *order;
    const float *dx;
    float *gradient;
};
cudaError_t cuda_train_embed_back(cudaStream_t s, const struct train_embed_back *e);

cudaError_t cuda_train_halve(cudaStream_t s, uint16_t *out, const float *in, size_t n); /* rounds to bf16; n: a multiple of 4, as is in's place */

/* ---- the step, in train_step.cu; n: a multiple of TRAIN_UPDATE_BLOCK ---- */
struct train_decision {
    double norm;           /* of the divided gradients */
    float scale;           /* what gradients are multiplied with: 1 / divide, and clipping */
    int32_t go;            /* 0: the norm is not finite */
};
cudaError_t cuda_train_squares(cudaStream_t s, double *partial, const float *gradient, size_t n); /* [n / TRAIN_UPDATE_BLOCK] */
cudaError_t cuda_train_decide(cudaStream_t s, struct train_decision *out, const double *partial, int blocks, double divide, double clip);

/* AdamW as backend/cpu/train_rows.h has it, but for the gradients' scale, which the device knows. */
struct train_adam {
    float old1, new1, old2, new2, keep, rate, root, eps;
    float *weight, *gradient, *moment1, *moment2;
    uint16_t *half;        /* the matrices in bf16 */
    size_t n, n_matrices;  /* what lies behind the matrices does not decay */
    const struct train_decision *decision;
};
/* A matrix as a pass sees it: rounded to `type` (enum dtype: Q8_0, Q4_0 or Q4_1) as dtype_from_f32 does, then to bf16. cols: a multiple of 32. */
cudaError_t cuda_train_fit(cudaStream_t s, int type, uint16_t *out, const float *in, int64_t rows, int cols, int ld);
cudaError_t cuda_train_adam(cudaStream_t s, const struct train_adam *a);

/* ---- train_loss.cu: logits z [rows][pad] f32 ---- */
struct train_stat {
    double lse;            /* log of the sum of all exponentials */
    float max, scale;      /* scale: 1 / sum of exp(z - max) */
    int32_t best;          /* lowest of the most likely tokens */
    int32_t finite;
};
cudaError_t cuda_train_describe(cudaStream_t s, struct train_stat *out, const float *z, int rows, int vocab, int pad);

struct train_row_loss {
    double ce, kl, accept, anchor;
    int32_t agree, finite;
};

/* What an exit loses at rows with logits z, and the gradient of its logits. */
struct train_lose {
    int rows, vocab, pad;
    const float *z, *z_last, *z_anchor;   /* references: NULL where they are not asked for */
    const struct train_stat *last, *anchor; /* [rows] */
    const int32_t *target;                /* [rows] */
    double share;                         /* of a row */
    float ce, kl, accept, anchor_weight;
    struct train_row_loss *loss;          /* [rows] */
    uint16_t *dz;                         /* [rows][pad]; or NULL */
};
cudaError_t cuda_train_lose(cudaStream_t s, const struct train_lose *l);

struct train_total {
    double ce, kl, accept, anchor;
    int64_t agree, bad;    /* bad: 1 + the first place in the batch whose loss is not finite */
};
/* total += the rows' losses; row [rows]: their places in the batch, ascending */
cudaError_t cuda_train_total(cudaStream_t s, struct train_total *total, const struct train_row_loss *loss, const int32_t *row, int rows);

#ifdef __cplusplus
}
#endif

#endif
