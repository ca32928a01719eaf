/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's speed on a GPU at the shape of SmolLM2-135M, with one exit, all activations kept and not; the loss has to fall meanwhile. */
#include "backend/cuda/trainer.h"
#include "gpu.h"
#include "trainer_under_test.h"

#include "base/clock.h"

enum { BATCH = 16, LENGTH = 1024, ROWS = BATCH * LENGTH };

static void must(int rc, const struct error *err)
{
    if (rc)
        fail_with(err->text);
}

static double seconds_since(int64_t start) { return (double)(clock_ns() - start) * 1e-9; }

static void measure(struct trial *x, const struct train_batch *b, const char *what)
{
    const struct config *c = &x->model.config;
    const double q = (double)c->n_heads * c->head_dim, kv = (double)c->n_kv_heads * c->head_dim;
    const double flops = 6 * (c->n_layers * (2 * c->hidden * q + 2 * c->hidden * kv + 3.0 * c->hidden * c->ffn + q * LENGTH) + (double)c->vocab * c->hidden);
    const struct train_exit exit = {c->n_layers, 1, 0, 0, 0};
    struct train_result got;
    struct error err = {0};
    double norm;
    double back = 0, update = 0, first = 0;
    enum { WARM = 3, STEPS = 10 };
    for (int i = 0; i < WARM + STEPS; i++) {
        const struct train_step s = {.step = i + 1, .rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .decay = 0.1, .clip = 1, .divide = 1};
        int64_t start = clock_ns();
        must(x->ops->backward(x->t, b, &exit, 1, &got, &err), &err);
        back += i < WARM ? 0 : seconds_since(start);
        start = clock_ns();
        must(x->ops->update(x->t, &s, &norm, &err), &err);
        update += i < WARM ? 0 : seconds_since(start);
        first = i ? first : got.ce;
    }
    const double speed = ROWS * STEPS / (back + update);
    print_message("%s: %.0f tokens/s, %.1f TFLOP/s, %.1f %% of 989; backward %.1f ms, update %.1f ms; loss %.3f, after %d steps %.3f; %.2f GiB\n", what, speed, speed * flops * 1e-12,
                  speed * flops / 989e12 * 100, back / STEPS * 1e3, update / STEPS * 1e3, first, WARM + STEPS, got.ce, (double)x->t->memory_bytes / 1073741824.0);
    assert_true(got.ce < first);
}

static void test_speed(void **state)
{
    (void)state;
    static int32_t token[ROWS], target[ROWS];
    char path[128];
    struct error err = {0};
    struct trial x = {.ops = &cuda_train};
    uint64_t seed = 1;
    synthetic_path(path, sizeof path, "tiny", "bf16"); /* the root is there */
    snprintf(path, sizeof path, "%s/smollm2-tied", synthetic_root);
    if (synth_write(path, &(struct synth_options){.shape = "smollm2-135m", .tie = 1, .dtype = "bf16"}, &err) || model_open(&x.model, path, NULL, &err))
        fail_with(err.text);
    for (int i = 0; i < ROWS; i++)
        token[i] = check_below(&seed, 1000) * check_below(&seed, 48);
    for (int i = 0; i < ROWS; i++)
        target[i] = i % LENGTH == LENGTH - 1 ? -1 : token[i + 1];
    const struct train_batch b = {.n = BATCH, .length = LENGTH, .token = token, .target = target};
    for (int recompute = 0; recompute < 2; recompute++) {
        const struct train_options o = {.batch = BATCH, .length = LENGTH, .exits = 1, .recompute = recompute};
        x.t = x.ops->open(&x.model, &o, &err);
        if (!x.t)
            fail_with(err.text);
        measure(&x, &b, recompute ? "smollm2-135m, 16 x 1024, recomputed" : "smollm2-135m, 16 x 1024");
        x.ops->close(x.t);
    }
    model_close(&x.model);
}

int main(void)
{
    gpu_or_skip();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_speed)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
