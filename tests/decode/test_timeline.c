/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_engine.h"

static struct request plain(int depth, int max_tokens) { return (struct request){.depth = depth, .max_tokens = max_tokens}; }

static void a_prompt_must_fit(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    int32_t tokens[TOY_SLOTS + 1] = {0};
    struct request ask = plain(TOY_LAYERS, 5);
    struct error err = {0};
    assert_int_equal(timeline_prompt(&f->t[0], &f->engine, tokens, 0, &ask, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "empty"));
    assert_int_equal(timeline_prompt(&f->t[0], &f->engine, tokens, TOY_SLOTS, &ask, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "256"));
    assert_int_equal(timeline_prompt(&f->t[0], &f->engine, tokens, TOY_SLOTS - 1, &ask, &err), 0);
    toy_teardown(f);
}

/* The common prefix is kept, never the pending token's place, and nothing of another depth. */
static void a_prefix_is_reused(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct timeline *t = &f->t[0];
    struct request ask = plain(TOY_LAYERS, 10);
    toy_prompt(f, 0, 20, 1, &ask);
    assert_int_equal(t->stats.cached_tokens, 0);
    toy_finish(f);
    int32_t tokens[64];
    int n = t->n;
    memcpy(tokens, t->token, (size_t)n * sizeof *tokens);
    struct reply_rules rules = {0};
    reply_start(&t->reply, &rules, NULL);
    assert_int_equal(timeline_prompt(t, &f->engine, tokens, n, &ask, NULL), 0);
    assert_int_equal(t->stats.cached_tokens, n - 1);
    tokens[12]++;
    assert_int_equal(timeline_prompt(t, &f->engine, tokens, n, &ask, NULL), 0);
    assert_int_equal(t->stats.cached_tokens, 12);
    assert_int_equal(t->n_kv, 12);
    struct request shallow = plain(3, 10);
    assert_int_equal(timeline_prompt(t, &f->engine, tokens, n, &shallow, NULL), 0);
    assert_int_equal(t->stats.cached_tokens, 0);
    toy_teardown(f);
}

/* Text after a reused prefix is the text after a fresh one. */
static void reuse_changes_no_text(void **state)
{
    (void)state;
    struct toy *a = toy_setup(1, TOY_NO_FAULT), *b = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 2, .n_drafts = 5, .depth = TOY_LAYERS, .max_tokens = 40};
    toy_prompt(a, 0, 30, 1, &ask);
    toy_finish(a);
    toy_prompt(a, 0, 50, 1, &ask); /* the same 30 tokens and 20 more, over the reply's stale slots */
    toy_finish(a);
    toy_prompt(b, 0, 50, 1, &ask);
    toy_finish(b);
    assert_int_equal(a->t[0].n, b->t[0].n);
    assert_true(a->t[0].stats.cached_tokens >= 30);
    assert_memory_equal(a->t[0].token, b->t[0].token, (size_t)b->t[0].n * sizeof(int32_t));
    toy_teardown(a);
    toy_teardown(b);
}

/* A prompt of n tokens from `text`, to the end of its reply. */
static void say(struct toy *f, const int32_t *text, int n, const struct request *ask)
{
    struct reply_rules rules = {0};
    assert_int_equal(reply_start(&f->t[0].reply, &rules, NULL), 0);
    assert_int_equal(timeline_prompt(&f->t[0], &f->engine, text, n, ask, NULL), 0);
    toy_finish(f);
}

/* Where prefill has bits of its own, a reply depends on its prompt alone, not on what of it another reply wrote: only prefilled slots are taken over. */
static void only_prefilled_slots_are_reused(void **state)
{
    (void)state;
    struct backend b = toy_prefilling();
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 2, .n_drafts = 5, .depth = TOY_LAYERS, .max_tokens = 40};
    for (int more = 0; more <= 24; more += 8) { /* tokens behind the first reply: the next prompt ends inside it, with it, or goes on */
        struct toy *a = toy_setup(1, TOY_NO_FAULT), *fresh = toy_setup(1, TOY_NO_FAULT);
        struct timeline *t = &a->t[0];
        int32_t text[TOY_SLOTS];
        a->engine.b = fresh->engine.b = &b;
        toy_prompt(a, 0, 30, 1, &ask);
        toy_finish(a);
        assert_int_equal(t->n_prefilled, 29);
        int said = t->n, n = more == 0 ? 50 : said - 8 + more;
        for (int i = 0; i < n; i++)
            text[i] = i < said ? t->token[i] : (int32_t)(toy_mix(5, (uint64_t)i) % TOY_VOCAB);
        say(a, text, n, &ask);
        assert_int_equal(t->stats.cached_tokens, 29);
        assert_int_equal(t->n_prefilled, n - 1);
        say(fresh, text, n, &ask);
        assert_int_equal(fresh->t[0].n, t->n);
        assert_memory_equal(fresh->t[0].token, t->token, (size_t)t->n * sizeof *text);
        say(a, text, 20, &ask); /* a shorter prompt: its pending token's slot was prefilled, and is not now */
        assert_int_equal(t->stats.cached_tokens, 19);
        assert_int_equal(t->n_prefilled, 19);
        say(fresh, text, n, &ask); /* and again the longer one */
        say(a, text, n, &ask);
        assert_memory_equal(fresh->t[0].token, t->token, (size_t)t->n * sizeof *text);
        timeline_forget(t, &a->engine);
        assert_int_equal(t->n_prefilled, 0);
        assert_true(a->kv->prefills > 0);
        toy_teardown(a);
        toy_teardown(fresh);
    }
}

/* The toy's prefill does leave its mark: had the reply's slots been kept, the text would be another one. */
static void the_role_of_a_slot_is_felt(void **state)
{
    (void)state;
    struct backend b = toy_prefilling();
    struct toy *a = toy_setup(1, TOY_NO_FAULT), *fresh = toy_setup(1, TOY_NO_FAULT);
    struct request ask = plain(TOY_LAYERS, 20);
    int32_t text[TOY_SLOTS];
    a->engine.b = fresh->engine.b = &b;
    toy_prompt(a, 0, 30, 1, &ask);
    toy_finish(a);
    int n = a->t[0].n;
    memcpy(text, a->t[0].token, (size_t)n * sizeof *text);
    a->t[0].n_prefilled = a->t[0].n_kv; /* a lie */
    say(a, text, n, &ask);
    say(fresh, text, n, &ask);
    assert_memory_not_equal(fresh->t[0].token, a->t[0].token, (size_t)(n + 20) * sizeof *text);
    toy_teardown(a);
    toy_teardown(fresh);
}

static void budgets_never_pass_the_limits(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct timeline *t = &f->t[0];
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 2, .n_drafts = 6, .depth = TOY_LAYERS, .max_tokens = 100};
    toy_prompt(f, 0, 10, 1, &ask);
    assert_int_equal(timeline_budget(t, &f->engine), 6);
    ask.max_tokens = 4;
    toy_prompt(f, 0, 10, 1, &ask);
    assert_int_equal(timeline_budget(t, &f->engine), 3); /* the model's own token is the fourth */
    ask.max_tokens = 1;
    toy_prompt(f, 0, 10, 1, &ask);
    assert_int_equal(timeline_budget(t, &f->engine), 0);
    ask.max_tokens = 100;
    toy_prompt(f, 0, TOY_SLOTS - 3, 1, &ask);
    assert_int_equal(timeline_budget(t, &f->engine), 2);
    ask.drafters = 0;
    toy_prompt(f, 0, 10, 1, &ask);
    assert_int_equal(timeline_budget(t, &f->engine), 0);
    toy_teardown(f);
}

/* A stop inside accepted drafts cuts timeline and statistics there, as plain decoding would have. */
static void a_stop_cuts_inside_accepted_drafts(void **state)
{
    (void)state;
    struct request ask = {.depth = TOY_LAYERS, .max_tokens = 100};
    struct toy *p = toy_setup(1, TOY_NO_FAULT);
    toy_prompt(p, 0, 8, 2, &ask);
    toy_finish(p);
    for (int end = 1; end < 60; end++) {
        int32_t eos = p->t[0].token[8 + end];
        int first = 8;
        while (p->t[0].token[first] != eos)
            first++;
        for (int d = 1; d <= TOY_DRAFTS; d += 3) {
            struct toy *f = toy_setup(1, TOY_NO_FAULT);
            struct request drafted = {.drafters = DRAFT_EXIT, .exit_layer = 5, .n_drafts = d, .depth = TOY_LAYERS, .max_tokens = 100};
            toy_prompt(f, 0, 8, 2, &drafted);
            struct reply_rules rules = {.eos = &eos, .n_eos = 1};
            reply_start(&f->t[0].reply, &rules, NULL);
            toy_finish(f);
            const struct timeline *t = &f->t[0];
            assert_int_equal(t->n, first + 1);
            assert_int_equal(t->reply.finish, REPLY_EOS);
            assert_int_equal(t->stats.reply_tokens, first + 1 - 8);
            assert_true(t->stats.accepted <= t->stats.drafted && t->stats.drafted_at[0] <= t->stats.rounds);
            toy_teardown(f);
        }
    }
    toy_teardown(p);
}

static void logits_that_are_not_finite_end_the_reply(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = plain(TOY_LAYERS, 10);
    toy_prompt(f, 0, 5, 1, &ask);
    struct timeline *t = &f->t[0];
    t->tree.node[0] = (struct node){.parent = -1};
    t->tree.n = 1;
    t->walk = (struct walk){.n = 1, .pick = {{.token = -1}}};
    assert_int_equal(timeline_commit(t, &f->engine, NULL), 0);
    assert_int_equal(t->reply.finish, REPLY_ERROR);
    assert_int_equal(t->n, 5);
    toy_teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_must_fit),           cmocka_unit_test(a_prefix_is_reused),
        cmocka_unit_test(reuse_changes_no_text),       cmocka_unit_test(budgets_never_pass_the_limits),
        cmocka_unit_test(only_prefilled_slots_are_reused), cmocka_unit_test(the_role_of_a_slot_is_felt),
        cmocka_unit_test(a_stop_cuts_inside_accepted_drafts), cmocka_unit_test(logits_that_are_not_finite_end_the_reply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
