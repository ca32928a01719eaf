/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences of numbers, each kept once: equal sequences have equal ids, ids count from 0 in the order of arrival. */
#ifndef TEXT_WORD_SETS_H
#define TEXT_WORD_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct word_sets { /* zeroes: none yet */
    uint32_t *word;  /* [n_words] the sequences, one behind the other */
    uint32_t *first; /* [n + 1] where each begins */
    uint32_t n, n_words, cap, cap_words;
    struct word_slot {
        uint32_t round, id; /* of another round than the set's: free */
    } *slot; /* [mask + 1] */
    uint32_t mask, round;
};

static inline const uint32_t *word_sets_at(const struct word_sets *s, uint32_t id, uint32_t *n)
{
    *n = s->first[id + 1] - s->first[id];
    return s->word + s->first[id];
}

int64_t word_sets_add(struct word_sets *s, const uint32_t *word, uint32_t n); /* its id, new or old; -1: out of memory */
void word_sets_clear(struct word_sets *s);                                    /* forgets all, keeps the memory; takes no time */
void word_sets_free(struct word_sets *s);                                     /* zeroes are fine */
size_t word_sets_bytes(const struct word_sets *s);                            /* memory in use */

/* Room for `need` elements in a growing array: the old place, or a new one; NULL: out of memory, the old one stays. */
void *grow(void *p, uint32_t *cap, uint64_t need, size_t size);

#endif
