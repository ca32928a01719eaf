/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a Hugging Face folder. */
#ifndef FORMAT_HF_H
#define FORMAT_HF_H

#include <jansson.h>

#include "format/checkpoint.h"

extern const struct naming hf_names;

enum { HF_JSON_MAX = 1 << 20, HF_BIG_JSON_MAX = 4 << 20 }; /* bytes; a tree of jansson takes up to 40 times as much */

/* Adds a safetensors file as the next shard, with all of its tensors. */
int safetensors_add(struct checkpoint *c, const char *path, struct error *err);

/* A buffer that old versions of transformers saved and that follows from the config: no weight. */
bool hf_is_buffer(const char *tensor_name);

/* The path of a file of c->dir. 1: *out is set; 0: there is none; below 0: the name or its link leads out of the folder. */
int hf_find(struct checkpoint *c, const char *name, const char **out, struct error *err);

/* A JSON object. The caller calls json_decref. */
int hf_load_json(const char *path, size_t limit, json_t **out, struct error *err);

/* config.json, generation_config.json, tokenizer_config.json and the chat template become metadata. */
int hf_read_configs(struct checkpoint *c, struct error *err);

#endif
