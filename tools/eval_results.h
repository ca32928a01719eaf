/* SPDX-License-Identifier: Apache-2.0 */
/* What `eval` measured, as the JSON that it writes; tables and pictures are made of that, here and in `report`. */
#ifndef TOOLS_EVAL_RESULTS_H
#define TOOLS_EVAL_RESULTS_H

#include <jansson.h>

#include "eval_task.h"
#include "exit_scores.h"
#include "machine.h"
#include "picture.h"

/* {"layerskip": "eval", "version", "command", "date", "cpu_info", "model": {...}}; caller frees */
json_t *results_begin(const lsk_model_info *m, const struct machine *machine);
json_t *results_of_text(const struct exit_scores *e, const struct documents *texts, const char *name);
json_t *results_of_task(const struct task *t, const int *depth, int n_depths);

/* text: results_of_text's. Agreement, coverage and accuracy by exit layer, and perplexity. */
struct picture results_picture(const json_t *text, const char *gnuplot);

#endif
