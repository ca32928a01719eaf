/* SPDX-License-Identifier: Apache-2.0 */
/* What --weights makes of a model's matrices, on every device alike. */
#include "backend/weights.h"
#include "model/quantize.h"
#include "tiny_device.h"

enum { MOST = WEIGHTS_MOST(8) };

static struct model open_model(const char *path)
{
    struct model m;
    struct error err = {0};
    if (model_open(&m, path, NULL, &err))
        fail_with(err.text);
    return m;
}

static struct model open_synthetic(const char *shape, const char *dtype)
{
    char path[160];
    synthetic_path(path, sizeof path, shape, dtype);
    return open_model(path);
}

static void matrices_come_in_order(void **state)
{
    (void)state;
    static const enum layer_weight order[LAYER_MATRICES] = {W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN};
    static const char *const shapes[] = {"tiny", "tiny-tied"};
    for (int s = 0; s < 2; s++) {
        struct model m = open_synthetic(shapes[s], "bf16");
        struct weight w[MOST];
        int layers = m.config.n_layers, n = weights_list(&m, NULL, w, NULL);
        assert_int_equal(n, layers * LAYER_MATRICES + 2 - m.config.tied);
        for (int i = 0; i < layers * LAYER_MATRICES; i++) {
            assert_int_equal(w[i].layer, i / LAYER_MATRICES);
            assert_int_equal(w[i].which, order[i % LAYER_MATRICES]);
            assert_ptr_equal(w[i].v, model_weight(&m, w[i].layer, w[i].which));
            assert_true(!w[i].is_head && w[i].type == DT_BF16);
        }
        assert_string_equal(w[layers * LAYER_MATRICES].v->name, "embed");
        assert_string_equal(w[n - 1].v->name, m.config.tied ? "embed" : "head");
        assert_true(w[layers * LAYER_MATRICES].is_head && w[n - 1].is_head && w[n - 1].layer == -1);
        model_close(&m);
    }
}

static void options_choose_types(void **state)
{
    (void)state;
    static const struct {
        const char *weights, *file;
        enum dtype inner, outer;
    } cases[] = {{NULL, "f16", DT_F16, DT_F16},      {"file", "f32", DT_F32, DT_F32}, {"bf16", "f32", DT_BF16, DT_BF16},
                 {"q8", "bf16", DT_Q8_0, DT_Q8_0},   {"q4", "f16", DT_Q4_0, DT_Q8_0}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct model m = open_synthetic("tiny-llama3", cases[c].file);
        struct weight w[MOST];
        struct device_plan plan = {.n_kept = 3};
        int n = weights_list(&m, cases[c].weights, w, NULL);
        assert_true(n > 0);
        for (int i = 0; i < n; i++) {
            assert_int_equal(w[i].type, w[i].is_head ? cases[c].outer : cases[c].inner);
            w[i].bytes = w[i].is_head ? 1000000 : 10;
        }
        weights_describe(w, n, cases[c].weights, &plan);
        assert_string_equal(plan.weight_type, dtype_table[cases[c].inner].name); /* a head does not count */
        assert_int_equal(plan.n_kept, 0);
        assert_null(plan.kept_type);
        model_close(&m);
    }
}

static void quantised_tensors_are_kept(void **state)
{
    (void)state;
    char folder[160], path[192];
    struct error err = {0};
    struct device_plan plan = {0};
    struct weight w[MOST];
    struct quantize_options o = {.type = "q4_1", .threads = 1};
    synthetic_path(folder, sizeof folder, "tiny-llama3", "bf16");
    snprintf(path, sizeof path, "%s/kept.gguf", synthetic_root);
    if (quantize_write(folder, path, &o, &err) < 0) /* embedding and head: Q8_0 */
        fail_with(err.text);
    struct model m = open_model(path);
    int n = weights_list(&m, "q8", w, &err);
    assert_int_equal(n, m.config.n_layers * LAYER_MATRICES + 2);
    for (int i = 0; i < n; i++) {
        assert_int_equal(w[i].type, w[i].is_head ? DT_Q8_0 : DT_Q4_1);
        w[i].bytes = 1;
    }
    weights_describe(w, n, "q8", &plan);
    assert_int_equal(plan.n_kept, n - 2);
    assert_string_equal(plan.kept_type, "Q4_1");
    assert_string_equal(plan.weight_type, "Q4_1");
    weights_describe(w, n, "file", &plan);
    assert_int_equal(plan.n_kept, 0);
    assert_null(plan.kept_type);
    assert_int_equal(weights_list(&m, "bf16", w, &err), n);
    weights_describe(w, n, "bf16", &plan);
    assert_int_equal(plan.n_kept, n);
    assert_string_equal(plan.kept_type, "Q4_1");
    model_close(&m);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct weight w[MOST];
    struct error err = {0};
    struct model m = open_synthetic("tiny-headdim", "bf16");
    assert_int_equal(weights_list(&m, "q3", w, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "weights \"q3\": must be file, bf16, q8 or q4"));
    assert_int_equal(weights_list(&m, "q4", w, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "model.layers.0.self_attn.q_proj.weight: its rows of 72 values do not divide into blocks of 32"));
    assert_true(weights_list(&m, "file", w, &err) > 0);
    model_close(&m);
}

/* The head of drafts is the last matrix, of some of its rows. */
static void a_head_of_some_rows(void **state)
{
    (void)state;
    static const int32_t ids[] = {0, 1, 2, 7, 100, 101, 508};
    static const char *const shapes[] = {"tiny-ties", "tiny-tied"};
    const struct device_options none = {0}, some = {.draft_token = ids, .n_draft_tokens = 7};
    for (int s = 0; s < 2; s++) {
        struct model m = open_synthetic(shapes[s], "bf16");
        struct weight w[MOST];
        struct device_plan plan;
        int n = weights_list(&m, "q8", w, NULL);
        assert_int_equal(weights_add_draft_head(w, n, &none), n);
        assert_int_equal(weights_add_draft_head(w, n, &some), n + 1);
        assert_string_equal(w[n].v->name, m.config.tied ? "embed" : "head");
        assert_true(w[n].type == DT_Q8_0 && w[n].is_head && w[n].row == ids && w[n].n_rows == 7 && !w[n - 1].row);
        w[n].type = DT_BF16; /* not counted again */
        weights_describe(w, n + 1, "q8", &plan);
        assert_int_equal(plan.n_kept, 0);
        size_t row = (size_t)view_row_bytes(w[n].v);
        uint8_t *all = malloc((size_t)w[n].v->bytes), *got = malloc(7 * row);
        assert_int_equal(weights_read_rows(m.file, w[n].v, NULL, 0, (int)w[n].v->dim[0], all, NULL), 0);
        for (int from = 0; from < 7; from++) {
            assert_int_equal(weights_read_rows(m.file, w[n].v, ids, from, 7 - from, got, NULL), 0);
            for (int i = from; i < 7; i++)
                assert_memory_equal(got + (size_t)(i - from) * row, all + (size_t)ids[i] * row, row);
        }
        assert_true(weights_read_rows(m.file, w[n].v, (const int32_t[]){3, 1 << 20}, 0, 2, got, NULL) < 0);
        free(all);
        free(got);
        model_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_come_in_order),
        cmocka_unit_test(options_choose_types),
        cmocka_unit_test(quantised_tensors_are_kept),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_head_of_some_rows),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
