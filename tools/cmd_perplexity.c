/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "messages.h"
#include "record.h"

struct text_args {
    struct texts file;
    struct numbers exits;
    int length, special, bos;
    double tokens;
    const char *output;
};
struct perplexity_args {
    struct model_args model;
    struct text_args text;
    struct show_args show;
};

static const struct option text_options[] = {
    {"file f", OPT_TEXTS, offsetof(struct text_args, file), "FILE",
     .help = "the text; may be repeated. NAME.jsonl has rows as generate-corpus writes them, {\"tokens\", \"prompt_tokens\"}, or {\"text\"}: prompts are read and not counted"},
    {"exits", OPT_NUMBERS, offsetof(struct text_args, exits), "LIST", NULL, 1, 1023, .help = "exit layers to measure; without it a quarter, a third and half of the layers"},
    {"length ctx-size c", OPT_INT, offsetof(struct text_args, length), "N", "1024", 2, 1 << 20, .help = "the text is cut into windows of so many tokens, each read alone; rows are cut off there"},
    {"tokens n", OPT_REAL, offsetof(struct text_args, tokens), "N", "0", 0, 1e12, .help = "stop when so many tokens are counted; 0 is all"},
    {"special", OPT_FLAG, offsetof(struct text_args, special), .help = "<|im_start|> and the like in the text are tokens"},
    {"bos", OPT_FLAG, offsetof(struct text_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"output o", OPT_CHOICE, offsetof(struct text_args, output), NULL, "md", .choices = "md json", .help = "form of the result"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct perplexity_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct perplexity_args, model.hub)}, {"text", text_options, offsetof(struct perplexity_args, text)},
                                             {"messages", show_options, offsetof(struct perplexity_args, show)}, {0}};

struct document {
    int32_t *token;
    int n, given; /* given: of the prompt */
};

/* What one depth did, over all counted tokens. */
struct measure {
    int depth;
    double nats;
    uint64_t right, agree; /* its likeliest token is the text's; is the whole model's */
};

struct perplexity {
    const struct perplexity_args *args;
    lsk_model *model;
    lsk_session *session;
    struct document *document;
    int n_documents, longest;
    struct measure measure[NUMBERS_MAX + 1]; /* the whole model first */
    int n_measures;
    uint64_t counted;
    /* the window that is being read */
    const int32_t *token;
    int from; /* first token that counts */
    struct measure *now;
    int32_t *pick; /* [length] the whole model's */
};

/* ---- text ---- */

static int add_document(struct perplexity *p, struct document d, lsk_error *err)
{
    struct document *bigger = realloc(p->document, (size_t)(p->n_documents + 1) * sizeof *bigger);
    if (!bigger) {
        free(d.token);
        return complain(err, LSK_EOS, "out of memory");
    }
    p->document = bigger;
    p->document[p->n_documents++] = d;
    p->longest = d.n > p->longest ? d.n : p->longest;
    return 0;
}

static int add_text(struct perplexity *p, const char *name, const char *text, size_t n, lsk_error *err)
{
    const struct text_args *a = &p->args->text;
    struct document d = {0};
    d.n = encode_prompt(p->model, &(struct prompt_args){.bos = a->bos, .special = a->special, .file = name}, text, n, &d.token, err);
    return d.n < 0 ? d.n : add_document(p, d, err);
}

static int add_tokens(struct perplexity *p, const char *place, const json_t *list, const json_t *given, lsk_error *err)
{
    const size_t n = json_array_size(list);
    struct document d = {.n = (int)n, .given = (int)json_integer_value(given), .token = malloc((n + 1) * sizeof *d.token)};
    if (!d.token)
        return complain(err, LSK_EOS, "out of memory");
    if (given && (!json_is_integer(given) || json_integer_value(given) < 0 || json_integer_value(given) > (json_int_t)n)) {
        free(d.token);
        return complain(err, LSK_EDATA, "%s: prompt_tokens: must be a whole number of at most %zu, the row's tokens", place, n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= lsk_model_about(p->model)->n_vocab) {
            free(d.token);
            return complain(err, LSK_EDATA, "%s: token %zu: must be a whole number below %d, the model's vocabulary", place, i, lsk_model_about(p->model)->n_vocab);
        }
        d.token[i] = (int32_t)id;
    }
    return add_document(p, d, err);
}

static int add_rows(struct perplexity *p, const char *name, char *text, lsk_error *err)
{
    char place[160];
    int r = 0, number = 0;
    for (char *line; r >= 0 && (line = strsep(&text, "\n"));) {
        json_error_t where;
        snprintf(place, sizeof place, "%s: line %d", excerpt_of(name).text, ++number);
        if (!line[strspn(line, " \t\r")])
            continue;
        json_t *row = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
        const json_t *tokens = json_object_get(row, "tokens"), *own = json_object_get(row, "text");
        r = !row                  ? complain(err, LSK_EDATA, "%s: %s", place, where.text)
            : json_is_array(tokens) ? add_tokens(p, place, tokens, json_object_get(row, "prompt_tokens"), err)
            : json_is_string(own)   ? add_text(p, place, json_string_value(own), json_string_length(own), err)
                                    : complain(err, LSK_EDATA, "%s: neither {\"tokens\"} nor {\"text\"}", place);
        json_decref(row);
    }
    return r;
}

static int read_file(struct perplexity *p, const char *name, lsk_error *err)
{
    const size_t n_name = strlen(name);
    char *text = NULL;
    size_t n = 0;
    int r = read_stream(name, &text, &n, err);
    if (r >= 0 && memchr(text, 0, n) && n_name > 6 && !strcmp(name + n_name - 6, ".jsonl"))
        r = complain(err, LSK_EDATA, "%s: a zero byte: this is no JSONL", excerpt_of(name).text);
    if (r >= 0)
        r = n_name > 6 && !strcmp(name + n_name - 6, ".jsonl") ? add_rows(p, name, text, err) : add_text(p, name, text, n, err);
    free(text);
    return r;
}

/* ---- measuring ---- */

static int32_t likeliest(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static double surprise(const float *logits, int n, float top, int32_t token)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)expf(logits[i] - top);
    return log(sum) - (double)(logits[token] - top);
}

static int take_logits(void *ud, int i, const float *logits, int n_vocab)
{
    struct perplexity *p = ud;
    if (i + 1 < p->from)
        return terminal_interrupted();
    const int32_t pick = likeliest(logits, n_vocab);
    if (p->now == p->measure)
        p->pick[i] = pick;
    p->now->nats += surprise(logits, n_vocab, logits[pick], p->token[i + 1]);
    p->now->right += pick == p->token[i + 1];
    p->now->agree += pick == p->pick[i];
    return terminal_interrupted();
}

/* The last token of a window has nothing to foretell, so it is not read. */
static int read_window(struct perplexity *p, const struct document *d, int at, int n, lsk_error *err)
{
    int r = 0;
    p->token = d->token + at;
    p->from = d->given - at > 1 ? d->given - at : 1;
    for (int i = 0; r >= 0 && i < p->n_measures && !terminal_interrupted(); i++) {
        p->now = &p->measure[i];
        r = lsk_score(p->session, p->token, n - 1, p->now->depth, take_logits, p, err);
        if (r >= 0 && isnan(p->now->nats))
            r = complain(err, LSK_EDATA, "the model's logits are not finite behind layer %d: its weights are damaged or overflow; `layerskip info --check` names damaged tensors", p->now->depth);
    }
    p->counted += (uint64_t)(n - p->from);
    return r;
}

static int read_all(struct perplexity *p, lsk_error *err)
{
    const struct text_args *a = &p->args->text;
    struct progress progress = progress_start(p->args->show.progress);
    char line[96];
    int r = 0;
    for (int i = 0; r >= 0 && i < p->n_documents; i++) {
        const struct document *d = &p->document[i];
        const int end = d->given ? (d->n < a->length ? d->n : a->length) : d->n;
        for (int at = 0; r >= 0 && at < end - 1 && !terminal_interrupted() && (a->tokens <= 0 || (double)p->counted < a->tokens); at += a->length) {
            const int n = end - at < a->length ? end - at : a->length;
            if (n > 1 && d->given < at + n)
                r = read_window(p, d, at, n, err);
            snprintf(line, sizeof line, "%llu tokens", (unsigned long long)p->counted);
            progress_line(&progress, line);
        }
    }
    progress_end(&progress);
    if (r >= 0 && !p->counted && !terminal_interrupted())
        r = complain(err, LSK_EDATA, "the text has no token to foretell: give more");
    return r;
}

static void print_results(const struct perplexity *p)
{
    const int json = !strcmp(p->args->text.output, "json");
    const double n = (double)p->counted;
    if (json)
        printf("{\"tokens\": %llu, \"exits\": [", (unsigned long long)p->counted);
    for (int i = 1; i <= p->n_measures; i++) { /* the whole model last */
        const struct measure *m = &p->measure[i % p->n_measures];
        struct record r = {0};
        record_whole(&r, json ? "exit_layer" : "exit layer", (unsigned)m->depth);
        record_number(&r, "perplexity", "%.4f", exp(m->nats / n));
        record_number(&r, "acceptance", "%.4f", (double)m->agree / n);
        record_number(&r, "accuracy", "%.4f", (double)m->right / n);
        if (json)
            fputs(i > 1 ? ", " : "", stdout);
        else if (i == 1)
            record_markdown(stdout, &r, 1);
        (json ? record_json(stdout, &r) : record_markdown(stdout, &r, 0));
    }
    if (json)
        puts("]}");
    else
        printf("\n%llu tokens\n", (unsigned long long)p->counted);
}

static int plan(struct perplexity *p, lsk_error *err)
{
    const struct text_args *a = &p->args->text;
    const lsk_model_info *info = lsk_model_about(p->model);
    p->measure[p->n_measures++].depth = info->n_layers;
    for (int i = 0; i < a->exits.n; i++) {
        if (check_exit_layer(info, a->exits.value[i], err) < 0)
            return err->code;
        p->measure[p->n_measures++].depth = a->exits.value[i];
    }
    for (int divide = 4; !a->exits.n && divide >= 2; divide--)
        if (info->n_layers / divide > (p->n_measures > 1 ? p->measure[p->n_measures - 1].depth : 0))
            p->measure[p->n_measures++].depth = info->n_layers / divide;
    return check_context(info, "--length", a->length, 0, err);
}

static int perplexity(const void *args, lsk_error *err)
{
    struct perplexity p = {.args = args};
    const struct text_args *a = &p.args->text;
    int r = a->file.n ? 0 : complain(err, LSK_EUSAGE, "no text given: -f FILE");
    if (r >= 0)
        r = (p.model = open_model(&p.args->model, &p.args->show, err)) ? plan(&p, err) : err->code;
    for (int i = 0; r >= 0 && i < a->file.n; i++)
        r = read_file(&p, a->file.item[i], err);
    if (r >= 0 && !(p.pick = malloc((size_t)a->length * sizeof *p.pick)))
        r = complain(err, LSK_EOS, "out of memory");
    if (r >= 0)
        r = load_model(p.model, &p.args->model, &p.args->show, &(lsk_model_options){.context = a->length < p.longest ? a->length : p.longest > 1 ? p.longest : 2, .draft_head = -1}, err);
    if (r >= 0)
        r = (p.session = lsk_session_open(p.model, err)) ? read_all(&p, err) : err->code;
    if (r >= 0 && !terminal_interrupted())
        print_results(&p);
    lsk_session_close(p.session);
    lsk_model_close(p.model);
    for (int i = 0; i < p.n_documents; i++)
        free(p.document[i].token);
    free(p.document);
    free(p.pick);
    return r < 0 ? r : 0;
}

static void explain(FILE *out)
{
    fprintf(out, "\nWhat the columns say\n"
                 "  perplexity of the text to the first so many layers and the model's own head; acceptance: how often their likeliest token is the whole model's, which is how\n"
                 "  often a draft from there would be accepted; accuracy: how often it is the text's. The whole model is the last row.\n");
}

const struct command command_perplexity = {
    "perplexity",
    "how well each exit foretells a text, and how often the whole model would take its draft",
    "[MODEL] -f FILE [OPTIONS]",
    "Reads a text once with all layers and once with each exit's. Text that the model wrote itself, as `layerskip generate-corpus --temp 0` gives it, shows what drafting meets.",
    "  layerskip perplexity model.gguf -f story.txt --exits 7,10,15\n"
    "  layerskip perplexity model.gguf -f own.jsonl -o json\n",
    "model",
    groups,
    sizeof(struct perplexity_args),
    perplexity,
    explain};
