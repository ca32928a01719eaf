/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint on disk: named, typed, bounds-checked views of its tensors, its metadata under one set of keys, its token table.
   A format maps its own tensor names, row orders and keys to the canonical ones here; nothing after it knows which format the file had. */
#ifndef FORMAT_CHECKPOINT_H
#define FORMAT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/file.h"

/* Canonical tensor names:
     embed [vocab][hidden]   norm [hidden]   head [vocab][hidden] (absent when tied)   rope_factors [head_dim/2] (GGUF's rope_freqs)
     layers.N.attn_norm  .q [heads*head_dim][hidden]  .k .v [kv_heads*head_dim][hidden]  .o [hidden][heads*head_dim]
     layers.N.ffn_norm   .gate .up [ffn][hidden]      .down [hidden][ffn]                and the same with ".bias" behind
   A tensor the format does not know keeps its own name behind "?": the model refuses it by name. */
struct view {
    const char *name;      /* canonical */
    const char *file_name; /* as the file spells it, for messages */
    int shard;             /* index into checkpoint.shard */
    uint64_t offset, bytes; /* in that file; checked against its size */
    enum dtype type;
    int rank;              /* 1 or 2 */
    uint64_t dim[2];       /* rows, columns; rank 1: dim[0] values, dim[1] = 1 */
    int pair_heads;        /* 0, or: rows are stored for adjacent-pair rotary with this many heads, checkpoint_read_rows puts them in half-split order */
};

/* Metadata under the keys of a Hugging Face config.json, nested ones joined by a dot ("rope_scaling.factor"); the GGUF reader translates its own.
   Keys of generation_config.json are prefixed "generation.", keys of tokenizer_config.json "tokenizer.". */
enum meta_type { META_NULL, META_BOOL, META_INT, META_REAL, META_TEXT, META_INTS, META_OTHER };
struct meta {
    const char *key;
    const char *file_key; /* as the file spells it, for messages */
    enum meta_type type;
    int64_t i;           /* BOOL, INT; INTS: how many */
    double real;         /* REAL, and INT as a double */
    const char *text;    /* TEXT; OTHER: a short rendering for messages */
    const int64_t *ints; /* INTS */
    struct {
        uint64_t offset, bytes;
    } pair;              /* where key and value lie in the first shard; bytes 0: nowhere, or in another format than GGUF */
};

/* The vocabulary where the file itself carries it (GGUF); n == 0: look into dir for tokenizer.json or tokenizer.model. */
struct token_table {
    const char *model, *pre;      /* "llama" or "gpt2"; the pre-tokeniser's name or NULL */
    int n;
    const struct bytes *text;     /* [n] */
    const float *score;           /* [n] or NULL */
    const int32_t *type;          /* [n] or NULL: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte */
    int n_merges;
    const struct bytes *merge;    /* [n_merges] "left right" */
    int32_t bos, eos, unk;        /* -1: absent */
    int add_bos, add_eos, add_space_prefix; /* -1: not said */
};

struct format;
struct checkpoint {
    const struct format *format;
    char *path;          /* as opened */
    char *dir;           /* the folder that holds tokenizer files, or NULL */
    int n_shards;
    struct file *shard;
    int n_views;
    struct view *view;   /* sorted by name */
    int n_meta;
    struct meta *meta;   /* sorted by key */
    struct token_table tokens;
    const char *chat_template; /* or NULL */
    struct arena arena;  /* owns all of the above but the files */
};

struct format {
    const char *name;                                  /* "safetensors", "gguf" */
    bool (*probe)(const char *path, struct bytes head); /* looks at the first bytes (of a file) or at what is in the folder (head.p == NULL) */
    int (*open)(struct checkpoint *out, const char *path, struct error *err); /* out is zeroed; on failure the caller calls checkpoint_close */
};

/* path: a Hugging Face folder, a .safetensors or .gguf file (content decides, never the name). Caller closes; on failure NULL, nothing is held. */
struct checkpoint *checkpoint_open(const char *path, struct error *err);
void checkpoint_close(struct checkpoint *c);

const struct view *checkpoint_find(const struct checkpoint *c, const char *name); /* NULL: not there */
const struct meta *checkpoint_meta(const struct checkpoint *c, const char *key);  /* NULL: not there */

/* Rows [row, row + n) of a tensor in the file's own type, rows in canonical order: n * dtype_row_bytes bytes to out. Thread-safe. */
int checkpoint_read_rows(const struct checkpoint *c, const struct view *v, uint64_t row, uint64_t n, void *out, struct error *err);

uint64_t view_row_bytes(const struct view *v);
uint64_t checkpoint_weight_bytes(const struct checkpoint *c); /* all tensors as stored */

#endif
