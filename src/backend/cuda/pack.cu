/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a checkpoint become packed weights. A warp makes 32 columns of a tile; its thread 4 g + t reads columns 8t .. 8t+7 of rows g and g + 8 and writes just
   what layout.h gives that thread, so reading is in whole 64-byte lines of a row and writing in whole lines of a unit. Numbers are rounded by the same operations
   in the same order as in dtype_from_f32 (base/dtype.c) on a thread that keeps denormals. */
#include "backend/cuda/device.cuh"
#include "base/dtype.h"

enum { WARPS = 8 };

struct pack_job {
    uint8_t *out;          /* the first tile that this call writes */
    const uint8_t *src;
    size_t row_bytes;
    int n_rows, cols;
    int tiles, units;
    uint32_t unit_bytes;
    int map, half;         /* half: head_dim / 2 */
    int keep;              /* which half of a tile to write: KEEP_* */
    int aligned;           /* rows are 16-byte aligned */
};
enum { KEEP_BOTH, KEEP_LOW, KEEP_HIGH };

/* Eight neighbouring columns of a row: pairs of 16 bits (4 words), f32 (8 words), or a code in each word with the f16 scale and minimum of its block of 32. */
struct piece {
    uint32_t w[8];
    uint32_t scale, low;
};

/* ---- reading ---- */

/* Rows g and g + 8 of a tile; NULL: zeros. */
static __device__ __forceinline__ void find_rows(const struct pack_job &j, int tile, int g, const uint8_t *row[2])
{
    int r = (j.map == ROWS_GATE ? 8 : 16) * tile + g, apart = 8;
    if (j.map == ROWS_HEADS) {
        const int per_head = (j.half + 7) / 8, head = tile / per_head, pair = tile % per_head * 8 + g;
        r = pair < j.half ? head * 2 * j.half + pair : j.n_rows;
        apart = j.half;
    }
    row[0] = r < j.n_rows ? j.src + (size_t)r * j.row_bytes : NULL;
    row[1] = r + apart < j.n_rows ? j.src + (size_t)(r + apart) * j.row_bytes : NULL;
    if (j.map == ROWS_GATE) {
        row[1] = j.keep == KEEP_HIGH ? row[0] : NULL;
        row[0] = j.keep == KEEP_HIGH ? NULL : row[0];
    }
}

/* The bits of 8 values of SIZE bytes, zeros behind the last column. */
template <int SIZE> static __device__ __forceinline__ void read_bits(const struct pack_job &j, const uint8_t *row, int col, uint32_t w[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        w[i] = 0;
    if (!row)
        return;
    const uint8_t *p = row + (size_t)col * SIZE;
    if (j.aligned && col + 8 <= j.cols) {
#pragma unroll
        for (int i = 0; i < SIZE / 2; i++) {
            const uint4 v = ((const uint4 *)p)[i];
            w[4 * i] = v.x;
            w[4 * i + 1] = v.y;
            w[4 * i + 2] = v.z;
            w[4 * i + 3] = v.w;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (col + i < j.cols) {
            if (SIZE == 4)
                w[i] = ((const uint32_t *)p)[i];
            else
                w[i / 2] |= (uint32_t)((const uint16_t *)p)[i] << (16 * (i & 1));
        }
}

/* As f16_to_f32: a NaN keeps its bits and comes out quiet. */
static __device__ __forceinline__ float widen_f16(uint32_t h)
{
    if ((h & 0x7c00u) != 0x7c00u)
        return half_bits(h);
    return __uint_as_float((h & 0x8000u) << 16 | 0x7f800000u | (h & 0x3ffu) << 13 | (h & 0x3ffu ? 0x400000u : 0u));
}

template <int DTYPE> static __device__ __forceinline__ void read_floats(const struct pack_job &j, const uint8_t *row, int col, float v[8])
{
    uint32_t w[8];
    read_bits<DTYPE == DT_F32 ? 4 : 2>(j, row, col, w);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t h = w[i / 2] >> (16 * (i & 1)) & 0xffffu;
        v[i] = DTYPE == DT_F32 ? __uint_as_float(w[i]) : DTYPE == DT_BF16 ? __uint_as_float(h << 16) : widen_f16(h);
    }
}

/* Codes of a block as the file has them. A block is at an even address. */
template <int DTYPE> static __device__ __forceinline__ void read_codes(const struct pack_job &j, const uint8_t *row, int col, struct piece *out)
{
    *out = {};
    if (!row || col >= j.cols)
        return;
    const int t = col % 32 / 8, bytes = DTYPE == DT_Q8_0 ? 34 : DTYPE == DT_Q4_0 ? 18 : 20, head = DTYPE == DT_Q4_1 ? 2 : 1;
    const uint16_t *p = (const uint16_t *)(row + (size_t)(col / 32) * bytes);
    out->scale = p[0];
    out->low = DTYPE == DT_Q4_1 ? p[1] : 0;
    p += head + 4 * (DTYPE == DT_Q8_0 ? t : t & 1);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t pair = DTYPE == DT_Q8_0 ? p[i] : p[i] >> (4 * (t >> 1)); /* nibbles: values j low, j + 16 high */
        out->w[2 * i] = pair & (DTYPE == DT_Q8_0 ? 255u : 15u);
        out->w[2 * i + 1] = pair >> 8 & (DTYPE == DT_Q8_0 ? 255u : 15u);
    }
}

/* ---- rounding ---- */

static __device__ __forceinline__ uint32_t round_bf16(float x)
{
    const uint32_t u = __float_as_uint(x), a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return u >> 16 | 0x40u;
    if (a < 0x00800000u)
        return u >> 16 & 0x8000u;
    return (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

static __device__ __forceinline__ uint32_t f16_of(float x) { return __half_as_ushort(__float2half_rn(x)); }

/* The larger one; NaN in a counts as nothing. */
static __device__ __forceinline__ float larger(float a, float b) { return a > b ? a : b; }

/* The largest over the four threads that share a row. */
static __device__ __forceinline__ float largest_of_row(float m)
{
    m = larger(__shfl_xor_sync(0xffffffffu, m, 1), m);
    return larger(__shfl_xor_sync(0xffffffffu, m, 2), m);
}

/* Cut to [lo, hi] and to an integer; NaN gives lo. */
static __device__ __forceinline__ uint32_t code_of(float x, float lo, float hi)
{
    const float v = x > lo ? x : lo;
    return (uint32_t)__float2int_rz(v < hi ? v : hi);
}

static __device__ __forceinline__ void round_q8(const float v[8], struct piece *out)
{
    float m = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        m = larger(fabsf(v[i]), m);
    const float d = __fdiv_rn(largest_of_row(m), 127.0f), inv = d > 0 ? __fdiv_rn(1.0f, d) : 0;
    out->scale = f16_of(d);
#pragma unroll
    for (int i = 0; i < 8; i++)
        out->w[i] = code_of(__fadd_rn(__fmul_rn(v[i], inv), copysignf(0.49999997f, v[i])), -127, 127) & 255u;
}

/* The value of largest magnitude among the 32 of a row; of equal ones the first. */
static __device__ __forceinline__ float find_peak(const float v[8], float lo, float hi)
{
    const int t = threadIdx.x & 3;
    int at = 32;
    float peak = hi;
#pragma unroll
    for (int i = 7; i >= 0; i--)
        if (v[i] == lo || v[i] == hi) {
            at = 8 * t + i;
            peak = v[i];
        }
#pragma unroll
    for (int apart = 1; apart < 4; apart *= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, at, apart);
        const float other_peak = __shfl_xor_sync(0xffffffffu, peak, apart);
        if (other < at) {
            at = other;
            peak = other_peak;
        }
    }
    return hi != -lo ? (hi > -lo ? hi : lo) : peak;
}

static __device__ __forceinline__ void round_q4(const float v[8], struct piece *out)
{
    const float inf = __uint_as_float(0x7f800000u);
    float hi = -inf, minus = -inf;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        hi = larger(v[i], hi);
        minus = larger(-v[i], minus);
    }
    hi = largest_of_row(hi);
    const float lo = -largest_of_row(minus);
    const float d = __fdiv_rn(find_peak(v, lo, hi), -8.0f), m = __fmul_rn(-8.0f, d), inv = d != 0 ? __fdiv_rn(1.0f, d) : 0;
    out->scale = f16_of(d);
#pragma unroll
    for (int i = 0; i < 8; i++)
        out->w[i] = code_of(__fadd_rn(__fmul_rn(__fsub_rn(v[i], m), inv), 0.5f), 0, 15);
}

/* A row's piece as packed. All threads of a warp call it together. */
template <int DTYPE, int KIND> static __device__ __forceinline__ struct piece read_piece(const struct pack_job &j, const uint8_t *row, int col)
{
    struct piece out = {};
    if (DTYPE >= DT_Q8_0) {
        read_codes<DTYPE>(j, row, col, &out);
    } else if (KIND == PACKED_F32) {
        read_bits<4>(j, row, col, out.w);
    } else if (KIND == PACKED_F16 || (KIND == PACKED_BF16 && DTYPE == DT_BF16)) {
        read_bits<2>(j, row, col, out.w);
    } else {
        float v[8];
        read_floats<DTYPE>(j, row, col, v);
        if (KIND == PACKED_BF16) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                out.w[i] = round_bf16(v[2 * i]) | round_bf16(v[2 * i + 1]) << 16;
        } else {
            if (KIND == PACKED_Q8)
                round_q8(v, &out);
            else
                round_q4(v, &out);
            if (!row || col >= j.cols) /* padding has no sign of zero */
                out = {};
        }
    }
    return out;
}

/* ---- writing: `mask` says which bits are this call's; the others stay as they are (gate and up share words, and go to the same stream one after the other) ---- */

static __device__ __forceinline__ uint32_t mix(uint32_t old, uint32_t now, uint32_t mask) { return (old & ~mask) | (now & mask); }

static __device__ __forceinline__ void put1(uint8_t *at, uint32_t v, uint32_t mask)
{
    uint32_t *p = (uint32_t *)at;
    *p = ~mask ? mix(*p, v, mask) : v;
}

static __device__ __forceinline__ void put2(uint8_t *at, uint2 v, uint32_t mask)
{
    uint2 *p = (uint2 *)at;
    if (~mask) {
        const uint2 old = *p;
        v = make_uint2(mix(old.x, v.x, mask), mix(old.y, v.y, mask));
    }
    *p = v;
}

/* Masks of its even and its odd words. */
static __device__ __forceinline__ void put4(uint8_t *at, uint4 v, uint32_t even, uint32_t odd)
{
    uint4 *p = (uint4 *)at;
    if (~(even & odd)) {
        const uint4 old = *p;
        v = make_uint4(mix(old.x, v.x, even), mix(old.y, v.y, odd), mix(old.z, v.z, even), mix(old.w, v.w, odd));
    }
    *p = v;
}

/* The bits of a word that are row g's where the rows take turns every so many bits. */
static __device__ __forceinline__ uint32_t mask_of(int keep, uint32_t low) { return keep == KEEP_BOTH ? ~0u : keep == KEEP_LOW ? low : ~low; }

template <int KIND> static __device__ __forceinline__ void write_pieces(const struct pack_job &j, uint8_t *unit, int b, const struct piece &lo, const struct piece &hi)
{
    const int lane = threadIdx.x & 31, g = lane / 4, t = lane & 3;
    const uint32_t *x = lo.w, *y = hi.w;
    if (KIND == PACKED_F32) {
#pragma unroll
        for (int p = 0; p < 2; p++) {
            if (j.keep != KEEP_HIGH)
                put4(unit + 512 * p + 16 * lane, make_uint4(x[4 * p], x[4 * p + 1], x[4 * p + 2], x[4 * p + 3]), ~0u, ~0u);
            if (j.keep != KEEP_LOW)
                put4(unit + 512 * (2 + p) + 16 * lane, make_uint4(y[4 * p], y[4 * p + 1], y[4 * p + 2], y[4 * p + 3]), ~0u, ~0u);
        }
    } else if (KIND == PACKED_BF16 || KIND == PACKED_F16) {
#pragma unroll
        for (int i = 0; i < 2; i++)
            put4(unit + 512 * i + 16 * lane, make_uint4(x[2 * i], y[2 * i], x[2 * i + 1], y[2 * i + 1]), j.keep == KEEP_HIGH ? 0 : ~0u, j.keep == KEEP_LOW ? 0 : ~0u);
    } else if (KIND == PACKED_Q8) {
        uint32_t w[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            w[i] = x[2 * i] | y[2 * i] << 8 | x[2 * i + 1] << 16 | y[2 * i + 1] << 24;
        const uint32_t mask = mask_of(j.keep, 0x00ff00ffu);
        put4(unit + 512 * b + 16 * lane, make_uint4(w[0], w[1], w[2], w[3]), mask, mask);
    } else {
        uint32_t w[2];
#pragma unroll
        for (int i = 0; i < 2; i++)
            w[i] = x[4 * i] | y[4 * i] << 4 | x[4 * i + 2] << 8 | y[4 * i + 2] << 12 | x[4 * i + 1] << 16 | y[4 * i + 1] << 20 | x[4 * i + 3] << 24 | y[4 * i + 3] << 28;
        put2(unit + 512 * (b / 2) + 16 * lane + 8 * (b & 1), make_uint2(w[0], w[1]), mask_of(j.keep, 0x0f0f0f0fu));
    }
    if (KIND >= PACKED_Q8 && t == 0) {
        uint8_t *scales = unit + (KIND == PACKED_Q8 ? 2048 : 1024) + 4 * (g * 4 + b);
        put1(scales, lo.scale | hi.scale << 16, mask_of(j.keep, 0xffffu));
        if (KIND == PACKED_Q4_1)
            put1(scales + 128, lo.low | hi.low << 16, mask_of(j.keep, 0xffffu));
    }
}

template <int DTYPE, int KIND> static __global__ void __launch_bounds__(32 * WARPS) pack_kernel(const struct pack_job j)
{
    pdl_go();
    pdl_wait();
    const int per_unit = KIND >= PACKED_Q8 ? 4 : 1, slabs = j.units * per_unit; /* of 32 columns */
    const int warp = (int)(blockIdx.x * WARPS + threadIdx.x / 32), tile = warp / slabs, slab = warp % slabs;
    if (tile >= j.tiles)
        return;
    const int g = (int)(threadIdx.x & 31) / 4, col = 32 * slab + 8 * (int)(threadIdx.x & 3);
    const uint8_t *row[2];
    find_rows(j, tile, g, row);
    const struct piece lo = read_piece<DTYPE, KIND>(j, row[0], col), hi = read_piece<DTYPE, KIND>(j, row[1], col);
    write_pieces<KIND>(j, j.out + ((size_t)tile * (size_t)j.units + (size_t)(slab / per_unit)) * j.unit_bytes, slab % per_unit, lo, hi);
}

/* A file's type is packed as it is, or floats become one of the types that loading can ask for. */
static const void *kernel_of(int dtype, int kind)
{
    static const void *const same[DT_COUNT] = {(const void *)pack_kernel<DT_F32, PACKED_F32>, (const void *)pack_kernel<DT_F16, PACKED_F16>,
                                               (const void *)pack_kernel<DT_BF16, PACKED_BF16>, (const void *)pack_kernel<DT_Q8_0, PACKED_Q8>,
                                               (const void *)pack_kernel<DT_Q4_0, PACKED_Q4_0>, (const void *)pack_kernel<DT_Q4_1, PACKED_Q4_1>};
    static const int own[DT_COUNT] = {PACKED_F32, PACKED_F16, PACKED_BF16, PACKED_Q8, PACKED_Q4_0, PACKED_Q4_1};
    static const void *const rounded[3][3] = {
        {(const void *)pack_kernel<DT_F32, PACKED_BF16>, (const void *)pack_kernel<DT_F32, PACKED_Q8>, (const void *)pack_kernel<DT_F32, PACKED_Q4_0>},
        {(const void *)pack_kernel<DT_F16, PACKED_BF16>, (const void *)pack_kernel<DT_F16, PACKED_Q8>, (const void *)pack_kernel<DT_F16, PACKED_Q4_0>},
        {(const void *)pack_kernel<DT_BF16, PACKED_BF16>, (const void *)pack_kernel<DT_BF16, PACKED_Q8>, (const void *)pack_kernel<DT_BF16, PACKED_Q4_0>},
    };
    if (dtype < 0 || dtype >= DT_COUNT)
        return NULL;
    if (kind == own[dtype])
        return same[dtype];
    if (dtype > DT_BF16 || (kind != PACKED_BF16 && kind != PACKED_Q8 && kind != PACKED_Q4_0))
        return NULL;
    return rounded[dtype][kind == PACKED_BF16 ? 0 : kind == PACKED_Q8 ? 1 : 2];
}

/* row0: a multiple of 16 (ROWS_PLAIN), 8 (ROWS_GATE) or head_dim (ROWS_HEADS); so is n_rows, but for the source's last rows. Every byte of the tiles that these rows
   touch is written, of ROWS_GATE every byte of their half: calls for the two halves must not overlap in time. */
cudaError_t cuda_pack(struct launch l, const struct pack *p)
{
    const struct packed *w = &p->w;
    const void *kernel = kernel_of(p->dtype, w->kind);
    if (!kernel)
        return cudaErrorInvalidValue;
    if (p->n_rows <= 0)
        return cudaSuccess;
    struct pack_job j = {};
    j.out = w->data + (size_t)(p->tile0 + packed_tiles(p->map, p->row0, p->head_dim)) * (size_t)w->units * w->unit_bytes;
    j.src = (const uint8_t *)p->src;
    j.row_bytes = p->row_bytes;
    j.n_rows = p->n_rows;
    j.cols = w->cols;
    j.tiles = packed_tiles(p->map, p->n_rows, p->head_dim);
    j.units = w->units;
    j.unit_bytes = w->unit_bytes;
    j.map = p->map;
    j.half = p->head_dim / 2;
    j.keep = p->map != ROWS_GATE ? KEEP_BOTH : p->up ? KEEP_HIGH : KEEP_LOW;
    j.aligned = (((uintptr_t)p->src | p->row_bytes) & 15) == 0;
    const unsigned warps = (unsigned)j.tiles * (unsigned)j.units * (w->kind >= PACKED_Q8 ? 4u : 1u);
    void *args[] = {&j};
    return launch_kernel(l, kernel, dim3((warps + WARPS - 1) / WARPS), dim3(32 * WARPS), 0, args);
}
