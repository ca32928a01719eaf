/* SPDX-License-Identifier: Apache-2.0 */
/* Products in tiles against sums in double; the same bits for every number of threads. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/train_gemm.h"

static float *random_floats(size_t n, uint64_t seed)
{
    float *p = malloc(n * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = check_float(&seed);
    return p;
}

static void check_product(const struct product *p, const float *before, int rows_c)
{
    for (int i = 0; i < rows_c; i++)
        for (int j = 0; j < p->ldc; j++) {
            double want = before ? (double)before[i * p->ldc + j] : 0;
            if (i < p->m && j < p->n) {
                want = p->add ? want : 0;
                for (int k = 0; k < p->k; k++)
                    want += (double)(p->turn_a ? p->a[k * p->lda + i] : p->a[i * p->lda + k]) * (double)(p->turn_b ? p->b[j * p->ldb + k] : p->b[k * p->ldb + j]);
            }
            if (!(fabs((double)p->c[i * p->ldc + j] - want) <= 1e-4))
                fail_msg("m %d n %d k %d turned %d %d: [%d][%d] is %g, not %g", p->m, p->n, p->k, p->turn_a, p->turn_b, i, j, (double)p->c[i * p->ldc + j], want);
        }
}

/* Two products in one run; around what they write nothing changes. */
static void try_shape(int m, int n, int k, int turned, bool add)
{
    struct gemm g;
    struct error err = {0};
    if (gemm_open(&g, GEMM_LIBRARY, &err))
        fail_with(err.text);
    size_t size_c = (size_t)(m + 1) * (size_t)(n + 3);
    float *a = random_floats((size_t)(m + 5) * (size_t)(k + 5), 1), *b = random_floats((size_t)(n + 5) * (size_t)(k + 5), 2), *before = random_floats(size_c, 3);
    float *first = malloc(2 * size_c * sizeof *first), *c = malloc(2 * size_c * sizeof *c);
    for (int threads = 1; threads <= 3; threads++) {
        struct pool *pool = pool_open(threads, &err);
        assert_non_null(pool);
        struct product p = {.a = a, .b = b, .c = c, .m = m, .n = n, .k = k, .lda = turned & 1 ? m + 2 : k + 1, .ldb = turned & 2 ? k + 1 : n + 2, .ldc = n + 3, .turn_a = turned & 1, .turn_b = turned & 2, .add = add};
        struct product both[2] = {p, p};
        both[1].c += size_c;
        memcpy(c, before, size_c * sizeof *c);
        memcpy(c + size_c, before, size_c * sizeof *c);
        gemm_run(&g, pool, both, 2);
        check_product(&p, before, m + 1);
        assert_memory_equal(c, c + size_c, size_c * sizeof *c);
        if (threads == 1)
            memcpy(first, c, size_c * sizeof *c);
        assert_memory_equal(first, c, size_c * sizeof *c);
        pool_close(pool);
    }
    free(a);
    free(b);
    free(before);
    free(first);
    free(c);
}

static void test_products(void **state)
{
    (void)state;
    static const int shapes[][3] = {{1, 1, 1}, {17, 33, 5}, {256, 512, 8}, {257, 513, 7}, {600, 40, 16}, {3, 1100, 20}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int turned = 0; turned < 4; turned++)
            try_shape(shapes[i][0], shapes[i][1], shapes[i][2], turned, turned % 2 == 0);
    try_shape(20, 30, 2000, 2, true);
}

/* What stood in the result before does not matter unless it is added to, not even a NaN. */
static void test_overwrites(void **state)
{
    (void)state;
    struct gemm g;
    float a[4] = {1, 2, 3, 4}, c[4] = {NAN, NAN, NAN, NAN};
    assert_int_equal(gemm_open(&g, GEMM_LIBRARY, NULL), 0);
    gemm_one(&g, &(struct product){.a = a, .b = a, .c = c, .m = 2, .n = 2, .k = 2, .lda = 2, .ldb = 2, .ldc = 2});
    const float want[4] = {7, 10, 15, 22};
    assert_memory_equal(c, want, sizeof want);
}

static void test_missing_library(void **state)
{
    (void)state;
    struct gemm g;
    struct error err = {0};
    assert_int_equal(gemm_open(&g, "libno-such-blas.so.0", &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "libno-such-blas.so.0 cannot be opened; install the Debian package libopenblas0-pthread"));
    assert_int_equal(gemm_open(&g, "libm.so.6", &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "libm.so.6 has no cblas_sgemm"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_overwrites), cmocka_unit_test(test_missing_library)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
