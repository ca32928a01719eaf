/* SPDX-License-Identifier: Apache-2.0 */
/* Prompt positions, many rows at once, on sm_90a: products by wgmma on the weights as decoding has them, attention over the pages in blocks.

   Row contract: a product's output is one chain of m64n256k16 products over the columns in ascending order, whatever the row's place; attention reads absolute
   blocks of PREFILL_KEYS positions in ascending order, its rows grouped by absolute position (PREFILL_QUERIES); norms are one fixed tree a row. So the bits
   of a position depend on nothing but its own past.

   Activations are stored as shared memory wants them: x [steps][rows][64] bf16, a step being 64 columns, rows a multiple of PREFILL_TILE: one copy moves a stage.
   The 64 values of a row are 8 pieces of 16 bytes; piece p lies at place p ^ (row % 8) (the 128-byte swizzle), and of the columns 8t .. 8t+7 of each 32 (t = 0..3)
   piece 4 (column / 32) + q holds, as its words t, columns 8t + 2q and 8t + 2q + 1: the order of the weights' fragments (layout.h). */
#ifndef BACKEND_CUDA_PREFILL_H
#define BACKEND_CUDA_PREFILL_H

#include <cuda_runtime_api.h>

#include "backend/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PREFILL_ROWS = 2048,   /* most rows of one call */
    PREFILL_TILE = 256,    /* rows of a block of the product */
    PREFILL_STEP = 64,     /* columns of a stage */
    PREFILL_QUERIES = 128, /* rows of a block of attention */
    PREFILL_KEYS = 64
};

#ifdef __CUDACC__
#define PREFILL_BOTH __host__ __device__ static inline
#else
#define PREFILL_BOTH static inline
#endif

PREFILL_BOTH int prefill_steps(int cols) { return (cols + PREFILL_STEP - 1) / PREFILL_STEP; }
PREFILL_BOTH int prefill_stride(int rows) { return (rows + PREFILL_TILE - 1) / PREFILL_TILE * PREFILL_TILE; }

/* Byte of column `col` (even: of a pair) of `row`. */
PREFILL_BOTH size_t prefill_at(int stride, int row, int col)
{
    int k = col % 64, piece = k / 32 * 4 + k % 8 / 2;
    return ((size_t)(col / 64) * (size_t)stride + (size_t)row) * 128 + (size_t)((piece ^ (row & 7)) * 16 + k % 32 / 8 * 4 + (col & 1) * 2);
}

struct prefill_product {
    struct packed w;   /* any kind but PACKED_F32 */
    int epilogue;      /* EPI_HEADS, EPI_ADD, EPI_GATE, EPI_STORE (to gate), EPI_GATE_UP; none applies a norm: x is normalised */
    int n, stride;     /* rows, and rows that x, x_out, angle and gate are made for (prefill_stride) */
    const void *x;     /* [prefill_steps(cols)][stride][64], zeros in columns behind the last */
    const float *bias; /* in the order of packed rows, padded like them; or NULL */
    /* EPI_HEADS */
    int head0, layer, seq, pos0; /* row i is position and slot pos0 + i of timeline seq */
    const float *angle;          /* [head_dim / 2][stride][2]: cosine, sine */
    uint16_t *q;                 /* bf16 [stride][n_heads][head_pad], rotated; its padding is never written */
    struct kv_shape kv;
    /* EPI_ADD */
    float *state;      /* [n][state_stride] */
    int state_stride;
    /* EPI_GATE, EPI_GATE_UP: as x, all columns of its steps; EPI_STORE, EPI_GATE_UP: gates in the order of the kernel's threads, prefill_gate_bytes */
    void *x_out;
    float *gate;
    int clusters;      /* as prefill_prepare says */
};

/* Once for a device: what its kernels may take, and how many pairs of blocks run at once. */
cudaError_t prefill_prepare(int *clusters);
cudaError_t prefill_product(struct launch l, const struct prefill_product *p);
static inline size_t prefill_gate_bytes(int rows, int stride) { return (size_t)(rows + 127) / 128 * 128 * (size_t)stride * 4; }

struct prefill_attend {
    int n, stride, layer, seq, pos0;
    struct kv_shape kv;
    const uint16_t *q; /* bf16 [stride][n_heads][head_pad] */
    float scale;       /* 1 / sqrt(head_dim) */
    void *x_out;       /* [prefill_steps(n_heads * head_dim)][stride][64]; columns behind the last are left as they are */
};
cudaError_t prefill_attend_prepare(void);
cudaError_t prefill_attend(struct launch l, const struct prefill_attend *a);

/* States from the embedding, and the angles of the rows' positions. */
struct prefill_begin {
    int n, stride, pos0, hidden, half, state_stride;
    const int32_t *token; /* [n] */
    struct packed embed;
    const float *inv_freq; /* [half] */
    float *state;          /* [n][state_stride], zeros behind `hidden` */
    float *angle;          /* [half][stride][2] */
};
cudaError_t prefill_begin(struct launch l, const struct prefill_begin *b);

/* x = state / sqrt(mean of squares + eps) * weight */
struct prefill_norm {
    int n, stride, hidden, state_stride;
    float eps;
    const float *state, *weight; /* [state_stride] */
    void *x;                     /* [prefill_steps(hidden)][stride][64], zeros behind `hidden` */
};
cudaError_t prefill_norm(struct launch l, const struct prefill_norm *r);

#ifdef __cplusplus
}
#endif

#endif
