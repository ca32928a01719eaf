/* SPDX-License-Identifier: Apache-2.0 */
/* Where a text has said the like before: an index over all its pairs of tokens. Takes its memory when it is opened; a token that joins or leaves costs one store. */
#ifndef DECODE_NGRAM_H
#define DECODE_NGRAM_H

#include <stdint.h>

#include "base/error.h"

enum { NGRAM_MIN = 2, NGRAM_MAX = 16 }; /* shortest and longest match that is told apart */

struct ngram {
    int32_t *last;   /* [n_buckets]: the last place whose pair has this hash; 0: none. Place p holds the pair text[p - 1], text[p] */
    int32_t *before; /* [n_slots]: the place before it with the same hash */
    uint32_t n_buckets;
    int n; /* places below this are in it */
};

uint64_t ngram_bytes(int n_slots);
int ngram_open(struct ngram *g, int n_slots, struct error *err);
void ngram_close(struct ngram *g);

/* The index is that of text[0..n) from now on. What it held must be a prefix of the text, or be cut to one first, while the text is still the old one. */
void ngram_extend(struct ngram *g, const int32_t *text, int n);
void ngram_cut(struct ngram *g, const int32_t *text, int n);

/* The place p < n - 1 at which text[0..p] shares the longest ending with text[0..n), the last one of several: what followed there may follow here. *length: tokens
   shared, NGRAM_MIN to NGRAM_MAX. 0: none. Looks at a bounded number of places, from the last one back. The index must hold text[0..n - 1). */
int ngram_match(const struct ngram *g, const int32_t *text, int n, int *length);

#endif
