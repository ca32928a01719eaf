/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of the trainer's sequences and its gradient, by blocks of 64 queries and 64 keys that never go to memory. A block of 4 warps has 64 rows, 16 a warp: queries
   (forward and dq), which walk the keys, or keys (dk and dv), which walk the query heads of their group and their queries. Each output has one owner that adds in a
   fixed order. Scores are computed again on the way back; of the forward pass only the logarithm of each row's sum is kept.

   Heads are padded to 64 or 128 columns of zeros, and so are rows behind a sample's last: such a query adds nothing to any key, such a key is masked by causality. */
#include <math_constants.h>

#include "backend/cuda/tensor.cuh"
#include "backend/cuda/train_kernels.h"

enum { THREADS = 128, BLOCK = 64, DELTA_THREADS = 256, DELTA_LANES = 16 };
static_assert(THREADS / 32 * 16 == BLOCK, "16 rows a warp");

static constexpr float LOG2_E = 1.4426950408889634f;

template <int DIM> static constexpr int tile_bytes(void) { return BLOCK * DIM * 2; } /* piece i (16 bytes) of row r lies at place i ^ (r % 8) */

/* ---- rows ---- */

/* One head's columns of one sample's rows. */
struct head {
    const __nv_bfloat16 *at; /* position 0 */
    size_t pitch;            /* elements from a position to the next */
};

static __device__ __forceinline__ struct head head_of(const void *x, const struct train_attention &a, int sample, int heads, int head)
{
    const size_t pitch = (size_t)heads * (size_t)a.head_dim;
    return {(const __nv_bfloat16 *)x + (size_t)sample * (size_t)a.length * pitch + (size_t)head * (size_t)a.head_dim, pitch};
}

static __device__ __forceinline__ const int32_t *starts_of(const struct train_attention &a, int sample)
{
    return a.start ? a.start + (size_t)(a.sample ? a.sample[sample] : sample) * (size_t)a.length : nullptr;
}

static __device__ __forceinline__ int start_at(const int32_t *start, int pos, int length)
{
    return start && pos < length ? max(0, min(start[pos], pos)) : 0;
}

/* Starts the copy of BLOCK positions from `first` on. */
template <int DIM> static __device__ __forceinline__ void fetch(uint32_t tile, struct head h, int first, const struct train_attention &a)
{
    constexpr int pieces = DIM / 8, rows = THREADS / pieces; /* rows at once: a multiple of 8 */
    const int row = threadIdx.x / pieces, piece = threadIdx.x % pieces, left = piece * 8 < a.head_dim ? a.length - first - row : 0;
    const __nv_bfloat16 *from = h.at + (size_t)(first + row) * h.pitch + piece * 8;
    const uint32_t to = tile + row * DIM * 2 + (piece ^ (row & 7)) * 16;
#pragma unroll
    for (int i = 0; i < BLOCK / rows; i++) {
        copy_piece(to + i * rows * DIM * 2, i * rows < left ? from : h.at, i * rows < left ? 16 : 0);
        from += rows * h.pitch;
    }
}

/* A warp's 16 rows as the A operand: a thread has rows g and g + 8, columns 2 t and 8 + 2 t of each 16. */
template <int DIM> static __device__ __forceinline__ void load_rows(uint32_t (&r)[DIM / 16][4], struct head h, int first, const struct train_attention &a)
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int kk = 0; kk < DIM / 16; kk++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int pos = first + g + (i & 1) * 8, dim = 16 * kk + 8 * (i >> 1) + 2 * t;
            r[kk][i] = pos < a.length && dim < a.head_dim ? *(const uint32_t *)(h.at + (size_t)pos * h.pitch + dim) : 0;
        }
}

/* Where a lane's matrices lie in a tile: below, beside (0 or 1): the lane's is 8 rows further down, 8 columns further right. For columns from 8 p on, p even, the
   lane's row is at at + along(p). */
template <int DIM> struct lane_place {
    uint32_t at, flip;
    __device__ __forceinline__ lane_place(uint32_t tile, int below, int beside)
    {
        const int row = threadIdx.x & 7;
        at = tile + (row + below * 8) * DIM * 2;
        flip = (beside ^ row) * 16;
    }
    __device__ __forceinline__ uint32_t along(int piece) const { return (piece >> 3) * 128 + (flip ^ ((piece & 7) * 16)); }
};

/* bf16 of factor o to the rows that there are. */
template <int DIM>
static __device__ __forceinline__ void put_rows(struct head h, const float (&o)[DIM / 8][4], int first, float factor0, float factor1, const struct train_attention &a)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int pos = first + lane / 4 + half * 8;
        const float factor = half ? factor1 : factor0;
        if (pos >= a.length)
            continue;
        uint32_t *to = (uint32_t *)(h.at + (size_t)pos * h.pitch) + lane % 4;
#pragma unroll
        for (int j = 0; j < DIM / 8; j++)
            if (8 * j < a.head_dim)
                to[4 * j] = bf16_pair(o[j][2 * half] * factor, o[j][2 * half + 1] * factor);
    }
}

/* ---- products: s has 16 rows by BLOCK columns, a thread rows g and g + 8, columns 8 j + 2 t and the next ---- */

template <int N> static __device__ __forceinline__ void clear(float (&s)[N][4])
{
#pragma unroll
    for (int j = 0; j < N; j++)
        s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
}

/* s += rows of A, 16 columns of them, times the rows of a tile */
template <int DIM> static __device__ __forceinline__ void multiply16(float (&s)[BLOCK / 8][4], const uint32_t *rows, const lane_place<DIM> &tile, int kk)
{
    const uint32_t at = tile.at + tile.along(2 * kk);
#pragma unroll
    for (int j = 0; j < BLOCK / 8; j += 2) {
        uint32_t b[4];
        load_matrices<false>(b, at + j * 8 * DIM * 2);
        mma(s[j], rows, b[0], b[1]);
        mma(s[j + 1], rows, b[2], b[3]);
    }
}

/* s = rows in registers times the rows of a tile */
template <int DIM> static __device__ __forceinline__ void multiply(float (&s)[BLOCK / 8][4], const uint32_t (&rows)[DIM / 16][4], uint32_t tile)
{
    const int lane = threadIdx.x % 32;
    const lane_place<DIM> columns(tile, lane >> 4, lane >> 3 & 1);
    clear(s);
#pragma unroll
    for (int kk = 0; kk < DIM / 16; kk++)
        multiply16<DIM>(s, rows[kk], columns, kk);
}

/* s = this warp's rows of one tile times the rows of another */
template <int DIM> static __device__ __forceinline__ void multiply_tiles(float (&s)[BLOCK / 8][4], uint32_t rows, uint32_t tile)
{
    const int lane = threadIdx.x % 32;
    const lane_place<DIM> mine(rows + threadIdx.x / 32 * 16 * DIM * 2, lane >> 3 & 1, lane >> 4), columns(tile, lane >> 4, lane >> 3 & 1);
    clear(s);
#pragma unroll
    for (int kk = 0; kk < DIM / 16; kk++) {
        uint32_t fresh[4];
        load_matrices<false>(fresh, mine.at + mine.along(2 * kk));
        multiply16<DIM>(s, fresh, columns, kk);
    }
}

/* 16 rows by BLOCK columns as the A operand: rounded to bf16. */
static __device__ __forceinline__ void pack(uint32_t (&p)[BLOCK / 16][4], const float (&s)[BLOCK / 8][4])
{
#pragma unroll
    for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            p[j / 2][j % 2 * 2 + h] = bf16_pair(s[j][2 * h], s[j][2 * h + 1]);
}

/* o += p y; y: the rows of a tile */
template <int DIM> static __device__ __forceinline__ void mix(float (&o)[DIM / 8][4], const uint32_t (&p)[BLOCK / 16][4], uint32_t tile)
{
    const int lane = threadIdx.x % 32;
    const lane_place<DIM> turned(tile, lane >> 3 & 1, lane >> 4);
#pragma unroll
    for (int kk = 0; kk < BLOCK / 16; kk++)
#pragma unroll
        for (int j = 0; j < DIM / 8; j += 2) {
            uint32_t b[4];
            load_matrices<true>(b, turned.at + turned.along(j) + kk * 16 * DIM * 2);
            mma(o[j], p[kk], b[0], b[1]);
            mma(o[j + 1], p[kk], b[2], b[3]);
        }
}

/* ---- a block of queries ---- */

struct queries {
    int sample, head, first, row; /* first: of the block; row: of the warp, both positions */
    int start[2];                 /* of this thread's rows: row + g, row + g + 8 */
    int low, high;                /* least and most start of the block */
    struct head k, v;
};

static __device__ __forceinline__ struct queries find_queries(const struct train_attention &a)
{
    struct queries w;
    const int lane = threadIdx.x % 32, blocks = (a.length + BLOCK - 1) / BLOCK;
    w.head = blockIdx.x % a.n_heads;
    w.sample = blockIdx.x / a.n_heads % a.samples;
    w.first = (blocks - 1 - (int)(blockIdx.x / a.n_heads / a.samples)) * BLOCK; /* the longest first */
    w.row = w.first + threadIdx.x / 32 * 16;
    const int32_t *start = starts_of(a, w.sample);
    w.start[0] = start_at(start, w.row + lane / 4, a.length);
    w.start[1] = start_at(start, w.row + lane / 4 + 8, a.length);
    w.low = w.high = 0;
    if (start) { /* every warp looks at all 64; the first is always there */
        const int x = start_at(start, min(w.first + lane, a.length - 1), a.length), y = start_at(start, min(w.first + 32 + lane, a.length - 1), a.length);
        w.low = __reduce_min_sync(0xffffffffu, min(x, y));
        w.high = __reduce_max_sync(0xffffffffu, max(x, y));
    }
    const int kv = w.head / (a.n_heads / a.n_kv_heads);
    w.k = head_of(a.k, a, w.sample, a.n_kv_heads, kv);
    w.v = head_of(a.v, a, w.sample, a.n_kv_heads, kv);
    return w;
}

/* What a row of the block does not see among the keys from `first` on becomes `hidden`. */
static __device__ __forceinline__ void mask_keys(float (&s)[BLOCK / 8][4], const struct queries &w, int first, float hidden)
{
    if (first != w.first && first >= w.high)
        return;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = first + 8 * j + lane % 4 * 2 + (i & 1), pos = w.row + lane / 4 + (i >> 1) * 8;
            if (key > pos || key < w.start[i >> 1])
                s[j][i] = hidden;
        }
}

/* K and V of a block: [2]{ K, V } of tiles. */
template <int DIM> static __device__ __forceinline__ void fetch_keys(const struct train_attention &a, const struct queries &w, uint32_t tiles, int first)
{
    fetch<DIM>(tiles, w.k, first, a);
    fetch<DIM>(tiles + tile_bytes<DIM>(), w.v, first, a);
    commit_copies();
}

/* Waits for the tiles of the keys from `first` on and starts the copy of those behind them. Ends with all threads together; so must the use of the tiles. */
template <int DIM> static __device__ __forceinline__ uint32_t next_keys(const struct train_attention &a, const struct queries &w, uint32_t base, int first)
{
    const int turn = first / BLOCK & 1;
    if (first < w.first) {
        fetch_keys<DIM>(a, w, base + (turn ^ 1) * 2 * tile_bytes<DIM>(), first + BLOCK);
        wait_copies<1>();
    } else {
        wait_copies<0>();
    }
    __syncthreads();
    return base + turn * 2 * tile_bytes<DIM>();
}

/* ---- forward ---- */

/* Scores become exp2(scale (s - maximum)), and what was summed so far is scaled to the new maximum. */
template <int DIM> static __device__ __forceinline__ void soften(float (&s)[BLOCK / 8][4], float (&o)[DIM / 8][4], float (&most)[2], float (&sum)[2], float scale)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = most[h];
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++)
            top = fmaxf(top, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        const float shift = top == -CUDART_INF_F ? 0 : -top * scale; /* a row may see nothing of its first blocks */
        const float old = exp2_fast(fmaf(most[h], scale, shift));
        float fresh = 0;
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++) {
            s[j][2 * h] = exp2_fast(fmaf(s[j][2 * h], scale, shift));
            s[j][2 * h + 1] = exp2_fast(fmaf(s[j][2 * h + 1], scale, shift));
            fresh += s[j][2 * h] + s[j][2 * h + 1];
        }
        sum[h] = fmaf(sum[h], old, fresh);
        most[h] = top;
#pragma unroll
        for (int j = 0; j < DIM / 8; j++) {
            o[j][2 * h] *= old;
            o[j][2 * h + 1] *= old;
        }
    }
}

template <int DIM> static __global__ void __launch_bounds__(THREADS, DIM == 64 ? 3 : 2) forward_kernel(const __grid_constant__ struct train_attention a)
{
    extern __shared__ __align__(1024) uint8_t shared[];
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);
    const struct queries w = find_queries(a);
    const int lane = threadIdx.x % 32, from = w.low / BLOCK * BLOCK;
    const float scale = a.scale * LOG2_E;
    fetch_keys<DIM>(a, w, base + (from / BLOCK & 1) * 2 * tile_bytes<DIM>(), from);
    uint32_t q[DIM / 16][4];
    load_rows<DIM>(q, head_of(a.q, a, w.sample, a.n_heads, w.head), w.row, a);
    float o[DIM / 8][4], most[2] = {-CUDART_INF_F, -CUDART_INF_F}, sum[2] = {0, 0};
    clear(o);
    for (int first = from; first <= w.first; first += BLOCK) {
        const uint32_t tiles = next_keys<DIM>(a, w, base, first);
        float s[BLOCK / 8][4];
        multiply<DIM>(s, q, tiles);
        mask_keys(s, w, first, -CUDART_INF_F);
        soften<DIM>(s, o, most, sum, scale);
        uint32_t p[BLOCK / 16][4];
        pack(p, s);
        mix<DIM>(o, p, tiles + tile_bytes<DIM>());
        __syncthreads();
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        const int pos = w.row + lane / 4 + 8 * h;
        if (lane % 4 == 0 && pos < a.length)
            a.stat[((size_t)w.sample * (size_t)a.length + (size_t)pos) * (size_t)a.n_heads + (size_t)w.head] = fmaf(most[h], a.scale, logf(sum[h]));
    }
    put_rows<DIM>(head_of(a.out, a, w.sample, a.n_heads, w.head), o, w.row, 1.0f / sum[0], 1.0f / sum[1], a);
}

/* ---- backward: delta, the sum of d_out * out of a row's head; 16 lanes each ---- */

static __global__ void __launch_bounds__(DELTA_THREADS) delta_kernel(const __grid_constant__ struct train_attention a)
{
    const size_t i = (size_t)blockIdx.x * (DELTA_THREADS / DELTA_LANES) + threadIdx.x / DELTA_LANES;
    const int piece = threadIdx.x % DELTA_LANES;
    const bool there = i < (size_t)a.samples * (size_t)a.length * (size_t)a.n_heads;
    float sum = 0;
    if (there && piece * 8 < a.head_dim) {
        const size_t at = i * (size_t)a.head_dim + piece * 8;
        const uint4 x = *(const uint4 *)((const uint16_t *)a.out + at), y = *(const uint4 *)((const uint16_t *)a.d_out + at);
        const uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int e = 0; e < 4; e++)
            sum = fmaf(bf16_high(xs[e]), bf16_high(ys[e]), fmaf(bf16_low(xs[e]), bf16_low(ys[e]), sum));
    }
#pragma unroll
    for (int lanes = DELTA_LANES / 2; lanes; lanes /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (there && piece == 0)
        a.delta[i] = sum;
}

/* ---- backward: dq ---- */

/* A query's stat (to the base of 2) or delta; behind the last: 0. */
static __device__ __forceinline__ float of_query(const float *x, const struct train_attention &a, const struct queries &w, int pos)
{
    return pos < a.length ? x[((size_t)w.sample * (size_t)a.length + (size_t)pos) * (size_t)a.n_heads + (size_t)w.head] : 0;
}

template <int DIM> static __global__ void __launch_bounds__(THREADS, DIM == 64 ? 3 : 2) dq_kernel(const __grid_constant__ struct train_attention a)
{
    extern __shared__ __align__(1024) uint8_t shared[];
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);
    const struct queries w = find_queries(a);
    const int lane = threadIdx.x % 32, from = w.low / BLOCK * BLOCK;
    const float scale = a.scale * LOG2_E;
    fetch_keys<DIM>(a, w, base + (from / BLOCK & 1) * 2 * tile_bytes<DIM>(), from);
    uint32_t q[DIM / 16][4], d_out[DIM / 16][4];
    load_rows<DIM>(q, head_of(a.q, a, w.sample, a.n_heads, w.head), w.row, a);
    load_rows<DIM>(d_out, head_of(a.d_out, a, w.sample, a.n_heads, w.head), w.row, a);
    float stat[2], delta[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        stat[h] = of_query(a.stat, a, w, w.row + lane / 4 + 8 * h) * LOG2_E;
        delta[h] = of_query(a.delta, a, w, w.row + lane / 4 + 8 * h);
    }
    float dq[DIM / 8][4];
    clear(dq);
    for (int first = from; first <= w.first; first += BLOCK) {
        const uint32_t tiles = next_keys<DIM>(a, w, base, first);
        float s[BLOCK / 8][4], ds[BLOCK / 8][4];
        multiply<DIM>(s, q, tiles);
        mask_keys(s, w, first, -CUDART_INF_F);
        multiply<DIM>(ds, d_out, tiles + tile_bytes<DIM>());
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                ds[j][i] = exp2_fast(fmaf(s[j][i], scale, -stat[i >> 1])) * (ds[j][i] - delta[i >> 1]);
        uint32_t p[BLOCK / 16][4];
        pack(p, ds);
        mix<DIM>(dq, p, tiles);
        __syncthreads();
    }
    put_rows<DIM>(head_of(a.dq, a, w.sample, a.n_heads, w.head), dq, w.row, a.scale, a.scale, a);
}

/* ---- backward: dk and dv ---- */

/* What goes with a block of queries. */
struct of_queries {
    float stat[BLOCK], delta[BLOCK];
    int32_t start[BLOCK];
};

struct keys {
    int sample, kv, first, row; /* first: of the block; row: of the warp */
    int blocks;                 /* of queries that may see a key of the block, from its own on */
    const int32_t *start;
};

/* The last query that sees a key of the block, by all threads. */
static __device__ __forceinline__ int last_query(const struct train_attention &a, const struct keys &w)
{
    __shared__ int last[THREADS / 32];
    int mine = w.first;
    for (int pos = w.first + threadIdx.x; pos < a.length; pos += THREADS)
        if (w.start[pos] < w.first + BLOCK)
            mine = pos;
    mine = __reduce_max_sync(0xffffffffu, mine);
    if (threadIdx.x % 32 == 0)
        last[threadIdx.x / 32] = mine;
    __syncthreads();
    for (int i = 0; i < THREADS / 32; i++)
        mine = max(mine, last[i]);
    return mine;
}

static __device__ __forceinline__ struct keys find_keys(const struct train_attention &a)
{
    struct keys w;
    w.kv = blockIdx.x % a.n_kv_heads;
    w.sample = blockIdx.x / a.n_kv_heads % a.samples;
    w.first = blockIdx.x / a.n_kv_heads / a.samples * BLOCK; /* the longest first */
    w.row = w.first + threadIdx.x / 32 * 16;
    w.start = starts_of(a, w.sample);
    w.blocks = ((w.start ? last_query(a, w) : a.length - 1) - w.first) / BLOCK + 1;
    return w;
}

/* Starts the copy of the n-th block of queries: head by head, ascending. tiles: { q, d_out } */
template <int DIM>
static __device__ __forceinline__ void fetch_queries(const struct train_attention &a, const struct keys &w, int n, uint32_t tiles, struct of_queries *with)
{
    const int head = w.kv * (a.n_heads / a.n_kv_heads) + n / w.blocks, first = w.first + n % w.blocks * BLOCK;
    fetch<DIM>(tiles, head_of(a.q, a, w.sample, a.n_heads, head), first, a);
    fetch<DIM>(tiles + tile_bytes<DIM>(), head_of(a.d_out, a, w.sample, a.n_heads, head), first, a);
    const int i = threadIdx.x % BLOCK, pos = first + i;
    const bool there = pos < a.length;
    const size_t at = ((size_t)w.sample * (size_t)a.length + (size_t)(there ? pos : 0)) * (size_t)a.n_heads + (size_t)head;
    if (threadIdx.x < BLOCK) {
        copy_word(&with->stat[i], a.stat + at, there);
        if (w.start)
            copy_word(&with->start[i], w.start + (there ? pos : 0), there);
    } else {
        copy_word(&with->delta[i], a.delta + at, there);
    }
    commit_copies();
}

/* Rows are keys, columns the queries from `first` on: what a query does not see counts as minus infinity. */
static __device__ __forceinline__ void mask_queries(float (&s)[BLOCK / 8][4], const struct of_queries *with, const struct keys &w, int first)
{
    const int t = threadIdx.x % 4 * 2, key = w.row + threadIdx.x % 32 / 4;
    if (first == w.first)
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (key + (i >> 1) * 8 > first + 8 * j + t + (i & 1))
                    s[j][i] = -CUDART_INF_F;
    if (w.start)
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (key + (i >> 1) * 8 < min(with->start[8 * j + t + (i & 1)], first + 8 * j + t + (i & 1)))
                    s[j][i] = -CUDART_INF_F;
}

/* Scores become probabilities. */
static __device__ __forceinline__ void soften_again(float (&s)[BLOCK / 8][4], const struct of_queries *with, float scale)
{
    const int t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const float shift = -with->stat[8 * j + t + e] * LOG2_E;
            s[j][e] = exp2_fast(fmaf(s[j][e], scale, shift));
            s[j][2 + e] = exp2_fast(fmaf(s[j][2 + e], scale, shift));
        }
}

/* Probabilities and the scores' gradients (without the scale) of a block of queries, ready for the products; tiles: { q, d_out } */
template <int DIM>
static __device__ __forceinline__ void chances(uint32_t (&p)[BLOCK / 16][4], uint32_t (&ds)[BLOCK / 16][4], uint32_t k_tile, uint32_t v_tile, uint32_t tiles,
                                               const struct of_queries *with, const struct keys &w, int first, float scale)
{
    const int lane = threadIdx.x % 32;
    float s[BLOCK / 8][4], d[BLOCK / 8][4];
    multiply_tiles<DIM>(s, k_tile, tiles);
    mask_queries(s, with, w, first);
    soften_again(s, with, scale);
    multiply_tiles<DIM>(d, v_tile, tiles + tile_bytes<DIM>());
    pack(p, s);
#pragma unroll
    for (int j = 0; j < BLOCK / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            d[j][i] = s[j][i] * (d[j][i] - with->delta[8 * j + lane % 4 * 2 + (i & 1)]);
    pack(ds, d);
}

template <int DIM> static __global__ void __launch_bounds__(THREADS, DIM == 64 ? 3 : 2) dkv_kernel(const __grid_constant__ struct train_attention a)
{
    extern __shared__ __align__(1024) uint8_t shared[];
    constexpr int TILE = tile_bytes<DIM>();
    __shared__ struct of_queries with[2];
    const uint32_t k_tile = (uint32_t)__cvta_generic_to_shared(shared), v_tile = k_tile + TILE, stages = k_tile + 2 * TILE;
    const struct keys w = find_keys(a);
    const int n_blocks = a.n_heads / a.n_kv_heads * w.blocks;
    const float scale = a.scale * LOG2_E;
    fetch<DIM>(k_tile, head_of(a.k, a, w.sample, a.n_kv_heads, w.kv), w.first, a);
    fetch<DIM>(v_tile, head_of(a.v, a, w.sample, a.n_kv_heads, w.kv), w.first, a);
    fetch_queries<DIM>(a, w, 0, stages, &with[0]); /* one group with K and V */
    float dk[DIM / 8][4], dv[DIM / 8][4];
    clear(dk);
    clear(dv);
    for (int n = 0; n < n_blocks; n++) {
        const int turn = n & 1;
        if (n + 1 < n_blocks) {
            fetch_queries<DIM>(a, w, n + 1, stages + (turn ^ 1) * 2 * TILE, &with[turn ^ 1]);
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        __syncthreads();
        const uint32_t q = stages + turn * 2 * TILE, d_out = q + TILE;
        uint32_t p[BLOCK / 16][4], ds[BLOCK / 16][4];
        chances<DIM>(p, ds, k_tile, v_tile, q, &with[turn], w, w.first + n % w.blocks * BLOCK, scale);
        mix<DIM>(dv, p, d_out);
        mix<DIM>(dk, ds, q);
        __syncthreads();
    }
    put_rows<DIM>(head_of(a.dk, a, w.sample, a.n_kv_heads, w.kv), dk, w.row, a.scale, a.scale, a);
    put_rows<DIM>(head_of(a.dv, a, w.sample, a.n_kv_heads, w.kv), dv, w.row, 1, 1, a);
}

/* ---- launches ---- */

template <int DIM> static cudaError_t prepare(void)
{
    cudaError_t e = allow_shared((const void *)forward_kernel<DIM>, 4 * tile_bytes<DIM>());
    if (e == cudaSuccess)
        e = allow_shared((const void *)dq_kernel<DIM>, 4 * tile_bytes<DIM>());
    return e == cudaSuccess ? allow_shared((const void *)dkv_kernel<DIM>, 6 * tile_bytes<DIM>()) : e;
}

extern "C" cudaError_t train_attention_prepare(void)
{
    const cudaError_t e = prepare<64>();
    return e == cudaSuccess ? prepare<128>() : e;
}

static cudaError_t start_kernel(cudaStream_t s, const struct train_attention *a, const void *kernel, size_t blocks, int threads, size_t shared)
{
    struct launch l = {};
    l.stream = s;
    void *args[] = {(void *)a};
    return blocks ? launch_kernel(l, kernel, dim3((unsigned)blocks), dim3(threads), shared, args) : cudaSuccess;
}

template <int DIM> static cudaError_t forward(cudaStream_t s, const struct train_attention *a)
{
    const size_t blocks = (size_t)((a->length + BLOCK - 1) / BLOCK) * (size_t)a->samples;
    return start_kernel(s, a, (const void *)forward_kernel<DIM>, blocks * (size_t)a->n_heads, THREADS, 4 * tile_bytes<DIM>());
}

template <int DIM> static cudaError_t backward(cudaStream_t s, const struct train_attention *a)
{
    const size_t blocks = (size_t)((a->length + BLOCK - 1) / BLOCK) * (size_t)a->samples, of_delta = DELTA_THREADS / DELTA_LANES;
    const size_t sums = (size_t)a->samples * (size_t)a->length * (size_t)a->n_heads;
    cudaError_t e = start_kernel(s, a, (const void *)delta_kernel, (sums + of_delta - 1) / of_delta, DELTA_THREADS, 0);
    if (e == cudaSuccess)
        e = start_kernel(s, a, (const void *)dkv_kernel<DIM>, blocks * (size_t)a->n_kv_heads, THREADS, 6 * tile_bytes<DIM>());
    return e == cudaSuccess ? start_kernel(s, a, (const void *)dq_kernel<DIM>, blocks * (size_t)a->n_heads, THREADS, 4 * tile_bytes<DIM>()) : e;
}

extern "C" cudaError_t train_attention_forward(cudaStream_t s, const struct train_attention *a)
{
    return a->head_dim <= 64 ? forward<64>(s, a) : forward<128>(s, a);
}

extern "C" cudaError_t train_attention_backward(cudaStream_t s, const struct train_attention *a)
{
    return a->head_dim <= 64 ? backward<64>(s, a) : backward<128>(s, a);
}
