/* SPDX-License-Identifier: Apache-2.0 */
/* The table of drafters. */
#include "toy_engine.h"

static void drafters_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(drafter_find("none"), &drafter_none);
    assert_ptr_equal(drafter_find("exit"), &drafter_exit);
    assert_null(drafter_find("exi"));
    assert_null(drafter_find(""));
    int n = 0;
    for (const struct drafter *d; (d = drafter_at(n)); n++)
        assert_true(d->help && *d->help && drafter_find(d->name) == d);
    assert_null(drafter_at(-1));
    assert_null(drafter_at(n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(drafters_are_found_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
