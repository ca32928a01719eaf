/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels as host code starts them. Each launch goes to a stream, also while that is being captured into a graph; `chain`: this kernel may start while the one
   before it in the stream still runs (programmatic dependent launch): every kernel lets its successor start at once and itself waits for its predecessor before it
   reads or writes anything that others do. Nothing here checks its arguments. Each returns the launch's own error. */
#ifndef BACKEND_CUDA_KERNELS_H
#define BACKEND_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "backend/cuda/layout.h"
#include "backend/pick.h"

#ifdef __cplusplus
extern "C" {
#endif

struct launch {
    cudaStream_t stream;
    bool chain;
};

/* ---- matmul.cu: rows times packed weights ----
   Activations x: [cols / 32, rounded up to whole units][bucket][32], bf16, or f32 with x_f32; bucket: 8, 16, 32 or 64 rows, of which step->n are there.
   Norms are applied around the product: x is hidden * norm weight without the norm's scalar, which is 1 / sqrt(mean of squares + eps) of the row and multiplies
   the product; the squares come as sums of 16: square [bucket][n_square]. Blocks for more than SQUARES_ROWS rows would read too much of them: cuda_scales goes before. */
enum { SQUARES_ROWS = 16 };

enum epilogue {
    EPI_HEADS,    /* q, k or v: scalar, bias, rotary (q, k), to q and to the KV pages */
    EPI_ADD,      /* state += product + bias; then, if next_norm: x_out = state * next_norm and its squares */
    EPI_GATE,     /* ROWS_GATE: x_out = silu(scalar gate + bias) * (scalar up + bias) */
    EPI_STORE,    /* gate alone (plain rows), when gate and up are packed apart: f32 to out[row][out_stride], scalar and bias applied */
    EPI_GATE_UP,  /* then up alone: x_out = silu(out) * (scalar up + bias) */
    EPI_LOGITS    /* out[row][out_stride] = scalar product, and the largest of each tile */
};

struct product {
    struct packed w;
    int epilogue;
    int bucket, rows;        /* rows of x that are read: up to 8 exactly as many as there are, then the whole bucket (what lies behind step->n is never stored) */
    const struct step *step;
    const void *x;
    const float *square;     /* or NULL: no scalar */
    const float *scale;      /* [bucket]: the scalars, where there are squares of more than SQUARES_ROWS rows */
    int n_square;
    float square_scale, eps; /* 1 / hidden; the norm's epsilon */
    const float *bias;       /* in the order of packed rows, padded like them; or NULL */
    /* EPI_HEADS */
    int head0, n_heads;      /* q, k, v in one matrix: tiles go to q, k, v by head; w starts at head head0 of n_heads + 2 n_kv_heads */
    int layer;
    const float *angle;      /* [positions][head_dim / 2][2]: cosine, sine */
    float *q;                /* [bucket][n_heads][head_pad] */
    struct kv_shape kv;
    /* EPI_ADD */
    float *state;            /* the hidden states [n_hidden][state_stride], by step->row[].h */
    int state_stride;
    const float *next_norm;  /* [state_stride] or NULL: nobody needs x_out */
    float *square_out;       /* [bucket][n_square_out] */
    int n_square_out;
    /* EPI_ADD, EPI_GATE, EPI_GATE_UP: x of the next product */
    void *x_out;
    int x_out_units;         /* EPI_GATE*: units of 32 columns; those behind the last output are filled with zeros. EPI_ADD leaves them as begin wrote them */
    int x_f32;               /* f32, else bf16: both x and x_out */
    /* EPI_STORE, EPI_GATE_UP, EPI_LOGITS */
    float *out;
    int out_stride;
    float *tile_max;         /* EPI_LOGITS: [bucket][tiles]; a NaN counts as +infinity */
};

cudaError_t cuda_product_prepare(void); /* once for each device, before the first product */
cudaError_t cuda_product(struct launch l, const struct product *p);

/* ---- rows.cu ---- */
/* The norms' scalars of a bucket of rows. */
struct scales {
    int bucket;
    const float *square; /* [bucket][n_square] */
    int n_square;
    float square_scale, eps;
    float *scale; /* [bucket] */
};
cudaError_t cuda_scales(struct launch l, const struct scales *s);

/* The first kernel of a pass: states from the embedding (embed.data != NULL) or as they stand; x = state * norm, squares. */
struct begin {
    const struct step *step;
    int bucket;
    struct packed embed;      /* data NULL: continue from hidden */
    const struct pick *picks; /* of the previous pick, for tokens below zero */
    float *state;             /* the hidden states [n_hidden][state_stride] */
    int state_stride, hidden; /* hidden: columns of a state */
    const float *norm;
    void *x;
    int x_units;              /* units of 32 columns to write, zeros behind `hidden` */
    int x_f32;
    float *square;            /* [bucket][n_square] */
    int n_square;
};
cudaError_t cuda_begin(struct launch l, const struct begin *b);

/* Rotary angles of positions 0 .. n-1 as transformers has them: angle [n][half][2], cosine and sine; inv_freq [half]. */
cudaError_t cuda_angles(struct launch l, float *angle, const float *inv_freq, int n, int half);

/* KV slots of one timeline moved: slot dst + i := slot src[i]; pairs of (page, at) on the device, in order. */
cudaError_t cuda_move_slots(struct launch l, struct kv_shape kv, const int32_t *moves, int n); /* moves [n][4]: to page, to at, from page, from at */

/* ---- attention.cu: rows of a pass against their timelines' pages ---- */
struct attend {
    const struct step *step;
    int bucket, rows, layer; /* rows: at least step->n */
    struct kv_shape kv;
    const float *q;      /* [bucket][n_heads][head_pad], rotated */
    float scale;         /* 1 / sqrt(head_dim) */
    float *part;         /* [bucket][n_heads][max_chunks][head_pad + 2]: sum of exp(score - maximum) * V, then that maximum, then the sum of exp */
    int max_chunks;
    void *x_out;         /* [units][bucket][32]: heads side by side without padding */
    int x_units, x_f32;
};
cudaError_t cuda_attend(struct launch l, const struct attend *a); /* parts, then their join: two kernels */
cudaError_t cuda_attend_tensor(struct launch l, const struct attend *a); /* attention_tensor.cu: the parts alone, of bf16 pages */

/* ---- choose.cu ---- */

/* What a row's log-probabilities are made of. */
struct raw {
    float max;
    uint64_t mass;
};

struct choose {
    const struct step *step;
    int bucket;
    const float *logits;   /* [bucket][stride]; stride a multiple of 4 */
    int stride, vocab;
    const int32_t *ids;    /* [vocab] the tokens that the logits are of, ascending; NULL: logit i of token i */
    const float *tile_max; /* [bucket][tiles of 16 logits] */
    struct pick *picks;    /* [bucket] */
    /* Where some row of the call is edited, the choice goes in two: over the logits as they are, which gives all but token and conf, then over the edited ones, which gives these. */
    struct raw *raw;         /* [bucket] written by the first, read by the second; NULL: one choice for all */
    const float *raw_logits; /* [bucket][stride] NULL in the first */
};
cudaError_t cuda_choose(struct launch l, const struct choose *c);

/* ---- edit.cu: logits as requests change them (pick_edit), for all rows of a call ---- */
struct edit_rows {
    const struct step *step;
    int bucket;
    const float *logits;      /* [bucket][stride] */
    float *edited;            /* likewise */
    int stride, vocab;
    const int32_t *ids;       /* as in struct choose */
    const struct edit *edits; /* of all rows, by step->ask[].first_edit */
    const uint32_t *allow;    /* [bucket][words] */
    int words;
    float *tile_max;          /* [bucket][tiles] of the edited ones */
};
cudaError_t cuda_edit(struct launch l, const struct edit_rows *e);

/* ---- pack.cu: source rows on the device to packed weights ----
   src: n_rows whole rows from row `row0` of the source on, in the file's type (enum dtype), already in half-split order. `up`: they go to the second half of the
   tiles of ROWS_GATE; calls for the two halves must not overlap in time, they share words. row0 and n_rows are multiples of 16 (ROWS_PLAIN), head_dim (ROWS_HEADS)
   or 8 (ROWS_GATE), but for the last n_rows. Converts to w's kind exactly as dtype_to_f32 and dtype_from_f32 do. tile0: the source's first tile in w (q, k, v in one matrix). */
struct pack {
    struct packed w;
    int map, head_dim, up, tile0;
    int dtype;
    const void *src;
    size_t row_bytes;
    int row0, n_rows;
};
cudaError_t cuda_pack(struct launch l, const struct pack *p);

#ifdef __cplusplus
}
#endif

#endif
