/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of numbers as decimal digits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/json_schema_parts.h"

static const int64_t LARGEST = 9999999999999999; /* 16 digits: what is written without bounds */
static const int64_t EXACT = 1000000000;         /* with six digits behind the point it stays another double than its neighbours */

struct range {
    int64_t lo, hi;
    bool above, below; /* lo and hi themselves are out (numbers only) */
};

static int put_digits(struct schema_writer *w, int n) { return n ? schema_put(w, " [0-9]{%d}", n) : 0; }

/* first[0 .. at-1], a digit of from to to, any `left` digits. */
static int put_branch(struct schema_writer *w, const char *bar, const char *first, int at, int from, int to, int left)
{
    if (from > to)
        return 0;
    int rc = schema_put(w, "%s\"%.*s\" [%c-%c]", bar, at, first, from, to);
    return rc < 0 ? rc : put_digits(w, left);
}

/* Numbers of n digits, from a to b. */
static int put_same_length(struct schema_writer *w, const char *a, const char *b, int n)
{
    int k = 0, rc;
    while (k < n && a[k] == b[k])
        k++;
    if (k == n)
        return schema_put(w, "\"%s\"", a);
    rc = schema_put(w, "\"%s\" | \"%s\"", a, b);
    for (int i = n - 1; rc == 0 && i > k; i--)
        rc = put_branch(w, " | ", a, i, a[i] + 1, '9', n - 1 - i);
    if (rc == 0)
        rc = put_branch(w, " | ", a, k, a[k] + 1, b[k] - 1, n - 1 - k);
    for (int i = k + 1; rc == 0 && i < n; i++)
        rc = put_branch(w, " | ", b, i, '0', b[i] - 1, n - 1 - i);
    return rc;
}

/* ( whole numbers from lo to hi ), 0 <= lo <= hi */
static int put_whole(struct schema_writer *w, int64_t lo, int64_t hi)
{
    char a[24], b[24];
    int rc = schema_put(w, "( ");
    int64_t top = 9; /* the largest of n digits */
    for (int n = 1; rc == 0 && n <= 16; n++, top = top * 10 + 9) {
        int64_t least = n > 1 ? (top + 1) / 10 : 0, from = lo > least ? lo : least, to = hi < top ? hi : top;
        if (from > to)
            continue;
        snprintf(a, sizeof a, "%lld", (long long)from);
        snprintf(b, sizeof b, "%lld", (long long)to);
        if (from != lo)
            rc = schema_put(w, " | ");
        if (rc == 0)
            rc = n > 1 && from == least && to == top ? schema_put(w, "[1-9] [0-9]{%d}", n - 1) : put_same_length(w, a, b, n);
    }
    return rc < 0 ? rc : schema_put(w, " )");
}

/* Magnitudes, all after `sign`; *n counts the alternatives written so far. */
static int put_part(struct schema_writer *w, const char *sign, int64_t lo, int64_t hi, const char *fraction, int *n)
{
    if (lo > hi)
        return 0;
    int rc = schema_put(w, "%s%s", (*n)++ ? " | " : "", sign);
    if (rc == 0)
        rc = put_whole(w, lo, hi);
    return rc < 0 ? rc : schema_put(w, "%s", fraction);
}

static int put_magnitudes(struct schema_writer *w, const char *sign, struct range r, bool integer, int *n)
{
    if (integer)
        return put_part(w, sign, r.lo + r.above, r.hi - r.below, "", n);
    bool one = r.lo == r.hi;
    int rc = r.above ? one ? 0 : put_part(w, sign, r.lo, r.lo, " above", n) : put_part(w, sign, r.lo, r.lo, one ? (r.below ? " above" : " zeros?") : " part?", n);
    if (rc == 0)
        rc = put_part(w, sign, r.lo + 1, r.hi - 1, " part?", n);
    return rc < 0 || r.below || one ? rc : put_part(w, sign, r.hi, r.hi, " zeros?", n);
}

/* One of the four keywords; a tighter bound replaces the one there is. */
static int read_bound(struct schema_writer *w, const json_t *s, const char *key, bool integer, bool low, struct range *r)
{
    const json_t *j = json_object_get(s, key);
    bool exclusive = key[0] == 'e';
    double v = json_number_value(j), whole = low ? ceil(v) : floor(v);
    if (!j)
        return 0;
    if (!json_is_number(j))
        return schema_fail(w, "%s is a number", key);
    if (!integer && whole != v)
        return schema_fail(w, "%s %g: bounds of numbers can only be whole ones here", key, v);
    if (!integer && exclusive && fabs(v) > (double)EXACT)
        return schema_fail(w, "%s %g: exclusive bounds of numbers can only be up to %lld", key, v, (long long)EXACT);
    exclusive = exclusive && whole == v;
    if (low ? whole > (double)LARGEST : whole < (double)-LARGEST)
        return schema_fail(w, "%s %g: only numbers of up to 16 digits are written", key, v);
    if (low ? whole <= (double)-LARGEST : whole >= (double)LARGEST)
        return 0;
    int64_t bound = json_is_integer(j) ? json_integer_value(j) : (int64_t)whole;
    if (low && (bound > r->lo || (bound == r->lo && exclusive))) {
        r->lo = bound;
        r->above = exclusive;
    } else if (!low && (bound < r->hi || (bound == r->hi && exclusive))) {
        r->hi = bound;
        r->below = exclusive;
    }
    return 0;
}

int schema_write_number(struct schema_writer *w, const json_t *s, bool integer)
{
    struct range r = {-LARGEST, LARGEST, false, false};
    static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"};
    int rc = 0, n = 0;
    for (int i = 0; rc == 0 && i < 4; i++)
        rc = read_bound(w, s, keys[i], integer, i < 2, &r);
    if (rc < 0)
        return rc;
    if (r.lo == -LARGEST && r.hi == LARGEST)
        return schema_put(w, integer ? "integer" : "number");
    if (integer) {
        r.lo += r.above;
        r.hi -= r.below;
        r.above = r.below = false;
    }
    if (r.lo > r.hi || (r.lo == r.hi && (r.above || r.below)))
        return schema_fail(w, "no number is within minimum and maximum");
    if ((rc = schema_put(w, "( ")) < 0)
        return rc;
    if (r.hi > 0 || (r.hi == 0 && !r.below)) { /* zero belongs to these */
        struct range up = {r.lo > 0 ? r.lo : 0, r.hi, r.lo >= 0 && r.above, r.below};
        rc = put_magnitudes(w, "", up, integer, &n);
    }
    if (rc == 0 && r.lo < 0) {
        struct range down = {r.hi < 0 ? -r.hi : 0, -r.lo, r.hi < 0 ? r.below : true, r.above};
        rc = put_magnitudes(w, "\"-\" ", down, integer, &n);
    }
    return rc < 0 ? rc : schema_put(w, " )");
}
