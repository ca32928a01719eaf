/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "decode/decode.h"

/* The pending token becomes the root; its hidden rows follow those of the timelines before it. Returns the next free one. */
static int plant(struct timeline *t, const struct engine *e, int h)
{
    int pos = t->n - 1;
    t->tree.node[0] = (struct node){
        .row = {.token = t->token[pos], .pos = pos, .seq = t->seq, .slot = pos, .prefix = pos, .h = h, .also = 0}, .parent = -1, .reach = 1, .state = t->edits.state};
    t->tree.n = 1;
    t->draft_ended = false;
    return h + 1 + timeline_budget(t, e);
}

/* Each drafter sees the timelines that asked for it, as the drafters before it left them. */
static int propose(struct engine *e, struct timeline **t, int n, struct error *err)
{
    const struct drafter *d;
    for (int k = 0, rc; (d = drafter_at(k)); k++)
        for (int from = 0; from < n;) {
            int to = from;
            while (to < n && t[to]->ask.drafters & d->bit)
                to++;
            if (to > from && (rc = d->propose(e, t + from, to - from, err)))
                return rc;
            from = to + 1;
        }
    return 0;
}

/* All nodes of all trees, in order: through the layers that they lack, then a pick at each. */
static int verify(struct engine *e, struct timeline **t, int n, struct error *err)
{
    int m = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < t[i]->tree.n; j++) {
            e->list[m] = &t[i]->tree.node[j];
            e->to[m] = (int16_t)t[i]->ask.depth;
            e->who[m++] = t[i];
        }
    int rc = engine_advance(e, e->list, e->to, m, err);
    return rc ? rc : engine_pick(e, m, false, err);
}

/* Every draft below a walked node was either right or wrong; below the others nobody knows. */
static void learn(struct trust *trust, const struct timeline *t)
{
    bool walked[DRAFTS_MAX + 1] = {false};
    for (int i = 0; i < t->walk.n; i++)
        walked[t->walk.node[i]] = true;
    for (int i = 1; i < t->tree.n; i++)
        if (walked[t->tree.node[i].parent])
            trust_learn(trust, t->tree.node[i].kind, walked[i]);
}

static uint64_t waits_of(const struct engine *e) { return e->b->waits ? e->b->waits(e->kv) : 0; }

int round_run(struct engine *e, struct timeline **t, int n, struct error *err)
{
    int64_t start = clock_ns();
    uint64_t bytes = e->b->bytes_read(e->kv), waits = waits_of(e);
    for (int i = 0, h = 0; i < n; i++)
        h = plant(t[i], e, h);
    e->n_rows = n;
    e->pace.n_queued = 0; /* of a round that failed */
    int rc = propose(e, t, n, err);
    if (!rc)
        rc = verify(e, t, n, err);
    const struct pick *picks = e->picks;
    int tokens = 0;
    for (int i = 0; i < n && !rc; i++) {
        walk_tree(&t[i]->walk, &t[i]->tree, picks);
        picks += t[i]->tree.n;
        learn(&e->trust, t[i]);
        tokens -= t[i]->n;
        rc = timeline_commit(t[i], e, err);
        tokens += t[i]->n;
    }
    pace_round(&e->pace, tokens);
    trust_fade(&e->trust);
    for (int i = 0; i < n; i++) {
        t[i]->stats.reply_ns += clock_ns() - start;
        t[i]->stats.reply_bytes += e->b->bytes_read(e->kv) - bytes;
        t[i]->stats.waits += waits_of(e) - waits;
    }
    return rc;
}
