/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of a prompt's rows over their timeline's pages. A block is one head and the rows of 128 absolute positions, 16 a warp; it walks the 64-position
   blocks of keys in ascending order with a running maximum and sum. Which rows share a block and which keys are masked in it follow from positions alone.

   What a row must not see does not touch it: scores behind it are replaced, not added to, and since 0 * NaN is NaN, values in the blocks on the diagonal that are
   not finite count as zero there, and rows that do see one get NaN at the end. Positions behind the last row are zeros, whatever their slots hold. */
#include <math_constants.h>

#include "backend/cuda/prefill.h"
#include "backend/cuda/tensor.cuh"

enum { THREADS = 256, QUERIES = PREFILL_QUERIES, KEYS = PREFILL_KEYS };
static_assert(QUERIES == THREADS / 32 * 16 && PAGE_SLOTS % KEYS == 0 && QUERIES % KEYS == 0, "tiles");

/* K and V of KEYS positions, twice: [2]{ K [KEYS][DIM], V [KEYS][DIM] } bf16; piece i (16 bytes) of row r lies at place i ^ (r % 8). */
template <int DIM> static constexpr int shared_bytes(void) { return 2 * 2 * KEYS * DIM * 2; }

static __device__ __forceinline__ void store_piece(uint32_t to, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

/* A block's work, the same in all its threads. */
struct work {
    const uint8_t *base; /* of the layer and KV head in page 0 */
    const int32_t *table;
    int head, q0, end; /* query head; first position of the 128; behind the last row of the call */
};

template <int DIM> static __device__ __forceinline__ uint32_t piece_at(uint32_t tile, int row, int piece)
{
    return tile + row * DIM * 2 + (piece ^ (row & 7)) * 16;
}

/* Starts (bf16) or makes (f32) the copy of KEYS positions from `first` on. */
template <int DIM, bool WIDE>
static __device__ __forceinline__ void fetch_keys(const struct prefill_attend &a, const struct work &w, uint32_t tile, int first)
{
    constexpr int pieces = DIM / 8;
    const int size = WIDE ? 4 : 2;
    const uint8_t *from = w.base + (size_t)w.table[first / PAGE_SLOTS] * a.kv.page_bytes + (size_t)(first % PAGE_SLOTS) * (size_t)a.kv.head_pad * size;
    const size_t plane = (size_t)PAGE_SLOTS * (size_t)a.kv.head_pad * size;
#pragma unroll 4
    for (int i = 0; i < 2 * KEYS * pieces / THREADS; i++) {
        const int n = threadIdx.x + i * THREADS, v = n / (KEYS * pieces), row = n / pieces % KEYS, piece = n % pieces;
        const bool there = first + row < w.end && piece * 8 < a.kv.head_pad;
        const uint8_t *at = there ? from + (v ? plane : 0) + ((size_t)row * (size_t)a.kv.head_pad + (size_t)piece * 8) * size : w.base;
        const uint32_t to = piece_at<DIM>(tile + v * KEYS * DIM * 2, row, piece);
        if (WIDE) {
            float4 x = make_float4(0, 0, 0, 0), y = x;
            if (there) {
                x = *(const float4 *)at;
                y = *(const float4 *)(at + 16);
            }
            store_piece(to, bf16_pair(x.x, x.y), bf16_pair(x.z, x.w), bf16_pair(y.x, y.y), bf16_pair(y.z, y.w));
        } else {
            copy_piece(to, at, there ? 16 : 0);
        }
    }
    commit_copies();
}

static __device__ __forceinline__ bool finite_pair(uint32_t v) { return (v & 0x7f80u) != 0x7f80u && (v & 0x7f800000u) != 0x7f800000u; }

/* Values that are not finite become zeros; *bad: the lowest position that had one. */
template <int DIM> static __device__ __forceinline__ void clean_values(uint32_t values, int first, int *bad)
{
    constexpr int pieces = DIM / 8;
    for (int n = threadIdx.x; n < KEYS * pieces; n += THREADS) {
        const uint32_t at = piece_at<DIM>(values, n / pieces, n % pieces);
        uint32_t v[4];
        asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(at) : "memory");
        if (finite_pair(v[0]) && finite_pair(v[1]) && finite_pair(v[2]) && finite_pair(v[3]))
            continue;
        for (int i = 0; i < 4; i++) {
            v[i] &= (v[i] & 0x7f80u) == 0x7f80u ? 0xffff0000u : 0xffffffffu;
            v[i] &= (v[i] & 0x7f800000u) == 0x7f800000u ? 0x0000ffffu : 0xffffffffu;
        }
        store_piece(at, v[0], v[1], v[2], v[3]);
        atomicMin(bad, first + n / pieces);
    }
}

/* One k16 piece of a warp's 16 query rows as the A operand: rows g and g + 8 of positions w.q0 + 16 warp. Rows outside the call are zeros. */
static __device__ __forceinline__ void load_query(uint32_t *q, const struct prefill_attend &a, const struct work &w, int kk)
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int pos = w.q0 + threadIdx.x / 32 * 16 + g + (i & 1) * 8, dim = 16 * kk + 8 * (i >> 1) + 2 * t;
        const bool there = pos >= a.pos0 && pos < w.end && dim < a.kv.head_pad;
        q[i] = there ? *(const uint32_t *)(a.q + ((size_t)(pos - a.pos0) * (size_t)a.kv.n_heads + (size_t)w.head) * (size_t)a.kv.head_pad + dim) : 0;
    }
}

/* A thread's share of rows g and g + 8 of its warp. */
template <int DIM> struct rows {
    float o[DIM / 8][4], max[2], sum[2];
};

/* s[8 keys of 64] = q k, by ascending 16 dimensions; then what lies behind a row is masked, where the block is on the diagonal. */
template <int DIM>
static __device__ __forceinline__ void score(float (&s)[KEYS / 8][4], const struct prefill_attend &a, const struct work &w, const uint32_t *kept, uint32_t keys, int first)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
        s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
#pragma unroll(DIM > 128 ? 1 : DIM / 16)
    for (int kk = 0; kk < DIM / 16; kk++) {
        uint32_t fresh[4];
        if (DIM > 128)
            load_query(fresh, a, w, kk);
        const uint32_t *q = DIM > 128 ? fresh : kept + 4 * kk;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j += 2) {
            uint32_t b[4];
            load_matrices<false>(b, piece_at<DIM>(keys, (j + (lane >> 4)) * 8 + (lane & 7), 2 * kk + (lane >> 3 & 1)));
            mma(s[j], q, b[0], b[1]);
            mma(s[j + 1], q, b[2], b[3]);
        }
    }
    if (first < w.q0)
        return;
    const int row = w.q0 + threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (first + 8 * j + lane % 4 * 2 + (i & 1) > row + (i >> 1) * 8)
                s[j][i] = -CUDART_INF_F;
}

/* Scores become exp2(scale (s - maximum)), and what was summed so far is scaled to the new maximum. */
template <int DIM> static __device__ __forceinline__ void soften(struct rows<DIM> &r, float (&s)[KEYS / 8][4], float scale)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = r.max[h];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            top = fmaxf(top, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        const float old = exp2_fast((r.max[h] - top) * scale), shift = -top * scale;
        float sum = 0;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
            s[j][2 * h] = exp2_fast(fmaf(s[j][2 * h], scale, shift));
            s[j][2 * h + 1] = exp2_fast(fmaf(s[j][2 * h + 1], scale, shift));
            sum += s[j][2 * h] + s[j][2 * h + 1];
        }
        r.sum[h] = fmaf(r.sum[h], old, sum);
        r.max[h] = top;
#pragma unroll
        for (int j = 0; j < DIM / 8; j++) {
            r.o[j][2 * h] *= old;
            r.o[j][2 * h + 1] *= old;
        }
    }
}

/* o += p v, by ascending 16 positions */
template <int DIM> static __device__ __forceinline__ void add_values(struct rows<DIM> &r, const float (&s)[KEYS / 8][4], uint32_t values)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int kk = 0; kk < KEYS / 16; kk++) {
        const uint32_t p[4] = {bf16_pair(s[2 * kk][0], s[2 * kk][1]), bf16_pair(s[2 * kk][2], s[2 * kk][3]), bf16_pair(s[2 * kk + 1][0], s[2 * kk + 1][1]),
                               bf16_pair(s[2 * kk + 1][2], s[2 * kk + 1][3])};
#pragma unroll
        for (int j = 0; j < DIM / 8; j += 2) {
            uint32_t b[4];
            load_matrices<true>(b, piece_at<DIM>(values, 16 * kk + (lane >> 3 & 1) * 8 + (lane & 7), j + (lane >> 4)));
            mma(r.o[j], p, b[0], b[1]);
            mma(r.o[j + 1], p, b[2], b[3]);
        }
    }
}

/* Row h of a thread (g or g + 8) to the next product's activations: the pairs of four 8-column groups are one piece there. */
template <int DIM>
static __device__ __forceinline__ void put_row(const struct prefill_attend &a, const struct work &w, const struct rows<DIM> &r, int h, int pos, bool poisoned)
{
    const int t = threadIdx.x % 4, from = w.head * a.kv.head_dim;
    float sum = r.sum[h];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float scale = poisoned ? CUDART_NAN_F : 1.0f / sum;
    if (pos < a.pos0 || pos >= w.end)
        return;
    uint8_t *to = (uint8_t *)a.x_out;
    const int row = pos - a.pos0;
#pragma unroll
    for (int j = 0; j < DIM / 8; j += 4) {
        uint32_t word[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            word[i] = bf16_pair(r.o[j + i][2 * h] * scale, r.o[j + i][2 * h + 1] * scale);
        if ((from & 31) == 0 && 8 * j + 32 <= a.kv.head_dim) {
            *(uint4 *)(to + prefill_at(a.stride, row, from + 8 * j + 2 * t)) = make_uint4(word[0], word[1], word[2], word[3]);
            continue;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (8 * (j + i) + 2 * t < a.kv.head_dim)
                *(uint32_t *)(to + prefill_at(a.stride, row, from + 8 * (j + i) + 2 * t)) = word[i];
    }
}

static __device__ __forceinline__ struct work find_work(const struct prefill_attend &a, int size)
{
    struct work w;
    const int last = (a.pos0 + a.n - 1) / QUERIES; /* the longest first */
    w.head = blockIdx.x % a.kv.n_heads;
    w.q0 = (last - blockIdx.x / a.kv.n_heads) * QUERIES;
    w.end = a.pos0 + a.n;
    const int group = a.kv.n_heads / a.kv.n_kv_heads;
    w.base = a.kv.pages + ((size_t)a.layer * (size_t)a.kv.n_kv_heads + (size_t)(w.head / group)) * 2 * PAGE_SLOTS * (size_t)a.kv.head_pad * (size_t)size;
    w.table = a.kv.table + (size_t)a.seq * (size_t)a.kv.pages_per_seq;
    return w;
}

template <int DIM, bool WIDE> static __global__ void __launch_bounds__(THREADS, 1) attend_kernel(const __grid_constant__ struct prefill_attend a)
{
    extern __shared__ __align__(1024) uint8_t shared[];
    __shared__ int bad;
    pdl_go();
    pdl_wait();
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(shared), plane = KEYS * DIM * 2;
    const struct work w = find_work(a, WIDE ? 4 : 2);
    const int warp = threadIdx.x / 32, blocks = min(w.q0 / KEYS + QUERIES / KEYS, (w.end + KEYS - 1) / KEYS);
    const float scale = a.scale * 1.4426950408889634f;
    if (threadIdx.x == 0)
        bad = 0x7fffffff;
    uint32_t q[DIM > 128 ? 4 : DIM / 4];
    if (DIM <= 128)
#pragma unroll
        for (int kk = 0; kk < DIM / 16; kk++)
            load_query(q + 4 * kk, a, w, kk);
    struct rows<DIM> r;
#pragma unroll
    for (int j = 0; j < DIM / 8; j++)
        r.o[j][0] = r.o[j][1] = r.o[j][2] = r.o[j][3] = 0;
    r.max[0] = r.max[1] = -CUDART_INF_F;
    r.sum[0] = r.sum[1] = 0;
    fetch_keys<DIM, WIDE>(a, w, base, 0);
    for (int b = 0; b < blocks; b++) {
        const int first = b * KEYS;
        const uint32_t keys = base + (b & 1) * 2 * plane, values = keys + plane;
        if (b + 1 < blocks) {
            fetch_keys<DIM, WIDE>(a, w, base + (~b & 1) * 2 * plane, first + KEYS);
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        __syncthreads();
        if (first >= w.q0) {
            clean_values<DIM>(values, first, &bad);
            __syncthreads();
        }
        if (first <= w.q0 + warp * 16 + 15) { /* else all of it lies behind this warp's rows */
            float s[KEYS / 8][4];
            score<DIM>(s, a, w, q, keys, first);
            soften<DIM>(r, s, scale);
            add_values<DIM>(r, s, values);
        }
        __syncthreads();
    }
    const int pos = w.q0 + warp * 16 + threadIdx.x % 32 / 4;
    put_row<DIM>(a, w, r, 0, pos, pos >= bad);
    put_row<DIM>(a, w, r, 1, pos + 8, pos + 8 >= bad);
}

static const void *kernel_of(int head_dim, int wide)
{
    if (head_dim <= 64)
        return wide ? (const void *)attend_kernel<64, true> : (const void *)attend_kernel<64, false>;
    if (head_dim <= 128)
        return wide ? (const void *)attend_kernel<128, true> : (const void *)attend_kernel<128, false>;
    return wide ? (const void *)attend_kernel<256, true> : (const void *)attend_kernel<256, false>;
}

static int bytes_of(int head_dim) { return head_dim <= 64 ? shared_bytes<64>() : head_dim <= 128 ? shared_bytes<128>() : shared_bytes<256>(); }

extern "C" cudaError_t prefill_attend_prepare(void)
{
    for (int dim = 64; dim <= 256; dim *= 2)
        for (int wide = 0; wide < 2; wide++) {
            cudaError_t e = allow_shared(kernel_of(dim, wide), bytes_of(dim));
            if (e != cudaSuccess)
                return e;
        }
    return cudaSuccess;
}

extern "C" cudaError_t prefill_attend(struct launch l, const struct prefill_attend *a)
{
    const int tiles = (a->pos0 + a->n - 1) / QUERIES - a->pos0 / QUERIES + 1;
    void *args[] = {(void *)a};
    return launch_kernel(l, kernel_of(a->kv.head_dim, a->kv.f32), dim3(tiles * a->kv.n_heads), dim3(THREADS), (size_t)bytes_of(a->kv.head_dim), args);
}
