/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep_plot.h"

#include <string.h>

enum { GRIDS_MAX = 8, WIDTH = 900, HEIGHT = 420 };

static void add_number(struct numbers *l, int v)
{
    int at = 0;
    while (at < l->n && l->value[at] < v)
        at++;
    if ((at < l->n && l->value[at] == v) || l->n == NUMBERS_MAX)
        return;
    memmove(l->value + at + 1, l->value + at, (size_t)(l->n - at) * sizeof *l->value);
    l->value[at] = v;
    l->n++;
}

int sweep_grids(const struct sweep_log *l, struct sweep_grid *out, int cap)
{
    int n = 0;
    for (int k = 0; k < l->n; k++) {
        const struct sweep_cell *c = &l->cell[k];
        int i = 0;
        while (i < n && strcmp(out[i].drafter, c->drafter))
            i++;
        if (i == cap)
            continue;
        if (i == n) {
            out[n] = (struct sweep_grid){.log = l};
            strcpy(out[n++].drafter, c->drafter);
        }
        add_number(&out[i].exits, c->exit_layer);
        add_number(&out[i].drafts, c->drafts);
    }
    return n;
}

const struct sweep_cell *grid_cell(const struct sweep_grid *g, int e, int d)
{
    struct sweep_cell setting = {.exit_layer = g->exits.value[e], .drafts = g->drafts.value[d]};
    strcpy(setting.drafter, g->drafter);
    return sweep_log_find(g->log, &setting);
}

void sweep_table(FILE *out, const struct sweep_grid *g)
{
    fprintf(out, "| %s: exit layer |", g->drafter);
    for (int d = 0; d < g->drafts.n; d++)
        fprintf(out, g->drafts.value[d] ? " %d draft%s |" : " as many as pay |", g->drafts.value[d], g->drafts.value[d] == 1 ? "" : "s");
    fputs("\n| --: |", out);
    for (int d = 0; d < g->drafts.n; d++)
        fputs(" --: |", out);
    fputc('\n', out);
    for (int e = 0; e < g->exits.n; e++) {
        fprintf(out, g->exits.value[e] ? "| %d |" : "| none |", g->exits.value[e]);
        for (int d = 0; d < g->drafts.n; d++) {
            const struct sweep_cell *c = grid_cell(g, e, d);
            fprintf(out, c ? " %.3f |" : " |", c ? c->speedup : 0);
        }
        fputc('\n', out);
    }
}

/* ---- the picture ---- */

/* Tics at whole places, named by the values. */
static void write_tics(FILE *out, const char *axis, const struct numbers *l, const char *zero)
{
    fprintf(out, "set %stics (", axis);
    for (int i = 0; i < l->n; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", l->value[i]);
        fprintf(out, "%s'%s' %d", i ? ", " : "", l->value[i] ? name : zero, i);
    }
    fputs(") nomirror\n", out);
}

static void write_map(FILE *out, const struct sweep_grid *g, int number)
{
    fprintf(out, "$map%d << END_OF_DATA\n", number);
    for (int e = 0; e < g->exits.n; e++)
        for (int d = 0; d < g->drafts.n; d++) {
            const struct sweep_cell *c = grid_cell(g, e, d);
            if (c)
                fprintf(out, "%d %d %.6g\n", e, d, c->speedup);
        }
    fputs("END_OF_DATA\n", out);
    write_tics(out, "x", &g->exits, "none");
    write_tics(out, "y", &g->drafts, "auto");
    fprintf(out,
            "set title '%s: speed-up over plain decoding'\nset xlabel 'exit layer'\nset ylabel 'drafts in a round'\nset xrange [-.5:%d.5]\nset yrange [-.5:%d.5]\nunset grid\n"
            "plot $map%d using 1:2:($1-.5):($1+.5):($2-.5):($2+.5):3 with boxxyerror palette notitle, $map%d using 1:2:(sprintf('%%.2f', $3)) with labels font ',9' notitle\n",
            g->drafter, g->exits.n - 1, g->drafts.n - 1, number, number);
}

/* The best of every exit layer: how fast, how sure, and how often drafts were accepted. */
static void write_curve(FILE *out, const struct sweep_grid *g, int number)
{
    fprintf(out, "$best%d << END_OF_DATA\n", number);
    for (int e = 0; e < g->exits.n; e++) {
        const struct sweep_cell *best = NULL;
        for (int d = 0; d < g->drafts.n; d++) {
            const struct sweep_cell *c = grid_cell(g, e, d);
            if (c && (!best || c->speedup > best->speedup))
                best = c;
        }
        if (best)
            fprintf(out, "%d %.6g %.6g %.6g %.6g\n", e, best->speedup, best->low, best->high, best->acceptance);
    }
    fputs("END_OF_DATA\n", out);
    write_tics(out, "x", &g->exits, "none");
    fprintf(out,
            "set title '%s: the best of every exit layer'\nset xlabel 'exit layer'\nset ylabel 'speed-up'\nset yrange [0:*]\nset ytics auto\nset y2label 'acceptance rate'\nset y2range [0:1]\n"
            "set y2tics\nset grid y\nset key bottom right\nset arrow 1 from graph 0, first 1 to graph 1, first 1 nohead dashtype 2 linecolor rgb '#888888'\n"
            "plot $best%d using 1:2:3:4 with yerrorlines pointtype 7 linecolor rgb '#0072b2' title 'speed-up, least to largest', "
            "$best%d using 1:5 axes x1y2 with linespoints pointtype 6 linecolor rgb '#d55e00' title 'acceptance rate'\n"
            "unset arrow 1\nunset y2tics\nunset y2label\nunset key\n",
            g->drafter, number, number);
}

static void write_script(FILE *out, const void *ud)
{
    struct sweep_grid grid[GRIDS_MAX];
    const int n = sweep_grids(ud, grid, GRIDS_MAX);
    const struct sweep_log *l = ud;
    double least = 1, largest = 1;
    for (int i = 0; i < l->n; i++) {
        least = l->cell[i].speedup < least ? l->cell[i].speedup : least;
        largest = l->cell[i].speedup > largest ? l->cell[i].speedup : largest;
    }
    /* as many shades below 1 as above: white is plain decoding */
    fprintf(out, "unset key\nset palette defined (%.6g '#b2182b', 1 '#f7f7f7', %.6g '#1b7837')\nset cbrange [%.6g:%.6g]\nset style fill solid\nset multiplot layout %d,2\n", least - .01, largest + .01,
            least - .01, largest + .01, n);
    for (int i = 0; i < n; i++) {
        write_map(out, &grid[i], i);
        write_curve(out, &grid[i], i);
    }
    fputs("unset multiplot\n", out);
}

struct picture sweep_picture(const struct sweep_log *l, const char *gnuplot)
{
    struct sweep_grid grid[GRIDS_MAX];
    const int n = sweep_grids(l, grid, GRIDS_MAX);
    return (struct picture){gnuplot, WIDTH + WIDTH / 4, HEIGHT * (n ? n : 1), write_script, l};
}
