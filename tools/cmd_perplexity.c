/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "command.h"
#include "common.h"
#include "exit_scores.h"
#include "messages.h"
#include "record.h"

struct text_args {
    struct texts file;
    struct numbers exits;
    int length, special, bos, bad_rows;
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
    {"bad-rows", OPT_INT, offsetof(struct text_args, bad_rows), "N", "0", 0, 1 << 30, .help = "most rows that are passed over (and shown) because they cannot be used"},
    {"bos", OPT_FLAG, offsetof(struct text_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"output o", OPT_CHOICE, offsetof(struct text_args, output), NULL, "md", .choices = "md json", .help = "form of the result"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct perplexity_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct perplexity_args, model.hub)}, {"text", text_options, offsetof(struct perplexity_args, text)},
                                             {"messages", show_options, offsetof(struct perplexity_args, show)}, {0}};

static void print_results(const struct exit_scores *e, int json)
{
    const double n = (double)e->counted;
    if (json)
        printf("{\"tokens\": %llu, \"exits\": [", (unsigned long long)e->counted);
    for (int i = 0; i < e->n; i++) {
        struct record r = {0};
        record_whole(&r, json ? "exit_layer" : "exit layer", (unsigned)e->depth[i]);
        record_number(&r, "perplexity", "%.4f", perplexity_of(e, i));
        record_number(&r, json ? "perplexity_stderr" : "± stderr", "%.4f", perplexity_error(e, i));
        record_number(&r, "acceptance", "%.4f", (double)e->exit[i].agree / n);
        record_number(&r, "accuracy", "%.4f", (double)e->exit[i].right / n);
        if (json)
            fputs(i ? ", " : "", stdout);
        else if (!i)
            record_markdown(stdout, &r, 1);
        (json ? record_json(stdout, &r) : record_markdown(stdout, &r, 0));
    }
    if (json)
        puts("]}");
    else
        printf("\n%llu tokens\n", (unsigned long long)e->counted);
}

static int perplexity(const void *args, lsk_error *err)
{
    const struct perplexity_args *a = args;
    const struct text_args *t = &a->text;
    struct documents texts = {.name = "text", .special = t->special, .bos = t->bos, .rows.allowed = t->bad_rows};
    struct exit_scores e = {.length = t->length, .limit = t->tokens};
    lsk_model *m = NULL;
    lsk_session *s = NULL;
    int r = t->file.n ? 0 : complain(err, LSK_EUSAGE, "no text given: -f FILE");
    if (r >= 0)
        r = (texts.model = m = open_model(&a->model, &a->show, err)) ? exit_scores_plan(&e, lsk_model_about(m), &t->exits, 0, err) : err->code;
    for (int i = 0; r >= 0 && i < t->file.n; i++)
        r = documents_read(&texts, t->file.item[i], err);
    if (r >= 0)
        r = load_model(m, &a->model, &a->show, &(lsk_model_options){.context = t->length < texts.longest ? t->length : texts.longest > 1 ? texts.longest : 2, .draft_head = -1}, err);
    if (r >= 0)
        r = (s = lsk_session_open(m, err)) ? exit_scores_read(&e, s, &texts, a->show.progress, err) : err->code;
    if (r >= 0 && !terminal_interrupted())
        print_results(&e, !strcmp(t->output, "json"));
    lsk_session_close(s);
    lsk_model_close(m);
    documents_free(&texts);
    exit_scores_free(&e);
    return r < 0 ? r : 0;
}

static void explain(FILE *out)
{
    fprintf(out, "\nWhat the columns say\n"
                 "  perplexity of the text to the first so many layers and the model's own head; acceptance: how often their likeliest token is the whole model's, which is how\n"
                 "  often a draft from there would be accepted; accuracy: how often it is the text's. The whole model is the last row.\n"
                 "  ± stderr: one standard error of the perplexity, tokens taken as independent.\n");
}

const struct command command_perplexity = {
    "perplexity",
    "how well each exit foretells a text, and how often it agrees with the last layer",
    "[MODEL] -f FILE [OPTIONS]",
    "Reads a text once; every exit costs one head more. `layerskip eval` measures all exits, and more of them. Text that the model wrote itself, as `layerskip generate-corpus --temp 0` gives it, shows what drafting meets.",
    "  layerskip perplexity model.gguf -f story.txt --exits 7,10,15\n"
    "  layerskip perplexity model.gguf -f own.jsonl -o json\n",
    "model",
    groups,
    sizeof(struct perplexity_args),
    perplexity,
    explain};
