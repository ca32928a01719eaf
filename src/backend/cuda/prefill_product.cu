/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a prompt times packed weights, by wgmma. Two warpgroups of a block make 128 packed rows (8 tiles, one a warp: the packed order is the A operand's, so
   weights go from memory to registers) by 256 rows of activations (the B operand, in shared memory as they lie in global memory, a stage of 64 columns a copy),
   which a thread of the third warpgroup fetches ahead of them. Two blocks with neighbouring weights form a cluster and fetch one half of each stage for both.
   Blocks stay and take tile after tile. */
#include "backend/cuda/prefill.h"
#include "backend/cuda/tensor.cuh"

enum {
    WORKERS = 256,                     /* threads that multiply */
    THREADS = WORKERS + 128,           /* and a warpgroup that fetches: registers are given back by whole warpgroups */
    PASS_ROWS = 32,                    /* rows of activations whose sums are added at once */
    PASS_PITCH = 68,                   /* floats: rows of 64, shifted so that no bank is met twice */
    PASS_BYTES = PASS_ROWS * PASS_PITCH * 4,
    STAGING_BYTES = 4 * PASS_BYTES,    /* two for each of two warpgroups; also holds one step of the next activations */
    STAGES = 5,
    STAGE_BYTES = PREFILL_TILE * 128,
    SHARED_BYTES = 1024 + STAGES * STAGE_BYTES + STAGING_BYTES + 2 * STAGES * 8
};
static_assert(STAGING_BYTES >= STAGE_BYTES && SHARED_BYTES <= 232448, "shared memory");

/* Tiles of 256 packed rows by PREFILL_TILE rows of activations. */
static __host__ __device__ __forceinline__ int tile_count(const struct prefill_product &p)
{
    return (p.w.tiles + 15) / 16 * ((p.n + PREFILL_TILE - 1) / PREFILL_TILE);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* ---- barriers and copies ---- */

static __device__ __forceinline__ void barrier_init(uint32_t at, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

static __device__ __forceinline__ void barrier_expect(uint32_t at, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

/* No way out of this loop but the barrier's: a trap here would make the compiler wait for each product before the next. */
static __device__ __forceinline__ void barrier_wait(uint32_t at, uint32_t parity)
{
    uint32_t done = 0;
    while (!done)
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(at), "r"(parity)
                     : "memory");
}

/* At the same barrier of block `rank` of the cluster. What it tells is that reads are over; a release to the cluster would wait for the weights on their way, too. */
static __device__ __forceinline__ void barrier_arrive(uint32_t at, uint32_t rank)
{
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(at),
                 "r"(rank)
                 : "memory");
}

static __device__ __forceinline__ void cluster_meet(void)
{
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* To the same place of both blocks of the cluster, telling the same barrier of each. */
static __device__ __forceinline__ void fetch_both(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(to), "l"(from),
                 "r"(bytes), "r"(barrier), "h"((uint16_t)3)
                 : "memory");
}

static __device__ __forceinline__ void store_bulk(void *to, uint32_t from, uint32_t bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\ncp.async.bulk.commit_group;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void add_bulk(void *to, uint32_t from, uint32_t bytes)
{
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

/* Barrier 1, 2: a warpgroup that multiplies; 3: both. */
static __device__ __forceinline__ void meet(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }
static __device__ __forceinline__ void meet_group(void) { meet(1 + threadIdx.x / 128, 128); }
static __device__ __forceinline__ void meet_workers(void) { meet(3, WORKERS); }

/* ---- wgmma ---- */

#define F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define F16(d, i) F4(d, i), F4(d, i + 4), F4(d, i + 8), F4(d, i + 12)
#define F64(d, i) F16(d, i), F16(d, i + 16), F16(d, i + 32), F16(d, i + 48)

/* d += a b: 64 rows by 256 by 16 columns */
static __device__ __forceinline__ void wgmma(float (&d)[128], const uint32_t *a, uint64_t b)
{
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %133, 0;\nwgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
        "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
        "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
        "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
        "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
        "{%128,%129,%130,%131}, %132, p, 1, 1, 0;\n}"
        : F64(d, 0), F64(d, 64)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

/* What is in the accumulators has been waited for. */
static __device__ __forceinline__ void settle(float (&d)[128]) { asm volatile("" : F64(d, 0), F64(d, 64)::"memory"); }

static __device__ __forceinline__ void wgmma_begin(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
static __device__ __forceinline__ void wgmma_end(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> static __device__ __forceinline__ void wgmma_wait(void) { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

/* 8 rows of 128 bytes, swizzled, every 1024 bytes. */
static __device__ __forceinline__ uint64_t describe(uint32_t at)
{
    return (uint64_t)((at & 0x3ffffu) >> 4) | (uint64_t)1 << 16 | (uint64_t)64 << 32 | (uint64_t)1 << 62;
}

/* ---- weights: a step of 64 columns of a warp's tile, as it lies in memory (raw) and as bf16 fragments ---- */

template <int KIND> struct step_words {
    static constexpr int raw = KIND == PACKED_Q8 ? 10 : KIND == PACKED_Q4_0 ? 6 : KIND == PACKED_Q4_1 ? 8 : 16;
    static constexpr int parts = KIND == PACKED_F16 ? 2 : 1;     /* f16 is the sum of two bf16, exactly */
    static constexpr int sets = KIND == PACKED_F16 ? 1 : 2;      /* of weights in registers: with two, a step is decoded while the one before it runs */
};

static __device__ __forceinline__ void load4(uint32_t *to, const uint8_t *from)
{
    const uint4 v = load_weights(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

static __device__ __forceinline__ void load2(uint32_t *to, const uint8_t *from)
{
    const uint2 v = __ldg((const uint2 *)from);
    to[0] = v.x, to[1] = v.y;
}

/* A unit behind the last is the last once more: activations there are zeros. No branch here: it would part the products before it from those behind it. */
template <int KIND> static __device__ __forceinline__ void load_step(uint32_t *raw, const uint8_t *tile, int units, int k)
{
    const int lane = threadIdx.x % 32;
    if constexpr (KIND == PACKED_BF16 || KIND == PACKED_F16) {
        const uint8_t *unit = tile + (size_t)k * 2048 + lane * 16;
        const int second = 2 * k + 1 < units ? 1024 : 0;
        load4(raw, unit);
        load4(raw + 4, unit + 512);
        load4(raw + 8, unit + second);
        load4(raw + 12, unit + second + 512);
    } else {
        const int half = k & 1, scale = (lane >> 2) * 16 + half * 8;
        const uint8_t *unit = tile + (size_t)(k >> 1) * (KIND == PACKED_Q8 ? 2176 : KIND == PACKED_Q4_0 ? 1152 : 1280);
        if constexpr (KIND == PACKED_Q8) {
            load4(raw, unit + half * 1024 + lane * 16);
            load4(raw + 4, unit + half * 1024 + 512 + lane * 16);
            load2(raw + 8, unit + 2048 + scale);
        } else {
            load4(raw, unit + half * 512 + lane * 16);
            load2(raw + 4, unit + 1024 + scale);
            if constexpr (KIND == PACKED_Q4_1)
                load2(raw + 6, unit + 1152 + scale);
        }
    }
}

/* Byte `low` of v and byte `low` + 2 (codes without sign), times d, less `zero` d: exact; then bf16. 0x47000000 | code << 8 is 32768 + code. */
template <int LOW> static __device__ __forceinline__ void code_pair(float &x, float &y, uint32_t v, float d, float zero_d)
{
    x = fmaf(__uint_as_float(__byte_perm(v, 0x47000000u, 0x7404 | LOW << 4)), d, zero_d);
    y = fmaf(__uint_as_float(__byte_perm(v, 0x47000000u, 0x7424 | LOW << 4)), d, zero_d);
}

template <int KIND> static __device__ __forceinline__ void decode_codes(uint32_t *a, const uint32_t *raw)
{
#pragma unroll
    for (int b = 0; b < 2; b++) {
        const uint32_t scales = raw[(KIND == PACKED_Q8 ? 8 : 4) + b];
        const float d[2] = {half_bits(scales & 0xffffu), half_bits(scales >> 16)};
        const float zero = KIND == PACKED_Q8 ? -32896.0f : KIND == PACKED_Q4_0 ? -32776.0f : -32768.0f;
        const float zero_d[2] = {zero * d[0], zero * d[1]};
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x, y;
                if constexpr (KIND == PACKED_Q8) {
                    const uint32_t v = raw[4 * b + 2 * j + (i >> 1)] ^ 0x80808080u;
                    if (i & 1)
                        code_pair<1>(x, y, v, d[1], zero_d[1]);
                    else
                        code_pair<0>(x, y, v, d[0], zero_d[0]);
                } else {
                    code_pair<0>(x, y, (raw[2 * b + j] >> (4 * i)) & 0x000f000fu, d[i & 1], zero_d[i & 1]);
                }
                if constexpr (KIND == PACKED_Q4_1) {
                    const float m = half_bits(i & 1 ? raw[6 + b] >> 16 : raw[6 + b] & 0xffffu);
                    x += m;
                    y += m;
                }
                a[(2 * b + j) * 4 + i] = bf16_pair(x, y);
            }
    }
}

/* a = v, after the wait for the product that read a before: products read their weights from registers while they run. The compiler keeps what it computes
   behind that wait, but puts a plain copy anywhere, also before it, into registers of a running product. So this is no copy: only at run time zero is 0. */
static __device__ __forceinline__ void take(uint32_t &a, uint32_t v, uint32_t zero) { asm volatile("or.b32 %0, %1, %2;" : "=r"(a) : "r"(v), "r"(zero)); }

template <int KIND> static __device__ __forceinline__ void decode_step(uint32_t *a, const uint32_t *raw, uint32_t zero)
{
    if constexpr (KIND == PACKED_BF16) {
#pragma unroll
        for (int i = 0; i < 16; i++)
            take(a[i], raw[i], zero);
    } else if constexpr (KIND == PACKED_F16) {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float x = half_bits(raw[i] & 0xffffu), y = half_bits(raw[i] >> 16);
            a[i] = bf16_pair(x, y);
            a[16 + i] = bf16_pair(x - bf16_low(a[i]), y - bf16_high(a[i]));
        }
    } else {
        decode_codes<KIND>(a, raw);
    }
}

/* ---- what workers and fetcher share ---- */

/* Where a thread is in the sequence of all its block's steps. */
struct ring {
    uint32_t stage, full, empty; /* shared addresses; barriers: one a slot */
    int slot, phase;             /* of its next step */
};

struct place {
    int m, token; /* tile of 128 packed rows; first row of activations */
};

static __device__ __forceinline__ struct place place_of(const struct prefill_product &p, int tile, int rank)
{
    const int across = (p.n + PREFILL_TILE - 1) / PREFILL_TILE;
    struct place at;
    at.m = tile / across * 2 + rank;
    at.token = tile % across * PREFILL_TILE;
    return at;
}

static __device__ __forceinline__ void advance(struct ring &r)
{
    if (++r.slot == STAGES) {
        r.slot = 0;
        r.phase ^= 1;
    }
}

/* One thread of a block: all its steps, of each its own half of the rows to both blocks. */
static __device__ __forceinline__ void fetch_all(const struct prefill_product &p, struct ring r, int steps, int tiles, int rank)
{
    for (int tile = blockIdx.x / 2; tile < tiles; tile += gridDim.x / 2) {
        const struct place at = place_of(p, tile, rank);
        const uint8_t *from = (const uint8_t *)p.x + ((size_t)at.token + (size_t)rank * (PREFILL_TILE / 2)) * 128;
        for (int k = 0; k < steps; k++) {
            barrier_wait(r.empty + 8 * r.slot, r.phase ^ 1);
            barrier_expect(r.full + 8 * r.slot, STAGE_BYTES);
            fetch_both(r.stage + r.slot * STAGE_BYTES + rank * (STAGE_BYTES / 2), from, STAGE_BYTES / 2, r.full + 8 * r.slot);
            from += (size_t)p.stride * 128;
            advance(r);
        }
    }
}

/* The slot `behind` steps before the next was read to its end, by this warp: both blocks may refill it. */
static __device__ __forceinline__ void release_step(const struct ring &r, int behind)
{
    int slot = r.slot - behind;
    slot = slot < 0 ? slot + STAGES : slot;
    if (threadIdx.x % 32 < 2)
        barrier_arrive(r.empty + 8 * slot, threadIdx.x % 32);
    __syncwarp();
}

/* ---- the ends of a tile: accumulators to where they belong ----
   Thread 4 g + t of a warp holds, for each i of 32, packed rows g and g + 8 of the warp's tile for activation rows 8 i + 2t and 8 i + 2t + 1:
   acc[4 i ..] = (g, first), (g, second), (g + 8, first), (g + 8, second). */

/* Row g, columns 2t and 2t + 1 of an 8 x 8 matrix of pairs in; row t of its transpose out: what was two rows of one output is two outputs of one row. */
static __device__ __forceinline__ uint32_t transpose(uint32_t v)
{
    uint32_t r;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}

static __device__ __forceinline__ float2 bias_of(const struct prefill_product &p, int tile)
{
    const int g = threadIdx.x % 32 / 4;
    return p.bias && tile < p.w.tiles ? make_float2(p.bias[tile * 16 + g], p.bias[tile * 16 + 8 + g]) : make_float2(0, 0);
}

/* Where a head's K or V (or q) of the tile's rows lies. */
struct target {
    uint8_t *page[2]; /* of the first row's position, and the page behind it */
    int role;         /* 0 q, 1 k, 2 v */
    int first;        /* page of the first row */
};

static __device__ __forceinline__ struct target find_target(const struct prefill_product &p, int token, int head)
{
    struct target to = {};
    const int n_heads = p.kv.n_heads, n_kv = p.kv.n_kv_heads;
    to.role = head < n_heads ? 0 : head < n_heads + n_kv ? 1 : 2;
    if (to.role == 0) {
        to.page[0] = (uint8_t *)(p.q + (size_t)head * (size_t)p.kv.head_pad);
        return to;
    }
    const size_t plane = (size_t)PAGE_SLOTS * (size_t)p.kv.head_pad * (p.kv.f32 ? 4 : 2);
    const size_t at = ((size_t)p.layer * (size_t)n_kv + (size_t)(head - n_heads - (to.role == 2 ? n_kv : 0))) * 2 * plane + (to.role == 2 ? plane : 0);
    const int32_t *table = p.kv.table + (size_t)p.seq * (size_t)p.kv.pages_per_seq;
    const int last = (p.pos0 + min(token + PREFILL_TILE, p.n) - 1) / PAGE_SLOTS;
    to.first = (p.pos0 + token) / PAGE_SLOTS;
    to.page[0] = p.kv.pages + (size_t)table[to.first] * p.kv.page_bytes + at;
    to.page[1] = last > to.first ? p.kv.pages + (size_t)table[to.first + 1] * p.kv.page_bytes + at : to.page[0];
    return to;
}

/* The vector [head_pad] of row `row`; size: of an element. */
static __device__ __forceinline__ uint8_t *vector_of(const struct prefill_product &p, const struct target &to, int row, int size)
{
    if (to.role == 0)
        return to.page[0] + (size_t)row * (size_t)p.kv.n_heads * (size_t)p.kv.head_pad * 2;
    const int slot = p.pos0 + row;
    return (slot / PAGE_SLOTS > to.first ? to.page[1] : to.page[0]) + (size_t)(slot % PAGE_SLOTS) * (size_t)p.kv.head_pad * (size_t)size;
}

/* Values `at` and at + 1 of a vector, as far as they lie below `end`. */
static __device__ __forceinline__ void put_pair(uint8_t *vector, int at, int end, uint32_t pair)
{
    uint16_t *to = (uint16_t *)vector + at;
    if (at + 1 < end && (at & 1) == 0) {
        *(uint32_t *)to = pair;
        return;
    }
    if (at < end)
        to[0] = (uint16_t)pair;
    if (at + 1 < end)
        to[1] = (uint16_t)(pair >> 16);
}

static __device__ __forceinline__ void rotate(float &a, float &b, float c, float s)
{
    const float x = fmaf(a, c, -(b * s));
    b = fmaf(b, c, a * s);
    a = x;
}

static __device__ __forceinline__ void end_heads(const struct prefill_product &p, struct place at, float (&acc)[128])
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, tile = at.m * 8 + threadIdx.x / 32;
    const int half = p.kv.head_dim / 2, per_head = (half + 7) / 8;
    if (tile >= p.w.tiles)
        return;
    const struct target to = find_target(p, at.token, p.head0 + tile / per_head);
    const int pair0 = tile % per_head * 8, pair = pair0 + g;
    const bool wide = p.kv.f32 && to.role;
    const float2 bias = bias_of(p, tile);
    const float *angle = p.angle + (size_t)min(pair, half - 1) * (size_t)p.stride * 2;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const int row = at.token + 8 * i + 2 * t, turned = at.token + 8 * i + g;
        float low[2] = {acc[4 * i] + bias.x, acc[4 * i + 1] + bias.x}, high[2] = {acc[4 * i + 2] + bias.y, acc[4 * i + 3] + bias.y};
        if (to.role < 2) {
            const float4 cs = *(const float4 *)(angle + (size_t)row * 2);
            rotate(low[0], high[0], cs.x, cs.y);
            rotate(low[1], high[1], cs.z, cs.w);
        }
        if (wide) {
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (row + e < p.n && pair < half) {
                    float *v = (float *)vector_of(p, to, row + e, 4);
                    v[pair] = low[e];
                    v[half + pair] = high[e];
                }
            continue;
        }
        const uint32_t first = transpose(bf16_pair(low[0], low[1])), second = transpose(bf16_pair(high[0], high[1]));
        if (turned < p.n) {
            uint8_t *v = vector_of(p, to, turned, 2);
            put_pair(v, pair0 + 2 * t, half, first);
            put_pair(v, half + pair0 + 2 * t, 2 * half, second);
        }
    }
}

/* state += sums, a row of 64 an addition in memory: each element gets one, so that there is no order. A quarter of the rows is sent by each warp;
   a place in staging is free again when the additions before the last have been read. */
static __device__ __forceinline__ void end_add(const struct prefill_product &p, struct place at, uint8_t *staging, float (&acc)[128])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, group = warp / 4;
    const int col = at.m * 128 + group * 64, cols = min(64, p.w.tiles * 16 - col);
    const float2 bias = bias_of(p, at.m * 8 + warp);
    uint8_t *const mine = staging + group * 2 * PASS_BYTES;
#pragma unroll
    for (int c = 0; c < PREFILL_TILE / PASS_ROWS; c++) {
        float *pass = (float *)(mine + (c & 1) * PASS_BYTES), *to = pass + 2 * t * PASS_PITCH + 16 * (warp & 3) + g;
        if (c)
            asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
        else
            asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        meet_group();
#pragma unroll
        for (int i = 0; i < PASS_ROWS / 8; i++, to += 8 * PASS_PITCH) {
            const float *v = acc + 16 * c + 4 * i;
            to[0] = v[0] + bias.x;
            to[PASS_PITCH] = v[1] + bias.x;
            to[8] = v[2] + bias.y;
            to[PASS_PITCH + 8] = v[3] + bias.y;
        }
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        meet_group();
        const int own = (warp & 3) * (PASS_ROWS / 4) + lane, row = at.token + c * PASS_ROWS + own;
        if (lane < PASS_ROWS / 4 && row < p.n && cols > 0)
            add_bulk(p.state + (size_t)row * (size_t)p.state_stride + col, (uint32_t)__cvta_generic_to_shared(pass + own * PASS_PITCH), cols * 4);
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        __syncwarp();
    }
}

static __device__ __forceinline__ float gated(float gate, float up) { return __fdividef(gate, 1.0f + __expf(-gate)) * up; }

/* Staging holds step `step` of x_out for the tile's rows; one thread sends it there. The next use of staging begins with staging_free. */
static __device__ __forceinline__ void send_step(const struct prefill_product &p, struct place at, const uint8_t *staging, int step)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    meet_workers();
    if (threadIdx.x == 0)
        store_bulk((uint8_t *)p.x_out + ((size_t)step * (size_t)p.stride + (size_t)at.token) * 128, (uint32_t)__cvta_generic_to_shared(staging), STAGE_BYTES);
}

static __device__ __forceinline__ void staging_free(void)
{
    if (threadIdx.x == 0)
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    meet_workers();
}

/* Row g is gate, row g + 8 up, of output 8 tile + g: a warp's 8 outputs are words `warp % 4` of four pieces. */
static __device__ __forceinline__ void end_gate(const struct prefill_product &p, struct place at, uint8_t *staging, float (&acc)[128])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    if (at.m * 8 >= p.w.tiles)
        return;
    const bool there = at.m * 8 + warp < p.w.tiles; /* else zeros: columns behind the last */
    const float2 bias = bias_of(p, at.m * 8 + warp);
    staging_free();
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const float first = gated(acc[4 * i] + bias.x, acc[4 * i + 2] + bias.y), second = gated(acc[4 * i + 1] + bias.x, acc[4 * i + 3] + bias.y);
        const uint32_t word = transpose(bf16_pair(first, second));
        *(uint32_t *)(staging + (8 * i + g) * 128 + ((4 * (warp >> 2) + t) ^ g) * 16 + (warp & 3) * 4) = there ? word : 0;
    }
    send_step(p, at, staging, at.m);
}

/* A block's place among the gates that are kept for EPI_GATE_UP: the same threads read them. */
static __device__ __forceinline__ float *gates_of(const struct prefill_product &p, struct place at)
{
    return p.gate + ((size_t)at.m * (size_t)(p.stride / PREFILL_TILE) + (size_t)(at.token / PREFILL_TILE)) * (128 * PREFILL_TILE) + threadIdx.x * 4;
}

static __device__ __forceinline__ void end_store(const struct prefill_product &p, struct place at, float (&acc)[128])
{
    if (at.m * 8 >= p.w.tiles)
        return;
    const float2 bias = bias_of(p, at.m * 8 + threadIdx.x / 32);
    float *to = gates_of(p, at);
#pragma unroll
    for (int i = 0; i < 32; i++)
        *(float4 *)(to + i * 4 * WORKERS) = make_float4(acc[4 * i] + bias.x, acc[4 * i + 1] + bias.x, acc[4 * i + 2] + bias.y, acc[4 * i + 3] + bias.y);
}

/* up, with gates that were kept: a warp's 16 outputs are two words of four pieces, a warpgroup's 64 one step, sent one after the other. */
static __device__ __forceinline__ void end_gate_up(const struct prefill_product &p, struct place at, uint8_t *staging, float (&acc)[128])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, w = warp & 3;
    if (at.m * 8 >= p.w.tiles)
        return;
    const bool there = at.m * 8 + warp < p.w.tiles;
    const float2 bias = bias_of(p, at.m * 8 + warp);
    const float *gates = gates_of(p, at);
    for (int turn = 0; turn < 2; turn++) {
        const int step = 2 * at.m + turn;
        if (step >= prefill_steps(p.w.rows))
            return;
        staging_free();
        if (warp / 4 == turn) {
#pragma unroll
            for (int i = 0; i < 32; i++) {
                const float4 v = *(const float4 *)(gates + i * 4 * WORKERS);
                uint2 words;
                words.x = transpose(bf16_pair(gated(v.x, acc[4 * i] + bias.x), gated(v.y, acc[4 * i + 1] + bias.x)));
                words.y = transpose(bf16_pair(gated(v.z, acc[4 * i + 2] + bias.y), gated(v.w, acc[4 * i + 3] + bias.y)));
                *(uint2 *)(staging + (8 * i + g) * 128 + ((4 * (w >> 1) + t) ^ g) * 16 + (w & 1) * 8) = there ? words : make_uint2(0, 0);
            }
        }
        send_step(p, at, staging, step);
    }
}

/* ---- one step, one tile, all tiles of a block ---- */

/* A step of the tile: raw holds its weights and takes those of the step `sets` further. */
template <int KIND>
static __device__ __forceinline__ void multiply_step(const struct prefill_product &p, struct ring &r, float (&acc)[128], uint32_t *a, uint32_t *raw, const uint8_t *tile,
                                                     int k, int steps)
{
    constexpr int parts = step_words<KIND>::parts, sets = step_words<KIND>::sets;
    if constexpr (sets == 1) {
        wgmma_wait<0>();
        if (k)
            release_step(r, 1);
    }
    decode_step<KIND>(a, raw, (uint32_t)(p.n >> 31)); /* n > 0 */
    load_step<KIND>(raw, tile, p.w.units, min(k + sets, steps - 1));
    barrier_wait(r.full + 8 * r.slot, r.phase);
    const uint64_t b = describe(r.stage + r.slot * STAGE_BYTES);
    wgmma_begin();
#pragma unroll
    for (int part = 0; part < parts; part++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            wgmma(acc, a + 16 * part + 4 * i, b + 2 * i);
    wgmma_end();
    advance(r);
    if constexpr (sets == 2) {
        wgmma_wait<1>();
        if (k)
            release_step(r, 2);
    }
}

/* The warp's tile of weights; behind the last: the last once more, and nobody keeps what it makes. */
static __device__ __forceinline__ const uint8_t *tile_of(const struct prefill_product &p, struct place at)
{
    const int tile = min(at.m * 8 + (int)threadIdx.x / 32, p.w.tiles - 1);
    return p.w.data + (size_t)tile * (size_t)p.w.units * p.w.unit_bytes;
}

/* The weights of step 0 or, with I = 1, 1; of an odd number of steps the first goes alone, from the last of raw. */
template <int KIND, int I>
static __device__ __forceinline__ void load_first(uint32_t (&raw)[step_words<KIND>::sets][step_words<KIND>::raw], const uint8_t *tile, int units, int steps)
{
    const int odd = steps & 1, sets = step_words<KIND>::sets;
    if constexpr (I < sets)
        load_step<KIND>(raw[I], tile, units, sets == 1 ? 0 : I == 0 ? odd & (steps > 1) : odd ^ 1);
}

static __device__ __forceinline__ void end_tile(const struct prefill_product &p, struct place at, uint8_t *staging, float (&acc)[128])
{
    if (p.epilogue == EPI_HEADS)
        end_heads(p, at, acc);
    else if (p.epilogue == EPI_ADD)
        end_add(p, at, staging, acc);
    else if (p.epilogue == EPI_GATE)
        end_gate(p, at, staging, acc);
    else if (p.epilogue == EPI_STORE)
        end_store(p, at, acc);
    else
        end_gate_up(p, at, staging, acc);
}

static __device__ __forceinline__ struct ring start_ring(uint32_t base)
{
    struct ring r = {};
    r.stage = base;
    r.full = base + STAGES * STAGE_BYTES + STAGING_BYTES;
    r.empty = r.full + 8 * STAGES;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(r.full + 8 * i, 1);
            barrier_init(r.empty + 8 * i, 2 * WORKERS / 32);
        }
        asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async;" ::: "memory");
    }
    __syncwarp();
    cluster_meet();
    return r;
}

template <int KIND>
static __device__ __forceinline__ void work(const struct prefill_product &p, struct ring r, uint8_t *staging, int steps, int tiles, int rank)
{
    constexpr int sets = step_words<KIND>::sets;
    constexpr bool early = KIND == PACKED_BF16; /* the others have no registers to spare while a tile ends */
    const int odd = steps & 1;
    uint32_t raw[sets][step_words<KIND>::raw], a[sets][16 * step_words<KIND>::parts];
    int now = blockIdx.x / 2;
    const uint8_t *tile = tile_of(p, place_of(p, now, rank));
    load_first<KIND, 0>(raw, tile, p.w.units, steps);
    load_first<KIND, 1>(raw, tile, p.w.units, steps);
    pdl_wait();
    if (p.epilogue == EPI_ADD) /* to states that others' stores have written */
        asm volatile("fence.proxy.async;" ::: "memory");
    while (now < tiles) {
        float acc[128];
#pragma unroll
        for (int i = 0; i < 128; i++)
            acc[i] = 0;
        if (odd) {
            multiply_step<KIND>(p, r, acc, a[sets - 1], raw[sets - 1], tile, 0, steps);
            wgmma_wait<0>();
        }
        for (int k = odd; k < steps; k += 2) {
            multiply_step<KIND>(p, r, acc, a[0], raw[0], tile, k, steps);
            multiply_step<KIND>(p, r, acc, a[sets - 1], raw[sets - 1], tile, k + 1, steps);
        }
        wgmma_wait<0>();
        settle(acc);
        release_step(r, 1);
        const struct place at = place_of(p, now, rank);
        now += gridDim.x / 2;
        tile = tile_of(p, place_of(p, now, rank));
        if constexpr (early)
            load_first<KIND, 0>(raw, tile, p.w.units, steps);
        end_tile(p, at, staging, acc);
        if constexpr (!early)
            load_first<KIND, 0>(raw, tile, p.w.units, steps);
        load_first<KIND, 1>(raw, tile, p.w.units, steps);
    }
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

#endif

template <int KIND> static __global__ void __launch_bounds__(THREADS, 1) product_kernel(const __grid_constant__ struct prefill_product p)
{
    pdl_go();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ uint8_t dynamic[];
    const uint32_t begin = (uint32_t)__cvta_generic_to_shared(dynamic), base = (begin + 1023u) & ~1023u;
    const int rank = blockIdx.x & 1, steps = prefill_steps(p.w.cols), tiles = tile_count(p);
    const struct ring r = start_ring(base);
    if (threadIdx.x < WORKERS) {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        work<KIND>(p, r, dynamic + (base - begin) + STAGES * STAGE_BYTES, steps, tiles, rank);
    } else {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        pdl_wait();
        if (threadIdx.x == WORKERS) {
            asm volatile("fence.proxy.async;" ::: "memory");
            fetch_all(p, r, steps, tiles, rank);
        }
    }
    __syncwarp();
    cluster_meet(); /* no block leaves while its neighbour may still tell it that a slot is free */
#endif
}

static const void *const kernels[PACKED_KINDS] = {
    [PACKED_BF16] = (const void *)product_kernel<PACKED_BF16>,
    [PACKED_F16] = (const void *)product_kernel<PACKED_F16>,
    [PACKED_F32] = NULL,
    [PACKED_Q8] = (const void *)product_kernel<PACKED_Q8>,
    [PACKED_Q4_0] = (const void *)product_kernel<PACKED_Q4_0>,
    [PACKED_Q4_1] = (const void *)product_kernel<PACKED_Q4_1>,
};

static void set_launch(cudaLaunchConfig_t *config, cudaLaunchAttribute *attr, struct launch l, int pairs)
{
    attr[0].id = cudaLaunchAttributeClusterDimension;
    attr[0].val.clusterDim.x = 2;
    attr[0].val.clusterDim.y = attr[0].val.clusterDim.z = 1;
    attr[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[1].val.programmaticStreamSerializationAllowed = 1;
    config->gridDim = dim3(2 * pairs);
    config->blockDim = dim3(THREADS);
    config->dynamicSmemBytes = SHARED_BYTES;
    config->stream = l.stream;
    config->attrs = attr;
    config->numAttrs = l.chain ? 2 : 1;
}

extern "C" cudaError_t prefill_prepare(int *clusters)
{
    *clusters = 1 << 20;
    for (int kind = 0; kind < PACKED_KINDS; kind++) {
        if (!kernels[kind])
            continue;
        cudaLaunchConfig_t config = {};
        cudaLaunchAttribute attr[2] = {};
        set_launch(&config, attr, {}, 1);
        int n = 0;
        cudaError_t e = allow_shared(kernels[kind], SHARED_BYTES);
        if (e == cudaSuccess)
            e = cudaOccupancyMaxActiveClusters(&n, kernels[kind], &config);
        if (e != cudaSuccess)
            return e;
        *clusters = n < *clusters ? n : *clusters;
    }
    return *clusters > 0 ? cudaSuccess : cudaErrorInvalidConfiguration;
}

extern "C" cudaError_t prefill_product(struct launch l, const struct prefill_product *p)
{
    const int tiles = tile_count(*p);
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attr[2] = {};
    set_launch(&config, attr, l, tiles < p->clusters ? tiles : p->clusters);
    void *args[] = {(void *)p};
    return kernels[p->w.kind] ? cudaLaunchKernelExC(&config, kernels[p->w.kind], args) : cudaErrorInvalidValue;
}
