/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens back to text, one at a time, whole characters only. Nothing is allocated. */
#ifndef TEXT_STREAM_H
#define TEXT_STREAM_H

#include "text/tokenizer.h"

struct stream {
    const struct tokenizer *t; /* borrowed */
    bool show_special;         /* control tokens appear by name */
    uint8_t held[4];           /* the beginning of a character */
    int n_held;
};

/* Start: {.t = tokenizer}. A reply's first token keeps its leading space. */

/* Room that a push needs at most: every byte may turn out to be a broken character. */
static inline size_t stream_room(const struct tokenizer *t) { return 3 * (tokenizer_longest(t) + 4); }

/* Writes what the token completes to out (stream_room bytes) and returns its length. Bytes that are no character come as U+FFFD, one for every
   maximal ill-formed subsequence. */
size_t stream_push(struct stream *s, int32_t token, char *out);
size_t stream_flush(struct stream *s, char *out); /* at the end: U+FFFD for the beginning of a character; 3 bytes at most */

#endif
