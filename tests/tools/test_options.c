/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "options.h"

struct inner {
    int count, loud, sample;
    double heat;
};
struct args {
    const char *model, *kind, *preset;
    struct inner inner;
    uint64_t seed;
    struct texts stop;
    struct numbers layers;
};

static const struct option top[] = {
    {"model m", OPT_TEXT, offsetof(struct args, model), "PATH", .help = "model"},
    {"kind", OPT_CHOICE, offsetof(struct args, kind), NULL, "auto", .choices = "auto none self_speculative", .help = "kind"},
    {"seed s", OPT_SEED, offsetof(struct args, seed), "N", "0", .help = "seed"},
    {"stop r", OPT_TEXTS, offsetof(struct args, stop), "TEXT", .help = "stop"},
    {"layers", OPT_NUMBERS, offsetof(struct args, layers), "LIST", "1,2", 1, 9, .help = "layers"},
    {"preset", OPT_CHOICE, offsetof(struct args, preset), NULL, .choices = "usual", .sets = "temp=0.6 count=5", .help = "preset"},
    {0}};
static const struct option nested[] = {{"count max-tokens n", OPT_INT, offsetof(struct inner, count), "N", "3", -1, 10, .help = "count"},
                                       {"loud", OPT_FLAG, offsetof(struct inner, loud), NULL, "on", .help = "loud"},
                                       {"sample", OPT_SAID, offsetof(struct inner, sample), "[True|False]", .sets = "temp=0.6", .help = "sample"},
                                       {"temp temperature", OPT_REAL, offsetof(struct inner, heat), "T", "0", 0, 100, .help = "heat"},
                                       {0}};
static const struct option_group groups[] = {{"top", top, 0}, {"nested", nested, offsetof(struct args, inner)}, {0}};

static struct args a;
static lsk_error err;

/* The command line is one string, parted by blanks. */
static int parse_with(const char *line, char *const *env)
{
    static char copy[1000];
    char *argv[32];
    int argc = 0;
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    memset(&a, 0, sizeof a);
    err = (lsk_error){0};
    return options_parse(groups, &a, "model", argc, argv, env, &err);
}
static int parse(const char *line)
{
    return parse_with(line, NULL);
}

static void defaults_and_values(void **state)
{
    (void)state;
    assert_int_equal(parse(""), 0);
    assert_null(a.model);
    assert_string_equal(a.kind, "auto");
    assert_int_equal(a.inner.count, 3);
    assert_int_equal(a.inner.loud, 1);
    assert_int_equal(a.layers.n, 2);
    assert_int_equal(parse("x.gguf --count=-1 --no-loud --temp .5 --seed 18446744073709551615 --layers 4-8+2"), 0);
    assert_string_equal(a.model, "x.gguf");
    assert_int_equal(a.inner.count, -1);
    assert_int_equal(a.inner.loud, 0);
    assert_true(a.inner.heat == .5);
    assert_true(a.seed == UINT64_MAX);
    assert_int_equal(a.layers.n, 3);
    assert_int_equal(a.layers.value[0], 4);
}

static void spellings(void **state)
{
    static const char *const same_thing[] = {"-n 7", "--n 7", "--count 7", "-count 7", "--max-tokens 7", "--max_tokens=7", "--max-tokens=7"};
    (void)state;
    for (size_t i = 0; i < sizeof same_thing / sizeof *same_thing; i++) {
        assert_int_equal(parse(same_thing[i]), 0);
        assert_int_equal(a.inner.count, 7);
    }
    assert_int_equal(parse("--kind self-speculative"), 0);
    assert_int_equal(parse("--no-kind"), 0);
    assert_string_equal(a.kind, "none");
    assert_int_equal(parse("--loud=off"), 0);
    assert_int_equal(a.inner.loud, 0);
    assert_int_equal(parse("-m --strange"), 0); /* a value may look like an option */
    assert_string_equal(a.model, "--strange");
    assert_int_equal(parse("-- -n"), 0);
    assert_string_equal(a.model, "-n");
}

static void refused(const char *line, const char *text)
{
    if (parse(line) != LSK_EUSAGE || !strstr(err.text, text) || strchr(err.text, '\n'))
        fail_msg("\"%s\": %d, \"%s\" lacks \"%s\"", line, err.code, err.text, text);
}

static void errors_name_flag_value_and_range(void **state)
{
    (void)state;
    refused("--max-tokens 11", "--max-tokens: \"11\" is out of range: give a whole number from -1 to 10");
    refused("--temp=hot", "--temp: \"hot\" is not a number: give a number from 0 to 100");
    refused("--temp 1,5", "\"1,5\" is not a number");
    refused("-n 99999999999999999999", "-n: \"99999999999999999999\" is out of range: give a whole number from -1 to 10");
    refused("-n 0.1", "-n: \"0.1\" must be a whole number from -1 to 10");
    refused("--temp 1e999", "is out of range: give a number from 0 to 100");
    refused("--layers 99999999999", "is out of range: give whole numbers from 1 to 9");
    refused("--layers 0.1", "is not a list of whole numbers");
    refused("--layers 3-12", "out of range");
    refused("--layers 3-", "is not a list");
    refused("--seed -2", "is not a seed");
    refused("--kind nonee", "none of: auto none self_speculative (did you mean none?)");
    refused("--loud=maybe", "neither on nor off");
    refused("-n", "-n needs a value: N");
    refused("--kind", "--kind needs a value, one of: auto none");
    refused("a b", "--model is given twice, \"a\" and \"b\": give one of them");
    refused("a --model=b", "--model is given twice, \"a\" and \"b\"");
    refused("-m a b", "--model is given twice, \"a\" and \"b\"");
    refused("-m a -m b", "--model is given twice");
    refused("--cuont 3", "did you mean --count?");
    refused("--coun 3", "unknown option \"--coun\": did you mean --count?"); /* no silent abbreviation */
    refused("--tempreature 3", "did you mean --temperature?");
    refused("--zzzzzzzz", "unknown option \"--zzzzzzzz\"");
    refused("--no-count", "unknown option");
    refused("--no-loud=on", "unknown option");
    refused("--line\nbreak\xff", "\\nbreak\\xFF");
}

static void environment_is_between_default_and_command_line(void **state)
{
    char *env[] = {(char *)"LAYERSKIP_COUNT=8", (char *)"LAYERSKIP_LOUD=0", (char *)"LAYERSKIP_STOP=env",
                   (char *)"LAYERSKIP_SEED=",   (char *)"OTHER=1",          NULL};
    char *bad[] = {(char *)"LAYERSKIP_COUNT=many", NULL};
    (void)state;
    assert_int_equal(parse_with("", env), 0);
    assert_int_equal(a.inner.count, 8);
    assert_int_equal(a.inner.loud, 0);
    assert_int_equal(a.stop.n, 1);
    assert_int_equal(parse_with("-n 2 --loud -r x -r y", env), 0);
    assert_int_equal(a.inner.count, 2);
    assert_int_equal(a.inner.loud, 1);
    assert_int_equal(a.stop.n, 2);
    assert_string_equal(a.stop.item[1], "y");
    assert_null(a.stop.item[2]);
    assert_int_equal(parse_with("", bad), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "LAYERSKIP_COUNT: \"many\""));
}

static void blamed(const char *line, char *const *env, const char *complaint, const char *expected)
{
    static char copy[100];
    char *argv[8];
    int argc = 0;
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    snprintf(err.text, sizeof err.text, "%s", complaint);
    options_blame(groups, &a, argc, argv, env, &err);
    assert_string_equal(err.text, expected);
}

static void a_bad_value_is_blamed_on_its_source(void **state)
{
    char *env[] = {(char *)"LAYERSKIP_COUNT=8", (char *)"LAYERSKIP_TEMP=", NULL};
    (void)state;
    blamed("m", env, "--count: 8: too many", "LAYERSKIP_COUNT: 8: too many");
    blamed("m -n 8", env, "--count: 8: too many", "--count: 8: too many");
    blamed("m --max_tokens=8", env, "--count: 8: too many", "--count: 8: too many");
    blamed("-- --count", env, "--count 8 is too many", "LAYERSKIP_COUNT 8 is too many");
    blamed("m", env, "--temp: 8", "--temp: 8");
    blamed("m", env, "count: 8", "count: 8");
    blamed("m", NULL, "--count: 8", "--count: 8");
}

static void presets_fill_what_is_not_given(void **state)
{
    char *env[] = {(char *)"LAYERSKIP_COUNT=8", NULL};
    (void)state;
    assert_int_equal(parse("--temp 2 --preset usual"), 0);
    assert_true(a.inner.heat == 2);
    assert_int_equal(a.inner.count, 5);
    assert_int_equal(parse_with("--preset usual", env), 0);
    assert_int_equal(a.inner.count, 8);
    assert_true(a.inner.heat == 0.6);
}

/* Said, denied or not said; with its value behind a blank too, as the original scripts write it. */
static void a_flag_that_was_said(void **state)
{
    static const struct {
        const char *line;
        int sample;
        double heat;
    } cases[] = {{"m", 0, 0},          {"--sample m", 1, 0.6},        {"--sample True m", 1, 0.6}, {"m --sample false", -1, 0.6}, {"m --no-sample", -1, 0.6},
                 {"--sample=off m", -1, 0.6}, {"m --sample --temp 0.3", 1, 0.3}, {"m --temp 0 --sample", 1, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(cases[i].line), OPTIONS_OK);
        assert_string_equal(a.model, "m");
        assert_int_equal(a.inner.sample, cases[i].sample);
        assert_true(a.inner.heat == cases[i].heat);
    }
    refused("m --sample=perhaps", "--sample: \"perhaps\" is neither on nor off");
}

static void too_many_texts(void **state)
{
    char *argv[2 * (TEXTS_MAX + 1)];
    (void)state;
    for (int i = 0; i <= TEXTS_MAX; i++) {
        argv[2 * i] = (char *)"-r";
        argv[2 * i + 1] = (char *)"x";
    }
    memset(&a, 0, sizeof a);
    assert_int_equal(options_parse(groups, &a, "", 2 * TEXTS_MAX, argv, NULL, &err), 0);
    memset(&a, 0, sizeof a);
    assert_int_equal(options_parse(groups, &a, "", 2 * (TEXTS_MAX + 1), argv, NULL, &err), LSK_EUSAGE);
}

static void huge_arguments_give_short_messages(void **state)
{
    char *huge = malloc(1 << 17), *argv[] = {huge, (char *)"1"};
    (void)state;
    assert_non_null(huge);
    memset(huge, '-', 1 << 17);
    huge[(1 << 17) - 1] = 0;
    memset(&a, 0, sizeof a);
    assert_int_equal(options_parse(groups, &a, "", 2, argv, NULL, &err), LSK_EUSAGE);
    assert_true(strlen(err.text) < 120);
    free(huge);
}

static void help_shows_every_option(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    (void)state;
    assert_int_equal(parse("--temp 1 --help"), OPTIONS_HELP);
    options_describe(f, groups);
    fclose(f);
    assert_non_null(strstr(text, "-m, --model PATH"));
    assert_non_null(strstr(text, "--kind auto|none|self_speculative"));
    assert_non_null(strstr(text, "-n, --count N"));
    assert_non_null(strstr(text, "[-1 to 10] (default 3); also --max-tokens"));
    assert_non_null(strstr(text, "--[no-]loud"));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 100);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_and_values),
                                       cmocka_unit_test(spellings),
                                       cmocka_unit_test(errors_name_flag_value_and_range),
                                       cmocka_unit_test(environment_is_between_default_and_command_line),
                                       cmocka_unit_test(a_bad_value_is_blamed_on_its_source),
                                       cmocka_unit_test(presets_fill_what_is_not_given),
                                       cmocka_unit_test(a_flag_that_was_said), cmocka_unit_test(too_many_texts),
                                       cmocka_unit_test(huge_arguments_give_short_messages),
                                       cmocka_unit_test(help_shows_every_option)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
