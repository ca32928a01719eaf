/* SPDX-License-Identifier: Apache-2.0 */
/* The decode product: 1 to 64 rows times packed weights that are streamed once. A block makes one or two tiles of 16 outputs; its 8 warps are the 8 lanes of the
   sum (layout.h). Several small blocks an SM overlap each other's start and end, and each asks for its first weights before it waits for its activations, so the
   memory bus sees few gaps between the products of a layer. */
#include "backend/cuda/epilogue.cuh"

enum { WARPS = LANES_K };

/* Dynamic shared memory, in bytes. */
#define SUMS_BYTES(nt, tiles) (8 * 8 * (nt) * (16 * (tiles) + 4) * 4)
#define SLOT_BYTES(tiles, depth) (8 * (depth) * (tiles) * 1024)
#define LARGER(a, b) ((a) > (b) ? (a) : (b))

static __device__ __forceinline__ void mma_bf16(float (&c)[4], const uint4 &a, uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void mma_tf32(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Two f16 of a word as floats' bits: exact in tf32, which has the same 10 bits behind the point. */
static __device__ __forceinline__ uint32_t f16_low(uint32_t w) { return __float_as_uint(half_bits(w & 0xffffu)); }
static __device__ __forceinline__ uint32_t f16_high(uint32_t w) { return __float_as_uint(half_bits(w >> 16)); }

/* One of the two halves (j) of a 32-column unit. A product of f16 weights: columns k and k + 1 of a word are the two k steps of m16n8k8 that thread t holds. */
template <int KIND> static __device__ __forceinline__ void multiply_half(float (&c)[4], const uint4 &a, uint32_t b0, uint32_t b1)
{
    if (KIND == PACKED_BF16) {
        mma_bf16(c, a, b0, b1);
    } else {
        mma_tf32(c, f16_low(a.x), f16_low(a.y), f16_high(a.x), f16_high(a.y), __float_as_uint(bf16_low(b0)), __float_as_uint(bf16_high(b0)));
        mma_tf32(c, f16_low(a.z), f16_low(a.w), f16_high(a.z), f16_high(a.w), __float_as_uint(bf16_low(b1)), __float_as_uint(bf16_high(b1)));
    }
}

/* What a block knows. */
struct place {
    int tile, warp, lane, n_units; /* first tile; n_units: of this warp */
    const uint8_t *w;              /* this warp's first unit of that tile */
    size_t tile_bytes, lane_bytes; /* to the next tile; to this warp's next unit */
    const uint8_t *x;              /* bf16: this thread's 16 bytes of row lane / 4 in this warp's first 32 columns */
};

template <int TILES, int XCOLS> static __device__ __forceinline__ struct place find_place(const struct product &p)
{
    struct place at;
    at.tile = blockIdx.x * TILES;
    at.warp = threadIdx.x >> 5;
    at.lane = threadIdx.x & 31;
    at.n_units = (p.w.units - at.warp + WARPS - 1) / WARPS;
    at.tile_bytes = (size_t)p.w.units * p.w.unit_bytes;
    at.lane_bytes = (size_t)WARPS * p.w.unit_bytes;
    at.w = p.w.data + (size_t)at.tile * at.tile_bytes + (size_t)at.warp * p.w.unit_bytes;
    at.x = (const uint8_t *)p.x + (size_t)at.warp * XCOLS * 2 * (size_t)p.bucket + (size_t)at.lane * 16;
    return at;
}

/* The lanes' sums meet in shared memory [8][8 NT][height + 4], once. */
template <int NT, int TILES> using epilogue_ahead = struct ahead<(16 * TILES * 8 * NT + PRODUCT_THREADS - 1) / PRODUCT_THREADS>;

template <int NT, int TILES>
static __device__ __forceinline__ void join_lanes(const struct product &p, const struct place &at, const float (&acc)[TILES][NT][4], float *sums, const struct block_rows &rows, epilogue_ahead<NT, TILES> &x)
{
    const int height = 16 * TILES, stride = height + 4, plane = 8 * NT * stride, g = at.lane >> 2, t = at.lane & 3;
    float *mine = sums + at.warp * plane;
    if (NT > 1)
        fetch_ahead(p, rows, at.tile, height, x);
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            float *q = mine + (nt * 8 + 2 * t) * stride + i * 16 + g;
            q[0] = acc[i][nt][0];
            q[stride] = acc[i][nt][1];
            q[8] = acc[i][nt][2];
            q[stride + 8] = acc[i][nt][3];
        }
    __syncthreads();
    finish_product(p, rows, at.tile, height, x, [&](int r, int row) {
        const float *q = sums + r * stride + row;
        return ((q[0] + q[plane]) + (q[2 * plane] + q[3 * plane])) + ((q[4 * plane] + q[5 * plane]) + (q[6 * plane] + q[7 * plane]));
    });
}

template <int NT> static __device__ __forceinline__ void load_x(uint4 (&x)[NT], const struct product &p, const struct place &at, int unit, size_t stride)
{
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        x[nt] = make_uint4(0, 0, 0, 0);
        if (unit < at.n_units && nt * 8 + (at.lane >> 2) < p.rows)
            x[nt] = *(const uint4 *)(at.x + (size_t)unit * stride + nt * 512);
    }
}

template <int KIND, int NT, int TILES> static __device__ __forceinline__ void multiply_unit(float (&acc)[TILES][NT][4], int i, const uint4 &a0, const uint4 &a1, const uint4 (&x)[NT])
{
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
        multiply_half<KIND>(acc[i][nt], a0, x[nt].x, x[nt].y);
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
        multiply_half<KIND>(acc[i][nt], a1, x[nt].z, x[nt].w);
}

/* BF16 and F16 with DEPTH units of weights and X_DEPTH of activations in flight in registers: rows 1..8 NT. */
template <int KIND, int NT, int TILES, int DEPTH, int X_DEPTH, int BLOCKS> __global__ void __launch_bounds__(PRODUCT_THREADS, BLOCKS) product_regs(const __grid_constant__ struct product p)
{
    extern __shared__ __align__(128) float sums[];
    __shared__ struct block_rows rows;
    float *room = sums + SUMS_BYTES(NT, TILES) / 4;
    const struct place at = find_place<TILES, 32>(p);
    const size_t x_stride = (size_t)WARPS * 64 * (size_t)p.bucket;
    uint4 a[DEPTH][TILES * 2];
    auto load = [&](int s, int u) {
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int j = 0; j < 2; j++)
                a[s][i * 2 + j] = u < at.n_units && at.tile + i < p.w.tiles ? load_weights(at.w + (size_t)i * at.tile_bytes + (size_t)u * at.lane_bytes + j * 512 + at.lane * 16) : make_uint4(0, 0, 0, 0);
    };
#pragma unroll
    for (int s = 0; s < DEPTH; s++)
        load(s, s);
    pdl_go();
    fetch_rows(p, rows);
    __syncthreads();
    pdl_wait();
    static_assert(DEPTH % X_DEPTH == 0, "places");
    float acc[TILES][NT][4] = {};
    uint4 x[X_DEPTH][NT];
#pragma unroll
    for (int s = 0; s < X_DEPTH; s++)
        load_x<NT>(x[s], p, at, s, x_stride);
    fetch_squares<NT>(p, room, rows);
    epilogue_ahead<NT, TILES> ahead;
    if (NT == 1)
        fetch_ahead(p, rows, at.tile, 16 * TILES, ahead);
    for (int u = 0; u < at.n_units; u += DEPTH)
#pragma unroll
        for (int s = 0; s < DEPTH; s++) {
#pragma unroll
            for (int i = 0; i < TILES; i++)
                multiply_unit<KIND, NT, TILES>(acc, i, a[s][i * 2], a[s][i * 2 + 1], x[s % X_DEPTH]);
            load_x<NT>(x[s % X_DEPTH], p, at, u + s + X_DEPTH, x_stride);
            load(s, u + s + DEPTH);
        }
    finish_squares<NT>(p, room, rows);
    join_lanes<NT, TILES>(p, at, acc, sums, rows, ahead);
}

static __device__ __forceinline__ void copy_async(uint32_t to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/* The same with the weights in flight in shared memory, in slots that only the thread itself reads: no barrier, and fewer registers. */
template <int KIND, int NT, int TILES, int DEPTH, int BLOCKS, bool AHEAD> __global__ void __launch_bounds__(PRODUCT_THREADS, BLOCKS) product_slots(const __grid_constant__ struct product p)
{
    extern __shared__ __align__(128) float sums[];
    __shared__ struct block_rows rows;
    float *room = sums + LARGER(SUMS_BYTES(NT, TILES), SLOT_BYTES(TILES, DEPTH)) / 4;
    const struct place at = find_place<TILES, 32>(p);
    const size_t x_stride = (size_t)WARPS * 64 * (size_t)p.bucket;
    const uint8_t *slot = (const uint8_t *)sums + at.warp * (DEPTH * TILES * 1024) + at.lane * 16;
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(slot);
    auto load = [&](int s, int u) {
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int j = 0; j < 2; j++)
                if (u < at.n_units && at.tile + i < p.w.tiles)
                    copy_async(to + s * (TILES * 1024) + i * 1024 + j * 512, at.w + (size_t)i * at.tile_bytes + (size_t)u * at.lane_bytes + j * 512 + at.lane * 16);
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
#pragma unroll
    for (int s = 0; s < DEPTH - 1; s++)
        load(s, s);
    pdl_go();
    fetch_rows(p, rows);
    __syncthreads();
    pdl_wait();
    float acc[TILES][NT][4] = {};
    uint4 x[NT];
    if (AHEAD)
        load_x<NT>(x, p, at, 0, x_stride);
    fetch_squares<NT>(p, room, rows);
    epilogue_ahead<NT, TILES> ahead;
    if (NT == 1)
        fetch_ahead(p, rows, at.tile, 16 * TILES, ahead);
    for (int u = 0, s = 0; u < at.n_units; u++, s = s + 1 == DEPTH ? 0 : s + 1) {
        uint4 next[NT];
        if (AHEAD)
            load_x<NT>(next, p, at, u + 1, x_stride);
        else
            load_x<NT>(x, p, at, u, x_stride);
        load(s ? s - 1 : DEPTH - 1, u + DEPTH - 1); /* the slot that the last turn has read */
        asm volatile("cp.async.wait_group %0;" ::"n"(DEPTH - 1) : "memory");
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const uint8_t *from = slot + s * (TILES * 1024) + i * 1024;
            multiply_unit<KIND, NT, TILES>(acc, i, *(const uint4 *)from, *(const uint4 *)(from + 512), x);
        }
        if (AHEAD)
#pragma unroll
            for (int nt = 0; nt < NT; nt++)
                x[nt] = next[nt];
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads(); /* the sums lie where the slots were */
    finish_squares<NT>(p, room, rows);
    join_lanes<NT, TILES>(p, at, acc, sums, rows, ahead);
}

/* ---- quantised weights: codes become exact bf16 integers, a product of 32 columns starts from zero and joins the sum with its scale ---- */

static __device__ __forceinline__ uint32_t subtract_pairs(uint32_t a, uint32_t b)
{
    const __nv_bfloat162 d = __hsub2(*(const __nv_bfloat162 *)&a, *(const __nv_bfloat162 *)&b);
    return *(const uint32_t *)&d;
}

/* Signed bytes 0 and 2 of a word: 0x4300 | low seven bits is 128 + those, and 0x4300 | the sign bit is 128 or 256. */
static __device__ __forceinline__ uint32_t signed_pair(uint32_t w) { return subtract_pairs((w & 0x007f007fu) | 0x43004300u, (w & 0x00800080u) | 0x43004300u); }

static __device__ __forceinline__ uint4 q8_fragment(uint32_t first, uint32_t second)
{
    return make_uint4(signed_pair(first), signed_pair(first >> 8), signed_pair(second), signed_pair(second >> 8));
}

/* Codes 0..15 less the offset. */
template <int KIND> static __device__ __forceinline__ uint4 q4_fragment(uint32_t w)
{
    const uint32_t offset = KIND == PACKED_Q4_0 ? 0x43084308u : 0x43004300u; /* 136 or 128 */
    uint4 a;
    a.x = subtract_pairs((w & 0x000f000fu) | 0x43004300u, offset);
    a.y = subtract_pairs((w >> 4 & 0x000f000fu) | 0x43004300u, offset);
    a.z = subtract_pairs((w >> 8 & 0x000f000fu) | 0x43004300u, offset);
    a.w = subtract_pairs((w >> 12 & 0x000f000fu) | 0x43004300u, offset);
    return a;
}

/* One 128-column unit in registers. */
template <int KIND> struct codes {
    uint4 code[KIND == PACKED_Q8 ? 4 : 2], scale, minimum;
};

template <int KIND> static __device__ __forceinline__ void load_codes(struct codes<KIND> &c, const uint8_t *unit, int lane)
{
    const int pieces = KIND == PACKED_Q8 ? 4 : 2;
#pragma unroll
    for (int i = 0; i < pieces; i++)
        c.code[i] = load_weights(unit + i * 512 + lane * 16);
    c.scale = load_weights(unit + pieces * 512 + (lane >> 2) * 16);
    if (KIND == PACKED_Q4_1)
        c.minimum = load_weights(unit + pieces * 512 + 128 + (lane >> 2) * 16);
}

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

/* 32 columns of a unit as A operands, with their scales and minima. */
struct operand {
    uint4 a0, a1;
    float d0, d1, m0, m1; /* rows g, g + 8 */
};

template <int KIND> static __device__ __forceinline__ struct operand decode_codes(const struct codes<KIND> &c, int b)
{
    struct operand o;
    if (KIND == PACKED_Q8) {
        o.a0 = q8_fragment(c.code[KIND == PACKED_Q8 ? b : 0].x, c.code[KIND == PACKED_Q8 ? b : 0].y);
        o.a1 = q8_fragment(c.code[KIND == PACKED_Q8 ? b : 0].z, c.code[KIND == PACKED_Q8 ? b : 0].w);
    } else {
        o.a0 = q4_fragment<KIND>(word_of(c.code[b >> 1], 2 * (b & 1)));
        o.a1 = q4_fragment<KIND>(word_of(c.code[b >> 1], 2 * (b & 1) + 1));
    }
    const uint32_t d = word_of(c.scale, b), m = KIND == PACKED_Q4_1 ? word_of(c.minimum, b) : 0;
    o.d0 = half_bits(d & 0xffffu);
    o.d1 = half_bits(d >> 16);
    o.m0 = half_bits(m & 0xffffu);
    o.m1 = half_bits(m >> 16);
    return o;
}

/* NT times 8 rows; acc: the first of theirs. */
template <int KIND, int NT> static __device__ __forceinline__ void multiply_codes(float (*acc)[4], const struct operand &o, const uint4 (&x)[NT])
{
    const uint4 ones = make_uint4(0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u);
    float s[NT][4] = {};
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
        mma_bf16(s[nt], o.a0, x[nt].x, x[nt].y);
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
        mma_bf16(s[nt], o.a1, x[nt].z, x[nt].w);
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        acc[nt][0] = fmaf(o.d0, s[nt][0], acc[nt][0]);
        acc[nt][1] = fmaf(o.d0, s[nt][1], acc[nt][1]);
        acc[nt][2] = fmaf(o.d1, s[nt][2], acc[nt][2]);
        acc[nt][3] = fmaf(o.d1, s[nt][3], acc[nt][3]);
        if (KIND == PACKED_Q4_1) {
            float e[4] = {0, 0, 0, 0};
            mma_bf16(e, ones, x[nt].x, x[nt].y);
            mma_bf16(e, ones, x[nt].z, x[nt].w);
            acc[nt][0] = fmaf(o.m0, e[0], acc[nt][0]);
            acc[nt][1] = fmaf(o.m0, e[1], acc[nt][1]);
            acc[nt][2] = fmaf(o.m1, e[2], acc[nt][2]);
            acc[nt][3] = fmaf(o.m1, e[3], acc[nt][3]);
        }
    }
}

/* x of 32-column group `group` of this warp's groups: four to a unit, the units 8 apart. */
template <int NT> static __device__ __forceinline__ void load_x_group(uint4 (&x)[NT], const struct product &p, const struct place &at, int group)
{
    const int unit = group >> 2, b = group & 3;
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        x[nt] = make_uint4(0, 0, 0, 0);
        if (unit < at.n_units && nt * 8 + (at.lane >> 2) < p.rows)
            x[nt] = *(const uint4 *)(at.x + ((size_t)unit * (WARPS * 4) + (size_t)b) * 64 * (size_t)p.bucket + nt * 512);
    }
}

template <int KIND, int NT, int DEPTH, int X_DEPTH, int BLOCKS> __global__ void __launch_bounds__(PRODUCT_THREADS, BLOCKS) product_codes(const __grid_constant__ struct product p)
{
    extern __shared__ __align__(128) float sums[];
    __shared__ struct block_rows rows;
    const struct place at = find_place<1, 128>(p);
    float *room = sums + SUMS_BYTES(NT, 1) / 4;
    struct codes<KIND> c[DEPTH];
    auto load = [&](int s, int u) {
        if (u < at.n_units)
            load_codes<KIND>(c[s], at.w + (size_t)u * at.lane_bytes, at.lane);
    };
#pragma unroll
    for (int s = 0; s < DEPTH; s++)
        load(s, s);
    pdl_go();
    fetch_rows(p, rows);
    __syncthreads();
    pdl_wait();
    float acc[1][NT][4] = {};
    uint4 x[X_DEPTH][NT]; /* of groups of 32 columns */
#pragma unroll
    for (int b = 0; b < X_DEPTH; b++)
        load_x_group<NT>(x[b], p, at, b);
    fetch_squares<NT>(p, room, rows);
    epilogue_ahead<NT, 1> ahead;
    if (NT == 1)
        fetch_ahead(p, rows, at.tile, 16, ahead);
    for (int u = 0; u < at.n_units; u += DEPTH)
#pragma unroll
        for (int s = 0; s < DEPTH; s++) {
            if (u + s >= at.n_units)
                break;
#pragma unroll
            for (int b = 0; b < 4; b++) {
                multiply_codes<KIND, NT>(acc[0], decode_codes<KIND>(c[s], b), x[b % X_DEPTH]);
                load_x_group<NT>(x[b % X_DEPTH], p, at, (u + s) * 4 + b + X_DEPTH);
            }
            load(s, u + s + DEPTH);
        }
    finish_squares<NT>(p, room, rows);
    join_lanes<NT, 1>(p, at, acc, sums, rows, ahead);
}

/* ---- f32 activations (--compute f32): no tensor cores, any kind of weights, eight rows at a time; for accuracy, not for speed ---- */

static __device__ __forceinline__ void wide_rows(const struct product &p, const struct place &at, int first, float (&acc)[2][8])
{
    const int g = at.lane >> 2, t = at.lane & 3, unit_cols = p.w.kind >= PACKED_Q8 ? 128 : 32;
    for (int u = at.warp; u < p.w.units; u += WARPS)
        for (int b = 0; b < unit_cols / 32; b++)
            for (int k = 0; k < 8; k++) {
                const int col = u * unit_cols + b * 32 + t * 8 + k;
                const float low = packed_element(p.w, at.tile * 16 + g, col), high = packed_element(p.w, at.tile * 16 + g + 8, col);
                const float *x = (const float *)p.x + ((size_t)(col >> 5) * (size_t)p.bucket + (size_t)first) * 32 + (col & 31);
#pragma unroll
                for (int r = 0; r < 8; r++) {
                    const float v = first + r < p.rows ? x[r * 32] : 0.0f;
                    acc[0][r] = fmaf(low, v, acc[0][r]);
                    acc[1][r] = fmaf(high, v, acc[1][r]);
                }
            }
#pragma unroll
    for (int r = 0; r < 8; r++)
#pragma unroll
        for (int i = 0; i < 2; i++) { /* the four threads that share the rows */
            acc[i][r] += __shfl_xor_sync(0xffffffffu, acc[i][r], 1);
            acc[i][r] += __shfl_xor_sync(0xffffffffu, acc[i][r], 2);
        }
}

__global__ void __launch_bounds__(PRODUCT_THREADS) product_wide(const __grid_constant__ struct product p)
{
    extern __shared__ __align__(128) float sums[]; /* [8 lanes][bucket][20] */
    __shared__ struct block_rows rows;
    const struct place at = find_place<1, 32>(p);
    const int plane = p.bucket * 20;
    pdl_go();
    fetch_rows(p, rows);
    __syncthreads();
    pdl_wait();
    if (p.bucket > SQUARES_ROWS)
        fetch_scales(p, rows);
    else
        finish_squares<SQUARES_ROWS / 8>(p, NULL, rows);
    for (int first = 0; first < p.rows; first += 8) {
        float acc[2][8] = {};
        wide_rows(p, at, first, acc);
        if ((at.lane & 3) == 0)
            for (int r = 0; r < 8; r++)
                for (int i = 0; i < 2; i++)
                    sums[at.warp * plane + (first + r) * 20 + i * 8 + (at.lane >> 2)] = acc[i][r];
    }
    struct ahead<4> x;
    fetch_ahead(p, rows, at.tile, 16, x);
    __syncthreads();
    finish_product(p, rows, at.tile, 16, x, [&](int r, int row) {
        const float *q = sums + r * 20 + row;
        return ((q[0] + q[plane]) + (q[2 * plane] + q[3 * plane])) + ((q[4 * plane] + q[5 * plane]) + (q[6 * plane] + q[7 * plane]));
    });
}

/* ---- which kernel, measured; the bits are the same whichever it is ---- */

struct variant {
    const void *kernel;
    int tiles;  /* of a block */
    int shared; /* bytes, without the squares */
};

enum { BUCKETS = 4, FEW_TILES = 600 }; /* few: not two turns of the blocks that an H100 holds */

#define REGS(kind, nt, tiles, depth, x_depth, blocks) {(const void *)product_regs<kind, nt, tiles, depth, x_depth, blocks>, tiles, SUMS_BYTES(nt, tiles)}
#define SLOTS(kind, nt, tiles, depth, blocks, ahead) \
    {(const void *)product_slots<kind, nt, tiles, depth, blocks, ahead>, tiles, LARGER(SUMS_BYTES(nt, tiles), SLOT_BYTES(tiles, depth))}
#define CODES(kind, nt, depth, x_depth, blocks) {(const void *)product_codes<kind, nt, depth, x_depth, blocks>, 1, SUMS_BYTES(nt, 1)}
#define WIDE {(const void *)product_wide, 1, 0}
#define NONE {NULL, 0, 0}

/* [kind][8, 16, 32, 64 rows] */
static const struct variant variants[PACKED_KINDS][BUCKETS] = {
    [PACKED_BF16] = {REGS(PACKED_BF16, 1, 1, 4, 4, 3), REGS(PACKED_BF16, 2, 1, 4, 2, 3), REGS(PACKED_BF16, 4, 2, 2, 2, 2), SLOTS(PACKED_BF16, 8, 2, 3, 2, false)},
    [PACKED_F16] = {SLOTS(PACKED_F16, 1, 1, 5, 3, true), SLOTS(PACKED_F16, 2, 1, 5, 3, true), SLOTS(PACKED_F16, 4, 1, 5, 2, true), SLOTS(PACKED_F16, 8, 1, 4, 2, false)},
    [PACKED_F32] = {WIDE, WIDE, WIDE, WIDE},
    [PACKED_Q8] = {CODES(PACKED_Q8, 1, 1, 2, 4), CODES(PACKED_Q8, 2, 2, 2, 2), CODES(PACKED_Q8, 4, 1, 2, 2), CODES(PACKED_Q8, 8, 1, 1, 2)},
    [PACKED_Q4_0] = {CODES(PACKED_Q4_0, 1, 2, 2, 4), CODES(PACKED_Q4_0, 2, 2, 2, 2), CODES(PACKED_Q4_0, 4, 1, 2, 2), CODES(PACKED_Q4_0, 8, 1, 1, 2)},
    [PACKED_Q4_1] = {CODES(PACKED_Q4_1, 1, 2, 2, 3), CODES(PACKED_Q4_1, 2, 2, 2, 2), CODES(PACKED_Q4_1, 4, 1, 2, 2), CODES(PACKED_Q4_1, 8, 1, 1, 2)},
};

/* With few tiles, where there is a better one: more of each block's weights in flight, or more blocks. */
static const struct variant few_variants[PACKED_KINDS][BUCKETS] = {
    [PACKED_BF16] = {NONE, NONE, REGS(PACKED_BF16, 4, 1, 2, 2, 3), NONE},
    [PACKED_F16] = {NONE, NONE, NONE, NONE},
    [PACKED_F32] = {NONE, NONE, NONE, NONE},
    [PACKED_Q8] = {CODES(PACKED_Q8, 1, 2, 2, 3), NONE, NONE, NONE},
    [PACKED_Q4_0] = {CODES(PACKED_Q4_0, 1, 3, 2, 3), NONE, NONE, NONE},
    [PACKED_Q4_1] = {NONE, NONE, NONE, NONE},
};

static struct variant variant_of(const struct product *p)
{
    const int kind = p->x_f32 ? PACKED_F32 : p->w.kind, bucket = p->bucket == 8 ? 0 : p->bucket == 16 ? 1 : p->bucket == 32 ? 2 : 3;
    struct variant v = p->w.tiles < FEW_TILES && few_variants[kind][bucket].kernel ? few_variants[kind][bucket] : variants[kind][bucket];
    v.shared = v.shared ? v.shared : 8 * p->bucket * 20 * 4;
    v.shared += squares_ahead(*p) ? p->rows * p->n_square * 4 : 0;
    return v;
}

cudaError_t cuda_product_prepare(void)
{
    for (int i = 0; i < PACKED_KINDS * BUCKETS; i++) {
        const struct variant v = variants[i / BUCKETS][i % BUCKETS], few = few_variants[i / BUCKETS][i % BUCKETS];
        const int more = SQUARES_ROWS * SQUARES_MOST * 4;
        cudaError_t e = allow_shared(v.kernel, (v.shared ? v.shared : 8 * 64 * 20 * 4) + (i % BUCKETS < 2 ? more : 0));
        if (e == cudaSuccess && few.kernel)
            e = allow_shared(few.kernel, few.shared + (i % BUCKETS < 2 ? more : 0));
        if (e != cudaSuccess)
            return e;
    }
    return cudaSuccess;
}

cudaError_t cuda_product(struct launch l, const struct product *p)
{
    const struct variant v = variant_of(p);
    void *args[] = {(void *)p};
    return launch_kernel(l, v.kernel, dim3((unsigned)((p->w.tiles + v.tiles - 1) / v.tiles)), dim3(PRODUCT_THREADS), (size_t)v.shared, args);
}
