/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "machine.h"
#include "measure.h"
#include "messages.h"
#include "profile.h"
#include "record.h"
#include "summary.h"

enum { TRIALS_MAX = 1024, TEAMS_MAX = 16 };

struct bench_args {
    struct model_args model;
    struct sampling_args sampling;
    struct head_args head;
    struct show_args show;
    struct numbers n_prompt, n_gen, pairs, depth, exit_layers, drafts;
    const char *file, *output, *drafters;
    int repetitions, warmup, read_gib, save_profile;
};

static const struct option test_options[] = {
    {"n-prompt p", OPT_NUMBERS, offsetof(struct bench_args, n_prompt), "LIST", "512", 0, 1 << 20, .help = "prompt lengths to measure; 0 is none"},
    {"n-gen n", OPT_NUMBERS, offsetof(struct bench_args, n_gen), "LIST", "128", 0, 1 << 20, .help = "reply lengths to measure; 0 is none"},
    {"pg", OPT_NUMBERS, offsetof(struct bench_args, pairs), "P,N", NULL, 1, 1 << 20,
     .help = "a prompt of P tokens and a reply of N, measured together; more pairs may follow"},
    {"n-depth d", OPT_NUMBERS, offsetof(struct bench_args, depth), "LIST", "0", 0, 1 << 20, .help = "tokens that the context holds before"},
    {"exit-layer", OPT_NUMBERS, offsetof(struct bench_args, exit_layers), "LIST", NULL, 1, 1023,
     .help = "exit layers to draft from; with neither this nor --num-speculations the model's profile is measured, if it has one"},
    {"num-speculations draft-max", OPT_NUMBERS, offsetof(struct bench_args, drafts), "LIST", NULL, 1, LSK_MAX_DRAFTS,
     .help = "drafts in a round; with --drafter and without this: as many as are worth their time"},
    {"drafter", OPT_TEXT, offsetof(struct bench_args, drafters), "LIST", .help = "drafters to compare, as exit,ngram,recycle,ngram+recycle; + joins those that draft together"},
    {"file f", OPT_TEXT, offsetof(struct bench_args, file), "FILE",
     .help = "replies continue this text (at a depth: its first tokens); without it they continue random tokens"},
    {0}};

static const struct option form_options[] = {
    {"repetitions r", OPT_INT, offsetof(struct bench_args, repetitions), "N", "5", 1, SAMPLES_MAX,
     .help = "measurements of each test; drafted and plain replies take turns"},
    {"warmup", OPT_FLAG, offsetof(struct bench_args, warmup), NULL, "on", .help = "run each test once before it counts"},
    {"read-gib", OPT_INT, offsetof(struct bench_args, read_gib), "GIB", "1", 0, 1024,
     .help = "memory over which the CPU's read bandwidth is measured first; 0 leaves it out"},
    {"save-profile", OPT_FLAG, offsetof(struct bench_args, save_profile),
     .help =
         "keep the fastest exit layer and drafts of this run as the model's profile, or that plain decoding stays (less than 3 % gained): run, verify and bench then "
         "draft so by themselves. Acceptance depends on the text, so it needs one with -f, and -r 3 or more"},
    {"output o", OPT_CHOICE, offsetof(struct bench_args, output), NULL, "md", .choices = "md csv json jsonl", .help = "form of the result"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct bench_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct bench_args, model.hub)},
                                             {"tests (a LIST is 1,2,4 or 1-8 or 4-32+4 or 1-64*2)", test_options, 0},
                                             {"the head of drafts", head_options, offsetof(struct bench_args, head)},
                                             {"sampling", sampling_options, offsetof(struct bench_args, sampling)},
                                             {"measuring", form_options, 0},
                                             {"messages", show_options, offsetof(struct bench_args, show)},
                                             {0}};

struct trial {
    int n_prompt, n_gen, depth;
    const char *drafter;       /* NULL: plain */
    int exit_layer, drafts;    /* 0: none of that drafter; as many as are worth their time */
    const struct trial *plain; /* what a drafted trial is compared with, or NULL */
    struct samples rate, ns;
    double bytes, reply_ns, waits; /* over all repetitions */
    int rounds, drafted, accepted, tokens;
};

struct bench {
    const struct bench_args *args;
    lsk_model *model;
    const lsk_model_info *info;
    struct profile profile;
    lsk_session *session;
    lsk_generate_options sampling; /* nothing else is set */
    char sampling_text[96];
    char teams[256]; /* the drafters, each with a zero behind it */
    int n_teams;
    struct trial *trials;
    int n_trials, n_text, room, rows; /* room: tokens that `tokens` holds; rows: that are printed */
    int32_t *text, *tokens;
    double read; /* bytes per second */
    struct machine machine;
};

static int add_trial(struct bench *b, struct trial t, lsk_error *err)
{
    if (b->n_trials == TRIALS_MAX)
        return complain(err, LSK_EUSAGE, "these lists ask for more than %d tests", TRIALS_MAX);
    int need = (t.depth > b->n_text ? t.depth : b->n_text) + t.n_prompt + t.n_gen + 2;
    if (need > b->info->context_max)
        return complain(err, LSK_EUSAGE, "%d tokens before (--n-depth, --file), %d of prompt (--n-prompt) and %d of reply (--n-gen) do not fit this model's context of %d: give less",
                        need - t.n_prompt - t.n_gen - 2, t.n_prompt, t.n_gen, b->info->context_max);
    b->room = need > b->room ? need : b->room;
    b->trials[b->n_trials++] = t;
    return 0;
}

/* Plain decoding, then every combination of exit layer and drafts. */
static int add_replies(struct bench *b, int n_prompt, int n_gen, int depth, const struct numbers *exits, const struct numbers *drafts, lsk_error *err)
{
    static const struct numbers no_exit = {.n = 1};
    const struct trial *plain = &b->trials[b->n_trials];
    int r = add_trial(b, (struct trial){.n_prompt = n_prompt, .n_gen = n_gen, .depth = depth}, err);
    const char *team = b->teams;
    for (int i = 0; i < b->n_teams; i++, team += strlen(team) + 1) {
        const struct numbers *own = strstr(team, "exit") ? exits : &no_exit;
        for (int e = 0; e < own->n; e++)
            for (int d = 0; !r && d < drafts->n; d++)
                r = add_trial(b, (struct trial){n_prompt, n_gen, depth, team, own->value[e], drafts->value[d], .plain = plain}, err);
    }
    return r;
}

/* The trial with a number of drafts from an exit layer that is fastest against plain decoding, or NULL. */
static const struct trial *best_trial(const struct bench *b)
{
    const struct trial *best = NULL;
    for (const struct trial *t = b->trials; t < b->trials + b->n_trials; t++)
        if (t->drafts && !strcmp(t->drafter, "exit") && (!best || samples_ratio(&t->rate, &t->plain->rate) > samples_ratio(&best->rate, &best->plain->rate)))
            best = t;
    return best;
}

/* "exit,ngram+recycle" as teams. */
static int read_teams(struct bench *b, const char *list, lsk_error *err)
{
    int r = 0;
    if (strlen(list) >= sizeof b->teams)
        return complain(err, LSK_EUSAGE, "--drafter: longer than %zu characters", sizeof b->teams - 1);
    strcpy(b->teams, list);
    for (char *p = b->teams, *end; !r && p; p = end, b->n_teams++) {
        if ((end = strchr(p, ',')))
            *end++ = 0;
        r = check_drafter(p, err);
    }
    return r;
}

static int plan_trials(struct bench *b, const lsk_model_info *info, lsk_error *err)
{
    const struct bench_args *a = b->args;
    struct numbers exits = a->exit_layers, drafts = a->drafts;
    const lsk_profile *own = &b->profile.draft;
    int r = 0, asked = exits.n || drafts.n || own->exit_layer || a->drafters;
    if (asked)
        r = read_teams(b, a->drafters ? a->drafters : "exit", err);
    if (asked && !exits.n)
        exits = (struct numbers){1, {own->exit_layer ? own->exit_layer : info->n_layers > 4 ? info->n_layers / 4 : 1}};
    if (asked && !drafts.n)
        drafts = (struct numbers){1, {a->drafters ? 0 : own->num_speculations ? own->num_speculations : 4}};
    for (int e = 0; !r && e < exits.n; e++)
        r = check_exit_layer(info, "--exit-layer", exits.value[e], err);
    for (int i = 0; !r && i < a->depth.n; i++) {
        for (int p = 0; !r && p < a->n_prompt.n; p++)
            if (a->n_prompt.value[p])
                r = add_trial(b, (struct trial){.n_prompt = a->n_prompt.value[p], .depth = a->depth.value[i]}, err);
        for (int n = 0; !r && n < a->n_gen.n; n++)
            if (a->n_gen.value[n])
                r = add_replies(b, 0, a->n_gen.value[n], a->depth.value[i], &exits, &drafts, err);
        for (int k = 0; !r && k + 1 < a->pairs.n; k += 2)
            r = add_replies(b, a->pairs.value[k], a->pairs.value[k + 1], a->depth.value[i], &exits, &drafts, err);
    }
    if (!r && a->save_profile && !best_trial(b))
        r = complain(err, LSK_EUSAGE, "--save-profile: no reply would be drafted: give --n-gen, --exit-layer and --num-speculations");
    return r || b->n_trials ? r : complain(err, LSK_EUSAGE, "no tests: give --n-prompt, --n-gen or --pg");
}

/* The settings that take part, for people. */
static void describe_sampling(const lsk_generate_options *o, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, o->temperature > 0 ? "temp %g" : "greedy", (double)o->temperature);
    if (o->temperature > 0 && o->top_k)
        n += (size_t)snprintf(out + n, cap - n, " top-k %d", o->top_k);
    if (o->temperature > 0 && o->top_p > 0)
        n += (size_t)snprintf(out + n, cap - n, " top-p %g", (double)o->top_p);
    if (o->temperature > 0 && o->min_p > 0)
        n += (size_t)snprintf(out + n, cap - n, " min-p %g", (double)o->min_p);
    if (o->temperature > 0)
        snprintf(out + n, cap - n, " seed %llu", (unsigned long long)o->seed);
}

static int32_t random_token(const struct bench *b, uint64_t x)
{
    x = (x + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    return (int32_t)((x ^ x >> 31) % (uint64_t)b->info->n_vocab);
}

/* The last token of a prompt goes through the layers in the reply's first round, so a test of the prompt alone has one more. */
static int own_tokens(const struct trial *t)
{
    return t->n_prompt + (t->n_gen == 0);
}

/* What stands in the context before the test (the same in every repetition), then the test's own prompt (new each time). Returns the number of the
 * former. */
static int lay_tokens(struct bench *b, const struct trial *t, int repetition)
{
    int before = t->depth ? t->depth : t->n_gen && !t->n_prompt ? b->n_text ? b->n_text : 1 : 0;
    for (int i = 0; i < before; i++)
        b->tokens[i] = b->n_text ? b->text[i % b->n_text] : random_token(b, (uint64_t)i);
    if (!b->n_text && t->n_gen && !t->n_prompt)
        b->tokens[before - 1] = random_token(b, (uint64_t)repetition << 32);
    for (int i = 0; i < own_tokens(t); i++)
        b->tokens[before + i] = random_token(b, (uint64_t)(repetition + 1) << 32 | (uint32_t)i);
    return before;
}

static int run_once(struct bench *b, struct trial *t, int repetition, int count, lsk_error *err)
{
    int before = lay_tokens(b, t, repetition), r = 0;
    lsk_generate_options o = b->sampling;
    o.drafter = t->drafter ? t->drafter : "none";
    o.exit_layer = t->exit_layer;
    o.num_speculations = t->drafter ? t->drafts : -1;
    o.max_tokens = 1;
    o.ignore_eos = 1;
    if (t->n_prompt && before)
        r = reply(b->session, b->tokens, before, &o, NULL, NULL, err);
    o.max_tokens = t->n_gen ? t->n_gen : 1;
    if (r >= 0)
        r = reply(b->session, b->tokens, before + own_tokens(t), &o, NULL, NULL, err);
    if (r < 0 || !count || terminal_interrupted())
        return r;
    const lsk_stats *s = lsk_session_stats(b->session);
    double ns = (t->n_prompt ? (double)s->prompt_ns : 0) + (t->n_gen ? (double)s->reply_ns : 0);
    samples_add(&t->ns, ns);
    samples_add(&t->rate, ns > 0 ? (t->n_prompt + (t->n_gen ? s->reply_tokens : 0)) / ns * 1e9 : 0);
    t->bytes += (double)s->reply_bytes;
    t->waits += (double)s->waits;
    t->tokens += s->reply_tokens;
    t->reply_ns += (double)s->reply_ns;
    t->rounds += s->rounds;
    t->drafted += s->drafted;
    t->accepted += s->accepted;
    return 0;
}

static void test_name(const struct trial *t, char *out, size_t cap)
{
    char drafts[64] = "", depth[24] = "";
    size_t n = 0;
    if (t->drafter && strcmp(t->drafter, "exit"))
        n = (size_t)snprintf(drafts, sizeof drafts, " %.31s", t->drafter);
    if (t->exit_layer)
        n += (size_t)snprintf(drafts + n, sizeof drafts - n, " E%d", t->exit_layer);
    if (t->drafts)
        snprintf(drafts + n, sizeof drafts - n, " d%d", t->drafts);
    if (t->depth)
        snprintf(depth, sizeof depth, " @ d%d", t->depth);
    if (t->n_prompt && t->n_gen)
        snprintf(out, cap, "pp%d+tg%d%s%s", t->n_prompt, t->n_gen, drafts, depth);
    else
        snprintf(out, cap, "%s%d%s%s", t->n_gen ? "tg" : "pp", t->n_gen ? t->n_gen : t->n_prompt, drafts, depth);
}

struct outcome {
    char test[128], rate[40];
    double gb_per_s, of_read, acceptance, length, speedup;
};

static struct outcome outcome_of(const struct bench *b, const struct trial *t)
{
    struct outcome o = {.gb_per_s = t->n_gen && t->reply_ns > 0 ? t->bytes / t->reply_ns : NAN};
    o.of_read = b->read > 0 ? 1e11 * o.gb_per_s / b->read : NAN;
    o.acceptance = t->drafted ? (double)t->accepted / t->drafted : NAN;
    o.length = t->drafted ? 1 + (double)t->accepted / t->rounds : NAN;
    o.speedup = t->plain ? samples_ratio(&t->rate, &t->plain->rate) : NAN;
    test_name(t, o.test, sizeof o.test);
    size_t n = (size_t)snprintf(o.rate, sizeof o.rate, "%.2f", samples_mean(&t->rate));
    if (t->rate.n > 1)
        snprintf(o.rate + n, sizeof o.rate - n, " ± %.2f", samples_spread(&t->rate));
    return o;
}

/* What is the same in all rows stands above them. */
static void print_subject(const struct bench *b)
{
    const lsk_model_info *i = b->info;
    char size[32], params[32];
    printf("%s %s, %s, %s parameters; %s, %d thread%s; %s", excerpt_of(*i->name ? i->name : i->family).text, i->weight_type, bytes_text(i->memory.weights, size, sizeof size),
           count_text(i->n_params, params, sizeof params), i->device, i->threads, plural(i->threads), b->sampling_text);
    if (i->draft_head)
        printf("; drafts among %d tokens", i->draft_head);
    fputs("\n\n", stdout);
}

static void print_markdown(const struct bench *b, const struct trial *t, int first)
{
    struct outcome o = outcome_of(b, t);
    struct record r = {0};
    record_text(&r, "test", o.test);
    record_text(&r, "t/s (mean ± sd)", o.rate);
    record_number(&r, "median", "%.2f", samples_median(&t->rate));
    record_number(&r, "GB/s", "%.2f", o.gb_per_s);
    record_number(&r, "% of read", "%.1f", o.of_read);
    record_number(&r, "acceptance", "%.3f", o.acceptance);
    record_number(&r, "accepted length", "%.2f", o.length);
    record_number(&r, "speed-up", "%.3f", o.speedup);
    if (first) {
        print_subject(b);
        record_markdown(stdout, &r, 1);
    }
    record_markdown(stdout, &r, 0);
}

static void samples_json(const struct samples *s, const char *format, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < s->n && n + 32 < cap; i++) {
        n += (size_t)snprintf(out + n, cap - n, i ? ", " : "");
        n += (size_t)snprintf(out + n, cap - n, format, s->value[i]);
    }
    snprintf(out + n, cap - n, "]");
}

/* The keys are those of llama-bench where the thing is the same. */
static void print_data(const struct bench *b, const struct trial *t, int first)
{
    struct outcome o = outcome_of(b, t);
    struct record r = {0};
    const lsk_model_info *i = b->info;
    int csv = b->args->output[0] == 'c', lines = !strcmp(b->args->output, "jsonl");
    char ns[SAMPLES_MAX * 24], rates[SAMPLES_MAX * 24];
    const struct {
        const char *key, *text;
    } texts[] = {{"build_version", lsk_version()}, {"cpu_info", b->machine.cpu}, {"backends", i->device},
                 {"kernels", i->kernels},          {"model_filename", i->path}, {"model_type", i->family},
                 {"weight_type", i->weight_type},  {"type_kv", i->kv_type},     {"test", o.test},
                 {"test_time", b->machine.date},
                 {"model_id", i->id},              {"command", b->machine.command}};
    const struct {
        const char *key;
        uint64_t value;
    } wholes[] = {{"model_size", i->memory.weights},   {"model_n_params", i->n_params},         {"n_batch", (uint64_t)i->batch},
                  {"n_threads", (uint64_t)i->threads}, {"n_prompt", (uint64_t)t->n_prompt},     {"n_gen", (uint64_t)t->n_gen},
                  {"n_depth", (uint64_t)t->depth},     {"exit_layer", (uint64_t)t->exit_layer}, {"num_speculations", (uint64_t)t->drafts}, {"draft_head", (uint64_t)i->draft_head},
                  {"top_k", (uint64_t)b->sampling.top_k}, {"seed", b->sampling.seed}};
    const struct {
        const char *key, *format;
        double value;
    } numbers[] = {{"temperature", "%.6g", (double)b->sampling.temperature},
                   {"top_p", "%.6g", b->sampling.top_p > 0 ? (double)b->sampling.top_p : 1},
                   {"min_p", "%.6g", (double)b->sampling.min_p},
                   {"avg_ns", "%.0f", samples_mean(&t->ns)},
                   {"stddev_ns", "%.0f", t->ns.n > 1 ? samples_spread(&t->ns) : NAN},
                   {"avg_ts", "%.6g", samples_mean(&t->rate)},
                   {"stddev_ts", "%.6g", t->rate.n > 1 ? samples_spread(&t->rate) : NAN},
                   {"median_ts", "%.6g", samples_median(&t->rate)},
                   {"gb_per_second", "%.6g", o.gb_per_s},
                   {"read_gb_per_second", "%.6g", b->read > 0 ? b->read / 1e9 : NAN},
                   {"percent_of_read", "%.6g", o.of_read},
                   {"acceptance_rate", "%.6g", o.acceptance},
                   {"mean_acceptance_length", "%.6g", o.length},
                   {"host_waits_per_token", "%.6g", t->waits > 0 ? t->waits / t->tokens : NAN},
                   {"load_ms", "%.6g", i->load_ns > 0 ? (double)i->load_ns / 1e6 : NAN},
                   {"speedup", "%.6g", o.speedup}};
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        record_text(&r, texts[k].key, texts[k].text);
    for (size_t k = 0; k < sizeof wholes / sizeof *wholes; k++)
        record_whole(&r, wholes[k].key, wholes[k].value);
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        record_number(&r, numbers[k].key, numbers[k].format, numbers[k].value);
    if (csv && first)
        record_csv(stdout, &r, 1);
    if (csv) {
        record_csv(stdout, &r, 0);
        return;
    }
    samples_json(&t->ns, "%.0f", ns, sizeof ns);
    samples_json(&t->rate, "%.6g", rates, sizeof rates);
    record_raw(&r, "samples_ns", ns);
    record_raw(&r, "samples_ts", rates);
    fputs(lines ? "" : first ? "[\n  " : ",\n  ", stdout);
    record_json(stdout, &r);
    fputs(lines ? "\n" : "", stdout);
}

static void show_round(struct progress *p, const struct trial *t, int repetition, int repetitions)
{
    char test[128], line[192];
    test_name(t, test, sizeof test);
    if (repetition < 0)
        snprintf(line, sizeof line, "%s  warm-up", test);
    else
        snprintf(line, sizeof line, "%s  round %d of %d", test, repetition + 1, repetitions);
    progress_line(p, line);
}

/* Trials that are compared take turns, so that a slow minute of the machine hits all of them. */
static int run_trials(struct bench *b, lsk_error *err)
{
    const struct bench_args *a = b->args;
    struct progress progress = progress_start(a->show.progress);
    int r = 0, markdown = !strcmp(a->output, "md");
    for (int i = 0, end; r >= 0 && i < b->n_trials; i = end) {
        for (end = i + 1; end < b->n_trials && b->trials[end].plain == &b->trials[i];)
            end++;
        for (int k = a->warmup ? -1 : 0; r >= 0 && k < a->repetitions; k++)
            for (int j = i; r >= 0 && j < end && !terminal_interrupted(); j++) {
                show_round(&progress, &b->trials[j], k, a->repetitions);
                r = run_once(b, &b->trials[j], k, k >= 0, err);
            }
        progress_end(&progress);
        for (int j = i; r >= 0 && j < end && !terminal_interrupted(); j++) {
            (markdown ? print_markdown : print_data)(b, &b->trials[j], !b->rows++);
            r = terminal_flush(err);
        }
    }
    return r;
}

static int save_profile(const struct bench *b, lsk_error *err)
{
    const struct trial *t = best_trial(b);
    const struct outcome o = outcome_of(b, t);
    struct record r = {0};
    record_text(&r, "date", b->machine.date);
    record_text(&r, "version", lsk_version());
    record_text(&r, "model", b->info->path);
    record_text(&r, "weight_type", b->info->weight_type);
    record_text(&r, "device", b->info->device);
    record_text(&r, "cpu_info", b->machine.cpu);
    record_whole(&r, "n_threads", (unsigned)b->info->threads);
    record_text(&r, "test", o.test);
    record_text(&r, "sampling", b->sampling_text);
    record_number(&r, "speedup", "%.6g", o.speedup);
    record_number(&r, "acceptance_rate", "%.6g", o.acceptance);
    record_number(&r, "median_ts", "%.6g", samples_median(&t->rate));
    return profile_keep(b->info, &(struct profile){.draft = {t->exit_layer, t->drafts}}, o.speedup, &r, err);
}

/* A profile is decided by real text and by a median. */
static int check_saving(const struct bench_args *a, lsk_error *err)
{
    if (!a->save_profile)
        return 0;
    if (!a->file)
        return complain(err, LSK_EUSAGE, "--save-profile: how many drafts are accepted depends on the text: give one like yours with --file");
    if (a->repetitions < 3)
        return complain(err, LSK_EUSAGE, "--repetitions: %d: --save-profile needs 3 or more", a->repetitions);
    return 0;
}

/* Reads what has to be known before memory is taken: the text's tokens and which tests there are. */
static int prepare(struct bench *b, lsk_error *err)
{
    const struct bench_args *a = b->args;
    char *text = NULL;
    size_t n = 0;
    int r = check_saving(a, err);
    if (r >= 0 && a->file)
        r = read_stream(a->file, &text, &n, err);
    if (r >= 0 && a->file && !n)
        r = complain(err, LSK_EUSAGE, "%s: the file is empty: replies continue its text", excerpt_of(a->file).text);
    if (r >= 0)
        r = (b->model = open_model(&a->model, &a->show, err)) ? 0 : err->code;
    if (r >= 0 && n)
        r = b->n_text = encode_prompt(b->model, &(struct prompt_args){.bos = 1, .file = a->file}, text, n, &b->text, err);
    if (r >= 0) {
        b->info = lsk_model_about(b->model);
        b->profile = profile_find(b->info);
        r = plan_trials(b, b->info, err);
    }
    if (r >= 0 && a->save_profile)
        r = profile_check(b->info, err);
    free(text);
    b->tokens = r < 0 ? NULL : malloc((size_t)b->room * sizeof *b->tokens);
    return r < 0 || b->tokens ? r : complain(err, LSK_EOS, "out of memory");
}

static int most_drafts(const struct trial *t)
{
    return t->drafter && !t->drafts ? 12 : t->drafts;
}

static int measure(struct bench *b, lsk_error *err)
{
    const struct bench_args *a = b->args;
    lsk_model_options needs = {.context = b->room};
    for (int i = 0; i < b->n_trials; i++)
        widen_drafts(&needs, most_drafts(&b->trials[i]));
    int r = apply_head(&a->head, &needs, err);
    r = r < 0 ? r : plan_model(b->model, &a->model, &needs, err);
    if (r >= 0 && a->read_gib && !strcmp(b->info->device, "cpu")) /* the host's memory says nothing of a GPU's */
        b->read = lsk_measure_read((uint64_t)a->read_gib << 30, a->model.threads, err);
    if (r < 0 || b->read < 0)
        return err->code;
    r = load_model(b->model, &a->model, &a->show, &needs, err);
    if (r >= 0)
        r = (b->session = lsk_session_open(b->model, err)) ? run_trials(b, err) : err->code;
    if (r >= 0 && b->read > 0 && !strcmp(a->output, "md"))
        printf("\nmemory reads %.2f GB/s with %d threads in this run\n", b->read / 1e9, b->info->threads);
    if (a->save_profile && terminal_interrupted())
        print_warning("interrupted: no profile was saved");
    else if (r >= 0 && a->save_profile)
        r = save_profile(b, err);
    return r;
}

static int bench(const void *args, lsk_error *err)
{
    struct bench b = {.args = args, .machine = machine_now(), .trials = calloc(TRIALS_MAX, sizeof(struct trial))};
    int r = b.trials ? 0 : complain(err, LSK_EOS, "out of memory");
    if (r >= 0 && b.args->pairs.n % 2)
        r = complain(err, LSK_EUSAGE, "--pg: %d numbers: give pairs, a prompt's length and a reply's", b.args->pairs.n);
    if (r >= 0)
        r = apply_sampling(&b.args->sampling, &b.sampling, err);
    describe_sampling(&b.sampling, b.sampling_text, sizeof b.sampling_text);
    if (r >= 0)
        r = prepare(&b, err);
    if (r >= 0)
        r = measure(&b, err);
    if (!strcmp(b.args->output, "json") && (b.rows || r >= 0 || terminal_interrupted())) /* whatever ended it, what stands there is an array */
        puts(b.rows ? "\n]" : "[]");
    lsk_session_close(b.session);
    lsk_model_close(b.model);
    free(b.trials);
    free(b.text);
    free(b.tokens);
    return r < 0 ? r : 0;
}

const struct command command_bench = {
    "bench",
    "measures prompt and reply speed, plain and drafted",
    "[MODEL] [OPTIONS]",
    "Prints one row for each test: pp512 is a prompt of 512 tokens, tg128 a reply of 128, `tg128 E7 d4` the same reply with 4 drafts from exit layer "
    "7.\n"
    "The speed-up is the median over repetitions of drafted against plain decoding in the same run.",
    "  layerskip bench model.gguf -p 512 -n 128 -t 2\n"
    "  layerskip bench ./layerskip-llama2-7B -p 0 -n 128 -f story.txt --exit-layer 4-12+4 --num-speculations 2,4,8 -o json\n",
    "model",
    groups,
    sizeof(struct bench_args),
    bench,
    NULL};
