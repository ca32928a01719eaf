/* SPDX-License-Identifier: Apache-2.0 */
/* What host and device agree on: packed weights, activations, KV pages, the rows of a call. Plain C, read by both compilers.

   Packed weights. A matrix is cut into tiles of 16 rows, a tile into units along the columns, both padded with zeros; a unit lies in the order in which the 32
   threads of a warp want it as the A operand of mma.m16n8k16. Thread = 4 g + t; it holds rows g and g + 8 and, of every 32 columns, 8t .. 8t+7, so that
   activations need no reordering at all: the B operand of two products is the 16 bytes x[8t .. 8t+7].

     BF16, F16  unit 32 columns, 1024 bytes: [2 j][32 threads][4 x u32]. Word i of j is a pair of columns k, k+1 (low half: k):
                  i = 0: row g, k = 8t + 4j      i = 1: row g + 8, same k      i = 2: row g, k = 8t + 4j + 2      i = 3: row g + 8, k = 8t + 4j + 2
     F32        unit 32 columns, 2048 bytes: [4 p][32 threads][4 x f32]: p = 0: row g, columns 8t..8t+3; 1: row g, 8t+4..8t+7; 2, 3: row g + 8 likewise
     Q8         unit 128 columns, 2176 bytes: codes [4 b][32 threads][4 x u32], then scales [8 g][4 b][2] f16 (rows g, g + 8). b: 32 columns.
                  Word 2j + h of a thread: bytes 0 and 2 are row g, columns k and k+1; bytes 1 and 3 row g + 8, the same; k = 32b + 8t + 4j + 2h. Signed bytes.
     Q4_0       unit 128 columns, 1152 bytes: codes [2 c][32 threads][4 x u32], then scales [8 g][4 b][2] f16.
                  Word 2(b & 1) + j of c = b / 2 has 8 nibbles, number i at bits 4i: 0, 4: row g, k and k+1; 1, 5: row g + 8, the same;
                  2, 6: row g, k+2 and k+3; 3, 7: row g + 8, the same; k = 32b + 8t + 4j. Unsigned 0..15; w = d (code - 8).
     Q4_1       as Q4_0 and minima [8 g][4 b][2] f16 behind the scales, 1280 bytes; w = d code + m.

   Tile order is [tile][unit]. What a packed row is of the source matrix depends on its place in the layer (enum row_map).

   The sum of an output, the contract that makes a row's bits the same in every kernel: lane l of 8 chains its units l, l + 8, l + 16, ... in that order; then
   ((0+1)+(2+3))+((4+5)+(6+7)). BF16: one accumulator through m16n8k16 products, j = 0 then 1. F16: the same with exact conversion to tf32 (m16n8k8, four per
   unit). Q8, Q4: per 32 columns the exact-integer product of two m16n8k16 from zero, then acc = fma(d, product, acc), Q4_1 also acc = fma(m, sum of x, acc). */
#ifndef BACKEND_CUDA_LAYOUT_H
#define BACKEND_CUDA_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum packed_kind { PACKED_BF16, PACKED_F16, PACKED_F32, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1, PACKED_KINDS };

enum {
    TILE_ROWS = 16,
    LANES_K = 8,        /* warps that share the columns of a tile */
    STEP_ROWS = 64,     /* most rows of one pass: ROWS_MAX */
    PAGE_SLOTS = 256,   /* KV_PAGE */
    CHUNK_SLOTS = 64,   /* text positions that one block of attention reads ... */
    CHUNK_WIDE = 256,   /* ... from WIDE_FROM on */
    WIDE_FROM = 2048
};

/* How packed rows map to the rows of the source.
     ROWS_PLAIN: packed row 16 T + r is row 16 T + r.
     ROWS_HEADS: pairs for half-split rotary. A head has ceil(head_dim / 2 / 8) tiles; row g of tile i of head h is pair 8 i + g: source row h * head_dim + 8 i + g,
                 row g + 8 is source row h * head_dim + head_dim / 2 + 8 i + g; pairs from head_dim / 2 on are padding.
     ROWS_GATE:  gate and up in one matrix: row g of tile T is row 8 T + g of gate, row g + 8 the same row of up. */
enum row_map { ROWS_PLAIN, ROWS_HEADS, ROWS_GATE };

struct packed {
    uint8_t *data;      /* on the device, 256-byte aligned */
    int kind;           /* enum packed_kind */
    int rows, cols;     /* of the source (ROWS_GATE: of gate or up alone) */
    int tiles, units;
    uint32_t unit_bytes;
};

static inline int packed_unit_cols(int kind) { return kind >= PACKED_Q8 ? 128 : 32; }
static inline uint32_t packed_unit_bytes(int kind)
{
    return kind == PACKED_F32 ? 2048u : kind == PACKED_Q8 ? 2176u : kind == PACKED_Q4_0 ? 1152u : kind == PACKED_Q4_1 ? 1280u : 1024u;
}
static inline int packed_tiles(int map, int rows, int head_dim)
{
    return map == ROWS_HEADS ? rows / head_dim * ((head_dim / 2 + 7) / 8) : map == ROWS_GATE ? (rows + 7) / 8 : (rows + 15) / 16;
}
static inline size_t packed_bytes(const struct packed *p) { return (size_t)p->tiles * (size_t)p->units * p->unit_bytes; }

/* KV cache: pages[page][layer][kv head]{ K [256][head_pad], V [256][head_pad] }, bf16 or f32; head_pad: head_dim rounded up to 8, the padding zero.
   A page table [n_seqs][pages_per_seq] on the device maps a timeline's slots. */
struct kv_shape {
    uint8_t *pages;
    const int32_t *table;
    size_t page_bytes;          /* all layers and heads of a page */
    int n_layers, n_kv_heads, n_heads, head_dim, head_pad, pages_per_seq;
    int f32;                    /* element type f32, else bf16 */
};

/* One row of a call, as the device sees it. */
struct step_row {
    int32_t token;              /* below zero: -1 - i stands for the token of pick i of the previous pick */
    int32_t pos, seq, slot, prefix, h;
    uint64_t also;
    int32_t page, at;           /* its own slot's page, and place in that page */
    int32_t straight;           /* its ancestors lie at the slots of their positions: it sees slots 0..pos in order */
};

/* The rows of one timeline in this call. */
struct step_group {
    int32_t seq, first, n;      /* order[first .. first + n) are its rows */
    int32_t chunks;             /* of the row that sees most */
    int32_t chunk0;             /* chunks of the groups before it */
    int32_t max_pos, min_pos;
    int32_t fresh;              /* the lowest slot that this pass writes: what lies below is there before the pass begins */
    int32_t straight, tree;     /* slot == position below straight for all its rows; from tree on, somebody's positions lie scattered (INT32_MAX: nobody's) */
};

struct step_ask {
    float temperature, top_p, min_p;
    int32_t top_k, n_top, masked; /* masked: the row has a mask */
    uint32_t choice;
    int32_t first_edit, n_edits;  /* its edits among those of the call */
    uint64_t seed;
};

/* What a call tells the device; copied there before its kernels run. */
struct step {
    int32_t n, n_groups, n_chunks, max_rows; /* max_rows: of a group */
    struct step_row row[STEP_ROWS];
    struct step_group group[STEP_ROWS];
    int32_t order[STEP_ROWS];
    int32_t order_pos[STEP_ROWS]; /* position of row order[i] */
    struct step_ask ask[STEP_ROWS];
};

/* Chunk c of the text covers positions [chunk_start(c), chunk_start(c + 1)). */
#ifdef __CUDACC__
__host__ __device__
#endif
static inline int chunk_start(int c) { return c <= WIDE_FROM / CHUNK_SLOTS ? c * CHUNK_SLOTS : WIDE_FROM + (c - WIDE_FROM / CHUNK_SLOTS) * CHUNK_WIDE; }
#ifdef __CUDACC__
__host__ __device__
#endif
static inline int chunk_of(int pos) { return pos < WIDE_FROM ? pos / CHUNK_SLOTS : WIDE_FROM / CHUNK_SLOTS + (pos - WIDE_FROM) / CHUNK_WIDE; }

#ifdef __cplusplus
}
#endif

#endif
