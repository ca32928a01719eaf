/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "text/small.h"

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define NO_REGEX "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"
#define LLAMA3                                                                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"}"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}"
#define SEQUENCE(list, parts) "{\"type\":\"Sequence\",\"" list "\":[" parts "]}"
#define BOS_TEMPLATE                                                                                                                                 \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"      \
    "\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[7],\"tokens\":[\"<s>\"]}}}"

/* A file of eight tokens; every part can be put in its place by a test. */
struct parts { const char *normalizer, *pre, *post, *decoder, *model, *vocab, *merges, *added, *root, *truncation, *padding; };

static const struct parts usual = {
    "null", BYTE_LEVEL, "null", "{\"type\":\"ByteLevel\"}", "", "\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4,\"\xe2\x96\x81\":5,\"1\":6", "\"a b\",\"ab c\"",
    "{\"id\":7,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}", "", "null", "null",
};

static struct vocab v;
static struct error err;
static const struct vocab_wish *wish;

static int load(struct parts p)
{
    static char text[8192];
    int n = snprintf(text, sizeof text,
                     "{\"version\":\"1.0\",\"truncation\":%s,\"padding\":%s,\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,"
                     "\"post_processor\":%s,\"decoder\":%s,%s\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,%s\"vocab\":{%s},\"merges\":[%s]}}",
                     p.truncation, p.padding, p.added, p.normalizer, p.pre, p.post, p.decoder, p.root, p.model, p.vocab, p.merges);
    assert_true(n > 0 && n < (int)sizeof text);
    err = (struct error){0};
    return vocab_from_tokenizer_json(&v, "FILE", (struct bytes){(const uint8_t *)text, (size_t)n}, wish, &err);
}

static void refused(struct parts p, int code, const char *says)
{
    assert_int_equal(load(p), code);
    if (strncmp(err.text, "FILE: ", 6) != 0 || !strstr(err.text, says))
        assert_string_equal(err.text, says); /* shows both */
    assert_null(v.arena.head);
}

static void encodes(struct parts p, const char *text, unsigned flags, const char *pieces)
{
    int rc = load(p);
    if (rc < 0)
        assert_string_equal(err.text, "");
    struct tokenizer *t = tokenizer_open(&v, &err);
    assert_non_null(t);
    assert_string_equal(small_pieces(t, text, flags), pieces);
    tokenizer_close(t);
    vocab_close(&v);
}

#define WITH(member, value) (p = usual, p.member = (value), p)

static void test_byte_level_files(void **state)
{
    struct parts p = usual;
    (void)state;
    encodes(p, "abcab", 0, "abc|ab");
    encodes(WITH(merges, "[\"a\",\"b\"],[\"ab\",\"c\"]"), "abcab", 0, "abc|ab");
    encodes(WITH(pre, SEQUENCE("pretokenizers", "{\"type\":\"Digits\",\"individual_digits\":true}," BYTE_LEVEL)), "ab11c", 0, "ab|1|1|c");
    assert_int_equal(load(WITH(pre, SEQUENCE("pretokenizers", SPLIT(LLAMA3) "," NO_REGEX))), 0);
    assert_int_equal(v.pretok, PRETOK_LLAMA3);
    vocab_close(&v);
    encodes(WITH(model, "\"ignore_merges\":true,"), "abc", 0, "abc");
    p.merges = "\"a b\"";
    encodes(p, "abc", 0, "abc");
    p.model = "";
    encodes(p, "abc", 0, "ab|c");
    encodes(WITH(post, SEQUENCE("processors", BYTE_LEVEL "," BOS_TEMPLATE)), "ab", ENCODE_BOS, "<s>|ab");
    encodes(usual, "ab", ENCODE_BOS, "ab");
}

static void test_truncation_and_padding_are_passed_over(void **state)
{
    struct parts p = usual;
    (void)state;
    encodes(WITH(truncation, "{\"direction\":\"Right\",\"max_length\":2,\"strategy\":\"LongestFirst\",\"stride\":0}"), "abcabcabcab", 0, "abc|abc|abc|ab");
    encodes(WITH(padding, "{\"strategy\":{\"Fixed\":64},\"direction\":\"Left\",\"pad_to_multiple_of\":null,\"pad_id\":0,\"pad_type_id\":0,\"pad_token\":\"a\"}"), "abc", 0, "abc");
}

/* A name counts where the file has none, and over the file's where it is said whether to add it. */
static void test_wishes_by_text(void **state)
{
    struct parts p;
    (void)state;
    wish = &(struct vocab_wish){.add_bos = 1, .add_eos = 1, .bos = -1, .eos = -1, .bos_text = "<s>", .eos_text = "c"};
    encodes(usual, "ab", ENCODE_BOS, "<s>|ab|c");
    wish = &(struct vocab_wish){.add_bos = 1, .add_eos = -1, .bos = -1, .eos = -1, .bos_text = "b"};
    encodes(WITH(post, BOS_TEMPLATE), "ab", ENCODE_BOS, "b|ab");
    wish = &(struct vocab_wish){.add_bos = -1, .add_eos = -1, .bos = -1, .eos = -1, .bos_text = "b", .eos_text = "c"};
    encodes(WITH(post, BOS_TEMPLATE), "ab", ENCODE_BOS, "<s>|ab");
    wish = &(struct vocab_wish){.add_bos = 1, .add_eos = -1, .bos = -1, .eos = -1, .bos_text = "<nowhere>"};
    refused(usual, ERR_DATA, "no such token");
    wish = NULL;
}

static void test_sentencepiece_files(void **state)
{
    struct parts p = usual;
    (void)state;
    p.decoder = SEQUENCE("decoders", "{\"type\":\"Fuse\"},{\"type\":\"ByteFallback\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    p.pre = "null";
    p.normalizer = SEQUENCE("normalizers", PREPEND "," REPLACE);
    encodes(p, "ab c<s>ab", ENCODE_SPECIAL, " |ab| |c|<s>| |ab");
    p.normalizer = REPLACE;
    encodes(p, "ab c", 0, "ab| |c");
    p.normalizer = "null";
    p.pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":false}";
    encodes(p, "ab<s>ab", ENCODE_SPECIAL, " |ab|<s>|ab");
    encodes(p, " ab", 0, " |ab");
    p.pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"add_prefix_space\":true}";
    encodes(p, "ab<s>ab", ENCODE_SPECIAL, " |ab|<s>| |ab");
}

static void test_added_tokens(void **state)
{
    struct parts p = usual;
    (void)state;
    encodes(WITH(added, "{\"id\":7,\"content\":\"c1\",\"special\":false,\"normalized\":true}"), "abc1", 0, "ab|c1");
    p.pre = "null";
    p.decoder = "null";
    p.normalizer = SEQUENCE("normalizers", PREPEND "," REPLACE);
    encodes(p, "c1 c1b", 0, "c1|c1|b"); /* a normalized token is looked for as the normalizer would write it */
    static const char *const unsupported[] = {"single_word", "lstrip", "rstrip"};
    for (int i = 0; i < 3; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"id\":7,\"content\":\"<s>\",\"special\":true,\"%s\":true}", unsupported[i]);
        refused(WITH(added, text), ERR_CONFIG, unsupported[i]);
    }
    refused(WITH(added, "{\"id\":7}"), ERR_DATA, "content");
    refused(WITH(added, "{\"id\":7,\"content\":\"\"}"), ERR_DATA, "content");
    refused(WITH(added, "7"), ERR_DATA, "content");
}

static void item_27_ids_and_merges(void **state)
{
    struct parts p;
    (void)state;
    refused(WITH(merges, "\"a x\""), ERR_DATA, "right part");
    refused(WITH(merges, "\"x a\""), ERR_DATA, "left part");
    refused(WITH(merges, "\"b a\""), ERR_DATA, "together");
    refused(WITH(merges, "\"ab\""), ERR_DATA, "merge 0");
    refused(WITH(merges, "\" \""), ERR_DATA, "merge 0");
    refused(WITH(merges, "[\"a\"]"), ERR_DATA, "merge 0");
    refused(WITH(merges, "[\"a\",\"b\",\"c\"]"), ERR_DATA, "merge 0");
    refused(WITH(merges, "7"), ERR_DATA, "merge 0");
    refused(WITH(vocab, "\"a\":0,\"b\":0"), ERR_DATA, "id 0");
    refused(WITH(vocab, "\"a\":0,\"b\":3"), ERR_DATA, "id 3");
    refused(WITH(vocab, "\"a\":0,\"b\":-1"), ERR_DATA, "id -1");
    refused(WITH(vocab, "\"a\":0,\"b\":1.0"), ERR_DATA, "token \"b\"");
    refused(WITH(vocab, "\"a\":0,\"b\":1.0"), ERR_DATA, "id 1.0;");
    refused(WITH(vocab, "\"a\":0,\"b\":01"), ERR_DATA, "id 01;");
    refused(WITH(vocab, "\"a\":0,\"b\":\"1\""), ERR_DATA, "id \"1\";");
    refused(WITH(vocab, "\"a\":0,\"b\":[1,{\"c\":2}]"), ERR_DATA, "id [1,{\"c\":2}];");
    refused(WITH(vocab, "\"a\":0,\"b\":18446744073709551617"), ERR_DATA, "id 18446744073709551617;");
    refused(WITH(vocab, "\"a\":0,\"b\":4294967297"), ERR_DATA, "id 4294967297;");
    refused(WITH(vocab, "\"a\":0,\"a\":1"), ERR_DATA, "token \"a\": is there twice");
    refused(WITH(vocab, "\"a\":0,\"\":1,\"c\":2,\"ab\":3,\"abc\":4,\"d\":5,\"1\":6"), ERR_DATA, "token 1: empty");
    refused(WITH(added, "{\"id\":6,\"content\":\"<s>\",\"special\":true}"), ERR_DATA, "id 6");
    refused(WITH(added, "{\"id\":8,\"content\":\"<s>\",\"special\":true}"), ERR_DATA, "id 8");
    refused(WITH(added, "{\"id\":5,\"content\":\"a\",\"special\":true}"), ERR_DATA, "another id");
}

static void item_28_refused_by_name(void **state)
{
    static const struct { size_t part; const char *value, *says; } rows[] = {
        {offsetof(struct parts, normalizer), "{\"type\":\"NFC\"}", "NFC"},
        {offsetof(struct parts, normalizer), REPLACE, "ByteLevel"},
        {offsetof(struct parts, normalizer), "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"b\"}", "Replace"},
        {offsetof(struct parts, normalizer), "{\"type\":\"Prepend\",\"prepend\":\"x\"}", "Prepend"},
        {offsetof(struct parts, normalizer), SEQUENCE("normalizers", SEQUENCE("normalizers", "")), "Sequence"},
        {offsetof(struct parts, pre), "{\"type\":\"BertPreTokenizer\"}", "BertPreTokenizer"},
        {offsetof(struct parts, pre), "null", "pre_tokenizer"},
        {offsetof(struct parts, pre), SEQUENCE("pretokenizers", SPLIT("\\\\s+") "," NO_REGEX), "\\s+"},
        {offsetof(struct parts, pre), SEQUENCE("pretokenizers", SPLIT(LLAMA3) "," BYTE_LEVEL), "combination"},
        {offsetof(struct parts, pre), SEQUENCE("pretokenizers", BYTE_LEVEL "," BYTE_LEVEL), "ByteLevel"},
        {offsetof(struct parts, pre), SEQUENCE("pretokenizers", "{\"type\":\"Digits\",\"individual_digits\":false}," BYTE_LEVEL), "Digits"},
        {offsetof(struct parts, pre), "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "ByteLevel"},
        {offsetof(struct parts, pre), "{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "Metaspace"},
        {offsetof(struct parts, post), "{\"type\":\"BertProcessing\"}", "BertProcessing"},
        {offsetof(struct parts, decoder), "{\"type\":\"WordPiece\"}", "WordPiece"},
        {offsetof(struct parts, decoder), "{\"type\":\"Metaspace\"}", "Metaspace"},
        {offsetof(struct parts, model), "\"dropout\":0.1,", "dup"},
        {offsetof(struct parts, model), "\"continuing_subword_prefix\":\"##\",", "continuing_subword_prefix"},
        {offsetof(struct parts, model), "\"end_of_word_suffix\":\"</w>\",", "end_of_word_suffix"},
        {offsetof(struct parts, model), "\"byte_fallback\":true,", "byte_fallback"},
        {offsetof(struct parts, root), "\"strange\":1,", "strange"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parts p = usual;
        memcpy((char *)&p + rows[i].part, &rows[i].value, sizeof rows[i].value);
        refused(p, strcmp(rows[i].says, "dup") == 0 ? ERR_DATA : ERR_CONFIG, rows[i].says);
    }
}

static int load_text(const char *text)
{
    err = (struct error){0};
    return vocab_from_tokenizer_json(&v, "FILE", as_bytes(text), NULL, &err);
}

/* Keys come in any order: the file is the same. */
static void test_order_of_keys(void **state)
{
    static const char *const files[] = {
        "{\"model\":{\"merges\":[\"a b\",[\"ab\",\"\\u0120\"]],\"vocab\":{\"ab\\u0120\":4,\"a\":0,\"b\":1,\"\\u0120\":2,\"ab\":3},\"type\":\"BPE\"},"
        "\"pre_tokenizer\":" NO_REGEX ",\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"b\",\"special\":true}]}",
        "{\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"b\",\"special\":true}],\"pre_tokenizer\":" NO_REGEX ","
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3,\"ab\xc4\xa0\":4},\"merges\":[\"a b\",\"ab \xc4\xa0\"]}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (load_text(files[i]) < 0)
            assert_string_equal(err.text, "");
        assert_int_equal(v.n, 6);
        assert_true(bytes_equal(v.piece[4], "ab "));
        assert_true(bytes_equal(v.piece[5], "<s>"));
        assert_int_equal(v.type[1], TOKEN_CONTROL);
        assert_int_equal(v.n_merges, 2);
        assert_int_equal(v.merge[1].id, 4);
        vocab_close(&v);
    }
}

static void test_tables_of_another_kind(void **state)
{
    static const struct { const char *model, *says; int code; } rows[] = {
        {"{\"type\":\"BPE\",\"merges\":[]}", "model.vocab: expected", ERR_DATA},
        {"{\"type\":\"BPE\",\"vocab\":null,\"merges\":[]}", "model.vocab: expected", ERR_DATA},
        {"{\"type\":\"BPE\",\"vocab\":[\"a\"],\"merges\":[]}", "model.vocab: expected", ERR_DATA},
        {"{\"type\":\"BPE\",\"vocab\":{\"a\":0}}", "model.merges: expected", ERR_DATA},
        {"{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":null}", "model.merges: expected", ERR_DATA},
        {"{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{\"a b\":0}}", "model.merges: expected", ERR_DATA},
        {"{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":\"a b\"}", "model.merges: expected", ERR_DATA},
        {"{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1.5]]}", "Unigram", ERR_CONFIG},
        {"[]", "model", ERR_CONFIG},
    };
    char text[256];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"}],\"model\":%s}", rows[i].model);
        assert_int_equal(load_text(text), rows[i].code);
        if (!strstr(err.text, rows[i].says))
            assert_string_equal(err.text, rows[i].says);
    }
}

static void test_broken_templates(void **state)
{
    static const char *const bad[] = {
        "{\"type\":\"TemplateProcessing\"}",
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{\"Sequence\":{\"id\":\"A\"}}]}",
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{}}",
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[8]}}}",
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[-1]}}}",
    };
    struct parts p;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(WITH(post, bad[i]), ERR_DATA, "template");
}

static void test_not_json(void **state)
{
    static const char *const bad[] = {"", "{", "[]", "{} x", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}", "\xff"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(vocab_from_tokenizer_json(&v, "FILE", as_bytes(bad[i]), NULL, &err), ERR_DATA);
        assert_int_equal(strncmp(err.text, "FILE: ", 6), 0);
    }
    size_t n = 100000;
    char *deep = malloc(n);
    memset(deep, '[', n);
    assert_int_equal(vocab_from_tokenizer_json(&v, "FILE", (struct bytes){(uint8_t *)deep, n}, NULL, &err), ERR_DATA);
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level_files),   cmocka_unit_test(test_sentencepiece_files), cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(item_27_ids_and_merges),  cmocka_unit_test(item_28_refused_by_name),  cmocka_unit_test(test_broken_templates),
        cmocka_unit_test(test_not_json),           cmocka_unit_test(test_wishes_by_text),
        cmocka_unit_test(test_truncation_and_padding_are_passed_over), cmocka_unit_test(test_order_of_keys), cmocka_unit_test(test_tables_of_another_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
