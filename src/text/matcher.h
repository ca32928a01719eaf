/* SPDX-License-Identifier: Apache-2.0 */
/* A text on its way through a grammar. A state is a number: all that the text so far leaves open, down to a byte within a character. States are interned, so equal
   futures have equal numbers, copying and rolling back are assignments, and what a byte or a token does to a state is computed once. One matcher serves one thread
   and any number of texts of its grammar (drafts, say). */
#ifndef TEXT_MATCHER_H
#define TEXT_MATCHER_H

#include "text/grammar.h"
#include "text/token_tree.h"

enum {
    MATCHER_DEAD = 0,                 /* the state of a text that the grammar refuses */
    MATCHER_PAIRS_MAX = 1 << 16,      /* ways that the text so far can be read */
    MATCHER_WORK_MAX = 1 << 21,       /* ways looked at for one byte */
    MATCHER_MASK_WORK_MAX = 1 << 28,  /* the same for one mask, were nothing known yet */
    MATCHER_BYTES_MAX = 64 << 20      /* memory of the states; a call that would need more fails */
};

struct matcher;

/* Both are borrowed and must live as long. t may be NULL: no masks then. Caller closes. */
struct matcher *matcher_open(const struct grammar *g, const struct token_tree *t, struct error *err);
void matcher_close(struct matcher *m); /* NULL is fine */

uint32_t matcher_start(const struct matcher *m);                   /* of the empty text */
bool matcher_complete(const struct matcher *m, uint32_t state);   /* the text may end here */

/* Moves *state on by the bytes and returns how many of them the grammar allows: fewer than n only where it refuses the next, and *state is MATCHER_DEAD then.
   Below zero: out of memory, or a grammar that can be read in too many ways (the limits above); *state is as it was. */
int64_t matcher_push(struct matcher *m, uint32_t *state, const void *p, size_t n, struct error *err);

/* Bit i of mask[i / 32], (n_tokens + 31) / 32 words: token i may come next; tokens that end the text exactly where it is complete. Returns how many may; zero
   where no token of the vocabulary spells what must come. Below zero: as above, and the mask is undefined. Whether it fails depends on the state alone, not on what has been
   looked at before: a matcher that drafts have filled is worth no more and no less than a fresh one. */
int matcher_mask(struct matcher *m, uint32_t state, uint32_t *mask, struct error *err);

/* Once a round or so, and before a push that failed is tried again: when much has been remembered, forgets all states but these n, which get new numbers; others are not
   valid any more. Below zero: the matcher can only be closed. */
int matcher_tidy(struct matcher *m, uint32_t *const *state, int n, struct error *err);
size_t matcher_bytes(const struct matcher *m); /* memory of the states; matcher_tidy forgets when it is more than a quarter of what it may be */
void matcher_limit(struct matcher *m, size_t bytes); /* in place of MATCHER_BYTES_MAX */

#endif
