/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "common.h"
#include "json_table.h"
#include "messages.h"
#include "record.h"
#include "rows.h"

struct corpus_args {
    const char *prompts, *out;
    int rows, n_predict, parallel, special, bos, escape;
};
struct generate_args {
    struct model_args model;
    struct corpus_args corpus;
    struct sampling_args sampling;
    struct draft_args draft;
    struct head_args head;
    struct show_args show;
};

static const struct option corpus_options[] = {
    {"prompts", OPT_TEXT, offsetof(struct corpus_args, prompts), "FILE", .help = "one prompt in every line"},
    {"escape e", OPT_FLAG, offsetof(struct corpus_args, escape), NULL, "on", .help = "replace \\n, \\t, \\xHH and the like in the prompts"},
    {"special", OPT_FLAG, offsetof(struct corpus_args, special), .help = "<|im_start|> and the like in the prompts are tokens"},
    {"bos", OPT_FLAG, offsetof(struct corpus_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"rows n", OPT_INT, offsetof(struct corpus_args, rows), "N", "0", 0, 1 << 30, .help = "rows to make: the prompts in turn, again and again; 0 is each prompt once"},
    {"n-predict max-tokens", OPT_INT, offsetof(struct corpus_args, n_predict), "N", "256", 1, 1 << 20, .help = "most tokens of a reply"},
    {"parallel", OPT_INT, offsetof(struct corpus_args, parallel), "N", "16", 1, 1024, .help = "replies made side by side; the text does not depend on it"},
    {"out o", OPT_TEXT, offsetof(struct corpus_args, out), "FILE", .help = "the JSONL file to write; it appears when it is complete, until then its rows are in FILE.part-..."},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct generate_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct generate_args, model.hub)}, {"corpus", corpus_options, offsetof(struct generate_args, corpus)},
                                             {"sampling", sampling_options, offsetof(struct generate_args, sampling)},
                                             {"self-speculation", draft_options, offsetof(struct generate_args, draft)},
                                             {"the head of drafts", head_options, offsetof(struct generate_args, head)},
                                             {"messages", show_options, offsetof(struct generate_args, show)}, {0}};

struct prompt {
    const char *text; /* borrowed from the file */
    size_t n_text;
    int line;
    int32_t *token;
    int n;
};

/* A reply on its way: from its session, then until the rows before it are written. */
struct reply_slot {
    int row, done; /* row -1: free */
    enum lsk_finish finish;
    int32_t *token; /* [n_predict] */
    int n;
    char *text;
    size_t n_text, cap;
};

struct corpus {
    const struct generate_args *a;
    char *file; /* the prompts, lines ended by zeroes */
    struct prompt *prompt;
    int n_prompts, rows, longest, context;
    uint64_t identity; /* of everything that the rows depend on, */
    char run[17];      /* which every row has */
    lsk_generate_options o;
    lsk_model *m;
    lsk_session **session; /* [parallel] */
    struct reply_slot *slot; /* [n_slots] row r lives in slot r % n_slots */
    int *slot_of;          /* [parallel] of the session's reply; -1: none */
    lsk_session **running; /* [parallel] the sessions of a step, */
    int *running_slot;     /* [parallel] and their slots */
    int n_slots, next, written, begun; /* next row to begin, rows in the file, and at the start */
    FILE *out;
    char part[4096];
    struct progress progress;
    int64_t start_ns, tokens;
    lsk_error *err;
};

/* ---- prompts ---- */

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (const unsigned char *b = p, *end = b + n; b < end; b++)
        h = (h ^ *b) * 0x100000001b3u;
    return h;
}

static int split_prompts(struct corpus *c, char *text)
{
    int cap = 0, number = 0;
    for (char *line = text, *stop; *line; line = stop) {
        stop = line + strcspn(line, "\n");
        stop += *stop ? (*stop = 0, 1) : 0;
        number++;
        if (!*line)
            continue;
        if (c->n_prompts == cap) {
            struct prompt *bigger = realloc(c->prompt, (size_t)(cap = 2 * cap + 64) * sizeof *bigger);
            if (!bigger)
                return complain(c->err, LSK_EOS, "out of memory");
            c->prompt = bigger;
        }
        size_t n = c->a->corpus.escape ? replace_escapes(line) : strlen(line);
        c->prompt[c->n_prompts++] = (struct prompt){.text = line, .n_text = n, .line = number};
    }
    return c->n_prompts ? 0 : complain(c->err, LSK_EDATA, "%s: no prompt in it", excerpt_of(c->a->corpus.prompts).text);
}

static int encode_prompts(struct corpus *c, const lsk_model *m)
{
    const int most = lsk_model_about(m)->context_max;
    char place[160];
    const struct prompt_args how = {.special = c->a->corpus.special, .bos = c->a->corpus.bos, .file = place};
    for (int i = 0; i < c->n_prompts; i++) {
        struct prompt *p = &c->prompt[i];
        snprintf(place, sizeof place, "%s: line %d", excerpt_of(c->a->corpus.prompts).text, p->line);
        p->n = encode_prompt(m, &how, p->text, p->n_text, &p->token, c->err);
        if (p->n < 0)
            return p->n;
        if (!p->n)
            return complain(c->err, LSK_EDATA, "%s: the prompt has no token", place);
        if (p->n >= most)
            return complain(c->err, LSK_EDATA, "%s: the prompt has %d tokens, the model's context is %d: shorten it", place, p->n, most);
        c->longest = p->n > c->longest ? p->n : c->longest;
        c->identity = mix(c->identity, p->token, (size_t)p->n * sizeof *p->token);
    }
    return 0;
}

/* What the rows depend on, but for the prompts. */
static void identify(struct corpus *c)
{
    const struct model_args *a = &c->a->model;
    const double numbers[] = {c->o.temperature, c->o.top_k, c->o.top_p, c->o.min_p, c->o.max_tokens, c->o.depth};
    const char *const how[] = {lsk_model_about(c->m)->id, a->weights, a->compute, a->kv};
    c->identity = mix(mix(0xcbf29ce484222325u, numbers, sizeof numbers), &c->o.seed, sizeof c->o.seed);
    for (size_t i = 0; i < sizeof how / sizeof *how; i++)
        c->identity = mix(c->identity, how[i], strlen(how[i]) + 1);
}

static int read_prompts(struct corpus *c)
{
    const struct generate_args *a = c->a;
    const char *name = a->corpus.prompts;
    size_t n = 0;
    int r = read_stream(name, &c->file, &n, c->err);
    if (r >= 0 && strlen(c->file) != n)
        r = complain(c->err, LSK_EDATA, "%s: a zero byte at offset %zu: this is no text", excerpt_of(name).text, strlen(c->file));
    if (r >= 0)
        r = split_prompts(c, c->file);
    if (r >= 0)
        r = (c->m = open_model(&a->model, &c->a->show, c->err)) ? 0 : c->err->code;
    if (r < 0)
        return r;
    identify(c);
    r = encode_prompts(c, c->m);
    const int most = lsk_model_about(c->m)->context_max;
    c->context = a->corpus.n_predict > most - c->longest ? most : c->longest + a->corpus.n_predict;
    c->rows = a->corpus.rows ? a->corpus.rows : c->n_prompts;
    return r;
}

/* ---- the file ---- */

/* Whole rows that an earlier run left; what follows the last of them is cut off. */
static int count_rows(struct corpus *c)
{
    char buffer[1 << 16];
    off_t at = 0, end = 0;
    int fd = open(c->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return complain(c->err, LSK_ECREATE, "%s: cannot create: %s", excerpt_of(c->part).text, strerror(errno));
    for (ssize_t n; c->written < c->rows && (n = read(fd, buffer, sizeof buffer)) > 0; at += n)
        for (ssize_t i = 0; i < n && c->written < c->rows; i++)
            if (buffer[i] == '\n') {
                c->written++;
                end = at + i + 1;
            }
    int bad = ftruncate(fd, end);
    close(fd);
    return bad ? complain(c->err, LSK_EIO, "%s: %s", excerpt_of(c->part).text, strerror(errno)) : 0;
}

static int take_finished(void *ud, const json_t *row, const char *place, lsk_error *err)
{
    struct corpus *c = ud;
    if (strcmp(json_text(row, "run"), c->run))
        return complain(err, LSK_ECREATE, "%s: exists already, and this row is of other prompts or options: remove the file or choose another name", place);
    return 0;
}

/* The file is there: it is whole, or what it has is the beginning of what is asked for now. 1: whole. */
static int look_at_finished(struct corpus *c)
{
    const char *out = c->a->corpus.out;
    struct rows rows = {0};
    int r = rows_read(&rows, out, take_finished, c, c->err);
    if (r == LSK_EDATA)
        return complain(c->err, LSK_ECREATE, "%s: exists already, and is no file of rows: remove it or choose another name", excerpt_of(out).text);
    if (r < 0)
        return r;
    if (rows.good >= c->rows) {
        fprintf(stderr, "%s: complete already: %d rows by these prompts and options\n", excerpt_of(out).text, rows.good);
        return 1;
    }
    return access(c->part, F_OK) && rename(out, c->part) ? complain(c->err, LSK_ECREATE, "%s: cannot rename: %s", excerpt_of(out).text, strerror(errno)) : 0;
}

/* 1: there is nothing to do. */
static int open_part(struct corpus *c)
{
    const char *out = c->a->corpus.out;
    snprintf(c->run, sizeof c->run, "%016llx", (unsigned long long)c->identity);
    if (snprintf(c->part, sizeof c->part, "%s.part-%s", out, c->run) >= (int)sizeof c->part)
        return complain(c->err, LSK_EUSAGE, "%s: the name is too long", excerpt_of(out).text);
    int r = access(out, F_OK) ? 0 : look_at_finished(c);
    r = r ? r : count_rows(c);
    if (r)
        return r;
    c->next = c->begun = c->written;
    c->out = fopen(c->part, "ae");
    return c->out ? 0 : complain(c->err, LSK_ECREATE, "%s: %s", excerpt_of(c->part).text, strerror(errno));
}

static int write_row(struct corpus *c, const struct reply_slot *s)
{
    static const char *const finish[] = {"", "eos", "stop", "length", "context", "cancelled", "error"};
    const struct prompt *p = &c->prompt[s->row % c->n_prompts];
    fputs("{\"prompt\": ", c->out);
    print_json_string(c->out, p->text, p->n_text);
    fputs(", \"response\": ", c->out);
    print_json_string(c->out, s->text ? s->text : "", s->n_text);
    fprintf(c->out, ", \"finish\": \"%s\", \"run\": \"%s\", \"prompt_tokens\": %d, \"tokens\": [", finish[s->finish], c->run, p->n);
    for (int i = 0; i < p->n + s->n; i++)
        fprintf(c->out, "%s%d", i ? ", " : "", i < p->n ? p->token[i] : s->token[i - p->n]);
    fputs("]}\n", c->out);
    if (fflush(c->out))
        return complain(c->err, LSK_EIO, "%s: %s; the rows before it are kept, the same command goes on", excerpt_of(c->part).text, strerror(errno));
    return 0;
}

static int finish_file(struct corpus *c)
{
    if (fsync(fileno(c->out)))
        return complain(c->err, LSK_EIO, "%s: %s", excerpt_of(c->part).text, strerror(errno));
    if (rename(c->part, c->a->corpus.out))
        return complain(c->err, LSK_ECREATE, "%s: cannot rename: %s", excerpt_of(c->a->corpus.out).text, strerror(errno));
    return 0;
}

/* ---- replies ---- */

static int take_event(void *ud, const lsk_event *e)
{
    struct corpus *c = ud;
    struct reply_slot *s = &c->slot[c->running_slot[e->session]];
    if (e->token >= 0 && s->n < c->a->corpus.n_predict)
        s->token[s->n++] = e->token;
    if (s->n_text + e->n_text > s->cap) {
        char *bigger = realloc(s->text, 2 * (s->n_text + e->n_text));
        if (!bigger) {
            s->finish = LSK_FINISH_ERROR;
            return 1;
        }
        s->text = bigger;
        s->cap = 2 * (s->n_text + e->n_text);
    }
    if (e->n_text)
        memcpy(s->text + s->n_text, e->text, e->n_text);
    s->n_text += e->n_text;
    s->finish = e->finish;
    c->tokens += e->token >= 0;
    return 0;
}

/* Gives the next row to a session that has none, while there is a slot to keep it in. */
static int begin_row(struct corpus *c, int i)
{
    struct reply_slot *s = &c->slot[c->next % c->n_slots];
    const struct prompt *p = &c->prompt[c->next % c->n_prompts];
    lsk_generate_options o = c->o;
    if (c->slot_of[i] >= 0 || c->next >= c->rows || s->row >= 0)
        return 0;
    o.choice = (uint32_t)c->next;
    int r = lsk_session_prompt(c->session[i], p->token, p->n, &o, c->err);
    s->row = c->next++;
    s->done = s->n = 0;
    s->n_text = 0;
    s->finish = LSK_RUNNING;
    c->slot_of[i] = s->row % c->n_slots;
    return r;
}

/* Rows that are done and whose turn it is. */
static int write_rows(struct corpus *c)
{
    int r = 0;
    for (struct reply_slot *s; r >= 0 && (s = &c->slot[c->written % c->n_slots])->row == c->written && s->done; c->written++) {
        r = write_row(c, s);
        s->row = -1;
    }
    return r;
}

static int step(struct corpus *c)
{
    int n = 0, r = 0;
    for (int i = 0; i < c->a->corpus.parallel && r >= 0; i++)
        r = begin_row(c, i);
    for (int i = 0; i < c->a->corpus.parallel && r >= 0; i++)
        if (c->slot_of[i] >= 0) {
            c->running[n] = c->session[i];
            c->running_slot[n++] = c->slot_of[i];
        }
    if (r >= 0)
        r = lsk_step(c->running, n, take_event, c, c->err);
    for (int i = 0; i < c->a->corpus.parallel && r >= 0; i++) {
        struct reply_slot *s = c->slot_of[i] >= 0 ? &c->slot[c->slot_of[i]] : NULL;
        if (!s || !s->finish)
            continue;
        if (s->finish == LSK_FINISH_ERROR)
            return complain(c->err, LSK_EDATA, "row %d: the model's logits are not finite, or memory is out: `layerskip info --check` names damaged tensors", s->row + 1);
        s->done = 1;
        c->slot_of[i] = -1;
    }
    return r < 0 ? r : write_rows(c);
}

static void show(struct corpus *c)
{
    char line[160];
    double seconds = (double)(now_ns() - c->start_ns) * 1e-9;
    size_t n = (size_t)snprintf(line, sizeof line, "%d of %d rows  %lld tokens  %.0f tokens/s", c->written, c->rows, (long long)c->tokens, seconds > 0 ? (double)c->tokens / seconds : 0);
    if (c->written > c->begun)
        snprintf(line + n, sizeof line - n, "  %.0f s left", seconds / (c->written - c->begun) * (c->rows - c->written));
    if (now_ns() - c->progress.shown_ns > 200000000)
        progress_line(&c->progress, line);
}

static int make_rows(struct corpus *c)
{
    int r = 0;
    c->start_ns = now_ns();
    while (r >= 0 && c->written < c->rows && !terminal_interrupted()) {
        r = step(c);
        show(c);
    }
    progress_end(&c->progress);
    if (r < 0)
        return r;
    if (c->written < c->rows) {
        fprintf(stderr, "interrupted at row %d of %d; the same command goes on\n", c->written, c->rows);
        return 0;
    }
    return finish_file(c);
}

/* ---- the command ---- */

static int open_sessions(struct corpus *c)
{
    const struct corpus_args *k = &c->a->corpus;
    const size_t n = (size_t)k->parallel;
    lsk_model_options needs = {.context = c->context, .sessions = k->parallel};
    widen_drafts(&needs, c->a->draft.num_speculations);
    int r = apply_head(&c->a->head, &needs, c->err);
    r = r < 0 ? r : load_model(c->m, &c->a->model, &c->a->show, &needs, c->err);
    if (r < 0)
        return r;
    c->n_slots = 4 * k->parallel;
    c->session = calloc(n, sizeof(lsk_session *));
    c->running = calloc(n, sizeof(lsk_session *));
    c->slot_of = calloc(n, sizeof *c->slot_of);
    c->running_slot = calloc(n, sizeof *c->running_slot);
    c->slot = calloc((size_t)c->n_slots, sizeof *c->slot);
    if (!c->session || !c->running || !c->slot_of || !c->running_slot || !c->slot)
        return complain(c->err, LSK_EOS, "out of memory");
    for (int i = 0; i < c->n_slots; i++) {
        c->slot[i].row = -1;
        c->slot[i].token = malloc((size_t)k->n_predict * sizeof *c->slot[i].token);
        if (!c->slot[i].token)
            return complain(c->err, LSK_EOS, "out of memory");
    }
    for (int i = 0; i < k->parallel; i++) {
        c->slot_of[i] = -1;
        if (!(c->session[i] = lsk_session_open(c->m, c->err)))
            return c->err->code;
    }
    return 0;
}

static void close_all(struct corpus *c)
{
    for (int i = 0; c->session && i < c->a->corpus.parallel; i++)
        lsk_session_close(c->session[i]);
    lsk_model_close(c->m);
    for (int i = 0; c->slot && i < c->n_slots; i++) {
        free(c->slot[i].token);
        free(c->slot[i].text);
    }
    for (int i = 0; i < c->n_prompts; i++)
        free(c->prompt[i].token);
    if (c->out)
        fclose(c->out);
    free(c->session);
    free(c->running);
    free(c->running_slot);
    free(c->slot_of);
    free(c->slot);
    free(c->prompt);
    free(c->file);
}

static int generate_corpus(const void *args, lsk_error *err)
{
    const struct generate_args *a = args;
    struct corpus c = {.a = a, .o = {.max_tokens = a->corpus.n_predict}, .progress = progress_start(a->show.progress), .err = err};
    if (!a->corpus.prompts || !a->corpus.out)
        return complain(err, LSK_EUSAGE, !a->corpus.out ? "no file given: -o NAME.jsonl, where the rows go" : "no prompts given: --prompts FILE, one in every line");
    int r = apply_sampling(&a->sampling, &c.o, err);
    if (r >= 0)
        r = apply_drafting(&a->draft, &c.o, err);
    if (r >= 0)
        r = read_prompts(&c);
    if (r >= 0)
        r = open_part(&c);
    if (!r)
        r = open_sessions(&c);
    if (!r)
        r = make_rows(&c);
    close_all(&c);
    return r < 0 ? r : 0;
}

const struct command command_generate_corpus = {
    "generate-corpus",
    "writes a model's own replies, as text to train on",
    "-m PATH --prompts FILE -o OUT.jsonl [OPTIONS]",
    "Text that a model wrote itself teaches its early layers best what its last layer will say. Rows are {\"prompt\", \"response\", \"finish\", \"run\", \"prompt_tokens\", \"tokens\"}, as\n"
    "`layerskip train --data` reads them: the tokens are exactly those that were generated. The rows are a function of model, prompts, sampling and seed, for which \"run\" stands;\n"
    "an interrupted run goes on where it was when the same command is given again, and so does a finished one that shall have more rows.",
    "  layerskip generate-corpus -m model.gguf --prompts prompts.txt -n 10000 --temp 0.8 -o own.jsonl\n",
    "model",
    groups,
    sizeof(struct generate_args),
    generate_corpus,
    NULL};
