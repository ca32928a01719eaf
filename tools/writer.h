/* SPDX-License-Identifier: Apache-2.0 */
/* A reply on its way to stdout: streamed, accepted drafts in colour, and why it ended. */
#ifndef TOOLS_WRITER_H
#define TOOLS_WRITER_H

#include "layerskip.h"

struct writer {
    int colour; /* accepted drafts in green, the model's own tokens plain */
    lsk_error *err;
    int tinted, wrote, failed; /* failed: a code, once stdout takes no more */
    enum lsk_finish finish;
};

/* An lsk_emit_fn. Non-zero cancels the reply: interrupted, or nobody can read it. */
int writer_event(void *writer, const lsk_event *e);

/* Ends the colour, and the line where a text was written or wanted. r: what generating gave; returns it, or the code of writing. */
int writer_end(struct writer *w, int wanted, int r);

#endif
