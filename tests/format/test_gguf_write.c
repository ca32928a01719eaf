/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files as they are written: read back by our own reader, in one file and in parts, and nothing left of those that failed. */
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

#include "check.h"
#include "format/gguf_write.h"
#include "faults.h"
#include "format/make_files.h"

enum { ROWS = 40, COLS = 64 };

static const struct tensor_out tensors[] = {
    {"token_embd.weight", DT_F32, 2, {ROWS, COLS}},
    {"output_norm.weight", DT_F32, 1, {COLS, 1}},
    {"blk.0.attn_v.weight", DT_Q8_0, 2, {ROWS, COLS}},
    {"blk.0.ffn_up.weight", DT_F16, 2, {3, 7}}, /* 42 bytes: the next one begins behind padding */
    {"blk.0.ffn_norm.weight", DT_F32, 1, {5, 1}},
};
enum { N = sizeof tensors / sizeof *tensors };

static struct gguf_bytes make_keys(void)
{
    struct gguf_bytes k = {0};
    static const char *const whole[] = {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count"};
    const struct bytes text[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"bc", 2}, {(const uint8_t *)"", 0}};
    gguf_put_text(&k, "general.architecture", "llama");
    for (int i = 0; i < 5; i++)
        gguf_put_number(&k, whole[i], GGUF_U32, 7 + (uint64_t)i);
    gguf_put_f32(&k, "llama.attention.layer_norm_rms_epsilon", 1e-5);
    gguf_put_number(&k, "own.minus", GGUF_I32, (uint64_t)-3);
    gguf_put_number(&k, "own.yes", GGUF_BOOL, 1);
    gguf_put_texts(&k, "tokenizer.ggml.tokens", text, 3);
    gguf_put_words(&k, "tokenizer.ggml.scores", GGUF_F32, (const float[]){0, -1, -2.5f}, 3);
    gguf_put_words(&k, "own.ints", GGUF_I32, (const int32_t[]){4, -5}, 2);
    return k;
}

static size_t bytes_of(int i)
{
    const struct tensor_out *t = &tensors[i];
    return t->rank == 2 ? (size_t)(dtype_row_bytes(t->type, t->dim[1]) * t->dim[0]) : (size_t)t->dim[0] * 4;
}

static uint8_t byte_at(int tensor, size_t i) { return (uint8_t)(31 * tensor + 7 * (int)(i % 1000) + 1); }

/* Tensors last to first, the second half of each before the first. */
static int write_tensors(struct gguf_out *o, struct error *err)
{
    uint8_t b[ROWS * COLS * 4];
    int rc = 0;
    for (int i = N; i-- > 0 && !rc;) {
        size_t n = bytes_of(i), half = n / 2;
        for (size_t k = 0; k < n; k++)
            b[k] = byte_at(i, k);
        rc = gguf_write(o, i, half, b + half, n - half, err);
        if (!rc)
            rc = gguf_write(o, i, 0, b, half, err);
    }
    return rc;
}

static int files(void)
{
    int n = 0;
    DIR *d = opendir(made_dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += *e->d_name != '.';
    closedir(d);
    return n;
}

static void empty_dir(void)
{
    remove_dir(NULL);
    assert_int_equal(mkdir(made_dir, 0777), 0);
}

/* Plans, creates, writes and commits. */
static int write_model(const char *name, uint64_t part_bytes, bool force, struct error *err)
{
    struct gguf_bytes k = make_keys();
    struct gguf_out o;
    int rc = gguf_plan(&o, made(name), &k, tensors, N, part_bytes, err), parts = o.n_parts;
    if (!rc)
        rc = gguf_create(&o, force, err);
    if (!rc)
        rc = write_tensors(&o, err);
    if (!rc)
        rc = gguf_commit(&o, err);
    gguf_abandon(&o);
    gguf_free(&k);
    return rc ? rc : parts;
}

static void check_model(const struct checkpoint *c)
{
    static const char *const names[N] = {"embed", "norm", "layers.0.v", "layers.0.up", "layers.0.ffn_norm"};
    struct error err = {0};
    uint8_t b[ROWS * COLS * 4];
    assert_int_equal(c->n_views, N);
    for (int i = 0; i < N; i++) {
        const struct view *v = checkpoint_find(c, names[i]);
        assert_non_null(v);
        assert_string_equal(v->file_name, tensors[i].name);
        assert_int_equal(v->type, tensors[i].type);
        assert_int_equal(v->rank, tensors[i].rank);
        assert_int_equal(v->dim[0], tensors[i].dim[0]);
        assert_int_equal(v->dim[1], tensors[i].dim[1]);
        assert_int_equal(v->offset % 32, 0);
        assert_int_equal(v->bytes, bytes_of(i));
        assert_int_equal(file_read_at(&c->shard[v->shard], v->offset, b, (size_t)v->bytes, &err), 0);
        for (size_t k = 0; k < v->bytes; k++)
            assert_int_equal(b[k], byte_at(i, k));
        assert_int_equal(c->shard[v->shard].size % 32, 0);
    }
    const struct meta *m = checkpoint_meta(c, "own.minus");
    assert_true(m && m->type == META_INT && m->i == -3);
    m = checkpoint_meta(c, "own.yes");
    assert_true(m && m->type == META_BOOL && m->i == 1);
    m = checkpoint_meta(c, "own.ints");
    assert_true(m && m->type == META_INTS && m->i == 2 && m->ints[0] == 4 && m->ints[1] == -5);
    m = checkpoint_meta(c, "rms_norm_eps");
    assert_true(m && m->type == META_REAL && m->real == (double)1e-5f);
    assert_int_equal(c->tokens.n, 3);
    assert_int_equal(c->tokens.text[1].n, 2);
    assert_memory_equal(c->tokens.text[1].p, "bc", 2);
    assert_true(c->tokens.score[2] == -2.5f);
}

static void one_file_is_read_back(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(write_model("x.gguf", 0, false, &err), 1);
    assert_int_equal(files(), 1);
    struct checkpoint *c = expect_opened(made("x.gguf"));
    assert_int_equal(c->n_shards, 1);
    check_model(c);
    checkpoint_close(c);
    assert_int_equal(write_model("large.gguf", 1 << 20, false, &err), 1); /* parts only where they are needed */
    assert_int_equal(access(made("large.gguf"), F_OK), 0);
    empty_dir();
}

static void parts_are_read_back(void **state)
{
    (void)state;
    struct error err = {0};
    struct stat st;
    char name[64];
    enum { LIMIT = 3200 };
    assert_int_equal(write_model("x.gguf", LIMIT, false, &err), 3);
    assert_int_equal(files(), 3);
    for (int i = 1; i <= 3; i++) {
        snprintf(name, sizeof name, "x-%05d-of-00003.gguf", i);
        assert_int_equal(stat(made(name), &st), 0);
        assert_true(st.st_size <= LIMIT || i == 1); /* the embedding alone is larger */
    }
    struct checkpoint *c = expect_opened(made("x-00001-of-00003.gguf"));
    assert_int_equal(c->n_shards, 3);
    check_model(c);
    checkpoint_close(c);
    assert_int_equal(write_model("bare", LIMIT, false, &err), 3); /* a name without .gguf gets it */
    assert_int_equal(access(made("bare-00002-of-00003.gguf"), F_OK), 0);
    empty_dir();
}

static void names_that_are_taken_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    make_text("x.gguf", "mine");
    assert_int_equal(write_model("x.gguf", 0, false, &err), ERR_CREATE);
    assert_non_null(strstr(err.text, "exists"));
    assert_int_equal(files(), 1);
    assert_int_equal(write_model("x.gguf", 0, true, &err), 1);
    checkpoint_close(expect_opened(made("x.gguf")));
    assert_int_equal(mkdir(made("folder"), 0777), 0);
    assert_int_equal(write_model("folder", 0, true, &err), ERR_CREATE);
    assert_non_null(strstr(err.text, "a folder"));
    assert_int_equal(write_model("no/such.gguf", 0, false, &err), ERR_CREATE);
    make_text("p-00003-of-00003.gguf", "mine");
    assert_int_equal(write_model("p.gguf", 3200, false, &err), ERR_CREATE);
    assert_int_equal(files(), 3);
    empty_dir();
}

static void what_fails_leaves_nothing(void **state)
{
    (void)state;
    struct error err = {0};
    struct gguf_bytes k = make_keys();
    struct gguf_out o;
    assert_int_equal(gguf_plan(&o, made("x.gguf"), &k, tensors, N, 3200, &err), 0);
    assert_int_equal(files(), 0);
    assert_int_equal(gguf_create(&o, false, &err), 0);
    assert_int_equal(files(), 3);
    assert_int_equal(gguf_write(&o, 1, 250, "12345678", 8, &err), ERR_INTERNAL);
    assert_int_equal(gguf_write(&o, 1, UINT64_MAX, "12345678", 8, &err), ERR_INTERNAL);
    assert_int_equal(mkdir(made("x-00002-of-00003.gguf"), 0777), 0); /* the second rename fails, the third part is there already */
    assert_int_equal(gguf_commit(&o, &err), ERR_CREATE);
    assert_int_equal(files(), 1);
    gguf_abandon(&o);
    assert_int_equal(gguf_plan(&o, made("y.gguf"), &k, tensors, N, 0, &err), 0);
    assert_int_equal(gguf_create(&o, false, &err), 0);
    gguf_abandon(&o);
    assert_int_equal(files(), 1);
    gguf_abandon(&o); /* and again */
    gguf_free(&k);
    empty_dir();
}

/* The three parts of an older model. */
static void make_old(void)
{
    char name[64];
    for (int i = 1; i <= 3; i++) {
        snprintf(name, sizeof name, "x-%05d-of-00003.gguf", i);
        make_text(name, name);
    }
}

static void check_old(void)
{
    struct error err = {0};
    char name[64], *all;
    size_t n;
    for (int i = 1; i <= 3; i++) {
        snprintf(name, sizeof name, "x-%05d-of-00003.gguf", i);
        assert_int_equal(file_slurp(made(name), 100, &all, &n, &err), 0);
        assert_string_equal(all, name);
        free(all);
    }
}

/* Whatever call fails at the commit: all of the new model, or all of what was there, and nothing else. */
static void commits_are_all_or_nothing(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        int failed = 0;
        for (int at = 0, reached = 1; reached; at++) {
            struct error err = {0};
            struct gguf_bytes k = make_keys();
            struct gguf_out o;
            if (old)
                make_old();
            assert_int_equal(gguf_plan(&o, made("x.gguf"), &k, tensors, N, 3200, &err), 0);
            assert_int_equal(gguf_create(&o, old, &err), 0);
            assert_int_equal(write_tensors(&o, &err), 0);
            fault_at = at;
            int rc = gguf_commit(&o, &err);
            reached = fault_at < 0;
            fault_at = -1;
            failed += rc != 0;
            gguf_abandon(&o);
            gguf_free(&k);
            assert_int_equal(files(), rc && !old ? 0 : 3);
            if (rc && old)
                check_old();
            if (!rc) {
                struct checkpoint *c = expect_opened(made("x-00001-of-00003.gguf"));
                check_model(c);
                checkpoint_close(c);
            }
            empty_dir();
        }
        assert_int_equal(failed, old ? 10 : 7); /* 3 syncs, 3 set aside, 3 renamed, the folder synced */
    }
}

static void a_disk_that_fills_up_is_an_error(void **state)
{
    (void)state;
    struct error err = {0};
    struct rlimit old, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){4096, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = write_model("x.gguf", 0, false, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(rc, ERR_IO);
    assert_non_null(strstr(err.text, "x.gguf"));
    assert_int_equal(files(), 0);
    const struct tensor_out huge = {"token_embd.weight", DT_F32, 2, {1ull << 40, 1 << 10}};
    struct gguf_bytes k = {0};
    struct gguf_out o;
    assert_int_equal(gguf_plan(&o, made("x.gguf"), &k, &huge, 1, 0, &err), 0);
    assert_int_equal(gguf_create(&o, false, &err), ERR_CREATE); /* said before anything is written */
    assert_non_null(strstr(err.text, "the disk has"));
    gguf_abandon(&o);
    assert_int_equal(files(), 0);
}

static void impossible_tensors_are_refused(void **state)
{
    (void)state;
    struct gguf_bytes k = {0};
    struct gguf_out o;
    const struct tensor_out bad[] = {{"a", DT_Q8_0, 2, {4, 33}}, {"a", DT_Q4_0, 1, {32, 1}}, {"a", DT_F32, 2, {1ull << 62, 64}}};
    for (int i = 0; i < 3; i++) {
        struct error err = {0};
        assert_int_equal(gguf_plan(&o, "x", &k, &bad[i], 1, 0, &err), ERR_INTERNAL);
        assert_non_null(strstr(err.text, "tensor a"));
    }
    struct error err = {0};
    assert_int_equal(gguf_plan(&o, "x", &k, bad, 0, 0, &err), ERR_INTERNAL);
    k.failed = true;
    assert_int_equal(gguf_plan(&o, "x", &k, tensors, N, 0, &err), ERR_OS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file_is_read_back),
        cmocka_unit_test(parts_are_read_back),
        cmocka_unit_test(names_that_are_taken_are_refused),
        cmocka_unit_test(what_fails_leaves_nothing),
        cmocka_unit_test(commits_are_all_or_nothing),
        cmocka_unit_test(a_disk_that_fills_up_is_an_error),
        cmocka_unit_test(impossible_tensors_are_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
