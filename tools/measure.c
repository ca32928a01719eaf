/* SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include <math.h>
#include <stdlib.h>

void samples_add(struct samples *s, double v)
{
    if (s->n < SAMPLES_MAX)
        s->value[s->n++] = v;
}

double samples_mean(const struct samples *s)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++)
        sum += s->value[i];
    return s->n ? sum / s->n : 0;
}

double samples_spread(const struct samples *s)
{
    double mean = samples_mean(s), sum = 0;
    for (int i = 0; i < s->n; i++)
        sum += (s->value[i] - mean) * (s->value[i] - mean);
    return s->n > 1 ? sqrt(sum / (s->n - 1)) : 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double samples_median(const struct samples *s)
{
    struct samples sorted = *s;
    qsort(sorted.value, (size_t)sorted.n, sizeof *sorted.value, ascending);
    return !s->n ? 0 : s->n % 2 ? sorted.value[s->n / 2] : (sorted.value[s->n / 2 - 1] + sorted.value[s->n / 2]) / 2;
}

double samples_ratio(const struct samples *a, const struct samples *b)
{
    struct samples ratio = {0};
    for (int i = 0; i < a->n && i < b->n; i++)
        samples_add(&ratio, b->value[i] > 0 ? a->value[i] / b->value[i] : 0);
    return samples_median(&ratio);
}
