/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of one pass over paged keys and values: parts by chunks of the text, then their join.

   A query is one row with one head. A block takes an item: a chunk of one timeline, a kv head, and up to 16 queries that read it. Of every 64 positions warp w owns
   the slice 16w .. 16w+15: it copies their K and V to shared memory for itself, and meets the other warps at the item's end only.

   The arithmetic of a query, whatever else is in the block:
     score   four chains of fmaf; chain c takes dims 8g .. 8g+7 for g = c, c+4, ... ascending; ((0 + 1) + (2 + 3)) * scale
     slice   maximum of its visible positions; e = exp(score - maximum); their sum by a tree over the place in the slice, lowest bit first; o = one chain of fmaf,
             positions ascending. In a wide chunk a warp's slices follow one another: what there is times exp(old - new maximum), then the chain goes on.
     part    the four warps' slices, ascending
     row     chunks ascending, sixteen at a time
   What a row does not see is left out by a condition, never multiplied by zero.

   Where a row's ancestors are scattered (a tree), positions from its prefix on are read from where they lie, one query at a time, by the same arithmetic. */
#include "backend/cuda/device.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, SLICE = 16, JOIN_THREADS = 64, JOIN_CHUNKS = 16, NOWHERE = 0x40000000 };
enum mode { PLAIN, EDGE, TREE }; /* all see all; somebody does not; somebody's positions are scattered */

/* The part of struct step that matters here, in its order. */
struct plan {
    int32_t n, n_groups, n_chunks, pad;
    struct step_row row[STEP_ROWS];
    struct step_group group[STEP_ROWS];
    int32_t order[STEP_ROWS];
};
static_assert(offsetof(struct plan, row) == offsetof(struct step, row) && offsetof(struct plan, group) == offsetof(struct step, group) &&
                  offsetof(struct plan, order) == offsetof(struct step, order) && offsetof(struct step, order) % 16 == 0,
              "a step starts like a plan");

template <int DIMS, bool F32> struct kind_of {
    static constexpr int BYTES = F32 ? 4 : 2;
    static constexpr int PIECES = DIMS * BYTES / 16; /* of 16 bytes in a row of K or V */
    static constexpr int MOST = DIMS == 256 ? 8 : 16; /* queries of an item */
    static constexpr int BLOCKS = F32 && DIMS > 64 ? 256 / DIMS : 3; /* of a multiprocessor: as many as its shared memory holds, at most 3 */
};

/* What a block works on. */
struct item {
    int first, seq, chunk, head, query0, queries; /* first: of the group in plan.order */
    int start, last, pieces;   /* positions that any of its queries sees; 16-byte pieces of a row as stored */
    int least, straight, tree; /* smallest position of a row; slot == position below straight; scattered for somebody from tree on */
    const uint8_t *base;       /* of this layer and kv head in page 0 */
    const uint8_t *k;          /* of slot `start` */
};

/* A block's shared memory. */
template <int DIMS, bool F32> struct room {
    uint4 kv[WARPS][2][SLICE * kind_of<DIMS, F32>::PIECES]; /* K, V of a warp's slice; at the end its o */
    float q[kind_of<DIMS, F32>::MOST * DIMS];
    float weight[WARPS][SLICE * kind_of<DIMS, F32>::MOST]; /* [place][query]: scores, then e */
    int32_t from[WARPS][SLICE * kind_of<DIMS, F32>::MOST]; /* trees: where that position lies, see source_of */
    float fade[WARPS][kind_of<DIMS, F32>::MOST];
    float2 end[WARPS][kind_of<DIMS, F32>::MOST]; /* maximum, sum */
    int32_t pos[kind_of<DIMS, F32>::MOST];       /* of a query; NOWHERE: there is none */
    int32_t line[kind_of<DIMS, F32>::MOST];      /* row * n_heads + head */
    int32_t upto[STEP_ROWS]; /* items of the groups up to and with this one */
    int32_t next[WARPS];
    struct item item;
    alignas(16) struct plan plan;
};

/* ---- small things ---- */

/* Of 16 bytes, in a row of K or V as it is stored. */
template <bool F32> static __device__ __forceinline__ int pieces_of(const struct attend &a) { return a.kv.head_pad / (F32 ? 4 : 8); }

/* From a slot's K to its V. */
template <bool F32> static __device__ __forceinline__ size_t k_to_v(const struct attend &a) { return (size_t)PAGE_SLOTS * 16 * (size_t)pieces_of<F32>(a); }

static __device__ __forceinline__ void copy16(void *to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
static __device__ __forceinline__ void copies_end(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> static __device__ __forceinline__ void copies_wait(void) { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

/* threadIdx.x, read anew: what is computed from it stays within one variant of run_item, and costs the others no registers. */
static __device__ __forceinline__ int own_thread(void)
{
    int i;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(i));
    return i;
}

/* Rows of a slice lie turned, so that the lanes of a warp reach different banks: piece g of row r is at g ^ turn. */
template <bool F32> static __device__ __forceinline__ int turn(int r) { return F32 ? r & 1 : (r & 1) << 2; }

/* Eight elements of K or V as they are stored, and four of them as floats. */
template <bool F32> struct eight {
    uint4 w[F32 ? 2 : 1];
};

template <bool F32> static __device__ __forceinline__ void widen(float *to, const struct eight<F32> &from, int half)
{
    if constexpr (F32) {
        const uint4 v = from.w[half];
        to[0] = __uint_as_float(v.x), to[1] = __uint_as_float(v.y), to[2] = __uint_as_float(v.z), to[3] = __uint_as_float(v.w);
    } else {
        const uint32_t u = half ? from.w[0].z : from.w[0].x, v = half ? from.w[0].w : from.w[0].y;
        to[0] = bf16_low(u), to[1] = bf16_high(u), to[2] = bf16_low(v), to[3] = bf16_high(v);
    }
}

/* N neighbouring floats, N a power of two, aligned to as many up to four. */
template <int N> static __device__ __forceinline__ void take(float *to, const float *from)
{
    if constexpr (N == 1)
        to[0] = from[0];
    else if constexpr (N == 2) {
        const float2 v = *(const float2 *)from;
        to[0] = v.x, to[1] = v.y;
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 v = *(const float4 *)(from + i);
            to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
        }
    }
}

/* Of row r of a slice: pieces p (bf16) or p and p2 (f32). */
template <int DIMS, bool F32> static __device__ __forceinline__ struct eight<F32> take_row(const uint4 *slice, int r, int p, int p2)
{
    const uint4 *row = slice + r * kind_of<DIMS, F32>::PIECES;
    struct eight<F32> v;
    v.w[0] = row[p ^ turn<F32>(r)];
    if constexpr (F32)
        v.w[1] = row[p2 ^ turn<F32>(r)];
    return v;
}

/* The same of a row that lies anywhere. from: below zero: row ~from of the slice, else page * 256 + place in the page. base: K or V of page 0. */
template <int DIMS, bool F32>
static __device__ __forceinline__ struct eight<F32> take_from(const uint4 *slice, const struct attend &a, const uint8_t *base, int from, int p, int p2)
{
    if (from < 0)
        return take_row<DIMS, F32>(slice, ~from, p, p2);
    const int pieces = pieces_of<F32>(a);
    const uint4 *row = (const uint4 *)(base + (size_t)(from / PAGE_SLOTS) * a.kv.page_bytes) + (from % PAGE_SLOTS) * pieces;
    struct eight<F32> v;
    v.w[0] = p < pieces ? row[p] : make_uint4(0, 0, 0, 0);
    if constexpr (F32)
        v.w[1] = p2 < pieces ? row[p2] : make_uint4(0, 0, 0, 0);
    return v;
}

/* ---- items ---- */

template <int MOST> static __device__ __forceinline__ int batches_of(const struct attend &a, const struct step_group &g)
{
    return (g.n * (a.kv.n_heads / a.kv.n_kv_heads) + MOST - 1) / MOST;
}

/* One warp: how many items the groups have, up to and with each. */
template <int MOST> static __device__ __forceinline__ void count_items(const struct attend &a, const struct plan &p, int32_t *upto, int lane)
{
    int low = 0, high = 0; /* of groups lane and lane + 32 */
    if (lane < p.n_groups)
        low = p.group[lane].chunks * a.kv.n_kv_heads * batches_of<MOST>(a, p.group[lane]);
    if (lane + 32 < p.n_groups)
        high = p.group[lane + 32].chunks * a.kv.n_kv_heads * batches_of<MOST>(a, p.group[lane + 32]);
#pragma unroll
    for (int w = 1; w < 32; w *= 2) {
        const int l = __shfl_up_sync(~0u, low, w), h = __shfl_up_sync(~0u, high, w);
        if (lane >= w)
            low += l, high += h;
    }
    upto[lane] = low;
    upto[lane + 32] = high + __shfl_sync(~0u, low, 31);
}

/* Item number i: the last chunks of a group first (they are wide, or hold trees), the batches of one chunk side by side. */
template <int MOST> static __device__ __forceinline__ struct item find_item(const struct attend &a, const struct plan &p, const int32_t *upto, int i, int lane)
{
    const int g = __popc(__ballot_sync(~0u, upto[lane] <= i)) + __popc(__ballot_sync(~0u, upto[lane + 32] <= i));
    i -= g > 0 ? upto[g - 1] : 0;
    const struct step_group &group = p.group[g];
    const int gqa = a.kv.n_heads / a.kv.n_kv_heads, batches = batches_of<MOST>(a, group), rest = i / batches;
    struct item t;
    t.first = group.first;
    t.seq = group.seq;
    t.head = rest % a.kv.n_kv_heads;
    t.chunk = group.chunks - 1 - rest / a.kv.n_kv_heads;
    t.query0 = i % batches * MOST;
    t.queries = min(MOST, group.n * gqa - t.query0);
    t.start = chunk_start(t.chunk);
    int most = -1, least = NOWHERE, straight = 0, tree = NOWHERE;
    if (lane < t.queries) {
        const struct step_row &r = p.row[p.order[t.first + (t.query0 + lane) / gqa]];
        most = least = r.pos;
        straight = r.straight ? r.pos + 1 : r.prefix;
        tree = r.straight ? NOWHERE : r.prefix;
    }
    t.last = min(chunk_start(t.chunk + 1) - 1, __reduce_max_sync(~0u, most));
    t.least = __reduce_min_sync(~0u, least);
    t.straight = __reduce_max_sync(~0u, straight);
    t.tree = __reduce_min_sync(~0u, tree);
    return t;
}

static __device__ __forceinline__ int page_of(const struct attend &a, int seq, int slot)
{
    return a.kv.table[(size_t)seq * (size_t)a.kv.pages_per_seq + (size_t)(slot / PAGE_SLOTS)];
}

/* Where the item's K begins. */
template <bool F32> static __device__ __forceinline__ void locate(const struct attend &a, struct item &t)
{
    const size_t v = k_to_v<F32>(a);
    t.pieces = pieces_of<F32>(a);
    t.base = a.kv.pages + ((size_t)a.layer * (size_t)a.kv.n_kv_heads + (size_t)t.head) * 2 * v;
    const int page = t.start < t.straight ? page_of(a, t.seq, t.start) : 0;
    t.k = t.base + (size_t)page * a.kv.page_bytes + (size_t)(t.start % PAGE_SLOTS * pieces_of<F32>(a)) * 16;
}

/* Starts the copy of rows [0, rows) of a slice. */
template <int DIMS, bool F32> static __device__ __forceinline__ void copy_slice(uint4 *to, const uint8_t *from, int rows, int pieces, int lane)
{
    constexpr int PIECES = kind_of<DIMS, F32>::PIECES, ACROSS = PIECES < 32 ? PIECES : 32, DOWN = 32 / ACROSS; /* what the lanes copy at once */
#pragma unroll
    for (int g = lane % ACROSS; g < PIECES; g += ACROSS) {
        if (g >= pieces)
            break;
        const uint8_t *next = from + (lane / ACROSS * pieces + g) * 16;
#pragma unroll 2
        for (int r = lane / ACROSS; r < SLICE; r += DOWN) {
            if (r < rows)
                copy16(to + r * PIECES + (g ^ turn<F32>(r)), next);
            next += DOWN * pieces * 16;
        }
    }
}

/* The block's queries: q, zero behind head_dim and where there is none; positions. */
template <int DIMS, bool F32, int QUERIES> static __device__ __forceinline__ void take_queries(const struct attend &a, struct room<DIMS, F32> &b, const struct item &t, int thread)
{
    const int gqa = a.kv.n_heads / a.kv.n_kv_heads;
#pragma unroll 1
    for (int i = thread; i < QUERIES * DIMS / 4; i += THREADS) {
        const int k = i / (DIMS / 4), d = i % (DIMS / 4) * 4, query = t.query0 + k;
        float4 v = {0, 0, 0, 0};
        int pos = NOWHERE, line = 0;
        if (k < t.queries) {
            const int row = b.plan.order[t.first + query / gqa];
            line = row * a.kv.n_heads + t.head * gqa + query % gqa;
            pos = b.plan.row[row].pos;
            if (d < a.kv.head_dim)
                v = *(const float4 *)(a.q + (size_t)line * (size_t)a.kv.head_pad + d);
            if (d + 2 >= a.kv.head_dim) /* head_dim is even */
                v.z = v.w = 0;
        }
        *(float4 *)(b.q + k * DIMS + d) = v;
        if (d == 0)
            b.pos[k] = pos, b.line[k] = line;
    }
}

/* Trees: where positions s .. s+15 of each query lie. */
template <int DIMS, bool F32, int QUERIES>
static __device__ __forceinline__ void find_sources(const struct attend &a, struct room<DIMS, F32> &b, int s, int warp, int lane)
{
    for (int i = lane; i < SLICE * QUERIES; i += 32) {
        const int k = i % QUERIES, place = i / QUERIES, p = s + place;
        int from = ~place;
        if (b.pos[k] != NOWHERE && p <= b.pos[k]) {
            const struct step_row &r = b.plan.row[b.line[k] / a.kv.n_heads];
            if (!r.straight && p >= r.prefix) {
                uint64_t left = r.also;
                for (int skip = p - r.prefix; skip > 0; skip--)
                    left &= left - 1;
                const int slot = r.prefix + __ffsll((long long)left) - 1;
                from = p == r.pos ? r.page * PAGE_SLOTS + r.at : page_of(a, r.seq, slot) * PAGE_SLOTS + slot % PAGE_SLOTS;
            }
        }
        b.from[warp][i] = from;
    }
}

/* ---- the arithmetic ---- */

/* Scores of 16 positions for queries [k0, k0 + N). Lane = 16 half + 4 quad + chain: positions quad + 4j, one chain of each; k0 differs between the halves. */
template <int DIMS, bool F32, int QUERIES, int N, bool SCATTERED>
static __device__ __forceinline__ void score(const struct attend &a, struct room<DIMS, F32> &b, int k0, int warp, int lane)
{
    const int quad = lane >> 2 & 3, chain = lane & 3, groups = a.kv.head_pad / 8;
    const uint4 *slice = b.kv[warp][0];
    float sum[N][4] = {};
#pragma unroll(QUERIES == 2 && !SCATTERED ? 4 : 1)
    for (int i = 0; i < DIMS / 32; i++) {
        const int g = 4 * i + chain, p = F32 ? 2 * g : g;
        if (g >= groups)
            continue;
        struct eight<F32> key[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            key[j] = SCATTERED ? take_from<DIMS, F32>(slice, a, b.item.base, b.from[warp][(quad + 4 * j) * QUERIES + k0], p, p + 1)
                               : take_row<DIMS, F32>(slice, quad + 4 * j, p, p + 1);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float k[4][4], q[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                widen<F32>(k[j], key[j], h);
#pragma unroll
            for (int n = 0; n < N; n++) {
                take<4>(q, b.q + (k0 + n) * DIMS + 8 * g + 4 * h);
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        sum[n][j] = fmaf(q[e], k[j][e], sum[n][j]);
            }
        }
    }
    /* Chains meet; each lane keeps half of the positions, then one: j = 2 * lowest bit of chain + the other. */
    const bool odd = chain & 1, upper = chain & 2;
    const int place = quad + 4 * (2 * (chain & 1) + (chain >> 1));
#pragma unroll
    for (int n = 0; n < N; n++) {
        const float s0 = (odd ? sum[n][2] : sum[n][0]) + __shfl_xor_sync(~0u, odd ? sum[n][0] : sum[n][2], 1);
        const float s1 = (odd ? sum[n][3] : sum[n][1]) + __shfl_xor_sync(~0u, odd ? sum[n][1] : sum[n][3], 1);
        const float s = (upper ? s1 : s0) + __shfl_xor_sync(~0u, upper ? s0 : s1, 2);
        b.weight[warp][place * QUERIES + k0 + n] = s * a.scale;
    }
}

/* Of all queries. Scattered keys are nobody else's: one query after the other. */
template <int DIMS, bool F32, int QUERIES>
static __device__ __forceinline__ void scores_of(const struct attend &a, struct room<DIMS, F32> &b, bool tree, int warp, int lane)
{
    constexpr int N = QUERIES / 2;
    const int k0 = lane / 16 * N;
    if (!tree)
        score<DIMS, F32, QUERIES, N, false>(a, b, k0, warp, lane);
    else
#pragma unroll 1
        for (int n = 0; n < N; n++)
            score<DIMS, F32, QUERIES, 1, true>(a, b, k0 + n, warp, lane);
}

/* Scores to e; the warp's maximum and sum, kept by all lanes of the same query (lane % QUERIES). */
template <int QUERIES> static __device__ __forceinline__ void weigh(float *weight, float *fade, int seen, bool again, float &maximum, float &sum, int lane)
{
    constexpr int N = QUERIES / 2; /* positions of a lane */
    const int k = lane % QUERIES, place = lane / QUERIES * N;
    float e[N], m = -INFINITY;
#pragma unroll
    for (int i = 0; i < N; i++) {
        e[i] = weight[(place + i) * QUERIES + k];
        if (place + i < seen)
            m = fmaxf(m, e[i]);
    }
#pragma unroll
    for (int w = QUERIES; w < 32; w *= 2)
        m = fmaxf(m, __shfl_xor_sync(~0u, m, w));
    m = fmaxf(m, maximum);
#pragma unroll
    for (int i = 0; i < N; i++) {
        e[i] = place + i < seen ? expf(e[i] - m) : 0.0f;
        weight[(place + i) * QUERIES + k] = e[i];
    }
#pragma unroll
    for (int w = 1; w < N; w *= 2)
#pragma unroll
        for (int i = 0; i < N; i += 2 * w)
            e[i] += e[i + w];
#pragma unroll
    for (int w = QUERIES; w < 32; w *= 2)
        e[0] += __shfl_xor_sync(~0u, e[0], w);
    const float by = seen > 0 ? expf(maximum - m) : 1.0f;
    sum = again ? fmaf(sum, by, e[0]) : e[0];
    maximum = m;
    if (lane < QUERIES)
        fade[lane] = by;
}

/* o of queries [k0, k0 + N): lane's eight dims. ahead: position of query k0 + n minus s, of place 0. */
template <int DIMS, bool F32, int QUERIES, int N, int MODE>
static __device__ __forceinline__ void add_values(float (*o)[8], const struct attend &a, struct room<DIMS, F32> &b, const int *ahead, int places, int k0, int dims, int warp)
{
    const uint4 *slice = b.kv[warp][1];
    const int n_places = MODE == PLAIN ? SLICE : places;
#pragma unroll(MODE == TREE ? 1 : N == 8 ? 2 : 4)
    for (int p = 0; p < n_places; p++) {
        struct eight<F32> value;
        float v[8], e[N];
        if (MODE != TREE)
            value = take_row<DIMS, F32>(slice, p, dims, dims + DIMS / 8), widen<F32>(v, value, 0), widen<F32>(v + 4, value, 1);
        take<N>(e, b.weight[warp] + p * QUERIES + k0);
#pragma unroll
        for (int n = 0; n < N; n++)
            if (MODE == PLAIN || p <= ahead[n]) {
                if (MODE == TREE) {
                    value = take_from<DIMS, F32>(slice, a, b.item.base + k_to_v<F32>(a), b.from[warp][p * QUERIES + k0 + n], dims, dims + DIMS / 8);
                    widen<F32>(v, value, 0), widen<F32>(v + 4, value, 1);
                }
#pragma unroll
                for (int d = 0; d < 8; d++)
                    o[n][d] = fmaf(e[n], v[d], o[n][d]);
            }
    }
}

/* The item's part of each query from the warps' slices. */
template <int DIMS, bool F32> static __device__ __forceinline__ void write_parts(const struct attend &a, const struct room<DIMS, F32> &b, int warp, int lane)
{
    const struct item &t = b.item;
#pragma unroll 1
    for (int u = warp; u < t.queries * (DIMS / 64); u += WARPS) {
        const int k = u / (DIMS / 64), d = u % (DIMS / 64) * 64 + 2 * lane, ahead = b.pos[k] - t.start;
        if (ahead < 0)
            continue;
        float maximum = b.end[0][k].x, sum = 0;
        for (int w = 1; w < WARPS; w++)
            if (w * SLICE <= ahead)
                maximum = fmaxf(maximum, b.end[w][k].x);
        float2 o = {0, 0};
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            if (w * SLICE <= ahead) {
                const float2 end = b.end[w][k], v = *(const float2 *)((const float *)b.kv[w] + k * DIMS + d);
                const float by = expf(end.x - maximum);
                sum = fmaf(end.y, by, sum);
                o.x = fmaf(v.x, by, o.x);
                o.y = fmaf(v.y, by, o.y);
            }
        float *part = a.part + ((size_t)b.line[k] * (size_t)a.max_chunks + (size_t)t.chunk) * (size_t)(a.kv.head_pad + 2);
        if (d < a.kv.head_pad)
            *(float2 *)(part + d) = o;
        if (d == 0)
            *(float2 *)(part + a.kv.head_pad) = make_float2(maximum, sum);
    }
}

/* ---- an item ---- */

/* Lane's place when values are summed: eight dims (bf16: neighbours; f32: four and four) of N queries. */
template <int DIMS, int QUERIES> struct lane_share {
    static constexpr int GROUPS = 256 / DIMS;
    static constexpr int N = QUERIES > GROUPS ? QUERIES / GROUPS : 1;
};

template <int DIMS, bool F32, int QUERIES>
static __device__ __forceinline__ void values_of(float (*o)[8], const struct attend &a, struct room<DIMS, F32> &b, int s, bool again, bool tree, int warp, int lane)
{
    constexpr int N = lane_share<DIMS, QUERIES>::N;
    const int dims = lane % (DIMS / 8), k0 = lane / (DIMS / 8) * N % QUERIES; /* lanes too many repeat the first ones */
    if (again) {
        float by[N];
        take<N>(by, b.fade[warp] + k0);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int d = 0; d < 8; d++)
                o[n][d] *= by[n];
    }
    if (!tree && b.item.least >= s + SLICE - 1) {
        add_values<DIMS, F32, QUERIES, N, PLAIN>(o, a, b, NULL, SLICE, k0, dims, warp);
        return;
    }
    int ahead[N];
    const int places = min(SLICE, b.item.last - s + 1);
#pragma unroll
    for (int n = 0; n < N; n++)
        ahead[n] = b.pos[k0 + n] - s;
    if (tree)
        add_values<DIMS, F32, QUERIES, N, TREE>(o, a, b, ahead, places, k0, dims, warp);
    else
        add_values<DIMS, F32, QUERIES, N, EDGE>(o, a, b, ahead, places, k0, dims, warp);
}

/* A warp's o over its own K and V. */
template <int DIMS, bool F32, int QUERIES> static __device__ __forceinline__ void put_aside(struct room<DIMS, F32> &b, const float (*o)[8], int warp, int lane)
{
    constexpr int N = lane_share<DIMS, QUERIES>::N;
    const int dims = lane % (DIMS / 8), k0 = lane / (DIMS / 8) * N;
    const int d0 = F32 ? 4 * dims : 8 * dims, d1 = F32 ? d0 + DIMS / 2 : d0 + 4;
    float *to = (float *)b.kv[warp];
    if (k0 < QUERIES)
#pragma unroll
        for (int n = 0; n < N; n++) {
            *(float4 *)(to + (k0 + n) * DIMS + d0) = make_float4(o[n][0], o[n][1], o[n][2], o[n][3]);
            *(float4 *)(to + (k0 + n) * DIMS + d1) = make_float4(o[n][4], o[n][5], o[n][6], o[n][7]);
        }
}

template <int DIMS, bool F32, int QUERIES> static __device__ __forceinline__ void run_item(const struct attend &a, struct room<DIMS, F32> &b, const struct item &t)
{
    const int thread = own_thread(), warp = thread / 32, lane = thread % 32, first = t.start + warp * SLICE;
    const uint8_t *k = t.k + warp * SLICE * t.pieces * 16;
    copy_slice<DIMS, F32>(b.kv[warp][0], k, t.straight - first, t.pieces, lane);
    copies_end();
    copy_slice<DIMS, F32>(b.kv[warp][1], k + k_to_v<F32>(a), t.straight - first, t.pieces, lane);
    copies_end();
    take_queries<DIMS, F32, QUERIES>(a, b, t, thread);
    if (thread == 0)
        b.item = t;
    __syncthreads();

    float o[lane_share<DIMS, QUERIES>::N][8] = {}, maximum = -INFINITY, sum = 0;
    for (int s = first; s <= b.item.last; s += CHUNK_SLOTS) {
        const bool tree = b.item.tree < s + SLICE, again = s >= b.item.start + CHUNK_SLOTS;
        const int next = s + CHUNK_SLOTS <= b.item.last ? b.item.straight - s - CHUNK_SLOTS : 0;
        if (tree)
            find_sources<DIMS, F32, QUERIES>(a, b, s, warp, lane);
        copies_wait<1>(); /* K is here */
        __syncwarp();
        scores_of<DIMS, F32, QUERIES>(a, b, tree, warp, lane);
        __syncwarp();
        copy_slice<DIMS, F32>(b.kv[warp][0], b.item.k + (s + CHUNK_SLOTS - b.item.start) * b.item.pieces * 16, next, b.item.pieces, lane);
        copies_end();
        weigh<QUERIES>(b.weight[warp], b.fade[warp], b.pos[lane % QUERIES] - s + 1, again, maximum, sum, lane);
        copies_wait<1>(); /* V is here */
        __syncwarp();
        values_of<DIMS, F32, QUERIES>(o, a, b, s, again, tree, warp, lane);
        __syncwarp();
        copy_slice<DIMS, F32>(b.kv[warp][1], b.item.k + k_to_v<F32>(a) + (s + CHUNK_SLOTS - b.item.start) * b.item.pieces * 16, next, b.item.pieces, lane);
        copies_end();
    }
    copies_wait<0>();
    __syncwarp();
    put_aside<DIMS, F32, QUERIES>(b, o, warp, lane);
    if (lane < QUERIES)
        b.end[warp][lane] = make_float2(maximum, sum);
    __syncthreads();
    write_parts<DIMS, F32>(a, b, warp, lane);
    __syncthreads();
}

/* What this bucket can have of the step comes to shared memory at once. */
static __device__ __forceinline__ void copy_plan(struct plan *to, const struct step *from, int bucket)
{
    const int rows = (int)(offsetof(struct plan, row) + sizeof(struct step_row) * (size_t)bucket) / 16;
    const int groups = (int)sizeof(struct step_group) * bucket / 16, orders = 4 * bucket / 16;
    for (int i = threadIdx.x; i < rows + groups + orders; i += THREADS) {
        const int at = i < rows ? i : i < rows + groups ? i - rows + (int)offsetof(struct plan, group) / 16 : i - rows - groups + (int)offsetof(struct plan, order) / 16;
        ((uint4 *)to)[at] = ((const uint4 *)from)[at];
    }
}

template <int DIMS, bool F32> __global__ void __launch_bounds__(THREADS, kind_of<DIMS, F32>::BLOCKS) attend_parts(const __grid_constant__ struct attend a)
{
    extern __shared__ uint4 shared[];
    constexpr int MOST = kind_of<DIMS, F32>::MOST;
    struct room<DIMS, F32> &b = *(struct room<DIMS, F32> *)shared;
    pdl_go();
    pdl_wait();
    copy_plan(&b.plan, a.step, a.bucket);
    __syncthreads();
    if (threadIdx.x < 32)
        count_items<MOST>(a, b.plan, b.upto, threadIdx.x);
    if (threadIdx.x % 32 == 0)
        b.next[threadIdx.x / 32] = (int)blockIdx.x;
    __syncthreads();
    for (;;) {
        const int thread = own_thread(), warp = thread / 32, lane = thread % 32, i = b.next[warp]; /* not in a register meanwhile */
        if (i >= b.upto[STEP_ROWS - 1])
            break;
        struct item t = find_item<MOST>(a, b.plan, b.upto, i, lane);
        if (lane == 0)
            b.next[warp] = i + (int)gridDim.x;
        __syncwarp();
        if (t.last < t.start)
            continue; /* rows of this batch end before the chunk */
        locate<F32>(a, t);
        if (t.queries <= 2)
            run_item<DIMS, F32, 2>(a, b, t);
        else if (MOST == 8 || t.queries <= 8)
            run_item<DIMS, F32, 8>(a, b, t);
        else
            run_item<DIMS, F32, MOST>(a, b, t);
    }
}

/* ---- the join: a thread has two neighbouring columns of one row ---- */

static __device__ __forceinline__ float2 join_chunks(const float *part, int stride, int d, int head_pad, int n)
{
    float maximum = -INFINITY, sum = 0;
    float2 o = {0, 0};
    for (int c0 = 0; c0 < n; c0 += JOIN_CHUNKS) {
        float2 v[JOIN_CHUNKS], end[JOIN_CHUNKS];
#pragma unroll
        for (int i = 0; i < JOIN_CHUNKS; i++)
            if (c0 + i < n) {
                v[i] = *(const float2 *)(part + (size_t)(c0 + i) * (size_t)stride + d);
                end[i] = *(const float2 *)(part + (size_t)(c0 + i) * (size_t)stride + head_pad);
            }
        float m = maximum;
#pragma unroll
        for (int i = 0; i < JOIN_CHUNKS; i++)
            if (c0 + i < n)
                m = fmaxf(m, end[i].x);
        if (c0 > 0) {
            const float by = expf(maximum - m);
            sum *= by;
            o.x *= by;
            o.y *= by;
        }
        maximum = m;
#pragma unroll
        for (int i = 0; i < JOIN_CHUNKS; i++)
            if (c0 + i < n) {
                const float by = expf(end[i].x - m);
                sum = fmaf(end[i].y, by, sum);
                o.x = fmaf(v[i].x, by, o.x);
                o.y = fmaf(v[i].y, by, o.y);
            }
    }
    return make_float2(o.x / sum, o.y / sum);
}

static __global__ void __launch_bounds__(JOIN_THREADS) attend_join(const __grid_constant__ struct attend a)
{
    pdl_go();
    const int row = blockIdx.y, col = 2 * (int)(blockIdx.x * JOIN_THREADS + threadIdx.x), pos = a.step->row[row].pos, n = a.step->n;
    pdl_wait();
    if (row >= n || col >= a.x_units * 32)
        return;
    float2 x = {0, 0};
    if (col < a.kv.n_heads * a.kv.head_dim) {
        const int head = col / a.kv.head_dim, stride = a.kv.head_pad + 2;
        const float *part = a.part + ((size_t)row * (size_t)a.kv.n_heads + (size_t)head) * (size_t)a.max_chunks * (size_t)stride;
        x = join_chunks(part, stride, col - head * a.kv.head_dim, a.kv.head_pad, chunk_of(pos) + 1);
    }
    const size_t at = ((size_t)(col / 32) * (size_t)a.bucket + (size_t)row) * 32 + (size_t)(col % 32);
    if (a.x_f32)
        *(float2 *)((float *)a.x_out + at) = x;
    else
        *(uint32_t *)((uint16_t *)a.x_out + at) = (uint32_t)bf16_bits(x.x) | (uint32_t)bf16_bits(x.y) << 16;
}

/* ---- launches ---- */

template <int DIMS, bool F32> static cudaError_t launch_parts(struct launch l, const struct attend *a)
{
    const void *kernel = (const void *)attend_parts<DIMS, F32>;
    const int bytes = (int)sizeof(struct room<DIMS, F32>);
    int device = 0, processors = 0, blocks = 0;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (e == cudaSuccess)
        e = allow_shared(kernel, bytes);
    if (e == cudaSuccess)
        e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, THREADS, (size_t)bytes);
    if (e != cudaSuccess)
        return e;
    const size_t most = (size_t)a->bucket * (size_t)a->max_chunks * (size_t)a->kv.n_heads;
    size_t grid = (size_t)processors * (size_t)(blocks < 1 ? 1 : blocks > 3 ? 3 : blocks);
    if (grid > most)
        grid = most;
    struct attend copy = *a;
    void *args[] = {&copy};
    return launch_kernel(l, kernel, dim3((unsigned)grid), dim3(THREADS), (size_t)bytes, args);
}

extern "C" cudaError_t cuda_attend(struct launch l, const struct attend *a)
{
    const cudaError_t e = !a->kv.f32 ? cuda_attend_tensor(l, a) : a->kv.head_pad <= 64 ? launch_parts<64, true>(l, a) : a->kv.head_pad <= 128 ? launch_parts<128, true>(l, a) : launch_parts<256, true>(l, a);
    if (e != cudaSuccess)
        return e;
    struct attend copy = *a;
    void *args[] = {&copy};
    const dim3 grid((unsigned)(a->x_units * 16 + JOIN_THREADS - 1) / JOIN_THREADS, (unsigned)a->rows);
    return launch_kernel(l, (const void *)attend_join, grid, dim3(JOIN_THREADS), 0, args);
}
