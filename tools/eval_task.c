/* SPDX-License-Identifier: Apache-2.0 */
#include "eval_task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "exit_scores.h"
#include "messages.h"

/* ---- reading ---- */

/* The column as the user named it, or the first known one that is there. */
static json_t *find(const json_t *row, const char *named, const char *known, const char *place, lsk_error *err)
{
    char name[32];
    for (const char *k = named ? "" : known; *k; k += strcspn(k, " "), k += *k == ' ') {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(k, " "), k);
        if (json_object_get(row, name))
            return json_object_get(row, name);
    }
    if (named)
        return row_column(row, named, place, err);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(known, " "), known);
    return row_column(row, name, place, err);
}

static int is_continuation(const struct task_columns *c, const json_t *row)
{
    return c->continuation || (!c->choices && !c->gold && (json_object_get(row, "continuation") || json_object_get(row, "completion") || json_object_get(row, "target")));
}

/* NULL where it is none, or would be cut at a zero byte. */
static const char *text_in(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

/* The text that stands before every choice. Caller frees. */
static char *make_context(const struct task_columns *c, const char *query, lsk_error *err)
{
    const char *at = strstr(c->template, "{query}");
    char *out = NULL;
    if (asprintf(&out, "%.*s%s%s", (int)(at - c->template), c->template, query, at + 7) < 0) {
        complain(err, LSK_EOS, "out of memory");
        return NULL;
    }
    return out;
}

static int count_characters(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

/* As lm-evaluation-harness: blanks at the context's end belong to the continuation, and what counts is what the whole text's tokens have more than the context's. */
static int add_request(struct task *t, struct task_item *item, const char *context, const char *delimiter, const char *text, const char *place, lsk_error *err)
{
    const struct prompt_args how = {.bos = t->bos, .file = place};
    struct task_request *q = &item->request[item->n];
    size_t n = strlen(context);
    char *whole = NULL;
    int32_t *before = NULL;
    while (n && strchr(" \n\t", context[n - 1]))
        n--;
    if (asprintf(&whole, "%s%s%s", context, delimiter, text) < 0)
        return complain(err, LSK_EOS, "out of memory");
    int r = q->n = encode_prompt(t->model, &how, whole, strlen(whole), &q->token, err);
    item->n += r >= 0;
    if (r >= 0)
        r = q->given = encode_prompt(t->model, &how, context, n, &before, err);
    if (r >= 0 && (q->given < 1 || q->given >= q->n))
        r = complain(err, LSK_EDATA, "%s: %s: nothing can be foretold", place, q->given < 1 ? "no token stands before the choice" : "a choice adds no token");
    q->characters = count_characters(text);
    t->longest = r >= 0 && q->n > t->longest ? q->n : t->longest;
    free(before);
    free(whole);
    return r < 0 ? r : 0;
}

/* [..] of texts, or {"text": [..], "label": [..]} as ARC has it: its list of texts. */
static const json_t *texts_of(const json_t *choices)
{
    return json_is_object(choices) ? json_object_get(choices, "text") : choices;
}

/* Which choice is right: its number, its label, a letter, or its text. -1: none. */
static int find_gold(const json_t *gold, const json_t *choices)
{
    const json_t *texts = texts_of(choices), *labels = json_is_object(choices) ? json_object_get(choices, "label") : NULL;
    const int n = (int)json_array_size(texts);
    const char *word = json_string_value(gold);
    int64_t number = -1;
    if (json_is_array(gold) && json_array_size(gold) == 1)
        return find_gold(json_array_get(gold, 0), choices);
    if (json_is_integer(gold))
        return json_integer_value(gold) >= 0 && json_integer_value(gold) < n ? (int)json_integer_value(gold) : -1;
    for (int i = 0; word && i < n; i++) {
        const char *label = json_string_value(json_array_get(labels, (size_t)i)), *text = json_string_value(json_array_get(texts, (size_t)i));
        if (label ? !strcmp(label, word) : text && !strcmp(text, word))
            return i;
    }
    if (word && !labels && *word >= 'A' && *word < 'A' + n && !word[1])
        return *word - 'A';
    return word && !labels && !read_whole(word, &number) && number >= 0 && number < n ? (int)number : -1;
}

static int add_choices(struct task *t, struct task_item *item, const json_t *row, const char *context, const char *place, lsk_error *err)
{
    const struct task_columns *c = t->columns;
    const json_t *choices = find(row, c->choices, "choices endings options", place, err), *gold = choices ? find(row, c->gold, "gold answer label answerKey", place, err) : NULL;
    const json_t *texts = texts_of(choices);
    const size_t n = json_array_size(texts);
    int r = gold ? 0 : err->code;
    if (r >= 0 && n < 2)
        r = complain(err, LSK_EDATA, "%s: the choices must be a list of two texts or more", place);
    if (r >= 0 && (item->gold = find_gold(gold, choices)) < 0)
        r = complain(err, LSK_EDATA, "%s: the right choice must be a number from 0 to %zu, a label, or one of the choices", place, n - 1);
    if (r >= 0 && !(item->request = calloc(n, sizeof *item->request)))
        r = complain(err, LSK_EOS, "out of memory");
    for (size_t i = 0; r >= 0 && i < n; i++) {
        const char *text = text_in(json_array_get(texts, i));
        r = text ? add_request(t, item, context, c->delimiter, text, place, err) : complain(err, LSK_EDATA, "%s: choice %zu must be a text without zero bytes", place, i);
    }
    return r;
}

static int add_continuation(struct task *t, struct task_item *item, const json_t *row, const char *context, const char *place, lsk_error *err)
{
    const json_t *text = find(row, t->columns->continuation, "continuation completion target", place, err);
    item->gold = -1;
    if (!text_in(text))
        return text ? complain(err, LSK_EDATA, "%s: the continuation must be a text without zero bytes", place) : err->code;
    item->request = calloc(1, sizeof *item->request);
    return item->request ? add_request(t, item, context, "", json_string_value(text), place, err) : complain(err, LSK_EOS, "out of memory");
}

static void free_item(struct task_item *item)
{
    for (int i = 0; i < item->n; i++)
        free(item->request[i].token);
    free(item->request);
}

static int add_row(void *ud, const json_t *row, const char *place, lsk_error *err)
{
    struct task *t = ud;
    const json_t *query = find(row, t->columns->query, "query question context ctx prompt text", place, err);
    struct task_item item = {0};
    if (!text_in(query))
        return query ? complain(err, LSK_EDATA, "%s: the query must be a text without zero bytes", place) : err->code;
    char *context = make_context(t->columns, json_string_value(query), err);
    int r = context ? (is_continuation(t->columns, row) ? add_continuation : add_choices)(t, &item, row, context, place, err) : err->code;
    struct task_item *bigger = r < 0 ? NULL : realloc(t->item, (size_t)(t->n + 1) * sizeof *bigger);
    free(context);
    if (r >= 0 && !bigger)
        r = complain(err, LSK_EOS, "out of memory");
    if (r < 0) {
        free_item(&item);
        return r;
    }
    t->item = bigger;
    t->item[t->n++] = item;
    return 0;
}

int task_read(struct task *t, lsk_error *err)
{
    int r = strstr(t->columns->template, "{query}") ? rows_read(&t->rows, t->path, add_row, t, err) : complain(err, LSK_EUSAGE, "--template: \"%s\": must hold {query}", excerpt_of(t->columns->template).text);
    if (r >= 0 && !t->n)
        r = complain(err, LSK_EDATA, "%s: no row that can be used", excerpt_of(t->path).text);
    return r;
}

void task_free(struct task *t)
{
    for (int i = 0; i < t->n; i++)
        free_item(&t->item[i]);
    free(t->item);
}

/* ---- scoring ---- */

struct scoring {
    const struct task_request *q;
    const int *depth;
    double *nats; /* [n_depths] */
    int *greedy;  /* [n_depths] each of its tokens is the likeliest */
};

static int take_logits(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    const struct scoring *s = ud;
    int k = 0;
    int32_t top;
    while (s->depth[k] != depth)
        k++;
    likeliest(logits, n_vocab, &top, 1);
    s->nats[k] += surprise(logits, n_vocab, logits[top], s->q->token[i + 1]);
    s->greedy[k] &= top == s->q->token[i + 1];
    return terminal_interrupted();
}

/* The choice with the least surprise; by_length: over its characters. The first of equals. */
static int choose(const struct task_item *item, const double *nats, int n_depths, int by_length)
{
    int best = 0;
    double least = INFINITY;
    for (int i = 0; i < item->n; i++) {
        const int characters = item->request[i].characters;
        const double v = by_length ? nats[i * n_depths] / (characters ? characters : 1) : nats[i * n_depths];
        if (v < least) {
            least = v;
            best = i;
        }
    }
    return best;
}

static int measure_item(struct task *t, const struct task_item *item, lsk_session *s, const int *depth, int n_depths, lsk_error *err)
{
    double *nats = calloc((size_t)item->n * (size_t)n_depths, sizeof *nats);
    int *greedy = malloc((size_t)n_depths * sizeof *greedy), r = nats && greedy ? 0 : complain(err, LSK_EOS, "out of memory");
    for (int i = 0; r >= 0 && i < item->n && !terminal_interrupted(); i++) {
        struct scoring now = {&item->request[i], depth, nats + i * n_depths, greedy};
        for (int k = 0; k < n_depths; k++)
            greedy[k] = 1;
        r = lsk_score_exits(s, now.q->token, now.q->n - 1, now.q->given - 1, depth, n_depths, take_logits, &now, err);
    }
    const int whole = r >= 0 && !terminal_interrupted(); /* an item counts as a whole */
    t->done += whole;
    t->chosen += whole && item->gold >= 0;
    for (int k = 0; whole && k < n_depths; k++) {
        struct task_score *score = &t->score[k];
        if (isnan(nats[k]))
            r = complain(err, LSK_EDATA, "the model's logits are not finite behind layer %d: its weights are damaged or overflow; `layerskip info --check` names damaged tensors", depth[k]);
        score->right += item->gold < 0 ? greedy[k] : choose(item, nats + k, n_depths, 0) == item->gold;
        score->norm += item->gold >= 0 && choose(item, nats + k, n_depths, 1) == item->gold;
        score->nats += item->gold < 0 ? nats[k] : 0;
        score->squares += item->gold < 0 ? nats[k] * nats[k] : 0;
    }
    free(nats);
    free(greedy);
    return r;
}

int task_measure(struct task *t, lsk_session *s, const int *depth, int n_depths, int show_progress, lsk_error *err)
{
    struct progress progress = progress_start(show_progress);
    const int64_t start = now_ns();
    const int first = t->done;
    char line[160];
    int r = 0;
    for (int i = first; r >= 0 && i < t->n && !terminal_interrupted(); i++) {
        const double left = i > first ? (double)(now_ns() - start) / 1e9 / (i - first) * (t->n - i) : 0;
        snprintf(line, sizeof line, "%s  row %d of %d  %.0f s left", excerpt_of(t->path).text, i + 1, t->n, left);
        progress_line(&progress, line);
        r = measure_item(t, &t->item[i], s, depth, n_depths, err);
        if (r >= 0 && t->keeper.keep)
            r = t->keeper.keep(t->keeper.ud, err);
    }
    progress_end(&progress);
    return r;
}

double task_stderr(double right, int n)
{
    const double share = right / n;
    return n > 1 ? sqrt(share * (1 - share) / (n - 1)) : NAN;
}
