/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

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
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_byte_piece), cmocka_unit_test(test_byte_level_pieces), cmocka_unit_test(test_merges_from_scores),
                                       cmocka_unit_test(test_overlong_piece)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
