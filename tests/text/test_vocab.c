/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "text/small.h"

static const char *const merges[] = {"a b", "ab c", NULL};
static const char *const pieces[] = {"ab", "a", "b", NULL};
static struct small s;

static void refused(int code, const char *says)
{
    struct error err = {0};
    assert_int_equal(vocab_from_tables(&s.vocab, "FILE", &s.tables, NULL, &err), code);
    assert_int_equal(strncmp(err.text, "FILE: ", 6), 0);
    if (!strstr(err.text, says))
        assert_string_equal(err.text, says); /* shows both */
    assert_null(s.vocab.arena.head); /* nothing is held */
}

static void item_25_ids_types_and_scores(void **state)
{
    (void)state;
    small_chars(&s, pieces);
    s.tables.bos = s.tables.n;
    refused(ERR_DATA, "bos token 262");
    small_chars(&s, pieces);
    s.tables.eos = -5;
    refused(ERR_DATA, "eos token -5");
    small_chars(&s, pieces);
    s.tables.unk = 1 << 30;
    refused(ERR_DATA, "unk token");
    small_chars(&s, pieces);
    s.tables.bos = -1;
    refused(ERR_DATA, "add_bos_token");
    small_chars(&s, pieces);
    s.tables.score = NULL;
    refused(ERR_DATA, "scores");
    small_chars(&s, pieces);
    s.score[259] = __builtin_nanf("");
    refused(ERR_DATA, "token 259");
    for (int type = -1; type < 9; type += type == 0 ? 7 : 1) {
        small_chars(&s, pieces);
        s.type[5] = type;
        refused(ERR_DATA, "token 5: type");
    }
}

static void item_25_byte_tokens(void **state)
{
    static const char *const bad[] = {"<0x-1>", "<0xGG>", "<0x0a>", "<0x0A", "<0x1>", "<0x001>", "x", NULL};
    (void)state;
    for (const char *const *b = bad; *b; b++) {
        small_chars(&s, pieces);
        s.text[3 + 7] = as_bytes(*b);
        refused(ERR_DATA, *b);
    }
    small_chars(&s, pieces);
    s.type[3 + 7] = TOKEN_NORMAL;
    refused(ERR_DATA, "255 of 256");
}

static void item_27_merges_and_texts(void **state)
{
    (void)state;
    small_bytes(&s, "gpt-2", merges);
    s.merge[0] = as_bytes("a \xc3\xb7\xc3\xb7");
    refused(ERR_DATA, "merge 0");
    small_bytes(&s, "gpt-2", merges);
    s.merge[1] = as_bytes("ab d");
    refused(ERR_DATA, "together");
    small_bytes(&s, "gpt-2", merges);
    s.merge[1] = as_bytes("abc");
    refused(ERR_DATA, "merge 1");
    small_bytes(&s, "gpt-2", merges);
    s.merge[1] = (struct bytes){0};
    refused(ERR_DATA, "merge 1");
    small_bytes(&s, "gpt-2", merges);
    s.text[17] = s.text[16];
    refused(ERR_DATA, "tokens 16 and 17");
    small_bytes(&s, "gpt-2", merges);
    s.text[17] = as_bytes("");
    refused(ERR_DATA, "token 17: empty");
    small_bytes(&s, "gpt-2", merges);
    s.text[17] = as_bytes("\xff");
    refused(ERR_DATA, "token 17");
    small_bytes(&s, "gpt-2", merges);
    s.tables.n = 0;
    refused(ERR_DATA, "0 tokens");
    s.tables.n = VOCAB_MAX + 1;
    refused(ERR_DATA, "tokens");
}

static void item_28_unknown_names(void **state)
{
    (void)state;
    small_bytes(&s, "qwen2", merges);
    refused(ERR_CONFIG, "\"qwen2\"");
    small_bytes(&s, NULL, merges);
    refused(ERR_CONFIG, "tokenizer.ggml.pre");
    small_bytes(&s, "gpt-2", merges);
    s.tables.model = "bert";
    refused(ERR_CONFIG, "\"bert\"");
}

static void test_defaults_and_wishes(void **state)
{
    struct vocab v;
    (void)state;
    small_bytes(&s, "llama-bpe", merges);
    assert_int_equal(vocab_from_tables(&v, "f", &s.tables, NULL, NULL), 0);
    assert_true(v.add_bos && v.ignore_merges && !v.add_eos);
    vocab_close(&v);
    assert_int_equal(vocab_from_tables(&v, "f", &s.tables, &(struct vocab_wish){.add_bos = 0, .add_eos = 1, .bos = -1, .eos = 7}, NULL), 0);
    assert_true(!v.add_bos && v.add_eos && v.eos == 7);
    vocab_close(&v);
    small_chars(&s, pieces);
    s.tables.add_bos = 0;
    assert_int_equal(vocab_from_tables(&v, "f", &s.tables, NULL, NULL), 0);
    assert_true(!v.add_bos && v.prefix == PREFIX_START);
    vocab_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_25_ids_types_and_scores), cmocka_unit_test(item_25_byte_tokens),      cmocka_unit_test(item_27_merges_and_texts),
        cmocka_unit_test(item_28_unknown_names),        cmocka_unit_test(test_defaults_and_wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
