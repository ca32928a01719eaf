/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's kernels with tensor cores: matrix products of bf16, and attention with its gradient. Sums are f32 and their order follows from the shapes, the room
   given and the kind of GPU alone: the same call gives the same bits. Launches are plain ones on a stream (also one that is being captured). Nothing here checks its
   arguments. All pointers are to device memory and multiples of 16 bytes, unless said otherwise. */
#ifndef BACKEND_CUDA_TRAIN_KERNELS_H
#define BACKEND_CUDA_TRAIN_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Once for each device (the current one), before the first product or attention on it: they take more shared memory than a kernel may without asking. */
cudaError_t train_product_prepare(void);
cudaError_t train_attention_prepare(void);

/* ---- train_product.cu ----
   c [m][n] = a b, or c += a b. a: [m][k], stored [k][m] when turned; b: [k][n], stored [n][k] when turned; rows lie ld elements apart.
     forward   y [rows][out] = x w^T      {m rows, n out, k in,   a x,  b w, turn_b}
     backward  dx [rows][in] = dy w       {m rows, n in,  k out,  a dy, b w}
     weights   dw [out][in] += dy^T x     {m out,  n in,  k rows, a dy, b x, turn_a, c_f32, add}
   All combinations of turn_a, turn_b, c_f32 work. m, n, k are any numbers (0: m or n: nothing is done; k: c = 0, or stays). lda, ldb: multiples of 8, whatever lies
   behind a row's end is not used. ldc: a multiple of 2, faster by 8; nothing behind the n columns of c is written. c must not overlap a, b or room. */
struct train_product {
    int m, n, k;
    const void *a, *b;  /* bf16 */
    int lda, ldb;
    bool turn_a, turn_b;
    void *c;            /* bf16, or f32 with c_f32 */
    int ldc;
    bool c_f32;
    bool add;           /* c += a b; only with c_f32 */
    float *room;        /* for partial sums over parts of k, summed in order by a second kernel; or NULL */
    size_t room_bytes;  /* of room; with less than TRAIN_ROOM_MOST there may be fewer parts: slower, and other bits; 0 always works */
};

#define TRAIN_ROOM_MOST ((size_t)128 << 20) /* more room is never of use */
cudaError_t train_product(cudaStream_t s, const struct train_product *p);

/* ---- train_attention.cu ----
   `samples` sequences of `length` rows, one behind the other: row = sample * length + position. Causal: position i sees positions start[i] .. i of its sample.
   Query head h sees KV head h / (n_heads / n_kv_heads). head_dim: 16 .. 128, a multiple of 8. Rows are dense: q_dim = n_heads * head_dim, kv_dim = n_kv_heads *
   head_dim elements. q and k are rotated already; dq and dk are gradients of the rotated ones. */
struct train_attention {
    int samples, length;
    int n_heads, n_kv_heads, head_dim;
    float scale;            /* of scores: 1 / sqrt(head_dim) */
    const int32_t *start;   /* [samples][length], aligned to 4 bytes: the first position that this one sees, 0 .. its own; or NULL: 0 everywhere */
    const int32_t *sample;  /* [samples], aligned to 4 bytes: sample i takes the start of row sample[i] of `start` ([sample[i]][length]); or NULL: of row i */
    const void *q, *k, *v;  /* bf16 [rows][q_dim], [rows][kv_dim], [rows][kv_dim] */
    void *out;              /* bf16 [rows][q_dim]: forward writes it, backward reads it */
    float *stat;            /* [rows][n_heads], the same: natural logarithm of the sum of exp(scale * score) over what a row sees */
    /* backward alone */
    const void *d_out;      /* bf16 [rows][q_dim] */
    float *delta;           /* [rows][n_heads]: scratch; sum of d_out * out */
    void *dq, *dk, *dv;     /* bf16, shaped as q, k, v: written, not added to; none may be an input of the call */
};

cudaError_t train_attention_forward(cudaStream_t s, const struct train_attention *a);  /* out, stat */
cudaError_t train_attention_backward(cudaStream_t s, const struct train_attention *a); /* delta, dq, dk, dv: three kernels */

#ifdef __cplusplus
}
#endif

#endif
