/* SPDX-License-Identifier: Apache-2.0 */
/* The choice rule: cuts against a sorted list, noise for every extreme, the sampled distribution against exact probabilities, with planted faults that must fail it. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/cpu/ops.h"
#include "cuts.h"

static void noise_is_finite_at_both_ends(void **state)
{
    (void)state;
    static const uint32_t bits[] = {0, 1, 2, 0x7fffffffu, 0x80000000u, 0xfffffffdu, 0xfffffffeu, 0xffffffffu};
    double last = INFINITY;
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        double g = pick_gumbel(bits[i]), w = ((double)bits[i] + 0.5) / 4294967296.0;
        assert_true(isfinite(g) && g < last); /* falls as the bits rise */
        assert_true(fabs(g + log(-log1p(-w))) < 1e-9 * (1 + fabs(g)));
        last = g;
    }
    uint64_t seed = 1;
    for (int i = 0; i < 1000000; i++) {
        uint32_t b = (uint32_t)check_random(&seed);
        double w = ((double)b + 0.5) / 4294967296.0;
        assert_true(fabs(pick_gumbel(b) + log(-log1p(-w))) < 1e-9);
    }
}

static void noise_depends_on_each_part_of_its_key(void **state)
{
    (void)state;
    struct sampling s = {.seed = 1}, t = {.seed = 2}, c = {.seed = 1, .choice = 1};
    uint32_t a = pick_noise(&s, 5, 7).v[0];
    assert_int_equal(a, pick_noise(&s, 5, 7).v[0]);
    assert_int_not_equal(a, pick_noise(&t, 5, 7).v[0]);
    assert_int_not_equal(a, pick_noise(&c, 5, 7).v[0]);
    assert_int_not_equal(a, pick_noise(&s, 6, 7).v[0]);
    assert_int_not_equal(a, pick_noise(&s, 5, 8).v[0]);
}

/* ---- cuts ---- */

struct item {
    float x;
    int id;
};

static int in_order(const void *a, const void *b)
{
    const struct item *p = a, *q = b;
    return p->x != q->x ? (p->x < q->x ? 1 : -1) : p->id - q->id;
}

/* How many of the sorted tokens the rule of pick.h keeps, by its words. */
static int count_kept(const struct item *sorted, int n, const struct sampling *s)
{
    int live = 0;
    while (live < n && pick_mass(sorted[live].x - sorted[0].x) > 0)
        live++;
    if (s->top_k > 0 && s->top_k < live)
        live = s->top_k;
    if (s->top_p > 0 && s->top_p < 1) {
        uint64_t total = 0, sum = 0;
        for (int i = 0; i < live; i++)
            total += pick_mass(sorted[i].x - sorted[0].x);
        uint64_t target = (uint64_t)ceil((double)s->top_p * (double)total);
        int k = 0;
        while (k < live && sum < target)
            sum += pick_mass(sorted[k++].x - sorted[0].x);
        live = k;
    }
    if (s->min_p > 0)
        while (live > 1 && (double)pick_mass(sorted[live - 1].x - sorted[0].x) < (double)s->min_p * (double)PICK_ONE)
            live--;
    return live;
}

static void cuts_keep_what_a_sorted_list_keeps(void **state)
{
    (void)state;
    uint64_t seed = 2;
    enum { N = 300 };
    float logits[N];
    struct item sorted[N];
    for (int round = 0; round < 600; round++) {
        int n = 1 + check_below(&seed, N);
        struct sampling s = {.temperature = 0.25f + 2 * fabsf(check_float(&seed))};
        if (round % 3 != 0)
            s.top_k = 1 + check_below(&seed, n + 4);
        if (round % 3 != 1)
            s.top_p = 0.05f + 0.9f * fabsf(check_float(&seed));
        if (round % 4 == 3)
            s.min_p = fabsf(check_float(&seed)) * 0.3f;
        float max = -INFINITY;
        for (int i = 0; i < n; i++) {
            logits[i] = round % 2 ? (float)check_below(&seed, 6) : 6 * check_normal(&seed); /* half of the rounds are full of ties */
            max = fmaxf(max, logits[i]);
        }
        for (int i = 0; i < n; i++)
            sorted[i] = (struct item){logits[i] / s.temperature, i};
        qsort(sorted, (size_t)n, sizeof *sorted, in_order);
        struct cut cut = cut_of(logits, n, max, &s);
        int want = count_kept(sorted, n, &s);
        for (int i = 0; i < n; i++) {
            int kept = pick_keeps(cut, sorted[i].x, sorted[i].id) && pick_mass(sorted[i].x - sorted[0].x) > 0;
            assert_int_equal(kept, i < want);
        }
    }
}

/* ---- the sampled distribution ---- */

enum { V = 32, DRAWS = SANITIZED ? 20000 : 200000 };

enum fault { NO_FAULT, SAME_NOISE_EVERYWHERE, NOISE_FOR_HALF, WRONG_TEMPERATURE, NOT_RENORMALISED };

/* What the draws of a fit share. */
struct draws {
    const struct ops *o;
    const float *logits;
    struct sampling used;
    struct scan top;
    struct cut cut;
    enum fault fault;
};

static const struct cut all_stay = {-INFINITY, INT32_MAX};

static struct draws prepare_draws(const float *logits, const struct sampling *s, enum fault fault)
{
    struct draws d = {.o = ops_pick(NULL), .logits = logits, .used = *s, .fault = fault};
    if (fault == WRONG_TEMPERATURE)
        d.used.temperature *= 0.97f;
    d.top = d.o->scan(logits, 0, V);
    d.cut = pick_filters(&d.used) ? cut_of(logits, V, d.top.max, &d.used) : all_stay;
    return d;
}

static int draw(const struct draws *d, int32_t position)
{
    const struct best none = {-INFINITY, -1};
    if (d->fault == NOT_RENORMALISED) { /* what a filter took away goes to the first token */
        struct best all = d->o->noisy(d->logits, 0, V, NULL, &d->used, position, d->top.max, all_stay, none);
        return pick_keeps(d->cut, d->logits[all.id] / d->used.temperature, all.id) ? all.id : d->top.id;
    }
    if (d->fault == NOISE_FOR_HALF) { /* tokens of odd id share the noise of their neighbour */
        struct best b = none;
        for (int i = 0; i < V; i++) {
            double key = (double)(d->logits[i] / d->used.temperature) + pick_gumbel(pick_noise(&d->used, position, i / 4).v[i & 2]);
            if (key > b.key)
                b = (struct best){key, i};
        }
        return b.id;
    }
    return d->o->noisy(d->logits, 0, V, NULL, &d->used, d->fault == SAME_NOISE_EVERYWHERE ? position / 2 : position, d->top.max, d->cut, none).id;
}

/* Log of an upper bound of the probability that chi-square with df degrees is at least x (Chernoff): enough to tell 1e-6 from 1e-12. */
static double log_tail(double x, int df)
{
    double r = x / df;
    return r <= 1 ? 0 : -0.5 * df * (r - 1 - log(r));
}

/* Chi-square of pairs of consecutive draws against the product of exact probabilities; the result is log10 of the tail bound. */
static double fit(const struct sampling *s, enum fault fault)
{
    static int count[V][V];
    float logits[V];
    double p[V], sum = 0, chi = 0, rest = 0, rest_want = 0;
    struct item sorted[V];
    uint64_t seed = 77;
    int df = -1;
    for (int i = 0; i < V; i++) {
        logits[i] = 1.3f * check_normal(&seed);
        sorted[i] = (struct item){logits[i] / s->temperature, i};
        for (int j = 0; j < V; j++)
            count[i][j] = 0;
    }
    qsort(sorted, V, sizeof *sorted, in_order);
    int kept = count_kept(sorted, V, s);
    for (int i = 0; i < V; i++)
        p[sorted[i].id] = i < kept ? exp((double)sorted[i].x - sorted[0].x) : 0;
    for (int i = 0; i < V; i++)
        sum += p[i];
    const struct draws d = prepare_draws(logits, s, fault);
    for (int k = 0; k < DRAWS; k++)
        count[draw(&d, 2 * k)][draw(&d, 2 * k + 1)]++;
    for (int i = 0; i < V; i++)
        for (int j = 0; j < V; j++) {
            double want = p[i] / sum * p[j] / sum * DRAWS, diff = count[i][j] - want;
            if (want < 10) { /* rare pairs are counted together */
                rest += count[i][j];
                rest_want += want;
                continue;
            }
            chi += diff * diff / want;
            df++;
        }
    if (rest_want > 0) {
        chi += (rest - rest_want) * (rest - rest_want) / rest_want;
        df++;
    } else if (rest > 0) {
        return -1000;
    }
    return log_tail(chi, df) / log(10);
}

static void sampling_has_the_exact_distribution(void **state)
{
    (void)state;
    static const struct sampling cases[] = {
        {.temperature = 1, .seed = 3},
        {.temperature = 0.7f, .seed = 4, .top_k = 8},
        {.temperature = 1.2f, .seed = 5, .top_p = 0.8f},
        {.temperature = 0.9f, .seed = 6, .min_p = 0.1f},
        {.temperature = 1, .seed = 7, .top_k = 12, .top_p = 0.9f, .min_p = 0.05f, .choice = 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double tail = fit(&cases[i], NO_FAULT);
        print_message("case %zu: log10 of the tail %.2f\n", i, tail);
        assert_true(tail > -6);
    }
}

static void planted_faults_fail_the_fit(void **state)
{
    (void)state;
    struct sampling s = {.temperature = 0.8f, .seed = 8, .top_p = 0.7f};
    static const enum fault faults[] = {SAME_NOISE_EVERYWHERE, NOISE_FOR_HALF, WRONG_TEMPERATURE, NOT_RENORMALISED};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        double tail = fit(&s, faults[i]);
        print_message("fault %d: log10 of the tail %.1f\n", (int)faults[i], tail);
        assert_true(tail < -12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_finite_at_both_ends),        cmocka_unit_test(noise_depends_on_each_part_of_its_key),
        cmocka_unit_test(cuts_keep_what_a_sorted_list_keeps),  cmocka_unit_test(sampling_has_the_exact_distribution),
        cmocka_unit_test(planted_faults_fail_the_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
