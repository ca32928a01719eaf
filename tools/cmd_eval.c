/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "command.h"
#include "common.h"
#include "eval_results.h"
#include "eval_state.h"
#include "exit_map.h"
#include "json_table.h"
#include "messages.h"
#include "whole_file.h"

enum { TASKS_MAX = TEXTS_MAX };

struct what_args {
    struct texts files, tasks, maps, pictures;
    struct numbers exits;
    struct task_columns columns;
    const char *map_text, *output, *report, *gnuplot, *colour;
    int length, special, bos, bad_rows, limit, show_map, map_tokens;
    double tokens;
};
struct eval_args {
    struct model_args model;
    struct what_args what;
    struct show_args show;
};

static const struct option text_options[] = {
    {"file f", OPT_TEXTS, offsetof(struct what_args, files), "FILE",
     .help = "a text whose next tokens every exit foretells; may be repeated. NAME.jsonl has rows of {\"text\"}, or {\"tokens\", \"prompt_tokens\"}: prompts are read and not counted"},
    {"exits", OPT_NUMBERS, offsetof(struct what_args, exits), "LIST", NULL, 1, 1023, .help = "exit layers to measure beside the last layer; without it all. One reading serves all, and each costs one head"},
    {"length ctx-size c", OPT_INT, offsetof(struct what_args, length), "N", "1024", 2, 1 << 20, .help = "texts are cut into windows of so many tokens, each read alone"},
    {"tokens n", OPT_REAL, offsetof(struct what_args, tokens), "N", "0", 0, 1e12, .help = "stop when so many tokens are counted; 0 is all"},
    {"special", OPT_FLAG, offsetof(struct what_args, special), .help = "<|im_start|> and the like in texts are tokens"},
    {"bos", OPT_FLAG, offsetof(struct what_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"bad-rows", OPT_INT, offsetof(struct what_args, bad_rows), "N", "0", 0, 1 << 30, .help = "most rows of a file that are passed over (and shown) because they cannot be used"},
    {0}};

static const struct option task_options[] = {
    {"task", OPT_TEXTS, offsetof(struct what_args, tasks), "FILE.jsonl",
     .help = "a task as lm-evaluation-harness scores it, at every exit: rows with choices (acc, acc_norm) or a continuation (log-likelihood, and acc: is it what greedy decoding says); may be repeated"},
    {"limit", OPT_INT, offsetof(struct what_args, limit), "N", "0", 0, 1 << 30, .help = "only the first N usable rows of each task; 0 is all"},
    {"query", OPT_TEXT, offsetof(struct what_args, columns.query), "NAME", .help = "column of the question; without it query, question, context, ctx, prompt or text"},
    {"choices", OPT_TEXT, offsetof(struct what_args, columns.choices), "NAME", .help = "column of the choices; without it choices, endings or options"},
    {"gold", OPT_TEXT, offsetof(struct what_args, columns.gold), "NAME", .help = "column of the right choice: its number from 0, its label, a letter or its text; without it gold, answer, label or answerKey"},
    {"continuation", OPT_TEXT, offsetof(struct what_args, columns.continuation), "NAME", .help = "column of the continuation; without it continuation, completion or target"},
    {"template", OPT_TEXT, offsetof(struct what_args, columns.template), "TEXT", "{query}", .help = "what stands before the choices, as 'Question: {query}\\nAnswer:'; \\n is a line break"},
    {"delimiter", OPT_TEXT, offsetof(struct what_args, columns.delimiter), "TEXT", " ", .help = "what stands between it and a choice; a continuation has its own"},
    {0}};

static const struct option map_options[] = {
    {"show-map", OPT_FLAG, offsetof(struct what_args, show_map), .help = "print the early exit map: for each position of a text the token that every layer would pick, coloured by agreement with the last one"},
    {"map", OPT_TEXTS, offsetof(struct what_args, maps), "FILE", .help = "write it as NAME.html, NAME.png or NAME.svg; may be repeated"},
    {"map-text", OPT_TEXT, offsetof(struct what_args, map_text), "TEXT", .help = "its text; without it the beginning of the first --file"},
    {"map-tokens", OPT_INT, offsetof(struct what_args, map_tokens), "N", "24", 1, 512, .help = "its length, at most"},
    {"color", OPT_CHOICE, offsetof(struct what_args, colour), NULL, "auto", .choices = "auto on off", .help = "256 colours in the terminal; auto follows NO_COLOR"},
    {0}};

static const struct option form_options[] = {
    {"output o", OPT_CHOICE, offsetof(struct what_args, output), NULL, "md", .choices = "md json", .help = "form of the result on stdout"},
    {"report", OPT_TEXT, offsetof(struct what_args, report), "FILE.json", .help = "write the JSON there too, for `layerskip report`; until all is measured FILE.json.part holds what is, and the same command goes on from there"},
    {"picture", OPT_TEXTS, offsetof(struct what_args, pictures), "FILE", .help = "draw agreement and perplexity by exit layer: NAME.png or NAME.svg; may be repeated"},
    {"gnuplot", OPT_TEXT, offsetof(struct what_args, gnuplot), "PROGRAM", "gnuplot", .help = "the program that draws"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct eval_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct eval_args, model.hub)},
                                             {"texts", text_options, offsetof(struct eval_args, what)},
                                             {"tasks", task_options, offsetof(struct eval_args, what)},
                                             {"early exit map", map_options, offsetof(struct eval_args, what)},
                                             {"results", form_options, offsetof(struct eval_args, what)},
                                             {"messages", show_options, offsetof(struct eval_args, show)},
                                             {0}};

struct eval {
    const struct eval_args *args;
    struct machine machine;
    lsk_model *model;
    const lsk_model_info *info;
    lsk_session *session;
    struct documents texts, map_text;
    struct task_columns columns;
    char *template; /* with escapes replaced */
    struct task task[TASKS_MAX];
    int n_tasks;
    struct exit_scores scores;
    struct eval_state state;
    struct exit_map map;
    json_t *results;
};

static int wants_map(const struct what_args *a)
{
    return a->show_map || a->maps.n;
}

static int is_html(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".html");
}

/* ---- before memory is taken ---- */

static int check_args(const struct what_args *a, lsk_error *err)
{
    int r = 0;
    if (!a->files.n && !a->tasks.n && !(wants_map(a) && a->map_text))
        return complain(err, LSK_EUSAGE, "nothing to evaluate: give --file TEXT, --task FILE.jsonl, or --show-map with --map-text");
    if (wants_map(a) && !a->map_text && !a->files.n)
        return complain(err, LSK_EUSAGE, "--map: no text for the map: give --map-text or --file");
    for (int i = 0; r >= 0 && i < a->maps.n; i++)
        if (!is_html(a->maps.item[i]) && picture_check("--map", a->maps.item[i], err) < 0)
            r = complain(err, LSK_EUSAGE, "--map: \"%s\": a map is NAME.html, NAME.png or NAME.svg", excerpt_of(a->maps.item[i]).text);
    for (int i = 0; r >= 0 && i < a->pictures.n; i++)
        r = picture_check("--picture", a->pictures.item[i], err);
    if (r >= 0 && a->pictures.n && !a->files.n)
        r = complain(err, LSK_EUSAGE, "--picture: draws what a text shows: give --file");
    return r;
}

static int read_tasks(struct eval *e, lsk_error *err)
{
    const struct what_args *a = &e->args->what;
    int r = 0;
    e->columns = a->columns;
    e->columns.template = e->template = strdup(a->columns.template);
    if (!e->template)
        return complain(err, LSK_EOS, "out of memory");
    replace_escapes(e->template);
    for (int i = 0; r >= 0 && i < a->tasks.n; i++) {
        e->task[e->n_tasks] = (struct task){.path = a->tasks.item[i], .columns = &e->columns, .model = e->model, .bos = a->bos, .rows = {.allowed = a->bad_rows, .limit = a->limit}};
        r = task_read(&e->task[e->n_tasks++], err);
        if (r >= 0)
            r = check_context(e->info, "--task", e->task[i].longest, 0, err);
    }
    return r;
}

static int read_texts(struct eval *e, lsk_error *err)
{
    const struct what_args *a = &e->args->what;
    int r = 0;
    e->texts = (struct documents){.model = e->model, .name = "text", .special = a->special, .bos = a->bos, .rows.allowed = a->bad_rows};
    e->map_text = (struct documents){.model = e->model, .name = "text", .special = a->special, .bos = a->bos};
    for (int i = 0; r >= 0 && i < a->files.n; i++)
        r = documents_read(&e->texts, a->files.item[i], err);
    if (r >= 0 && wants_map(a) && a->map_text)
        r = documents_add(&e->map_text, "--map-text", a->map_text, strlen(a->map_text), err);
    return r;
}

static int prepare(struct eval *e, lsk_error *err)
{
    const struct what_args *a = &e->args->what;
    int r = check_args(a, err), context = 2;
    if (r >= 0)
        r = (e->model = open_model(&e->args->model, &e->args->show, err)) ? 0 : err->code;
    if (r < 0)
        return r;
    e->info = lsk_model_about(e->model);
    e->scores = (struct exit_scores){.length = a->length, .limit = a->tokens};
    r = exit_scores_plan(&e->scores, e->info, &a->exits, 1, err);
    r = r < 0 ? r : read_texts(e, err);
    r = r < 0 ? r : read_tasks(e, err);
    const int longest = a->length < e->texts.longest ? a->length : e->texts.longest;
    context = longest > context ? longest : context;
    context = wants_map(a) && a->map_tokens > context ? a->map_tokens : context;
    for (int i = 0; i < e->n_tasks; i++)
        context = e->task[i].longest > context ? e->task[i].longest : context;
    context = context > e->info->context_max ? e->info->context_max : context;
    r = r < 0 ? r : load_model(e->model, &e->args->model, &e->args->show, &(lsk_model_options){.context = context, .draft_head = -1}, err);
    return r < 0 ? r : (e->session = lsk_session_open(e->model, err)) ? 0 : err->code;
}

/* ---- measuring ---- */

static int no_json(lsk_error *err)
{
    return complain(err, LSK_EOS, "the results cannot be written as JSON: out of memory, or a number that is none");
}

/* What an earlier start of the same command left is the beginning of this one. */
static int go_on(struct eval *e, lsk_error *err)
{
    e->state = (struct eval_state){.scores = &e->scores, .task = e->task, .n_tasks = e->n_tasks};
    e->scores.keeper = (struct keeper){eval_state_keep, &e->state};
    for (int i = 0; i < e->n_tasks; i++)
        e->task[i].keeper = e->scores.keeper;
    const int64_t found = eval_state_open(&e->state, e->args->what.report, e->info, &e->texts, err);
    if (found > 0)
        fprintf(stderr, "%s: goes on behind %lld tokens and rows\n", excerpt_of(e->state.path).text, (long long)found);
    return found < 0 ? (int)found : 0;
}

/* A result under its name. */
static int keep(struct eval *e, const char *name, json_t *result, lsk_error *err)
{
    return json_object_set_new(e->results, name, result) ? no_json(err) : 0;
}

static int measure(struct eval *e, lsk_error *err)
{
    const struct what_args *a = &e->args->what;
    const struct document *text = e->map_text.n ? e->map_text.item : e->texts.item;
    int r = 0;
    e->results = results_begin(e->info, &e->machine);
    r = go_on(e, err);
    if (r >= 0 && wants_map(a))
        r = text->n ? exit_map_fill(&e->map, e->model, e->session, text->token, text->n < a->map_tokens ? text->n : a->map_tokens, err) : complain(err, LSK_EDATA, "the map's text is empty: give --map-text");
    if (r >= 0 && e->texts.n && !terminal_interrupted())
        r = exit_scores_read(&e->scores, e->session, &e->texts, e->args->show.progress, err);
    if (r >= 0 && e->scores.counted)
        r = keep(e, "text", results_of_text(&e->scores, &e->texts, a->files.item[0]), err);
    if (r >= 0)
        r = keep(e, "tasks", json_array(), err);
    for (int i = 0; r >= 0 && i < e->n_tasks && !terminal_interrupted(); i++) {
        r = task_measure(&e->task[i], e->session, e->scores.depth, e->scores.n, e->args->show.progress, err);
        if (r >= 0 && e->task[i].done)
            r = json_array_append_new(json_object_get(e->results, "tasks"), results_of_task(&e->task[i], e->scores.depth, e->scores.n)) ? no_json(err) : 0;
    }
    if (r >= 0 && terminal_interrupted())
        r = keep(e, "interrupted", json_true(), err);
    else if (r >= 0 && wants_map(a))
        r = keep(e, "map", exit_map_json(&e->map), err);
    return r;
}

/* ---- what comes out ---- */

static int columns_of_terminal(void)
{
    struct winsize size;
    return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col ? size.ws_col : 120;
}

/* What was counted, and what could not be. */
static void print_counts(const json_t *j, const char *counted)
{
    const double bad = json_number(j, "bad_rows");
    printf("\n%s: %.0f %s", excerpt_of(json_text(j, "file")).text, json_number(j, counted), counted);
    printf(bad > 0 ? ", %.0f bad rows passed over\n" : "\n", bad);
}

static void print_tables(const json_t *results)
{
    const json_t *text = json_object_get(results, "text"), *task;
    size_t i;
    if (text) {
        json_table_markdown(stdout, json_object_get(text, "exits"));
        print_counts(text, "tokens");
    }
    json_array_foreach(json_object_get(results, "tasks"), i, task) {
        fputs(i || text ? "\n" : "", stdout);
        json_table_markdown(stdout, json_object_get(task, "exits"));
        print_counts(task, "rows");
    }
}

static int write_report(const json_t *results, const char *path, lsk_error *err)
{
    struct whole_file w;
    int r = whole_open(&w, path, err);
    if (r < 0)
        return r;
    if (json_dumpf(results, w.f, JSON_REAL_PRECISION(7) | JSON_INDENT(1)) || fputc('\n', w.f) < 0)
        r = complain(err, LSK_EIO, "%s: cannot write", excerpt_of(path).text);
    return whole_close(&w, r, err);
}

static int draw(const struct eval *e, lsk_error *err)
{
    const struct what_args *a = &e->args->what;
    const struct picture p = results_picture(json_object_get(e->results, "text"), a->gnuplot);
    int r = 0;
    for (int i = 0; r >= 0 && i < a->maps.n; i++)
        r = is_html(a->maps.item[i]) ? exit_map_page(&e->map, a->maps.item[i], *e->info->name ? e->info->name : e->info->path, err) : exit_map_picture(&e->map, a->maps.item[i], a->gnuplot, err);
    for (int i = 0; r >= 0 && i < a->pictures.n; i++)
        r = picture_draw(&p, a->pictures.item[i], err);
    return r;
}

static int show(const struct eval *e, lsk_error *err)
{
    const struct what_args *a = &e->args->what;
    int r = 0;
    if (!strcmp(a->output, "json")) {
        json_dumpf(e->results, stdout, JSON_REAL_PRECISION(7) | JSON_INDENT(1));
        putchar('\n');
    } else {
        if (a->show_map && e->map.n && !terminal_interrupted()) {
            exit_map_text(stdout, &e->map, terminal_colour(a->colour), columns_of_terminal());
            putchar('\n');
        }
        print_tables(e->results);
    }
    r = terminal_flush(err);
    if (terminal_interrupted()) {
        fprintf(stderr, "interrupted: this is what was measured until then; %s\n", a->report ? "the same command goes on" : "with --report it is kept, and the same command goes on");
        return r;
    }
    if (r >= 0 && a->report)
        r = write_report(e->results, a->report, err);
    if (r >= 0)
        eval_state_remove(&e->state);
    return r < 0 ? r : draw(e, err);
}

static int eval(const void *args, lsk_error *err)
{
    struct eval *e = calloc(1, sizeof *e);
    if (!e)
        return complain(err, LSK_EOS, "out of memory");
    e->args = args;
    e->machine = machine_now();
    int r = prepare(e, err);
    r = r < 0 ? r : measure(e, err);
    r = r < 0 ? r : show(e, err);
    lsk_session_close(e->session);
    for (int i = 0; i < e->n_tasks; i++)
        task_free(&e->task[i]);
    documents_free(&e->texts);
    documents_free(&e->map_text);
    exit_scores_free(&e->scores);
    exit_map_free(&e->map);
    json_decref(e->results);
    lsk_model_close(e->model);
    free(e->template);
    free(e);
    return r < 0 ? r : 0;
}

static void explain(FILE *out)
{
    fprintf(out, "\nWhat the columns say\n"
                 "  perplexity: of the text, to the first so many layers and the model's own head, with one standard error (tokens taken as independent). agreement: how often the likeliest\n"
                 "  token is the whole model's, which is how often a draft from there is accepted; in top k: how often the whole model's is among the k likeliest, which is what a tree of\n"
                 "  drafts could have accepted. accuracy: how often the likeliest token is the text's. The whole model is the last row.\n"
                 "  acc: share of rows whose right choice is the likeliest (or whose continuation greedy decoding says); acc norm: likelihoods over the choice's length in characters.\n");
}

const struct command command_eval = {
    "eval",
    "what every exit layer is worth: perplexity, agreement, tasks, the early exit map",
    "[MODEL] [-f TEXT] [--task FILE.jsonl] [--show-map] [OPTIONS]",
    "Reads texts and tasks once, with the last norm and the head at every exit layer, and says how each would have done alone and beside the whole model.",
    "  layerskip eval model.gguf -f story.txt --report eval.json --picture eval.png\n"
    "  layerskip eval model.gguf --task arc.jsonl --template 'Question: {query}\\nAnswer:' --exits 7,10,15\n"
    "  layerskip eval model.gguf --show-map --map map.html --map-text \"Once upon a time there was a little girl who lived\"\n",
    "model",
    groups,
    sizeof(struct eval_args),
    eval,
    explain};
