/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the CPU backend share. */
#ifndef BACKEND_CPU_CPU_H
#define BACKEND_CPU_CPU_H

#include "backend/backend.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/ops.h"
#include "backend/pages.h"
#include "base/arena.h"
#include "base/half.h"
#include "base/pool.h"

enum { PICK_ROWS = 16 }; /* rows whose logits are held at once */

struct cpu_layer {
    struct matrix q, k, v, o, gate, up, down;
    float *attn_norm, *ffn_norm;                                   /* [pad(hidden)] */
    uint64_t bytes;                                                 /* that a pass reads */
    float *q_bias, *k_bias, *v_bias, *o_bias, *gate_bias, *up_bias, *down_bias; /* [pad(rows)] or NULL */
};

struct device {
    const struct model *model;
    const struct config *c;
    struct device_options o;
    const struct kernels *kernels;
    const struct ops *ops;
    struct pool *pool;
    struct matrix embed, head;  /* head.data == embed.data when tied */
    struct matrix draft_head;   /* the head's rows of the draft tokens; no rows where there are none */
    float *norm;                /* [pad(hidden)] */
    float *inv_freq;            /* [head_dim / 2] */
    struct cpu_layer *layer;    /* [n_layers] */
    int hidden_pad, ffn_pad, head_pad, q_dim, kv_dim; /* padded hidden and ffn, head_dim; heads * head_dim, kv_heads * head_dim */
    uint8_t *weights;           /* one block that all matrices lie in */
    size_t weights_bytes;
    struct arena arena;         /* everything small */
};

static inline int pad16(int n) { return (n + 15) / 16 * 16; }

/* The sets of that name, NULL or "auto": the best; ERR_USAGE when there are none. */
int cpu_find_kernels(const char *name, const struct kernels **kernels, const struct ops **ops, struct error *err);

/* ---- load ---- */
int cpu_plan(const struct model *m, const struct device_options *o, struct device_plan *out, struct error *err);
int cpu_load(struct device *d, struct error *err);

/* ---- KV ----
   A page holds KV_PAGE slots: [layer][kv head]{ K [16][head_dim][16], V [256][pad] }. */

/* What one thread found in its slice of a row of logits. */
struct pick_part {
    struct scan raw, scan;   /* of the head's logits; of those that are chosen from, which are the same where nothing is edited */
    uint64_t raw_mass, mass; /* likewise */
    struct histogram bins;
    struct best best;
    int n_listed, n_top;
    struct candidate top[PICK_TOP]; /* logits for log-probabilities, until all parts are joined */
};

struct kv {
    struct device *d;
    size_t element, head_bytes, v_offset, page_bytes; /* of one element, of one head in a page, of K in it, of a page */
    struct pages pages;
    uint8_t *data;       /* [n_pages][page_bytes] */
    float *hidden;       /* [n_hidden][hidden_pad] */
    uint64_t bytes_read;

    /* scratch of one group of up to ROWS_MAX rows */
    uint8_t *op[OPERAND_KINDS]; /* operands; a product's matrices may take different kinds */
    float *x;       /* [ROWS_MAX][x_stride]: what becomes an operand; q before rotation */
    int x_stride;   /* the largest of hidden, q_dim, ffn, padded */
    float *q;       /* [ROWS_MAX][n_heads][head_pad] */
    float *k, *v;   /* [ROWS_MAX][kv_dim padded] */
    float *att;     /* [ROWS_MAX][n_heads][head_pad] */
    float *gate, *up; /* [ROWS_MAX][ffn_pad] */
    float *y;       /* [ROWS_MAX][hidden_pad] */
    float *cs, *sn; /* [ROWS_MAX][head_dim / 2] */
    float *logits;  /* [PICK_ROWS][vocab padded] */
    float *edited;  /* the same with what requests change, where they change something */
    int32_t *list;  /* [PICK_ROWS][vocab padded]: tokens among which a cut lies */
    float *attention; /* [threads][attention_floats] */
    size_t attention_floats;
    struct pick_part *part; /* [threads][PICK_ROWS] */
    struct arena arena;
};

uint64_t cpu_kv_bytes(const struct config *c, const struct device_options *o);
uint64_t cpu_scratch_bytes(const struct config *c, const struct device_options *o, int threads);
struct kv *cpu_kv_open(struct device *d, struct error *err);
void cpu_kv_close(struct kv *kv);
int cpu_seq_open(struct kv *kv, struct error *err);
void cpu_seq_close(struct kv *kv, int seq);
void cpu_seq_trim(struct kv *kv, int seq, int n_slots);
int cpu_seq_share(struct kv *kv, int from, int to, int n_slots, struct error *err);
int cpu_kv_move(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err);

/* K and V of a head at a slot: element strides are LANES for K's dims, 1 for V's. */
static inline uint8_t *kv_head(const struct kv *kv, int page, int layer, int head)
{
    return kv->data + (size_t)page * kv->page_bytes + ((size_t)layer * (size_t)kv->d->c->n_kv_heads + (size_t)head) * kv->head_bytes;
}

/* ---- compute ---- */
int cpu_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err);
int cpu_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err);
int cpu_logits(struct kv *kv, const struct row *rows, int n, float *out, struct error *err);

/* The n-row operand that w takes. A pure view of kv->op: every thread makes its own. */
struct operand cpu_operand(const struct kv *kv, const struct matrix *w, int n);
/* Puts x (f32[w->cols]) as row r into it. */
void cpu_operand_row(const struct kv *kv, const struct matrix *w, int r, const float *x);

#endif
