/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>
#include <string.h>

#include "decode/trust.h"

static void kinds_are_levels_of_a_family(void **state)
{
    (void)state;
    assert_int_equal(trust_kind(TRUST_EXIT, 0), TRUST_EXIT);
    assert_int_equal(trust_kind(TRUST_EXIT, 0.5f), TRUST_EXIT + TRUST_LEVELS / 2);
    assert_int_equal(trust_kind(TRUST_EXIT, 1), TRUST_FIRST - 1);
    assert_int_equal(trust_kind(TRUST_OTHER, 1.5f), TRUST_KINDS - 1);
    assert_int_equal(trust_kind(TRUST_FIRST, -1), TRUST_FIRST);
    assert_true(TRUST_KINDS <= UINT8_MAX);
}

static void chances_begin_as_a_guess_and_become_what_was_seen(void **state)
{
    (void)state;
    struct trust t = {0};
    for (int i = 0; i < TRUST_KINDS; i++)
        assert_true(trust_chance(&t, i) >= 0 && trust_chance(&t, i) < 1);
    assert_true(trust_chance(&t, NGRAM_MAX) > trust_chance(&t, NGRAM_MIN));
    assert_true(trust_chance(&t, trust_kind(TRUST_EXIT, 0.9f)) > trust_chance(&t, trust_kind(TRUST_EXIT, 0.1f)));
    float before = trust_chance(&t, 5), kin = trust_chance(&t, 6), other = trust_chance(&t, TRUST_EXIT + 6);
    for (int i = 0; i < 400; i++)
        trust_learn(&t, 5, i % 4 == 0);
    assert_true(fabsf(trust_chance(&t, 5) - 0.25f) < 0.03f);
    assert_true(trust_chance(&t, 6) < kin); /* a hint for what has not been tried */
    assert_true(trust_chance(&t, TRUST_EXIT + 6) == other);
    for (int i = 0; i < 30; i++)
        trust_learn(&t, 5, true); /* the text has changed */
    assert_true(trust_chance(&t, 5) > 0.45f);
    for (int i = 0; i < 10000; i++)
        trust_fade(&t);
    assert_true(fabsf(trust_chance(&t, 5) - before) < 1e-3f);
}

static void passes_of_the_exit_have_a_mean(void **state)
{
    (void)state;
    struct trust t = {0};
    assert_true(trust_exit(&t) > 0.5f); /* nothing is known: try */
    for (int i = 0; i < 400; i++)
        trust_found(&t, i % 2 ? 0.1f : 0.3f);
    assert_true(fabsf(trust_exit(&t) - 0.2f) < 0.03f);
    for (int i = 0; i < 10000; i++)
        trust_fade(&t);
    assert_true(trust_exit(&t) > 0.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds_are_levels_of_a_family), cmocka_unit_test(chances_begin_as_a_guess_and_become_what_was_seen), cmocka_unit_test(passes_of_the_exit_have_a_mean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
