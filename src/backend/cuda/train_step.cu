/* SPDX-License-Identifier: Apache-2.0 */
/* The step over the flat arrays, a block of threads for each block of TRAIN_UPDATE_BLOCK floats. */
#include "backend/cuda/device.cuh"
#include "backend/cuda/train_rows.h"

enum { STEP_THREADS = 256, STEP_QUADS = TRAIN_UPDATE_BLOCK / 4 / STEP_THREADS };

/* The sum of all threads' numbers in thread 0: pairs, then pairs of pairs. */
static __device__ double block_sum(double v)
{
    __shared__ double part[STEP_THREADS];
    part[threadIdx.x] = v;
    for (int d = STEP_THREADS / 2; d; d /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < d)
            part[threadIdx.x] += part[threadIdx.x + d];
    }
    return part[0];
}

static __global__ void __launch_bounds__(STEP_THREADS) squares_kernel(double *partial, const float *gradient)
{
    const float4 *g = (const float4 *)(gradient + (size_t)blockIdx.x * TRAIN_UPDATE_BLOCK);
    double sum = 0;
#pragma unroll 4
    for (int i = 0; i < STEP_QUADS; i++) {
        const float4 v = g[i * STEP_THREADS + threadIdx.x];
        sum += (double)v.x * (double)v.x + (double)v.y * (double)v.y + ((double)v.z * (double)v.z + (double)v.w * (double)v.w);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

extern "C" cudaError_t cuda_train_squares(cudaStream_t s, double *partial, const float *gradient, size_t n)
{
    void *args[] = {&partial, &gradient};
    return launch_kernel({s}, (const void *)squares_kernel, dim3((unsigned)(n / TRAIN_UPDATE_BLOCK)), dim3(STEP_THREADS), 0, args);
}

static __global__ void __launch_bounds__(STEP_THREADS) decide_kernel(struct train_decision *out, const double *partial, int blocks, double divide, double clip)
{
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += STEP_THREADS)
        sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x)
        return;
    const double norm = sqrt(sum) / divide;
    out->norm = norm;
    out->scale = (float)((clip > 0 && norm > clip ? clip / norm : 1) / divide);
    out->go = isfinite(norm);
}

extern "C" cudaError_t cuda_train_decide(cudaStream_t s, struct train_decision *out, const double *partial, int blocks, double divide, double clip)
{
    void *args[] = {&out, &partial, &blocks, &divide, &clip};
    return launch_kernel({s}, (const void *)decide_kernel, dim3(1), dim3(STEP_THREADS), 0, args);
}

static __device__ __forceinline__ void adam(const struct train_adam &a, float scale, float keep, float &w, float g, float &m, float &v)
{
    const float d = g * scale;
    m = m * a.old1 + d * a.new1;
    v = v * a.old2 + d * d * a.new2;
    w = w * keep - a.rate * m / (sqrtf(v) * a.root + a.eps);
}

static __global__ void __launch_bounds__(STEP_THREADS) adam_kernel(const __grid_constant__ struct train_adam a)
{
    const size_t at = (size_t)blockIdx.x * TRAIN_UPDATE_BLOCK;
    const bool matrix = at < a.n_matrices;
    const float keep = matrix ? a.keep : 1.0f, scale = a.decision->scale;
    if (!a.decision->go)
        return;
#pragma unroll 2
    for (int i = 0; i < STEP_QUADS; i++) {
        const size_t c = at + (size_t)(i * STEP_THREADS + (int)threadIdx.x) * 4;
        const float4 g = *(const float4 *)(a.gradient + c);
        float4 w = *(const float4 *)(a.weight + c), m = *(const float4 *)(a.moment1 + c), v = *(const float4 *)(a.moment2 + c);
        adam(a, scale, keep, w.x, g.x, m.x, v.x);
        adam(a, scale, keep, w.y, g.y, m.y, v.y);
        adam(a, scale, keep, w.z, g.z, m.z, v.z);
        adam(a, scale, keep, w.w, g.w, m.w, v.w);
        *(float4 *)(a.weight + c) = w;
        *(float4 *)(a.moment1 + c) = m;
        *(float4 *)(a.moment2 + c) = v;
        *(float4 *)(a.gradient + c) = make_float4(0, 0, 0, 0);
        if (matrix)
            *(uint2 *)(a.half + c) = make_uint2((uint32_t)bf16_bits(w.x) | (uint32_t)bf16_bits(w.y) << 16, (uint32_t)bf16_bits(w.z) | (uint32_t)bf16_bits(w.w) << 16);
    }
}

extern "C" cudaError_t cuda_train_adam(cudaStream_t s, const struct train_adam *a)
{
    void *args[] = {(void *)a};
    return launch_kernel({s}, (const void *)adam_kernel, dim3((unsigned)(a->n / TRAIN_UPDATE_BLOCK)), dim3(STEP_THREADS), 0, args);
}
