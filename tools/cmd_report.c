/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "eval_results.h"
#include "exit_map.h"
#include "html.h"
#include "json_table.h"
#include "messages.h"
#include "picture.h"
#include "sweep_log.h"
#include "sweep_plot.h"
#include "whole_file.h"

struct report_args {
    struct texts bench, sweep, eval;
    const char *out, *title, *gnuplot;
};

static const struct option report_options[] = {
    {"bench", OPT_TEXTS, offsetof(struct report_args, bench), "FILE", .help = "what `layerskip bench -o json` (or jsonl) printed; may be repeated"},
    {"sweep", OPT_TEXTS, offsetof(struct report_args, sweep), "FILE.csv", .help = "the CSV of `layerskip sweep`; may be repeated"},
    {"eval", OPT_TEXTS, offsetof(struct report_args, eval), "FILE.json", .help = "what `layerskip eval --report` wrote; may be repeated"},
    {"out o", OPT_TEXT, offsetof(struct report_args, out), "FILE.html", .help = "the page to write"},
    {"title", OPT_TEXT, offsetof(struct report_args, title), "TEXT", .help = "its heading; without it the model's name"},
    {"gnuplot", OPT_TEXT, offsetof(struct report_args, gnuplot), "PROGRAM", "gnuplot", .help = "the program that draws; without it the page has tables alone"},
    {0}};

static const struct option_group groups[] = {{"report", report_options, 0}, {0}};

enum { SOURCES_MAX = 3 * TEXTS_MAX, GRIDS_MAX = 8 };

/* One file of results, and what is to be said of it whatever its kind. */
struct source {
    const char *path, *kind;
    json_t *data;          /* bench: an array of rows; eval: the object */
    struct sweep_log sweep;
    char id[64], device[96], weights[64], threads[16], version[32];
    const char *model, *machine, *date, *command; /* borrowed from data or sweep */
};

struct report {
    const struct report_args *args;
    struct source *source; /* [n] */
    int n, pictures, unseen; /* unseen: pictures that could not be drawn */
    FILE *f;
};

/* ---- reading ---- */

static void copy(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%.*s", (int)cap - 1, text);
}

static void number_text(char *out, size_t cap, double v)
{
    *out = 0;
    if (isfinite(v))
        snprintf(out, cap, "%.0f", v);
}

static int read_sweep(struct source *s, lsk_error *err)
{
    int r = sweep_log_read(&s->sweep, s->path, err);
    if (r >= 0 && !s->sweep.n)
        r = complain(err, LSK_EDATA, "%s: no setting was measured yet", excerpt_of(s->path).text);
    sweep_key_word(s->sweep.key, "model", s->id, sizeof s->id);
    sweep_key_word(s->sweep.key, "device", s->device, sizeof s->device);
    sweep_key_word(s->sweep.key, "weights", s->weights, sizeof s->weights);
    sweep_key_word(s->sweep.key, "threads", s->threads, sizeof s->threads);
    sweep_key_word(s->sweep.key, "version", s->version, sizeof s->version);
    s->model = sweep_log_said(&s->sweep, "model");
    s->machine = sweep_log_said(&s->sweep, "machine");
    s->date = sweep_log_said(&s->sweep, "date");
    s->command = sweep_log_said(&s->sweep, "command");
    return r;
}

static int add_json_row(void *ud, const json_t *row, const char *place, lsk_error *err)
{
    (void)place;
    return json_array_append(ud, (json_t *)row) ? complain(err, LSK_EOS, "out of memory") : 0;
}

/* An array or an object. what: is wanted. */
static int read_json(struct source *s, const char *what, lsk_error *err)
{
    json_error_t where;
    char *text = NULL;
    size_t n = 0;
    int r = read_stream(s->path, &text, &n, err);
    if (r < 0)
        return r;
    s->data = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    return s->data ? 0 : complain(err, LSK_EDATA, "%s: not %s: line %d: no JSON: %s", excerpt_of(s->path).text, what, where.line, where.text);
}

static int read_bench(struct source *s, lsk_error *err)
{
    static const char what[] = "what `layerskip bench -o json` (or jsonl) prints";
    struct rows rows = {0};
    s->data = rows_are(s->path) ? json_array() : NULL;
    int r = s->data ? rows_read(&rows, s->path, add_json_row, s->data, err) : read_json(s, what, err);
    if (r < 0)
        return r;
    const json_t *row = json_array_get(s->data, 0);
    if (!json_is_object(row) || !*json_text(row, "test"))
        return complain(err, LSK_EDATA, "%s: not %s", excerpt_of(s->path).text, what);
    copy(s->id, sizeof s->id, json_text(row, "model_id"));
    copy(s->device, sizeof s->device, json_text(row, "backends"));
    copy(s->weights, sizeof s->weights, json_text(row, "weight_type"));
    copy(s->version, sizeof s->version, json_text(row, "build_version"));
    number_text(s->threads, sizeof s->threads, json_number(row, "n_threads"));
    s->model = json_text(row, "model_filename");
    s->machine = json_text(row, "cpu_info");
    s->date = json_text(row, "test_time");
    s->command = json_text(row, "command");
    return 0;
}

static int read_eval(struct source *s, lsk_error *err)
{
    static const char what[] = "what `layerskip eval --report` writes";
    int r = read_json(s, what, err);
    if (r < 0)
        return r;
    const json_t *model = json_object_get(s->data, "model");
    if (strcmp(json_text(s->data, "layerskip"), "eval") || !json_is_object(model))
        return complain(err, LSK_EDATA, "%s: not %s", excerpt_of(s->path).text, what);
    copy(s->id, sizeof s->id, json_text(model, "id"));
    copy(s->device, sizeof s->device, json_text(model, "device"));
    copy(s->weights, sizeof s->weights, json_text(model, "weight_type"));
    copy(s->version, sizeof s->version, json_text(s->data, "version"));
    number_text(s->threads, sizeof s->threads, json_number(model, "n_threads"));
    s->model = *json_text(model, "name") ? json_text(model, "name") : json_text(model, "path");
    s->machine = json_text(s->data, "cpu_info");
    s->date = json_text(s->data, "date");
    s->command = json_text(s->data, "command");
    return 0;
}

/* Results of two models on one page would be read as those of one. */
static int read_sources(struct report *p, const char *kind, const struct texts *files, int (*read)(struct source *, lsk_error *), lsk_error *err)
{
    int r = 0;
    for (int i = 0; r >= 0 && i < files->n; i++) {
        struct source *s = &p->source[p->n++];
        s->path = files->item[i];
        s->kind = kind;
        r = read(s, err);
        if (r >= 0 && !*s->id)
            r = complain(err, LSK_EDATA, "%s: does not say which model it is of: measure it again with this version", excerpt_of(s->path).text);
        if (r >= 0 && strcmp(s->id, p->source[0].id))
            r = complain(err, LSK_EDATA, "%s: is of model %s, %s of model %s: a report is of one model", excerpt_of(s->path).text, s->id, excerpt_of(p->source[0].path).text, p->source[0].id);
    }
    return r;
}

/* ---- writing ---- */

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void paragraph(FILE *f, const char *before, const char *text, const char *after)
{
    fputs(before, f);
    html_text(f, text);
    fputs(after, f);
}

/* A picture, or what is missing for one, said once. */
static int add_picture(struct report *p, const struct picture *picture, lsk_error *err)
{
    char name[32];
    snprintf(name, sizeof name, "p%d", p->pictures++);
    if (p->unseen)
        return 0;
    fputs("<figure>\n", p->f);
    int r = picture_inline(picture, name, p->f, err);
    fputs("</figure>\n", p->f);
    if (r != LSK_EUNAVAILABLE)
        return r;
    p->unseen = 1;
    print_warning(err->text);
    paragraph(p->f, "<p>No pictures: ", err->text, "</p>\n");
    return 0;
}

static void write_sources(const struct report *p)
{
    fputs("<h2>What was measured, and where</h2>\n<table class=numbers>\n<tr><th>measurement</th><th>model</th><th>weights</th><th>device</th><th>threads</th><th>machine</th><th>version</th><th>date</th></tr>\n",
          p->f);
    for (int i = 0; i < p->n; i++) {
        const struct source *s = &p->source[i];
        const char *const cells[] = {s->kind, last_name(s->model), s->weights, s->device, s->threads, s->machine, s->version, s->date};
        fputs("<tr>", p->f);
        for (size_t k = 0; k < sizeof cells / sizeof *cells; k++)
            paragraph(p->f, "<td>", cells[k], "</td>");
        fputs("</tr>\n", p->f);
    }
    paragraph(p->f, "</table>\n<p>Model ", p->source[0].id, ", by what its files say.</p>\n");
}

static int write_sweep(struct report *p, const struct source *s, lsk_error *err)
{
    const struct sweep_cell *best = sweep_log_best(&s->sweep);
    struct sweep_grid grid[GRIDS_MAX];
    const int n = sweep_grids(&s->sweep, grid, GRIDS_MAX);
    paragraph(p->f, "<h2>Sweep: ", s->path, "</h2>\n");
    fprintf(p->f,
            "<p>Best of those measured most often: drafter %s, exit layer %d, %d drafts a round: <b>%.3f times plain decoding</b> (%.3f to %.3f in %d repetitions), %.2f against %.2f tokens/s, acceptance rate %.3f, "
            "%.2f tokens a round. Speed-ups are medians of pairs of drafted and plain replies that took turns; a setting that was measured again, as the best are, stands with its latest measurement.</p>\n",
            best->drafter, best->exit_layer, best->drafts, best->speedup, best->low, best->high, best->repetitions, best->rate, best->plain_rate, best->acceptance, best->length);
    const struct picture picture = sweep_picture(&s->sweep, p->args->gnuplot);
    int r = add_picture(p, &picture, err);
    for (int i = 0; r >= 0 && i < n; i++) {
        fprintf(p->f, "<table class=numbers>\n<tr><th>%s: exit layer \\ drafts</th>", grid[i].drafter);
        for (int d = 0; d < grid[i].drafts.n; d++)
            fprintf(p->f, "<th>%d</th>", grid[i].drafts.value[d]);
        for (int e = 0; e < grid[i].exits.n; e++) {
            fprintf(p->f, "</tr>\n<tr><td>%d</td>", grid[i].exits.value[e]);
            for (int d = 0; d < grid[i].drafts.n; d++) {
                const struct sweep_cell *c = grid_cell(&grid[i], e, d);
                fprintf(p->f, c ? "<td title='%.3f to %.3f, acceptance %.3f'>%.3f</td>" : "<td></td>", c ? c->low : 0, c ? c->high : 0, c ? c->acceptance : 0, c ? c->speedup : 0);
            }
        }
        fputs("</tr>\n</table>\n", p->f);
    }
    return r;
}

static int write_eval(struct report *p, const struct source *s, lsk_error *err)
{
    const json_t *text = json_object_get(s->data, "text"), *map = json_object_get(s->data, "map"), *task;
    struct exit_map m = {0};
    size_t i;
    int r = 0;
    if (text) {
        const struct picture picture = results_picture(text, p->args->gnuplot);
        paragraph(p->f, "<h2>Exit layers on a text: ", json_text(text, "file"), "</h2>\n");
        fprintf(p->f, "<p>%.0f tokens in windows of %.0f, %.0f bad rows passed over. Agreement is how often a draft from there is accepted.</p>\n", json_number(text, "tokens"), json_number(text, "window"),
                json_number(text, "bad_rows"));
        r = add_picture(p, &picture, err);
        json_table_html(p->f, json_object_get(text, "exits"));
    }
    json_array_foreach(json_object_get(s->data, "tasks"), i, task) {
        paragraph(p->f, "<h2>Task: ", json_text(task, "file"), "</h2>\n");
        fprintf(p->f, "<p>%.0f rows, %.0f bad rows passed over.</p>\n", json_number(task, "rows"), json_number(task, "bad_rows"));
        json_table_html(p->f, json_object_get(task, "exits"));
    }
    if (r >= 0 && map)
        r = exit_map_load(&m, map, excerpt_of(s->path).text, err);
    if (r >= 0 && map) {
        fputs("<h2>Early exit map</h2>\n<p>The token that each layer would put behind each token of the text below. Green: the last layer's token, and every layer from there on says it too; pale green: "
              "the last layer's, but a later layer changes its mind; grey: another.</p>\n",
              p->f);
        exit_map_table(p->f, &m);
    }
    exit_map_free(&m);
    return r;
}

static void write_bars(FILE *out, const void *ud)
{
    const json_t *row;
    size_t i;
    int n = 0;
    fputs("set datafile separator \"\\t\"\nset datafile commentschars ''\n$bench << END_OF_DATA\n", out);
    json_array_foreach(ud, i, row) {
        if (!(json_number(row, "n_gen") > 0)) /* a prompt's speed would be the only bar to be seen */
            continue;
        fprintf(out, "%d\t%.6g\t%.6g\t", n++, json_number(row, "avg_ts"), isfinite(json_number(row, "stddev_ts")) ? json_number(row, "stddev_ts") : 0);
        picture_label(out, json_text(row, "test"), 32);
        fputc('\n', out);
    }
    fputs("END_OF_DATA\nset style fill solid .8\nset boxwidth .6\nset grid y\nset yrange [0:*]\nset ylabel 'tokens/s'\nset xtics rotate by -30 noenhanced\nset title 'replies, mean and standard deviation'\n"
          "plot $bench using 1:2:3:xtic(4) with boxerrorbars linecolor rgb '#0072b2' notitle\n",
          out);
}

static int write_bench(struct report *p, const struct source *s, lsk_error *err)
{
    static const struct {
        const char *key, *title;
    } columns[] = {{"test", "test"}, {"avg_ts", "tokens/s"}, {"stddev_ts", "sd"}, {"median_ts", "median"}, {"gb_per_second", "GB/s"}, {"percent_of_read", "% of read"},
                   {"acceptance_rate", "acceptance"}, {"mean_acceptance_length", "tokens a round"}, {"speedup", "speed-up"}};
    json_t *table = json_array();
    const json_t *row;
    size_t i;
    int replies = 0;
    json_array_foreach(s->data, i, row) {
        replies |= json_number(row, "n_gen") > 0;
        json_t *cells = json_object();
        for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
            json_object_set(cells, columns[k].title, json_object_get(row, columns[k].key) ? json_object_get(row, columns[k].key) : json_null());
        json_array_append_new(table, cells);
    }
    paragraph(p->f, "<h2>Bench: ", s->path, "</h2>\n");
    const struct picture picture = {p->args->gnuplot, 1000, 420, write_bars, s->data};
    int r = replies ? add_picture(p, &picture, err) : 0;
    json_table_html(p->f, table);
    json_decref(table);
    return r;
}

/* What to do to get these numbers again, or those that are not here. */
static void write_commands(const struct report *p)
{
    static const struct {
        const char *kind, *command;
    } missing[] = {{"bench", "layerskip bench MODEL -f TEXT -o json >bench.json"}, {"sweep", "layerskip sweep MODEL -o sweep.csv"}, {"eval", "layerskip eval MODEL -f TEXT --report eval.json"}};
    fputs("<h2>To repeat it</h2>\n<pre>", p->f);
    for (int i = 0; i < p->n; i++)
        paragraph(p->f, "", p->source[i].command, "\n");
    fputs("</pre>\n", p->f);
    for (size_t k = 0; k < sizeof missing / sizeof *missing; k++) {
        int there = 0;
        for (int i = 0; i < p->n; i++)
            there |= !strcmp(p->source[i].kind, missing[k].kind);
        if (!there)
            fprintf(p->f, "<p>Not here: %s. <code>%s</code> measures it, <code>--%s</code> adds it.</p>\n", missing[k].kind, missing[k].command, missing[k].kind);
    }
}

static int write_page(struct report *p, lsk_error *err)
{
    static const struct {
        const char *kind;
        int (*write)(struct report *, const struct source *, lsk_error *);
    } kinds[] = {{"sweep", write_sweep}, {"eval", write_eval}, {"bench", write_bench}};
    const char *title = p->args->title ? p->args->title : last_name(p->source[0].model);
    int r = 0;
    html_begin(p->f, title, map_style);
    paragraph(p->f, "<h1>", title, "</h1>\n");
    write_sources(p);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int i = 0; r >= 0 && i < p->n; i++)
            if (!strcmp(p->source[i].kind, kinds[k].kind))
                r = kinds[k].write(p, &p->source[i], err);
    write_commands(p);
    html_end(p->f);
    return r;
}

static int report(const void *args, lsk_error *err)
{
    struct report p = {.args = args, .source = calloc(SOURCES_MAX, sizeof *p.source)};
    const struct report_args *a = args;
    struct whole_file w;
    int r = p.source ? 0 : complain(err, LSK_EOS, "out of memory");
    if (r >= 0 && !a->out)
        r = complain(err, LSK_EUSAGE, "no page given: -o FILE.html");
    if (r >= 0 && !a->bench.n && !a->sweep.n && !a->eval.n)
        r = complain(err, LSK_EUSAGE, "nothing to report: give --bench, --sweep or --eval");
    if (r >= 0)
        r = read_sources(&p, "sweep", &a->sweep, read_sweep, err);
    if (r >= 0)
        r = read_sources(&p, "eval", &a->eval, read_eval, err);
    if (r >= 0)
        r = read_sources(&p, "bench", &a->bench, read_bench, err);
    if (r >= 0 && (r = whole_open(&w, a->out, err)) >= 0) {
        p.f = w.f;
        r = whole_close(&w, write_page(&p, err), err);
    }
    for (int i = 0; i < p.n; i++) {
        json_decref(p.source[i].data);
        sweep_log_close(&p.source[i].sweep);
    }
    free(p.source);
    return r;
}

const struct command command_report = {
    "report",
    "bench, sweep and eval of a model on one page",
    "-o FILE.html [--bench FILE.json] [--sweep FILE.csv] [--eval FILE.json]",
    "Collects what the three commands measured of one model into a page that needs nothing beside it: tables, plots, the early exit map, machine, versions, and the commands to repeat it.",
    "  layerskip sweep model.gguf -o sweep.csv\n"
    "  layerskip eval model.gguf -f story.txt --map map.html --report eval.json\n"
    "  layerskip bench model.gguf -f story.txt --exit-layer 8 --num-speculations 4 -o json >bench.json\n"
    "  layerskip report --sweep sweep.csv --eval eval.json --bench bench.json -o report.html\n",
    "",
    groups,
    sizeof(struct report_args),
    report,
    NULL};
