/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

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

/* Keys that differ in one byte only, of any length and in any place, and one behind another in memory. */
static void test_every_byte_counts(void **state)
{
    enum { LONGEST = 20, N = LONGEST * (LONGEST + 1) / 2 };
    static uint8_t text[N][LONGEST];
    static struct bytes key[N];
    struct arena a = {0};
    struct piece_map m;
    int n = 0;
    (void)state;
    for (size_t size = 1; size <= LONGEST; size++)
        for (size_t at = 0; at < size; at++, n++) {
            key[n] = (struct bytes){text[n], size};
            text[n][at] = 1;
        }
    assert_true(piece_map_init(&m, &a, key, N));
    for (int i = 0; i < n; i++)
        assert_int_equal(piece_map_add(&m, i), i);
    for (int i = 0; i < n; i++)
        assert_int_equal(piece_map_find(&m, key[i].p, key[i].n), i);
    assert_int_equal(piece_map_find(&m, text[0] + 1, 3), -1);
    arena_free(&a);
}

/* 100,000 keys of one hash value: the step of piece_map.c run forwards, and a second half that takes the first one's trace away. Those
   behind the bound are not taken; all others stay. */
static void test_keys_of_one_hash(void **state)
{
    enum { N = 100000 };
    static uint64_t text[N][2];
    static struct bytes key[N];
    struct arena a = {0};
    struct piece_map m;
    int taken = 0;
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        uint64_t h = ((16 * 0x9e3779b97f4a7c15u) ^ i) * 0xd6e8feb86659fd93u;
        text[i][0] = i;
        text[i][1] = h ^ h >> 32 ^ 12345;
        key[i] = (struct bytes){(const uint8_t *)text[i], 16};
    }
    assert_true(piece_map_init(&m, &a, key, N));
    clock_t start = clock();
    for (int i = 0; i < N; i++) {
        int32_t id = piece_map_add(&m, i);
        assert_true(id == i || id == -1);
        taken += id == i;
    }
    assert_true(taken > 2 && taken < PROBES_MAX);
    for (int i = 0; i < N; i++)
        assert_int_equal(piece_map_find(&m, key[i].p, key[i].n), i < taken ? i : -1);
    assert_true(clock() - start < CLOCKS_PER_SEC / 2);
    arena_free(&a);
}

/* A map as full as it gets, of keys that look alike: none is turned away. */
static void test_regular_keys_are_taken(void **state)
{
    enum { N = 1 << 18 };
    static const char *const forms[] = {"%d", "<|reserved_special_token_%d|>", "%08d", "<extra_id_%06d>", "%x", "abcdefgh%07d", "\xe2\x96\x81%05d\xe2\x96\x81"};
    static char text[N][40];
    static struct bytes key[N];
    (void)state;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        struct arena a = {0};
        struct piece_map m;
        for (int i = 0; i < N; i++)
            key[i] = (struct bytes){(const uint8_t *)text[i], (size_t)snprintf(text[i], sizeof text[i], forms[f], i)};
        assert_true(piece_map_init(&m, &a, key, N));
        assert_int_equal(m.mask + 1, 2 * N);
        for (int i = 0; i < N; i++)
            assert_int_equal(piece_map_add(&m, i), i);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_add_and_find), cmocka_unit_test(test_every_byte_counts), cmocka_unit_test(test_keys_of_one_hash),
                                       cmocka_unit_test(test_regular_keys_are_taken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
