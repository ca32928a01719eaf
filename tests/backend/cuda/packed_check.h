/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights read back: single elements by the words of layout.h, and what a file's row says that they must be. */
#ifndef TESTS_PACKED_CHECK_H
#define TESTS_PACKED_CHECK_H

#include "check.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/layout.h"
#include "base/dtype.h"
#include "base/kquants.h"

/* One element as it is stored: a float's bits, or a code (0..255 for a signed byte) with the f16 bits of its block's scale and minimum. */
struct packed_bits {
    uint32_t value;
    uint16_t scale, low;
};

/* data: a copy of all packed bytes of w on the host. */
static inline struct packed_bits packed_bits(const struct packed *w, const uint8_t *data, int row, int col)
{
    int wide = packed_unit_cols(w->kind), high = row % 16 / 8, g = row % 8;
    const uint8_t *unit = data + ((size_t)(row / 16) * (size_t)w->units + (size_t)(col / wide)) * w->unit_bytes;
    int b = col % wide / 32, k = col % 32, thread = 4 * g + k / 8, in8 = k % 8;
    struct packed_bits out = {0};
    if (w->kind == PACKED_F32) {
        memcpy(&out.value, unit + 512 * (2 * high + in8 / 4) + 16 * thread + 4 * (in8 % 4), 4);
        return out;
    }
    if (w->kind == PACKED_BF16 || w->kind == PACKED_F16) {
        uint16_t v;
        memcpy(&v, unit + 512 * (in8 / 4) + 16 * thread + 4 * (2 * (in8 % 4 / 2) + high) + 2 * (in8 % 2), 2);
        out.value = v;
        return out;
    }
    const uint8_t *scales = unit + (w->kind == PACKED_Q8 ? 2048 : 1024);
    memcpy(&out.scale, scales + 2 * ((g * 4 + b) * 2 + high), 2);
    if (w->kind == PACKED_Q8) {
        out.value = unit[512 * b + 16 * thread + 4 * (in8 / 2) + 2 * (in8 % 2) + high];
        return out;
    }
    if (w->kind == PACKED_Q4_1)
        memcpy(&out.low, scales + 128 + 2 * ((g * 4 + b) * 2 + high), 2);
    static const int nibble[4] = {0, 4, 2, 6}; /* of columns k .. k+3 of row g; row g + 8 has the next */
    uint32_t word;
    memcpy(&word, unit + 512 * (b / 2) + 16 * thread + 4 * (2 * (b % 2) + in8 / 4), 4);
    out.value = word >> 4 * (nibble[in8 % 4] + high) & 15;
    return out;
}

/* The same of a row of a file. */
static inline struct packed_bits row_bits(enum dtype type, const uint8_t *row, int col)
{
    struct packed_bits out = {0};
    const uint8_t *block = row + (size_t)(col / 32) * (size_t)dtype_table[type].bytes;
    int at = col % 32;
    switch (type) {
    case DT_F32: memcpy(&out.value, row + 4 * (size_t)col, 4); return out;
    case DT_F16:
    case DT_BF16: memcpy(&out.value, row + 2 * (size_t)col, 2); return out;
    case DT_Q8_0: out.value = block[2 + at]; break;
    default:
        out.value = block[dtype_table[type].bytes - 16 + at % 16] >> (at < 16 ? 0 : 4) & 15;
        if (type == DT_Q4_1)
            memcpy(&out.low, block + 2, 2);
    }
    memcpy(&out.scale, block, 2);
    return out;
}

/* A row of one type as the host rounds it to another: bytes in `to`. wide: room for n floats. */
static inline void round_row(enum dtype from, const uint8_t *src, enum dtype type, uint8_t *to, float *wide, int n)
{
    if (from == type) {
        memcpy(to, src, (size_t)dtype_row_bytes(from, (uint64_t)n));
        return;
    }
    for (int b = 0; from == DT_Q4_K && b < n / KQUANT_K; b++)
        q4_k_to_q4_1(src + b * Q4_K_BYTES, to + b * 8 * dtype_table[DT_Q4_1].bytes);
    if (from == DT_Q4_K)
        return;
    dtype_to_f32(from, src, wide, (uint64_t)n);
    dtype_from_f32(type, wide, to, (uint64_t)n);
}

/* One source of a block: raw rows in the type `type`, already rounded. */
struct packed_part {
    enum dtype type;
    const uint8_t *rows; /* [n_rows] of dtype_row_bytes */
    int n_rows, tile0;
};

/* The source row that packed row r of a part's own tiles holds, or -1; `half`: which part of ROWS_GATE. */
static inline int source_row(int map, int head_dim, int n_rows, int r, int *half)
{
    int tile = r / 16, g = r % 8, high = r % 16 / 8, row;
    *half = 0;
    if (map == ROWS_GATE) {
        *half = high;
        row = 8 * tile + g;
    } else if (map == ROWS_HEADS) {
        int per_head = (head_dim / 2 + 7) / 8, pair = 8 * (tile % per_head) + g;
        row = pair < head_dim / 2 ? tile / per_head * head_dim + high * (head_dim / 2) + pair : -1;
    } else {
        row = r;
    }
    return row < n_rows ? row : -1;
}

/* Compares every element of a block, padding included, with its parts (ROWS_GATE: gate and up; else one after another by tile0). Prints up to 5 differences; returns how many. */
static inline long packed_differences(const char *name, const struct packed *w, const uint8_t *data, int map, int head_dim, const struct packed_part *part, int n_parts)
{
    long bad = 0;
    for (int r = 0; r < 16 * w->tiles; r++) {
        int p = 0, half;
        while (map != ROWS_GATE && p + 1 < n_parts && r / 16 >= part[p + 1].tile0)
            p++;
        int row = source_row(map, head_dim, part[p].n_rows, r - 16 * part[p].tile0, &half);
        p = map == ROWS_GATE ? half : p;
        const uint8_t *src = row < 0 ? NULL : part[p].rows + (size_t)row * (size_t)dtype_row_bytes(part[p].type, (uint64_t)w->cols);
        for (int c = 0; c < w->units * packed_unit_cols(w->kind); c++) {
            struct packed_bits got = packed_bits(w, data, r, c), want = {0};
            if (src && c < w->cols)
                want = row_bits(part[p].type, src, c);
            if (got.value == want.value && got.scale == want.scale && got.low == want.low)
                continue;
            if (bad++ < 5)
                print_error("%s: packed row %d (part %d, source row %d) column %d of %d: got %x scale %04x low %04x, want %x scale %04x low %04x\n", name, r, p, row, c, w->cols,
                            (unsigned)got.value, got.scale, got.low, (unsigned)want.value, want.scale, want.low);
        }
    }
    if (bad)
        print_error("%s: %ld elements differ\n", name, bad);
    return bad;
}

/* A usable GPU, or one line why there is none. */
static inline bool have_gpu(void)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n > 0 && (e = cudaSetDevice(0)) == cudaSuccess)
        return true;
    print_error("skipped: no usable GPU: %s\n", e == cudaSuccess ? "none is there" : cudaGetErrorString(e));
    return false;
}

#endif
