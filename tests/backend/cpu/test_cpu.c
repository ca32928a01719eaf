/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend as a whole: opening, choosing tokens on several threads, measuring. What every backend must keep stands in tests/backend/test_backend.c. */
#define TEST_DEVICE "cpu"
#include "tiny_device.h"

#include <math.h>

#include "backend/cpu/cpu.h"
#include "backend/measure.h"
#include "cuts.h"

enum { ROWS = 20 };

static void open_tiny(struct synthetic *s, int threads)
{
    struct device_options o = {.threads = threads, .n_slots = 64, .n_seqs = 1, .n_hidden = 64};
    synthetic_open(s, "tiny-gqa", "bf16", &o);
    assert_int_equal(s->b->seq_open(s->kv, NULL), 0);
}

static void run_rows(struct synthetic *s, struct row *rows)
{
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct row){.token = 7 * i % s->model.config.vocab, .pos = i, .slot = i, .prefix = i, .h = i};
    assert_int_equal(s->b->forward(s->kv, 0, s->model.config.n_layers, rows, ROWS, NULL), 0);
}

/* The choice rule by its words, over a whole row of logits, one token after the other. */
static struct pick choose(const float *logits, int n, const struct sampling *s, int32_t position)
{
    const struct ops *o = ops_pick("plain");
    struct scan top = o->scan(logits, 0, n);
    struct best b = {-INFINITY, s->temperature > 0 ? -1 : top.id};
    if (s->temperature > 0) {
        struct cut cut = cut_of(logits, n, top.max, s);
        for (int i = 0; i < n; i++) {
            float x = logits[i] / s->temperature;
            double key = (double)x + pick_gumbel(pick_noise(s, position, i / 4).v[i % 4]);
            if (pick_keeps(cut, x, i) && pick_mass(x - top.max / s->temperature) && key > b.key)
                b = (struct best){key, i};
        }
    }
    float logprob = pick_logprob(logits[b.id], top.max, o->mass(logits, 0, n, top.max));
    return (struct pick){.token = b.id, .logprob = logprob, .conf = pick_exp(logprob)};
}

/* The most probable tokens by their words: no other token stands before the last of them. */
static void check_top(const struct pick *p, int n_top, const float *logits, int n)
{
    uint64_t mass = ops_pick("plain")->mass(logits, 0, n, ops_pick("plain")->scan(logits, 0, n).max);
    float max = ops_pick("plain")->scan(logits, 0, n).max;
    assert_int_equal(p->n_top, n_top);
    for (int k = 0; k < n_top; k++) {
        int before = 0, id = p->top[k].token;
        float logprob = pick_logprob(logits[id], max, mass);
        for (int t = 0; t < n; t++)
            before += logits[t] > logits[id] || (logits[t] == logits[id] && t < id);
        assert_int_equal(before, k);
        assert_memory_equal(&p->top[k].logprob, &logprob, sizeof logprob);
    }
}

static void picks_follow_the_rule_on_any_number_of_threads(void **state)
{
    (void)state;
    static const struct sampling kinds[] = {
        {.temperature = 0}, {.temperature = 1, .seed = 5}, {.temperature = 0.7f, .seed = 6, .top_k = 9, .top_p = 0.8f}, {.temperature = 2, .seed = 7, .min_p = 0.02f},
    };
    for (int threads = 1; threads <= 5; threads++) {
        struct synthetic s;
        struct row rows[ROWS];
        struct ask asks[ROWS];
        struct pick picks[ROWS];
        open_tiny(&s, threads);
        int vocab = s.model.config.vocab;
        float *logits = calloc((size_t)(ROWS * vocab), sizeof *logits);
        run_rows(&s, rows);
        for (int i = 0; i < ROWS; i++)
            asks[i] = (struct ask){.s = &kinds[i % 4], .n_top = i % (PICK_TOP + 1)};
        assert_int_equal(s.b->pick(s.kv, rows, asks, ROWS, picks, NULL), 0);
        assert_int_equal(s.b->logits(s.kv, rows, ROWS, logits, NULL), 0);
        for (int i = 0; i < ROWS; i++) {
            struct pick want = choose(logits + i * vocab, vocab, asks[i].s, rows[i].pos + 1);
            assert_int_equal(picks[i].token, want.token);
            assert_memory_equal(&picks[i].logprob, &want.logprob, sizeof(float));
            double sum = 0;
            for (int t = 0; t < vocab; t++)
                sum += exp((double)logits[i * vocab + t] - (double)logits[i * vocab + want.token]);
            assert_true(fabs(picks[i].logprob + log(sum)) < 1e-5);
            assert_true(fabs(picks[i].conf - 1 / sum) < 1e-5);
            check_top(&picks[i], asks[i].n_top, logits + i * vocab, vocab);
        }
        free(logits);
        synthetic_close(&s);
    }
}

/* Logits that division makes equal: top-k 1 keeps the lowest id of them, whichever has the largest logit. */
static void ties_after_division_stay_inside_the_cut(void **state)
{
    (void)state;
    float logits[64];
    int ties = 0;
    for (int i = 0; i < 2000; i++) {
        for (int t = 0; t < 64; t++)
            logits[t] = -5;
        logits[11] = 3.981f + (float)i * 9e-6f; /* mantissa above that of 1.99: half of the neighbours fall together */
        logits[40] = nextafterf(logits[11], 10);
        struct sampling s = {.temperature = 1.99f, .seed = (uint64_t)i, .top_k = 1};
        struct cut cut = cut_of(logits, 64, logits[40], &s);
        ties += cut.id == 11;
        assert_true(cut.id == 11 || cut.id == 40);
        assert_int_equal(choose(logits, 64, &s, 5).token, cut.id);
    }
    assert_true(ties > 100);
    struct synthetic s; /* and through the backend: twins of the head are such neighbours */
    struct device_options o = {.threads = 2, .n_slots = 64, .n_seqs = 1, .n_hidden = 64};
    synthetic_open(&s, "tiny-ties", "bf16", &o);
    assert_int_equal(s.b->seq_open(s.kv, NULL), 0);
    struct row rows[ROWS];
    run_rows(&s, rows);
    int vocab = s.model.config.vocab;
    float *all = calloc((size_t)(ROWS * vocab), sizeof *all);
    assert_int_equal(s.b->logits(s.kv, rows, ROWS, all, NULL), 0);
    for (int k = 0; k < 300; k++) {
        struct sampling ask = {.temperature = 1 + (float)k * 0.37f, .seed = (uint64_t)k, .top_k = 1};
        struct ask asks[ROWS];
        struct pick picks[ROWS];
        for (int i = 0; i < ROWS; i++)
            asks[i] = (struct ask){.s = &ask};
        assert_int_equal(s.b->pick(s.kv, rows, asks, ROWS, picks, NULL), 0);
        for (int i = 0; i < ROWS; i++)
            assert_int_equal(picks[i].token, choose(all + i * vocab, vocab, &ask, rows[i].pos + 1).token);
    }
    free(all);
    synthetic_close(&s);
}

/* Item 80: logits that are not finite give no token, and no crash. */
static void logits_that_are_not_finite_give_no_token(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY};
    for (int k = 0; k < 2; k++) {
        struct synthetic s;
        struct row rows[ROWS];
        static const struct sampling greedy, warm = {.temperature = 1, .top_p = 0.5f};
        struct ask asks[ROWS];
        struct pick picks[ROWS];
        open_tiny(&s, 2);
        s.d->norm[3] = bad[k];
        run_rows(&s, rows);
        for (int i = 0; i < ROWS; i++)
            asks[i] = (struct ask){.s = i % 2 ? &greedy : &warm, .n_top = PICK_TOP};
        assert_int_equal(s.b->pick(s.kv, rows, asks, ROWS, picks, NULL), 0);
        for (int i = 0; i < ROWS; i++)
            assert_true(picks[i].token == -1 && picks[i].n_top == 0);
        synthetic_close(&s);
    }
}

static void unknown_kernels_are_refused(void **state)
{
    (void)state;
    struct synthetic s;
    struct error err = {0};
    open_tiny(&s, 1);
    struct device_options o = s.o;
    struct device_plan plan;
    o.kernels = "sse9";
    assert_null(s.b->open(&s.model, &o, &err));
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.text, "sse9"));
    assert_int_equal(s.b->plan(&s.model, &o, &plan, &err), ERR_USAGE);
    synthetic_close(&s);
}

static void reading_is_measured(void **state)
{
    (void)state;
    struct error err = {0};
    double one = measure_read(64 << 20, 1, &err);
    assert_true(one > 1e8 && one < 1e13);
    assert_true(measure_read(1000, 1, &err) < 0);
    assert_non_null(strstr(err.text, "1000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_follow_the_rule_on_any_number_of_threads),
        cmocka_unit_test(ties_after_division_stay_inside_the_cut),
        cmocka_unit_test(logits_that_are_not_finite_give_no_token),
        cmocka_unit_test(unknown_kernels_are_refused),
        cmocka_unit_test(reading_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
