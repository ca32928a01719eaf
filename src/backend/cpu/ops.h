/* SPDX-License-Identifier: Apache-2.0 */
/* Everything between the products: norm, rotary, attention, gate, and the slices of the choice rule. One text (ops.inc), compiled per instruction set.
   Vectors are padded with zeros to a multiple of 16; `n` below is the padded length unless said otherwise. */
#ifndef BACKEND_CPU_OPS_H
#define BACKEND_CPU_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cpu/cut.h"

/* One KV page holds KV_PAGE slots of every layer and KV head: K as [slot/16][head_dim][slot%16], so that 16 keys are 16 lanes, V as [slot][pad].
   Attention of one row and one KV head. The sum runs over text positions in absolute blocks of KV_PAGE: per block a maximum, lane sums (position % 16) of
   exp(score - maximum) and the V sum in order of position; blocks are joined in ascending order. So its bits depend on nothing but the row's own past. */
struct attention {
    const uint8_t *kv;     /* this layer's and head's K in page 0; its V lies v_offset behind */
    size_t page_bytes, v_offset;
    const int32_t *page;   /* [pages of the timeline] */
    bool f32;              /* element type: f32, else bf16 */
    int head_dim, pad;     /* pad: head_dim rounded up to 16 */
    int n_query;           /* query heads that share this KV head */
    float scale;           /* 1 / sqrt(head_dim) */
    const float *q;        /* [n_query][pad] */
    float *out;            /* [n_query][pad] */
    int32_t pos, slot, prefix;
    uint64_t also;
    float *scratch;        /* [attention_scratch(pad)] of this thread */
};

/* Floats: scores of 4 queries over a page, 16 gathered keys, 4 partial sums. */
static inline size_t attention_scratch(int pad) { return 4 * 256 + 16 * (size_t)pad + 4 * (size_t)pad; }

struct scan {
    float max;    /* the largest logit of the slice */
    int32_t id;   /* lowest id that has it */
    bool finite;  /* no NaN, no +infinity */
};

struct best {
    double key;
    int32_t id;   /* -1: none kept */
};

struct ops {
    const char *name;
    bool (*usable)(void);

    /* out = x / sqrt(mean(x^2) + eps) * w; dim: the unpadded length */
    void (*norm)(float *out, const float *x, const float *w, int n, int dim, float eps);
    void (*add)(float *x, const float *y, int n); /* x += y */
    void (*gate)(float *g, const float *u, int n); /* g = g / (1 + exp(-g)) * u */

    /* Half-split rotary: pair (j, j + head_dim/2) turned by the angle whose cosine and sine are cs[j], sn[j]. */
    void (*rotate)(float *x, const float *cs, const float *sn, int head_dim);

    void (*attend)(const struct attention *a);

    uint32_t (*sum_words)(const uint32_t *p, size_t n); /* n a multiple of 64: reads memory as fast as loads can */

    /* Slices [from, to) of a row of logits. */
    struct scan (*scan)(const float *logits, int from, int to);
    int (*top)(const float *logits, int from, int to, int n, struct candidate *out); /* the n largest (less only when there are less), as in struct pick; logits for log-probabilities */
    uint64_t (*mass)(const float *logits, int from, int to, float max);
    void (*bins)(const float *logits, int from, int to, const struct sampling *s, float max, struct histogram *h); /* of the slice's tokens that have a mass */
    int (*list)(const float *logits, int from, int to, const struct sampling *s, float max, const struct search *c, int32_t *out); /* those in the bins of c; returns how many */
    /* The best x + noise among the kept; ids: the tokens that places in the row stand for, ascending (NULL: place i for token i); at_least: a key that some kept token is known to have (skips most of the work, changes nothing). */
    struct best (*noisy)(const float *logits, int from, int to, const int32_t *ids, const struct sampling *s, int32_t position, float max, struct cut cut, struct best at_least);
};

extern const struct ops *const ops_table[]; /* best first, "plain" last, then NULL */
const struct ops *ops_pick(const char *name); /* as kernels_pick */

/* Start-up self-test: each function on a small input against "plain", bit for bit. NULL when equal, else the name of what differs. */
const char *ops_differ(const struct ops *o);

#endif
