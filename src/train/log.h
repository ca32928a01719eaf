/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a run: CSV, a row for every exit of every step ("train") and of every look at held-out text ("held"). */
#ifndef TRAIN_LOG_H
#define TRAIN_LOG_H

#include "train/trainer.h"

struct log {
    int fd;
    char *path; /* owned */
};

/* Opens FOLDER/log.csv to go on behind `step`: rows of later steps, which a killed run wrote, go. Caller closes. */
int log_open(struct log *l, const char *folder, int step, struct error *err);
int log_write(struct log *l, const struct train_event *e, struct error *err); /* STEPPED, LOOKED */
void log_close(struct log *l); /* zeroes are fine */

#endif
