/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "base/denormals.h"

/* How long a worker spins for the next job before it sleeps: longer than the gap between two decode steps, far shorter than a prompt.
   How often one looks at a barrier before it lets others run: about 20 us, many times what a step's threads differ by on a quiet machine. */
enum { SPIN_NS = 200000, LOOKS = 1024 };

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index, cpu; /* cpu < 0: not pinned */
};

struct pool {
    int n;
    unsigned looks; /* LOOKS; 1 with more threads than cores, where waiting keeps others from working */
    struct worker *worker;
    void (*job)(void *, int, int);
    void *arg;
    _Alignas(64) atomic_uint round;   /* goes up by one for every job; workers wait for the change */
    _Alignas(64) atomic_int running;  /* workers (not the caller) that still run it */
    _Alignas(64) atomic_int arrived;  /* barrier: how many are there */
    _Alignas(64) atomic_uint phase;   /* barrier: goes up when all are there */
    _Alignas(64) pthread_mutex_t lock;
    pthread_cond_t wake;
    int sleeping;
    bool stop;
};

static inline void relax(void)
{
#ifdef __SSE2__
    _mm_pause();
#endif
}

/* Returns when pool->round differs from seen. */
static unsigned wait_for_job(struct pool *p, unsigned seen)
{
    int64_t until = clock_ns() + SPIN_NS;
    for (;;) {
        for (int i = 0; i < 256; i++) {
            unsigned now = atomic_load_explicit(&p->round, memory_order_acquire);
            if (now != seen)
                return now;
            relax();
        }
        if (clock_ns() > until)
            break;
    }
    pthread_mutex_lock(&p->lock);
    p->sleeping++;
    while (atomic_load_explicit(&p->round, memory_order_acquire) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    p->sleeping--;
    pthread_mutex_unlock(&p->lock);
    return atomic_load_explicit(&p->round, memory_order_acquire);
}

/* Keeps the thread on its core; a refusal costs speed only. */
static void pin(const struct worker *w)
{
    cpu_set_t set;
    if (w->cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(w->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    pin(w);
    denormals_flush();
    for (unsigned seen = 0;;) {
        seen = wait_for_job(p, seen);
        if (p->stop)
            return NULL;
        p->job(p->arg, w->index, p->n);
        atomic_fetch_sub_explicit(&p->running, 1, memory_order_release);
    }
}

static void start_job(struct pool *p)
{
    pthread_mutex_lock(&p->lock); /* so that no worker is between its last look at round and its sleep */
    atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
    bool wake = p->sleeping > 0;
    pthread_mutex_unlock(&p->lock);
    if (wake)
        pthread_cond_broadcast(&p->wake);
}

/* The caller is pinned too while it works, or it may land on a worker's core; afterwards it may go where it could go before. */
void pool_run(struct pool *p, void (*job)(void *, int, int), void *arg)
{
    unsigned old = denormals_flush();
    cpu_set_t before;
    bool pinned = p->n > 1 && p->worker[0].cpu >= 0 && !sched_getaffinity(0, sizeof before, &before);
    if (pinned)
        pin(&p->worker[0]);
    p->job = job;
    p->arg = arg;
    atomic_store_explicit(&p->running, p->n - 1, memory_order_relaxed);
    if (p->n > 1)
        start_job(p);
    job(arg, 0, p->n);
    for (unsigned spins = 0; atomic_load_explicit(&p->running, memory_order_acquire);)
        if (++spins % p->looks == 0)
            sched_yield();
        else
            relax();
    if (pinned)
        sched_setaffinity(0, sizeof before, &before);
    denormals_restore(old);
}

void pool_barrier(struct pool *p)
{
    if (p->n == 1)
        return;
    unsigned phase = atomic_load_explicit(&p->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == p->n - 1) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&p->phase, 1, memory_order_release);
        return;
    }
    for (unsigned spins = 0; atomic_load_explicit(&p->phase, memory_order_acquire) == phase;)
        if (++spins % p->looks == 0)
            sched_yield();
        else
            relax();
}

/* Processors that a container may use in a row of a control group's file ("200000 100000": two), or most. */
static int quota_of(const char *path, int most)
{
    char line[64] = "";
    long long quota, period = 100000;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0 || sscanf(line, "%lld %lld", &quota, &period) < 1 || quota <= 0 || period <= 0)
        return most; /* no such file, or "max" */
    long long cores = (quota + period - 1) / period;
    return cores < most ? (int)cores : most;
}

int pool_default_threads(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    n = quota_of("/sys/fs/cgroup/cpu.max", n);
    return quota_of("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", n); /* the first version; its period is nearly always the usual one */
}

/* The i-th processor that this process may use, or -1. */
static int nth_cpu(const cpu_set_t *set, int i)
{
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, set) && i-- == 0)
            return c;
    return -1;
}

static void stop_workers(struct pool *p, int started)
{
    p->stop = true;
    start_job(p);
    for (int i = 1; i < started; i++)
        pthread_join(p->worker[i].thread, NULL);
}

static void pool_free(struct pool *p)
{
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->worker);
    free(p);
}

struct pool *pool_open(int n_threads, struct error *err)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int n_cpus = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    int n = n_threads > 0 ? n_threads : pool_default_threads();
    struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    struct worker *worker = calloc((size_t)n, sizeof *worker);
    if (!p || !worker) {
        free(p);
        free(worker);
        fail(err, ERR_OS, "out of memory for %d threads", n);
        return NULL;
    }
    memset(p, 0, sizeof *p);
    p->n = n;
    p->looks = n > n_cpus ? 1 : LOOKS;
    p->worker = worker;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 0; i < n; i++)
        worker[i] = (struct worker){.pool = p, .index = i, .cpu = n == n_cpus ? nth_cpu(&set, i) : -1}; /* with fewer, the system finds idle cores better */
    for (int i = 1; i < n; i++) {
        int rc = pthread_create(&worker[i].thread, NULL, work, &worker[i]);
        if (rc) {
            stop_workers(p, i);
            pool_free(p);
            fail(err, ERR_OS, "cannot start thread %d of %d: %s", i + 1, n, strerror(rc));
            return NULL;
        }
    }
    return p;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    stop_workers(p, p->n);
    pool_free(p);
}

int pool_threads(const struct pool *p) { return p->n; }
