/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common.h"

static const struct option *find(const struct option *table, const char *name)
{
    while (table->names && strncmp(table->names, name, strlen(name)))
        table++;
    return table->names ? table : NULL;
}

/* The table of the command line must not lag behind the library. */
static void every_drafter_can_be_chosen(void **state)
{
    const char *name, *choices = find(draft_options, "drafter")->choices;
    (void)state;
    for (int i = 0; (name = lsk_drafter(i, NULL)); i++)
        if (!strstr(choices, name))
            fail_msg("drafter %s is missing in \"%s\"", name, choices);
}

static void escapes(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {{"a\\nb", "a\nb"},  {"\\t\\r", "\t\r"}, {"\\\\n", "\\n"}, {"\\x41\\x7a", "Az"}, {"\\x4", "\\x4"}, {"\\q", "\\q"},
                 {"end\\", "end\\"}, {"\\\"\\'", "\"'"}, {"", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        strcpy(text, cases[i].from);
        assert_int_equal(replace_escapes(text), strlen(cases[i].to));
        assert_string_equal(text, cases[i].to);
    }
    char zero[] = "a\\x00b";
    assert_int_equal(replace_escapes(zero), 3);
    assert_memory_equal(zero, "a\0b", 3);
}

static lsk_generate_options drafting(struct draft_args a, int expected)
{
    lsk_generate_options o = {0};
    lsk_error err;
    a.strategy = a.strategy ? a.strategy : "auto";
    a.drafter = a.drafter ? a.drafter : "auto";
    assert_int_equal(apply_drafting(&a, &o, &err), expected);
    return o;
}

static void drafting_as_asked(void **state)
{
    lsk_generate_options o = drafting((struct draft_args){.exit_layer = -1, .num_speculations = -1}, 0);
    (void)state;
    assert_string_equal(o.drafter, "auto");
    assert_int_equal(o.num_speculations, 0);
    o = drafting((struct draft_args){.exit_layer = 7, .num_speculations = -1}, 0);
    assert_string_equal(o.drafter, "auto"); /* what that is here, the library says */
    assert_int_equal(o.exit_layer, 7);
    o = drafting((struct draft_args){.exit_layer = -1, .num_speculations = 4}, 0);
    assert_string_equal(o.drafter, "auto");
    assert_int_equal(o.num_speculations, 4);
    o = drafting((struct draft_args){.exit_layer = 7, .num_speculations = 0}, 0);
    assert_int_equal(o.num_speculations, -1);
    o = drafting((struct draft_args){.exit_layer = -1, .num_speculations = -1, .strategy = "self-speculative"}, 0);
    assert_string_equal(o.drafter, "exit");
    o = drafting((struct draft_args){.exit_layer = 7, .num_speculations = -1, .strategy = "autoregressive"}, 0);
    assert_string_equal(o.drafter, "none");
    assert_int_equal(o.depth, 7); /* as in the original scripts */
    drafting((struct draft_args){.num_speculations = -1, .strategy = "self_speculative", .drafter = "none"}, LSK_EUSAGE);
    drafting((struct draft_args){.num_speculations = -1, .strategy = "autoregressive", .drafter = "exit"}, LSK_EUSAGE);
    drafting((struct draft_args){.exit_layer = 4, .depth = 4, .num_speculations = -1}, LSK_EUSAGE);
    drafting((struct draft_args){.exit_layer = 3, .depth = 4, .num_speculations = -1}, 0);
    drafting((struct draft_args){.exit_layer = 3, .depth = 4, .strategy = "autoregressive", .num_speculations = -1}, LSK_EUSAGE);
}

static float temperature(int sample, double temp, int expected)
{
    struct sampling_args a = {.sample = sample, .temperature = temp, .top_p = 1};
    lsk_generate_options o = {0};
    lsk_error err;
    assert_int_equal(apply_sampling(&a, &o, &err), expected);
    return o.temperature;
}

static void sampling_as_asked(void **state)
{
    (void)state;
    assert_true(temperature(0, 0, 0) == 0);
    assert_true(temperature(0, 0.5, 0) == 0.5f);
    assert_true(temperature(1, 0.5, 0) == 0.5f);
    assert_true(temperature(-1, 0.5, 0) == 0); /* as in the original scripts */
    temperature(1, 0, LSK_EUSAGE);
    static const double cuts[] = {1, 0, 1e-300, 0.9};
    static const float passed[] = {0, FLT_MIN, FLT_MIN, 0.9f}; /* 0 is off in the library, and the likeliest token alone on the command line */
    for (int i = 0; i < 4; i++) {
        struct sampling_args a = {.temperature = 1, .top_p = cuts[i]};
        lsk_generate_options o = {0};
        lsk_error err;
        assert_int_equal(apply_sampling(&a, &o, &err), 0);
        assert_true(o.top_p == passed[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_drafter_can_be_chosen), cmocka_unit_test(escapes), cmocka_unit_test(drafting_as_asked),
                                       cmocka_unit_test(sampling_as_asked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
