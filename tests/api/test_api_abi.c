/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that were built for an older header go on working: structs that callers make keep their size, and what a library does not know it refuses. */
#include "synthetic.h"

#define OF(type, wanted) {#type, sizeof(type), offsetof(type, reserved) + sizeof ((type *)0)->reserved, wanted}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t size, end, wanted;
    } structs[] = {OF(lsk_model_options, 168), OF(lsk_chat_options, 112),     OF(lsk_generate_options, 224), OF(lsk_stats, 408),
                   OF(lsk_synth_options, 128), OF(lsk_quantize_options, 192), OF(lsk_train_options, 328)};
    if (sizeof(void *) != 8)
        skip();
    for (size_t i = 0; i < sizeof structs / sizeof *structs; i++) {
        if (structs[i].size != structs[i].wanted)
            fail_msg("%s has %zu bytes, version 0 of the library %zu: a new field of 8 bytes (or two of 4) takes one from its `reserved`", structs[i].name, structs[i].size,
                     structs[i].wanted);
        assert_int_equal(structs[i].end, structs[i].size); /* no gap at the end, which a new field would fall into although callers do not zero it */
    }
}

#define AS(type, wanted) {#type, sizeof(type), wanted}

/* Elements of arrays, parts of other structs, and what callers own without a `reserved`: these can never grow. */
static void test_what_cannot_grow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t size, wanted;
    } structs[] = {AS(lsk_error, 512), AS(lsk_profile, 8), AS(lsk_memory, 32), AS(lsk_logit_bias, 8), AS(lsk_logprob, 8), AS(lsk_train_point, 48)};
    for (size_t i = 0; i < sizeof structs / sizeof *structs; i++)
        if (structs[i].size != structs[i].wanted)
            fail_msg("%s has %zu bytes, version 0 of the library %zu: it lies in arrays or other structs of callers, so that no field can be added", structs[i].name, structs[i].size, structs[i].wanted);
}

static void assert_refused(int rc, const lsk_error *err, const char *name)
{
    assert_int_equal(rc, LSK_EUSAGE);
    assert_int_equal(err->code, LSK_EUSAGE);
    assert_memory_equal(err->text, name, strlen(name));
    assert_non_null(strstr(err->text, ".reserved: not zero"));
    assert_non_null(strstr(err->text, lsk_version()));
}

static void test_what_is_not_known_is_refused(void **state)
{
    (void)state;
    struct folder folder;
    folder_make(&folder, "tiny");
    lsk_error err = {0};
    const int32_t token = 65;
    assert_null(lsk_model_open(folder.path, &(lsk_model_options){.reserved[0] = 1}, &err));
    assert_refused(err.code, &err, "lsk_model_options");
    lsk_model *m = folder_open(&folder, &(lsk_model_options){.context = 64, .threads = 1});
    lsk_session *s = lsk_session_open(m, &err);
    assert_refused(lsk_generate(s, &token, 1, &(lsk_generate_options){.max_tokens = 1, .reserved[9] = 1}, NULL, NULL, NULL, &err), &err, "lsk_generate_options");
    assert_int_equal(lsk_generate(s, &token, 1, &(lsk_generate_options){.max_tokens = 1}, NULL, NULL, NULL, &err), 0);
    assert_refused(lsk_options_check(m, &(lsk_generate_options){.reserved[9] = 1}, &err), &err, "lsk_generate_options");
    assert_int_equal(lsk_options_check(m, NULL, &err), 0);
    assert_null(lsk_chat_render(m, "[]", &(lsk_chat_options){.template_name = "chatml", .reserved[1] = 1ull << 63}, &err));
    assert_refused(err.code, &err, "lsk_chat_options");
    assert_refused(lsk_synth("/nonexistent/out", &(lsk_synth_options){.shape = "tiny", .reserved[3] = 1}, &err), &err, "lsk_synth_options");
    assert_refused(lsk_quantize(folder.path, NULL, &(lsk_quantize_options){.type = "q8_0", .dry_run = 1, .reserved[0] = 1}, &err), &err, "lsk_quantize_options");
    assert_refused(lsk_train(folder.path, &(lsk_train_options){.recipe = "distill", .folder = "/nonexistent/run", .reserved[0] = 1}, NULL, NULL, &err), &err, "lsk_train_options");
    lsk_session_close(s);
    lsk_model_close(m);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_what_cannot_grow), cmocka_unit_test(test_what_is_not_known_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
