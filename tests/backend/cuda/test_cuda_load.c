/* SPDX-License-Identifier: Apache-2.0 */
/* Loading to a GPU: every weight is the file's value, rounded once to the type that was asked for, at its place; what goes wrong on the way is an error that leaves nothing behind. */
#include "packed_check.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/pack.h"
#include "model/quantize.h"
#include "tiny_device.h"

static const char *const choices[] = {NULL, "file", "bf16", "q8", "q4"};
static const char *const files[] = {"bf16", "f16", "f32"};
enum { N_CHOICES = sizeof choices / sizeof *choices, N_FILES = sizeof files / sizeof *files };

/* ---- a device as cuda_load finds it ---- */

static int open_device(struct device *d, const struct model *m, const struct device_options *o, struct error *err)
{
    const struct config *c = &m->config;
    memset(d, 0, sizeof *d);
    d->model = m;
    d->c = c;
    d->o = *o;
    d->state_stride = (c->hidden + 15) / 16 * 16;
    d->n_square = d->state_stride / 16;
    d->head_pad = (c->head_dim + 7) / 8 * 8;
    assert_int_equal(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), cudaSuccess);
    return cuda_load(d, err);
}

static void close_device(struct device *d)
{
    cuda_give_back(&d->memory);
    cudaStreamDestroy(d->stream);
    arena_free(&d->arena);
}

static void open_model(struct model *m, const char *path)
{
    struct error err = {0};
    if (model_open(m, path, NULL, &err))
        fail_with(err.text);
}

/* ---- what must have come of a file ---- */

static enum dtype expected_type(enum dtype own, const char *choice, bool is_head)
{
    if (own > DT_BF16 || !choice || !strcmp(choice, "file"))
        return own;
    return !strcmp(choice, "bf16") ? DT_BF16 : !strcmp(choice, "q8") || is_head ? DT_Q8_0 : DT_Q4_0;
}

static struct packed_part read_part(const struct model *m, const struct view *v, enum dtype type, int tile0)
{
    size_t in = (size_t)view_row_bytes(v), out = (size_t)dtype_row_bytes(type, v->dim[1]), n = (size_t)v->dim[0];
    uint8_t *raw = malloc(in * n), *rows = malloc(out * n);
    float *wide = malloc((size_t)v->dim[1] * sizeof *wide);
    assert_true(raw && rows && wide);
    assert_int_equal(checkpoint_read_rows(m->file, v, 0, v->dim[0], raw, NULL), 0);
    for (size_t r = 0; r < n; r++)
        round_row(v->type, raw + r * in, type, rows + r * out, wide, (int)v->dim[1]);
    free(raw);
    free(wide);
    return (struct packed_part){.type = type, .rows = rows, .n_rows = (int)n, .tile0 = tile0};
}

/* A block against the matrices in it; returns how many elements differ. */
static long check_block(const struct model *m, const char *name, const struct packed *w, int map, const struct view *const *views, int n, const char *choice)
{
    static const int kinds[DT_COUNT] = {PACKED_F32, PACKED_F16, PACKED_BF16, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1};
    struct packed_part part[3];
    int tiles = 0, rows = 0;
    bool is_head = !strcmp(name, "embed") || !strcmp(name, "head");
    for (int i = 0; i < n; i++) {
        part[i] = read_part(m, views[i], sent_type(expected_type(views[i]->type, choice, is_head)), tiles);
        tiles += packed_tiles(map, part[i].n_rows, m->config.head_dim);
        rows += part[i].n_rows;
        assert_int_equal(w->kind, kinds[part[i].type]);
    }
    tiles = map == ROWS_GATE ? (part[0].n_rows + 7) / 8 : tiles;
    assert_int_equal(w->tiles, tiles);
    assert_int_equal(w->rows, map == ROWS_GATE ? part[0].n_rows : rows);
    assert_int_equal(w->cols, views[0]->dim[1]);
    assert_int_equal((uintptr_t)w->data % 256, 0);
    uint8_t *back = malloc(packed_bytes(w));
    assert_non_null(back);
    assert_int_equal(cudaMemcpy(back, w->data, packed_bytes(w), cudaMemcpyDeviceToHost), cudaSuccess);
    long bad = packed_differences(name, w, back, map, m->config.head_dim, part, n);
    free(back);
    for (int i = 0; i < n; i++)
        free((void *)part[i].rows);
    return bad;
}

/* n values of the device against those of up to 3 vectors, by the packed row that each belongs to; zeros elsewhere. */
static long check_vector(const struct model *m, const char *name, const float *on_device, int map, const struct view *const *views, int n_views, int n)
{
    float *got = malloc((size_t)n * sizeof *got);
    uint8_t *raw = malloc((size_t)n * 4);
    float *value[3] = {malloc((size_t)n * sizeof *got), malloc((size_t)n * sizeof *got), malloc((size_t)n * sizeof *got)};
    int tile0[4] = {0};
    long bad = 0;
    assert_non_null(on_device);
    assert_int_equal(cudaMemcpy(got, on_device, (size_t)n * sizeof *got, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < n_views; i++) {
        assert_int_equal(checkpoint_read_rows(m->file, views[i], 0, views[i]->dim[0], raw, NULL), 0);
        dtype_to_f32(views[i]->type, raw, value[i], views[i]->dim[0]);
        tile0[i + 1] = tile0[i] + packed_tiles(map, (int)views[i]->dim[0], m->config.head_dim);
    }
    for (int r = 0; r < n; r++) {
        int p = 0, half;
        while (map != ROWS_GATE && p + 1 < n_views && r / 16 >= tile0[p + 1])
            p++;
        int row = source_row(map, m->config.head_dim, (int)views[p]->dim[0], r - 16 * tile0[p], &half);
        float want = row < 0 ? 0 : value[half && map == ROWS_GATE ? 1 : p][row];
        if (memcmp(&got[r], &want, sizeof want) && bad++ < 5)
            print_error("%s: value %d of %d (source %d of vector %d): got %g, want %g\n", name, r, n, row, p, (double)got[r], (double)want);
    }
    for (int i = 0; i < 3; i++)
        free(value[i]);
    free(raw);
    free(got);
    return bad;
}

static long check_bias(const struct model *m, const char *name, const float *on_device, int map, const struct view *const *views, int n, int tiles)
{
    if (views[0])
        return check_vector(m, name, on_device, map, views, n, 16 * tiles);
    assert_null(on_device);
    return 0;
}

static long check_layer(const struct device *d, int l, const char *choice)
{
    const struct model *m = d->model;
    const struct cuda_layer *y = &d->layer[l];
    const struct view *w[W_COUNT], *b[W_COUNT], *heads[3], *head_bias[3], *gates[2], *gate_bias[2];
    long bad = 0;
    for (int i = 0; i < W_COUNT; i++) {
        w[i] = model_weight(m, l, (enum layer_weight)i);
        b[i] = i == W_ATTN_NORM || i == W_FFN_NORM ? NULL : model_bias(m, l, (enum layer_weight)i);
    }
    for (int i = 0; i < 3; i++) {
        heads[i] = w[W_Q + i];
        head_bias[i] = b[W_Q + i];
    }
    for (int i = 0; i < 2; i++) {
        gates[i] = w[W_GATE + i];
        gate_bias[i] = b[W_GATE + i];
    }
    for (int i = 0; i < y->n_qkv; i++) {
        int n = y->n_qkv == 1 ? 3 : 1;
        bad += check_block(m, "q, k, v", &y->qkv[i], ROWS_HEADS, heads + i, n, choice);
        bad += check_bias(m, "bias of q, k, v", y->qkv_bias[i], ROWS_HEADS, head_bias + i, n, y->qkv[i].tiles);
    }
    for (int i = 0; i < y->n_gate; i++) {
        int n = y->n_gate == 1 ? 2 : 1, map = n == 2 ? ROWS_GATE : ROWS_PLAIN;
        bad += check_block(m, "gate, up", &y->gate[i], map, gates + i, n, choice);
        bad += check_bias(m, "bias of gate, up", y->gate_bias[i], map, gate_bias + i, n, y->gate[i].tiles);
    }
    bad += check_block(m, "o", &y->o, ROWS_PLAIN, &w[W_O], 1, choice);
    bad += check_block(m, "down", &y->down, ROWS_PLAIN, &w[W_DOWN], 1, choice);
    bad += check_bias(m, "bias of o", y->o_bias, ROWS_PLAIN, &b[W_O], 1, y->o.tiles);
    bad += check_bias(m, "bias of down", y->down_bias, ROWS_PLAIN, &b[W_DOWN], 1, y->down.tiles);
    bad += check_vector(m, "attn_norm", y->attn_norm, ROWS_PLAIN, &w[W_ATTN_NORM], 1, d->state_stride);
    bad += check_vector(m, "ffn_norm", y->ffn_norm, ROWS_PLAIN, &w[W_FFN_NORM], 1, d->state_stride);
    return bad;
}

static long check_device(const struct device *d, const char *choice)
{
    const struct model *m = d->model;
    const struct view *embed = checkpoint_find(m->file, "embed"), *head = m->config.tied ? embed : checkpoint_find(m->file, "head"), *norm = checkpoint_find(m->file, "norm");
    long bad = check_block(m, "embed", &d->embed, ROWS_PLAIN, &embed, 1, choice);
    bad += check_block(m, "head", &d->head, ROWS_PLAIN, &head, 1, choice);
    bad += check_vector(m, "norm", d->norm, ROWS_PLAIN, &norm, 1, d->state_stride);
    assert_true(!m->config.tied == (d->head.data != d->embed.data));
    for (int l = 0; l < m->config.n_layers; l++)
        bad += check_layer(d, l, choice);
    float want[256] = {0}, got[256];
    assert_int_equal(model_frequencies(m, want, NULL), 0);
    assert_int_equal(cudaMemcpy(got, d->inv_freq, (size_t)m->config.head_dim / 2 * sizeof *got, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_memory_equal(got, want, (size_t)m->config.head_dim / 2 * sizeof *got);
    return bad;
}

/* Loads a model, checks all that is on the device and the plan; x_f32: what the device must compute with. Returns how much is wrong. */
static long load_and_check(const struct model *m, const char *name, const char *choice, bool wide, int threads, int x_f32)
{
    struct device d;
    struct error err = {0};
    struct device_plan plan;
    struct device_options o = {.weights = choice, .wide = wide, .threads = threads, .n_slots = 16, .n_seqs = 1, .n_hidden = 1};
    if (open_device(&d, m, &o, &err))
        fail_with(err.text);
    long bad = check_device(&d, choice);
    if (d.x_f32 != x_f32) {
        print_error("x_f32 is %d\n", d.x_f32);
        bad++;
    }
    if (cuda_plan(m, &o, &plan, &err))
        fail_with(err.text);
    uint64_t layers = 0;
    for (int l = 0; l < m->config.n_layers; l++)
        layers += d.layer[l].bytes;
    if (plan.weights != d.memory.bytes || plan.layer_bytes != layers / (uint64_t)m->config.n_layers || plan.head_bytes != packed_bytes(&d.head) || plan.threads || strncmp(plan.kernels, "cuda", 4)) {
        print_error("plan: %llu bytes of weights (device: %llu), layer %llu (all: %llu), head %llu (%llu), threads %d, kernels %s\n", (unsigned long long)plan.weights,
                    (unsigned long long)d.memory.bytes, (unsigned long long)plan.layer_bytes, (unsigned long long)layers, (unsigned long long)plan.head_bytes,
                    (unsigned long long)packed_bytes(&d.head), plan.threads, plan.kernels);
        bad++;
    }
    if (bad)
        print_error("%s, weights %s, %d threads: %ld differences\n", name, choice ? choice : "as they are", threads, bad);
    close_device(&d);
    return bad;
}

static void every_choice_of_weights(void **state)
{
    (void)state;
    long bad = 0;
    for (int t = 0; t < N_FILES; t++)
        for (int c = 0; c < N_CHOICES; c++) {
            char path[160];
            struct model m;
            bool as_is = !choices[c] || !strcmp(choices[c], "file");
            synthetic_path(path, sizeof path, "tiny-llama3", files[t]);
            open_model(&m, path);
            bad += load_and_check(&m, path, choices[c], c == 1, 1 + c % 3, c == 1 || (as_is && !strcmp(files[t], "f32")));
            model_close(&m);
        }
    assert_int_equal(bad, 0);
}

/* Tied, with biases, with sizes that are no multiple of anything, with more threads than work. */
static void every_shape_as_stored(void **state)
{
    (void)state;
    static const char *const shapes[] = {"tiny", "tiny-gqa", "tiny-tied", "tiny-headdim", "tiny-bias"};
    long bad = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < N_FILES; t++) {
            char path[160];
            struct model m;
            synthetic_path(path, sizeof path, shapes[i], files[t]);
            open_model(&m, path);
            bad += load_and_check(&m, path, NULL, false, 7, !strcmp(files[t], "f32"));
            model_close(&m);
        }
    assert_int_equal(bad, 0);
}

/* Quantised files, their q and k stored for the other kind of rotary. */
static void gguf_files(void **state)
{
    (void)state;
    static const char *const types[] = {"q8_0", "q4_0", "q4_1", "bf16", "q4_k", "q6_k", "q4_k_m"};
    char folder[160], path[192];
    long bad = 0;
    synthetic_path(folder, sizeof folder, "tiny-256", "f32");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        struct error err = {0};
        struct model m;
        struct quantize_options o = {.type = types[t], .threads = 1};
        snprintf(path, sizeof path, "%s/%s.gguf", synthetic_root, types[t]);
        if (quantize_write(folder, path, &o, &err) < 0)
            fail_with(err.text);
        open_model(&m, path);
        bad += load_and_check(&m, path, NULL, false, 2, 0);
        bad += load_and_check(&m, path, "q4", false, 2, 0);
        model_close(&m);
    }
    assert_int_equal(bad, 0);
}

/* A layer whose matrices have several types: as they are q, k, v and gate, up lie apart; rounded to one type they lie together. */
static void mixed_types(void **state)
{
    (void)state;
    static const enum layer_weight other[] = {W_K, W_UP, W_DOWN};
    char path[160];
    struct model m;
    struct device d;
    struct error err = {0};
    struct device_options o = {.threads = 2, .n_slots = 16, .n_seqs = 1, .n_hidden = 1};
    synthetic_path(path, sizeof path, "tiny-bias", "bf16");
    open_model(&m, path);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) /* other values then, but as good */
        ((struct view *)model_weight(&m, 1, other[i]))->type = DT_F16;
    long bad = load_and_check(&m, "mixed", NULL, false, 2, 0);
    bad += load_and_check(&m, "mixed", "bf16", false, 2, 0);
    if (open_device(&d, &m, &o, &err))
        fail_with(err.text);
    assert_true(d.layer[0].n_qkv == 1 && d.layer[0].n_gate == 1 && d.layer[1].n_qkv == 3 && d.layer[1].n_gate == 2);
    close_device(&d);
    model_close(&m);
    assert_int_equal(bad, 0);
}

/* Chunks: more than one of a matrix, several of a thread on their way. */
static void matrices_of_several_chunks(void **state)
{
    (void)state;
    char path[192];
    struct error err = {0};
    struct model m;
    struct synth_options o = {.shape = "smollm2-135m", .dtype = "bf16", .layers = 1, .tie = 1};
    synthetic_path(path, sizeof path, "tiny", "bf16"); /* makes the root */
    snprintf(path, sizeof path, "%s/large", synthetic_root);
    if (synth_write(path, &o, &err))
        fail_with(err.text);
    open_model(&m, path);
    long bad = load_and_check(&m, path, NULL, false, 3, 0);
    model_close(&m);
    assert_int_equal(bad, 0);
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

/* The weights of a folder of its own kind with one thread; 0, or the error. */
static int load(const char *type, const char *weights, struct watch *w, struct error *err)
{
    char path[160];
    struct model m;
    struct device d;
    synthetic_path(path, sizeof path, "tiny-headdim", type);
    snprintf(w->file, sizeof w->file, "%s/model.safetensors", path);
    open_model(&m, path);
    struct device_options o = {.weights = weights, .threads = 1, .n_slots = 16, .n_seqs = 1, .n_hidden = 1, .progress = watch_progress, .progress_ud = w};
    int rc = open_device(&d, &m, &o, err);
    close_device(&d);
    model_close(&m);
    return rc;
}

static size_t free_memory(void)
{
    size_t some = 0, all = 0;
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&some, &all), cudaSuccess);
    return some;
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

static void weights_that_cannot_be(void **state)
{
    (void)state;
    struct error err = {0};
    struct watch w = {.calls = 0};
    assert_int_equal(load("bf16", "q3", &w, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "weights \"q3\": must be file, bf16, q8 or q4"));
    assert_int_equal(load("bf16", "q8", &w, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "72 values"));
    assert_int_equal(w.calls, 0);
}

static void kernels_that_are_not_there(void **state)
{
    (void)state;
    char path[160];
    struct model m;
    struct error err = {0};
    struct device_plan plan;
    struct device_options o = {.kernels = "plain", .n_slots = 16, .n_seqs = 1, .n_hidden = 1};
    synthetic_path(path, sizeof path, "tiny", "bf16");
    open_model(&m, path);
    assert_int_equal(cuda_plan(&m, &o, &plan, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "plain"));
    o.kernels = NULL;
    long calls = 0;
    for (int rc = -1; rc; calls++) { /* each call that a plan makes fails in turn */
        err = (struct error){0};
        cuda_fail_at(calls);
        rc = cuda_plan(&m, &o, &plan, &err);
        cuda_fail_at(-1);
        assert_true(rc == 0 || (rc < 0 && *err.text));
    }
    assert_in_range(calls, 3, 100);
    model_close(&m);
}

/* Each CUDA call of a load fails in turn, until one is through; how many there were. */
static long fail_in_turn(const struct model *m, int threads)
{
    struct device d;
    struct device_options o = {.threads = threads, .n_slots = 16, .n_seqs = 1, .n_hidden = 1};
    long n = 0, odd = 0;
    for (; n < 5000; n++) {
        struct error err = {0};
        cuda_fail_at(n);
        int rc = open_device(&d, m, &o, &err);
        cuda_fail_at(-1);
        close_device(&d);
        if (!rc)
            break;
        if ((rc != err.code || !*err.text) && odd++ < 5)
            print_error("call %ld of a load with %d threads failed: %d, error %d \"%s\"\n", n, threads, rc, err.code, err.text);
    }
    assert_int_equal(odd, 0);
    assert_true(n > 60 && n < 5000);
    return n;
}

/* An error each time, and nothing is left. The first time around shows what the runtime itself keeps. */
static void every_call_fails(int threads)
{
    char path[160];
    struct model m;
    synthetic_path(path, sizeof path, "tiny-bias", "bf16");
    open_model(&m, path);
    fail_in_turn(&m, threads);
    size_t before = free_memory();
    long n = fail_in_turn(&m, threads);
    size_t after = free_memory();
    print_message("%d threads: %ld calls made to fail; free bytes before %zu, after %zu\n", threads, n, before, after);
    assert_true(after >= before);
    assert_int_equal(load_and_check(&m, "after all failures", NULL, false, threads, 0), 0);
    model_close(&m);
}

static void every_call_fails_alone(void **state)
{
    (void)state;
    every_call_fails(1);
}

static void every_call_fails_among_threads(void **state)
{
    (void)state;
    every_call_fails(3);
}

static void a_file_that_shrinks_is_an_error(void **state) /* last: it spoils the folder */
{
    (void)state;
    struct error err = {0};
    struct watch w = {.shrink_at = 2};
    size_t before = free_memory();
    assert_int_equal(load("f32", NULL, &w, &err), ERR_IO);
    assert_non_null(strstr(err.text, w.file));
    assert_non_null(strstr(err.text, "ends at offset"));
    assert_true(free_memory() >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_choice_of_weights),  cmocka_unit_test(every_shape_as_stored),      cmocka_unit_test(gguf_files),
        cmocka_unit_test(mixed_types),              cmocka_unit_test(matrices_of_several_chunks), cmocka_unit_test(progress_tells_and_stops),
        cmocka_unit_test(weights_that_cannot_be),   cmocka_unit_test(kernels_that_are_not_there), cmocka_unit_test(every_call_fails_alone),
        cmocka_unit_test(every_call_fails_among_threads), cmocka_unit_test(a_file_that_shrinks_is_an_error),
    };
    return have_gpu() ? cmocka_run_group_tests(tests, NULL, synthetic_cleanup) : 77;
}
