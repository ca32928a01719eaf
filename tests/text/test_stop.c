/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "text/stop.h"

static struct bytes as_bytes(const char *s) { return (struct bytes){(const uint8_t *)s, strlen(s)}; }

/* Runs `in` through the stops, cut as the seed says (0: byte by byte), and flushes at the end. */
static void feed(struct stop *s, const char *in, uint64_t seed, char *out)
{
    size_t n = strlen(in), size = 0;
    for (size_t at = 0, k; at < n; at += k) {
        char part[STOP_BYTES_MAX + 64];
        k = seed ? 1 + (size_t)check_below(&seed, 5) : 1;
        k = k > n - at ? n - at : k;
        size_t got = stop_push(s, in + at, k, part);
        assert_true(got <= k + STOP_BYTES_MAX);
        memcpy(out + size, part, got);
        size += got;
    }
    if (!s->found)
        size += stop_flush(s, out + size);
    out[size] = 0;
}

static void check(const char *const *stops, int n, const char *in, const char *want, bool found)
{
    struct stop s;
    struct bytes b[STOP_MAX] = {{0}};
    char out[512];
    for (int i = 0; i < n; i++)
        b[i] = as_bytes(stops[i]);
    for (uint64_t seed = 0; seed < 20; seed++) {
        assert_int_equal(stop_open(&s, b, n, NULL), 0);
        feed(&s, in, seed, out);
        assert_string_equal(out, want);
        assert_int_equal(s.found, found);
        stop_close(&s);
    }
}

static void item_41_cut_exactly_across_pushes(void **state)
{
    (void)state;
    check((const char *[]){"STOP"}, 1, "text STOP more", "text ", true);
    check((const char *[]){"STOP"}, 1, "text STO", "text STO", false); /* held back, flushed at the end */
    check((const char *[]){"STOP"}, 1, "SSTSTOSTOP", "SSTSTO", true);
    check((const char *[]){"aab"}, 1, "aaaaab", "aaa", true);
    check((const char *[]){"abab", "b"}, 2, "xabab", "xa", true); /* the one that is complete first */
    check((const char *[]){"abcd", "bce"}, 2, "xabce", "xa", true);
    check((const char *[]){"c", "abc"}, 2, "xabc", "x", true); /* complete together: the longer */
    check((const char *[]){"\n\n", "User:"}, 2, "a\nUse\n\nb", "a\nUse", true);
    check((const char *[]){"\xe2\x82\xac"}, 1, "5 \xe2\x82\xad \xe2\x82\xac", "5 \xe2\x82\xad ", true); /* a shared lead is given out again */
    check(NULL, 0, "anything", "anything", false);
}

static void item_41_nothing_that_may_start_a_stop_is_given_out(void **state)
{
    struct stop s;
    struct bytes b[] = {as_bytes("</end>")};
    char out[STOP_BYTES_MAX + 16];
    (void)state;
    assert_int_equal(stop_open(&s, b, 1, NULL), 0);
    assert_int_equal(stop_push(&s, "ab</", 4, out), 2);
    assert_int_equal(stop_push(&s, "en", 2, out), 0);
    assert_int_equal(stop_push(&s, "x", 1, out), 5);
    assert_memory_equal(out, "</enx", 5);
    assert_int_equal(stop_push(&s, "</end>zzz", 9, out), 0);
    assert_true(s.found);
    assert_int_equal(stop_push(&s, "more", 4, out), 0);
    assert_int_equal(stop_flush(&s, out), 0);
    stop_close(&s);
}

static void item_41_refused(void **state)
{
    struct stop s;
    struct error err = {0};
    static uint8_t big[1 << 20];
    struct bytes b[STOP_MAX + 1];
    (void)state;
    memset(big, 'a', sizeof big);
    for (int i = 0; i <= STOP_MAX; i++)
        b[i] = as_bytes("x");
    assert_int_equal(stop_open(&s, b, STOP_MAX + 1, &err), ERR_USAGE);
    b[1] = as_bytes("");
    assert_int_equal(stop_open(&s, b, 2, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "stop string 1"));
    b[1] = (struct bytes){big, sizeof big};
    assert_int_equal(stop_open(&s, b, 2, &err), ERR_USAGE);
    b[1] = as_bytes("\xe2\x82");
    assert_int_equal(stop_open(&s, b, 2, &err), ERR_USAGE);
}

/* Against a search in the whole text: the stop that ends first, the longest of those. */
static void item_41_random_against_plain_search(void **state)
{
    uint64_t seed = 3;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        char stops[4][8], in[64], want[64], *list[4];
        int n = 1 + check_below(&seed, 4), len = check_below(&seed, 60);
        for (int i = 0; i < n; i++) {
            int k = 1 + check_below(&seed, 6);
            for (int j = 0; j < k; j++)
                stops[i][j] = (char)('a' + check_below(&seed, 2));
            stops[i][k] = 0;
            list[i] = stops[i];
        }
        for (int j = 0; j < len; j++)
            in[j] = (char)('a' + check_below(&seed, 3) % 2 + (check_below(&seed, 9) == 0));
        in[len] = 0;
        strcpy(want, in);
        bool found = false;
        for (int end = 1; end <= len && !found; end++)
            for (int i = 0; i < n; i++) {
                int k = (int)strlen(stops[i]);
                if (k <= end && memcmp(in + end - k, stops[i], (size_t)k) == 0) {
                    found = true;
                    if ((size_t)(end - k) < strlen(want))
                        want[end - k] = 0;
                }
            }
        check((const char *const *)list, n, in, want, found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_41_cut_exactly_across_pushes),
        cmocka_unit_test(item_41_nothing_that_may_start_a_stop_is_given_out),
        cmocka_unit_test(item_41_refused),
        cmocka_unit_test(item_41_random_against_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
