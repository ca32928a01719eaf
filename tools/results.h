/* SPDX-License-Identifier: Apache-2.0 */
/* What a benchmark measured, sample by sample: a JSONL file that a second start goes on with, and the sums of it. Its first line says what was run; what another run wrote is not mixed in. */
#ifndef TOOLS_RESULTS_H
#define TOOLS_RESULTS_H

#include <stdint.h>
#include <stdio.h>

#include "metrics.h"
#include "record.h"

enum figure {
    ACCEPTANCE_RATE, ACCEPTED_LENGTH, TOKENS_PER_SECOND, TIME_PER_TOKEN, DECODE_TOKENS_PER_SECOND, PREFILL_TIME, TOTAL_TIME, PROMPT_TOKENS, REPLY_TOKENS,
    TEXT_ROUGE_1, TEXT_ROUGE_2, TEXT_ROUGE_3, TEXT_ROUGE_L, SENTENCE_BLEU, EXACT_MATCH, EDIT_DISTANCE, REPETITION, PASS, N_FIGURES
};

struct result {
    int64_t line;
    int rounds, drafted, accepted;
    double figure[N_FIGURES]; /* NaN: it does not apply */
    struct bleu bleu;
};

struct results {
    struct result *item;
    int n, cap;
    FILE *file;
    const char *path;
};

/* Opens or makes the file; what it holds already are the first results. settings: its first line. */
int results_open(struct results *all, const char *path, const char *settings, lsk_error *err);

/* Adds one. texts: what else its line says. It is on its way to the disk when this returns. */
int results_add(struct results *all, const struct result *one, const struct record *texts, lsk_error *err);
void results_close(struct results *all);

/* The sums of the first n: one JSON object without a newline, or a table. facts: what JSON has before them. */
void results_json(FILE *out, const struct results *all, int n, const struct record *facts);
void results_table(FILE *out, const struct results *all, int n);

#endif
