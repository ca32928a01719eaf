/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint in whatever format, written as GGUF with weights of the types asked for. Values are rounded by dtype_from_f32, as loading with weights q8 or q4 does. */
#ifndef MODEL_QUANTIZE_H
#define MODEL_QUANTIZE_H

#include <stdint.h>

#include "base/error.h"

/* What became of the tensors of one kind. */
struct quantize_row {
    const char *kind;      /* "embed", "q", ..., "norms", "biases", "rope"; "total" comes last */
    const char *from, *to; /* types, "mixed" where they are several */
    int tensors;
    uint64_t values, bytes_before, bytes_after;
    double rms_error; /* RMS of the error over RMS of the values; below 0: not measured */
    double max_error; /* of one value */
};

struct quantize_options {
    const char *type;                /* "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", the mixes "q4_k_s" and "q4_k_m" of these two, or "copy": as stored; case does not count */
    const char *embed_type, *output_type; /* of embedding and head; NULL: that of the others, but Q8_0 or Q6_K where it has 4 bits, since they decide every token (of a mix the head) */
    int pure;                        /* non-zero: not even then */
    int allow_requantize;            /* non-zero: from one quantised type to another */
    int force, dry_run;              /* replace files; only report */
    int exit_layer, num_speculations; /* LayerSkip profile to write; 0: the model's own */
    const int64_t *draft_token;       /* [n_draft_tokens] as in struct config; 0: the model's own */
    int n_draft_tokens;
    uint64_t part_bytes;             /* 0: one file */
    int threads;                     /* 0: all */
    const char *const *ignore;       /* as in config_read */
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* or NULL; on the calling thread; non-zero stops with ERR_USAGE */
    void *progress_ud;
    void (*row)(void *ud, const struct quantize_row *row); /* or NULL; once all is written */
    void (*note)(void *ud, const char *line);              /* or NULL; what the user should know */
    void *report_ud;
};

/* out may be NULL in a dry run. Returns how many files there are, or below zero; then none is left. */
int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *err);

#endif
