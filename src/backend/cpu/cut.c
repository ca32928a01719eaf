/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/cut.h"

void cut_join(struct histogram *h, const struct histogram *more)
{
    for (int b = 0; b < CUT_BINS; b++) {
        h->bin[b].count += more->bin[b].count;
        h->bin[b].mass += more->bin[b].mass;
    }
    h->lowest = more->lowest < h->lowest ? more->lowest : h->lowest;
}

static uint64_t top_p_mass(const struct sampling *s, uint64_t total)
{
    uint64_t target = (uint64_t)ceil((double)s->top_p * (double)total);
    return target ? target : 1;
}

/* With both, top-p is of what top-k leaves: everything before top-k's cut is listed. */
struct search cut_search(const struct histogram *all, const struct sampling *s)
{
    uint64_t count = 0, mass = 0, before = 0;
    for (int b = 0; b < CUT_BINS; b++) {
        count += all->bin[b].count;
        mass += all->bin[b].mass;
    }
    struct search c = {.top_k = s->top_k > 0 && count > (uint64_t)s->top_k, .top_p = s->top_p > 0 && s->top_p < 1 && mass > 0, .last = -1, .lowest = all->lowest};
    if (!c.top_k && !c.top_p)
        return c;
    c.target = c.top_k ? (uint64_t)s->top_k : top_p_mass(s, mass);
    for (c.last = 0; c.last < CUT_BINS - 1; c.last++) {
        uint64_t here = c.top_k ? all->bin[c.last].count : all->bin[c.last].mass;
        if (before + here >= c.target)
            break;
        before += here;
    }
    if (!c.top_k || !c.top_p) {
        c.first = c.last;
        c.before = before;
    }
    return c;
}

/* One cut at a time: a walk down the order of the listed tokens that ends where the measure (one per token, or its mass) reaches the target. */
struct walk_order {
    const float *logits;
    const int32_t *list; /* [n] */
    int n;
    float temperature, top; /* top: largest x */
    struct cut cut;         /* tokens behind it take no part */
    bool by_mass;
};

/* The measure of the i-th token, 0 when it takes no part; *key: its place in the order. */
static uint64_t measure(const struct walk_order *o, int i, uint32_t *key)
{
    float x = o->logits[o->list[i]] / o->temperature;
    *key = pick_key(x);
    if (!pick_keeps(o->cut, x, o->list[i]))
        return 0;
    return o->by_mass ? pick_mass(x - o->top) : 1;
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
static struct cut cut_at(const struct walk_order *o, uint64_t before, uint64_t target)
{
    uint32_t prefix = 0, key;
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint64_t bin[256] = {0};
        for (int i = 0; i < o->n; i++) {
            uint64_t m = measure(o, i, &key);
            if ((uint32_t)((uint64_t)key >> (shift + 8)) == prefix)
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
            cut = (struct cut){o->logits[o->list[i]] / o->temperature, o->list[i]};
            before += m;
        }
    }
    return cut;
}

struct cut cut_find(const struct search *c, const float *logits, const int32_t *list, int n, float max, const struct sampling *s)
{
    struct walk_order o = {.logits = logits, .list = list, .n = n, .temperature = s->temperature, .top = max / s->temperature, .cut = PICK_ALL};
    if (c->top_k)
        o.cut = cut_at(&o, c->before, c->target);
    o.by_mass = true;
    if (c->top_p)
        o.cut = cut_at(&o, c->before, c->top_k ? top_p_mass(s, total_measure(&o)) : c->target);
    struct cut lowest = {c->lowest, INT32_MAX};
    return s->min_p > 0 && pick_keeps(o.cut, lowest.x, lowest.id) ? lowest : o.cut;
}
