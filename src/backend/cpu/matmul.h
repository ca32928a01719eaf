/* SPDX-License-Identifier: Apache-2.0 */
/* The one product of the CPU backend: out[r][o] = sum over k of w[o][k] * x[r][k], for 1..64 activation rows r.

   Contract (row invariance): the bits of out[r][o] depend on x[r] and w[o] alone, never on the other rows, their number, the place among them,
   the tile shape, the thread or the instruction set. One summation order per output, written at each kind below.

   In every kind denormal inputs, products and sums count as zero of their sign, whatever mode the thread is in. A NaN is a NaN; its payload is not promised.

   Weights are packed once: 16 output rows interleaved (a "block"), so that one 64-byte line holds the same k of 16 outputs; the last block is
   padded with zero rows, columns with zeros to MATRIX_K_ALIGN (Q4_K and Q6_K have whole super-blocks of 256). Blocks lie one behind the other: [block][k][16 rows]. */
#ifndef BACKEND_CPU_MATMUL_H
#define BACKEND_CPU_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum { MATRIX_ROWS = 16, MATRIX_K_ALIGN = 64, MATMUL_MAX_ROWS = 64 };

/* Per block of 16 outputs, in steps of k:
   F32   [k][16] f32                                             activations f32: acc = fma(w, x, acc), k ascending, one chain
   F16   [k][16] f16 widened exactly                             activations f32, the same chain
   BF16  [k/2][16][2] bf16                                       activations bf16 (rounded once): per pair of k the odd one first, then the even one, two FMAs into
                                                                 one chain, inputs and results that are denormal count as zero (vdpbf16ps); with --compute f32: widened, as F16
   Q8    [k/64]{ [2][8][16][4] u8 = q + 128, [2][16] f16 d }     activations int8 in blocks of 32 with f32 scale dx: exact integer dot s of each 32-block, then
                                                                 acc = fma(d * dx, (float)s, acc), blocks ascending
   Q4_0  [k/64]{ [2][4][16][4] nibbles, [2][16] f16 d }          as Q8 with w = d (q - 8)
   Q4_1  [k/64]{ [2][4][16][4] nibbles, [2][16] f16 d, [2][16] f16 m }   acc = fma(d * dx, (float)s, acc), then acc = fma(m, dx * (float)sum(xq), acc)
   Q4_K  [k/256]{ [8][16] u8 s, [8][16] u8 t, [16] f16 d, [16] f16 -m, [8][4][16][4] nibbles }   as Q4_1, with d s for d and -m t for m (both exact)
   Q6_K  [k/256]{ [16][16] i8 s, [16] f16 d, 32 bytes of padding, [16][3][16][4] 6 bits }         as Q8, with dots of 16 and w = d s (q - 32) (d s is exact)
   With --compute f32 the quantised kinds widen w (as dtype_to_f32 does: d q is exact, + m rounded) and use the F32 chain. */
enum matrix_kind { MATRIX_F32, MATRIX_F16, MATRIX_BF16, MATRIX_Q8, MATRIX_Q4_0, MATRIX_Q4_1, MATRIX_Q4_K, MATRIX_Q6_K, MATRIX_KINDS };

struct matrix {
    enum matrix_kind kind;
    int rows, cols;      /* outputs, inputs as the model has them */
    int blocks, k;       /* ceil(rows / 16), cols rounded up to whole groups: of 64, in Q4_K and Q6_K 256 */
    size_t block_bytes;  /* of one block of 16 rows; a multiple of 64 */
    uint8_t *data;       /* [blocks][block_bytes], 64-byte aligned; borrowed from the backend's arena */
};

/* The activations of one product, prepared once and read by all threads. */
enum operand_kind { OPERAND_F32, OPERAND_BF16, OPERAND_Q8, OPERAND_KINDS };
struct operand {
    enum operand_kind kind;
    int rows, k;       /* k as in struct matrix: columns beyond cols are zero */
    size_t row_bytes;  /* a multiple of 64 */
    uint8_t *data;     /* [rows][row_bytes], 64-byte aligned. F32: f32[k]. BF16: u16[k]. Q8: { int8 q[k]; then dx and sums, see layout.h } */
};

enum matrix_kind matrix_kind_of(enum dtype type);
size_t matrix_bytes(enum matrix_kind kind, int rows, int cols); /* blocks * block_bytes; 0 when it does not fit */
void matrix_shape(struct matrix *m, enum matrix_kind kind, int rows, int cols); /* everything but data */

/* Packs source rows [16 * block, 16 * (block + 1)) that lie at src in the given dtype, src_stride bytes apart (rows past m->rows are not read).
   The dtype must be the one of the kind (matrix_kind_of): no value changes. */
void matrix_pack_block(const struct matrix *m, int block, enum dtype type, const void *src, size_t src_stride);

/* Row `row` as f32[cols]: the embedding look-up of a tied head. Exact. */
void matrix_row(const struct matrix *m, int row, float *out);

size_t operand_row_bytes(enum operand_kind kind, int k);

/* Which operand a kind takes: the wide f32 chain when `wide`, else the kind's own. */
enum operand_kind matrix_operand(enum matrix_kind kind, bool wide);

/* A set of kernels for one instruction set. All sets give the same bits. */
struct kernels {
    const char *name; /* "plain", "avx2", "avx512" */
    bool (*usable)(void); /* does this CPU have what it needs */

    /* One row: x f32[cols] into the operand's row r, zero padded. BF16: round to nearest even, denormals to zero.
       Q8: per 32-block dx = amax / 127, q = x * (1 / dx) rounded to nearest even, sum = sum of q; dx = 0 and q = 0 when dx would be
       denormal; dx = NaN and q = 0 when the block has an infinity or a NaN. */
    void (*operand_row)(struct operand *op, int r, const float *x, int cols);

    /* Blocks [from, to) of w times all rows of x; out[r * out_stride + o], o < w->rows only. Called by every thread with its own range. */
    void (*matmul)(const struct matrix *w, const struct operand *x, int from, int to, float *out, size_t out_stride);
};

extern const struct kernels *const kernels_table[]; /* best first, "plain" last, then NULL */

/* The best usable set, or the one named (NULL: not usable here or no such name). Cheap; the caller keeps it. */
const struct kernels *kernels_pick(const char *name);

/* Start-up self-test: every kind and a few shapes against "plain", bit for bit. Returns NULL when equal, else the name of the kind that differs. */
const char *kernels_differ(const struct kernels *k);

#endif
