/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks as lm-evaluation-harness scores them, from rows of a JSONL file, at every exit layer in one reading:
     multiple choice   {"query", "choices": [...], "gold": 2}   the choice that is likeliest behind the query
     log-likelihood    {"context", "continuation"}              how likely it is, and whether it is what greedy decoding would say
   Columns have the names that published sets use (--help lists them) or those that the caller gives. */
#ifndef TOOLS_EVAL_TASK_H
#define TOOLS_EVAL_TASK_H

#include "exit_scores.h"
#include "layerskip.h"
#include "rows.h"
#include "values.h"

struct task_columns {
    const char *query, *choices, *gold, *continuation; /* NULL: the first of the known names that a row has */
    const char *template, *delimiter;                  /* "{query}" in the template stands for it; delimiter: between it and a choice */
};

/* One request: tokens, and from where on they count. */
struct task_request {
    int32_t *token;
    int n, given;
    int characters; /* of the choice, without the delimiter */
};
struct task_item {
    struct task_request *request; /* one for each choice */
    int n, gold;                  /* gold -1: a log-likelihood */
};

/* What one depth did. acc: a share; norm: with likelihoods over the choice's length; nats: of log-likelihoods, over tokens. */
struct task_score {
    double right, norm, nats, squares;
};

struct task {
    const char *path;
    const struct task_columns *columns;
    const lsk_model *model;
    int bos;
    struct keeper keeper;
    struct rows rows;
    struct task_item *item;
    int n, longest;
    int done, chosen; /* measured items, which are the first ones, and those of them with choices */
    struct task_score score[NUMBERS_MAX + 1]; /* by depth */
};

int task_read(struct task *t, lsk_error *err); /* the caller sets what stands before `item` */
int task_measure(struct task *t, lsk_session *s, const int *depth, int n_depths, int show_progress, lsk_error *err);
void task_free(struct task *t);

double task_stderr(double right, int n); /* of a share: as sample_stddev / sqrt(n) */

#endif
