/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "decode/decode.h"

uint64_t timeline_bytes(int n_slots, int n_vocab) { return ngram_bytes(n_slots) + recycle_bytes(n_vocab); }

int timeline_open(struct timeline *t, struct engine *e, struct error *err)
{
    *t = (struct timeline){.seq = e->b->seq_open(e->kv, err)};
    if (t->seq < 0)
        return t->seq;
    t->token = calloc((size_t)e->n_slots, sizeof *t->token);
    t->tree = (struct tree){.node = calloc((size_t)e->max_drafts + 1, sizeof *t->tree.node), .cap = e->max_drafts + 1};
    if (t->token && t->tree.node && !ngram_open(&t->ngram, e->n_slots, err) && !recycle_open(&t->recycle, e->n_vocab, err))
        return 0;
    timeline_close(t, e);
    return fail(err, ERR_OS, "out of memory for a timeline of %d tokens", e->n_slots);
}

void timeline_close(struct timeline *t, struct engine *e)
{
    e->b->seq_close(e->kv, t->seq);
    free(t->token);
    free(t->tree.node);
    edits_close(&t->edits);
    ngram_close(&t->ngram);
    recycle_close(&t->recycle);
    *t = (struct timeline){.seq = -1};
}

/* Slots that another prompt may take over as they are: where prefill has bits of its own, those that a reply wrote would make the next one depend on what was said before. */
static int reusable(const struct timeline *t, const struct engine *e) { return e->b->prefill && t->n_prefilled < t->n_kv ? t->n_prefilled : t->n_kv; }

int timeline_prompt(struct timeline *t, struct engine *e, const int32_t *tokens, int n, const struct request *ask, struct error *err)
{
    if (n < 1)
        return fail(err, ERR_USAGE, "the prompt is empty: it needs at least one token");
    if (n >= e->n_slots)
        return fail(err, ERR_USAGE, "the prompt has %d tokens, the context %d, and the reply needs at least one: shorten it or raise --ctx-size", n, e->n_slots);
    int rc = edits_start(&t->edits, &ask->limits, e, t->tree.cap, err);
    if (rc)
        return rc;
    int keep = 0, most = n - 1 < reusable(t, e) ? n - 1 : reusable(t, e);
    while (keep < most && t->token[keep] == tokens[keep])
        keep++;
    if (ask->depth != t->ask.depth)
        keep = 0; /* deeper layers hold no K and V of it */
    e->b->seq_trim(e->kv, t->seq, keep);
    ngram_cut(&t->ngram, t->token, keep);
    if (keep < t->n_kv)
        recycle_forget(&t->recycle); /* another text: what is drafted depends on this one alone */
    memcpy(t->token, tokens, (size_t)n * sizeof *tokens);
    t->n = t->n_prompt = n;
    t->n_kv = keep;
    t->n_prefilled = e->b->prefill ? keep : 0;
    t->ask = *ask;
    t->tree.n = 1; /* a root and no drafts yet */
    t->walk.n = 0;
    t->stats = (struct stats){.prompt_tokens = n, .cached_tokens = keep};
    return 0;
}

void timeline_forget(struct timeline *t, struct engine *e)
{
    e->b->seq_trim(e->kv, t->seq, 0);
    ngram_cut(&t->ngram, t->token, 0);
    recycle_forget(&t->recycle);
    t->n = t->n_kv = t->n_prefilled = 0;
    t->reply.finish = REPLY_CANCELLED; /* a reply that was on its way has lost its text */
}

bool timeline_has_prompt_left(const struct timeline *t) { return t->n_kv < t->n - 1; }

int timeline_prefill(struct timeline *t, struct engine *e, struct error *err)
{
    int64_t start = clock_ns();
    int n = t->n - 1 - t->n_kv < e->batch ? t->n - 1 - t->n_kv : e->batch;
    for (int i = 0; i < n; i++) {
        int pos = t->n_kv + i;
        e->rows[i] = (struct row){.token = t->token[pos], .pos = pos, .seq = t->seq, .slot = pos, .prefix = pos, .h = i};
    }
    int rc = e->b->prefill ? e->b->prefill(e->kv, t->ask.depth, e->rows, n, err) : e->b->forward(e->kv, 0, t->ask.depth, e->rows, n, err);
    if (!rc)
        t->n_kv += n;
    if (!rc && e->b->prefill)
        t->n_prefilled = t->n_kv;
    t->stats.prompt_ns += clock_ns() - start;
    return rc;
}

int timeline_budget(const struct timeline *t, const struct engine *e)
{
    int reply_left = t->ask.max_tokens - t->stats.reply_tokens, room = e->n_slots - t->n, d = t->ask.drafters ? t->ask.n_drafts + t->ask.n_free : 0;
    d = d < t->tree.cap - 1 ? d : t->tree.cap - 1;
    d = d < reply_left - 1 ? d : reply_left - 1;
    d = d < room - 1 ? d : room - 1;
    d -= t->tree.n - 1;
    return d > 0 ? d : 0;
}

int timeline_passes(const struct timeline *t, const struct engine *e)
{
    int budget = timeline_budget(t, e), left = t->ask.n_drafts - (t->tree.n - 1);
    return left < budget ? (left > 0 ? left : 0) : budget;
}

/* kept: how many of the walk's tokens joined the timeline. Drafts behind the first mismatch count as drafted; what lies behind a stop never was. */
static void count_drafts(struct timeline *t, int kept)
{
    struct stats *s = &t->stats;
    const struct tree *tree = &t->tree;
    int cut = kept < t->walk.n, accepted = cut ? kept : kept - 1;
    s->rounds++;
    for (int i = 1; i < tree->n; i++) {
        int depth = tree->node[i].row.pos - tree->node[0].row.pos;
        if (cut && depth > kept)
            continue;
        s->drafted++;
        s->drafted_at[depth - 1]++;
    }
    s->accepted += accepted;
    for (int i = 0; i < accepted; i++)
        s->accepted_at[i]++;
}

/* Brings the walked rows' K and V to the slots that follow the committed ones. A chain is there already. */
static int compact(struct timeline *t, struct engine *e, struct error *err)
{
    int32_t src[DRAFTS_MAX + 1];
    bool moved = false;
    for (int i = 0; i < t->walk.n; i++) {
        src[i] = t->tree.node[t->walk.node[i]].row.slot;
        moved |= src[i] != t->n - 1 + i;
    }
    return moved ? e->b->kv_move(e->kv, t->seq, t->n - 1, src, t->walk.n, err) : 0;
}

struct node *timeline_draft(struct timeline *t, int parent, int32_t token, int kind, float chance)
{
    uint32_t state = t->tree.node[parent].state;
    if (edits_push(t, &state, token, NULL) <= 0)
        return NULL;
    struct node *node = tree_add(&t->tree, parent, token, kind, chance);
    node->state = state;
    return node;
}

/* May the pick join the text? If not, it is the reply's end. */
static bool may_join(struct timeline *t, const struct pick *p)
{
    struct reply *r = &t->reply;
    int rc = p->token < 0 ? 0 : edits_push(t, &t->edits.state, p->token, NULL);
    if (rc < 0) /* for what drafts left behind, perhaps: nothing of that is needed any more */
        rc = edits_tidy(t, &r->why) ? edits_push(t, &t->edits.state, p->token, &r->why) : -1;
    if (rc > 0)
        return true;
    if (p->token == PICK_NONE)
        r->finish = edits_explain(t, &r->why);
    else
        r->finish = REPLY_ERROR;
    if (p->token == PICK_ODD)
        fail(&r->why, ERR_DATA, "the model's logits are not finite (NaN or infinity) at token %d of the reply: its weights are damaged or overflow; `layerskip info --check` names the tensors",
             t->stats.reply_tokens + 1);
    else if (rc == 0 && p->token >= 0)
        fail(&r->why, ERR_INTERNAL, "grammar: token %d was chosen where it may not come", p->token);
    return false;
}

int timeline_commit(struct timeline *t, struct engine *e, struct error *err)
{
    const struct walk *w = &t->walk;
    int rc = compact(t, e, err), kept = 0;
    if (rc)
        return rc;
    while (kept < w->n && t->reply.finish == REPLY_RUNNING) {
        const struct pick *p = &w->pick[kept];
        if (!may_join(t, p))
            break;
        t->token[t->n++] = p->token;
        t->stats.reply_tokens++;
        kept++;
        reply_push(&t->reply, p, t->ask.n_top, kept < w->n);
        if (t->reply.finish == REPLY_RUNNING && t->stats.reply_tokens >= t->ask.max_tokens)
            t->reply.finish = REPLY_LENGTH;
        if (t->reply.finish == REPLY_RUNNING && t->n >= e->n_slots)
            t->reply.finish = REPLY_CONTEXT;
    }
    t->n_kv = t->n - 1;
    if (t->reply.finish == REPLY_RUNNING && !edits_tidy(t, &t->reply.why))
        t->reply.finish = REPLY_ERROR;
    count_drafts(t, kept);
    return 0;
}
