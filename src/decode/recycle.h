/* SPDX-License-Identifier: Apache-2.0 */
/* What the head last thought of as the token after each token: candidates that cost a look-up. */
#ifndef DECODE_RECYCLE_H
#define DECODE_RECYCLE_H

#include <stdbool.h>

#include "backend/pick.h"
#include "base/error.h"

enum { RECYCLE_TOP = 8 }; /* guesses after a token */

struct guess {
    int32_t token;
    float conf; /* its probability then; 0: no guess, and none behind it */
};

struct recycle {
    struct guess (*after)[RECYCLE_TOP]; /* [vocab] */
    int n_vocab;
    bool used;
};

uint64_t recycle_bytes(int n_vocab);
int recycle_open(struct recycle *r, int n_vocab, struct error *err);
void recycle_close(struct recycle *r);
void recycle_learn(struct recycle *r, int32_t token, const struct pick *p); /* p: made at a row of this token */
void recycle_forget(struct recycle *r);

#endif
