/* SPDX-License-Identifier: Apache-2.0 */
/* The index of pairs against a search without one. */
#include "check.h"

#include <string.h>

#include "decode/ngram.h"

enum { N = 400 };

/* The longest ending of text[0..n) that ends earlier too, the last such place. */
static int search(const int32_t *text, int n, int *length)
{
    int best = 0;
    *length = NGRAM_MIN - 1;
    for (int p = n - 2; p > 0; p--) {
        int l = 0;
        while (l < NGRAM_MAX && l <= p && text[p - l] == text[n - 1 - l])
            l++;
        if (l > *length) {
            *length = l;
            best = p;
        }
    }
    return best;
}

static void check_all(struct ngram *g, const int32_t *text, int from, int n)
{
    for (int i = from; i <= n; i++) {
        int want_length, length, want = search(text, i, &want_length);
        ngram_extend(g, text, i - 1);
        assert_int_equal(ngram_match(g, text, i, &length), want);
        if (want)
            assert_int_equal(length, want_length);
    }
}

/* Few different tokens: many matches, and of all lengths; more than one search looks at only where the first it sees is long enough. */
static void matches_are_the_longest_and_last(void **state)
{
    (void)state;
    struct ngram g;
    int32_t text[N];
    uint64_t seed = 5;
    for (int kinds = 12; kinds < 60; kinds += 4) {
        assert_int_equal(ngram_open(&g, N, NULL), 0);
        for (int i = 0; i < N; i++)
            text[i] = i > 40 && check_below(&seed, 4) ? text[i - 37] : check_below(&seed, kinds);
        check_all(&g, text, 1, N);
        for (int cut = N - 1; cut >= 0; cut -= 57) { /* another text from there on */
            ngram_cut(&g, text, cut);
            for (int i = cut; i < N; i++)
                text[i] = check_below(&seed, kinds);
            check_all(&g, text, cut + 1, N);
        }
        ngram_close(&g);
    }
}

static void long_runs_are_found_at_once(void **state)
{
    (void)state;
    struct ngram g;
    int32_t text[N];
    int length;
    memset(text, 1, sizeof text);
    assert_int_equal(ngram_open(&g, N, NULL), 0);
    ngram_extend(&g, text, N - 1);
    assert_int_equal(ngram_match(&g, text, N, &length), N - 2);
    assert_int_equal(length, NGRAM_MAX);
    assert_int_equal(ngram_match(&g, text, 1, &length), 0);
    ngram_cut(&g, text, 0);
    assert_int_equal(ngram_match(&g, text, N, &length), 0);
    assert_true(ngram_bytes(N) >= N * sizeof(int32_t));
    ngram_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_are_the_longest_and_last), cmocka_unit_test(long_runs_are_found_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
