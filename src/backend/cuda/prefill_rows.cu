/* SPDX-License-Identifier: Apache-2.0 */
/* The small kernels of prefill: a block a row. */
#include "backend/cuda/prefill.h"
#include "backend/cuda/tensor.cuh"

enum { ROW_THREADS = 256 };

static __global__ void __launch_bounds__(ROW_THREADS) begin_kernel(const __grid_constant__ struct prefill_begin b)
{
    pdl_go();
    pdl_wait();
    const int row = blockIdx.x, token = b.token[row];
    float *state = b.state + (size_t)row * (size_t)b.state_stride;
    for (int c = threadIdx.x; c < b.state_stride; c += ROW_THREADS)
        state[c] = c < b.hidden ? packed_element(b.embed, token, c) : 0.0f;
    for (int j = threadIdx.x; j < b.half; j += ROW_THREADS) {
        const float a = (float)(b.pos0 + row) * b.inv_freq[j];
        float2 *to = (float2 *)b.angle + (size_t)j * (size_t)b.stride + row;
        *to = make_float2((float)cos((double)a), (float)sin((double)a));
    }
}

/* The sum over the block, the same in every thread: lanes, then warps in order. */
static __device__ float block_sum(float v)
{
    __shared__ float part[ROW_THREADS / 32];
    for (int d = 16; d; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = part[0];
    for (int i = 1; i < ROW_THREADS / 32; i++)
        sum += part[i];
    return sum;
}

/* A thread makes whole pieces of 16 bytes: from each 8 of 32 columns the same pair. States are padded with zeros to 16 columns, pieces to 64. */
static __global__ void __launch_bounds__(ROW_THREADS) norm_kernel(const __grid_constant__ struct prefill_norm r)
{
    pdl_go();
    pdl_wait();
    const int row = blockIdx.x, pieces = (r.hidden + 63) / 64 * 8;
    const float *state = r.state + (size_t)row * (size_t)r.state_stride;
    float sum = 0;
    for (int c = threadIdx.x * 4; c < r.state_stride; c += ROW_THREADS * 4) {
        const float4 v = *(const float4 *)(state + c);
        sum = fmaf(v.x, v.x, sum);
        sum = fmaf(v.y, v.y, sum);
        sum = fmaf(v.z, v.z, sum);
        sum = fmaf(v.w, v.w, sum);
    }
    const float scale = 1.0f / sqrtf(block_sum(sum) / (float)r.hidden + r.eps);
    for (int i = threadIdx.x; i < pieces; i += ROW_THREADS) {
        const int col = i / 4 * 32 + i % 4 * 2;
        uint32_t word[4];
        for (int t = 0; t < 4; t++) {
            const int c = col + 8 * t;
            float2 v = make_float2(0, 0), w = v;
            if (c < r.state_stride) {
                v = *(const float2 *)(state + c);
                w = *(const float2 *)(r.weight + c);
            }
            word[t] = bf16_pair(v.x * scale * w.x, v.y * scale * w.y);
        }
        *(uint4 *)((uint8_t *)r.x + prefill_at(r.stride, row, col)) = make_uint4(word[0], word[1], word[2], word[3]);
    }
}

extern "C" cudaError_t prefill_begin(struct launch l, const struct prefill_begin *b)
{
    void *args[] = {(void *)b};
    return launch_kernel(l, (const void *)begin_kernel, dim3(b->n), dim3(ROW_THREADS), 0, args);
}

extern "C" cudaError_t prefill_norm(struct launch l, const struct prefill_norm *r)
{
    void *args[] = {(void *)r};
    return launch_kernel(l, (const void *)norm_kernel, dim3(r->n), dim3(ROW_THREADS), 0, args);
}
