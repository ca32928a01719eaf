/* SPDX-License-Identifier: Apache-2.0 */
/* The choice rule: from a row of logits and a request's sampling to one token. Compiled for host and device; a backend may run the steps in slices.

     0. What the request changes, token by token (pick_edit): its bias, then its repetition penalty, then its presence and frequency penalties. A token whose bias is
        -infinity, or that the request's mask leaves out, is out: it has no mass and is never chosen. Single IEEE operations in this order, the same on every device.
     1. x = logit / temperature; at temperature 0 the token is the lowest id of the largest logit.
     2. mass m = floor(exp(x - max x) * 2^40); a token of mass 0 is out (all of them together weigh less than vocab * 2^-40).
     3. top-k keeps the k first in the order (x descending, id ascending); top-p keeps the shortest run of that order whose mass reaches p of what top-k left;
        min-p keeps m >= min_p * m(first). Sums are integers, so no order of adding can change a cut.
     4. The token is the largest x + Gumbel noise among the kept, ties to the lowest id: an exact sample (Gumbel-max), and a pure function of
        (seed, choice, position, token id), so that a draft of the same position sees the same noise (Daliri, Musco, Suresh, "Coupling without communication", 2024). */
#ifndef BACKEND_PICK_H
#define BACKEND_PICK_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/philox.h"

struct sampling {
    float temperature; /* 0: greedy */
    float top_p;       /* outside (0, 1): off */
    float min_p;       /* 0: off */
    int32_t top_k;     /* 0: off */
    uint32_t choice;
    uint64_t seed;
};

enum { PICK_TOP = 20 };

/* What a request does to the logit of one token. */
struct edit {
    int32_t token;
    float bias;   /* is added; -infinity: the token is out */
    float repeat; /* then it is divided by this where it is above 0, else multiplied; 1: neither */
    float less;   /* then this is taken away */
};

/* What is wanted of a row: a choice, and the n_top (at most PICK_TOP) most probable tokens. draft: only a guess that will be verified; among the device's draft tokens. */
struct ask {
    const struct sampling *s;
    int n_top;
    bool draft;
    int n_edits;
    const struct edit *edits; /* [n_edits] in any order, no token twice */
    const uint32_t *allow;    /* bit i of allow[i / 32]: token i may be chosen; NULL: all may */
};

enum { PICK_ODD = -1, PICK_NONE = -2 };

/* Log-probabilities are of the raw distribution, before edits, temperature and cuts; natural log. */
struct candidate {
    int32_t token;
    float logprob;
};

struct pick {
    int32_t token;  /* PICK_ODD: the logits were not finite; PICK_NONE: the edits leave no token */
    float logprob;
    float conf;     /* its probability behind the edits; without any exp(logprob) */
    int32_t n_top;  /* candidates that follow: what was asked for, or all tokens if that is less */
    struct candidate top[PICK_TOP]; /* by falling probability, equals by rising id */
};

/* Kept is what stands at or before the cut in the order (x descending, id ascending). */
struct cut {
    float x;
    int32_t id;
};

#define PICK_ALL ((struct cut){-INFINITY, INT32_MAX})
#define PICK_ONE ((uint64_t)1 << 40)

#define PICK_OUT (-FLT_MAX) /* the logit of what is out: finite, and of no mass beside any other */

static inline HOST_DEVICE bool pick_edited(const struct ask *a) { return a->n_edits || a->allow; }

static inline HOST_DEVICE float pick_edit(const struct edit *e, float logit)
{
    float v = logit + e->bias;
    v = v > 0.0f ? v / e->repeat : v * e->repeat;
    v -= e->less;
    return v > PICK_OUT ? v : PICK_OUT;
}

static inline HOST_DEVICE bool pick_allows(const uint32_t *allow, int32_t id) { return !allow || (allow[id / 32] >> id % 32 & 1); }

static inline HOST_DEVICE int pick_filters(const struct sampling *s)
{
    return s->top_k > 0 || (s->top_p > 0 && s->top_p < 1) || s->min_p > 0;
}

static inline HOST_DEVICE int pick_keeps(struct cut c, float x, int32_t id) { return x > c.x || (x == c.x && id <= c.id); }

/* exp(x) for x <= 0: 2^n * e^r with |r| <= ln2/2, degree-6 polynomial; 0 below -87. The vector form in lanes.h has the same steps and bits. */
static inline HOST_DEVICE float pick_exp(float x)
{
    if (!(x >= -87.0f))
        return 0.0f;
    float t = fmaf(x, 1.44269504f, 12582912.0f), n = t - 12582912.0f;
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = fmaf(r, 1.3981999e-3f, 8.3334519e-3f);
    p = fmaf(p, r, 4.1665796e-2f);
    p = fmaf(p, r, 1.6666666e-1f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r * r, r) + 1.0f;
    uint32_t u;
    memcpy(&u, &t, 4);
    u = (u - 0x4b400000u + 127u) << 23;
    float scale;
    memcpy(&scale, &u, 4);
    return p * scale;
}

/* x - max <= 0. */
static inline HOST_DEVICE uint64_t pick_mass(float below_max) { return (uint64_t)(int64_t)(pick_exp(below_max) * 1099511627776.0f); }

/* Natural logarithm of a positive normal double: m in [sqrt(1/2), sqrt(2)), 2 atanh((m-1)/(m+1)) as a series. */
static inline HOST_DEVICE double pick_log(double v)
{
    uint64_t u;
    memcpy(&u, &v, 8);
    int64_t e = (int64_t)(u >> 52) - 1023;
    u = (u & 0xfffffffffffffull) | 0x3ff0000000000000ull;
    double m;
    memcpy(&m, &u, 8);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double z = (m - 1.0) / (m + 1.0), w = z * z;
    double s = 2.0 / 19.0;
    s = fma(s, w, 2.0 / 17.0);
    s = fma(s, w, 2.0 / 15.0);
    s = fma(s, w, 2.0 / 13.0);
    s = fma(s, w, 2.0 / 11.0);
    s = fma(s, w, 2.0 / 9.0);
    s = fma(s, w, 2.0 / 7.0);
    s = fma(s, w, 2.0 / 5.0);
    s = fma(s, w, 2.0 / 3.0);
    s = fma(s * w, z, 2.0 * z);
    return fma((double)e, 0.6931471805599453, s);
}

/* Gumbel noise from 32 random bits: w = (bits + 1/2) / 2^32, g = -log(-log(1 - w)). 1 - w is exact in a double, so g is finite for all 2^32 values. */
static inline HOST_DEVICE double pick_gumbel(uint32_t bits)
{
    double v = (4294967295.5 - (double)bits) * (1.0 / 4294967296.0);
    return -pick_log(-pick_log(v));
}

/* Noise of four tokens at once: ids 4 * group .. 4 * group + 3 at the position that the token will have. */
static inline HOST_DEVICE struct philox pick_noise(const struct sampling *s, int32_t position, int32_t group)
{
    return philox(s->seed, (uint32_t)group, (uint32_t)position, s->choice, 0x6c736bu);
}

/* Those of one token. */
static inline HOST_DEVICE uint32_t pick_noise_of(const struct sampling *s, int32_t position, int32_t id)
{
    struct philox p = pick_noise(s, position, id / 4);
    return id & 2 ? (id & 1 ? p.v[3] : p.v[2]) : (id & 1 ? p.v[1] : p.v[0]);
}

/* Unsigned integers in the order of the floats (no NaN); both zeros are one. */
static inline HOST_DEVICE uint32_t pick_key(float x)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, 4);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* One more into a list of m, at most n: among equals the one that came first stays ahead. Returns the list's new length. */
static inline HOST_DEVICE int pick_insert(struct candidate *list, int m, int n, struct candidate c)
{
    int at = m;
    for (; at > 0 && c.logprob > list[at - 1].logprob; at--)
        if (at < n)
            list[at] = list[at - 1];
    if (at < n)
        list[at] = c;
    return m < n ? m + 1 : n;
}

/* log of the sum of exp(logit - max) from its fixed-point sum. */
static inline HOST_DEVICE float pick_logprob(float logit, float max, uint64_t mass) { return (float)((double)logit - (double)max - pick_log((double)mass / (double)PICK_ONE)); }

#endif
