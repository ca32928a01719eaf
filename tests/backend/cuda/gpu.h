/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of the CUDA kernels: a GPU or a reason to skip, memory that fails loudly, random numbers, time. */
#ifndef TESTS_GPU_H
#define TESTS_GPU_H

#include "check.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPU(call)                                                                                          \
    do {                                                                                                   \
        cudaError_t gpu_e = (call);                                                                        \
        if (gpu_e != cudaSuccess) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(gpu_e));      \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

/* Leaves with 77 where there is no GPU: the case counts as skipped. */
static inline void gpu_or_skip(void)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n > 0)
        return;
    fprintf(stderr, "skipped: no GPU: %s\n", cudaGetErrorString(e));
    exit(77);
}

static inline void *gpu_take(size_t bytes) /* poisoned */
{
    void *p;
    GPU(cudaMalloc(&p, bytes));
    GPU(cudaMemset(p, 0xff, bytes));
    return p;
}

static inline void *gpu_copy(const void *from, size_t bytes)
{
    void *p = gpu_take(bytes);
    GPU(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}

static inline void gpu_read(void *to, const void *from, size_t bytes) { GPU(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost)); }

static inline uint64_t gpu_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* About normal: the sum of four uniform numbers, variance 1. */
static inline float gpu_normal(uint64_t *state)
{
    uint64_t x = gpu_random(state);
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (double)(x >> 16 * i & 0xffff) / 65536.0 - 0.5;
    return (float)(sum * 1.7320508);
}

#endif
