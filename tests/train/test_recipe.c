/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>
#include <string.h>

#include "train/recipe.h"

static struct schedule schedule_of(const char *name, int layers, int steps)
{
    const struct recipe *r = recipe_find(name);
    assert_non_null(r);
    struct schedule s = {.recipe = *r, .layers = layers, .steps = steps, .seed = 7, .warmup = 0.1, .floor = 0.1};
    if (r->curriculum == CURRICULUM_DISTILL)
        schedule_default_exits(&s);
    return s;
}

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-6 * (1 + fabs(want)))
        fail_msg("%.9g, not %.9g", got, want);
}

/* D(l) of 5 layers by hand: 2^0 - 1, 2^(1/4) - 1, 2^(1/2) - 1, 2^(3/4) - 1, 2^1 - 1. */
static void dropout_by_value(void **state)
{
    (void)state;
    const double depth[5] = {0, 0.189207115, 0.414213562, 0.681792831, 1};
    struct schedule s = schedule_of("layerskip-llama2-7b", 5, 3);
    for (int t = 0; t < 3; t++)
        for (int l = 0; l < 5; l++)
            near(schedule_drop(&s, t, l), 0.1 * depth[l]);
    const double time[3] = {0, 0.414213562, 1}; /* from scratch: 2^(t/2) - 1 */
    s = schedule_of("layerskip-llama2-7b-scratch", 5, 3);
    for (int t = 0; t < 3; t++)
        for (int l = 0; l < 5; l++)
            near(schedule_drop(&s, t, l), 0.2 * depth[l] * time[t]);
    s = schedule_of("layerskip-topv2", 1, 1);
    near(schedule_drop(&s, 0, 0), 0);
}

static void masks_are_fair_and_alone(void **state)
{
    (void)state;
    enum { LAYERS = 5, N = 4096 };
    static uint8_t all[LAYERS * N], part[LAYERS * 16], other[LAYERS * N];
    struct schedule s = schedule_of("layerskip-topv2", LAYERS, 10);
    schedule_keep(&s, 3, 0, N, all);
    for (int l = 0; l < LAYERS; l++) {
        int kept = 0;
        for (int i = 0; i < N; i++)
            kept += all[l * N + i];
        double p = 0.2 * (exp2(l / 4.0) - 1), sigma = sqrt(N * p * (1 - p));
        if (fabs(kept - N * (1 - p)) > 4 * sigma)
            fail_msg("layer %d keeps %d of %d at p %g", l, kept, N, p);
    }
    schedule_keep(&s, 3, 100, 16, part); /* the same samples in a smaller call */
    for (int l = 0; l < LAYERS; l++)
        assert_memory_equal(part + l * 16, all + l * N + 100, 16);
    schedule_keep(&s, 4, 0, N, other);
    assert_memory_not_equal(all, other, sizeof all);
    s.seed = 8;
    schedule_keep(&s, 3, 0, N, other);
    assert_memory_not_equal(all, other, sizeof all);
    s.recipe.drop_max = 0;
    schedule_keep(&s, 3, 0, N, other);
    assert_null(memchr(other, 0, sizeof other));
}

struct expected {
    int step, n;
    struct train_exit exit[6];
};

static void check_exits(const struct schedule *s, const struct expected *e, int n)
{
    for (int i = 0; i < n; i++) {
        struct train_exit got[RECIPE_LAYERS_MAX + 1];
        assert_int_equal(schedule_exits(s, e[i].step, 0, 1, got), e[i].n);
        for (int k = 0; k < e[i].n; k++) {
            assert_int_equal(got[k].layer, e[i].exit[k].layer);
            near(got[k].ce, e[i].exit[k].ce);
            near(got[k].kl, e[i].exit[k].kl);
            near(got[k].accept, e[i].exit[k].accept);
            near(got[k].anchor, e[i].exit[k].anchor);
        }
    }
}

/* L = 6, scale .2: e = 0, .2, .6, 1.2, 2, and 5 + .2 * 10 = 7 for the last. R = 3 enables l = t mod 3, and the last. */
static void rotational_by_value(void **state)
{
    (void)state;
    struct schedule s = schedule_of("layerskip-llama2-7b", 6, 100);
    s.recipe.rotation = 3;
    const struct expected e[] = {
        {0, 2, {{.layer = 4, .ce = 1.2f / 8.2f}, {.layer = 6, .ce = 7 / 8.2f}}}, /* layers 0 (weighs nothing) and 3 */
        {1, 3, {{.layer = 2, .ce = 0.2f / 9.2f}, {.layer = 5, .ce = 2 / 9.2f}, {.layer = 6, .ce = 7 / 9.2f}}},
        {2, 2, {{.layer = 3, .ce = 0.6f / 7.6f}, {.layer = 6, .ce = 7 / 7.6f}}},
        {99, 2, {{.layer = 4, .ce = 1.2f / 8.2f}, {.layer = 6, .ce = 7 / 8.2f}}},
    };
    check_exits(&s, e, 4);
}

/* The published 13B run: one exit beside the last at every step, but for the step whose turn is layer 0. e(l) = l (l+1) / 20; e(39) = 39 + 74.1. */
static void rotation_of_13b(void **state)
{
    (void)state;
    struct schedule s = schedule_of("layerskip-llama2-13b", 40, 50000);
    const struct expected e[] = {
        {0, 1, {{.layer = 40, .ce = 1}}},
        {1, 2, {{.layer = 2, .ce = 0.1f / 113.2f}, {.layer = 40, .ce = 113.1f / 113.2f}}},
        {38, 2, {{.layer = 39, .ce = 74.1f / 187.2f}, {.layer = 40, .ce = 113.1f / 187.2f}}},
        {39, 1, {{.layer = 40, .ce = 1}}},
        {49999, 2, {{.layer = 2, .ce = 0.1f / 113.2f}, {.layer = 40, .ce = 113.1f / 113.2f}}}, /* 49999 mod 39 = 1 */
    };
    check_exits(&s, e, 5);
}

/* L = 4, T = 80: one layer more every 10 steps; e = 0, 1, 3, and 3 + 3 = 6 for the last. */
static void gradual_by_value(void **state)
{
    (void)state;
    struct schedule s = schedule_of("layerskip-topv2", 4, 80);
    const struct expected e[] = {
        {0, 1, {{.layer = 4, .ce = 1}}},
        {9, 1, {{.layer = 4, .ce = 1}}},
        {10, 2, {{.layer = 3, .ce = 3 / 9.0f}, {.layer = 4, .ce = 6 / 9.0f}}},
        {20, 3, {{.layer = 2, .ce = 1 / 10.0f}, {.layer = 3, .ce = 3 / 10.0f}, {.layer = 4, .ce = 6 / 10.0f}}},
        {79, 3, {{.layer = 2, .ce = 1 / 10.0f}, {.layer = 3, .ce = 3 / 10.0f}, {.layer = 4, .ce = 6 / 10.0f}}},
    };
    check_exits(&s, e, 5);
}

/* L = 12: exits 3, 4, 6 with weights .5, .7, 1; the share of KL goes 1, .65, .3, .3 at steps 0, 25, 50, 99 of 100. */
static void distill_by_value(void **state)
{
    (void)state;
    struct schedule s = schedule_of("distill", 12, 100);
    const struct expected e[] = {
        {0, 2, {{.layer = 3, .kl = 0.5f}, {.layer = 12, .anchor = 4}}},
        {1, 2, {{.layer = 4, .kl = 0.7f * 0.986f, .accept = 0.7f * 0.014f}, {.layer = 12, .anchor = 4}}},
        {25, 2, {{.layer = 4, .kl = 0.7f * 0.65f, .accept = 0.7f * 0.35f}, {.layer = 12, .anchor = 4}}},
        {50, 2, {{.layer = 6, .kl = 0.3f, .accept = 0.7f}, {.layer = 12, .anchor = 4}}},
        {99, 2, {{.layer = 3, .kl = 0.5f * 0.3f, .accept = 0.5f * 0.7f}, {.layer = 12, .anchor = 4}}},
    };
    check_exits(&s, e, 5);
    struct train_exit got[16];
    const int order[6] = {3, 4, 6, 3, 4, 6}; /* two steps of three micro-steps */
    for (int i = 0; i < 6; i++) {
        schedule_exits(&s, i / 3, i % 3, 3, got);
        assert_int_equal(got[0].layer, order[i]);
    }
}

static void plain_is_plain(void **state)
{
    (void)state;
    struct schedule s = schedule_of("plain", 4, 10);
    const struct expected e[] = {{0, 1, {{.layer = 4, .ce = 1}}}, {9, 1, {{.layer = 4, .ce = 1}}}};
    check_exits(&s, e, 2);
    s = schedule_of("layerskip-llama2-7b", 1, 10);
    const struct expected one[] = {{0, 1, {{.layer = 1, .ce = 1}}}, {9, 1, {{.layer = 1, .ce = 1}}}};
    check_exits(&s, one, 2);
}

/* 10 warm-up steps of 100 from rate / 10 to the rate, half a cosine to a tenth of it. */
static void rate_by_value(void **state)
{
    (void)state;
    struct schedule s = schedule_of("distill", 12, 100);
    near(schedule_rate(&s, 0), 3e-5);
    near(schedule_rate(&s, 9), 3e-4);
    near(schedule_rate(&s, 10), 3e-4);
    s.steps = 101; /* 11 warm-up steps: step 11 + 89 / 2 lies between two */
    near(schedule_rate(&s, 100), 3e-5);
    s.warmup = 0;
    near(schedule_rate(&s, 0), 3e-4);
    near(schedule_rate(&s, 50), 3e-4 * 0.55);
    near(schedule_rate(&s, 25), 3e-4 * (0.1 + 0.45 * (1 + 0.707106781)));
    near(schedule_rate(&s, 100), 3e-5);
    s.steps = 1;
    near(schedule_rate(&s, 0), 3e-5);
}

static void presets_are_the_published_runs(void **state)
{
    (void)state;
    const struct {
        const char *name;
        double drop, scale, rate;
        int grows, curriculum, rotation, steps;
    } run[] = {
        {"layerskip-llama2-7b", .1, .2, 3e-5, 0, CURRICULUM_ROTATIONAL, 8, 50000},    {"layerskip-llama2-13b", .1, .1, 2e-5, 0, CURRICULUM_ROTATIONAL, 39, 50000},
        {"layerskip-llama3-8b", .1, .1, 2e-5, 0, CURRICULUM_ROTATIONAL, 8, 0},        {"layerskip-llama3.2-1b", .1, .1, 3e-5, 0, CURRICULUM_ROTATIONAL, 8, 0},
        {"layerskip-llama1-7b-code", .1, 1, 1e-4, 0, CURRICULUM_ROTATIONAL, 16, 10000}, {"layerskip-llama-1.5b-scratch", .1, .2, 8e-4, 1, CURRICULUM_ROTATIONAL, 23, 50000},
        {"layerskip-llama2-7b-scratch", .2, .2, 8e-4, 1, CURRICULUM_ROTATIONAL, 31, 50000}, {"layerskip-topv2", .2, 1, 1e-4, 0, CURRICULUM_GRADUAL, 0, 5800},
    };
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        const struct recipe *r = recipe_find(run[i].name);
        assert_non_null(r);
        assert_true(r->drop_max == run[i].drop && r->exit_scale == run[i].scale && r->rate == run[i].rate && r->drop_grows == run[i].grows);
        assert_true((int)r->curriculum == run[i].curriculum && r->rotation == run[i].rotation && r->steps == run[i].steps);
    }
    assert_null(recipe_find("layerskip-llama2"));
    int n = 0;
    while (recipe_at(n))
        n++;
    assert_int_equal(n, 10);
    assert_null(recipe_at(-1));
}

static void most_exits_is_reached_and_enough(void **state)
{
    (void)state;
    for (int i = 0; recipe_at(i); i++)
        for (int layers = 2; layers < 45; layers++) {
            struct schedule s = schedule_of(recipe_at(i)->name, layers, 200);
            struct train_exit got[RECIPE_LAYERS_MAX + 1];
            int most = 0, said = schedule_most_exits(&s);
            for (int step = 0; step < 200; step++) {
                int n = schedule_exits(&s, step, 0, 1, got);
                most = n > most ? n : most;
            }
            if (most > said || said > most + 1) /* layer 0 weighs nothing */
                fail_msg("%s, %d layers: %d exits, %d were said", recipe_at(i)->name, layers, most, said);
        }
}

static void default_exits(void **state)
{
    (void)state;
    const struct {
        int layers, n, exit[3];
    } want[] = {{30, 3, {7, 10, 15}}, {12, 3, {3, 4, 6}}, {4, 2, {1, 2}}, {2, 1, {1}}, {1, 0, {0}}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct schedule s = schedule_of("distill", want[i].layers, 10);
        assert_int_equal(s.n_exits, want[i].n);
        assert_memory_equal(s.exit, want[i].exit, (size_t)want[i].n * sizeof *s.exit);
    }
}

static void refuses(const struct schedule *s, const char *what)
{
    struct error err = {0};
    assert_int_equal(schedule_check(s, &err), ERR_USAGE);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not say %s", err.text, what);
}

static void checks(void **state)
{
    (void)state;
    struct error err = {0};
    for (int i = 0; recipe_at(i); i++) {
        struct schedule s = schedule_of(recipe_at(i)->name, 32, 1000);
        assert_int_equal(schedule_check(&s, &err), 0);
    }
    struct schedule s = schedule_of("distill", 1, 10);
    refuses(&s, "no exit to teach");
    s = schedule_of("distill", 8, 0);
    refuses(&s, "steps 0");
    s = schedule_of("distill", 12, 10);
    s.exit[2] = 12;
    refuses(&s, "exit layer 12");
    s.exit[2] = s.exit[1];
    refuses(&s, "ascending");
    s = schedule_of("layerskip-llama2-7b", 8, 10);
    s.recipe.rotation = 0;
    refuses(&s, "rotation 0");
    s.recipe.rotation = 4;
    s.recipe.drop_max = 1;
    refuses(&s, "layer dropout 1");
    s.recipe.drop_max = NAN;
    refuses(&s, "layer dropout");
    s.recipe.drop_max = 0;
    s.recipe.rate = 0;
    refuses(&s, "learning rate 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dropout_by_value), cmocka_unit_test(masks_are_fair_and_alone), cmocka_unit_test(rotational_by_value),
        cmocka_unit_test(rotation_of_13b), cmocka_unit_test(gradual_by_value), cmocka_unit_test(distill_by_value),
        cmocka_unit_test(plain_is_plain), cmocka_unit_test(rate_by_value), cmocka_unit_test(presets_are_the_published_runs),
        cmocka_unit_test(most_exits_is_reached_and_enough), cmocka_unit_test(default_exits), cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
