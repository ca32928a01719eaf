/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>

#include "train/frequent.h"

enum { VOCAB = 2000 };

static uint64_t count[VOCAB];
static int64_t list[VOCAB];

static void expect(struct frequent f, int n, int n_seen, uint64_t tokens, uint64_t covered)
{
    assert_int_equal(f.n, n);
    assert_int_equal(f.n_seen, n_seen);
    assert_int_equal(f.tokens, tokens);
    assert_int_equal(f.covered, covered);
}

static void the_most_frequent_come_first(void **state)
{
    (void)state;
    static const uint64_t few[] = {5, 0, 9, 5, 1, 0, 9};
    static const int64_t order[] = {2, 6, 0, 3, 4};
    expect(frequent_tokens(few, 7, 3, list), 3, 5, 29, 23);
    assert_memory_equal(list, order, sizeof order);
    expect(frequent_tokens(few, 7, 100, list), 5, 5, 29, 29); /* none that is not there */
    expect(frequent_tokens(few, 7, 0, list), 5, 5, 29, 29);
    expect(frequent_tokens((uint64_t[7]){0}, 7, 0, list), 0, 0, 0, 0);
}

/* By steps of 256, to 99 of 100. */
static void coverage_says_how_many(void **state)
{
    (void)state;
    for (int i = 0; i < VOCAB; i++)
        count[i] = 1;
    expect(frequent_tokens(count, VOCAB, 0, list), 2000, 2000, 2000, 2000); /* 1792 are 89.6 %, 2048 there are not */
    for (int i = 0; i < 300; i++)
        count[VOCAB - 1 - i] = 1000;
    expect(frequent_tokens(count, VOCAB, 0, list), 512, 2000, 301700, 300212); /* 299.9 are enough, but not 256 */
    assert_int_equal(list[0], 1700);
    assert_int_equal(list[300], 0);
    count[0] = 100000000;
    expect(frequent_tokens(count, VOCAB, 0, list), 256, 2000, 100301699, 100255000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_most_frequent_come_first), cmocka_unit_test(coverage_says_how_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
