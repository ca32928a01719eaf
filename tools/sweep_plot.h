/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep as tables and pictures. */
#ifndef TOOLS_SWEEP_PLOT_H
#define TOOLS_SWEEP_PLOT_H

#include <stdio.h>

#include "picture.h"
#include "sweep_log.h"
#include "values.h"

/* What was measured of one drafter, exit layers down and drafts across. */
struct sweep_grid {
    const struct sweep_log *log;
    char drafter[64];
    struct numbers exits, drafts; /* ascending */
};

int sweep_grids(const struct sweep_log *l, struct sweep_grid *out, int cap); /* one for each drafter; how many */
const struct sweep_cell *grid_cell(const struct sweep_grid *g, int e, int d);  /* NULL: not measured */

void sweep_table(FILE *out, const struct sweep_grid *g); /* speed-ups, in Markdown */

/* A heat map of every drafter's speed-ups, and the best of every exit layer with its spread. */
struct picture sweep_picture(const struct sweep_log *l, const char *gnuplot);

#endif
