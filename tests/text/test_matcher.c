/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/random_walk.h"

static const char json_gbnf[] =
    "root ::= value\n"
    "value ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)*)? ws \"}\" | \"[\" ws (value (\",\" ws value)*)? ws \"]\" | string | number | \"true\" | \"false\" | \"null\"\n"
    "string ::= \"\\\"\" ([^\"\\\\\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" [0-9A-Ca-c] [0-9a-fA-F]{3}))* \"\\\"\"\n"
    "number ::= \"-\"? (\"0\" | [1-9] [0-9]{0,9}) (\".\" [0-9]{1,9})? ([eE] [-+]? [0-9]{1,2})?\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";

static struct grammar *open_grammar(const char *gbnf)
{
    struct error err = {0};
    struct grammar *g = grammar_open("test", (struct bytes){(const uint8_t *)gbnf, strlen(gbnf)}, &err);
    if (!g)
        print_error("%s\n", gbnf);
    if (!g)
        fail_with(err.text);
    return g;
}

static struct matcher *open_matcher(const struct grammar *g, const struct token_tree *t)
{
    struct error err = {0};
    struct matcher *m = matcher_open(g, t, &err);
    if (!m)
        fail_with(err.text);
    return m;
}

/* Every bit of the mask, by pushing each token onto a copy. */
static void check_mask(struct matcher *m, uint32_t state, const struct bytes *text)
{
    uint32_t mask[WALK_WORDS];
    int count = 0, said = matcher_mask(m, state, mask, NULL);
    for (int i = 0; i < WALK_TOKENS; i++) {
        uint32_t copy = state;
        bool end = i == WALK_END || i == WALK_END_2;
        bool want = end ? matcher_complete(m, state) : text[i].n && matcher_push(m, &copy, text[i].p, text[i].n, NULL) == (int64_t)text[i].n;
        if (walk_allows(mask, i) != want)
            fail_msg("token %d ('%.*s') is %s", i, (int)text[i].n, (const char *)text[i].p, want ? "left out" : "let through");
        count += want;
    }
    assert_int_equal(said, count);
    for (int i = WALK_TOKENS; i < 32 * WALK_WORDS; i++)
        assert_false(walk_allows(mask, i));
}

/* ---- JSON, checked by jansson ---- */

static void sampled_texts_are_json(void **state)
{
    struct bytes text[WALK_TOKENS];
    static char out[WALK_TEXT];
    struct token_tree *t = walk_tokens(text);
    struct grammar *g = open_grammar(json_gbnf);
    struct matcher *m = open_matcher(g, t);
    uint64_t seed = 5;
    int ended = 0;
    (void)state;
    for (int i = 0; i < 1500; i++) {
        int n = walk_sentence(m, text, out, 1 + i % 60, &seed);
        if (n < 0)
            continue;
        json_error_t e;
        json_t *j = json_loadb(out, (size_t)n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
        if (!j)
            fail_msg("%s: %.*s", e.text, n, out);
        json_decref(j);
        ended++;
    }
    assert_in_range(ended, 1450, 1500);
    matcher_close(m);
    grammar_close(g);
    token_tree_close(t);
}

static void masks_are_what_pushing_says(void **state)
{
    static const char *const grammars[] = {json_gbnf, "root ::= .{0,9}", "root ::= \"a\" root \"b\" | [^a-c\xc3\xa9] | \"\xc3\xa9\"", "root ::= (\"ab\" | \"aba\" \"b\"? | \"ba\"){2,7}"};
    struct bytes text[WALK_TOKENS];
    struct token_tree *t = walk_tokens(text);
    uint64_t seed = 9;
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct grammar *g = open_grammar(grammars[k]);
        struct matcher *m = open_matcher(g, t);
        for (int walk = 0; walk < 40; walk++) {
            uint32_t at = matcher_start(m), mask[WALK_WORDS];
            for (int steps = 0; steps < 25; steps++) {
                check_mask(m, at, text);
                int token = walk_pick(mask, matcher_mask(m, at, mask, NULL), false, &seed);
                if (token == WALK_END || token == WALK_END_2)
                    break;
                assert_int_equal(matcher_push(m, &at, text[token].p, text[token].n, NULL), text[token].n);
            }
        }
        matcher_close(m);
        grammar_close(g);
    }
    token_tree_close(t);
}

static void states_are_values(void **state)
{
    struct grammar *g = open_grammar("root ::= \"\xe2\x82\xac\" (\"a\" | \"b\")");
    struct matcher *m = open_matcher(g, NULL);
    uint32_t start = matcher_start(m), a = start, b, c = start;
    (void)state;
    assert_int_equal(matcher_push(m, &a, "\xe2", 1, NULL), 1);
    b = a; /* within a character */
    assert_int_equal(matcher_push(m, &a, "\x82\xac" "a", 3, NULL), 3);
    assert_int_equal(matcher_push(m, &b, "\x82\xac" "b", 3, NULL), 3);
    assert_true(matcher_complete(m, a) && matcher_complete(m, b) && !matcher_complete(m, start));
    assert_int_equal(a, b); /* equal futures */
    assert_int_equal(matcher_push(m, &c, "\xe2\x82\xad", 3, NULL), 2);
    assert_int_equal(c, MATCHER_DEAD);
    assert_int_equal(matcher_push(m, &c, "a", 1, NULL), 0);
    assert_false(matcher_complete(m, c));
    matcher_close(m);
    grammar_close(g);
}

static void a_dead_state_allows_nothing(void **state)
{
    struct bytes text[WALK_TOKENS];
    struct token_tree *t = walk_tokens(text);
    struct grammar *g = open_grammar("root ::= \"a\"");
    struct matcher *m = open_matcher(g, t);
    uint32_t mask[WALK_WORDS] = {1}, at = matcher_start(m);
    (void)state;
    assert_int_equal(matcher_push(m, &at, "b", 1, NULL), 0);
    assert_int_equal(matcher_mask(m, at, mask, NULL), 0);
    for (int i = 0; i < WALK_WORDS; i++)
        assert_int_equal(mask[i], 0);
    matcher_close(m);
    grammar_close(g);
    token_tree_close(t);
}

/* ---- random grammars, checked by trying everything ---- */

enum kind { CHARS, SEQUENCE, ALTERNATIVES, REPEAT, RULE };

struct node {
    enum kind kind;
    int a, b;     /* nodes; a: a rule */
    int min, max; /* -1: any number */
    unsigned set; /* bits: a, b, e-acute */
};

enum { RULES = 4, NODES = 400 };
static struct node nodes[NODES];
static int n_nodes, rule[RULES];
static const char *const letters[] = {"a", "b", "\xc3\xa9"};

/* Depth: `left`. A rule refers to later ones, or to any behind a character: no left recursion. */
static int make_node(int left, int self, bool guarded, uint64_t *seed)
{
    int i = n_nodes++, pick = left ? check_below(seed, 10) : 0;
    struct node n = {CHARS, 0, 0, 0, 0, 1u + (unsigned)check_below(seed, 7)};
    if (n_nodes > NODES - 8)
        pick = 0;
    if (pick > 1 && pick < 5) {
        n.kind = SEQUENCE;
        n.a = make_node(left - 1, self, guarded, seed);
        n.b = make_node(left - 1, self, guarded || nodes[n.a].kind == CHARS, seed);
    } else if (pick == 5 || pick == 6) {
        n.kind = ALTERNATIVES;
        n.a = make_node(left - 1, self, guarded, seed);
        n.b = make_node(left - 1, self, guarded, seed);
    } else if (pick == 7 || pick == 8) {
        n.kind = REPEAT;
        n.a = make_node(left - 1, self, guarded, seed);
        n.min = check_below(seed, 3);
        n.max = check_below(seed, 3) ? n.min + check_below(seed, 3) : -1;
    } else if (pick == 9 && (guarded || self + 1 < RULES)) {
        n.kind = RULE;
        n.a = guarded ? check_below(seed, RULES) : self + 1 + check_below(seed, RULES - self - 1);
    }
    nodes[i] = n;
    return i;
}

static char *print_node(char *to, int i)
{
    const struct node *n = &nodes[i];
    const char *first = n->set & 1 ? letters[0] : "", *second = n->set & 2 ? letters[1] : "", *third = n->set & 4 ? letters[2] : "";
    if (n->kind == CHARS)
        return to + sprintf(to, n->set & (n->set - 1) ? "[%s%s%s]" : "\"%s%s%s\"", first, second, third);
    if (n->kind == RULE)
        return to + sprintf(to, n->a ? "r%d" : "root", n->a);
    *to++ = '(';
    to = print_node(to, n->a);
    if (n->kind != REPEAT) {
        to += sprintf(to, n->kind == SEQUENCE ? " " : " | ");
        to = print_node(to, n->b);
    }
    *to++ = ')';
    if (n->kind == REPEAT)
        to += n->max < 0 ? sprintf(to, "{%d,}", n->min) : n->min == n->max ? sprintf(to, "{%d}", n->min) : sprintf(to, "{%d,%d}", n->min, n->max);
    *to = 0;
    return to;
}

static void make_grammar(char *to, uint64_t *seed)
{
    n_nodes = 0;
    for (int r = 0; r < RULES; r++) {
        to += sprintf(to, r ? "\nr%d ::= " : "root ::= ", r);
        to = print_node(to, rule[r] = make_node(4, r, false, seed));
    }
}

/* Bit k of the result: the node can end at byte k when it begins at one of `from`. */
static uint64_t ends_of(int i, uint64_t from, const char *text)
{
    const struct node *n = &nodes[i];
    uint64_t all = 0, now = from;
    if (!from)
        return 0;
    switch (n->kind) {
    case CHARS:
        for (int k = 0; k < 60; k++)
            for (int c = 0; c < 3; c++)
                if (from >> k & 1 && n->set >> c & 1 && strncmp(text + k, letters[c], strlen(letters[c])) == 0)
                    all |= 1ull << (k + (int)strlen(letters[c]));
        return all;
    case SEQUENCE: return ends_of(n->b, ends_of(n->a, from, text), text);
    case ALTERNATIVES: return ends_of(n->a, from, text) | ends_of(n->b, from, text);
    case RULE: return ends_of(rule[n->a], from, text);
    default: break;
    }
    for (int k = 0; k < n->min; k++)
        now = ends_of(n->a, now, text);
    all = now;
    for (int k = n->min; now && k != n->max && k < n->min + 70; k++)
        all |= now = ends_of(n->a, now, text);
    return all;
}

static void random_grammars_against_plain_search(void **state)
{
    static char gbnf[1 << 16], out[WALK_TEXT];
    static char padded[WALK_TEXT + 64];
    struct bytes text[WALK_TOKENS];
    struct token_tree *t = walk_tokens(text);
    uint64_t seed = 77;
    int sentences = 0, accepted = 0, tried = 0;
    (void)state;
    for (int round = 0; round < 1500; round++) {
        make_grammar(gbnf, &seed);
        struct grammar *g = grammar_open("random", (struct bytes){(const uint8_t *)gbnf, strlen(gbnf)}, NULL);
        if (!g) /* nothing matches it */
            continue;
        struct matcher *m = open_matcher(g, t);
        for (int k = 0; k < 12; k++) {
            int n = 0;
            for (int c = check_below(&seed, 10); c > 0; c--)
                n += sprintf(padded + n, "%s", letters[check_below(&seed, 3)]);
            memset(padded + n, 0, 64);
            uint32_t at = matcher_start(m);
            bool got = matcher_push(m, &at, padded, (size_t)n, NULL) == n && matcher_complete(m, at), want = ends_of(rule[0], 1, padded) >> n & 1;
            if (got != want)
                fail_msg("%s\n%s '%s'", gbnf, got ? "accepts" : "refuses", padded);
            accepted += got;
            tried++;
        }
        for (int k = 0; k < 6; k++) {
            int n = walk_sentence(m, text, out, 1 + k, &seed);
            if (n < 0 || n > 50)
                continue;
            memset(padded, 0, 128);
            memcpy(padded, out, (size_t)n);
            if (!(ends_of(rule[0], 1, padded) >> n & 1))
                fail_msg("%s\nallowed the tokens of '%s'", gbnf, padded);
            sentences++;
        }
        matcher_close(m);
        grammar_close(g);
    }
    print_message("%d sentences, %d of %d random texts accepted\n", sentences, accepted, tried);
    assert_true(sentences > 5000 && accepted > 500 && accepted < tried / 2);
    token_tree_close(t);
}

/* ---- memory ---- */

static void forgetting_keeps_the_states_that_are_named(void **state)
{
    enum { DEEP = 50000 };
    static char brackets[DEEP];
    struct bytes text[WALK_TOKENS];
    struct token_tree *t = walk_tokens(text);
    struct grammar *g = open_grammar(json_gbnf);
    struct matcher *m = open_matcher(g, t);
    uint32_t shallow = matcher_start(m), deep, mask[WALK_WORDS], again[WALK_WORDS], start = shallow;
    (void)state;
    memset(brackets, '[', DEEP);
    assert_int_equal(matcher_push(m, &shallow, "[{\"a\":\"\xe2", 8, NULL), 8);
    deep = matcher_start(m);
    assert_int_equal(matcher_push(m, &deep, brackets, DEEP, NULL), DEEP);
    size_t before = matcher_bytes(m);
    assert_true(before > MATCHER_BYTES_MAX / 4);
    matcher_mask(m, shallow, mask, NULL);
    assert_int_equal(matcher_tidy(m, (uint32_t *[]){&shallow, &deep, &start}, 3, NULL), 0);
    assert_true(matcher_bytes(m) < before / 2);
    assert_int_equal(start, matcher_start(m));
    matcher_mask(m, shallow, again, NULL);
    assert_memory_equal(mask, again, sizeof mask);
    check_mask(m, shallow, text);
    check_mask(m, deep, text);
    assert_int_equal(matcher_push(m, &shallow, "\x82\xac\"}]", 5, NULL), 5);
    assert_true(matcher_complete(m, shallow));
    memset(brackets, ']', DEEP);
    assert_int_equal(matcher_push(m, &deep, brackets, DEEP - 1, NULL), DEEP - 1);
    assert_false(matcher_complete(m, deep));
    assert_int_equal(matcher_push(m, &deep, "]]", 2, NULL), 1);
    matcher_close(m);
    grammar_close(g);
    token_tree_close(t);
}

static void too_much_is_an_error(void **state)
{
    struct error err = {0};
    struct grammar *g = open_grammar(json_gbnf);
    struct matcher *m = open_matcher(g, NULL);
    uint32_t at = matcher_start(m);
    size_t n = 0;
    (void)state;
    while (n < 1 << 20 && matcher_push(m, &at, "[", 1, &err) == 1)
        n++;
    assert_int_equal(err.code, ERR_DATA);
    assert_non_null(strstr(err.text, "MiB"));
    assert_true(matcher_bytes(m) < 4 * (size_t)MATCHER_BYTES_MAX);
    assert_true(matcher_push(m, &at, "]", 1, &err) != 0); /* the state is still good */
    matcher_close(m);
    grammar_close(g);
}

/* Drafts fill a matcher with what plain decoding never sees: the masks stay those of a fresh one, and so do refusals. */
static void a_full_matcher_is_worth_a_fresh_one(void **state)
{
    enum { LIMIT = 1 << 20 };
    struct bytes text[WALK_TOKENS];
    struct token_tree *t = walk_tokens(text);
    struct grammar *g = open_grammar(json_gbnf);
    struct matcher *full = open_matcher(g, t), *fresh = open_matcher(g, t);
    static const char *const texts[] = {"", "[{\"a\":\"\xe2", "{\"x\":[1.5e", "[[[\"\\u0"};
    uint32_t at[4], mask[WALK_WORDS], wanted[WALK_WORDS], deep = matcher_start(full);
    (void)state;
    matcher_limit(full, LIMIT);
    matcher_limit(fresh, LIMIT);
    for (int i = 0; i < 4; i++) {
        at[i] = matcher_start(full);
        assert_int_equal(matcher_push(full, &at[i], texts[i], strlen(texts[i]), NULL), strlen(texts[i]));
    }
    while (matcher_push(full, &deep, "[", 1, NULL) == 1)
        ;
    uint32_t next = at[1];
    assert_true(matcher_push(full, &next, "\x82\xac\", \t", 6, NULL) < 0); /* it is full: nothing new goes in */
    for (int i = 0; i < 4; i++) {
        uint32_t same = matcher_start(fresh);
        assert_int_equal(matcher_push(fresh, &same, texts[i], strlen(texts[i]), NULL), strlen(texts[i]));
        int n = matcher_mask(fresh, same, wanted, NULL);
        assert_true(n > 0);
        assert_int_equal(matcher_mask(full, at[i], mask, NULL), n);
        assert_memory_equal(mask, wanted, sizeof mask);
    }
    assert_int_equal(matcher_tidy(full, (uint32_t *[]){&at[1]}, 1, NULL), 0); /* and a push that failed goes in behind this */
    assert_true(matcher_push(full, &at[1], "\x82\xac\",", 4, NULL) > 0);
    matcher_close(full);
    matcher_close(fresh);
    grammar_close(g);
    token_tree_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampled_texts_are_json),
        cmocka_unit_test(masks_are_what_pushing_says),
        cmocka_unit_test(states_are_values),
        cmocka_unit_test(a_dead_state_allows_nothing),
        cmocka_unit_test(random_grammars_against_plain_search),
        cmocka_unit_test(forgetting_keeps_the_states_that_are_named),
        cmocka_unit_test(too_much_is_an_error),
        cmocka_unit_test(a_full_matcher_is_worth_a_fresh_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
