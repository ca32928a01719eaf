/* SPDX-License-Identifier: Apache-2.0 */
/* Drafts for nothing: where prompt and reply have said the like before, what followed there is proposed again. No pass, so the rows stand at layer 0. */
#include "decode/decode.h"

/* The drafts are laid behind the text, where a match that reaches its end finds them: so a short period goes on as long as the budget. */
static void copy(struct timeline *t, struct engine *e)
{
    int32_t *text = t->token;
    int n = t->n, budget = timeline_budget(t, e), length;
    ngram_extend(&t->ngram, text, n - 1);
    int from = ngram_match(&t->ngram, text, n, &length) + 1;
    if (from == 1)
        return;
    if (t->ask.drafters & DRAFT_EXIT && trust_chance(&e->trust, TRUST_NGRAM + length) < trust_exit(&e->trust) && worth_pass(e, t))
        return; /* the exit can do better */
    for (int i = 0; i < budget && !(i && reply_ends(&t->reply, text[n + i - 1])); i++) {
        int kind = length + i < NGRAM_MAX ? length + i : NGRAM_MAX;
        text[n + i] = text[from + i];
        if (!timeline_draft(t, i, text[n + i], TRUST_NGRAM + kind, trust_chance(&e->trust, TRUST_NGRAM + kind)))
            break;
    }
    worth_keep(e, t, 1);
}

static int propose(struct engine *e, struct timeline **t, int n, struct error *err)
{
    (void)err;
    for (int i = 0; i < n; i++)
        copy(t[i], e);
    return 0;
}

const struct drafter drafter_ngram = {.name = "ngram", .help = "what followed the last tokens when prompt or reply said them before", .bit = DRAFT_NGRAM, .propose = propose};
