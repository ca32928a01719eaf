/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "messages.h"
#include "picture.h"

struct plot_args {
    const char *log, *out, *gnuplot;
    int width, height;
};

static const struct option plot_options[] = {
    {"log", OPT_TEXT, offsetof(struct plot_args, log), "FILE", .help = "log.csv of a `layerskip train` folder; may also stand first"},
    {"out o", OPT_TEXT, offsetof(struct plot_args, out), "FILE", .help = "the picture to write: NAME.png or NAME.svg"},
    {"width", OPT_INT, offsetof(struct plot_args, width), "N", "1000", 200, 10000, .help = "in pixels"},
    {"height", OPT_INT, offsetof(struct plot_args, height), "N", "1100", 200, 10000, .help = "in pixels"},
    {"gnuplot", OPT_TEXT, offsetof(struct plot_args, gnuplot), "PROGRAM", "gnuplot", .help = "the program that draws"},
    {0}};

static const struct option_group groups[] = {{"plot", plot_options, 0}, {0}};

enum { COLUMNS = 14, SERIES_MAX = 64 };
enum column { STEP, SET, LAYER, TOKENS, SECONDS, RATE, NORM, SPEED, LOSS, CE, KL, ACCEPT, ANCHOR, AGREE };
static const char header[] = "step,set,layer,tokens,seconds,rate,norm,speed,loss,ce,kl,accept,anchor,agree";

struct row {
    int held;
    double value[COLUMNS];
};
struct table {
    struct row *row;
    int n, cap;
    int layer[SERIES_MAX], layers; /* those that were looked at, ascending */
};

/* ---- the log ---- */

/* One line; -1: not a row of the log. */
static int read_row(char *line, struct row *r)
{
    char *cell = line;
    for (int i = 0; i < COLUMNS; i++) {
        size_t n = strcspn(cell, ",");
        if ((cell[n] == ',') != (i + 1 < COLUMNS))
            return -1;
        cell[n] = 0;
        r->value[i] = 0;
        if (i == SET) {
            if (strcmp(cell, "held") && strcmp(cell, "train"))
                return -1;
            r->held = !strcmp(cell, "held");
        } else if (read_real(cell, &r->value[i]) < 0) {
            return -1;
        }
        cell += n + 1;
    }
    return 0;
}

static void add_layer(struct table *t, int layer)
{
    int at = 0;
    while (at < t->layers && t->layer[at] < layer)
        at++;
    if ((at < t->layers && t->layer[at] == layer) || t->layers == SERIES_MAX)
        return;
    memmove(t->layer + at + 1, t->layer + at, (size_t)(t->layers - at) * sizeof *t->layer);
    t->layer[at] = layer;
    t->layers++;
}

static int add_row(struct table *t, const struct row *r)
{
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 1024;
        struct row *bigger = realloc(t->row, (size_t)cap * sizeof *bigger);
        if (!bigger)
            return -1;
        t->row = bigger;
        t->cap = cap;
    }
    t->row[t->n++] = *r;
    if (r->held)
        add_layer(t, (int)r->value[LAYER]);
    return 0;
}

/* The last line may be cut off where the run was killed. */
static int read_log(const char *path, struct table *t, lsk_error *err)
{
    char *text = NULL;
    size_t n = 0;
    int line = 1, r = read_stream(path, &text, &n, err);
    for (char *p = text, *stop; r >= 0 && p && (stop = strchr(p, '\n')); p = stop + 1, line++) {
        struct row row;
        *stop = 0;
        if (line == 1 ? strcmp(p, header) != 0 : read_row(p, &row) < 0)
            r = complain(err, LSK_EDATA, "%s: line %d: \"%s\" is no row of a training log", excerpt_of(path).text, line, excerpt_of(p).text);
        else if (line > 1 && add_row(t, &row))
            r = complain(err, LSK_EOS, "out of memory");
    }
    free(text);
    if (r >= 0 && !t->n)
        r = complain(err, LSK_EDATA, "%s: no rows: nothing was logged yet", excerpt_of(path).text);
    return r;
}

/* ---- the picture ---- */

/* One curve's points; a step of several exits has its own numbers (loss, rate) in each of their rows. */
static void write_points(FILE *f, const struct table *t, int held, int layer, enum column y)
{
    double last = -1;
    for (int i = 0; i < t->n; i++) {
        const struct row *r = &t->row[i];
        if (r->held != held || (layer ? r->value[LAYER] != layer : r->value[STEP] == last))
            continue;
        fprintf(f, "%.0f %.9g\n", r->value[STEP], r->value[y]);
        last = r->value[STEP];
    }
    fputs("e\n", f);
}

static int has_points(const struct table *t, int held, int layer, enum column y)
{
    for (int i = 0; i < t->n; i++)
        if (t->row[i].held == held && (!layer || t->row[i].value[LAYER] == layer) && t->row[i].value[y] > 0)
            return 1;
    return 0;
}

/* A panel of one curve for every layer that was looked at. */
static void write_layers(FILE *f, const struct table *t, const char *title, enum column y, int last)
{
    int n = 0;
    fprintf(f, "set title '%s'\n", title);
    for (int i = 0; i < t->layers - !last; i++)
        fprintf(f, "%s'-' with linespoints pointtype 7 pointsize 0.4 title 'exit %d'", n++ ? ", " : "plot ", t->layer[i]);
    fputs(n ? "\n" : "", f);
    for (int i = 0; i < t->layers - !last; i++)
        write_points(f, t, 1, t->layer[i], y);
}

/* What jumps from step to step gets a smooth line too. */
static void write_steps(FILE *f, const struct table *t, const char *title, enum column y, int smooth)
{
    fprintf(f, "set title '%s'\nplot '-' with lines linecolor rgb '%s' notitle%s\n", title, smooth ? "#c0c0c0" : "#009e73",
            smooth ? ", '-' smooth sbezier linewidth 2 linecolor rgb '#009e73' notitle" : "");
    for (int i = 0; i <= smooth; i++)
        write_points(f, t, 0, 0, y);
}

static void write_script(FILE *f, const void *table)
{
    const struct table *t = table;
    const int looked = t->layers > 0, exits = t->layers > 1 && has_points(t, 1, 0, AGREE), trained = has_points(t, 0, 0, RATE);
    fprintf(f, "set multiplot layout %d,1\nset grid\nset key outside right\nset lmargin 12\nset rmargin 16\nset xlabel 'step'\n", looked + exits + 3 * trained);
    if (looked)
        write_layers(f, t, "cross-entropy on held-out text, nats", CE, 1);
    if (exits) {
        fputs("set yrange [0:1]\n", f);
        write_layers(f, t, "greedy acceptance on held-out text", AGREE, 0);
        fputs("set autoscale y\n", f);
    }
    if (trained) {
        write_steps(f, t, "loss of the step", LOSS, 1);
        write_steps(f, t, "norm of the gradient", NORM, 1);
        write_steps(f, t, "learning rate", RATE, 0);
    }
    fputs("unset multiplot\n", f);
}

static int plot(const void *args, lsk_error *err)
{
    const struct plot_args *a = args;
    struct table t = {0};
    if (!a->log)
        return complain(err, LSK_EUSAGE, "no log given: the log.csv of a training folder");
    if (!a->out)
        return complain(err, LSK_EUSAGE, "no picture given: -o NAME.png or -o NAME.svg");
    int r = picture_check("--out", a->out, err);
    if (r >= 0)
        r = read_log(a->log, &t, err);
    if (r >= 0)
        r = picture_draw(&(struct picture){a->gnuplot, a->width, a->height, write_script, &t}, a->out, err);
    free(t.row);
    return r;
}

const struct command command_plot = {
    "plot",
    "draws the curves of a training run",
    "LOG.csv -o FILE.png|FILE.svg",
    "Draws loss and acceptance of every exit on held-out text, and the step's loss, gradient norm and learning rate. gnuplot does the drawing.",
    "  layerskip plot run/log.csv -o curves.svg\n",
    "log",
    groups,
    sizeof(struct plot_args),
    plot,
    NULL};
