/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's own properties: finite differences, equal bits, what a dropped layer leaves alone, the step, and what it refuses. Gradients against PyTorch are in
   test_train_golden.c. */
#include <math.h>

#include "backend/cpu/trainer.h"
#include "trainer_under_test.h"

enum { N = 3, LENGTH = 70, ROWS = N * LENGTH, LAYERS_MAX = 8 };

static const struct train_options usual = {.batch = N, .length = LENGTH, .threads = 1, .anchor = true};

/* A batch with documents, holes and dropped layers. */
struct positions {
    int32_t token[ROWS], target[ROWS], start[ROWS];
    uint8_t keep[LAYERS_MAX * N];
};

static struct train_batch draw_batch(struct positions *p, const struct config *c, uint64_t seed)
{
    for (int i = 0; i < ROWS; i++) {
        int pos = i % LENGTH;
        p->token[i] = check_below(&seed, c->vocab);
        p->target[i] = check_below(&seed, 4) ? check_below(&seed, c->vocab) : -1;
        p->start[i] = pos < 11 ? 0 : pos < 40 + i / LENGTH ? 11 : 40 + i / LENGTH;
    }
    for (int i = 0; i < LAYERS_MAX * N; i++)
        p->keep[i] = check_below(&seed, 3) > 0;
    return (struct train_batch){.n = N, .length = LENGTH, .token = p->token, .target = p->target, .start = p->start, .keep = p->keep};
}

static void must_backward(struct trial *x, const struct train_batch *b, const struct train_exit *exits, int n, struct train_result *out)
{
    struct error err = {0};
    if (x->ops->backward(x->t, b, exits, n, out, &err))
        fail_with(err.text);
}

static const struct train_exit all_kinds[] = {{1, 0.25f, 0.5f, 0, 0.125f}, {2, 0, 0, 1, 0}, {3, 0, 0, 0, 0}, {4, 1, 0, 0, 0.25f}};
enum { KINDS = sizeof all_kinds / sizeof *all_kinds };

static const struct train_step first_step = {.step = 1, .rate = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .decay = 0.1, .clip = 1, .divide = 1};

/* ---- finite differences ---- */

static double loss_at(struct trial *x, int tensor, size_t entry, float by, const struct train_batch *b, const struct train_exit *exits, int n)
{
    struct train_result got[KINDS];
    double loss = 0;
    float *w = trial_get(x, tensor, TRAIN_WEIGHT), old = w[entry];
    w[entry] = old + by;
    trial_set(x, tensor, TRAIN_WEIGHT, w);
    must_backward(x, b, exits, n, got);
    w[entry] = old;
    trial_set(x, tensor, TRAIN_WEIGHT, w);
    free(w);
    for (int i = 0; i < n; i++)
        loss += (double)exits[i].ce * got[i].ce + (double)exits[i].anchor * got[i].anchor;
    return loss;
}

/* The largest of a tensor's gradients, and one at random: a small one drowns in the rounding of the loss. */
static void check_entries(struct trial *x, int tensor, const float *g, const struct train_batch *b, const struct train_exit *exits, int n)
{
    size_t entry = 0, size = trial_size(x, tensor);
    double square = 0;
    for (size_t i = 0; i < size; i++) {
        entry = fabsf(g[i]) > fabsf(g[entry]) ? i : entry;
        square += (double)g[i] * (double)g[i] / (double)size;
    }
    size_t entries[] = {entry, (entry * 31 + 17) % size};
    for (size_t i = 0; i < 2; i++) {
        const float step = 0.01f;
        double slope = (loss_at(x, tensor, entries[i], step, b, exits, n) - loss_at(x, tensor, entries[i], -step, b, exits, n)) / (2 * (double)step);
        double want = (double)g[entries[i]];
        if (!(fabs(slope - want) <= 0.02 * fabs(want) + 0.02 * sqrt(square) + 2e-5))
            fail_msg("%s [%zu]: gradient %g, finite difference %g", trial_tensor(x, tensor).name, entries[i], want, slope);
    }
}

/* Losses whose other side stands still: those against the last layer would move with it. */
static void test_finite_differences(void **state)
{
    (void)state;
    static const char *const shapes[] = {"tiny-bias", "tiny-tied"};
    const struct train_exit exits[] = {{1, 0.5f, 0, 0, 0.25f}, {2, 1, 0, 0, 0.5f}};
    for (int s = 0; s < (SANITIZED ? 1 : 2); s++) {
        struct trial x;
        struct positions p;
        struct train_result got[2];
        trial_open(&x, shapes[s], &usual);
        struct train_batch b = draw_batch(&p, &x.model.config, 5);
        must_backward(&x, &b, exits, 2, got);
        for (int i = 0; i < x.ops->n_tensors(x.t); i++) {
            const char *name = trial_tensor(&x, i).name;
            x.ops->clear(x.t);
            must_backward(&x, &b, exits, 2, got);
            float *g = trial_get(&x, i, TRAIN_GRADIENT);
            if (strncmp(name, "layers.2.", 9) && strncmp(name, "layers.3.", 9))
                check_entries(&x, i, g, &b, exits, 2);
            else
                for (size_t j = 0; j < trial_size(&x, i); j++)
                    assert_true(g[j] == 0); /* no loss looks at these layers */
            free(g);
        }
        trial_close(&x);
    }
}

/* ---- equal bits ---- */

/* Weights after two steps of two batches each. */
static float *train_a_little(const struct train_options *o, size_t *n)
{
    struct trial x;
    struct positions p;
    struct train_result got[KINDS];
    struct error err = {0};
    double norm;
    trial_open(&x, "tiny-gqa", o);
    for (int step = 0; step < 2; step++) {
        for (uint64_t i = 0; i < 2; i++) {
            struct train_batch b = draw_batch(&p, &x.model.config, 7 + i);
            must_backward(&x, &b, all_kinds, KINDS, got);
        }
        struct train_step s = first_step;
        s.step += step;
        s.divide = 2;
        if (x.ops->update(x.t, &s, &norm, &err))
            fail_with(err.text);
    }
    float *w = trial_all(&x, TRAIN_WEIGHT, n);
    trial_close(&x);
    return w;
}

static void test_same_calls_same_bits(void **state)
{
    (void)state;
    size_t n, m;
    float *first = train_a_little(&usual, &n);
    for (int threads = 1; threads <= 3; threads++)
        for (int recompute = 0; recompute < 2; recompute++) {
            struct train_options o = usual;
            o.threads = threads;
            o.recompute = recompute;
            float *w = train_a_little(&o, &m);
            assert_int_equal(n, m);
            assert_memory_equal(w, first, n * sizeof *w);
            free(w);
        }
    free(first);
}

static float *gradients(struct trial *x, const struct train_batch *b, const struct train_exit *exits, int n_exits, size_t *n)
{
    struct train_result got[KINDS];
    x->ops->clear(x->t);
    must_backward(x, b, exits, n_exits, got);
    return trial_all(x, TRAIN_GRADIENT, n);
}

/* Nothing dropped, all documents one, and exits that weigh nothing: plain training in every bit. */
static void test_exits_without_weight(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    size_t n, m;
    const struct train_exit some[] = {{1, 0, 0, 0, 0}, {4, 1, 0, 0, 0}, {3, 0, 0, 0, 0}};
    trial_open(&x, "tiny", &usual);
    struct train_batch b = draw_batch(&p, &x.model.config, 3);
    memset(p.keep, 1, sizeof p.keep);
    memset(p.start, 0, sizeof p.start);
    float *with = gradients(&x, &b, some, 3, &n);
    b.keep = NULL;
    b.start = NULL;
    float *plain = gradients(&x, &b, some + 1, 1, &m);
    assert_memory_equal(with, plain, n * sizeof *with);
    free(with);
    free(plain);
    trial_close(&x);
}

/* Two batches one after the other add up. */
static void test_gradients_add_up(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result got[KINDS];
    size_t n;
    trial_open(&x, "tiny-tied", &usual);
    struct train_batch b = draw_batch(&p, &x.model.config, 4);
    float *once = gradients(&x, &b, all_kinds, KINDS, &n);
    must_backward(&x, &b, all_kinds, KINDS, got);
    float *twice = trial_all(&x, TRAIN_GRADIENT, &n);
    double square = 0, difference = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)once[i] * (double)once[i];
        difference += pow((double)twice[i] - 2 * (double)once[i], 2);
    }
    assert_true(square > 0 && difference < 1e-10 * square);
    free(once);
    free(twice);
    trial_close(&x);
}

/* ---- layer dropout ---- */

static void test_dropped_samples_stay_as_they_are(void **state)
{
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        struct trial x;
        struct positions p;
        struct train_result got[KINDS];
        struct train_options o = usual;
        o.recompute = recompute;
        trial_open(&x, "tiny-headdim", &o);
        struct train_batch b = draw_batch(&p, &x.model.config, 6);
        memset(p.keep + N, 0, N); /* a layer that nobody goes through */
        must_backward(&x, &b, all_kinds, KINDS, got);
        size_t sample = (size_t)LENGTH * (size_t)x.t->hidden_pad;
        for (int l = 0; l < x.model.config.n_layers; l++)
            for (int s = 0; s < N; s++) {
                int same = !memcmp(x.t->state[l] + (size_t)s * sample, x.t->state[l + 1] + (size_t)s * sample, sample * sizeof(float));
                assert_int_equal(same, !p.keep[l * N + s]);
            }
        for (int i = 0; i < x.ops->n_tensors(x.t); i++)
            if (!strncmp(trial_tensor(&x, i).name, "layers.1.", 9)) {
                float *g = trial_get(&x, i, TRAIN_GRADIENT);
                for (size_t j = 0; j < trial_size(&x, i); j++)
                    assert_true(g[j] == 0);
                free(g);
            }
        trial_close(&x);
    }
}

/* A sample's numbers do not depend on which others go through a layer with it: alone it has the same losses. */
static void test_samples_are_apart(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result together[KINDS], one[KINDS];
    double sum[KINDS] = {0};
    int64_t positions = 0;
    trial_open(&x, "tiny-llama3", &usual);
    struct train_batch b = draw_batch(&p, &x.model.config, 8);
    must_backward(&x, &b, all_kinds, KINDS, together);
    for (int s = 0; s < N; s++) {
        uint8_t keep[LAYERS_MAX];
        for (int l = 0; l < LAYERS_MAX; l++)
            keep[l] = p.keep[l * N + s];
        struct train_batch alone = {.n = 1, .length = LENGTH, .token = p.token + s * LENGTH, .target = p.target + s * LENGTH, .start = p.start + s * LENGTH, .keep = keep};
        must_backward(&x, &alone, all_kinds, KINDS, one);
        positions += one[0].positions;
        for (int i = 0; i < KINDS; i++)
            sum[i] += (one[i].ce + one[i].kl + one[i].accept + one[i].anchor) * (double)one[i].positions;
    }
    assert_int_equal(positions, together[0].positions);
    for (int i = 0; i < KINDS; i++)
        assert_true(fabs(sum[i] / (double)positions - (together[i].ce + together[i].kl + together[i].accept + together[i].anchor)) < 1e-5);
    trial_close(&x);
}

/* ---- evaluate ---- */

/* The same numbers as backward's when nothing is dropped; the last layer agrees with itself; gradients are left alone. */
static void test_evaluate(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result back[2], got[3];
    struct error err = {0};
    size_t n;
    const struct train_exit exits[] = {{2, 1, 1, 1, 1}, {4, 1, 1, 1, 1}};
    const int layers[] = {2, 4, 1};
    trial_open(&x, "tiny", &usual);
    struct train_batch b = draw_batch(&p, &x.model.config, 9);
    b.keep = NULL;
    must_backward(&x, &b, exits, 2, back);
    float *before = trial_all(&x, TRAIN_GRADIENT, &n);
    b.keep = p.keep; /* evaluate drops nothing */
    assert_int_equal(x.ops->evaluate(x.t, &b, layers, 3, got, &err), 0);
    assert_memory_equal(got, back, sizeof back);
    assert_true(got[1].agree == 1 && fabs(got[1].kl) < 1e-9 && fabs(got[1].accept) < 1e-5 && got[1].anchor > 1e-3);
    assert_true(got[2].agree < 1 && got[2].kl > got[0].kl && got[2].accept > 0);
    float *after = trial_all(&x, TRAIN_GRADIENT, &n);
    assert_memory_equal(before, after, n * sizeof *before);
    free(before);
    free(after);
    trial_close(&x);
}

/* Passes see rounded matrices: as if the weights had been set to those. Gradients go straight through, and the weights stay whole. */
static void test_fit(void **state)
{
    (void)state;
    static const enum dtype types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1};
    const struct train_exit exits[] = {{2, 1, 1, 0, 0}, {4, 1, 0, 0, 0}};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct trial fit, plain;
        struct positions p;
        struct train_result got[2], want[2];
        struct train_options o = usual;
        size_t n;
        trial_open(&plain, "tiny-gqa", &o);
        o.fit = types[k];
        trial_open(&fit, "tiny-gqa", &o);
        float *whole = trial_all(&fit, TRAIN_WEIGHT, &n);
        for (int i = 0; i < plain.ops->n_tensors(plain.t); i++) {
            struct train_tensor is = trial_tensor(&plain, i);
            enum dtype type = is.rows == 1 || is.cols % 32 ? DT_F32 : !strcmp(is.name, "embed") || !strcmp(is.name, "head") ? DT_Q8_0 : types[k];
            float *w = trial_get(&plain, i, TRAIN_WEIGHT);
            uint8_t *raw = malloc(trial_size(&plain, i) * 4);
            dtype_from_f32(type, w, raw, trial_size(&plain, i));
            dtype_to_f32(type, raw, w, trial_size(&plain, i));
            trial_set(&plain, i, TRAIN_WEIGHT, w);
            free(raw);
            free(w);
        }
        struct train_batch b = draw_batch(&p, &fit.model.config, 9);
        must_backward(&fit, &b, exits, 2, got);
        must_backward(&plain, &b, exits, 2, want);
        assert_memory_equal(got, want, sizeof got);
        float *g = trial_all(&fit, TRAIN_GRADIENT, &n), *h = trial_all(&plain, TRAIN_GRADIENT, &n), *still = trial_all(&fit, TRAIN_WEIGHT, &n);
        assert_memory_equal(g, h, n * sizeof *g);
        assert_memory_equal(still, whole, n * sizeof *still);
        free(g);
        free(h);
        free(still);
        free(whole);
        trial_close(&fit);
        trial_close(&plain);
    }
}

static void test_no_target_at_all(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result got[KINDS];
    size_t n;
    trial_open(&x, "tiny", &usual);
    struct train_batch b = draw_batch(&p, &x.model.config, 9);
    for (int i = 0; i < ROWS; i++)
        p.target[i] = -1;
    must_backward(&x, &b, all_kinds, KINDS, got);
    float *g = trial_all(&x, TRAIN_GRADIENT, &n);
    for (size_t i = 0; i < n; i++)
        assert_true(g[i] == 0);
    for (int i = 0; i < KINDS; i++)
        assert_true(got[i].positions == 0 && got[i].ce == 0 && got[i].kl == 0);
    free(g);
    trial_close(&x);
}

/* ---- the step ---- */

/* Three steps of torch 2.15.0's AdamW, lr 0.1, betas .9 and .99, eps 1e-3, decay .5, in float64: w 1, -2, 0.5, 3 with gradients 0.5, -0.25, 2, 0 times the step's number. */
static void test_adamw_is_pytorchs(void **state)
{
    (void)state;
    static const double want[2][4] = {{0.580387258633, -1.43814486349, 0.151412036749, 2.572125}, {0.70846842454, -1.70887647686, 0.208161556157, 3}};
    static const float w0[4] = {1, -2, 0.5f, 3}, g0[4] = {0.5f, -0.25f, 2, 0};
    struct trial x;
    struct error err = {0};
    double norm;
    trial_open(&x, "tiny", &usual);
    for (int vector = 0; vector < 2; vector++) {
        int i = vector ? 1 : 0; /* embed, layers.0.attn_norm */
        assert_string_equal(trial_tensor(&x, i).name, vector ? "layers.0.attn_norm" : "embed");
        float *w = trial_get(&x, i, TRAIN_WEIGHT), *g = calloc(trial_size(&x, i), sizeof *g);
        memcpy(w, w0, sizeof w0);
        trial_set(&x, i, TRAIN_WEIGHT, w);
        for (int step = 1; step <= 3; step++) {
            double square = 0;
            for (int j = 0; j < 4; j++) {
                g[j] = g0[j] * (float)step * 4;
                square += pow((double)g[j] / 4, 2);
            }
            trial_set(&x, i, TRAIN_GRADIENT, g);
            struct train_step s = {.step = step, .rate = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .decay = 0.5, .divide = 4};
            assert_int_equal(x.ops->update(x.t, &s, &norm, &err), 0);
            assert_true(fabs(norm - sqrt(square)) < 1e-9);
        }
        float *after = trial_get(&x, i, TRAIN_WEIGHT), *cleared = trial_get(&x, i, TRAIN_GRADIENT);
        for (int j = 0; j < 4; j++) {
            if (!(fabs((double)after[j] - want[vector][j]) < 2e-6))
                fail_msg("%s [%d]: %.9g, not %.9g", trial_tensor(&x, i).name, j, (double)after[j], want[vector][j]);
            assert_true(cleared[j] == 0);
        }
        free(w);
        free(g);
        free(after);
        free(cleared);
    }
    trial_close(&x);
}

/* Twice the clip: the step is that of half the gradients. */
static void test_clipping(void **state)
{
    (void)state;
    float *first = NULL;
    for (int clipped = 0; clipped < 2; clipped++) {
        struct trial x;
        struct error err = {0};
        double norm;
        size_t n;
        trial_open(&x, "tiny", &usual);
        float *g = calloc(trial_size(&x, 0), sizeof *g);
        g[5] = clipped ? 3 : 1.5f;
        g[77] = clipped ? -4 : -2;
        trial_set(&x, 0, TRAIN_GRADIENT, g);
        struct train_step s = first_step;
        s.clip = 2.5;
        assert_int_equal(x.ops->update(x.t, &s, &norm, &err), 0);
        assert_true(norm == (clipped ? 5 : 2.5));
        float *w = trial_all(&x, TRAIN_WEIGHT, &n);
        if (clipped)
            assert_memory_equal(w, first, n * sizeof *w);
        free(first);
        first = w;
        free(g);
        trial_close(&x);
    }
    free(first);
}

/* ---- plan ---- */

static void test_plan_is_what_open_takes(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct trial x;
        struct train_plan plan;
        struct train_options o = {.batch = 2, .length = 33, .exits = i & 4 ? 2 : 0, .threads = 2, .anchor = i & 1, .recompute = i & 2};
        trial_open(&x, "tiny-gqa", &o);
        assert_int_equal(x.ops->plan(&x.model, &o, &plan, NULL), 0);
        assert_int_equal(plan.weights + plan.gradients + plan.optimizer + plan.activations + plan.anchor, x.t->memory_bytes);
        assert_int_equal(plan.weights, plan.gradients);
        assert_int_equal(plan.optimizer, 2 * plan.weights);
        assert_true((plan.anchor > plan.weights) == o.anchor);
        size_t n;
        free(trial_all(&x, TRAIN_WEIGHT, &n));
        assert_true(plan.weights >= n * 4 && plan.weights < n * 4 + 2 * UPDATE_BLOCK * 4 + 100 * 64);
        trial_close(&x);
    }
}

/* ---- what goes wrong ---- */

static void refuse(struct trial *x, const struct train_batch *b, const struct train_exit *exits, int n, int code, const char *says)
{
    struct error err = {0};
    struct train_result got[LAYERS_MAX];
    assert_int_equal(x->ops->backward(x->t, b, exits, n, got, &err), code);
    if (!strstr(err.text, says))
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void test_bad_batches(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    trial_open(&x, "tiny", &usual);
    const struct train_batch good = draw_batch(&p, &x.model.config, 9);
    struct {
        int32_t *at, value;
        const char *says;
    } values[] = {{&p.token[100], 515, "sequence 1, position 30: token 515"}, {&p.token[0], -1, "token -1"}, {&p.token[ROWS - 1], INT32_MAX, "sequence 2, position 69"},
                  {&p.target[5], 515, "target 515"}, {&p.start[70], 1, "sequence 1, position 0: its document starts at 1"}, {&p.start[75], -1, "starts at -1"}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        int32_t old = *values[i].at;
        *values[i].at = values[i].value;
        refuse(&x, &good, all_kinds, KINDS, ERR_DATA, values[i].says);
        *values[i].at = old;
    }
    const int sizes[][2] = {{0, 1}, {1, 0}, {-1, 5}, {N + 1, 1}, {1, LENGTH + 1}, {N, INT32_MAX}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct train_batch b = good;
        b.n = sizes[i][0];
        b.length = sizes[i][1];
        refuse(&x, &b, all_kinds, KINDS, ERR_USAGE, "this trainer was opened for 1 to 3 of 1 to 70");
    }
    refuse(&x, &good, all_kinds, 0, ERR_USAGE, "0 exits");
    refuse(&x, &good, all_kinds, 5, ERR_USAGE, "5 exits: this trainer was opened for 1 to 4");
    trial_close(&x);
}

static void test_bad_exits(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct error err = {0};
    struct train_result got[1];
    struct train_options o = usual;
    o.anchor = false;
    trial_open(&x, "tiny", &o);
    struct train_batch b = draw_batch(&p, &x.model.config, 9);
    refuse(&x, &b, &(struct train_exit){.layer = 0, .ce = 1}, 1, ERR_USAGE, "exit after 0 layers");
    refuse(&x, &b, &(struct train_exit){.layer = 5, .ce = 1}, 1, ERR_USAGE, "must be 1 to 4");
    refuse(&x, &b, &(struct train_exit){.layer = 1, .ce = NAN}, 1, ERR_USAGE, "must be finite");
    refuse(&x, &b, &(struct train_exit){.layer = 1, .anchor = 1}, 1, ERR_USAGE, "opened without one");
    assert_int_equal(x.ops->evaluate(x.t, &b, &(int){-3}, 1, got, &err), ERR_USAGE);
    assert_int_equal(x.ops->evaluate(x.t, &b, &(int){1}, 0, got, &err), ERR_USAGE);
    trial_close(&x);
}

/* One number that is none, in any tensor: a clear error, from the losses or from the norm. */
static void test_nan_weights(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct trial x;
    struct positions p;
    struct train_result got[KINDS];
    trial_open(&x, "tiny-bias", &usual);
    struct train_batch b = draw_batch(&p, &x.model.config, 9);
    memset(p.keep, 1, sizeof p.keep);
    for (int i = 0; i < x.ops->n_tensors(x.t); i++) {
        struct error err = {0};
        float *w = trial_get(&x, i, TRAIN_WEIGHT), old = *w;
        size_t at = strcmp(trial_tensor(&x, i).name, "embed") ? 0 : (size_t)p.token[3] * (size_t)x.model.config.hidden;
        old = w[at];
        w[at] = bad[i % 3];
        trial_set(&x, i, TRAIN_WEIGHT, w);
        int rc = x.ops->backward(x.t, &b, all_kinds, KINDS, got, &err);
        if (rc != ERR_DATA || !strstr(err.text, "not finite"))
            fail_msg("%s with %g: %d %s", trial_tensor(&x, i).name, (double)w[at], rc, err.text);
        w[at] = old;
        trial_set(&x, i, TRAIN_WEIGHT, w);
        free(w);
    }
    trial_close(&x);
}

/* A gradient that is not finite changes nothing. */
static void test_nan_gradients(void **state)
{
    (void)state;
    struct trial x;
    struct error err = {0};
    double norm;
    size_t n;
    trial_open(&x, "tiny", &usual);
    float *before = trial_all(&x, TRAIN_WEIGHT, &n), *g = calloc(trial_size(&x, 2), sizeof *g);
    g[3] = NAN;
    trial_set(&x, 2, TRAIN_GRADIENT, g);
    assert_int_equal(x.ops->update(x.t, &first_step, &norm, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "not finite"));
    float *after = trial_all(&x, TRAIN_WEIGHT, &n);
    assert_memory_equal(before, after, n * sizeof *before);
    for (int i = 0; i < 4; i++) {
        struct train_step s = first_step;
        *(double *[]){&s.rate, &s.beta2, &s.eps, &s.divide}[i] = i < 2 ? 1.0 / 0.0 : 0;
        assert_int_equal(x.ops->update(x.t, &s, &norm, &err), ERR_USAGE);
    }
    free(before);
    free(after);
    free(g);
    trial_close(&x);
}

static void test_bad_options(void **state)
{
    (void)state;
    static const struct train_options bad[] = {{.batch = 0, .length = 1}, {.batch = 1, .length = 0}, {.batch = 1, .length = 4097}, {.batch = 1, .length = 1, .exits = -1},
                                               {.batch = INT32_MAX, .length = 4096}, {.batch = 1, .length = 1, .threads = -1}};
    struct trial x;
    trial_open(&x, "tiny", &usual);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {0};
        struct train_plan plan;
        assert_int_equal(x.ops->plan(&x.model, &bad[i], &plan, &err), ERR_USAGE);
        assert_null(x.ops->open(&x.model, &bad[i], &err));
    }
    float number;
    assert_int_equal(x.ops->get(x.t, -1, TRAIN_WEIGHT, &number, NULL), ERR_INTERNAL);
    assert_int_equal(x.ops->set(x.t, x.ops->n_tensors(x.t), TRAIN_WEIGHT, &number, NULL), ERR_INTERNAL);
    trial_close(&x);
}

struct watch {
    int calls, stop_at;
    uint64_t last, total;
};

static int watch_progress(void *ud, const char *what, uint64_t done, uint64_t total)
{
    struct watch *w = ud;
    if (strcmp(what, "training"))
        return 0;
    assert_true(done == w->last % total + 1);
    w->last = done;
    w->total = total;
    return ++w->calls == w->stop_at;
}

static void test_progress_and_stopping(void **state)
{
    (void)state;
    for (int stop_at = 0; stop_at <= 12; stop_at++) {
        struct watch w = {.stop_at = stop_at};
        struct trial x;
        struct positions p;
        struct error err = {0};
        struct train_result got[KINDS];
        struct train_options o = usual;
        o.progress = watch_progress;
        o.progress_ud = &w;
        trial_open(&x, "tiny", &o);
        struct train_batch b = draw_batch(&p, &x.model.config, 9);
        int rc = x.ops->backward(x.t, &b, all_kinds, KINDS, got, &err);
        assert_int_equal(rc, stop_at ? ERR_USAGE : 0);
        assert_int_equal(w.total, 12); /* the anchor's four layers, four forward, four backward */
        assert_int_equal(w.calls, stop_at ? stop_at : 12);
        trial_close(&x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_same_calls_same_bits),
        cmocka_unit_test(test_exits_without_weight),
        cmocka_unit_test(test_gradients_add_up),
        cmocka_unit_test(test_dropped_samples_stay_as_they_are),
        cmocka_unit_test(test_samples_are_apart),
        cmocka_unit_test(test_evaluate), cmocka_unit_test(test_fit),
        cmocka_unit_test(test_no_target_at_all),
        cmocka_unit_test(test_adamw_is_pytorchs),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_plan_is_what_open_takes),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_bad_exits),
        cmocka_unit_test(test_nan_weights),
        cmocka_unit_test(test_nan_gradients),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_progress_and_stopping),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
