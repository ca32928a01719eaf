/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of prefill against sums in double; bits of rows whatever shares the call. */
#include "check.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cuda/prefill.h"
#include "base/half.h"

static int clusters;
static uint64_t seed = 0x9e3779b97f4a7c15ull;

/* Nothing works after a fault. */
static void gpu(cudaError_t e, const char *call, int line)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "line %d: %s: %s\n", line, call, cudaGetErrorString(e));
    _exit(1);
}
#define GPU(call) gpu((call), #call, __LINE__)

static void *up(const void *host, size_t bytes)
{
    void *p;
    GPU(cudaMalloc(&p, bytes));
    GPU(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}

static void *poisoned(size_t bytes)
{
    void *p;
    GPU(cudaMalloc(&p, bytes));
    GPU(cudaMemset(p, 0xff, bytes));
    return p;
}

/* Memory of the device; NULL: none. */
static void drop(const void *a, const void *b, const void *c, const void *d)
{
    const void *all[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        GPU(cudaFree((void *)all[i]));
}

static void *down(const void *device, size_t bytes)
{
    void *p = malloc(bytes);
    assert_non_null(p);
    GPU(cudaDeviceSynchronize());
    GPU(cudaMemcpy(p, device, bytes, cudaMemcpyDeviceToHost));
    return p;
}

static uint16_t random_bf16(float scale) { return f32_to_bf16(check_normal(&seed) * scale); }
static float round_bf16(float x) { return bf16_to_f32(f32_to_bf16(x)); }
static const struct launch now = {0};

/* ---- mismatches: the first few in words, all counted ---- */

static int bad_total;
struct report {
    const char *name;
    int bad;
};

static void differ(struct report *r, const char *what, int row, int col, double got, double want, double bound)
{
    if (fabs(got - want) <= bound)
        return;
    if (r->bad++ < 4)
        fprintf(stderr, "  %s: %s row %d column %d: got %.9g, want %.9g +- %.2g\n", r->name, what, row, col, got, want, bound);
}

static void expect_equal(struct report *r, const char *what, int row, int col, uint32_t got, uint32_t want)
{
    if (got != want && r->bad++ < 4)
        fprintf(stderr, "  %s: %s row %d column %d: bits %08x, want %08x\n", r->name, what, row, col, got, want);
}

static void done(const struct report *r)
{
    fprintf(stderr, "%s %s (%d wrong)\n", r->bad ? "BAD " : "good", r->name, r->bad);
    bad_total += r->bad;
}

/* ---- packed weights: random codes in place; the value as layout.h has it ---- */

struct weights {
    struct packed w; /* data: on the device */
    uint8_t *host;
    float *value;    /* [16 tiles][cols], as the kernel rounds them */
};

static const char *const kind_names[PACKED_KINDS] = {"bf16", "f16", "f32", "q8", "q4_0", "q4_1"};

static void put16(uint8_t *p, int v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* Element (row, col) of a tile's unit: reads it, or with `write` first makes it random (codes) or zero. */
static float element(int kind, uint8_t *u, int row, int col, int write, int zero)
{
    int g = row % 8, high = row / 8, k = col % 32, t = k / 8, j = k / 4 % 2, pair = k % 4 / 2, odd = k % 2, thread = 4 * g + t, b = col / 32;
    if (kind == PACKED_BF16 || kind == PACKED_F16) {
        uint8_t *p = u + j * 512 + thread * 16 + (pair * 2 + high) * 4 + odd * 2;
        if (write)
            put16(p, zero ? 0 : kind == PACKED_BF16 ? random_bf16(0.5f) : f32_to_f16(check_normal(&seed) * 0.5f));
        return kind == PACKED_BF16 ? bf16_to_f32(get16(p)) : f16_to_f32(get16(p));
    }
    if (kind == PACKED_Q8) {
        uint8_t *p = u + b * 512 + thread * 16 + (2 * j + pair) * 4 + odd * 2 + high;
        if (write)
            *p = zero ? 0 : (uint8_t)check_random(&seed);
        return round_bf16(f16_to_f32(get16(u + 2048 + ((g * 4 + b) * 2 + high) * 2)) * (float)(int8_t)*p);
    }
    int nibble = odd * 4 + pair * 2 + high;
    uint8_t *p = u + b / 2 * 512 + thread * 16 + (2 * (b & 1) + j) * 4 + nibble / 2;
    if (write)
        *p = (uint8_t)((*p & (nibble & 1 ? 0x0f : 0xf0)) | (zero ? (kind == PACKED_Q4_0 ? 8 : 0) : (int)(check_random(&seed) >> 60)) << 4 * (nibble & 1));
    int code = *p >> 4 * (nibble & 1) & 15;
    float d = f16_to_f32(get16(u + 1024 + ((g * 4 + b) * 2 + high) * 2)), m = kind == PACKED_Q4_1 ? f16_to_f32(get16(u + 1152 + ((g * 4 + b) * 2 + high) * 2)) : 0;
    return round_bf16(kind == PACKED_Q4_0 ? d * (float)(code - 8) : d * (float)code + m);
}

static int is_padding(const struct packed *w, int map, int head_dim, int row)
{
    int half = head_dim / 2, per_head = (half + 7) / 8;
    if (map == ROWS_HEADS)
        return row / 16 % per_head * 8 + row % 8 >= half;
    return map == ROWS_GATE ? row / 16 * 8 + row % 8 >= w->rows : row >= w->rows;
}

static struct weights make_weights(int kind, int map, int rows, int cols, int head_dim)
{
    int unit = packed_unit_cols(kind);
    struct weights s = {.w = {.kind = kind, .rows = rows, .cols = cols, .tiles = packed_tiles(map, rows, head_dim), .units = (cols + unit - 1) / unit, .unit_bytes = packed_unit_bytes(kind)}};
    size_t bytes = packed_bytes(&s.w);
    s.host = calloc(1, bytes);
    s.value = malloc((size_t)s.w.tiles * 16 * (size_t)cols * sizeof(float));
    for (int tile = 0; tile < s.w.tiles; tile++)
        for (int n = 0; n < s.w.units; n++) {
            uint8_t *u = s.host + ((size_t)tile * (size_t)s.w.units + (size_t)n) * s.w.unit_bytes;
            for (int i = 0; kind >= PACKED_Q8 && i < 64; i++) {
                put16(u + (kind == PACKED_Q8 ? 2048 : 1024) + 2 * i, f32_to_f16((0.5f + fabsf(check_float(&seed))) / (kind == PACKED_Q8 ? 128 : 8)));
                int pads = n * 128 + i % 8 / 2 * 32 >= cols || is_padding(&s.w, map, head_dim, tile * 16 + i / 8 + i % 2 * 8);
                if (kind == PACKED_Q4_1)
                    put16(u + 1152 + 2 * i, pads ? 0 : f32_to_f16(check_float(&seed)));
            }
            for (int row = 0; row < 16; row++)
                for (int col = 0; col < unit; col++) {
                    int zero = n * unit + col >= cols || is_padding(&s.w, map, head_dim, tile * 16 + row);
                    float v = element(kind, u, row, col, 1, zero);
                    if (n * unit + col < cols)
                        s.value[((size_t)tile * 16 + (size_t)row) * (size_t)cols + (size_t)(n * unit + col)] = v;
                }
        }
    s.w.data = up(s.host, bytes);
    return s;
}

static void free_weights(struct weights *s)
{
    GPU(cudaFree(s->w.data));
    free(s->host), free(s->value);
}

/* ---- activations ---- */

struct inputs {
    int n, cols, stride;
    float *x; /* [n][cols] */
};

static struct inputs make_inputs(int n, int cols)
{
    struct inputs s = {n, cols, prefill_stride(n), malloc((size_t)n * (size_t)cols * sizeof(float))};
    for (size_t i = 0; i < (size_t)n * (size_t)cols; i++)
        s.x[i] = bf16_to_f32(random_bf16(1));
    return s;
}

static size_t image_bytes(int stride, int cols) { return (size_t)prefill_steps(cols) * (size_t)stride * 128; }

/* Row i of the image is row from[i] of the inputs (from NULL: i); below zero, and behind n: NaN. Columns behind the last: zeros. */
static void *image(const struct inputs *s, int stride, int n, const int *from)
{
    size_t bytes = image_bytes(stride, s->cols);
    uint8_t *h = malloc(bytes);
    memset(h, 0xff, bytes);
    for (int i = 0; i < stride; i++) {
        int row = i >= n ? -1 : from ? from[i] : i;
        for (int c = 0; c < prefill_steps(s->cols) * 64; c++)
            put16(h + prefill_at(stride, i, c), c >= s->cols ? 0 : row < 0 ? 0x7fc0 : f32_to_bf16(s->x[(size_t)row * (size_t)s->cols + (size_t)c]));
    }
    void *d = up(h, bytes);
    free(h);
    return d;
}

/* One output in double, and the sum of absolute terms. */
static double dot(const struct weights *w, int packed_row, const struct inputs *s, int row, double *size)
{
    double sum = 0, a = 0;
    for (int c = 0; c < s->cols; c++) {
        double v = (double)w->value[(size_t)packed_row * (size_t)s->cols + (size_t)c] * (double)s->x[(size_t)row * (size_t)s->cols + (size_t)c];
        sum += v;
        a += fabs(v);
    }
    *size = a;
    return sum;
}

static float *make_bias(const struct packed *w, int map, int head_dim)
{
    float *b = calloc((size_t)w->tiles * 16, sizeof *b);
    for (int i = 0; i < w->tiles * 16; i++)
        b[i] = is_padding(w, map, head_dim, i) ? 0 : check_float(&seed);
    return b;
}

static struct prefill_product product_of(const struct weights *w, int epilogue, int n, int stride, const void *x, const float *bias)
{
    return (struct prefill_product){.w = w->w, .epilogue = epilogue, .n = n, .stride = stride, .x = x, .bias = bias, .clusters = clusters};
}

/* ---- state += product ---- */

static float *run_add(const struct weights *w, const float *bias, const struct inputs *s, const float *state, int n, int stride, const int *from, int blocks)
{
    int width = w->w.tiles * 16;
    float *first = malloc((size_t)n * (size_t)width * 4);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < width; c++)
            first[(size_t)i * (size_t)width + (size_t)c] = state[(size_t)(from && from[i] >= 0 ? from[i] : i) * (size_t)width + (size_t)c];
    void *x = image(s, stride, n, from), *y = up(first, (size_t)n * (size_t)width * 4);
    struct prefill_product p = product_of(w, EPI_ADD, n, stride, x, bias);
    p.state = y, p.state_stride = width, p.clusters = blocks;
    GPU(prefill_product(now, &p));
    float *out = down(y, (size_t)n * (size_t)width * 4);
    drop(x, y, NULL, NULL);
    free(first);
    return out;
}

static void check_add(int kind, int rows, int cols, int n)
{
    char name[80];
    snprintf(name, sizeof name, "add %s %d x %d, %d rows", kind_names[kind], rows, cols, n);
    struct report r = {name, 0};
    struct weights w = make_weights(kind, ROWS_PLAIN, rows, cols, 2);
    struct inputs s = make_inputs(n, cols);
    int width = w.w.tiles * 16;
    float *bias = make_bias(&w.w, ROWS_PLAIN, 2), *state = calloc((size_t)n * (size_t)width, 4);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < rows; c++)
            state[(size_t)i * (size_t)width + (size_t)c] = check_normal(&seed);
    float *d_bias = up(bias, (size_t)width * 4);
    float *out = run_add(&w, d_bias, &s, state, n, s.stride, NULL, clusters);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < width; c++) {
            double size, want = dot(&w, c, &s, i, &size) + bias[c] + state[(size_t)i * (size_t)width + (size_t)c];
            differ(&r, "sum", i, c, out[(size_t)i * (size_t)width + (size_t)c], want, 5e-6 * size + 1e-6 * fabs(want) + 1e-6);
        }
    /* The same rows, fewer, elsewhere, with NaN beside them and another grid: the same bits. */
    int m = n * 2 / 3 + 1, *from = malloc((size_t)m * sizeof *from);
    for (int i = 0; i < m; i++)
        from[i] = i % 5 == 3 ? -1 : (i * 7 + 3) % n;
    float *again = run_add(&w, d_bias, &s, state, m, prefill_stride(m) + PREFILL_TILE, from, 3);
    for (int i = 0; i < m; i++)
        for (int c = 0; c < width && from[i] >= 0; c++)
            expect_equal(&r, "other place", i, c, f32_bits(again[(size_t)i * (size_t)width + (size_t)c]), f32_bits(out[(size_t)from[i] * (size_t)width + (size_t)c]));
    done(&r);
    free(from), free(again), free(out), free(bias), free(state), free(s.x);
    drop(d_bias, NULL, NULL, NULL);
    free_weights(&w);
}

static void products_add(void **state)
{
    (void)state;
    static const int kinds[] = {PACKED_BF16, PACKED_F16, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1};
    bad_total = 0;
    for (int i = 0; i < 5; i++) {
        check_add(kinds[i], 424, 160, 300);  /* 3.3 tiles of 128: the cluster's second block has none; 3 steps, the last half empty */
        check_add(kinds[i], 128, 32, 1);     /* one step */
        check_add(kinds[i], 40, 1088, 17);   /* 17 steps: slots come round */
        check_add(kinds[i], 576, 512, 513);  /* three tiles of rows */
        check_add(kinds[i], 144, 256, 40);   /* 4 and 5 steps: registers of weights are written again while products run */
        check_add(kinds[i], 144, 320, 40);
        check_add(kinds[i], 272, 2048, 257); /* 32 steps */
    }
    assert_int_equal(bad_total, 0);
}

/* ---- gates ---- */

static double silu(double g, double u) { return g / (1 + exp(-g)) * u; }

static void check_gate(int kind, int rows, int cols, int n, int apart)
{
    char name[96];
    snprintf(name, sizeof name, "gate %s %d x %d, %d rows%s", kind_names[kind], rows, cols, n, apart ? ", apart" : "");
    struct report r = {name, 0};
    int map = apart ? ROWS_PLAIN : ROWS_GATE;
    struct weights a = make_weights(kind, map, rows, cols, 2), b = {0};
    struct inputs s = make_inputs(n, cols);
    for (size_t i = 0; i < (size_t)n * (size_t)cols; i++)
        s.x[i] = round_bf16(s.x[i] * 0.2f);
    float *bias = make_bias(&a.w, map, 2), *d_bias = up(bias, (size_t)a.w.tiles * 64);
    void *x = image(&s, s.stride, n, NULL);
    size_t bytes = image_bytes(s.stride, rows);
    uint8_t *to = poisoned(bytes);
    struct prefill_product p = product_of(&a, apart ? EPI_STORE : EPI_GATE, n, s.stride, x, d_bias);
    p.x_out = to;
    if (apart) {
        p.gate = poisoned(prefill_gate_bytes(rows, s.stride));
        GPU(prefill_product(now, &p));
        b = make_weights(kind, map, rows, cols, 2);
        p.w = b.w;
        p.epilogue = EPI_GATE_UP;
    }
    GPU(prefill_product(now, &p));
    uint8_t *out = down(to, bytes);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < prefill_steps(rows) * 64; c++) {
            double sg = 0, su = 0, want = 0;
            if (c < rows) {
                int g = apart ? c : c / 8 * 16 + c % 8, u = apart ? c : g + 8;
                want = silu(dot(&a, g, &s, i, &sg) + bias[g], dot(apart ? &b : &a, u, &s, i, &su) + bias[u]);
            }
            differ(&r, "output", i, c, bf16_to_f32(get16(out + prefill_at(s.stride, i, c))), want, fabs(want) * 0.004 + 1e-5 * (sg + su) * (1 + fabs(want)));
        }
    done(&r);
    drop(x, to, d_bias, p.gate);
    free(out), free(bias), free(s.x);
    free_weights(&a);
    free_weights(&b);
}

static void products_gate(void **state)
{
    (void)state;
    bad_total = 0;
    check_gate(PACKED_BF16, 200, 192, 300, 0);
    check_gate(PACKED_Q8, 72, 160, 30, 0);
    check_gate(PACKED_Q4_0, 1000, 96, 257, 0);
    check_gate(PACKED_BF16, 200, 192, 300, 1);
    check_gate(PACKED_Q4_1, 330, 128, 100, 1);
    assert_int_equal(bad_total, 0);
}

/* ---- heads ---- */

struct cache {
    struct kv_shape kv;
    uint8_t *host;
    size_t bytes;
};

/* Pages of timeline 1 of 2 lie in another order than its slots. Everything 0xff. */
static struct cache make_cache(int n_heads, int n_kv, int head_dim, int f32, int slots)
{
    struct cache c = {.kv = {.n_layers = 2, .n_kv_heads = n_kv, .n_heads = n_heads, .head_dim = head_dim, .head_pad = (head_dim + 7) / 8 * 8, .f32 = f32}};
    int per = (slots + 255) / 256, *table = malloc((size_t)per * 2 * 4);
    for (int i = 0; i < per; i++) {
        table[i] = -1000000; /* timeline 0 is not ours */
        table[per + i] = per - 1 - i;
    }
    c.kv.pages_per_seq = per;
    c.kv.page_bytes = (size_t)2 * (size_t)n_kv * 2 * 256 * (size_t)c.kv.head_pad * (f32 ? 4 : 2);
    c.bytes = c.kv.page_bytes * (size_t)per;
    c.kv.pages = poisoned(c.bytes);
    c.kv.table = up(table, (size_t)per * 2 * 4);
    c.host = malloc(c.bytes);
    memset(c.host, 0xff, c.bytes);
    free(table);
    return c;
}

static void free_cache(struct cache *c)
{
    drop(c->kv.pages, c->kv.table, NULL, NULL);
    free(c->host);
}

static uint8_t *slot_at(const struct cache *c, uint8_t *pages, int layer, int head, int v, int slot)
{
    size_t vector = (size_t)c->kv.head_pad * (c->kv.f32 ? 4 : 2), page = (size_t)(c->kv.pages_per_seq - 1 - slot / 256);
    return pages + page * c->kv.page_bytes + (((size_t)layer * (size_t)c->kv.n_kv_heads + (size_t)head) * 2 + (size_t)v) * 256 * vector + (size_t)(slot % 256) * vector;
}

static float number_at(const uint8_t *p, int i, int f32)
{
    return f32 ? f32_from_bits((uint32_t)get16(p + 4 * i) | (uint32_t)get16(p + 4 * i + 2) << 16) : bf16_to_f32(get16(p + 2 * i));
}

static void head_pair(const struct weights *w, const float *bias, const struct inputs *s, const float *angle, int tile, int pair, int row, int turn, double out[2], double *size)
{
    double a, b, low = dot(w, tile * 16 + pair % 8, s, row, &a) + bias[tile * 16 + pair % 8], high = dot(w, tile * 16 + 8 + pair % 8, s, row, &b) + bias[tile * 16 + 8 + pair % 8];
    double c = turn ? angle[((size_t)pair * (size_t)s->stride + (size_t)row) * 2] : 1, sn = turn ? angle[((size_t)pair * (size_t)s->stride + (size_t)row) * 2 + 1] : 0;
    out[0] = low * c - high * sn;
    out[1] = high * c + low * sn;
    *size = a + b + fabs(low) + fabs(high);
}

/* Head h of rows [0, n) against the sums; got: of a row. */
static void check_head(struct report *r, const struct weights *w, const float *bias, const struct inputs *s, const float *angle, const struct cache *c, int h, int pos0, uint8_t *q, uint8_t *pages)
{
    int half = c->kv.head_dim / 2, per_head = (half + 7) / 8, kv_head = h - c->kv.n_heads, is_v = kv_head >= c->kv.n_kv_heads;
    for (int i = 0; i < s->n; i++) {
        uint8_t *got = h < c->kv.n_heads ? q + ((size_t)i * (size_t)c->kv.n_heads + (size_t)h) * (size_t)c->kv.head_pad * 2
                                         : slot_at(c, pages, 1, kv_head % c->kv.n_kv_heads, is_v, pos0 + i);
        int f32 = h >= c->kv.n_heads && c->kv.f32;
        for (int pair = 0; pair < half; pair++) {
            double want[2], size;
            head_pair(w, bias, s, angle, h * per_head + pair / 8, pair, i, h < c->kv.n_heads + c->kv.n_kv_heads, want, &size);
            for (int e = 0; e < 2; e++)
                differ(r, h < c->kv.n_heads ? "q" : is_v ? "v" : "k", i, h * 1000 + e * half + pair, number_at(got, e * half + pair, f32), want[e], (f32 ? 0 : fabs(want[e]) * 0.004) + 1e-5 * size);
        }
        for (int d = 2 * half; d < c->kv.head_pad; d++)
            for (int byte = 0; byte < (f32 ? 4 : 2); byte++)
                expect_equal(r, "padding", i, h * 1000 + d, got[d * (f32 ? 4 : 2) + byte], 0xff);
    }
}

static void check_heads(int kind, int n_heads, int n_kv, int head_dim, int f32, int pos0, int n)
{
    char name[96];
    snprintf(name, sizeof name, "heads %s %d/%d of %d%s, %d rows from %d", kind_names[kind], n_heads, n_kv, head_dim, f32 ? " f32" : "", n, pos0);
    struct report r = {name, 0};
    struct weights w = make_weights(kind, ROWS_HEADS, (n_heads + 2 * n_kv) * head_dim, 192, head_dim);
    struct inputs s = make_inputs(n, 192);
    struct cache c = make_cache(n_heads, n_kv, head_dim, f32, pos0 + n + 300);
    int half = head_dim / 2;
    float *angle = malloc((size_t)half * (size_t)s.stride * 8), *bias = make_bias(&w.w, ROWS_HEADS, head_dim);
    for (int i = 0; i < half * s.stride; i++) {
        float a = check_float(&seed) * 3;
        angle[2 * i] = cosf(a);
        angle[2 * i + 1] = sinf(a);
    }
    size_t q_bytes = (size_t)s.stride * (size_t)n_heads * (size_t)c.kv.head_pad * 2;
    struct prefill_product p = product_of(&w, EPI_HEADS, n, s.stride, image(&s, s.stride, n, NULL), up(bias, (size_t)w.w.tiles * 64));
    p.layer = 1, p.seq = 1, p.pos0 = pos0, p.kv = c.kv;
    p.angle = up(angle, (size_t)half * (size_t)s.stride * 8);
    p.q = poisoned(q_bytes);
    GPU(prefill_product(now, &p));
    uint8_t *q = down(p.q, q_bytes), *pages = down(c.kv.pages, c.bytes);
    for (int h = 0; h < n_heads + 2 * n_kv; h++)
        check_head(&r, &w, bias, &s, angle, &c, h, pos0, q, pages);
    for (int h = 0; h < 2 * n_kv; h++) /* slots of others are as they were */
        for (int slot = 0; slot < c.kv.pages_per_seq * 256; slot++)
            for (int b = 0; b < c.kv.head_pad * (f32 ? 4 : 2) && (slot < pos0 || slot >= pos0 + n); b++)
                expect_equal(&r, "foreign slot", slot, b, slot_at(&c, pages, 1, h / 2, h % 2, slot)[b], 0xff);
    done(&r);
    drop(p.x, p.bias, p.angle, p.q);
    free(q), free(pages), free(angle), free(bias), free(s.x);
    free_cache(&c);
    free_weights(&w);
}

static void products_heads(void **state)
{
    (void)state;
    bad_total = 0;
    check_heads(PACKED_BF16, 4, 2, 128, 0, 200, 300);
    check_heads(PACKED_Q8, 6, 2, 64, 1, 0, 257);
    check_heads(PACKED_BF16, 2, 1, 80, 0, 511, 3);
    check_heads(PACKED_Q4_0, 3, 3, 20, 0, 255, 40);
    check_heads(PACKED_F16, 2, 2, 6, 1, 30, 20);
    check_heads(PACKED_BF16, 2, 2, 10, 0, 250, 300);
    assert_int_equal(bad_total, 0);
}

/* ---- attention ---- */

struct scene {
    struct cache c;
    int end;         /* positions there are */
    uint16_t *q;     /* [end][n_heads][head_pad] */
    float *k, *v;    /* [end][n_kv][head_dim], as the kernel rounds them */
};

static void fill_slot(struct scene *s, int pos, int v)
{
    const struct kv_shape *kv = &s->c.kv;
    for (int h = 0; h < kv->n_kv_heads; h++) {
        uint8_t *at = slot_at(&s->c, s->c.host, 1, h, v, pos);
        memset(at, 0, (size_t)kv->head_pad * (kv->f32 ? 4 : 2));
        for (int d = 0; d < kv->head_dim; d++) {
            float x = round_bf16(check_normal(&seed));
            (v ? s->v : s->k)[((size_t)pos * (size_t)kv->n_kv_heads + (size_t)h) * (size_t)kv->head_dim + (size_t)d] = x;
            memcpy(at + (kv->f32 ? 4 * d : 2 * d), kv->f32 ? (const void *)&x : (const void *)&(uint16_t){f32_to_bf16(x)}, kv->f32 ? 4 : 2);
        }
    }
}

static struct scene make_scene(int n_heads, int n_kv, int head_dim, int f32, int end)
{
    struct scene s = {.c = make_cache(n_heads, n_kv, head_dim, f32, end + 100), .end = end};
    size_t n = (size_t)end * (size_t)n_kv * (size_t)head_dim;
    s.k = malloc(n * 4);
    s.v = malloc(n * 4);
    s.q = calloc((size_t)end * (size_t)n_heads * (size_t)s.c.kv.head_pad, 2);
    for (int pos = 0; pos < end; pos++) {
        fill_slot(&s, pos, 0);
        fill_slot(&s, pos, 1);
        for (int h = 0; h < n_heads; h++)
            for (int d = 0; d < head_dim; d++)
                s.q[((size_t)pos * (size_t)n_heads + (size_t)h) * (size_t)s.c.kv.head_pad + (size_t)d] = random_bf16(1.5f);
    }
    return s;
}

static void free_scene(struct scene *s)
{
    free_cache(&s->c);
    free(s->k), free(s->v), free(s->q);
}

/* Rows [pos0, pos0 + n) in a call of their own, what lies behind them NaN in the cache: bf16 [n][n_heads * head_dim]. */
static uint16_t *run_attention(const struct scene *s, int pos0, int n)
{
    const struct kv_shape *kv = &s->c.kv;
    int stride = prefill_stride(n), width = kv->n_heads * kv->head_dim;
    size_t row = (size_t)kv->n_heads * (size_t)kv->head_pad, bytes = image_bytes(stride, width), vector = (size_t)kv->head_pad * (kv->f32 ? 4 : 2);
    uint8_t *pages = malloc(s->c.bytes);
    memcpy(pages, s->c.host, s->c.bytes);
    for (int pos = pos0 + n; pos < kv->pages_per_seq * 256; pos++)
        for (int h = 0; h < 2 * kv->n_kv_heads; h++)
            memset(slot_at(&s->c, pages, 1, h / 2, h % 2, pos), 0xff, vector);
    GPU(cudaMemcpy(kv->pages, pages, s->c.bytes, cudaMemcpyHostToDevice));
    uint16_t *q = poisoned((size_t)stride * row * 2);
    GPU(cudaMemcpy(q, s->q + (size_t)pos0 * row, (size_t)n * row * 2, cudaMemcpyHostToDevice));
    uint8_t *x = poisoned(bytes);
    struct prefill_attend a = {.n = n, .stride = stride, .layer = 1, .seq = 1, .pos0 = pos0, .kv = *kv, .q = q, .scale = 1.0f / sqrtf((float)kv->head_dim), .x_out = x};
    GPU(prefill_attend(now, &a));
    uint8_t *h = down(x, bytes);
    uint16_t *out = malloc((size_t)n * (size_t)width * 2);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < width; c++)
            out[(size_t)i * (size_t)width + (size_t)c] = get16(h + prefill_at(stride, i, c));
    drop(q, x, NULL, NULL);
    free(pages), free(h);
    return out;
}

/* One head of one position in double. */
static void attend_exactly(const struct scene *s, int pos, int h, double *out, double *size)
{
    const struct kv_shape *kv = &s->c.kv;
    int dim = kv->head_dim, head = h / (kv->n_heads / kv->n_kv_heads);
    double *p = malloc((size_t)(pos + 1) * sizeof *p), top = -1e300, sum = 0;
    for (int j = 0; j <= pos; j++) {
        p[j] = 0;
        for (int d = 0; d < dim; d++)
            p[j] += (double)bf16_to_f32(s->q[((size_t)pos * (size_t)kv->n_heads + (size_t)h) * (size_t)kv->head_pad + (size_t)d]) *
                    (double)s->k[((size_t)j * (size_t)kv->n_kv_heads + (size_t)head) * (size_t)dim + (size_t)d];
        p[j] /= sqrt((double)dim);
        top = p[j] > top ? p[j] : top;
    }
    memset(out, 0, (size_t)dim * sizeof *out);
    memset(size, 0, (size_t)dim * sizeof *size);
    for (int j = 0; j <= pos; j++)
        sum += p[j] = exp(p[j] - top);
    for (int j = 0; j <= pos; j++)
        for (int d = 0; d < dim; d++) {
            double v = p[j] / sum * s->v[((size_t)j * (size_t)kv->n_kv_heads + (size_t)head) * (size_t)dim + (size_t)d];
            out[d] += v;
            size[d] += fabs(v);
        }
    free(p);
}

static void check_pieces(struct report *r, const struct scene *s, const uint16_t *all)
{
    static const int cuts[][2] = {{0, 1}, {0, 63}, {1, 64}, {63, 66}, {64, 64}, {100, 156}, {127, 2}, {128, 128}, {255, 3}, {300, 211}, {510, 4}, {0, 129}};
    int width = s->c.kv.n_heads * s->c.kv.head_dim;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        int pos0 = cuts[i][0], n = cuts[i][1];
        if (pos0 + n > s->end)
            continue;
        uint16_t *part = run_attention(s, pos0, n);
        for (int row = 0; row < n; row++)
            for (int c = 0; c < width; c++)
                expect_equal(r, "rows of another call", pos0 + row, c, part[(size_t)row * (size_t)width + (size_t)c], all[(size_t)(pos0 + row) * (size_t)width + (size_t)c]);
        free(part);
    }
}

/* A value that is not finite: rows before it keep their bits, rows from it on are NaN. */
static void check_poison(struct report *r, struct scene *s, const uint16_t *all, int at)
{
    int width = s->c.kv.n_heads * s->c.kv.head_dim;
    if (at >= s->end)
        return;
    for (int h = 0; h < s->c.kv.n_kv_heads; h++)
        memset(slot_at(&s->c, s->c.host, 1, h, 1, at), 0xff, s->c.kv.f32 ? 4 : 2);
    uint16_t *out = run_attention(s, 0, s->end);
    for (int row = 0; row < s->end; row++)
        for (int c = 0; c < width; c++) {
            uint16_t got = out[(size_t)row * (size_t)width + (size_t)c];
            if (row < at)
                expect_equal(r, "before a NaN", row, c, got, all[(size_t)row * (size_t)width + (size_t)c]);
            else if (c % s->c.kv.head_dim == 0)
                expect_equal(r, "at or behind a NaN", row, c, (got & 0x7fff) > 0x7f80, 1);
        }
    free(out);
}

static void check_attention(int n_heads, int n_kv, int head_dim, int f32, int end)
{
    char name[96];
    snprintf(name, sizeof name, "attention %d/%d of %d%s, %d positions", n_heads, n_kv, head_dim, f32 ? " f32" : "", end);
    struct report r = {name, 0};
    struct scene s = make_scene(n_heads, n_kv, head_dim, f32, end);
    uint16_t *all = run_attention(&s, 0, end);
    double out[256], size[256];
    for (int pos = 0; pos < end; pos += pos < 140 || (pos > 250 && pos < 260) || end - pos < 5 ? 1 : 13)
        for (int h = 0; h < n_heads; h++) {
            attend_exactly(&s, pos, h, out, size);
            for (int d = 0; d < head_dim; d++)
                differ(&r, "output", pos, h * head_dim + d, bf16_to_f32(all[((size_t)pos * (size_t)n_heads + (size_t)h) * (size_t)head_dim + (size_t)d]), out[d],
                       0.005 * size[d] + 0.004 * fabs(out[d]));
        }
    check_pieces(&r, &s, all);
    check_poison(&r, &s, all, 77);
    done(&r);
    free(all);
    free_scene(&s);
}

static void attention(void **state)
{
    (void)state;
    bad_total = 0;
    check_attention(4, 4, 128, 0, 520);
    check_attention(6, 2, 64, 0, 520);
    check_attention(2, 1, 128, 1, 300);
    check_attention(3, 3, 20, 0, 200);
    check_attention(2, 2, 80, 0, 130);
    check_attention(2, 1, 256, 0, 300);
    check_attention(2, 2, 6, 1, 65);
    assert_int_equal(bad_total, 0);
}

/* ---- small kernels ---- */

static void check_rows(int hidden, int kind)
{
    char name[64];
    snprintf(name, sizeof name, "rows of %d, %s", hidden, kind_names[kind]);
    struct report r = {name, 0};
    enum { N = 37, VOCAB = 50, HALF = 9, POS0 = 1000 };
    struct weights w = make_weights(kind, ROWS_PLAIN, VOCAB, hidden, 2);
    int wide = (hidden + 15) / 16 * 16, stride = PREFILL_TILE;
    int32_t token[N];
    float frequency[HALF], *weight = calloc((size_t)wide, 4);
    for (int i = 0; i < N; i++)
        token[i] = check_below(&seed, VOCAB);
    for (int i = 0; i < HALF; i++)
        frequency[i] = 1.0f / powf(10000, (float)i / HALF);
    for (int i = 0; i < hidden; i++)
        weight[i] = 1 + 0.1f * check_normal(&seed);
    struct prefill_begin b = {.n = N, .stride = stride, .pos0 = POS0, .hidden = hidden, .half = HALF, .state_stride = wide, .token = up(token, sizeof token), .embed = w.w,
                              .inv_freq = up(frequency, sizeof frequency), .state = poisoned((size_t)N * (size_t)wide * 4), .angle = poisoned((size_t)HALF * (size_t)stride * 8)};
    struct prefill_norm m = {.n = N, .stride = stride, .hidden = hidden, .state_stride = wide, .eps = 1e-5f, .state = b.state, .weight = up(weight, (size_t)wide * 4),
                             .x = poisoned(image_bytes(stride, hidden))};
    GPU(prefill_begin(now, &b));
    GPU(prefill_norm((struct launch){.chain = true}, &m));
    float *state = down(b.state, (size_t)N * (size_t)wide * 4), *angle = down(b.angle, (size_t)HALF * (size_t)stride * 8);
    uint8_t *x = down(m.x, image_bytes(stride, hidden));
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int c = 0; c < hidden; c++) {
            float want = w.value[(size_t)token[i] * (size_t)hidden + (size_t)c];
            if (kind == PACKED_BF16 || kind == PACKED_F16)
                expect_equal(&r, "state", i, c, f32_bits(state[i * wide + c]), f32_bits(want));
            else /* the table of products is rounded to bf16, the embedding is not */
                differ(&r, "state", i, c, state[i * wide + c], want, fabs(want) * 0.004);
            sum += (double)state[i * wide + c] * (double)state[i * wide + c];
        }
        for (int c = 0; c < prefill_steps(hidden) * 64; c++) {
            double want = c < hidden ? state[i * wide + c] / sqrt(sum / hidden + 1e-5) * weight[c] : 0;
            differ(&r, "normalised", i, c, bf16_to_f32(get16(x + prefill_at(stride, i, c))), want, fabs(want) * 0.004);
        }
        for (int j = 0; j < HALF; j++) {
            float a = (float)(POS0 + i) * frequency[j];
            expect_equal(&r, "cosine", i, j, f32_bits(angle[(j * stride + i) * 2]), f32_bits((float)cos((double)a)));
            expect_equal(&r, "sine", i, j, f32_bits(angle[(j * stride + i) * 2 + 1]), f32_bits((float)sin((double)a)));
        }
    }
    done(&r);
    free(state), free(angle), free(x), free(weight);
    free_weights(&w);
}

static void small_kernels(void **state)
{
    (void)state;
    bad_total = 0;
    check_rows(2048, PACKED_BF16);
    check_rows(100, PACKED_F16);
    check_rows(576, PACKED_Q8);
    check_rows(72, PACKED_Q4_0);
    assert_int_equal(bad_total, 0);
}

int main(void)
{
    struct cudaDeviceProp prop;
    if (cudaGetDeviceProperties(&prop, 0) != cudaSuccess || prop.major != 9) {
        fprintf(stderr, "skipped: no GPU of compute capability 9.0\n");
        return 77;
    }
    alarm(120); /* a barrier that nobody meets */
    GPU(prefill_prepare(&clusters));
    GPU(prefill_attend_prepare());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_kernels),  cmocka_unit_test(products_add), cmocka_unit_test(products_gate),
        cmocka_unit_test(products_heads), cmocka_unit_test(attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
