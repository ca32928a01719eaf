/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of characters as automata over UTF-8. Rows are shared by all sets, so most sets cost one row and a literal's characters nothing. */
#include <stdlib.h>

#include "text/grammar_parts.h"

enum { LAST = 0x10ffff, NONE = -2 };

static int by_lo(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* All other characters; never the surrogates, which have no UTF-8. */
static int complement(struct span *set, int n)
{
    uint32_t next = 0;
    int m = 0;
    set[n++] = (struct span){0xd800, 0xdfff};
    set[n++] = (struct span){LAST + 1, LAST + 1};
    qsort(set, (size_t)n, sizeof *set, by_lo);
    for (int i = 0; i < n; i++) {
        struct span s = set[i];
        if (s.lo > next)
            set[m++] = (struct span){next, s.lo - 1}; /* m <= i: each span makes one at most */
        if (s.hi + 1 > next)
            next = s.hi + 1;
    }
    return m;
}

struct builder {
    struct word_sets *rows;
    const struct span *set;
    int n;
    uint32_t least; /* smaller ones have shorter forms */
};

static int64_t add_edge(uint32_t *word, int n, unsigned byte, int64_t next)
{
    if (n && word[n - 1] == (uint32_t)next && word[n - 2] >> 8 == byte - 1) {
        word[n - 2] = (word[n - 2] & 0xff) | byte << 8;
        return n;
    }
    word[n] = byte | byte << 8;
    word[n + 1] = (uint32_t)next;
    return n + 2;
}

/* The row behind a lead byte: `left` more bytes, characters from lo on. Depth: 3. NONE: no character of the set is there. */
static int64_t make_row(const struct builder *b, uint32_t lo, int left)
{
    uint32_t hi = lo + (1u << 6 * left) - 1, from = lo < b->least ? b->least : lo, word[128];
    int n = 0, at = 0;
    for (int end = b->n; at < end;) {
        int mid = (at + end) / 2;
        if (b->set[mid].hi < from)
            at = mid + 1;
        else
            end = mid;
    }
    if (from > hi || at == b->n || b->set[at].lo > hi)
        return NONE;
    if (!left)
        return ROW_DONE;
    bool whole = from == lo && b->set[at].lo <= lo && b->set[at].hi >= hi;
    for (uint32_t i = 0; i < 64; i++) {
        int64_t next = whole && i ? (int64_t)word[1] : make_row(b, lo + (i << 6 * (left - 1)), left - 1);
        if (next == -1)
            return -1;
        if (next >= 0)
            n = (int)add_edge(word, n, 0x80 + i, next);
    }
    return word_sets_add(b->rows, word, (uint32_t)n);
}

int64_t grammar_row(struct word_sets *rows, struct span *set, int n, bool negated)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint32_t word[512];
    int at = 0;
    n = complement(set, n);
    if (!negated)
        n = complement(set, n);
    struct builder b = {rows, set, n, 0};
    for (unsigned byte = 0; byte < 0xf5; byte = byte == 0x7f ? 0xc2 : byte + 1) {
        int left = byte < 0x80 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        b.least = least[left];
        int64_t next = make_row(&b, (left ? byte & (0x3f >> left) : byte) << 6 * left, left);
        if (next == -1)
            return -1;
        if (next >= 0)
            at = (int)add_edge(word, at, byte, next);
    }
    return at ? word_sets_add(rows, word, (uint32_t)at) : ROW_DONE;
}

int64_t grammar_row_of(struct word_sets *rows, uint32_t c)
{
    int left = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    int64_t next = ROW_DONE;
    for (int i = 0; i <= left && next >= 0; i++, c >>= 6) {
        uint32_t byte = i < left ? 0x80 | (c & 0x3f) : left ? (0xff00u >> (left + 1) & 0xff) | c : c;
        uint32_t word[] = {byte | byte << 8, (uint32_t)next};
        next = word_sets_add(rows, word, 2);
    }
    return next;
}
