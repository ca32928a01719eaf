/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the tensors of a Hugging Face folder: model.safetensors, or numbered shards with model.safetensors.index.json.
   The layout is known before the first value: any thread may write any part of any tensor at any time. */
#ifndef FORMAT_SAFETENSORS_WRITE_H
#define FORMAT_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "format/tensor_out.h"

struct place; /* of a tensor: shard, offset, bytes */
struct safetensors_out {
    char *folder; /* owned */
    const struct tensor_out *tensor; /* [n_tensors], F32, F16 or BF16; borrowed until commit or abandon */
    struct place *place;             /* [n_tensors] */
    int n_tensors, n_shards;
    struct file_out *shard; /* [n_shards + 1], the index last; none of one shard */
    uint64_t total;         /* bytes of all tensors */
    struct arena arena;
};

/* Lays out tensors in the given order, a new shard where the next one would make a shard larger than shard_bytes (0: one shard), and writes the headers.
   The folder exists. On failure nothing is held and no file is left. */
int safetensors_create(struct safetensors_out *o, const char *folder, const struct tensor_out *tensors, int n, uint64_t shard_bytes, struct error *err);

/* Bytes [offset, offset + n) of a tensor. Thread-safe for disjoint ranges; writing beyond the tensor is ERR_INTERNAL. */
int safetensors_write(struct safetensors_out *o, int tensor, uint64_t offset, const void *p, size_t n, struct error *err);

int safetensors_commit(struct safetensors_out *o, struct error *err); /* writes the index, makes the files visible as files_commit does; frees */
void safetensors_abandon(struct safetensors_out *o);                  /* removes what was written; fine after a commit or on zeroes */

#endif
