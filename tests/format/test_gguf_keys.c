/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "format/gguf.h"
#include "format/make_files.h"

/* A file that is refused as damaged, with these words. */
static void refused(struct gguf_parts *g, const char *word, const char *word2) { expect_refused(make_gguf("bad.gguf", g), ERR_DATA, word, word2); }

static void keys_get_their_other_names(void **state)
{
    (void)state;
    static const struct { const char *gguf, *canonical; } texts[] = {{"llama.rope.scaling.type", "rope_scaling.rope_type"}, {"llama.tensor_data_layout", "general.tensor_data_layout"}};
    static const struct { const char *gguf, *canonical; } reals[] = {{"llama.rope.freq_base", "rope_theta"}, {"llama.rope.scaling.factor", "rope_scaling.factor"}};
    struct gguf_parts g = gguf_model("");
    for (int i = 0; i < 2; i++) {
        kv_text(&g, texts[i].gguf, "linear");
        kv_f32(&g, reals[i].gguf, 2.5f);
    }
    kv_u32(&g, "llama.rope.scaling.original_context_length", 64);
    kv_u32(&g, "tokenizer.ggml.eot_token_id", 5);
    kv_u32(&g, "tokenizer.ggml.eom_token_id", 6);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    for (int i = 0; i < 2; i++) {
        assert_string_equal(checkpoint_meta(c, texts[i].canonical)->text, "linear");
        assert_true(checkpoint_meta(c, reals[i].canonical)->real == 2.5);
        assert_string_equal(checkpoint_meta(c, reals[i].canonical)->file_key, reals[i].gguf);
    }
    assert_int_equal(checkpoint_meta(c, "rope_scaling.original_max_position_embeddings")->i, 64);
    const struct meta *eos = checkpoint_meta(c, "eos_token_id");
    assert_int_equal(eos->i, 3);
    assert_int_equal(eos->ints[1], 5);
    assert_int_equal(eos->ints[2], 6);
    checkpoint_close(c);
}

static void another_architecture_is_not_in_pairs(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_empty();
    kv_text(&g, "general.architecture", "other");
    static const char *const ints[] = {"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count", "attention.layer_norm_rms_epsilon"};
    char key[80];
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        snprintf(key, sizeof key, "other.%s", ints[i]);
        kv_u32(&g, key, 4);
    }
    gguf_tensor(&g, 4);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(checkpoint_find(c, "layers.0.q")->pair_heads, 0);
    assert_string_equal(checkpoint_meta(c, "model_type")->text, "other");
    assert_int_equal(checkpoint_meta(c, "hidden_size")->i, 4);
    checkpoint_close(c);
}

static void biases_of_q_are_stored_in_pairs_too(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    pad_to(&g.data, 32);
    tensor_info(&g, "blk.0.attn_q.bias", 0, g.data.n, 1, (uint64_t)(M_HEADS * M_HEAD));
    for (int r = 0; r < M_HEADS * M_HEAD; r++)
        put_f32(&g.data, (float)(r / M_HEAD * M_HEAD + r % M_HEAD / 2 + (r % 2 ? M_HEAD / 2 : 0)));
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    const struct view *v = checkpoint_find(c, "layers.0.q.bias");
    float x[M_HEADS * M_HEAD];
    assert_int_equal(v->pair_heads, M_HEADS);
    assert_int_equal(checkpoint_read_rows(c, v, 0, v->dim[0], x, NULL), 0);
    for (int r = 0; r < M_HEADS * M_HEAD; r++)
        assert_true(x[r] == (float)r);
    assert_int_equal(checkpoint_meta(c, "attention_bias")->i, 1);
    checkpoint_close(c);
}

static void sizes_of_heads_that_differ_are_refused(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    kv_u32(&g, "llama.attention.key_length", 16);
    expect_refused(make_gguf("bad.gguf", &g), ERR_CONFIG, "llama.rope.dimension_count", "16");
    g = gguf_model("llama.rope.dimension_count");
    kv_u32(&g, "llama.attention.key_length", 8);
    kv_u32(&g, "llama.attention.value_length", 8);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(checkpoint_meta(c, "head_dim")->i, 8);
    checkpoint_close(c);
}

static void item_24_keys_of_the_shape(void **state)
{
    (void)state;
    static const char *const required[] = {"general.architecture", "llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
                                           "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        struct gguf_parts g = gguf_model(required[i]);
        refused(&g, required[i], "missing");
    }
    static const uint32_t heads[] = {0, 1u << 31, 3};
    for (int i = 0; i < 3; i++) {
        struct gguf_parts g = gguf_model("llama.attention.head_count");
        kv_u32(&g, "llama.attention.head_count", heads[i]);
        refused(&g, i < 2 ? "llama.attention.head_count" : "blk.0.attn_q.weight", i < 2 ? "must be" : "3 heads");
        g = gguf_model("llama.attention.head_count_kv");
        kv_u32(&g, "llama.attention.head_count_kv", heads[i]);
        refused(&g, i < 2 ? "llama.attention.head_count_kv" : "blk.0.attn_k.weight", i < 2 ? "must be" : "3 heads");
    }
    struct gguf_parts g = gguf_model("llama.attention.head_count");
    kv_text(&g, "llama.attention.head_count", "4");
    refused(&g, "llama.attention.head_count", "whole number");
}

/* The tiny model with a token table of these lengths. */
static struct gguf_parts with_tokens(int n_tokens, int n_scores, int n_types)
{
    struct gguf_parts g = gguf_empty();
    gguf_keys(&g, "");
    kv_array(&g, "tokenizer.ggml.tokens", G_TEXT, (uint64_t)n_tokens);
    for (int i = 0; i < n_tokens; i++)
        put_text(&g.kv, "x");
    kv_array(&g, "tokenizer.ggml.scores", G_F32, (uint64_t)n_scores);
    for (int i = 0; i < n_scores; i++)
        put_f32(&g.kv, 0);
    kv_array(&g, "tokenizer.ggml.token_type", G_I32, (uint64_t)n_types);
    for (int i = 0; i < n_types; i++)
        put_u32(&g.kv, 1);
    for (int i = 0; i < M_TENSORS; i++)
        gguf_tensor(&g, i);
    return g;
}

static void item_25_token_table(void **state)
{
    (void)state;
    struct gguf_parts g = with_tokens(8, 7, 8);
    refused(&g, "tokenizer.ggml.scores", "as many");
    g = with_tokens(8, 8, 9);
    refused(&g, "tokenizer.ggml.token_type", "as many");
    static const char *const ids[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eot_token_id"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        g = with_tokens(8, 8, 8);
        kv_u32(&g, ids[i], 8);
        refused(&g, ids[i], "below 8");
    }
    g = with_tokens(8, 8, 8);
    kv_head(&g, "tokenizer.ggml.bos_token_id", G_I32);
    put_u32(&g.kv, UINT32_MAX);
    refused(&g, "tokenizer.ggml.bos_token_id", "value -1");
    g = gguf_model("");
    kv_text(&g, "tokenizer.ggml.merges", "a b");
    refused(&g, "tokenizer.ggml.merges", "must be a list");
    g = gguf_model("");
    kv_array(&g, "tokenizer.ggml.merges", G_U8, 0);
    refused(&g, "tokenizer.ggml.merges", "wrong value type");
    g = with_tokens(8, 8, 8);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(checkpoint_meta(c, "vocab_size")->i, 8);
    checkpoint_close(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

static void canonical_names_have_names_there(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < M_TENSORS; i++) {
        struct made_tensor t = tiny_tensor(i);
        assert_int_equal(gguf_tensor_name(t.canonical, name, sizeof name), strlen(t.gguf));
        assert_string_equal(name, t.gguf);
        assert_int_equal(gguf_tensor_name(t.canonical, name, strlen(t.gguf)), 0); /* no room */
    }
    assert_int_equal(gguf_tensor_name("layers.17.q.bias", name, sizeof name), 18);
    assert_string_equal(name, "blk.17.attn_q.bias");
    assert_int_equal(gguf_tensor_name("rope_factors", name, sizeof name), 17);
    assert_string_equal(name, "rope_freqs.weight");
    static const char *const none[] = {"", "?odd", "layers.0", "layers.0.", "layers.0.embed", "q", "layers..q", "layers.0.q.weight"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(gguf_tensor_name(none[i], name, sizeof name), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(canonical_names_have_names_there),
        T(keys_get_their_other_names), T(another_architecture_is_not_in_pairs), T(biases_of_q_are_stored_in_pairs_too), T(sizes_of_heads_that_differ_are_refused),
        T(item_24_keys_of_the_shape), T(item_25_token_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
