/* SPDX-License-Identifier: Apache-2.0 */
/* Token recycling (Luo et al., "Turning trash into treasure: accelerating inference with token recycling", 2024): what the head last gave after a token is proposed
   after it again, as a tree that grows where it is likeliest to be walked. It grows on whatever other drafters have left. */
#include "decode/decode.h"

struct draft {
    int32_t token;
    int kind;
    float chance;
};

/* The likeliest guess that is not in the tree yet, and the node it goes below; -1: none is left. next: guesses of each node that are used up. */
static int find_best(const struct trust *trust, const struct timeline *t, const int8_t *next, struct draft *out)
{
    int best = -1;
    float most = 0;
    for (int i = 0; i < t->tree.n; i++) {
        const struct node *node = &t->tree.node[i];
        if (next[i] == RECYCLE_TOP)
            continue;
        const struct guess *g = &t->recycle.after[node->row.token][next[i]];
        int kind = trust_kind(TRUST_FIRST + (next[i] < 2 ? next[i] : 2) * TRUST_LEVELS, g->conf);
        float chance = trust_chance(trust, kind);
        if (g->conf > 0 && node->reach * chance > most) {
            most = node->reach * chance;
            best = i;
            *out = (struct draft){g->token, kind, chance};
        }
    }
    return best;
}

static void extend(struct timeline *t, struct engine *e)
{
    int8_t next[DRAFTS_MAX + 1] = {0};
    struct draft d;
    int from = t->tree.n;
    for (int at, budget = timeline_budget(t, e); budget > 0 && (at = find_best(&e->trust, t, next, &d)) >= 0;) {
        next[at]++;
        if (tree_child(&t->tree, at, d.token) >= 0 || (at > 0 && reply_ends(&t->reply, t->tree.node[at].row.token)))
            continue;
        budget -= timeline_draft(t, at, d.token, d.kind, d.chance) != NULL;
    }
    worth_keep(e, t, from);
}

static int propose(struct engine *e, struct timeline **t, int n, struct error *err)
{
    (void)err;
    for (int i = 0; i < n; i++)
        extend(t[i], e);
    return 0;
}

const struct drafter drafter_recycle = {.name = "recycle", .help = "a tree of what the head last gave after each token", .bit = DRAFT_RECYCLE, .propose = propose};
