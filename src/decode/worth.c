/* SPDX-License-Identifier: Apache-2.0 */
/* The stop rule: a draft is worth its time while the tokens that it can be expected to bring, over the time that it adds to the round, exceed the rate at which the text
   grows anyway. That is the largest rate there is when further drafts bring less and less. Times and chances are what was measured; no text depends on them. */
#include "decode/decode.h"

/* Nanoseconds that one row more adds to a verification of so many rows that begins at layer `first`. */
static double row_ns(const struct engine *e, const struct timeline *t, int first, int rows)
{
    const struct pace *p = &e->pace;
    double layer = pace_cost(p, &p->layer, rows + 1) - pace_cost(p, &p->layer, rows), head = pace_cost(p, &p->head, rows + 1) - pace_cost(p, &p->head, rows);
    return (t->ask.depth - first) * layer + head;
}

static void keep_first(struct engine *e, struct timeline *t, int from, bool weighed)
{
    int keep = weighed ? from : t->tree.n;
    double rate = pace_rate(&e->pace, t->ask.depth), gain = 0, most = 0;
    for (int i = from; i < t->tree.n && weighed; i++) {
        gain += (double)t->tree.node[i].reach - rate * row_ns(e, t, 0, e->n_rows + i - from);
        if (gain > most) {
            most = gain;
            keep = i + 1;
        }
    }
    e->n_rows += keep - from;
    t->tree.n = keep;
}

void worth_keep(struct engine *e, struct timeline *t, int from) { keep_first(e, t, from, t->ask.weighed || t->ask.n_free > 0); }
void worth_take(struct engine *e, struct timeline *t, int from) { keep_first(e, t, from, t->ask.weighed); }

bool worth_pass(const struct engine *e, const struct timeline *t)
{
    const struct pace *p = &e->pace;
    int first = t->ask.exit_layer;
    double ns = first * pace_cost(p, &p->layer, 1) + pace_cost(p, e->draft_head ? &p->draft_head : &p->head, 1) + row_ns(e, t, first, e->n_rows);
    return !t->ask.weighed || t->tree.node[t->tree.n - 1].reach * trust_exit(&e->trust) > pace_rate(p, t->ask.depth) * ns;
}
