/* SPDX-License-Identifier: Apache-2.0 */
/* The table of drafters. */
#include "toy_engine.h"

static void drafters_are_found_by_name(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "exi", "exits", "+", "exit+", "+exit", "exit++ngram", "exit,ngram"};
    unsigned bits;
    assert_int_equal(drafters_find("none", &bits), 0);
    assert_int_equal(bits, 0);
    assert_int_equal(drafters_find("exit+ngram", &bits), 0);
    assert_int_equal(bits, DRAFT_EXIT | DRAFT_NGRAM);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_true(drafters_find(wrong[i], &bits) < 0);
    int n = 0;
    for (const struct drafter *d; (d = drafter_at(n)); n++) {
        assert_true(d->help && *d->help && !d->propose == !d->bit);
        assert_int_equal(drafters_find(d->name, &bits), 0);
        assert_int_equal(bits, d->bit);
    }
    assert_null(drafter_at(-1));
    assert_null(drafter_at(n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(drafters_are_found_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
