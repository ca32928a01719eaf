/* SPDX-License-Identifier: Apache-2.0 */
/* The start of a pass, and KV slots that change place. */
#include "backend/cuda/device.cuh"

enum { BEGIN_THREADS = 1024, BEGIN_EACH = 4 };

static __device__ __forceinline__ void put_begin_x(const struct begin &b, int r, int n, float v)
{
    const size_t at = ((size_t)(n >> 5) * (size_t)b.bucket + (size_t)r) * 32 + (size_t)(n & 31);
    if (b.x_f32)
        ((float *)b.x)[at] = v;
    else
        ((uint16_t *)b.x)[at] = bf16_bits(v);
}

/* Columns i, i + BEGIN_THREADS, ... of a row: all are fetched before the first is stored. 16 neighbouring threads make one sum of squares, in the order of the
   product's epilogue. */
static __device__ __forceinline__ void begin_columns(const struct begin &b, int r, int token, float *state, int i)
{
    float s[BEGIN_EACH] = {}, w[BEGIN_EACH] = {};
#pragma unroll
    for (int k = 0; k < BEGIN_EACH; k++)
        if (i + k * BEGIN_THREADS < b.hidden) {
            w[k] = b.norm[i + k * BEGIN_THREADS];
            s[k] = b.embed.data ? packed_element(b.embed, token, i + k * BEGIN_THREADS) : state[i + k * BEGIN_THREADS];
        }
#pragma unroll
    for (int k = 0; k < BEGIN_EACH; k++) {
        const int n = i + k * BEGIN_THREADS;
        float square = s[k] * s[k];
        for (int d = 8; d; d >>= 1)
            square += __shfl_xor_sync(0xffffffffu, square, d);
        if (b.embed.data && n < b.hidden)
            state[n] = s[k];
        if (n < b.x_units * 32)
            put_begin_x(b, r, n, s[k] * w[k]);
        if ((n & 15) == 0 && n / 16 < b.n_square)
            b.square[(size_t)r * (size_t)b.n_square + n / 16] = square;
    }
}

/* One block a row. */
__global__ void __launch_bounds__(BEGIN_THREADS) begin_rows(const __grid_constant__ struct begin b)
{
    const int r = blockIdx.x;
    pdl_go();
    const struct step_row row = b.step->row[r];
    const int n = b.step->n;
    pdl_wait();
    if (r >= n)
        return;
    int token = row.token;
    if (b.embed.data && token < 0) {
        token = b.picks[-1 - token].token;
        token = token < 0 ? 0 : token; /* logits that were not finite: the draft is worthless, and verification will say so */
    }
    float *state = b.state + (size_t)row.h * (size_t)b.state_stride;
    for (int i = threadIdx.x; i < (b.x_units * 32 + BEGIN_THREADS - 1) / BEGIN_THREADS * BEGIN_THREADS; i += BEGIN_THREADS * BEGIN_EACH)
        begin_columns(b, r, token, state, i);
}

cudaError_t cuda_begin(struct launch l, const struct begin *b)
{
    void *args[] = {(void *)b};
    return launch_kernel(l, (const void *)begin_rows, dim3((unsigned)b->bucket), dim3(BEGIN_THREADS), 0, args);
}

/* One warp a row. */
__global__ void __launch_bounds__(32) norm_scales(const __grid_constant__ struct scales s)
{
    const int r = blockIdx.x;
    pdl_go();
    pdl_wait();
    const float sum = sum_squares(s.square + (size_t)r * (size_t)s.n_square, s.n_square);
    if (threadIdx.x == 0)
        s.scale[r] = norm_scale(sum, s.square_scale, s.eps);
}

cudaError_t cuda_scales(struct launch l, const struct scales *s)
{
    void *args[] = {(void *)s};
    return launch_kernel(l, (const void *)norm_scales, dim3((unsigned)s->bucket), dim3(32), 0, args);
}

/* f32 frequency times f32 position, one rounding, then cosine and sine. */
__global__ void make_angles(float *angle, const float *inv_freq, int n, int half)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < (size_t)n * (size_t)half; i += (size_t)gridDim.x * blockDim.x) {
        const double a = (double)((float)(i / (size_t)half) * inv_freq[i % (size_t)half]);
        angle[2 * i] = (float)cos(a);
        angle[2 * i + 1] = (float)sin(a);
    }
}

cudaError_t cuda_angles(struct launch l, float *angle, const float *inv_freq, int n, int half)
{
    void *args[] = {&angle, &inv_freq, &n, &half};
    return launch_kernel(l, (const void *)make_angles, dim3(256), dim3(256), 0, args);
}

/* One block a (layer, KV head, K or V); the moves in order, a thread always at the same element, so that what is read was not yet overwritten. */
__global__ void move_slots(const __grid_constant__ struct kv_shape kv, const int32_t *moves, int n)
{
    pdl_go();
    pdl_wait();
    const size_t slot_bytes = (size_t)kv.head_pad * (kv.f32 ? 4 : 2), plane = PAGE_SLOTS * slot_bytes;
    for (int i = 0; i < n; i++) {
        const int32_t *m = moves + 4 * i;
        uint8_t *to = kv.pages + (size_t)m[0] * kv.page_bytes + blockIdx.x * plane + (size_t)m[1] * slot_bytes;
        const uint8_t *from = kv.pages + (size_t)m[2] * kv.page_bytes + blockIdx.x * plane + (size_t)m[3] * slot_bytes;
        for (size_t at = threadIdx.x * 16; at < slot_bytes; at += blockDim.x * 16)
            *(uint4 *)(to + at) = *(const uint4 *)(from + at);
    }
}

cudaError_t cuda_move_slots(struct launch l, struct kv_shape kv, const int32_t *moves, int n)
{
    void *args[] = {&kv, &moves, &n};
    return launch_kernel(l, (const void *)move_slots, dim3((unsigned)(kv.n_layers * kv.n_kv_heads * 2)), dim3(32), 0, args);
}
