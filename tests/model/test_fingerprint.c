/* SPDX-License-Identifier: Apache-2.0 */
/* A model's id follows its content, not its place. */
#include "synthetic.h"

#include "model/fingerprint.h"

static char *id_of(const char *path)
{
    static char id[8][17];
    static int at;
    struct model m;
    struct error err = {0};
    at = (at + 1) % 8;
    if (model_open(&m, path, NULL, &err) || model_fingerprint(&m, id[at], &err))
        fail_msg("%s", err.text);
    model_close(&m);
    assert_int_equal(strspn(id[at], "0123456789abcdef"), 16);
    assert_int_equal(strlen(id[at]), 16);
    return id[at];
}

static void folder_of(struct folder *f, const char *shape, uint64_t seed, const char *dtype)
{
    folder_make_of(f, &(lsk_synth_options){.shape = shape, .seed = seed, .dtype = dtype, .threads = 1});
}

static void the_id_is_the_content(void **state)
{
    (void)state;
    struct folder same[2], other[3];
    folder_of(&same[0], "tiny", 1, "bf16");
    folder_of(&same[1], "tiny", 1, "bf16");
    folder_of(&other[0], "tiny", 2, "bf16"); /* another training */
    folder_of(&other[1], "tiny", 1, "f16");
    folder_of(&other[2], "tiny-gqa", 1, "bf16");
    assert_string_equal(id_of(same[0].path), id_of(same[1].path));
    for (int i = 0; i < 3; i++)
        assert_string_not_equal(id_of(same[0].path), id_of(other[i].path));
    folder_set(&same[1], "config.json", "rms_norm_eps", json_real(1e-3));
    assert_string_not_equal(id_of(same[0].path), id_of(same[1].path));
    for (int i = 0; i < 2; i++)
        folder_remove(&same[i]);
    for (int i = 0; i < 3; i++)
        folder_remove(&other[i]);
}

/* Tensors that share everything but their weights are other models, whichever tensor it is. */
static void every_tensor_counts(void **state)
{
    (void)state;
    struct folder f;
    struct model m;
    struct error err = {0};
    char id[17], changed[17];
    folder_of(&f, "tiny", 1, "bf16");
    assert_int_equal(model_open(&m, f.path, NULL, &err), 0);
    assert_int_equal(model_fingerprint(&m, id, &err), 0);
    const int fd = open(m.file->shard[0].path, O_RDWR);
    assert_true(fd >= 0 && m.file->n_shards == 1);
    for (int i = 0; i < m.file->n_views; i++) {
        const struct view *v = &m.file->view[i];
        const uint64_t places[] = {v->offset, v->offset + v->bytes / 2, v->offset + v->bytes - 1};
        for (int k = 0; k < 3; k++) {
            uint8_t byte;
            assert_int_equal(pread(fd, &byte, 1, (off_t)places[k]), 1);
            byte ^= 1;
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)places[k]), 1);
            assert_int_equal(model_fingerprint(&m, changed, &err), 0);
            if (!strcmp(id, changed))
                fail_msg("%s: place %d does not count", v->name, k);
            byte ^= 1;
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)places[k]), 1);
        }
    }
    assert_int_equal(model_fingerprint(&m, changed, &err), 0);
    assert_string_equal(id, changed);
    close(fd);
    model_close(&m);
    folder_remove(&f);
}

static void a_file_that_shrank_is_an_error(void **state)
{
    (void)state;
    struct folder f;
    struct model m;
    struct error err = {0};
    char id[17];
    folder_of(&f, "tiny", 1, "bf16");
    assert_int_equal(model_open(&m, f.path, NULL, &err), 0);
    assert_int_equal(truncate(m.file->shard[0].path, 5000), 0);
    assert_int_equal(model_fingerprint(&m, id, &err), ERR_IO);
    model_close(&m);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_id_is_the_content), cmocka_unit_test(every_tensor_counts), cmocka_unit_test(a_file_that_shrank_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
