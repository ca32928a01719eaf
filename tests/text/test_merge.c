/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <string.h>

#include "text/merge.h"

enum { SYMBOLS = 40, MERGES = 60, VOCAB = 1 << 22 };

static const struct merge *rule(const struct merge *m, int32_t left, int32_t right)
{
    const struct merge *found = NULL; /* the later one holds */
    for (int i = 0; i < MERGES; i++)
        if (m[i].left == left && m[i].right == right)
            found = &m[i];
    return found;
}

/* The definition, word for word and quadratic. */
static uint32_t plain_merge(const struct merge *m, int32_t *id, uint32_t n)
{
    for (;;) {
        const struct merge *best = NULL;
        uint32_t at = 0;
        for (uint32_t i = 0; i + 1 < n; i++) {
            const struct merge *r = rule(m, id[i], id[i + 1]);
            if (r && (!best || r->rank < best->rank)) {
                best = r;
                at = i;
            }
        }
        if (!best)
            return n;
        id[at] = best->id;
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
        n--;
    }
}

static void test_run_is_the_definition(void **state)
{
    struct merge_work w = {0};
    uint64_t seed = 7;
    (void)state;
    assert_int_equal(merge_work_grow(&w, 300, NULL), 0);
    for (int round = 0; round < 2000; round++) {
        struct merge m[MERGES];
        struct arena a = {0};
        struct merge_table t;
        int32_t want[300];
        uint32_t n = (uint32_t)check_below(&seed, round % 10 ? 20 : 300);
        int few = 2 + check_below(&seed, 6); /* few symbols: long chains of merges */
        for (int i = 0; i < MERGES; i++)
            m[i] = (struct merge){check_below(&seed, few * 2), check_below(&seed, few * 2), check_below(&seed, SYMBOLS), (uint32_t)(i / (1 + round % 3))};
        for (uint32_t i = 0; i < n; i++)
            want[i] = w.id[i] = check_below(&seed, few);
        assert_int_equal(merge_table_init(&t, &a, m, MERGES, "FILE", NULL), 0);
        uint32_t n_want = plain_merge(m, want, n), got = merge_run(&t, &w, n);
        assert_int_equal(got, n_want);
        assert_memory_equal(w.id, want, got * sizeof *want);
        arena_free(&a);
    }
    merge_work_free(&w);
}

/* Pairs that all fall on one place of the index are refused before they cost a second, and by name. */
static void test_crowded_pairs(void **state)
{
    enum { N = 512, FEW = 200 };
    static struct merge m[N];
    struct arena a = {0};
    struct merge_table t;
    struct error err = {0};
    int n = 0;
    (void)state;
    for (int32_t left = 0; n < N; left++)
        for (int32_t right = 0; right < 1 << 22 && n < N; right++) { /* the hash of merge.c: the low bits choose the place */
            uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
            if ((((h >> 32) ^ (h >> 15)) & 1023) == 77)
                m[n++] = (struct merge){left, right, 0, 0};
        }
    assert_int_equal(merge_table_init(&t, &a, m, FEW, "FILE", &err), 0); /* some may */
    assert_int_equal(merge_table_init(&t, &a, m, N, "FILE", &err), ERR_DATA);
    assert_non_null(strstr(err.text, "FILE: merge of tokens 0 and"));
    arena_free(&a);
}

/* A table as full as it gets, of pairs in regular patterns: none is turned away. */
static void test_regular_pairs_are_taken(void **state)
{
    enum { BITS = 18, N = 1 << BITS };
    static struct merge m[N];
    (void)state;
    for (int shift = 0; shift <= BITS; shift++)
        for (int step = 1; step < 5000; step = step * 7 + 3) { /* 2^shift right parts for each left one */
            struct arena a = {0};
            struct merge_table t;
            for (int i = 0; i < N; i++)
                m[i] = (struct merge){(i >> shift) * step % VOCAB, (i & ((1 << shift) - 1)) * step % VOCAB, i, 0};
            struct error err = {0};
            if (merge_table_init(&t, &a, m, N, "FILE", &err))
                fail_msg("shift %d step %d: %s", shift, step, err.text);
            arena_free(&a);
        }
}

static void test_grow_keeps_symbols_and_has_a_limit(void **state)
{
    struct merge_work w = {0};
    struct error err = {0};
    (void)state;
    assert_int_equal(merge_work_grow(&w, 10, &err), 0);
    w.id[9] = 42;
    assert_int_equal(merge_work_grow(&w, 100000, &err), 0);
    assert_int_equal(w.id[9], 42);
    assert_int_equal(merge_work_grow(&w, (size_t)2 << 30, &err), ERR_USAGE);
    merge_work_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_is_the_definition),
        cmocka_unit_test(test_crowded_pairs),
        cmocka_unit_test(test_regular_pairs_are_taken),
        cmocka_unit_test(test_grow_keeps_symbols_and_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
