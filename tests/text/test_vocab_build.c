/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <time.h>

#include "text/small.h"
#include "text/vocab_build.h"

static void test_byte_piece(void **state)
{
    uint8_t b = 0;
    (void)state;
    assert_true(byte_piece(as_bytes("<0xFE>"), &b));
    assert_int_equal(b, 0xfe);
    assert_false(byte_piece(as_bytes("<0xfe>"), &b));
    assert_false(byte_piece(as_bytes("<0xFE"), &b));
    assert_false(byte_piece((struct bytes){(const uint8_t *)"<0x\0" "0>", 6}, &b));
}

/* Byte-level pieces are kept as real bytes; one that the alphabet cannot spell stays as it is and is never produced. */
static void test_byte_level_pieces(void **state)
{
    static struct small s;
    (void)state;
    small_bytes(&s, "gpt-2", (const char *const[]){"\xc4\xa0 a", NULL});
    small_add(&s, "\xe4\xb8\xad", TOKEN_NORMAL, 0);
    assert_int_equal(small_open(&s, NULL), 0);
    assert_true(bytes_equal(s.vocab.piece[256], " a"));
    assert_true(bytes_equal(s.vocab.piece[259], "\xe4\xb8\xad"));
    assert_int_equal(s.vocab.type[259], TOKEN_UNUSED);
    for (int c = 0; c < 256; c++) {
        assert_true(s.vocab.byte_token[c] >= 0);
        assert_int_equal(s.vocab.piece[s.vocab.byte_token[c]].p[0], c);
    }
    small_close(&s);
    static const char *const strange[] = {" ", "\x7f", "\xc2\xa0", "\xc2\xad", "\xc5\x84"}; /* 32, 127, 160, 173 as themselves; one behind the alphabet */
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        small_bytes(&s, "gpt-2", NULL);
        small_add(&s, strange[i], TOKEN_NORMAL, 0);
        assert_int_equal(small_open(&s, NULL), 0);
        assert_int_equal(s.vocab.type[258], TOKEN_UNUSED);
        small_close(&s);
    }
}

/* Every way to cut a token in two is a merge of the token's rank; equal scores share one. */
static void test_merges_from_scores(void **state)
{
    static struct small s;
    (void)state;
    small_chars(&s, (const char *const[]){"abc", "ab", "bc", "a", "b", "c", NULL});
    s.score[260] = s.score[261];
    assert_int_equal(small_open(&s, NULL), 0);
    assert_int_equal(s.vocab.n_merges, 4); /* a+bc, ab+c, a+b, b+c */
    assert_int_equal(s.vocab.merge[0].id, 259);
    assert_int_equal(s.vocab.merge[0].rank, s.vocab.merge[1].rank);
    assert_int_equal(s.vocab.merge[2].rank, s.vocab.merge[3].rank);
    assert_true(s.vocab.merge[0].rank < s.vocab.merge[2].rank);
    small_close(&s);
}

static void test_overlong_piece(void **state)
{
    static struct small s;
    static char big[2048];
    struct error err;
    (void)state;
    memset(big, 'a', sizeof big - 1);
    small_chars(&s, (const char *const[]){big, NULL});
    assert_int_equal(small_open(&s, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "token 259: 2047 bytes"));
    small_chars(&s, (const char *const[]){"a", NULL});
    small_add(&s, big, TOKEN_USER, 0);
    assert_int_equal(small_open(&s, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "added token 260: 2047 bytes"));
    s.text[260].n = VOCAB_ADDED_MAX;
    assert_int_equal(small_open(&s, &err), 0);
    small_close(&s);
}

enum { SHORTEST = 6 }; /* each of these is there once only */

/* All tokens are stretches of one random string, so that every way to cut each of them is a merge: the time stays linear in the file, and
   more merges than a real vocabulary has are refused. */
static void scores_of_stretches(int starts, int longest, int want)
{
    int n = starts * (longest - SHORTEST + 1);
    uint64_t seed = 11;
    size_t total = (size_t)(starts + longest);
    char *string = malloc(total);
    struct bytes *text = malloc((size_t)n * sizeof *text);
    float *score = calloc((size_t)n, sizeof *score);
    struct vocab v;
    struct error err = {0};
    assert_true(string && text && score);
    for (size_t i = 0; i < total; i++)
        string[i] = (char)('a' + check_below(&seed, 26));
    for (int i = 0; i < n; i++)
        text[i] = (struct bytes){(const uint8_t *)string + i % starts, (size_t)(SHORTEST + i / starts)};
    struct vocab_tables t = {.model = "llama", .n = n, .text = text, .score = score, .bos = -1, .eos = -1, .unk = -1, .add_bos = 0, .add_eos = 0, .add_space_prefix = 0};
    clock_t start = clock();
    int rc = vocab_from_tables(&v, "FILE", &t, NULL, &err);
    struct tokenizer *tokenizer = rc < 0 ? NULL : tokenizer_open(&v, &err);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("%d tokens of up to %d bytes: %d in %.2f s\n", n, longest, rc, seconds);
    assert_int_equal(rc, want);
    if (want == 0)
        assert_non_null(tokenizer);
    else
        assert_non_null(strstr(err.text, "merges"));
    assert_true(seconds < 3);
    tokenizer_close(tokenizer);
    vocab_close(&v);
    free(string);
    free(text);
    free(score);
}

static void test_many_merges_from_scores(void **state)
{
    (void)state;
    scores_of_stretches(200, 100, 0);
    scores_of_stretches(20000, 16, 0);
    scores_of_stretches(400, VOCAB_PIECE_MAX, ERR_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_byte_piece), cmocka_unit_test(test_byte_level_pieces), cmocka_unit_test(test_merges_from_scores),
                                       cmocka_unit_test(test_overlong_piece), cmocka_unit_test(test_many_merges_from_scores)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
