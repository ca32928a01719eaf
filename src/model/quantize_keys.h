/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a GGUF file that is made from a model. */
#ifndef MODEL_QUANTIZE_KEYS_H
#define MODEL_QUANTIZE_KEYS_H

#include "format/gguf_write.h"
#include "model/model.h"

/* From a GGUF file its own keys, as they are, but for those that describe the file; from others the same that its reader would need. file_type: llama.cpp's
   number. note: what cannot be said in GGUF. */
int quantize_keys(const struct model *m, uint32_t file_type, struct gguf_bytes *out, void (*note)(void *ud, const char *line), void *ud, struct error *err);

/* Llama 3's scaled frequencies as GGUF has them: what the plain ones are divided by, f32[head_dim / 2]. Our own reader gets the scaled ones back, in every bit wherever an f32 factor gives them. */
int quantize_rope(const struct model *m, float *factor, struct error *err);

#endif
