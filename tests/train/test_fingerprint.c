/* SPDX-License-Identifier: Apache-2.0 */
#include "texts.h"

#include "train/fingerprint.h"

static uint64_t of_model(const char *shape, const char *dtype, uint64_t *vocab)
{
    char path[160];
    struct model m;
    struct error err = {0};
    uint64_t out = 0;
    synthetic_path(path, sizeof path, shape, dtype);
    if (model_open(&m, path, NULL, &err) || fingerprint_model(&m, &out, &err))
        fail_with(err.text);
    *vocab = fingerprint_vocab(&m.vocab);
    model_close(&m);
    return out;
}

static void tells_models_apart(void **state)
{
    (void)state;
    uint64_t v[4];
    uint64_t a = of_model("tiny", "f32", &v[0]), b = of_model("tiny", "bf16", &v[1]), c = of_model("tiny-bias", "f32", &v[2]);
    assert_true(a == of_model("tiny", "f32", &v[3]) && v[3] == v[0]);
    assert_true(a != b && a != c && b != c);
    assert_true(v[0] == v[1] && v[0] != v[2]);
}

/* One value of one tensor. */
static void tells_weights_apart(void **state)
{
    (void)state;
    char path[160], file[200];
    uint64_t v, before = of_model("tiny", "f16", &v);
    synthetic_path(path, sizeof path, "tiny", "f16");
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    FILE *f = fopen(file, "r+b");
    struct model m;
    struct error err = {0};
    assert_int_equal(model_open(&m, path, NULL, &err), 0);
    const struct view *norm = checkpoint_find(m.file, "norm");
    fseek(f, (long)norm->offset + 2, SEEK_SET);
    model_close(&m);
    assert_int_equal(fputc(1, f), 1);
    fclose(f);
    assert_true(of_model("tiny", "f16", &v) != before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tells_models_apart), cmocka_unit_test(tells_weights_apart)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
