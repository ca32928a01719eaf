/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ops.h"

#include <string.h>

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

/* One cut at a time: a walk down the order that ends where the measure (one per token, or its mass) reaches the target. */
struct walk_order {
    const float *logits;
    int n;
    float temperature, top; /* top: largest x */
    struct cut cut;         /* tokens behind it take no part */
    bool by_mass;
};

/* The measure of token id, 0 when it takes no part; *key: its place in the order. */
static uint64_t measure(const struct walk_order *o, int id, uint32_t *key)
{
    float x = o->logits[id] / o->temperature;
    uint64_t m = pick_keeps(o->cut, x, id) ? pick_mass(x - o->top) : 0;
    *key = pick_key(x);
    return o->by_mass || m == 0 ? m : 1;
}

static uint64_t total_measure(const struct walk_order *o)
{
    uint64_t sum = 0;
    uint32_t key;
    for (int i = 0; i < o->n; i++)
        sum += measure(o, i, &key);
    return sum;
}

/* Radix descent over the ordered bits of x, 8 at a time, then by id among equals. */
static struct cut cut_at(const struct walk_order *o, uint64_t target)
{
    uint32_t prefix = 0, key;
    uint64_t before = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint64_t bin[256] = {0};
        for (int i = 0; i < o->n; i++) {
            uint64_t m = measure(o, i, &key);
            if (m && (uint32_t)((uint64_t)key >> (shift + 8)) == prefix)
                bin[(key >> shift) & 255] += m;
        }
        int b = 255;
        while (b > 0 && before + bin[b] < target)
            before += bin[b--];
        prefix = prefix << 8 | (uint32_t)b;
    }
    struct cut cut = o->cut;
    for (int i = 0; i < o->n && before < target; i++) {
        uint64_t m = measure(o, i, &key);
        if (m && key == prefix) {
            cut = (struct cut){o->logits[i] / o->temperature, i};
            before += m;
        }
    }
    return cut;
}

/* The last x whose mass is at least min_p of the first's. */
static struct cut cut_min_p(const struct walk_order *o, float min_p)
{
    struct cut cut = {o->top, INT32_MAX};
    double least = (double)min_p * (double)PICK_ONE;
    for (int i = 0; i < o->n; i++) {
        float x = o->logits[i] / o->temperature;
        if (x < cut.x && (double)pick_mass(x - o->top) >= least)
            cut.x = x;
    }
    return cut;
}

struct cut cut_find(const float *logits, int n, float max, const struct sampling *s)
{
    struct walk_order o = {.logits = logits, .n = n, .temperature = s->temperature, .top = max / s->temperature, .cut = {-INFINITY, INT32_MAX}};
    if (s->top_k > 0 && s->top_k < n && total_measure(&o) > (uint64_t)s->top_k)
        o.cut = cut_at(&o, (uint64_t)s->top_k);
    if (s->top_p > 0 && s->top_p < 1) {
        o.by_mass = true;
        uint64_t target = (uint64_t)ceil((double)s->top_p * (double)total_measure(&o));
        o.cut = cut_at(&o, target ? target : 1);
    }
    if (s->min_p > 0) {
        struct cut c = cut_min_p(&o, s->min_p);
        if (!pick_keeps(o.cut, c.x, c.id))
            return o.cut;
        return c;
    }
    return o.cut;
}
