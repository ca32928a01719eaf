/* SPDX-License-Identifier: Apache-2.0 */
/* The number types that a checkpoint's tensor may have. Quantised types store blocks of 32 or 256 values along the row. */
#ifndef BASE_DTYPE_H
#define BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

enum dtype { DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q4_K, DT_Q6_K, DT_COUNT };

/* Q8_0: f16 d, 32 x int8 q          w = d q              34 bytes
   Q4_0: f16 d, 16 bytes of nibbles  w = d (q - 8)        18 bytes; byte j holds value j (low nibble) and value j + 16 (high)
   Q4_1: f16 d, f16 m, 16 bytes      w = d q + m          20 bytes, same nibble order
   Q4_K: f16 d, f16 m, 12 bytes of scales, 128 of nibbles   w = d s q - m t    144 bytes; s and t are 6 bits for each stretch of 32; of every 32 bytes of nibbles
         the low ones are one stretch, the high ones the next
   Q6_K: 128 bytes of low nibbles, 64 of high pairs of bits, 16 x int8 s, f16 d   w = d s (q - 32)   210 bytes; s for each stretch of 16 (base/kquants.h) */
struct dtype_info {
    const char *name; /* as printed: "BF16" */
    int block, bytes; /* values in a block, bytes of a block */
};
extern const struct dtype_info dtype_table[DT_COUNT];

/* Bytes of a row of n values; 0 when n is not a multiple of the block or the size does not fit. */
uint64_t dtype_row_bytes(enum dtype type, uint64_t n);

/* Exact values as f32: n a multiple of the block, src unaligned. */
void dtype_to_f32(enum dtype type, const void *src, float *out, uint64_t n);

/* Rounds n values (a multiple of the block) to the type. Q8_0 and Q4_x choose their scales as GGUF files do:
   Q8_0 d = amax/127; Q4_0 d = (value of largest magnitude)/-8; Q4_1 m = min, d = (max-min)/15; codes are computed with the unrounded d.
   Q4_K and Q6_K look for the scales with the least error. */
void dtype_from_f32(enum dtype type, const float *src, void *out, uint64_t n);

#endif
