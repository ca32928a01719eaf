/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_engine.h"

/* token, parent for each node; picks as tokens */
static struct walk walk_over(const int (*nodes)[2], int n, const int *picks)
{
    static struct node node[16];
    struct pick pick[16];
    struct walk w;
    for (int i = 0; i < n; i++) {
        node[i] = (struct node){.row.token = nodes[i][0], .parent = nodes[i][1]};
        pick[i] = (struct pick){.token = picks[i]};
    }
    struct tree tree = {.node = node, .n = n, .cap = 16};
    walk_tree(&w, &tree, pick);
    return w;
}

static void a_root_alone_gives_its_pick(void **state)
{
    (void)state;
    struct walk w = walk_over((const int[][2]){{5, -1}}, 1, (const int[]){9});
    assert_int_equal(w.n, 1);
    assert_int_equal(w.pick[0].token, 9);
}

static void a_chain_ends_at_the_first_difference(void **state)
{
    (void)state;
    static const int chain[][2] = {{5, -1}, {6, 0}, {7, 1}, {8, 2}};
    static const int picks[][4] = {{6, 7, 8, 1}, {6, 7, 9, 1}, {6, 1, 8, 1}, {1, 7, 8, 1}};
    for (int i = 0; i < 4; i++) {
        struct walk w = walk_over(chain, 4, picks[i]);
        assert_int_equal(w.n, 4 - i);
        assert_int_equal(w.pick[w.n - 1].token, picks[i][3 - i]);
    }
}

static void a_tree_is_walked_along_its_picks(void **state)
{
    (void)state;
    /* 0 -> {1: a, 2: b}; 2 -> {3: c, 4: d}; 4 -> 5: e */
    static const int tree[][2] = {{0, -1}, {10, 0}, {11, 0}, {12, 2}, {13, 2}, {14, 4}};
    struct walk w = walk_over(tree, 6, (const int[]){11, 12, 13, 1, 14, 7});
    assert_int_equal(w.n, 4);
    static const int want[] = {0, 2, 4, 5};
    for (int i = 0; i < 4; i++)
        assert_int_equal(w.node[i], want[i]);
    assert_int_equal(w.pick[3].token, 7);
}

static void a_refused_row_ends_the_walk(void **state)
{
    (void)state;
    struct walk w = walk_over((const int[][2]){{5, -1}, {6, 0}}, 2, (const int[]){-1, 3});
    assert_int_equal(w.n, 1);
    assert_int_equal(w.pick[0].token, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_root_alone_gives_its_pick),      cmocka_unit_test(a_chain_ends_at_the_first_difference),
        cmocka_unit_test(a_tree_is_walked_along_its_picks), cmocka_unit_test(a_refused_row_ends_the_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
