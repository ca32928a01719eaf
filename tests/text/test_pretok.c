/* SPDX-License-Identifier: Apache-2.0 */
/* The scanners are held to the reference library on megabytes in test_conformance.c; here is one row for every rule. */
#include "check.h"

#include <string.h>
#include <time.h>

#include "text/pretok.h"

static void check(enum pretok kind, const char *text, const char *words)
{
    char out[512];
    size_t n = strlen(text), to = 0;
    for (size_t at = 0, len; at < n; at += len) {
        len = pretok_word(kind, (const uint8_t *)text + at, n - at);
        assert_true(len > 0 && len <= n - at);
        if (at)
            out[to++] = '/';
        memcpy(out + to, text + at, len);
        to += len;
    }
    out[to] = 0;
    assert_string_equal(out, words);
}

static void test_gpt2(void **state)
{
    (void)state;
    check(PRETOK_GPT2, "Hello world", "Hello/ world");
    check(PRETOK_GPT2, "I'll don't I'LL 'tis", "I/'ll/ don/'t/ I/'/LL/ '/tis");
    check(PRETOK_GPT2, "a  b   ", "a/ / b/   ");
    check(PRETOK_GPT2, "x \n y\t\tz", "x/ \n/ y/\t/\t/z");
    check(PRETOK_GPT2, "in 2024: 3.14 !?", "in/ 2024/:/ 3/./14/ !?");
    check(PRETOK_GPT2, "\xc3\xa9t\xc3\xa9\xe3\x80\x80x\xc2\xa0y", "\xc3\xa9t\xc3\xa9/\xe3\x80\x80/x/\xc2\xa0/y");
}

static void test_smollm(void **state)
{
    (void)state;
    check(PRETOK_SMOLLM, "in 2024  3a", "in/ /2/0/2/4/  /3/a");
    check(PRETOK_SMOLLM, "a 1 b", "a/ /1/ b");
    check(PRETOK_SMOLLM, "\xc2\xbd's", "\xc2\xbd/'s");
}

static void test_llama3(void **state)
{
    (void)state;
    check(PRETOK_LLAMA3, "I'LL don't", "I/'LL/ don/'t");
    check(PRETOK_LLAMA3, "it'\xc5\xbf", "it/'\xc5\xbf");
    check(PRETOK_LLAMA3, "12345 678", "123/45/ /678");
    check(PRETOK_LLAMA3, "(foo).bar !?\n\nx", "(foo/)./bar/ !?\n\n/x");
    check(PRETOK_LLAMA3, "a \n \n  b", "a/ \n \n/ / b");
    check(PRETOK_LLAMA3, "a\tb\r\nc   ", "a/\tb/\r\n/c/   ");
}

static void test_spaces_and_none(void **state)
{
    (void)state;
    check(PRETOK_SPACES, "\xe2\x96\x81""ab\xe2\x96\x81\xe2\x96\x81""c", "\xe2\x96\x81""ab/\xe2\x96\x81/\xe2\x96\x81""c");
    check(PRETOK_NONE, "a b", "a b");
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(pretok_by_name("smollm"), PRETOK_SMOLLM);
    assert_int_equal(pretok_by_name("llama-bpe"), PRETOK_LLAMA3);
    assert_int_equal(pretok_by_name("default"), PRETOK_UNKNOWN);
    assert_int_equal(pretok_by_regex((struct bytes){(const uint8_t *)"\\s+", 3}), PRETOK_UNKNOWN);
}

/* Every word looks at few bytes behind its end: 4 MB of anything take well below a second. */
static void item_37_long_runs_are_linear(void **state)
{
    static char text[4 << 20];
    static const char fill[] = " a^\n1'\t";
    (void)state;
    for (size_t f = 0; f < sizeof fill - 1; f++)
        for (int kind = PRETOK_GPT2; kind <= PRETOK_LLAMA3; kind++) {
            memset(text, fill[f], sizeof text);
            text[sizeof text - 1] = 'x';
            clock_t start = clock();
            for (size_t at = 0; at < sizeof text;)
                at += pretok_word((enum pretok)kind, (const uint8_t *)text + at, sizeof text - at);
            assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 3);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),  cmocka_unit_test(test_smollm), cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_spaces_and_none), cmocka_unit_test(test_names),  cmocka_unit_test(item_37_long_runs_are_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
