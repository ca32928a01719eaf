/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include "format/checkpoint.h"

extern const struct naming gguf_names;

/* Keys of GGUF, read under their own names and sealed, become those of a Hugging Face config; the token table is completed and checked;
   q and k of architecture "llama" are marked as stored for adjacent-pair rotary. Seal again afterwards. */
int gguf_translate(struct checkpoint *c, struct error *err);

#endif
