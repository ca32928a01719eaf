/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "backend/measure.h"
#include "model/quantize.h"
#include "model/shapes.h"
#include "model/synth.h"
#include "train/corpus.h"
#include "train/frequent.h"

_Static_assert((int)LSK_ENCODE_BOS == (int)ENCODE_BOS && (int)LSK_ENCODE_SPECIAL == (int)ENCODE_SPECIAL && (int)LSK_ENCODE_REPLACE == (int)ENCODE_REPLACE, "one set of flags");

enum { SCORE_ROWS = 16 };

int lsk_encode(const lsk_model *m, const char *text, size_t n, unsigned flags, int32_t *out, int cap, lsk_error *err)
{
    struct error e = {0};
    int count = tokenizer_encode(m->model.tokenizer, text, n, flags, out, cap, &e);
    return count < 0 ? api_fail(err, &e) : count;
}

const char *lsk_piece(const lsk_model *m, int32_t token, size_t *n)
{
    struct bytes b = tokenizer_piece(m->model.tokenizer, token);
    *n = b.n;
    return (const char *)b.p;
}

/* What the logits of a pass are for. */
struct score {
    const lsk_session *s;
    int from; /* first position that is wanted */
    float *logits; /* [SCORE_ROWS][vocab] */
    lsk_exit_logits_fn each;
    void *ud;
};

/* Logits of those of the n rows at `depth` that are wanted, a few at a time. 1: the caller has had enough. */
static int hand_out(const struct score *c, int n, int depth, struct error *err)
{
    const struct engine *e = &c->s->m->engine;
    int n_vocab = c->s->m->model.config.vocab, first = c->from - e->rows[0].pos;
    for (int at = first > 0 ? first : 0; at < n; at += SCORE_ROWS) {
        int m = n - at < SCORE_ROWS ? n - at : SCORE_ROWS;
        int rc = e->b->logits(e->kv, e->rows + at, m, c->logits, err);
        for (int i = 0; i < m && !rc; i++)
            rc = c->each(c->ud, e->rows[at + i].pos, depth, c->logits + (size_t)i * (size_t)n_vocab, n_vocab) ? 1 : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int check_score(const lsk_session *s, const int32_t *tokens, int n, int from, const int *depths, int n_depths, struct error *err)
{
    int layers = s->m->model.config.n_layers;
    for (int i = 0; i < n_depths; i++)
        if (depths[i] < 1 || depths[i] > layers || (i && depths[i] <= depths[i - 1]))
            return fail(err, ERR_USAGE, "depth %d: must be 1 to %d%s", depths[i], layers, i ? ", and more than the one before" : "");
    if (n_depths < 1)
        return fail(err, ERR_USAGE, "no depth to score at: give at least one");
    if (n < 1 || n > s->m->engine.n_slots)
        return fail(err, ERR_USAGE, "%d tokens to score: must be 1 to %d, the context", n, s->m->engine.n_slots);
    if (from < 0 || from >= n)
        return fail(err, ERR_USAGE, "from token %d: must be 0 to %d", from, n - 1);
    return api_check_tokens(s, tokens, n, err);
}

/* The rows of one batch go from depth to depth: a row's bits do not know that it stopped on the way. */
static int score_batch(const struct score *c, int n, const int *depths, int n_depths, struct error *err)
{
    const struct engine *g = &c->s->m->engine;
    int rc = 0;
    for (int i = 0; !rc && i < n_depths; i++) {
        rc = g->b->forward(g->kv, i ? depths[i - 1] : 0, depths[i], g->rows, n, err);
        if (!rc)
            rc = hand_out(c, n, depths[i], err);
    }
    return rc;
}

int lsk_score_exits(lsk_session *s, const int32_t *tokens, int n, int from, const int *depths, int n_depths, lsk_exit_logits_fn each, void *ud, lsk_error *err)
{
    struct error e = {0};
    struct engine *g = &s->m->engine;
    int rc = check_score(s, tokens, n, from, depths, n_depths, &e);
    struct score c = {s, from, rc ? NULL : malloc(sizeof *c.logits * SCORE_ROWS * (size_t)s->m->model.config.vocab), each, ud};
    if (!rc && !c.logits)
        rc = fail(&e, ERR_OS, "out of memory for %d rows of logits", SCORE_ROWS);
    if (!rc)
        timeline_forget(&s->t, g);
    for (int done = 0; !rc && done < n; done += g->batch) {
        int m = n - done < g->batch ? n - done : g->batch;
        for (int i = 0; i < m; i++)
            g->rows[i] = (struct row){.token = tokens[done + i], .pos = done + i, .seq = s->t.seq, .slot = done + i, .prefix = done + i, .h = i};
        rc = score_batch(&c, m, depths, n_depths, &e);
    }
    free(c.logits);
    return rc < 0 ? api_fail(err, &e) : 0;
}

struct one_depth {
    lsk_logits_fn each;
    void *ud;
};

static int hand_on(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    const struct one_depth *o = ud;
    (void)depth;
    return o->each(o->ud, i, logits, n_vocab);
}

int lsk_score(lsk_session *s, const int32_t *tokens, int n, int depth, lsk_logits_fn each, void *ud, lsk_error *err)
{
    return lsk_score_exits(s, tokens, n, 0, (int[]){depth ? depth : s->m->model.config.n_layers}, 1, hand_on, &(struct one_depth){each, ud}, err);
}

const char *lsk_drafter(int i, const char **help)
{
    const struct drafter *d = drafter_at(i);
    if (d && help)
        *help = d->help;
    return d ? d->name : NULL;
}

const char *lsk_shape(int i, const char **help)
{
    const struct shape *s = shape_at(i);
    if (s && help)
        *help = s->help;
    return s ? s->name : NULL;
}

int lsk_synth(const char *folder, const lsk_synth_options *o, lsk_error *err)
{
    struct error e = {0};
    struct synth_options so = {.shape = o->shape, .seed = o->seed, .tie = o->tie, .layers = o->layers, .dtype = o->dtype, .shard_bytes = o->shard_bytes,
                               .threads = o->threads, .progress = o->progress, .progress_ud = o->progress_ud};
    return api_check_options(o, "lsk_synth_options", &e) || synth_write(folder, &so, &e) ? api_fail(err, &e) : 0;
}

static void hand_row(void *ud, const struct quantize_row *r)
{
    const lsk_quantize_options *o = ud;
    if (o->row)
        o->row(o->report_ud, &(lsk_quantize_row){.kind = r->kind, .from = r->from, .to = r->to, .tensors = r->tensors, .values = r->values, .bytes_before = r->bytes_before,
                                                 .bytes_after = r->bytes_after, .rms_error = r->rms_error, .max_error = r->max_error});
}

static void hand_note(void *ud, const char *line)
{
    const lsk_quantize_options *o = ud;
    if (o->note)
        o->note(o->report_ud, line);
}

/* The most frequent tokens of a text by the tokenizer of the model at `in`: to *list, which the caller frees. */
static int count_tokens(const char *in, lsk_quantize_options *o, int64_t **list, int *n, struct error *err)
{
    struct model m;
    int rc = model_open(&m, in, o->ignore_config, err);
    if (rc)
        return rc;
    const struct config *c = &m.config;
    struct corpus text = {.file = &o->draft_text, .n_files = 1, .tokenizer = m.tokenizer, .vocab = c->vocab, .end = c->n_eos ? c->eos[0] : -1, .special = true, .progress = o->progress,
                          .ud = o->progress_ud};
    uint64_t *count = calloc((size_t)c->vocab, sizeof *count);
    *list = malloc((size_t)c->vocab * sizeof **list);
    rc = count && *list ? corpus_count(&text, count, err) : fail(err, ERR_OS, "out of memory");
    struct frequent f = rc ? (struct frequent){0} : frequent_tokens(count, c->vocab, o->draft_tokens, *list);
    *n = f.n;
    if (!rc && !f.n)
        rc = fail(err, ERR_DATA, "%s: no token to count: every response is empty", o->draft_text);
    if (!rc) {
        char line[256];
        snprintf(line, sizeof line, "drafts are chosen among %d of %d tokens: they are %.2f %% of the %llu that were counted (%d different ones)", f.n, c->vocab,
                 100 * (double)f.covered / (double)f.tokens, (unsigned long long)f.tokens, f.n_seen);
        hand_note(o, line);
    }
    free(count);
    model_close(&m);
    return rc;
}

int lsk_quantize(const char *in, const char *out, const lsk_quantize_options *o, lsk_error *err)
{
    struct error e = {0};
    lsk_quantize_options own = *o;
    int64_t *list = NULL;
    int n_list = 0, n = api_check_options(o, "lsk_quantize_options", &e);
    if (!n && o->draft_text)
        n = count_tokens(in, &own, &list, &n_list, &e);
    struct quantize_options qo = {.type = o->type, .embed_type = o->embed_type, .output_type = o->output_type, .pure = o->pure, .allow_requantize = o->allow_requantize,
                                  .force = o->force, .dry_run = o->dry_run, .exit_layer = o->profile.exit_layer, .num_speculations = o->profile.num_speculations,
                                  .draft_token = list, .n_draft_tokens = n_list, .part_bytes = o->part_bytes, .threads = o->threads, .ignore = o->ignore_config, .progress = o->progress,
                                  .progress_ud = o->progress_ud, .row = hand_row, .note = hand_note, .report_ud = &own};
    n = n ? n : quantize_write(in, out, &qo, &e);
    free(list);
    return n < 0 ? api_fail(err, &e) : n;
}

double lsk_measure_read(uint64_t bytes, int threads, lsk_error *err)
{
    struct error e = {0};
    double rate = measure_read(bytes, threads, &e);
    return rate < 0 ? api_fail(err, &e) : rate;
}
