/* SPDX-License-Identifier: Apache-2.0 */
/* End to end on a 1B-shape synthetic checkpoint: decoding against the read bandwidth, several rows against one, prefill against the dot instructions, loading
   against reading, memory against the plan. Everything that is compared is timed in turns in one run; ratios are medians of the turns.
   Run: build/bench/bench_cpu [FOLDER of a checkpoint (a temporary one is made)] [turns (7)] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "dots.h"
#include "layerskip.h"

enum { TURNS_MAX = 64, TOKENS = 16, PROMPT = 512, START = 64, MIB = 1 << 20 };
static const size_t STREAM = (size_t)512 << 20; /* many times a cache */

struct bench {
    struct model model;
    const struct backend *b;
    struct device *d;
    struct kv *kv;
    int seq;
    uint32_t *stream; /* STREAM bytes of random data */
    const struct dots *dots;
    struct row rows[PROMPT];
};

static double ratio[8][TURNS_MAX];
static volatile uint64_t sink;

static void die(const char *what)
{
    fprintf(stderr, "bench_cpu: %s\n", what);
    exit(70);
}

static double since(int64_t start) { return (double)(clock_ns() - start) * 1e-9; }

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_value);
    return t[n / 2];
}

/* ---- what things are compared with ---- */

static void read_job(void *arg, int w, int n)
{
    struct bench *b = arg;
    size_t words = STREAM / 4 / (size_t)n / 64 * 64;
    sink += b->d->ops->sum_words(b->stream + words * (size_t)w, words);
}

static double read_seconds(struct bench *b)
{
    int64_t start = clock_ns();
    pool_run(b->d->pool, read_job, b);
    return since(start);
}

static void dots_job(void *arg, int w, int n)
{
    (void)w, (void)n;
    sink += ((struct bench *)arg)->dots->run();
}

/* Multiply-adds a second of all threads together. */
static double dots_rate(struct bench *b)
{
    enum { TIMES = 50 };
    int64_t start = clock_ns();
    for (int i = 0; i < TIMES; i++)
        pool_run(b->d->pool, dots_job, b);
    return b->dots->macs * DOT_LOOPS * DOT_CHAINS * TIMES * pool_threads(b->d->pool) / since(start);
}

static void fill_stream(void *arg, int w, int n)
{
    struct bench *b = arg;
    size_t words = STREAM / 4 / (size_t)n / 64 * 64;
    for (size_t i = words * (size_t)w; i < words * (size_t)(w + 1); i += 4)
        memcpy(b->stream + i, philox(1, (uint32_t)(i / 4), 0, 0, 0).v, 16);
}

/* ---- the engine ---- */

static void prepare_rows(struct bench *b, int from, int n)
{
    for (int i = 0; i < n; i++)
        b->rows[i] = (struct row){.token = (int32_t)(philox(2, (uint32_t)(from + i), 0, 0, 0).v[0] % (uint32_t)b->model.config.vocab), .pos = from + i, .seq = b->seq,
                                  .slot = from + i, .prefix = from + i, .h = i};
}

/* Seconds of n rows at once through all layers, and the head when asked. */
static double pass(struct bench *b, int from, int n, bool head)
{
    static const struct sampling greedy;
    struct ask asks[ROWS_MAX];
    struct pick picks[ROWS_MAX];
    prepare_rows(b, from, n);
    int64_t start = clock_ns();
    if (b->b->forward(b->kv, 0, b->model.config.n_layers, b->rows, n, NULL))
        die("forward failed");
    for (int i = 0; head && i < n; i++)
        asks[i] = (struct ask){.s = &greedy};
    if (head && b->b->pick(b->kv, b->rows, asks, n, picks, NULL))
        die("pick failed");
    return since(start);
}

/* Bytes per second of weights, and of plain reads made between the tokens: what else the machine does hits both. */
static double decode_rate(struct bench *b, double *read)
{
    uint64_t bytes = b->b->bytes_read(b->kv);
    double decoding = 0, reading = 0;
    for (int i = 0; i < TOKENS; i++) {
        decoding += pass(b, START + i, 1, true);
        reading += read_seconds(b);
    }
    *read = (double)STREAM * TOKENS / reading;
    return (double)(b->b->bytes_read(b->kv) - bytes) / decoding;
}

static double layer_macs(const struct bench *b)
{
    double sum = 0;
    for (int l = 0; l < b->model.config.n_layers; l++)
        for (int w = 0; w < W_COUNT; w++) {
            const struct view *v = model_weight(&b->model, l, (enum layer_weight)w);
            sum += v->rank == 2 ? (double)v->dim[0] * (double)v->dim[1] : 0;
        }
    return sum;
}

/* Seconds of n rows over seconds of one, a few of each in turns. */
static double rows_cost(struct bench *b, int n)
{
    enum { TIMES = 4 };
    double many = 0, one = 0;
    for (int i = 0; i < TIMES; i++) {
        one += pass(b, START, 1, true);
        many += pass(b, START, n, true);
    }
    return many / one;
}

static void verdict(const char *what, double got, const char *sign, double want, const char *unit)
{
    bool ok = *sign == '>' ? got >= want : got <= want;
    printf("| %-46s | %8.3g %-4s | %s %5.3g | %-6s |\n", what, got, unit, *sign == '>' ? ">=" : "<=", want, ok ? "yes" : "NO");
    fflush(stdout);
}

static void open_bench(struct bench *b, const char *folder, const char *weights)
{
    struct error err = {0};
    struct device_options o = {.weights = weights, .n_slots = 1024, .n_seqs = 1, .n_hidden = PROMPT};
    if (model_open(&b->model, folder, NULL, &err))
        die(err.text);
    b->b = backend_find("cpu", &err);
    b->d = b->b->open(&b->model, &o, &err);
    b->kv = b->d ? b->b->kv_open(b->d, &err) : NULL;
    if (!b->kv)
        die(err.text);
    b->seq = b->b->seq_open(b->kv, &err);
    b->dots = strcmp(weights, "bf16") ? &dots_int8 : &dots_bf16;
}

static void close_bench(struct bench *b)
{
    b->b->kv_close(b->kv);
    b->b->close(b->d);
    model_close(&b->model);
}

struct goal {
    const char *weights;
    double decode, prefill; /* shares of the read rate, of the dot rate */
    int rows;               /* so many rows cost at most 1.25 times one */
};

static void bench_weights(struct bench *b, const char *folder, const struct goal *g, int turns)
{
    char what[80];
    double read[TURNS_MAX], tokens[TURNS_MAX], prefill[TURNS_MAX], dots[TURNS_MAX];
    open_bench(b, folder, g->weights);
    pool_run(b->d->pool, fill_stream, b);
    double macs = layer_macs(b) * PROMPT;
    pass(b, 0, START, false);
    for (int i = 0; i < turns; i++) {
        tokens[i] = decode_rate(b, &read[i]);
        ratio[0][i] = tokens[i] / read[i];
        for (int k = 1; k < 5; k++)
            ratio[k][i] = rows_cost(b, 1 << k);
        if (dots_usable()) {
            dots[i] = dots_rate(b);
            prefill[i] = macs / pass(b, 0, PROMPT, false);
            ratio[5][i] = prefill[i] / dots[i];
        }
    }
    printf("\n%s weights, %d threads, %s kernels: median read %.1f GB/s, decode %.1f GB/s of weights", g->weights, pool_threads(b->d->pool), b->d->kernels->name,
           median(read, turns) * 1e-9, median(tokens, turns) * 1e-9);
    if (dots_usable())
        printf(", prefill %.0f of %.0f GMAC/s", median(prefill, turns) * 1e-9, median(dots, turns) * 1e-9);
    printf("\n\n| %-46s | %-13s | %-8s | %-6s |\n| --- | --- | --- | --- |\n", "what", "measured", "goal", "met");
    verdict("decode, share of the read bandwidth", median(ratio[0], turns), ">", g->decode, "");
    for (int k = 1; k < 5; k++) {
        snprintf(what, sizeof what, "%d rows, times the cost of one row", 1 << k);
        if (1 << k == g->rows)
            verdict(what, median(ratio[k], turns), "<", 1.25, "");
        else
            printf("| %-46s | %8.3g      |          |        |\n", what, median(ratio[k], turns));
    }
    if (dots_usable())
        verdict("prefill of 512, share of the dot loop", median(ratio[5], turns), ">", g->prefill, "");
    close_bench(b);
}

/* ---- loading ---- */

struct plain_reader {
    const struct checkpoint *c;
    uint8_t *to;
};

/* Every byte of the checkpoint's tensors into fresh memory, 4 MiB at a time, all threads. */
static void plain_read(void *arg, int w, int n)
{
    const struct plain_reader *r = arg;
    size_t at = 0;
    int chunk = 0;
    for (int s = 0; s < r->c->n_shards; s++)
        for (uint64_t off = 0; off < r->c->shard[s].size; off += 4 * MIB, chunk++) {
            size_t len = r->c->shard[s].size - off < 4 * MIB ? (size_t)(r->c->shard[s].size - off) : 4 * MIB;
            if (chunk % n == w && file_read_at(&r->c->shard[s], off, r->to + at, len, NULL))
                die("reading failed");
            at += len;
        }
}

/* Takes memory and gives it back, so that what follows (reading, and then loading into what reading gives back) finds pages that the machine really has. A
   virtual machine hands free pages to its host two seconds after they became free, and fetching them again takes ten times as long as all that is measured
   here: so it first waits until all have gone. */
static void warm_memory(size_t bytes)
{
    sleep(4);
    uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("out of memory");
    madvise(p, bytes, MADV_HUGEPAGE);
    for (size_t at = 0; at < bytes; at += 4096)
        p[at] = 1;
    munmap(p, bytes);
}

static double read_files(const struct checkpoint *c)
{
    size_t bytes = 0;
    for (int s = 0; s < c->n_shards; s++)
        bytes += c->shard[s].size;
    struct pool *pool = pool_open(0, NULL);
    struct plain_reader r = {.c = c, .to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
    if (!pool || r.to == MAP_FAILED)
        die("out of memory");
    madvise(r.to, bytes, MADV_HUGEPAGE);
    warm_memory(bytes);
    int64_t start = clock_ns();
    pool_run(pool, plain_read, &r);
    double t = since(start);
    munmap(r.to, bytes);
    pool_close(pool);
    return t;
}

static void bench_load(const char *folder, int turns)
{
    static const char *const weights[] = {"file", "q8", "q4"};
    struct error err = {0};
    printf("\nloading, files in the page cache\n\n| %-46s | %-13s | %-8s | %-6s |\n| --- | --- | --- | --- |\n", "what", "measured", "goal", "met");
    for (int k = 0; k < 3; k++) {
        double load[TURNS_MAX];
        char what[80];
        for (int i = 0; i < turns; i++) {
            struct checkpoint *c = checkpoint_open(folder, &err);
            double plain = c ? read_files(c) : 1;
            checkpoint_close(c);
            int64_t start = clock_ns();
            lsk_model *m = lsk_model_open(folder, &(lsk_model_options){.weights = weights[k], .context = 512}, NULL);
            load[i] = since(start);
            ratio[0][i] = load[i] / plain;
            if (!m)
                die("cannot open the model");
            lsk_model_close(m);
        }
        snprintf(what, sizeof what, "load with --weights %s (%.2f s), times reading", weights[k], median(load, turns));
        if (k == 0)
            verdict(what, median(ratio[0], turns), "<", 1.5, "");
        else
            printf("| %-46s | %8.3g      |          |        |\n", what, median(ratio[0], turns));
    }
}

/* ---- memory, in a process of its own ---- */

static double peak_mib(void)
{
    char line[128];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib / 1024;
}

/* Peak resident MiB beyond what the plan says, of a reply of 32 tokens with so many drafts; the plan's own size for drafts to *extra. */
static double over_plan(const char *folder, const char *weights, int drafts, double *extra)
{
    int fd[2];
    double got[2];
    if (pipe(fd))
        die("pipe");
    pid_t child = fork();
    if (child == 0) {
        lsk_error err = {0};
        lsk_model *m = lsk_model_open(folder, &(lsk_model_options){.weights = weights, .context = 512, .max_drafts = drafts ? drafts : 1}, &err);
        lsk_session *s = m ? lsk_session_open(m, &err) : NULL;
        int32_t prompt[64] = {1};
        lsk_generate_options o = {.max_tokens = 32, .drafter = drafts ? "exit" : "none", .exit_layer = 4, .num_speculations = drafts};
        if (!s || lsk_generate(s, prompt, 64, &o, NULL, NULL, NULL, &err))
            die(err.text);
        lsk_memory p = lsk_model_about(m)->memory;
        got[0] = peak_mib() - (double)(p.weights + p.kv + p.scratch) / MIB;
        got[1] = (double)p.drafts / MIB;
        _exit(write(fd[1], got, sizeof got) != sizeof got);
    }
    if (child < 0 || read(fd[0], got, sizeof got) != sizeof got)
        die("the memory child failed");
    waitpid(child, NULL, 0);
    close(fd[0]);
    close(fd[1]);
    *extra = got[1];
    return got[0];
}

static void bench_memory(const char *folder)
{
    static const char *const weights[] = {"file", "q8", "q4"};
    printf("\nmemory\n\n| %-46s | %-13s | %-8s | %-6s |\n| --- | --- | --- | --- |\n", "what", "measured", "goal", "met");
    for (int k = 0; k < 3; k++) {
        char what[80];
        double extra, plain = over_plan(folder, weights[k], 0, &extra), drafted = over_plan(folder, weights[k], 8, &extra);
        snprintf(what, sizeof what, "%s: peak over weights + KV + scratch", weights[k]);
        verdict(what, plain, "<", 64, "MiB");
        snprintf(what, sizeof what, "%s: drafting adds (planned %.1f MiB)", weights[k], extra);
        verdict(what, drafted - plain, "<", extra + 2, "MiB");
    }
}

int main(int argc, char **argv)
{
    static const struct goal goals[] = {{"bf16", 0.85, 0.50, 8}, {"q8", 0.80, 0.40, 0}, {"q4", 0.75, 0.40, 4}};
    static struct bench b;
    char made[] = "/dev/shm/layerskip-bench-XXXXXX", folder[64];
    int turns = argc > 2 ? atoi(argv[2]) : 7;
    lsk_error err = {0};
    turns = turns < 1 ? 1 : turns > TURNS_MAX ? TURNS_MAX : turns;
    if (argc < 2 || !*argv[1]) {
        if (!mkdtemp(made))
            die("cannot make a folder in /dev/shm; name a checkpoint as the first argument");
        snprintf(folder, sizeof folder, "%s/1b", made);
        if (lsk_synth(folder, &(lsk_synth_options){.shape = "llama3.2-1b"}, &err))
            die(err.text);
    }
    const char *path = argc > 1 && *argv[1] ? argv[1] : folder;
    bench_memory(path); /* first: a child starts with its parent's pages */
    b.stream = mmap(NULL, STREAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.stream == MAP_FAILED)
        die("out of memory");
    madvise(b.stream, STREAM, MADV_HUGEPAGE);
    bench_load(path, turns < 5 ? turns : 5);
    for (size_t i = 0; i < sizeof goals / sizeof *goals; i++)
        bench_weights(&b, path, &goals[i], turns);
    if (path == folder) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf '%s'", made);
        return system(command) ? 74 : 0;
    }
    return 0;
}
