/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

#include "decode/pace.h"

static bool near(double a, double b) { return fabs(a - b) < 1e-6 * fabs(b) + 1e-9; }

static void unknown_costs_come_from_their_neighbours(void **state)
{
    (void)state;
    struct pace p = {0};
    struct cost *c = &p.layer;
    assert_true(pace_cost(&p, c, 1) == 0 && pace_cost(&p, c, ROWS_MAX) == 0);
    pace_note(&p, c, 1, 10, 16000); /* one layer: 1600 ns */
    assert_true(near(pace_cost(&p, c, 1), 1600));
    assert_true(near(pace_cost(&p, c, 5), 2000));
    pace_note(&p, c, 5, 1, 3600);
    assert_true(near(pace_cost(&p, c, 3), 2600));  /* between */
    assert_true(near(pace_cost(&p, c, 9), 5600));  /* and beyond */
    assert_true(near(pace_cost(&p, c, ROWS_MAX + 3), 1600 + 500.0 * (ROWS_MAX + 2)));
    struct pace few = {0};
    pace_note(&few, &few.layer, 5, 1, 2000);
    assert_true(near(pace_cost(&few, &few.layer, 1), 1600));
    pace_note(&few, &few.layer, 1, 1, 2500); /* less for more rows is noise: no row is paid for */
    assert_true(near(pace_cost(&few, &few.layer, 3), 2500));
    assert_true(near(p.spent, 16000 + 3600));
    pace_note(&p, c, 0, 1, 5);
    pace_note(&p, c, ROWS_MAX + 1, 1, 5);
    pace_note(&p, c, 1, 0, 5);
    assert_true(near(pace_cost(&p, c, 1), 1600));
}

static void measurements_are_smoothed_and_grow_old(void **state)
{
    (void)state;
    struct pace p = {0};
    struct cost *c = &p.head;
    pace_note(&p, c, 2, 1, 1000);
    pace_note(&p, c, 2, 1, 1000000); /* the thread was away */
    assert_true(pace_cost(&p, c, 2) < 1200);
    for (int i = 0; i < 100; i++)
        pace_note(&p, c, 2, 1, 800);
    assert_true(fabs(pace_cost(&p, c, 2) - 800) < 1);
    for (int i = 0; i < 600; i++)
        pace_round(&p, 1);
    assert_true(pace_cost(&p, c, 2) == 0);
    pace_note(&p, c, 2, 1, 300); /* the old one has no part in it */
    assert_true(near(pace_cost(&p, c, 2), 300));
}

static void the_rate_is_that_of_plain_decoding_at_least(void **state)
{
    (void)state;
    struct pace p = {0};
    assert_true(pace_rate(&p, 4) == 0);
    for (int i = 0; i < 200; i++) {
        pace_note(&p, &p.layer, 1, 4, 4000);
        pace_note(&p, &p.head, 1, 1, 1000);
        pace_round(&p, 3);
    }
    assert_true(near(pace_rate(&p, 4), 3.0 / 5000));
    for (int i = 0; i < 400; i++) { /* drafting that does not pay */
        pace_note(&p, &p.layer, 1, 4, 4000);
        pace_note(&p, &p.head, 1, 1, 1000);
        p.spent += 5000;
        pace_round(&p, 1);
    }
    assert_true(near(pace_rate(&p, 4), 1.0 / 5000));
}

static void queued_passes_share_the_wait_by_their_bytes(void **state)
{
    (void)state;
    struct pace p = {0};
    pace_queue(&p, &p.layer, 1, 10, 900, 1000);
    pace_queue(&p, &p.head, 1, 1, 100, 1500);
    pace_drain(&p, 11000);
    assert_true(near(pace_cost(&p, &p.layer, 1), 900) && near(pace_cost(&p, &p.head, 1), 1000) && near(p.spent, 10000));
    pace_drain(&p, 99000); /* nothing was queued */
    assert_true(near(p.spent, 10000));
    pace_queue(&p, &p.layer, 2, 10, 0, 0); /* a pass that reads nothing takes none of the time */
    pace_drain(&p, 5);
    assert_true(near(p.spent, 10000));
    for (int i = 0; i < 2 * QUEUED_MAX; i++)
        pace_queue(&p, &p.layer, 3, 1, 10, i);
    assert_int_equal(p.n_queued, QUEUED_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(unknown_costs_come_from_their_neighbours), cmocka_unit_test(queued_passes_share_the_wait_by_their_bytes), cmocka_unit_test(measurements_are_smoothed_and_grow_old),
                                       cmocka_unit_test(the_rate_is_that_of_plain_decoding_at_least)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
