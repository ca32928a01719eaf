/* SPDX-License-Identifier: Apache-2.0 */
#include "model/synth_text.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_synth_text.XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_all(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"};
    char path[160];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static json_t *load(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    return root;
}

static void test_config(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(synth_write_text(folder, shape_find("tiny-llama3"), 3, 1, DT_F16, &err), 0);
    json_t *c = load("config.json");
    const char *type, *rope;
    int layers, hidden, head_dim, tied, original, attention_bias, mlp_bias;
    double factor, low, high, eps;
    assert_int_equal(json_unpack(c, "{s:s, s:i, s:i, s:i, s:b, s:b, s:b, s:f, s:n, s:{s:s, s:f, s:f, s:f, s:i!}}", "torch_dtype", &type,
                                 "num_hidden_layers", &layers, "hidden_size", &hidden, "head_dim", &head_dim, "tie_word_embeddings", &tied,
                                 "attention_bias", &attention_bias, "mlp_bias", &mlp_bias, "rms_norm_eps", &eps, "eos_token_id", "rope_scaling",
                                 "rope_type", &rope, "factor", &factor, "low_freq_factor", &low, "high_freq_factor", &high,
                                 "original_max_position_embeddings", &original), 0);
    assert_string_equal(type, "float16");
    assert_string_equal(rope, "llama3");
    assert_int_equal(layers, 3);
    assert_int_equal(hidden, 128);
    assert_int_equal(head_dim, 32);
    assert_true(tied && !attention_bias && !mlp_bias);
    assert_true(factor == 32 && low == 1 && high == 4 && original == 64 && eps == 1e-5);
    json_decref(c);
}

static void test_biases_and_no_rope(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(synth_write_text(folder, shape_find("tiny-bias"), 4, 0, DT_BF16, &err), 0);
    json_t *c = load("config.json");
    int tied, attention_bias, mlp_bias;
    assert_int_equal(json_unpack(c, "{s:b, s:b, s:b, s:n}", "tie_word_embeddings", &tied, "attention_bias", &attention_bias, "mlp_bias", &mlp_bias,
                                 "rope_scaling"), 0);
    assert_true(!tied && attention_bias && mlp_bias);
    json_decref(c);
}

/* Every id has one text; the bytes are spelled as byte-level tokenizers do (space U+0120, newline U+010A). */
static void test_vocabulary(void **state)
{
    (void)state;
    struct error err = {0};
    const struct shape *s = shape_find("tiny-tied");
    assert_int_equal(synth_write_text(folder, s, 4, 0, DT_BF16, &err), 0);
    json_t *t = load("tokenizer.json"), *vocab = json_object_get(json_object_get(t, "model"), "vocab"), *id;
    const char *text;
    char *seen = calloc(1, (size_t)s->vocab);
    assert_non_null(seen);
    assert_int_equal(json_object_size(vocab), s->vocab);
    json_object_foreach (vocab, text, id) {
        assert_in_range(json_integer_value(id), 0, (uint64_t)s->vocab - 1);
        assert_int_equal(seen[json_integer_value(id)]++, 0);
    }
    free(seen);
    assert_int_equal(json_integer_value(json_object_get(vocab, "<s>")), s->bos);
    assert_int_equal(json_integer_value(json_object_get(vocab, "</s>")), s->eos);
    assert_int_equal(json_integer_value(json_object_get(vocab, "<508>")), 508);
    static const struct {
        const char *text;
        int byte;
    } bytes[] = {{"\u0100", 0}, {"\u010a", 10}, {"\u0120", 32}, {"!", 33}, {"~", 126}, {"\u0121", 127}, {"\u0142", 160}, {"\u00a1", 161},
                 {"\u0143", 173}, {"\u00ff", 255}};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) /* ids 1 and 2 are taken */
        assert_int_equal(json_integer_value(json_object_get(vocab, bytes[i].text)), bytes[i].byte ? bytes[i].byte + 2 : 0);
    json_decref(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config, make_folder, remove_all),
        cmocka_unit_test_setup_teardown(test_biases_and_no_rope, make_folder, remove_all),
        cmocka_unit_test_setup_teardown(test_vocabulary, make_folder, remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
