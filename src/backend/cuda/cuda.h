/* SPDX-License-Identifier: Apache-2.0 */
/* What the host files of the CUDA backend share. C; the kernels are behind kernels.h and prefill.h. */
#ifndef BACKEND_CUDA_CUDA_H
#define BACKEND_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "backend/cuda/kernels.h"
#include "backend/pages.h"
#include "base/arena.h"

/* Every CUDA call goes through here: what failed becomes an error that says what to do, and a counter can make any call fail (cuda_fail_at). */
#define CUDA_TRY(err, call) (cuda_fault() ? cuda_error((err), cudaErrorUnknown, #call) : cuda_result((err), (call), #call))
bool cuda_fault(void);
int cuda_error(struct error *err, cudaError_t e, const char *call);
static inline int cuda_result(struct error *err, cudaError_t e, const char *call) { return e == cudaSuccess ? 0 : cuda_error(err, e, call); }
void cuda_fail_at(long call); /* the call with that number from now on (0: the next) fails; below zero: none */
long cuda_calls(void);        /* so far */

/* Device memory that a device or a kv owns: freed together. bytes: rounded up to 256. zero: cleared. */
struct cuda_memory {
    void *block[1024];
    int n;
    uint64_t bytes;
};
void *cuda_take(struct cuda_memory *m, uint64_t bytes, bool zero, const char *what, struct error *err); /* out of memory names needed and free bytes, and what helps */
void cuda_give_back(struct cuda_memory *m);

struct cuda_layer {
    struct packed qkv[3];      /* n_qkv = 1: all heads of q, k, v in one; 3: apart (their kinds differ) */
    struct packed gate[2];     /* n_gate = 1: gate and up in one (ROWS_GATE); 2: apart (ROWS_PLAIN) */
    struct packed o, down;
    int n_qkv, n_gate;
    float *attn_norm, *ffn_norm;                       /* [state_stride], zero padding */
    float *qkv_bias[3], *gate_bias[2], *o_bias, *down_bias; /* in packed row order [16 tiles], or NULL */
    uint64_t bytes;            /* that a pass reads */
};

struct device {
    const struct model *model;
    const struct config *c;
    struct device_options o;
    int ordinal;
    struct cudaDeviceProp prop;
    cudaStream_t stream;
    struct packed embed, head; /* head.data == embed.data when tied */
    struct packed draft_head;  /* the head's rows of the draft tokens; data NULL where there are none */
    int32_t *draft_token;      /* [draft_head.rows] which they are, ascending */
    float *norm;               /* [state_stride] */
    float *inv_freq;           /* [head_dim / 2] */
    struct cuda_layer *layer;  /* [n_layers] */
    int state_stride;          /* hidden rounded up to 16 */
    int n_square;              /* state_stride / 16 */
    int head_pad;              /* head_dim rounded up to 8 */
    int x_f32;                 /* --compute f32: activations f32 throughout */
    struct cuda_memory memory;
    struct arena arena;        /* host */
};

/* What a graph of kernels does, for so many rows (exactly up to 8, then 16, 32 or 64). */
enum pass_kind {
    PASS_LAYERS, /* [first, last) */
    PASS_PICK,   /* head and choice */
    PASS_LOGITS, /* the head alone */
    PASS_BOTH,   /* layers, then head and choice at the same rows */
    PASS_DRAFT   /* `steps` times layers [0, last), head and choice, each with its own struct step */
};

struct pass {
    enum pass_kind kind;
    int first, last, rows, steps;
    bool draft; /* with the head of the draft tokens */
    bool edited; /* some of its rows have edits or a mask */
};

struct pass_graph {
    struct pass pass;
    uint64_t used;
    cudaGraphExec_t exec;
};
enum { GRAPHS_MAX = 48, STEP_RING = 64, STEPS_MAX = 33 };

struct kv {
    struct device *d;
    struct pages pages;        /* bookkeeping on the host */
    struct kv_shape shape;
    int32_t *table;            /* on the device: [n_seqs][pages_per_seq] */
    bool *table_stale;         /* [n_seqs]: rows to upload */
    float *state;              /* [n_hidden][state_stride] */
    void *x_hidden, *x_heads, *x_ffn; /* activations: [units][64][32] */
    int hidden_units, heads_units, ffn_units;
    float *q;                  /* [64][n_heads][head_pad] */
    float *angle;              /* [n_slots][head_dim / 2][2] */
    float *square;             /* [64][n_square] */
    float *scale;              /* [64] */
    float *part;               /* attention */
    int max_chunks;
    float *gate;               /* [64][ffn rounded up to 16]: gates of layers whose gate is packed apart from up */
    float *logits, *tile_max;  /* [64][logits_stride], [64][tiles] */
    int logits_stride;
    float *edited;             /* [64][logits_stride] logits as requests change them */
    struct raw *raw;           /* [64] */
    struct edit *edits;        /* [logits_stride] of the rows of a call, on the device */
    uint32_t *allow;           /* [64][logits_stride / 32, rounded up] */
    struct pick *picks;        /* [STEPS_MAX][64] on the device */
    struct pick *picks_pinned; /* [STEPS_MAX * 64] */
    struct step *step;         /* [STEPS_MAX] on the device */
    struct step *ring;         /* [STEP_RING], pinned; entries from ring_at on are free, those before are on their way */
    int ring_at;
    struct {
        int first, last;
        struct step *step;     /* of the ring; NULL: none. Filled when it was asked for: pages may have other owners by the time it starts */
    } pending;                 /* the last pass that was asked for: not yet started, since a pick at its rows joins it */
    struct pass_graph graph[GRAPHS_MAX];
    int n_graphs;
    uint64_t clock, bytes_read, waits; /* waits: times the host waited for the device */
    int32_t *moves;            /* [64][4] on the device */
    struct cuda_memory memory;
    struct arena arena;        /* host */
    struct prefill *prefill;   /* or NULL: this device prefills with the decode kernels */
};

/* ---- cuda.c ---- */
int cuda_usable(int ordinal, struct error *err); /* is there such a device, and new enough */

/* ---- load.c ---- */
int cuda_plan(const struct model *m, const struct device_options *o, struct device_plan *out, struct error *err);
int cuda_load(struct device *d, struct error *err);

/* ---- kv.c ---- */
uint64_t cuda_kv_bytes(const struct model *m, const struct device_options *o);
uint64_t cuda_scratch_bytes(const struct model *m, const struct device_options *o);
struct kv *cuda_kv_open(struct device *d, struct error *err);
void cuda_kv_close(struct kv *kv);
int cuda_seq_share(struct kv *kv, int from, int to, int n_slots, struct error *err);
int cuda_kv_move(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err);
/* The rows' slots get pages of their own; stale parts of the page table go to the device. */
int cuda_kv_reserve(struct kv *kv, const struct row *rows, int n, struct error *err);

/* ---- step.c: what is told to the device before a pass, and passes as graphs ---- */
struct step *cuda_take_steps(struct kv *kv, int n, struct error *err); /* n neighbouring entries of the ring, or NULL */
void cuda_fill_step(const struct kv *kv, struct step *s, const struct row *rows, const struct ask *asks, int n); /* asks may be NULL */
void cuda_fill_asks(struct step *s, const struct ask *asks); /* for as many rows as the step has */
int cuda_send_edits(struct kv *kv, const struct ask *asks, int n, struct error *err); /* edits and masks, to where cuda_fill_asks says that they are */
static inline int cuda_words(const struct kv *kv) { return (kv->logits_stride + 31) / 32; }
void cuda_group_rows(struct step *s); /* from s->n and s->row: its groups and its order */
int cuda_send_steps(struct kv *kv, const struct step *s, int n, struct error *err); /* to kv->step[0 .. n) */
int cuda_step(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct error *err); /* all three for one step */
/* The pass, recorded when it is first wanted by `record`, whose kernels go to the stream. p->rows: any number; p is completed. */
int cuda_run_pass(struct kv *kv, struct pass p, int (*record)(struct kv *kv, const struct pass *p, struct error *err), struct error *err);
int cuda_wait(struct kv *kv, struct error *err); /* until the device is done */
static inline int cuda_pass_rows(int n) { return n <= 8 ? n : n <= 16 ? 16 : n <= 32 ? 32 : 64; }
static inline int cuda_bucket(int rows) { return rows <= 8 ? 8 : rows; }

/* ---- forward.c ---- */
int cuda_flush(struct kv *kv, struct error *err); /* starts what is pending: before anything else that uses the device's state */
int cuda_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err);

/* the head: the hidden states stay as they are */
int cuda_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err);
int cuda_draft(struct kv *kv, int last, const struct row *rows, const struct ask *asks, const int *count, int steps, struct pick *picks, struct error *err);
int cuda_logits(struct kv *kv, const struct row *rows, int n, float *out, struct error *err);

/* ---- prefill.c: prompt positions, many rows at once; every row's bits depend on its own past alone ---- */
int cuda_prefill_open(struct kv *kv, struct error *err); /* leaves kv->prefill NULL where the device has no kernels for it */
void cuda_prefill_close(struct kv *kv);
uint64_t cuda_prefill_bytes(const struct model *m, const struct device_options *o);
/* Layers [0, last) for n rows (any number) of one timeline, in order of position, each seeing all slots before its own; hidden states are not kept. */
int cuda_prefill(struct kv *kv, int last, const struct row *rows, int n, struct error *err);

#endif
