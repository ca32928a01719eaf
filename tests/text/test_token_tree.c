/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "text/token_tree.h"

/* Every token is found once, along nodes that spell it; skips lead behind what is below. */
static void every_token_is_spelled_once(void **state)
{
    enum { N = 3000 };
    static uint8_t data[N][6];
    static struct bytes text[N];
    static int seen[N];
    uint8_t path[TOKEN_BYTES_MAX];
    uint64_t seed = 3;
    int32_t end[] = {7, 8};
    (void)state;
    for (int i = 0; i < N; i++) { /* with empty ones and equal ones */
        for (int k = 0; k < 6; k++)
            data[i][k] = (uint8_t)(check_below(&seed, 3) ? 'a' + check_below(&seed, 3) : 0x7f + check_below(&seed, 3));
        text[i] = (struct bytes){data[i], (size_t)check_below(&seed, 7)};
    }
    struct token_tree *t = token_tree_open(text, N, end, 2, NULL);
    assert_non_null(t);
    assert_int_equal(t->longest, 6);
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        const struct token_node *n = &t->node[i];
        path[n->depth] = n->byte;
        assert_true(n->skip > i && n->skip <= t->n_nodes);
        for (uint32_t k = i + 1; k < n->skip; k++)
            assert_true(t->node[k].depth > n->depth);
        assert_true(n->skip == t->n_nodes || t->node[n->skip].depth <= n->depth);
        assert_true(n->token != token_none(t) || !n->more);
        for (int32_t k = n->token; k >= 0 && k != token_none(t); k = t->same[k]) {
            struct bytes b = text[k];
            seen[k]++;
            assert_int_equal(n->more, t->same[n->token] >= 0);
            assert_int_equal(b.n, n->depth + 1u);
            assert_memory_equal(b.p, path, b.n);
        }
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], text[i].n && i != 7 && i != 8);
    token_tree_close(t);
}

static void odd_vocabularies(void **state)
{
    static uint8_t big[TOKEN_BYTES_MAX + 1];
    struct bytes text[] = {{big, TOKEN_BYTES_MAX + 1}, {big, TOKEN_BYTES_MAX}, {big, 0}};
    struct error err = {0};
    (void)state;
    struct token_tree *t = token_tree_open(text, 3, NULL, 0, &err);
    assert_int_equal(t->n_nodes, TOKEN_BYTES_MAX);
    assert_int_equal(t->longest, TOKEN_BYTES_MAX);
    assert_int_equal(t->node[TOKEN_BYTES_MAX - 1].token, 1);
    token_tree_close(t);
    t = token_tree_open(NULL, 0, NULL, 0, &err);
    assert_int_equal(t->n_nodes, 0);
    token_tree_close(t);
    assert_null(token_tree_open(text, 3, (int32_t[]){3}, 1, &err));
    assert_non_null(strstr(err.text, "token 3"));
    token_tree_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_is_spelled_once),
        cmocka_unit_test(odd_vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
