/* SPDX-License-Identifier: Apache-2.0 */
/* Distributions over tokens, a block a row: what a row says (maximum, sum, likeliest token), what an exit loses against the target and the references, and the
   gradient of its logits. A thread sums few numbers in f32, threads are summed in double. */
#include "backend/cuda/device.cuh"
#include "backend/cuda/train_rows.h"

enum { LOSS_THREADS = 512, LOSS_WARPS = LOSS_THREADS / 32 };

/* The least sum of minima that counts, so that the loss stays finite where p and q share nothing that f32 can hold. */
#define LEAST_SHARED 1e-30

/* ---- over the block ---- */

/* The sum of all threads' numbers, in every thread: lanes in pairs, then warps in order. */
static __device__ double block_sum(double v)
{
    __shared__ double part[LOSS_WARPS];
    for (int d = 16; d; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    __syncthreads(); /* the sum before was read */
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    double sum = part[0];
    for (int i = 1; i < LOSS_WARPS; i++)
        sum += part[i];
    return sum;
}

static __device__ __forceinline__ void take_better(float &max, int &id, float other, int other_id)
{
    if (other > max || (other == max && other_id < id)) {
        max = other;
        id = other_id;
    }
}

/* The largest of all threads' numbers and its lowest place, in every thread. */
static __device__ void block_best(float &max, int &id)
{
    __shared__ float part[LOSS_WARPS];
    __shared__ int place[LOSS_WARPS];
    for (int d = 16; d; d /= 2)
        take_better(max, id, __shfl_xor_sync(0xffffffffu, max, d), __shfl_xor_sync(0xffffffffu, id, d));
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = max;
        place[threadIdx.x / 32] = id;
    }
    __syncthreads();
    max = part[0];
    id = place[0];
    for (int i = 1; i < LOSS_WARPS; i++)
        take_better(max, id, part[i], place[i]);
}

/* ---- a row ---- */

/* What a thread has seen: the sum is of exp(z - max). */
struct seen {
    float max, sum;
    int id;
    bool finite;
};

static __device__ __forceinline__ void see(struct seen &s, const float *v, int at, int count)
{
    float top = v[0];
    int id = at;
#pragma unroll
    for (int i = 1; i < 4; i++)
        if (i < count && v[i] > top) {
            top = v[i];
            id = at + i;
        }
    if (top > s.max) {
        s.sum *= expf(s.max - top);
        s.max = top;
        s.id = id;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i < count) {
            s.sum += expf(v[i] - s.max);
            s.finite = s.finite && isfinite(v[i]);
        }
}

/* The same in every thread. */
static __device__ struct train_stat describe(const float *z, int vocab)
{
    struct seen s = {-INFINITY, 0, 0x7fffffff, true};
    for (int c = threadIdx.x * 4; c < vocab; c += LOSS_THREADS * 4) {
        const float4 v = *(const float4 *)(z + c);
        const float values[4] = {v.x, v.y, v.z, v.w};
        see(s, values, c, vocab - c);
    }
    float max = s.max;
    int id = s.id;
    block_best(max, id);
    const double sum = block_sum(s.sum > 0 || s.sum != s.sum ? (double)s.sum * (double)expf(s.max - max) : 0.0);
    const int finite = __syncthreads_and(s.finite);
    struct train_stat out = {(double)max + log(sum), max, (float)(1 / sum), id, finite};
    return out;
}

static __global__ void __launch_bounds__(LOSS_THREADS) describe_kernel(struct train_stat *out, const float *z, int vocab, int pad)
{
    const struct train_stat s = describe(z + (size_t)blockIdx.x * (size_t)pad, vocab);
    if (threadIdx.x == 0)
        out[blockIdx.x] = s;
}

extern "C" cudaError_t cuda_train_describe(cudaStream_t s, struct train_stat *out, const float *z, int rows, int vocab, int pad)
{
    void *args[] = {&out, &z, &vocab, &pad};
    return launch_kernel({s}, (const void *)describe_kernel, dim3(rows), dim3(LOSS_THREADS), 0, args);
}

/* ---- losses ---- */

/* How a row's distribution q lies to others: p the last layer's, p0 the anchor's. */
struct contrast {
    double kl, least, below; /* KL(p || q); sum of min(p, q); sum of q where q < p */
    double anchor;           /* KL(p0 || q) */
};

/* A row's logits and what they say; z NULL: not asked for. */
struct side {
    const float *z;
    float max, scale;
};

static __device__ __forceinline__ struct side side_of(const float *z, int pad, const struct train_stat &s)
{
    struct side out = {z ? z + (size_t)blockIdx.x * (size_t)pad : NULL, s.max, s.scale};
    return out;
}

static __device__ __forceinline__ float probability(const struct side &s, float z) { return expf(z - s.max) * s.scale; }

static __device__ __forceinline__ void fetch(float *to, const float *z, int c)
{
    const float4 v = z ? *(const float4 *)(z + c) : make_float4(0, 0, 0, 0);
    to[0] = v.x;
    to[1] = v.y;
    to[2] = v.z;
    to[3] = v.w;
}

/* The logarithms of p and q differ by z_p - z_q and a number that is the same for all tokens: the caller adds that. */
static __device__ struct contrast compare(const struct side &q, const struct side &p, const struct side &p0, int vocab)
{
    float kl = 0, least = 0, below = 0, anchor = 0;
    for (int c = threadIdx.x * 4; c < vocab; c += LOSS_THREADS * 4) {
        float zq[4], zp[4], z0[4];
        fetch(zq, q.z, c);
        fetch(zp, p.z, c);
        fetch(z0, p0.z, c);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (c + i >= vocab)
                continue;
            if (p.z) {
                const float vq = probability(q, zq[i]), vp = probability(p, zp[i]);
                kl = fmaf(vp, zp[i] - zq[i], kl);
                least += vq < vp ? vq : vp;
                below += vq < vp ? vq : 0.0f;
            }
            if (p0.z)
                anchor = fmaf(probability(p0, z0[i]), z0[i] - zq[i], anchor);
        }
    }
    struct contrast out = {0, 0, 0, 0};
    if (p.z) {
        out.kl = block_sum((double)kl);
        out.least = block_sum((double)least);
        out.below = block_sum((double)below);
    }
    if (p0.z)
        out.anchor = block_sum((double)anchor);
    return out;
}

/* dz = q (all + accept (below - [q < p])) - kl p - anchor p0, and less `target_by` at the target */
struct pull {
    float all, accept, below, kl, anchor, target_by;
    int target;
};

static __device__ void pull_row(uint16_t *dz, const struct side &q, const struct side &p, const struct side &p0, int vocab, int pad, const struct pull &by)
{
    for (int c = threadIdx.x * 4; c < pad; c += LOSS_THREADS * 4) {
        float zq[4], zp[4], z0[4], d[4];
        fetch(zq, q.z, c);
        fetch(zp, p.z, c);
        fetch(z0, p0.z, c);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float vq = probability(q, zq[i]);
            d[i] = vq * by.all;
            if (p.z) {
                const float vp = probability(p, zp[i]);
                d[i] = d[i] + vq * by.accept * (by.below - (vq < vp ? 1.0f : 0.0f)) - vp * by.kl;
            }
            if (p0.z)
                d[i] = d[i] - probability(p0, z0[i]) * by.anchor;
            if (c + i == by.target)
                d[i] -= by.target_by;
            if (c + i >= vocab)
                d[i] = 0;
        }
        *(uint2 *)(dz + c) =
            make_uint2((uint32_t)bf16_bits(d[0]) | (uint32_t)bf16_bits(d[1]) << 16, (uint32_t)bf16_bits(d[2]) | (uint32_t)bf16_bits(d[3]) << 16);
    }
}

static __global__ void __launch_bounds__(LOSS_THREADS) lose_kernel(const __grid_constant__ struct train_lose l)
{
    const int row = blockIdx.x, target = l.target[row];
    const struct train_stat nothing = {0, 0, 0, 0, 1};
    const struct train_stat own = describe(l.z + (size_t)row * (size_t)l.pad, l.vocab), last = l.z_last ? l.last[row] : nothing, anchor = l.z_anchor ? l.anchor[row] : nothing;
    const struct side q = side_of(l.z, l.pad, own), p = side_of(l.z_last, l.pad, last), p0 = side_of(l.z_anchor, l.pad, anchor);
    struct train_row_loss r = {0, 0, 0, 0, 0, own.finite && last.finite && anchor.finite};
    struct pull by = {(float)(l.share * ((double)l.ce + (double)l.kl + (double)l.anchor_weight)), 0, 0, (float)(l.share * (double)l.kl),
                      (float)(l.share * (double)l.anchor_weight), (float)(l.share * (double)l.ce), target};
    if (l.ce != 0)
        r.ce = own.lse - (double)q.z[target];
    if (p.z || p0.z) {
        const struct contrast x = compare(q, p, p0, l.vocab);
        if (p.z) {
            const double shared = x.least > LEAST_SHARED ? x.least : LEAST_SHARED;
            r.kl = l.kl != 0 ? own.lse - last.lse + x.kl : 0;
            r.accept = l.accept != 0 ? -log(shared) : 0;
            r.agree = own.best == last.best;
            by.accept = (float)(l.share * (double)l.accept / shared);
            by.below = (float)x.below;
            r.finite = r.finite && isfinite(x.least);
        }
        if (p0.z)
            r.anchor = own.lse - anchor.lse + x.anchor;
    }
    r.finite = r.finite && isfinite(r.ce) && isfinite(r.kl) && isfinite(r.anchor);
    if (threadIdx.x == 0)
        l.loss[row] = r;
    if (l.dz)
        pull_row(l.dz + (size_t)row * (size_t)l.pad, q, p, p0, l.vocab, l.pad, by);
}

extern "C" cudaError_t cuda_train_lose(cudaStream_t s, const struct train_lose *l)
{
    void *args[] = {(void *)l};
    return launch_kernel({s}, (const void *)lose_kernel, dim3(l->rows), dim3(LOSS_THREADS), 0, args);
}

/* ---- sums over rows: one block ---- */

static __global__ void __launch_bounds__(LOSS_THREADS) total_kernel(struct train_total *total, const struct train_row_loss *loss, const int32_t *row, int rows)
{
    double sum[5] = {};
    int bad = 0x7fffffff;
    for (int i = threadIdx.x; i < rows; i += LOSS_THREADS) {
        const struct train_row_loss r = loss[i];
        sum[0] += r.ce;
        sum[1] += r.kl;
        sum[2] += r.accept;
        sum[3] += r.anchor;
        sum[4] += (double)r.agree;
        bad = r.finite ? bad : min(bad, row[i]);
    }
    for (int i = 0; i < 5; i++)
        sum[i] = block_sum(sum[i]);
    float same = 0;
    block_best(same, bad); /* of equals the lowest place */
    if (threadIdx.x)
        return;
    total->ce += sum[0];
    total->kl += sum[1];
    total->accept += sum[2];
    total->anchor += sum[3];
    total->agree += (int64_t)sum[4];
    if (!total->bad && bad != 0x7fffffff)
        total->bad = (int64_t)bad + 1;
}

extern "C" cudaError_t cuda_train_total(cudaStream_t s, struct train_total *total, const struct train_row_loss *loss, const int32_t *row, int rows)
{
    void *args[] = {&total, &loss, &row, &rows};
    return launch_kernel({s}, (const void *)total_kernel, dim3(1), dim3(LOSS_THREADS), 0, args);
}
