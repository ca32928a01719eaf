/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer against PyTorch: gradients of every tensor, losses and training steps as tests/golden/train.json holds them (made by make_train.py, which says how the numbers
   are meant). A tensor's error is |g - g'| / |g|, estimated from random projections of the difference. */
#include <jansson.h>
#include <math.h>

#include "base/philox.h"
#include "smollm2.h"
#include "trainer_under_test.h"

enum { EXITS_MAX = 8, POSITIONS_MAX = 512, SAMPLES_MAX = 64 };

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static int whole(const json_t *object, const char *key) { return (int)number(object, key); }

static int read_exits(const json_t *c, struct train_exit *exits)
{
    const json_t *list = json_object_get(c, "exits"), *e;
    size_t i;
    assert_in_range(json_array_size(list), 1, EXITS_MAX);
    json_array_foreach(list, i, e)
        exits[i] = (struct train_exit){.layer = whole(e, "layer"), .ce = (float)number(e, "ce"), .kl = (float)number(e, "kl"), .accept = (float)number(e, "accept"), .anchor = (float)number(e, "anchor")};
    return (int)json_array_size(list);
}

struct positions {
    int32_t token[POSITIONS_MAX], target[POSITIONS_MAX], start[POSITIONS_MAX];
    uint8_t keep[SAMPLES_MAX];
};

static int read_table(const json_t *table, int32_t *out, int most)
{
    size_t i, j;
    const json_t *row, *v;
    int n = 0;
    json_array_foreach(table, i, row)
        json_array_foreach(row, j, v) {
            assert_true(json_is_integer(v) && n < most);
            out[n++] = (int32_t)json_integer_value(v);
        }
    return n;
}

static struct train_batch read_batch(const json_t *json, int layers, struct positions *to)
{
    int32_t keep[SAMPLES_MAX];
    struct train_batch b = {.n = whole(json, "n"), .length = whole(json, "length"), .token = to->token, .target = to->target, .start = to->start, .keep = to->keep};
    assert_int_equal(read_table(json_object_get(json, "token"), to->token, POSITIONS_MAX), b.n * b.length);
    assert_int_equal(read_table(json_object_get(json, "target"), to->target, POSITIONS_MAX), b.n * b.length);
    assert_int_equal(read_table(json_object_get(json, "start"), to->start, POSITIONS_MAX), b.n * b.length);
    assert_int_equal(read_table(json_object_get(json, "keep"), keep, SAMPLES_MAX), layers * b.n);
    for (int i = 0; i < layers * b.n; i++)
        to->keep[i] = (uint8_t)keep[i];
    return b;
}

/* ---- comparing ---- */

static uint64_t hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return h;
}

/* |g - g'| / |g| where want is [norm of g', projections of g']. */
static double error_of(const char *name, const float *g, size_t n, const json_t *want)
{
    double sum[32] = {0}, square = 0;
    const json_t *list = json_array_get(want, 1);
    size_t n_sums = json_array_size(list);
    assert_in_range(n_sums, 16, 32);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = philox(hash(name), (uint32_t)i, 0, 0, 0).v[0];
        for (size_t j = 0; j < n_sums; j++)
            sum[j] += bits >> j & 1 ? -(double)g[i] : (double)g[i];
    }
    for (size_t j = 0; j < n_sums; j++) {
        double d = sum[j] - json_number_value(json_array_get(list, j));
        square += d * d / (double)n_sums;
    }
    double norm = json_number_value(json_array_get(want, 0));
    return norm > 0 ? sqrt(square) / norm : sqrt(square);
}

/* The largest error of all tensors; said when it is above the bound. */
static double compare(const struct trial *x, enum train_state what, const float *before, const json_t *want, const char *name, double bound)
{
    double worst = 0;
    assert_int_equal(json_object_size(want), x->ops->n_tensors(x->t));
    for (int i = 0; i < x->ops->n_tensors(x->t); i++) {
        struct train_tensor is = trial_tensor(x, i);
        float *g = trial_get(x, i, what);
        for (size_t j = 0; before && j < trial_size(x, i); j++)
            g[j] -= *before++;
        double e = error_of(is.name, g, trial_size(x, i), json_object_get(want, is.name));
        if (!(e <= bound))
            fail_msg("%s: %s: relative error %.2e", name, is.name, e);
        worst = e > worst ? e : worst;
        free(g);
    }
    return worst;
}

static void compare_losses(const struct train_result *got, const struct train_exit *exits, int n, const json_t *want, bool all)
{
    for (int i = 0; i < n; i++) {
        const json_t *row = json_array_get(want, (size_t)i);
        const struct train_exit *e = &exits[i];
        const double values[] = {got[i].ce, got[i].kl, got[i].accept, got[i].anchor, got[i].agree};
        const bool asked[] = {e->ce != 0, e->kl != 0, e->accept != 0, e->anchor != 0, e->kl != 0 || e->accept != 0};
        for (size_t j = 0; j < 5; j++) {
            double v = all || asked[j] ? json_number_value(json_array_get(row, j)) : 0;
            if (!(fabs(values[j] - v) <= 2e-6 * (1 + v)))
                fail_msg("exit after %d layers: value %zu is %.9g, not %.9g", e->layer, j, values[j], v);
        }
    }
}

/* ---- cases ---- */

/* The gradients of all batches together, then the same numbers from evaluate where no layer is dropped. */
static void check_gradients(struct trial *x, const json_t *c, const struct train_exit *exits, int n_exits)
{
    const json_t *json;
    size_t i;
    struct error err = {0};
    struct train_result got[EXITS_MAX];
    struct positions positions;
    json_array_foreach(json_object_get(c, "batches"), i, json) {
        struct train_batch b = read_batch(json, x->model.config.n_layers, &positions);
        if (x->ops->backward(x->t, &b, exits, n_exits, got, &err))
            fail_with(err.text);
        compare_losses(got, exits, n_exits, json_array_get(json_object_get(c, "losses"), i), false);
        if (memchr(positions.keep, 0, (size_t)(x->model.config.n_layers * b.n)))
            continue;
        int layers[EXITS_MAX];
        for (int e = 0; e < n_exits; e++)
            layers[e] = exits[e].layer;
        if (x->ops->evaluate(x->t, &b, layers, n_exits, got, &err))
            fail_with(err.text);
        compare_losses(got, exits, n_exits, json_array_get(json_object_get(c, "losses"), i), true);
    }
    double worst = compare(x, TRAIN_GRADIENT, NULL, json_object_get(c, "gradients"), json_string_value(json_object_get(c, "name")), 1e-4);
    print_message("%s: largest relative error of a gradient %.1e\n", json_string_value(json_object_get(c, "name")), worst);
}

static void check_steps(struct trial *x, const json_t *c, const struct train_exit *exits, int n_exits)
{
    const json_t *steps = json_object_get(c, "steps"), *batches = json_object_get(c, "batches"), *json;
    struct train_step s = {.rate = number(steps, "rate"), .beta1 = number(steps, "beta1"), .beta2 = number(steps, "beta2"), .eps = number(steps, "eps"), .decay = number(steps, "decay"),
                           .clip = number(steps, "clip"), .divide = (double)json_array_size(batches)};
    size_t n, i;
    struct error err = {0};
    struct positions positions;
    struct train_result got[EXITS_MAX];
    float *before = trial_all(x, TRAIN_WEIGHT, &n);
    x->ops->clear(x->t);
    for (s.step = 1; s.step <= whole(steps, "count"); s.step++) {
        double norm, want = json_number_value(json_array_get(json_object_get(steps, "norms"), (size_t)s.step - 1));
        json_array_foreach(batches, i, json) {
            struct train_batch b = read_batch(json, x->model.config.n_layers, &positions);
            if (x->ops->backward(x->t, &b, exits, n_exits, got, &err))
                fail_with(err.text);
        }
        if (x->ops->update(x->t, &s, &norm, &err))
            fail_with(err.text);
        assert_true(want > s.clip); /* clipping happens */
        assert_true(fabs(norm - want) < 1e-5 * want);
    }
    double worst = compare(x, TRAIN_WEIGHT, before, json_object_get(steps, "moved"), "steps", 1e-4);
    print_message("%s: largest relative error of a weight's way %.1e\n", json_string_value(json_object_get(c, "name")), worst);
    free(before);
}

static void test_gradients_are_pytorchs(void **state)
{
    (void)state;
    json_error_t why;
    json_t *golden = json_load_file("tests/golden/train.json", 0, &why);
    const json_t *c;
    size_t i;
    assert_non_null(golden);
    assert_true(json_array_size(json_object_get(golden, "cases")) >= 6);
    json_array_foreach(json_object_get(golden, "cases"), i, c)
        for (int recompute = 0; recompute < 2; recompute++) {
            struct trial x;
            struct train_exit exits[EXITS_MAX];
            int n_exits = read_exits(c, exits);
            trial_open(&x, json_string_value(json_object_get(c, "shape")), &(struct train_options){.batch = 4, .length = 160, .exits = EXITS_MAX, .threads = 2, .anchor = true, .recompute = recompute});
            check_gradients(&x, c, exits, n_exits);
            if (json_object_get(c, "steps"))
                check_steps(&x, c, exits, n_exits);
            trial_close(&x);
        }
    json_decref(golden);
}

/* ---- a real model, from a quantised GGUF ---- */

/* Losses after `layer` layers of the recorded rows' likeliest tokens over the first `length` positions: log-sum-exp less the largest logit. */
static void check_real(struct trial *x, const json_t *c, int layer, int length)
{
    static int32_t token[POSITIONS_MAX], target[POSITIONS_MAX];
    struct train_batch b = {.n = 1, .length = length, .token = token, .target = target};
    struct train_result got;
    struct error err = {0};
    const json_t *ids = json_object_get(c, "ids"), *row;
    double want = 0;
    int rows = 0;
    size_t i;
    for (int pos = 0; pos < length; pos++) {
        token[pos] = (int32_t)json_integer_value(json_array_get(ids, (size_t)pos));
        target[pos] = -1;
    }
    json_array_foreach(json_object_get(c, "rows"), i, row)
        if (whole(row, "layers") == layer && whole(row, "pos") < length) {
            target[whole(row, "pos")] = (int32_t)json_integer_value(json_array_get(json_object_get(row, "top_ids"), 0));
            want += number(row, "lse") - json_number_value(json_array_get(json_object_get(row, "top"), 0));
            rows++;
        }
    if (x->ops->evaluate(x->t, &b, &layer, 1, &got, &err))
        fail_with(err.text);
    assert_int_equal(got.positions, rows);
    print_message("smollm2, %d layers: %.7f, transformers %.7f\n", layer, got.ce, want / rows);
    assert_true(rows > 0 && fabs(got.ce - want / rows) < 1e-4);
}

static void test_smollm2(void **state)
{
    (void)state;
    json_error_t why;
    struct error err = {0};
    struct trial x = {.ops = backend_find("cpu", &err)->train};
    const char *path = find_smollm2();
    if (!path)
        skip();
    json_t *golden = json_load_file("tests/golden/smollm2.json", 0, &why);
    assert_non_null(golden);
    if (model_open(&x.model, path, NULL, &err) || !(x.t = x.ops->open(&x.model, &(struct train_options){.batch = 1, .length = 256, .exits = 1, .recompute = true}, &err)))
        fail_with(err.text);
    const json_t *c = json_array_get(json_object_get(golden, "cases"), 0);
    check_real(&x, c, x.model.config.n_layers, 256);
    check_real(&x, c, 15, 64);
    trial_close(&x);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients_are_pytorchs), cmocka_unit_test(test_smollm2)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
