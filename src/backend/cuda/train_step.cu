/* SPDX-License-Identifier: Apache-2.0 */
/* The step over the flat arrays, a block of threads for each block of TRAIN_UPDATE_BLOCK floats. */
#include "backend/cuda/device.cuh"
#include "backend/cuda/train_rows.h"
#include "base/dtype.h"

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

/* ---- weights as a quantised type has them ---- */

static __device__ __forceinline__ float half_of(float x) { return __half2float(__float2half_rn(x)); }
static __device__ __forceinline__ float cut(float x, float lo, float hi) { return truncf(fminf(fmaxf(x, lo), hi)) + 0.0f; } /* an integer has no -0 */

/* The same steps as dtype_from_f32 and dtype_to_f32. */
template <int TYPE> static __device__ void fit_block(float (&x)[32])
{
    float hi = x[0], lo = x[0];
#pragma unroll
    for (int i = 1; i < 32; i++) {
        hi = fmaxf(hi, x[i]);
        lo = fminf(lo, x[i]);
    }
    float peak = hi > -lo ? hi : lo;
    if (TYPE == DT_Q4_0 && hi == -lo)
#pragma unroll
        for (int i = 31; i >= 0; i--)
            peak = x[i] == lo || x[i] == hi ? x[i] : peak;
    const float d = TYPE == DT_Q8_0 ? fmaxf(hi, -lo) / 127.0f : TYPE == DT_Q4_0 ? peak / -8.0f : (hi - lo) / 15.0f, inv = d != 0 ? 1.0f / d : 0.0f;
    const float m = TYPE == DT_Q4_0 ? -8.0f * d : lo, kept = half_of(d), least = half_of(m);
#pragma unroll
    for (int i = 0; i < 32; i++) {
        if (TYPE == DT_Q8_0)
            x[i] = kept * cut(x[i] * inv + copysignf(0.49999997f, x[i]), -127, 127);
        else if (TYPE == DT_Q4_0)
            x[i] = kept * (cut((x[i] - m) * inv + 0.5f, 0, 15) - 8.0f);
        else
            x[i] = kept * cut((x[i] - m) * inv + 0.5f, 0, 15) + least;
    }
}

/* A thread a block of 32. */
template <int TYPE> static __global__ void __launch_bounds__(STEP_THREADS) fit_kernel(uint16_t *out, const float *in, int64_t rows, int cols, int ld)
{
    const int64_t i = (int64_t)blockIdx.x * STEP_THREADS + threadIdx.x, row = i / (cols / 32);
    if (row >= rows)
        return;
    const size_t at = (size_t)row * (size_t)ld + (size_t)(i % (cols / 32)) * 32;
    float x[32];
#pragma unroll
    for (int k = 0; k < 32; k += 4) {
        const float4 v = *(const float4 *)(in + at + k);
        x[k] = v.x, x[k + 1] = v.y, x[k + 2] = v.z, x[k + 3] = v.w;
    }
    fit_block<TYPE>(x);
#pragma unroll
    for (int k = 0; k < 32; k += 4)
        *(uint2 *)(out + at + k) = make_uint2((uint32_t)bf16_bits(x[k]) | (uint32_t)bf16_bits(x[k + 1]) << 16, (uint32_t)bf16_bits(x[k + 2]) | (uint32_t)bf16_bits(x[k + 3]) << 16);
}

extern "C" cudaError_t cuda_train_fit(cudaStream_t s, int type, uint16_t *out, const float *in, int64_t rows, int cols, int ld)
{
    const void *kernel = type == DT_Q8_0 ? (const void *)fit_kernel<DT_Q8_0> : type == DT_Q4_0 ? (const void *)fit_kernel<DT_Q4_0> : (const void *)fit_kernel<DT_Q4_1>;
    void *args[] = {&out, &in, &rows, &cols, &ld};
    return launch_kernel({s}, kernel, dim3((unsigned)((rows * (cols / 32) + STEP_THREADS - 1) / STEP_THREADS)), dim3(STEP_THREADS), 0, args);
}

extern "C" cudaError_t cuda_train_adam(cudaStream_t s, const struct train_adam *a)
{
    void *args[] = {(void *)a};
    return launch_kernel({s}, (const void *)adam_kernel, dim3((unsigned)(a->n / TRAIN_UPDATE_BLOCK)), dim3(STEP_THREADS), 0, args);
}
