/* SPDX-License-Identifier: Apache-2.0 */
/* What the drafters propose. */
#include "toy_engine.h"

static void plant(struct toy *f, const struct request *ask, const struct reply_rules *rules)
{
    toy_prompt(f, 0, 12, 4, ask);
    reply_start(&f->t[0].reply, rules, NULL);
    while (timeline_has_prompt_left(&f->t[0]))
        timeline_prefill(&f->t[0], &f->engine, NULL);
    f->t[0].tree.node[0] = (struct node){.row = {.token = f->t[0].token[11], .pos = 11, .slot = 11, .prefix = 11}, .parent = -1, .reach = 1};
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
    t->tree.node[0] = (struct node){.row = {.token = t->token[t->n - 1], .pos = t->n - 1, .slot = t->n - 1, .prefix = t->n - 1}, .parent = -1, .reach = 1};
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

static void know(struct timeline *t, char token, const char *after, const float *conf)
{
    for (int i = 0; after[i]; i++)
        t->recycle.after[token - 'A'][i] = (struct guess){after[i] - 'A', conf[i]};
}

/* Each node below its parent, with its own slot and hidden row, seeing its ancestors and nobody else. */
static void check_tree(const struct tree *tree)
{
    const struct row *root = &tree->node[0].row;
    for (int i = 1; i < tree->n; i++) {
        const struct node *n = &tree->node[i], *above = &tree->node[n->parent];
        assert_true(n->parent < i && n->at == 0 && n->row.seq == root->seq && n->row.prefix == root->prefix);
        assert_true(n->row.slot == root->slot + i && n->row.h == root->h + i && n->row.pos == above->row.pos + 1);
        assert_true(n->row.also == (above->row.also | (uint64_t)1 << n->parent));
        assert_int_equal(tree_child(tree, n->parent, n->row.token), i);
    }
}

static void last_candidates_grow_a_tree(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_RECYCLE, .n_drafts = 6, .depth = TOY_LAYERS, .max_tokens = 100};
    struct reply_rules rules = {0};
    struct timeline *t = &f->t[0];
    plant(f, &ask, &rules);
    set_text(t, "XA");
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_string_equal(drafts_of(t), ""); /* nothing is known */
    know(t, 'A', "BC", (float[]){.6f, .4f});
    know(t, 'B', "DE", (float[]){.5f, .3f});
    know(t, 'C', "D", (float[]){.9f});
    set_text(t, "XA");
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_string_equal(drafts_of(t), "BCDDE"); /* .6, .4, .36 below C, .3 and .18 below B; nothing is known after D and E */
    assert_int_equal(t->tree.node[3].parent, 2);
    assert_int_equal(t->tree.node[4].parent, 1);
    check_tree(&t->tree);
    t->ask.n_drafts = 3;
    set_text(t, "XA");
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_string_equal(drafts_of(t), "BCD");
    t->ask.n_drafts = 8;
    set_text(t, "XA"); /* it grows on what others have left, and nothing twice */
    tree_add(&t->tree, 0, 'C' - 'A', TRUST_EXIT, .9f);
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_string_equal(drafts_of(t), "CDBDE");
    check_tree(&t->tree);
    int32_t end = 'B' - 'A';
    rules = (struct reply_rules){.eos = &end, .n_eos = 1};
    reply_start(&t->reply, &rules, NULL);
    set_text(t, "XA");
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_string_equal(drafts_of(t), "BCD"); /* nothing follows B */
    toy_teardown(f);
}

/* The exit drafts as many as it is told to; what other drafters know comes on top. */
static void free_drafts_grow_beside_a_chain(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = {.drafters = DRAFT_EXIT | DRAFT_RECYCLE, .exit_layer = 3, .n_drafts = 3, .n_free = 4, .depth = TOY_LAYERS, .max_tokens = 100};
    struct reply_rules rules = {0};
    struct timeline *t = &f->t[0];
    plant(f, &ask, &rules);
    assert_int_equal(drafter_exit.propose(&f->engine, &t, 1, NULL), 0);
    assert_int_equal(t->tree.n, 1 + 3);
    for (int i = 0; i < t->tree.n; i++)
        know(t, (char)('A' + t->tree.node[i].row.token), "QRSTUV", (float[]){.3f, .2f, .1f, .1f, .1f, .1f});
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_int_equal(t->tree.n, 1 + 3 + 4);
    for (int i = 4; i < t->tree.n; i++)
        assert_true(t->tree.node[i].at == 0 && t->tree.node[i].parent < i);
    assert_int_equal(timeline_passes(t, &f->engine), 0);
    assert_int_equal(timeline_budget(t, &f->engine), 0);
    t->ask.n_free = 0;
    t->tree.n = 4;
    drafter_recycle.propose(&f->engine, &t, 1, NULL);
    assert_int_equal(t->tree.n, 4);
    toy_teardown(f);
}

/* Four timelines with budgets of their own, a doubtful pick and an end of text among them: what a chain in one go leaves in the trees, and what is written in the end. */
static struct toy *draft_four(const struct backend *b, int32_t *eos)
{
    struct toy *f = toy_setup(4, TOY_NO_FAULT);
    struct reply_rules rules = {.eos = eos, .n_eos = 1};
    struct timeline *t[4];
    f->engine.b = b;
    for (int i = 0; i < 4; i++) {
        struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 3, .n_drafts = 3 + 5 * i % 8, .depth = TOY_LAYERS, .max_tokens = 60, .draft_min_conf = i == 3 ? 0.6f : 0};
        toy_prompt(f, i, 12, (uint64_t)(4 + i), &ask);
        reply_start(&f->t[i].reply, &rules, NULL);
        while (timeline_has_prompt_left(&f->t[i]))
            timeline_prefill(&f->t[i], &f->engine, NULL);
        t[i] = &f->t[i];
        t[i]->tree.node[0] = (struct node){.row = {.token = t[i]->token[11], .pos = 11, .seq = t[i]->seq, .slot = 11, .prefix = 11, .h = i * 16}, .parent = -1, .reach = 1};
        t[i]->tree.n = 1;
        t[i]->draft_ended = false;
    }
    assert_int_equal(drafter_exit.propose(&f->engine, t, 4, NULL), 0);
    return f;
}

static void a_chain_in_one_go_proposes_the_same(void **state)
{
    (void)state;
    for (int32_t eos = 0; eos < TOY_VOCAB; eos++) {
        struct toy *a = draft_four(&toy_backend, &eos), *b = draft_four(&toy_chain_backend, &eos);
        for (int i = 0; i < 4; i++) {
            const struct tree *x = &a->t[i].tree, *y = &b->t[i].tree;
            assert_int_equal(x->n, y->n);
            for (int k = 0; k < x->n; k++) {
                assert_memory_equal(&x->node[k].row, &y->node[k].row, sizeof x->node[k].row);
                assert_int_equal(x->node[k].parent, y->node[k].parent);
                assert_true(x->node[k].reach == y->node[k].reach);
                assert_int_equal(x->node[k].at, y->node[k].at);
            }
        }
        toy_finish(a);
        toy_finish(b);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(a->t[i].n, b->t[i].n);
            assert_memory_equal(a->t[i].token, b->t[i].token, (size_t)a->t[i].n * sizeof(int32_t));
        }
        toy_teardown(a);
        toy_teardown(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_drafter_proposes_nothing),
        cmocka_unit_test(the_exit_drafter_grows_a_chain), cmocka_unit_test(free_drafts_grow_beside_a_chain), cmocka_unit_test(a_chain_in_one_go_proposes_the_same),
        cmocka_unit_test(an_end_of_text_ends_the_draft_but_is_in_it),
        cmocka_unit_test(what_followed_before_is_proposed_again),
        cmocka_unit_test(last_candidates_grow_a_tree),
        cmocka_unit_test(a_doubtful_draft_is_not_proposed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
