/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "backend/rows.h"

static int no_copy(void *arg, int to, int from, struct error *err)
{
    (void)arg, (void)to, (void)from, (void)err;
    return 0;
}

static void rows_that_no_backend_may_see(void **state)
{
    (void)state;
    struct config c = {.n_layers = 4, .vocab = 100};
    struct device_options o = {.n_seqs = 2, .n_hidden = 8, .n_slots = 300};
    struct arena a = {0};
    struct pages p;
    struct error err = {0};
    assert_int_equal(pages_open(&p, &a, 2, 300, no_copy, NULL, &err), 0);
    assert_int_equal(pages_seq_open(&p, &err), 0);
    const struct row good = {.token = 5, .pos = 7, .seq = 0, .slot = 7, .prefix = 7, .h = 3};
    assert_int_equal(rows_check(&c, &o, &p, 0, 4, 0, &good, 1, &err), 0);
    struct row bad[10];
    for (int i = 0; i < 10; i++)
        bad[i] = good;
    bad[0].token = 100;
    bad[1].token = -1;
    bad[2].seq = 1; /* not open */
    bad[3].seq = 2;
    bad[4].h = 8;
    bad[5].h = -1;
    bad[6].prefix = 8;
    bad[7].pos = 8;
    bad[8].also = 3;
    bad[9].prefix = bad[9].pos = -1;
    for (int i = 0; i < 10; i++)
        assert_int_equal(rows_check(&c, &o, &p, 0, 4, 0, &bad[i], 1, &err), ERR_INTERNAL);
    assert_int_equal(rows_check(&c, &o, &p, 1, 4, 0, &bad[0], 1, &err), 0);   /* behind layer 0 nobody reads the token */
    assert_int_equal(rows_check(&c, &o, &p, 0, 4, -64, &bad[1], 1, &err), 0); /* in a chain of drafts it stands for a pick */
    static const int ranges[][2] = {{-1, 2}, {2, 2}, {3, 2}, {0, 5}};
    for (int i = 0; i < 4; i++)
        assert_int_equal(rows_check(&c, &o, &p, ranges[i][0], ranges[i][1], 0, &good, 1, &err), ERR_INTERNAL);

    assert_int_equal(rows_check_ancestors(&p, &good, 1, &err), ERR_INTERNAL); /* it sees slots that nobody has reserved */
    pages_reserve(&p, 0, 255, &err);
    assert_int_equal(rows_check_ancestors(&p, &good, 1, &err), 0);
    struct row tree = {.token = 1, .pos = 251, .slot = 252, .prefix = 250, .also = 1ull << 8};
    assert_int_equal(rows_check_ancestors(&p, &tree, 1, &err), ERR_INTERNAL); /* slot 258 */
    tree.also = 1ull << 5;
    assert_int_equal(rows_check_ancestors(&p, &tree, 1, &err), 0);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_that_no_backend_may_see)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
