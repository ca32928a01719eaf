/* SPDX-License-Identifier: Apache-2.0 */
#include "format/safetensors_write.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "faults.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_st_write.XXXXXX");
    return mkdtemp(folder) == NULL;
}

static char *path_of(const char *name)
{
    static char path[4][160];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int remove_all(void **state)
{
    (void)state;
    static const char *const names[] = {"model.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    return rmdir(folder); /* fails when something else was left */
}

/* Reads a file; returns its header, *data points at the values. */
static json_t *read_header(const char *name, char **all, const char **data, size_t *n_data)
{
    size_t n;
    struct error err = {0};
    assert_int_equal(file_slurp(path_of(name), 1 << 20, all, &n, &err), 0);
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)(uint8_t)(*all)[i] << (8 * i);
    assert_true(length < n);
    assert_int_equal((8 + length) % 64, 0);
    json_error_t bad;
    json_t *root = json_loadb(*all + 8, length, JSON_REJECT_DUPLICATES, &bad);
    assert_non_null(root);
    *data = *all + 8 + length;
    *n_data = n - 8 - length;
    return root;
}

static void check_entry(const json_t *root, const char *name, const char *dtype, int rank, int from, int to)
{
    const char *type;
    json_t *shape;
    int a, b;
    assert_int_equal(json_unpack(json_object_get(root, name), "{s:s, s:o, s:[i, i!] !}", "dtype", &type, "shape", &shape, "data_offsets", &a, &b), 0);
    assert_string_equal(type, dtype);
    assert_int_equal(json_array_size(shape), rank);
    assert_int_equal(a, from);
    assert_int_equal(b, to);
}

static const struct tensor_out tensors[] = {
    {"a.weight", DT_F32, 2, {3, 2}},
    {"b \"quoted\"", DT_BF16, 1, {5, 1}},
    {"c", DT_F16, 2, {4, 4}},
};

static void write_all(struct safetensors_out *o, uint64_t shard_bytes, struct error *err)
{
    char a[24], b[10], c[32];
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    memset(c, 'c', sizeof c);
    assert_int_equal(safetensors_create(o, folder, tensors, 3, shard_bytes, err), 0);
    assert_int_equal(o->total, 66);
    assert_int_equal(safetensors_write(o, 2, 8, c, 24, err), 0); /* in any order, in parts */
    assert_int_equal(safetensors_write(o, 0, 0, a, 24, err), 0);
    assert_int_equal(safetensors_write(o, 2, 0, c, 8, err), 0);
    assert_int_equal(safetensors_write(o, 1, 0, b, 10, err), 0);
}

static void test_one_file(void **state)
{
    (void)state;
    struct error err = {0};
    struct safetensors_out o;
    write_all(&o, 0, &err);
    assert_int_not_equal(access(path_of("model.safetensors"), F_OK), 0); /* not before the commit */
    assert_int_equal(safetensors_commit(&o, &err), 0);
    char *all;
    const char *data;
    size_t n;
    json_t *root = read_header("model.safetensors", &all, &data, &n);
    assert_int_equal(json_object_size(root), 4);
    check_entry(root, "a.weight", "F32", 2, 0, 24);
    check_entry(root, "b \"quoted\"", "BF16", 1, 24, 34);
    check_entry(root, "c", "F16", 2, 34, 66);
    assert_int_equal(n, 66);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(data[i], i < 24 ? 'a' : i < 34 ? 'b' : 'c');
    json_decref(root);
    free(all);
}

/* Two shards and the index: all or none, whatever call fails; remove_all sees temporary files. */
static void test_failing_commits(void **state)
{
    (void)state;
    static const char *const names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"};
    int failed = 0;
    for (int at = 0, reached = 1; reached; at++) {
        struct error err = {0};
        struct safetensors_out o;
        write_all(&o, 34, &err);
        fault_at = at;
        int rc = safetensors_commit(&o, &err);
        reached = fault_at < 0;
        fault_at = -1;
        failed += rc != 0;
        for (int i = 0; i < 3; i++)
            assert_int_equal(access(path_of(names[i]), F_OK) == 0, rc == 0);
        assert_true(reached || rc == 0);
    }
    assert_int_equal(failed, 7); /* 3 syncs, 3 renames, the folder */
}

static void test_shards(void **state)
{
    (void)state;
    struct error err = {0};
    struct safetensors_out o;
    write_all(&o, 34, &err); /* a and b fill the first to the byte */
    assert_int_equal(o.n_shards, 2);
    assert_int_equal(safetensors_commit(&o, &err), 0);
    char *all;
    const char *data;
    size_t n;
    json_t *root = read_header("model-00001-of-00002.safetensors", &all, &data, &n);
    check_entry(root, "b \"quoted\"", "BF16", 1, 24, 34);
    assert_int_equal(n, 34);
    json_decref(root);
    free(all);
    root = read_header("model-00002-of-00002.safetensors", &all, &data, &n);
    check_entry(root, "c", "F16", 2, 0, 32);
    assert_int_equal(n, 32);
    assert_int_equal(data[31], 'c');
    json_decref(root);
    free(all);
    json_t *index = json_load_file(path_of("model.safetensors.index.json"), 0, NULL);
    int total;
    const char *a, *b, *c;
    assert_int_equal(json_unpack(index, "{s:{s:i!}, s:{s:s, s:s, s:s!} !}", "metadata", "total_size", &total, "weight_map", "a.weight", &a,
                                 "b \"quoted\"", &b, "c", &c), 0);
    assert_int_equal(total, 66);
    assert_string_equal(a, "model-00001-of-00002.safetensors");
    assert_string_equal(b, a);
    assert_string_equal(c, "model-00002-of-00002.safetensors");
    json_decref(index);
}

static void test_refusals(void **state)
{
    (void)state;
    struct error err = {0};
    struct safetensors_out o;
    char byte = 0;
    const struct tensor_out huge = {"huge", DT_F32, 2, {UINT64_MAX / 2, 8}}, quantised = {"q", DT_Q8_0, 2, {1, 32}};
    assert_int_equal(safetensors_create(&o, folder, &huge, 1, 0, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "huge"));
    assert_int_equal(safetensors_create(&o, folder, &quantised, 1, 0, &err), ERR_INTERNAL);
    assert_int_equal(safetensors_create(&o, path_of("missing"), tensors, 3, 0, &err), ERR_CREATE);
    write_all(&o, 0, &err);
    assert_int_equal(safetensors_write(&o, 1, 10, &byte, 1, &err), ERR_INTERNAL);
    assert_int_equal(safetensors_write(&o, 1, UINT64_MAX, &byte, 1, &err), ERR_INTERNAL);
    safetensors_abandon(&o);
    safetensors_abandon(&o); /* twice is fine; remove_all sees that no file is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_file, make_folder, remove_all),
        cmocka_unit_test_setup_teardown(test_failing_commits, make_folder, remove_all),
        cmocka_unit_test_setup_teardown(test_shards, make_folder, remove_all),
        cmocka_unit_test_setup_teardown(test_refusals, make_folder, remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
