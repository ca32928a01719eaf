/* SPDX-License-Identifier: Apache-2.0 */
/* Which tokens a model's drafts are chosen among: those that its replies mostly consist of. */
#ifndef TRAIN_FREQUENT_H
#define TRAIN_FREQUENT_H

#include <stdint.h>

struct frequent {
    int n, n_seen;            /* how many are listed; how many different ones there were */
    uint64_t tokens, covered; /* counted; of them those that are listed */
};

/* count [vocab]: how often each token is there. The `want` most frequent (0: FREQUENT_STEP more at a time until they are FREQUENT_SHARE of all) go to list [vocab], the most
   frequent first, equals by rising id; none that is not there. */
enum { FREQUENT_STEP = 256 };
#define FREQUENT_SHARE 0.99
struct frequent frequent_tokens(const uint64_t *count, int vocab, int want, int64_t *list);

#endif
