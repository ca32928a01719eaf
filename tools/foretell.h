/* SPDX-License-Identifier: Apache-2.0 */
/* Which exit layer and how many drafts should be fastest, from one reading of a reply: where an exit picks what the reply says, its draft would have been accepted. So the rounds of every greedy
   setting are known exactly; what a round costs is taken from the bytes that it reads. Measuring decides. */
#ifndef TOOLS_FORETELL_H
#define TOOLS_FORETELL_H

#include "layerskip.h"

enum { FORETELL_DRAFTS = 12 }; /* at most LSK_FEW_DRAFTS: what a model has memory for unasked */

struct foretold {
    int exit_layer, drafts;
    double speedup; /* over plain decoding, by the bytes */
};

/* What replies have shown so far: for every exit layer and number of drafts, the rounds and drafts that they would have taken. */
struct foretell {
    int exits, tokens;
    struct {
        int rounds, drafted;
    } *taken; /* [exits][FORETELL_DRAFTS] */
};

/* agrees[i]: the exit picks the reply's token i. Rounds that `drafts` drafts a round take for the n tokens; *drafted: how many drafts that is. */
int rounds_of(const char *agrees, int n, int drafts, int *drafted);

/* tokens[given..n) is a plain reply; a zeroed struct knows nothing yet. */
int foretell_read(struct foretell *f, lsk_session *s, const lsk_model_info *info, const int32_t *tokens, int n, int given, lsk_error *err);

/* The best settings, best first, no two with the same exit layer but the last, which is the best exit's second choice. Returns how many. */
int foretell_best(const struct foretell *f, const lsk_model_info *info, struct foretold *out, int cap);
void foretell_free(struct foretell *f);

#endif
