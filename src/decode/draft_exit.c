/* SPDX-License-Identifier: Apache-2.0 */
/* LayerSkip's own drafter (Elhoushi et al., "LayerSkip: Enabling early exit inference and self-speculative decoding", ACL 2024): the first layers and the shared
   head draft a chain of tokens. The rows keep their hidden states, K and V, so verification goes on from where the drafts stand. */
#include "decode/decode.h"

static struct node *last_node(struct timeline *t) { return &t->tree.node[t->tree.n - 1]; }

/* Can the last node go through the first layers? Not below free drafts, which have seen none. */
static bool stands(struct timeline *t)
{
    int parent = last_node(t)->parent;
    return parent < 0 || t->tree.node[parent].at >= t->ask.exit_layer;
}

/* The last node of each timeline that goes on drafting. */
static int gather(struct engine *e, struct timeline **t, int n)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (t[i]->draft_ended || !stands(t[i]) || timeline_budget(t[i], e) == 0 || !worth_pass(e, t[i]))
            continue;
        e->list[m] = last_node(t[i]);
        e->to[m] = (int16_t)t[i]->ask.exit_layer;
        e->who[m++] = t[i];
    }
    return m;
}

/* The pick becomes a draft, unless it is too doubtful. */
static void add(struct engine *e, struct timeline *t, const struct pick *p)
{
    int from = t->tree.n, kind = trust_kind(TRUST_EXIT, p->conf);
    float chance = trust_chance(&e->trust, kind);
    trust_found(&e->trust, chance);
    if (p->token >= 0 && p->conf >= t->ask.draft_min_conf) {
        tree_add(&t->tree, from - 1, p->token, kind, chance);
        worth_keep(e, t, from);
    }
    t->draft_ended = t->tree.n == from || reply_ends(&t->reply, p->token); /* an end of text is still verified; but nothing follows it */
}

static int propose(struct engine *e, struct timeline **t, int n, struct error *err)
{
    for (int m; (m = gather(e, t, n)) > 0;) {
        int rc = engine_advance(e, e->list, e->to, m, err);
        if (!rc)
            rc = engine_pick(e, m, err);
        if (rc)
            return rc;
        for (int i = 0; i < m; i++)
            add(e, e->who[i], &e->picks[i]);
    }
    return 0;
}

const struct drafter drafter_exit = {.name = "exit", .help = "the model's first layers and its own head draft a chain of tokens", .bit = DRAFT_EXIT, .propose = propose};
