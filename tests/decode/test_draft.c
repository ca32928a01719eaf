/* SPDX-License-Identifier: Apache-2.0 */
/* What the drafters propose. */
#include "toy_engine.h"

static void plant(struct toy *f, const struct request *ask, const struct reply_rules *rules)
{
    toy_prompt(f, 0, 12, 4, ask);
    reply_start(&f->t[0].reply, rules, NULL);
    while (timeline_has_prompt_left(&f->t[0]))
        timeline_prefill(&f->t[0], &f->engine, NULL);
    f->t[0].tree.node[0] = (struct node){.row = {.token = f->t[0].token[11], .pos = 11, .slot = 11, .prefix = 11}, .parent = -1, .conf = 1};
    f->t[0].tree.n = 1;
    f->t[0].draft_ended = false;
}

static void the_exit_drafter_grows_a_chain(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 3, .n_drafts = 5, .depth = TOY_LAYERS, .max_tokens = 100};
    struct reply_rules rules = {0};
    plant(f, &ask, &rules);
    struct timeline *t = &f->t[0];
    assert_int_equal(drafter_exit.propose(&f->engine, &t, 1, NULL), 0);
    assert_int_equal(t->tree.n, 6);
    for (int i = 1; i < 6; i++) {
        const struct node *n = &t->tree.node[i];
        assert_int_equal(n->parent, i - 1);
        assert_int_equal(n->row.pos, 11 + i);
        assert_int_equal(n->row.slot, 11 + i);
        assert_int_equal(n->row.prefix, 11);
        assert_int_equal(n->row.also, (1 << i) - 1);
        assert_int_equal(n->row.h, i);
        assert_int_equal(n->at, i < 5 ? 3 : 0); /* the last draft's first layers are the verifier's work */
    }
    toy_teardown(f);
}

static void an_end_of_text_ends_the_draft_but_is_in_it(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 3, .n_drafts = 8, .depth = TOY_LAYERS, .max_tokens = 100};
    struct reply_rules rules = {0};
    plant(f, &ask, &rules);
    struct timeline *t = &f->t[0];
    drafter_exit.propose(&f->engine, &t, 1, NULL);
    int32_t third = t->tree.node[3].row.token;
    int at = 1;
    while (t->tree.node[at].row.token != third)
        at++;
    rules = (struct reply_rules){.eos = &third, .n_eos = 1};
    plant(f, &ask, &rules);
    drafter_exit.propose(&f->engine, &t, 1, NULL);
    assert_int_equal(t->tree.n, at + 1);
    assert_int_equal(t->tree.node[at].row.token, third);
    toy_teardown(f);
}

static void no_drafter_proposes_nothing(void **state)
{
    (void)state;
    assert_null(drafter_none.propose);
}

/* The toy's picks all have a confidence of one half. */
static void a_doubtful_draft_is_not_proposed(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 3, .n_drafts = 8, .depth = TOY_LAYERS, .max_tokens = 100, .draft_min_conf = 0.6f};
    struct reply_rules rules = {0};
    struct timeline *t = &f->t[0];
    plant(f, &ask, &rules);
    drafter_exit.propose(&f->engine, &t, 1, NULL);
    assert_int_equal(t->tree.n, 1);
    ask.draft_min_conf = 0.5f;
    plant(f, &ask, &rules);
    drafter_exit.propose(&f->engine, &t, 1, NULL);
    assert_int_equal(t->tree.n, 9);
    toy_teardown(f);
}

/* Gives t the text of letters; the last one is pending. */
static void set_text(struct timeline *t, const char *letters)
{
    t->n = (int)strlen(letters);
    ngram_cut(&t->ngram, t->token, 0);
    for (int i = 0; i < t->n; i++)
        t->token[i] = letters[i] - 'A';
    t->tree.node[0] = (struct node){.row = {.token = t->token[t->n - 1], .pos = t->n - 1, .slot = t->n - 1, .prefix = t->n - 1}, .parent = -1};
    t->tree.n = 1;
}

/* The drafts as letters. */
static const char *drafts_of(const struct timeline *t)
{
    static char out[DRAFTS_MAX + 1];
    for (int i = 1; i < t->tree.n; i++)
        out[i - 1] = (char)(t->tree.node[i].row.token + 'A');
    out[t->tree.n - 1] = 0;
    return out;
}

static void what_followed_before_is_proposed_again(void **state)
{
    (void)state;
    static const struct {
        const char *text, *drafts;
    } cases[] = {
        {"ABCDEFGXYABC", "DEFGX"}, /* the text that followed */
        {"ABCDEF", ""},            /* nothing has been said twice */
        {"ABCXYCXB", ""},          /* one token is no match */
        {"XABCDEXYBCPQBC", "PQBCP"}, /* the last of equal matches; it runs into the drafts */
        {"ABCDXYBCPQABC", "DXYBC"}, /* a longer match wins over a later one */
        {"XXXX", "XXXXX"},          /* a period goes on */
        {"ABABAB", "ABABA"},
        {"A", ""},
        {"AA", ""},
    };
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_NGRAM, .n_drafts = 5, .depth = TOY_LAYERS, .max_tokens = 100};
    struct reply_rules rules = {0};
    struct timeline *t = &f->t[0];
    plant(f, &ask, &rules);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_text(t, cases[i].text);
        assert_int_equal(drafter_ngram.propose(&f->engine, &t, 1, NULL), 0);
        assert_string_equal(drafts_of(t), cases[i].drafts);
        for (int k = 1; k < t->tree.n; k++)
            assert_true(t->tree.node[k].parent == k - 1 && t->tree.node[k].at == 0 && t->tree.node[k].row.also == (1u << k) - 1);
    }
    int32_t end = 'E' - 'A';
    rules = (struct reply_rules){.eos = &end, .n_eos = 1};
    reply_start(&t->reply, &rules, NULL);
    set_text(t, cases[0].text);
    drafter_ngram.propose(&f->engine, &t, 1, NULL);
    assert_string_equal(drafts_of(t), "DE");
    toy_teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_drafter_proposes_nothing),
        cmocka_unit_test(the_exit_drafter_grows_a_chain),
        cmocka_unit_test(an_end_of_text_ends_the_draft_but_is_in_it),
        cmocka_unit_test(what_followed_before_is_proposed_again),
        cmocka_unit_test(a_doubtful_draft_is_not_proposed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
