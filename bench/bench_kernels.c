/* SPDX-License-Identifier: Apache-2.0 */
/* How close the matrix kernels come to this machine: the table that bounds everything the CPU backend can do. Weights are random, lie in 2 MB pages and are
   larger than any cache, so that they come from memory. Every product of a matrix is timed next to a plain read of another one and to a loop of register-
   resident dots, and the columns are ratios of medians: what else the machine does then hits all three.

   Build, from the repository root (after cmake --build build):
     cc -std=c11 -O3 -D_GNU_SOURCE -Isrc -mavx512f -mavx512bw -mavx512vl -mavx512bf16 -mavx512vnni -o build/bench_kernels bench/bench_kernels.c \
        $(find build/CMakeFiles/core.dir -name '*.o') $(pkg-config --libs jansson libpcre2-8 libutf8proc) -lpthread -lm
   Run: build/bench_kernels [GiB of weights (1)] [rows (2048)] [columns (2048)] [threads (all)] [kind (all)] [kernels (auto)] */
#include <immintrin.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/matmul.h"
#include "base/clock.h"
#include "base/pool.h"

enum { MIN_SAMPLES = 32, MAX_SAMPLES = 512, DOT_LOOPS = 20000, MAX_THREADS = 256 };

struct bench {
    struct pool *pool;
    const struct kernels *kernels;
    uint8_t *memory; /* [bytes] */
    size_t bytes;
    struct matrix m; /* data moves through memory */
    int matrices;
    const uint8_t *read; /* one matrix's worth that read_stream reads */
    size_t read_bytes;
    struct operand x;
    float *out; /* [MATMUL_MAX_ROWS][rows] */
    volatile uint64_t sink[MAX_THREADS * 8];
};

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

static double seconds(struct bench *b, void (*job)(void *, int, int))
{
    int64_t from = clock_ns();
    pool_run(b->pool, job, b);
    return (double)(clock_ns() - from) * 1e-9;
}

/* Plain AVX-512 loads: what "memory bandwidth" means here. */
static void read_stream(void *arg, int worker, int n)
{
    struct bench *b = arg;
    size_t lines = b->read_bytes / 256 / (size_t)n;
    const __m512i *p = (const __m512i *)(const void *)(b->read + lines * 256 * (size_t)worker);
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t i = 0; i < lines; i++)
        for (int j = 0; j < 4; j++)
            s[j] = _mm512_xor_si512(s[j], _mm512_load_si512(p + 4 * i + (size_t)j));
    __m512i all = _mm512_xor_si512(_mm512_xor_si512(s[0], s[1]), _mm512_xor_si512(s[2], s[3]));
    b->sink[worker * 8] = (uint64_t)_mm512_reduce_add_epi64(all);
}

/* Register-resident dots: 16 independent chains, nothing but the one instruction. */
#define DOT_LOOP(name, type, start, step, end)                                                                                          \
    static void name(void *arg, int worker, int n)                                                                                      \
    {                                                                                                                                   \
        struct bench *b = arg;                                                                                                          \
        (void)n;                                                                                                                        \
        type acc[16];                                                                                                                   \
        __m512i w = _mm512_set1_epi32(0x3c013c01), x = _mm512_set1_epi32(0x3c023c02);                                                   \
        for (int i = 0; i < 16; i++)                                                                                                    \
            acc[i] = start;                                                                                                             \
        for (long l = 0; l < DOT_LOOPS; l++) {                                                                                           \
            _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) acc[i] = step;                                                        \
            __asm__ volatile("" : "+v"(w), "+v"(x));                                                                                    \
        }                                                                                                                               \
        uint64_t sum = 0;                                                                                                               \
        for (int i = 0; i < 16; i++)                                                                                                    \
            sum += (uint64_t)_mm512_reduce_add_epi32(end);                                                                              \
        b->sink[worker * 8] = sum;                                                                                                      \
    }
DOT_LOOP(dot_bf16, __m512, _mm512_setzero_ps(), _mm512_dpbf16_ps(acc[i], (__m512bh)w, (__m512bh)x), _mm512_castps_si512(acc[i]))
DOT_LOOP(dot_int8, __m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(acc[i], w, x), acc[i])
DOT_LOOP(dot_f32, __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), acc[i]), _mm512_castps_si512(acc[i]))

static void product(void *arg, int worker, int n)
{
    struct bench *b = arg;
    int from, to;
    pool_share(b->m.blocks, worker, n, &from, &to);
    b->kernels->matmul(&b->m, &b->x, from, to, b->out, (size_t)b->m.rows);
}

/* Random codes and bf16 numbers around 1/64; scales are made small normal f16 numbers by the same bits. Each worker touches what it will read. */
static void fill(void *arg, int worker, int n)
{
    struct bench *b = arg;
    size_t words = b->bytes / 8 / (size_t)n;
    uint64_t *p = (uint64_t *)(void *)b->memory + words * (size_t)worker, s = 88172645463325252u + (uint64_t)worker;
    for (size_t i = 0; i < words; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        p[i] = (s & 0x83ff83ff83ff83ffu) | 0x2400240024002400u;
    }
}

static void fill_operand(struct bench *b, int rows)
{
    float *x = malloc((size_t)b->m.k * sizeof *x);
    if (!x)
        exit(71);
    b->x.rows = rows;
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < b->m.k; k++)
            x[k] = (float)((r * 7919 + k * 104729) % 2003 - 1001) / 1001.0f;
        b->kernels->operand_row(&b->x, r, x, b->m.cols);
    }
    free(x);
}

static void measure(struct bench *b, const char *name, void (*dots)(void *, int, int), double dot_macs, double *first)
{
    static double read[MAX_SAMPLES], dot[MAX_SAMPLES], time[MAX_SAMPLES];
    size_t one = (size_t)b->m.blocks * b->m.block_bytes;
    int n = b->matrices < MIN_SAMPLES ? MIN_SAMPLES : b->matrices > MAX_SAMPLES ? MAX_SAMPLES : b->matrices;
    for (int i = 0; i < n; i++) {
        b->read = b->memory + (size_t)((i + b->matrices / 2) % b->matrices) * one;
        b->m.data = b->memory + (size_t)(i % b->matrices) * one;
        read[i] = seconds(b, read_stream);
        dot[i] = seconds(b, dots);
        time[i] = seconds(b, product);
    }
    double t = median(time, n), bandwidth = (double)one / t, stream = (double)one / median(read, n);
    double macs = (double)b->m.rows * b->m.k * b->x.rows / t, peak = dot_macs * pool_threads(b->pool) * DOT_LOOPS * 16 / median(dot, n);
    if (b->x.rows == 1)
        *first = t;
    printf("| %-9s | %4d | %6.1f | %6.1f | %5.1f %% | %5.2f | %6.1f | %6.1f | %5.1f %% |\n", name, b->x.rows, bandwidth * 1e-9, stream * 1e-9,
           100 * bandwidth / stream, t / *first, macs * 1e-9, peak * 1e-9, 100 * macs / peak);
    fflush(stdout);
}

static const struct kind {
    const char *name;
    enum matrix_kind kind;
    bool wide;
    void (*dots)(void *, int, int);
    double dot_macs; /* of one instruction */
} kinds[] = {
    {"bf16", MATRIX_BF16, false, dot_bf16, 32}, {"q8", MATRIX_Q8, false, dot_int8, 64},      {"q4_0", MATRIX_Q4_0, false, dot_int8, 64},
    {"q4_1", MATRIX_Q4_1, false, dot_int8, 64}, {"q4_k", MATRIX_Q4_K, false, dot_int8, 64},  {"q6_k", MATRIX_Q6_K, false, dot_int8, 64},
    {"f32", MATRIX_F32, true, dot_f32, 16},      {"f16", MATRIX_F16, true, dot_f32, 16},
    {"bf16 wide", MATRIX_BF16, true, dot_f32, 16}, {"q8 wide", MATRIX_Q8, true, dot_f32, 16}, {"q4_0 wide", MATRIX_Q4_0, true, dot_f32, 16},
};

static void bench_kind(struct bench *b, const struct kind *kind, int rows, int cols)
{
    static const int counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 32, 64};
    matrix_shape(&b->m, kind->kind, rows, cols);
    b->read_bytes = (size_t)b->m.blocks * b->m.block_bytes;
    b->matrices = (int)(b->bytes / b->read_bytes);
    enum operand_kind operand = matrix_operand(kind->kind, kind->wide);
    b->x = (struct operand){.kind = operand, .k = b->m.k, .row_bytes = operand_row_bytes(operand, b->m.k), .data = b->x.data};
    double first = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        fill_operand(b, counts[i]);
        measure(b, kind->name, kind->dots, kind->dot_macs, &first);
    }
}

/* The pool pins its workers only; they leave the first processor to the caller. */
static void pin_caller(void)
{
    cpu_set_t set;
    int cpu = 0;
    sched_getaffinity(0, sizeof set, &set);
    while (!CPU_ISSET(cpu, &set))
        cpu++;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* a refusal costs speed only */
}

int main(int argc, char **argv)
{
    static struct bench b;
    double gib = argc > 1 ? atof(argv[1]) : 1;
    int rows = argc > 2 ? atoi(argv[2]) : 2048, cols = argc > 3 ? atoi(argv[3]) : 2048;
    const char *only = argc > 5 && strcmp(argv[5], "all") ? argv[5] : NULL;
    b.pool = pool_open(argc > 4 ? atoi(argv[4]) : 0, NULL);
    pin_caller();
    b.kernels = kernels_pick(argc > 6 ? argv[6] : NULL);
    if (!b.kernels)
        return 64;
    b.bytes = (size_t)(gib * 1024) << 20;
    b.memory = aligned_alloc(2 << 20, b.bytes);
    b.out = malloc((size_t)rows * MATMUL_MAX_ROWS * sizeof *b.out);
    b.x.data = aligned_alloc(64, MATMUL_MAX_ROWS * operand_row_bytes(OPERAND_F32, cols + MATRIX_K_ALIGN));
    if (!b.pool || !b.memory || !b.out || !b.x.data || pool_threads(b.pool) > MAX_THREADS)
        return 71;
    madvise(b.memory, b.bytes, MADV_HUGEPAGE);
    pool_run(b.pool, fill, &b);
    printf("%s, %d threads, matrices of %d x %d\n\n", b.kernels->name, pool_threads(b.pool), rows, cols);
    printf("| weights   | rows |  GB/s  |  read  | of read | time  | GMAC/s |  dots  | of dots |\n");
    printf("| --------- | ---- | ------ | ------ | ------- | ----- | ------ | ------ | ------- |\n");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!only || !strcmp(only, kinds[i].name))
            bench_kind(&b, &kinds[i], rows, cols);
    pool_close(b.pool);
    return 0;
}
