/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_blocks(void **state)
{
    (void)state;
    struct arena a = {0};
    static const size_t sizes[] = {0, 1, 63, 64, 65, 5000, 16384, 16385, 70000, 3, 1 << 20, 40000, 40000};
    enum { N = sizeof sizes / sizeof *sizes };
    unsigned char *p[N];
    for (int i = 0; i < N; i++) {
        p[i] = arena_alloc(&a, sizes[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[i][k], 0);
        memset(p[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < N; i++) /* nobody wrote into somebody else's */
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[i][k], i + 1);
    arena_free(&a);
    assert_null(a.head);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_alloc(&a, 10));
    arena_free(&a);
}

static void test_limits(void **state)
{
    (void)state;
    struct arena a = {0};
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 64));
    assert_null(arena_array(&a, (uint64_t)1 << 33, (size_t)1 << 33));
    assert_null(arena_array(&a, UINT64_MAX, 2));
    assert_non_null(arena_array(&a, 3, 8));
    assert_int_equal(a.used, 64);
    arena_free(&a);
}

static void test_text(void **state)
{
    (void)state;
    struct arena a = {0};
    assert_string_equal(arena_text(&a, "abcdef", 3), "abc");
    assert_string_equal(arena_text(&a, NULL, 0), "");
    assert_null(arena_text(&a, "x", SIZE_MAX));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks), cmocka_unit_test(test_limits), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
