/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "model/make_config.h"

static struct error err;
static bool passed_over; /* a key that would change what the model computes */

static int read_with(const char *changes, const char *generation, const char *const *ignore)
{
    struct config config;
    struct checkpoint c = keys_of(tiny_config, changes, generation);
    err = (struct error){0};
    int rc = config_read(&config, &c, ignore, &err);
    passed_over = !rc && config.ignored;
    arena_free(&c.arena);
    return rc;
}

static void expect_refusal(const char *changes, const char *generation, const char *word, const char *word2)
{
    int rc = read_with(changes, generation, NULL);
    if (rc != ERR_CONFIG || !strstr(err.text, word) || !strstr(err.text, word2))
        print_error("%s %s: wanted \"%s\" \"%s\", got %d %s\n", changes, generation, word, word2, rc, err.text);
    assert_int_equal(rc, ERR_CONFIG);
    assert_non_null(strstr(err.text, word));
    assert_non_null(strstr(err.text, word2));
}

static void features_that_are_not_here_are_refused_by_name(void **state)
{
    (void)state;
    static const struct { const char *key, *value, *shown; } rows[] = {
        {"hidden_act", "\"gelu\"", "only \"silu\""}, {"pretraining_tp", "2", "only 1 "}, {"sliding_window", "4096", "= 4096"}, {"num_local_experts", "8", "= 8"},
        {"quantization_config", "{\"quant_method\":\"gptq\"}", "\"gptq\""}, {"partial_rotary_factor", "0.5", "only 1 "}, {"attention_multiplier", "0.1", "= 0.1"},
        {"logits_scaling", "8.0", "= 8"}, {"layer_types", "[\"full_attention\"]", "full_attention"}, {"rope_interleaved", "true", "= true"}, {"auto_map", "{\"A\":\"b.C\"}", "b.C"},
        {"attn_logit_softcapping", "50.0", "= 50"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"%s\":%s}", rows[i].key, rows[i].value);
        expect_refusal(text, "{}", rows[i].key, rows[i].shown);
        assert_null(strstr(err.text, "--ignore-config"));
        snprintf(text, sizeof text, "{\"%s\":null}", rows[i].key);
        assert_int_equal(read_with(text, "{}", NULL), 0);
    }
    assert_int_equal(read_with("{\"hidden_act\":\"silu\",\"partial_rotary_factor\":1.0,\"pretraining_tp\":1,\"sliding_window\":0}", "{}", NULL), 0);
    assert_int_equal(read_with("{\"num_beams\":1}", "{}", NULL), 0);
    expect_refusal("{\"num_beams\":4}", "{}", "num_beams", "only 1 ");
}

static void advice_on_sampling_and_training_is_passed_over(void **state)
{
    (void)state;
    assert_int_equal(read_with("{}", "{\"repetition_penalty\":1.1,\"num_beams\":4,\"stop_strings\":[\"x\"],\"suppress_tokens\":[1],\"new_sampler\":2,\"forced_eos_token_id\":2,"
                                     "\"prompt_lookup_num_tokens\":10,\"max_matching_ngram_size\":2,\"watermarking_config\":{\"bias\":2.0}}", NULL), 0);
    assert_int_equal(read_with("{\"tokenizer_class\":\"LlamaTokenizer\",\"sep_token_id\":3,\"_flash_attn_2_enabled\":true,\"use_flash_attn\":true,\"max_window_layers\":28,"
                               "\"neftune_noise_alpha\":5}", "{}", NULL), 0);
    expect_refusal("{\"repetition_penalty\":1.1}", "{}", "unknown key \"repetition_penalty\"", "1.1"); /* in config.json it is not advice that we know */
    expect_refusal("{}", "{\"eos_token_id\":48}", "generation.eos_token_id", "48");                  /* what is read is still checked */
}

static void what_is_named_to_be_passed_over_must_be_there(void **state)
{
    (void)state;
    const char *const none[] = {"nosuchkey", NULL}, *const used[] = {"hidden_size", NULL}, *const window[] = {"sliding_window", NULL};
    assert_int_equal(read_with("{}", "{}", none), ERR_USAGE);
    assert_non_null(strstr(err.text, "nosuchkey: not in the configuration"));
    assert_int_equal(read_with("{}", "{}", used), ERR_USAGE);
    assert_non_null(strstr(err.text, "\"hidden_size\" is used, not passed over"));
    assert_int_equal(read_with("{\"sliding_window\":4096}", "{}", window), 0);
    assert_true(passed_over);
    assert_int_equal(read_with("{\"sliding_window\":null}", "{}", window), 0); /* off anyway */
    assert_false(passed_over);
}

static void unknown_keys_are_refused_unless_neutral_or_named(void **state)
{
    (void)state;
    static const char *const neutral[] = {"null", "false", "0", "0.0", "\"\"", "[]", "{}"};
    char text[80];
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) {
        snprintf(text, sizeof text, "{\"new_feature\":%s}", neutral[i]);
        assert_int_equal(read_with(text, "{}", NULL), 0);
    }
    static const char *const telling[] = {"true", "3", "0.5", "\"x\"", "[1]", "[\"a\"]", "{\"y\":1}"};
    static const char *const names[] = {"other", "new_feature", NULL}, *const wrong[] = {"new", "feature", NULL};
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++) {
        snprintf(text, sizeof text, "{\"new_feature\":%s,\"other\":null}", telling[i]);
        expect_refusal(text, "{}", "unknown key \"new_feature", "--ignore-config new_feature");
        assert_int_equal(read_with(text, "{}", names), 0);
        assert_int_equal(read_with(text, "{}", wrong), ERR_USAGE);
    }
    expect_refusal("{\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2,\"beta_fast\":32}}", "{}", "rope_scaling.beta_fast", "= 32");
}

static void keys_of_gguf_are_named_as_the_file_does(void **state)
{
    (void)state;
    static const struct { const char *key; uint32_t value; bool fine; } rows[] = {
        {"llama.expert_count", 8, false}, {"llama.expert_count", 0, true}, {"llama.new_feature", 3, false}, {"general.quantization_version", 2, true},
        {"tokenizer.ggml.padding_token_id", 2, true}, {"quantize.imatrix.entries_count", 7, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gguf_parts g = gguf_model("");
        struct config config;
        kv_u32(&g, rows[i].key, rows[i].value);
        struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
        assert_int_equal(config_read(&config, c, NULL, &err), rows[i].fine ? 0 : ERR_CONFIG);
        assert_true(rows[i].fine || strstr(err.text, rows[i].key));
        checkpoint_close(c);
    }
    struct gguf_parts g = gguf_model("llama.embedding_length");
    struct config config;
    kv_u32(&g, "llama.embedding_length", 1 << 20);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(config_read(&config, c, NULL, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "llama.embedding_length"));
    checkpoint_close(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(features_that_are_not_here_are_refused_by_name), T(advice_on_sampling_and_training_is_passed_over), T(unknown_keys_are_refused_unless_neutral_or_named), T(what_is_named_to_be_passed_over_must_be_there), T(keys_of_gguf_are_named_as_the_file_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
