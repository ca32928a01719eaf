/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <time.h>

#include "text/small.h"

static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "\xc4\xa0 w", "a a", "aa aa", NULL};
#define M "\xe2\x96\x81"
static const char *const pieces[] = {M "the", "the", "th", "he", M "t", "t", "h", "e", M, M M, "ab", "bc", "a", "b", "c", NULL};

static struct small s;

static int32_t encode(const char *text, size_t n, unsigned flags, struct error *err)
{
    static int32_t ids[4096];
    int count = tokenizer_encode(s.t, text, n, flags, ids, 4096, err);
    return count;
}

static void encode_a_million(const char *unit)
{
    size_t len = strlen(unit), n = (SANITIZED ? 100000 : 1000000) / len * len;
    char *text = malloc(n);
    struct error err;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[i] = unit[i % len];
    clock_t start = clock(); /* of this process: other load does not count */
    int count = tokenizer_encode(s.t, text, n, 0, NULL, 0, &err);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    assert_true(count > 0);
    assert_true(seconds <= 1);
    print_message("%.3s...: %d tokens in %.2f s\n", unit, count, seconds);
    free(text);
}

static void test_byte_level(void **state)
{
    (void)state;
    small_bytes(&s, "gpt-2", merges);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "hello world hell", 0), "hello| w|o|r|l|d| |hell");
    assert_string_equal(small_pieces(s.t, "", ENCODE_BOS), "");
    assert_string_equal(small_pieces(s.t, "aaaaaaa", 0), "aaaa|aa|a");
    assert_string_equal(small_pieces(s.t, "\xc3\xa9", 0), "C3|A9");
    assert_null(tokenizer_piece(s.t, s.tables.n).p);
    assert_null(tokenizer_piece(s.t, -1).p);
    small_close(&s);
}

static void test_ignore_merges(void **state)
{
    (void)state;
    small_bytes(&s, "llama-bpe", merges);
    s.tables.n_merges -= 3; /* " w" and the like are tokens that no merge reaches */
    s.tables.add_bos = 0;
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "aaaa aaaa", 0), "aaaa| |a|a|a|a");
    small_close(&s);
}

static void test_sentencepiece(void **state)
{
    (void)state;
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "the", 0), " the");
    assert_string_equal(small_pieces(s.t, "the the  e", 0), " the| the|  |e"); /* runs of spaces are kept */
    assert_string_equal(small_pieces(s.t, "abc", 0), " |ab|c");                /* the better score, then the leftmost */
    assert_string_equal(small_pieces(s.t, "bcb", 0), " |bc|b");
    assert_string_equal(small_pieces(s.t, "\xc3\xa9", 0), " |C3|A9");          /* byte fallback */
    assert_string_equal(small_pieces(s.t, "", ENCODE_BOS), "<s>");
    assert_string_equal(small_pieces(s.t, "</s>the", ENCODE_SPECIAL | ENCODE_BOS), "<s>|</s>|the"); /* dummy prefix at the start of the text only */
    small_close(&s);
    s.tables.add_space_prefix = 0;
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "the", 0), "the");
    small_close(&s);
}

/* Merging passes through characters that are no token themselves; one that is left alone becomes bytes. */
static void test_sentencepiece_loose_characters(void **state)
{
    static const char *const loose[] = {"xyz", "yz", M, NULL};
    (void)state;
    small_chars(&s, loose);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "xyz", 0), " |xyz");
    assert_string_equal(small_pieces(s.t, "xyyz", 0), " |x|y|yz");
    assert_int_equal(s.vocab.n_symbols, s.vocab.n + 3);
    small_close(&s);
}

static void test_unknown_without_bytes(void **state)
{
    static const char *const few[] = {M, "a", NULL};
    (void)state;
    small_chars(&s, few);
    memmove(s.text + 3, s.text + 259, 2 * sizeof *s.text);
    memmove(s.type + 3, s.type + 259, 2 * sizeof *s.type);
    memmove(s.score + 3, s.score + 259, 2 * sizeof *s.score);
    s.tables.n = 5;
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "a??a?", 0), " |a|<unk>|a|<unk>"); /* a run is one unk */
    small_close(&s);
}

static void test_user_defined_tokens_always(void **state)
{
    (void)state;
    small_bytes(&s, "gpt-2", merges);
    small_add(&s, "<tab>", TOKEN_USER, 0);
    small_add(&s, "<tab><tab>", TOKEN_USER, 0);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "a<tab>b", 0), "a|<tab>|b");
    assert_string_equal(small_pieces(s.t, "<tab><tab><tab>", 0), "<tab><tab>|<tab>"); /* the longest */
    assert_string_equal(small_pieces(s.t, "<tab<tab>", 0), "<|t|a|b|<tab>");
    assert_false(tokenizer_hidden(s.t, s.tables.n - 2));
    small_close(&s);
}

/* What a text costs does not depend on how long the added tokens are, nor on how many share a beginning with it. */
static void test_added_tokens_that_nearly_match(void **state)
{
    enum { MANY = 500, SIZE = VOCAB_ADDED_MAX };
    char *room = malloc((size_t)MANY * (SIZE + 1));
    (void)state;
    assert_non_null(room);
    for (int round = 0; round < 3; round++) {
        int n = round ? MANY : 1, base;
        struct bytes *text = malloc((size_t)(SMALL_MAX + n) * sizeof *text);
        int32_t *type = malloc((size_t)(SMALL_MAX + n) * sizeof *type);
        assert_true(text && type);
        small_bytes(&s, "gpt-2", NULL);
        base = s.tables.n;
        memcpy(text, s.text, (size_t)base * sizeof *text);
        memcpy(type, s.type, (size_t)base * sizeof *type);
        for (int i = 0; i < n; i++) {
            char *at = room + (size_t)i * (SIZE + 1);
            size_t size = round == 2 ? (size_t)(2 + i) : SIZE; /* round 2: every one begins with the one before, and a text that misses the last by a byte */
            memset(at, 'a', size);
            for (int k = 1, rest = i; round < 2 && k <= 3; k++, rest /= 10)
                at[SIZE - k] = (char)('0' + rest % 10);
            if (round < 2)
                at[SIZE - 4] = 'b';
            text[base + i] = (struct bytes){(const uint8_t *)at, size};
            type[base + i] = round == 2 ? TOKEN_CONTROL : TOKEN_USER;
        }
        s.tables.text = text;
        s.tables.type = type;
        s.tables.n += n;
        assert_int_equal(small_open(&s, NULL), 0);
        encode_a_million("a");
        encode_a_million("ac");
        encode_a_million("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac");
        small_close(&s);
        free(text);
        free(type);
    }
    free(room);
}

static void test_bos_never_twice(void **state)
{
    (void)state;
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "<s>the", ENCODE_BOS | ENCODE_SPECIAL), "<s>|the");
    assert_string_equal(small_pieces(s.t, "<s>the", ENCODE_SPECIAL), "<s>|the");
    assert_string_equal(small_pieces(s.t, "the<s>", ENCODE_BOS | ENCODE_SPECIAL), "<s>| the|<s>");
    small_close(&s);
    small_bytes(&s, "smollm", merges);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "a", ENCODE_BOS), "a"); /* SmolLM2 asks for none */
    small_close(&s);
}

static void item_39_control_tokens_in_user_text_are_text(void **state)
{
    (void)state;
    small_bytes(&s, "gpt-2", merges);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "<|eot|>", 0), "<|||e|o|t|||>");
    assert_string_equal(small_pieces(s.t, "a<|eot|>", ENCODE_SPECIAL), "a|<|eot|>");
    small_close(&s);
    /* not even a merge may make one */
    small_bytes(&s, "gpt-2", NULL);
    small_add(&s, "<|", TOKEN_NORMAL, 0);
    small_add(&s, "<|>", TOKEN_CONTROL, 0);
    s.merge[s.tables.n_merges++] = as_bytes("< |");
    s.merge[s.tables.n_merges++] = as_bytes("<| >");
    assert_int_equal(small_open(&s, NULL), 0);
    assert_string_equal(small_pieces(s.t, "<|>", 0), "<||>");
    assert_string_equal(small_pieces(s.t, "<|>", ENCODE_SPECIAL), "<|>");
    small_close(&s);
}

static void item_38_bytes_that_are_no_text(void **state)
{
    static const struct { const char *text; size_t n, at; } bad[] = {
        {"ab\xff", 3, 2}, {"\xed\xa0\x80", 3, 0}, {"a\xe2\x82", 3, 1}, {"\xc0\x80", 2, 0},
    };
    struct error err;
    char name[32];
    (void)state;
    small_bytes(&s, "gpt-2", merges);
    assert_int_equal(small_open(&s, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(encode(bad[i].text, bad[i].n, 0, &err), ERR_DATA);
        snprintf(name, sizeof name, "offset %zu", bad[i].at);
        assert_non_null(strstr(err.text, name));
    }
    assert_int_equal(encode("ab\xff", 3, ENCODE_REPLACE, &err), 2 + 3);           /* U+FFFD is three bytes here */
    assert_int_equal(encode("\xed\xa0\x80", 3, ENCODE_REPLACE, &err), 9);         /* a surrogate: three of them */
    assert_int_equal(encode("\xe2\x82", 2, ENCODE_REPLACE, &err), 3);             /* a cut character: one */
    assert_int_equal(encode("a\0b", 3, 0, &err), 3);                              /* NUL is a character */
    assert_int_equal(encode("\xef\xbb\xbf", 3, 0, &err), 3);                      /* so is a byte order mark */
    size_t n = 300000;
    char *much = malloc(n);
    for (size_t i = 0; i < n; i++)
        much[i] = "\xef\xb7\xba"[i % 3]; /* U+FDFA, which some normalisers make 18 characters of */
    assert_int_equal(encode(much, n, 0, &err), 300000);
    free(much);
    small_close(&s);
}

static void item_37_a_megabyte_of_one_character(void **state)
{
    static const char *const same[] = {"a", " ", "^", "\xe4\xb8\xad", "aab", NULL};
    static const char *const doubling[] = {"a a", "aa aa", "aaaa aaaa", "^ ^", "^^ ^^", "\xc4\xa0 \xc4\xa0", "\xc4\xa0\xc4\xa0 \xc4\xa0\xc4\xa0", NULL};
    static const char *const runs[] = {M, M M, M M M M, "a", "aa", "aaaa", "^", "^^", "\xe4\xb8\xad", "\xe4\xb8\xad\xe4\xb8\xad", NULL};
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 3)
            small_chars(&s, runs);
        else
            small_bytes(&s, (const char *[]){"gpt-2", "smollm", "llama-bpe"}[kind], doubling);
        assert_int_equal(small_open(&s, NULL), 0);
        for (const char *const *unit = same; *unit; unit++)
            encode_a_million(*unit);
        small_close(&s);
    }
}

static void test_small_buffers(void **state)
{
    int32_t ids[3] = {-7, -7, -7};
    (void)state;
    small_bytes(&s, "gpt-2", merges);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_int_equal(tokenizer_encode(s.t, "hello w", 7, 0, ids, 1, NULL), 2);
    assert_int_equal(ids[0], 259);
    assert_int_equal(ids[1], -7);
    assert_int_equal(tokenizer_encode(s.t, "hello w", 7, 0, NULL, 0, NULL), 2);
    small_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_ignore_merges),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_sentencepiece_loose_characters),
        cmocka_unit_test(test_unknown_without_bytes),
        cmocka_unit_test(test_user_defined_tokens_always),
        cmocka_unit_test(test_added_tokens_that_nearly_match),
        cmocka_unit_test(test_bos_never_twice),
        cmocka_unit_test(item_39_control_tokens_in_user_text_are_text),
        cmocka_unit_test(item_38_bytes_that_are_no_text),
        cmocka_unit_test(item_37_a_megabyte_of_one_character),
        cmocka_unit_test(test_small_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
