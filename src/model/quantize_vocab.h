/* SPDX-License-Identifier: Apache-2.0 */
/* A vocabulary as the lists of a GGUF file. */
#ifndef MODEL_QUANTIZE_VOCAB_H
#define MODEL_QUANTIZE_VOCAB_H

#include "format/gguf_write.h"
#include "model/model.h"

/* Adds tokenizer.ggml.*; the file's reader makes the same vocabulary of it, or this fails. Differences in rare texts that GGUF cannot say are noted. */
int quantize_vocab(const struct model *m, struct gguf_bytes *out, void (*note)(void *ud, const char *line), void *ud, struct error *err);

#endif
