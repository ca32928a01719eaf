/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between decoding and devices. What crosses it is a range of layers, not a tensor operation: early exit is then just the argument list.
   A backend owns weights, KV pages, hidden states and logits; the caller owns policy. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/pick.h"
#include "backend/train.h"
#include "base/error.h"
#include "model/model.h"

/* One token position on its way through the layers. */
struct row {
    int32_t token;  /* read only when the range starts at layer 0 */
    int32_t pos;    /* place in the text: the rotary angle */
    int32_t seq;    /* which timeline */
    int32_t slot;   /* where its K and V live in that timeline; < MAX slots of the kv */
    int32_t prefix; /* it sees every slot below this (there slot == position) ... */
    int32_t h;      /* which hidden-state buffer it lives in between calls; no two rows in flight share one */
    uint64_t also;  /* ... slot prefix + i for each set bit i (ancestors, in order of position), and itself. pos == prefix + popcount(also) */
};

enum { ROWS_MAX = 64, KV_PAGE = 256 }; /* rows in one pass over the weights; slots in a page */

struct device_options {
    const char *weights; /* NULL, "file", "q8", "q4", "bf16" */
    const char *kernels; /* NULL, "auto" or the name of a set */
    bool wide;           /* compute in f32 throughout */
    bool kv_f32;
    int threads;
    int ordinal;         /* which device of its kind */
    int n_slots;         /* slots that one timeline may hold */
    int n_seqs;          /* timelines at once */
    int n_hidden;        /* rows in flight */
    const int32_t *draft_token; /* [n_draft_tokens] ids, ascending: the tokens that drafts are chosen among. Borrowed while the device is open */
    int n_draft_tokens;         /* 0: drafts are chosen among all */
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* or NULL; non-zero stops */
    void *progress_ud;
};

/* What open would take and what a pass reads; computed from headers before anything is allocated. */
struct device_plan {
    uint64_t weights, kv, scratch, hidden_row; /* bytes; hidden_row: of one row in flight (part of scratch) */
    uint64_t layer_bytes, head_bytes;          /* packed bytes that a pass reads (the mean layer) */
    uint64_t draft_head_bytes;                 /* the head of the draft tokens alone: what a draft reads instead (part of weights) */
    const char *weight_type;                   /* of most packed bytes */
    int n_kept;                                /* tensors that the file has quantised otherwise than `weights` wishes: they stay as they are */
    const char *kept_type;                     /* of most of them, or NULL */
    const char *kernels;
    int threads;
};

struct device;
struct kv;

struct backend {
    const char *name;
    int (*plan)(const struct model *m, const struct device_options *o, struct device_plan *out, struct error *err);

    /* Weights go to the device once, read through a bounded staging buffer. Borrows m. */
    struct device *(*open)(const struct model *m, const struct device_options *o, struct error *err);
    void (*close)(struct device *d);

    struct kv *(*kv_open)(struct device *d, struct error *err); /* pages and hidden rows for n_seqs timelines of n_slots */
    void (*kv_close)(struct kv *kv);

    /* A timeline is a list of counted pages. */
    int (*seq_open)(struct kv *kv, struct error *err); /* its number, or below zero */
    void (*seq_close)(struct kv *kv, int seq);
    void (*seq_trim)(struct kv *kv, int seq, int n_slots);                                      /* gives back pages that lie wholly at or behind n_slots */
    int (*seq_share)(struct kv *kv, int from, int to, int n_slots, struct error *err);          /* `to` (trimmed to 0 first) shares from's first slots; copied on write */
    int (*kv_move)(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err); /* slot dst + i := slot src[i]; src ascending, src[i] >= dst + i */

    /* Continues rows that stand at layer `first` up to `last`, writing their K and V on the way; hidden states stay on the device.
       Rows see one another as their prefix and also say. More than ROWS_MAX rows go in groups, in order. The order must put parents first. */
    int (*forward)(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err);

    /* Prompt positions: layers [0, last) for n rows of one timeline, in order of position, each seeing all slots before its own; hidden states are not kept. A position
       that was prefilled may have other bits than one that was decoded: a position's role is part of what the text depends on. NULL: forward serves. */
    int (*prefill)(struct kv *kv, int last, const struct row *rows, int n, struct error *err);

    /* Final norm + head + the choice rule at each row, whatever its depth; asks[i] belongs to rows[i]. The hidden state stays as it is.
       A row whose logits are not finite gets PICK_ODD, one whose edits leave no token PICK_NONE. Where an ask is for a draft and the device has draft tokens, only their rows of the head are multiplied, with the bits
       that the whole head gives: the choice is the rule applied to those logits alone, and the same noise (by token id), candidates and log-probabilities are of them too. */
    int (*pick)(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err);

    /* Optional (NULL: decode loops forward and pick): a chain of exit steps in one go. Step k has count[k] rows (at most ROWS_MAX, and no more than the step before), those
       of all steps one behind the other; each goes through layers [0, last) and is picked at. All asks say the same of `draft`, and none has edits or a mask. A token of -1 - j stands for the pick at row j of the step before. */
    int (*draft)(struct kv *kv, int last, const struct row *rows, const struct ask *asks, const int *count, int steps, struct pick *picks, struct error *err);

    /* The same as numbers: out [n][vocab]. */
    int (*logits)(struct kv *kv, const struct row *rows, int n, float *out, struct error *err);

    /* Weight bytes read since open: what tokens per second are compared with. */
    uint64_t (*bytes_read)(const struct kv *kv);
    uint64_t (*waits)(const struct kv *kv); /* times the host waited for the device; or NULL */

    const struct train_ops *train; /* see train.h; NULL: this backend does not train */
};

/* "cpu", "cuda", "cuda:N"; NULL or "auto": the first GPU if there is one that can be used, else the CPU, and then err tells why. NULL on failure. */
const struct backend *backend_find(const char *device, struct error *err);
int backend_ordinal(const char *device); /* N; 0 where none is given */

#endif
