/* SPDX-License-Identifier: Apache-2.0 */
/* Rows between the trainer's products: mostly a block a row, four elements a thread. What limits is memory, so that what follows one another is joined. */
#include "backend/cuda/tensor.cuh"
#include "backend/cuda/train_rows.h"

static int round32(int n) { return (n + 31) / 32 * 32; }
static int clamp(int n, int low, int high) { return n < low ? low : n > high ? high : n; }

static __device__ __forceinline__ int mapped(const int32_t *map, int length, int row)
{
    if (!map)
        return row;
    const int sample = map[row / length];
    return sample < 0 ? -1 : sample * length + row % length;
}

static __device__ __forceinline__ float4 widen(uint2 v) { return make_float4(bf16_low(v.x), bf16_high(v.x), bf16_low(v.y), bf16_high(v.y)); }
static __device__ __forceinline__ uint2 narrow(float4 v) { return make_uint2(bf16_pair(v.x, v.y), bf16_pair(v.z, v.w)); }
static __device__ __forceinline__ float4 load4(const float *p) { return *(const float4 *)p; }
static __device__ __forceinline__ float4 load4(const uint16_t *p) { return widen(*(const uint2 *)p); }
static __device__ __forceinline__ float4 add4(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }
static __device__ __forceinline__ float4 mul4(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
static __device__ __forceinline__ float4 scale4(float4 a, float s) { return make_float4(a.x * s, a.y * s, a.z * s, a.w * s); }
static __device__ __forceinline__ float4 fma4(float4 a, float4 b, float4 c)
{
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}
static __device__ __forceinline__ float4 all4(float s) { return make_float4(s, s, s, s); }
static __device__ __forceinline__ float sum4(float4 a) { return (a.x + a.y) + (a.z + a.w); }

static __device__ __forceinline__ float warp_sum(float v)
{
    for (int d = 16; d; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

/* ---- the embedding ---- */

static __global__ void embed_kernel(const __grid_constant__ struct train_embed e)
{
    const int row = blockIdx.x;
    const uint16_t *from = e.table + (size_t)e.token[row] * (size_t)e.pad;
    float *to = e.state + (size_t)row * (size_t)e.pad;
    for (int c = threadIdx.x * 4; c < e.pad; c += blockDim.x * 4)
        *(float4 *)(to + c) = load4(from + c);
}

extern "C" cudaError_t cuda_train_embed(cudaStream_t s, const struct train_embed *e)
{
    void *args[] = {(void *)e};
    return launch_kernel({s}, (const void *)embed_kernel, dim3(e->rows), dim3(clamp(round32(e->pad / 4), 32, 256)), 0, args);
}

/* One block a token: its rows in order. */
static __global__ void embed_back_kernel(const __grid_constant__ struct train_embed_back e)
{
    const int from = e.begin[blockIdx.x], to = e.begin[blockIdx.x + 1];
    float *out = e.gradient + (size_t)e.token[blockIdx.x] * (size_t)e.pad;
    for (int c = threadIdx.x * 4; c < e.pad; c += blockDim.x * 4) {
        float4 sum = all4(0);
#pragma unroll 8
        for (int i = from; i < to; i++)
            sum = add4(sum, load4(e.dx + (size_t)__ldg(e.order + i) * (size_t)e.pad + c));
        *(float4 *)(out + c) = add4(load4(out + c), sum);
    }
}

extern "C" cudaError_t cuda_train_embed_back(cudaStream_t s, const struct train_embed_back *e)
{
    void *args[] = {(void *)e};
    return launch_kernel({s}, (const void *)embed_back_kernel, dim3(e->segments), dim3(clamp(round32(e->pad / 4), 32, 256)), 0, args);
}

/* ---- residual and norm ---- */

enum { JOIN_EACH = 4, JOIN_THREADS = TRAIN_HIDDEN_MOST / 4 / JOIN_EACH };

static __global__ void __launch_bounds__(JOIN_THREADS) join_kernel(const __grid_constant__ struct train_join j)
{
    __shared__ float part[JOIN_THREADS / 32];
    const int row = blockIdx.x, at = mapped(j.x_map, j.length, row), y_at = j.y && at >= 0 ? mapped(j.y_map, j.length, row) : -1;
    const int to = j.normed ? mapped(j.normed_map, j.length, row) : -1;
    const float *x = at >= 0 ? j.x + (size_t)at * (size_t)j.pad : j.past + (size_t)row * (size_t)j.pad;
    float4 v[JOIN_EACH];
    float square = 0;
#pragma unroll
    for (int i = 0; i < JOIN_EACH; i++) {
        const int c = (threadIdx.x + i * blockDim.x) * 4;
        if (c >= j.pad)
            continue;
        v[i] = load4(x + c);
        if (y_at >= 0) {
            v[i] = add4(v[i], load4(j.y + (size_t)y_at * (size_t)j.pad + c));
            if (j.bias)
                v[i] = add4(v[i], load4(j.bias + c));
        }
        square += sum4(mul4(v[i], v[i]));
        if (j.out)
            *(float4 *)(j.out + (size_t)row * (size_t)j.pad + c) = v[i];
    }
    if (to < 0) /* the whole block: no barrier is left alone */
        return;
    square = warp_sum(square);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = square;
    __syncthreads();
    square = part[0];
    for (int i = 1; i < (int)blockDim.x / 32; i++)
        square += part[i];
    const float scale = 1.0f / sqrtf(square / (float)j.hidden + j.eps);
#pragma unroll
    for (int i = 0; i < JOIN_EACH; i++) {
        const int c = (threadIdx.x + i * blockDim.x) * 4;
        if (c < j.pad)
            *(uint2 *)(j.normed + (size_t)to * (size_t)j.pad + c) = narrow(mul4(scale4(v[i], scale), load4(j.w + c)));
    }
}

extern "C" cudaError_t cuda_train_join(cudaStream_t s, const struct train_join *j)
{
    void *args[] = {(void *)j};
    const int each = JOIN_EACH * 4;
    return launch_kernel({s}, (const void *)join_kernel, dim3(j->rows), dim3(clamp(round32((j->pad + each - 1) / each), 64, JOIN_THREADS)), 0, args);
}

/* ---- the norm's gradient ---- */

/* A row of a block: where its parts lie (-1: none), 1 / sqrt(mean(x^2) + eps), and what x is multiplied with. */
struct norm_row {
    int dx, x, dy, half;
    float scale, back;
};

/* By one warp. */
static __device__ __forceinline__ void measure_row(const struct train_norm_back &n, int row, struct norm_row *out)
{
    struct norm_row r = {-1, -1, -1, -1, 0, 0};
    if (row < n.rows) {
        r.dx = mapped(n.dx_map, n.length, row);
        r.dy = n.dy ? mapped(n.dy_map, n.length, row) : -1;
        r.x = r.dy >= 0 ? mapped(n.x_map, n.length, row) : -1;
        r.half = n.half ? mapped(n.half_map, n.length, row) : -1;
    }
    if (r.dy >= 0) {
        float4 square = all4(0), dot = all4(0);
        for (int c = threadIdx.x % 32 * 4; c < n.pad; c += 128) {
            const float4 x = load4(n.x + (size_t)r.x * (size_t)n.pad + c);
            square = fma4(x, x, square);
            dot = fma4(mul4(load4(n.dy + (size_t)r.dy * (size_t)n.pad + c), load4(n.w + c)), x, dot);
        }
        r.scale = 1.0f / sqrtf(warp_sum(sum4(square)) / (float)n.hidden + n.eps);
        r.back = -(warp_sum(sum4(dot)) * r.scale * r.scale * r.scale / (float)n.hidden);
    }
    if (threadIdx.x % 32 == 0)
        *out = r;
}

/* Four columns of up to four rows; returns what they add to the norm's gradient. */
static __device__ __forceinline__ float4 pull_rows(const struct train_norm_back &n, int row, const struct norm_row *here, int count, int c, float4 sum)
{
    float4 d[4], x[4], y[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i >= count || here[i].dx < 0)
            continue;
        d[i] = load4(n.dx + (size_t)here[i].dx * (size_t)n.pad + c);
        if (here[i].dy >= 0) {
            x[i] = load4(n.x + (size_t)here[i].x * (size_t)n.pad + c);
            y[i] = load4(n.dy + (size_t)here[i].dy * (size_t)n.pad + c);
        }
        if (n.pull)
            d[i] = add4(d[i], load4(n.pull + (size_t)(row + i) * (size_t)n.pad + c));
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i >= count || here[i].dx < 0)
            continue;
        if (here[i].dy >= 0) {
            const float4 g = scale4(mul4(y[i], load4(n.w + c)), here[i].scale);
            d[i] = add4(d[i], fma4(all4(here[i].back), x[i], g));
            sum = fma4(scale4(y[i], here[i].scale), x[i], sum);
        }
        if (here[i].dy >= 0 || n.pull)
            *(float4 *)(n.dx + (size_t)here[i].dx * (size_t)n.pad + c) = d[i];
        if (here[i].half >= 0)
            *(uint2 *)(n.half + (size_t)here[i].half * (size_t)n.pad + c) = narrow(d[i]);
    }
    return sum;
}

/* A block has four times as many rows as warps: a warp measures a row, then all threads go through the columns of those rows. */
static __global__ void __launch_bounds__(256) norm_back_kernel(const __grid_constant__ struct train_norm_back n)
{
    extern __shared__ float4 sums[]; /* [pad / 4]: a place is one thread's alone */
    __shared__ struct norm_row here[8];
    const int warps = blockDim.x / 32, first = blockIdx.x * 4 * warps;
    for (int c = threadIdx.x; c < n.pad / 4; c += blockDim.x)
        sums[c] = all4(0);
    for (int at = first; at < first + 4 * warps && at < n.rows; at += warps) {
        __syncthreads(); /* the rows before are done with */
        measure_row(n, at + threadIdx.x / 32, &here[threadIdx.x / 32]);
        __syncthreads();
        for (int c = threadIdx.x; c < n.pad / 4; c += blockDim.x) {
            float4 sum = sums[c];
            for (int i = 0; i < warps; i += 4)
                sum = pull_rows(n, at + i, here + i, warps - i, c * 4, sum);
            sums[c] = sum;
        }
    }
    for (int c = threadIdx.x; n.dy && c < n.pad / 4; c += blockDim.x)
        *(float4 *)(n.partial + (size_t)blockIdx.x * (size_t)n.pad + c * 4) = sums[c];
}

extern "C" cudaError_t cuda_train_norm_back(cudaStream_t s, const struct train_norm_back *n)
{
    void *args[] = {(void *)n};
    return launch_kernel({s}, (const void *)norm_back_kernel, dim3(train_norm_blocks(n->rows, n->pad)), dim3(32 * train_norm_warps(n->pad)), (size_t)n->pad * sizeof(float), args);
}

/* ---- sums of columns ---- */

static __global__ void columns_kernel(float *partial, const uint16_t *dy, int rows, int pad)
{
    __shared__ float4 part[8][32];
    const int c = blockIdx.x * 128 + threadIdx.x * 4, end = min((int)(blockIdx.y + 1) * TRAIN_BIAS_ROWS, rows);
    float4 sum = all4(0);
    if (c < pad)
        for (int r = blockIdx.y * TRAIN_BIAS_ROWS + threadIdx.y; r < end; r += 8)
            sum = add4(sum, load4(dy + (size_t)r * (size_t)pad + c));
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || c >= pad)
        return;
    for (int i = 1; i < 8; i++)
        sum = add4(sum, part[i][threadIdx.x]);
    *(float4 *)(partial + (size_t)blockIdx.y * (size_t)pad + c) = sum;
}

extern "C" cudaError_t cuda_train_columns(cudaStream_t s, float *partial, const uint16_t *dy, int rows, int pad)
{
    void *args[] = {&partial, &dy, &rows, &pad};
    return launch_kernel({s}, (const void *)columns_kernel, dim3((pad + 127) / 128, (rows + TRAIN_BIAS_ROWS - 1) / TRAIN_BIAS_ROWS), dim3(32, 8), 0, args);
}

static __global__ void add_up_kernel(float *out, const float *partial, int blocks, int n, int pad)
{
    __shared__ float part[32][33];
    const int c = blockIdx.x * 32 + threadIdx.x;
    float sum = 0;
    if (c < n) {
#pragma unroll 8
        for (int b = threadIdx.y; b < blocks; b += 32)
            sum += partial[(size_t)b * (size_t)pad + c];
    }
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || c >= n)
        return;
    for (int i = 1; i < 32; i++)
        sum += part[i][threadIdx.x];
    out[c] += sum;
}

extern "C" cudaError_t cuda_train_add_up(cudaStream_t s, float *out, const float *partial, int blocks, int n, int pad)
{
    void *args[] = {&out, &partial, &blocks, &n, &pad};
    return launch_kernel({s}, (const void *)add_up_kernel, dim3((n + 31) / 32), dim3(32, 32), 0, args);
}

/* ---- heads ---- */

enum { HEADS_THREADS = 128 };

/* Elements j .. j + 3 and those half a head behind them, turned; the angles: cosine and sine, two pairs in a float4. */
static __device__ __forceinline__ void rotate(float4 &a, float4 &b, float4 first, float4 second, float way)
{
    const float4 cs = make_float4(first.x, first.z, second.x, second.z), sn = scale4(make_float4(first.y, first.w, second.y, second.w), way);
    const float4 was = a;
    a = fma4(was, cs, scale4(mul4(b, sn), -1.0f));
    b = fma4(b, cs, mul4(was, sn));
}

static __global__ void __launch_bounds__(HEADS_THREADS) heads_kernel(const __grid_constant__ struct train_heads h)
{
    const int row = blockIdx.x, dim = h.head_dim, half = dim / 2, quads = dim / 8, rotated = h.n_heads + h.n_kv_heads, all = rotated + h.n_kv_heads;
    uint16_t *both = h.qkv + (size_t)row * (size_t)(all * dim);
    const float *angle = h.angle + (size_t)(row % h.length) * (size_t)dim;
    for (int i = threadIdx.x; i < all * quads; i += HEADS_THREADS) {
        const int head = i / quads, j = i % quads * 4, c = head * dim + j;
        uint16_t *one = head < h.n_heads ? h.q + ((size_t)row * (size_t)h.n_heads + (size_t)head) * (size_t)dim
                      : head < rotated   ? h.k + ((size_t)row * (size_t)h.n_kv_heads + (size_t)(head - h.n_heads)) * (size_t)dim
                                         : h.v + ((size_t)row * (size_t)h.n_kv_heads + (size_t)(head - rotated)) * (size_t)dim;
        const uint16_t *from = h.back ? one + j : both + c;
        uint16_t *to = h.back ? both + c : one + j;
        float4 a = load4(from), b = load4(from + half);
        if (h.bias && !h.back) {
            a = add4(a, load4(h.bias + c));
            b = add4(b, load4(h.bias + c + half));
        }
        if (head < rotated)
            rotate(a, b, load4(angle + 2 * j), load4(angle + 2 * j + 4), h.back ? -1.0f : 1.0f);
        *(uint2 *)to = narrow(a);
        *(uint2 *)(to + half) = narrow(b);
    }
}

extern "C" cudaError_t cuda_train_heads(cudaStream_t s, const struct train_heads *h)
{
    void *args[] = {(void *)h};
    return launch_kernel({s}, (const void *)heads_kernel, dim3(h->rows), dim3(HEADS_THREADS), 0, args);
}

/* ---- the gate ---- */

template <int N> struct halves { /* neighbours that are fetched at once */
    uint16_t v[N];
};
template <> struct __align__(16) halves<8> {
    uint16_t v[8];
};

/* way 0: forward. Else: see train_gate. */
template <int N> static __global__ void gate_kernel(const __grid_constant__ struct train_gate g)
{
    uint16_t *gates = g.both + (size_t)blockIdx.x * (size_t)g.pad, *ups = gates + g.ffn, *wide = g.wide + (size_t)blockIdx.x * (size_t)g.wide_pad;
    for (int c = threadIdx.x * N; c < g.ffn; c += blockDim.x * N) {
        struct halves<N> x = *(struct halves<N> *)(gates + c), u = *(struct halves<N> *)(ups + c), out;
        if (g.back)
            out = *(struct halves<N> *)(wide + c);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float a = bf16_low(x.v[i]), b = bf16_low(u.v[i]);
            if (g.bias) {
                a += g.bias[c + i];
                b += g.bias[g.ffn + c + i];
            }
            const float s = 1.0f / (1.0f + expf(-fmaxf(a, -88.0f)));
            if (g.back) {
                const float d = bf16_low(out.v[i]);
                x.v[i] = bf16_bits(d * b * (s * fmaf(a, 1.0f - s, 1.0f)));
                u.v[i] = bf16_bits(d * a * s);
            }
            out.v[i] = bf16_bits(a * s * b);
        }
        *(struct halves<N> *)(wide + c) = out;
        if (g.back) {
            *(struct halves<N> *)(gates + c) = x;
            *(struct halves<N> *)(ups + c) = u;
        }
    }
}

extern "C" cudaError_t cuda_train_gate(cudaStream_t s, const struct train_gate *g)
{
    void *args[] = {(void *)g};
    const bool whole = g->ffn % 8 == 0;
    return launch_kernel({s}, whole ? (const void *)gate_kernel<8> : (const void *)gate_kernel<1>, dim3(g->rows), dim3(clamp(round32(whole ? g->ffn / 8 : g->ffn), 32, 256)), 0, args);
}

/* ---- rounding ---- */

static __global__ void halve_kernel(uint16_t *out, const float *in, size_t n)
{
    for (size_t i = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) * 4; i < n; i += (size_t)gridDim.x * blockDim.x * 4)
        *(uint2 *)(out + i) = narrow(load4(in + i));
}

extern "C" cudaError_t cuda_train_halve(cudaStream_t s, uint16_t *out, const float *in, size_t n)
{
    void *args[] = {&out, &in, &n};
    const size_t blocks = (n / 4 + 255) / 256;
    return launch_kernel({s}, (const void *)halve_kernel, dim3((unsigned)(blocks < 4096 ? blocks ? blocks : 1 : 4096)), dim3(256), 0, args);
}
