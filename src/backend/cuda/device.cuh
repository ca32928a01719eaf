/* SPDX-License-Identifier: Apache-2.0 */
/* What the .cu files share: dependent launches, 16-byte loads, one element of a packed matrix. */
#ifndef BACKEND_CUDA_DEVICE_CUH
#define BACKEND_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backend/cuda/kernels.h"

/* The kernel behind this one may start now; what it must not touch yet it guards with pdl_wait. */
static __device__ __forceinline__ void pdl_go(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Everything before this kernel in the stream is complete. */
static __device__ __forceinline__ void pdl_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Weights: read once, not worth a place in L1. */
static __device__ __forceinline__ uint4 load_weights(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

static __device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
static __device__ __forceinline__ float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
static __device__ __forceinline__ float half_bits(uint32_t bits) { return __half2float(__ushort_as_half((unsigned short)bits)); }

/* Round to nearest even; NaN stays NaN. */
static __device__ __forceinline__ uint16_t bf16_bits(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

/* One element of packed row `row` (16 tile + r) at `col`, exactly. */
static __device__ __forceinline__ float packed_element(const struct packed &w, int row, int col)
{
    const int unit_cols = w.kind >= PACKED_Q8 ? 128 : 32, r = row & 15, g = r & 7, high = r >> 3;
    const uint8_t *u = w.data + ((size_t)(row >> 4) * (size_t)w.units + (size_t)(col / unit_cols)) * w.unit_bytes;
    const int k = col % 32, t = k / 8, thread = g * 4 + t, j = (k / 4) & 1;
    if (w.kind == PACKED_F32)
        return ((const float *)u)[((high * 2 + j) * 32 + thread) * 4 + (k & 3)];
    if (w.kind == PACKED_BF16 || w.kind == PACKED_F16) {
        const uint16_t v = ((const uint16_t *)u)[((j * 32 + thread) * 4 + ((k >> 1) & 1) * 2 + high) * 2 + (k & 1)];
        return w.kind == PACKED_BF16 ? __uint_as_float((uint32_t)v << 16) : half_bits(v);
    }
    const int b = (col % 128) / 32;
    if (w.kind == PACKED_Q8) {
        const int8_t code = ((const int8_t *)u)[((b * 32 + thread) * 4 + 2 * j + ((k >> 1) & 1)) * 4 + (k & 1) * 2 + high];
        return half_bits(((const uint16_t *)(u + 2048))[(g * 4 + b) * 2 + high]) * (float)code;
    }
    const uint32_t word = ((const uint32_t *)u)[((b >> 1) * 32 + thread) * 4 + 2 * (b & 1) + j];
    const int nibble = (k & 1) * 4 + ((k >> 1) & 1) * 2 + high, code = (word >> (4 * nibble)) & 15;
    const float d = half_bits(((const uint16_t *)(u + 1024))[(g * 4 + b) * 2 + high]);
    if (w.kind == PACKED_Q4_0)
        return d * (float)(code - 8);
    return d * (float)code + half_bits(((const uint16_t *)(u + 1152))[(g * 4 + b) * 2 + high]);
}

/* cluster: blocks of a cluster along x, 1 for none. */
static inline cudaError_t launch_clusters(struct launch l, const void *kernel, dim3 grid, dim3 block, size_t shared, void **args, unsigned cluster)
{
    cudaLaunchAttribute attribute[2] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = l.stream;
    config.attrs = attribute;
    if (l.chain) {
        attribute[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attribute[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attribute[config.numAttrs].val.clusterDim.x = cluster;
        attribute[config.numAttrs].val.clusterDim.y = attribute[config.numAttrs].val.clusterDim.z = 1;
        config.numAttrs++;
    }
    return cudaLaunchKernelExC(&config, kernel, args);
}

static inline cudaError_t launch_kernel(struct launch l, const void *kernel, dim3 grid, dim3 block, size_t shared, void **args)
{
    return launch_clusters(l, kernel, grid, block, shared, args, 1);
}

/* A block may take that much shared memory (beyond 48 KB it has to be asked for). */
static inline cudaError_t allow_shared(const void *kernel, int bytes)
{
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

/* One warp: the sum of a row's squares, in the one order that there is. */
static __device__ __forceinline__ float sum_squares(const float *square, int n)
{
    float sum = 0;
    for (int i = threadIdx.x & 31; i < n; i += 32)
        sum += square[i];
    for (int d = 16; d; d >>= 1)
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
    return sum;
}

static __device__ __forceinline__ float norm_scale(float squares, float per_element, float eps) { return 1.0f / sqrtf(squares * per_element + eps); }

#endif
