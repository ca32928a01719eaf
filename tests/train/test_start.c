/* SPDX-License-Identifier: Apache-2.0 */
#include "train/start.h"

#include "toy_run.h"

static void open_made(struct model *m, const char *shape, const char *type)
{
    char path[160];
    struct error err = {0};
    synthetic_path(path, sizeof path, shape, type);
    assert_int_equal(model_open(m, path, NULL, &err), 0);
}

static void weights_are_those_of_the_other(void **state)
{
    (void)state;
    struct model a, b;
    struct error err = {0};
    struct train_options o = {.batch = 1, .length = 8};
    open_made(&a, "tiny", "f32");
    open_made(&b, "tiny", "bf16");
    struct trainer *t = toy_open(&a, &o, &err);
    assert_non_null(t);
    assert_int_equal(train_start(&toy_ops, t, &b, &err), 0);
    int other = 0;
    for (int i = 0; i < toy_ops.n_tensors(t); i++) {
        const struct train_tensor x = toy_ops.tensor(t, i);
        const struct view *v = checkpoint_find(b.file, x.name), *w = checkpoint_find(a.file, x.name);
        const uint64_t n = (uint64_t)(x.rows * x.cols);
        void *raw = malloc(v->bytes), *own = malloc(w->bytes);
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
        assert_int_equal(checkpoint_read_rows(b.file, v, 0, v->dim[0], raw, &err), 0);
        assert_int_equal(checkpoint_read_rows(a.file, w, 0, w->dim[0], own, &err), 0);
        dtype_to_f32(v->type, raw, want, n);
        assert_int_equal(toy_ops.get(t, i, TRAIN_WEIGHT, got, &err), 0);
        assert_memory_equal(got, want, n * sizeof *got);
        dtype_to_f32(w->type, own, want, n);
        other += memcmp(got, want, n * sizeof *got) != 0;
        free(raw);
        free(own);
        free(want);
        free(got);
    }
    assert_true(other > 0); /* the two models are not the same to begin with */
    toy_close(t);
    model_close(&a);
    model_close(&b);
}

static void another_shape_is_refused_by_name(void **state)
{
    (void)state;
    struct model a, b;
    struct error err = {0};
    struct train_options o = {.batch = 1, .length = 8};
    open_made(&a, "tiny", "f32");
    open_made(&b, "tiny-gqa", "f32");
    struct trainer *t = toy_open(&a, &o, &err);
    assert_int_equal(train_start(&toy_ops, t, &b, &err), ERR_USAGE);
    if (!strstr(err.text, "tensor embed: has another shape"))
        fail_msg("%s", err.text);
    toy_close(t);
    model_close(&a);
    model_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_are_those_of_the_other), cmocka_unit_test(another_shape_is_refused_by_name)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
