/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <string.h>

#include "text/piece_map.h"

static void test_add_and_find(void **state)
{
    enum { N = 5000 };
    static char text[N][24];
    static struct bytes key[N];
    struct arena a = {0};
    struct piece_map m;
    (void)state;
    for (int i = 0; i < N; i++)
        key[i] = (struct bytes){(const uint8_t *)text[i], (size_t)snprintf(text[i], sizeof text[i], "%d-%.*s", i / 2 * 2, i % 17, "aaaaaaaaaaaaaaaaaaaa")};
    key[N - 1] = key[0];
    assert_true(piece_map_init(&m, &a, key, N));
    for (int i = 0; i < N - 1; i++)
        assert_int_equal(piece_map_add(&m, i), i);
    assert_int_equal(piece_map_add(&m, N - 1), 0); /* its bytes are taken */
    for (int i = 0; i < N - 1; i++)
        assert_int_equal(piece_map_find(&m, key[i].p, key[i].n), i);
    assert_int_equal(piece_map_find(&m, "absent", 6), -1);
    assert_int_equal(piece_map_find(&m, "", 0), -1);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_add_and_find)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
