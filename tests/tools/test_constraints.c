/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "constraints.h"

static void biases_are_an_id_and_a_signed_number(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t token;
        float bias;
    } good[] = {{"15043+1", 15043, 1}, {"0-1.5", 0, -1.5f}, {"7-inf", 7, -INFINITY}, {"2147483647+2e1", INT32_MAX, 20}, {"3+0", 3, 0}};
    static const char *const bad[] = {"", "5", "+1", "5+", "5-", "5+-1", "5--1", "5+inf", "5-infinity", "5 +1", "2147483648+1", "99999999999999999999+1", "x+1", "5+nan", "5:1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        lsk_logit_bias b = {-1, 0};
        assert_int_equal(read_bias(good[i].text, &b), 0);
        assert_true(b.token == good[i].token && b.bias == good[i].bias);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lsk_logit_bias b;
        if (!read_bias(bad[i], &b))
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void options_become_the_librarys(void **state)
{
    (void)state;
    struct limit_args a = {.repeat = 1.2, .presence = .5, .frequency = .25, .last_n = 32, .bias = {2, {"5+1", "6-inf"}}, .schema = "{}"};
    struct limit_values own = {.text = NULL};
    lsk_generate_options o = {.top_k = 3};
    lsk_error err;
    assert_int_equal(apply_limits(&a, &own, &o, &err), 0);
    assert_true(o.repeat_penalty == 1.2f && o.presence_penalty == .5f && o.frequency_penalty == .25f && o.repeat_last_n == 32 && o.top_k == 3);
    assert_true(o.n_logit_bias == 2 && o.logit_bias[0].token == 5 && o.logit_bias[1].bias == -INFINITY);
    assert_string_equal(o.json_schema, "{}");
    assert_null(o.grammar);
    free_limits(&own);
    a = (struct limit_args){.repeat = 1.2, .presence = .5, .frequency = .25, .last_n = 0, .grammar = "root ::= \"a\""};
    assert_int_equal(apply_limits(&a, &own, &o, &err), 0);
    lsk_generate_options asked = without_window(&o); /* a window of nothing */
    assert_true(asked.repeat_penalty == 0 && asked.presence_penalty == 0 && asked.frequency_penalty == 0);
    assert_true(o.repeat_last_n == 0 && o.repeat_penalty == 1.2f && o.presence_penalty == .5f); /* which another window brings back */
    o.repeat_last_n = -1;
    asked = without_window(&o);
    assert_true(asked.repeat_penalty == 1.2f && asked.presence_penalty == .5f && asked.frequency_penalty == .25f && asked.repeat_last_n == -1);
    assert_string_equal(o.grammar, "root ::= \"a\"");
    free_limits(&own);
    a = (struct limit_args){.grammar = "a", .grammar_file = "b"};
    assert_int_equal(apply_limits(&a, &own, &o, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "both --grammar and --grammar-file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(biases_are_an_id_and_a_signed_number), cmocka_unit_test(options_become_the_librarys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
