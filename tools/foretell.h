/* SPDX-License-Identifier: Apache-2.0 */
/* Which exit layer and how many drafts should be fastest, from one reading of a reply: where an exit picks what the reply says, its draft would have been accepted. So the rounds of every greedy
   setting are known exactly; what a round costs is taken from the bytes that it reads. Measuring decides. */
#ifndef TOOLS_FORETELL_H
#define TOOLS_FORETELL_H

#include "layerskip.h"

enum { FORETELL_DRAFTS = 12 };

struct foretold {
    int exit_layer, drafts;
    double speedup; /* over plain decoding, by the bytes */
};

/* agrees[i]: the exit picks the reply's token i. Rounds that `drafts` drafts a round take for the n tokens; *drafted: how many drafts that is. */
int rounds_of(const char *agrees, int n, int drafts, int *drafted);

/* The best settings, best first, no two with the same exit layer but the last, which is the best exit's second choice. Returns how many. tokens[given..n) is the reply. */
int foretell(lsk_session *s, const lsk_model_info *info, const int32_t *tokens, int n, int given, struct foretold *out, int cap, lsk_error *err);

#endif
