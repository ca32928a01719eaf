/* SPDX-License-Identifier: Apache-2.0 */
/* One pool of worker threads, pinned one to a core when there is one for each. The calling thread is worker 0 (pinned while a job runs); the others spin briefly, then sleep.
   Every worker runs with denormals flushed to zero (FTZ and DAZ), the caller too while a job runs. One job at a time. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/error.h"

struct pool;

/* One for every core that this process may run on, fewer where a control group grants less time. */
int pool_default_threads(void);

/* n_threads <= 0: pool_default_threads. Caller closes. */
struct pool *pool_open(int n_threads, struct error *err);
void pool_close(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);

/* Runs job(arg, worker, n_workers) on every worker and returns when all are done. */
void pool_run(struct pool *p, void (*job)(void *arg, int worker, int n_workers), void *arg);

/* Inside a job: waits until all workers are here. Writes before it are visible to all after it. */
void pool_barrier(struct pool *p);

/* Worker w's share of n items when split evenly in runs: [*from, *to). */
static inline void pool_share(int n, int w, int n_workers, int *from, int *to)
{
    *from = (int)((long long)n * w / n_workers);
    *to = (int)((long long)n * (w + 1) / n_workers);
}

#endif
