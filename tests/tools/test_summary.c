/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <jansson.h>

#include "summary.h"

static const lsk_model_info model = {.pass_bytes = 1000000000, .layer_bytes = 30000000, .head_bytes = 40000000, .n_layers = 32, .memory = {(uint64_t)3 << 29, 1 << 20, 2048, 100}};
static const lsk_stats drafted = {.prompt_tokens = 13,
                                  .cached_tokens = 2,
                                  .prompt_done = 12,
                                  .reply_tokens = 30,
                                  .prompt_ns = 100000000,
                                  .reply_ns = 2000000000,
                                  .rounds = 10,
                                  .drafted = 40,
                                  .accepted = 20,
                                  .drafted_at = {10, 10, 10, 10},
                                  .accepted_at = {9, 6, 4, 1},
                                  .reply_bytes = 24000000000,
                                  .depth = 32,
                                  .exit_layer = 8,
                                  .num_speculations = 4,
                                  .temperature = 0.6f,
                                  .seed = 42};
static const struct reply_facts facts = {LSK_FINISH_STOP, (uint64_t)2 << 30, "measured 2026-11-23", 40, 0.9, 0.05};

static char *print(void (*form)(FILE *, const lsk_stats *, const lsk_model_info *, const struct reply_facts *), const lsk_stats *s)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    form(f, s, &model, &facts);
    fclose(f);
    return text;
}

static void figures(void **state)
{
    struct figures f = figures_of(&drafted, &model);
    (void)state;
    assert_int_equal(f.evaluated, 10); /* 13, without the two in the cache and the last, which goes with the reply */
    assert_true(f.prompt_rate > 99.99 && f.prompt_rate < 100.01);
    assert_true(f.reply_rate > 14.99 && f.reply_rate < 15.01);
    assert_true(f.gb_per_s > 11.99 && f.gb_per_s < 12.01);
    assert_true(f.acceptance == 0.5);
    assert_true(f.length == 3);
    assert_true(f.reads > 0.799 && f.reads < 0.801);
}

static void nothing_divides_by_zero(void **state)
{
    lsk_stats none = {0};
    struct figures f = figures_of(&none, &model);
    char *text = print(summary_text, &none);
    (void)state;
    assert_true(f.prompt_rate == 0 && f.reply_rate == 0 && f.token_ms == 0 && f.gb_per_s == 0 && f.acceptance == 0 && f.length == 0 && f.reads == 0);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_null(strstr(text, "drafts  "));
    assert_null(strstr(text, "tokens/s"));
    assert_null(strstr(text, "depth"));
    assert_non_null(strstr(text, "sampling   greedy\n"));
    assert_non_null(strstr(text, "profile    measured 2026-11-23: plain decoding\n"));
    free(text);
    text = print(summary_json, &none);
    assert_non_null(strstr(text, "\"tokens_per_second\": null"));
    free(text);
}

/* As many as asked for, fewer, none; and no more positions than fit on a line. */
static void how_many_drafts(void **state)
{
    (void)state;
    lsk_stats s = drafted;
    char *text = print(summary_text, &s);
    assert_non_null(strstr(text, "\ndrafts     exit layer 8, 4 a round: acceptance rate 0.500 (20 accepted / 40 drafted), mean accepted length 3.00, by position (0.900, 0.600, 0.400, 0.100)\n"));
    free(text);
    s.num_speculations = 15;
    s.drafted_at[7] = s.drafted_at[8] = 2;
    text = print(summary_text, &s);
    assert_non_null(strstr(text, "exit layer 8, 4.0 a round, 15 at most: acceptance"));
    assert_non_null(strstr(text, ", 0.100, 0.000, 0.000, 0.000, 0.000, ...)\n"));
    free(text);
    s.drafted = s.accepted = 0;
    text = print(summary_text, &s);
    assert_non_null(strstr(text, "\ndrafts     none was worth its time in 10 rounds\n"));
    free(text);
}

static void a_prompt_without_a_reply(void **state)
{
    const lsk_stats whole = {.prompt_tokens = 6, .prompt_done = 5, .prompt_ns = 1000000}, stopped = {.prompt_tokens = 6, .prompt_done = 3, .prompt_ns = 1000000};
    char *text = print(summary_text, &whole);
    (void)state;
    assert_non_null(strstr(text, "prompt     6 tokens: 0 cached, 5 evaluated, the last not needed without a reply  1.0 ms  5000.0 tokens/s\nreply      0 tokens (stop string)\n"));
    free(text);
    text = print(summary_text, &stopped);
    assert_non_null(strstr(text, "0 cached, 3 evaluated  1.0 ms"));
    free(text);
}

static void what_is_not_the_default_is_named(void **state)
{
    lsk_stats cut = drafted;
    const lsk_memory without = {.scratch = 2048};
    char out[96];
    (void)state;
    cut.depth = 12;
    cut.num_speculations = 1;
    cut.reply_tokens = cut.prompt_tokens = 1;
    char *text = print(summary_text, &cut);
    assert_non_null(strstr(text, "depth      12 of 32 layers: not the text of the whole model\n"));
    assert_non_null(strstr(text, "exit layer 8, 1 draft in a round\n"));
    assert_non_null(strstr(text, "prompt     1 token: "));
    assert_non_null(strstr(text, "reply      1 token ("));
    free(text);
    assert_string_equal(scratch_text(&without, out, sizeof out), "scratch 2.00 KiB");
}

static void text_for_people(void **state)
{
    char *text = print(summary_text, &drafted);
    (void)state;
    assert_non_null(strstr(text, "prompt     13 tokens: 2 cached, 10 evaluated, the last with the reply  100.0 ms  100.0 tokens/s\n"));
    assert_non_null(strstr(text, "reply      30 tokens (stop string)  2000.0 ms  66.67 ms/token  15.00 tokens/s  12.00 GB/s\n"));
    assert_non_null(
        strstr(text, "acceptance rate 0.500 (20 accepted / 40 drafted), mean accepted length 3.00, by position (0.900, 0.600, 0.400, 0.100)\n"));
    assert_non_null(strstr(text, "sampling   temperature 0.6, top-k 40, top-p 0.9, min-p 0.05, seed 42\n"));
    assert_non_null(strstr(text, "profile    measured 2026-11-23: exit layer 8, 4 drafts in a round\n"));
    assert_non_null(strstr(text, "reads 0.80 times the weights that plain decoding reads: drafting can be up to 1.25 times as fast\n"));
    assert_non_null(strstr(text, "weights 1.50 GiB, KV cache 1.00 MiB, scratch 2.00 KiB (100 B of it there only for self-speculation); peak resident 2.00 GiB\n"));
    free(text);
}

static void waits_are_said_where_there_are_any(void **state)
{
    lsk_stats s = drafted;
    char *text = print(summary_text, &s);
    (void)state;
    assert_null(strstr(text, "waits"));
    free(text);
    s.waits = 60;
    text = print(summary_text, &s);
    assert_non_null(strstr(text, "\nwaits      the host waited 60 times for the device: 6.00 a round, 2.00 a token\n"));
    free(text);
    text = print(summary_json, &s);
    assert_non_null(strstr(text, "\"host_waits\": 60,"));
    free(text);
}

static void json_for_programs(void **state)
{
    char *text = print(summary_json, &drafted);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    (void)state;
    assert_non_null(j);
    assert_int_equal(json_integer_value(json_object_get(j, "accepted")), 20);
    assert_string_equal(json_string_value(json_object_get(j, "finish")), "stop string");
    assert_true(json_number_value(json_object_get(j, "tokens_per_second")) == 15);
    assert_int_equal(json_integer_value(json_object_get(j, "evaluated_tokens")), 10);
    assert_string_equal(json_string_value(json_object_get(j, "sampling")), "sampled");
    assert_true(json_number_value(json_object_get(j, "temperature")) == 0.6);
    assert_int_equal(json_integer_value(json_object_get(j, "seed")), 42);
    assert_int_equal(json_integer_value(json_object_get(j, "top_k")), 40);
    assert_true(json_number_value(json_object_get(j, "top_p")) == 0.9);
    assert_true(json_number_value(json_object_get(j, "min_p")) == 0.05);
    assert_int_equal(json_integer_value(json_object_get(j, "depth")), 32);
    assert_string_equal(json_string_value(json_object_get(j, "profile")), "measured 2026-11-23");
    json_decref(j);
    free(text);
    lsk_stats greedy = drafted;
    greedy.temperature = 0;
    text = print(summary_json, &greedy);
    assert_non_null(strstr(text, "\"sampling\": \"greedy\""));
    assert_null(strstr(text, "seed"));
    free(text);
}

static void peak_is_known(void **state)
{
    (void)state;
    assert_true(peak_rss() > 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(figures), cmocka_unit_test(nothing_divides_by_zero), cmocka_unit_test(how_many_drafts), cmocka_unit_test(a_prompt_without_a_reply),
                                       cmocka_unit_test(what_is_not_the_default_is_named), cmocka_unit_test(text_for_people),
                                       cmocka_unit_test(waits_are_said_where_there_are_any), cmocka_unit_test(json_for_programs), cmocka_unit_test(peak_is_known)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
