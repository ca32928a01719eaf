/* SPDX-License-Identifier: Apache-2.0 */
/* The row functions: against the formulas in double, and every set against the plain one, bit for bit. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "backend/cpu/train_rows.h"

enum { N = 4096 + 176, DIM = N - 9 }; /* more than one block of a sum; padded */

struct data {
    float a[N], b[N], c[N], d[N];
};

static void fill(struct data *x, uint64_t seed, float scale)
{
    memset(x, 0, sizeof *x);
    for (int i = 0; i < DIM; i++) {
        x->a[i] = scale * check_normal(&seed);
        x->b[i] = scale * check_normal(&seed);
        x->c[i] = scale * check_normal(&seed);
        x->d[i] = check_float(&seed) + 1.5f;
    }
}

static void near(double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound * (1 + fabs(want))))
        fail_msg("%.9g, not %.9g", got, want);
}

/* ---- formulas ---- */

static void test_norm_back(void **state)
{
    (void)state;
    struct data x;
    double square = 0, dot = 0;
    float dx[N];
    fill(&x, 1, 1);
    for (int i = 0; i < N; i++) {
        square += (double)x.a[i] * (double)x.a[i];
        dot += (double)x.b[i] * (double)x.d[i] * (double)x.a[i];
        dx[i] = x.c[i];
    }
    double r = 1 / sqrt(square / DIM + 0.25);
    near((double)train_rows_plain.norm_back(dx, x.a, x.d, x.b, N, DIM, 0.25f), r, 1e-6);
    for (int i = 0; i < DIM; i++)
        near((double)dx[i], (double)x.c[i] + r * ((double)x.b[i] * (double)x.d[i] - (double)x.a[i] * dot * r * r / DIM), 1e-6);
    for (int i = DIM; i < N; i++)
        assert_true(dx[i] == 0);
}

static void test_gate_back(void **state)
{
    (void)state;
    struct data x;
    float g[N], u[N];
    fill(&x, 2, 3);
    x.a[0] = -200, x.a[1] = 200, x.a[2] = 0;
    memcpy(g, x.a, sizeof g);
    memcpy(u, x.b, sizeof u);
    train_rows_plain.gate_back(g, u, x.c, N);
    for (int i = 0; i < N; i++) {
        double s = 1 / (1 + exp(-(double)x.a[i]));
        near((double)u[i], (double)x.c[i] * (double)x.a[i] * s, 1e-6);
        near((double)g[i], (double)x.c[i] * (double)x.b[i] * s * (1 + (double)x.a[i] * (1 - s)), 2e-6);
    }
}

static void test_columns(void **state)
{
    (void)state;
    struct data x;
    float out[16];
    fill(&x, 3, 1);
    for (int with = 0; with < 2; with++) {
        for (int j = 0; j < 16; j++)
            out[j] = (float)j;
        train_rows_plain.columns(out, x.a, 32, with ? x.b : NULL, 48, x.d, 80);
        for (int j = 0; j < 16; j++) {
            double want = j;
            for (int r = 0; r < 80; r++)
                want += (double)x.a[r * 32 + j] * (with ? (double)x.d[r] * (double)x.b[r * 48 + j] : 1);
            near((double)out[j], want, 1e-5);
        }
    }
}

static void test_attend(void **state)
{
    (void)state;
    struct data x;
    float s[112], again[112], stat[2], ds[112];
    const double factor = 0.5;
    fill(&x, 4, 4);
    for (int from = 0; from < 3; from++)
        for (int to = from + 1; to <= 100; to += 33) {
            double sum = 0, dot = 0, max = -1e9;
            for (int i = from; i < to; i++)
                max = fmax(max, factor * (double)x.a[i]);
            for (int i = from; i < to; i++)
                sum += exp(factor * (double)x.a[i] - max);
            memcpy(s, x.a, sizeof s);
            memcpy(again, x.a, sizeof s);
            memcpy(ds, x.b, sizeof ds);
            train_rows_plain.attend(s, from, to, 112, (float)factor, stat);
            train_rows_plain.attend_again(again, from, to, 112, (float)factor, stat);
            assert_memory_equal(s, again, sizeof s);
            for (int i = 0; i < 112; i++) {
                double p = i >= from && i < to ? exp(factor * (double)x.a[i] - max) / sum : 0;
                near((double)s[i], p, 1e-6);
                dot += p * (double)x.b[i];
            }
            train_rows_plain.attend_back(ds, s, 112, (float)factor);
            for (int i = 0; i < 112; i++)
                near((double)ds[i], factor * (double)s[i] * ((double)x.b[i] - dot), 2e-6);
        }
}

/* ---- distributions ---- */

static struct softmax describe(float *z)
{
    struct softmax s = {.z = z, .max = z[0]};
    for (int i = DIM; i < N; i++)
        z[i] = LOGIT_PAD;
    for (int i = 0; i < DIM; i++)
        s.max = z[i] > s.max ? z[i] : s.max;
    double sum = train_rows_plain.sum_exp(z, N, s.max);
    s.scale = (float)(1 / sum);
    s.lse = (double)s.max + log(sum);
    return s;
}

static double exact_lse(const float *z, int moved, double by)
{
    double sum = 0;
    for (int i = 0; i < DIM; i++)
        sum += exp((double)z[i] + (i == moved ? by : 0));
    return log(sum);
}

/* 0.5 CE(0) + 0.25 KL(p || q) + 2 accept + KL(p0 || q), with logit `moved` of q moved. */
static double exact_loss(const struct data *x, int moved, double by, double *kl, double *accept)
{
    double lq = exact_lse(x->a, moved, by), lp = exact_lse(x->b, -1, 0), l0 = exact_lse(x->c, -1, 0), shared = 0, kl0 = 0;
    *kl = 0;
    for (int i = 0; i < DIM; i++) {
        double q = (double)x->a[i] + (i == moved ? by : 0) - lq, p = (double)x->b[i] - lp, p0 = (double)x->c[i] - l0;
        *kl += exp(p) * (p - q);
        kl0 += exp(p0) * (p0 - q);
        shared += fmin(exp(p), exp(q));
    }
    *accept = -log(shared);
    return 0.5 * (lq - (double)x->a[0] - (moved ? 0 : by)) + 0.25 * *kl + 2 * *accept + kl0;
}

static void test_distributions(void **state)
{
    (void)state;
    struct data x;
    double kl, accept;
    float dz[N];
    fill(&x, 5, 2);
    struct softmax q = describe(x.a), p = describe(x.b), p0 = describe(x.c);
    near(q.lse, exact_lse(x.a, -1, 0), 1e-7);
    exact_loss(&x, -1, 0, &kl, &accept);
    struct contrast c = train_rows_plain.contrast(&q, &p, N);
    near(c.kl, kl, 1e-6);
    near(-log(c.least), accept, 1e-6);
    struct pull by = {.all = 0.5f + 0.25f + 1, .accept = (float)(2 / c.least), .below = (float)c.below, .kl = 0.25f, .anchor = 1};
    train_rows_plain.pull(dz, &q, &p, &p0, N, &by);
    dz[0] -= 0.5f;
    for (int i = 0; i < 40; i++) {
        double slope = (exact_loss(&x, i, 1e-4, &kl, &accept) - exact_loss(&x, i, -1e-4, &kl, &accept)) / 2e-4;
        near((double)dz[i] * 1e3, slope * 1e3, 1e-4);
    }
    for (int i = DIM; i < N; i++)
        assert_true(dz[i] == 0);
    c = train_rows_plain.contrast(&q, &q, N);
    near(c.kl, 0, 1e-12);
    near(c.least, 1, 1e-6);
    struct pull none = {.all = 1, .kl = 1};
    train_rows_plain.pull(dz, &q, &q, NULL, N, &none); /* nothing pulls a distribution to itself */
    for (int i = 0; i < N; i++)
        assert_true(dz[i] == 0);
}

/* ---- update ---- */

static void test_adam(void **state)
{
    (void)state;
    struct data x;
    fill(&x, 6, 1);
    struct data y = x;
    struct adam a = {.scale = 0.5f, .old1 = 0.9f, .new1 = 0.1f, .old2 = 0.95f, .new2 = 0.05f, .keep = 0.99f, .rate = 0.01f, .root = 2, .eps = 1e-3f};
    train_rows_plain.adam(y.a, y.b, y.c, y.d, N, &a);
    for (int i = 0; i < N; i++) {
        double g = 0.5 * (double)x.b[i], m = 0.9 * (double)x.c[i] + 0.1 * g, v = 0.95 * (double)x.d[i] + 0.05 * g * g;
        near((double)y.c[i], m, 1e-6);
        near((double)y.d[i], v, 1e-6);
        near((double)y.a[i], 0.99 * (double)x.a[i] - 0.01 * m / (2 * sqrt(v) + 1e-3), 1e-6);
        assert_true(y.b[i] == 0);
    }
    double want = 0;
    for (int i = 0; i < N; i++)
        want += (double)x.a[i] * (double)x.a[i];
    near(train_rows_plain.sum_squares(x.a, N), want, 1e-6);
}

/* ---- sets ---- */

struct trial {
    struct data norm, gate, columns, attend, adam;
    float dz[N], scale, stat[2];
    struct contrast contrast;
    double sum, squares;
};

static void try_all(const struct train_rows *r, struct trial *t)
{
    struct data x;
    struct adam a = {.scale = 0.5f, .old1 = 0.9f, .new1 = 0.1f, .old2 = 0.95f, .new2 = 0.05f, .keep = 0.99f, .rate = 0.01f, .root = 2, .eps = 1e-3f};
    memset(t, 0, sizeof *t);
    fill(&x, 7, 3);
    t->norm = t->gate = t->columns = t->attend = t->adam = x;
    t->scale = r->norm_back(t->norm.c, x.a, x.d, x.b, N, DIM, 1e-5f);
    r->gate_back(t->gate.a, t->gate.b, x.c, N);
    r->columns(t->columns.c, x.a, 32, x.b, 16, x.d, 90);
    r->columns(t->columns.c + 16, x.a, 32, NULL, 0, NULL, 90);
    r->attend(t->attend.a, 5, 300, 320, 0.25f, t->stat);
    r->attend_again(t->attend.b, 0, 300, 320, 0.25f, t->stat);
    r->attend_back(t->attend.c, t->attend.a, 320, 0.25f);
    r->adam(t->adam.a, t->adam.b, t->adam.c, t->adam.d, N, &a);
    struct softmax q = describe(x.a), p = describe(x.b), p0 = describe(x.c);
    t->contrast = r->contrast(&q, &p, N);
    t->sum = r->sum_exp(x.a, N, q.max);
    t->squares = r->sum_squares(x.d, N);
    r->pull(t->dz, &q, &p, &p0, N, &(struct pull){.all = 1, .accept = 3, .below = 0.5f, .kl = 0.25f, .anchor = 0.5f});
}

static void test_sets_agree_in_every_bit(void **state)
{
    (void)state;
    static struct trial one, plain;
    try_all(&train_rows_plain, &plain);
    for (int i = 0; train_rows_table[i]; i++) {
        if (!train_rows_pick(train_rows_table[i]->name)) /* not on this CPU */
            continue;
        try_all(train_rows_table[i], &one);
        assert_memory_equal(&one, &plain, sizeof one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_back), cmocka_unit_test(test_gate_back), cmocka_unit_test(test_columns), cmocka_unit_test(test_attend),
        cmocka_unit_test(test_distributions), cmocka_unit_test(test_adam), cmocka_unit_test(test_sets_agree_in_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
