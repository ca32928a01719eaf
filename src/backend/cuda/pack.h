/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights seen from the host: what a file's type is packed as, where a source row goes. */
#ifndef BACKEND_CUDA_PACK_H
#define BACKEND_CUDA_PACK_H

#include "backend/cuda/layout.h"
#include "base/dtype.h"

/* The packed row (16 tile + r) that holds row `row` of a source; head_dim: for ROWS_HEADS; up: it is the second half of ROWS_GATE. */
static inline int packed_row(int map, int head_dim, int up, int tile0, int row)
{
    if (map == ROWS_HEADS) {
        int half = head_dim / 2, in_head = row % head_dim, second = in_head >= half, pair = in_head - second * half;
        return 16 * (tile0 + row / head_dim * ((half + 7) / 8) + pair / 8) + 8 * second + pair % 8;
    }
    return map == ROWS_GATE ? 16 * (tile0 + row / 8) + 8 * up + row % 8 : 16 * tile0 + row;
}

/* As what rows go to the device. A GPU has one scale of 16 bits for 32 values: of Q4_K it gets all codes, with scales and minima rounded to that; Q6_K, whose scales
   are for 16 values, becomes Q8_0. */
static inline enum dtype sent_type(enum dtype type) { return type == DT_Q4_K ? DT_Q4_1 : type == DT_Q6_K ? DT_Q8_0 : type; }

static inline int packed_kind_of(enum dtype type)
{
    static const int kind[DT_COUNT] = {PACKED_F32, PACKED_F16, PACKED_BF16, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1};
    return kind[sent_type(type)];
}

#endif
