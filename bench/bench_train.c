/* SPDX-License-Identifier: Apache-2.0 */
/* Training steps of a synthetic checkpoint against OpenBLAS's own rate: 6 flops per weight and token are the floor of a step, one product of 2048 x 2048 x 2048
   (our tiles, all threads) is what the machine gives. Timed in turns in one run; ratios are medians of the turns. CPU seconds stand beside them, since on a shared
   machine wall clock tells less.
   Run: build/bench/bench_train [shape (smollm2-135m)] [batch (4)] [length (256)] [turns (3)] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backend/cpu/trainer.h"
#include "base/clock.h"
#include "model/synth.h"

enum { SIDE = 2048, TURNS_MAX = 32 };

static void die(const char *what)
{
    fprintf(stderr, "bench_train: %s\n", what);
    exit(70);
}

struct span {
    double wall, cpu;
};

static struct span now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (struct span){(double)clock_ns() * 1e-9, (double)t.tv_sec + (double)t.tv_nsec * 1e-9};
}

static struct span since(struct span start)
{
    struct span t = now();
    return (struct span){t.wall - start.wall, t.cpu - start.cpu};
}

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

static struct span multiply(const struct trainer *t, float *m)
{
    const struct product p = {.a = m, .b = m + SIDE * SIDE, .c = m + 2 * SIDE * SIDE, .m = SIDE, .n = SIDE, .k = SIDE, .lda = SIDE, .ldb = SIDE, .ldc = SIDE, .turn_b = true};
    struct span start = now();
    gemm_run(&t->gemm, t->pool, &p, 1);
    return since(start);
}

static struct span step(struct trainer *t, const struct train_batch *b, const struct train_exit *exits, int n)
{
    struct train_result out[2];
    struct error err = {0};
    struct span start = now();
    if (cpu_train.backward(t, b, exits, n, out, &err))
        die(err.text);
    return since(start);
}

static struct trainer *open_shape(struct model *m, const char *shape, const struct train_options *o)
{
    char root[] = "/tmp/layerskip-bench-XXXXXX", path[64], command[80];
    struct error err = {0};
    if (!mkdtemp(root))
        die("no temporary folder");
    snprintf(path, sizeof path, "%s/model", root);
    if (synth_write(path, &(struct synth_options){.shape = shape, .tie = 1}, &err) || model_open(m, path, NULL, &err))
        die(err.text);
    struct trainer *t = cpu_train.open(m, o, &err);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (!t || system(command))
        die(t ? command : err.text);
    return t;
}

static void run_turns(struct trainer *t, const struct train_batch *b, int turns)
{
    static const struct train_exit exits[] = {{0, 1, 0, 0, 0}, {0, 0.2f, 0.5f, 0, 0}};
    static double shares[2][2][TURNS_MAX], seconds[2][TURNS_MAX], rates[2][TURNS_MAX], updates[TURNS_MAX];
    float *m = calloc((size_t)3 * SIDE * SIDE, sizeof *m);
    double tokens = (double)b->n * (double)b->length, norm, parts[2] = {6 * (double)t->lay.n_matrices * tokens, 6 * (double)t->lay.n_matrices * tokens};
    struct train_exit at[2] = {exits[0], exits[1]};
    if (!m)
        die("out of memory");
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        m[i] = (float)(i % 17) * 0.01f;
    at[0].layer = t->c->n_layers;
    at[1].layer = t->c->n_layers / 3;
    parts[1] += 8 * (double)t->c->vocab * (double)t->c->hidden * tokens; /* a second head, and the last layer's logits to compare with */
    for (int i = 0; i < turns; i++) {
        struct span best = multiply(t, m), s = multiply(t, m);
        double flops = 2.0 * SIDE * SIDE * SIDE, rate = flops / (s.wall < best.wall ? s.wall : best.wall), per_cpu = flops / (s.cpu < best.cpu ? s.cpu : best.cpu);
        rates[0][i] = rate;
        rates[1][i] = per_cpu;
        for (int n = 0; n < 2; n++) {
            s = step(t, b, at, n + 1);
            seconds[n][i] = s.wall;
            shares[n][0][i] = parts[n] / s.wall / rate;
            shares[n][1][i] = parts[n] / s.cpu / per_cpu;
        }
        struct span start = now();
        cpu_train.update(t, &(struct train_step){.step = i + 1, .rate = 1e-5, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1, .divide = 1}, &norm, NULL);
        updates[i] = since(start).wall;
    }
    printf("sgemm %.0f GFLOP/s on %d threads, %.0f per CPU second\n", median(rates[0], turns) / 1e9, t->threads, median(rates[1], turns) / 1e9);
    for (int n = 0; n < 2; n++)
        printf("%-42s %7.2f s %7.0f tokens/s  %3.0f %% of sgemm's rate, by CPU time %3.0f %%\n", n ? "last layer, and an exit with ce and kl" : "last layer alone", median(seconds[n], turns),
               tokens / median(seconds[n], turns), 100 * median(shares[n][0], turns), 100 * median(shares[n][1], turns));
    printf("%-42s %7.2f s\n", "update", median(updates, turns));
    free(m);
}

int main(int argc, char **argv)
{
    const char *shape = argc > 1 ? argv[1] : "smollm2-135m";
    struct train_options o = {.batch = argc > 2 ? atoi(argv[2]) : 4, .length = argc > 3 ? atoi(argv[3]) : 256, .exits = 2};
    int turns = argc > 4 ? atoi(argv[4]) : 3, rows = o.batch * o.length;
    struct model m;
    struct train_plan plan;
    if (turns < 1 || turns > TURNS_MAX || rows < 1)
        die("batch and length must be at least 1, turns 1 to 32");
    struct trainer *t = open_shape(&m, shape, &o);
    int32_t *token = calloc(2 * (size_t)rows, sizeof *token);
    if (!token || cpu_train.plan(&m, &o, &plan, NULL))
        die("out of memory");
    for (int i = 0; i < 2 * rows; i++)
        token[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)m.config.vocab);
    printf("%s, batch %d x %d: weights %llu MiB, gradients %llu, optimizer %llu, activations %llu\n", shape, o.batch, o.length, (unsigned long long)plan.weights >> 20,
           (unsigned long long)plan.gradients >> 20, (unsigned long long)plan.optimizer >> 20, (unsigned long long)plan.activations >> 20);
    run_turns(t, &(struct train_batch){.n = o.batch, .length = o.length, .token = token, .target = token + rows}, turns);
    free(token);
    cpu_train.close(t);
    model_close(&m);
    return 0;
}
