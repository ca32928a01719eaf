/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "eval_task.h"
#include "exit_scores.h"
#include "foretell.h"

static uint32_t state32 = 7;
static uint32_t draw(uint32_t n)
{
    state32 = state32 * 1664525u + 1013904223u;
    return (state32 >> 8) % n;
}

/* ---- the likeliest of a row ---- */

/* Many ties: of equals the lowest token comes first. */
static void the_likeliest_come_first(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        float logits[50];
        const int n = 1 + (int)draw(50);
        int32_t top[TOP_MAX];
        for (int i = 0; i < n; i++)
            logits[i] = (float)draw(6) - 3;
        memset(top, -1, sizeof top);
        likeliest(logits, n, top, TOP_MAX);
        for (int rank = 0; rank < TOP_MAX; rank++) {
            int better = 0;
            if (rank >= n) {
                assert_int_equal(top[rank], -1);
                continue;
            }
            assert_in_range(top[rank], 0, n - 1);
            for (int i = 0; i < n; i++)
                better += logits[i] > logits[top[rank]] || (logits[i] == logits[top[rank]] && i < top[rank]);
            assert_int_equal(better, rank);
        }
    }
}

static void surprise_is_the_negative_logarithm(void **state)
{
    (void)state;
    const float logits[3] = {logf(.5f), logf(.3f), logf(.2f)};
    assert_true(fabs(surprise(logits, 3, logits[0], 0) - 0.693147) < 1e-5);
    assert_true(fabs(surprise(logits, 3, logits[0], 2) - 1.609438) < 1e-5);
}

static void perplexity_has_an_error(void **state)
{
    (void)state;
    struct exit_scores e = {.n = 1, .counted = 4};
    const double nats[4] = {1, 2, 3, 6};
    for (int i = 0; i < 4; i++) {
        e.exit[0].nats += nats[i];
        e.exit[0].squares += nats[i] * nats[i];
    }
    assert_true(fabs(perplexity_of(&e, 0) - exp(3)) < 1e-9);
    assert_true(fabs(perplexity_error(&e, 0) - exp(3) * sqrt(14. / 3 / 4)) < 1e-9); /* the sample's deviation 14 / 3 over 4 tokens */
    e.counted = 1;
    assert_true(isnan(perplexity_error(&e, 0)));
    assert_true(fabs(task_stderr(3, 4) - sqrt(.75 * .25 / 3)) < 1e-12);
    assert_true(isnan(task_stderr(1, 1)));
}

static void depths_are_sorted_and_end_with_the_whole_model(void **state)
{
    (void)state;
    static const lsk_model_info info = {.n_layers = 12, .context_max = 4096};
    const struct {
        struct numbers asked;
        int all, n, depth[4];
    } cases[] = {{{3, {7, 2, 7}}, 1, 3, {2, 7, 12}}, {{0, {0}}, 0, 4, {3, 4, 6, 12}}};
    lsk_error err = {0};
    for (size_t i = 0; i < 2; i++) {
        struct exit_scores e = {.length = 64};
        assert_int_equal(exit_scores_plan(&e, &info, &cases[i].asked, cases[i].all, &err), 0);
        assert_int_equal(e.n, cases[i].n);
        assert_memory_equal(e.depth, cases[i].depth, (size_t)e.n * sizeof *e.depth);
    }
    struct exit_scores e = {.length = 64};
    assert_int_equal(exit_scores_plan(&e, &info, &cases[1].asked, 1, &err), 0);
    assert_int_equal(e.n, 12);
    assert_int_equal(exit_scores_plan(&e, &info, &(struct numbers){1, {12}}, 1, &err), LSK_EUSAGE);
}

/* ---- rounds that a reply would have taken ---- */

static void rounds_are_counted_as_drafting_would(void **state)
{
    (void)state;
    static const struct {
        const char *agrees; /* y or n for every token of the reply */
        int drafts, rounds, drafted;
    } cases[] = {{"n", 4, 1, 0},        {"yyyyy", 4, 1, 4},   {"yyyyy", 1, 3, 2},  {"nnnn", 2, 4, 2 + 2 + 1 + 0},
                 {"ynyn", 2, 2, 2 + 1}, {"yyyyyn", 2, 2, 4}, {"nyyyyy", 8, 2, 5 + 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char agrees[16];
        int drafted, n = (int)strlen(cases[i].agrees);
        for (int k = 0; k < n; k++)
            agrees[k] = cases[i].agrees[k] == 'y';
        assert_int_equal(rounds_of(agrees, n, cases[i].drafts, &drafted), cases[i].rounds);
        assert_int_equal(drafted, cases[i].drafted);
    }
}

/* By the bytes: a layer 1, the head 2, ten layers. Best of each exit, then the best exit's second choice. */
static void settings_are_ranked_by_what_they_read(void **state)
{
    (void)state;
    static const lsk_model_info info = {.n_layers = 10, .layer_bytes = 1, .head_bytes = 2};
    struct foretell f = {.exits = 3, .tokens = 100, .taken = calloc(3 * FORETELL_DRAFTS, sizeof *f.taken)};
    struct foretold out[5];
    for (int i = 0; i < 3 * FORETELL_DRAFTS; i++) {
        f.taken[i].rounds = 100;
        f.taken[i].drafted = 100 * (i % FORETELL_DRAFTS + 1);
    }
    f.taken[0].rounds = 60, f.taken[0].drafted = 60;                                       /* exit 1, one draft: 1200 / (60 * 12 + 60 * 3) */
    f.taken[FORETELL_DRAFTS + 2].rounds = 40, f.taken[FORETELL_DRAFTS + 2].drafted = 120; /* exit 2, three: 1200 / (40 * 12 + 120 * 4) */
    assert_int_equal(foretell_best(&f, &info, out, 5), 4);
    static const int want[4][2] = {{1, 1}, {2, 3}, {3, 1}, {1, 2}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(out[i].exit_layer, want[i][0]);
        assert_int_equal(out[i].drafts, want[i][1]);
    }
    assert_true(fabs(out[0].speedup - 4. / 3) < 1e-9 && fabs(out[1].speedup - 1.25) < 1e-9);
    assert_int_equal(foretell_best(&f, &info, out, 2), 2);
    assert_int_equal(out[1].drafts, 2);
    assert_int_equal(foretell_best(&(struct foretell){.taken = NULL}, &info, out, 5), 0);
    foretell_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_likeliest_come_first), cmocka_unit_test(surprise_is_the_negative_logarithm), cmocka_unit_test(perplexity_has_an_error),
                                       cmocka_unit_test(depths_are_sorted_and_end_with_the_whole_model), cmocka_unit_test(rounds_are_counted_as_drafting_would),
                                       cmocka_unit_test(settings_are_ranked_by_what_they_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
