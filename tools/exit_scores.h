/* SPDX-License-Identifier: Apache-2.0 */
/* How well each exit foretells texts, and how often it picks what the whole model picks: all exits in one reading. */
#ifndef TOOLS_EXIT_SCORES_H
#define TOOLS_EXIT_SCORES_H

#include "documents.h"
#include "layerskip.h"
#include "values.h"

enum { TOP_MAX = 10, WITHINS = 3 };

/* Told behind everything that is measured, and when interrupted; keep NULL: nobody. */
struct keeper {
    int (*keep)(void *ud, lsk_error *err);
    void *ud;
};
extern const int within_top[WITHINS]; /* 2, 5 and 10 */

/* What one depth did, over all counted tokens. */
struct exit_score {
    int depth;
    double nats, squares;     /* surprise at the text's tokens, and the sum of its squares */
    uint64_t right, agree;    /* its likeliest token is the text's; is the whole model's */
    uint64_t within[WITHINS]; /* the whole model's is among its within_top[k] likeliest */
};

struct exit_scores {
    struct exit_score exit[NUMBERS_MAX + 1]; /* ascending; the whole model last */
    int depth[NUMBERS_MAX + 1], n;
    int length;       /* texts are cut into windows of so many tokens, each read alone; rows with a prompt are cut off there */
    double limit;     /* stop when so many tokens are counted; 0: never */
    uint64_t counted;
    int document, at; /* the window that comes next: of this text, from this token on */
    struct keeper keeper;
    const int32_t *token; /* the window that is being read */
    int from;             /* its first token that counts */
    int32_t *top;         /* [n][length][TOP_MAX] the likeliest there, best first */
};

/* The depths: `exits` (checked, sorted, each once) and the whole model; none: all of them where `all`, else a quarter, a third and half of the layers. */
int exit_scores_plan(struct exit_scores *e, const lsk_model_info *info, const struct numbers *exits, int all, lsk_error *err);
int exit_scores_read(struct exit_scores *e, lsk_session *s, const struct documents *texts, int show_progress, lsk_error *err);
void exit_scores_free(struct exit_scores *e);

double perplexity_of(const struct exit_scores *e, int i);
double perplexity_error(const struct exit_scores *e, int i); /* one standard error, tokens taken as independent */

/* Of one row of logits: the n_top likeliest tokens, best first and lowest id on ties; and -log of a token's probability. */
void likeliest(const float *logits, int n, int32_t *top, int n_top);
double surprise(const float *logits, int n, float largest, int32_t token);

#endif
