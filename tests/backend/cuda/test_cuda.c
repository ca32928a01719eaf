/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend's own promises: a chain of drafts in one call is the same as step by step; each CUDA call may fail, and does so in turn. */
#include "gpu.h"

#include "backend/cuda/cuda.h"
#include "backend/plugin.h"
#include "tiny_device.h"

extern const struct plugin lsk_plugin;

enum { CHAIN = 5 };

static void open_model(struct model *m, const char *shape, const char *dtype)
{
    char path[160];
    struct error err = {0};
    synthetic_path(path, sizeof path, shape, dtype);
    if (model_open(m, path, NULL, &err))
        fail_with(err.text);
}

static struct row row_at(int token, int pos, int h) { return (struct row){.token = token, .pos = pos, .slot = pos, .prefix = pos, .h = h}; }

/* A little of everything. Returns the first error's code. */
static int use_everything(const struct model *m, const char *weights, struct error *err)
{
    const struct backend *b = lsk_plugin.backend;
    struct device_options o = {.weights = weights, .n_slots = 300, .n_seqs = 2, .n_hidden = 80};
    struct device *d = b->open(m, &o, err);
    struct kv *kv = d ? b->kv_open(d, err) : NULL;
    int rc = kv ? 0 : err->code, layers = m->config.n_layers;
    static const struct sampling greedy = {0}, warm = {.temperature = 0.8f, .top_p = 0.9f, .top_k = 40, .seed = 7};
    struct row rows[80];
    struct ask asks[80];
    struct pick picks[80];
    float *logits = malloc((size_t)m->config.vocab * 2 * sizeof *logits);
    for (int i = 0; i < 80; i++) {
        rows[i] = row_at(i % m->config.vocab, i, i);
        asks[i] = (struct ask){.s = i % 2 ? &warm : &greedy, .n_top = i % 9};
    }
    if (!rc && (b->seq_open(kv, err) < 0 || b->seq_open(kv, err) < 0))
        rc = err->code;
    if (!rc)
        rc = b->prefill(kv, layers, rows, 70, err);
    if (!rc)
        rc = b->forward(kv, 0, 1, rows + 70, 9, err);
    if (!rc)
        rc = b->forward(kv, 1, layers, rows + 70, 9, err);
    if (!rc)
        rc = b->pick(kv, rows + 70, asks + 70, 9, picks, err);
    if (!rc)
        rc = b->logits(kv, rows + 70, 2, logits, err);
    if (!rc)
        rc = b->kv_move(kv, 0, 72, (const int32_t[]){73, 75, 77}, 3, err);
    if (!rc)
        rc = b->seq_share(kv, 0, 1, 60, err);
    struct row other = row_at(3, 60, 0);
    other.seq = 1;
    if (!rc)
        rc = b->forward(kv, 0, layers, &other, 1, err); /* copies the shared page */
    struct row chain[2] = {row_at(5, 79, 0), row_at(-1, 80, 1)};
    if (!rc)
        rc = b->draft(kv, 1, chain, asks, (const int[]){1, 1}, 2, picks, err);
    if (kv)
        b->kv_close(kv);
    if (d)
        b->close(d);
    free(logits);
    return rc;
}

static void every_call_may_fail(void **state)
{
    (void)state;
    static const char *const weights[] = {"file", "q8"};
    for (int w = 0; w < 2; w++) {
        struct model m;
        struct error err = {0};
        size_t before, after, all;
        open_model(&m, "tiny-ties", "bf16");
        if (use_everything(&m, weights[w], &err)) /* once without: what the runtime keeps for itself is there then */
            fail_with(err.text);
        GPU(cudaMemGetInfo(&before, &all));
        long start = cuda_calls();
        assert_int_equal(use_everything(&m, weights[w], &err), 0);
        long n = cuda_calls() - start, failed = 0, reached = 0;
        for (long k = 0; k < n; k++) {
            err = (struct error){0};
            start = cuda_calls();
            cuda_fail_at(k);
            int rc = use_everything(&m, weights[w], &err);
            cuda_fail_at(-1);
            bool hit = cuda_calls() - start > k; /* how many calls a load makes depends on how its threads share the work */
            reached += hit;
            failed += rc < 0;
            if (hit && (rc >= 0 || rc != err.code || !*err.text))
                fprintf(stderr, "call %ld of %ld failed, and the code is %d (%d), the text \"%s\"\n", k, n, rc, err.code, err.text);
        }
        GPU(cudaMemGetInfo(&after, &all));
        fprintf(stderr, "%s: %ld calls made to fail, %ld told of %ld reached; %lld bytes of GPU memory lost\n", weights[w], n, failed, reached, (long long)before - (long long)after);
        assert_int_equal(failed, reached);
        assert_true(reached > n / 2);
        assert_true(after + (4 << 20) >= before);
        if (use_everything(&m, weights[w], &err))
            fail_with(err.text);
        model_close(&m);
    }
}

/* Timelines of different lengths, chains of different lengths, greedy and sampled. */
static void a_chain_is_the_same_step_by_step(void **state)
{
    (void)state;
    struct model m;
    struct error err = {0};
    open_model(&m, "tiny-gqa", "bf16");
    const struct backend *b = lsk_plugin.backend;
    struct device_options o = {.n_slots = 300, .n_seqs = 3, .n_hidden = 200};
    struct device *d = b->open(&m, &o, &err);
    struct kv *kv = d ? b->kv_open(d, &err) : NULL;
    if (!kv)
        fail_with(err.text);
    static const struct sampling greedy = {0}, warm = {.temperature = 1.5f, .seed = 5};
    static const int count[CHAIN] = {3, 3, 2, 2, 1};
    struct row prompt[200], chain[3 * CHAIN];
    struct ask asks[3 * CHAIN];
    struct pick one[3 * CHAIN], all[3 * CHAIN];
    for (int s = 0; s < 3; s++) {
        assert_int_equal(b->seq_open(kv, &err), s);
        for (int i = 0; i < 60 + s; i++) {
            prompt[i] = row_at((i * 7 + s) % m.config.vocab, i, i);
            prompt[i].seq = s;
        }
        assert_int_equal(b->forward(kv, 0, m.config.n_layers, prompt, 60 + s, &err), 0);
    }
    int n = 0;
    for (int k = 0; k < CHAIN; k++)
        for (int i = 0; i < count[k]; i++, n++) {
            chain[n] = row_at(k ? -1 - i : 9 + i, 60 + i, n);
            chain[n].seq = i;
            chain[n].pos += k;
            chain[n].slot += k;
            chain[n].also = ((uint64_t)1 << k) - 1;
            asks[n] = (struct ask){.s = i == 1 ? &warm : &greedy};
        }
    assert_int_equal(b->draft(kv, 2, chain, asks, count, CHAIN, all, &err), 0);
    for (int k = 0, at = 0; k < CHAIN; at += count[k++]) {
        for (int i = 0; i < count[k] && k; i++)
            chain[at + i].token = one[at - count[k - 1] + i].token;
        assert_int_equal(b->forward(kv, 0, 2, chain + at, count[k], &err), 0);
        assert_int_equal(b->pick(kv, chain + at, asks + at, count[k], one + at, &err), 0);
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(one[i].token, all[i].token);
        assert_true(one[i].logprob == all[i].logprob && one[i].conf == all[i].conf);
    }
    b->kv_close(kv);
    b->close(d);
    model_close(&m);
}

int main(void)
{
    gpu_or_skip();
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_chain_is_the_same_step_by_step), cmocka_unit_test(every_call_may_fail)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
