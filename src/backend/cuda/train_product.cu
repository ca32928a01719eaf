/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's matrix products by mma.sync: a block makes a tile of 128 x 256 or 128 x 128, a warp 64 x 64 of it, over steps of 64 of k that cp.async fetches two
   ahead into shared memory. Operands stay as they are stored: what is turned is turned by ldmatrix. Where there are fewer tiles than the GPU has places, k is cut into
   parts whose sums a second kernel adds in order. */
#include "backend/cuda/tensor.cuh"
#include "backend/cuda/train_kernels.h"

enum {
    TILE_M = 128,
    STEP = 64,      /* of k */
    STAGES = 3,
    GROUP = 16,     /* tiles below one another that run at once: they share columns of b while those are in L2 */
    MOST_PARTS = 32,
    REDUCERS = 256  /* threads of a block that adds parts */
};

template <int TILE_N> static constexpr int shared_bytes(void) { return STAGES * (TILE_M + TILE_N) * STEP * 2; }

/* ---- one operand ----
   ALONG: its rows lie along k, in shared memory [EXTENT][STEP]; else across it, [STEP][EXTENT]. Piece i (16 bytes) of a row r lies at place i ^ (r % 8), so that
   neither eight rows of a matrix nor the pieces of a row meet in a bank. */

template <int EXTENT, bool ALONG, int THREADS> struct side {
    static constexpr int pieces = ALONG ? STEP / 8 : EXTENT / 8;  /* of a row */
    static constexpr int rows = THREADS / pieces;                 /* that all threads fetch at once, a multiple of 8 */
    static constexpr int turns = EXTENT * STEP / 8 / THREADS;     /* until a step is fetched */
    static_assert(rows % 8 == 0 && turns % 2 == 0, "fetching");
    const __nv_bfloat16 *base, *from; /* the matrix; this thread's first piece of the next step */
    size_t stride;                    /* elements from one turn to the next */
    int left;                         /* of k: columns from this piece on, or rows from this row on */
    int inside;                       /* ALONG: rows from this thread's on that the matrix has; else: bytes of this piece that it has */
    int ld;
    uint32_t to;                      /* place of the first piece in a stage */
    uint32_t at, flip;                /* this lane's place in a stage for its warp's matrices, and what its piece's place is flipped by */

    __device__ __forceinline__ void begin(const void *matrix, int row_elements, int first, int extent, int k0, int k_end)
    {
        const int piece = threadIdx.x % pieces, row = threadIdx.x / pieces;
        base = (const __nv_bfloat16 *)matrix;
        ld = row_elements;
        stride = (size_t)rows * (size_t)ld;
        if (ALONG) {
            from = base + (size_t)(first + row) * (size_t)ld + k0 + piece * 8;
            left = k_end - k0 - piece * 8;
            inside = extent - first - row;
        } else {
            from = base + (size_t)(k0 + row) * (size_t)ld + first + piece * 8;
            left = k_end - k0 - row;
            inside = min(max((extent - first - piece * 8) * 2, 0), 16);
        }
        to = row * pieces * 16 + (piece ^ (row & 7)) * 16;
    }

    /* Turns [T0, T1) of the next step into a stage. */
    template <int T0, int T1> __device__ __forceinline__ void fetch(uint32_t stage) const
    {
#pragma unroll
        for (int i = T0; i < T1; i++) {
            int bytes = ALONG ? min(max(left * 2, 0), 16) : inside;
            if ((ALONG ? inside : left) <= i * rows)
                bytes = 0;
            copy_piece(stage + to + i * rows * pieces * 16, bytes ? from + i * stride : base, bytes);
        }
    }

    __device__ __forceinline__ void advance(void)
    {
        from += ALONG ? (size_t)STEP : (size_t)STEP * (size_t)ld;
        left -= STEP;
    }

    /* A warp's 64 from `outer` on. Which 8 of 16 a lane's matrix is: along the operand's own dimension, and along k. */
    __device__ __forceinline__ void aim(int outer, int own, int along_k)
    {
        const int row = threadIdx.x & 7;
        at = ALONG ? (outer + row + own * 8) * STEP * 2 : (row + along_k * 8) * EXTENT * 2 + outer * 2;
        flip = ((ALONG ? along_k : own) ^ row) * 16;
    }

    /* 16 of k, the i-th 16 of the warp's 64 */
    __device__ __forceinline__ void load(uint32_t (&r)[4], uint32_t stage, int i, int kk) const
    {
        load_matrices<!ALONG>(r, stage + at + (ALONG ? i * 16 * STEP * 2 : kk * 16 * EXTENT * 2) + (flip ^ ((ALONG ? kk : i) * 32)));
    }
};

/* ---- results: a thread has rows g and g + 8, columns 2 t and 2 t + 1 of each 16 x 8 ---- */

struct tile {
    int row, col; /* of the warp's 64 x 64 */
};

/* All 64 x 64 are there. What is added to is read 16 rows at a time: one wait for memory, not one for each pair. */
template <bool ADD> static __device__ __forceinline__ void put_whole(const float (&acc)[4][8][4], float *c, size_t ldc)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 old[2][8];
        float *to = c + (size_t)(16 * i) * ldc;
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int j = 0; j < 8; j++)
                old[h][j] = ADD ? *(const float2 *)(to + 8 * h * ldc + 8 * j) : make_float2(0, 0);
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float x = acc[i][j][2 * h], y = acc[i][j][2 * h + 1];
                *(float2 *)(to + 8 * h * ldc + 8 * j) = ADD ? make_float2(old[h][j].x + x, old[h][j].y + y) : make_float2(x, y);
            }
    }
}

static __device__ __forceinline__ void put_f32(const float (&acc)[4][8][4], const struct train_product &p, struct tile w, float *c, size_t ldc, bool add)
{
    const int lane = threadIdx.x % 32, row0 = w.row + lane / 4, col0 = w.col + lane % 4 * 2;
    if (w.row + 64 <= p.m && w.col + 64 <= p.n) {
        float *to = c + (size_t)row0 * ldc + col0;
        if (add)
            put_whole<true>(acc, to, ldc);
        else
            put_whole<false>(acc, to, ldc);
        return;
    }
    if (w.row >= p.m || w.col >= p.n)
        return;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int row = row0 + 16 * i + 8 * h, col = col0 + 8 * j + e;
                    float *to = c + (size_t)row * ldc + col;
                    if (row < p.m && col < p.n)
                        *to = add ? *to + acc[i][j][2 * h + e] : acc[i][j][2 * h + e];
                }
}

/* By way of 8 KB of shared memory that is the warp's own: whole rows of 128 bytes go to global memory. */
static __device__ __forceinline__ void put_bf16(const float (&acc)[4][8][4], const struct train_product &p, struct tile w, uint8_t *shared)
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int j = 0; j < 8; j++)
                *(uint32_t *)(shared + (16 * i + 8 * h + g) * 128 + (j ^ g) * 16 + t * 4) = bf16_pair(acc[i][j][2 * h], acc[i][j][2 * h + 1]);
    __syncwarp();
    const int col = w.col + lane % 8 * 8;
    for (int i = 0; i < 16; i++) {
        const int r = 4 * i + lane / 8, row = w.row + r;
        if (row >= p.m || col >= p.n)
            continue;
        const uint8_t *from = shared + r * 128 + (lane % 8 ^ (r & 7)) * 16;
        uint16_t *to = (uint16_t *)p.c + (size_t)row * (size_t)p.ldc + col;
        if (col + 8 <= p.n && p.ldc % 8 == 0) {
            *(uint4 *)to = *(const uint4 *)from;
            continue;
        }
        for (int e = 0; e < 8 && col + e < p.n; e++)
            to[e] = ((const uint16_t *)from)[e];
    }
}

/* Floats from a row of a part's sums to the next. */
static __host__ __device__ __forceinline__ size_t part_pitch(const struct train_product &p) { return ((size_t)p.n + 7) & ~(size_t)7; }

/* ---- a tile ---- */

/* Part blockIdx.y of k: `steps` steps each. */
template <int TILE_N, bool ALONG_A, bool ALONG_B>
static __global__ void __launch_bounds__(TILE_N, TILE_N == 256 ? 1 : 2) product_kernel(const __grid_constant__ struct train_product p, int steps_of_part)
{
    extern __shared__ __align__(1024) uint8_t shared[];
    constexpr int A_BYTES = TILE_M * STEP * 2, STAGE_BYTES = A_BYTES + TILE_N * STEP * 2;
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);
    const int tiles_m = (p.m + TILE_M - 1) / TILE_M, tiles_n = (p.n + TILE_N - 1) / TILE_N;
    const int group = blockIdx.x / (GROUP * tiles_n), in_group = blockIdx.x % (GROUP * tiles_n), high = min(GROUP, tiles_m - group * GROUP);
    const int m0 = (group * GROUP + in_group % high) * TILE_M, n0 = in_group / high * TILE_N;
    const int k0 = blockIdx.y * steps_of_part * STEP, k_end = min(p.k, k0 + steps_of_part * STEP), steps = (k_end - k0 + STEP - 1) / STEP;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp % 2 * 64, wn = warp / 2 * 64;

    side<TILE_M, ALONG_A, TILE_N> a;
    side<TILE_N, ALONG_B, TILE_N> b;
    a.begin(p.a, p.lda, m0, p.m, k0, k_end);
    b.begin(p.b, p.ldb, n0, p.n, k0, k_end);
    a.aim(wm, lane >> 3 & 1, lane >> 4);
    b.aim(wn, lane >> 4, lane >> 3 & 1);

    float acc[4][8][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++)
            acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0;

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) {
            a.template fetch<0, a.turns>(base + s * STAGE_BYTES);
            b.template fetch<0, b.turns>(base + s * STAGE_BYTES + A_BYTES);
        }
        a.advance();
        b.advance();
        commit_copies();
    }
    wait_copies<STAGES - 2>();
    __syncthreads();

    uint32_t fa[2][4][4], fb[2][4][4];
    uint32_t reading = base, writing = base + (STAGES - 1) * STAGE_BYTES;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        a.load(fa[0][i], reading, i, 0);
        b.load(fb[0][i], reading + A_BYTES, i, 0);
    }
    for (int step = 0; step < steps; step++) {
        const bool more = step + STAGES - 1 < steps;
#pragma unroll
        for (int kk = 0; kk < 4; kk++) {
            if (kk == 3) { /* the next step is there, and nobody needs this one's stage any more: the last of it is in registers */
                wait_copies<STAGES - 2>();
                __syncthreads();
                reading = reading == base + (STAGES - 1) * STAGE_BYTES ? base : reading + STAGE_BYTES;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) { /* behind the last step: whatever is there, for nothing */
                a.load(fa[~kk & 1][i], reading, i, (kk + 1) & 3);
                b.load(fb[~kk & 1][i], reading + A_BYTES, i, (kk + 1) & 3);
            }
            if (more && kk == 0)
                a.template fetch<0, a.turns>(writing);
            if (more && kk == 1)
                b.template fetch<0, b.turns / 2>(writing + A_BYTES);
            if (kk == 2) {
                if (more)
                    b.template fetch<b.turns / 2, b.turns>(writing + A_BYTES);
                commit_copies();
                a.advance();
                b.advance();
                writing = writing == base + (STAGES - 1) * STAGE_BYTES ? base : writing + STAGE_BYTES;
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    mma(acc[i][2 * j], fa[kk & 1][i], fb[kk & 1][j][0], fb[kk & 1][j][1]);
                    mma(acc[i][2 * j + 1], fa[kk & 1][i], fb[kk & 1][j][2], fb[kk & 1][j][3]);
                }
        }
    }
    wait_copies<0>();
    __syncthreads();

    const struct tile w = {m0 + wm, n0 + wn};
    if (gridDim.y > 1)
        put_f32(acc, p, w, p.room + (size_t)blockIdx.y * (size_t)p.m * part_pitch(p), part_pitch(p), false);
    else if (p.c_f32)
        put_f32(acc, p, w, (float *)p.c, (size_t)p.ldc, p.add);
    else
        put_bf16(acc, p, w, shared + warp * 8192);
}

/* c = or += the parts' sums, in order; a thread takes 4 columns. */
static __global__ void __launch_bounds__(REDUCERS) reduce_kernel(const __grid_constant__ struct train_product p, int parts)
{
    const size_t pitch = part_pitch(p), i = (size_t)blockIdx.x * REDUCERS + threadIdx.x, part = (size_t)p.m * pitch;
    if (i >= part / 4)
        return;
    const int row = (int)(i / (pitch / 4)), col = (int)(i % (pitch / 4)) * 4;
    const float *from = p.room + (size_t)row * pitch + col;
    float4 v = *(const float4 *)from;
#pragma unroll 4
    for (int s = 1; s < parts; s++) {
        const float4 x = *(const float4 *)(from + s * part);
        v.x += x.x;
        v.y += x.y;
        v.z += x.z;
        v.w += x.w;
    }
    const size_t at = (size_t)row * (size_t)p.ldc + col;
    if (p.c_f32 && p.ldc % 4 == 0 && col + 4 <= p.n) {
        float4 *to = (float4 *)((float *)p.c + at);
        if (p.add) {
            const float4 old = *to;
            v = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
        }
        *to = v;
        return;
    }
    const float each[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int e = 0; e < 4; e++) {
        if (col + e >= p.n)
            break;
        if (!p.c_f32)
            ((uint16_t *)p.c)[at + e] = bf16_bits(each[e]);
        else
            ((float *)p.c)[at + e] = p.add ? ((float *)p.c)[at + e] + each[e] : each[e];
    }
}

/* ---- which tiles, and how many parts ---- */

struct division {
    int tile_n, steps, parts; /* steps of k a part */
};

static cudaError_t count_processors(int *n)
{
    int device = 0;
    const cudaError_t e = cudaGetDevice(&device);
    return e == cudaSuccess ? cudaDeviceGetAttribute(n, cudaDevAttrMultiProcessorCount, device) : e;
}

/* Time of tiles in units of what an SM needs for one step of 128 x 128 (about half a microsecond). One large tile fills an SM, or two small ones, whose ends overlap. */
static double tile_time(int tile_n, int steps, double blocks, int sms)
{
    const double places = tile_n == 256 ? sms : 2.0 * sms;
    const double waves = (double)(int64_t)(blocks / places), rest = blocks - waves * places, some = rest > 0;
    if (tile_n == 256)
        return (waves + some) * (2.0 * steps + 4);
    return waves * (2.1 * steps + 3) + some * ((rest > sms ? 2.1 : 1.3) * steps + 3);
}

static double parts_time(const struct train_product *p, int parts)
{
    return parts == 1 ? 0 : 5 + 8.0 * p->m * p->n * parts / 1.5e6; /* a launch, and what is written and read at about 3 TB/s */
}

static struct division choose_division(const struct train_product *p, size_t room_bytes, int sms)
{
    const int steps = (int)(((int64_t)p->k + STEP - 1) / STEP);
    struct division best = {0, 0, 0};
    double best_time = 0;
    for (int tile_n = 256; tile_n >= 128; tile_n /= 2) {
        const double tiles = (double)((p->m + TILE_M - 1) / TILE_M) * ((p->n + tile_n - 1) / tile_n);
        for (int parts = 1; parts <= MOST_PARTS && (parts == 1 || parts * 4 <= steps); parts++) {
            const int each = (steps + parts - 1) / parts;
            if (parts > 1 && ((steps + each - 1) / each != parts || (size_t)parts * (size_t)p->m * part_pitch(*p) * sizeof(float) > room_bytes))
                continue;
            const double time = tile_time(tile_n, each, tiles * parts, sms) + parts_time(p, parts);
            if (!best.parts || time < best_time) {
                best = {tile_n, each, parts};
                best_time = time;
            }
        }
    }
    return best;
}

/* ---- launches ---- */

template <int TILE_N> static const void *kernel_of(bool along_a, bool along_b)
{
    if (along_a)
        return along_b ? (const void *)product_kernel<TILE_N, true, true> : (const void *)product_kernel<TILE_N, true, false>;
    return along_b ? (const void *)product_kernel<TILE_N, false, true> : (const void *)product_kernel<TILE_N, false, false>;
}

extern "C" cudaError_t train_product_prepare(void)
{
    for (int i = 0; i < 4; i++) {
        cudaError_t e = allow_shared(kernel_of<256>(i & 1, i >> 1), shared_bytes<256>());
        if (e == cudaSuccess)
            e = allow_shared(kernel_of<128>(i & 1, i >> 1), shared_bytes<128>());
        if (e != cudaSuccess)
            return e;
    }
    return cudaSuccess;
}

extern "C" cudaError_t train_product(cudaStream_t s, const struct train_product *p)
{
    if (p->m <= 0 || p->n <= 0)
        return cudaSuccess;
    int sms = 0;
    cudaError_t e = count_processors(&sms);
    if (e != cudaSuccess)
        return e;
    const struct division c = choose_division(p, p->room ? p->room_bytes : 0, sms);
    struct launch l = {};
    l.stream = s;
    const int tiles = (p->m + TILE_M - 1) / TILE_M * ((p->n + c.tile_n - 1) / c.tile_n);
    const void *kernel = c.tile_n == 256 ? kernel_of<256>(!p->turn_a, p->turn_b) : kernel_of<128>(!p->turn_a, p->turn_b);
    int parts = c.parts, steps = c.steps;
    void *args[] = {(void *)p, &steps}, *reduce_args[] = {(void *)p, &parts};
    e = launch_kernel(l, kernel, dim3(tiles, parts), dim3(c.tile_n), (size_t)(c.tile_n == 256 ? shared_bytes<256>() : shared_bytes<128>()), args);
    if (e != cudaSuccess || parts == 1)
        return e;
    const size_t quads = (size_t)p->m * part_pitch(*p) / 4;
    return launch_kernel(l, (const void *)reduce_kernel, dim3((unsigned)((quads + REDUCERS - 1) / REDUCERS)), dim3(REDUCERS), 0, reduce_args);
}
