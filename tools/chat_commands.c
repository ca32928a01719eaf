/* SPDX-License-Identifier: Apache-2.0 */
#include "chat_commands.h"

#include <stdlib.h>
#include <string.h>

#include "messages.h"
#include "terminal.h"
#include "values.h"

static void show_text(const char *name, const char *text)
{
    fprintf(stderr, "%-17s ", name);
    print_shown(stderr, text ? text : "(none)");
    fputc('\n', stderr);
}

static int show_settings(const struct dialogue *d)
{
    const char *system = dialogue_system(d);
    for (int i = 0; setting_at(i); i++)
        fprintf(stderr, "%-17s %-8.6g %s\n", setting_at(i)->name, setting_at(i)->get(&d->ask), setting_at(i)->help);
    show_text("system", system);
    show_text("grammar", d->ask.grammar);
    show_text("json_schema", d->ask.json_schema);
    for (int i = 0; i < d->stop.n; i++)
        show_text("stop", d->stop.item[i]);
    for (int i = 0; i < d->ask.n_logit_bias; i++)
        fprintf(stderr, "%-17s %d%+g\n", "logit_bias", d->ask.logit_bias[i].token, (double)d->ask.logit_bias[i].bias);
    return CHAT_ON;
}

static int do_set(struct dialogue *d, char *rest, lsk_error *err)
{
    size_t n = strcspn(rest, " \t\n");
    char *value = rest + n + strspn(rest + n, " \t\n");
    if (!*rest)
        return show_settings(d);
    rest[n] = 0;
    if (!strcmp(rest, "parameter")) /* as ollama has it: /set parameter NAME VALUE */
        return do_set(d, value, err);
    return strcmp(rest, "system") ? setting_change(d, rest, value, err) : dialogue_set_system(d, value, err);
}

static int do_stats(struct dialogue *d, char *rest, lsk_error *err)
{
    (void)rest;
    if (!d->answered)
        return complain(err, LSK_EUSAGE, "/stats: there is no answer yet");
    summary_text(stderr, &d->stats, lsk_model_about(d->model), &d->facts);
    return CHAT_ON;
}

/* How the next answers are drafted, and whether they are. */
static int show_drafting(const struct dialogue *d)
{
    const lsk_model_info *info = lsk_model_about(d->model);
    const lsk_generate_options *o = &d->ask;
    const char *drafter = o->drafter ? o->drafter : "auto", *whose = o->exit_layer ? "" : info->exit_layer ? ", the profile's" : ", a quarter of the layers";
    int quarter = info->n_layers > 4 ? info->n_layers / 4 : 1, layer = o->exit_layer ? o->exit_layer : info->exit_layer ? info->exit_layer : quarter;
    int asked = o->exit_layer || o->num_speculations > 0 || o->draft_min_conf > 0 || info->exit_layer, none = !strcmp(drafter, "none"), automatic = !strcmp(drafter, "auto");
    fprintf(stderr, "(drafter %s", drafter);
    if (automatic || strstr(drafter, "exit") || (none && o->exit_layer))
        fprintf(stderr, ", exit layer %d%s", layer, whose);
    fputs(none || o->num_speculations < 0 || (automatic && !asked) ? ": decoding is plain, `/spec on` drafts)\n" : ")\n", stderr);
    return CHAT_ON;
}

static int do_spec(struct dialogue *d, char *rest, lsk_error *err)
{
    static const struct {
        const char *word, *drafter;
    } modes[] = {{"on", "exit"}, {"off", "none"}, {"auto", "auto"}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(rest, modes[i].word)) {
            d->ask.drafter = modes[i].drafter;
            if (!i && d->ask.num_speculations < 0)
                d->ask.num_speculations = 0; /* started with --num-speculations 0 */
            return show_drafting(d);
        }
    if (*rest)
        return complain(err, LSK_EUSAGE, "/spec: \"%s\": must be on, off or auto", excerpt_of(rest).text);
    return show_drafting(d);
}

static int do_exit_layer(struct dialogue *d, char *rest, lsk_error *err)
{
    int layers = lsk_model_about(d->model)->n_layers;
    int64_t n;
    if (!*rest)
        return show_drafting(d);
    if (read_whole(rest, &n) || n < 0 || n >= layers)
        return complain(err, LSK_EUSAGE, "/exit-layer: \"%s\": must be 1 to %d, below this model's layers, or 0: the model's profile", excerpt_of(rest).text, layers - 1);
    d->ask.exit_layer = (int)n;
    return show_drafting(d);
}

static int do_regen(struct dialogue *d, char *rest, lsk_error *err)
{
    (void)rest;
    if (d->ask.temperature == 0 && d->answered)
        fprintf(stderr, "(greedy decoding gives the same answer again: /set temperature 0.7 for others)\n");
    return dialogue_again(d, err);
}

static int do_undo(struct dialogue *d, char *rest, lsk_error *err)
{
    (void)rest;
    if (!dialogue_undo(d))
        return complain(err, LSK_EUSAGE, "/undo: nothing was said yet");
    fprintf(stderr, "(forgotten; %d question%s left)\n", dialogue_turns(d), plural(dialogue_turns(d)));
    return CHAT_ON;
}

static int do_clear(struct dialogue *d, char *rest, lsk_error *err)
{
    (void)rest;
    return dialogue_clear(d, err);
}

static int do_save(struct dialogue *d, char *rest, lsk_error *err) { return *rest ? dialogue_save(d, rest, err) : complain(err, LSK_EUSAGE, "/save: give a file"); }

static int do_load(struct dialogue *d, char *rest, lsk_error *err)
{
    int r = *rest ? dialogue_load(d, rest, err) : complain(err, LSK_EUSAGE, "/load: give a file");
    if (r >= 0)
        fprintf(stderr, "(%d question%s)\n", dialogue_turns(d), plural(dialogue_turns(d)));
    return r;
}

static int do_bye(struct dialogue *d, char *rest, lsk_error *err) { return (void)d, (void)rest, (void)err, CHAT_BYE; }

static int do_help(struct dialogue *d, char *rest, lsk_error *err)
{
    char *text = NULL;
    size_t n;
    FILE *memory = open_memstream(&text, &n);
    (void)d, (void)rest;
    if (!memory)
        return complain(err, LSK_EOS, "out of memory");
    chat_commands_describe(memory);
    if (!fclose(memory))
        prose_print(stderr, text);
    free(text);
    return CHAT_ON;
}

static const struct {
    const char *names, *arguments, *help;
    int (*run)(struct dialogue *d, char *rest, lsk_error *err);
} commands[] = {
    {"/set", "[NAME VALUE]", "temperature, top_k, top_p, min_p, penalties and so on; `/set system TEXT`, `/set grammar GBNF`, `/set json_schema SCHEMA`, `/set logit_bias ID+B`; alone it shows them", do_set},
    {"/stats", "", "what the last answer cost, and what drafting brought", do_stats},
    {"/spec", "on|off|auto", "draft with the first layers, or not; the answers stay the same; alone it says what is set", do_spec},
    {"/exit-layer", "N", "layers that a draft runs; 0 is the model's profile", do_exit_layer},
    {"/regen", "", "another answer to the last question", do_regen},
    {"/undo", "", "forget the last question and its answer", do_undo},
    {"/clear", "", "forget all but the system message", do_clear},
    {"/save", "FILE", "write the conversation to a file, with what /set, /spec and /exit-layer change and the stop texts", do_save},
    {"/load", "FILE", "go on with one, as it was set", do_load},
    {"/bye /exit /quit", "", "leave, like Ctrl-D", do_bye},
    {"/? /help", "", "this list", do_help},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

void chat_commands_describe(FILE *out)
{
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %.*s %-*s %s\n", (int)strcspn(commands[i].names, " "), commands[i].names, 24 - (int)strcspn(commands[i].names, " "), commands[i].arguments, commands[i].help);
    fputs("A message goes over several lines with \\ at the end of each but the last, between two \"\"\", with Alt-Enter, or when it is pasted.\n"
          "Ctrl-C stops an answer, clears a line, and at an empty line leaves when it comes twice; Ctrl-D leaves.\n",
          out);
}

static int is_named(const char *names, const char *name, size_t n)
{
    for (size_t k; *names; names += k + (names[k] == ' ')) {
        k = strcspn(names, " ");
        if (k == n && !strncmp(names, name, n))
            return 1;
    }
    return 0;
}

int chat_command(struct dialogue *d, char *line, lsk_error *err)
{
    char near[32] = "";
    int best = 99;
    size_t n = strcspn(line, " \t\n");
    char *rest = line + n + strspn(line + n, " \t\n"), *end = rest + strlen(rest);
    while (end > rest && strchr(" \t\n", end[-1]))
        *--end = 0;
    for (int i = 0; i < N_COMMANDS; i++)
        if (is_named(commands[i].names, line, n))
            return commands[i].run(d, rest, err);
    line[n] = 0;
    for (int i = 0; i < N_COMMANDS; i++)
        suggest(commands[i].names, line, near, sizeof near, &best);
    return complain(err, LSK_EUSAGE, "unknown command %s%s%s%s (/? lists them; a message that begins with / needs a blank before it)", excerpt_of(line).text,
                    *near ? ": did you mean " : "", near, *near ? "?" : "");
}
