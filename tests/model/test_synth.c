/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "format/checkpoint.h"
#include "model/shapes.h"
#include "model/synth.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "faults.h"

static char base[64], target[128];

static int make_base(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/test_synth.XXXXXX");
    snprintf(target, sizeof target, "%s", mkdtemp(base) ? base : "");
    strncat(target, "/model", sizeof target - strlen(target) - 1);
    return !*base;
}

static int remove_files(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    return rmdir(path);
}

static int remove_base(void **state)
{
    (void)state;
    remove_files(target);
    return rmdir(base); /* fails when a temporary folder was left */
}

static uint64_t hash_file(const char *name)
{
    char path[256], *p;
    size_t n;
    struct error err = {0};
    snprintf(path, sizeof path, "%s/%s", target, name);
    assert_int_equal(file_slurp(path, 64 << 20, &p, &n, &err), 0);
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    free(p);
    return h;
}

/* The files of every tiny shape, frozen: they are what golden results belong to. */
static void test_frozen(void **state)
{
    (void)state;
    static const char *const types[] = {"bf16", "f16", "f32"};
    static const struct {
        const char *shape;
        uint64_t hash[3];
    } frozen[] = {
        {"tiny", {0x961750cbcec7104f, 0x0b20e63c4b5f8184, 0xe048eee906243652}},
        {"tiny-gqa", {0x2e9e382e0eedc646, 0x4b81ff437879a4b6, 0xfa281eaf20f9b837}},
        {"tiny-tied", {0x7a18c90551b60066, 0xb370f30bb43d32c2, 0x5d82f4473c0dd7fc}},
        {"tiny-llama3", {0x9177577bf6d2f253, 0x02c29b6031032ae5, 0x4d9abd1643076f5e}},
        {"tiny-headdim", {0xd8a2df332425b623, 0xe5c07dab9887cbcd, 0xa4de5d8c56bfc7e7}},
        {"tiny-bias", {0x7d9a40ccab3fde2e, 0xf437e424dd680778, 0x59ba40a44dc264ca}},
        {"tiny-256", {0xa2b7e79de75b0724, 0x8462ec794981b288, 0x9679f41cfb176a86}},
        {"tiny-ties", {0x25093ccf7d64b3f2, 0xd3a7d2433e35b633, 0x1ef4d4865fbf1c24}},
    };
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++)
        for (int t = 0; t < 3; t++) {
            struct error err = {0};
            struct synth_options o = {.shape = frozen[i].shape, .dtype = types[t], .threads = 1 + t};
            assert_int_equal(synth_write(target, &o, &err), 0);
            uint64_t got = hash_file("model.safetensors");
            if (got != frozen[i].hash[t])
                print_error("%s %s: 0x%016llx\n", frozen[i].shape, types[t], (unsigned long long)got);
            assert_int_equal(got, frozen[i].hash[t]);
            assert_int_equal(remove_files(target), 0);
        }
}

/* The sum over i of (i + 1) * code[i], modulo 2^64, of a tensor by its name in the file. */
static uint64_t sum_tensor(const struct checkpoint *c, const char *name, const json_t *dims)
{
    const struct view *v = NULL;
    for (int i = 0; i < c->n_views; i++)
        if (!strcmp(c->view[i].file_name, name))
            v = &c->view[i];
    assert_non_null(v);
    assert_int_equal(v->rank, json_array_size(dims));
    for (size_t i = 0; i < json_array_size(dims); i++)
        assert_int_equal(v->dim[i], json_integer_value(json_array_get(dims, i)));
    uint16_t *code = malloc(v->bytes);
    struct error err = {0};
    uint64_t sum = 0;
    assert_non_null(code);
    assert_int_equal(checkpoint_read_rows(c, v, 0, v->dim[0], code, &err), 0);
    for (uint64_t i = 0; i < v->bytes / 2; i++)
        sum += (i + 1) * code[i];
    free(code);
    return sum;
}

/* The Python twin (tests/golden/synth.py) makes the same bits; our own reader finds every tensor where it should be, in many shards. */
static void test_equal_to_the_definition_in_python(void **state)
{
    (void)state;
    json_t *golden = json_load_file("tests/golden/synth.json", 0, NULL), *tensors, *tensor;
    const char *shape, *name;
    assert_non_null(golden);
    assert_true(json_object_size(json_object_get(golden, "shapes")) >= 6);
    json_object_foreach (json_object_get(golden, "shapes"), shape, tensors) {
        struct error err = {0};
        struct synth_options o = {.shape = shape, .shard_bytes = 200000, .seed = (uint64_t)json_integer_value(json_object_get(golden, "seed"))};
        assert_int_equal(synth_write(target, &o, &err), 0);
        struct checkpoint *c = checkpoint_open(target, &err);
        if (!c)
            fail_msg("%s", err.text);
        assert_int_equal(c->n_views, json_object_size(tensors));
        assert_true(c->n_shards > 1);
        json_object_foreach (tensors, name, tensor)
            assert_int_equal(sum_tensor(c, name, json_object_get(tensor, "dims")),
                             strtoull(json_string_value(json_object_get(tensor, "sum")), NULL, 16));
        checkpoint_close(c);
        assert_int_equal(remove_files(target), 0);
    }
    json_decref(golden);
}

static void test_options_change_the_file(void **state)
{
    (void)state;
    struct error err = {0};
    uint64_t seen[4];
    const struct synth_options o[4] = {{.shape = "tiny"}, {.shape = "tiny", .seed = 2}, {.shape = "tiny", .tie = 1}, {.shape = "tiny", .layers = 3}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(synth_write(target, &o[i], &err), 0);
        seen[i] = hash_file("model.safetensors");
        for (int k = 0; k < i; k++)
            assert_int_not_equal(seen[i], seen[k]);
        assert_int_equal(remove_files(target), 0);
    }
}

/* Odd rows of the head are the even ones before them, one step further from zero at every 16th value. */
static void test_pairs_of_rows(void **state)
{
    (void)state;
    struct error err = {0};
    struct synth_options o = {.shape = "tiny-ties"};
    assert_int_equal(synth_write(target, &o, &err), 0);
    char path[256], *p;
    size_t n;
    snprintf(path, sizeof path, "%s/model.safetensors", target);
    assert_int_equal(file_slurp(path, 64 << 20, &p, &n, &err), 0);
    const struct shape *s = shape_find("tiny-ties");
    const size_t values = (size_t)s->vocab * (size_t)s->hidden;
    uint16_t *head = malloc(2 * values); /* the last tensor of the file: [vocab][hidden] */
    assert_non_null(head);
    memcpy(head, p + n - 2 * values, 2 * values);
    for (size_t i = 0; i < values; i++) {
        size_t row = i / (size_t)s->hidden, col = i % (size_t)s->hidden;
        if (row % 2)
            assert_int_equal(head[i], head[i - (size_t)s->hidden] + (col % 16 == 0));
    }
    assert_memory_not_equal(head, head + 2 * (size_t)s->hidden, 2 * (size_t)s->hidden);
    free(head);
    free(p);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        struct synth_options o;
        const char *word;
    } bad[] = {{{.shape = NULL}, "shape"},
               {{.shape = "huge"}, "huge"},
               {{.shape = "tiny", .dtype = "q8"}, "q8"},
               {{.shape = "tiny", .layers = -1}, "layers -1"},
               {{.shape = "tiny", .layers = 100000}, "layers 100000"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {0};
        assert_int_equal(synth_write(target, &bad[i].o, &err), ERR_USAGE);
        assert_non_null(strstr(err.text, bad[i].word));
        assert_int_not_equal(access(target, F_OK), 0);
    }
    struct error err = {0};
    struct synth_options o = {.shape = "tiny"};
    assert_int_equal(mkdir(target, 0777), 0);
    assert_int_equal(synth_write(target, &o, &err), ERR_CREATE);
    assert_non_null(strstr(err.text, target));
    assert_non_null(strstr(err.text, "exists"));
    assert_int_equal(rmdir(target), 0); /* still empty */
    assert_int_equal(synth_write("/proc/no/such/place", &o, &err), ERR_CREATE);
}

/* Stops at call *left; the first one comes before anything is there. */
static int stop_later(void *ud, const char *what, uint64_t done, uint64_t total)
{
    int *left = ud;
    assert_string_equal(what, "writing weights");
    assert_true(done <= total && total > 0);
    if (!done)
        assert_int_equal(rmdir(base) || mkdir(base, 0700), 0); /* still empty */
    return --*left < 1;
}

/* Nothing is left behind; remove_base sees it. */
static void test_stopped(void **state)
{
    (void)state;
    for (int call = 1; call <= 2; call++) {
        int left = call;
        struct error err = {0};
        struct synth_options o = {.shape = "tiny", .threads = 1, .progress = stop_later, .progress_ud = &left};
        assert_int_equal(synth_write(target, &o, &err), ERR_USAGE);
        assert_int_equal(left, 0);
        assert_string_equal(err.text, "stopped");
        assert_int_not_equal(access(target, F_OK), 0);
    }
}

/* The folder, or nothing: remove_base sees it. */
static void test_failing_disk(void **state)
{
    (void)state;
    int failed = 0;
    for (int at = 0, reached = 1; reached; at++) {
        struct error err = {0};
        struct synth_options o = {.shape = "tiny", .threads = 1};
        fault_at = at;
        int rc = synth_write(target, &o, &err);
        reached = fault_at < 0;
        fault_at = -1;
        failed += rc != 0;
        assert_int_equal(access(target, F_OK) == 0, rc == 0);
    }
    assert_int_equal(failed, 17); /* 5 files: sync, rename, folder; and the folder: rename, folder */
}

static int watch(void *ud, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    uint64_t *last = ud;
    assert_true(done > last[0] || !done);
    last[0] = done;
    last[1] = total;
    return 0;
}

/* A trailing slash, many shards, progress to the end. */
static void test_shards_and_progress(void **state)
{
    (void)state;
    uint64_t last[2] = {0};
    struct error err = {0};
    struct synth_options o = {.shape = "tiny", .shard_bytes = 100000, .threads = 1, .progress = watch, .progress_ud = last};
    char slashed[160], path[256];
    struct stat st;
    snprintf(slashed, sizeof slashed, "%s//", target);
    assert_int_equal(synth_write(slashed, &o, &err), 0);
    assert_int_equal(last[0], last[1]);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", target);
    assert_int_equal(stat(path, &st), 0);
    snprintf(path, sizeof path, "%s/tokenizer.json", target);
    assert_int_equal(stat(path, &st), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_frozen, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_equal_to_the_definition_in_python, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_options_change_the_file, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_pairs_of_rows, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_refusals, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_stopped, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_failing_disk, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_shards_and_progress, make_base, remove_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
