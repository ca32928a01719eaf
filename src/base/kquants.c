/* SPDX-License-Identifier: Apache-2.0 */
/* Rounding looks for the scale, and the minimum, of each stretch: from several starts codes are taken to the nearest, and the straight line through (code, value) that
   weighted least squares gives is kept where it is best. What the shared 16-bit scale makes of that is looked at once more, with its neighbours.
   Sums are those of base/lanes.h: a file does not depend on the machine that wrote it. */
#include "base/kquants.h"

#include <math.h>
#include <stdbool.h>

#include "base/half.h"
#include "base/lanes.h"

static float get_f16(const uint8_t *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static float put_f16(uint8_t *p, float x)
{
    uint16_t h = f32_to_f16(x);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    return f16_to_f32(h);
}

/* d * scale, and that times a code, are exact in f32; so only the difference is rounded. */
void q4_k_to_f32(const uint8_t *block, float *out)
{
    const float d = get_f16(block), least = get_f16(block + 2);
    for (int b = 0; b < Q4_K_STRETCHES; b++) {
        int scale, minimum;
        q4_k_scale(block, b, &scale, &minimum);
        float step = d * (float)scale, low = least * (float)minimum;
        const uint8_t *codes = block + Q4_K_CODES + b / 2 * 32;
        for (int k = 0; k < Q4_K_STRETCH; k++)
            *out++ = step * (float)(codes[k] >> 4 * (b % 2) & 15) - low;
    }
}

void q6_k_to_f32(const uint8_t *block, float *out)
{
    const float d = get_f16(block + Q6_K_D);
    for (int b = 0; b < Q6_K_STRETCHES; b++) {
        float step = d * (float)(int8_t)block[Q6_K_SCALES + b];
        for (int j = 0; j < Q6_K_STRETCH / 8; j++) {
            uint8_t code[8];
            memcpy(code, &(uint64_t){q6_k_low(block, b, j) | q6_k_high(block, b, j) << 4}, sizeof code);
            for (int k = 0; k < 8; k++)
                *out++ = step * (float)(code[k] - 32);
        }
    }
}

void q4_k_to_q4_1(const uint8_t *block, uint8_t *out)
{
    for (int b = 0; b < Q4_K_STRETCHES; b++, out += 20) {
        int scale, minimum;
        q4_k_scale(block, b, &scale, &minimum);
        put_f16(out, get_f16(block) * (float)scale);
        put_f16(out + 2, -get_f16(block + 2) * (float)minimum);
        for (int j = 0; j < 2; j++)
            memcpy(out + 4 + 8 * j, &(uint64_t){q4_k_codes(block, b, j) | q4_k_codes(block, b, j + 2) << 4}, 8);
    }
}

/* ---- rounding ---- */

/* A stretch of values, and how a line turns codes 0..top into values: scale * (code - middle) + low; low is 0 where the type has no minima. */
struct stretch {
    float x[Q4_K_STRETCH], weight[Q4_K_STRETCH];
    float top, middle;
    bool has_low;
};

/* Inlined for each length. */
#define INLINE static inline __attribute__((always_inline))

struct line {
    float scale, low, gain; /* gain: by how much it brings down the sum of weighted squares, with the codes that it was made from */
};

/* Large values count more: each meets an activation, and those of large weights are seldom small; half of the weight is the same for all, so that none is given up. */
INLINE void weigh(struct stretch *s, const int n)
{
    struct sums square = {0};
    EACH_LANE(k, p, 0, n) square.part[p] += lanes_load(s->x + k) * lanes_load(s->x + k);
    float mean = sqrtf(sums_total(&square) / (float)n);
    for (int k = 0; k < n; k++)
        s->weight[k] = mean + fabsf(s->x[k]);
}

/* What is divided by, where that is not zero. */
INLINE float inverse_of(float x) { return x != 0 ? 1.0f / x : 0; }

/* Codes of the values from k on that are nearest on the line, less the middle. Cut while they are still floats: infinity and NaN (which gives 0) fit no int. */
INLINE lanes steps_at(const struct stretch *s, struct line l, float inverse, int k)
{
    lanes v = lanes_max((lanes_load(s->x + k) - lanes_all(l.low)) * lanes_all(inverse) + lanes_all(s->middle + 0.5f), lanes_all(0));
    v = -lanes_max(-v, lanes_all(-s->top));
    return __builtin_convertvector(__builtin_convertvector(v, ilanes), lanes) - lanes_all(s->middle);
}

/* The sum of weighted squares of what the line with its codes is off. */
INLINE float error_of(const struct stretch *s, const int n, struct line l)
{
    const float inverse = inverse_of(l.scale);
    struct sums sum = {0};
    EACH_LANE(k, p, 0, n)
    {
        lanes off = lanes_load(s->x + k) - (lanes_all(l.scale) * steps_at(s, l, inverse, k) + lanes_all(l.low));
        sum.part[p] += lanes_load(s->weight + k) * (off * off);
    }
    return sums_total(&sum);
}

/* The line that is nearest to the values at the codes of line `l`: minimum of sum w (x - scale q - low)^2. Low values above zero are not to be had. */
INLINE struct line fit(const struct stretch *s, const int n, struct line l)
{
    const float inverse = inverse_of(l.scale);
    struct sums w = {0}, q = {0}, qq = {0}, x = {0}, qx = {0};
    EACH_LANE(k, p, 0, n)
    {
        lanes weight = lanes_load(s->weight + k), value = lanes_load(s->x + k), at = steps_at(s, l, inverse, k), wq = weight * at;
        w.part[p] += weight;
        q.part[p] += wq;
        qq.part[p] += wq * at;
        x.part[p] += weight * value;
        qx.part[p] += wq * value;
    }
    float sqq = sums_total(&qq), sqx = sums_total(&qx);
    struct line best = {sqq > 0 ? sqx / sqq : 0, 0, sqq > 0 ? sqx / sqq * sqx : 0};
    if (s->has_low) {
        float sw = sums_total(&w), sq = sums_total(&q), sx = sums_total(&x), det = sw * sqq - sq * sq, low = (sqq * sx - sq * sqx) / det, scale = (sw * sqx - sq * sx) / det;
        if (!(sqq > 0) && sx < 0) /* one value throughout */
            best = (struct line){0, sx / sw, sx / sw * sx};
        else if (det > 1e-5f * sw * sqq && low < 0) /* not so when codes are nearly all the same: rounding errors would be the slope */
            best = (struct line){scale, low, scale * sqx + low * sx};
    }
    return best;
}

/* The best line from several starts: the whole range in a little more or less than all steps. */
INLINE struct line find_line(const struct stretch *s, const int n, float range, float low)
{
    enum { STARTS = 9 };
    const float steps = s->has_low ? s->top : s->middle;
    struct line best = {.scale = range / steps, .low = low}; /* stays where values are so large that their squares are no numbers: the scale shows it */
    for (int i = 0; i < STARTS; i++) {
        struct line l = fit(s, n, (struct line){.scale = range / (steps + 0.25f * (float)(i - STARTS / 2)), .low = low});
        best = l.gain > best.gain ? l : best;
    }
    struct line again = fit(s, n, best);
    return again.gain > best.gain ? again : best;
}

/* The codes themselves. */
INLINE void round_codes(const struct stretch *s, const int n, struct line l, uint8_t *code)
{
    const float inverse = inverse_of(l.scale);
    float at[Q4_K_STRETCH];
    EACH_LANE(k, p, 0, n) lanes_store(at + k, steps_at(s, l, inverse, k) + lanes_all(s->middle));
    for (int k = 0; k < n; k++)
        code[k] = (uint8_t)at[k];
}

/* The nearest multiple of unit, from least to most of it. */
static int count_units(float x, float unit, int least, int most)
{
    float n = unit != 0 ? x / unit : 0, near = n + (n < 0 ? -0.5f : 0.5f);
    return !(near > (float)least) ? least : !(near < (float)most) ? most : (int)near;
}

/* Of scales and minima next to the line's, in units of d and `unit`: the ones with the least error. */
INLINE void settle(const struct stretch *s, const int n, struct line l, float d, float unit, int least, int most, int *scale, int *minimum)
{
    const int near = count_units(l.scale, d, least, most), below = count_units(-l.low, unit, 0, 63), side = s->has_low ? 1 : 0;
    float smallest = error_of(s, n, (struct line){.scale = d * (float)near, .low = -unit * (float)below});
    *scale = near;
    *minimum = below;
    for (int i = near - 1; i <= near + 1; i++)
        for (int j = below - side; j <= below + side; j++) {
            if (i < least || i > most || j < 0 || j > 63)
                continue;
            float error = error_of(s, n, (struct line){.scale = d * (float)i, .low = -unit * (float)j});
            if (error < smallest) {
                smallest = error;
                *scale = i;
                *minimum = j;
            }
        }
}

static float lower(float a, float b) { return b < a ? b : a; }
static float higher(float a, float b) { return b > a ? b : a; }

static void put_q4_k_scale(uint8_t *block, int b, int scale, int minimum)
{
    uint8_t *s = block + 4;
    if (b < 4) {
        s[b] = (uint8_t)scale;
        s[b + 4] = (uint8_t)minimum;
    } else {
        s[b + 4] = (uint8_t)((scale & 15) | minimum << 4);
        s[b - 4] |= (uint8_t)(scale >> 4 << 6);
        s[b] |= (uint8_t)(minimum >> 4 << 6);
    }
}

void q4_k_from_f32(const float *x, uint8_t *block)
{
    struct stretch s[Q4_K_STRETCHES];
    struct line l[Q4_K_STRETCHES];
    float most = 0, deepest = 0;
    for (int b = 0; b < Q4_K_STRETCHES; b++) {
        float low = 0, high = -INFINITY;
        s[b] = (struct stretch){.top = 15, .has_low = true};
        memcpy(s[b].x, x + b * Q4_K_STRETCH, Q4_K_STRETCH * sizeof *x);
        for (int k = 0; k < Q4_K_STRETCH; k++) {
            low = lower(low, s[b].x[k]);
            high = higher(high, s[b].x[k]);
        }
        weigh(&s[b], Q4_K_STRETCH);
        l[b] = find_line(&s[b], Q4_K_STRETCH, higher(high, low) - low, low);
        most = higher(most, l[b].scale);
        deepest = lower(deepest, l[b].low);
    }
    memset(block, 0, Q4_K_BYTES);
    float d = put_f16(block, most / 63), unit = put_f16(block + 2, -deepest / 63);
    for (int b = 0; b < Q4_K_STRETCHES; b++) {
        uint8_t code[Q4_K_STRETCH];
        int scale, minimum;
        settle(&s[b], Q4_K_STRETCH, l[b], d, unit, 0, 63, &scale, &minimum);
        put_q4_k_scale(block, b, scale, minimum);
        round_codes(&s[b], Q4_K_STRETCH, (struct line){.scale = d * (float)scale, .low = -unit * (float)minimum}, code);
        for (int k = 0; k < Q4_K_STRETCH; k++)
            block[Q4_K_CODES + b / 2 * 32 + k] |= (uint8_t)(code[k] << 4 * (b % 2));
    }
}

/* The scale of largest magnitude is -128 units, as the value of largest magnitude is code -32 of its stretch. */
void q6_k_from_f32(const float *x, uint8_t *block)
{
    struct stretch s[Q6_K_STRETCHES];
    struct line l[Q6_K_STRETCHES];
    float most = 0;
    for (int b = 0; b < Q6_K_STRETCHES; b++) {
        float peak = 0;
        s[b] = (struct stretch){.top = 63, .middle = 32};
        memcpy(s[b].x, x + b * Q6_K_STRETCH, Q6_K_STRETCH * sizeof *x);
        for (int k = 0; k < Q6_K_STRETCH; k++)
            peak = fabsf(s[b].x[k]) > fabsf(peak) ? s[b].x[k] : peak;
        weigh(&s[b], Q6_K_STRETCH);
        l[b] = find_line(&s[b], Q6_K_STRETCH, -peak, 0);
        most = fabsf(l[b].scale) > fabsf(most) ? l[b].scale : most;
    }
    memset(block, 0, Q6_K_BYTES);
    float d = put_f16(block + Q6_K_D, most / -128);
    for (int b = 0; b < Q6_K_STRETCHES; b++) {
        const int half = b / 8, quarter = b % 8 / 2;
        uint8_t code[Q6_K_STRETCH];
        int scale, minimum;
        settle(&s[b], Q6_K_STRETCH, l[b], d, 0, -128, 127, &scale, &minimum);
        block[Q6_K_SCALES + b] = (uint8_t)(int8_t)scale;
        round_codes(&s[b], Q6_K_STRETCH, (struct line){.scale = d * (float)scale}, code);
        for (int k = 0, at = b % 2 * 16; k < Q6_K_STRETCH; k++, at++) {
            block[64 * half + quarter % 2 * 32 + at] |= (uint8_t)((code[k] & 15) << quarter / 2 * 4);
            block[Q6_K_HIGH + 32 * half + at] |= (uint8_t)(code[k] >> 4 << 2 * quarter);
        }
    }
}
