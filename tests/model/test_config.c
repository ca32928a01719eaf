/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "model/make_config.h"

/* config.json files as the models of the family carry them. */
static const char llama2_7b[] = "{\"_name_or_path\":\"meta-llama/Llama-2-7b-hf\",\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,\"hidden_act\":\"silu\","
    "\"hidden_size\":4096,\"initializer_range\":0.02,\"intermediate_size\":11008,\"max_position_embeddings\":4096,\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":32,"
    "\"num_key_value_heads\":32,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,\"torch_dtype\":\"float16\",\"transformers_version\":\"4.31.0.dev0\","
    "\"use_cache\":true,\"vocab_size\":32000}";
static const char llama32_1b[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":128000,\"eos_token_id\":128001,\"head_dim\":64,"
    "\"hidden_act\":\"silu\",\"hidden_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":8192,\"max_position_embeddings\":131072,\"mlp_bias\":false,\"model_type\":\"llama\","
    "\"num_attention_heads\":32,\"num_hidden_layers\":16,\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,"
    "\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.45.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}";
static const char smollm2[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":1,\"eos_token_id\":2,\"hidden_act\":\"silu\",\"hidden_size\":576,"
    "\"initializer_range\":0.041666666666666664,\"intermediate_size\":1536,\"is_llama_config\":true,\"max_position_embeddings\":8192,\"mlp_bias\":false,\"model_type\":\"llama\",\"num_attention_heads\":9,"
    "\"num_hidden_layers\":30,\"num_key_value_heads\":3,\"pad_token_id\":2,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_interleaved\":false,\"rope_scaling\":null,\"rope_theta\":100000,"
    "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"transformers.js_config\":{\"kv_cache_dtype\":{\"q4f16\":\"float16\"}},\"transformers_version\":\"4.42.3\",\"use_cache\":true,\"vocab_size\":49152}";
static const char transformers5[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":true,\"bos_token_id\":1,\"dtype\":\"float32\",\"eos_token_id\":[2,3],\"head_dim\":16,\"hidden_act\":\"silu\","
    "\"hidden_size\":48,\"intermediate_size\":96,\"max_position_embeddings\":256,\"mlp_bias\":true,\"model_type\":\"llama\",\"num_attention_heads\":4,\"num_hidden_layers\":4,\"num_key_value_heads\":1,"
    "\"rms_norm_eps\":1e-06,\"rope_parameters\":{\"rope_theta\":20000.0,\"rope_type\":\"linear\",\"factor\":4.0},\"tie_word_embeddings\":false,\"vocab_size\":100,\"layerskip\":{\"exit_layer\":2,"
    "\"num_speculations\":6}}";

static struct error err;

static int read_changed(struct config *out, const char *base, const char *changes, const char *generation, const char *const *ignore)
{
    struct checkpoint c = keys_of(base, changes, generation);
    err = (struct error){0};
    int rc = config_read(out, &c, ignore, &err);
    out->name = out->dtype = NULL; /* they were the checkpoint's */
    arena_free(&c.arena);
    return rc;
}

static struct config expect_read(const char *base, const char *changes, const char *generation)
{
    struct config c = {0};
    if (read_changed(&c, base, changes, generation, NULL))
        print_error("%s\n", err.text);
    assert_int_equal(err.code, 0);
    return c;
}

static void expect_refusal(const char *changes, const char *word, const char *word2)
{
    struct config c = {0};
    int rc = read_changed(&c, transformers5, changes, "{}", NULL);
    if (rc != ERR_CONFIG || !strstr(err.text, word) || !strstr(err.text, word2))
        print_error("%s: wanted \"%s\" \"%s\", got %d %s\n", changes, word, word2, rc, err.text);
    assert_int_equal(rc, ERR_CONFIG);
    assert_non_null(strstr(err.text, word));
    assert_non_null(strstr(err.text, word2));
}

static void configs_of_the_family_are_read(void **state)
{
    (void)state;
    struct config c = expect_read(llama2_7b, "{}", "{}");
    assert_string_equal(c.family, "llama");
    assert_int_equal(c.hidden, 4096);
    assert_int_equal(c.ffn, 11008);
    assert_int_equal(c.n_layers, 32);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.n_kv_heads, 32);
    assert_int_equal(c.vocab, 32000);
    assert_int_equal(c.context, 4096);
    assert_true(c.rope_theta == 10000 && c.rope == ROPE_PLAIN && c.norm_eps == 1e-5);
    assert_true(!c.tied && !c.attention_bias && !c.mlp_bias && c.exit_layer == 0 && c.num_speculations == 0);
    c = expect_read(llama32_1b, "{}", "{}");
    assert_int_equal(c.head_dim, 64);
    assert_true(c.tied && c.rope == ROPE_LLAMA3 && c.rope_factor == 32 && c.rope_low == 1 && c.rope_high == 4 && c.rope_context == 8192 && c.rope_theta == 500000);
    assert_string_equal(config_rope_name(&c), "llama3");
    c = expect_read(smollm2, "{}", "{}");
    assert_int_equal(c.n_kv_heads, 3);
    assert_true(c.rope_theta == 100000);
    c = expect_read(transformers5, "{}", "{}");
    assert_int_equal(c.head_dim, 16);
    assert_true(c.rope == ROPE_LINEAR && c.rope_factor == 4 && c.rope_theta == 20000 && c.attention_bias && c.mlp_bias);
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.exit_layer, 2);
    assert_int_equal(c.num_speculations, 6);
}

static void the_generation_config_has_the_last_word(void **state)
{
    (void)state;
    struct config c = expect_read(llama32_1b, "{}", "{}");
    assert_true(c.n_eos == 1 && c.eos[0] == 128001 && c.bos == 128000 && c.temperature < 0 && c.top_p == 0 && c.top_k == 0);
    c = expect_read(llama32_1b, "{}", "{\"eos_token_id\":[128001,128008,128009],\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":40,\"transformers_version\":\"4.45.0\",\"pad_token_id\":0}");
    assert_true(c.n_eos == 3 && c.eos[2] == 128009 && c.temperature == 0.6f && c.top_p == 0.9f && c.top_k == 40);
    c = expect_read(llama32_1b, "{\"eos_token_id\":null,\"bos_token_id\":null}", "{\"temperature\":0.6,\"assistant_early_exit\":4}");
    assert_true(c.n_eos == 0 && c.bos == -1 && c.temperature == 0 && c.exit_layer == 4);
    c = expect_read(llama32_1b, "{}", "{\"do_sample\":true}");
    assert_true(c.temperature == 1);
    c = expect_read(llama32_1b, "{\"layerskip\":{\"draft_tokens\":[5,0,99]}}", "{}");
    assert_int_equal(c.n_draft_tokens, 3);
    c = expect_read(llama32_1b, "{\"layerskip\":{\"draft_tokens\":null}}", "{}");
    assert_int_equal(c.n_draft_tokens, 0);
    c = expect_read(llama32_1b, "{\"layerskip\":{\"exit_layer\":3}}", "{\"assistant_early_exit\":4}"); /* but for the exit layer */
    assert_true(c.exit_layer == 3);
}

/* Advice that cannot be used is named and passed over; the rest of it stays. */
static void advice_that_cannot_be_used_is_passed_over(void **state)
{
    (void)state;
    static const char *const off[] = {"null", "0", "-1"};
    struct config c;
    for (int i = 0; i < 3; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"do_sample\":true,\"top_k\":%s}", off[i]);
        c = expect_read(llama32_1b, "{}", text);
        assert_true(c.top_k == 0 && c.temperature == 1);
        assert_string_equal(c.unused_advice, "");
    }
    c = expect_read(llama32_1b, "{}", "{\"do_sample\":true,\"temperature\":0.6,\"top_k\":-2,\"top_p\":1.5}");
    assert_true(c.top_k == 0 && c.top_p == 0 && c.temperature == 0.6f);
    assert_string_equal(c.unused_advice, "generation.top_k = -2: must be from -1 to 2.14748e+09; generation.top_p = 1.5: must be from 0 to 1");
    c = expect_read(llama32_1b, "{}", "{\"do_sample\":\"yes\",\"min_p\":[]}");
    assert_true(c.temperature == 0 && c.min_p == 0);
    assert_non_null(strstr(c.unused_advice, "generation.do_sample = \"yes\": must be true or false"));
    assert_non_null(strstr(c.unused_advice, "generation.min_p"));
    static const char *const exits[] = {"16", "0", "\"half\"", "5000"}; /* of 16 layers */
    for (int i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"assistant_early_exit\":%s}", exits[i]);
        c = expect_read(llama32_1b, "{}", text);
        assert_int_equal(c.exit_layer, 0);
        assert_non_null(strstr(c.unused_advice, "generation.assistant_early_exit = "));
        assert_non_null(strstr(c.unused_advice, exits[i]));
    }
    char text[400] = "{\"do_sample\":true,\"temperature\":\"";
    for (int i = 0; i < 300; i++)
        strcat(text, "x");
    c = expect_read(llama32_1b, "{}", strcat(text, "\",\"top_k\":7}")); /* a long value is cut */
    assert_true(c.temperature == 1 && c.top_k == 7 && strlen(c.unused_advice) < sizeof c.unused_advice);
}

static void rope_may_be_told_in_several_ways(void **state)
{
    (void)state;
    struct config c = expect_read(llama2_7b, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", "{}");
    assert_true(c.rope == ROPE_LINEAR && c.rope_factor == 2);
    c = expect_read(llama2_7b, "{\"rope_scaling\":{\"type\":\"linear\",\"rope_type\":\"linear\",\"factor\":2.5}}", "{}");
    assert_true(c.rope == ROPE_LINEAR && c.rope_factor == 2.5);
    c = expect_read(llama2_7b, "{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":7.0}}", "{}");
    assert_true(c.rope == ROPE_PLAIN && c.rope_theta == 7);
    assert_string_equal(config_rope_name(&c), "plain");
    expect_refusal("{\"rope_theta\":5.0}", "rope_theta", "differ");
    expect_refusal("{\"rope_scaling\":{\"rope_type\":\"linear\"}}", "rope_type", "twice");
    expect_refusal("{\"rope_parameters\":{\"rope_type\":\"linear\",\"type\":\"default\",\"factor\":2}}", "rope_type", "differ");
    static const char *const types[] = {"yarn", "dynamic", "longrope", "su", ""};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char text[160], quoted[24];
        snprintf(text, sizeof text, "{\"rope_parameters\":{\"attention_factor\":2,\"factor\":2,\"rope_type\":\"%s\"}}", types[i]);
        snprintf(quoted, sizeof quoted, "\"%s\"", types[i]);
        expect_refusal(text, "rope_type", quoted);
    }
    expect_refusal("{\"rope_parameters\":{\"rope_type\":\"linear\"}}", "factor", "missing");
    expect_refusal("{\"rope_parameters\":{\"rope_type\":\"default\",\"factor\":2}}", "factor", "no use");
    expect_refusal("{\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,\"low_freq_factor\":1}}", "low_freq_factor", "no use");
    expect_refusal("{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":2,\"low_freq_factor\":1,\"high_freq_factor\":4}}", "original_max_position_embeddings", "missing");
    expect_refusal("{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":2,\"low_freq_factor\":4,\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}", "low_freq_factor", "below");
    expect_refusal("{\"rope_parameters\":{\"factor\":0}}", "factor", "must be");
}

static void item_24_shape(void **state)
{
    (void)state;
    expect_refusal("{\"num_hidden_layers\":0}", "num_hidden_layers", "1 to 1024");
    expect_refusal("{\"num_hidden_layers\":2147483648}", "num_hidden_layers", "2147483648");
    expect_refusal("{\"num_attention_heads\":0}", "num_attention_heads", "= 0");
    expect_refusal("{\"num_key_value_heads\":3}", "num_key_value_heads", "divide");
    expect_refusal("{\"num_key_value_heads\":8}", "num_key_value_heads", "divide");
}

static void item_29_fields(void **state)
{
    (void)state;
    static const char *const required[] = {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps"};
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        char text[80];
        snprintf(text, sizeof text, "{\"%s\":\"(absent)\"}", required[i]);
        expect_refusal(text, required[i], "missing");
        snprintf(text, sizeof text, "{\"%s\":null}", required[i]);
        expect_refusal(text, required[i], "missing");
        snprintf(text, sizeof text, "{\"%s\":true}", required[i]);
        expect_refusal(text, required[i], "must be");
        snprintf(text, sizeof text, "{\"%s\":\"7\"}", required[i]);
        expect_refusal(text, required[i], i ? "must be a" : "Llama family");
    }
    expect_refusal("{\"hidden_size\":48.0}", "hidden_size", "whole number");
    expect_refusal("{\"head_dim\":null,\"num_attention_heads\":7,\"num_key_value_heads\":7}", "hidden_size", "multiple of num_attention_heads");
    expect_refusal("{\"head_dim\":15}", "head_dim", "even");
    expect_refusal("{\"head_dim\":514}", "head_dim", "514");
    expect_refusal("{\"head_dim\":512,\"num_attention_heads\":4096,\"num_key_value_heads\":1}", "num_attention_heads", "too many");
    expect_refusal("{\"rms_norm_eps\":0}", "rms_norm_eps", "= 0");
    expect_refusal("{\"rms_norm_eps\":-1e-5}", "rms_norm_eps", "-1e-05");
    expect_refusal("{\"rope_parameters\":{\"rope_theta\":0}}", "rope_theta", "= 0");
    expect_refusal("{\"rope_parameters\":{\"rope_theta\":-10000.0}}", "rope_theta", "-10000");
    expect_refusal("{\"max_position_embeddings\":1099511627776}", "max_position_embeddings", "1099511627776");
    expect_refusal("{\"vocab_size\":4194305}", "vocab_size", "4194305");
    expect_refusal("{\"vocab_size\":-1}", "vocab_size", "-1");
    expect_refusal("{\"hidden_size\":131073}", "hidden_size", "131073");
    expect_refusal("{\"attention_bias\":1}", "attention_bias", "true or false");
    expect_refusal("{\"model_type\":\"gemma3\"}", "model_type", "gemma3");
    expect_refusal("{\"eos_token_id\":100}", "eos_token_id", "100");
    expect_refusal("{\"eos_token_id\":[1,-1]}", "eos_token_id", "-1");
    expect_refusal("{\"eos_token_id\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "eos_token_id", "17 ids");
    expect_refusal("{\"eos_token_id\":\"2\"}", "eos_token_id", "token id");
    expect_refusal("{\"bos_token_id\":[1,2]}", "bos_token_id", "at most 1");
    expect_refusal("{\"layerskip\":{\"exit_layer\":4}}", "exit_layer 4", "1 to 3");
    expect_refusal("{\"layerskip.exit_layer\":0,\"layerskip\":{}}", "layerskip.exit_layer", "= 0");
    expect_refusal("{\"layerskip\":{\"num_speculations\":33}}", "layerskip.num_speculations", "1 to 32");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":[3,100]}}", "entry 1 is token id 100", "below vocab_size = 100");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":[-1]}}", "entry 0 is token id -1", "layerskip.draft_tokens");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":[9223372036854775807]}}", "token id 9223372036854775807", "layerskip.draft_tokens");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":[4,3,2,4]}}", "entry 3: token id 4 is there twice", "layerskip.draft_tokens");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":[]}}", "[0 numbers]", "at least one");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":7}}", "= 7", "a list of token ids");
    expect_refusal("{\"layerskip\":{\"draft_tokens\":[1,2.5]}}", "[1,2.5]", "a list of token ids");
    char many[1000] = "{\"layerskip\":{\"draft_tokens\":[1";
    for (int i = 0; i < 100; i++)
        strcat(many, ",1");
    expect_refusal(strcat(many, "]}}"), "[101 numbers]", "none twice");
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(configs_of_the_family_are_read), T(the_generation_config_has_the_last_word), T(advice_that_cannot_be_used_is_passed_over), T(rope_may_be_told_in_several_ways), T(item_24_shape), T(item_29_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
