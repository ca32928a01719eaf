/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include "format/checkpoint.h"

/* Types of values among the keys. */
enum gguf_value { GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_TEXT, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_COUNT };

extern const struct naming gguf_names;

uint32_t gguf_type_number(enum dtype type); /* as a tensor's description has it */

/* "layers.0.q.bias" is "blk.0.attn_q.bias" there. Returns the length of the name, 0 when it is no canonical one or longer than cap - 1. */
size_t gguf_tensor_name(const char *canonical, char *out, size_t cap);

/* Keys of GGUF, read under their own names and sealed, become those of a Hugging Face config; the token table is completed and checked;
   q and k of architecture "llama" are marked as stored for adjacent-pair rotary. Seal again afterwards. */
int gguf_translate(struct checkpoint *c, struct error *err);

#endif
