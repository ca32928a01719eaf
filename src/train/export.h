/* SPDX-License-Identifier: Apache-2.0 */
/* A trained model as a Hugging Face folder: safetensors under the names that transformers knows, the source's config.json with its keys kept, its tokenizer files.
   A GGUF source has neither: config and tokenizer are made from its metadata, as far as that says enough. */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include <jansson.h>

#include "backend/train.h"
#include "base/dtype.h"

struct export {
    const struct model *model; /* the source */
    const struct train_ops *ops;
    struct trainer *trainer;
    enum dtype type;                  /* of the weights: F32, F16 or BF16 */
    int exit_layer, num_speculations; /* the LayerSkip profile, where the source has none; 0: none */
};

/* Refuses a source whose config or tokenizer cannot be written, before anything was trained. */
int export_check(const struct model *m, struct error *err);

/* The type that the source's weights have, when safetensors can hold it; else BF16. */
enum dtype export_type(const struct model *m);

/* Fills a folder that exists. */
int export_write(const struct export *e, const char *folder, struct error *err);

/* Tensors of a trainer under the names given, as the safetensors of a folder that exists. */
struct export_tensor {
    char name[96];
    int tensor;
    enum train_state what;
};
int export_tensors(const struct export *e, const char *folder, const struct export_tensor *list, int n, enum dtype type, struct error *err);

/* A JSON file in a folder. Takes the JSON; NULL stands for memory that ran out while it was made. */
int export_json(const char *folder, const char *name, json_t *json, struct error *err);

/* export_gguf.c: the files that a GGUF source's metadata stands for. */
int export_gguf_check(const struct model *m, struct error *err);
json_t *export_gguf_config(const struct model *m);
int export_gguf_tokenizer(const struct model *m, const char *folder, struct error *err);

#endif
