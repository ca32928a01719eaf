/* SPDX-License-Identifier: Apache-2.0 */
/* What a GPU's trainer can lay out. Planning asks no GPU, so neither does this. */
#include "backend/cuda/trainer.h"
#include "trainer_under_test.h"

static struct model model;

static int plan(int batch, int length, struct train_plan *out, struct error *err)
{
    return cuda_train.plan(&model, &(struct train_options){.batch = batch, .length = length}, out, err);
}

/* A block of a bias's gradient takes TRAIN_BIAS_ROWS rows, and a grid has 65,535 of them along its second dimension. */
static void rows_have_a_limit(void **state)
{
    (void)state;
    struct train_plan p;
    struct error err = {0};
    const int length = model.config.context, most = TRAIN_ROWS_MOST / length;
    assert_int_equal((TRAIN_ROWS_MOST + TRAIN_BIAS_ROWS - 1) / TRAIN_BIAS_ROWS, 65535);
    assert_int_equal(plan(most, length, &p, &err), 0);
    assert_int_equal(plan(most + 1, length, &p, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "a GPU takes 4194240 positions at once"));
    assert_int_equal(plan(INT32_MAX, 1, &p, &err), ERR_USAGE);
    assert_int_equal(plan(INT32_MAX, 2, &p, &err), ERR_USAGE);
}

static void memory_grows_with_rows_alone(void **state)
{
    (void)state;
    struct train_plan one, two;
    struct error err = {0};
    assert_int_equal(plan(1, 64, &one, &err), 0);
    assert_int_equal(plan(TRAIN_ROWS_MOST / 64, 64, &two, &err), 0);
    assert_int_equal(one.weights, two.weights);
    assert_int_equal(one.optimizer, two.optimizer);
    assert_true(two.activations / (uint64_t)(TRAIN_ROWS_MOST / 64) > 64 * sizeof(float) * (uint64_t)model.config.hidden); /* no size has gone round */
}

/* q, k and v are one matrix of rows a multiple of 8 apart; so are gate and up. */
static void what_is_one_product_lies_together(void **state)
{
    (void)state;
    struct trainer t;
    struct train_plan p;
    struct error err = {0};
    assert_int_equal(cuda_train_lay_out(&t, &model, &(struct train_options){.batch = 1, .length = 8}, &p, &err), 0);
    const struct config *c = &model.config;
    const size_t ld = (size_t)pad8(c->hidden), head = (size_t)c->head_dim * ld;
    for (int l = 0; l < c->n_layers; l++) {
        const size_t *w = t.lay.at[l].weight;
        assert_int_equal(w[W_K], w[W_Q] + (size_t)c->n_heads * head);
        assert_int_equal(w[W_V], w[W_K] + (size_t)c->n_kv_heads * head);
        assert_int_equal(w[W_UP], w[W_GATE] + (size_t)c->ffn * ld);
        assert_true(w[W_ATTN_NORM] >= t.lay.n_matrices && w[W_DOWN] < t.lay.n_matrices);
    }
    assert_int_equal(t.lay.n_matrices % TRAIN_UPDATE_BLOCK, 0);
    assert_int_equal(t.lay.n_weights % TRAIN_UPDATE_BLOCK, 0);
    arena_free(&t.arena);
}

static int setup(void **state)
{
    char path[160];
    struct error err = {0};
    (void)state;
    synthetic_path(path, sizeof path, "tiny", "bf16");
    if (model_open(&model, path, NULL, &err))
        fail_with(err.text);
    return 0;
}

static int teardown(void **state)
{
    model_close(&model);
    return synthetic_cleanup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_have_a_limit), cmocka_unit_test(memory_grows_with_rows_alone), cmocka_unit_test(what_is_one_product_lies_together)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
