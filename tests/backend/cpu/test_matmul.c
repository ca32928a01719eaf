/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel contract: every set gives the bits of the plain one, whatever the number of rows, the place among them and the range of blocks; the plain one is
   right within the rounding of its own arithmetic. The comparison is a function, so that sets with a planted fault can be shown to fail it. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include <cmocka.h>

#include "backend/cpu/layout.h"
#include "backend/cpu/matmul.h"
#include "base/denormals.h"
#include "base/half.h"
#include "base/philox.h"

static const enum dtype dtype_of[MATRIX_KINDS] = {DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q4_K, DT_Q6_K};

/* So many columns that blocks are whole. */
static int whole_blocks(enum matrix_kind kind, int cols) { return (cols + dtype_table[dtype_of[kind]].block - 1) / dtype_table[dtype_of[kind]].block * dtype_table[dtype_of[kind]].block; }

/* How test numbers look. NEAR_UNDERFLOW: products and sums end around the smallest normal number. ANY_BITS: infinities and NaN too. */
enum numbers { ORDINARY, NEAR_UNDERFLOW, ANY_BITS };

static uint32_t random_bits(uint32_t stream, uint32_t i, uint32_t k) { return philox(2026, stream, i, k, 0).v[0]; }

static float number(enum numbers how, uint32_t stream, uint32_t i, uint32_t k)
{
    uint32_t u = random_bits(stream, i, k), exponent = random_bits(stream + 1000, i, k);
    if (how == ORDINARY)
        return f32_from_bits((u & 0x807fffffu) | (118 + exponent % 10) << 23);
    if (how == NEAR_UNDERFLOW) /* the product of a weight and an activation is near 2^-126, now and then a factor is denormal */
        return f32_from_bits((u & 0x807fffffu) | (exponent % 61 ? 62 + exponent % 5 : 0) << 23);
    return f32_from_bits(u);
}

struct product {
    struct matrix m;
    uint8_t *source;     /* [blocks * 16][stride] rows as a file has them */
    size_t stride;
    float *x;            /* [64][cols] */
    struct operand op;   /* all 64 rows, by the plain set */
    float *expected;     /* [64][rows] by the plain set */
};

static void *aligned(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    assert_non_null(p);
    memset(p, 0xee, n);
    return p;
}

static struct operand make_operand(enum operand_kind kind, int rows, int k)
{
    struct operand op = {.kind = kind, .rows = rows, .k = k, .row_bytes = operand_row_bytes(kind, k)};
    op.data = aligned((size_t)rows * op.row_bytes);
    return op;
}

/* Random codes and scales for the quantised kinds: every code occurs, also those that no quantiser writes. */
static void random_row(enum dtype type, enum numbers how, uint32_t i, int cols, uint8_t *out)
{
    size_t bytes = (size_t)dtype_row_bytes(type, (uint64_t)cols), block = (size_t)dtype_table[type].bytes;
    if (dtype_table[type].block == 1) {
        for (int k = 0; k < cols; k++) {
            float w = number(how, 1, i, (uint32_t)k);
            dtype_from_f32(type, &w, out + (size_t)k * block, 1);
        }
        return;
    }
    for (size_t k = 0; k < bytes; k++)
        out[k] = (uint8_t)random_bits(2, i, (uint32_t)k);
    const size_t first = type == DT_Q6_K ? block - 2 : 0, scales = type == DT_Q4_1 || type == DT_Q4_K ? 2 : 1;
    for (size_t b = 0; b < bytes / block; b++)
        for (size_t s = 0; s < 2 * scales; s += 2) {
            uint16_t scale = f32_to_f16(how == NEAR_UNDERFLOW ? 0x1p-24f : number(ORDINARY, 3 + (uint32_t)s, i, (uint32_t)b));
            if (how == ANY_BITS && i % 2)
                scale = (uint16_t)random_bits(3 + (uint32_t)s, i, (uint32_t)b);
            memcpy(out + b * block + first + s, &scale, 2);
        }
}

static void make_product(struct product *p, enum matrix_kind kind, bool wide, enum numbers how, int rows, int cols)
{
    matrix_shape(&p->m, kind, rows, cols);
    enum dtype type = dtype_of[kind];
    p->m.data = aligned(matrix_bytes(kind, rows, cols));
    p->stride = (size_t)dtype_row_bytes(type, (uint64_t)cols) + 3; /* not aligned, as in a file */
    p->source = aligned((size_t)rows * p->stride);
    for (int i = 0; i < rows; i++)
        random_row(type, how, (uint32_t)i, cols, p->source + (size_t)i * p->stride);
    for (int b = 0; b < p->m.blocks; b++)
        matrix_pack_block(&p->m, b, type, p->source + (size_t)(b * MATRIX_ROWS) * p->stride, p->stride);
    p->x = aligned((size_t)MATMUL_MAX_ROWS * (size_t)cols * sizeof *p->x);
    p->op = make_operand(matrix_operand(kind, wide), MATMUL_MAX_ROWS, p->m.k);
    p->expected = aligned((size_t)MATMUL_MAX_ROWS * (size_t)rows * sizeof *p->expected);
    for (int r = 0; r < MATMUL_MAX_ROWS; r++) {
        float *x = p->x + (size_t)r * (size_t)cols;
        for (int k = 0; k < cols; k++)
            x[k] = number(how, 7, (uint32_t)r, (uint32_t)k);
        kernels_plain.operand_row(&p->op, r, x, cols);
    }
    kernels_plain.matmul(&p->m, &p->op, 0, p->m.blocks, p->expected, (size_t)rows);
}

static void free_product(struct product *p)
{
    free(p->m.data);
    free(p->source);
    free(p->x);
    free(p->op.data);
    free(p->expected);
}

/* Equal bits; any NaN equals any other. */
static bool same_float(float a, float b) { return f32_bits(a) == f32_bits(b) || (isnan(a) && isnan(b)); }

/* n rows from row `first` on (round the end), blocks [from, to): the right numbers where they belong and nothing anywhere else? */
static bool same_rows(const struct kernels *k, const struct product *p, int n, int first, int from, int to)
{
    const uint32_t untouched = 0x7fabcdef;
    size_t stride = (size_t)p->m.rows + 5, floats = (size_t)n * stride;
    struct operand x = make_operand(p->op.kind, n, p->op.k);
    float *out = aligned(floats * sizeof *out);
    for (size_t i = 0; i < floats; i++)
        out[i] = f32_from_bits(untouched);
    for (int r = 0; r < n; r++)
        k->operand_row(&x, r, p->x + (size_t)((first + r) % MATMUL_MAX_ROWS) * (size_t)p->m.cols, p->m.cols);
    k->matmul(&p->m, &x, from, to, out, stride);
    bool same = true;
    for (size_t i = 0; i < floats; i++) {
        size_t r = i / stride, o = i % stride;
        if (o >= (size_t)from * MATRIX_ROWS && o < (size_t)to * MATRIX_ROWS && o < (size_t)p->m.rows)
            same &= same_float(out[i], p->expected[(size_t)((first + (int)r) % MATMUL_MAX_ROWS) * (size_t)p->m.rows + o]);
        else
            same &= f32_bits(out[i]) == untouched;
    }
    free(x.data);
    free(out);
    return same;
}

/* Every number of rows, at several places, in one range and cut in two. valgrind, which is slow, takes as many as any tile has, and 64. */
static bool same_as_plain(const struct kernels *k, const struct product *p)
{
    for (int n = 1; n <= MATMUL_MAX_ROWS; n = n == 11 && !denormals_flushable() ? MATMUL_MAX_ROWS : n + 1) {
        int first = n * 29 % MATMUL_MAX_ROWS, cut = n % (p->m.blocks + 1);
        if (!same_rows(k, p, n, first, 0, p->m.blocks) || !same_rows(k, p, n, first + 17, 0, cut) || !same_rows(k, p, n, 0, cut, p->m.blocks))
            return false;
    }
    return true;
}

struct shape { int rows, cols; };

/* Small on purpose: the plain set is slow. 64: whole groups; 96: half a group; 1: less than a block. 1088: several slices. */
static const struct shape shapes[] = {{20, 64}, {37, 96}, {1, 32}, {50, 224}, {17, 1088}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The first (kind, wide, shape) where k and plain differ, as kind * 100 + wide * 10 + shape, or -1. */
static int first_difference(const struct kernels *k, enum numbers how, int from_shape, int to_shape)
{
    for (int s = from_shape; s < to_shape; s++)
        for (int kind = 0; kind < MATRIX_KINDS; kind++)
            for (int wide = 0; wide < 2; wide++) {
                struct product p;
                bool odd = !matrix_quantised((enum matrix_kind)kind); /* float kinds need no whole 32-block */
                make_product(&p, (enum matrix_kind)kind, wide, how, shapes[s].rows, whole_blocks((enum matrix_kind)kind, shapes[s].cols) - (odd ? 3 : 0));
                bool same = same_as_plain(k, &p);
                free_product(&p);
                if (!same)
                    return kind * 100 + wide * 10 + s;
            }
    return -1;
}

#define EACH_SET(k) for (const struct kernels *const *at = kernels_table, *k; (k = *at); at++) if (k->usable())

static void test_every_set_has_the_bits_of_plain(void **state)
{
    (void)state;
    EACH_SET(k)
    {
        bool itself = k == &kernels_plain; /* one shape shows that its rows do not depend on each other */
        assert_int_equal(first_difference(k, ORDINARY, 0, itself ? 1 : denormals_flushable() ? SHAPES : 2), -1);
        if (!itself && !denormals_flushable()) /* valgrind: denormals are not promised */
            continue;
        assert_int_equal(first_difference(k, NEAR_UNDERFLOW, itself ? 2 : 1, itself ? 3 : 2), -1);
        assert_int_equal(first_difference(k, ANY_BITS, itself ? 2 : 1, itself ? 3 : 2), -1);
    }
}

/* The same in a thread that flushes denormals, as the pool's do; the mode comes back. (valgrind keeps no such mode: then there is nothing to compare.) */
static void test_bits_do_not_depend_on_the_denormal_mode(void **state)
{
    (void)state;
#ifdef __SSE2__
    unsigned old = _mm_getcsr();
    for (int kind = 0; kind < MATRIX_KINDS; kind++) {
        struct product p;
        make_product(&p, (enum matrix_kind)kind, false, NEAR_UNDERFLOW, 20, whole_blocks((enum matrix_kind)kind, 96));
        for (unsigned flush = 0; flush <= 0x8040u; flush += 0x8040u) {
            _mm_setcsr(old | flush);
            unsigned mode = _mm_getcsr() & 0x8040u;
            EACH_SET(k)
            {
                if (k != &kernels_plain && !denormals_flushable())
                    continue;
                assert_true(same_rows(k, &p, 9, 5, 0, p.m.blocks));
                assert_int_equal(_mm_getcsr() & 0x8040u, mode);
            }
        }
        _mm_setcsr(old);
        free_product(&p);
    }
#else
    skip();
#endif
}

/* Plain against double: the true sum within the rounding of a chain of k terms. */
static void check_reference(enum matrix_kind kind, bool wide)
{
    enum { ROWS = 37, MOST = 256 };
    const int COLS = whole_blocks(kind, 192);
    struct product p;
    make_product(&p, kind, wide, ORDINARY, ROWS, COLS);
    float w[MOST];
    for (int o = 0; o < ROWS; o++) {
        dtype_to_f32(dtype_of[kind], p.source + (size_t)o * p.stride, w, (uint64_t)COLS);
        for (int r = 0; r < MATMUL_MAX_ROWS; r++) {
            uint8_t *row = operand_at(&p.op, r);
            double sum = 0, size = 0;
            for (int k = 0; k < COLS; k++) {
                double x = p.x[r * COLS + k];
                if (p.op.kind == OPERAND_BF16)
                    x = bf16_to_f32(f32_to_bf16((float)x));
                else if (p.op.kind == OPERAND_Q8)
                    x = (double)((int8_t *)row)[k] * operand_scales(row, p.op.k)[k / QUANT_K];
                sum += w[k] * x;
                size += fabs(w[k] * x);
            }
            if (quants[kind].minima) /* d q and m are summed apart: neither is as small as their sum */
                size *= 32;
            assert_true(fabs(sum - p.expected[r * ROWS + o]) <= size * (COLS + 3) * 0x1p-24);
        }
    }
    free_product(&p);
}

static void test_plain_is_right(void **state)
{
    (void)state;
    for (int kind = 0; kind < MATRIX_KINDS; kind++)
        for (int wide = 0; wide < 2; wide++)
            check_reference((enum matrix_kind)kind, wide);
}

/* One pair of bf16 products by hand: the odd one first, each rounded, denormals zero. */
static float one_pair(uint16_t w0, uint16_t w1, float x0, float x1)
{
    struct matrix m;
    uint16_t source[2] = {w0, w1};
    float x[2] = {x0, x1}, out[1];
    matrix_shape(&m, MATRIX_BF16, 1, 2);
    m.data = aligned(m.block_bytes);
    matrix_pack_block(&m, 0, DT_BF16, source, sizeof source);
    struct operand op = make_operand(OPERAND_BF16, 1, m.k);
    kernels_plain.operand_row(&op, 0, x, 2);
    kernels_plain.matmul(&m, &op, 0, 1, out, 1);
    free(m.data);
    free(op.data);
    return out[0];
}

static void test_pairs_by_hand(void **state)
{
    (void)state;
    const uint16_t one = 0x3f80, tiny = 0x3300 /* 2^-25 */, denormal = 0x0001, smallest = 0x0080 /* 2^-126 */;
    assert_true(one_pair(one, one, 1, 1) == 2);
    assert_true(one_pair(tiny, one, 1, 1) == 1);                 /* 1 + 2^-25 rounds to 1 */
    assert_true(one_pair(one, tiny, 1, 1) == 1);
    assert_true(one_pair(one, one, 0x1p30f, -0x1p30f) == 0);
    assert_true(one_pair(denormal, 0, 0x1p100f, 1) == 0);        /* a denormal weight is zero */
    assert_true(one_pair(0, smallest, 1, 1) == FLT_MIN);
    assert_int_equal(f32_bits(one_pair(0, smallest, 1, .5f)), 0); /* so is a denormal result */
    assert_true(one_pair(smallest, smallest, -.5f, 1) == 0);      /* and one that was normal before */
}

static void test_packing_changes_no_value(void **state)
{
    (void)state;
    for (int kind = 0; kind < MATRIX_KINDS; kind++)
        for (int s = 0; s < SHAPES; s++) {
            int cols = whole_blocks((enum matrix_kind)kind, shapes[s].cols) - (matrix_quantised((enum matrix_kind)kind) ? 0 : 3);
            struct product p;
            make_product(&p, (enum matrix_kind)kind, false, kind == MATRIX_F32 || kind == MATRIX_BF16 ? ANY_BITS : ORDINARY, shapes[s].rows, cols);
            float *want = aligned((size_t)cols * 4), *got = aligned((size_t)cols * 4);
            for (int i = 0; i < p.m.rows; i++) {
                dtype_to_f32(dtype_of[kind], p.source + (size_t)i * p.stride, want, (uint64_t)cols);
                matrix_row(&p.m, i, got);
                assert_memory_equal(want, got, (size_t)cols * 4);
            }
            free(want);
            free(got);
            free_product(&p);
        }
}

static void test_shapes(void **state)
{
    (void)state;
    static const size_t bytes_of_64[MATRIX_KINDS] = {4096, 2048, 2048, 1088, 576, 640, 2368, 3392}; /* a group: 64 columns, or 256 */
    struct matrix m;
    for (int kind = 0; kind < MATRIX_KINDS; kind++) {
        assert_int_equal(matrix_kind_of(dtype_of[kind]), kind);
        int k = kind < MATRIX_Q4_K ? 64 : 256;
        matrix_shape(&m, (enum matrix_kind)kind, 33, k + 1);
        assert_int_equal(m.blocks, 3);
        assert_int_equal(m.k, 2 * k);
        assert_int_equal(m.block_bytes, 2 * bytes_of_64[kind]);
        assert_int_equal(matrix_bytes((enum matrix_kind)kind, 33, k + 1), 6 * bytes_of_64[kind]);
        assert_int_equal(matrix_bytes((enum matrix_kind)kind, 33, INT32_MAX), 0);
    }
    for (int kind = 0; kind < OPERAND_KINDS; kind++)
        for (int k = 64; k <= 4096; k += 64) {
            assert_true(operand_row_bytes((enum operand_kind)kind, k) >= operand_bytes((enum operand_kind)kind, k));
            assert_int_equal(operand_row_bytes((enum operand_kind)kind, k) % 128, 64); /* never a multiple of a cache's page */
        }
}

/* Activations that rounding and scaling can trip over, a 32-block each. */
static float awkward(int block, int k)
{
    switch (block) {
    case 0: return 0;
    case 1: return f32_from_bits((uint32_t)k * 12345u);                   /* denormals */
    case 2: return (float)(k - 16) + .5f + (k == 31 ? 127 - 15.5f : 0);   /* dx = 1: ties */
    case 3: return k == 7 ? -0x1.fp-120f : 0x1p-126f;                     /* a scale just below the smallest normal */
    case 4: return k == 7 ? 127 * FLT_MIN : (float)k * FLT_MIN;           /* and just that */
    case 5: return k == 3 ? FLT_MAX : -FLT_MAX / (float)(k + 1);
    case 6: return k == 3 ? INFINITY : (float)k;
    case 7: return k == 30 ? NAN : (float)k;
    case 8: return k == 31 ? -INFINITY : NAN;
    case 9: return f32_from_bits(0x3f808000u + (uint32_t)(k << 16) * (k % 2)); /* bf16 ties, to even both ways */
    case 10: return k % 2 ? -0.0f : 0x1.fcp6f;
    default: return number(ORDINARY, 9, (uint32_t)block, (uint32_t)k);
    }
}

enum { AWKWARD = 13 * 32 - 5 };

/* Do both sets write the same bytes, all of the row and nothing beside it? */
static bool same_operand(const struct kernels *k, enum operand_kind kind, int cols)
{
    float *x = aligned((size_t)cols * sizeof *x);
    for (int i = 0; i < cols; i++)
        x[i] = awkward(i / 32, i % 32);
    int padded = (cols + 63) / 64 * 64;
    struct operand a = make_operand(kind, 3, padded), b = make_operand(kind, 3, padded);
    kernels_plain.operand_row(&a, 1, x, cols);
    k->operand_row(&b, 1, x, cols);
    bool same = !memcmp(a.data, b.data, 3 * a.row_bytes) && a.data[a.row_bytes - 1] == 0xee && a.data[2 * a.row_bytes] == 0xee;
    free(x);
    free(a.data);
    free(b.data);
    return same;
}

static void test_operands_have_the_bits_of_plain(void **state)
{
    (void)state;
    EACH_SET(k)
    for (int kind = 0; kind < OPERAND_KINDS; kind++)
        for (int cols = 1; cols <= AWKWARD; cols += cols < 70 ? 1 : 31)
            assert_true(same_operand(k, (enum operand_kind)kind, cols));
}

static void test_operand_values(void **state)
{
    (void)state;
    float x[AWKWARD];
    struct operand op = make_operand(OPERAND_Q8, 1, 13 * 32 + 32);
    for (int i = 0; i < AWKWARD; i++)
        x[i] = awkward(i / 32, i % 32);
    kernels_plain.operand_row(&op, 0, x, AWKWARD);
    const int8_t *q = (const int8_t *)op.data;
    const float *dx = operand_scales(op.data, op.k);
    const int32_t *sum = operand_sums(op.data, op.k), *half = operand_halves(op.data, op.k);
    for (int b = 0; b < op.k / QUANT_K; b++) {
        int32_t total = 0;
        for (int i = 32 * b; i < 32 * b + 32; i++) {
            total += q[i];
            if (b == 6 || b == 7 || b == 8 || dx[b] == 0)
                assert_int_equal(q[i], 0);
            else
                assert_true(fabs((double)q[i] * dx[b] - (i < AWKWARD ? x[i] : 0)) <= dx[b] * .5000001);
        }
        assert_int_equal(total, sum[b]);
        assert_int_equal(total, half[2 * b] + half[2 * b + 1]);
        assert_true(same_float(operand_parts(op.data, op.k)[b], dx[b] * (float)total));
    }
    assert_true(dx[0] == 0 && dx[1] == 0 && dx[3] == 0 && dx[4] == FLT_MIN && dx[13] == 0);
    assert_true(isnan(dx[6]) && isnan(dx[7]) && isnan(dx[8]));
    assert_true(dx[2] == 1 && q[2 * 32 + 16] == 0 && q[2 * 32 + 17] == 2 && q[2 * 32 + 18] == 2 && q[2 * 32 + 15] == 0 && q[2 * 32 + 14] == -2); /* to even */
    free(op.data);
}

/* A NaN in one row shows in all its outputs and in no other row. */
static void test_nan_stays_in_its_row(void **state)
{
    (void)state;
    EACH_SET(k)
    for (int kind = 0; kind < MATRIX_KINDS; kind++) {
        struct product p;
        const int cols = whole_blocks((enum matrix_kind)kind, 96);
        make_product(&p, (enum matrix_kind)kind, false, ORDINARY, 20, cols);
        float out[4 * 20];
        struct operand x = make_operand(p.op.kind, 4, p.m.k);
        p.x[2 * cols + 40] = NAN;
        for (int r = 0; r < 4; r++)
            k->operand_row(&x, r, p.x + r * cols, cols);
        k->matmul(&p.m, &x, 0, p.m.blocks, out, 20);
        for (int i = 0; i < 80; i++)
            assert_true(i / 20 == 2 ? isnan(out[i]) : same_float(out[i], p.expected[i]));
        free(x.data);
        free_product(&p);
    }
}

/* Planted faults: the plain set with one thing wrong. */

/* 8 rows are summed as two halves, as a kernel with two chains would. */
static void two_halves(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    kernels_plain.matmul(w, x, from, to, out, out_stride);
    if (x->rows != 8)
        return;
    struct operand half = make_operand(x->kind, 8, x->k);
    float *other = aligned(8 * out_stride * sizeof *other);
    size_t unit = x->kind == OPERAND_F32 ? 4 : x->kind == OPERAND_BF16 ? 2 : 1;
    for (int side = 0; side < 2; side++) {
        memcpy(half.data, x->data, 8 * x->row_bytes);
        for (int r = 0; r < 8; r++) {
            uint8_t *row = operand_at(&half, r);
            size_t n = (size_t)x->k / 2, blocks = (size_t)x->k / QUANT_K, first = blocks / 2, count = side ? blocks - first : first;
            if (x->kind == OPERAND_Q8) {
                memset(operand_scales(row, x->k) + (side ? first : 0), 0, count * 4);
                memset(operand_parts(row, x->k) + (side ? first : 0), 0, count * 4);
            } else {
                memset(row + (side ? n * unit : 0), 0, n * unit);
            }
        }
        kernels_plain.matmul(w, &half, from, to, side ? other : out, out_stride);
    }
    for (size_t r = 0; r < 8; r++)
        for (int o = from * MATRIX_ROWS; o < to * MATRIX_ROWS && o < w->rows; o++)
            out[r * out_stride + (size_t)o] += other[r * out_stride + (size_t)o];
    free(half.data);
    free(other);
}

/* The last of an odd number of rows gets its neighbour's product. */
static void wrong_place(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    kernels_plain.matmul(w, x, from, to, out, out_stride);
    if (x->rows % 2 && x->rows > 5 && from < to)
        out[(size_t)(x->rows - 1) * out_stride + (size_t)from * MATRIX_ROWS] = out[(size_t)(x->rows - 2) * out_stride + (size_t)from * MATRIX_ROWS];
}

static void one_block_more(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride)
{
    kernels_plain.matmul(w, x, from, to < w->blocks ? to + 1 : to, out, out_stride);
}

static void truncated_row(struct operand *op, int r, const float *x, int cols)
{
    kernels_plain.operand_row(op, r, x, cols);
    if (op->kind == OPERAND_BF16)
        for (int k = 0; k < cols; k++)
            ((uint16_t *)(void *)operand_at(op, r))[k] = (uint16_t)(f32_bits(x[k]) >> 16);
}

static bool always(void) { return true; }

static void test_planted_faults_are_caught(void **state)
{
    (void)state;
    struct kernels good = kernels_plain, k = good;
    k.usable = always;
    assert_int_equal(first_difference(&k, ORDINARY, 0, 1), -1);
    k.matmul = two_halves;
    assert_int_not_equal(first_difference(&k, ORDINARY, 0, 1), -1);
    assert_string_equal(kernels_differ(&k), "f32");
    k.matmul = wrong_place;
    assert_int_not_equal(first_difference(&k, ORDINARY, 0, 1), -1);
    assert_string_equal(kernels_differ(&k), "f32");
    k.matmul = one_block_more;
    assert_int_not_equal(first_difference(&k, ORDINARY, 0, 1), -1);
    k.matmul = good.matmul;
    k.operand_row = truncated_row;
    assert_int_equal(first_difference(&k, ORDINARY, 0, 1) / 10, MATRIX_BF16 * 10);
    assert_string_equal(kernels_differ(&k), "bf16");
}

static void test_picking(void **state)
{
    (void)state;
    assert_ptr_equal(kernels_pick("plain"), &kernels_plain);
    assert_null(kernels_pick("abacus"));
    assert_non_null(kernels_pick(NULL));
    assert_true(kernels_pick(NULL)->usable());
    EACH_SET(k)
    {
        assert_ptr_equal(kernels_pick(k->name), k);
        assert_null(kernels_differ(k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_packing_changes_no_value),
        cmocka_unit_test(test_operands_have_the_bits_of_plain),
        cmocka_unit_test(test_operand_values),
        cmocka_unit_test(test_pairs_by_hand),
        cmocka_unit_test(test_plain_is_right),
        cmocka_unit_test(test_every_set_has_the_bits_of_plain),
        cmocka_unit_test(test_bits_do_not_depend_on_the_denormal_mode),
        cmocka_unit_test(test_nan_stays_in_its_row),
        cmocka_unit_test(test_planted_faults_are_caught),
        cmocka_unit_test(test_picking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
