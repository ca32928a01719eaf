/* SPDX-License-Identifier: Apache-2.0 */
/* The choice rule on the device against the CPU backend's functions, bit for bit: every setting and combination, logits meant to break it, rows of all kinds in
   one call, in any order and alone. Then what a call takes. An argument leaves the times out. */
#include "gpu.h"

#include "backend/cuda/kernels.h"
#include "cuts.h"

enum { MOST = 64, FAILURES_SHOWN = 12 };

/* ---- rows of logits ---- */

enum kind {
    TEXT, FLAT, PEAKED, ROUNDED, EQUAL, THREE, NEIGHBOURS, ZEROS, HUGE_BOTH, EDGE_OF_MASS, RISING, FALLING, CROWD, FAR_DOWN, ONE_HUGE,
    SOME_MINUS, ALL_MINUS, ALL_BUT_ONE_MINUS, ONE_NAN, LAST_NAN, ONE_PLUS, KINDS
};
static const char *const kind_name[KINDS] = {
    "text", "flat", "peaked", "rounded", "equal", "three values", "neighbours", "zeros", "huge", "edge of mass", "rising", "falling", "crowd", "far down", "one huge",
    "some -inf", "all -inf", "all but one -inf", "one NaN", "last NaN", "one +inf"};

static float value(enum kind k, int i, int n, int odd, uint64_t *seed)
{
    switch (k) {
    case FLAT: return 0.5f * gpu_normal(seed);
    case PEAKED: return gpu_normal(seed) + (i == odd ? 15.0f : 0.0f);
    case ROUNDED: return floorf(gpu_normal(seed) * 8) / 4;
    case EQUAL: return 2.5f;
    case THREE: return (float)(gpu_random(seed) % 3);
    case NEIGHBOURS: return 1 + (float)(gpu_random(seed) % 4) * 0x1p-23f;
    case ZEROS: return gpu_random(seed) % 2 ? 0.0f : gpu_random(seed) % 2 ? -0.0f : -1.0f;
    case HUGE_BOTH: return (i % 7 ? -1.0f : 1.0f) * 3.4e38f;
    case EDGE_OF_MASS: return i == odd ? 0.0f : -27.7258872f + (float)(gpu_random(seed) % 16) * 0x1p-19f;
    case RISING: return -20 + 40 * (float)i / (float)n;
    case FALLING: return 20 - 40 * (float)i / (float)n;
    case CROWD: return gpu_normal(seed) + (i >= odd && i < odd + 700 ? 12.0f : 0.0f);
    case FAR_DOWN: return -1e4f + 2 * gpu_normal(seed);
    case ONE_HUGE: return i == odd ? 3e38f : gpu_normal(seed);
    case SOME_MINUS: return gpu_random(seed) % 3 ? gpu_normal(seed) : -INFINITY;
    case ALL_MINUS: return -INFINITY;
    case ALL_BUT_ONE_MINUS: return i == odd ? -3.0f : -INFINITY;
    case ONE_NAN: return i == odd ? NAN : gpu_normal(seed);
    case LAST_NAN: return i == n - 1 ? NAN : gpu_normal(seed);
    case ONE_PLUS: return i == odd ? INFINITY : gpu_normal(seed);
    default: return 2.5f * gpu_normal(seed) + (gpu_random(seed) % 500 ? 0.0f : 6.0f);
    }
}

struct problem {
    int vocab, stride, tiles;
    float *logits, *tile_max;                 /* [MOST][stride], [MOST][tiles] */
    struct sampling s[MOST];
    int n_top[MOST], pos[MOST];
    enum kind kind[MOST];
    struct pick want[MOST];
    float *device_logits, *device_tile_max;
    struct pick *device_picks;
    struct step *device_step;
    int32_t *ids, *device_ids; /* [vocab] tokens that the logits may be of, some of them in one group of four */
    bool listed;               /* they are */
    int failures;
};

static void open_problem(struct problem *p, int vocab)
{
    *p = (struct problem){.vocab = vocab, .stride = (vocab + 15) / 16 * 16, .tiles = (vocab + 15) / 16};
    p->logits = malloc((size_t)(MOST * p->stride) * sizeof(float));
    p->tile_max = malloc((size_t)(MOST * p->tiles) * sizeof(float));
    p->device_logits = gpu_take((size_t)(MOST * p->stride) * sizeof(float));
    p->device_tile_max = gpu_take((size_t)(MOST * p->tiles) * sizeof(float));
    p->device_picks = gpu_take(MOST * sizeof(struct pick));
    p->device_step = gpu_take(sizeof(struct step));
    p->ids = malloc((size_t)vocab * sizeof *p->ids);
    p->device_ids = gpu_take((size_t)vocab * sizeof *p->ids);
    for (int i = 0; i < vocab; i++)
        p->ids[i] = 2 * i + i % 2 + i / 100;
    GPU(cudaMemcpy(p->device_ids, p->ids, (size_t)vocab * sizeof *p->ids, cudaMemcpyHostToDevice));
}

static void close_problem(struct problem *p)
{
    free(p->logits);
    free(p->tile_max);
    GPU(cudaFree(p->device_logits));
    GPU(cudaFree(p->device_tile_max));
    GPU(cudaFree(p->device_picks));
    GPU(cudaFree(p->device_step));
    free(p->ids);
    GPU(cudaFree(p->device_ids));
}

static void fill_row(struct problem *p, int r, enum kind k, uint64_t *seed)
{
    float *l = p->logits + (size_t)r * (size_t)p->stride, *t = p->tile_max + (size_t)r * (size_t)p->tiles;
    int odd = (int)(gpu_random(seed) % (uint64_t)p->vocab);
    p->kind[r] = k;
    for (int i = 0; i < p->stride; i++)
        l[i] = i < p->vocab ? value(k, i, p->vocab, odd, seed) : i % 2 ? NAN : 1e30f; /* nobody may look behind the vocabulary */
    for (int i = 0; i < p->tiles; i++) {
        t[i] = -INFINITY;
        for (int j = 16 * i; j < 16 * i + 16 && j < p->vocab; j++)
            t[i] = isnan(l[j]) ? INFINITY : fmaxf(t[i], l[j]);
    }
}

/* ---- what the CPU backend does (backend/cpu/cpu_pick.c), in one slice ---- */

static int draw(const struct ops *o, const float *l, int n, const int32_t *ids, const struct sampling *s, int position, struct scan top)
{
    struct cut cut = pick_filters(s) ? cut_in_slices(o, l, n, top.max, s, 1) : PICK_ALL;
    struct best b = {-INFINITY, -1};
    float x = top.max / s->temperature;
    if (pick_keeps(cut, x, top.id))
        b = (struct best){(double)x + pick_gumbel(pick_noise_of(s, position, ids ? ids[top.id] : top.id)), top.id};
    return o->noisy(l, 0, n, ids, s, position, top.max, cut, b).id;
}

static struct pick choose(const float *l, int n, const int32_t *ids, const struct sampling *s, int n_top, int position)
{
    const struct ops *o = ops_pick(NULL);
    struct scan top = o->scan(l, 0, n);
    struct pick p = {.token = -1};
    if (!top.finite)
        return p;
    uint64_t mass = o->mass(l, 0, n, top.max);
    p.token = s->temperature > 0 ? draw(o, l, n, ids, s, position, top) : top.id;
    p.logprob = pick_logprob(l[p.token], top.max, mass);
    p.conf = pick_exp(p.logprob);
    p.n_top = o->top(l, 0, n, n_top, p.top);
    for (int i = 0; i < p.n_top; i++)
        p.top[i].logprob = pick_logprob(p.top[i].logprob, top.max, mass);
    p.token = ids ? ids[p.token] : p.token;
    for (int i = 0; ids && i < p.n_top; i++)
        p.top[i].token = ids[p.top[i].token];
    return p;
}

/* ---- calls ---- */

static int bucket_of(int n) { return n <= 8 ? 8 : n <= 16 ? 16 : n <= 32 ? 32 : 64; }

/* Row which[i] of the problem at place i. */
static void put(struct problem *p, const int *which, int n)
{
    struct step *step = calloc(1, sizeof *step);
    step->n = n;
    for (int i = 0; i < n; i++) {
        int r = which[i];
        size_t stride = (size_t)p->stride, tiles = (size_t)p->tiles;
        const struct sampling *s = &p->s[r];
        step->row[i].pos = p->pos[r];
        step->ask[i] = (struct step_ask){.temperature = s->temperature, .top_p = s->top_p, .min_p = s->min_p, .top_k = s->top_k, .n_top = p->n_top[r],
                                         .choice = s->choice, .seed = s->seed};
        GPU(cudaMemcpy(p->device_logits + (size_t)i * stride, p->logits + (size_t)r * stride, stride * sizeof(float), cudaMemcpyHostToDevice));
        GPU(cudaMemcpy(p->device_tile_max + (size_t)i * tiles, p->tile_max + (size_t)r * tiles, tiles * sizeof(float), cudaMemcpyHostToDevice));
    }
    GPU(cudaMemcpy(p->device_step, step, sizeof *step, cudaMemcpyHostToDevice));
    free(step);
}

static struct choose call_of(const struct problem *p, int n)
{
    return (struct choose){.step = p->device_step, .bucket = bucket_of(n), .logits = p->device_logits, .stride = p->stride, .vocab = p->vocab,
                           .ids = p->listed ? p->device_ids : NULL, .tile_max = p->device_tile_max, .picks = p->device_picks};
}

static void show(const char *what, const struct pick *p)
{
    print_error("    %s: token %d logprob %a conf %a n_top %d:", what, (int)p->token, (double)p->logprob, (double)p->conf, (int)p->n_top);
    for (int i = 0; i < PICK_TOP; i++)
        print_error(" %d %a", (int)p->top[i].token, (double)p->top[i].logprob);
    print_error("\n");
}

static void compare(struct problem *p, int r, int place, int n, const struct pick *got, const char *how)
{
    const struct sampling *s = &p->s[r];
    if (!memcmp(got, &p->want[r], sizeof *got) || p->failures++ >= FAILURES_SHOWN)
        return;
    print_error("vocab %d%s, %s: place %d of %d, logits %s, T %g k %d p %g min-p %g seed %llu choice %u pos %d n_top %d\n", p->vocab, p->listed ? " listed" : "", how, place, n, kind_name[p->kind[r]],
                (double)s->temperature, (int)s->top_k, (double)s->top_p, (double)s->min_p, (unsigned long long)s->seed, (unsigned)s->choice, p->pos[r], p->n_top[r]);
    show("got ", got);
    show("want", &p->want[r]);
}

static void call(struct problem *p, const int *which, int n, const char *how)
{
    struct pick got[MOST];
    struct choose c = call_of(p, n);
    put(p, which, n);
    GPU(cudaMemset(p->device_picks, 0xff, sizeof got));
    GPU(cuda_choose((struct launch){0}, &c));
    GPU(cudaDeviceSynchronize());
    gpu_read(got, p->device_picks, sizeof got);
    for (int i = 0; i < n; i++)
        compare(p, which[i], i, n, &got[i], how);
    for (size_t i = (size_t)n * sizeof *got; i < sizeof got; i++)
        if (((uint8_t *)got)[i] != 0xff && p->failures++ < FAILURES_SHOWN)
            print_error("vocab %d, %s: %d rows, byte %d of pick %d was written\n", p->vocab, how, n, (int)(i % sizeof *got), (int)(i / sizeof *got));
}

/* The rows together, in reverse and each alone. */
static void check_rows(struct problem *p, int n)
{
    int which[MOST];
    for (int r = 0; r < n; r++) {
        p->want[r] = choose(p->logits + (size_t)r * (size_t)p->stride, p->vocab, p->listed ? p->ids : NULL, &p->s[r], p->n_top[r], p->pos[r] + 1);
        which[r] = r;
    }
    call(p, which, n, "together");
    for (int r = 0; r < n; r++)
        which[r] = n - 1 - r;
    call(p, which, n, "reversed");
    for (int r = 0; r < n; r++)
        call(p, &r, 1, "alone");
}

/* ---- settings ---- */

static const float temperatures[] = {0, 0.1f, 0.7f, 1, 5, 1.99f, 1e-30f}, top_ps[] = {0, 0.01f, 0.5f, 0.9f, 0.999f}, min_ps[] = {0, 0.01f, 0.5f, 1};
enum { N_T = 7, N_K = 6, N_P = 5, N_M = 4, SETTINGS = N_T * N_K * N_P * N_M };

static void set_row(struct problem *p, int r, int setting, uint64_t *seed)
{
    const int ks[N_K] = {0, 1, 2, 40, 1000, p->vocab + 5};
    p->s[r] = (struct sampling){.temperature = temperatures[setting % N_T], .top_k = ks[setting / N_T % N_K], .top_p = top_ps[setting / N_T / N_K % N_P],
                                .min_p = min_ps[setting / N_T / N_K / N_P % N_M], .choice = (uint32_t)gpu_random(seed) % 3, .seed = gpu_random(seed)};
    p->pos[r] = (int)(gpu_random(seed) % 5000);
    p->n_top[r] = (int)(gpu_random(seed) % (PICK_TOP + 1));
}

/* `rows` settings, evenly over all of them, with logits of all kinds (kind < 0) or of one. */
static void check_settings(struct problem *p, int rows, int kind, uint64_t *seed)
{
    for (int done = 0; done < rows;) {
        int n = 1 + (int)(gpu_random(seed) % MOST);
        n = n < rows - done ? n : rows - done;
        for (int r = 0; r < n; r++, done++) {
            set_row(p, r, (int)((int64_t)done * SETTINGS / rows), seed);
            enum kind k = gpu_random(seed) % 3 == 0 ? TEXT : (enum kind)(gpu_random(seed) % (gpu_random(seed) % 8 ? SOME_MINUS : KINDS));
            fill_row(p, r, kind < 0 ? k : (enum kind)kind, seed);
        }
        p->listed = false;
        check_rows(p, n);
        p->listed = true;
        check_rows(p, n);
    }
}

static void check_vocab(int vocab, int rows)
{
    struct problem p;
    uint64_t seed = 1000 + (uint64_t)vocab;
    open_problem(&p, vocab);
    check_settings(&p, rows, -1, &seed);
    int failures = p.failures;
    close_problem(&p);
    if (failures)
        fail_msg("vocab %d: %d differences", vocab, failures);
}

static void small_vocabularies(void **state)
{
    (void)state;
    static const int vocabs[] = {1, 2, 3, 5, 8, 16, 17, 130, 333, 2047};
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
        check_vocab(vocabs[i], 64);
}

static void vocab_1000_all_settings(void **state)
{
    (void)state;
    check_vocab(1000, SETTINGS);
}

static void vocab_32000(void **state)
{
    (void)state;
    check_vocab(32000, 280);
}

static void vocab_32016(void **state)
{
    (void)state;
    check_vocab(32016, 70);
}

static void vocab_49152(void **state)
{
    (void)state;
    check_vocab(49152, 70);
}

static void vocab_128256(void **state)
{
    (void)state;
    check_vocab(128256, 70);
}

/* Every kind of logits with a handful of settings. */
static void every_kind_of_logits(void **state)
{
    (void)state;
    struct problem p;
    uint64_t seed = 5;
    open_problem(&p, 9001);
    for (int k = 0; k < KINDS; k++)
        check_settings(&p, 40, k, &seed);
    int failures = p.failures;
    close_problem(&p);
    if (failures)
        fail_msg("%d differences", failures);
}

/* Logits that are -infinity: what the CPU makes of them is what the device has to. */
static void infinities_are_no_tokens(void **state)
{
    (void)state;
    static const enum kind kinds[] = {SOME_MINUS, ALL_MINUS, ALL_BUT_ONE_MINUS, ONE_NAN, LAST_NAN, ONE_PLUS};
    struct problem p;
    uint64_t seed = 6;
    open_problem(&p, 777);
    for (int k = 0; k < 6; k++) {
        set_row(&p, k, 3 + k, &seed);
        fill_row(&p, k, kinds[k], &seed);
    }
    check_rows(&p, 6);
    for (int k = 0; k < 6; k++)
        if (p.want[k].token != -1)
            print_message("logits %s give token %d\n", kind_name[kinds[k]], (int)p.want[k].token);
    assert_int_equal(p.failures, 0);
    close_problem(&p);
}

/* ---- times ---- */

static double microseconds(const struct choose *c, bool chain)
{
    enum { CALLS = 100 };
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t from, to;
    float ms, best = 1e9f;
    GPU(cudaStreamCreate(&stream));
    GPU(cudaEventCreate(&from));
    GPU(cudaEventCreate(&to));
    GPU(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < CALLS; i++)
        GPU(cuda_choose((struct launch){.stream = stream, .chain = chain}, c));
    GPU(cudaStreamEndCapture(stream, &graph));
    GPU(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 6; i++) {
        GPU(cudaEventRecord(from, stream));
        GPU(cudaGraphLaunch(exec, stream));
        GPU(cudaEventRecord(to, stream));
        GPU(cudaStreamSynchronize(stream));
        GPU(cudaEventElapsedTime(&ms, from, to));
        best = ms < best ? ms : best;
    }
    GPU(cudaGraphExecDestroy(exec));
    GPU(cudaGraphDestroy(graph));
    GPU(cudaEventDestroy(from));
    GPU(cudaEventDestroy(to));
    GPU(cudaStreamDestroy(stream));
    return (double)best * 1000 / CALLS;
}

static void times(void)
{
    static const struct {
        const char *what;
        struct sampling s;
        int n_top;
    } kinds[] = {
        {"greedy", {.temperature = 0}, 0},
        {"greedy, top 8", {.temperature = 0}, 8},
        {"sampled", {.temperature = 0.8f}, 0},
        {"top-k 40, top-p 0.9", {.temperature = 0.8f, .top_k = 40, .top_p = 0.9f}, 0},
        {"top-p 0.95", {.temperature = 0.8f, .top_p = 0.95f}, 0},
        {"min-p 0.05", {.temperature = 0.8f, .min_p = 0.05f}, 0},
    };
    static const int vocabs[] = {32000, 128256}, counts[] = {1, 8, 64};
    uint64_t seed = 9;
    int which[MOST];
    for (int v = 0; v < 2; v++) {
        struct problem p;
        open_problem(&p, vocabs[v]);
        for (int r = 0; r < MOST; r++) {
            which[r] = r;
            p.pos[r] = r;
            fill_row(&p, r, TEXT, &seed);
        }
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            for (int i = 0; i < 3; i++) {
                for (int r = 0; r < MOST; r++) {
                    p.s[r] = kinds[k].s;
                    p.s[r].seed = (uint64_t)r;
                    p.n_top[r] = kinds[k].n_top;
                }
                put(&p, which, counts[i]);
                struct choose c = call_of(&p, counts[i]);
                double apart = microseconds(&c, false), chained = microseconds(&c, true);
                print_message("vocab %6d, %2d rows, %-20s %6.2f us a call, %6.2f us chained\n", vocabs[v], counts[i], kinds[k].what, apart, chained);
            }
        close_problem(&p);
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(infinities_are_no_tokens),
        cmocka_unit_test(small_vocabularies),
        cmocka_unit_test(vocab_1000_all_settings),
        cmocka_unit_test(every_kind_of_logits),
        cmocka_unit_test(vocab_32000),
        cmocka_unit_test(vocab_32016),
        cmocka_unit_test(vocab_49152),
        cmocka_unit_test(vocab_128256),
    };
    gpu_or_skip();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (argc == 1)
        times();
    return failed;
}
