/* SPDX-License-Identifier: Apache-2.0 */
#include "foretell.h"

#include <stdlib.h>

#include "common.h"
#include "exit_scores.h"
#include "messages.h"

int rounds_of(const char *agrees, int n, int drafts, int *drafted)
{
    int rounds = 0;
    *drafted = 0;
    for (int at = 0; at < n; rounds++) {
        const int room = n - at - 1 < drafts ? n - at - 1 : drafts; /* the round's own token ends it */
        int accepted = 0;
        while (accepted < room && agrees[at + accepted])
            accepted++;
        *drafted += room;
        at += accepted + 1;
    }
    return rounds;
}

struct reading {
    const int32_t *token;
    int given, n;
    char *agrees; /* [depth - 1][n - given] */
};

static int take_logits(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    const struct reading *r = ud;
    int32_t pick;
    likeliest(logits, n_vocab, &pick, 1);
    r->agrees[(depth - 1) * (r->n - r->given) + i + 1 - r->given] = pick == r->token[i + 1];
    return terminal_interrupted();
}

int foretell_read(struct foretell *f, lsk_session *s, const lsk_model_info *info, const int32_t *tokens, int n, int given, lsk_error *err)
{
    const int exits = info->n_layers - 1, length = n - given;
    if (length < 2 || exits < 1)
        return 0;
    struct reading reading = {tokens, given, n, malloc((size_t)exits * (size_t)length)};
    int *depth = malloc((size_t)exits * sizeof *depth), r = 0;
    if (!f->taken)
        f->taken = calloc((size_t)exits * FORETELL_DRAFTS, sizeof *f->taken);
    if (!reading.agrees || !depth || !f->taken)
        r = complain(err, LSK_EOS, "out of memory");
    for (int i = 0; r >= 0 && i < exits; i++)
        depth[i] = i + 1;
    if (r >= 0)
        r = lsk_score_exits(s, tokens, n - 1, given - 1, depth, exits, take_logits, &reading, err);
    for (int i = 0; r >= 0 && !terminal_interrupted() && i < exits * FORETELL_DRAFTS; i++) {
        int drafted;
        f->taken[i].rounds += rounds_of(reading.agrees + i / FORETELL_DRAFTS * length, length, i % FORETELL_DRAFTS + 1, &drafted);
        f->taken[i].drafted += drafted;
    }
    f->exits = exits;
    f->tokens += length;
    free(reading.agrees);
    free(depth);
    return r;
}

void foretell_free(struct foretell *f)
{
    free(f->taken);
}

/* A draft reads the exit's layers and a head; what follows reads the rest. The last row of a round goes through the exit's layers too, in a pass of its own. */
static struct foretold setting(const struct foretell *f, const lsk_model_info *m, int exit_layer, int drafts)
{
    const double layer = (double)m->layer_bytes, head = (double)m->head_bytes, draft_head = m->draft_head_bytes ? (double)m->draft_head_bytes : head;
    const double whole = m->n_layers * layer + head;
    const int i = (exit_layer - 1) * FORETELL_DRAFTS + drafts - 1;
    return (struct foretold){exit_layer, drafts, f->tokens * whole / (f->taken[i].rounds * whole + f->taken[i].drafted * (exit_layer * layer + draft_head))};
}

/* Keeps out[0..n) sorted and at most cap long. */
static int insert(struct foretold *out, int n, int cap, struct foretold s)
{
    int at = n < cap ? n : cap;
    for (; at > 0 && out[at - 1].speedup < s.speedup; at--)
        if (at < cap)
            out[at] = out[at - 1];
    if (at < cap)
        out[at] = s;
    return n < cap ? n + 1 : n;
}

/* The best two numbers of drafts of one exit. */
static void choose_drafts(const struct foretell *f, const lsk_model_info *m, int exit_layer, struct foretold two[2])
{
    for (int d = 1, n = 0; d <= FORETELL_DRAFTS; d++)
        n = insert(two, n, 2, setting(f, m, exit_layer, d));
}

int foretell_best(const struct foretell *f, const lsk_model_info *info, struct foretold *out, int cap)
{
    struct foretold two[2];
    int n = 0;
    for (int e = 1; f->tokens && e <= f->exits; e++) {
        choose_drafts(f, info, e, two);
        n = insert(out, n, cap - 1, two[0]);
    }
    if (n) {
        choose_drafts(f, info, out[0].exit_layer, two);
        out[n++] = two[1];
    }
    return n;
}
