/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "text/word_sets.h"

static void equal_sequences_have_one_id(void **state)
{
    struct word_sets s = {0};
    uint64_t seed = 1;
    uint32_t n;
    (void)state;
    for (int round = 0; round < 3; round++) { /* the same again after it was cleared */
        for (uint32_t i = 0; i < 5000; i++)
            assert_int_equal(word_sets_add(&s, (uint32_t[]){i / 100, i % 100, 7}, i % 4 ? 3 : 2), i);
        for (int k = 0; k < 20000; k++) {
            uint32_t i = (uint32_t)check_below(&seed, 5000);
            assert_int_equal(word_sets_add(&s, (uint32_t[]){i / 100, i % 100, 7}, i % 4 ? 3 : 2), i);
            const uint32_t *w = word_sets_at(&s, i, &n);
            assert_true(n == (i % 4 ? 3 : 2) && w[0] == i / 100 && w[1] == i % 100);
        }
        assert_int_equal(s.n, 5000);
        assert_true(word_sets_bytes(&s) > 5000 * 12);
        word_sets_clear(&s);
        assert_int_equal(s.n, 0);
    }
    assert_int_equal(word_sets_add(&s, NULL, 0), 0);
    assert_int_equal(word_sets_add(&s, (uint32_t[]){0}, 1), 1);
    assert_int_equal(word_sets_add(&s, NULL, 0), 0);
    s.round = UINT32_MAX; /* the count of clears starts again */
    word_sets_clear(&s);
    assert_int_equal(word_sets_add(&s, (uint32_t[]){0}, 1), 0);
    assert_int_equal(word_sets_add(&s, NULL, 0), 1);
    word_sets_free(&s);
    word_sets_free(&s);
}

static void growing(void **state)
{
    uint32_t cap = 0;
    (void)state;
    char *p = grow(NULL, &cap, 1, 1);
    assert_true(p && cap >= 1);
    char *q = grow(p, &cap, cap, 1);
    assert_ptr_equal(p, q);
    assert_null(grow(q, &cap, (uint64_t)UINT32_MAX + 1, 1));
    assert_null(grow(q, &cap, UINT32_MAX / 2, SIZE_MAX / 2));
    free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_sequences_have_one_id),
        cmocka_unit_test(growing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
