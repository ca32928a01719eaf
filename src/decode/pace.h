/* SPDX-License-Identifier: Apache-2.0 */
/* What passes cost and how fast the text grows, as measured while it does. It decides how much is drafted, never what is said. */
#ifndef DECODE_PACE_H
#define DECODE_PACE_H

#include "backend/backend.h"

/* Nanoseconds of a pass, by its rows. */
struct cost {
    double ns[ROWS_MAX + 1]; /* 0: never measured */
    uint32_t when[ROWS_MAX + 1];
};

/* A pass that was queued on a device which the host does not wait for yet. */
struct queued {
    struct cost *cost;
    int rows;
    double passes;
    uint64_t bytes; /* of weights that it reads */
};

enum { QUEUED_MAX = 16 };

struct pace {
    struct cost layer, head, draft_head; /* of one layer; of the head with its choices; of that of drafts, where they have their own */
    uint32_t round;
    double tokens, ns;       /* of the last rounds, older ones weigh less */
    double spent;            /* ns of this round's passes */
    struct queued queued[QUEUED_MAX];
    int n_queued;
    int64_t since;           /* when the first of them was queued */
};

void pace_note(struct pace *p, struct cost *c, int rows, double passes, int64_t ns); /* `passes` passes (layers) of so many rows took ns */
/* The same where passes are queued and only the wait for the last shows their time: it is shared out by the bytes that they read. */
void pace_queue(struct pace *p, struct cost *c, int rows, double passes, uint64_t bytes, int64_t now);
void pace_drain(struct pace *p, int64_t now);
void pace_round(struct pace *p, int tokens);                          /* a round is over */
double pace_cost(const struct pace *p, const struct cost *c, int rows); /* measured, or guessed from the nearest that were */
double pace_rate(const struct pace *p, int layers);                   /* tokens per ns now, at least that of plain decoding */

#endif
