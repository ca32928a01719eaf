/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ops.h"

#include <string.h>

#include "base/half.h"

extern const struct ops ops_plain;
#if defined(__x86_64__)
extern const struct ops ops_avx512;
#endif

const struct ops *const ops_table[] = {
#if defined(__x86_64__)
    &ops_avx512,
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

enum { TEST_N = 256, TEST_HEAD = 32, TEST_POS = 40 };

static void fill_random(float *x, int n, uint32_t stream)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(philox(7, (uint32_t)i, stream, 0, 0).v[0] >> 8) / 1048576.0f - 8.0f;
}

/* What one set makes of the test input. */
struct trial {
    float norm[TEST_N], add[TEST_N], gate[TEST_N], rotate[TEST_HEAD], attend[2][3 * TEST_HEAD];
    struct scan scan;
    struct best best;
    struct candidate top[PICK_TOP];
    uint64_t mass;
};

static void try_attention(const struct ops *o, bool f32, float *out)
{
    static const int32_t page[1] = {0};
    float q[3 * TEST_HEAD], scratch[4 * 256 + 20 * TEST_HEAD];
    float kv[2 * TEST_HEAD * 256];
    fill_random(q, 3 * TEST_HEAD, 5);
    fill_random(kv, 2 * TEST_HEAD * 256, 6); /* as bf16, pairs of numbers of the same bits */
    struct attention a = {.kv = (const uint8_t *)kv, .page_bytes = sizeof kv, .v_offset = sizeof kv / (f32 ? 2 : 4), .page = page, .f32 = f32, .head_dim = TEST_HEAD, .pad = TEST_HEAD,
                          .n_query = 3, .scale = 0.1f, .q = q, .out = out, .pos = TEST_POS, .slot = TEST_POS, .prefix = TEST_POS - 3, .also = 7, .scratch = scratch};
    if (!f32) /* the low halves of floats may be any bits; keep their exponents small */
        for (int i = 0; i < 2 * TEST_HEAD * 256; i++)
            kv[i] = f32_from_bits((f32_bits(kv[i]) & 0xffff3fffu) | 0x2000u);
    o->attend(&a);
}

static void try_all(const struct ops *o, struct trial *t)
{
    struct sampling s = {.temperature = 0.9f, .seed = 3};
    float x[TEST_N], w[TEST_N];
    memset(t, 0, sizeof *t);
    fill_random(x, TEST_N, 1);
    fill_random(w, TEST_N, 2);
    o->norm(t->norm, x, w, TEST_N, TEST_N, 1e-5f);
    memcpy(t->add, x, sizeof x);
    o->add(t->add, w, TEST_N);
    memcpy(t->gate, x, sizeof x);
    o->gate(t->gate, w, TEST_N);
    memcpy(t->rotate, x, sizeof t->rotate);
    o->rotate(t->rotate, w, w + TEST_HEAD, TEST_HEAD);
    try_attention(o, false, t->attend[0]);
    try_attention(o, true, t->attend[1]);
    t->scan = o->scan(x, 3, TEST_N - 5);
    o->top(x, 3, TEST_N - 5, PICK_TOP, t->top);
    t->mass = o->mass(x, 3, TEST_N - 5, t->scan.max);
    t->best = o->noisy(x, 3, TEST_N - 5, &s, 9, t->scan.max, (struct cut){-INFINITY, INT32_MAX}, (struct best){-INFINITY, -1});
}

const char *ops_differ(const struct ops *o)
{
    struct trial a, b;
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
        {"choosing", a.scan.max != b.scan.max || a.scan.id != b.scan.id || a.mass != b.mass || a.best.id != b.best.id || a.best.key != b.best.key},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (checks[i].differs)
            return checks[i].name;
    return NULL;
}
