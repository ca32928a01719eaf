/* SPDX-License-Identifier: Apache-2.0 */
/* From committed tokens to text, and the one stop check: end-of-text ids, stop strings, limits. What may be shown is collected as events until the caller takes it. */
#ifndef DECODE_REPLY_H
#define DECODE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/pick.h"
#include "base/error.h"
#include "text/stop.h"
#include "text/stream.h"
#include "text/tokenizer.h"

enum reply_finish { REPLY_RUNNING, REPLY_EOS, REPLY_STOP, REPLY_LENGTH, REPLY_CONTEXT, REPLY_CANCELLED, REPLY_ERROR };

enum { REPLY_EOS_MAX = 64, REPLY_EVENTS = 40 };

struct reply_event {
    int32_t token; /* -1: text only */
    bool drafted;
    float logprob;
    size_t text, n_text; /* place in reply.text */
    int n_top;
    struct candidate top[PICK_TOP];
};

struct reply {
    enum reply_finish finish;
    struct error why; /* of REPLY_ERROR */
    const struct tokenizer *tokenizer;
    struct stream stream;
    struct stop stop;
    int32_t eos[REPLY_EOS_MAX];
    int n_eos;
    struct reply_event event[REPLY_EVENTS];
    int n_events;
    char *text;    /* [cap]; owned */
    char *scratch; /* [stream_room]; owned */
    size_t n_text, cap;
};

struct reply_rules {
    const int32_t *eos; /* all end-of-text ids that count */
    int n_eos;
    const char *const *stop;
    int n_stop;
    bool show_special;
};

/* Takes all memory that any reply of this tokenizer can need. */
int reply_open(struct reply *r, const struct tokenizer *t, struct error *err);
void reply_close(struct reply *r);

/* A new reply: nothing finished, nothing held back. */
int reply_start(struct reply *r, const struct reply_rules *rules, struct error *err);

bool reply_ends(const struct reply *r, int32_t token); /* is it an end-of-text id here? */

/* A committed token: one event with the first n_top of its candidates, and perhaps the end. Room for REPLY_EVENTS - 1 tokens between two calls of reply_clear. */
void reply_push(struct reply *r, const struct pick *p, int n_top, bool drafted);

/* After the last token: what was held back becomes an event. Leaves at least one. */
void reply_flush(struct reply *r);
void reply_clear(struct reply *r); /* the events were taken */

#endif
