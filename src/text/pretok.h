/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenisation: where byte-level BPE cuts a text into words. The published regexes are known texts, each scanned by hand in linear time
   (tests/text holds the scanners to the reference library). */
#ifndef TEXT_PRETOK_H
#define TEXT_PRETOK_H

#include "base/bytes.h"

enum pretok {
    PRETOK_UNKNOWN = -1,
    PRETOK_NONE,   /* the whole text is one word */
    PRETOK_GPT2,
    PRETOK_SMOLLM, /* GPT-2, every digit a word of its own */
    PRETOK_LLAMA3,
    PRETOK_SPACES, /* SentencePiece texts: a word starts at every U+2581 */
};

enum pretok pretok_by_name(const char *name);          /* as in tokenizer.ggml.pre */
enum pretok pretok_by_regex(struct bytes regex);       /* as in the Split of a tokenizer.json */
const char *pretok_names(void);                        /* the known names, for messages */

/* The length of the first word of p[0 .. n), n >= 1, well-formed UTF-8. */
size_t pretok_word(enum pretok kind, const uint8_t *p, size_t n);

#endif
