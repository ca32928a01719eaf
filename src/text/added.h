/* SPDX-License-Identifier: Apache-2.0 */
/* Added tokens in a text: the longest one at a place, found in a time that hardly depends on how many there are and what they share. */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include "text/vocab.h"

struct added_set {
    const struct added_token *token; /* [n] sorted by text, borrowed */
    int n;
    struct added_step *step; /* [n + 1] step[i] belongs to token[i - 1]; step[0] to the empty text */
    bool starts[256];        /* first bytes: at any other there is nothing to look for */
};

bool added_set_init(struct added_set *s, struct arena *a, const struct added_token *token, int n); /* false: out of memory */

/* The longest token that p[0 .. n) begins with, n >= 1; NULL: none. */
const struct added_token *added_set_match(const struct added_set *s, const uint8_t *p, size_t n);

#endif
