/* SPDX-License-Identifier: Apache-2.0 */
/* How near a reply comes to its reference: ROUGE as the PyPI package rouge-score gives it (without stemming), BLEU as sacrebleu does (13a words, exponential smoothing).
   Texts are UTF-8. What returns int gives 0, or LSK_EOS. */
#ifndef TOOLS_METRICS_H
#define TOOLS_METRICS_H

#include <stdint.h>

#include "layerskip.h"

enum { ROUGE_1, ROUGE_2, ROUGE_3, ROUGE_L, N_ROUGE };

int rouge_scores(const char *reference, const char *reply, double f[N_ROUGE], lsk_error *err); /* F-measures, 0 to 1 */

/* What BLEU counts; that of a corpus is the score of the sums. */
enum { BLEU_ORDERS = 4 };
struct bleu {
    long right[BLEU_ORDERS], total[BLEU_ORDERS]; /* n-grams of the reply, by n - 1 */
    long words, reference_words;
};
int bleu_count(const char *reference, const char *reply, struct bleu *out, lsk_error *err);
void bleu_add(struct bleu *sum, const struct bleu *b);
double bleu_score(const struct bleu *b, int sentence); /* 0 to 100; of one sentence, only the orders that it has count */

int edit_distance(const char *a, const char *b, long *out, lsk_error *err); /* characters put in, taken out or replaced */
int exact_match(const char *reference, const char *reply);                  /* 1 or 0; white space at both ends aside */

int repetition(const int32_t *token, int n, double *out, lsk_error *err); /* the share of runs of 4 tokens that came before: 0 to 1 */

#endif
