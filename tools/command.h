/* SPDX-License-Identifier: Apache-2.0 */
/* A command of the program: one const struct in its cmd_*.c, one line in main.c's table. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include "layerskip.h"
#include "options.h"

struct command {
    const char *name, *help; /* help: one line */
    const char *usage;       /* what follows the name */
    const char *about;       /* a paragraph, or NULL */
    const char *examples;    /* lines */
    const char *bare;        /* options that arguments without a dash fill */
    const struct option_group *groups;
    size_t size;                                  /* of the struct that the groups fill */
    int (*run)(const void *args, lsk_error *err); /* exit status, or a code below zero with err set */
    void (*more_help)(FILE *out);                 /* what --help adds below the options, or NULL */
};

extern const struct command command_run, command_chat, command_info, command_tokenize, command_synth, command_verify, command_bench, command_benchmark, command_quantize, command_train,
    command_generate_corpus, command_plot, command_perplexity, command_pull, command_list, command_rm, command_sweep, command_eval, command_report;

#endif
