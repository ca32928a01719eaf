/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and lists of numbers as people write them: strict, whole, without locale. */
#ifndef TOOLS_VALUES_H
#define TOOLS_VALUES_H

#include <stdint.h>

enum { NUMBERS_MAX = 256 };

struct numbers {
    int n, value[NUMBERS_MAX];
};
struct reals {
    int n;
    double value[NUMBERS_MAX];
};

enum { NO_NUMBER = -1, TOO_LARGE = -2 };

/* Each returns 0, NO_NUMBER when the text is anything but one number, or TOO_LARGE when it is one that does not fit. */
int read_whole(const char *text, int64_t *out);    /* "-12" */
int read_natural(const char *text, uint64_t *out); /* "12", up to 2^64 - 1 */
int read_real(const char *text, double *out);      /* "-1.5e-3"; no hexadecimal, infinity or nan */

/* "1,2,4", "1-8", "4-32+4", "1-64*2" and any mix: appends to *out. NO_NUMBER also for an empty or endless range, or more than NUMBERS_MAX values. */
int read_numbers(const char *text, struct numbers *out);
int read_reals(const char *text, struct reals *out); /* "0,0.6,1" */

#endif
