/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/edits.h"

#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"

static bool repeats(const struct limits *l) { return l->repeat > 0 && l->repeat != 1; }
static bool counts(const struct limits *l) { return l->last_n > 0 && (repeats(l) || l->presence != 0 || l->frequency != 0); }

bool edits_any(const struct limits *l) { return l->n_bias || l->matcher || counts(l); }

void edits_close(struct edits *x)
{
    free(x->list);
    free(x->made);
    free(x->place);
    free(x->mask);
    *x = (struct edits){0};
}

int edits_start(struct edits *x, const struct limits *l, const struct engine *e, int rows, struct error *err)
{
    int most = counts(l) ? l->last_n < e->n_slots ? l->last_n : e->n_slots : 0;
    edits_close(x);
    if (!edits_any(l))
        return 0;
    x->cap = l->n_bias + most < e->n_vocab ? l->n_bias + most : e->n_vocab;
    x->words = l->matcher ? (e->n_vocab + 31) / 32 : 0;
    x->list = calloc((size_t)rows * (size_t)x->cap + 1, sizeof *x->list);
    x->made = calloc((size_t)x->cap + 1, sizeof *x->made);
    x->place = calloc((size_t)e->n_vocab, sizeof *x->place);
    x->mask = calloc((size_t)rows * (size_t)x->words + 1, sizeof *x->mask);
    if (x->list && x->made && x->place && x->mask) {
        x->state = l->matcher ? matcher_start(l->matcher) : 0;
        return 0;
    }
    edits_close(x);
    return fail(err, ERR_OS, "out of memory for penalties and a grammar at %d places of the text", rows);
}

/* ---- penalties ---- */

/* The token's edit, a new one where it has none. */
static int edit_of(struct edits *x, struct edit *list, int *n, int32_t token)
{
    if (!x->place[token]) {
        list[*n] = (struct edit){.token = token, .repeat = 1};
        x->made[*n] = 0;
        x->place[token] = ++*n;
    }
    return x->place[token] - 1;
}

static void count(struct edits *x, const struct limits *l, struct edit *list, int *n, int32_t token, bool in_reply)
{
    int i = edit_of(x, list, n, token);
    list[i].repeat = repeats(l) ? l->repeat : 1;
    if (in_reply)
        list[i].less = (float)++x->made[i] * l->frequency + l->presence;
}

/* Bias, then the tokens before the choice at this node, the last one first. Returns how many edits there are. */
static int fill_list(struct timeline *t, const struct node *node, struct edit *list)
{
    const struct limits *l = &t->ask.limits;
    struct edits *x = &t->edits;
    int n = 0, left = counts(l) ? l->last_n : 0, first = repeats(l) ? 0 : t->n_prompt;
    for (int i = 0; i < l->n_bias; i++)
        list[edit_of(x, list, &n, l->bias[i].token)].bias = l->bias[i].add;
    for (; left > 0 && node->parent >= 0; node = &t->tree.node[node->parent], left--)
        count(x, l, list, &n, node->row.token, true);
    for (int pos = t->n - 1; left > 0 && pos >= first; pos--, left--)
        count(x, l, list, &n, t->token[pos], pos >= t->n_prompt);
    for (int i = 0; i < n; i++)
        x->place[list[i].token] = 0;
    return n;
}

/* ---- grammars ---- */

/* What cannot be computed allows nothing: edits_explain then says why. */
static void fill_mask(struct timeline *t, uint32_t state, uint32_t *mask)
{
    struct matcher *m = t->ask.limits.matcher;
    bool complete = matcher_complete(m, state);
    if (matcher_mask(m, state, mask, NULL) < 0) {
        memset(mask, 0, (size_t)t->edits.words * sizeof *mask);
        return;
    }
    for (int i = 0; i < t->reply.n_eos; i++) {
        int32_t eos = t->reply.eos[i];
        mask[eos / 32] = complete ? mask[eos / 32] | 1u << eos % 32 : mask[eos / 32] & ~(1u << eos % 32);
    }
}

int edits_push(const struct timeline *t, uint32_t *state, int32_t token, struct error *err)
{
    struct matcher *m = t->ask.limits.matcher;
    if (!m)
        return 1;
    if (reply_ends(&t->reply, token))
        return matcher_complete(m, *state);
    struct bytes piece = tokenizer_hidden(t->reply.tokenizer, token) ? (struct bytes){0} : tokenizer_piece(t->reply.tokenizer, token);
    if (!piece.n)
        return 0;
    int64_t n = matcher_push(m, state, piece.p, piece.n, err);
    return n < 0 ? (int)n : n == (int64_t)piece.n;
}

bool edits_tidy(struct timeline *t, struct error *err)
{
    uint32_t *state = &t->edits.state;
    return !t->ask.limits.matcher || matcher_tidy(t->ask.limits.matcher, &state, 1, err) >= 0;
}

enum reply_finish edits_explain(struct timeline *t, struct error *err)
{
    struct matcher *m = t->ask.limits.matcher;
    int n = m ? matcher_mask(m, t->edits.state, t->edits.mask, err) : 0;
    if (m && n >= 0 && matcher_complete(m, t->edits.state))
        return REPLY_EOS; /* all is said, and this model has no token to say so */
    if (m && n == 0)
        fail(err, ERR_DATA, "grammar: what must come behind %d tokens of the reply is spelt by no token of this model: change the grammar", t->stats.reply_tokens);
    else if (n >= 0 && t->ask.limits.n_bias)
        fail(err, ERR_USAGE, "logit bias: leaves no token%s behind %d tokens of the reply: take some of it away", m ? " of those that the grammar allows" : "", t->stats.reply_tokens);
    return REPLY_ERROR;
}

void edits_ask(struct timeline *t, const struct node *node, struct ask *ask)
{
    const struct limits *l = &t->ask.limits;
    struct edits *x = &t->edits;
    size_t row = (size_t)(node - t->tree.node);
    if (l->n_bias || counts(l)) {
        ask->edits = x->list + row * (size_t)x->cap;
        ask->n_edits = fill_list(t, node, x->list + row * (size_t)x->cap);
    }
    if (l->matcher) {
        ask->allow = x->mask + row * (size_t)x->words;
        fill_mask(t, node->state, x->mask + row * (size_t)x->words);
    }
}
