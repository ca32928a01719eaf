/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/measure.h"

#include <stddef.h>
#include <sys/mman.h>

#include "backend/cpu/ops.h"
#include "base/clock.h"
#include "base/philox.h"
#include "base/pool.h"

struct read_job {
    const struct ops *ops;
    uint32_t *data;
    size_t words;
    uint32_t sum; /* kept, so that no read can be left out */
};

static void share_words(const struct read_job *j, int w, int n, size_t *from, size_t *to)
{
    *from = j->words / (size_t)n * (size_t)w / 64 * 64;
    *to = w == n - 1 ? j->words / 64 * 64 : j->words / (size_t)n * (size_t)(w + 1) / 64 * 64;
}

static void fill(void *arg, int w, int n)
{
    struct read_job *j = arg;
    size_t from, to;
    share_words(j, w, n, &from, &to);
    for (size_t i = from; i < to; i += 4) {
        struct philox p = philox(1, (uint32_t)(i / 4), (uint32_t)(i >> 34), 0, 0);
        for (size_t k = 0; k < 4; k++)
            j->data[i + k] = p.v[k];
    }
}

static void read_all(void *arg, int w, int n)
{
    struct read_job *j = arg;
    size_t from, to;
    share_words(j, w, n, &from, &to);
    uint32_t sum = j->ops->sum_words(j->data + from, to - from);
    __atomic_fetch_add(&j->sum, sum, __ATOMIC_RELAXED);
}

double measure_read(uint64_t bytes, int threads, struct error *err)
{
    enum { PASSES = 7 };
    if (bytes < 1 << 20 || bytes > (uint64_t)1 << 40)
        return fail(err, ERR_USAGE, "cannot measure reading over %llu bytes: must be 1 MiB to 1 TiB", (unsigned long long)bytes);
    struct pool *pool = pool_open(threads, err);
    if (!pool)
        return err ? err->code : ERR_OS;
    double best = 0;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        best = fail(err, ERR_OS, "out of memory for %llu bytes to read", (unsigned long long)bytes);
    } else {
        struct read_job j = {.ops = ops_pick(NULL), .data = p, .words = bytes / 4};
        madvise(p, bytes, MADV_HUGEPAGE);
        pool_run(pool, fill, &j);
        for (int i = 0; i < PASSES; i++) {
            int64_t start = clock_ns();
            pool_run(pool, read_all, &j);
            double rate = (double)bytes * 1e9 / (double)(clock_ns() - start);
            best = rate > best ? rate : best;
        }
        munmap(p, bytes);
    }
    pool_close(pool);
    return best;
}
