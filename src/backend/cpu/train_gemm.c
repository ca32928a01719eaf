/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/train_gemm.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

enum { ROW_MAJOR = 101, STRAIGHT = 111, TURNED = 112 }; /* as cblas.h numbers them */
enum { TILE_M = 256, TILE_N = 512, TILE_STEP = 16 };

int gemm_open(struct gemm *g, const char *library, struct error *err)
{
    static const char *const names[] = {"cblas_sgemm", "openblas_set_num_threads"};
    void *found[2], *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void (*set_threads)(int);
    if (!lib)
        return fail(err, ERR_UNAVAILABLE, "training on the CPU needs OpenBLAS, and %s cannot be opened; install the Debian package libopenblas0-pthread", library);
    for (int i = 0; i < 2; i++)
        found[i] = dlsym(lib, names[i]);
    dlclose(lib); /* it stays in memory */
    for (int i = 0; i < 2; i++)
        if (!found[i])
            return fail(err, ERR_UNAVAILABLE, "training on the CPU needs OpenBLAS, and %s has no %s; install the Debian package libopenblas0-pthread", library, names[i]);
    memcpy(&g->sgemm, &found[0], sizeof g->sgemm);
    memcpy(&set_threads, &found[1], sizeof set_threads);
    set_threads(1); /* the threads are ours */
    return 0;
}

void gemm_one(const struct gemm *g, const struct product *p)
{
    g->sgemm(ROW_MAJOR, p->turn_a ? TURNED : STRAIGHT, p->turn_b ? TURNED : STRAIGHT, p->m, p->n, p->k, 1, p->a, p->lda, p->b, p->ldb, p->add ? 1 : 0, p->c, p->ldc);
}

/* ---- items for whoever is free ---- */

struct items {
    void (*each)(void *ctx, int i, int worker);
    void *ctx;
    int n, some;
    atomic_int next;
};

static void take_items(void *arg, int worker, int n_workers)
{
    struct items *it = arg;
    (void)n_workers;
    for (int from; (from = atomic_fetch_add(&it->next, it->some)) < it->n;)
        for (int i = from; i < it->n && i < from + it->some; i++)
            it->each(it->ctx, i, worker);
}

void pool_each(struct pool *pool, int n, int some, void (*each)(void *ctx, int i, int worker), void *ctx)
{
    struct items it = {.each = each, .ctx = ctx, .n = n, .some = some};
    pool_run(pool, take_items, &it);
}

/* ---- tiles ---- */

/* n in equal parts of at most `most`, each a multiple of TILE_STEP but for the last. */
static int part(int n, int most)
{
    int parts = (n + most - 1) / most, each = (n + parts - 1) / parts;
    return (each + TILE_STEP - 1) / TILE_STEP * TILE_STEP;
}

static int parts(int n, int most) { return (n + part(n, most) - 1) / part(n, most); }

static int tiles(const struct product *p) { return parts(p->m, TILE_M) * parts(p->n, TILE_N); }

struct run {
    const struct gemm *g;
    const struct product *p;
};

static void tile(void *ctx, int i, int worker)
{
    const struct run *r = ctx;
    const struct product *p = r->p;
    (void)worker;
    for (; i >= tiles(p); p++)
        i -= tiles(p);
    int across = parts(p->n, TILE_N), tm = part(p->m, TILE_M), tn = part(p->n, TILE_N), row = i / across * tm, col = i % across * tn;
    struct product t = *p;
    t.m = p->m - row < tm ? p->m - row : tm;
    t.n = p->n - col < tn ? p->n - col : tn;
    t.a += (size_t)row * (size_t)(p->turn_a ? 1 : p->lda);
    t.b += (size_t)col * (size_t)(p->turn_b ? p->ldb : 1);
    t.c += (size_t)row * (size_t)p->ldc + (size_t)col;
    gemm_one(r->g, &t);
}

void gemm_run(const struct gemm *g, struct pool *pool, const struct product *p, int n_products)
{
    struct run r = {g, p};
    int n = 0;
    for (int i = 0; i < n_products; i++)
        n += tiles(&p[i]);
    pool_each(pool, n, 1, tile, &r);
}
