/* SPDX-License-Identifier: Apache-2.0 */
#include "text/added.h"

#include <string.h>

/* A token's own beginnings among the tokens form a chain; jumps over 2^k - 1 links of it make its walk logarithmic. */
struct added_step {
    uint32_t length;  /* bytes of the token */
    int32_t shorter;  /* the longest other token that this one begins with */
    int32_t jump;     /* further down the same chain */
    int32_t depth;    /* links to the empty text */
};

static bool begins_with(struct bytes text, struct bytes head) { return head.n <= text.n && memcmp(text.p, head.p, head.n) == 0; }

bool added_set_init(struct added_set *s, struct arena *a, const struct added_token *token, int n)
{
    *s = (struct added_set){.token = token, .n = n, .step = arena_array(a, (uint64_t)n + 1, sizeof *s->step)};
    for (int i = 1; s->step && i <= n; i++) {
        struct bytes text = token[i - 1].text;
        int32_t up = i - 1; /* sorted: whatever this one begins with, the one before begins with it too or is it */
        while (up && !begins_with(text, token[up - 1].text))
            up = s->step[up].shorter;
        const struct added_step *from = &s->step[up], *over = &s->step[from->jump];
        bool even = from->depth - over->depth == over->depth - s->step[over->jump].depth;
        s->step[i] = (struct added_step){(uint32_t)text.n, up, even ? over->jump : up, from->depth + 1};
        s->starts[text.p[0]] = true;
    }
    return s->step != NULL;
}

/* How many bytes both have in common from the start; the first k are known to be. */
static size_t common(struct bytes a, const uint8_t *p, size_t n, size_t k)
{
    size_t end = a.n < n ? a.n : n;
    while (end - k >= 64 && memcmp(a.p + k, p + k, 64) == 0)
        k += 64;
    while (k < end && a.p[k] == p[k])
        k++;
    return k;
}

/* The last token that does not sort behind the text is the longest one it begins with, or leads there by its own beginnings. */
const struct added_token *added_set_match(const struct added_set *s, const uint8_t *p, size_t n)
{
    int lo = 0, hi = s->n; /* token[lo - 1] <= text < token[hi] */
    size_t with_lo = 0, with_hi = 0; /* bytes in common with those: all between share the fewer of them */
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        struct bytes t = s->token[mid].text;
        size_t k = common(t, p, n, with_lo < with_hi ? with_lo : with_hi);
        if (k == t.n || (k < n && t.p[k] < p[k])) {
            lo = mid + 1;
            with_lo = k;
        } else {
            hi = mid;
            with_hi = k;
        }
    }
    int32_t i = lo;
    while (s->step[i].length > with_lo)
        i = s->step[s->step[i].jump].length > with_lo ? s->step[i].jump : s->step[i].shorter;
    return i ? &s->token[i - 1] : NULL;
}
