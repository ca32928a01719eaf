/* SPDX-License-Identifier: Apache-2.0 */
/* The cut that slices find together is the one of the whole sorted vocabulary, for every set, any slices and logits meant to break it. */
#include "check.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuts.h"

enum { N = 3000 };

struct item {
    float x;
    int id;
    uint64_t mass;
};

static int in_order(const void *a, const void *b)
{
    const struct item *p = a, *q = b;
    return p->x != q->x ? (p->x < q->x ? 1 : -1) : p->id - q->id;
}

/* The rule of pick.h by its words: sorts the tokens and returns how many are kept. */
static int keep(const float *logits, int n, float max, const struct sampling *s, struct item *order)
{
    float top = max / s->temperature, lowest = top;
    int live = 0, kept = 0;
    for (int i = 0; i < n; i++) {
        float x = logits[i] / s->temperature;
        uint64_t m = pick_mass(x - top);
        if (m)
            order[live++] = (struct item){x, i, m};
        if (s->min_p > 0 && x < lowest && (double)m >= (double)s->min_p * (double)PICK_ONE)
            lowest = x;
    }
    qsort(order, (size_t)live, sizeof *order, in_order);
    if (s->top_k > 0 && s->top_k < live)
        live = s->top_k;
    if (s->top_p > 0 && s->top_p < 1 && live) {
        uint64_t total = 0, sum = 0;
        for (int i = 0; i < live; i++)
            total += order[i].mass;
        uint64_t target = (uint64_t)ceil((double)s->top_p * (double)total);
        while (kept < live && (sum < target || !kept))
            sum += order[kept++].mass;
        live = kept;
    }
    while (s->min_p > 0 && live && order[live - 1].x < lowest)
        live--;
    return live;
}

static void check_cut(const float *logits, int n, const struct sampling *s, int slices, const char *what)
{
    static struct item order[N];
    static bool want[N];
    float max = -INFINITY;
    for (int i = 0; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
        want[i] = false;
    }
    int kept = keep(logits, n, max, s, order);
    for (int i = 0; i < kept; i++)
        want[order[i].id] = true;
    for (int set = 0; ops_table[set]; set++) {
        if (!ops_table[set]->usable())
            continue;
        struct cut cut = cut_in_slices(ops_table[set], logits, n, max, s, slices);
        for (int i = 0; i < n; i++) {
            float x = logits[i] / s->temperature;
            bool got = pick_keeps(cut, x, i) && pick_mass(x - max / s->temperature) > 0;
            if (got != want[i])
                fail_msg("%s, %s, %d slices, T %g k %d p %g min-p %g: token %d of %d (x %a, cut %a %d) is %s", what, ops_table[set]->name, slices, (double)s->temperature, s->top_k,
                         (double)s->top_p, (double)s->min_p, i, n, (double)x, (double)cut.x, cut.id, got ? "kept" : "cut off");
        }
    }
}

/* Every combination of the three, from nothing to everything. */
static void check_settings(const float *logits, int n, uint64_t *seed, const char *what)
{
    static const float temperatures[] = {0.8f, 1, 3.7f, 0.01f, 1e-6f, 1e-38f, 100}, top_p[] = {0, 1e-9f, 0.3f, 0.9f, 0.99999994f, 1}, min_p[] = {0, 1e-12f, 0.05f, 1};
    const int top_k[] = {0, 1, 2, 40, n - 1, n, n + 1};
    for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++)
        for (size_t k = 0; k < sizeof top_k / sizeof *top_k; k++)
            for (size_t p = 0; p < sizeof top_p / sizeof *top_p; p++) {
                struct sampling s = {.temperature = temperatures[t], .top_k = top_k[k], .top_p = top_p[p], .min_p = min_p[check_below(seed, 4)]};
                if (pick_filters(&s))
                    check_cut(logits, n, &s, 1 + check_below(seed, 4), what);
            }
}

static void random_logits_are_cut_by_the_words(void **state)
{
    (void)state;
    static float logits[N];
    uint64_t seed = 11;
    for (int round = 0; round < 8; round++) {
        int n = round < 4 ? 1 + check_below(&seed, 60) : 500 + check_below(&seed, N - 500);
        float scale = powf(4, (float)(round % 4) - 1);
        for (int i = 0; i < n; i++)
            logits[i] = scale * check_normal(&seed);
        check_settings(logits, n, &seed, "random");
    }
}

static float hostile(int kind, int i, uint64_t *seed)
{
    switch (kind) {
    case 0: return 2.5f;                                                        /* all equal */
    case 1: return (float)check_below(seed, 3);                                 /* three values */
    case 2: return check_below(seed, 3) ? -INFINITY : check_normal(seed);
    case 3: return i == 777 ? 3e38f : check_normal(seed);                       /* one huge */
    case 4: return i % 2 ? 0.0f : -0.0f;                                        /* one value with two signs */
    case 5: return 1 + (float)check_below(seed, 4) * 0x1p-23f;                  /* neighbours */
    case 6: return -(float)check_below(seed, 4 * CUT_BINS) * CUT_REACH / (4 * CUT_BINS); /* on the edges of bins */
    case 7: return -27.7258872f + (float)check_below(seed, 16) * 0x1p-19f * (i > 0) + 27.7258872f * (i == 0); /* masses of one and of none */
    case 8: return i ? -INFINITY : -3;
    default: return (i % 7 ? -1 : 1) * 3.4e38f;
    }
}

static void hostile_logits_are_cut_by_the_words(void **state)
{
    (void)state;
    static float logits[N];
    uint64_t seed = 12;
    for (int kind = 0; kind < 10; kind++) {
        char what[32];
        int n = 900;
        snprintf(what, sizeof what, "hostile %d", kind);
        for (int i = 0; i < n; i++)
            logits[i] = hostile(kind, i, &seed);
        check_settings(logits, n, &seed, what);
    }
}

/* A bin that is missed, and a sum that forgets what lies before the bins, are other cuts. */
static void only_the_listed_bins_are_looked_at(void **state)
{
    (void)state;
    static float logits[N];
    uint64_t seed = 13;
    int32_t list[N];
    struct histogram h;
    struct sampling k = {.temperature = 1, .top_k = 40}, p = {.temperature = 1, .top_p = 0.5f};
    for (int i = 0; i < N; i++)
        logits[i] = 3 * check_normal(&seed);
    logits[5] = 12;
    const struct ops *o = ops_pick(NULL);
    o->bins(logits, 0, N, &k, 12, &h);
    struct search a = cut_search(&h, &k), b = cut_search(&h, &p);
    assert_true(a.first == a.last && b.first == b.last && a.before < 40 && a.before > 0);
    int n = o->list(logits, 0, N, &k, 12, &a, list);
    assert_true(n > 0 && n < 40);
    struct cut right = cut_find(&a, logits, list, n, 12, &k);
    a.before--;
    assert_true(cut_find(&a, logits, list, n, 12, &k).id != right.id);
    k.top_p = 0.5f; /* of what top-k leaves: all of that is listed */
    a = cut_search(&h, &k);
    assert_true(a.first == 0 && a.before == 0 && o->list(logits, 0, N, &k, 12, &a, list) >= 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_logits_are_cut_by_the_words),
        cmocka_unit_test(hostile_logits_are_cut_by_the_words),
        cmocka_unit_test(only_the_listed_bins_are_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
