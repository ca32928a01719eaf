/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "format/hf.h"
#include "format/make_files.h"

static void expect_read(const char *path, int shards)
{
    struct checkpoint *c = expect_opened(path);
    assert_int_equal(c->n_shards, shards);
    assert_string_equal(c->dir, path);
    expect_tiny(c);
    checkpoint_close(c);
}

static void folders_are_read(void **state)
{
    (void)state;
    expect_read(make_folder(1), 1);
    assert_int_equal(remove(made("model.safetensors")), 0);
    expect_read(make_folder(3), 3);
    make_shard("model.safetensors", 0, M_TENSORS); /* one whole file wins over an index */
    expect_read(made_dir, 1);
}

/* The hub's cache: files lie under blobs by their hash, a snapshot is a folder of links. */
static void snapshots_of_the_hub_are_read(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "model.safetensors"};
    make_folder(1);
    mkdir(made("blobs"), 0700);
    mkdir(made("snapshots"), 0700);
    mkdir(made("snapshots/abc"), 0700);
    for (int i = 0; i < 2; i++) {
        char blob[64], link[64], target[64];
        snprintf(blob, sizeof blob, "blobs/%d", i);
        snprintf(link, sizeof link, "snapshots/abc/%s", files[i]);
        snprintf(target, sizeof target, "../../blobs/%d", i);
        assert_int_equal(rename(made(files[i]), made(blob)), 0);
        assert_int_equal(symlink(target, made(link)), 0);
    }
    expect_read(made("snapshots/abc"), 1);
    assert_int_equal(rename(made("snapshots"), made("other")), 0);
    expect_refused(made("other/abc"), ERR_DATA, "model.safetensors", "link out of the folder");
}

/* Whose name is the only one with a slash at its end. */
static void the_root_folder_is_one_too(void **state)
{
    (void)state;
    struct error err = {0};
    struct checkpoint c = {.path = (char *)"/", .dir = (char *)"/"};
    const char *path = NULL;
    assert_int_equal(hf_find(&c, "etc", &path, &err), 1);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(hf_find(&c, "no such file", &path, &err), 0);
    arena_free(&c.arena);
}

static void folders_without_weights_are_refused(void **state)
{
    (void)state;
    make_text("config.json", tiny_config);
    expect_refused(made_dir, ERR_NOINPUT, "no model.safetensors", made_dir);
    static const char *const pickles[] = {"consolidated.00.pth", "pytorch_model.bin.index.json", "pytorch_model.bin"};
    for (int i = 0; i < 3; i++) {
        make_text(pickles[i], "x");
        expect_refused(made_dir, ERR_DATA, pickles[i], "safe_serialization=True");
    }
    make_shard("model.safetensors", 0, M_TENSORS);
    remove(made("config.json"));
    expect_refused(made_dir, ERR_NOINPUT, "config.json", "folder");
    expect_refused(made("model.safetensors"), ERR_NOINPUT, "config.json", "shape");
}

/* Root may enter everything, so the test becomes somebody else for a moment. */
static void a_folder_that_cannot_be_entered_says_so(void **state)
{
    (void)state;
    uid_t me = getuid();
    make_folder(1);
    assert_int_equal(chmod(made_dir, 0), 0);
    if (!me && setresuid(65534, 65534, 0)) {
        print_message("skipped: root, and not allowed to become nobody\n");
        chmod(made_dir, 0700);
        skip();
    }
    struct error err = {0};
    struct checkpoint *c = checkpoint_open(made_dir, &err);
    assert_int_equal(setresuid(me, me, me), 0);
    assert_int_equal(chmod(made_dir, 0700), 0);
    assert_null(c);
    assert_int_equal(err.code, ERR_NOINPUT);
    assert_non_null(strstr(err.text, "Permission denied"));
}

static void index_refused(const char *index, int code, const char *word, const char *word2)
{
    make_text("model.safetensors.index.json", index);
    expect_refused(made_dir, code, word, word2);
}

static void item_14_shard_index(void **state)
{
    (void)state;
    make_folder(2);
    index_refused("{\"weight_map\":{\"a\":\"../model-0.safetensors\"}}", ERR_DATA, "../model-0.safetensors", "plain name");
    index_refused("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ERR_DATA, "/etc/passwd", "plain name");
    index_refused("{\"weight_map\":{\"a\":\"..\"}}", ERR_DATA, "\"..\"", "plain name");
    index_refused("{\"weight_map\":{\"a\":\"\"}}", ERR_DATA, "\"\"", "plain name");
    index_refused("{\"weight_map\":{\"a\":\"model-7.safetensors\"}}", ERR_NOINPUT, "model-7.safetensors", "not there");
    index_refused("{\"weight_map\":{\"a\":7}}", ERR_DATA, "\"a\"", "file name");
    index_refused("{\"weight_map\":{}}", ERR_DATA, "weight_map", "must name");
    index_refused("{\"weight_map\":[\"a\"]}", ERR_DATA, "weight_map", "must name");
    index_refused("{\"metadata\":{}}", ERR_DATA, "weight_map", "must name");
    index_refused("[]", ERR_DATA, "index.json", "object");
    index_refused("{\"weight_map\":{\"a\":\"model-0.safetensors\"}}", ERR_DATA, "says nothing of it", "model.embed_tokens.weight");
    symlink("/etc/passwd", made("out.safetensors"));
    index_refused("{\"weight_map\":{\"a\":\"out.safetensors\"}}", ERR_DATA, "out.safetensors", "link out of the folder");
    make_folder(2);
    make_shard("model-1.safetensors", 0, M_TENSORS); /* holds those of model-0 as well */
    expect_refused(made_dir, ERR_DATA, "is in model-1.safetensors", "elsewhere too");
    make_shard("model-1.safetensors", M_TENSORS / 2, M_TENSORS - 1);
    expect_refused(made_dir, ERR_DATA, "model.layers.1.mlp.down_proj.weight", "is not in model-1.safetensors");
    make_folder(2);
    expect_read(made_dir, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(folders_are_read), T(snapshots_of_the_hub_are_read), T(the_root_folder_is_one_too), T(folders_without_weights_are_refused), T(a_folder_that_cannot_be_entered_says_so), T(item_14_shard_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
