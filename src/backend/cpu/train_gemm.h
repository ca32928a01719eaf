/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's matrix products: OpenBLAS in tiles of our own. A tile is one call in one thread over the whole of k, and the tiles of a product depend on its shape
   alone, so neither the number of threads nor who takes which tile moves a bit. OpenBLAS is opened at run time: nothing but training needs it, and the library
   loads without it. */
#ifndef BACKEND_CPU_TRAIN_GEMM_H
#define BACKEND_CPU_TRAIN_GEMM_H

#include <stdbool.h>

#include "base/error.h"
#include "base/pool.h"

/* c [m][n] = a b, or c += a b. a: [m][k], stored [k][m] when turned; b: [k][n], stored [n][k] when turned; ld: floats from a stored row to the next */
struct product {
    const float *a, *b;
    float *c;
    int m, n, k, lda, ldb, ldc;
    bool turn_a, turn_b, add;
};

struct gemm {
    void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
};

#define GEMM_LIBRARY "libopenblas.so.0"

int gemm_open(struct gemm *g, const char *library, struct error *err); /* ERR_UNAVAILABLE names the package to install */

void gemm_one(const struct gemm *g, const struct product *p);                                   /* one call, in this thread */
void gemm_run(const struct gemm *g, struct pool *pool, const struct product *p, int n_products); /* all threads; no product reads or writes what another writes */

/* Calls each(ctx, i, worker) for every i of [0, n), some at a time by whichever thread is free. */
void pool_each(struct pool *pool, int n, int some, void (*each)(void *ctx, int i, int worker), void *ctx);

#endif
