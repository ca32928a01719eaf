/* SPDX-License-Identifier: Apache-2.0 */
#include "exit_scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "messages.h"

const int within_top[WITHINS] = {2, 5, 10};

/* ---- one row of logits ---- */

void likeliest(const float *logits, int n, int32_t *top, int n_top)
{
    int found = 0;
    for (int i = 0; i < n; i++) {
        int at = found < n_top ? found++ : n_top;
        for (; at > 0 && !(logits[top[at - 1]] >= logits[i]); at--)
            if (at < n_top)
                top[at] = top[at - 1];
        if (at < n_top)
            top[at] = i;
    }
}

double surprise(const float *logits, int n, float largest, int32_t token)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)expf(logits[i] - largest);
    return log(sum) - (double)(logits[token] - largest);
}

/* ---- which exits ---- */

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

int exit_scores_plan(struct exit_scores *e, const lsk_model_info *info, const struct numbers *exits, int all, lsk_error *err)
{
    struct numbers d = *exits;
    for (int i = 0; i < d.n; i++)
        if (check_exit_layer(info, "--exits", d.value[i], err) < 0)
            return err->code;
    for (int i = 1; !exits->n && all && i < info->n_layers && d.n < NUMBERS_MAX; i++)
        d.value[d.n++] = i;
    for (int divide = 4; !exits->n && !all && divide >= 2; divide--)
        if (info->n_layers / divide > 0)
            d.value[d.n++] = info->n_layers / divide;
    qsort(d.value, (size_t)d.n, sizeof *d.value, ascending);
    for (int i = 0; i <= d.n; i++) {
        const int depth = i < d.n ? d.value[i] : info->n_layers;
        if (!e->n || e->depth[e->n - 1] < depth)
            e->exit[e->n].depth = e->depth[e->n] = depth, e->n++;
    }
    return check_context(info, "--length", e->length, 0, err);
}

/* ---- reading ---- */

static int32_t *top_at(const struct exit_scores *e, int k, int i)
{
    return e->top + ((size_t)k * (size_t)e->length + (size_t)i) * TOP_MAX;
}

static int rank_of(const int32_t *top, int32_t token)
{
    int rank = 0;
    while (rank < TOP_MAX && top[rank] != token)
        rank++;
    return rank;
}

/* A position's exits come before the whole model, whose pick they are then compared with. */
static void compare(struct exit_scores *e, int i)
{
    const int32_t pick = top_at(e, e->n - 1, i)[0];
    for (int k = 0; k < e->n; k++) {
        int rank = rank_of(top_at(e, k, i), pick);
        e->exit[k].agree += !rank;
        for (int w = 0; w < WITHINS; w++)
            e->exit[k].within[w] += rank < within_top[w];
    }
}

static int take_logits(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    struct exit_scores *e = ud;
    int k = 0;
    while (e->depth[k] != depth)
        k++;
    int32_t *top = top_at(e, k, i);
    memset(top, -1, TOP_MAX * sizeof *top);
    likeliest(logits, n_vocab, top, TOP_MAX);
    const double nats = surprise(logits, n_vocab, logits[top[0]], e->token[i + 1]);
    e->exit[k].nats += nats;
    e->exit[k].squares += nats * nats;
    e->exit[k].right += top[0] == e->token[i + 1];
    if (k == e->n - 1)
        compare(e, i);
    return terminal_interrupted();
}

/* The last token of a window has nothing to foretell, so it is not read. */
static int read_window(struct exit_scores *e, lsk_session *s, const struct document *d, int at, int n, lsk_error *err)
{
    struct exit_score before[NUMBERS_MAX + 1];
    memcpy(before, e->exit, sizeof before);
    e->token = d->token + at;
    e->from = d->given - at > 1 ? d->given - at : 1;
    int r = lsk_score_exits(s, e->token, n - 1, e->from - 1, e->depth, e->n, take_logits, e, err);
    for (int k = e->n - 1; r >= 0 && k >= 0; k--)
        if (isnan(e->exit[k].nats))
            r = complain(err, LSK_EDATA, "the model's logits are not finite behind layer %d: its weights are damaged or overflow; `layerskip info --check` names damaged tensors", e->depth[k]);
    if (terminal_interrupted()) /* a window counts as a whole */
        memcpy(e->exit, before, sizeof before);
    else
        e->counted += (uint64_t)(n - e->from);
    return r;
}

static int enough(const struct exit_scores *e)
{
    return terminal_interrupted() || (e->limit > 0 && (double)e->counted >= e->limit);
}

/* Where a document's windows end: one with a prompt has one window. */
static int end_of(const struct exit_scores *e, const struct document *d)
{
    return d->given && d->n > e->length ? e->length : d->n;
}

static uint64_t tokens_to_read(const struct exit_scores *e, const struct documents *texts)
{
    uint64_t n = 0;
    for (int i = 0; i < texts->n; i++)
        n += (uint64_t)end_of(e, &texts->item[i]);
    return e->limit > 0 && (double)n > e->limit ? (uint64_t)e->limit : n;
}

/* From e->at on, which an interruption leaves at the window that it cut. */
static int read_document(struct exit_scores *e, lsk_session *s, const struct document *d, struct progress *progress, uint64_t total, lsk_error *err)
{
    const int end = end_of(e, d);
    int r = 0;
    while (r >= 0 && e->at < end - 1 && !enough(e)) {
        const int n = end - e->at < e->length ? end - e->at : e->length, counts = d->given < e->at + n;
        const uint64_t before = e->counted;
        if (counts)
            r = read_window(e, s, d, e->at, n, err);
        if (counts && e->counted == before)
            break;
        e->at += e->length;
        progress_tokens(progress, "reading", (int)(e->counted < total ? e->counted : total), (int)total);
        if (r >= 0 && e->keeper.keep)
            r = e->keeper.keep(e->keeper.ud, err);
    }
    return r;
}

int exit_scores_read(struct exit_scores *e, lsk_session *s, const struct documents *texts, int show_progress, lsk_error *err)
{
    const uint64_t total = tokens_to_read(e, texts);
    struct progress progress = progress_start(show_progress);
    int r = 0;
    e->top = malloc((size_t)e->n * (size_t)e->length * TOP_MAX * sizeof *e->top);
    if (!e->top)
        return complain(err, LSK_EOS, "out of memory");
    while (r >= 0 && e->document < texts->n && !enough(e)) {
        r = read_document(e, s, &texts->item[e->document], &progress, total, err);
        if (!terminal_interrupted())
            e->document++, e->at = 0;
    }
    if (r >= 0 && terminal_interrupted() && e->keeper.keep)
        r = e->keeper.keep(e->keeper.ud, err);
    progress_end(&progress);
    if (r >= 0 && !e->counted && !terminal_interrupted())
        r = complain(err, LSK_EDATA, "the text has no token to foretell: give more");
    return r;
}

void exit_scores_free(struct exit_scores *e)
{
    free(e->top);
}

double perplexity_of(const struct exit_scores *e, int i)
{
    return exp(e->exit[i].nats / (double)e->counted);
}

double perplexity_error(const struct exit_scores *e, int i)
{
    const double n = (double)e->counted, mean = e->exit[i].nats / n, variance = e->exit[i].squares / n - mean * mean;
    return n > 1 ? exp(mean) * sqrt((variance > 0 ? variance : 0) / (n - 1)) : NAN;
}
