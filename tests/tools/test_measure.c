/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "measure.h"

static struct samples of(int n, const double *v)
{
    struct samples s = {0};
    for (int i = 0; i < n; i++)
        samples_add(&s, v[i]);
    return s;
}

static void few_samples(void **state)
{
    struct samples none = {0}, one = of(1, (double[]){3});
    (void)state;
    assert_true(samples_mean(&none) == 0 && samples_median(&none) == 0 && samples_spread(&none) == 0 && samples_ratio(&none, &none) == 0);
    assert_true(samples_mean(&one) == 3 && samples_median(&one) == 3 && samples_spread(&one) == 0);
}

static void known_values(void **state)
{
    struct samples s = of(4, (double[]){5, 1, 9, 1}), t = of(3, (double[]){9, 1, 2});
    (void)state;
    assert_true(samples_mean(&s) == 4);
    assert_true(samples_median(&s) == 3);
    assert_true(samples_median(&t) == 2);
    assert_true(fabs(samples_spread(&s) - sqrt(44.0 / 3)) < 1e-12);
}

static void ratios_are_of_pairs(void **state)
{
    struct samples a = of(3, (double[]){20, 200, 30}), b = of(3, (double[]){10, 100, 10});
    (void)state;
    assert_true(samples_ratio(&a, &b) == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_samples), cmocka_unit_test(known_values), cmocka_unit_test(ratios_are_of_pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
