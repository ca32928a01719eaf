/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding over exact integers: drafted text equals plain text for every exit, draft count, prompt and mixture of timelines; planted faults are caught by the same test. */
#include "toy_engine.h"

enum { ALL_DRAFTERS = DRAFT_NGRAM | DRAFT_EXIT | DRAFT_RECYCLE };

static struct request ask_for(unsigned drafters, int exit_layer, int n_drafts, int max_tokens, float temperature)
{
    return (struct request){.drafters = drafters, .exit_layer = exit_layer, .n_drafts = n_drafts, .depth = TOY_LAYERS, .max_tokens = max_tokens,
                            .sampling = {.temperature = temperature, .seed = 42}};
}

/* The tokens of one reply; returns how many. */
static int reply_of(enum toy_fault fault, int prompt, uint64_t seed, struct request ask, int32_t *out, struct stats *stats)
{
    struct toy *f = toy_setup(1, fault);
    f->kv->exit_layer = ask.exit_layer;
    toy_prompt(f, 0, prompt, seed, &ask);
    toy_finish(f);
    int n = f->t[0].n - prompt;
    memcpy(out, f->t[0].token + prompt, (size_t)n * sizeof *out);
    if (stats)
        *stats = f->t[0].stats;
    assert_int_equal(f->t[0].n_kv, f->t[0].n - 1);
    toy_teardown(f);
    return n;
}

/* How many of the streams differ from plain decoding. */
static int count_different(enum toy_fault fault, unsigned drafters, bool weighed, float temperature)
{
    static const int prompts[] = {1, 2, 5, 17, 40};
    int different = 0, alone = drafters == DRAFT_EXIT && !SANITIZED, exits = drafters & DRAFT_EXIT ? TOY_LAYERS : 2;
    for (size_t p = 0; p < sizeof prompts / sizeof *prompts; p++) {
        int32_t plain[200], drafted[200];
        assert_int_equal(reply_of(TOY_NO_FAULT, prompts[p], p, ask_for(0, 0, 0, 150, temperature), plain, NULL), 150);
        for (int e = 1; e < exits; e += alone ? 1 : 3)
            for (int d = 0; d <= TOY_DRAFTS; d += alone && d < 12 ? 1 : d < 12 ? 4 : 10) {
                struct request ask = ask_for(drafters, e, d, 150, temperature);
                ask.weighed = weighed;
                int n = reply_of(fault, prompts[p], p, ask, drafted, NULL);
                different += n != 150 || memcmp(plain, drafted, sizeof *plain * 150) != 0;
            }
    }
    return different;
}

static void drafted_text_equals_plain_text(void **state)
{
    (void)state;
    for (unsigned drafters = 1; drafters <= ALL_DRAFTERS; drafters++)
        for (int k = 0; k < 4; k++)
            assert_int_equal(count_different(TOY_NO_FAULT, drafters, k / 2, (float)(k % 2)), 0);
}

static void planted_faults_are_caught(void **state)
{
    (void)state;
    assert_true(count_different(TOY_SKIP_EARLY, DRAFT_EXIT, false, 0) > 0);
    assert_true(count_different(TOY_STALE_SLOT, DRAFT_EXIT, false, 0) > 0);
    assert_true(count_different(TOY_NOISE_KEY, DRAFT_EXIT, false, 1) > 0);
    assert_true(count_different(TOY_SIBLING, DRAFT_RECYCLE, false, 0) > 0); /* what only trees can get wrong */
    assert_true(count_different(TOY_NO_MOVE, DRAFT_RECYCLE, false, 0) > 0);
}

static void statistics_add_up(void **state)
{
    (void)state;
    int32_t out[200];
    struct stats s;
    reply_of(TOY_NO_FAULT, 9, 3, ask_for(DRAFT_EXIT, 3, 4, 150, 0), out, &s);
    int drafted = 0, accepted = 0;
    for (int i = 0; i < DRAFTS_MAX; i++) {
        drafted += s.drafted_at[i];
        accepted += s.accepted_at[i];
        assert_true(s.accepted_at[i] <= s.drafted_at[i]);
    }
    assert_int_equal(drafted, s.drafted);
    assert_int_equal(accepted, s.accepted);
    assert_int_equal(s.reply_tokens, s.rounds + s.accepted); /* each round gives its accepted drafts and one token more */
    assert_true(s.accepted > s.drafted / 4 && s.accepted < s.drafted);
    assert_true(s.drafted >= 4 * (s.rounds - 2)); /* drafts behind the first mismatch count; only the last rounds may draft fewer */
    for (int i = 1; i < 4; i++)
        assert_true(s.accepted_at[i] <= s.accepted_at[i - 1]);
    assert_int_equal(s.prompt_tokens, 9);
}

/* Timelines that differ in everything share rounds; each has the text that it has alone. */
static void neighbours_change_nothing(void **state)
{
    (void)state;
    struct toy *f = toy_setup(4, TOY_NO_FAULT);
    static const struct {
        int prompt, exit_layer, drafts, max;
        float temperature;
    } who[4] = {{30, 2, 4, 120, 0}, {1, 5, 12, 60, 1}, {7, 1, 1, 90, 0}, {50, 3, 0, 150, 1}};
    for (int i = 0; i < 4; i++) {
        struct request ask = ask_for(i == 3 ? 0 : DRAFT_EXIT, who[i].exit_layer, who[i].drafts, who[i].max, who[i].temperature);
        toy_prompt(f, i, who[i].prompt, (uint64_t)i, &ask);
    }
    toy_finish(f);
    for (int i = 0; i < 4; i++) {
        int32_t alone[200];
        int n = reply_of(TOY_NO_FAULT, who[i].prompt, (uint64_t)i, ask_for(0, 1, 0, who[i].max, who[i].temperature), alone, NULL);
        assert_int_equal(f->t[i].n, who[i].prompt + n);
        assert_memory_equal(f->t[i].token + who[i].prompt, alone, (size_t)n * sizeof *alone);
    }
    toy_teardown(f);
}

/* With no drafts, a round is one pass over the layers; with d it is d passes over the first and one over the rest. */
static void passes_are_as_few_as_they_can_be(void **state)
{
    (void)state;
    for (int d = 0; d <= 4; d++) {
        struct toy *f = toy_setup(1, TOY_NO_FAULT);
        struct request ask = ask_for(DRAFT_EXIT, 2, d, 1000, 0);
        toy_prompt(f, 0, 1, 5, &ask);
        struct timeline *t = &f->t[0];
        assert_int_equal(round_run(&f->engine, &t, 1, NULL), 0);
        assert_int_equal(f->kv->forwards, d == 0 ? 1 : d + 2);                     /* d drafts, the last draft's first layers, the rest */
        assert_int_equal(f->kv->rows, d == 0 ? 1 : d + 1 + (d + 1));
        assert_int_equal(f->kv->picks, d + 1);
        toy_teardown(f);
    }
}

/* The context fills to its last token, and replies of few tokens end at the last, whatever the drafts. */
static void limits_are_met_exactly(void **state)
{
    (void)state;
    static const int budgets[] = {0, 1, 2, 3, 9, DRAFTS_MAX};
    for (int i = 0; i < 2 * (ALL_DRAFTERS + 1) * (int)(sizeof budgets / sizeof *budgets); i++) {
        struct request ask = ask_for((unsigned)i / 2 % (ALL_DRAFTERS + 1), 4, budgets[i / 2 / (ALL_DRAFTERS + 1)], 100000, 0);
        struct toy *f = toy_setup(1, TOY_NO_FAULT);
        ask.weighed = i % 2;
        toy_prompt(f, 0, 230, 6, &ask);
        toy_finish(f);
        assert_int_equal(f->t[0].n, TOY_SLOTS);
        assert_int_equal(f->t[0].reply.finish, REPLY_CONTEXT);
        ask.max_tokens = 1 + i % 5;
        toy_prompt(f, 0, 3 + i % 7, 6, &ask);
        toy_finish(f);
        assert_int_equal(f->t[0].stats.reply_tokens, ask.max_tokens);
        assert_int_equal(f->t[0].reply.finish, REPLY_LENGTH);
        toy_teardown(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafted_text_equals_plain_text),       cmocka_unit_test(planted_faults_are_caught),
        cmocka_unit_test(statistics_add_up),                    cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(passes_are_as_few_as_they_can_be),     cmocka_unit_test(limits_are_met_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
