/* SPDX-License-Identifier: Apache-2.0 */
#include "testset.h"

#include <stdlib.h>
#include <string.h>

#include "messages.h"

enum { BAD_SHOWN = 20, SHOTS_MAX = 64 };

static const char *const code_stops[] = {"\nclass ", "\ndef ", "\n#", "\n@", "\nif ", "\nprint(", NULL};
static const struct task tasks[] = {
    {"custom_jsonl", "prompt", "response", "", "", "", "\n\n", "", 0, 0, 0, NULL},
    {"cnn_dm_summarization", "article", "highlights", "Article: ", "\nSummary:", " ", "\n", "\n", 0, 1, 0, NULL},
    {"xsum_summarization", "document", "summary", "Article: ", "\nSummary:", " ", "\n", "\n", 0, 1, 0, NULL},
    {"cnn_dm_lm", "article", "article", "", "", " ", "\n\n", "", 100, 0, 0, NULL},
    {"human_eval", "prompt", "canonical_solution", "", "", "", "\n\n", "", 0, 0, 1, code_stops},
    {"top_v2", "utterance", "semantic_parse", "", "", "", "\n\n", "", 0, 0, 0, NULL},
};

const struct option testset_options[] = {
    {"dataset", OPT_CHOICE, offsetof(struct testset_args, task), NULL, "custom_jsonl", .choices = "custom_jsonl cnn_dm_summarization xsum_summarization cnn_dm_lm human_eval top_v2",
     .help = "what the file is: rows of prompt and response, or one of the published sets in its own layout; custom_jsonl's may also be lists of token ids"},
    {"data-path", OPT_TEXT, offsetof(struct testset_args, path), "FILE", .help = "its file: JSONL, or CSV or TSV with a first line of names"},
    {"num-samples", OPT_INT, offsetof(struct testset_args, num_samples), "N", "0", 0, 1 << 30, .help = "rows to take; 0 is all"},
    {"random-shuffle", OPT_SAID, offsetof(struct testset_args, random_shuffle), "[True|False]", .help = "take rows in an order that the seed of the data gives; False: as they stand (default True)"},
    {"data-seed", OPT_SEED, offsetof(struct testset_args, data_seed), "N", "42", .help = "the order of the rows, and which are shots"},
    {"n-shot", OPT_INT, offsetof(struct testset_args, n_shot), "N", "0", 0, SHOTS_MAX, .help = "rows with their responses to put before every prompt; none of them is a sample"},
    {"shots-path", OPT_TEXT, offsetof(struct testset_args, shots_path), "FILE", .help = "take them from this file of the same layout, as a set's training part; without it from the rows"},
    {"template", OPT_TEXT, offsetof(struct testset_args, template), "TEXT", .help = "what is around every prompt, with {message} where it stands; \\n and the like are replaced"},
    {"prompt-column", OPT_TEXT, offsetof(struct testset_args, prompt_column), "NAME", .help = "the column that the prompt is in, where it has another name than the set's"},
    {"response-column", OPT_TEXT, offsetof(struct testset_args, response_column), "NAME", .help = "and that of the response"},
    {0}};

static int no_memory(lsk_error *err)
{
    return complain(err, LSK_EOS, "out of memory");
}

/* ---- rows ---- */

struct fields {
    const json_t *prompt, *response, *test, *entry_point; /* borrowed from the row */
};

static int is_ids(const json_t *j)
{
    size_t i;
    json_t *item;
    json_array_foreach(j, i, item)
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > INT32_MAX)
            return 0;
    return json_array_size(j) > 0;
}

/* Bytes of the first n words, or 0 where there are no more words than those. */
static size_t first_words(const char *text, int n)
{
    static const char blank[] = " \t\r\n";
    const char *p = text + strspn(text, blank), *end = p;
    for (; n > 0 && *p; n--) {
        end = p + strcspn(p, blank);
        p = end + strspn(end, blank);
    }
    return !n && *p ? (size_t)(end - text) : 0;
}

/* Returns 1 when the row can be used, 0 with row->bad set when it cannot. *missing: the column that it does not have. */
static int take_fields(const struct testset *d, struct table_row *row, struct fields *out, const char **missing)
{
    const struct task *t = d->task;
    const struct testset_args *a = d->args;
    const char *response = a->response_column ? a->response_column : t->words && a->prompt_column ? a->prompt_column : t->response;
    const struct {
        const char *name;
        const json_t **at;
    } column[] = {{a->prompt_column ? a->prompt_column : t->prompt, &out->prompt}, {response, &out->response}, {"test", &out->test}, {"entry_point", &out->entry_point}};
    const int ids = !strcmp(t->name, "custom_jsonl");
    *out = (struct fields){0};
    *missing = NULL;
    for (int i = 0; i < (d->code ? 4 : 2) && !*row->bad; i++) {
        const json_t *value = *column[i].at = json_object_get(row->object, column[i].name);
        struct excerpt name = excerpt_of(column[i].name);
        if (!value && !*missing)
            *missing = column[i].name;
        if (!value)
            snprintf(row->bad, sizeof row->bad, "no column \"%s\"", name.text);
        else if (!json_is_string(value) && !(ids && i < 2 && is_ids(value)))
            snprintf(row->bad, sizeof row->bad, "column \"%s\": %s", name.text, ids ? "neither a text nor a list of token ids" : "not a text");
        else if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
            snprintf(row->bad, sizeof row->bad, "column \"%s\": a zero byte", name.text);
        else if (ids && json_is_array(value) && !i && (a->n_shot || a->template))
            snprintf(row->bad, sizeof row->bad, "column \"%s\": token ids: --n-shot and --template need texts", name.text);
        else if (!i && json_is_string(value) && !*json_string_value(value))
            snprintf(row->bad, sizeof row->bad, "column \"%s\": empty", name.text);
        else if (!i && t->words && !first_words(json_string_value(value), t->words))
            snprintf(row->bad, sizeof row->bad, "column \"%s\": no more than %d words", name.text, t->words);
    }
    return !*row->bad;
}

static int note_bad(struct testset *d, const struct table *t, const struct table_row *row, lsk_error *err)
{
    char line[320];
    if ((d->n_bad & (d->n_bad - 1)) == 0) { /* a power of two: full */
        int64_t *bigger = realloc(d->bad, (size_t)(d->n_bad ? 2 * d->n_bad : 1) * sizeof *bigger);
        if (!bigger)
            return no_memory(err);
        d->bad = bigger;
    }
    d->bad[d->n_bad++] = row->line;
    snprintf(line, sizeof line, "%s: line %lld: %s: row passed over", excerpt_of(t->name).text, (long long)row->line, row->bad);
    if (d->n_bad <= BAD_SHOWN)
        print_warning(line);
    return 0;
}

static int add_place(struct rows *rows, const struct table_row *row, lsk_error *err)
{
    if ((rows->n & (rows->n - 1)) == 0) {
        struct place *bigger = rows->n < 1 << 30 ? realloc(rows->place, (size_t)(rows->n ? 2 * rows->n : 1) * sizeof *bigger) : NULL;
        if (!bigger)
            return no_memory(err);
        rows->place = bigger;
    }
    rows->place[rows->n++] = (struct place){row->offset, row->line};
    return 0;
}

/* splitmix64: every seed's order is the same on every machine. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int shuffle(struct rows *rows, uint64_t seed, lsk_error *err)
{
    rows->order = malloc(((size_t)rows->n + 1) * sizeof *rows->order);
    if (!rows->order)
        return no_memory(err);
    for (int i = 0; i < rows->n; i++) {
        const int k = (int)(next_random(&seed) % (uint64_t)(i + 1));
        rows->order[i] = rows->order[k];
        rows->order[k] = i;
    }
    return 0;
}

static int find_rows(struct testset *d, struct rows *rows, const char *path, lsk_error *err)
{
    struct table_row row;
    struct fields f;
    const char *missing;
    int r = table_open(&rows->table, path, err), seen = 0;
    while (r >= 0 && (r = table_next(&rows->table, &row, err)) > 0 && !terminal_interrupted()) {
        if (row.object && !take_fields(d, &row, &f, &missing) && missing && !seen)
            r = complain(err, LSK_EDATA, "%s: line %lld: no column \"%s\": there are %s; --prompt-column and --response-column name others", excerpt_of(path).text, (long long)row.line,
                         excerpt_of(missing).text, table_columns(row.object).text);
        else
            r = *row.bad ? note_bad(d, &rows->table, &row, err) : add_place(rows, &row, err);
        seen |= row.object != NULL;
        json_decref(row.object);
    }
    if (r >= 0 && !rows->n && !terminal_interrupted())
        r = complain(err, LSK_EDATA, "%s: no row that can be used", excerpt_of(path).text);
    rows->hash = rows->table.hash;
    return r < 0 ? r : shuffle(rows, d->args->data_seed, err);
}

/* ---- prompts ---- */

static void print_response(FILE *out, const struct task *t, const char *text, int shot)
{
    fputs(t->into, out);
    for (text += t->words ? first_words(text, t->words) : 0; *text; text++)
        if (shot && t->one_line && (*text == '\n' || *text == '\r'))
            fputc(' ', out);
        else
            fputc(*text, out);
}

static void print_prompt(FILE *out, const struct task *t, const char *text)
{
    const size_t n = t->words ? first_words(text, t->words) : strlen(text);
    fprintf(out, "%s%.*s%s", t->before, (int)n, text, t->between);
}

static int end_text(FILE *out, char **text, lsk_error *err)
{
    if (out && !fclose(out))
        return 0;
    free(out ? *text : NULL);
    *text = NULL;
    return no_memory(err);
}

static int make_shots(struct testset *d, struct rows *from, lsk_error *err)
{
    size_t n = 0;
    int r = 0;
    FILE *out = open_memstream(&d->shots, &n);
    for (int i = 0; out && r >= 0 && i < d->args->n_shot; i++) {
        struct table_row row;
        struct fields f;
        const char *missing;
        r = table_read(&from->table, from->place[from->order[i]].offset, &row, err);
        if (r >= 0 && take_fields(d, &row, &f, &missing)) {
            const char *response = json_string_value(f.response);
            if (!response)
                r = complain(err, LSK_EDATA, "%s: line %lld: a shot's response must be a text", excerpt_of(from->table.name).text, (long long)from->place[from->order[i]].line);
            print_prompt(out, d->task, json_string_value(f.prompt));
            print_response(out, d->task, response ? response : "", 1);
            fputs(d->task->behind, out);
        }
        json_decref(r >= 0 ? row.object : NULL);
    }
    if (out && d->args->n_shot)
        fputs(d->task->last, out);
    int ended = end_text(out, &d->shots, err);
    return r < 0 ? r : ended;
}

/* What is a shot is no sample. */
static int order_rows(struct testset *d, int n_shots, lsk_error *err)
{
    const struct rows *rows = &d->rows;
    char *shot = calloc((size_t)rows->n + 1, 1);
    d->order = malloc(((size_t)rows->n + 1) * sizeof *d->order);
    for (int i = 0; shot && i < n_shots; i++)
        shot[rows->order[i]] = 1;
    for (int i = 0; shot && d->order && i < rows->n; i++) {
        const int at = d->args->random_shuffle < 0 ? i : rows->order[i];
        if (!shot[at])
            d->order[d->n_rows++] = at;
    }
    free(shot);
    return shot && d->order ? 0 : no_memory(err);
}

static int split_template(struct testset *d, lsk_error *err)
{
    static const char mark[] = "{message}";
    const char *text = d->args->template ? d->args->template : mark, *at = strstr(text, mark);
    if (!at)
        return complain(err, LSK_EUSAGE, "--template: \"%s\": has no {message}, where the prompt would stand", excerpt_of(text).text);
    d->template_head = strndup(text, (size_t)(at - text));
    d->template_tail = strdup(at + strlen(mark));
    if (!d->template_head || !d->template_tail)
        return no_memory(err);
    replace_escapes(d->template_head);
    replace_escapes(d->template_tail);
    return 0;
}

int testset_open(struct testset *d, const struct testset_args *a, int code, lsk_error *err)
{
    *d = (struct testset){.args = a, .task = tasks};
    while (strcmp(d->task->name, a->task))
        d->task++;
    d->code = code;
    if (!a->path)
        return complain(err, LSK_EUSAGE, "no data set given: --data-path FILE");
    if (code && !d->task->code)
        return complain(err, LSK_EUSAGE, "--run-code: replies of %s are no programs with tests: --dataset human_eval has them", d->task->name);
    if (a->shots_path && !a->n_shot)
        return complain(err, LSK_EUSAGE, "--shots-path without --n-shot: say how many shots to take");
    int r = split_template(d, err);
    if (r >= 0)
        r = find_rows(d, &d->rows, a->path, err);
    if (r >= 0 && a->shots_path)
        r = find_rows(d, &d->shot_rows, a->shots_path, err);
    struct rows *from = a->shots_path ? &d->shot_rows : &d->rows;
    if (r >= 0 && a->n_shot + !a->shots_path > from->n)
        r = complain(err, LSK_EUSAGE, "--n-shot: %d: %s has %d rows%s", a->n_shot, excerpt_of(from->table.name).text, from->n, a->shots_path ? "" : ", and one must be left to be a sample");
    if (r >= 0)
        r = make_shots(d, from, err);
    return r < 0 ? r : order_rows(d, a->shots_path ? 0 : a->n_shot, err);
}

/* ---- samples ---- */

static int copy_ids(const json_t *ids, int32_t **out, int *n, lsk_error *err)
{
    *n = (int)json_array_size(ids);
    *out = malloc(((size_t)*n + 1) * sizeof **out);
    for (int i = 0; *out && i < *n; i++)
        (*out)[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    return *out ? 0 : no_memory(err);
}

/* The text of a list of ids, without zero bytes; an id that the model does not have spoils the row. */
static char *text_of_ids(const lsk_model *m, const json_t *ids, struct table_row *row)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *item;
    FILE *out = open_memstream(&text, &n);
    json_array_foreach(ids, i, item) {
        size_t length = 0;
        const char *piece = lsk_piece(m, (int32_t)json_integer_value(item), &length);
        if (!piece)
            snprintf(row->bad, sizeof row->bad, "token %lld: the model has no such token", (long long)json_integer_value(item));
        for (size_t k = 0; out && piece && k < length; k++)
            fputc(piece[k] ? piece[k] : ' ', out);
    }
    return out && !fclose(out) ? text : NULL;
}

static int make_texts(const struct testset *d, const lsk_model *m, const struct fields *f, struct table_row *row, struct sample *out, lsk_error *err)
{
    const char *prompt = json_string_value(f->prompt), *response = json_string_value(f->response);
    size_t n = 0;
    if (prompt) {
        FILE *text = open_memstream(&out->prompt, &n);
        if (text) {
            fprintf(text, "%s%s", d->template_head, d->shots);
            print_prompt(text, d->task, prompt);
            fputs(d->template_tail, text);
        }
        if (end_text(text, &out->prompt, err))
            return err->code;
    } else if (!(out->prompt = text_of_ids(m, f->prompt, row)) || copy_ids(f->prompt, &out->token, &out->n, err)) {
        return no_memory(err);
    }
    if (response) {
        FILE *text = open_memstream(&out->reference, &n);
        if (text)
            print_response(text, d->task, response, 0);
        return end_text(text, &out->reference, err);
    }
    out->reference = text_of_ids(m, f->response, row);
    return out->reference ? 0 : no_memory(err);
}

/* Candidate `at`: 1, or 0 when it spoils (row says why). */
static int make_sample(struct testset *d, const lsk_model *m, const struct prompt_args *how, int at, struct table_row *row, struct sample *out, lsk_error *err)
{
    const struct place *place = &d->rows.place[d->order[at]];
    const int most = lsk_model_about(m)->context_max;
    struct fields f;
    const char *missing;
    *out = (struct sample){.line = place->line};
    int r = table_read(&d->rows.table, place->offset, row, err);
    if (r < 0)
        return r;
    row->line = place->line;
    if (!take_fields(d, row, &f, &missing))
        r = complain(err, LSK_EDATA, "%s: line %lld: the file was changed meanwhile", excerpt_of(d->args->path).text, (long long)place->line);
    if (r >= 0)
        r = make_texts(d, m, &f, row, out, err);
    if (r >= 0 && d->code) {
        out->bare = strdup(json_string_value(f.prompt));
        out->test = strdup(json_string_value(f.test));
        out->entry_point = strdup(json_string_value(f.entry_point));
        r = out->bare && out->test && out->entry_point ? 0 : no_memory(err);
    }
    if (r >= 0 && !out->token)
        r = out->n = encode_prompt(m, how, out->prompt, strlen(out->prompt), &out->token, err);
    if (r >= 0 && !*row->bad && !out->n)
        snprintf(row->bad, sizeof row->bad, "the prompt has no token");
    if (r >= 0 && !*row->bad && out->n >= most)
        snprintf(row->bad, sizeof row->bad, "the prompt has %d tokens, the model's context is %d", out->n, most);
    json_decref(row->object);
    if (r < 0 || *row->bad)
        sample_free(out);
    return r < 0 ? r : !*row->bad;
}

int testset_prepare(struct testset *d, const lsk_model *m, const struct prompt_args *how, lsk_error *err)
{
    const int want = d->args->num_samples ? d->args->num_samples : d->n_rows;
    int r = 0;
    d->sample = malloc(((size_t)d->n_rows + 1) * sizeof *d->sample);
    if (!d->sample)
        return no_memory(err);
    for (int i = 0; r >= 0 && i < d->n_rows && d->n < want && !terminal_interrupted(); i++) {
        struct table_row row;
        struct sample s;
        r = make_sample(d, m, how, i, &row, &s, err);
        if (r > 0) {
            d->sample[d->n++] = i;
            d->longest = s.n > d->longest ? s.n : d->longest;
            sample_free(&s);
        } else if (!r) {
            r = note_bad(d, &d->rows.table, &row, err);
        }
    }
    if (r >= 0 && d->n_bad > BAD_SHOWN)
        fprintf(stderr, "layerskip: warning: %s: %d bad rows more\n", excerpt_of(d->args->path).text, d->n_bad - BAD_SHOWN);
    if (r >= 0 && !d->n && !terminal_interrupted())
        return complain(err, LSK_EDATA, "%s: no row has a prompt that this model can read", excerpt_of(d->args->path).text);
    return r < 0 ? r : 0;
}

int testset_sample(struct testset *d, const lsk_model *m, const struct prompt_args *how, int i, struct sample *out, lsk_error *err)
{
    struct table_row row;
    int r = make_sample(d, m, how, d->sample[i], &row, out, err);
    return r > 0 ? 0 : r < 0 ? r : complain(err, LSK_EDATA, "%s: the file was changed meanwhile", excerpt_of(d->args->path).text);
}

void sample_free(struct sample *s)
{
    free(s->prompt);
    free(s->reference);
    free(s->token);
    free(s->bare);
    free(s->test);
    free(s->entry_point);
    *s = (struct sample){0};
}

static void close_rows(struct rows *rows)
{
    table_close(&rows->table);
    free(rows->place);
    free(rows->order);
}

void testset_close(struct testset *d)
{
    close_rows(&d->rows);
    close_rows(&d->shot_rows);
    free(d->shots);
    free(d->template_head);
    free(d->template_tail);
    free(d->order);
    free(d->sample);
    free(d->bad);
}
