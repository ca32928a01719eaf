/* SPDX-License-Identifier: Apache-2.0 */
/* What a sweep has measured, in a CSV that a second start goes on with:
     # layerskip sweep model=0123456789abcdef device=cpu ...        what every row was measured with; another sweep's file is refused
     # NAME: TEXT                                                  notes for people and for `report`
     exit_layer,num_speculations,drafter,...
     8,4,exit,... */
#ifndef TOOLS_SWEEP_LOG_H
#define TOOLS_SWEEP_LOG_H

#include <stdio.h>

#include "layerskip.h"

struct sweep_cell {
    char drafter[64];
    int exit_layer, drafts; /* 0: none of that drafter; as many as are worth their time */
    int tokens, rounds, drafted, accepted, repetitions;
    double acceptance, length;     /* accepted of those drafted; tokens a round */
    double seconds, token_ms, rate, plain_rate; /* of all replies together; tokens per second, drafted and plain: medians */
    double speedup, low, high;     /* drafted over plain, paired: the median of the repetitions, the least, the largest */
    char date[32];
};

enum { SWEEP_KEY = 1024, SWEEP_NOTES = 6 };

struct sweep_log {
    const char *path;
    FILE *f; /* where new rows go; NULL: they are only kept here */
    char key[SWEEP_KEY];
    struct {
        char name[16], text[2100];
    } note[SWEEP_NOTES];
    int n_notes;
    struct sweep_cell *cell;
    int n, cap;
};

int sweep_log_read(struct sweep_log *l, const char *path, lsk_error *err);

/* Goes on with the file, or begins it. The caller sets key and notes before; path NULL: no file. A last row that a kill cut off is measured again; a header cut off is written anew. */
int sweep_log_open(struct sweep_log *l, const char *path, lsk_error *err);
int sweep_log_add(struct sweep_log *l, const struct sweep_cell *c, lsk_error *err); /* on the disk when it returns */
void sweep_log_close(struct sweep_log *l);

void sweep_log_note(struct sweep_log *l, const char *name, const char *text);
const char *sweep_log_said(const struct sweep_log *l, const char *name); /* a note's text; "" where there is none */
/* A setting's latest measurement, or its first: the best are measured again, more often. NULL of none. */
const struct sweep_cell *sweep_log_find(const struct sweep_log *l, const struct sweep_cell *setting);
const struct sweep_cell *sweep_log_first(const struct sweep_log *l, const struct sweep_cell *setting);

/* The fastest of those with the most repetitions: the fastest of all is partly luck. NULL of none. */
const struct sweep_cell *sweep_log_best(const struct sweep_log *l);
const char *sweep_key_word(const char *key, const char *name, char *out, size_t cap); /* "model" of a key; "" where it has none */

#endif
