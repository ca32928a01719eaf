/* SPDX-License-Identifier: Apache-2.0 */
/* A file of results that has its name only when it is whole. */
#ifndef TOOLS_WHOLE_FILE_H
#define TOOLS_WHOLE_FILE_H

#include <stdio.h>

#include "layerskip.h"

struct whole_file {
    FILE *f;
    const char *path;
    char temp[4096];
};

int whole_open(struct whole_file *w, const char *path, lsk_error *err);

/* r: how the writing went. Below zero: nothing is left of the file, and what had its name stays (but where only the folder cannot be synced). Returns it, or the code of
   what failed here. */
int whole_close(struct whole_file *w, int r, lsk_error *err);

#endif
