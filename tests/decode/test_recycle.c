/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "decode/recycle.h"

enum { VOCAB = 50 };

static struct pick pick_of(int n, int32_t first)
{
    struct pick p = {.token = first, .n_top = n};
    for (int i = 0; i < n; i++)
        p.top[i] = (struct candidate){first + i, -(float)i};
    return p;
}

static void the_last_candidates_are_kept(void **state)
{
    (void)state;
    struct recycle r;
    assert_int_equal(recycle_open(&r, VOCAB, NULL), 0);
    assert_true(recycle_bytes(VOCAB) == VOCAB * sizeof(struct guess[RECYCLE_TOP]));
    struct pick a = pick_of(RECYCLE_TOP, 10), b = pick_of(PICK_TOP, 30), none = pick_of(0, 5);
    recycle_learn(&r, 7, &a);
    recycle_learn(&r, VOCAB - 1, &a);
    recycle_learn(&r, 7, &b);
    recycle_learn(&r, 7, &none); /* a pick without candidates says nothing */
    for (int i = 0; i < RECYCLE_TOP; i++) {
        assert_int_equal(r.after[7][i].token, 30 + i);
        assert_int_equal(r.after[VOCAB - 1][i].token, 10 + i);
        assert_true(r.after[7][i].conf == pick_exp(-(float)i));
        assert_true(r.after[0][i].conf == 0);
    }
    recycle_forget(&r);
    for (int t = 0; t < VOCAB; t++)
        assert_true(r.after[t][0].conf == 0);
    recycle_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_last_candidates_are_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
