/* SPDX-License-Identifier: Apache-2.0 */
/* Repeated measurements of one thing. */
#ifndef TOOLS_MEASURE_H
#define TOOLS_MEASURE_H

enum { SAMPLES_MAX = 100 };

struct samples {
    int n;
    double value[SAMPLES_MAX];
};

void samples_add(struct samples *s, double v);
double samples_mean(const struct samples *s);   /* 0 of none */
double samples_spread(const struct samples *s); /* standard deviation of the sample; 0 of fewer than two */
double samples_median(const struct samples *s);

/* The median of a[i] / b[i]: what interleaved measurements say about a ratio, free of drifts that hit both. */
double samples_ratio(const struct samples *a, const struct samples *b);

#endif
