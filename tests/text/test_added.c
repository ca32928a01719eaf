/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "text/added.h"

static int by_text(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    int d = memcmp(x->text.p, y->text.p, x->text.n < y->text.n ? x->text.n : y->text.n);
    return d ? d : (x->text.n > y->text.n) - (x->text.n < y->text.n);
}

/* One after another. */
static size_t plain_match(const struct added_token *token, int n, const uint8_t *p, size_t size)
{
    size_t best = 0;
    for (int i = 0; i < n; i++)
        if (token[i].text.n <= size && token[i].text.n > best && memcmp(token[i].text.p, p, token[i].text.n) == 0)
            best = token[i].text.n;
    return best;
}

/* Texts over two bytes (0x00 and 0xff among them), short, and long ones that share up to 200 bytes. */
static void test_match_is_the_longest(void **state)
{
    enum { MANY = 60, LONG = 300 };
    static uint8_t room[MANY][LONG], text[LONG + 40];
    uint64_t seed = 9;
    int found = 0;
    (void)state;
    for (int round = 0; round < 4000; round++) {
        struct added_token token[MANY];
        struct added_set set;
        struct arena a = {0};
        uint8_t letter[2] = {(uint8_t)(round % 3 ? 'a' : 0), (uint8_t)(round % 5 ? 'b' : 0xff)};
        int n = check_below(&seed, MANY);
        size_t shared = round % 4 ? 0 : (size_t)check_below(&seed, 200);
        for (int i = 0; i < n; i++) {
            size_t size = shared + 1 + (size_t)check_below(&seed, round % 2 ? 4 : 12);
            for (size_t k = 0; k < size; k++)
                room[i][k] = k < shared ? letter[0] : letter[check_below(&seed, 2)];
            token[i] = (struct added_token){.id = i, .text = {room[i], size}};
        }
        qsort(token, (size_t)n, sizeof *token, by_text);
        assert_true(added_set_init(&set, &a, token, n));
        for (size_t k = 0; k < sizeof text; k++)
            text[k] = k < shared + 10 && round % 7 ? letter[0] : letter[check_below(&seed, 2)];
        for (size_t at = 0; at < sizeof text; at += 1 + (size_t)check_below(&seed, 9)) {
            size_t size = at % 2 ? sizeof text - at : 1 + (size_t)check_below(&seed, (int)(sizeof text - at));
            const struct added_token *got = added_set_match(&set, text + at, size);
            size_t want = plain_match(token, n, text + at, size);
            assert_int_equal(got ? got->text.n : 0, want);
            assert_true(!got || memcmp(got->text.p, text + at, want) == 0);
            found += got != NULL;
        }
        arena_free(&a);
    }
    assert_true(found > 10000);
}

static void test_empty_set(void **state)
{
    struct added_set set;
    struct arena a = {0};
    (void)state;
    assert_true(added_set_init(&set, &a, NULL, 0));
    assert_null(added_set_match(&set, (const uint8_t *)"a", 1));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_match_is_the_longest), cmocka_unit_test(test_empty_set)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
