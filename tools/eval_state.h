/* SPDX-License-Identifier: Apache-2.0 */
/* What `eval` has measured so far, in a file beside its report: the same command goes on from there. */
#ifndef TOOLS_EVAL_STATE_H
#define TOOLS_EVAL_STATE_H

#include "documents.h"
#include "eval_task.h"
#include "exit_scores.h"

struct eval_state {
    char path[4096]; /* "": nothing is kept */
    char run[17];    /* of the model, how it computes, and all that is measured: 16 hexadecimal digits */
    struct exit_scores *scores;
    struct task *task;
    int n_tasks;
    int64_t kept_ns;
};

/* Borrows scores and tasks, and takes up in them what REPORT.part has of the same run; what another run or a damaged file has is passed over.
   Returns how many tokens and rows were taken up, or a code. report: NULL keeps nothing. */
int64_t eval_state_open(struct eval_state *s, const char *report, const lsk_model_info *info, const struct documents *texts, lsk_error *err);

/* A keep_fn: writes the file every few seconds, and when interrupted. */
int eval_state_keep(void *state, lsk_error *err);
void eval_state_remove(const struct eval_state *s);

#endif
