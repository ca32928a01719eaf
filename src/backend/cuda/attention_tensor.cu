/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over bf16 pages on tensor cores, as exact as f32: q and the weights are taken as the sum of two bf16 numbers each, so nothing of them is lost that
   matters; K and V are bf16 as they lie there.

   A block takes an item: a chunk of a timeline's text and a KV head; for all queries (rows times heads that share the KV head) of the timeline, 16 at a time. Of
   64 positions each of its four warps makes the scores of 16, and then a quarter of the dimensions of the sum over V. The arithmetic of a query:
     score   over dimensions ascending, 16 at a time, the sum of the first parts of q; and that of the second; their sum times scale
     weight  exp(score - maximum over the 64 positions and those before in the chunk); their sum: ((0 + 1) + (2 + 3)) of the warps, each by a fixed tree
     sum     over positions ascending, 16 at a time: first part of the weights, then second. A wide chunk is four times 64, what there is fading as the maximum grows.
   The rows of a product of matrices do not see each other, so neither do queries; a position that a query does not see has score -infinity, and a V that is not
   finite is kept away from those who do not see it. Where a row's ancestors are scattered (a tree), its positions are gathered for it alone.

   Everything that was there before this pass (step, page table, K and V of earlier positions) is fetched before the wait for the kernel before. */
#include "backend/cuda/device.cuh"

enum { THREADS = 128, BLOCK = 64, QUERIES = 16, P_STRIDE = BLOCK + 8, NOWHERE = 0x7fffffff };

template <int DIMS> struct room {
    static constexpr int STRIDE = DIMS + 8; /* of a row in shared memory: eight rows begin in different banks */
    uint16_t k[BLOCK][STRIDE], v[BLOCK][STRIDE];
    uint16_t q[2][QUERIES][STRIDE];   /* q as a sum of two */
    uint16_t p[2][QUERIES][P_STRIDE]; /* weights, likewise */
    float top[4][QUERIES], part[4][QUERIES]; /* of each warp's 16 positions: largest score, sum of weights */
    float maximum[QUERIES], sum[QUERIES];    /* of the chunk so far */
    int32_t pos[QUERIES], row[QUERIES], line[QUERIES]; /* of a query; line: row * n_heads + head, -1: there is none */
    int32_t bad;                      /* the first position whose V is not finite */
    struct step_group group;
};

/* What a block works on. */
struct item {
    int tile, chunk, head, start, end; /* positions [start, end) that anybody sees */
    size_t base;                 /* bytes from a page's beginning to this layer's and head's K */
};

static __device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 bytes, or zeros. */
static __device__ __forceinline__ void copy16(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0) : "memory");
}

static __device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}

static __device__ __forceinline__ void load_turned(uint32_t (&r)[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}

static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Two floats as two pairs of bf16: what is nearest, and what is missing. */
static __device__ __forceinline__ void split(float a, float b, uint32_t &high, uint32_t &low)
{
    const uint32_t x = bf16_bits(a), y = bf16_bits(b);
    high = x | y << 16;
    low = (uint32_t)bf16_bits(a - __uint_as_float(x << 16)) | (uint32_t)bf16_bits(b - __uint_as_float(y << 16)) << 16;
}

static __device__ __forceinline__ int page_at(const struct attend &a, int seq, int slot)
{
    return a.kv.table[(size_t)seq * (size_t)a.kv.pages_per_seq + (size_t)(slot / PAGE_SLOTS)];
}

static __device__ __forceinline__ size_t plane_bytes(const struct attend &a) { return (size_t)PAGE_SLOTS * (size_t)a.kv.head_pad * 2; }

static __device__ __forceinline__ int tiles_of(const struct attend &a, int rows) { return (rows * (a.kv.n_heads / a.kv.n_kv_heads) + QUERIES - 1) / QUERIES; }

/* Item i: which tile of queries, KV head and chunk of which group. All threads come here. */
template <int DIMS> static __device__ __forceinline__ struct item find_item(const struct attend &a, struct room<DIMS> &b, int i)
{
    const int lane = threadIdx.x & 31, n = a.step->n_groups, tiles = tiles_of(a, a.step->max_rows), c = i / tiles / a.kv.n_kv_heads;
    struct step_group group = a.step->group[0]; /* most often the only one */
    if (n > 1) {
        const uint32_t low = __ballot_sync(~0u, lane < n && a.step->group[lane].chunk0 <= c), high = __ballot_sync(~0u, lane + 32 < n && a.step->group[lane + 32].chunk0 <= c);
        group = a.step->group[__popc(low) + __popc(high) - 1];
    }
    struct item t;
    t.tile = i % tiles;
    t.chunk = c - group.chunk0;
    t.head = i / tiles % a.kv.n_kv_heads;
    t.start = chunk_start(t.chunk);
    t.end = min(chunk_start(t.chunk + 1), group.max_pos + 1);
    t.base = ((size_t)a.layer * (size_t)a.kv.n_kv_heads + (size_t)t.head) * 2 * plane_bytes(a);
    if (threadIdx.x == 0) {
        b.group = group;
        b.bad = NOWHERE;
    }
    __syncthreads();
    return t;
}

/* K and V of positions s + [from, to) of 64 that lie in order; what lies behind `there` positions is zero. */
template <int DIMS> static __device__ __forceinline__ void copy_block(const struct attend &a, struct room<DIMS> &b, const struct item &t, int s, int from, int to, int there)
{
    const int pieces = DIMS / 8;
    const uint8_t *k = a.kv.pages + (size_t)page_at(a, b.group.seq, s) * a.kv.page_bytes + t.base + (size_t)(s % PAGE_SLOTS) * (size_t)a.kv.head_pad * 2;
    for (int i = from * pieces + threadIdx.x; i < to * pieces; i += THREADS) {
        const int r = i / pieces, d = i % pieces * 8;
        const bool some = r < there && d < a.kv.head_pad;
        const uint8_t *src = some ? k + ((size_t)r * (size_t)a.kv.head_pad + (size_t)d) * 2 : a.kv.pages;
        copy16(&b.k[r][d], src, some);
        copy16(&b.v[r][d], some ? src + plane_bytes(a) : src, some);
    }
}

static __device__ __forceinline__ void copies_done(void)
{
    asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
    __syncthreads();
}

/* Who the queries of a tile are: of the step alone, so it may be asked before the wait. */
template <int DIMS> static __device__ __forceinline__ void name_queries(const struct attend &a, struct room<DIMS> &b, const struct item &t)
{
    const int gqa = a.kv.n_heads / a.kv.n_kv_heads, all = b.group.n * gqa, k = threadIdx.x, query = t.tile * QUERIES + k;
    if (k >= QUERIES)
        return;
    const int at = b.group.first + (query < all ? query / gqa : 0), row = a.step->order[at], pos = a.step->order_pos[at];
    b.row[k] = row;
    b.line[k] = query < all ? row * a.kv.n_heads + t.head * gqa + query % gqa : -1;
    b.pos[k] = query < all ? pos : -1;
    b.maximum[k] = -INFINITY;
    b.sum[k] = 0;
}

/* Their q in two parts, zero where there is nothing. Behind a barrier after name_queries. */
template <int DIMS> static __device__ __forceinline__ void take_queries(const struct attend &a, struct room<DIMS> &b)
{
    for (int i = threadIdx.x; i < QUERIES * (DIMS / 4); i += THREADS) {
        const int k = i / (DIMS / 4), d = i % (DIMS / 4) * 4, line = b.line[k];
        float4 v = {0, 0, 0, 0};
        if (line >= 0 && d < a.kv.head_dim) {
            v = *(const float4 *)(a.q + (size_t)line * (size_t)a.kv.head_pad + d);
            if (d + 2 >= a.kv.head_dim) /* head_dim is even */
                v.z = v.w = 0;
        }
        uint2 high, low;
        split(v.x, v.y, high.x, low.x);
        split(v.z, v.w, high.y, low.y);
        *(uint2 *)&b.q[0][k][d] = high;
        *(uint2 *)&b.q[1][k][d] = low;
    }
}

/* V of positions that not everybody sees: one that is not finite becomes zero, and those who see it get NaN in the end. */
template <int DIMS> static __device__ __forceinline__ void check_values(struct room<DIMS> &b, int s, int end)
{
    const int first = b.group.min_pos + 1 > s ? b.group.min_pos + 1 - s : 0, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    if (s + BLOCK <= b.group.min_pos + 1)
        return;
    for (int r = first + warp; r < BLOCK && s + r < end; r += 4) {
        bool good = true;
        for (int d = lane * 2; d < DIMS; d += 64) {
            const uint32_t w = *(const uint32_t *)&b.v[r][d];
            good &= (w & 0x7f80u) != 0x7f80u && (w & 0x7f800000u) != 0x7f800000u;
        }
        if (__all_sync(~0u, good))
            continue;
        for (int d = lane * 2; d < DIMS; d += 64)
            *(uint32_t *)&b.v[r][d] = 0;
        if (lane == 0)
            atomicMin(&b.bad, s + r);
    }
    __syncthreads();
}

/* Scores of this warp's 16 positions. */
template <int DIMS> static __device__ __forceinline__ void score(float (&c)[2][4], const struct room<DIMS> &b, int head_pad, int warp, int lane)
{
    float rest[2][4] = {};
#pragma unroll
    for (int d = 0; d < DIMS; d += 16) {
        uint32_t high[4], low[4], k[4];
        if (d >= head_pad)
            break;
        load_matrices(high, &b.q[0][lane & 15][d + (lane >> 4) * 8]);
        load_matrices(low, &b.q[1][lane & 15][d + (lane >> 4) * 8]);
        load_matrices(k, &b.k[warp * 16 + (lane & 7) + (lane >> 4) * 8][d + (lane >> 3 & 1) * 8]);
        multiply(c[0], high, k[0], k[1]);
        multiply(c[1], high, k[2], k[3]);
        multiply(rest[0], low, k[0], k[1]);
        multiply(rest[1], low, k[2], k[3]);
    }
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            c[j][e] += rest[j][e];
}

static __device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

static __device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

/* Weights of this warp's positions for query 8 h + lane / 4, to shared memory; returns by how much what there is fades. `limit`: positions of the block that it sees. */
template <int DIMS> static __device__ __forceinline__ float weigh(struct room<DIMS> &b, const float (&c)[2][4], int h, int limit, float &maximum, int warp, int lane)
{
    const int query = h * 8 + (lane >> 2), place = warp * 16 + 2 * (lane & 3);
    const float old = b.maximum[query];
    float m = fmaxf(fmaxf(b.top[0][query], b.top[1][query]), fmaxf(b.top[2][query], b.top[3][query]));
    m = fmaxf(m, old);
    float sum[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const int at = place + 8 * j;
        const float x = at < limit ? expf(c[j][2 * h] - m) : 0.0f, y = at + 1 < limit ? expf(c[j][2 * h + 1] - m) : 0.0f;
        uint32_t high, low;
        split(x, y, high, low);
        *(uint32_t *)&b.p[0][query][at] = high;
        *(uint32_t *)&b.p[1][query][at] = low;
        sum[j] = x + y;
    }
    const float all = quad_sum(sum[0] + sum[1]);
    if ((lane & 3) == 0)
        b.part[warp][query] = all;
    maximum = m;
    return limit > 0 ? expf(old - m) : 1.0f;
}

/* The sum over V: this warp's quarter of the dimensions, over all 64 positions. */
template <int DIMS> static __device__ __forceinline__ void add_values(float (&o)[DIMS / 32][4], const struct room<DIMS> &b, int warp, int lane)
{
#pragma unroll
    for (int s = 0; s < BLOCK; s += 16) {
        uint32_t high[4], low[4];
        load_matrices(high, &b.p[0][lane & 15][s + (lane >> 4) * 8]);
        load_matrices(low, &b.p[1][lane & 15][s + (lane >> 4) * 8]);
#pragma unroll
        for (int j = 0; j < DIMS / 32; j += 2) {
            uint32_t v[4];
            load_turned(v, &b.v[s + (lane & 15)][warp * (DIMS / 4) + j * 8 + (lane >> 4) * 8]);
            multiply(o[j], high, v[0], v[1]);
            multiply(o[j + 1], high, v[2], v[3]);
            multiply(o[j], low, v[0], v[1]);
            multiply(o[j + 1], low, v[2], v[3]);
        }
    }
}

/* 64 positions from s on, for the queries of row `only` (-1: of all that are to take part now). */
template <int DIMS> static __device__ __forceinline__ void run_block(const struct attend &a, struct room<DIMS> &b, float (&o)[DIMS / 32][4], int s, int only)
{
    const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, place = warp * 16 + 2 * (lane & 3);
    float c[2][4] = {}, maximum[2], fade[2];
    int limit[2];
    bool part[2];
    score<DIMS>(c, b, a.kv.head_pad, warp, lane);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int query = h * 8 + (lane >> 2), row = b.row[query];
        const bool scattered = b.group.tree < s + BLOCK && !a.step->row[row].straight && a.step->row[row].prefix < s + BLOCK;
        part[h] = only < 0 ? !scattered : scattered && row == only;
        limit[h] = part[h] ? b.pos[query] - s + 1 : 0;
        float top = -INFINITY;
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                c[j][2 * h + e] *= a.scale;
                top = place + 8 * j + e < limit[h] ? fmaxf(top, c[j][2 * h + e]) : top;
            }
        top = quad_max(top);
        if ((lane & 3) == 0)
            b.top[warp][query] = top;
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++)
        fade[h] = weigh<DIMS>(b, c, h, limit[h], maximum[h], warp, lane);
    __syncthreads();
    float next[DIMS / 32][4];
#pragma unroll
    for (int j = 0; j < DIMS / 32; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            next[j][e] = o[j][e] * fade[e / 2];
    add_values<DIMS>(next, b, warp, lane);
#pragma unroll
    for (int j = 0; j < DIMS / 32; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            o[j][e] = limit[e / 2] > 0 ? next[j][e] : o[j][e];
    if (warp == 0 && (lane & 3) == 0)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int query = h * 8 + (lane >> 2);
            if (limit[h] > 0) {
                b.sum[query] = fmaf(b.sum[query], fade[h], (b.part[0][query] + b.part[1][query]) + (b.part[2][query] + b.part[3][query]));
                b.maximum[query] = maximum[h];
            }
        }
    __syncthreads();
}

/* Positions of a row that are scattered, in their places. */
template <int DIMS> static __device__ __forceinline__ void gather(const struct attend &a, struct room<DIMS> &b, const struct item &t, int s, int row)
{
    const struct step_row &r = a.step->row[row];
    const int pieces = DIMS / 8, first = r.prefix > s ? r.prefix - s : 0;
    for (int i = first * pieces + threadIdx.x; i < BLOCK * pieces; i += THREADS) {
        const int place = i / pieces, d = i % pieces * 8, p = s + place;
        const bool some = p <= r.pos && d < a.kv.head_pad;
        int page = r.page, at = r.at;
        if (p < r.pos) {
            uint64_t left = r.also;
            for (int skip = p - r.prefix; skip > 0; skip--)
                left &= left - 1;
            const int slot = r.prefix + __ffsll((long long)left) - 1;
            page = page_at(a, r.seq, slot);
            at = slot % PAGE_SLOTS;
        }
        const uint8_t *src = a.kv.pages + (some ? (size_t)page * a.kv.page_bytes + t.base + ((size_t)at * (size_t)a.kv.head_pad + (size_t)d) * 2 : 0);
        copy16(&b.k[place][d], src, some);
        copy16(&b.v[place][d], some ? src + plane_bytes(a) : src, some);
    }
    /* What the base had from the lowest prefix of the group on may be another row's. */
    const int low = b.group.tree > s ? b.group.tree - s : 0;
    if (low < first && r.prefix > b.group.tree)
        copy_block<DIMS>(a, b, t, s, low, first < BLOCK ? first : BLOCK, BLOCK);
    copies_done();
}

/* The rows of this tile whose positions in the block are scattered, one after the other. */
template <int DIMS> static __device__ __forceinline__ void run_trees(const struct attend &a, struct room<DIMS> &b, float (&o)[DIMS / 32][4], const struct item &t, int s)
{
    int last = -1;
    for (int k = 0; k < QUERIES; k++) {
        const int row = b.row[k];
        if (b.line[k] < 0 || row == last || a.step->row[row].straight || a.step->row[row].prefix >= s + BLOCK || a.step->row[row].pos < s)
            continue;
        last = row;
        gather<DIMS>(a, b, t, s, row);
        run_block<DIMS>(a, b, o, s, row);
    }
}

template <int DIMS> static __device__ __forceinline__ void write_part(const struct attend &a, const struct room<DIMS> &b, const float (&o)[DIMS / 32][4], const struct item &t)
{
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int query = h * 8 + (lane >> 2), line = b.line[query];
        if (line < 0 || b.pos[query] < t.start)
            continue;
        float *part = a.part + ((size_t)line * (size_t)a.max_chunks + (size_t)t.chunk) * (size_t)(a.kv.head_pad + 2);
        bool bad = b.bad <= b.pos[query];
        if (bad && !a.step->row[b.row[query]].straight) /* from its prefix on it has seen others */
            bad = b.bad < a.step->row[b.row[query]].prefix;
#pragma unroll
        for (int j = 0; j < DIMS / 32; j++) {
            const int d = warp * (DIMS / 4) + j * 8 + 2 * (lane & 3);
            if (d < a.kv.head_pad)
                *(float2 *)(part + d) = bad ? make_float2(NAN, NAN) : make_float2(o[j][2 * h], o[j][2 * h + 1]);
        }
        if (warp == 0 && (lane & 3) == 0)
            *(float2 *)(part + a.kv.head_pad) = make_float2(b.maximum[query], b.sum[query]);
    }
}

/* K and V of the block at s as they lie in order; `from`: positions before it are there already. */
template <int DIMS> static __device__ __forceinline__ void fetch_block(const struct attend &a, struct room<DIMS> &b, const struct item &t, int s, int from)
{
    const int there = min(t.end, b.group.straight) - s;
    copy_block<DIMS>(a, b, t, s, from, BLOCK, there);
}

/* The first block of an item may have been fetched, and its queries named. */
template <int DIMS> static __device__ __forceinline__ void run_item(const struct attend &a, struct room<DIMS> &b, const struct item &t, bool begun)
{
    float o[DIMS / 32][4] = {};
    if (!begun) {
        name_queries<DIMS>(a, b, t);
        __syncthreads();
    }
    take_queries<DIMS>(a, b);
    for (int s = t.start; s < t.end; s += BLOCK) {
        if (!begun || s > t.start)
            fetch_block<DIMS>(a, b, t, s, 0);
        copies_done();
        check_values<DIMS>(b, s, t.end);
        run_block<DIMS>(a, b, o, s, -1);
        if (b.group.tree < t.end)
            run_trees<DIMS>(a, b, o, t, s);
    }
    write_part<DIMS>(a, b, o, t);
    __syncthreads();
}

template <int DIMS> __global__ void __launch_bounds__(THREADS, DIMS == 256 ? 2 : 4) attend_tensor(const __grid_constant__ struct attend a)
{
    extern __shared__ __align__(16) uint8_t shared[];
    struct room<DIMS> &b = *(struct room<DIMS> *)shared;
    pdl_go();
    const int items = a.step->n_chunks * a.kv.n_kv_heads * tiles_of(a, a.step->max_rows);
    struct item t;
    if ((int)blockIdx.x < items) { /* what earlier passes wrote does not have to be waited for */
        t = find_item<DIMS>(a, b, blockIdx.x);
        const int fresh = min(b.group.fresh - t.start, BLOCK), there = min(t.end, b.group.straight) - t.start;
        copy_block<DIMS>(a, b, t, t.start, 0, fresh, there);
        name_queries<DIMS>(a, b, t);
        __syncthreads();
    }
    pdl_wait();
    for (int i = blockIdx.x; i < items; i += gridDim.x) {
        const bool first = i == (int)blockIdx.x;
        if (!first)
            t = find_item<DIMS>(a, b, i);
        else
            fetch_block<DIMS>(a, b, t, t.start, max(0, min(b.group.fresh - t.start, BLOCK)));
        if (t.tile < tiles_of(a, b.group.n))
            run_item<DIMS>(a, b, t, first);
        else
            copies_done();
    }
}

template <int DIMS> static cudaError_t launch_tensor(struct launch l, const struct attend *a)
{
    const void *kernel = (const void *)attend_tensor<DIMS>;
    const int bytes = (int)sizeof(struct room<DIMS>), blocks = DIMS == 256 ? 2 : 4;
    int device = 0, processors = 0;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (e == cudaSuccess)
        e = allow_shared(kernel, bytes);
    if (e != cudaSuccess)
        return e;
    const size_t most = (size_t)a->bucket * (size_t)a->max_chunks * (size_t)a->kv.n_heads, grid = (size_t)processors * blocks;
    void *args[] = {(void *)a};
    return launch_kernel(l, kernel, dim3((unsigned)(grid < most ? grid : most)), dim3(THREADS), (size_t)bytes, args);
}

extern "C" cudaError_t cuda_attend_tensor(struct launch l, const struct attend *a)
{
    return a->kv.head_pad <= 64 ? launch_tensor<64>(l, a) : a->kv.head_pad <= 128 ? launch_tensor<128>(l, a) : launch_tensor<256>(l, a);
}
