/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "constraints.h"
#include "messages.h"
#include "profile.h"
#include "summary.h"
#include "testset.h"

struct verify_args {
    struct model_args model;
    struct head_args head;
    struct limit_args limits;
    struct show_args show;
    struct testset_args data;
    struct texts prompts;
    const char *file, *drafter;
    int n_predict, bos, special, ignore_eos;
    struct numbers exit_layers, drafts, seeds;
    struct reals temperatures;
};

static const struct option prompt_list_options[] = {
    {"prompt p", OPT_TEXTS, offsetof(struct verify_args, prompts), "TEXT", .help = "a prompt; may be repeated"},
    {"file f", OPT_TEXT, offsetof(struct verify_args, file), "FILE", .help = "a file with one prompt in every line, - is stdin"},
    {"special", OPT_FLAG, offsetof(struct verify_args, special), .help = "<|im_start|> and the like in the prompts are tokens"},
    {"bos", OPT_FLAG, offsetof(struct verify_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"n-predict max-tokens max-steps n", OPT_INT, offsetof(struct verify_args, n_predict), "N", "64", 1, 1 << 20, .help = "tokens of each reply"},
    {"ignore-eos", OPT_FLAG, offsetof(struct verify_args, ignore_eos), .help = "go on behind the end-of-text token"},
    {0}};

static const struct option combination_options[] = {
    {"exit-layer", OPT_NUMBERS, offsetof(struct verify_args, exit_layers), "LIST", NULL, 1, 1023,
     .help = "exit layers, as 2,4,8 or 1-29 or 4-12+4; without it the profile's, or else a quarter, half and three quarters of the layers"},
    {"num-speculations draft-max", OPT_NUMBERS, offsetof(struct verify_args, drafts), "LIST", NULL, 0, LSK_MAX_DRAFTS,
     .help = "drafts in a round; without it the profile's, or else 1,4,12"},
    {"temp temperature", OPT_REALS, offsetof(struct verify_args, temperatures), "LIST", "0", 0, 100, .help = "temperatures"},
    {"seed s", OPT_NUMBERS, offsetof(struct verify_args, seeds), "LIST", "0", 0, 2147483647, .help = "seeds, for each temperature above 0"},
    {"drafter", OPT_TEXT, offsetof(struct verify_args, drafter), "LIST", "exit",
     .help = "what proposes drafts, parted by commas: exit, ngram, recycle, several of them joined by +; all: each of the three, and all together"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct verify_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct verify_args, model.hub)},
                                             {"prompts", prompt_list_options, 0},
                                             {"prompts of a data set", testset_options, offsetof(struct verify_args, data)},
                                             {"combinations (every one is compared with plain decoding)", combination_options, 0},
                                             {"what replies may say", limit_options, offsetof(struct verify_args, limits)},
                                             {"the head of drafts", head_options, offsetof(struct verify_args, head)},
                                             {"messages", show_options, offsetof(struct verify_args, show)},
                                             {0}};

struct tokens {
    int n, cap;
    int64_t line; /* of a prompt in a data set; 0: it is from none */
    enum lsk_finish finish; /* of a reply */
    int32_t *token;
};

/* What one plain reply is made of, and the reply. */
struct plain {
    const struct tokens *prompt;
    int prompt_number;
    double temperature;
    int seed;
    struct tokens plain;
};

struct plan {
    struct tokens *prompts;
    int n_prompts;
    struct plain *samples;
    int n_samples;
    struct numbers exit_layers, drafts;
    struct profile profile;
    lsk_generate_options limits; /* nothing else is set */
    char *names;          /* the drafters' */
    const char **drafter; /* [n_drafters] */
    int n_drafters;
};

/* What is compared with plain decoding. */
struct combination {
    const char *drafter;
    int exit_layer, drafts; /* exit_layer 0: none of the drafters asks for it */
};

static int collect(void *ud, const lsk_event *e)
{
    struct tokens *t = ud;
    if (e->token >= 0 && t->n < t->cap)
        t->token[t->n++] = e->token;
    t->finish = e->finish;
    return terminal_interrupted();
}

static int reply_tokens(const struct verify_args *a, const struct plan *p, lsk_session *s, const struct plain *x, const struct combination *c, struct tokens *out, lsk_error *err)
{
    lsk_generate_options o = p->limits;
    o.drafter = c->drafter;
    o.exit_layer = c->exit_layer;
    o.num_speculations = c->drafts ? c->drafts : -1;
    o.temperature = (float)x->temperature;
    o.seed = (uint64_t)x->seed;
    o.max_tokens = a->n_predict;
    o.ignore_eos = a->ignore_eos;
    out->n = 0;
    out->finish = LSK_RUNNING;
    return reply(s, x->prompt->token, x->prompt->n, &o, collect, out, err);
}

static int make_tokens(struct tokens *t, int cap, lsk_error *err)
{
    *t = (struct tokens){.cap = cap, .token = malloc((size_t)cap * sizeof(int32_t))};
    return t->token ? 0 : complain(err, LSK_EOS, "out of memory");
}

/* What stands at a place of a reply: a token, or why it ended there. */
static struct piece_text place_text(const lsk_model *m, const struct tokens *t, int at)
{
    struct piece_text out;
    if (at < t->n)
        snprintf(out.text, sizeof out.text, "%d \"%.120s\"", t->token[at], piece_of(m, t->token[at]).text);
    else
        snprintf(out.text, sizeof out.text, "its end (%s)", finish_name(t->finish));
    return out;
}

static int equal(const struct tokens *a, const struct tokens *b)
{
    return a->n == b->n && a->finish == b->finish && !memcmp(a->token, b->token, (size_t)a->n * sizeof *a->token);
}

/* "exit layer 2", "ngram", "ngram+exit, exit layer 2" */
static const char *name_of(const struct combination *c, char *out, size_t cap)
{
    size_t n = strcmp(c->drafter, "exit") ? (size_t)snprintf(out, cap, "%s%s", c->drafter, c->exit_layer ? ", " : "") : 0;
    if (c->exit_layer && n < cap)
        snprintf(out + n, cap - n, "exit layer %d", c->exit_layer);
    return out;
}

static void say_difference(const lsk_model *m, const struct plain *x, const struct tokens *got, const struct combination *c)
{
    int at = 0;
    char name[120], line[48] = "";
    while (at < x->plain.n && at < got->n && x->plain.token[at] == got->token[at])
        at++;
    if (x->prompt->line)
        snprintf(line, sizeof line, " (line %lld)", (long long)x->prompt->line);
    printf("different: prompt %d%s, position %d of the reply, %s, %d draft%s, temperature %g, seed %d: plain %s, drafted %s\n", x->prompt_number + 1, line, at,
           name_of(c, name, sizeof name), c->drafts, plural(c->drafts), x->temperature, x->seed, place_text(m, &x->plain, at).text, place_text(m, got, at).text);
}

struct verdict {
    long compared; /* tokens */
    int replies[2], different[2]; /* greedy, sampled */
};

static void print_row(const struct combination *c, const struct verdict *v, long drafted, long accepted, long rounds)
{
    char exit_layer[16] = "-";
    if (c->exit_layer)
        snprintf(exit_layer, sizeof exit_layer, "%d", c->exit_layer);
    printf("%10s  %6d  %8ld  %9d  %10.3f  %15.2f  %s\n", exit_layer, c->drafts, v->compared, v->different[0] + v->different[1], drafted ? (double)accepted / (double)drafted : 0,
           rounds ? 1 + (double)accepted / (double)rounds : 1, c->drafter);
}

/* One combination against all samples: a row of the table. */
static int compare(const struct verify_args *a, const struct plan *p, lsk_session *s, const lsk_model *m, const struct combination *c, struct verdict *all, lsk_error *err)
{
    struct tokens got;
    struct verdict v = {0};
    long drafted = 0, accepted = 0, rounds = 0;
    int r = make_tokens(&got, a->n_predict, err);
    for (int i = 0; r >= 0 && i < p->n_samples && !terminal_interrupted(); i++) {
        const struct plain *x = &p->samples[i];
        const int sampled = x->temperature > 0;
        r = reply_tokens(a, p, s, x, c, &got, err);
        if (r < 0 || terminal_interrupted()) /* what an interruption cut short is no difference */
            break;
        const lsk_stats *stats = lsk_session_stats(s);
        v.compared += got.n;
        drafted += stats->drafted;
        accepted += stats->accepted;
        rounds += stats->rounds;
        v.replies[sampled]++;
        if (!equal(&got, &x->plain) && !v.different[sampled]++ && !v.different[!sampled] && !all->different[0] && !all->different[1])
            say_difference(m, x, &got, c);
    }
    free(got.token);
    if (r >= 0)
        print_row(c, &v, drafted, accepted, rounds);
    all->compared += v.compared;
    for (int i = 0; i < 2; i++) {
        all->replies[i] += v.replies[i];
        all->different[i] += v.different[i];
    }
    return r;
}

static void print_head(const struct plan *p)
{
    printf("%d prompt%s, %d plain repl%s", p->n_prompts, plural(p->n_prompts), p->n_samples, p->n_samples == 1 ? "y" : "ies");
    if (*p->profile.source && p->profile.draft.exit_layer)
        printf("; profile %s: exit layer %d, %d draft%s in a round", p->profile.source, p->profile.draft.exit_layer,
               p->profile.draft.num_speculations, plural(p->profile.draft.num_speculations));
    putchar('\n');
}

/* Every drafter, with every exit layer where it has one. */
static int compare_drafters(const struct verify_args *a, const struct plan *p, lsk_session *s, const lsk_model *m, struct verdict *all, lsk_error *err)
{
    int r = 0;
    for (int n = 0; r >= 0 && n < p->n_drafters; n++) {
        const int exits = strstr(p->drafter[n], "exit") ? p->exit_layers.n : 1;
        for (int e = 0; e < exits; e++)
            for (int d = 0; r >= 0 && d < p->drafts.n && !terminal_interrupted(); d++) {
                const struct combination c = {p->drafter[n], strstr(p->drafter[n], "exit") ? p->exit_layers.value[e] : 0, p->drafts.value[d]};
                r = compare(a, p, s, m, &c, all, err);
            }
    }
    return r;
}

static void print_verdict(const struct verdict *v)
{
    static const char *const names[] = {"greedy", "sampled"};
    const int different = v->different[0] + v->different[1];
    for (int i = 0; i < 2; i++)
        if (v->replies[i])
            printf("%s: %d of %d repl%s differ%s (%.2f %%)\n", names[i], v->different[i], v->replies[i], v->replies[i] == 1 ? "y" : "ies", v->replies[i] == 1 ? "s" : "",
                   100.0 * v->different[i] / v->replies[i]);
    puts(different                ? "NOT the same text"
         : terminal_interrupted() ? "interrupted: not every reply was compared"
         : !v->compared           ? "NOTHING compared: no reply has a token"
                                  : "every drafted reply equals plain decoding");
}

static int compare_all(const struct verify_args *a, struct plan *p, lsk_model *m, lsk_error *err)
{
    const struct combination plain = {.drafter = "none"};
    lsk_session *s = lsk_session_open(m, err);
    struct verdict all = {0};
    int r = s ? 0 : err->code;
    for (int i = 0; r >= 0 && i < p->n_samples && !terminal_interrupted(); i++) {
        r = make_tokens(&p->samples[i].plain, a->n_predict, err);
        if (r >= 0)
            r = reply_tokens(a, p, s, &p->samples[i], &plain, &p->samples[i].plain, err);
    }
    if (r >= 0)
        print_head(p);
    if (r >= 0)
        printf("exit layer  drafts    tokens  different  acceptance  accepted length  drafter\n");
    if (r >= 0)
        r = compare_drafters(a, p, s, m, &all, err);
    lsk_session_close(s);
    if (r >= 0)
        print_verdict(&all);
    return r < 0 ? r : all.different[0] || all.different[1] || !all.compared;
}

/* The prompts of the data set behind those that there are. */
static int read_testset(const struct verify_args *a, const lsk_model *m, struct testset *set, struct plan *p, lsk_error *err)
{
    const struct prompt_args how = {.bos = a->bos, .special = a->special};
    int r = testset_prepare(set, m, &how, err);
    struct tokens *bigger = r >= 0 ? realloc(p->prompts, (size_t)(p->n_prompts + set->n + 1) * sizeof *bigger) : NULL;
    if (r >= 0 && !bigger)
        return complain(err, LSK_EOS, "out of memory");
    p->prompts = bigger ? bigger : p->prompts;
    for (int i = 0; r >= 0 && i < set->n; i++) {
        struct sample s;
        r = testset_sample(set, m, &how, i, &s, err);
        if (r < 0)
            break;
        p->prompts[p->n_prompts++] = (struct tokens){.n = s.n, .token = s.token, .line = s.line};
        s.token = NULL;
        sample_free(&s);
    }
    return r;
}

/* Prompts from -p and the lines of the file; empty lines are none, but -p "" is a mistake. */
static int read_prompts(const struct verify_args *a, const lsk_model *m, char *lines, struct plan *p, lsk_error *err)
{
    struct prompt_args how = {.bos = a->bos, .special = a->special};
    int cap = a->prompts.n + 1, r = 0, line = 0;
    char place[160];
    for (const char *c = lines; c && *c; c++)
        cap += *c == '\n';
    p->prompts = calloc((size_t)cap, sizeof *p->prompts);
    if (!p->prompts)
        return complain(err, LSK_EOS, "out of memory");
    for (int i = 0; r >= 0 && (i < a->prompts.n || lines); i++) {
        const char *text = i < a->prompts.n ? a->prompts.item[i] : strsep(&lines, "\n");
        struct tokens *t = &p->prompts[p->n_prompts];
        if (!*text && i < a->prompts.n)
            r = complain(err, LSK_EUSAGE, "-p: prompt %d is empty: give a text", i + 1);
        if (i >= a->prompts.n) {
            snprintf(place, sizeof place, "%s: line %d", excerpt_of(a->file).text, ++line);
            how.file = place;
        }
        if (r >= 0 && *text && (r = t->n = encode_prompt(m, &how, text, strlen(text), &t->token, err)) >= 0)
            p->n_prompts++;
    }
    if (r < 0 || p->n_prompts || a->data.path)
        return r < 0 ? r : 0;
    if (a->file)
        return complain(err, LSK_EUSAGE, "%s: no prompts: every line is empty", excerpt_of(a->file).text);
    return complain(err, LSK_EUSAGE, "no prompts: give -p TEXT, -f FILE or --data-path FILE");
}

static int plan_samples(const struct verify_args *a, struct plan *p, lsk_error *err)
{
    p->samples = calloc((size_t)p->n_prompts * (size_t)a->temperatures.n * (size_t)a->seeds.n, sizeof *p->samples);
    if (!p->samples)
        return complain(err, LSK_EOS, "out of memory");
    for (int i = 0; i < p->n_prompts; i++)
        for (int t = 0; t < a->temperatures.n; t++)
            for (int s = 0; s < (a->temperatures.value[t] > 0 ? a->seeds.n : 1); s++)
                p->samples[p->n_samples++] = (struct plain){&p->prompts[i], i, a->temperatures.value[t], a->seeds.value[s], {0}};
    return 0;
}

/* "exit,ngram" or "all" as names that there are. */
static int plan_drafters(const struct verify_args *a, struct plan *p, lsk_error *err)
{
    char *rest, *name;
    int r = 0;
    p->names = rest = strdup(strcmp(a->drafter, "all") ? a->drafter : "exit,ngram,recycle,ngram+exit+recycle");
    p->drafter = p->names ? calloc(strlen(p->names) + 1, sizeof *p->drafter) : NULL;
    if (!p->drafter)
        return complain(err, LSK_EOS, "out of memory");
    while (r >= 0 && (name = strsep(&rest, ","))) {
        r = check_drafter(name, err);
        if (r >= 0 && !strcmp(name, "none"))
            r = complain(err, LSK_EUSAGE, "--drafter none: plain decoding has nothing to be compared with: give exit");
        p->drafter[p->n_drafters++] = name;
    }
    return r;
}

/* Which exit layers and drafts: those asked for, else the profile's, else some of each. */
static int plan_drafts(const struct verify_args *a, const lsk_model_info *info, struct plan *p, lsk_error *err)
{
    int r = 0;
    const lsk_profile *own = &p->profile.draft;
    p->exit_layers = a->exit_layers.n || !own->exit_layer ? a->exit_layers : (struct numbers){1, {own->exit_layer}};
    p->drafts = a->drafts.n                                ? a->drafts
                : own->exit_layer && own->num_speculations ? (struct numbers){1, {own->num_speculations}}
                                                           : (struct numbers){3, {1, 4, 12}};
    for (int quarter = 1, few = !p->exit_layers.n; few && quarter <= 3; quarter++) {
        int e = info->n_layers * quarter / 4;
        if (e > 0 && (!p->exit_layers.n || e > p->exit_layers.value[p->exit_layers.n - 1]))
            p->exit_layers.value[p->exit_layers.n++] = e;
    }
    for (int i = 0; !r && i < p->exit_layers.n; i++)
        r = check_exit_layer(info, "--exit-layer", p->exit_layers.value[i], err);
    return r;
}

/* Loads the model with room for the longest prompt and its reply. */
static int load_for(const struct verify_args *a, lsk_model *m, const struct plan *p, lsk_error *err)
{
    lsk_model_options needs = {0};
    if (apply_head(&a->head, &needs, err) < 0)
        return err->code;
    for (int i = 0; i < p->n_prompts; i++)
        if (check_context(lsk_model_about(m), "--n-predict", a->n_predict, p->prompts[i].n, err) < 0)
            return err->code;
    for (int i = 0; i < p->n_prompts; i++)
        needs.context = p->prompts[i].n + a->n_predict > needs.context ? p->prompts[i].n + a->n_predict : needs.context;
    for (int i = 0; i < p->drafts.n; i++)
        widen_drafts(&needs, p->drafts.value[i]);
    return load_model(m, &a->model, &a->show, &needs, err);
}

static int verify(const void *args, lsk_error *err)
{
    const struct verify_args *a = args;
    struct plan p = {0};
    struct limit_values limits = {.text = NULL};
    struct testset set = {0};
    char *lines = NULL;
    size_t n = 0;
    lsk_model *m = NULL;
    int r = plan_drafters(a, &p, err);
    for (int i = 0; r >= 0 && i < a->drafts.n; i++)
        if (!a->drafts.value[i])
            r = complain(err, LSK_EUSAGE, "--num-speculations 0: plain decoding has nothing to be compared with: give 1 to %d", LSK_MAX_DRAFTS);
    if (r >= 0 && a->file)
        r = read_stream(a->file, &lines, &n, err);
    if (r >= 0 && a->data.path)
        r = testset_open(&set, &a->data, 0, err);
    if (r >= 0)
        r = apply_limits(&a->limits, &limits, &p.limits, err);
    if (r >= 0)
        r = (m = open_model(&a->model, &a->show, err)) ? 0 : err->code;
    if (r >= 0) {
        p.limits.ignore_eos = a->ignore_eos;
        r = check_limits(&a->limits, m, &p.limits, err);
    }
    if (r >= 0)
        p.profile = profile_find(lsk_model_about(m));
    if (r >= 0)
        r = read_prompts(a, m, lines, &p, err);
    if (r >= 0 && a->data.path)
        r = read_testset(a, m, &set, &p, err);
    if (r >= 0)
        r = plan_samples(a, &p, err);
    if (r >= 0)
        r = plan_drafts(a, lsk_model_about(m), &p, err);
    if (r >= 0)
        r = load_for(a, m, &p, err);
    if (r >= 0)
        r = compare_all(a, &p, m, err);
    lsk_model_close(m);
    for (int i = 0; i < p.n_samples; i++)
        free(p.samples[i].plain.token);
    for (int i = 0; i < p.n_prompts; i++)
        free(p.prompts[i].token);
    free(p.samples);
    free(p.prompts);
    free_limits(&limits);
    free(p.names);
    free(p.drafter);
    testset_close(&set);
    free(lines);
    return r;
}

const struct command command_verify = {
    "verify",
    "compares drafted replies with plain decoding, token for token",
    "[MODEL] [-p TEXT | -f FILE | --data-path FILE] [OPTIONS]",
    "Every prompt is continued plainly and with every combination of drafter, exit layer and draft count. Exit status 0 says that all replies are equal\n"
    "(tokens and the reason of their end), 1 that one is not (then the first differing position is printed) or that there was nothing to compare.",
    "  layerskip verify model.gguf -p \"Once upon a time\" --exit-layer 1-29 --num-speculations 1-12\n"
    "  layerskip verify ./layerskip-llama2-7B --dataset human_eval --data-path HumanEval.jsonl --num-samples 20 --drafter all --temp 0,0.6 --seed 1-5 -n 256\n",
    "model",
    groups,
    sizeof(struct verify_args),
    verify,
    NULL};
