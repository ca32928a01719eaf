/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/matmul.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "backend/cpu/layout.h"
#include "base/checked.h"
#include "base/denormals.h"
#include "base/half.h"
#include "base/kquants.h"
#include "base/philox.h"

const struct kernels *const kernels_table[] = {
#ifdef __x86_64__
    &kernels_avx512,
    &kernels_avx2,
#endif
    &kernels_plain,
    NULL,
};

const struct kernels *kernels_pick(const char *name)
{
    for (int i = 0; kernels_table[i]; i++)
        if ((!name || !strcmp(name, kernels_table[i]->name)) && kernels_table[i]->usable())
            return kernels_table[i];
    return NULL;
}

/* Of each kind: the dtype it packs, its name in messages, the operand of its own kernel, and how a float kind is cut into lines: the unit is what one
   row has in a line. */
static const struct {
    const char *name;
    enum dtype type;
    enum operand_kind operand;
    int unit_bytes, unit_k;
} kind_table[MATRIX_KINDS] = {
    [MATRIX_F32] = {"f32", DT_F32, OPERAND_F32, 4, 1},   [MATRIX_F16] = {"f16", DT_F16, OPERAND_F32, 2, 1},
    [MATRIX_BF16] = {"bf16", DT_BF16, OPERAND_BF16, 4, 2}, [MATRIX_Q8] = {"q8", DT_Q8_0, OPERAND_Q8, 4, 4},
    [MATRIX_Q4_0] = {"q4_0", DT_Q4_0, OPERAND_Q8, 4, 8}, [MATRIX_Q4_1] = {"q4_1", DT_Q4_1, OPERAND_Q8, 4, 8},
    [MATRIX_Q4_K] = {"q4_k", DT_Q4_K, OPERAND_Q8, 4, 8}, [MATRIX_Q6_K] = {"q6_k", DT_Q6_K, OPERAND_Q8, 4, 8},
};

enum matrix_kind matrix_kind_of(enum dtype type)
{
    int kind = 0;
    while (kind_table[kind].type != type)
        kind++;
    return (enum matrix_kind)kind;
}

enum operand_kind matrix_operand(enum matrix_kind kind, bool wide) { return wide ? OPERAND_F32 : kind_table[kind].operand; }

/* Columns rounded up, or 0 when that is not an int. */
static int padded_k(int cols, int align) { return cols > INT32_MAX - align ? 0 : (cols + align - 1) / align * align; }

void matrix_shape(struct matrix *m, enum matrix_kind kind, int rows, int cols)
{
    int k = padded_k(cols, group_k(kind));
    size_t bytes = matrix_quantised(kind) ? (size_t)(k / group_k(kind)) * group_bytes(kind)
                                          : (size_t)(k / kind_table[kind].unit_k) * MATRIX_ROWS * (size_t)kind_table[kind].unit_bytes;
    *m = (struct matrix){.kind = kind, .rows = rows, .cols = cols, .blocks = rows / MATRIX_ROWS + (rows % MATRIX_ROWS != 0), .k = k, .block_bytes = bytes};
}

size_t matrix_bytes(enum matrix_kind kind, int rows, int cols)
{
    struct matrix m;
    size_t bytes;
    matrix_shape(&m, kind, rows, cols);
    return mul_size((size_t)m.blocks, m.block_bytes, &bytes) ? 0 : bytes;
}

size_t operand_row_bytes(enum operand_kind kind, int k)
{
    size_t lines = (operand_bytes(kind, k) + 63) / 64;
    return (lines | 1) * 64; /* odd, so that the same k of several rows never falls into one cache set */
}

/* The same unit of 16 rows side by side, unit after unit, from byte `at` on; the last one may be cut. In runs of 64 bytes, so that a source line is read once
   although all rows may fall into one cache set. Inlined for each unit size: a copy of known length is one instruction. */
static inline __attribute__((always_inline)) void pack_units(uint8_t *out, const uint8_t *src, size_t stride, int rows, size_t at, size_t row_bytes, const size_t unit)
{
    for (; at < row_bytes; at += 64)
        for (int i = 0; i < rows; i++) {
            const uint8_t *from = src + (size_t)i * stride;
            size_t end = row_bytes - at < 64 ? row_bytes : at + 64, k = at;
            for (; k + unit <= end; k += unit)
                memcpy(out + k * MATRIX_ROWS + (size_t)i * unit, from + k, unit);
            if (k < end)
                memcpy(out + k * MATRIX_ROWS + (size_t)i * unit, from + k, end - k);
        }
}

typedef uint32_t fours __attribute__((vector_size(16)));

/* Four rows of four units, transposed. */
static inline void transpose(const uint8_t *src, size_t stride, fours out[4])
{
    fours r[4];
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], src + (size_t)i * stride, 16);
    fours a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    fours c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    out[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    out[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

/* Past the cache where the machine can: packed weights are not read again before all are packed. */
static inline void stream(uint8_t *to, fours x)
{
#ifdef __SSE2__
    _mm_stream_si128((__m128i *)(void *)to, (__m128i)x);
#else
    memcpy(to, &x, sizeof x);
#endif
}

/* Units of four bytes of 16 rows, as pack_units; returns the bytes of each row that were taken. */
static size_t pack_fours(uint8_t *out, const uint8_t *src, size_t stride, size_t row_bytes)
{
    size_t at = 0;
    for (; at + 16 <= row_bytes; at += 16)
        for (int i = 0; i < MATRIX_ROWS; i += 4) {
            fours t[4];
            transpose(src + (size_t)i * stride + at, stride, t);
            for (int k = 0; k < 4; k++)
                stream(out + at * MATRIX_ROWS + k * 64 + i * 4, t[k]);
        }
#ifdef __SSE2__
    _mm_sfence();
#endif
    return at;
}

/* Stretch b of 16 rows: its codes, four bytes of a row at a time (signed ones become unsigned by turning the top bit), and its scales. */
static void pack_stretch(enum matrix_kind kind, uint8_t *group, size_t b, const uint8_t *src, size_t stride, int rows)
{
    uint8_t *codes = group + codes_at(kind, b), *d = group + scale_at(kind, b), *least = group + minimum_at(kind, b);
    size_t head = quants[kind].minima ? 4 : 2;
    uint32_t turn = kind == MATRIX_Q8 ? 0x80808080u : 0;
    for (int j = 0; j < quants[kind].lines; j++)
        for (int i = 0; i < rows; i++) {
            uint32_t four;
            memcpy(&four, src + (size_t)i * stride + head + 4 * (size_t)j, 4);
            four ^= turn;
            memcpy(codes + j * 64 + i * 4, &four, 4);
        }
    for (int i = 0; i < rows; i++) {
        memcpy(d + 2 * i, src + (size_t)i * stride, 2);
        if (quants[kind].minima)
            memcpy(least + 2 * i, src + (size_t)i * stride + 2, 2);
    }
}

/* Two words of a row, in lines one behind the other. */
static void put_words(uint8_t *to, uint64_t two)
{
    uint32_t word[2] = {(uint32_t)two, (uint32_t)(two >> 32)};
    memcpy(to, &word[0], 4);
    memcpy(to + 64, &word[1], 4);
}

/* One row of a group of Q4_K. The minima's factor turns its sign: they are subtracted in a file, and added here. */
static void pack_q4_k(uint8_t *group, const uint8_t *src, int i)
{
    for (int b = 0; b < Q4_K_STRETCHES; b++) {
        int scale, minimum;
        q4_k_scale(src, b, &scale, &minimum);
        group[scale_at(MATRIX_Q4_K, (size_t)b) + (size_t)i] = (uint8_t)scale;
        group[minimum_at(MATRIX_Q4_K, (size_t)b) + (size_t)i] = (uint8_t)minimum;
        for (int j = 0; j < 2; j++)
            put_words(group + codes_at(MATRIX_Q4_K, (size_t)b) + j * 128 + i * 4, q4_k_codes(src, b, j) | q4_k_codes(src, b, j + 2) << 4);
    }
    uint8_t *factor = group + factor_at(MATRIX_Q4_K) + 2 * i;
    memcpy(factor, src, 2);
    memcpy(factor + SCALE_BYTES, src + 2, 2);
    factor[SCALE_BYTES + 1] ^= 0x80;
}

static void pack_q6_k(uint8_t *group, const uint8_t *src, int i)
{
    for (int b = 0; b < Q6_K_STRETCHES; b++) {
        uint64_t high = q6_k_high(src, b, 0) | q6_k_high(src, b, 1) << 4; /* of words 0 and 2, 1 and 3 */
        uint32_t pairs = (uint32_t)high | (uint32_t)(high >> 32) << 2;
        uint8_t *codes = group + codes_at(MATRIX_Q6_K, (size_t)b) + i * 4;
        group[scale_at(MATRIX_Q6_K, (size_t)b) + (size_t)i] = src[Q6_K_SCALES + b];
        put_words(codes, q6_k_low(src, b, 0) | q6_k_low(src, b, 1) << 4);
        memcpy(codes + 128, &pairs, 4);
    }
    memcpy(group + factor_at(MATRIX_Q6_K) + 2 * i, src + Q6_K_D, 2);
}

static void pack_quants(const struct matrix *m, uint8_t *out, enum dtype type, const uint8_t *src, size_t stride, int rows)
{
    const size_t bytes = (size_t)dtype_table[type].bytes;
    for (int b = 0; b < m->cols / dtype_table[type].block; b++, src += bytes) {
        if (!quants[m->kind].factors)
            pack_stretch(m->kind, out + (size_t)(b / 2) * group_bytes(m->kind), (size_t)b % 2, src, stride, rows);
        for (int i = 0; quants[m->kind].factors && i < rows; i++)
            (m->kind == MATRIX_Q4_K ? pack_q4_k : pack_q6_k)(out + (size_t)b * group_bytes(m->kind), src + (size_t)i * stride, i);
    }
}

void matrix_pack_block(const struct matrix *m, int block, enum dtype type, const void *src, size_t src_stride)
{
    uint8_t *out = m->data + (size_t)block * m->block_bytes;
    int rows = m->rows - block * MATRIX_ROWS;
    if (rows > MATRIX_ROWS)
        rows = MATRIX_ROWS;
    if (rows < MATRIX_ROWS || m->cols < m->k)
        memset(out, 0, m->block_bytes); /* padding: a scale of zero makes any code a zero */
    if (!matrix_quantised(m->kind)) {
        size_t row_bytes = (size_t)dtype_row_bytes(type, (uint64_t)m->cols);
        if (kind_table[m->kind].unit_bytes == 2)
            pack_units(out, src, src_stride, rows, 0, row_bytes, 2);
        else
            pack_units(out, src, src_stride, rows, rows == MATRIX_ROWS ? pack_fours(out, src, src_stride, row_bytes) : 0, row_bytes, 4);
        return;
    }
    pack_quants(m, out, type, src, src_stride, rows);
}

static uint16_t get_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

float matrix_weight(enum matrix_kind kind, const uint8_t *data, int i, int k)
{
    size_t at = (size_t)k * MATRIX_ROWS + (size_t)i;
    float x;
    switch (kind) {
    case MATRIX_F32:
        memcpy(&x, data + at * 4, 4);
        return x;
    case MATRIX_F16:
        return f16_to_f32(get_u16(data + at * 2));
    case MATRIX_BF16:
        return bf16_to_f32(get_u16(data + ((size_t)(k / 2) * MATRIX_ROWS + (size_t)i) * 4 + (size_t)(k % 2) * 2));
    default: {
        const struct quant *q = &quants[kind];
        const size_t b = (size_t)(k / q->k % q->stretches);
        const uint8_t *group = group_of(kind, data, k / q->k);
        x = quant_scale(kind, group, b, i) * (float)(quant_code(kind, group + codes_at(kind, b), i, k % q->k) - q->offset);
        return q->minima ? x + quant_minimum(kind, group, b, i) : x;
    }
    }
}

void matrix_row(const struct matrix *m, int row, float *out)
{
    const uint8_t *data = m->data + (size_t)(row / MATRIX_ROWS) * m->block_bytes;
    for (int k = 0; k < m->cols; k++)
        out[k] = matrix_weight(m->kind, data, row % MATRIX_ROWS, k);
}

/* The start-up self-test: small, on the stack, every kind with its own and the wide operand. Three blocks, the last one short; columns that end inside a
   group (of Q4_K and Q6_K one group). The numbers of rows are such that every tile runs, alone and in pairs of blocks: 1 to 16, and some whose last tile has 1, 2 or 3. Rows repeat after
   TEST_OWN (no multiple of a tile), so that "plain", which is slow, has few to do. */
enum { TEST_ROWS = 40, TEST_COLS = 96, TEST_K = KQUANT_K, TEST_X = 57, TEST_OWN = 11, TEST_FIRST = 16 };

static const int test_more[] = {26, 31, 43, 50, 57};

struct trial {
    bool tiny; /* are there numbers near the smallest */
    _Alignas(64) uint8_t weights[3 * (TEST_COLS + 32) * MATRIX_ROWS * 4];
    _Alignas(64) uint8_t x[2][TEST_X][TEST_K * 4 + 64];
    float out[2][TEST_X][TEST_ROWS]; /* of "plain": rows 0..TEST_OWN-1 */
    uint8_t source[MATRIX_ROWS][TEST_COLS * 4];
};

/* Numbers around 1, and in every eighth place one that is denormal or multiplies to a denormal: where there is no mode that makes them zero, which is under valgrind,
   the vector sets do not promise their bits. */
static float test_number(const struct trial *t, int kind, int i, int k)
{
    struct philox p = philox(7, (uint32_t)kind, (uint32_t)i, (uint32_t)k, 0);
    uint32_t exponent = p.v[1] % 8 || !t->tiny ? 120 + p.v[2] % 10 : p.v[2] % 72;
    return f32_from_bits((p.v[0] & 0x807fffffu) | exponent << 23);
}

static int test_cols(enum matrix_kind kind) { return dtype_table[kind_table[kind].type].block > TEST_COLS ? TEST_K : TEST_COLS; }

static void fill_matrix(struct matrix *m, struct trial *t, enum matrix_kind kind)
{
    enum dtype type = kind_table[kind].type;
    const int cols = test_cols(kind);
    matrix_shape(m, kind, TEST_ROWS, cols);
    m->data = t->weights;
    for (int block = 0; block < m->blocks; block++) {
        for (int i = 0; i < MATRIX_ROWS; i++) {
            float row[TEST_K];
            for (int k = 0; k < cols; k++)
                row[k] = test_number(t, kind, block * MATRIX_ROWS + i, k);
            dtype_from_f32(type, row, t->source[i], (uint64_t)cols);
        }
        matrix_pack_block(m, block, type, t->source, sizeof t->source[0]);
    }
}

/* All rows of both operands, each by its set: equal bytes? */
static bool same_operands(const struct kernels *k, const struct trial *t, int cols, struct operand *ours, struct operand *theirs)
{
    for (int r = 0; r < TEST_X; r++) {
        float x[TEST_K];
        for (int i = 0; i < cols; i++)
            x[i] = test_number(t, MATRIX_KINDS, r % TEST_OWN, i);
        if (r < TEST_OWN)
            kernels_plain.operand_row(ours, r, x, cols);
        k->operand_row(theirs, r, x, cols);
        if (memcmp(operand_at(ours, r % TEST_OWN), operand_at(theirs, r), ours->row_bytes))
            return false;
    }
    return true;
}

static bool same_rows(const struct kernels *k, const struct matrix *m, struct operand *x, struct trial *t, int rows)
{
    x->rows = rows;
    memset(t->out[1], 0xff, sizeof t->out[1]);
    k->matmul(m, x, 0, m->blocks, t->out[1][0], TEST_ROWS);
    for (int r = 0; r < rows; r++)
        if (memcmp(t->out[0][r % TEST_OWN], t->out[1][r], sizeof t->out[1][r]))
            return false;
    return true;
}

static bool same_products(const struct kernels *k, struct trial *t, const struct matrix *m, bool wide)
{
    enum operand_kind operand = matrix_operand(m->kind, wide);
    struct operand x = {.kind = operand, .rows = TEST_OWN, .k = m->k, .row_bytes = operand_row_bytes(operand, m->k), .data = t->x[0][0]}, y = x;
    y.data = t->x[1][0];
    if (!same_operands(k, t, m->cols, &x, &y))
        return false;
    kernels_plain.matmul(m, &x, 0, m->blocks, t->out[0][0], TEST_ROWS);
    for (int rows = 1; rows <= TEST_FIRST; rows++)
        if (!same_rows(k, m, &y, t, rows))
            return false;
    for (size_t i = 0; i < sizeof test_more / sizeof *test_more; i++)
        if (!same_rows(k, m, &y, t, test_more[i]))
            return false;
    return true;
}

const char *kernels_differ(const struct kernels *k)
{
    struct trial t;
    struct matrix m;
    t.tiny = denormals_flushable();
    for (int kind = 0; kind < MATRIX_KINDS && k != &kernels_plain; kind++) {
        fill_matrix(&m, &t, (enum matrix_kind)kind);
        for (int wide = kind_table[kind].operand == OPERAND_F32; wide < 2; wide++)
            if (!same_products(k, &t, &m, wide))
                return kind_table[kind].name;
    }
    return NULL;
}
