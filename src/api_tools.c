/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "backend/measure.h"
#include "model/shapes.h"
#include "model/synth.h"

_Static_assert((int)LSK_ENCODE_BOS == (int)ENCODE_BOS && (int)LSK_ENCODE_SPECIAL == (int)ENCODE_SPECIAL && (int)LSK_ENCODE_REPLACE == (int)ENCODE_REPLACE, "one set of flags");

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

/* One batch of positions through `depth` layers, their logits handed out a few rows at a time. 1: the caller has had enough. */
static int score_batch(lsk_session *s, int done, float *logits, int rows, lsk_logits_fn each, void *ud, struct error *err)
{
    struct engine *e = &s->m->engine;
    int n_vocab = s->m->model.config.vocab, n = s->t.n_kv - done;
    for (int at = 0; at < n; at += rows) {
        int m = n - at < rows ? n - at : rows;
        int rc = e->b->logits(e->kv, e->rows + at, m, logits, err);
        for (int i = 0; i < m && !rc; i++)
            if (each(ud, done + at + i, logits + (size_t)i * (size_t)n_vocab, n_vocab))
                return 1;
        if (rc)
            return rc;
    }
    return 0;
}

int lsk_score(lsk_session *s, const int32_t *tokens, int n, int depth, lsk_logits_fn each, void *ud, lsk_error *err)
{
    enum { ROWS = 16 };
    struct error e = {0};
    int layers = s->m->model.config.n_layers, n_vocab = s->m->model.config.vocab;
    struct request ask = {.drafter = &drafter_none, .depth = depth ? depth : layers, .max_tokens = 1};
    float *logits = malloc(sizeof *logits * ROWS * (size_t)n_vocab);
    int rc = logits ? 0 : fail(&e, ERR_OS, "out of memory for %d rows of logits", ROWS);
    if (!rc && (depth < 0 || depth > layers))
        rc = fail(&e, ERR_USAGE, "depth %d: must be 0 (all) to %d", depth, layers);
    if (!rc)
        rc = api_check_tokens(s, tokens, n, &e);
    s->t.n_kv = 0; /* nothing of the old timeline is reused: every row's logits are wanted */
    s->t.reply.finish = REPLY_CANCELLED; /* and a reply that was on its way has lost its text */
    if (!rc)
        rc = timeline_prompt(&s->t, &s->m->engine, tokens, n, &ask, &e);
    s->t.n = n + 1; /* the last token goes through the layers too */
    for (int done = 0; !rc && done < n; done = s->t.n_kv) {
        rc = timeline_prefill(&s->t, &s->m->engine, &e);
        if (!rc)
            rc = score_batch(s, done, logits, ROWS, each, ud, &e);
    }
    s->t.n = s->t.n_kv = 0;
    free(logits);
    return rc < 0 ? api_fail(err, &e) : 0;
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
    return synth_write(folder, &so, &e) ? api_fail(err, &e) : 0;
}

double lsk_measure_read(uint64_t bytes, int threads, lsk_error *err)
{
    struct error e = {0};
    double rate = measure_read(bytes, threads, &e);
    return rate < 0 ? api_fail(err, &e) : rate;
}
