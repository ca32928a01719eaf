/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "model/make_config.h"

static struct error err;

static int check(const struct checkpoint *c)
{
    struct config config;
    err = (struct error){0};
    int rc = config_read(&config, c, NULL, &err);
    return rc ? rc : config_check_tensors(&config, c, &err);
}

/* The tiny folder with another config is refused, or not when word is NULL. */
static void check_folder(const char *changes, const char *word, const char *word2)
{
    make_shard("model.safetensors", 0, M_TENSORS);
    struct checkpoint made_up = keys_of(tiny_config, changes, "{}");
    arena_free(&made_up.arena);
    struct checkpoint *c = expect_opened(made_dir);
    int rc = check(c);
    if (rc != (word ? ERR_DATA : 0) || (word && (!strstr(err.text, word) || !strstr(err.text, word2))))
        print_error("%s: got %d %s\n", changes, rc, err.text);
    assert_int_equal(rc, word ? ERR_DATA : 0);
    assert_true(!word || (strstr(err.text, word) && strstr(err.text, word2)));
    checkpoint_close(c);
}

static void whole_models_pass(void **state)
{
    (void)state;
    check_folder("{}", NULL, NULL);
    struct gguf_parts g = gguf_model("");
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(check(c), 0);
    checkpoint_close(c);
}

static void item_11_tensors_against_the_config(void **state)
{
    (void)state;
    check_folder("{\"num_hidden_layers\":3}", "9 tensors are wrong: layers.2.attn_norm is missing", "layers.2.v is missing; ...");
    check_folder("{\"num_hidden_layers\":1}", "9 tensors are wrong: model.layers.1.", "is not a weight of this model");
    check_folder("{\"intermediate_size\":65}", "6 tensors are wrong", "layers.0.gate is 64 x 32, not 65 x 32");
    check_folder("{\"vocab_size\":49}", "2 tensors are wrong: embed is 48 x 32, not 49 x 32", "head is");
    check_folder("{\"num_key_value_heads\":4}", "4 tensors are wrong", "layers.0.k is 16 x 32, not 32 x 32");
    check_folder("{\"head_dim\":16}", "8 tensors are wrong", "layers.0.o is 32 x 32, not 32 x 64");
    check_folder("{\"attention_bias\":true}", "8 tensors are wrong", "layers.0.q.bias is missing");
    check_folder("{\"mlp_bias\":true}", "6 tensors are wrong", "layers.0.down.bias is missing");
    check_folder("{\"hidden_size\":64,\"head_dim\":8}", "21 tensors are wrong", "norm is 32 x 1, not 64 x 1");
    check_folder("{\"tie_word_embeddings\":true,\"vocab_size\":49}", "2 tensors are wrong: embed is 48 x 32, not 49 x 32", "head is");
}

static void item_09_types_against_the_role(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_empty();
    gguf_keys(&g, "");
    gguf_token_table(&g);
    for (int i = 0; i < M_TENSORS; i++)
        if (i != 1)
            gguf_tensor(&g, i);
    pad_to(&g.data, 32);
    tensor_info(&g, "output_norm.weight", 8, g.data.n, 2, (uint64_t)32, (uint64_t)1);
    for (int i = 0; i < 34; i++)
        put_u8(&g.data, 0);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(check(c), ERR_DATA);
    assert_non_null(strstr(err.text, "1 tensor is wrong: norm is 1 x 32, not 32 x 1"));
    checkpoint_close(c);
}

static void rope_factors_are_checked(void **state)
{
    (void)state;
    for (uint64_t n = 3; n <= 4; n++) {
        struct gguf_parts g = gguf_model("");
        pad_to(&g.data, 32);
        tensor_info(&g, "rope_freqs.weight", 0, g.data.n, 1, n);
        for (uint64_t i = 0; i < n; i++)
            put_f32(&g.data, 1);
        struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
        assert_int_equal(check(c), n == M_HEAD / 2 ? 0 : ERR_DATA);
        assert_true(n == M_HEAD / 2 || strstr(err.text, "rope_factors is 3 x 1, not 4 x 1"));
        checkpoint_close(c);
    }
}

/* As transformers does: what the config says counts, and the head in the file is left unused. */
static void a_tied_model_may_have_a_head(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct config config;
        check_folder(tied ? "{\"tie_word_embeddings\":true}" : "{\"tie_word_embeddings\":false}", NULL, NULL);
        struct checkpoint *c = expect_opened(made_dir);
        assert_non_null(checkpoint_find(c, "head"));
        assert_int_equal(config_read(&config, c, NULL, &err), 0);
        assert_int_equal(config.tied, tied);
        checkpoint_close(c);
    }
}

static void a_tied_model_needs_no_head(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_empty();
    struct config config;
    gguf_keys(&g, "");
    gguf_token_table(&g);
    for (int i = 0; i < M_TENSORS; i++)
        if (i != 2)
            gguf_tensor(&g, i);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(check(c), 0);
    assert_int_equal(config_read(&config, c, NULL, &err), 0);
    assert_true(config.tied);
    checkpoint_close(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(whole_models_pass), T(item_11_tensors_against_the_config), T(item_09_types_against_the_role), T(rope_factors_are_checked), T(a_tied_model_needs_no_head), T(a_tied_model_may_have_a_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
