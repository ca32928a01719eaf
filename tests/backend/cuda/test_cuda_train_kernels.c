/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's tensor-core kernels against sums in double: products of every combination and odd shapes, attention and its gradient with documents and shared KV
   heads; the same bits twice; nothing written where nothing belongs. Then their speed. */
#include "gpu.h"

#include "backend/cuda/train_kernels.h"

static uint64_t seed = 0x243f6a8885a308d3ull;

static uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static void *take(size_t bytes) /* host memory */
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) {
        fprintf(stderr, "no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

/* bf16 [rows][ld], random in the first `cols` of each row, NaN behind. */
static uint16_t *random_matrix(int rows, int cols, int ld, float size)
{
    uint16_t *x = take((size_t)rows * (size_t)ld * 2);
    memset(x, 0xff, (size_t)rows * (size_t)ld * 2);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            x[(size_t)r * (size_t)ld + (size_t)c] = to_bf16(gpu_normal(&seed) * size);
    return x;
}

static int pad8(int n) { return (n + 7) / 8 * 8; }

/* ---- products ---- */

struct shape {
    int m, n, k;
};

enum { PLAIN_BF16, PLAIN_F32, ADD_F32, N_KINDS };

struct product_case {
    struct shape s;
    bool turn_a, turn_b;
    int kind, room; /* 0: none, 1: half, 2: all of what it asks for */
    int ldc_more;
    int lda, ldb, ldc;
    uint16_t *a, *b;
    uint8_t *before, *once, *twice; /* c: as it was, and after a call each */
    size_t c_bytes;
};

static void describe(char *to, size_t n, const struct product_case *c)
{
    snprintf(to, n, "product m=%d n=%d k=%d turn_a=%d turn_b=%d %s room=%d lda=%d ldb=%d ldc=%d", c->s.m, c->s.n, c->s.k, c->turn_a, c->turn_b,
             c->kind == PLAIN_BF16 ? "bf16" : c->kind == PLAIN_F32 ? "f32" : "f32 add", c->room, c->lda, c->ldb, c->ldc);
}

static double product_at(const struct product_case *c, int row, int col, double *size)
{
    double sum = 0;
    *size = 0;
    for (int k = 0; k < c->s.k; k++) {
        const double x = from_bf16(c->a[c->turn_a ? (size_t)k * (size_t)c->lda + (size_t)row : (size_t)row * (size_t)c->lda + (size_t)k]);
        const double y = from_bf16(c->b[c->turn_b ? (size_t)col * (size_t)c->ldb + (size_t)k : (size_t)k * (size_t)c->ldb + (size_t)col]);
        sum += x * y;
        *size += fabs(x * y);
    }
    return sum;
}

static double c_at(const struct product_case *c, const uint8_t *from, int row, int col)
{
    const size_t at = (size_t)row * (size_t)c->ldc + (size_t)col;
    return c->kind == PLAIN_BF16 ? from_bf16(((const uint16_t *)from)[at]) : ((const float *)from)[at];
}

static int check_place(const struct product_case *c, int row, int col, int told)
{
    double size, want = product_at(c, row, col, &size);
    if (c->kind == ADD_F32) {
        want += c_at(c, c->before, row, col);
        size += fabs(c_at(c, c->before, row, col));
    }
    const double got = c_at(c, c->once, row, col), most = 1e-5 * size + (c->kind == PLAIN_BF16 ? fabs(want) / 256 : 0) + 1e-30;
    if (fabs(got - want) <= most)
        return 0;
    if (told < 4) {
        char what[200];
        describe(what, sizeof what, c);
        fprintf(stderr, "%s: row %d column %d: got %.9g, want %.9g (at most %.3g apart)\n", what, row, col, got, want, most);
    }
    return 1;
}

/* All places of small ones, of large ones a lattice, the last row and the last column. */
static int check_places(const struct product_case *c)
{
    const struct shape s = c->s;
    const double work = (double)s.m * s.n * (s.k + 1);
    const int step = work < 3e6 ? 1 : (int)sqrt(work / 3e6) + 1;
    int wrong = 0;
    for (int row = 0; row < s.m; row += row + step < s.m || row == s.m - 1 ? step : s.m - 1 - row)
        for (int col = 0; col < s.n; col += col + step < s.n || col == s.n - 1 ? step : s.n - 1 - col)
            wrong += check_place(c, row, col, wrong);
    return wrong;
}

/* Behind the columns of c lies what lay there. */
static int check_margins(const struct product_case *c)
{
    const size_t size = c->kind == PLAIN_BF16 ? 2 : 4;
    for (int row = 0; row < c->s.m; row++) {
        const size_t at = ((size_t)row * (size_t)c->ldc + (size_t)c->s.n) * size, n = (size_t)(c->ldc - c->s.n) * size;
        if (memcmp(c->once + at, c->before + at, n)) {
            char what[200];
            describe(what, sizeof what, c);
            fprintf(stderr, "%s: row %d: written behind its end\n", what, row);
            return 1;
        }
    }
    return 0;
}

/* Room for so many parts. */
static size_t room_of(const struct train_product *p, int parts)
{
    const size_t bytes = (size_t)parts * (size_t)p->m * (size_t)pad8(p->n) * sizeof(float);
    return bytes < TRAIN_ROOM_MOST ? bytes : TRAIN_ROOM_MOST;
}

static void call_product(const struct product_case *c, uint8_t *result)
{
    const struct shape s = c->s;
    void *a = gpu_copy(c->a, (size_t)(c->turn_a ? s.k : s.m) * (size_t)c->lda * 2 + 16);
    void *b = gpu_copy(c->b, (size_t)(c->turn_b ? s.n : s.k) * (size_t)c->ldb * 2 + 16);
    void *to = gpu_copy(c->before, c->c_bytes);
    struct train_product p = {.m = s.m, .n = s.n, .k = s.k, .a = a, .b = b, .lda = c->lda, .ldb = c->ldb, .turn_a = c->turn_a, .turn_b = c->turn_b, .c = to, .ldc = c->ldc,
                              .c_f32 = c->kind != PLAIN_BF16, .add = c->kind == ADD_F32};
    p.room_bytes = room_of(&p, (int[]){0, 3, 32}[c->room]);
    if (p.room_bytes)
        p.room = gpu_take(p.room_bytes);
    GPU(train_product(NULL, &p));
    GPU(cudaDeviceSynchronize());
    gpu_read(result, to, c->c_bytes);
    GPU(cudaFree(a));
    GPU(cudaFree(b));
    GPU(cudaFree(to));
    GPU(cudaFree(p.room));
}

static int check_product(struct product_case c)
{
    const struct shape s = c.s;
    const int a_cols = c.turn_a ? s.m : s.k, b_cols = c.turn_b ? s.k : s.n, a_rows = c.turn_a ? s.k : s.m, b_rows = c.turn_b ? s.n : s.k;
    c.lda = pad8(a_cols + !a_cols) + (c.ldc_more ? 8 : 0);
    c.ldb = pad8(b_cols + !b_cols) + (c.ldc_more ? 16 : 0);
    c.ldc = (s.n + 1) / 2 * 2 + c.ldc_more;
    c.a = random_matrix(a_rows + 1, a_cols, c.lda, 1);
    c.b = random_matrix(b_rows + 1, b_cols, c.ldb, 1);
    c.c_bytes = (size_t)s.m * (size_t)c.ldc * (c.kind == PLAIN_BF16 ? 2 : 4);
    c.before = take(c.c_bytes);
    c.once = take(c.c_bytes);
    c.twice = take(c.c_bytes);
    memset(c.before, 0xff, c.c_bytes);
    if (c.kind == ADD_F32)
        for (size_t i = 0; i < (size_t)s.m * (size_t)c.ldc; i++)
            ((float *)c.before)[i] = gpu_normal(&seed) * 3;
    call_product(&c, c.once);
    call_product(&c, c.twice);
    int wrong = check_places(&c) + check_margins(&c);
    char what[200];
    describe(what, sizeof what, &c);
    if (memcmp(c.once, c.twice, c.c_bytes)) {
        fprintf(stderr, "%s: other bits the second time\n", what);
        wrong++;
    }
    if (wrong)
        fprintf(stderr, "%s: %d wrong\n", what, wrong);
    void *all[] = {c.a, c.b, c.before, c.once, c.twice};
    for (int i = 0; i < 5; i++)
        free(all[i]);
    return wrong;
}

static void products(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{8, 8, 8},       {1, 1, 1},         {3, 5, 7},        {16, 24, 0},      {64, 64, 64},     {128, 256, 64},   {128, 128, 192}, {136, 264, 72},
                                          {127, 129, 65},  {130, 511, 200},   {300, 257, 128},  {72, 40, 5000},   {200, 136, 2056}, {576, 576, 3001}, {264, 1544, 333},
                                          {2056, 264, 96}, {2200, 3000, 136}, {4100, 264, 64},  {129, 4999, 1030}, {1400, 3001, 1000}};
    int wrong = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int turn = 0; turn < 4; turn++)
            for (int kind = 0; kind < N_KINDS; kind++)
                for (int room = 0; room < 3; room++) {
                    if (room && shapes[i].k <= 448) /* too short to be cut into parts */
                        continue;
                    const int more = (int[]){0, 2, 14}[(turn + kind) % 3];
                    wrong += check_product((struct product_case){.s = shapes[i], .turn_a = turn & 1, .turn_b = turn >> 1, .kind = kind, .room = room, .ldc_more = more});
                }
    assert_int_equal(wrong, 0);
}

/* One that has few tiles and much to add is cut: its room, full of NaN before, holds sums. */
static void a_small_product_is_cut(void **state)
{
    (void)state;
    enum { M = 576, K = 16384 };
    uint16_t *x = random_matrix(K, M, M, 1);
    void *a = gpu_copy(x, (size_t)K * M * 2), *c = gpu_take((size_t)M * M * 4);
    struct train_product p = {.m = M, .n = M, .k = K, .a = a, .b = a, .lda = M, .ldb = M, .turn_a = true, .c = c, .ldc = M, .c_f32 = true};
    float sum;
    p.room_bytes = room_of(&p, 32);
    p.room = gpu_take(p.room_bytes);
    GPU(train_product(NULL, &p));
    GPU(cudaDeviceSynchronize());
    gpu_read(&sum, p.room, sizeof sum);
    assert_true(isfinite(sum));
    GPU(cudaFree(a));
    GPU(cudaFree(c));
    GPU(cudaFree(p.room));
    free(x);
}

/* ---- attention ---- */

enum { NO_START, DOCUMENTS, ANY_START };

struct attention_case {
    int samples, length, heads, kv_heads, dim, start;
    bool chosen;  /* by `sample` */
    float peaked; /* size of q */
};

/* One tensor: on the host in bf16, what it should be in double, on the device. */
struct tensor {
    const char *name;
    uint16_t *x, *again;
    double *want;
    void *device;
    size_t n;
    int cols;
};

enum { Q, K, V, D_OUT, OUT, DQ, DK, DV, N_TENSORS };

struct attention_world {
    struct attention_case c;
    struct tensor t[N_TENSORS];
    double *stat;             /* [rows][heads] */
    float *got_stat, *again;
    int32_t *start, *sample;  /* [samples + 1][length], [samples] */
    void *d_start, *d_sample, *d_stat, *d_delta;
    char name[160];
};

enum { MARGIN = 64 }; /* elements behind an output that must stay */

static void make_tensor(struct tensor *t, const char *name, int rows, int cols, float size, bool out)
{
    t->name = name;
    t->cols = cols;
    t->n = (size_t)rows * (size_t)cols;
    t->x = out ? take((t->n + MARGIN) * 2) : random_matrix(rows, cols, cols, size);
    t->again = take((t->n + MARGIN) * 2);
    t->want = calloc(t->n, sizeof *t->want);
    t->device = out ? gpu_take((t->n + MARGIN) * 2) : gpu_copy(t->x, t->n * 2);
}

/* Where positions may look: documents of random lengths, or anywhere below themselves. */
static void make_starts(struct attention_world *w)
{
    const int length = w->c.length, rows = (w->c.samples + 1) * length;
    w->start = take((size_t)rows * 4);
    w->sample = take((size_t)w->c.samples * 4);
    for (int s = 0; s <= w->c.samples; s++)
        for (int i = 0, from = 0; i < length; i++) {
            if (w->c.start == DOCUMENTS && gpu_random(&seed) % 50 == 0)
                from = i;
            w->start[s * length + i] = w->c.start == ANY_START ? (int32_t)(gpu_random(&seed) % (uint64_t)(i + 1)) : from;
        }
    for (int s = 0; s < w->c.samples; s++)
        w->sample[s] = w->c.chosen ? w->c.samples - s : s;
    w->d_start = gpu_copy(w->start, (size_t)rows * 4);
    w->d_sample = gpu_copy(w->sample, (size_t)w->c.samples * 4);
}

static void make_world(struct attention_world *w, struct attention_case c)
{
    const int rows = c.samples * c.length, q_dim = c.heads * c.dim, kv_dim = c.kv_heads * c.dim;
    *w = (struct attention_world){.c = c};
    snprintf(w->name, sizeof w->name, "attention samples=%d length=%d heads=%d kv=%d dim=%d start=%d chosen=%d", c.samples, c.length, c.heads, c.kv_heads, c.dim,
             c.start, c.chosen);
    make_tensor(&w->t[Q], "q", rows, q_dim, c.peaked, false);
    make_tensor(&w->t[K], "k", rows, kv_dim, 1, false);
    make_tensor(&w->t[V], "v", rows, kv_dim, 1, false);
    make_tensor(&w->t[D_OUT], "d_out", rows, q_dim, 1, false);
    make_tensor(&w->t[OUT], "out", rows, q_dim, 0, true);
    make_tensor(&w->t[DQ], "dq", rows, q_dim, 0, true);
    make_tensor(&w->t[DK], "dk", rows, kv_dim, 0, true);
    make_tensor(&w->t[DV], "dv", rows, kv_dim, 0, true);
    w->stat = take((size_t)rows * (size_t)c.heads * sizeof *w->stat);
    w->got_stat = take((size_t)rows * (size_t)c.heads * 4);
    w->again = take((size_t)rows * (size_t)c.heads * 4);
    w->d_stat = gpu_take((size_t)rows * (size_t)c.heads * 4);
    w->d_delta = gpu_take((size_t)rows * (size_t)c.heads * 4);
    make_starts(w);
}

static void free_world(struct attention_world *w)
{
    for (int i = 0; i < N_TENSORS; i++) {
        free(w->t[i].x);
        free(w->t[i].again);
        free(w->t[i].want);
        GPU(cudaFree(w->t[i].device));
    }
    void *host[] = {w->stat, w->got_stat, w->again, w->start, w->sample}, *device[] = {w->d_start, w->d_sample, w->d_stat, w->d_delta};
    for (int i = 0; i < 5; i++)
        free(host[i]);
    for (int i = 0; i < 4; i++)
        GPU(cudaFree(device[i]));
}

/* Columns of a head in a row. */
static size_t place(const struct attention_world *w, int tensor, int sample, int pos, int head)
{
    return ((size_t)sample * (size_t)w->c.length + (size_t)pos) * (size_t)w->t[tensor].cols + (size_t)(head * w->c.dim);
}

static double dot(const uint16_t *x, const uint16_t *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)from_bf16(x[i]) * (double)from_bf16(y[i]);
    return sum;
}

/* What one query of one head gives and takes. p, dp: [length] */
static void query_by_hand(struct attention_world *w, int sample, int pos, int head, double *p, double *dp)
{
    const int dim = w->c.dim, kv = head / (w->c.heads / w->c.kv_heads), from = w->c.start ? w->start[w->sample[sample] * w->c.length + pos] : 0;
    const double scale = (double)(1.0f / sqrtf((float)dim));
    const size_t q = place(w, Q, sample, pos, head);
    double most = -1e300, sum = 0, delta = 0;
    for (int j = from; j <= pos; j++) {
        p[j] = scale * dot(w->t[Q].x + q, w->t[K].x + place(w, K, sample, j, kv), dim);
        most = p[j] > most ? p[j] : most;
    }
    for (int j = from; j <= pos; j++)
        sum += p[j] = exp(p[j] - most);
    w->stat[((size_t)sample * (size_t)w->c.length + (size_t)pos) * (size_t)w->c.heads + (size_t)head] = most + log(sum);
    for (int j = from; j <= pos; j++) {
        p[j] /= sum;
        dp[j] = dot(w->t[D_OUT].x + q, w->t[V].x + place(w, V, sample, j, kv), dim);
        delta += p[j] * dp[j];
    }
    for (int j = from; j <= pos; j++) {
        const double ds = p[j] * (dp[j] - delta) * scale;
        const size_t k = place(w, K, sample, j, kv);
        for (int d = 0; d < dim; d++) {
            w->t[OUT].want[q + (size_t)d] += p[j] * (double)from_bf16(w->t[V].x[k + (size_t)d]);
            w->t[DQ].want[q + (size_t)d] += ds * (double)from_bf16(w->t[K].x[k + (size_t)d]);
            w->t[DK].want[k + (size_t)d] += ds * (double)from_bf16(w->t[Q].x[q + (size_t)d]);
            w->t[DV].want[k + (size_t)d] += p[j] * (double)from_bf16(w->t[D_OUT].x[q + (size_t)d]);
        }
    }
}

static void attend_by_hand(struct attention_world *w)
{
    double *p = take((size_t)w->c.length * 2 * sizeof *p), *dp = p + w->c.length;
    for (int s = 0; s < w->c.samples; s++)
        for (int pos = 0; pos < w->c.length; pos++)
            for (int h = 0; h < w->c.heads; h++)
                query_by_hand(w, s, pos, h, p, dp);
    free(p);
}

static void attend_once(struct attention_world *w, bool again)
{
    const struct attention_case c = w->c;
    const size_t stats = (size_t)(c.samples * c.length) * (size_t)c.heads;
    for (int i = OUT; i < N_TENSORS; i++)
        GPU(cudaMemset(w->t[i].device, 0xff, (w->t[i].n + MARGIN) * 2));
    GPU(cudaMemset(w->d_stat, 0xff, stats * 4));
    GPU(cudaMemset(w->d_delta, 0xff, stats * 4));
    const struct tensor *t = w->t;
    const struct train_attention a = {
        .samples = c.samples, .length = c.length, .n_heads = c.heads, .n_kv_heads = c.kv_heads, .head_dim = c.dim, .scale = 1.0f / sqrtf((float)c.dim),
        .start = c.start ? w->d_start : NULL, .sample = c.chosen ? w->d_sample : NULL, .q = t[Q].device, .k = t[K].device, .v = t[V].device, .out = t[OUT].device,
        .stat = w->d_stat, .d_out = t[D_OUT].device, .delta = w->d_delta, .dq = t[DQ].device, .dk = t[DK].device, .dv = t[DV].device,
    };
    GPU(train_attention_forward(NULL, &a));
    GPU(train_attention_backward(NULL, &a));
    GPU(cudaDeviceSynchronize());
    for (int i = OUT; i < N_TENSORS; i++)
        gpu_read(again ? w->t[i].again : w->t[i].x, w->t[i].device, (w->t[i].n + MARGIN) * 2);
    gpu_read(again ? w->again : w->got_stat, w->d_stat, stats * 4);
}

/* Every element near, and all of them together nearer: probabilities and the scores' gradients are rounded to bf16 on the way. */
static int check_tensor(const struct attention_world *w, const struct tensor *t)
{
    double square = 0, off = 0;
    int wrong = 0;
    for (size_t i = 0; i < t->n; i++)
        square += t->want[i] * t->want[i];
    const double rms = sqrt(square / (double)t->n);
    for (size_t i = 0; i < t->n; i++) {
        const size_t head = i / (size_t)w->c.dim * (size_t)w->c.dim;
        double row = 0;
        for (int d = 0; d < w->c.dim; d++)
            row += t->want[head + (size_t)d] * t->want[head + (size_t)d];
        const double got = from_bf16(t->x[i]), want = t->want[i], most = 0.05 * rms + 0.03 * sqrt(row / w->c.dim) + 0.01 * fabs(want) + 1e-4;
        off += (got - want) * (got - want);
        if (!(fabs(got - want) <= most) && wrong++ < 4)
            fprintf(stderr, "%s: %s row %zu column %zu: got %.6g, want %.6g (at most %.3g apart)\n", w->name, t->name, i / (size_t)t->cols, i % (size_t)t->cols,
                    got, want, most);
    }
    if (!(sqrt(off) <= 0.01 * sqrt(square) + 1e-3)) {
        fprintf(stderr, "%s: %s: off by %.4g of its size\n", w->name, t->name, sqrt(off / square));
        wrong++;
    }
    for (size_t i = t->n; i < t->n + MARGIN; i++)
        if (t->x[i] != 0xffff) {
            fprintf(stderr, "%s: %s: element %zu behind its end is written\n", w->name, t->name, i - t->n);
            wrong++;
            break;
        }
    if (memcmp(t->x, t->again, (t->n + MARGIN) * 2)) {
        fprintf(stderr, "%s: %s: other bits the second time\n", w->name, t->name);
        wrong++;
    }
    return wrong;
}

static int check_attention(struct attention_case c)
{
    struct attention_world w;
    int wrong = 0;
    make_world(&w, c);
    attend_by_hand(&w);
    attend_once(&w, false);
    attend_once(&w, true);
    const size_t stats = (size_t)(c.samples * c.length) * (size_t)c.heads;
    for (size_t i = 0; i < stats; i++)
        if (!(fabs((double)w.got_stat[i] - w.stat[i]) <= 1e-4 * (1 + fabs(w.stat[i]))) && wrong++ < 4)
            fprintf(stderr, "%s: stat row %zu head %zu: got %.7g, want %.7g\n", w.name, i / (size_t)c.heads, i % (size_t)c.heads, (double)w.got_stat[i],
                    w.stat[i]);
    if (memcmp(w.got_stat, w.again, stats * 4)) {
        fprintf(stderr, "%s: stat: other bits the second time\n", w.name);
        wrong++;
    }
    for (int i = OUT; i < N_TENSORS; i++)
        wrong += check_tensor(&w, &w.t[i]);
    if (wrong)
        fprintf(stderr, "%s: %d wrong\n", w.name, wrong);
    free_world(&w);
    return wrong;
}

static void attention(void **state)
{
    (void)state;
    static const struct attention_case cases[] = {
        {1, 1, 1, 1, 16, NO_START, false, 1},    {1, 8, 1, 1, 64, NO_START, false, 1},     {2, 64, 2, 1, 64, NO_START, false, 1},   {1, 64, 1, 1, 128, NO_START, false, 1},
        {1, 65, 3, 1, 128, NO_START, false, 1},  {2, 130, 2, 2, 80, NO_START, false, 2},   {1, 257, 4, 2, 64, NO_START, false, 2},  {2, 100, 4, 2, 64, DOCUMENTS, false, 1},
        {1, 300, 9, 3, 64, DOCUMENTS, false, 2}, {2, 193, 4, 4, 128, DOCUMENTS, false, 1}, {3, 200, 4, 1, 48, DOCUMENTS, true, 1},  {2, 200, 6, 2, 128, ANY_START, false, 1},
        {2, 129, 2, 1, 24, ANY_START, true, 2},  {1, 320, 2, 1, 64, ANY_START, false, 3},  {2, 77, 3, 3, 120, ANY_START, true, 1},  {5, 33, 2, 2, 72, DOCUMENTS, true, 1},
    };
    int wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        wrong += check_attention(cases[i]);
    assert_int_equal(wrong, 0);
}

/* ---- speed ---- */

enum { SOME = 1 << 20, REPEATS = 10 };

/* n random bf16 on the device: some, again and again. */
static void *random_device(size_t n)
{
    static uint16_t *some;
    if (!some)
        some = random_matrix(1, SOME, SOME, 1);
    uint8_t *p = gpu_take(n * 2);
    for (size_t at = 0; at < n; at += SOME)
        GPU(cudaMemcpy(p + at * 2, some, (n - at < SOME ? n - at : SOME) * 2, cudaMemcpyHostToDevice));
    return p;
}

struct timer {
    cudaEvent_t from, to;
};

static struct timer timer_start(void)
{
    struct timer t;
    GPU(cudaEventCreate(&t.from));
    GPU(cudaEventCreate(&t.to));
    GPU(cudaEventRecord(t.from, NULL));
    return t;
}

static double timer_stop(struct timer t) /* seconds a repeat */
{
    float ms;
    GPU(cudaEventRecord(t.to, NULL));
    GPU(cudaEventSynchronize(t.to));
    GPU(cudaEventElapsedTime(&ms, t.from, t.to));
    GPU(cudaEventDestroy(t.from));
    GPU(cudaEventDestroy(t.to));
    return (double)ms / 1e3 / REPEATS;
}

static void time_product(const char *name, const char *what, struct train_product p)
{
    void *a = random_device((size_t)p.m * (size_t)p.k), *b = random_device((size_t)p.n * (size_t)p.k), *c = gpu_take((size_t)p.m * (size_t)p.n * (p.c_f32 ? 4 : 2));
    GPU(cudaMemset(c, 0, (size_t)p.m * (size_t)p.n * (p.c_f32 ? 4 : 2)));
    p.a = a;
    p.b = b;
    p.c = c;
    p.room_bytes = room_of(&p, 32);
    p.room = gpu_take(p.room_bytes);
    for (int i = 0; i < 2; i++)
        GPU(train_product(NULL, &p));
    struct timer t = timer_start();
    for (int i = 0; i < REPEATS; i++)
        GPU(train_product(NULL, &p));
    const double s = timer_stop(t);
    printf("%-8s %-8s m=%6d n=%6d k=%6d parts' room %6.1f MB: %8.1f us, %6.1f TFLOP/s\n", name, what, p.m, p.n, p.k, (double)p.room_bytes / 1e6, s * 1e6,
           2.0 * p.m * p.n * p.k / s / 1e12);
    GPU(cudaFree(a));
    GPU(cudaFree(b));
    GPU(cudaFree(c));
    GPU(cudaFree(p.room));
}

static void time_weight(const char *name, int rows, int in, int out)
{
    time_product(name, "forward", (struct train_product){.m = rows, .n = out, .k = in, .lda = in, .ldb = in, .ldc = out, .turn_b = true});
    time_product(name, "backward", (struct train_product){.m = rows, .n = in, .k = out, .lda = out, .ldb = in, .ldc = in});
    time_product(name, "weights", (struct train_product){.m = out, .n = in, .k = rows, .lda = out, .ldb = in, .ldc = in, .turn_a = true, .c_f32 = true, .add = true});
}

static void time_attention(int samples, int length, int heads, int kv_heads, int dim)
{
    const size_t rows = (size_t)samples * (size_t)length, q = rows * (size_t)(heads * dim), kv = rows * (size_t)(kv_heads * dim), stats = rows * (size_t)heads * 4;
    struct train_attention a = {.samples = samples, .length = length, .n_heads = heads, .n_kv_heads = kv_heads, .head_dim = dim, .scale = 1.0f / sqrtf((float)dim)};
    void *all[10] = {random_device(q), random_device(kv), random_device(kv), random_device(q), gpu_take(q * 2), gpu_take(q * 2),
                     gpu_take(kv * 2), gpu_take(kv * 2), gpu_take(stats), gpu_take(stats)};
    a.q = all[0], a.k = all[1], a.v = all[2], a.d_out = all[3], a.out = all[4], a.dq = all[5], a.dk = all[6], a.dv = all[7], a.stat = all[8], a.delta = all[9];
    const double work = 2.0 * samples * heads * dim * (double)length * length; /* of the causal half: two products */
    GPU(train_attention_forward(NULL, &a));
    GPU(train_attention_backward(NULL, &a));
    struct timer t = timer_start();
    for (int i = 0; i < REPEATS; i++)
        GPU(train_attention_forward(NULL, &a));
    const double there = timer_stop(t);
    t = timer_start();
    for (int i = 0; i < REPEATS; i++)
        GPU(train_attention_backward(NULL, &a));
    const double back = timer_stop(t);
    printf("attention %d x %d, %d/%d heads of %d: forward %8.1f us, %6.1f TFLOP/s; backward %8.1f us, %6.1f TFLOP/s (counted as 5 products)\n", samples, length,
           heads, kv_heads, dim, there * 1e6, work / there / 1e12, back * 1e6, 2.5 * work / back / 1e12);
    for (int i = 0; i < 10; i++)
        GPU(cudaFree(all[i]));
}

static void speed(void **state)
{
    (void)state;
    time_weight("135M qkv", 16384, 576, 960);
    time_weight("135M o", 16384, 576, 576);
    time_weight("135M up", 16384, 576, 1536);
    time_weight("135M g+u", 16384, 576, 3072);
    time_weight("135M dn", 16384, 1536, 576);
    time_weight("135M hd", 16384, 576, 49152);
    time_weight("13B qkv", 4096, 5120, 15360);
    time_weight("13B o", 4096, 5120, 5120);
    time_weight("13B up", 4096, 5120, 13824);
    time_weight("13B dn", 4096, 13824, 5120);
    time_attention(16, 1024, 9, 3, 64);
    time_attention(8, 2048, 9, 3, 64);
    time_attention(2, 2048, 40, 40, 128);
    time_attention(1, 4096, 40, 40, 128);
}

int main(void)
{
    gpu_or_skip();
    GPU(train_product_prepare());
    GPU(train_attention_prepare());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(a_small_product_is_cut),
        cmocka_unit_test(attention),
        cmocka_unit_test(speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
