/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { MOST = 8 };

struct count {
    struct pool *pool;
    int runs[MOST], workers, steps[MOST], bad;
    volatile float tiny;
    float flushed[MOST];
};

static void count_runs(void *arg, int worker, int n_workers)
{
    struct count *c = arg;
    c->runs[worker]++;
    if (worker == 0)
        c->workers = n_workers;
    c->flushed[worker] = c->tiny * 0.5f;
}

/* Every worker runs every job once, whether it spins or sleeps meanwhile. */
static void test_every_worker_once(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST; n += n < 4 ? 1 : 4) {
        struct error err = {0};
        struct count c = {.tiny = 1.2e-38f};
        struct pool *p = pool_open(n, &err);
        assert_non_null(p);
        assert_int_equal(pool_threads(p), n);
        for (int job = 0; job < 300; job++) {
            pool_run(p, count_runs, &c);
            if (job % 100 == 99)
                nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
        }
        assert_int_equal(c.workers, n);
        for (int w = 0; w < MOST; w++)
            assert_int_equal(c.runs[w], w < n ? 300 : 0);
        pool_close(p);
    }
    pool_close(NULL);
}

/* Denormals are zero inside a job, in all workers, and as before outside. */
static void test_denormals(void **state)
{
    (void)state;
    struct error err = {0};
    struct count c = {.tiny = 1.2e-38f};
    struct pool *p = pool_open(3, &err);
    assert_non_null(p);
    pool_run(p, count_runs, &c);
#ifdef __SSE2__
    for (int w = 0; w < 3; w++)
        assert_true(c.flushed[w] == 0);
#endif
    assert_true(c.tiny * 0.5f > 0);
    pool_close(p);
}

/* Between two barriers everybody sees what everybody wrote before the first. */
static void cross_barriers(void *arg, int worker, int n_workers)
{
    struct count *c = arg;
    for (int step = 1; step <= 500; step++) {
        c->steps[worker] = step;
        pool_barrier(c->pool);
        for (int w = 0; w < n_workers; w++)
            if (c->steps[w] != step)
                c->runs[worker]++;
        pool_barrier(c->pool);
    }
}

static void test_barrier(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct error err = {0};
        struct count c = {.pool = pool_open(n, &err)};
        assert_non_null(c.pool);
        pool_run(c.pool, cross_barriers, &c);
        for (int w = 0; w < n; w++) {
            assert_int_equal(c.runs[w], 0);
            assert_int_equal(c.steps[w], 500);
        }
        pool_close(c.pool);
    }
}

static void test_share(void **state)
{
    (void)state;
    for (int n = 0; n < 40; n++)
        for (int workers = 1; workers <= 9; workers++) {
            int next = 0;
            for (int w = 0; w < workers; w++) {
                int from, to;
                pool_share(n, w, workers, &from, &to);
                assert_int_equal(from, next);
                assert_in_range(to - from, n / workers, (n + workers - 1) / workers);
                next = to;
            }
            assert_int_equal(next, n);
        }
    int from, to;
    pool_share(INT32_MAX, 8, 9, &from, &to);
    assert_int_equal(to, INT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_worker_once), cmocka_unit_test(test_denormals), cmocka_unit_test(test_barrier),
                                       cmocka_unit_test(test_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
