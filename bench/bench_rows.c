/* SPDX-License-Identifier: Apache-2.0 */
/* What several rows cost on any device: forward and choice of 1 to 64 rows of one timeline at a context, and prompts. Rows that are compared are timed in turns; medians.
   Run: build/bench/bench_rows [MODEL (a temporary 1B shape)] [DEVICE (auto)] [WEIGHTS (file)] [TURNS (9)] [CONTEXT (512)] [--json] [--threads N] [--kernels NAME] [--serve]
   --serve: measures what lines on stdin ask for, beside another program that does the same (bench/llama_cpp.py): see serve below. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/clock.h"
#include "layerskip.h"

enum { TURNS_MAX = 64, PROMPT_MAX = 2048, TEXT_MAX = 4096 };

static const char words[] = "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. However little known the feelings or views of "
                            "such a man may be on his first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is considered as the "
                            "rightful property of some one or other of their daughters. ";

struct bench {
    struct model model;
    const struct backend *b;
    struct device_plan plan;
    struct device *d;
    struct kv *kv;
    int seq, batch, context, n_text;
    int32_t text[TEXT_MAX];
    double load_s;
    bool json, serve;
    int threads;
    const char *kernels;
    struct row rows[PROMPT_MAX];
};

static void die(const char *what)
{
    fprintf(stderr, "bench_rows: %s\n", what);
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

static void open_bench(struct bench *b, const char *folder, const char *device, const char *weights)
{
    struct error err = {0};
    if (model_open(&b->model, folder, NULL, &err))
        die(err.text);
    b->b = backend_find(device, &err);
    if (!b->b)
        die(err.text);
    b->batch = b->b->prefill ? 2048 : 256;
    int most = b->context + ROWS_MAX > PROMPT_MAX + 2 ? b->context + ROWS_MAX : PROMPT_MAX + 2;
    struct device_options o = {.weights = weights, .kernels = b->kernels, .threads = b->threads, .ordinal = backend_ordinal(device), .n_slots = most, .n_seqs = 1, .n_hidden = b->batch};
    if (most > b->model.config.context)
        die("the model's context is too small for that");
    int64_t start = clock_ns();
    if (b->b->plan(&b->model, &o, &b->plan, &err))
        die(err.text);
    b->d = b->b->open(&b->model, &o, &err);
    b->kv = b->d ? b->b->kv_open(b->d, &err) : NULL;
    if (!b->kv)
        die(err.text);
    b->load_s = since(start);
    b->seq = b->b->seq_open(b->kv, &err);
    b->n_text = tokenizer_encode(b->model.tokenizer, words, strlen(words), 0, b->text, TEXT_MAX, &err);
    if (b->n_text < 1 || b->n_text > TEXT_MAX)
        die("the text cannot be encoded");
}

static void prepare_rows(struct bench *b, int from, int n)
{
    for (int i = 0; i < n; i++)
        b->rows[i] = (struct row){.token = b->text[(from + i) % b->n_text], .pos = from + i, .seq = b->seq, .slot = from + i, .prefix = from + i, .h = i};
}

/* Seconds of n rows through all layers, the head and the choice. */
static double pass(struct bench *b, int from, int n)
{
    static const struct sampling greedy;
    struct error err = {0};
    struct ask asks[ROWS_MAX];
    struct pick picks[ROWS_MAX];
    prepare_rows(b, from, n);
    for (int i = 0; i < n; i++)
        asks[i] = (struct ask){.s = &greedy};
    int64_t start = clock_ns();
    if (b->b->forward(b->kv, 0, b->model.config.n_layers, b->rows, n, &err) || b->b->pick(b->kv, b->rows, asks, n, picks, &err))
        die(err.text);
    return since(start);
}

/* Seconds of a prompt's positions, batch by batch; a device that works beside its host may still be at it afterwards. */
static double prompt(struct bench *b, int n)
{
    struct error err = {0};
    int64_t start = clock_ns();
    b->b->seq_trim(b->kv, b->seq, 0);
    for (int at = 0, m; at < n; at += m) {
        m = n - at < b->batch ? n - at : b->batch;
        prepare_rows(b, at, m);
        int layers = b->model.config.n_layers, rc = b->b->prefill ? b->b->prefill(b->kv, layers, b->rows, m, &err) : b->b->forward(b->kv, 0, layers, b->rows, m, &err);
        if (rc)
            die(err.text);
    }
    return since(start);
}

static double layer_macs(const struct bench *b)
{
    double sum = 0;
    for (int l = 0; l < b->model.config.n_layers; l++)
        for (int w = 0; w < W_COUNT; w++) {
            const struct view *v = model_weight(&b->model, l, (enum layer_weight)w);
            sum += v && v->rank == 2 ? (double)v->dim[0] * (double)v->dim[1] : 0;
        }
    return sum;
}

static void bench_rows(struct bench *b, int turns)
{
    enum { SIZES = 7 };
    static double ms[SIZES][TURNS_MAX], ratio[SIZES][TURNS_MAX];
    double bytes[SIZES];
    prompt(b, b->context);
    for (int k = 0; k < SIZES; k++) { /* whatever is made on first use */
        uint64_t before = b->b->bytes_read(b->kv);
        pass(b, b->context, 1 << k);
        bytes[k] = (double)(b->b->bytes_read(b->kv) - before);
    }
    for (int i = 0; i < turns; i++)
        for (int k = 0; k < SIZES; k++) {
            double one = pass(b, b->context, 1 << k), two = pass(b, b->context, 1 << k), three = pass(b, b->context, 1 << k);
            ms[k][i] = 1e3 * median((double[]){one, two, three}, 3);
            ratio[k][i] = ms[k][i] / ms[0][i];
        }
    if (!b->json)
        printf("\n| rows | ms | times one row | GB/s of weights |\n| --: | --: | --: | --: |\n");
    for (int k = 0; k < SIZES; k++) {
        double t = median(ms[k], turns), over = median(ratio[k], turns);
        printf(b->json ? "{\"what\": \"rows\", \"rows\": %d, \"ms\": %.5g, \"over_one\": %.5g, \"gb_per_s\": %.5g, \"context\": %d}\n" : "| %d | %.3f | %.3f | %.1f |\n", 1 << k, t, over,
               bytes[k] / t * 1e-6, b->context);
    }
}

/* What a prompt takes until its first token is there, less that token's own pass. */
static void bench_prompts(struct bench *b, int turns)
{
    static const int sizes[] = {512, PROMPT_MAX};
    double macs = layer_macs(b), net[TURNS_MAX];
    bool slow = !strcmp(b->b->name, "cpu");
    if (!b->json)
        printf("\n| prompt | ms | tokens/s | TFLOP/s |\n| --: | --: | --: | --: |\n");
    for (int k = 0; k < (slow ? 1 : 2); k++) {
        int n = sizes[k], m = slow && turns > 3 ? 3 : turns;
        for (int i = -1; i < m; i++) { /* once before it counts */
            double t = prompt(b, n) + pass(b, n, 1), own = pass(b, n + 1, 1);
            if (i >= 0)
                net[i] = t - own;
        }
        double s = median(net, m);
        printf(b->json ? "{\"what\": \"prompt\", \"rows\": %d, \"ms\": %.5g, \"tokens_per_s\": %.5g, \"tflops\": %.5g}\n" : "| %d | %.2f | %.0f | %.1f |\n", n, s * 1e3, n / s,
               2e-12 * macs * n / s);
        fflush(stdout);
    }
}

/* The text's tokens, then for every line "prompt N", "reply N" (N rows one after the other) or "rows N" (at once) the seconds it takes; the last two behind the context. */
static void serve(struct bench *b)
{
    char line[64], what[16];
    int n;
    for (int i = 0; i < b->n_text; i++)
        printf("%s%d", i ? " " : "", b->text[i]);
    printf("\n");
    prompt(b, b->context);
    while (fflush(stdout), fgets(line, sizeof line, stdin)) {
        double s = 0;
        if (sscanf(line, "%15s %d", what, &n) != 2 || n < 1 || n > (*what == 'p' ? PROMPT_MAX : ROWS_MAX))
            die("asked for what it cannot measure");
        if (!strcmp(what, "prompt"))
            s = prompt(b, n);
        else if (!strcmp(what, "rows"))
            s = pass(b, b->context, n);
        else
            for (int i = 0; i < n; i++)
                s += pass(b, b->context + i, 1);
        printf("%.9f\n", s);
        if (*what == 'p' && n < b->context)
            prompt(b, b->context);
    }
}

static void print_head(const struct bench *b, const char *weights)
{
    double gib = 1.0 / (1 << 30);
    if (b->json)
        printf("{\"what\": \"memory\", \"device\": \"%s\", \"weights\": %llu, \"kv\": %llu, \"scratch\": %llu, \"pass_bytes\": %llu, \"load_s\": %.4g}\n", b->b->name,
               (unsigned long long)b->plan.weights, (unsigned long long)b->plan.kv, (unsigned long long)b->plan.scratch,
               (unsigned long long)(b->plan.layer_bytes * (uint64_t)b->model.config.n_layers + b->plan.head_bytes), b->load_s);
    else
        printf("%s, --weights %s, on %s with %s kernels; loaded in %.2f s; weights %.2f GiB, KV cache %.2f, activations %.2f; context %d\n", b->model.file->path, weights, b->b->name,
               b->plan.kernels, b->load_s, (double)b->plan.weights * gib, (double)b->plan.kv * gib, (double)b->plan.scratch * gib, b->context);
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *arg[5] = {NULL, "auto", "file", "9", "512"};
    char made[] = "/dev/shm/layerskip-bench-XXXXXX", folder[64], command[128];
    lsk_error err = {0};
    for (int i = 1, n = 0; i < argc; i++)
        if (!strcmp(argv[i], "--json"))
            b.json = true;
        else if (!strcmp(argv[i], "--serve"))
            b.serve = true;
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            b.threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--kernels") && i + 1 < argc)
            b.kernels = argv[++i];
        else if (n < 5)
            arg[n++] = argv[i];
    int turns = atoi(arg[3]);
    turns = turns < 1 ? 1 : turns > TURNS_MAX ? TURNS_MAX : turns;
    b.context = atoi(arg[4]);
    if (b.context < 1)
        die("the context must be 1 or more");
    if (!arg[0]) {
        if (!mkdtemp(made))
            die("cannot make a folder in /dev/shm; name a checkpoint as the first argument");
        snprintf(folder, sizeof folder, "%s/1b", made);
        if (lsk_synth(folder, &(lsk_synth_options){.shape = "llama3.2-1b"}, &err))
            die(err.text);
    }
    open_bench(&b, arg[0] ? arg[0] : folder, arg[1], arg[2]);
    if (b.serve) {
        serve(&b);
    } else {
        print_head(&b, arg[2]);
        bench_rows(&b, turns);
        bench_prompts(&b, turns);
    }
    b.b->kv_close(b.kv);
    b.b->close(b.d);
    model_close(&b.model);
    snprintf(command, sizeof command, "rm -rf '%s'", made);
    return arg[0] || !system(command) ? 0 : 74;
}
