/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

int read_natural(const char *text, uint64_t *out)
{
    uint64_t v = 0;
    if (!*text || text[strspn(text, "0123456789")])
        return NO_NUMBER;
    for (; *text; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return TOO_LARGE;
        v = 10 * v + digit;
    }
    *out = v;
    return 0;
}

int read_whole(const char *text, int64_t *out)
{
    int negative = *text == '-';
    uint64_t v;
    int r = read_natural(text + negative, &v);
    if (r < 0 || v > INT64_MAX)
        return r < 0 ? r : TOO_LARGE;
    *out = negative ? -(int64_t)v : (int64_t)v;
    return 0;
}

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

/* strtod alone would also take blanks, hexadecimal, infinities and nan. The program never calls setlocale, so its point is '.'. */
int read_real(const char *text, double *out)
{
    const char *start = text + (*text == '-'), *p = skip_digits(start);
    long digits = p - start;
    if (*p == '.') {
        const char *fraction = p + 1;
        p = skip_digits(fraction);
        digits += p - fraction;
    }
    if (!digits)
        return NO_NUMBER;
    if (*p == 'e' || *p == 'E') {
        const char *power = p + 1 + (p[1] == '-' || p[1] == '+');
        p = skip_digits(power);
        if (p == power)
            return NO_NUMBER;
    }
    *out = strtod(text, NULL);
    return *p ? NO_NUMBER : *out > 1e300 || *out < -1e300 ? TOO_LARGE : 0;
}

/* The digits (and sign) at *p; moves *p behind them. */
static int take_int(const char **p, int *out)
{
    char copy[16];
    const char *end = skip_digits(*p + (**p == '-'));
    size_t n = (size_t)(end - *p);
    int64_t v;
    if (n >= sizeof copy)
        return TOO_LARGE;
    memcpy(copy, *p, n);
    copy[n] = 0;
    int r = read_whole(copy, &v);
    if (r < 0 || v > INT_MAX || v < INT_MIN)
        return r < 0 ? r : TOO_LARGE;
    *out = (int)v;
    *p = end;
    return 0;
}

/* One item of a list: A, A-B, A-B+STEP or A-B*FACTOR. */
static int take_range(const char **p, struct numbers *out)
{
    int first, last, step = 1, r = take_int(p, &first);
    char op = '+';
    if (r < 0)
        return r;
    last = first;
    if (**p == '-') {
        ++*p;
        if ((r = take_int(p, &last)) < 0)
            return r;
        if (**p == '+' || **p == '*') {
            op = *(*p)++;
            if ((r = take_int(p, &step)) < 0)
                return r;
        }
        if (last < first || step < (op == '*' ? 2 : 1) || (op == '*' && first < 1))
            return NO_NUMBER;
    }
    for (int64_t v = first; v <= last; v = op == '*' ? v * step : v + step) {
        if (out->n == NUMBERS_MAX)
            return NO_NUMBER;
        out->value[out->n++] = (int)v;
    }
    return 0;
}

int read_numbers(const char *text, struct numbers *out)
{
    for (const char *p = text;; p++) {
        int r = take_range(&p, out);
        if (r < 0)
            return r;
        if (*p != ',')
            return *p ? NO_NUMBER : 0;
    }
}

int read_reals(const char *text, struct reals *out)
{
    for (const char *p = text;; p++) {
        char copy[40];
        size_t n = strcspn(p, ",");
        if (n >= sizeof copy || out->n == NUMBERS_MAX)
            return NO_NUMBER;
        memcpy(copy, p, n);
        copy[n] = 0;
        int r = read_real(copy, &out->value[out->n++]);
        if (r < 0)
            return r;
        p += n;
        if (!*p)
            return 0;
    }
}
