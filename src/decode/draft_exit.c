/* SPDX-License-Identifier: Apache-2.0 */
/* LayerSkip's own drafter (Elhoushi et al., "LayerSkip: Enabling early exit inference and self-speculative decoding", ACL 2024): the first layers and the shared
   head draft a chain of tokens. The rows keep their hidden states, K and V, so verification goes on from where the drafts stand. */
#include "base/clock.h"
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
        if (t[i]->draft_ended || !stands(t[i]) || timeline_passes(t[i], e) == 0 || !worth_pass(e, t[i]))
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
    if (p->token >= 0 && p->conf >= t->ask.draft_min_conf && timeline_draft(t, from - 1, p->token, kind, chance))
        worth_take(e, t, from);
    t->draft_ended = t->tree.n == from || reply_ends(&t->reply, p->token); /* an end of text is still verified; but nothing follows it */
}

/* ---- on a device that runs a whole chain in one go ---- */

/* The row of the draft that would become node `node` of the tree, below `above`, as tree_add makes it; its token is the pick at row `place` of the step before. */
static struct row next_row(const struct timeline *t, const struct row *above, int node, int place)
{
    const struct row *root = &t->tree.node[0].row;
    struct row r = *above;
    r.token = -1 - place;
    r.pos++;
    r.slot = root->slot + node;
    r.h = root->h + node;
    r.also |= (uint64_t)1 << (above->slot - root->slot);
    return r;
}

/* Rows and asks of all steps, one step behind the other; the timelines' passes fall, so the i-th keeps its place in all its steps. Returns the number of steps. */
static int fill_chain(struct engine *e, struct timeline **t, int n, int *count)
{
    int rows = 0, steps = 0;
    for (; steps < DRAFTS_MAX; steps++) {
        count[steps] = 0;
        for (int i = 0; i < n && timeline_passes(t[i], e) > steps; i++, count[steps]++) {
            int at = rows + i;
            e->rows[at] = steps ? next_row(t[i], &e->rows[at - count[steps - 1]], t[i]->tree.n + steps - 1, i) : last_node(t[i])->row;
            e->asks[at] = engine_ask(t[i], true);
        }
        rows += count[steps];
        if (!count[steps])
            break;
    }
    return steps;
}

/* The i-th timeline's picks become drafts as if they had come one by one; what lies behind a doubtful pick or an end of text was for nothing. */
static void add_chain(struct engine *e, struct timeline *t, int i, const int *count, int steps)
{
    const struct pick *p = e->picks + i;
    for (int k = 0; k < steps && i < count[k] && !t->draft_ended; p += count[k++]) {
        struct node *node = last_node(t);
        node->at = (int16_t)t->ask.exit_layer;
        recycle_learn(&t->recycle, node->row.token, p);
        add(e, t, p);
    }
    t->draft_ended = true;
}

/* Up to ROWS_MAX timelines of one exit layer, those with most drafts first. */
static int run_chain(struct engine *e, struct timeline **t, int n, struct error *err)
{
    int count[DRAFTS_MAX + 1], steps;
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && timeline_passes(t[j], e) > timeline_passes(t[j - 1], e); j--) {
            struct timeline *less = t[j - 1];
            t[j - 1] = t[j];
            t[j] = less;
        }
    steps = fill_chain(e, t, n, count);
    int64_t start = clock_ns();
    int rc = e->b->draft(e->kv, t[0]->ask.exit_layer, e->rows, e->asks, count, steps, e->picks, err);
    e->pace.spent += (double)(clock_ns() - start); /* nobody weighs these drafts, but the text's rate knows them */
    for (int i = 0; i < n && !rc; i++)
        add_chain(e, t[i], i, count, steps);
    return rc;
}

/* Timelines that draft as many as they may, with nothing to edit; the others decide after every draft what comes next, or what it changes of the choice. */
static int propose_chains(struct engine *e, struct timeline **t, int n, struct error *err)
{
    int m = e->b->draft ? gather(e, t, n) : 0, chained = 0, rc = 0;
    for (int i = 0; i < m; i++)
        if (!e->who[i]->ask.weighed && !edits_any(&e->who[i]->ask.limits))
            e->who[chained++] = e->who[i];
    for (int from = 0, to; from < chained && !rc; from = to) {
        for (to = from; to < chained && to - from < ROWS_MAX && e->who[to]->ask.exit_layer == e->who[from]->ask.exit_layer;)
            to++;
        rc = run_chain(e, e->who + from, to - from, err);
    }
    return rc;
}

static int propose(struct engine *e, struct timeline **t, int n, struct error *err)
{
    int rc = propose_chains(e, t, n, err);
    for (int m; !rc && (m = gather(e, t, n)) > 0;) {
        rc = engine_advance(e, e->list, e->to, m, err);
        if (!rc)
            rc = engine_pick(e, m, true, err);
        for (int i = 0; i < m && !rc; i++)
            add(e, e->who[i], &e->picks[i]);
    }
    return rc;
}

const struct drafter drafter_exit = {.name = "exit", .help = "the model's first layers and its own head draft a chain of tokens", .bit = DRAFT_EXIT, .propose = propose};
