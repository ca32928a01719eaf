/* SPDX-License-Identifier: Apache-2.0 */
/* The stop rule against the sums that it stands for. */
#include "toy_engine.h"

enum { HEAD_NS = 1000, LAYER_NS = 1000, ROW_NS = 200 }; /* of one row, and of each row more, in the head and in a layer */

/* A pass costs what is said above, and the text grows by `tokens` in each round of one row. */
static struct toy *setup(int tokens)
{
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct pace *p = &f->engine.pace;
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 2, .n_drafts = TOY_DRAFTS, .depth = TOY_LAYERS, .max_tokens = 100, .weighed = true};
    toy_prompt(f, 0, 5, 1, &ask);
    for (int r = 1; r <= 20; r++) {
        pace_note(p, &p->layer, r, TOY_LAYERS, TOY_LAYERS * (LAYER_NS + (r - 1) * ROW_NS));
        pace_note(p, &p->head, r, 1, HEAD_NS + (r - 1) * ROW_NS);
    }
    p->spent = TOY_LAYERS * LAYER_NS + HEAD_NS;
    pace_round(p, tokens);
    f->engine.n_rows = 1;
    f->t[0].tree.node[0] = (struct node){.parent = -1, .reach = 1};
    f->t[0].tree.n = 1;
    return f;
}

static int kept(struct toy *f, const float *chance, int n)
{
    struct timeline *t = &f->t[0];
    t->tree.n = 1;
    f->engine.n_rows = 1;
    for (int i = 0; i < n; i++)
        tree_add(&t->tree, i, i, TRUST_NGRAM + 3, chance[i]);
    worth_keep(&f->engine, t, 1);
    assert_int_equal(f->engine.n_rows, t->tree.n);
    return t->tree.n - 1;
}

static void drafts_are_kept_as_long_as_they_pay(void **state)
{
    (void)state;
    struct toy *f = setup(1); /* a row costs a fifth of a pass, so a fifth of a token */
    assert_int_equal(kept(f, (float[]){.9f, .9f, .9f, .9f}, 4), 4);
    assert_int_equal(kept(f, (float[]){.9f, .5f, .4f, .9f}, 4), 2); /* .9, .45, .18 */
    assert_int_equal(kept(f, (float[]){.21f, .9f}, 2), 1);
    assert_int_equal(kept(f, (float[]){.19f, .99f}, 2), 0);
    f->t[0].ask.weighed = false;
    assert_int_equal(kept(f, (float[]){.19f, .1f}, 2), 2);
    toy_teardown(f);
    f = setup(3); /* what grows fast has no time for doubtful drafts */
    assert_int_equal(kept(f, (float[]){.9f, .9f, .7f, .9f}, 4), 2);
    toy_teardown(f);
}

static void a_pass_of_the_exit_has_its_price(void **state)
{
    (void)state;
    struct toy *f = setup(1); /* two layers and a head, and a row in four layers and a head: 4000 of 7000 */
    for (int i = 0; i < 200; i++)
        trust_found(&f->engine.trust, 0.65f);
    assert_true(worth_pass(&f->engine, &f->t[0]));
    for (int i = 0; i < 200; i++)
        trust_found(&f->engine.trust, 0.5f);
    assert_false(worth_pass(&f->engine, &f->t[0]));
    f->t[0].ask.weighed = false;
    assert_true(worth_pass(&f->engine, &f->t[0]));
    toy_teardown(f);
}

/* Drafts that have a head of their own pay that one's price. */
static void a_cheaper_head_lets_more_be_drafted(void **state)
{
    (void)state;
    struct toy *f = setup(1);
    for (int i = 0; i < 200; i++)
        trust_found(&f->engine.trust, 0.5f);
    assert_false(worth_pass(&f->engine, &f->t[0]));
    f->engine.draft_head = true;
    for (int n = 1; n <= ROWS_MAX; n++) {
        f->engine.pace.draft_head.ns[n] = f->engine.pace.head.ns[n] / 8;
        f->engine.pace.draft_head.when[n] = f->engine.pace.head.when[n];
    }
    assert_true(worth_pass(&f->engine, &f->t[0]));
    toy_teardown(f);
}

/* What nobody knows is tried. */
static void the_first_round_drafts(void **state)
{
    (void)state;
    struct toy *f = setup(1);
    f->engine.pace = (struct pace){0};
    assert_int_equal(kept(f, (float[]){.5f, .5f}, 2), 2);
    assert_true(worth_pass(&f->engine, &f->t[0]));
    toy_teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(drafts_are_kept_as_long_as_they_pay), cmocka_unit_test(a_pass_of_the_exit_has_its_price), cmocka_unit_test(a_cheaper_head_lets_more_be_drafted), cmocka_unit_test(the_first_round_drafts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
