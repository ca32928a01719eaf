/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: every weight is the file's value, rounded once to the type that was asked for; what goes wrong on the way has a name. */
#define TEST_DEVICE "cpu"
#include <sys/stat.h>

#include "backend/cpu/cpu.h"
#include "tiny_device.h"

static const char *const choices[] = {NULL, "file", "bf16", "q8", "q4"}, *const types[] = {"bf16", "f16", "f32"};
enum { N_CHOICES = sizeof choices / sizeof *choices, N_TYPES = sizeof types / sizeof *types, COLS_MAX = 512 };

static enum dtype expected_type(const char *choice, const char *type, bool is_head)
{
    if (!choice || !strcmp(choice, "file"))
        return !strcmp(type, "bf16") ? DT_BF16 : !strcmp(type, "f16") ? DT_F16 : DT_F32;
    return !strcmp(choice, "bf16") ? DT_BF16 : !strcmp(choice, "q8") || is_head ? DT_Q8_0 : DT_Q4_0;
}

/* Row by row: what the file says, through the type, bit for bit. */
static void check_matrix(const struct model *m, const struct view *v, const struct matrix *w, enum dtype type)
{
    uint8_t raw[COLS_MAX * 4], rounded[COLS_MAX * 4];
    float want[COLS_MAX], got[COLS_MAX];
    assert_int_equal(w->kind, matrix_kind_of(type));
    assert_int_equal(w->rows, v->dim[0]);
    assert_int_equal(w->cols, v->dim[1]);
    assert_true(w->cols <= COLS_MAX);
    for (int r = 0; r < w->rows; r++) {
        assert_int_equal(checkpoint_read_rows(m->file, v, (uint64_t)r, 1, raw, NULL), 0);
        dtype_to_f32(v->type, raw, want, v->dim[1]);
        dtype_from_f32(type, want, rounded, v->dim[1]);
        dtype_to_f32(type, rounded, want, v->dim[1]);
        matrix_row(w, r, got);
        assert_memory_equal(got, want, (size_t)w->cols * sizeof *got);
    }
}

static void check_vector(const struct model *m, const struct view *v, const float *got, int padded)
{
    float want[COLS_MAX] = {0};
    uint8_t raw[COLS_MAX * 4];
    assert_non_null(got);
    assert_int_equal(checkpoint_read_rows(m->file, v, 0, v->dim[0], raw, NULL), 0);
    dtype_to_f32(v->type, raw, want, v->dim[0]);
    assert_memory_equal(got, want, (size_t)padded * sizeof *got); /* zeros behind */
}

static void check_device(const struct synthetic *s, const char *choice, const char *type)
{
    const struct model *m = &s->model;
    enum dtype inner = expected_type(choice, type, false), outer = expected_type(choice, type, true);
    check_matrix(m, checkpoint_find(m->file, "embed"), &s->d->embed, outer);
    check_matrix(m, checkpoint_find(m->file, m->config.tied ? "embed" : "head"), &s->d->head, outer);
    check_vector(m, checkpoint_find(m->file, "norm"), s->d->norm, s->d->hidden_pad);
    for (int l = 0; l < m->config.n_layers; l++) {
        const struct cpu_layer *y = &s->d->layer[l];
        const struct matrix *w[W_COUNT] = {[W_Q] = &y->q, [W_K] = &y->k, [W_V] = &y->v, [W_O] = &y->o, [W_GATE] = &y->gate, [W_UP] = &y->up, [W_DOWN] = &y->down};
        const float *bias[W_COUNT] = {[W_Q] = y->q_bias, [W_K] = y->k_bias, [W_V] = y->v_bias, [W_O] = y->o_bias,
                                      [W_GATE] = y->gate_bias, [W_UP] = y->up_bias, [W_DOWN] = y->down_bias};
        check_vector(m, model_weight(m, l, W_ATTN_NORM), y->attn_norm, s->d->hidden_pad);
        check_vector(m, model_weight(m, l, W_FFN_NORM), y->ffn_norm, s->d->hidden_pad);
        for (int k = 0; k < W_COUNT; k++) {
            const struct view *b = model_bias(m, l, (enum layer_weight)k);
            if (w[k])
                check_matrix(m, model_weight(m, l, (enum layer_weight)k), w[k], inner);
            if (b)
                check_vector(m, b, bias[k], pad16((int)b->dim[0]));
            else
                assert_null(bias[k]);
        }
    }
}

static void every_choice_of_weights(void **state)
{
    (void)state;
    for (int t = 0; t < N_TYPES; t++)
        for (int c = 0; c < N_CHOICES; c++) {
            struct synthetic s;
            struct device_options o = {.weights = choices[c], .threads = 1 + c % 3, .n_slots = 16, .n_seqs = 1, .n_hidden = 1};
            struct device_plan plan;
            synthetic_open(&s, "tiny-llama3", types[t], &o);
            check_device(&s, choices[c], types[t]);
            assert_int_equal(s.b->plan(&s.model, &o, &plan, NULL), 0);
            assert_int_equal(plan.weights, s.d->weights_bytes + (2 * 4 + 1) * 128 * 4); /* the matrices, and the norms as f32 */
            assert_int_equal(plan.layer_bytes, s.d->layer[0].bytes);
            assert_string_equal(plan.weight_type, dtype_table[expected_type(choices[c], types[t], false)].name);
            synthetic_close(&s);
        }
}

/* Tied, with biases, with sizes that are no multiple of 16, with more threads than work. */
static void every_shape_as_stored(void **state)
{
    (void)state;
    static const char *const shapes[] = {"tiny", "tiny-gqa", "tiny-tied", "tiny-headdim", "tiny-bias"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct synthetic s;
        struct device_options o = {.threads = 7, .n_slots = 16, .n_seqs = 1, .n_hidden = 1};
        synthetic_open(&s, shapes[i], "bf16", &o);
        check_device(&s, NULL, "bf16");
        if (s.model.config.tied)
            assert_ptr_equal(s.d->head.data, s.d->embed.data);
        synthetic_close(&s);
    }
}

/* ---- what goes wrong ---- */

struct watch {
    char file[200];
    int calls, stop_at, shrink_at;
    uint64_t last, total;
};

static int watch_progress(void *ud, const char *what, uint64_t done, uint64_t total)
{
    struct watch *w = ud;
    assert_string_equal(what, "loading");
    assert_true(done > w->last && done <= total && (!w->total || w->total == total));
    w->last = done;
    w->total = total;
    if (++w->calls == w->shrink_at)
        assert_int_equal(truncate(w->file, 20000), 0);
    return w->calls == w->stop_at;
}

/* Opens the weights of a folder of its own kind with one thread; 0, or the error. */
static int load(const char *type, const char *weights, struct watch *w, struct error *err)
{
    char path[160];
    struct model m;
    synthetic_path(path, sizeof path, "tiny-headdim", type);
    snprintf(w->file, sizeof w->file, "%s/model.safetensors", path);
    assert_int_equal(model_open(&m, path, NULL, err), 0);
    const struct backend *b = backend_find("cpu", err);
    struct device_options o = {.weights = weights, .threads = 1, .n_slots = 16, .n_seqs = 1, .n_hidden = 1, .progress = watch_progress, .progress_ud = w};
    struct device *d = b->open(&m, &o, err);
    if (d)
        b->close(d);
    model_close(&m);
    return d ? 0 : err->code;
}

static void progress_tells_and_stops(void **state)
{
    (void)state;
    struct error err = {0};
    struct watch all = {.calls = 0}, some = {.stop_at = 3};
    assert_int_equal(load("bf16", NULL, &all, &err), 0);
    assert_true(all.calls > 20 && all.last == all.total);
    assert_int_equal(load("bf16", NULL, &some, &err), ERR_USAGE);
    assert_int_equal(some.calls, 3);
    assert_non_null(strstr(err.text, "stopped"));
}

static void a_file_that_shrinks_is_an_error(void **state)
{
    (void)state;
    struct error err = {0};
    struct watch w = {.shrink_at = 2};
    assert_int_equal(load("f32", NULL, &w, &err), ERR_IO);
    assert_non_null(strstr(err.text, w.file));
    assert_non_null(strstr(err.text, "ends at offset"));
}

static void weights_that_cannot_be(void **state)
{
    (void)state;
    struct error err = {0};
    struct watch w = {.calls = 0};
    assert_int_equal(load("bf16", "q3", &w, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "weights \"q3\": must be file, bf16, q8 or q4"));
    assert_int_equal(load("bf16", "q8", &w, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "model.layers.0.self_attn.q_proj.weight"));
    assert_non_null(strstr(err.text, "72 values"));
    assert_int_equal(w.calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_choice_of_weights),  cmocka_unit_test(every_shape_as_stored),          cmocka_unit_test(progress_tells_and_stops),
        cmocka_unit_test(weights_that_cannot_be),   cmocka_unit_test(a_file_that_shrinks_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
