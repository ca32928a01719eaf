/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "format/make_files.h"

/* A file that is refused as damaged, with these words. */
static void refused(struct gguf_parts *g, const char *word, const char *word2) { expect_refused(make_gguf("bad.gguf", g), ERR_DATA, word, word2); }

static void a_whole_model_is_read(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    expect_tiny(c);
    assert_string_equal(c->format->name, "gguf");
    assert_string_equal(c->dir, made_dir);
    assert_int_equal(checkpoint_meta(c, "hidden_size")->i, M_HIDDEN);
    assert_string_equal(checkpoint_meta(c, "hidden_size")->file_key, "llama.embedding_length");
    assert_int_equal(checkpoint_meta(c, "head_dim")->i, M_HEAD);
    assert_int_equal(checkpoint_meta(c, "vocab_size")->i, M_VOCAB);
    assert_string_equal(checkpoint_meta(c, "model_type")->text, "llama");
    assert_int_equal(checkpoint_meta(c, "eos_token_id")->type, META_INTS);
    assert_int_equal(checkpoint_meta(c, "eos_token_id")->ints[0], 2);
    assert_int_equal(checkpoint_meta(c, "tie_word_embeddings")->i, 0);
    assert_null(checkpoint_meta(c, "llama.block_count"));
    const struct token_table *t = &c->tokens;
    assert_int_equal(t->n, M_VOCAB);
    assert_string_equal(t->model, "llama");
    assert_true(bytes_equal(t->text[3], "<0x03>"));
    assert_true(t->score[5] == -5.0f);
    assert_int_equal(t->type[0], 3);
    assert_int_equal(t->bos, 1);
    assert_int_equal(t->eos, 2);
    assert_int_equal(t->unk, -1);
    assert_int_equal(t->add_bos, 1);
    assert_int_equal(t->add_space_prefix, -1);
    checkpoint_close(c);
}

static void version_2_and_wide_counts_are_read(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("llama.block_count");
    g.version = 2;
    kv_head(&g, "llama.block_count", G_U64);
    put_u64(&g.kv, M_LAYERS);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(checkpoint_meta(c, "num_hidden_layers")->i, M_LAYERS);
    checkpoint_close(c);
}

static void another_alignment_is_honoured(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_empty();
    g.align = 256;
    gguf_keys(&g, "");
    kv_u32(&g, "general.alignment", 256);
    for (int i = 0; i < M_TENSORS; i++)
        gguf_tensor(&g, i);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    expect_tiny(c);
    checkpoint_close(c);
}

static void unknown_keys_and_tensors_keep_their_names(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    kv_u32(&g, "llama.expert_count", 8);
    kv_head(&g, "llama.negative", G_I8);
    put_u8(&g.kv, 0xfe);
    pad_to(&g.data, 32);
    tensor_info(&g, "blk.0.attn_sinks.weight", 0, g.data.n, 1, (uint64_t)1);
    put_f32(&g.data, 1);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(checkpoint_meta(c, "llama.expert_count")->i, 8);
    assert_int_equal(checkpoint_meta(c, "llama.negative")->i, -2);
    assert_non_null(checkpoint_find(c, "?blk.0.attn_sinks.weight"));
    checkpoint_close(c);
}

/* Parts of a split model: all keys in the first, tensors in both. */
static void make_split(int in_second, uint32_t no, uint32_t count, uint32_t tensors)
{
    for (int s = 0; s < 2; s++) {
        struct gguf_parts g = gguf_empty();
        if (s == 0)
            gguf_keys(&g, "");
        kv_head(&g, "split.no", G_U16);
        put_u8(&g.kv, s ? no : 0), put_u8(&g.kv, 0);
        kv_head(&g, "split.count", G_U16);
        put_u8(&g.kv, count), put_u8(&g.kv, 0);
        kv_head(&g, "split.tensors.count", G_I32);
        put_u32(&g.kv, tensors);
        for (int i = s ? M_TENSORS - in_second : 0; i < (s ? M_TENSORS : M_TENSORS - in_second); i++)
            gguf_tensor(&g, i);
        make_gguf(s ? "m-00002-of-00002.gguf" : "m-00001-of-00002.gguf", &g);
    }
}

static void split_files_are_one_model(void **state)
{
    (void)state;
    make_split(5, 1, 2, M_TENSORS);
    struct checkpoint *c = expect_opened(made("m-00001-of-00002.gguf"));
    assert_int_equal(c->n_shards, 2);
    expect_tiny(c);
    checkpoint_close(c);
}

static void split_files_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const char *first = made("m-00001-of-00002.gguf"), *second = made("m-00002-of-00002.gguf");
    make_split(5, 1, 2, M_TENSORS);
    expect_refused(second, ERR_DATA, "give the first", "-00001-of-00002.gguf");
    make_split(5, 1, 2, M_TENSORS + 1);
    expect_refused(first, ERR_DATA, "split.tensors.count", "22");
    make_split(5, 0, 2, M_TENSORS);
    expect_refused(first, ERR_DATA, "split.no", "m-00002");
    make_split(5, 1, 3, M_TENSORS);
    expect_refused(first, ERR_DATA, "first one", "-00001-of-00003.gguf");
    make_split(5, 1, 2, M_TENSORS);
    remove(second);
    expect_refused(first, ERR_NOINPUT, "m-00002-of-00002.gguf", "No such file");
}

static void other_quantised_types_are_refused_by_name(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    tensor_info(&g, "blk.0.q5", 13, 0, 2, (uint64_t)256, (uint64_t)4);
    refused(&g, "blk.0.q5", "Q5_K: not supported; convert");
}

/* Q4_K and Q6_K: rows of whole super-blocks, as many bytes as the file has. */
static void super_blocks_are_counted(void **state)
{
    (void)state;
    for (uint32_t type = 12; type <= 14; type += 2) {
        struct gguf_parts g = gguf_model("");
        tensor_info(&g, "blk.0.half", type, 0, 2, (uint64_t)384, (uint64_t)4);
        refused(&g, "blk.0.half", type == 12 ? "rows of 384 values do not divide into the blocks of Q4_K" : "rows of 384 values do not divide into the blocks of Q6_K");
        g = gguf_model("");
        tensor_info(&g, "blk.0.large", type, 0, 2, (uint64_t)256, (uint64_t)1 << 20);
        refused(&g, "blk.0.large", "are more than the file's");
        g = gguf_model("");
        tensor_info(&g, "blk.0.huge", type, 0, 2, (uint64_t)256 << 30, (uint64_t)1 << 24);
        refused(&g, "blk.0.huge", "are more than the file's");
    }
}

static void item_15_magic_and_version(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    g.magic = 0x46554748;
    refused(&g, "bad.gguf", "neither GGUF");
    static const uint32_t versions[] = {0, 1, 4, 0x03000000};
    for (int i = 0; i < 4; i++) {
        g = gguf_model("");
        g.version = versions[i];
        refused(&g, "version", i == 3 ? "big-endian" : "only versions 2 and 3");
    }
    expect_refused(make_file("bad.gguf", "", 0), ERR_DATA, "bad.gguf", "empty");
    expect_refused(make_file("bad.gguf", "GGUF\3\0\0", 7), ERR_DATA, "version", "cut off");
    expect_refused(make_file("bad.gguf", "GGUF\3\0\0\0", 8), ERR_DATA, "tensor count", "cut off");
}

static void item_16_counts_beyond_the_file(void **state)
{
    (void)state;
    static const uint64_t counts[] = {UINT64_MAX, 1u << 31, 70000};
    for (int i = 0; i < 3; i++) {
        char shown[24];
        snprintf(shown, sizeof shown, "%llu", (unsigned long long)counts[i]);
        struct gguf_parts g = gguf_model("");
        g.n_tensors = counts[i];
        refused(&g, "tensor count", shown);
        g = gguf_model("");
        g.n_kv = counts[i];
        refused(&g, "key count", shown);
    }
    struct gguf_parts g = gguf_model(""); /* one more than there is: whatever is read instead, it ends in a refusal */
    g.n_tensors++;
    refused(&g, "bad.gguf", "offset");
}

static void item_17_strings_past_the_end(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {UINT64_MAX, INT64_MAX, 1u << 30};
    for (int i = 0; i < 3; i++) {
        struct gguf_parts g = gguf_empty();
        g.n_kv = 1;
        put_u64(&g.kv, lengths[i]);
        put(&g.kv, "0123456789012345", 16);
        refused(&g, "key length", "offset 0x");
        g = gguf_empty();
        kv_head(&g, "general.name", G_TEXT);
        put_u64(&g.kv, lengths[i]);
        refused(&g, "general.name", "offset 0x");
    }
    static char long_key[65537];
    memset(long_key, 'k', 65536);
    const char *keys[] = {"", "caf\xc3\xa9", "a b", long_key};
    const char *words[] = {"must have a name", "printable ASCII", "printable ASCII", "longer than"};
    for (int i = 0; i < 4; i++) {
        struct gguf_parts g = gguf_model("");
        kv_u32(&g, keys[i], 1);
        refused(&g, "key", words[i]);
    }
    struct gguf_parts g = gguf_empty();
    kv_head(&g, "general.name", G_TEXT);
    put_u64(&g.kv, 3);
    put(&g.kv, "a\0b", 3);
    refused(&g, "general.name", "zero byte");
}

static void item_18_arrays(void **state)
{
    (void)state;
    static const struct { uint32_t type; uint64_t n; const char *word; } bad[] = {
        {13, 1, "no such value type"}, {UINT32_MAX, 1, "no such value type"}, {G_ARRAY, 1, "lists of lists"}, {G_U64, UINT64_MAX / 8 + 1, "more entries"}, {G_TEXT, UINT64_MAX, "more entries"},
        {G_U8, 1u << 30, "more entries"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gguf_parts g = gguf_model("");
        kv_array(&g, "general.some", bad[i].type, bad[i].n);
        refused(&g, "general.some", bad[i].word);
    }
    struct gguf_parts g = gguf_model("");
    kv_array(&g, "general.none", G_TEXT, 0);
    kv_array(&g, "general.ints", G_I16, 2);
    put(&g.kv, "\xff\xff\x07\x00", 4);
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    assert_int_equal(checkpoint_meta(c, "general.none")->i, 0);
    assert_int_equal(checkpoint_meta(c, "general.ints")->type, META_INTS);
    assert_int_equal(checkpoint_meta(c, "general.ints")->ints[0], -1);
    assert_int_equal(checkpoint_meta(c, "general.ints")->ints[1], 7);
    checkpoint_close(c);
    g = gguf_model("");
    kv_array(&g, "general.strings", G_TEXT, 1);
    put_u64(&g.kv, 1u << 30);
    refused(&g, "general.strings", "past the end");
}

static void item_19_value_types_and_doubles(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    kv_head(&g, "general.some", 13);
    refused(&g, "general.some", "no such value type");
    g = gguf_model("");
    kv_bool(&g, "general.some", 2);
    refused(&g, "general.some", "a bool is 0 or 1");
    g = gguf_model("");
    kv_u32(&g, "llama.block_count", 2);
    refused(&g, "llama.block_count", "twice");
    g = gguf_model("");
    gguf_tensor(&g, 4);
    refused(&g, "blk.0.attn_q.weight", "twice");
    g = gguf_model("");
    char name[66];
    memset(name, 'n', 65);
    name[65] = 0;
    tensor_info(&g, name, 0, 0, 1, (uint64_t)1);
    refused(&g, "tensor name length", "65");
}

static void item_20_alignment(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 1, 3, 12, 8192, 1u << 31};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gguf_parts g = gguf_model("");
        kv_u32(&g, "general.alignment", bad[i]);
        refused(&g, "general.alignment", "power of two");
    }
    struct gguf_parts g = gguf_model("");
    kv_head(&g, "general.alignment", G_I32);
    put_u32(&g.kv, 32);
    refused(&g, "general.alignment", "u32");
    g = gguf_model("");
    kv_text(&g, "general.alignment", "32");
    refused(&g, "general.alignment", "u32");
}

static void item_21_dimensions(void **state)
{
    (void)state;
    static const struct { uint32_t rank; uint64_t dim[5]; const char *word; } bad[] = {
        {0, {0}, "rank 0"}, {5, {1, 1, 1, 1, 1}, "rank 5"}, {3, {1, 1, 1}, "rank 3"}, {1, {0}, "dimension 0"}, {2, {0, 4}, "dimension 0"}, {2, {4, 0}, "dimension 0"},
        {2, {4, UINT64_MAX}, "dimension"}, {2, {1ull << 32, 1ull << 32}, "dimension"}, {4, {4194305, 4194305, 211106198978564, 1}, "dimension"},
        {2, {1ull << 31, 1ull << 31}, "more than the file"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const uint64_t *d = bad[i].dim;
        struct gguf_parts g = gguf_model("");
        tensor_info(&g, "odd", 0, 0, bad[i].rank, d[0], d[1], d[2], d[3], d[4]);
        refused(&g, "\"odd\"", bad[i].word);
    }
    struct gguf_parts g = gguf_model("");
    g.n_tensors++;
    put_text(&g.info, "odd");
    put_u32(&g.info, UINT32_MAX);
    refused(&g, "\"odd\"", "rank 4294967295");
    g = gguf_model("");
    tensor_info(&g, "odd", 8, 0, 2, (uint64_t)33, (uint64_t)2);
    refused(&g, "\"odd\"", "blocks of Q8_0");
    g = gguf_model("");
    tensor_info(&g, "odd", 2, 0, 1, (uint64_t)32);
    refused(&g, "\"odd\"", "blocks of Q4_0");
}

static void item_22_tensor_types(void **state)
{
    (void)state;
    static const uint32_t bad[] = {4, 5, 31, 32, 33, 36, 37, 38, 40, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char shown[24];
        snprintf(shown, sizeof shown, "type %u", bad[i]);
        struct gguf_parts g = gguf_model("");
        tensor_info(&g, "odd", bad[i], 0, 1, (uint64_t)32);
        refused(&g, "\"odd\"", shown);
    }
}

static void item_23_offsets(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    size_t end = (g.data.n + 31) / 32 * 32;
    const struct { uint64_t offset; const char *word; } bad[] = {
        {end + 4, "alignment"}, {32, "inside"}, {UINT64_MAX - 31, "past the end"}, {end, "ends at"}, {1ull << 40, "past the end"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (i)
            g = gguf_model("");
        tensor_info(&g, "odd", 0, bad[i].offset, 1, (uint64_t)64);
        refused(&g, i == 1 ? "token_embd" : "\"odd\"", bad[i].word);
    }
    g = gguf_model("");
    g.data.n -= 4; /* the last tensor is cut off */
    refused(&g, "blk.1.ffn_down.weight", "cut off");
}

/* No prefix of a file, and no single damaged byte of its header, does more than be refused or read. */
static void cut_and_damaged_files_do_no_harm(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    struct blob b = gguf_bytes(&g);
    size_t header = b.n - g.data.n;
    make_gguf("m.gguf", &g);
    for (size_t n = 0; n < header; n += 7) {
        struct error err = {0};
        assert_null(checkpoint_open(make_file("cut.gguf", b.p, n), &err));
        assert_true(err.code == ERR_DATA && *err.text);
    }
    for (size_t i = 0; i < header; i += 3) {
        struct error err = {0};
        b.p[i] ^= 0x81;
        struct checkpoint *c = checkpoint_open(make_file("bent.gguf", b.p, b.n), &err);
        assert_true(c || (err.code && *err.text));
        checkpoint_close(c);
        b.p[i] ^= 0x81;
    }
    free_blob(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_whole_model_is_read), T(version_2_and_wide_counts_are_read), T(another_alignment_is_honoured), T(unknown_keys_and_tensors_keep_their_names),
        T(split_files_are_one_model), T(split_files_that_do_not_fit_are_refused), T(other_quantised_types_are_refused_by_name), T(super_blocks_are_counted),
        T(item_15_magic_and_version), T(item_16_counts_beyond_the_file), T(item_17_strings_past_the_end), T(item_18_arrays),
        T(item_19_value_types_and_doubles), T(item_20_alignment), T(item_21_dimensions), T(item_22_tensor_types), T(item_23_offsets),
        T(cut_and_damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
