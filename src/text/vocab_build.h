/* SPDX-License-Identifier: Apache-2.0 */
/* The steps that the three readers of vocabularies share. A reader opens a build, fills in texts and types in file form (byte-level
   pieces still in their printable alphabet), indexes them, gives merges or scores and added tokens, and finishes. */
#ifndef TEXT_VOCAB_BUILD_H
#define TEXT_VOCAB_BUILD_H

#include "text/piece_map.h"
#include "text/vocab.h"

struct build {
    struct vocab *v;
    const char *name;    /* the file */
    struct bytes *text;  /* [n] file form, borrowed; p == NULL: not given yet */
    struct piece_map map; /* file form -> id */
    uint8_t *joined;     /* [longest] room for the text of a merge */
    size_t longest;      /* bytes of the longest text */
    struct arena scratch;
    struct error *err;
};

/* Zeroes *v; n tokens of TOKEN_NORMAL without texts, no ids. build_close must follow. */
int build_open(struct build *b, struct vocab *v, const char *name, enum vocab_kind kind, uint64_t n, struct error *err);
int build_index(struct build *b);                                               /* refuses missing, empty, doubled and malformed texts */
int build_merge(struct build *b, int i, struct bytes left, struct bytes right); /* v->merge[i], rank i; the caller made the room */
int build_scores(struct build *b, const float *score);                          /* [n]: merges as SentencePiece makes them */
int build_added(struct build *b, int n);                                        /* room for n added tokens */
int build_added_by_type(struct build *b);                                       /* added tokens from v->type */
int build_finish(struct build *b, const struct vocab_wish *wish);
int build_close(struct build *b, int rc);                                       /* frees scratch, below zero the vocabulary too; returns rc */
int build_no_memory(struct build *b);

bool byte_piece(struct bytes text, uint8_t *byte); /* "<0x0A>" */

#endif
