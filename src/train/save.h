/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of a run: written whole or not at all, found again, and only gone on from by a run that is the same. */
#ifndef TRAIN_SAVE_H
#define TRAIN_SAVE_H

#include "train/export.h"
#include "train/trainer.h"

/* What a run is, beside its settings. */
struct identity {
    char model[17], start[17]; /* model_fingerprint; start: "" where it begins with the model's own weights */
    uint64_t data;  /* hash of the tokens */
};

/* FOLDER/step-NNNNNN. Caller frees; NULL: out of memory. */
char *save_path(const char *folder, int step);

/* Writes the checkpoint of a step, then removes old ones beyond t->keep. */
int save_write(const struct training *t, const struct identity *id, struct trainer *trainer, int step, struct error *err);

/* The step of the newest checkpoint, 0 when there is none. Removes what killed runs left half-written. */
int save_newest(const char *folder, struct error *err);

/* ERR_USAGE names the setting in which this run differs from the one that wrote the checkpoint. */
int save_read(const struct training *t, const struct identity *id, struct trainer *trainer, int step, struct error *err);

#endif
