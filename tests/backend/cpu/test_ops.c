/* SPDX-License-Identifier: Apache-2.0 */
/* Every instruction set gives the bits of "plain"; "plain" is held to references in double. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/ops.h"
#include "base/half.h"
#include "base/lanes.h"

static const struct ops *plain(void) { return ops_pick("plain"); }

static void fill(uint64_t *seed, float *x, int n, float scale)
{
    for (int i = 0; i < n; i++)
        x[i] = scale * check_normal(seed);
}

/* All sets on the same input; the last one is plain. */
#define FOR_EACH_SET(o) for (int set_ = 0; ops_table[set_]; set_++) if ((o = ops_table[set_])->usable())

static void norm_matches_double_and_all_sets(void **state)
{
    (void)state;
    uint64_t seed = 1;
    static const int dims[] = {16, 64, 90, 576, 2048};
    float x[2048], w[2048], got[2048], want[2048];
    for (size_t k = 0; k < sizeof dims / sizeof *dims; k++) {
        int dim = dims[k], n = (dim + 15) / 16 * 16;
        memset(x, 0, sizeof x);
        memset(w, 0, sizeof w);
        fill(&seed, x, dim, 3);
        fill(&seed, w, dim, 1);
        plain()->norm(want, x, w, n, dim, 1e-5f);
        double ss = 0;
        for (int i = 0; i < dim; i++)
            ss += (double)x[i] * x[i];
        for (int i = 0; i < dim; i++)
            assert_true(fabs(want[i] - x[i] / sqrt(ss / dim + 1e-5) * w[i]) < 1e-5);
        const struct ops *o;
        FOR_EACH_SET(o)
        {
            o->norm(got, x, w, n, dim, 1e-5f);
            assert_memory_equal(got, want, sizeof *got * (size_t)n);
        }
    }
}

static void gate_and_rotate_match_double_and_all_sets(void **state)
{
    (void)state;
    uint64_t seed = 2;
    enum { N = 4096 };
    static float g[N], u[N], got[N], want[N];
    fill(&seed, g, N, 8);
    fill(&seed, u, N, 2);
    g[0] = -1e30f, g[1] = 1e30f, g[2] = 0, g[3] = -88.5f, g[4] = INFINITY, g[5] = -INFINITY, g[6] = 1e-40f, g[7] = NAN;
    memcpy(want, g, sizeof g);
    plain()->gate(want, u, N);
    for (int i = 8; i < N; i++)
        assert_true(fabs(want[i] - g[i] / (1 + exp(-(double)g[i])) * u[i]) <= 2e-6 * (1 + fabs((double)g[i] * u[i])));
    float cs[64], sn[64], r[128], s[128];
    fill(&seed, r, 128, 1);
    for (int j = 0; j < 64; j++)
        cs[j] = cosf((float)j), sn[j] = sinf((float)j);
    const struct ops *o;
    FOR_EACH_SET(o)
    {
        memcpy(got, g, sizeof g);
        o->gate(got, u, N);
        for (int i = 0; i < N; i++)
            assert_true(!memcmp(&got[i], &want[i], 4) || (isnan(got[i]) && isnan(want[i])));
        memcpy(s, r, sizeof r);
        o->rotate(s, cs, sn, 128);
        for (int j = 0; j < 64; j++) {
            assert_true(fabs(s[j] - ((double)r[j] * cs[j] - (double)r[j + 64] * sn[j])) < 1e-6);
            assert_true(fabs(s[j + 64] - ((double)r[j + 64] * cs[j] + (double)r[j] * sn[j])) < 1e-6);
        }
    }
}

static void exp_of_lanes_and_of_scalars_is_one_function(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 20000; i++) {
        float x = -90.0f * (float)(check_random(&seed) >> 40) / 16777216.0f, lane[LANES];
        if (i < 4)
            x = (float[]){0, -0.0f, -87.0f, -87.00001f}[i];
        lanes_store(lane, lanes_exp(lanes_all(x)));
        float one = pick_exp(x);
        assert_memory_equal(&one, &lane[i % LANES], 4);
        assert_true(fabs(one - exp((double)x)) <= 3e-7 * exp((double)x) + 1e-37);
    }
}

/* ---- attention ---- */

enum { SLOTS = 3 * KV_PAGE };

struct cache {
    struct attention a;
    uint8_t *kv;
    int32_t page[3];
    double *k, *v; /* [SLOTS][head_dim], as stored */
};

static void put(void *p, size_t i, bool f32, float x, double *as_stored)
{
    if (f32)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = f32_to_bf16(x);
    *as_stored = f32 ? x : bf16_to_f32(f32_to_bf16(x));
}

static void cache_fill(struct cache *c, uint64_t *seed, int hd, bool f32)
{
    int pad = (hd + 15) / 16 * 16;
    size_t e = f32 ? 4 : 2, bytes = e * KV_PAGE * (size_t)(hd + pad);
    *c = (struct cache){.page = {2, 0, 1}};
    c->kv = calloc(3, bytes);
    c->k = calloc((size_t)(SLOTS * hd), sizeof *c->k);
    c->v = calloc((size_t)(SLOTS * hd), sizeof *c->v);
    c->a = (struct attention){.kv = c->kv, .page_bytes = bytes, .v_offset = e * KV_PAGE * (size_t)hd, .page = c->page, .f32 = f32, .head_dim = hd, .pad = pad,
                              .scale = 1.0f / sqrtf((float)hd)};
    for (int s = 0; s < SLOTS; s++)
        for (int d = 0; d < hd; d++) {
            uint8_t *p = c->kv + (size_t)c->page[s / KV_PAGE] * bytes;
            int at = s % KV_PAGE;
            put(p, ((size_t)(at / 16) * (size_t)hd + (size_t)d) * 16 + (size_t)(at % 16), f32, check_normal(seed), &c->k[s * hd + d]);
            put(p + c->a.v_offset, (size_t)at * (size_t)pad + (size_t)d, f32, check_normal(seed), &c->v[s * hd + d]);
        }
}

static void cache_free(struct cache *c)
{
    free(c->kv);
    free(c->k);
    free(c->v);
}

/* Softmax attention in double over the slots in `slot`. */
static void reference(const struct cache *c, const float *q, const int *slot, int n, double *out)
{
    int hd = c->a.head_dim;
    double *p = calloc((size_t)n, sizeof *p), max = -1e300, sum = 0;
    for (int i = 0; i < n; i++) {
        for (int d = 0; d < hd; d++)
            p[i] += q[d] * c->k[slot[i] * hd + d];
        p[i] /= sqrt((double)hd);
        max = fmax(max, p[i]);
    }
    memset(out, 0, (size_t)hd * sizeof *out);
    for (int i = 0; i < n; i++) {
        p[i] = exp(p[i] - max);
        sum += p[i];
        for (int d = 0; d < hd; d++)
            out[d] += p[i] * c->v[slot[i] * hd + d];
    }
    for (int d = 0; d < hd; d++)
        out[d] /= sum;
    free(p);
}

/* One row against the reference, on all sets with equal bits; result of query head 0 to out (may be NULL). */
static void check_row(struct cache *c, const float *q, int n_query, int32_t pos, int32_t slot, int32_t prefix, uint64_t also, float *out)
{
    int hd = c->a.head_dim, pad = c->a.pad, slots[SLOTS], n = 0;
    float *got = calloc((size_t)(n_query * pad), 4), *want = calloc((size_t)(n_query * pad), 4), *scratch = calloc(attention_scratch(pad), 4);
    double ref[512];
    for (int s = 0; s < prefix; s++)
        slots[n++] = s;
    for (int i = 0; i < 64; i++)
        if (also >> i & 1)
            slots[n++] = prefix + i;
    slots[n++] = slot;
    assert_int_equal(n, pos + 1);
    c->a.q = q, c->a.n_query = n_query, c->a.pos = pos, c->a.slot = slot, c->a.prefix = prefix, c->a.also = also, c->a.scratch = scratch;
    c->a.out = want;
    plain()->attend(&c->a);
    for (int h = 0; h < n_query; h++) {
        reference(c, q + h * pad, slots, n, ref);
        for (int d = 0; d < hd; d++)
            assert_true(fabs(want[h * pad + d] - ref[d]) < 2e-5);
    }
    const struct ops *o;
    FOR_EACH_SET(o)
    {
        c->a.out = got;
        o->attend(&c->a);
        assert_memory_equal(got, want, (size_t)(n_query * pad) * 4);
    }
    if (out)
        memcpy(out, want, (size_t)pad * 4);
    free(got);
    free(want);
    free(scratch);
}

static void attention_matches_double_and_all_sets(void **state)
{
    (void)state;
    static const int positions[] = {0, 1, 14, 15, 16, 17, 31, 32, 63, 64, 65, 254, 255, 256, 257, 300, 510, 511, 512, 513, 700};
    static const int dims[] = {64, 128, 80, 36}, groups[] = {1, 2, 3, 4, 7, 8};
    uint64_t seed = 4;
    struct cache c;
    static float q[8 * 128];
    for (size_t k = 0; k < 4; k++)
        for (int f32 = 0; f32 < 2; f32++) {
            cache_fill(&c, &seed, dims[k], f32);
            for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
                fill(&seed, q, 8 * c.a.pad, 1);
                int p = positions[i];
                check_row(&c, q, groups[i % 6], p, p, p, 0, NULL);
            }
            cache_free(&c);
        }
}

/* The same past through `prefix` alone, or partly through `also`, or at other slots of a tree, has the same bits. */
static void attention_does_not_see_how_the_past_was_named(void **state)
{
    (void)state;
    uint64_t seed = 5;
    struct cache c;
    float q[64], want[64], got[64];
    cache_fill(&c, &seed, 64, false);
    for (int prefix = 240; prefix < 262; prefix++)
        for (int behind = 0; behind < 20; behind++) {
            int pos = prefix + behind;
            fill(&seed, q, 64, 1);
            check_row(&c, q, 1, pos, pos, pos, 0, want);
            check_row(&c, q, 1, pos, pos, prefix, behind ? ~0ull >> (64 - behind) : 0, got);
            assert_memory_equal(got, want, sizeof got);
        }
    /* a tree: the ancestors of the row at slot 300 are slots 256, 259, 265 above 256 committed ones; then the same moved together */
    fill(&seed, q, 64, 1);
    check_row(&c, q, 1, 259, 300, 256, 1ull << 0 | 1ull << 3 | 1ull << 9, want);
    size_t e = 2;
    static const int from[] = {256, 259, 265, 300};
    for (int i = 0; i < 4; i++)
        for (int d = 0; d < 64; d++) {
            uint8_t *p = c.kv + (size_t)c.page[1] * c.a.page_bytes;
            int a = (256 + i) % KV_PAGE, b = from[i] % KV_PAGE;
            memcpy(p + ((size_t)(a / 16 * 64 + d) * 16 + (size_t)(a % 16)) * e, p + ((size_t)(b / 16 * 64 + d) * 16 + (size_t)(b % 16)) * e, e);
            memcpy(p + c.a.v_offset + (size_t)(a * 64 + d) * e, p + c.a.v_offset + (size_t)(b * 64 + d) * e, e);
            c.k[(256 + i) * 64 + d] = c.k[from[i] * 64 + d];
            c.v[(256 + i) * 64 + d] = c.v[from[i] * 64 + d];
        }
    check_row(&c, q, 1, 259, 259, 259, 0, got);
    assert_memory_equal(got, want, sizeof got);
    cache_free(&c);
}

/* ---- slices of the choice rule ---- */

/* Every token of the list has as many before it as its place says, equals by id. */
static void check_top(const struct ops *o, const float *logits, int from, int to, int n)
{
    struct candidate top[PICK_TOP];
    int m = o->top(logits, from, to, n, top);
    assert_int_equal(m, n < to - from ? n : to - from);
    for (int k = 0; k < m; k++) {
        int before = 0, id = top[k].token;
        assert_true(id >= from && id < to && top[k].logprob == logits[id]);
        for (int i = from; i < to; i++)
            before += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
        assert_int_equal(before, k);
    }
}

static void slices_match_all_sets(void **state)
{
    (void)state;
    enum { N = 5003 };
    static float logits[N + 16];
    uint64_t seed = 6;
    fill(&seed, logits, N, 4);
    struct sampling s = {.temperature = 0.8f, .seed = 9};
    const struct ops *o;
    int n_few = 0;
    for (int i = 0; i < N; i += 3)
        logits[i] = floorf(logits[i] * 4) / 4; /* many ties, at the top too */
    for (int from = 0; from < N; from += 713) {
        int to = from + 700 + from % 5 < N ? from + 700 + from % 5 : N;
        struct scan want = plain()->scan(logits, from, to);
        uint64_t mass = plain()->mass(logits, from, to, want.max);
        struct best none = {-INFINITY, -1}, best = plain()->noisy(logits, from, to, NULL, &s, 12, want.max, (struct cut){-INFINITY, INT32_MAX}, none);
        assert_true(want.finite);
        FOR_EACH_SET(o)
        {
            struct scan got = o->scan(logits, from, to);
            assert_true(got.max == want.max && got.id == want.id && got.finite);
            assert_true(o->mass(logits, from, to, want.max) == mass);
            for (int n = 0; n <= PICK_TOP; n++)
                check_top(o, logits, from, to, n);
            check_top(o, logits, from, from + n_few++ % 7, PICK_TOP); /* fewer than are asked for */
            struct best b = o->noisy(logits, from, to, NULL, &s, 12, want.max, (struct cut){-INFINITY, INT32_MAX}, none);
            assert_true(b.key == best.key && b.id == best.id);
        }
    }
    FOR_EACH_SET(o)
    for (int i = 0; i < N; i += 97) {
        float keep = logits[i];
        logits[i] = i % 2 ? NAN : INFINITY;
        assert_false(o->scan(logits, 0, N).finite);
        logits[i] = keep;
    }
}

static void wrong_add(float *x, const float *y, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = i == n - 1 ? y[i] + x[i] + 1e-7f : x[i] + y[i];
}

/* The start-up self-test passes every set, and notices one wrong bit. */
static void the_self_test_sees_a_wrong_bit(void **state)
{
    (void)state;
    const struct ops *o;
    FOR_EACH_SET(o)
    assert_null(ops_differ(o));
    struct ops wrong = *plain();
    wrong.add = wrong_add;
    assert_string_equal(ops_differ(&wrong), "add");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_matches_double_and_all_sets),
        cmocka_unit_test(gate_and_rotate_match_double_and_all_sets),
        cmocka_unit_test(exp_of_lanes_and_of_scalars_is_one_function),
        cmocka_unit_test(attention_matches_double_and_all_sets),
        cmocka_unit_test(attention_does_not_see_how_the_past_was_named),
        cmocka_unit_test(slices_match_all_sets),
        cmocka_unit_test(the_self_test_sees_a_wrong_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
