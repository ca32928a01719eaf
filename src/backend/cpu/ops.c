/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ops.h"

#include <string.h>

#include "base/half.h"

extern const struct ops ops_plain;
#if defined(__x86_64__)
extern const struct ops ops_avx512, ops_avx2;
#endif

const struct ops *const ops_table[] = {
#if defined(__x86_64__)
    &ops_avx512,
    &ops_avx2,
#endif
    &ops_plain,
    NULL,
};

const struct ops *ops_pick(const char *name)
{
    for (int i = 0; ops_table[i]; i++)
        if ((!name || !strcmp(name, ops_table[i]->name)) && ops_table[i]->usable())
            return ops_table[i];
    return NULL;
}

/* ---- self-test ---- */

enum { TEST_N = 256, TEST_HEAD = 16, TEST_POS = 299, TEST_PREFIX = 251, TEST_SLOTS = 2 * 256, TEST_CUTS = 3 };

static void fill_random(float *x, int n, uint32_t stream)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(philox(7, (uint32_t)i, stream, 0, 0).v[0] >> 8) / 1048576.0f - 8.0f;
}

/* What one set makes of the test input. */
struct trial {
    float norm[TEST_N], add[TEST_N], gate[TEST_N], rotate[TEST_N], attend[2][2][4][4 * TEST_HEAD]; /* bf16 or f32; a chain or a tree; 1 to 4 query heads */
    struct scan scan;
    struct best best[TEST_CUTS + 1];
    struct candidate top[PICK_TOP];
    uint64_t mass;
    struct histogram bins[TEST_CUTS];
    int32_t list[TEST_CUTS][TEST_N];
    struct cut cut[TEST_CUTS];
};

/* Two blocks, seen by the last row of a chain, or by one of a tree whose ancestors lie in three of every four slots behind the prefix, in both blocks. */
static void try_attention(const struct ops *o, bool f32, bool tree, float out[4][4 * TEST_HEAD])
{
    static const int32_t page[2] = {1, 0};
    float q[4 * TEST_HEAD], scratch[4 * 256 + 20 * TEST_HEAD], kv[2 * TEST_HEAD * TEST_SLOTS];
    fill_random(q, 4 * TEST_HEAD, 5);
    fill_random(kv, 2 * TEST_HEAD * TEST_SLOTS, 6);
    for (int i = 0; i < 2 * TEST_HEAD * TEST_SLOTS && !f32; i++) /* as pairs of bf16: the low halves may be any bits; keep their exponents small */
        kv[i] = f32_from_bits((f32_bits(kv[i]) & 0xffff3fffu) | 0x2000u);
    struct attention a = {.kv = (const uint8_t *)kv, .page_bytes = sizeof kv / 2, .v_offset = sizeof kv / (f32 ? 4 : 8), .page = page, .f32 = f32, .head_dim = TEST_HEAD,
                          .pad = TEST_HEAD, .scale = 0.01f, .q = q, .pos = TEST_POS, .slot = TEST_POS, .prefix = TEST_POS, .scratch = scratch};
    if (tree) {
        a.prefix = TEST_PREFIX;
        a.slot = TEST_PREFIX + 64;
        a.also = 0xddddddddddddddddu; /* TEST_POS - TEST_PREFIX bits */
    }
    for (a.n_query = 1; a.n_query <= 4; a.n_query++) {
        a.out = out[a.n_query - 1];
        o->attend(&a);
    }
}

/* The choice rule over a slice that neither begins nor ends with a vector; then each cut. */
static void try_choosing(const struct ops *o, struct trial *t)
{
    enum { FROM = 3, TO = TEST_N - 5 };
    static const struct sampling settings[TEST_CUTS] = {
        {.temperature = 0.9f, .seed = 3, .top_k = 9}, {.temperature = 4, .seed = 3, .top_p = 0.8f}, {.temperature = 4, .seed = 3, .top_k = 90, .top_p = 0.9f, .min_p = 0.05f}};
    struct best none = {-INFINITY, -1};
    float x[TEST_N];
    int32_t id[TEST_N];
    fill_random(x, TEST_N, 1);
    for (int i = 0; i < TEST_N; i++) {
        x[i] = floorf(4 * x[i]) / 4; /* so that there are ties */
        id[i] = 3 * i + i % 3;
    }
    t->scan = o->scan(x, FROM, TO);
    o->top(x, FROM, TO, PICK_TOP, t->top);
    t->mass = o->mass(x, FROM, TO, t->scan.max);
    t->best[TEST_CUTS] = o->noisy(x, FROM, TO, NULL, &settings[0], 9, t->scan.max, PICK_ALL, none);
    for (int i = 0; i < TEST_CUTS; i++) {
        const struct sampling *s = &settings[i];
        o->bins(x, FROM, TO, s, t->scan.max, &t->bins[i]);
        struct search search = cut_search(&t->bins[i], s);
        int n = o->list(x, FROM, TO, s, t->scan.max, &search, t->list[i]);
        t->cut[i] = cut_find(&search, x, t->list[i], n, t->scan.max, s);
        t->best[i] = o->noisy(x, FROM, TO, id, s, 9, t->scan.max, t->cut[i], none);
    }
}

static void try_all(const struct ops *o, struct trial *t)
{
    float x[TEST_N], w[TEST_N];
    memset(t, 0, sizeof *t);
    fill_random(x, TEST_N, 1);
    fill_random(w, TEST_N, 2);
    o->norm(t->norm, x, w, TEST_N, TEST_N, 1e-5f);
    memcpy(t->add, x, sizeof x);
    o->add(t->add, w, TEST_N);
    memcpy(t->gate, x, sizeof x);
    o->gate(t->gate, w, TEST_N);
    memcpy(t->rotate, x, sizeof x);
    o->rotate(t->rotate, w, w + TEST_N / 2, TEST_N);
    for (int i = 0; i < 4; i++)
        try_attention(o, i / 2, i % 2, t->attend[i / 2][i % 2]);
    try_choosing(o, t);
}

static bool same_best(const struct best *a, const struct best *b)
{
    bool same = true;
    for (int i = 0; i <= TEST_CUTS; i++)
        same &= a[i].key == b[i].key && a[i].id == b[i].id;
    return same;
}

const char *ops_differ(const struct ops *o)
{
    struct trial a, b;
    if (o == &ops_plain)
        return NULL;
    try_all(o, &a);
    try_all(&ops_plain, &b);
    const struct {
        const char *name;
        bool differs;
    } checks[] = {
        {"norm", memcmp(a.norm, b.norm, sizeof a.norm) != 0},
        {"add", memcmp(a.add, b.add, sizeof a.add) != 0},
        {"gate", memcmp(a.gate, b.gate, sizeof a.gate) != 0},
        {"rotate", memcmp(a.rotate, b.rotate, sizeof a.rotate) != 0},
        {"attention", memcmp(a.attend, b.attend, sizeof a.attend) != 0},
        {"candidates", memcmp(a.top, b.top, sizeof a.top) != 0},
        {"largest logit", a.scan.max != b.scan.max || a.scan.id != b.scan.id || a.scan.finite != b.scan.finite},
        {"mass", a.mass != b.mass},
        {"cuts", memcmp(a.bins, b.bins, sizeof a.bins) || memcmp(a.list, b.list, sizeof a.list) || memcmp(a.cut, b.cut, sizeof a.cut)},
        {"noise", !same_best(a.best, b.best)},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (checks[i].differs)
            return checks[i].name;
    return NULL;
}
