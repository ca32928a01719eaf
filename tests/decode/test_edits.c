/* SPDX-License-Identifier: Apache-2.0 */
/* What requests change of the logits: counts by their words, a grammar along a tree, and drafted text equal to plain text under all of it on a backend that notices every bit. */
#include "toy_engine.h"

#include <math.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,";

/* ---- a grammar over the toy's letters ---- */

struct rules {
    struct grammar *g;
    struct token_tree *tree;
    struct matcher *m;
};

static struct rules rules_open(const char *gbnf)
{
    struct rules r = {0};
    struct bytes text[TOY_VOCAB];
    struct error err = {0};
    for (int i = 0; i < TOY_VOCAB; i++)
        text[i] = (struct bytes){(const uint8_t *)letters + i, 1};
    r.g = grammar_open("grammar", (struct bytes){(const uint8_t *)gbnf, strlen(gbnf)}, &err);
    r.tree = token_tree_open(text, TOY_VOCAB, NULL, 0, &err);
    r.m = r.g && r.tree ? matcher_open(r.g, r.tree, &err) : NULL;
    if (!r.m)
        fail_with(err.text);
    return r;
}

static void rules_close(struct rules *r)
{
    matcher_close(r->m);
    token_tree_close(r->tree);
    grammar_close(r->g);
}

/* ---- counts ---- */

static struct request ask_with(struct limits limits)
{
    return (struct request){.drafters = DRAFT_RECYCLE, .n_drafts = 8, .depth = TOY_LAYERS, .max_tokens = 100, .limits = limits};
}

/* The edit of a token, as the header says it: the text up to the choice is text[0..n), of which the first `prompt` are the prompt. */
static struct edit expected(const struct limits *l, const int32_t *text, int n, int prompt, int32_t token)
{
    struct edit e = {.token = token, .repeat = 1};
    int made = 0;
    for (int i = n > l->last_n ? n - l->last_n : 0; i < n; i++)
        if (text[i] == token) {
            e.repeat = l->repeat > 0 ? l->repeat : 1;
            made += i >= prompt;
        }
    e.less = made ? (float)made * l->frequency + l->presence : 0;
    for (int i = 0; i < l->n_bias; i++)
        e.bias += l->bias[i].token == token ? l->bias[i].add : 0;
    return e;
}

static void check_node(struct timeline *t, int node, const int32_t *text, int n)
{
    struct ask ask = {.n_top = 0};
    edits_ask(t, &t->tree.node[node], &ask);
    assert_null(ask.allow);
    for (int32_t token = 0; token < TOY_VOCAB; token++) {
        struct edit want = expected(&t->ask.limits, text, n, t->n_prompt, token), got = {.token = token, .repeat = 1};
        int times = 0;
        for (int i = 0; i < ask.n_edits; i++)
            if (ask.edits[i].token == token) {
                got = ask.edits[i];
                times++;
            }
        assert_true(times <= 1);
        assert_memory_equal(&got, &want, sizeof got);
    }
}

static void counts_are_those_of_the_text_before_a_node(void **state)
{
    (void)state;
    static const struct bias bias[] = {{3, 1.5f}, {9, -INFINITY}, {63, -2}};
    static const int windows[] = {1, 2, 3, 5, 64, INT32_MAX};
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct timeline *t = &f->t[0];
    for (int k = 0; k < 36; k++) {
        struct limits l = {.last_n = windows[k % 6], .repeat = k / 6 % 2 ? 1.3f : 0, .presence = k / 12 == 1 ? 0.5f : 0, .frequency = k / 12 ? 0.25f : 0, .bias = bias, .n_bias = k % 4};
        struct request ask = ask_with(l);
        int32_t text[TOY_SLOTS];
        toy_prompt(f, 0, 6, (uint64_t)k, &ask);
        for (int i = 0; i < 5; i++) /* as if committed; two of them twice */
            t->token[t->n++] = i < 2 ? 3 : i == 2 ? t->token[0] : 20 + i % 4;
        memcpy(text, t->token, (size_t)t->n * sizeof *text);
        t->tree.node[0] = (struct node){.row = {.token = text[10], .pos = 10, .slot = 10, .prefix = 10}, .parent = -1, .reach = 1};
        t->tree.n = 1;
        assert_non_null(timeline_draft(t, 0, 3, TRUST_EXIT, .5f));  /* 1 */
        assert_non_null(timeline_draft(t, 0, 5, TRUST_EXIT, .5f));  /* 2: its brother counts nothing for it */
        assert_non_null(timeline_draft(t, 2, 5, TRUST_EXIT, .5f));  /* 3 */
        assert_non_null(timeline_draft(t, 1, 63, TRUST_EXIT, .5f)); /* 4 */
        t->token[11] = t->token[12] = 3; /* what drafters leave behind the text is no text */
        static const struct {
            int n;
            int32_t draft[2];
        } paths[] = {{0, {0}}, {1, {3}}, {1, {5}}, {2, {5, 5}}, {2, {3, 63}}};
        for (int node = 0; node < t->tree.n; node++) {
            memcpy(text + 11, paths[node].draft, sizeof paths[node].draft);
            check_node(t, node, text, 11 + paths[node].n);
        }
    }
    toy_teardown(f);
}

static void nothing_is_asked_where_nothing_is_changed(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct limits none[] = {{0}, {.repeat = 1, .last_n = 64}, {.repeat = 1.5f, .presence = 1}};
    for (int i = 0; i < 3; i++) {
        struct request ask = ask_with(none[i]);
        struct ask a = {.n_top = 0};
        assert_false(edits_any(&none[i]));
        toy_prompt(f, 0, 6, 1, &ask);
        f->t[0].tree.node[0] = (struct node){.row = {.pos = 5}, .parent = -1};
        edits_ask(&f->t[0], &f->t[0].tree.node[0], &a);
        assert_false(pick_edited(&a));
        assert_null(f->t[0].edits.list);
    }
    toy_teardown(f);
}

/* ---- a grammar along a tree ---- */

static void drafts_obey_the_grammar(void **state)
{
    (void)state;
    struct rules r = rules_open("root ::= \"AB\" [0-9]+ \".\"");
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct timeline *t = &f->t[0];
    struct request ask = ask_with((struct limits){.matcher = r.m});
    int32_t end = 40;
    toy_prompt(f, 0, 6, 1, &ask);
    reply_start(&t->reply, &(struct reply_rules){.eos = &end, .n_eos = 1}, NULL);
    t->tree.node[0] = (struct node){.row = {.token = 1, .pos = 5, .slot = 5, .prefix = 5}, .parent = -1, .reach = 1, .state = t->edits.state};
    t->tree.n = 1;
    static const struct {
        int parent;
        char letter; /* 0: the end of text */
        bool joins;
    } drafts[] = {{0, 'B', false}, {0, 0, false}, {0, 'A', true}, {1, 'A', false}, {1, 'B', true}, {2, '.', false}, {2, '7', true}, {3, '.', true}, {3, '8', true}, {4, '1', false}, {4, 0, true}, {5, 0, false}};
    for (size_t i = 0; i < sizeof drafts / sizeof *drafts; i++) {
        int32_t token = drafts[i].letter ? (int32_t)(strchr(letters, drafts[i].letter) - letters) : end;
        int n = t->tree.n;
        assert_int_equal(timeline_draft(t, drafts[i].parent, token, TRUST_EXIT, .5f) != NULL, drafts[i].joins);
        assert_int_equal(t->tree.n, n + drafts[i].joins);
    }
    static const char *const allowed[] = {"A", "B", "0123456789", "0123456789."};
    for (int node = 0; node < 4; node++) {
        struct ask a = {.n_top = 0};
        edits_ask(t, &t->tree.node[node], &a);
        for (int32_t token = 0; token < TOY_VOCAB; token++)
            assert_int_equal(pick_allows(a.allow, token), token != end && strchr(allowed[node], letters[token]) != NULL);
    }
    struct ask a = {.n_top = 0};
    edits_ask(t, &t->tree.node[4], &a);
    for (int32_t token = 0; token < TOY_VOCAB; token++) /* it is complete: only the end may come */
        assert_int_equal(pick_allows(a.allow, token), token == end);
    toy_teardown(f);
    rules_close(&r);
}

/* The reply of one timeline under a grammar, which may end at token `eos` (-1: there is none). */
static enum reply_finish speak(const char *gbnf, const struct bias *bias, int n_bias, int32_t eos, char *out, struct error *why)
{
    struct rules r = rules_open(gbnf);
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = ask_with((struct limits){.matcher = r.m, .bias = bias, .n_bias = n_bias});
    toy_prompt(f, 0, 6, 1, &ask);
    reply_start(&f->t[0].reply, &(struct reply_rules){.eos = &eos, .n_eos = eos >= 0}, NULL);
    toy_finish(f);
    int n = 0;
    for (int i = 6; i < f->t[0].n && f->t[0].token[i] != eos; i++)
        out[n++] = letters[f->t[0].token[i]];
    out[n] = 0;
    enum reply_finish finish = f->t[0].reply.finish;
    *why = f->t[0].reply.why;
    toy_teardown(f);
    rules_close(&r);
    return finish;
}

static void a_grammar_ends_the_reply(void **state)
{
    (void)state;
    static const struct bias never[] = {{33, -INFINITY}};
    char text[200];
    struct error why;
    assert_int_equal(speak("root ::= \"HELLO\"", NULL, 0, 40, text, &why), REPLY_EOS);
    assert_string_equal(text, "HELLO");
    assert_int_equal(speak("root ::= \"HELLO\"", NULL, 0, -1, text, &why), REPLY_EOS); /* a model without an end of text */
    assert_string_equal(text, "HELLO");
    assert_int_equal(speak("root ::= \"a\" [A-F]+", NULL, 0, -1, text, &why), REPLY_LENGTH); /* it may go on for ever */
    assert_int_equal(strlen(text), 100);
    assert_int_equal(strspn(text + 1, "ABCDEF"), 99);
    assert_int_equal(speak("root ::= \"HI \" [a-z]", NULL, 0, 40, text, &why), REPLY_ERROR); /* no token spells a blank */
    assert_string_equal(text, "HI");
    assert_non_null(strstr(why.text, "spelt by no token"));
    assert_int_equal(speak("root ::= \"Oh\"", never, 1, 40, text, &why), REPLY_ERROR); /* 33 is h */
    assert_string_equal(text, "O");
    assert_non_null(strstr(why.text, "logit bias"));
}

static void a_bias_that_leaves_nothing_ends_the_reply(void **state)
{
    (void)state;
    struct toy *f = toy_setup(2, TOY_NO_FAULT);
    struct bias all[TOY_VOCAB];
    for (int i = 0; i < TOY_VOCAB; i++)
        all[i] = (struct bias){i, -INFINITY};
    struct request ask = ask_with((struct limits){.bias = all, .n_bias = TOY_VOCAB}), free_ask = ask_with((struct limits){0});
    toy_prompt(f, 0, 6, 1, &ask);
    toy_prompt(f, 1, 6, 1, &free_ask);
    toy_finish(f);
    assert_int_equal(f->t[0].reply.finish, REPLY_ERROR);
    assert_int_equal(f->t[0].n, 6);
    assert_non_null(strstr(f->t[0].reply.why.text, "leaves no token behind"));
    assert_int_equal(f->t[1].reply.finish, REPLY_LENGTH); /* the neighbour goes on */
    toy_teardown(f);
}

/* ---- drafted text equals plain text ---- */

enum { WAYS = 5, LONG = 90 };

static struct limits way(int w, struct matcher *m)
{
    static const struct bias bias[] = {{0, 2}, {7, -INFINITY}, {30, -1}};
    switch (w) {
    case 0: return (struct limits){.bias = bias, .n_bias = 3};
    case 1: return (struct limits){.repeat = 1.2f, .last_n = 7};
    case 2: return (struct limits){.repeat = 1.1f, .presence = 0.4f, .frequency = -0.2f, .last_n = INT32_MAX, .bias = bias, .n_bias = 2};
    case 3: return (struct limits){.matcher = m};
    default: return (struct limits){.frequency = 0.3f, .last_n = 3, .bias = bias, .n_bias = 3, .matcher = m};
    }
}

/* Three timelines at once, each with a grammar of its own. */
static void write_three(const struct backend *b, int w, unsigned drafters, int n_drafts, float temperature, int32_t out[3][LONG], int *accepted)
{
    struct toy *f = toy_setup(3, TOY_NO_FAULT);
    struct rules r[3];
    f->engine.b = b;
    for (int i = 0; i < 3; i++) {
        r[i] = rules_open(i % 2 ? "root ::= ([A-Z0-9] | [a-f] \".\")* \"!\"" : "root ::= (\"A\" [a-z]+ \",\" | [B-Z] [0-9] [0-9]? \".\")* \"!\"");
        struct request ask = {.drafters = drafters, .exit_layer = 1 + (n_drafts + i) % (TOY_LAYERS - 1), .n_drafts = n_drafts, .depth = TOY_LAYERS, .max_tokens = LONG,
                              .sampling = {.temperature = temperature, .seed = 42}, .limits = way((w + i) % WAYS, r[i].m)};
        toy_prompt(f, i, 9 + i, (uint64_t)i, &ask);
    }
    toy_finish(f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(f->t[i].n - f->t[i].n_prompt, LONG);
        memcpy(out[i], f->t[i].token + f->t[i].n_prompt, sizeof out[i]);
        *accepted += f->t[i].stats.accepted;
    }
    toy_teardown(f);
    for (int i = 0; i < 3; i++)
        rules_close(&r[i]);
}

static void drafting_changes_no_token(void **state)
{
    (void)state;
    static const int drafts[] = {1, 3, 8, 12};
    int32_t plain[3][LONG], drafted[3][LONG], free_text[3][LONG];
    int accepted = 0, none = 0;
    for (int w = 0; w < WAYS; w++)
        for (int warm = 0; warm < 2; warm++) {
            write_three(&toy_backend, w, 0, 0, (float)warm, plain, &none);
            write_three(&toy_backend, w + 1, 0, 0, (float)warm, free_text, &none);
            assert_true(memcmp(plain, free_text, sizeof plain)); /* a change of the limits is seen */
            for (unsigned drafters = 1; drafters <= (DRAFT_NGRAM | DRAFT_EXIT | DRAFT_RECYCLE); drafters++)
                for (int d = 0; d < 4; d++) {
                    write_three(d % 2 ? &toy_chain_backend : &toy_backend, w, drafters, drafts[d], (float)warm, drafted, &accepted);
                    assert_memory_equal(plain, drafted, sizeof plain);
                }
        }
    assert_int_equal(none, 0);
    assert_true(accepted > 1000);
}

/* A matcher that has much to remember is tidied in the middle of a reply, and that changes nothing: see matcher_tidy; here it must be called at all. */
static void states_survive_a_round(void **state)
{
    (void)state;
    struct rules r = rules_open("root ::= [A-Z]+");
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct request ask = ask_with((struct limits){.matcher = r.m});
    struct error err = {0};
    toy_prompt(f, 0, 4, 1, &ask);
    assert_int_equal(edits_push(&f->t[0], &f->t[0].edits.state, 3, &err), 1);
    assert_true(edits_tidy(&f->t[0], &err));
    assert_int_equal(edits_push(&f->t[0], &f->t[0].edits.state, 60, &err), 0);
    toy_teardown(f);
    rules_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_the_text_before_a_node), cmocka_unit_test(nothing_is_asked_where_nothing_is_changed),
        cmocka_unit_test(drafts_obey_the_grammar), cmocka_unit_test(a_grammar_ends_the_reply), cmocka_unit_test(a_bias_that_leaves_nothing_ends_the_reply),
        cmocka_unit_test(drafting_changes_no_token), cmocka_unit_test(states_survive_a_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
