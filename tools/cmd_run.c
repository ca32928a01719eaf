/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "constraints.h"
#include "messages.h"
#include "profile.h"
#include "summary.h"
#include "writer.h"

struct reply_args {
    int n_predict, context, ignore_eos;
    struct texts stop;
    struct numbers stop_ids;
    const char *preset;
};
struct output_args {
    const char *colour, *stats;
    int verbose_prompt, n_probs;
};
struct run_args {
    struct model_args model;
    struct prompt_args prompt;
    struct reply_args reply;
    struct sampling_args sampling;
    struct limit_args limits;
    struct draft_args draft;
    struct head_args head;
    struct output_args output;
    struct show_args show;
};

static const struct option reply_options[] = {
    {"n-predict max-tokens max-steps max-new-tokens n", OPT_INT, offsetof(struct reply_args, n_predict), "N", "256", -2, 1 << 30,
     .help = "most tokens of the reply; 0 reads the prompt and gives the statistics, -1 or -2 is until the context is full"},
    {"ctx-size c", OPT_INT, offsetof(struct reply_args, context), "N", "-1", -1, 1 << 30,
     .help = "tokens that memory is taken for; -1 is prompt and reply (4096 more than the prompt with -n -1), 0 the model's maximum"},
    {"reverse-prompt stop stop-words r", OPT_TEXTS, offsetof(struct reply_args, stop), "TEXT",
     .help = "end the reply before this text; may be repeated"},
    {"stop-token-ids", OPT_NUMBERS, offsetof(struct reply_args, stop_ids), "IDS", NULL, 0, 1 << 24, .help = "end the reply at these tokens too"},
    {"ignore-eos", OPT_FLAG, offsetof(struct reply_args, ignore_eos), .help = "go on behind the end-of-text token"},
    {"preset", OPT_CHOICE, offsetof(struct reply_args, preset), NULL, .choices = "layerskip", .sets = "temp=0.6 top-p=0.9 seed=42 n-predict=512",
     .help = "settings of the original scripts (temperature 0.6, top-p 0.9, seed 42, 512 tokens), where not given"},
    {0}};

static const struct option output_options[] = {
    {"color colour", OPT_CHOICE, offsetof(struct output_args, colour), NULL, "auto", .choices = "auto on off",
     .help = "accepted drafts in green, the model's own tokens plain; auto is on a terminal and without NO_COLOR"},
    {"stats", OPT_CHOICE, offsetof(struct output_args, stats), NULL, "text", .choices = "text json none", .help = "statistics on stderr at the end"},
    {"n-probs logprobs", OPT_INT, offsetof(struct output_args, n_probs), "N", "0", 0, 20,
     .help = "write a line of JSON on stderr for every token: its log-probability, and the N most probable tokens with theirs, as the model gives them before sampling and limits"},
    {"verbose-prompt", OPT_FLAG, offsetof(struct output_args, verbose_prompt), .help = "print the prompt's tokens on stderr first"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct run_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct run_args, model.hub)},
                                             {"prompt", prompt_options, offsetof(struct run_args, prompt)},
                                             {"reply", reply_options, offsetof(struct run_args, reply)},
                                             {"sampling", sampling_options, offsetof(struct run_args, sampling)},
                                             {"what the reply may say", limit_options, offsetof(struct run_args, limits)},
                                             {"self-speculation", draft_options, offsetof(struct run_args, draft)},
                                             {"the head of drafts", head_options, offsetof(struct run_args, head)},
                                             {"output", output_options, offsetof(struct run_args, output)},
                                             {"messages", show_options, offsetof(struct run_args, show)},
                                             {0}};

/* How many tokens a session must hold: counted with the tokenizer alone, before memory is taken. */
static int plan_context(const struct run_args *a, const lsk_model *m, const char *text, size_t n, int32_t **tokens, int *n_tokens, lsk_error *err)
{
    const lsk_model_info *info = lsk_model_about(m);
    int wanted = a->reply.context, room = a->reply.n_predict < 0 ? 4096 : a->reply.n_predict ? a->reply.n_predict : 1, context = wanted, r;
    r = *n_tokens = encode_prompt(m, &a->prompt, text, n, tokens, err);
    for (int i = 0; a->output.verbose_prompt && i < *n_tokens; i++)
        fprintf(stderr, "%8d  \"%s\"\n", (*tokens)[i], piece_of(m, (*tokens)[i]).text);
    if (wanted < 0)
        context = room > info->context_max - *n_tokens ? info->context_max : *n_tokens + room;
    else if (wanted == 0)
        context = info->context_max;
    if (r >= 0)
        r = check_context(info, "--ctx-size", wanted, 0, err);
    if (r >= 0 && *n_tokens >= context)
        r = complain(err, LSK_EUSAGE, "the prompt has %d token%s, the context holds %d: shorten the prompt%s", *n_tokens, plural(*n_tokens), context,
                     context < info->context_max ? " or give a larger --ctx-size" : "");
    for (int i = 0; r >= 0 && i < a->reply.stop_ids.n; i++)
        if (a->reply.stop_ids.value[i] >= info->n_vocab)
            r = complain(err, LSK_EUSAGE, "--stop-token-ids: %d: this model has %d tokens: give 0 to %d", a->reply.stop_ids.value[i], info->n_vocab, info->n_vocab - 1);
    if (r >= 0 && a->draft.depth > info->n_layers)
        r = complain(err, LSK_EUSAGE, "--depth: %d: this model has %d layers: give 1 to %d, or 0", a->draft.depth, info->n_layers, info->n_layers);
    if (r >= 0)
        r = check_exit_layer(info, "--exit-layer", a->draft.exit_layer, err);
    return r < 0 ? r : context;
}

static int fill_options(const struct run_args *a, lsk_generate_options *o, struct texts *stop, struct limit_values *limits, lsk_error *err)
{
    int r = apply_sampling(&a->sampling, o, err);
    if (r >= 0)
        r = apply_limits(&a->limits, limits, o, err);
    if (r < 0)
        return r;
    o->max_tokens = a->reply.n_predict < 0 ? 0 : a->reply.n_predict;
    o->ignore_eos = a->reply.ignore_eos;
    o->n_probs = a->output.n_probs;
    o->eos = a->reply.stop_ids.value;
    o->n_eos = a->reply.stop_ids.n;
    o->show_special = a->prompt.special;
    if (copy_stops(&a->reply.stop, a->prompt.escape, stop, err) < 0)
        return err->code;
    o->stop = stop->item;
    o->n_stop = stop->n;
    return apply_drafting(&a->draft, o, err);
}

/* Did it decide? Not where an option did. */
static int decided(const struct profile *p, const lsk_generate_options *o, const lsk_stats *s)
{
    if (*p->drafter && o->drafter == p->drafter)
        return 1;
    return *p->source && !strcmp(o->drafter, "auto") && !o->exit_layer && !o->num_speculations && s->exit_layer == p->draft.exit_layer;
}

/* ---- log-probabilities ---- */

struct teller {
    struct writer writer;
    const lsk_model *model;
    int n_probs;
};

static json_t *token_json(const lsk_model *m, int32_t token, float logprob)
{
    size_t n = 0;
    const char *piece = lsk_piece(m, token, &n);
    json_t *text = piece ? json_stringn(piece, n) : NULL; /* of a part of a character: its bytes, shown */
    return json_pack("{s:i, s:o, s:f}", "token", (int)token, "text", text ? text : json_string(piece_of(m, token).text), "logprob", (double)logprob);
}

/* {"token": 260, "text": " the", "logprob": -1.25, "drafted": true, "top_logprobs": [{"token": 260, "text": " the", "logprob": -1.25}, ...]} */
static int tell(void *ud, const lsk_event *e)
{
    struct teller *t = ud;
    json_t *line = t->n_probs && e->token >= 0 ? token_json(t->model, e->token, e->logprob) : NULL, *top = json_array();
    for (int i = 0; line && i < e->n_top; i++)
        json_array_append_new(top, token_json(t->model, e->top[i].token, e->top[i].logprob));
    if (line) {
        json_object_set_new(line, "drafted", json_boolean(e->drafted));
        json_object_set(line, "top_logprobs", top);
        json_dumpf(line, stderr, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputc('\n', stderr);
    }
    json_decref(top);
    json_decref(line);
    return writer_event(&t->writer, e);
}

static int generate(const struct run_args *a, lsk_model *m, const struct profile *profile, const int32_t *tokens, int n,
                    const lsk_generate_options *o, lsk_error *err)
{
    struct teller t = {.model = m, .n_probs = a->output.n_probs,
                       .writer = {.colour = terminal_colour(a->output.colour), .err = err, .finish = a->reply.n_predict ? LSK_RUNNING : LSK_FINISH_LENGTH}};
    struct progress progress = progress_start(a->show.progress);
    lsk_session *s = lsk_session_open(m, err);
    int r = s ? start_reply(s, tokens, n, o, &progress, err) : err->code;
    if (r >= 0)
        r = writer_end(&t.writer, a->reply.n_predict, a->reply.n_predict ? finish_reply(s, tell, &t, err) : 0);
    if (r >= 0 && strcmp(a->output.stats, "none")) {
        const lsk_stats *stats = lsk_session_stats(s);
        const struct reply_facts facts = {.finish = terminal_interrupted() || !t.writer.finish ? LSK_FINISH_CANCELLED : t.writer.finish,
                                          .rss = peak_rss(),
                                          .profile = decided(profile, o, stats) ? profile->source : NULL,
                                          .top_k = a->sampling.top_k,
                                          .top_p = a->sampling.top_p,
                                          .min_p = a->sampling.min_p};
        (strcmp(a->output.stats, "json") ? summary_text : summary_json)(stderr, stats, lsk_model_about(m), &facts);
    }
    lsk_session_close(s);
    return r;
}

static int run(const void *args, lsk_error *err)
{
    const struct run_args *a = args;
    lsk_generate_options o = {0};
    struct texts stop = {0};
    struct limit_values limits = {.text = NULL};
    lsk_model *m = NULL;
    char *text = NULL;
    int32_t *tokens = NULL;
    size_t n = 0;
    int n_tokens = 0, context = 0, r = fill_options(a, &o, &stop, &limits, err);
    if (r >= 0)
        r = read_prompt(&a->prompt, &text, &n, err);
    if (r >= 0)
        r = (m = open_model(&a->model, &a->show, err)) ? 0 : err->code;
    if (r >= 0)
        r = check_limits(&a->limits, m, &o, err);
    if (r >= 0)
        r = context = plan_context(a, m, text, n, &tokens, &n_tokens, err);
    if (r >= 0) {
        struct profile profile = profile_find(lsk_model_about(m));
        profile_apply(&profile, &o);
        lsk_model_options needs = {.context = context, .profile = &profile.draft};
        widen_drafts(&needs, o.num_speculations);
        r = apply_head(&a->head, &needs, err);
        r = r < 0 ? r : load_model(m, &a->model, &a->show, &needs, err);
        r = r < 0 ? r : generate(a, m, &profile, tokens, n_tokens, &o, err);
    }
    lsk_model_close(m);
    free(tokens);
    free(text);
    free_limits(&limits);
    free_stops(&stop);
    return r < 0 ? r : 0;
}

const struct command command_run = {
    "run",
    "writes what the model thinks comes next",
    "[MODEL] [-p TEXT | -f FILE] [OPTIONS]",
    "Continues a prompt and streams the text to stdout; statistics follow on stderr. With self-speculation the first layers draft tokens and\n"
    "all layers verify them in one pass: the text is the one that plain decoding gives, whatever the exit layer and the number of drafts.",
    "  layerskip run model.gguf -p \"Once upon a time\" -n 100\n"
    "  layerskip run ./layerskip-llama2-7B -f story.txt --exit-layer 8 --num-speculations 6 --temp 0.6 --seed 42 --color on\n",
    "model",
    groups,
    sizeof(struct run_args),
    run,
    NULL};
