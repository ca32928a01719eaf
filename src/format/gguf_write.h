/* SPDX-License-Identifier: Apache-2.0 */
/* Writes GGUF version 3: one file, or parts NAME-00001-of-0000N.gguf. The layout is known before the first value: any thread may write any part of any
   tensor at any time. */
#ifndef FORMAT_GGUF_WRITE_H
#define FORMAT_GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "format/gguf.h"
#include "format/tensor_out.h"

/* Bytes of a header as they are put together. When memory ran out it stays so, and gguf_plan says it. */
struct gguf_bytes {
    uint8_t *p; /* [cap], owned */
    size_t n, cap;
    uint64_t count; /* keys */
    bool failed;
};
void gguf_free(struct gguf_bytes *b);

void gguf_put_number(struct gguf_bytes *b, const char *key, enum gguf_value type, uint64_t value); /* whole numbers and BOOL */
void gguf_put_f32(struct gguf_bytes *b, const char *key, double value);                            /* rounded to f32 */
void gguf_put_text(struct gguf_bytes *b, const char *key, const char *text);
void gguf_put_texts(struct gguf_bytes *b, const char *key, const struct bytes *text, int n);
void gguf_put_words(struct gguf_bytes *b, const char *key, enum gguf_value type, const void *word, int n); /* F32, I32 or U32 [n] */
void *gguf_put_raw(struct gguf_bytes *b, size_t n);                                                        /* room for a key and its value as another file has them; NULL: failed */

struct gguf_place; /* of a tensor: part, offset, bytes */
struct gguf_part;  /* of the model: name, header, tensors */
struct gguf_out {
    const struct gguf_bytes *keys;   /* borrowed */
    const struct tensor_out *tensor; /* [n_tensors], borrowed */
    struct gguf_place *place;        /* [n_tensors] */
    struct gguf_part *part;          /* [n_parts] */
    struct file_out *file;           /* [n_parts] */
    int n_tensors, n_parts;
    uint64_t total;                  /* bytes of all parts */
    struct arena arena;
};

/* Lays out the tensors in the given order, in parts of at most part_bytes where they are given and exceeded (a tensor is never cut). No file is touched. On failure nothing is held. */
int gguf_plan(struct gguf_out *o, const char *path, const struct gguf_bytes *keys, const struct tensor_out *tensors, int n, uint64_t part_bytes, struct error *err);
const char *gguf_part_path(const struct gguf_out *o, int part);

/* Writes the headers. ERR_CREATE when a file of that name is there, unless force is set (then it is replaced at the commit), or when the disk has too little room. On failure no file is left. */
int gguf_create(struct gguf_out *o, bool force, struct error *err);

/* Bytes [offset, offset + n) of a tensor. Thread-safe for disjoint ranges; writing beyond the tensor is ERR_INTERNAL. */
int gguf_write(struct gguf_out *o, int tensor, uint64_t offset, const void *p, size_t n, struct error *err);

int gguf_commit(struct gguf_out *o, struct error *err); /* makes the files visible together, as files_commit does: all or none */
void gguf_abandon(struct gguf_out *o);                  /* frees, and removes what is not committed; fine on zeroes */

#endif
