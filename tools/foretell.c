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

/* A draft reads the exit's layers and a head; what follows reads the rest. The last row of a round goes through the exit's layers too, in a pass of its own. */
static double speedup_of(const lsk_model_info *m, int exit_layer, int rounds, int drafted, int n)
{
    const double layer = (double)m->layer_bytes, head = (double)m->head_bytes, draft_head = m->draft_head_bytes ? (double)m->draft_head_bytes : head;
    const double whole = m->n_layers * layer + head;
    return n * whole / (rounds * whole + drafted * (exit_layer * layer + draft_head));
}

static int better(const void *a, const void *b)
{
    const struct foretold *x = a, *y = b;
    return (y->speedup > x->speedup) - (y->speedup < x->speedup);
}

/* The best two numbers of drafts of one exit. */
static void choose_drafts(const lsk_model_info *m, const char *agrees, int n, int exit_layer, struct foretold *first, struct foretold *second)
{
    *first = *second = (struct foretold){exit_layer, 0, 0};
    for (int d = 1; d <= FORETELL_DRAFTS; d++) {
        int drafted, rounds = rounds_of(agrees, n, d, &drafted);
        const struct foretold f = {exit_layer, d, speedup_of(m, exit_layer, rounds, drafted, n)};
        if (f.speedup > first->speedup) {
            *second = *first;
            *first = f;
        } else if (f.speedup > second->speedup) {
            *second = f;
        }
    }
}

int foretell(lsk_session *s, const lsk_model_info *info, const int32_t *tokens, int n, int given, struct foretold *out, int cap, lsk_error *err)
{
    const int exits = info->n_layers - 1, length = n - given;
    if (length < 2 || exits < 1)
        return 0;
    struct reading reading = {tokens, given, n, malloc((size_t)exits * (size_t)length)};
    struct foretold *best = malloc(2 * (size_t)exits * sizeof *best), *second = best ? best + exits : NULL;
    int *depth = malloc((size_t)exits * sizeof *depth), r = reading.agrees && best && depth ? 0 : complain(err, LSK_EOS, "out of memory"), found = 0;
    for (int i = 0; r >= 0 && i < exits; i++)
        depth[i] = i + 1;
    if (r >= 0)
        r = lsk_score_exits(s, tokens, n - 1, given - 1, depth, exits, take_logits, &reading, err);
    for (int i = 0; r >= 0 && i < exits; i++)
        choose_drafts(info, reading.agrees + i * length, length, i + 1, &best[i], &second[i]);
    if (r >= 0 && !terminal_interrupted()) {
        qsort(best, (size_t)exits, sizeof *best, better);
        for (; found < exits && found < cap - 1; found++)
            out[found] = best[found];
        if (second[best[0].exit_layer - 1].drafts)
            out[found++] = second[best[0].exit_layer - 1];
    }
    free(reading.agrees);
    free(best);
    free(depth);
    return r < 0 ? r : found;
}
