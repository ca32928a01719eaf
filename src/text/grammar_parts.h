/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that compile a grammar. */
#ifndef TEXT_GRAMMAR_PARTS_H
#define TEXT_GRAMMAR_PARTS_H

#include "text/grammar.h"

struct span {
    uint32_t lo, hi; /* code points, both included */
};

/* The row for a set of n spans, or for all others if `negated`. The array needs room for n + 4 and is changed. -1: out of memory; ROW_DONE: no character is in it. */
int64_t grammar_row(struct word_sets *rows, struct span *set, int n, bool negated);

/* The row of one character, which is no surrogate; -1: out of memory. */
int64_t grammar_row_of(struct word_sets *rows, uint32_t c);

/* Fills code, start, n_rules, root and rows; names: [n_rules] for messages, the caller frees. Numbers of rules are in the order of their mention. */
int grammar_parse(struct grammar *g, const char *name, struct bytes gbnf, struct bytes **names, struct error *err);

#endif
