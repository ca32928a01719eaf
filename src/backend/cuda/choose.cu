/* SPDX-License-Identifier: Apache-2.0 */
/* The choice rule (backend/pick.h) on the device, with the bits of the CPU backend's. A cluster of blocks shares a row: each owns a slice of the vocabulary,
   and they read one another's parts in shared memory behind a cluster barrier. Before sm_90 a cluster is one block.

   Whatever is added up is an integer, whatever is compared has one order (value, then id): neither the number of blocks nor their order can change a bit.

   A cut is found in steps that are the same for all blocks: every live token of the slice adds its measure (1, or its mass) to a bin of x; the joined bins tell
   in which of them the cut lies; then the bins cover the keys of that bin alone, and so on down to one key, and among several tokens of it down to one id.

   The draw: a cheap bound from above of every token's key finds a token that is probably best; only tokens whose bound reaches that one's exact key are then
   computed exactly. */
#include "backend/cuda/device.cuh"

enum { THREADS = 512, WARPS = THREADS / 32, BINS = THREADS, BIN_BITS = 9, LOG_BLOCKS = 3, ROW_BLOCKS = 1 << LOG_BLOCKS, LISTED = 256 };

/* Blocks on a multiprocessor; without clusters there is only one for a row. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SM_BLOCKS 2
#else
#define SM_BLOCKS 1
#endif

#define LIVE_REACH 28.0f /* no token further than this below the largest x has a mass */

/* What a block tells the others. Every field is complete before the cluster barrier behind which it is read. */
struct part {
    uint64_t mass, key;     /* key: the order of the largest x + noise, 0 while there is none */
    uint64_t top[PICK_TOP]; /* packed, largest first; 0: no more */
    uint32_t id, first;     /* the token of that key; lowest id of the largest logit */
    uint32_t odd, lowest;   /* values that are not finite; the last place that min-p keeps */
};

struct bins {
    uint32_t low[BINS], high[BINS];
};

struct shared {
    struct sampling s;
    struct bins bins[2];
    struct part part;
    uint64_t list[LISTED], chosen[PICK_TOP];
    uint64_t sum[WARPS], found_before, found_value, race;
    uint32_t max[WARPS], found_bin;
    int n_listed;
};

/* A row as one block sees it. A group is four logits: without ids, of the four tokens of a pick_noise. With ids everything goes by place in their list, which ascends,
   so that the order of places is that of tokens; noise and results alone need the tokens. */
struct task {
    const float *logits;
    const int32_t *ids;        /* or NULL */
    const struct sampling *s;  /* in shared memory */
    float temperature;
    int32_t position;          /* of the token that is being chosen */
    int vocab, from, to;       /* this block's groups are [from, to) */
    int rank, blocks, n_top;
    int turn;                  /* the bins that are filled next; they are zero */
    float max, top;            /* largest logit, largest x */
};

/* ---- clusters ---- */

static __device__ __forceinline__ void cluster_arrive(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();
#else
    __syncthreads();
#endif
}

static __device__ __forceinline__ void cluster_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    __cluster_barrier_wait();
#endif
}

static __device__ __forceinline__ void cluster_sync(void)
{
    cluster_arrive();
    cluster_wait();
}

/* The same object in the shared memory of another block of the cluster. */
template <class T> static __device__ __forceinline__ const T *of_rank(const T *own, int rank)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    return (const T *)__cluster_map_shared_rank(own, (unsigned)rank);
#else
    (void)rank;
    return own;
#endif
}

/* ---- orders and sums ---- */

static __device__ __forceinline__ void add64(uint64_t *p, uint64_t v) { atomicAdd((unsigned long long *)p, (unsigned long long)v); }
static __device__ __forceinline__ void max64(uint64_t *p, uint64_t v) { atomicMax((unsigned long long *)p, (unsigned long long)v); }

static __device__ __forceinline__ uint64_t warp_sum(uint64_t v)
{
    for (int d = 16; d; d >>= 1)
        v += (uint64_t)__shfl_xor_sync(0xffffffffu, (unsigned long long)v, d);
    return v;
}

static __device__ __forceinline__ uint64_t warp_max(uint64_t v)
{
    for (int d = 16; d; d >>= 1) {
        const uint64_t other = (uint64_t)__shfl_xor_sync(0xffffffffu, (unsigned long long)v, d);
        v = other > v ? other : v;
    }
    return v;
}

static __device__ __forceinline__ float from_key(uint32_t key) { return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key); }

/* Places ascend where the order of the choice rule goes: x falls. */
static __device__ __forceinline__ uint32_t place_of(float x) { return ~pick_key(x); }

/* Value and id in one: of two the larger is the one with the larger value, or the lower id. Never 0. */
static __device__ __forceinline__ uint64_t packed_token(float v, int id) { return (uint64_t)pick_key(v) << 32 | ~(uint32_t)id; }
static __device__ __forceinline__ int token_of(uint64_t packed) { return (int)~(uint32_t)packed; }

/* pick_key of a double. */
static __device__ __forceinline__ uint64_t order_of(double key)
{
    const uint64_t u = (uint64_t)__double_as_longlong(key + 0.0);
    return u >> 63 ? ~u : u | (uint64_t)1 << 63;
}

/* ---- tokens of a slice ---- */

/* NaN stands for ids behind the vocabulary: it has no mass, is kept by no cut and is not the largest. */
static __device__ __forceinline__ void load_group(const struct task &t, int g, float v[4])
{
    if (4 * g + 4 <= t.vocab) {
        const float4 q = *(const float4 *)(t.logits + 4 * g);
        v[0] = q.x;
        v[1] = q.y;
        v[2] = q.z;
        v[3] = q.w;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = 4 * g + i < t.vocab ? t.logits[4 * g + i] : NAN;
}

static __device__ __forceinline__ void load_x(const struct task &t, int g, float x[4])
{
    load_group(t, g, x);
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = x[i] / t.temperature;
}

/* ---- the largest logit, masses, the most probable ---- */

/* Each thread's share of the tiles' maxima, as a key. */
static __device__ __forceinline__ uint32_t largest_tile(const float *tile_max, int tiles)
{
    float m = -INFINITY;
    for (int at = (int)threadIdx.x; at < tiles; at += 8 * THREADS) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = at + i * THREADS < tiles ? tile_max[at + i * THREADS] : -INFINITY;
#pragma unroll
        for (int i = 0; i < 8; i++)
            m = fmaxf(m, v[i]);
    }
    return pick_key(m);
}

/* The n-th largest of the warps' maxima: as they are of tokens apart, at least n tokens reach it, and few exceed it by chance. */
static __device__ __forceinline__ float reached_by(const struct shared *sh, int n)
{
    const int lane = (int)threadIdx.x & 31;
    const uint32_t mine = lane < WARPS ? sh->max[lane] : 0;
    int before = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++)
        before += sh->max[w] > mine || (sh->max[w] == mine && w < lane);
    const unsigned there = __ballot_sync(0xffffffffu, lane < WARPS && before == n - 1);
    return from_key(__shfl_sync(0xffffffffu, mine, __ffs((int)there) - 1));
}

struct weight {
    uint64_t mass;
    uint32_t first, odd;
};

static __device__ __forceinline__ void weigh_group(const struct task &t, struct shared *sh, int g, const float v[4], float listed_from, struct weight *w)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t id = (uint32_t)(4 * g + i);
        w->mass += pick_mass(v[i] - t.max);
        w->odd += !(v[i] - v[i] == 0.0f);
        if (v[i] == t.max && id < w->first)
            w->first = id;
        if (v[i] >= listed_from && t.n_top) {
            const int at = atomicAdd(&sh->n_listed, 1);
            if (at < LISTED)
                sh->list[at] = packed_token(v[i], (int)id);
        }
    }
}

/* ahead: this thread's first two groups, loaded before the maximum was known. */
static __device__ __forceinline__ void weigh(const struct task &t, struct shared *sh, float ahead[2][4])
{
    const float listed_from = !t.n_top ? INFINITY : t.n_top <= WARPS ? reached_by(sh, t.n_top) : -INFINITY; /* for more than there are warps nothing is known: one after the other */
    struct weight w = {0, UINT32_MAX, 0};
    for (int g = t.from + (int)threadIdx.x; g < t.to; g += 2 * THREADS) {
        const bool more = g + 2 * THREADS < t.to;
        float next[2][4];
        if (more) {
            load_group(t, g + 2 * THREADS, next[0]);
            load_group(t, g + 3 * THREADS, next[1]);
        }
        weigh_group(t, sh, g, ahead[0], listed_from, &w);
        if (g + THREADS < t.to)
            weigh_group(t, sh, g + THREADS, ahead[1], listed_from, &w);
#pragma unroll
        for (int i = 0; i < 8; i++)
            ahead[i / 4][i % 4] = more ? next[i / 4][i % 4] : 0.0f;
    }
    w.mass = warp_sum(w.mass);
    w.odd = __reduce_add_sync(0xffffffffu, w.odd);
    w.first = __reduce_min_sync(0xffffffffu, w.first);
    if ((threadIdx.x & 31) == 0) {
        add64(&sh->part.mass, w.mass);
        atomicAdd(&sh->part.odd, w.odd);
        atomicMin(&sh->part.first, w.first);
    }
}

/* The slice's n_top largest in order: from the list, or where that ran over (many equals) one after the other. */
static __device__ __forceinline__ void select_top(const struct task &t, struct shared *sh)
{
    __syncthreads();
    const int listed = sh->n_listed;
    if (listed <= LISTED) {
        if ((int)threadIdx.x < listed) {
            const uint64_t mine = sh->list[threadIdx.x];
            int before = 0;
            for (int i = 0; i < listed; i++)
                before += sh->list[i] > mine;
            if (before < t.n_top)
                sh->part.top[before] = mine;
        }
        return;
    }
    uint64_t last = UINT64_MAX;
    for (int k = 0; k < t.n_top; k++) {
        uint64_t best = 0;
        for (int g = t.from + (int)threadIdx.x; g < t.to; g += THREADS) {
            float v[4];
            load_group(t, g, v);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint64_t p = packed_token(v[i], 4 * g + i);
                if (v[i] == v[i] && p < last && p > best)
                    best = p;
            }
        }
        best = warp_max(best);
        if ((threadIdx.x & 31) == 0)
            max64(&sh->part.top[k], best);
        __syncthreads();
        last = sh->part.top[k];
    }
}

/* ---- cuts ---- */

/* 64-bit sums by 32-bit atomics: whoever makes the low half go around carries. */
static __device__ __forceinline__ void add_to_bin(struct bins *b, uint32_t bin, uint64_t v)
{
    const uint32_t low = (uint32_t)v, old = low ? atomicAdd(&b->low[bin], low) : 0, high = (uint32_t)(v >> 32) + (old + low < old);
    if (high)
        atomicAdd(&b->high[bin], high);
}

/* Bin threadIdx.x of all blocks together. From here on the other bins are the ones to fill: the block zeroes them (nobody reads them any more), and the
   __syncthreads in scan_bins makes that known. */
static __device__ __forceinline__ uint64_t join_bins(struct task &t, struct shared *sh)
{
    cluster_sync();
    uint64_t sum = 0;
    for (int k = 0; k < t.blocks; k++) {
        const struct bins *b = of_rank(&sh->bins[t.turn], k);
        sum += (uint64_t)b->high[threadIdx.x] << 32 | b->low[threadIdx.x];
    }
    t.turn ^= 1;
    sh->bins[t.turn].low[threadIdx.x] = 0;
    sh->bins[t.turn].high[threadIdx.x] = 0;
    return sum;
}

/* The sum of the bins up to this thread's, each thread having one. total: of all of them. */
static __device__ __forceinline__ uint64_t scan_bins(struct shared *sh, uint64_t mine, uint64_t *total)
{
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    uint64_t sum = mine, all = 0;
    for (int d = 1; d < 32; d <<= 1) {
        const uint64_t other = (uint64_t)__shfl_up_sync(0xffffffffu, (unsigned long long)sum, (unsigned)d);
        sum += lane >= d ? other : 0;
    }
    if (lane == 31)
        sh->sum[warp] = sum;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) {
        if (w == warp)
            sum += all;
        all += sh->sum[w];
    }
    *total = all;
    return sum;
}

struct found {
    uint32_t bin;
    uint64_t before, value; /* the sum of the bins before it; its own */
};

/* The first bin where the sum reaches need, which is at most the total. */
static __device__ __forceinline__ struct found find_bin(struct shared *sh, uint64_t mine, uint64_t sum, uint64_t need)
{
    if ((sum >= need && sum - mine < need) || (threadIdx.x == THREADS - 1 && sum < need)) {
        sh->found_bin = threadIdx.x;
        sh->found_before = sum - mine;
        sh->found_value = mine;
    }
    __syncthreads();
    const struct found f = {sh->found_bin, sh->found_before, sh->found_value};
    return f;
}

/* What is being looked for: a cut of the tokens that `limit` keeps, at first by bins of equal width, then in one of them. */
struct search {
    bool by_mass, by_id;
    struct cut limit;
    uint32_t bin, place; /* only tokens of this bin; by_id: only those at this place */
    uint32_t lo, hi;     /* of places or ids */
    uint64_t before, target;
};

static __device__ __forceinline__ uint32_t bin_of(float below_top) { return (uint32_t)fminf(below_top * (-(float)BINS / LIVE_REACH), (float)(BINS - 1)); }

static __device__ __forceinline__ uint64_t measure(const struct task &t, const struct search &s, float x, int id)
{
    if (!pick_keeps(s.limit, x, id))
        return 0;
    const uint64_t m = pick_mass(x - t.top);
    return s.by_mass || !m ? m : 1;
}

static __device__ __forceinline__ void fill_bins(const struct task &t, struct shared *sh, const struct search &s)
{
    for (int g = t.from + (int)threadIdx.x; g < t.to; g += THREADS) {
        float x[4];
        load_x(t, g, x);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint64_t m = measure(t, s, x[i], 4 * g + i);
            if (m)
                add_to_bin(&sh->bins[t.turn], bin_of(x[i] - t.top), m);
        }
    }
}

static __device__ __forceinline__ void fill_narrow(const struct task &t, struct shared *sh, const struct search &s, int shift)
{
    for (int g = t.from + (int)threadIdx.x; g < t.to; g += THREADS) {
        float x[4];
        load_x(t, g, x);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t place = place_of(x[i]), at = (s.by_id ? (uint32_t)(4 * g + i) : place) - s.lo;
            if (at > s.hi - s.lo || (s.by_id && place != s.place))
                continue;
            const uint64_t m = measure(t, s, x[i], 4 * g + i);
            if (m && bin_of(x[i] - t.top) == s.bin)
                add_to_bin(&sh->bins[t.turn], at >> shift, m);
        }
    }
}

/* From [lo, hi] down to lo == hi, where the measure reaches the target. Returns the measure of what is there. */
static __device__ __forceinline__ uint64_t narrow(struct task &t, struct shared *sh, struct search &s)
{
    uint64_t value;
    do {
        const int bits = 32 - __clz((int)(s.hi - s.lo)), shift = bits > BIN_BITS ? bits - BIN_BITS : 0;
        uint64_t total;
        fill_narrow(t, sh, s, shift);
        const uint64_t mine = join_bins(t, sh), sum = scan_bins(sh, mine, &total);
        const struct found f = find_bin(sh, mine, sum, s.target - s.before);
        s.before += f.before;
        value = f.value;
        s.lo += f.bin << shift;
        const uint32_t left = s.hi - s.lo, width = ((uint32_t)1 << shift) - 1;
        s.hi = s.lo + (left < width ? left : width);
    } while (s.lo < s.hi);
    return value;
}

/* A range of places that has all of the bin's live tokens in it, and perhaps some of its neighbours'. */
static __device__ __forceinline__ void cover_bin(const struct task &t, struct search *s)
{
    const float width = LIVE_REACH / BINS, slack = 1e-4f + fabsf(t.top) * 1e-6f;
    s->lo = place_of(t.top - (float)s->bin * width + slack);
    s->hi = place_of(s->bin == BINS - 1 ? -INFINITY : t.top - (float)(s->bin + 1) * width - slack);
}

/* The cut of top-k or, by mass, of top-p among what `limit` keeps. */
static __device__ __forceinline__ struct cut find_cut(struct task &t, struct shared *sh, bool by_mass, struct cut limit)
{
    struct search s = {};
    uint64_t total;
    s.by_mass = by_mass;
    s.limit = limit;
    fill_bins(t, sh, s);
    const uint64_t mine = join_bins(t, sh), sum = scan_bins(sh, mine, &total);
    if (!by_mass && total <= (uint64_t)t.s->top_k)
        return limit;
    s.target = by_mass ? (uint64_t)ceil((double)t.s->top_p * (double)total) : (uint64_t)t.s->top_k;
    s.target = s.target ? s.target : 1;
    const struct found f = find_bin(sh, mine, sum, s.target);
    s.bin = f.bin;
    s.before = f.before;
    cover_bin(t, &s);
    const uint64_t equals = narrow(t, sh, s);
    s.place = s.lo;
    struct cut cut = {from_key(~s.place), INT32_MAX};
    const uint64_t each = by_mass ? pick_mass(cut.x - t.top) : 1;
    if (s.target - s.before > equals - each) { /* all tokens at that place are kept */
        cut.id = cut.x == limit.x ? limit.id : cut.id;
        return cut;
    }
    s.by_id = true;
    s.lo = 0;
    s.hi = (uint32_t)t.vocab - 1;
    narrow(t, sh, s);
    cut.id = (int32_t)s.lo;
    return cut;
}

/* The lowest x that min-p keeps. */
static __device__ __forceinline__ float lowest_kept(const struct task &t, struct shared *sh)
{
    const uint64_t least = t.s->min_p <= 1 ? (uint64_t)ceil((double)t.s->min_p * (double)PICK_ONE) : UINT64_MAX;
    const int lane = (int)threadIdx.x & 31;
    uint32_t last = place_of(t.top);
    for (int g = t.from + (int)threadIdx.x; g < t.to; g += THREADS) {
        float x[4];
        load_x(t, g, x);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (pick_mass(x[i] - t.top) >= least && place_of(x[i]) > last)
                last = place_of(x[i]);
    }
    last = __reduce_max_sync(0xffffffffu, last);
    if (lane == 0)
        atomicMax(&sh->part.lowest, last);
    cluster_sync();
    last = lane < t.blocks ? of_rank(&sh->part, lane)->lowest : 0;
    return from_key(~__reduce_max_sync(0xffffffffu, last));
}

static __device__ __forceinline__ struct cut find_cuts(struct task &t, struct shared *sh)
{
    struct cut cut = {-INFINITY, INT32_MAX};
#pragma unroll 1
    for (int by_mass = 0; by_mass < 2; by_mass++)
        if (by_mass ? t.s->top_p > 0 && t.s->top_p < 1 : t.s->top_k > 0)
            cut = find_cut(t, sh, by_mass, cut);
    if (t.s->min_p > 0) {
        const struct cut lowest = {lowest_kept(t, sh), INT32_MAX};
        if (pick_keeps(cut, lowest.x, lowest.id))
            cut = lowest;
    }
    return cut;
}

/* ---- the draw ---- */

/* pick_gumbel from above: -log(-log(1 - w)) <= -log(w). Good to 1e-5. */
static __device__ __forceinline__ float noise_bound(uint32_t bits) { return -__logf(((float)bits + 0.5f) * (1.0f / 4294967296.0f)); }

static __device__ __forceinline__ int id_of(const struct task &t, int place) { return t.ids ? t.ids[place] : place; }

static __device__ __forceinline__ double key_of(const struct task &t, int place)
{
    return (double)(t.logits[place] / t.temperature) + pick_gumbel(pick_noise_of(t.s, t.position, id_of(t, place)));
}

/* Calls use(id, x - top, bound - top) for every kept token of this thread: x + noise does not exceed the bound but for rounding. */
template <class Use> static __device__ __forceinline__ void each_kept(const struct task &t, struct cut cut, Use use)
{
    for (int g = t.from + (int)threadIdx.x; g < t.to; g += THREADS) {
        float x[4];
        bool kept = false;
        load_x(t, g, x);
#pragma unroll
        for (int i = 0; i < 4; i++)
            kept |= pick_keeps(cut, x[i], 4 * g + i);
        if (!kept)
            continue;
        struct philox noise = {};
        if (!t.ids)
            noise = pick_noise(t.s, t.position, g);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (pick_keeps(cut, x[i], 4 * g + i))
                use(4 * g + i, x[i] - t.top, x[i] - t.top + noise_bound(t.ids ? pick_noise_of(t.s, t.position, t.ids[4 * g + i]) : noise.v[i]));
    }
}

/* Of the slice's kept tokens the one with the largest key, the lowest id among equals, into the part. */
static __device__ __forceinline__ void draw(const struct task &t, struct shared *sh, struct cut cut)
{
    float bound = -INFINITY;
    int id = -1;
    each_kept(t, cut, [&](int i, float below, float b) {
        if (b > bound && pick_mass(below)) {
            bound = b;
            id = i;
        }
    });
    const uint64_t race = warp_max(id < 0 ? 0 : packed_token(bound, id));
    if ((threadIdx.x & 31) == 0 && race)
        max64(&sh->race, race);
    __syncthreads();
    if (!sh->race)
        return;
    /* The margin covers the rounding of bounds, and of keys where x is so large that the noise drowns. */
    const float least = (float)(key_of(t, token_of(sh->race)) - (double)t.top) - (1e-3f + fabsf(t.top) * 1e-12f);
    uint64_t best = 0;
    id = -1;
    if (bound >= least)
        each_kept(t, cut, [&](int i, float below, float b) {
            if (!(b >= least) || !pick_mass(below))
                return;
            const uint64_t key = order_of(key_of(t, i));
            if (key > best) { /* ids ascend: the first of equals stays */
                best = key;
                id = i;
            }
        });
    if (best)
        max64(&sh->part.key, best);
    __syncthreads();
    if (best && best == sh->part.key)
        atomicMin(&sh->part.id, (uint32_t)id);
}

static __device__ __forceinline__ void sample(struct task &t, struct shared *sh)
{
    struct cut cut = {-INFINITY, INT32_MAX};
    if (pick_filters(t.s))
        cut = find_cuts(t, sh);
    draw(t, sh, cut);
}

/* ---- the row's result, by the first warp of the first block ---- */

struct result {
    uint64_t mass;
    uint32_t first, id, odd;
};

static __device__ __forceinline__ struct result join_parts(const struct task &t, struct shared *sh)
{
    const int lane = (int)threadIdx.x;
    const bool there = lane < t.blocks;
    const struct part *p = of_rank(&sh->part, there ? lane : 0);
    struct result r = {there ? p->mass : 0, there ? p->first : UINT32_MAX, there ? p->id : UINT32_MAX, there ? p->odd : 0};
    const uint64_t key = there ? p->key : 0, best = warp_max(key);
    r.mass = warp_sum(r.mass);
    r.odd = __reduce_add_sync(0xffffffffu, r.odd);
    r.first = __reduce_min_sync(0xffffffffu, r.first);
    r.id = __reduce_min_sync(0xffffffffu, key == best ? r.id : UINT32_MAX);
    if (!t.n_top)
        return r;
    const int entries = t.blocks * t.n_top;
    for (int at = lane; at < entries; at += 32)
        sh->list[at] = of_rank(&sh->part, at / t.n_top)->top[at % t.n_top];
    __syncwarp();
    for (int at = lane; at < entries; at += 32) {
        const uint64_t mine = sh->list[at];
        int before = 0;
        for (int i = 0; i < entries; i++)
            before += sh->list[i] > mine;
        if (mine && before < t.n_top)
            sh->chosen[before] = mine;
    }
    __syncwarp();
    return r;
}

/* The place of the token that was chosen; no key: x goes beyond a float, and nothing is live. */
static __device__ __forceinline__ int chosen(const struct task &t, const struct result &r) { return !(t.temperature > 0) || r.id == UINT32_MAX ? (int)r.first : (int)r.id; }

/* Behind the choice over edited logits, by one lane: token and conf, beside what the choice over those of the head has left. */
static __device__ __forceinline__ void conclude_edited(const struct task &t, const struct result &r, const struct choose &c, int row)
{
    struct pick *out = &c.picks[row];
    const struct raw raw = c.raw[row];
    if (out->token < 0) /* not finite */
        return;
    const bool any = t.max > PICK_OUT;
    const int place = any ? chosen(t, r) : 0;
    out->token = any ? id_of(t, place) : (int)PICK_NONE;
    out->logprob = any ? pick_logprob(c.raw_logits[(size_t)row * (size_t)c.stride + (size_t)place], raw.max, raw.mass) : 0.0f;
    out->conf = any ? pick_exp(pick_logprob(t.logits[place], t.max, r.mass)) : 0.0f;
    out->n_top = any ? out->n_top : 0;
}

/* Lanes below n_top have the candidates, lane PICK_TOP the token itself. */
static __device__ __forceinline__ void conclude(const struct task &t, const struct shared *sh, const struct result &r, struct pick *out)
{
    const int lane = (int)threadIdx.x, padding = (t.vocab + 3) / 4 * 4 - t.vocab;
    const bool finite = r.odd == (uint32_t)padding, greedy = !(t.temperature > 0);
    const int token = chosen(t, r);
    struct candidate c = {0, 0.0f};
    if (lane > PICK_TOP)
        return;
    if (finite && (lane == PICK_TOP || lane < t.n_top)) {
        c.token = lane == PICK_TOP ? token : token_of(sh->chosen[lane]);
        const float logit = lane == PICK_TOP && greedy ? t.max : t.logits[c.token];
        c.logprob = pick_logprob(logit, t.max, r.mass);
        c.token = id_of(t, c.token);
    }
    if (lane < PICK_TOP) {
        out->top[lane] = c;
        return;
    }
    out->token = finite ? c.token : -1;
    out->logprob = c.logprob;
    out->conf = finite ? pick_exp(c.logprob) : 0.0f;
    out->n_top = finite ? t.n_top : 0;
}

static __device__ __forceinline__ void finish(const struct task &t, struct shared *sh, const struct choose &c, int row)
{
    const bool mine = t.rank == 0 && threadIdx.x < 32;
    struct result r = {};
    cluster_sync();
    if (mine)
        r = join_parts(t, sh);
    __syncwarp();
    cluster_arrive(); /* nobody leaves while its part may be read */
    if (mine && !c.raw_logits)
        conclude(t, sh, r, &c.picks[row]);
    else if (mine && threadIdx.x == 0)
        conclude_edited(t, r, c, row);
    if (mine && threadIdx.x == 0 && c.raw && !c.raw_logits)
        c.raw[row] = {t.max, r.mass};
    cluster_wait();
}

/* ---- the kernel ---- */

static __device__ __forceinline__ struct task open_task(const struct choose &c, const struct shared *sh, int row, int rank, int log_blocks)
{
    const struct step_ask *a = &c.step->ask[row];
    const int groups = (c.vocab + 3) / 4, most = c.vocab < PICK_TOP ? c.vocab : PICK_TOP;
    struct task t = {};
    t.logits = c.logits + (size_t)row * (size_t)c.stride;
    t.ids = c.ids;
    t.s = &sh->s;
    t.temperature = c.raw && !c.raw_logits ? 0.0f : a->temperature;
    t.position = c.step->row[row].pos + 1;
    t.vocab = c.vocab;
    t.from = groups * rank >> log_blocks;
    t.to = groups * (rank + 1) >> log_blocks;
    t.rank = rank;
    t.blocks = 1 << log_blocks;
    t.n_top = a->n_top < 0 || c.raw_logits ? 0 : a->n_top < most ? a->n_top : most;
    return t;
}

/* Complete at the next __syncthreads. */
static __device__ __forceinline__ void clear(struct shared *sh, const struct step_ask *a)
{
    for (int i = 0; i < 2; i++) {
        sh->bins[i].low[threadIdx.x] = 0;
        sh->bins[i].high[threadIdx.x] = 0;
    }
    if (threadIdx.x < PICK_TOP)
        sh->part.top[threadIdx.x] = 0;
    if (threadIdx.x == 0) {
        sh->part.mass = sh->part.key = sh->race = 0;
        sh->part.id = sh->part.first = UINT32_MAX;
        sh->part.odd = sh->part.lowest = 0;
        sh->n_listed = 0;
        sh->s.temperature = a->temperature;
        sh->s.top_p = a->top_p;
        sh->s.min_p = a->min_p;
        sh->s.top_k = a->top_k;
        sh->s.choice = a->choice;
        sh->s.seed = a->seed;
    }
}

static __global__ void __launch_bounds__(THREADS, SM_BLOCKS) choose_rows(const struct choose c, int log_blocks)
{
    __shared__ struct shared sh;
    const int rank = (int)blockIdx.x & ((1 << log_blocks) - 1), row = (int)blockIdx.x >> log_blocks;
    pdl_go();
    pdl_wait();
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 900
    if (rank) /* no clusters in this code: one block does the row */
        return;
    log_blocks = 0;
#endif
    const int n = c.step->n, tiles = (c.vocab + 15) / 16;
    struct task t = open_task(c, &sh, row, rank, log_blocks);
    float ahead[2][4];
    load_group(t, t.from + (int)threadIdx.x, ahead[0]);
    load_group(t, t.from + (int)threadIdx.x + THREADS, ahead[1]);
    const uint32_t largest = __reduce_max_sync(0xffffffffu, largest_tile(c.tile_max + (size_t)row * (size_t)tiles, tiles));
    if (row >= n) /* so do all blocks of the cluster */
        return;
    clear(&sh, &c.step->ask[row]);
    if ((threadIdx.x & 31) == 0)
        sh.max[threadIdx.x >> 5] = largest;
    __syncthreads();
    uint32_t key = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++)
        key = sh.max[w] > key ? sh.max[w] : key;
    t.max = from_key(key);
    t.top = t.max / t.temperature;
    weigh(t, &sh, ahead);
    if (t.n_top)
        select_top(t, &sh);
    if (t.temperature > 0 && fabsf(t.top) < INFINITY)
        sample(t, &sh);
    finish(t, &sh, c, row);
}

extern "C" cudaError_t cuda_choose(struct launch l, const struct choose *c)
{
    int device, major = 0;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (e != cudaSuccess)
        return e;
    int log_blocks = major < 9 ? 0 : c->bucket <= 32 ? LOG_BLOCKS : LOG_BLOCKS - 1; /* 64 rows fill the device with half as many */
    struct choose copy = *c;
    void *args[] = {&copy, &log_blocks};
    return launch_clusters(l, (const void *)choose_rows, dim3((unsigned)c->bucket << log_blocks), dim3(THREADS), 0, args, 1u << log_blocks);
}
