/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON files of a synthetic checkpoint: config.json, generation_config.json, tokenizer.json, tokenizer_config.json. */
#ifndef MODEL_SYNTH_TEXT_H
#define MODEL_SYNTH_TEXT_H

#include "base/dtype.h"
#include "base/error.h"
#include "model/shapes.h"

/* The tokenizer is a byte-level BPE without merges: every byte is a token; <s> and </s>; every other id n decodes to the text "<n>". No end-of-text id is
   configured: random weights would meet it by chance, and a reply's length is to depend on what was asked for. */
int synth_write_text(const char *folder, const struct shape *s, int layers, int tied, enum dtype type, struct error *err);

#endif
