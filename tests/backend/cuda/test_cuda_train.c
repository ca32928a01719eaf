/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer on a GPU against the CPU's: losses and the gradient of every tensor, for every kind of loss, with documents, holes and dropped layers; equal bits where the
   seam promises them; the step; what is refused. Cases that need the CPU's trainer are left out, with a word, where
   OpenBLAS is missing. */
#include <math.h>

#include "backend/cuda/trainer.h"
#include "gpu.h"
#include "trainer_under_test.h"

#include "base/dtype.h"
#include "base/half.h"

enum { N = 3, LENGTH = 150, ROWS = N * LENGTH, LAYERS_MAX = 8, EXITS_MAX = 8 };

extern const struct backend backend_cpu;

static const struct train_options usual = {.batch = N, .length = LENGTH, .threads = 2, .anchor = true};
static const struct train_step first_step = {.step = 1, .rate = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .decay = 0.1, .clip = 1, .divide = 1};
static const struct train_exit all_kinds[] = {{1, 0.25f, 0.5f, 0, 0.125f}, {2, 0, 0, 1, 0}, {3, 0, 0, 0, 0}, {4, 1, 0, 0, 0.25f}};
enum { KINDS = sizeof all_kinds / sizeof *all_kinds };

static int wrong; /* findings of a test: it goes on, and fails at its end */

#define CHECK(condition, ...)                                \
    do {                                                     \
        if (!(condition)) {                                  \
            print_error("line %d: %s: ", __LINE__, #condition); \
            print_error(__VA_ARGS__);                        \
            print_error("\n");                               \
            wrong++;                                         \
        }                                                    \
    } while (0)

static void done(void)
{
    int n = wrong;
    wrong = 0;
    if (n)
        fail_msg("%d findings above", n);
}

/* ---- batches ---- */

struct positions {
    int32_t token[ROWS], target[ROWS], start[ROWS];
    uint8_t keep[LAYERS_MAX * N];
};

/* With documents, holes and dropped layers; length: at most LENGTH. */
static struct train_batch draw_batch(struct positions *p, const struct config *c, int n, int length, uint64_t seed)
{
    for (int i = 0; i < n * length; i++) {
        int pos = i % length;
        p->token[i] = check_below(&seed, 3) ? check_below(&seed, c->vocab) : 7; /* one token is frequent */
        p->target[i] = check_below(&seed, 4) ? check_below(&seed, c->vocab) : -1;
        p->start[i] = pos < 11 ? 0 : pos < 80 + i / length ? 11 : 80 + i / length;
    }
    p->target[0] = 1;
    for (int i = 0; i < LAYERS_MAX * N; i++)
        p->keep[i] = check_below(&seed, 3) > 0;
    return (struct train_batch){.n = n, .length = length, .token = p->token, .target = p->target, .start = p->start, .keep = p->keep};
}

static struct train_batch usual_batch(struct positions *p, const struct trial *x, uint64_t seed) { return draw_batch(p, &x->model.config, N, LENGTH, seed); }

static int backward(struct trial *x, const struct train_batch *b, const struct train_exit *exits, int n, struct train_result *out)
{
    struct error err = {0};
    int rc = x->ops->backward(x->t, b, exits, n, out, &err);
    CHECK(rc == 0, "%s", err.text);
    return rc;
}

static void step(struct trial *x, const struct train_step *s)
{
    struct error err = {0};
    double norm;
    CHECK(x->ops->update(x->t, s, &norm, &err) == 0, "%s", err.text);
}

/* ---- opening ---- */

static bool open_as(struct trial *x, const struct train_ops *ops, const char *shape, const struct train_options *o)
{
    char path[160];
    struct error err = {0};
    synthetic_path(path, sizeof path, shape, "bf16");
    if (model_open(&x->model, path, NULL, &err))
        fail_with(err.text);
    x->ops = ops;
    x->t = ops->open(&x->model, o, &err);
    if (x->t) {
        trial_bend_norms(x);
        return true;
    }
    model_close(&x->model);
    if (ops == &cuda_train || err.code != ERR_UNAVAILABLE)
        fail_with(err.text);
    print_message("left out: %s\n", err.text);
    return false;
}

static void open_gpu(struct trial *x, const char *shape, const struct train_options *o) { open_as(x, &cuda_train, shape, o); }

/* ---- against the CPU ---- */

static double difference(const float *got, const float *want, size_t n, double *norm)
{
    double d = 0, w = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        w += (double)want[i] * (double)want[i];
    }
    *norm = sqrt(w);
    return d == d ? sqrt(d) : INFINITY;
}

/* Every tensor's gradient, against its norm or, where that is next to nothing, a little of all gradients' norm. Returns the largest error. */
static double compare_gradients(struct trial *gpu, struct trial *cpu, const char *what, double bound)
{
    size_t all;
    double worst = 0, total;
    float *every = trial_all(cpu, TRAIN_GRADIENT, &all);
    difference(every, every, all, &total);
    free(every);
    for (int i = 0; i < cpu->ops->n_tensors(cpu->t); i++) {
        float *got = trial_get(gpu, i, TRAIN_GRADIENT), *want = trial_get(cpu, i, TRAIN_GRADIENT);
        double norm, d = difference(got, want, trial_size(cpu, i), &norm), least = norm > 1e-4 * total ? norm : 1e-4 * total, e = d > 0 ? d / least : 0;
        CHECK(e <= bound, "%s: %s: relative error %.2e of norm %.3e; first got %.5e, want %.5e", what, trial_tensor(cpu, i).name, e, norm, (double)got[0], (double)want[0]);
        worst = e > worst ? e : worst;
        free(got);
        free(want);
    }
    return worst;
}

static void compare_results(const struct train_result *got, const struct train_result *want, int n, const char *what, double bound)
{
    for (int i = 0; i < n; i++) {
        const double g[] = {got[i].ce, got[i].kl, got[i].accept, got[i].anchor}, w[] = {want[i].ce, want[i].kl, want[i].accept, want[i].anchor};
        for (int j = 0; j < 4; j++)
            CHECK(fabs(g[j] - w[j]) <= bound * (1 + fabs(w[j])), "%s: exit %d, loss %d: got %.7g, want %.7g", what, i, j, g[j], w[j]);
        CHECK(got[i].positions == want[i].positions, "%s: exit %d: %lld positions", what, i, (long long)got[i].positions);
        CHECK(fabs(got[i].agree - want[i].agree) <= 0.1, "%s: exit %d: agree %g, want %g", what, i, got[i].agree, want[i].agree);
    }
}

struct against {
    const char *shape, *what;
    int n, length;
    bool start, keep;
    int n_exits;
    struct train_exit exit[EXITS_MAX];
    double bound; /* of a gradient */
};

/* Gradients of q and k are differences of larger numbers, those of k's bias almost vanish (a softmax does not see it, but for the rotation); the sign of q - p is part of
   the gradient of `accept`, and rounding turns some of them. */
#define FINE 4e-2
#define BIASES 1e-1
#define ROUGH 0.25

static const struct against cases[] = {
    {"tiny", "ce", N, LENGTH, false, false, 1, {{4, 1, 0, 0, 0}}, FINE},
    {"tiny", "one position", 1, 1, false, false, 1, {{4, 1, 0, 0, 0}}, FINE},
    {"tiny", "two of seven, an early exit", 2, 7, false, false, 1, {{2, 1, 0, 0, 0}}, FINE},
    {"tiny", "kl", N, LENGTH, false, false, 1, {{1, 0, 1, 0, 0}}, FINE},
    {"tiny", "anchor", N, LENGTH, false, false, 1, {{2, 0, 0, 0, 1}}, FINE},
    {"tiny", "accept", N, LENGTH, false, false, 1, {{1, 0, 0, 1, 0}}, ROUGH},
    {"tiny", "documents", N, LENGTH, true, false, 1, {{4, 1, 0, 0, 0}}, FINE},
    {"tiny", "dropped layers", N, LENGTH, false, true, 1, {{4, 1, 0, 0, 0}}, FINE},
    {"tiny", "two exits at one place", N, LENGTH, true, true, 3, {{2, 1, 0, 0, 0}, {2, 0.5f, 0, 0, 0.25f}, {4, 1, 0, 0, 0}}, FINE},
    {"tiny", "all kinds", N, LENGTH, true, true, KINDS, {{1, 0.25f, 0.5f, 0, 0.125f}, {2, 0, 0, 1, 0}, {3, 0, 0, 0, 0}, {4, 1, 0, 0, 0.25f}}, ROUGH},
    {"tiny-gqa", "ce", N, LENGTH, true, true, 2, {{2, 0.5f, 0, 0, 0}, {5, 1, 0, 0, 0}}, FINE},
    {"tiny-gqa", "odd length", 2, 129, true, true, 1, {{5, 1, 0, 0, 0}}, FINE},
    {"tiny-tied", "ce", N, LENGTH, true, true, 2, {{2, 0.5f, 0, 0, 0}, {4, 1, 0, 0, 0}}, FINE},
    {"tiny-llama3", "ce", N, LENGTH, true, true, 2, {{2, 0.5f, 0, 0, 0}, {4, 1, 0, 0, 0}}, FINE},
    {"tiny-headdim", "ce", N, LENGTH, true, true, 2, {{2, 0.5f, 0, 0, 0}, {4, 1, 0, 0, 0}}, FINE},
    {"tiny-bias", "ce", N, LENGTH, true, true, 2, {{2, 0.5f, 0, 0, 0}, {4, 1, 0, 0, 0}}, BIASES},
    {"tiny-bias", "kl", N, LENGTH, true, true, 2, {{1, 0, 1, 0, 0}, {3, 0, 1, 0, 0}}, BIASES},
};

static void run_case(const struct against *a)
{
    struct trial gpu, cpu;
    struct positions p;
    struct train_result got[EXITS_MAX], want[EXITS_MAX];
    char what[160];
    snprintf(what, sizeof what, "%s, %s", a->shape, a->what);
    if (!open_as(&cpu, backend_cpu.train, a->shape, &usual))
        return;
    open_gpu(&gpu, a->shape, &usual);
    struct train_batch b = draw_batch(&p, &cpu.model.config, a->n, a->length, 5);
    b.start = a->start ? b.start : NULL;
    b.keep = a->keep ? b.keep : NULL;
    if (!backward(&gpu, &b, a->exit, a->n_exits, got) && !backward(&cpu, &b, a->exit, a->n_exits, want)) {
        compare_results(got, want, a->n_exits, what, 1e-2);
        double worst = compare_gradients(&gpu, &cpu, what, a->bound);
        print_message("%s: largest relative error of a gradient %.1e (bound %.0e)\n", what, worst, a->bound);
    }
    trial_close(&gpu);
    trial_close(&cpu);
}

static void test_against_the_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_case(&cases[i]);
    done();
}

static void test_evaluate_against_the_cpu(void **state)
{
    (void)state;
    static const int layers[] = {2, 4, 1, 2, 3, 4};
    struct trial gpu, cpu;
    struct positions p;
    struct train_result got[6], want[6];
    struct error err = {0};
    if (!open_as(&cpu, backend_cpu.train, "tiny-bias", &usual))
        return;
    open_gpu(&gpu, "tiny-bias", &usual);
    struct train_batch b = usual_batch(&p, &gpu, 9);
    CHECK(gpu.ops->evaluate(gpu.t, &b, layers, 6, got, &err) == 0, "%s", err.text);
    CHECK(cpu.ops->evaluate(cpu.t, &b, layers, 6, want, &err) == 0, "%s", err.text);
    compare_results(got, want, 6, "evaluate", 1e-2);
    CHECK(got[1].agree == 1 && fabs(got[1].kl) < 1e-6 && fabs(got[1].accept) < 1e-4, "the last layer against itself: agree %g, kl %g, accept %g", got[1].agree, got[1].kl, got[1].accept);
    trial_close(&gpu);
    trial_close(&cpu);
    done();
}

/* ---- the step against the CPU's, from the same numbers ---- */

static void fill(struct trial *a, struct trial *b, enum train_state what, float scale, bool positive, uint64_t seed)
{
    for (int i = 0; i < a->ops->n_tensors(a->t); i++) {
        float *x = trial_get(a, i, what);
        for (size_t j = 0; j < trial_size(a, i); j++) {
            x[j] = check_normal(&seed) * scale;
            x[j] = positive ? x[j] * x[j] : x[j];
        }
        trial_set(a, i, what, x);
        trial_set(b, i, what, x);
        free(x);
    }
}

static void compare_kind(struct trial *gpu, struct trial *cpu, enum train_state what, const char *name)
{
    size_t n, m;
    float *got = trial_all(gpu, what, &n), *want = trial_all(cpu, what, &m);
    double norm, d = difference(got, want, n, &norm);
    CHECK(n == m && d <= 1e-6 * norm, "%s: relative error %.2e", name, d / norm);
    print_message("update, %s: relative error %.1e\n", name, norm > 0 ? d / norm : d);
    free(got);
    free(want);
}

static void test_update_against_the_cpu(void **state)
{
    (void)state;
    struct trial gpu, cpu;
    struct error err = {0};
    double norm[2] = {0};
    if (!open_as(&cpu, backend_cpu.train, "tiny-headdim", &usual))
        return;
    open_gpu(&gpu, "tiny-headdim", &usual);
    for (int clipped = 0; clipped < 2; clipped++) {
        struct train_step s = first_step;
        s.step = 3;
        s.divide = 2;
        s.clip = clipped ? 0.5 : 0;
        fill(&gpu, &cpu, TRAIN_GRADIENT, 0.01f, false, 3);
        fill(&gpu, &cpu, TRAIN_MOMENT1, 0.01f, false, 4);
        fill(&gpu, &cpu, TRAIN_MOMENT2, 0.01f, true, 5);
        CHECK(gpu.ops->update(gpu.t, &s, &norm[0], &err) == 0, "%s", err.text);
        CHECK(cpu.ops->update(cpu.t, &s, &norm[1], &err) == 0, "%s", err.text);
        CHECK(fabs(norm[0] - norm[1]) <= 1e-6 * norm[1], "norm %.9g, want %.9g", norm[0], norm[1]);
        compare_kind(&gpu, &cpu, TRAIN_WEIGHT, "weights");
        compare_kind(&gpu, &cpu, TRAIN_MOMENT1, "first moments");
        compare_kind(&gpu, &cpu, TRAIN_MOMENT2, "second moments");
        size_t n;
        float *g = trial_all(&gpu, TRAIN_GRADIENT, &n);
        for (size_t i = 0; i < n; i++)
            if (g[i] != 0) {
                CHECK(g[i] == 0, "gradient %zu is %g after the step", i, (double)g[i]);
                break;
            }
        free(g);
    }
    trial_close(&gpu);
    trial_close(&cpu);
    done();
}

/* What passes see of a matrix: bits of the rounding that files get, in bf16; after opening, a step and a setting. */
static void check_fit(const struct trial *x, const char *when)
{
    for (int i = 0; i < x->ops->n_tensors(x->t); i++) {
        const struct train_item *it = &x->t->lay.item[i];
        const size_t n = trial_size(x, i);
        const enum dtype type = train_fit_type(&x->t->o, it->view);
        if (type == DT_F32)
            continue;
        float *w = trial_get(x, i, TRAIN_WEIGHT);
        uint8_t *raw = malloc(n * 4);
        uint16_t *half = malloc(n * 2);
        dtype_from_f32(type, w, raw, n);
        dtype_to_f32(type, raw, w, n);
        GPU(cudaMemcpy2D(half, (size_t)it->is.cols * 2, x->t->half + it->at, (size_t)it->ld * 2, (size_t)it->is.cols * 2, (size_t)it->is.rows, cudaMemcpyDeviceToHost));
        for (size_t j = 0; j < n; j++)
            if (half[j] != f32_to_bf16(w[j])) {
                CHECK(half[j] == f32_to_bf16(w[j]), "%s, %s: %s[%zu]: %04x, want %04x", dtype_table[type].name, when, it->is.name, j, half[j], f32_to_bf16(w[j]));
                break;
            }
        free(raw);
        free(half);
        free(w);
    }
}

static void test_fit(void **state)
{
    (void)state;
    static const enum dtype types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct train_options o = usual;
        struct trial x;
        struct error err = {0};
        double norm;
        o.fit = types[k];
        open_gpu(&x, "tiny-gqa", &o);
        check_fit(&x, "opened");
        fill(&x, &x, TRAIN_GRADIENT, 0.01f, false, 3);
        CHECK(x.ops->update(x.t, &first_step, &norm, &err) == 0, "%s", err.text);
        check_fit(&x, "after a step");
        fill(&x, &x, TRAIN_WEIGHT, 0.5f, false, 4);
        check_fit(&x, "set");
        trial_close(&x);
    }
    done();
}

/* ---- equal bits ---- */

/* Everything that a checkpoint holds. */
struct kept {
    float *kind[4];
    size_t n;
};

static struct kept take(struct trial *x)
{
    struct kept k;
    for (int i = 0; i < 4; i++)
        k.kind[i] = trial_all(x, (enum train_state)i, &k.n);
    return k;
}

static void drop(struct kept *k)
{
    for (int i = 0; i < 4; i++)
        free(k->kind[i]);
}

static void compare_kept(const struct kept *a, const struct kept *b, const char *what)
{
    static const char *const names[] = {"weight", "gradient", "moment 1", "moment 2"};
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < a->n; i++)
            if (memcmp(&a->kind[k][i], &b->kind[k][i], sizeof(float))) {
                CHECK(false, "%s: %s %zu of %zu: %.9g and %.9g", what, names[k], i, a->n, (double)a->kind[k][i], (double)b->kind[k][i]);
                break;
            }
}

/* Two batches, and the step. */
static void one_step(struct trial *x, int number)
{
    struct positions p;
    struct train_result got[KINDS];
    for (uint64_t i = 0; i < 2; i++) {
        struct train_batch b = usual_batch(&p, x, 7 + i);
        backward(x, &b, all_kinds, KINDS, got);
    }
    struct train_step s = first_step;
    s.step = number;
    s.divide = 2;
    step(x, &s);
}

/* The numbers after two steps and a batch; resumed: the second step is made by another trainer, with what the first one holds. */
static struct kept train_a_little(const char *shape, const struct train_options *o, bool resumed)
{
    struct trial x, y;
    struct positions p;
    struct train_result got[KINDS];
    open_gpu(&x, shape, o);
    one_step(&x, 1);
    if (resumed) {
        open_gpu(&y, shape, o);
        for (int i = 0; i < x.ops->n_tensors(x.t); i++)
            for (int k = 0; k < 4; k++) {
                float *v = trial_get(&x, i, (enum train_state)k);
                trial_set(&y, i, (enum train_state)k, v);
                free(v);
            }
        trial_close(&x);
        x = y;
    }
    one_step(&x, 2);
    struct train_batch b = usual_batch(&p, &x, 17);
    backward(&x, &b, all_kinds, KINDS, got);
    struct kept k = take(&x);
    trial_close(&x);
    return k;
}

static void test_same_calls_same_bits(void **state)
{
    (void)state;
    static const char *const shapes[] = {"tiny-gqa", "tiny-bias", "tiny-tied"};
    for (int s = 0; s < 3; s++) {
        struct train_options o = usual;
        struct kept first = train_a_little(shapes[s], &o, false), again = train_a_little(shapes[s], &o, false), resumed = train_a_little(shapes[s], &o, true);
        o.recompute = true;
        struct kept recomputed = train_a_little(shapes[s], &o, false);
        compare_kept(&again, &first, "a second run");
        /* the anchor of a resumed trainer is the file's, as the first one's was */
        compare_kept(&resumed, &first, "a resumed run");
        compare_kept(&recomputed, &first, "recomputed");
        drop(&first);
        drop(&again);
        drop(&resumed);
        drop(&recomputed);
    }
    done();
}

static float *gradients(struct trial *x, const struct train_batch *b, const struct train_exit *exits, int n_exits, struct train_result *out, size_t *n)
{
    x->ops->clear(x->t);
    backward(x, b, exits, n_exits, out);
    return trial_all(x, TRAIN_GRADIENT, n);
}

/* Logits by small chunks give what they give at once. */
static void test_chunks(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result whole[KINDS], parts[KINDS];
    size_t n;
    double norm;
    open_gpu(&x, "tiny-tied", &usual);
    struct train_batch b = usual_batch(&p, &x, 21);
    float *a = gradients(&x, &b, all_kinds, KINDS, whole, &n);
    x.t->chunk = 37;
    float *c = gradients(&x, &b, all_kinds, KINDS, parts, &n);
    double d = difference(c, a, n, &norm);
    CHECK(d <= 1e-3 * norm, "chunks of 37: gradients differ by %.2e", d / norm);
    compare_results(parts, whole, KINDS, "chunks of 37", 1e-6);
    free(a);
    free(c);
    trial_close(&x);
    done();
}

/* Nothing dropped, all documents one, and exits that weigh nothing: plain training. */
static void test_exits_without_weight(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result got[3];
    size_t n;
    const struct train_exit some[] = {{1, 0, 0, 0, 0}, {4, 1, 0, 0, 0}, {3, 0, 0, 0, 0}};
    open_gpu(&x, "tiny", &usual);
    struct train_batch b = usual_batch(&p, &x, 3);
    memset(p.keep, 1, sizeof p.keep);
    memset(p.start, 0, sizeof p.start);
    float *with = gradients(&x, &b, some, 3, got, &n);
    b.keep = NULL;
    b.start = NULL;
    float *plain = gradients(&x, &b, some + 1, 1, got, &n);
    for (size_t i = 0; i < n; i++)
        if (with[i] != plain[i]) {
            CHECK(false, "gradient %zu: %.9g and %.9g", i, (double)with[i], (double)plain[i]);
            break;
        }
    backward(&x, &b, some + 1, 1, got);
    float *twice = trial_all(&x, TRAIN_GRADIENT, &n);
    for (size_t i = 0; i < n; i++)
        plain[i] *= 2;
    double norm, d = difference(twice, plain, n, &norm);
    CHECK(norm > 0 && d < 1e-5 * norm, "two batches do not add up: %.2e", d / norm);
    free(with);
    free(plain);
    free(twice);
    trial_close(&x);
    done();
}

/* ---- layer dropout ---- */

/* A layer that nobody goes through has no gradient; samples alone have the losses that they have together. */
static void test_dropped_layers(void **state)
{
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        struct trial x;
        struct positions p;
        struct train_result together[KINDS], one[KINDS];
        struct train_options o = usual;
        double sum[KINDS] = {0};
        int64_t positions = 0;
        o.recompute = recompute;
        open_gpu(&x, "tiny-headdim", &o);
        struct train_batch b = usual_batch(&p, &x, 6);
        memset(p.keep + N, 0, N);
        backward(&x, &b, all_kinds, KINDS, together);
        for (int i = 0; i < x.ops->n_tensors(x.t); i++) {
            const char *name = trial_tensor(&x, i).name;
            float *g = trial_get(&x, i, TRAIN_GRADIENT);
            bool none = true;
            for (size_t j = 0; j < trial_size(&x, i); j++)
                none = none && g[j] == 0;
            CHECK(none == !strncmp(name, "layers.1.", 9), "%s: gradient %s", name, none ? "is zero" : "is not zero");
            free(g);
        }
        for (int s = 0; s < N; s++) {
            uint8_t keep[LAYERS_MAX];
            for (int l = 0; l < LAYERS_MAX; l++)
                keep[l] = p.keep[l * N + s];
            struct train_batch alone = {.n = 1, .length = LENGTH, .token = p.token + s * LENGTH, .target = p.target + s * LENGTH, .start = p.start + s * LENGTH, .keep = keep};
            backward(&x, &alone, all_kinds, KINDS, one);
            positions += one[0].positions;
            for (int i = 0; i < KINDS; i++)
                sum[i] += (one[i].ce + one[i].kl + one[i].accept + one[i].anchor) * (double)one[i].positions;
        }
        CHECK(positions == together[0].positions, "%lld positions", (long long)positions);
        for (int i = 0; i < KINDS; i++) {
            double want = together[i].ce + together[i].kl + together[i].accept + together[i].anchor;
            CHECK(fabs(sum[i] / (double)positions - want) < 1e-4 * (1 + want), "exit %d: alone %.8g, together %.8g", i, sum[i] / (double)positions, want);
        }
        trial_close(&x);
    }
    done();
}

/* ---- evaluate ---- */

static void test_evaluate(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct train_result back[2], got[3];
    struct error err = {0};
    size_t n;
    const struct train_exit exits[] = {{2, 1, 1, 1, 1}, {4, 1, 1, 1, 1}};
    const int layers[] = {2, 4, 1};
    open_gpu(&x, "tiny", &usual);
    struct train_batch b = usual_batch(&p, &x, 9);
    b.keep = NULL;
    backward(&x, &b, exits, 2, back);
    float *before = trial_all(&x, TRAIN_GRADIENT, &n);
    b.keep = p.keep; /* evaluate drops nothing */
    CHECK(x.ops->evaluate(x.t, &b, layers, 3, got, &err) == 0, "%s", err.text);
    CHECK(!memcmp(got, back, sizeof back), "ce %.9g and %.9g", got[0].ce, back[0].ce);
    CHECK(got[2].agree < 1 && got[2].kl > got[0].kl && got[2].accept > 0, "agree %g, kl %g and %g", got[2].agree, got[2].kl, got[0].kl);
    float *after = trial_all(&x, TRAIN_GRADIENT, &n);
    CHECK(!memcmp(before, after, n * sizeof *before), "evaluate changes gradients");
    for (int i = 0; i < ROWS; i++)
        p.target[i] = -1;
    x.ops->clear(x.t);
    backward(&x, &b, exits, 2, back);
    float *none = trial_all(&x, TRAIN_GRADIENT, &n);
    for (size_t i = 0; i < n; i++)
        if (none[i] != 0) {
            CHECK(false, "no target at all, and gradient %zu is %g", i, (double)none[i]);
            break;
        }
    CHECK(back[0].positions == 0 && back[0].ce == 0 && back[1].kl == 0, "no target, and a loss of %g", back[0].ce);
    free(before);
    free(after);
    free(none);
    trial_close(&x);
    done();
}

/* ---- what goes wrong ---- */

static void test_nan_weights(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct trial x;
    struct positions p;
    struct train_result got[KINDS];
    open_gpu(&x, "tiny-bias", &usual);
    struct train_batch b = usual_batch(&p, &x, 9);
    memset(p.keep, 1, sizeof p.keep);
    for (int i = 0; i < x.ops->n_tensors(x.t); i++) {
        struct error err = {0};
        float *w = trial_get(&x, i, TRAIN_WEIGHT);
        size_t at = strcmp(trial_tensor(&x, i).name, "embed") ? 0 : (size_t)p.token[3] * (size_t)x.model.config.hidden;
        float old = w[at];
        w[at] = bad[i % 3];
        trial_set(&x, i, TRAIN_WEIGHT, w);
        int rc = x.ops->backward(x.t, &b, all_kinds, KINDS, got, &err);
        CHECK(rc == ERR_DATA && strstr(err.text, "not finite"), "%s with %g: %d %s", trial_tensor(&x, i).name, (double)w[at], rc, err.text);
        w[at] = old;
        trial_set(&x, i, TRAIN_WEIGHT, w);
        free(w);
    }
    x.ops->clear(x.t);
    backward(&x, &b, all_kinds, KINDS, got); /* nothing is left of it */
    step(&x, &first_step);
    trial_close(&x);
    done();
}

static void test_nan_gradients(void **state)
{
    (void)state;
    struct trial x;
    struct error err = {0};
    double norm;
    open_gpu(&x, "tiny", &usual);
    float *g = calloc(trial_size(&x, 2), sizeof *g);
    g[3] = NAN;
    trial_set(&x, 2, TRAIN_GRADIENT, g);
    struct kept before = take(&x);
    int rc = x.ops->update(x.t, &first_step, &norm, &err);
    CHECK(rc == ERR_DATA && strstr(err.text, "not finite"), "%d %s", rc, err.text);
    struct kept after = take(&x);
    compare_kept(&after, &before, "a step without a norm");
    for (int i = 0; i < 4; i++) {
        struct train_step s = first_step;
        *(double *[]){&s.rate, &s.beta2, &s.eps, &s.divide}[i] = i < 2 ? 1.0 / 0.0 : 0;
        CHECK(x.ops->update(x.t, &s, &norm, &err) == ERR_USAGE, "%d", i);
    }
    drop(&before);
    drop(&after);
    free(g);
    trial_close(&x);
    done();
}

/* As many positions as a call takes, of a model that needs 148 GiB for them. */
static void out_of_memory(const struct train_ops *ops)
{
    struct model m;
    struct error err = {0};
    char path[160];
    synthetic_path(path, sizeof path, "tiny-256", "bf16");
    CHECK(model_open(&m, path, NULL, &err) == 0, "%s", err.text);
    const struct train_options o = {.batch = TRAIN_ROWS_MOST / m.config.context, .length = m.config.context, .exits = 4};
    CHECK(ops->open(&m, &o, &err) == NULL && err.code == ERR_OS && strstr(err.text, "--recompute"), "%s", err.text);
    print_message("%s\n", err.text);
    model_close(&m);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct train_options bad[] = {{.batch = 0, .length = 1}, {.batch = 1, .length = 4097}, {.batch = 1, .length = 1, .exits = -1}, {.batch = INT32_MAX, .length = 4096}};
    struct trial x;
    struct positions p;
    struct error err = {0};
    struct train_result got[KINDS];
    struct train_plan plan;
    open_gpu(&x, "tiny", &usual);
    struct train_batch b = usual_batch(&p, &x, 9);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(x.ops->open(&x.model, &bad[i], &err) == NULL && err.code == ERR_USAGE, "options %zu: %s", i, err.text);
    CHECK(x.ops->backward(x.t, &b, all_kinds, 5, got, &err) == ERR_USAGE, "%s", err.text);
    CHECK(x.ops->evaluate(x.t, &b, &(int){-3}, 1, got, &err) == ERR_USAGE, "%s", err.text);
    p.token[100] = 515;
    CHECK(x.ops->backward(x.t, &b, all_kinds, KINDS, got, &err) == ERR_DATA && strstr(err.text, "token 515"), "%s", err.text);
    CHECK(x.ops->get(x.t, -1, TRAIN_WEIGHT, &(float){0}, NULL) == ERR_INTERNAL, "tensor -1");
    out_of_memory(x.ops);
    for (int i = 0; i < 4; i++) {
        struct trial y;
        struct train_options o = {.batch = 2, .length = 33, .exits = 2, .anchor = i & 1, .recompute = i & 2};
        open_gpu(&y, "tiny-gqa", &o);
        CHECK(y.ops->plan(&y.model, &o, &plan, NULL) == 0 && plan.weights + plan.gradients + plan.optimizer + plan.activations + plan.anchor == y.t->memory_bytes, "plan %d", i);
        trial_close(&y);
    }
    trial_close(&x);
    done();
}

struct watch {
    int calls, stop_at;
};

static int watch_progress(void *ud, const char *what, uint64_t at, uint64_t total)
{
    struct watch *w = ud;
    if (strcmp(what, "training"))
        return 0;
    CHECK(total == 12 && (int)at == w->calls % 12 + 1, "%llu of %llu", (unsigned long long)at, (unsigned long long)total);
    return ++w->calls == w->stop_at;
}

static void test_progress_and_stopping(void **state)
{
    (void)state;
    for (int stop_at = 0; stop_at <= 12; stop_at += 3) {
        struct watch w = {.stop_at = stop_at};
        struct trial x;
        struct positions p;
        struct error err = {0};
        struct train_result got[KINDS];
        struct train_options o = usual;
        o.progress = watch_progress;
        o.progress_ud = &w;
        open_gpu(&x, "tiny", &o);
        struct train_batch b = usual_batch(&p, &x, 9);
        int rc = x.ops->backward(x.t, &b, all_kinds, KINDS, got, &err);
        CHECK(rc == (stop_at ? ERR_USAGE : 0) && w.calls == (stop_at ? stop_at : 12), "stopped at %d: %d after %d calls", stop_at, rc, w.calls);
        trial_close(&x);
    }
    done();
}

/* Any CUDA call that fails is an error, and the next batch finds nothing of it. */
static void test_failing_calls(void **state)
{
    (void)state;
    struct trial x;
    struct positions p;
    struct error err = {0};
    struct train_result want[KINDS], got[KINDS];
    open_gpu(&x, "tiny-bias", &usual);
    struct train_batch b = usual_batch(&p, &x, 9);
    long before = cuda_calls();
    backward(&x, &b, all_kinds, KINDS, want);
    const long calls = cuda_calls() - before;
    for (long at = 0; at < calls; at += 5) {
        cuda_fail_at(at);
        int rc = x.ops->backward(x.t, &b, all_kinds, KINDS, got, &err);
        cuda_fail_at(-1);
        CHECK(rc == ERR_UNAVAILABLE, "call %ld of %ld: %d %s", at, calls, rc, err.text);
    }
    backward(&x, &b, all_kinds, KINDS, got);
    CHECK(!memcmp(got, want, sizeof got), "ce %.9g and %.9g", got[0].ce, want[0].ce);
    trial_close(&x);
    done();
}

int main(void)
{
    gpu_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_cpu),
        cmocka_unit_test(test_evaluate_against_the_cpu),
        cmocka_unit_test(test_update_against_the_cpu),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_same_calls_same_bits),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_exits_without_weight),
        cmocka_unit_test(test_dropped_layers),
        cmocka_unit_test(test_evaluate),
        cmocka_unit_test(test_nan_weights),
        cmocka_unit_test(test_nan_gradients),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_progress_and_stopping),
        cmocka_unit_test(test_failing_calls),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
