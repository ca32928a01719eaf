/* SPDX-License-Identifier: Apache-2.0 */
/* The decode product: every kind of weights and number of rows against double precision, and every row's bits alone and in company. */
#include "gpu.h"

#include "backend/cuda/kernels.h"
#include "base/dtype.h"
#include "base/half.h"

enum { MOST = 64 };

struct problem {
    int kind, rows, cols; /* of the weights */
    enum dtype type;      /* of the source */
    struct packed w;
    float *weight;        /* [rows][cols], as packed */
    float *x;             /* [MOST][cols], as the kernel sees it */
    int units;            /* of 32 columns */
    struct step *step;    /* on the device */
    float *out, *tile_max, *want; /* device, device, host bits [MOST][rows] */
    bool wide;
};

static const enum dtype source_type[PACKED_KINDS] = {DT_BF16, DT_F16, DT_F32, DT_Q8_0, DT_Q4_0, DT_Q4_1};

static void make_weights(struct problem *p, uint64_t *seed)
{
    size_t row_bytes = dtype_row_bytes(p->type, (uint64_t)p->cols), n = (size_t)p->rows * (size_t)p->cols;
    uint8_t *raw = malloc((size_t)p->rows * row_bytes);
    p->weight = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p->weight[i] = gpu_normal(seed) * 0.02f;
    dtype_from_f32(p->type, p->weight, raw, n);
    dtype_to_f32(p->type, raw, p->weight, n);
    p->w = (struct packed){.kind = p->kind, .rows = p->rows, .cols = p->cols, .tiles = packed_tiles(ROWS_PLAIN, p->rows, 0),
                           .units = (p->cols + packed_unit_cols(p->kind) - 1) / packed_unit_cols(p->kind), .unit_bytes = packed_unit_bytes(p->kind)};
    p->w.data = gpu_take(packed_bytes(&p->w));
    void *src = gpu_copy(raw, (size_t)p->rows * row_bytes);
    struct pack pack = {.w = p->w, .map = ROWS_PLAIN, .dtype = (int)p->type, .src = src, .row_bytes = row_bytes, .n_rows = p->rows};
    GPU(cuda_pack((struct launch){0}, &pack));
    GPU(cudaDeviceSynchronize());
    GPU(cudaFree(src));
    free(raw);
}

static void open_problem(struct problem *p, int kind, int rows, int cols, bool wide, uint64_t *seed)
{
    *p = (struct problem){.kind = kind, .rows = rows, .cols = cols, .type = source_type[kind], .wide = wide, .units = (cols + 127) / 128 * 4};
    make_weights(p, seed);
    p->x = malloc((size_t)MOST * (size_t)cols * sizeof(float));
    for (size_t i = 0; i < (size_t)MOST * (size_t)cols; i++) {
        p->x[i] = gpu_normal(seed);
        if (!wide)
            p->x[i] = bf16_to_f32(f32_to_bf16(p->x[i]));
    }
    p->step = gpu_take(sizeof *p->step);
    p->out = gpu_take((size_t)MOST * (size_t)p->w.tiles * 16 * 4);
    p->tile_max = gpu_take((size_t)MOST * (size_t)p->w.tiles * 4);
    p->want = malloc((size_t)MOST * (size_t)rows * 4);
}

static void close_problem(struct problem *p)
{
    GPU(cudaFree(p->w.data));
    GPU(cudaFree(p->step));
    GPU(cudaFree(p->out));
    GPU(cudaFree(p->tile_max));
    free(p->weight);
    free(p->x);
    free(p->want);
}

/* Rows which[0..n) of x; garbage (NaN) in the rows of the bucket behind them. out: [n][rows]. */
static void multiply(struct problem *p, const int *which, int n, float *out)
{
    int read = n <= 8 ? n : n <= 16 ? 16 : n <= 32 ? 32 : 64, bucket = read <= 8 ? 8 : read;
    size_t size = p->wide ? 4 : 2, bytes = (size_t)p->units * (size_t)bucket * 32 * size, stride = (size_t)p->w.tiles * 16;
    uint8_t *x = malloc(bytes);
    memset(x, 0xff, bytes);
    for (int r = 0; r < n; r++)
        for (int c = 0; c < p->units * 32; c++) {
            size_t at = ((size_t)(c / 32) * (size_t)bucket + (size_t)r) * 32 + (size_t)(c % 32);
            float v = c < p->cols ? p->x[(size_t)which[r] * (size_t)p->cols + (size_t)c] : 0;
            uint16_t h = f32_to_bf16(v);
            memcpy(x + at * size, p->wide ? (void *)&v : (void *)&h, size);
        }
    struct step step = {.n = n};
    void *dx = gpu_copy(x, bytes);
    GPU(cudaMemcpy(p->step, &step, offsetof(struct step, row), cudaMemcpyHostToDevice));
    GPU(cudaMemset(p->out, 0xff, (size_t)MOST * stride * 4));
    struct product product = {.w = p->w, .epilogue = EPI_LOGITS, .bucket = bucket, .rows = read, .step = p->step, .x = dx, .x_f32 = p->wide, .out = p->out, .out_stride = (int)stride, .tile_max = p->tile_max};
    GPU(cuda_product((struct launch){0}, &product));
    GPU(cudaDeviceSynchronize());
    GPU(cudaMemcpy2D(out, (size_t)p->rows * 4, p->out, stride * 4, (size_t)p->rows * 4, (size_t)n, cudaMemcpyDeviceToHost));
    if (bucket > n) { /* rows that are not there stay as they were */
        uint32_t after;
        gpu_read(&after, p->out + (size_t)n * stride, 4);
        if (after != 0xffffffffu)
            fprintf(stderr, "kind %d %d x %d: %d rows: row %d was written\n", p->kind, p->rows, p->cols, n, n);
        assert_int_equal(after, 0xffffffffu);
    }
    GPU(cudaFree(dx));
    free(x);
}

static int check_values(const struct problem *p)
{
    double error = 0, norm = 0;
    for (int r = 0; r < MOST; r += 21)
        for (int i = 0; i < p->rows; i++) {
            double sum = 0;
            for (int c = 0; c < p->cols; c++)
                sum += (double)p->weight[(size_t)i * (size_t)p->cols + (size_t)c] * (double)p->x[(size_t)r * (size_t)p->cols + (size_t)c];
            double off = sum - (double)p->want[(size_t)r * (size_t)p->rows + (size_t)i];
            error += off * off;
            norm += sum * sum;
        }
    double relative = sqrt(error / norm);
    int bad = !(relative < 5e-6);
    fprintf(stderr, "kind %d %5d x %5d%s: relative error %.2e%s\n", p->kind, p->rows, p->cols, p->wide ? " f32" : "", relative, bad ? "  WRONG" : "");
    return bad;
}

static int check_rows(struct problem *p, uint64_t *seed)
{
    static const int counts[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64};
    float *got = malloc((size_t)MOST * (size_t)p->rows * 4);
    int bad = 0;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        int which[MOST], n = counts[k];
        for (int i = 0; i < n; i++)
            which[i] = (int)(gpu_random(seed) % MOST);
        multiply(p, which, n, got);
        for (int i = 0; i < n; i++)
            if (memcmp(got + (size_t)i * (size_t)p->rows, p->want + (size_t)which[i] * (size_t)p->rows, (size_t)p->rows * 4) && bad++ < 5)
                fprintf(stderr, "kind %d %d x %d%s: row %d at place %d of %d has other bits\n", p->kind, p->rows, p->cols, p->wide ? " f32" : "", which[i], i, n);
    }
    free(got);
    return bad;
}

static int check_problem(int kind, int rows, int cols, bool wide)
{
    uint64_t seed = (uint64_t)(kind * 1000003 + rows * 131 + cols);
    struct problem p;
    open_problem(&p, kind, rows, cols, wide, &seed);
    for (int r = 0; r < MOST; r++)
        multiply(&p, &r, 1, p.want + (size_t)r * (size_t)rows);
    int bad = check_values(&p) + check_rows(&p, &seed);
    close_problem(&p);
    return bad;
}

static void test_products(void **state)
{
    (void)state;
    static const int shapes[][2] = {{48, 64}, {100, 96}, {576, 576}, {1536, 576}, {1000, 5120}, {640, 13824}, {9728, 96}}; /* the last: many tiles */
    int bad = 0;
    for (int kind = 0; kind < PACKED_KINDS; kind++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            if (kind != PACKED_F32)
                bad += check_problem(kind, shapes[i][0], shapes[i][1], false);
            if (i < 4)
                bad += check_problem(kind, shapes[i][0], shapes[i][1], true);
        }
    assert_int_equal(bad, 0);
}

/* GB/s of weights on one large matrix, in a graph of 8 products over different memory. */
static void print_speed(int kind, int rows)
{
    struct packed w = {.kind = kind, .rows = 27648, .cols = 5120, .tiles = 1728, .units = 5120 / packed_unit_cols(kind), .unit_bytes = packed_unit_bytes(kind)};
    size_t bytes = packed_bytes(&w);
    int read = rows, bucket = read <= 8 ? 8 : read;
    uint16_t *raw = malloc(bytes);
    uint64_t seed = 7;
    for (size_t i = 0; i < bytes / 2; i++)
        raw[i] = (uint16_t)(0x3c00 + (gpu_random(&seed) & 0x83ff)); /* as bf16, f16 and scales: moderate numbers */
    uint8_t *data[8];
    for (int i = 0; i < 8; i++)
        data[i] = gpu_copy(raw, bytes);
    void *x = gpu_copy(raw, (size_t)160 * 64 * 64);
    struct step step = {.n = rows}, *ds = gpu_copy(&step, sizeof step);
    float *out = gpu_take((size_t)64 * 27648 * 4), *tile_max = gpu_take((size_t)64 * 1728 * 4);
    cudaStream_t stream;
    cudaEvent_t a, b;
    GPU(cudaStreamCreate(&stream));
    GPU(cudaEventCreate(&a));
    GPU(cudaEventCreate(&b));
    float best = 1e9f;
    for (int k = 0; k < 12; k++) {
        GPU(cudaEventRecord(a, stream));
        for (int i = 0; i < 8; i++) {
            w.data = data[i];
            struct product p = {.w = w, .epilogue = EPI_LOGITS, .bucket = bucket, .rows = read, .step = ds, .x = x, .out = out, .out_stride = 27648, .tile_max = tile_max};
            GPU(cuda_product((struct launch){.stream = stream, .chain = i > 0}, &p));
        }
        GPU(cudaEventRecord(b, stream));
        GPU(cudaStreamSynchronize(stream));
        float ms;
        GPU(cudaEventElapsedTime(&ms, a, b));
        best = ms < best ? ms : best;
    }
    fprintf(stderr, "speed: kind %d, %2d rows: %.0f GB/s of stored weights\n", kind, rows, (double)bytes * 8 / best / 1e6);
    for (int i = 0; i < 8; i++)
        GPU(cudaFree(data[i]));
    GPU(cudaFree(x));
    GPU(cudaFree(out));
    GPU(cudaFree(tile_max));
    free(raw);
}

static void test_speed(void **state)
{
    (void)state;
    static const int kinds[] = {PACKED_BF16, PACKED_F16, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int rows = 1; rows <= 64; rows = rows == 1 ? 8 : rows * 2)
            print_speed(kinds[k], rows);
}

int main(void)
{
    gpu_or_skip();
    GPU(cuda_product_prepare());
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_speed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
