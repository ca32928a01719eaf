/* SPDX-License-Identifier: Apache-2.0 */
/* Packing on the GPU: every bit of every element is the file's, or what the host rounds it to, at the place that layout.h gives it; what pads is zero. */
#include "packed_check.h"

#include <math.h>
#include <stdio.h>

#include "backend/cuda/kernels.h"

enum { GUARD = 4096 };

static const enum dtype kind_type[PACKED_KINDS] = {DT_BF16, DT_F16, DT_F32, DT_Q8_0, DT_Q4_0, DT_Q4_1};
static const char *const map_name[] = {"plain", "heads", "gate"};

static const struct shape {
    int map, rows, cols, head_dim;
    int split; /* rows of a first call; 0: one call */
} shapes[] = {
    {ROWS_PLAIN, 1, 32, 0, 0},      {ROWS_PLAIN, 37, 48, 0, 16},    {ROWS_PLAIN, 19, 33, 0, 0},      {ROWS_PLAIN, 40, 72, 0, 32},   {ROWS_PLAIN, 515, 576, 0, 256},
    {ROWS_PLAIN, 35, 5120, 0, 0},   {ROWS_PLAIN, 16, 96, 0, 0},     {ROWS_HEADS, 60, 48, 20, 20},    {ROWS_HEADS, 60, 64, 20, 40},  {ROWS_HEADS, 192, 576, 64, 64},
    {ROWS_HEADS, 240, 160, 80, 80}, {ROWS_HEADS, 256, 5120, 128, 0}, {ROWS_HEADS, 6, 64, 2, 2},      {ROWS_GATE, 13, 48, 0, 8},     {ROWS_GATE, 1, 32, 0, 0},
    {ROWS_GATE, 176, 576, 0, 96},   {ROWS_GATE, 20, 5120, 0, 0},    {ROWS_GATE, 24, 96, 0, 16},
};

static uint64_t seed = 20240601;

/* Values of 32 in a row whose rounding is worth a look. */
static void make_block(float *x, int n, int what)
{
    float scale = exp2f((float)(check_below(&seed, 12) - 8));
    for (int i = 0; i < n; i++)
        x[i] = check_normal(&seed) * scale;
    switch (what) {
    case 0: /* all zero, of either sign */
        for (int i = 0; i < n; i++)
            x[i] = i % 3 ? 0.0f : -0.0f;
        break;
    case 1: /* largest and smallest of equal size, in this order or the other */
        for (int i = 0; i < n; i++)
            x[i] *= 0.01f;
        x[n / 4] = check_random(&seed) & 1 ? 3 * scale : -3 * scale;
        x[n - 1] = -x[n / 4];
        break;
    case 2: /* halves between codes */
        for (int i = 0; i < n; i++)
            x[i] = ((float)(check_below(&seed, 255) - 127) + 0.5f) * scale / 127.0f;
        x[0] = scale;
        break;
    case 3: x[check_below(&seed, n)] = INFINITY; break;
    case 4: x[check_below(&seed, n)] = -INFINITY; break;
    case 5: x[check_below(&seed, n)] = NAN; break;
    case 6:
        for (int i = 0; i < n; i++)
            x[i] = NAN;
        break;
    case 7: /* denormals, as f32 and as f16 */
        for (int i = 0; i < n; i++)
            x[i] *= i % 2 ? 1e-40f : 1e-7f;
        break;
    case 8:
        for (int i = 0; i < n; i++)
            x[i] *= 1e37f;
        break;
    case 9: /* scales that are denormal in f16, or nothing */
        for (int i = 0; i < n; i++)
            x[i] *= 1e-6f;
        break;
    case 10: /* one sign */
        for (int i = 0; i < n; i++)
            x[i] = -fabsf(x[i]) - scale;
        break;
    case 11: /* to nothing but a denormal scale */
        for (int i = 0; i < n; i++)
            x[i] *= 1e-37f;
        break;
    case 12: /* just below a half, and just a half */
        for (int i = 0; i < n; i++)
            x[i] = (i % 2 ? 1 : -1) * (i % 3 ? 0.49999997f : 0.5f) * scale;
        x[n / 2] = 127 * scale;
        break;
    default: break;
    }
}

/* Rows of a file: numbers, or blocks of random bits. */
static uint8_t *make_rows(enum dtype type, int rows, int cols)
{
    size_t row_bytes = (size_t)dtype_row_bytes(type, (uint64_t)cols), n = row_bytes * (size_t)rows;
    uint8_t *p = malloc(n);
    float x[32];
    assert_non_null(p);
    if (type >= DT_Q8_0) {
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)(check_random(&seed) >> 33);
        return p;
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c += 32) {
            int some = cols - c < 32 ? cols - c : 32;
            make_block(x, some, check_below(&seed, 24));
            dtype_from_f32(type, x, p + (size_t)r * row_bytes + (size_t)c * (size_t)dtype_table[type].bytes, (uint64_t)some);
        }
    if (type != DT_F32) /* every 16-bit pattern may be in a file: signalling NaNs, denormals */
        for (size_t i = 0; i + 2 <= n; i += 2 * (size_t)(1 + check_below(&seed, 400))) {
            p[i] = (uint8_t)(check_random(&seed) >> 40);
            p[i + 1] = (uint8_t)(check_random(&seed) >> 40);
        }
    return p;
}

static uint8_t *rounded_rows(enum dtype from, const uint8_t *src, enum dtype type, int rows, int cols)
{
    size_t in = (size_t)dtype_row_bytes(from, (uint64_t)cols), out = (size_t)dtype_row_bytes(type, (uint64_t)cols);
    uint8_t *p = malloc(out * (size_t)rows);
    float *wide = malloc((size_t)cols * sizeof *wide);
    assert_true(p && wide);
    for (int r = 0; r < rows; r++)
        round_row(from, src + (size_t)r * in, type, p + (size_t)r * out, wide, cols);
    free(wide);
    return p;
}

static void must(cudaError_t e, const char *what)
{
    if (e != cudaSuccess)
        fail_msg("%s: %s", what, cudaGetErrorString(e));
}

/* One source through the GPU, in one call or two. */
static void pack(struct pack *p, const struct shape *s, const uint8_t *rows)
{
    void *src;
    size_t bytes = p->row_bytes * (size_t)s->rows;
    must(cudaMalloc(&src, bytes), "cudaMalloc");
    must(cudaMemcpy(src, rows, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    int first = s->split ? s->split : s->rows;
    p->src = src;
    p->row0 = 0;
    p->n_rows = first;
    must(cuda_pack((struct launch){0}, p), "cuda_pack");
    p->src = (uint8_t *)src + p->row_bytes * (size_t)first;
    p->row0 = first;
    p->n_rows = s->rows - first;
    must(cuda_pack((struct launch){0}, p), "cuda_pack, second part");
    must(cudaDeviceSynchronize(), "the kernel");
    must(cudaFree(src), "cudaFree");
}

static struct packed shape_packed(const struct shape *s, int kind, int tiles)
{
    int cols = packed_unit_cols(kind);
    return (struct packed){.kind = kind, .rows = s->rows, .cols = s->cols, .tiles = tiles, .units = (s->cols + cols - 1) / cols, .unit_bytes = packed_unit_bytes(kind)};
}

/* Two sources in one block: gate and up, or one behind the other. Returns how many elements differ. */
static long one_case(enum dtype from, int kind, const struct shape *s)
{
    int own = packed_tiles(s->map, s->rows, s->head_dim), tiles = s->map == ROWS_GATE ? own : 2 * own;
    struct packed w = shape_packed(s, kind, tiles);
    size_t bytes = packed_bytes(&w);
    struct packed_part part[2];
    char name[128];
    snprintf(name, sizeof name, "%s to kind %d, %s, %d x %d, heads of %d, first call %d", dtype_table[from].name, kind, map_name[s->map], s->rows, s->cols, s->head_dim, s->split);
    void *block;
    must(cudaMalloc(&block, bytes + 2 * GUARD), "cudaMalloc");
    must(cudaMemset(block, 0xff, bytes + 2 * GUARD), "cudaMemset");
    w.data = (uint8_t *)block + GUARD;
    for (int i = 0; i < 2; i++) {
        struct pack p = {.w = w, .map = s->map, .head_dim = s->head_dim, .up = s->map == ROWS_GATE && i, .tile0 = s->map == ROWS_GATE ? 0 : i * own, .dtype = (int)from,
                         .row_bytes = (size_t)dtype_row_bytes(from, (uint64_t)s->cols)};
        uint8_t *rows = make_rows(from, s->rows, s->cols);
        part[i] = (struct packed_part){.type = kind_type[kind], .rows = rounded_rows(from, rows, kind_type[kind], s->rows, s->cols), .n_rows = s->rows, .tile0 = p.tile0};
        pack(&p, s, rows);
        free(rows);
    }
    uint8_t *back = malloc(bytes + 2 * GUARD);
    assert_non_null(back);
    must(cudaMemcpy(back, block, bytes + 2 * GUARD, cudaMemcpyDeviceToHost), "cudaMemcpy");
    long bad = packed_differences(name, &w, back + GUARD, s->map, s->head_dim, part, 2);
    for (size_t i = 0; i < GUARD; i++)
        if (back[i] != 0xff || back[GUARD + bytes + i] != 0xff) {
            print_error("%s: wrote outside the block, %zu bytes before or behind it\n", name, back[i] != 0xff ? GUARD - i : i);
            bad++;
            break;
        }
    must(cudaFree(block), "cudaFree");
    free(back);
    free((void *)part[0].rows);
    free((void *)part[1].rows);
    return bad;
}

static void all_shapes(enum dtype from, int kind)
{
    long bad = 0;
    int cases = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (kind < PACKED_Q8 || shapes[i].cols % 32 == 0) {
            bad += one_case(from, kind, &shapes[i]);
            cases++;
        }
    assert_true(cases > 10);
    if (bad)
        fail_msg("%s to kind %d: %ld elements differ", dtype_table[from].name, kind, bad);
}

static void types_as_they_are(void **state)
{
    (void)state;
    all_shapes(DT_F32, PACKED_F32);
    all_shapes(DT_F16, PACKED_F16);
    all_shapes(DT_BF16, PACKED_BF16);
}

static void blocks_as_they_are(void **state)
{
    (void)state;
    all_shapes(DT_Q8_0, PACKED_Q8);
    all_shapes(DT_Q4_0, PACKED_Q4_0);
    all_shapes(DT_Q4_1, PACKED_Q4_1);
}

static void floats_to_bf16(void **state)
{
    (void)state;
    all_shapes(DT_F32, PACKED_BF16);
    all_shapes(DT_F16, PACKED_BF16);
}

static void floats_to_q8(void **state)
{
    (void)state;
    all_shapes(DT_F32, PACKED_Q8);
    all_shapes(DT_F16, PACKED_Q8);
    all_shapes(DT_BF16, PACKED_Q8);
}

static void floats_to_q4(void **state)
{
    (void)state;
    all_shapes(DT_F32, PACKED_Q4_0);
    all_shapes(DT_F16, PACKED_Q4_0);
    all_shapes(DT_BF16, PACKED_Q4_0);
}

/* Gate's half and up's half leave one another alone, whichever comes first. */
static void halves_in_either_order(void **state)
{
    (void)state;
    static const int kinds[] = {PACKED_BF16, PACKED_F32, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1};
    const struct shape s = {ROWS_GATE, 21, 96, 0, 0};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        enum dtype type = kind_type[kinds[k]];
        struct packed w = shape_packed(&s, kinds[k], packed_tiles(ROWS_GATE, s.rows, 0));
        size_t bytes = packed_bytes(&w);
        uint8_t *rows[2] = {make_rows(type, s.rows, s.cols), make_rows(type, s.rows, s.cols)}, *back[2];
        for (int order = 0; order < 2; order++) {
            void *block;
            must(cudaMalloc(&block, bytes), "cudaMalloc");
            must(cudaMemset(block, order ? 0xff : 0x5a, bytes), "cudaMemset");
            w.data = block;
            for (int i = 0; i < 2; i++) {
                struct pack p = {.w = w, .map = ROWS_GATE, .up = i ^ order, .dtype = (int)type, .row_bytes = (size_t)dtype_row_bytes(type, (uint64_t)s.cols)};
                pack(&p, &s, rows[p.up]);
            }
            back[order] = malloc(bytes);
            assert_non_null(back[order]);
            must(cudaMemcpy(back[order], block, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
            must(cudaFree(block), "cudaFree");
        }
        assert_memory_equal(back[0], back[1], bytes);
        for (int i = 0; i < 2; i++) {
            free(rows[i]);
            free(back[i]);
        }
    }
}

static void what_no_kernel_packs(void **state)
{
    (void)state;
    const struct shape s = {ROWS_PLAIN, 16, 32, 0, 0};
    struct pack p = {.w = shape_packed(&s, PACKED_BF16, 1), .dtype = DT_Q8_0, .row_bytes = 34, .n_rows = 16};
    assert_int_equal(cuda_pack((struct launch){0}, &p), cudaErrorInvalidValue);
    p.dtype = DT_COUNT;
    assert_int_equal(cuda_pack((struct launch){0}, &p), cudaErrorInvalidValue);
    p.dtype = DT_BF16;
    p.w.kind = PACKED_Q4_1;
    assert_int_equal(cuda_pack((struct launch){0}, &p), cudaErrorInvalidValue);
}

/* Says how fast; far more than any bus carries. */
static void a_large_matrix_is_fast(void **state)
{
    (void)state;
    static const int kinds[] = {PACKED_BF16, PACKED_Q8, PACKED_Q4_0};
    const struct shape s = {ROWS_PLAIN, 13824, 5120, 0, 0};
    size_t bytes = 2 * (size_t)s.rows * (size_t)s.cols;
    void *src, *block;
    cudaEvent_t from, to;
    must(cudaMalloc(&src, bytes), "cudaMalloc");
    must(cudaMalloc(&block, bytes), "cudaMalloc");
    must(cudaMemset(src, 0x3c, bytes), "cudaMemset");
    must(cudaEventCreate(&from), "cudaEventCreate");
    must(cudaEventCreate(&to), "cudaEventCreate");
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        float ms = 0;
        struct pack p = {.w = shape_packed(&s, kinds[k], s.rows / 16), .dtype = DT_BF16, .src = src, .row_bytes = 2 * (size_t)s.cols, .n_rows = s.rows};
        p.w.data = block;
        for (int i = 0; i < 11; i++) {
            if (i == 1)
                must(cudaEventRecord(from, 0), "cudaEventRecord");
            must(cuda_pack((struct launch){0}, &p), "cuda_pack");
        }
        must(cudaEventRecord(to, 0), "cudaEventRecord");
        must(cudaEventSynchronize(to), "cudaEventSynchronize");
        must(cudaEventElapsedTime(&ms, from, to), "cudaEventElapsedTime");
        print_message("BF16 to kind %d: %.0f GB/s of the file\n", kinds[k], (double)bytes * 10 / (double)ms / 1e6);
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    must(cudaFree(src), "cudaFree");
    must(cudaFree(block), "cudaFree");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_as_they_are), cmocka_unit_test(blocks_as_they_are),     cmocka_unit_test(floats_to_bf16),       cmocka_unit_test(floats_to_q8),
        cmocka_unit_test(floats_to_q4),      cmocka_unit_test(halves_in_either_order), cmocka_unit_test(what_no_kernel_packs), cmocka_unit_test(a_large_matrix_is_fast),
    };
    return have_gpu() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
