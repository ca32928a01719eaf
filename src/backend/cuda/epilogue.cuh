/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of the sums of a product: the same for every kernel that makes them. A block holds the sums of `height` packed rows (whole tiles, from tile `tile`
   on) for all rows of the call; fold(r, i) is the sum of packed row 16 tile + i for row r. 256 threads, all of which come here. */
#ifndef BACKEND_CUDA_EPILOGUE_CUH
#define BACKEND_CUDA_EPILOGUE_CUH

#include "backend/cuda/device.cuh"

enum { PRODUCT_THREADS = 256 };

static __device__ __forceinline__ void put_x(const struct product &p, int r, int n, float v)
{
    const size_t at = ((size_t)(n >> 5) * (size_t)p.bucket + (size_t)r) * 32 + (size_t)(n & 31);
    if (p.x_f32)
        ((float *)p.x_out)[at] = v;
    else
        ((uint16_t *)p.x_out)[at] = bf16_bits(v);
}

/* What a block keeps of the step: constant while the pass runs, so it is read before the wait. */
struct block_rows {
    float scale[STEP_ROWS]; /* the norm's scalar of each row */
    int32_t h[STEP_ROWS], page[STEP_ROWS], at[STEP_ROWS], pos[STEP_ROWS];
    int32_t n;
};

static __device__ __forceinline__ void fetch_rows(const struct product &p, struct block_rows &b)
{
    if (threadIdx.x < p.rows) {
        const struct step_row &row = p.step->row[threadIdx.x];
        b.h[threadIdx.x] = row.h;
        b.page[threadIdx.x] = row.page;
        b.at[threadIdx.x] = row.at;
        b.pos[threadIdx.x] = row.pos;
    }
    if (threadIdx.x == 0)
        b.n = p.step->n < p.rows ? p.step->n : p.rows;
}

static __device__ __forceinline__ void copy_word(float *to, const float *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}

/* The norms' scalars. For up to SQUARES_ROWS rows the block makes them itself: a row belongs to one warp; lane i adds squares i, i + 32, ..., then a butterfly
   (sum_squares in device.cuh). Where states are not too wide, the squares are on their way to `room` [p.rows][n_square] while the product is made, each read by the
   thread that asked for it. More rows would be read by every block anew: there cuda_scales has made the scalars. NT: rows / 8. */
enum { SQUARES_MOST = 512 };

static __host__ __device__ __forceinline__ bool squares_ahead(const struct product &p) { return p.square && p.bucket <= SQUARES_ROWS && p.n_square <= SQUARES_MOST; }

static __device__ __forceinline__ void fetch_scales(const struct product &p, struct block_rows &b)
{
    if (threadIdx.x < p.rows)
        b.scale[threadIdx.x] = p.square ? p.scale[threadIdx.x] : 1.0f;
}

template <int NT> static __device__ __forceinline__ void fetch_squares(const struct product &p, float *room, struct block_rows &b)
{
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    if constexpr (NT <= SQUARES_ROWS / 8) {
        for (int row = warp; row < p.rows && squares_ahead(p); row += PRODUCT_THREADS / 32)
            for (int i = lane; i < p.n_square; i += 32)
                copy_word(room + row * p.n_square + i, p.square + row * p.n_square + i);
        asm volatile("cp.async.commit_group;" ::: "memory");
    } else {
        fetch_scales(p, b);
    }
}

template <int NT> static __device__ __forceinline__ void finish_squares(const struct product &p, const float *room, struct block_rows &b)
{
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    if constexpr (NT > SQUARES_ROWS / 8)
        return;
    const float *from = room && squares_ahead(p) ? room : p.square;
    asm volatile("cp.async.wait_all;" ::: "memory");
#pragma unroll
    for (int k = 0; k < NT; k++) {
        const int row = warp + k * (PRODUCT_THREADS / 32);
        const float sum = p.square && row < p.rows ? sum_squares(from + (size_t)row * (size_t)p.n_square, p.n_square) : 0;
        if (lane == 0 && row < p.rows)
            b.scale[row] = p.square ? norm_scale(sum, p.square_scale, p.eps) : 1.0f;
    }
}

static __device__ __forceinline__ float bias_of(const struct product &p, int packed_row) { return p.bias ? p.bias[packed_row] : 0.0f; }

/* A pair of one head of a row: q to its buffer, k and v to the row's own slot. */
static __device__ __forceinline__ void put_pair(const struct product &p, const struct block_rows &b, int r, int head, int j, float lo, float hi, float cosine, float sine)
{
    const struct kv_shape &s = p.kv;
    const int half = s.head_dim / 2;
    if (head < p.n_heads + s.n_kv_heads) { /* rotary: q and k */
        const float x = lo * cosine - hi * sine, y = hi * cosine + lo * sine;
        lo = x;
        hi = y;
    }
    if (head < p.n_heads) {
        float *q = p.q + ((size_t)r * (size_t)p.n_heads + (size_t)head) * (size_t)s.head_pad;
        q[j] = lo;
        q[j + half] = hi;
        return;
    }
    head -= p.n_heads;
    const int is_v = head >= s.n_kv_heads;
    const size_t plane = (size_t)PAGE_SLOTS * (size_t)s.head_pad;
    const size_t at = (((size_t)b.page[r] * (size_t)s.n_layers + (size_t)p.layer) * (size_t)s.n_kv_heads + (size_t)(is_v ? head - s.n_kv_heads : head)) * 2 * plane +
                      (is_v ? plane : 0) + (size_t)b.at[r] * (size_t)s.head_pad + (size_t)j;
    if (s.f32) {
        ((float *)s.pages)[at] = lo;
        ((float *)s.pages)[at + half] = hi;
    } else {
        ((uint16_t *)s.pages)[at] = bf16_bits(lo);
        ((uint16_t *)s.pages)[at + half] = bf16_bits(hi);
    }
}

/* What an epilogue reads that is there before the sums are: fetched while the lanes' sums still meet. N: outputs of a thread. */
template <int N> struct ahead {
    float a[N], b[N];
};

/* Output k of this thread: of `width` outputs of a row the at-th. */
struct output {
    int r, at;
};

static __device__ __forceinline__ struct output output_at(int k, int width)
{
    const int i = threadIdx.x + k * PRODUCT_THREADS;
    return {i / width, i % width};
}

template <int N> static __device__ __forceinline__ void fetch_ahead(const struct product &p, const struct block_rows &b, int tile, int height, struct ahead<N> &x)
{
    const int half = p.kv.head_dim / 2, tiles_per_head = (half + 7) / 8;
    if (p.epilogue == EPI_ADD)
#pragma unroll
        for (int k = 0; k < N; k++) {
            const struct output o = output_at(k, height);
            const int out = tile * 16 + o.at;
            const bool there = o.r < b.n && out < p.w.rows;
            x.a[k] = there ? p.state[(size_t)b.h[o.r] * (size_t)p.state_stride + out] : 0.0f;
            x.b[k] = there && p.next_norm ? p.next_norm[out] : 0.0f;
        }
    if (p.epilogue == EPI_HEADS)
#pragma unroll
        for (int k = 0; k < (N + 1) / 2; k++) {
            const struct output o = output_at(k, height / 2);
            const int j = (tile + (o.at >> 3)) % tiles_per_head * 8 + (o.at & 7);
            const float2 angle = o.r < b.n && j < half ? ((const float2 *)p.angle)[(size_t)b.pos[o.r] * (size_t)half + j] : make_float2(0, 0);
            x.a[k] = angle.x;
            x.b[k] = angle.y;
        }
}

template <int N, class Fold>
static __device__ __forceinline__ void finish_heads(const struct product &p, const struct block_rows &b, int tile, int height, const struct ahead<N> &x, Fold fold)
{
    const int half = p.kv.head_dim / 2, tiles_per_head = (half + 7) / 8;
#pragma unroll
    for (int k = 0; k < (N + 1) / 2; k++) {
        const struct output o = output_at(k, height / 2);
        const int at = (o.at >> 3) * 16 + (o.at & 7), t = tile + (o.at >> 3), j = t % tiles_per_head * 8 + (o.at & 7);
        if (o.r < b.n && t < p.w.tiles && j < half)
            put_pair(p, b, o.r, p.head0 + t / tiles_per_head, j, fold(o.r, at) * b.scale[o.r] + bias_of(p, tile * 16 + at),
                     fold(o.r, at + 8) * b.scale[o.r] + bias_of(p, tile * 16 + at + 8), x.a[k], x.b[k]);
    }
}

/* 16 neighbouring threads hold the 16 outputs of a tile. */
template <int N, class Fold>
static __device__ __forceinline__ void finish_add(const struct product &p, const struct block_rows &b, int tile, int height, const struct ahead<N> &x, Fold fold)
{
#pragma unroll
    for (int k = 0; k < N; k++) {
        const struct output o = output_at(k, height);
        const int out = tile * 16 + o.at;
        float s = 0;
        if (o.r < b.n && out < p.w.rows) {
            s = x.a[k] + (fold(o.r, o.at) + bias_of(p, out));
            p.state[(size_t)b.h[o.r] * (size_t)p.state_stride + out] = s;
            if (p.next_norm)
                put_x(p, o.r, out, s * x.b[k]);
        }
        float square = s * s;
        for (int d = 8; d; d >>= 1)
            square += __shfl_xor_sync(0xffffffffu, square, d);
        if (p.next_norm && o.r < b.n && out / 16 < p.n_square_out && (threadIdx.x & 15) == 0)
            p.square_out[(size_t)o.r * (size_t)p.n_square_out + out / 16] = square;
    }
}

static __device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

/* The last block also clears what lies behind the last output. */
static __device__ __forceinline__ void clear_rest(const struct product &p, int from, int n)
{
    for (int c = from + threadIdx.x; c < p.x_out_units * 32; c += PRODUCT_THREADS)
        for (int r = 0; r < n; r++)
            put_x(p, r, c, 0.0f);
}

template <class Fold> static __device__ __forceinline__ void finish_gate(const struct product &p, int tile, int height, int n, const struct block_rows &b, Fold fold)
{
    for (int i = threadIdx.x; i < height / 2 * n; i += PRODUCT_THREADS) {
        const int r = i / (height / 2), m = i % (height / 2), at = (m >> 3) * 16 + (m & 7), out = tile * 8 + m;
        const float g = fold(r, at) * b.scale[r] + bias_of(p, tile * 16 + at), u = fold(r, at + 8) * b.scale[r] + bias_of(p, tile * 16 + at + 8);
        if (out < p.w.rows)
            put_x(p, r, out, silu(g) * u);
    }
    if (tile + height / 16 >= p.w.tiles)
        clear_rest(p, p.w.rows, n);
}

/* Gate and up of different kinds: the gate goes to p.out, and up meets it there. */
template <class Fold> static __device__ __forceinline__ void finish_apart(const struct product &p, int tile, int height, int n, const struct block_rows &b, Fold fold)
{
    for (int i = threadIdx.x; i < height * n; i += PRODUCT_THREADS) {
        const int r = i / height, at = i % height, out = tile * 16 + at;
        if (out >= p.w.rows)
            continue;
        const float v = fold(r, at) * b.scale[r] + bias_of(p, out);
        float *gate = p.out + (size_t)r * (size_t)p.out_stride + out;
        if (p.epilogue == EPI_STORE)
            *gate = v;
        else
            put_x(p, r, out, silu(*gate) * v);
    }
    if (p.epilogue == EPI_GATE_UP && tile + height / 16 >= p.w.tiles)
        clear_rest(p, p.w.rows, n);
}

template <class Fold> static __device__ __forceinline__ void finish_logits(const struct product &p, int tile, int height, int n, const struct block_rows &b, Fold fold)
{
    for (int i = threadIdx.x; i < (height * n + 31) / 32 * 32; i += PRODUCT_THREADS) {
        const int r = i / height, at = i % height, out = tile * 16 + at;
        float top = -INFINITY;
        if (r < n && out < p.w.rows) {
            const float v = fold(r, at) * b.scale[r];
            p.out[(size_t)r * (size_t)p.out_stride + out] = v;
            top = v == v ? v : INFINITY;
        }
        for (int d = 8; d; d >>= 1)
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
        if (r < n && out / 16 < p.w.tiles && (threadIdx.x & 15) == 0)
            p.tile_max[(size_t)r * (size_t)p.w.tiles + out / 16] = top;
    }
}

template <int N, class Fold>
static __device__ __forceinline__ void finish_product(const struct product &p, const struct block_rows &b, int tile, int height, const struct ahead<N> &x, Fold fold)
{
    switch (p.epilogue) {
    case EPI_HEADS: finish_heads(p, b, tile, height, x, fold); break;
    case EPI_ADD: finish_add(p, b, tile, height, x, fold); break;
    case EPI_GATE: finish_gate(p, tile, height, b.n, b, fold); break;
    case EPI_LOGITS: finish_logits(p, tile, height, b.n, b, fold); break;
    default: finish_apart(p, tile, height, b.n, b, fold);
    }
}

#endif
