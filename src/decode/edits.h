/* SPDX-License-Identifier: Apache-2.0 */
/* What a request changes of the logits (struct edit, the mask of struct ask), at every node of a tree exactly as plain decoding would at that place of the text: so drafts
   are made and verified under the rules under which the text would be written anyway.

   Penalties count the last_n tokens before the choice: prompt, reply and the drafts above the node. Repetition takes all of them, each token once however often it is
   there; presence (once) and frequency (as often as it is there) take those of the reply alone. What was said in a chat before its last message is prompt.

   A grammar's state is a number that every node carries. A draft that the grammar refuses never joins a tree, and the mask at a node is that of its state: under a grammar
   no control token may come but an end of text, and that only where the grammar may end. */
#ifndef DECODE_EDITS_H
#define DECODE_EDITS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/pick.h"
#include "text/matcher.h"

struct bias {
    int32_t token;
    float add; /* -infinity: never */
};

/* Of a request; zeroes change nothing. Bias and matcher are borrowed while the reply runs; a matcher serves one timeline. */
struct limits {
    float repeat, presence, frequency; /* 0: off; repeat: 1 too */
    int last_n;
    const struct bias *bias; /* [n_bias] no token twice */
    int n_bias;
    struct matcher *matcher; /* of what the reply may be */
};

/* Of a timeline: room for the edits of every node, taken when a request that has any begins. */
struct edits {
    struct edit *list; /* [rows][cap] */
    int cap;
    int32_t *made;     /* [cap] of the list that is being filled: how often the reply has the token */
    int32_t *place;    /* [vocab] 1 + where a token is in it; 0: nowhere */
    uint32_t *mask;    /* [rows][words] */
    int words;
    uint32_t state;    /* of the matcher, behind all that is committed */
};

#endif
