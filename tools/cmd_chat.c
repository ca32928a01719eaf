/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "chat_commands.h"
#include "command.h"
#include "common.h"
#include "constraints.h"
#include "line.h"
#include "messages.h"
#include "profile.h"

struct talk_args {
    const char *system, *template_name, *template_file;
    int n_predict, context, history;
    struct texts stop;
    const char *colour;
};
struct chat_args {
    struct model_args model;
    struct talk_args talk;
    struct sampling_args sampling;
    struct limit_args limits;
    struct draft_args draft;
    struct show_args show;
};

static const struct option talk_options[] = {
    {"system system-prompt sys", OPT_TEXT, offsetof(struct talk_args, system), "TEXT", .help = "what the model is told before the conversation"},
    {"chat-template", OPT_TEXT, offsetof(struct talk_args, template_name), NULL, "auto", .choices = "auto llama2 llama3 chatml codellama", .instead = "chat-template-file",
     .help = "how a conversation is written for the model: auto is as its files say, the others are built in"},
    {"chat-template-file", OPT_TEXT, offsetof(struct talk_args, template_file), "FILE", .instead = "chat-template", .help = "a template in Jinja, in place of the model's"},
    {"n-predict max-tokens n", OPT_INT, offsetof(struct talk_args, n_predict), "N", "-1", -1, 1 << 30, .help = "most tokens of an answer, at least 1; -1 is until the context is full"},
    {"ctx-size c", OPT_INT, offsetof(struct talk_args, context), "N", "-1", -1, 1 << 30,
     .help = "tokens that a conversation may have, for which memory is taken; -1 is 4096, or the model's maximum if that is less, 0 the maximum"},
    {"reverse-prompt stop stop-words r", OPT_TEXTS, offsetof(struct talk_args, stop), "TEXT", .help = "end an answer before this text; may be repeated"},
    {"history", OPT_FLAG, offsetof(struct talk_args, history), NULL, "on", .help = "keep what was typed in $XDG_STATE_HOME/layerskip/chat_history (or in ~/.local/state)"},
    {"color colour", OPT_CHOICE, offsetof(struct talk_args, colour), NULL, "auto", .choices = "auto on off",
     .help = "accepted drafts in green, the model's own tokens plain; auto is on a terminal and without NO_COLOR"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct chat_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct chat_args, model.hub)},
                                             {"conversation", talk_options, offsetof(struct chat_args, talk)},
                                             {"sampling", sampling_options, offsetof(struct chat_args, sampling)},
                                             {"what an answer may say", limit_options, offsetof(struct chat_args, limits)},
                                             {"self-speculation", draft_options, offsetof(struct chat_args, draft)},
                                             {"messages", show_options, offsetof(struct chat_args, show)},
                                             {0}};

/* Whose template, before weights are loaded: a file's, a built-in one, the model's; it must render a first question. *text: freed by the caller. */
static int choose_template(const struct talk_args *a, struct dialogue *d, char **text, lsk_error *err)
{
    const lsk_model_info *info = lsk_model_about(d->model);
    size_t n = 0;
    int named = a->template_name && strcmp(a->template_name, "auto"), r = a->template_file ? read_stream(a->template_file, text, &n, err) : 0;
    if (r >= 0 && *text && strlen(*text) != n)
        r = complain(err, LSK_EDATA, "--chat-template-file: %s: holds a zero byte: it is no text", excerpt_of(a->template_file).text);
    if (r >= 0 && !*text && !named && !info->has_chat_template)
        r = complain(err, LSK_EUSAGE, "%s: brings no chat template, as base models do: name one with --chat-template llama2, llama3 or chatml, or let it continue texts with `layerskip run`",
                     excerpt_of(info->path).text);
    if (r < 0)
        return r;
    d->how = (lsk_chat_options){.template_name = a->template_name, .template_text = *text};
    lsk_chat *c = lsk_chat_render(d->model, "[{\"role\": \"user\", \"content\": \"Hello\"}]", &d->how, err);
    lsk_chat_free(c);
    return c ? 0 : err->code;
}

static int load(const struct chat_args *a, struct dialogue *d, lsk_error *err)
{
    const lsk_model_info *info = lsk_model_about(d->model);
    int wanted = a->talk.context, context = wanted < 0 ? 4096 : wanted ? wanted : info->context_max;
    if (wanted < 0 && context > info->context_max)
        context = info->context_max;
    int r = check_context(info, "--ctx-size", wanted, 0, err);
    if (r >= 0)
        r = check_exit_layer(info, "--exit-layer", a->draft.exit_layer, err);
    if (r < 0)
        return r;
    d->profile = profile_find(info);
    profile_apply(&d->profile, &d->ask);
    lsk_model_options needs = {.context = context, .profile = &d->profile.draft};
    widen_drafts(&needs, d->ask.num_speculations);
    r = load_model(d->model, &a->model, &a->show, &needs, err);
    return r < 0 ? r : (d->session = lsk_session_open(d->model, err)) ? 0 : err->code;
}

static int fill(const struct chat_args *a, struct dialogue *d, lsk_error *err)
{
    int r = apply_sampling(&a->sampling, &d->ask, err);
    if (r >= 0)
        r = apply_limits(&a->limits, &d->limits, &d->ask, err);
    if (r >= 0)
        r = apply_drafting(&a->draft, &d->ask, err);
    if (r >= 0 && !a->talk.n_predict)
        r = complain(err, LSK_EUSAGE, "--n-predict: 0: must be at least 1, or -1: until the context is full");
    d->ask.max_tokens = a->talk.n_predict < 0 ? 0 : a->talk.n_predict;
    if (r >= 0)
        r = copy_stops(&a->talk.stop, 0, &d->stop, err);
    d->ask.stop = d->stop.item;
    d->ask.n_stop = d->stop.n;
    d->colour = terminal_colour(a->talk.colour);
    d->progress = a->show.progress;
    d->messages = json_array();
    if (r >= 0 && !d->messages)
        r = complain(err, LSK_EOS, "out of memory");
    return r < 0 ? r : dialogue_set_system(d, a->talk.system, err);
}

static void say_error(lsk_error *err)
{
    fputs("layerskip: ", stderr);
    print_shown(stderr, err->text);
    fputc('\n', stderr);
    *err = (lsk_error){0};
}

/* Why an answer ended, where that is not its own end. */
static void say_finish(const struct dialogue *d)
{
    if (d->facts.finish != LSK_FINISH_EOS && d->facts.finish != LSK_FINISH_STOP)
        fprintf(stderr, "(%s)\n", finish_name(d->facts.finish));
}

/* Can the conversation not go on behind this? */
static int is_fatal(int r) { return r == LSK_EIO || r == LSK_EUNAVAILABLE || r == LSK_EINTERNAL; }

/* One message, or a person's command. CHAT_ON, CHAT_BYE, or below zero. */
static int handle(struct dialogue *d, char *text, int person, lsk_error *err)
{
    size_t blank = strspn(text, " \t\n");
    int r, before = d->answered, command = person && *text == '/';
    if (!text[blank])
        return CHAT_ON;
    d->answered = 0;
    r = command ? (d->answered = before, chat_command(d, text, err)) : dialogue_say(d, text, err);
    if (r >= 0 && person && !command)
        say_finish(d);
    d->answered |= before;
    return r;
}

/* Until Ctrl-D, /bye or a second Ctrl-C, which stays in terminal_interrupted for the exit status. On a pipe that is the one of the first message that failed: what was wrong with it
   is said at once, so it is returned above zero. */
static int converse(struct dialogue *d, struct line *l, lsk_error *err)
{
    int warned = 0, failed = 0, r = CHAT_ON;
    while (r == CHAT_ON) {
        char *text = NULL;
        terminal_catch();
        int got = line_read(l, &text, err);
        if (terminal_interrupted() == SIGTERM || (got == LINE_INTERRUPTED && warned))
            return 0;
        if (got == LINE_END || got < 0)
            return got < 0 ? got : -failed;
        warned = got == LINE_INTERRUPTED;
        if (warned)
            fputs("(Ctrl-C again, Ctrl-D or /bye leaves)\n", stderr);
        terminal_catch();
        r = text ? handle(d, text, line_is_terminal(l), err) : CHAT_ON;
        free(text);
        if (r < 0 && !is_fatal(r)) {
            failed = failed || line_is_terminal(l) ? failed : r;
            say_error(err);
            r = CHAT_ON;
        }
        if (terminal_interrupted() == SIGTERM)
            return 0;
    }
    return r < 0 ? r : 0;
}

static int chat(const void *args, lsk_error *err)
{
    const struct chat_args *a = args;
    struct dialogue d = {0};
    struct line *l = NULL;
    char *template = NULL, history[4096];
    int r = fill(a, &d, err);
    if (r >= 0)
        r = (d.model = open_model(&a->model, &a->show, err)) ? 0 : err->code;
    if (r >= 0)
        r = check_limits(&a->limits, d.model, &d.ask, err);
    if (r >= 0)
        r = choose_template(&a->talk, &d, &template, err);
    if (r >= 0)
        r = load(a, &d, err);
    int kept = a->talk.history && r >= 0 && line_history_path("chat_history", history, sizeof history) >= 0;
    if (r >= 0)
        r = (l = line_open(kept ? history : NULL, d.colour, err)) ? 0 : err->code;
    if (r >= 0 && line_is_terminal(l))
        fprintf(stderr, "%s, context of %d tokens. /? lists the commands, Ctrl-D leaves.\n", excerpt_of(*lsk_model_about(d.model)->name ? lsk_model_about(d.model)->name : "chat").text,
                lsk_model_about(d.model)->context);
    if (r >= 0)
        r = converse(&d, l, err);
    line_close(l);
    lsk_session_close(d.session);
    lsk_model_close(d.model);
    json_decref(d.messages);
    free_limits(&d.limits);
    free_stops(&d.stop);
    free(template);
    return r;
}

static void more_help(FILE *out)
{
    fputs("\nin a conversation at a terminal\n", out);
    chat_commands_describe(out);
}

const struct command command_chat = {
    "chat",
    "talks with a model",
    "[MODEL] [OPTIONS]",
    "Asks for messages and streams the model's answers to stdout; everything else goes to stderr. Messages are written as the model's chat template\n"
    "says. What is common with the conversation so far is never computed again. On a pipe every line of stdin is a message,\n"
    "also where it begins with /, and the exit status is that of the first message that failed.",
    "  layerskip chat SmolLM2-135M-Instruct.Q4_1.gguf --temp 0.7\n"
    "  layerskip chat ./layerskip-llama3-8B --chat-template llama3 --system \"Answer in one sentence.\" --exit-layer 4\n",
    "model",
    groups,
    sizeof(struct chat_args),
    chat,
    more_help};
