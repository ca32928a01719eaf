/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the CUDA trainer share. A step goes as the CPU's (backend/cpu/trainer.h): residual states 0..L forward, losses and their gradients at the exits by
   chunks of rows, layers backward. Residual states and their gradients are f32; what goes in and out of products is bf16, weights too: f32 masters are what the step
   changes. Everything is queued on one stream; the host waits once in `backward`, `evaluate` and `update`, at the end. */
#ifndef BACKEND_CUDA_TRAINER_H
#define BACKEND_CUDA_TRAINER_H

#include "backend/cuda/cuda.h"
#include "backend/cuda/train_kernels.h"
#include "backend/cuda/train_rows.h"
#include "backend/train_layout.h"

enum { TOTALS_MOST = 1024 }; /* exits of one call */

/* What a layer keeps for the way back; M: rows that went through it. */
struct layer_kept {
    uint16_t *in, *ffn_in; /* [M][hidden]: normed inputs of its halves */
    uint16_t *q, *k, *v;   /* [M][q_dim], [M][kv_dim]: rotated q and k */
    float *stat;           /* [M][n_heads] */
    uint16_t *att;         /* [M][q_dim] */
    float *mid;            /* [M][hidden]: the residual behind attention */
    uint16_t *gate;        /* [M][2 ffn]: gate and up, without their biases */
};

/* A chunk of rows at an exit. */
struct chunk_kept {
    uint16_t *normed;             /* [chunk][hidden] */
    float *z, *z_last, *z_anchor; /* [chunk][vocab]; z_anchor: NULL without an anchor */
    uint16_t *dz;                 /* [chunk][vocab] */
    struct train_stat *last, *anchor; /* [chunk] */
    struct train_row_loss *loss;  /* [chunk] */
};

/* Whole numbers that a call needs on the device, in one block; the pinned copy has the same shape. */
struct train_numbers {
    int32_t *token;                /* [rows] */
    int32_t *row, *target;         /* [rows]: places with a target, and the targets there */
    int32_t *start;                /* [rows] */
    int32_t *order, *begin, *segment; /* the embedding's gradient: [rows], [rows + 1], [rows] */
    int32_t *list, *place;         /* [n_layers][batch]: samples that a layer keeps; where among them a sample is, or -1 */
};

struct trainer {
    const struct model *model;
    const struct config *c;
    struct train_options o;
    cudaStream_t stream;
    int max_rows, max_exits, chunk; /* batch * length; exits; rows whose logits are held at once */
    int q_dim, kv_dim, qkv_dim, hidden_pad, ffn_pad, gate_pad, vocab_pad;
    float *inv_freq; /* [head_dim / 2], on the host */

    struct train_layout lay;

    /* on the device */
    float *weight, *gradient, *moment1, *moment2; /* [n_weights] */
    uint16_t *half;           /* [n_matrices]: the weights rounded */
    uint16_t *anchor;         /* [n_matrices], or NULL: weights as they were opened */
    float *anchor_vector;     /* [n_weights - n_matrices] */
    float **state;            /* [n_layers + 1]: [rows][hidden], the residual stream before each layer and behind the last */
    float *anchor_state;      /* [rows][hidden], or NULL */
    float **pull;             /* [max_exits]: [rows][hidden], an exit's gradient of its state */
    float *dx;                /* [rows][hidden] */
    struct layer_kept *kept;  /* [n_layers], all the same with recompute */
    uint16_t *dy;             /* [rows][hidden]: dx of a layer's rows, rounded */
    uint16_t *y;              /* [rows][hidden]: what a product adds to the residual; the gradient of normed rows */
    uint16_t *qkv;            /* [rows][qkv_dim]: before rotation; their gradients */
    uint16_t *wide;           /* [rows][ffn] */
    uint16_t *datt, *dq, *dk, *dv; /* [rows][q_dim], [rows][kv_dim] */
    float *delta;             /* [rows][n_heads] */
    float *angle;             /* [length][head_dim / 2][2] */
    float *partial;           /* sums of columns, by blocks of rows */
    float *room;              /* TRAIN_ROOM_MOST bytes */
    double *square;           /* [update blocks] */
    struct train_decision *decision;
    struct train_total *total; /* [TOTALS_MOST] */
    struct chunk_kept at_exit;
    struct train_numbers numbers;

    struct {                  /* pinned */
        struct train_numbers numbers;
        struct train_total *total; /* [TOTALS_MOST] */
        struct train_decision *decision;
        float *staging;       /* a piece of a tensor on its way */
        uint8_t *memory;
        uint64_t bytes;
    } host;
    int *n_kept;              /* [n_layers]: samples that go through a layer in this call */
    int *counts;              /* [vocab + 1]: of tokens */

    uint8_t *memory;          /* one block of device memory that all of the arrays lie in */
    uint64_t memory_bytes, numbers_bytes;
    struct arena arena;       /* everything small */
};

enum { STAGING_FLOATS = 1 << 22 };

/* Weights of a pass: the trained ones or the anchor's. */
struct train_weights {
    const uint16_t *matrix; /* [n_matrices] */
    const float *vector;    /* [n_weights - n_matrices] */
};

/* One forward pass: which weights, and which rows. */
struct train_pass {
    struct trainer *t;
    struct train_weights weights;
    const struct train_batch *b;
    bool drops; /* layers pass samples over, as numbers.list and n_kept say; else all go through all */
    int segments, targets; /* distinct tokens; places with a target */
    uint64_t done, total; /* progress, in layers */
};

extern const struct train_ops cuda_train;

/* ---- layout: train_layout.c ---- */
int cuda_train_lay_out(struct trainer *t, const struct model *m, const struct train_options *o, struct train_plan *plan, struct error *err); /* sizes and tensor table */
void cuda_train_place(struct trainer *t, uint8_t *device, uint8_t *pinned); /* pointers into memory, as sized before */

/* ---- forward: train_forward.c ---- */
int cuda_train_prepare(struct train_pass *p, bool back, struct error *err); /* the batch to the device */
int cuda_train_forward(struct train_pass *p, int depth, struct error *err); /* states 0 .. depth */
int cuda_train_again(const struct train_pass *p, int layer, struct error *err); /* a layer's activations from its state, as far as the way back needs them */
int cuda_train_product(struct trainer *t, struct train_product p, struct error *err); /* with the trainer's room */
int cuda_train_report(struct train_pass *p, struct error *err); /* one more layer is done */

/* ---- losses: train_loss.c ---- */
/* Losses at each exit into t->total; with back, gradients too: of the states into t->pull[i], of head and norm into the gradients. */
int cuda_train_losses(struct train_pass *p, const struct train_exit *exits, int n, bool back, struct error *err);
/* Waits for the device, then what came out. */
int cuda_train_results(struct train_pass *p, const struct train_exit *exits, int n, struct train_result *out, struct error *err);

/* ---- backward: train_backward.c ---- */
int cuda_train_backward(struct train_pass *p, const struct train_exit *exits, int n, struct error *err);
/* n completed: sizes, eps, partial. dx += ..., and the norm's own gradient at norm_at. */
int cuda_train_norm_gradient(struct trainer *t, struct train_norm_back n, size_t norm_at, struct error *err);

/* ---- update: train_update.c ---- */
int cuda_train_fit_items(struct trainer *t, int first, int n, struct error *err); /* o.fit: halves of tensors first .. first + n - 1, in the stream */
int cuda_train_update(struct trainer *t, const struct train_step *s, double *norm, struct error *err);

static inline int pad8(int n) { return (n + 7) / 8 * 8; }
static inline size_t row_at(int row, int pad) { return (size_t)row * (size_t)pad; } /* elements before a row */

static inline const uint16_t *train_matrix(const struct train_pass *p, size_t at) { return p->weights.matrix + at; }
static inline const float *train_vector(const struct train_pass *p, size_t at) { return at == NOWHERE ? NULL : p->weights.vector + (at - p->t->lay.n_matrices); }

/* Samples that go through a layer, and maps of them: NULL when those are all. */
static inline int train_samples(const struct train_pass *p, int layer) { return p->drops ? p->t->n_kept[layer] : p->b->n; }
static inline bool train_all(const struct train_pass *p, int layer) { return train_samples(p, layer) == p->b->n; }
static inline const int32_t *train_list(const struct train_pass *p, int layer) { return train_all(p, layer) ? NULL : p->t->numbers.list + (size_t)layer * (size_t)p->b->n; }
static inline const int32_t *train_place(const struct train_pass *p, int layer) { return train_all(p, layer) ? NULL : p->t->numbers.place + (size_t)layer * (size_t)p->b->n; }

/* ---- products of rows with a weight [out][in] ---- */

/* y [rows][out] = x w^T */
static inline struct train_product product_forward(void *y, int y_ld, const uint16_t *x, int x_ld, const uint16_t *w, int rows, int in, int out)
{
    return (struct train_product){.m = rows, .n = out, .k = in, .a = x, .lda = x_ld, .b = w, .ldb = pad8(in), .turn_b = true, .c = y, .ldc = y_ld};
}

/* dx [rows][in] = dy w */
static inline struct train_product product_back(uint16_t *dx, int dx_ld, const uint16_t *dy, int dy_ld, const uint16_t *w, int rows, int in, int out)
{
    return (struct train_product){.m = rows, .n = in, .k = out, .a = dy, .lda = dy_ld, .b = w, .ldb = pad8(in), .c = dx, .ldc = dx_ld};
}

/* dw [out][in] += dy^T x */
static inline struct train_product product_weight(float *dw, const uint16_t *dy, int dy_ld, const uint16_t *x, int x_ld, int rows, int in, int out)
{
    return (struct train_product){.m = out, .n = in, .k = rows, .a = dy, .lda = dy_ld, .turn_a = true, .b = x, .ldb = x_ld, .c = dw, .ldc = pad8(in), .c_f32 = true, .add = true};
}

#endif
