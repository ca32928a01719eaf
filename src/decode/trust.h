/* SPDX-License-Identifier: Apache-2.0 */
/* How often drafts of a kind have been right: learned from every walk, used to weigh the next drafts. */
#ifndef DECODE_TRUST_H
#define DECODE_TRUST_H

#include <stdbool.h>

#include "decode/ngram.h"

/* Kinds of draft: copies by the length of the match, exits by their confidence, recycled ones by the confidence of then and their place in the list: first, second, others. */
enum { TRUST_LEVELS = 16, TRUST_NGRAM = 0, TRUST_EXIT = NGRAM_MAX + 1, TRUST_FIRST = TRUST_EXIT + TRUST_LEVELS, TRUST_SECOND = TRUST_FIRST + TRUST_LEVELS,
       TRUST_OTHER = TRUST_SECOND + TRUST_LEVELS, TRUST_KINDS = TRUST_OTHER + TRUST_LEVELS, TRUST_FAMILIES = 5 };

struct trust {
    float tried[TRUST_KINDS], right[TRUST_KINDS];             /* older drafts weigh less */
    float expected[TRUST_FAMILIES], came[TRUST_FAMILIES];     /* right ones by first guess, and in truth: what one kind learns is a hint for its family */
    float passes, found;                                      /* of the exit; the sum of the chances of what they found */
};

int trust_kind(int first, float conf);                     /* the kind of a confidence among those that begin at `first` */
float trust_chance(const struct trust *t, int kind);       /* that a draft of this kind follows its parent */
float trust_exit(const struct trust *t);                   /* what the next pass of the exit may find: the mean chance of its drafts */
void trust_found(struct trust *t, float chance);           /* a pass of the exit found a draft, kept or not */
void trust_learn(struct trust *t, int kind, bool right);
void trust_fade(struct trust *t);                          /* once in a round: what is not seen any more is believed less */

#endif
