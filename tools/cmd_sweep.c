/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "documents.h"
#include "foretell.h"
#include "machine.h"
#include "measure.h"
#include "messages.h"
#include "profile.h"
#include "record.h"
#include "summary.h"
#include "sweep_log.h"
#include "sweep_plot.h"

enum { SETTINGS_MAX = 2048, TEAMS_MAX = 8, GRIDS_MAX = 8 };

struct grid_args {
    struct numbers exits, drafts;
    const char *drafters, *output;
    struct texts pictures, files;
    const char *gnuplot;
    int automatic, seconds, n_gen, repetitions, save_profile, special, bos, chat, bad_rows, samples;
};
struct sweep_args {
    struct model_args model;
    struct sampling_args sampling;
    struct head_args head;
    struct show_args show;
    struct grid_args grid;
};

static const struct option grid_options[] = {
    {"exit-layer", OPT_NUMBERS, offsetof(struct grid_args, exits), "LIST", NULL, 1, 1023, .help = "exit layers; without it up to eight of the first half of the layers"},
    {"num-speculations draft-max", OPT_NUMBERS, offsetof(struct grid_args, drafts), "LIST", NULL, 0, LSK_MAX_DRAFTS, .help = "drafts in a round; 0 is as many as are worth their time; without it 1-6"},
    {"drafter", OPT_TEXT, offsetof(struct grid_args, drafters), "LIST", "exit", .help = "drafters to compare, as exit,ngram,ngram+exit; + joins those that draft together"},
    {"auto", OPT_FLAG, offsetof(struct grid_args, automatic),
     .help = "no grid: see from plain replies which drafts each exit would have had accepted, foretell from that what every setting costs, and measure the few best; takes --seconds"},
    {"seconds", OPT_INT, offsetof(struct grid_args, seconds), "N", "40", 1, 86400, .help = "how long --auto takes, once the model is loaded"},
    {"output o", OPT_TEXT, offsetof(struct grid_args, output), "FILE.csv", .help = "every setting is written there when it is measured, and a second start goes on with it; without it sweep.csv; --auto writes none"},
    {"picture", OPT_TEXTS, offsetof(struct grid_args, pictures), "FILE", .help = "draw a heat map and the best of every exit layer: NAME.png or NAME.svg; may be repeated"},
    {"gnuplot", OPT_TEXT, offsetof(struct grid_args, gnuplot), "PROGRAM", "gnuplot", .help = "the program that draws"},
    {"save-profile", OPT_FLAG, offsetof(struct grid_args, save_profile), NULL, "on",
     .help = "keep the best setting, measured again, as the model's profile, or that plain decoding stays (less than 3 % gained): run, chat, verify and bench then draft so by themselves"},
    {0}};

static const struct option text_options[] = {
    {"file f", OPT_TEXTS, offsetof(struct grid_args, files), "FILE",
     .help = "replies continue these prompts: a text, or NAME.jsonl with rows of {\"prompt\"} or {\"tokens\"}; may be repeated; without it four short ones of our own. Acceptance depends on the text: give one like yours"},
    {"chat", OPT_FLAG, offsetof(struct grid_args, chat), .help = "prompts are a user's messages, in the model's own chat format"},
    {"special", OPT_FLAG, offsetof(struct grid_args, special), .help = "<|im_start|> and the like in prompts are tokens"},
    {"bos", OPT_FLAG, offsetof(struct grid_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"bad-rows", OPT_INT, offsetof(struct grid_args, bad_rows), "N", "0", 0, 1 << 30, .help = "most rows that are passed over (and shown) because they cannot be used"},
    {"num-samples", OPT_INT, offsetof(struct grid_args, samples), "N", "0", 0, 1 << 20, .help = "only the first N usable rows; 0 is all"},
    {"n-gen n", OPT_INT, offsetof(struct grid_args, n_gen), "N", "64", 2, 1 << 20, .help = "tokens of a reply, at most"},
    {"repetitions r", OPT_INT, offsetof(struct grid_args, repetitions), "N", "3", 1, SAMPLES_MAX, .help = "measurements of each setting, of all prompts each; drafted and plain replies take turns"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct sweep_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct sweep_args, model.hub)},
                                             {"what is measured (a LIST is 1,2,4 or 1-8 or 4-32+4)", grid_options, offsetof(struct sweep_args, grid)},
                                             {"replies", text_options, offsetof(struct sweep_args, grid)},
                                             {"the head of drafts", head_options, offsetof(struct sweep_args, head)},
                                             {"sampling", sampling_options, offsetof(struct sweep_args, sampling)},
                                             {"messages", show_options, offsetof(struct sweep_args, show)},
                                             {0}};

/* A story, an explanation, a program, a list. */
static const char *const own_prompts[] = {
    "It had rained for nine days when the old ferryman found the boat. Nobody was in it, only a lamp that still burned and a letter with his name on it. He sat down on the wet steps and",
    "Why is the sea salty? The short answer is that rivers carry it there. Rain takes up a little carbon dioxide from the air, which makes it slightly acid, and so",
    "def count_words(text):\n    \"\"\"Return a dictionary from each word of the text to how often it occurs.\"\"\"\n",
    "Five things to check before a long bicycle tour:\n\n1. The tyres. Look for cracks and pieces of glass, and pump them up.\n2. The brakes."};

struct sweep {
    const struct sweep_args *args;
    struct machine machine;
    lsk_model *model;
    const lsk_model_info *info;
    lsk_session *session;
    lsk_generate_options ask; /* sampling and length */
    struct documents prompts;
    char teams[256]; /* the drafters, each with a zero behind it */
    int n_teams;
    struct sweep_cell *setting; /* [n_settings] what is to be measured */
    int n_settings, n_gen;
    struct sweep_log log;
};

/* One setting while it is measured. */
struct pairs {
    struct sweep_cell cell;
    struct samples plain, drafted, ratio;
};

/* ---- measuring ---- */

static int add_token(void *ud, const lsk_event *e)
{
    uint64_t *hash = ud;
    if (e->token >= 0)
        *hash = (*hash ^ (uint64_t)(uint32_t)e->token) * 0x100000001b3u;
    return terminal_interrupted();
}

/* One reply; drafts: NULL for plain decoding. */
static int measure_reply(struct sweep *s, int prompt, const struct sweep_cell *drafts, uint64_t *text, lsk_error *err)
{
    const struct document *d = &s->prompts.item[prompt];
    lsk_generate_options o = s->ask;
    o.drafter = drafts ? drafts->drafter : "none";
    o.exit_layer = drafts ? drafts->exit_layer : 0;
    o.num_speculations = drafts ? drafts->drafts : -1;
    o.max_tokens = s->n_gen;
    *text = 0xcbf29ce484222325u;
    return reply(s->session, d->token, d->n, &o, add_token, text, err);
}

static int texts_differ(const struct sweep *s, const struct pairs *p, int prompt, lsk_error *err)
{
    return complain(err, LSK_EINTERNAL, "drafter %s, exit layer %d, %d drafts, prompt %d: the drafted text is not the plain one: `layerskip verify %.200s` shows where; please report it", p->cell.drafter,
                    p->cell.exit_layer, p->cell.drafts, prompt + 1, excerpt_of(s->info->path).text);
}

/* The prompts from..to - 1 plain and drafted, one right behind the other; which goes first changes with `turn`. Adds one pair of speeds. */
static int measure_pair(struct sweep *s, struct pairs *p, int from, int to, int turn, lsk_error *err)
{
    double ns[2] = {0, 0};
    int tokens = 0, r = 0;
    for (int i = from; r >= 0 && i < to && !terminal_interrupted(); i++) {
        uint64_t text[2];
        for (int k = 0; r >= 0 && k < 2 && !terminal_interrupted(); k++) {
            const int drafted = (k + turn + i) % 2;
            r = measure_reply(s, i, drafted ? &p->cell : NULL, &text[drafted], err);
            const lsk_stats *stats = lsk_session_stats(s->session);
            ns[drafted] += (double)stats->reply_ns;
            if (!drafted)
                continue;
            tokens += stats->reply_tokens;
            p->cell.rounds += stats->rounds;
            p->cell.drafted += stats->drafted;
            p->cell.accepted += stats->accepted;
        }
        if (r >= 0 && !terminal_interrupted() && text[0] != text[1])
            r = texts_differ(s, p, i, err);
    }
    if (r < 0 || terminal_interrupted() || !(ns[0] > 0 && ns[1] > 0))
        return r;
    p->cell.tokens += tokens;
    p->cell.seconds += ns[1] / 1e9;
    p->cell.repetitions++;
    samples_add(&p->plain, tokens / ns[0] * 1e9);
    samples_add(&p->drafted, tokens / ns[1] * 1e9);
    samples_add(&p->ratio, ns[0] / ns[1]);
    return 0;
}

static void finish_pairs(const struct sweep *s, struct pairs *p)
{
    struct sweep_cell *c = &p->cell;
    c->acceptance = c->drafted ? (double)c->accepted / c->drafted : 0;
    c->length = c->rounds ? 1 + (double)c->accepted / c->rounds : 1;
    c->token_ms = c->tokens ? c->seconds * 1e3 / c->tokens : 0;
    c->rate = samples_median(&p->drafted);
    c->plain_rate = samples_median(&p->plain);
    c->speedup = samples_median(&p->ratio);
    c->low = c->high = c->speedup;
    for (int i = 0; i < p->ratio.n; i++) {
        c->low = fmin(c->low, p->ratio.value[i]);
        c->high = fmax(c->high, p->ratio.value[i]);
    }
    snprintf(c->date, sizeof c->date, "%s", s->machine.date);
}

static int measure_setting(struct sweep *s, struct pairs *p, const struct sweep_cell *setting, lsk_error *err)
{
    int r = 0;
    *p = (struct pairs){.cell = *setting};
    for (int k = 0; r >= 0 && k < s->args->grid.repetitions && !terminal_interrupted(); k++)
        r = measure_pair(s, p, 0, s->prompts.n, k, err);
    finish_pairs(s, p);
    return r;
}

/* ---- the grid ---- */

static void show_setting(struct progress *p, const char *before, const struct sweep_cell *c, int at, int n, double left)
{
    char line[192], time[48] = "";
    if (left > 0)
        snprintf(time, sizeof time, left < 120 ? "  %.0f s left" : "  %.0f min left", left < 120 ? left : left / 60);
    snprintf(line, sizeof line, "%s%.40s E%d d%d  %d of %d%s", before, c->drafter, c->exit_layer, c->drafts, at + 1, n, time);
    progress_line(p, line);
}

static int measure_grid(struct sweep *s, lsk_error *err)
{
    struct progress progress = progress_start(s->args->show.progress);
    struct pairs *p = malloc(sizeof *p);
    const int64_t start = now_ns();
    int r = p ? 0 : complain(err, LSK_EOS, "out of memory"), before = s->log.n;
    for (int i = 0; r >= 0 && i < s->n_settings && !terminal_interrupted(); i++) {
        const struct sweep_cell *c = &s->setting[i];
        if (sweep_log_find(&s->log, c))
            continue;
        const int done = s->log.n - before;
        show_setting(&progress, "", c, i, s->n_settings, done ? (double)(now_ns() - start) / 1e9 / done * (s->n_settings - i) : 0);
        r = measure_setting(s, p, c, err);
        if (r >= 0 && !terminal_interrupted())
            r = sweep_log_add(&s->log, &p->cell, err);
    }
    progress_end(&progress);
    free(p);
    return r;
}

enum { AGAIN = 3 };

/* The fastest of the settings asked for, by their first measurement; the log may hold another grid's too. Returns how many. */
static int choose_best(const struct sweep *s, struct pairs *p)
{
    for (int n = 0; n < AGAIN; n++) {
        const struct sweep_cell *next = NULL;
        for (const struct sweep_cell *w = s->setting; w < s->setting + s->n_settings; w++) {
            const struct sweep_cell *c = sweep_log_first(&s->log, w);
            int taken = 0;
            for (int k = 0; c && k < n; k++)
                taken |= p[k].cell.exit_layer == c->exit_layer && p[k].cell.drafts == c->drafts && !strcmp(p[k].cell.drafter, c->drafter);
            if (c && !taken && (!next || c->speedup > next->speedup))
                next = c;
        }
        if (!next)
            return n;
        p[n].cell = (struct sweep_cell){.exit_layer = next->exit_layer, .drafts = next->drafts};
        strcpy(p[n].cell.drafter, next->drafter);
    }
    return AGAIN;
}

static int is_confirmed(const struct sweep *s, const struct pairs *p)
{
    return sweep_log_find(&s->log, &p->cell) != sweep_log_first(&s->log, &p->cell);
}

/* The fastest of many measurements is partly luck: the three best are measured again, in turns and twice as often, and that decides. */
static int confirm(struct sweep *s, struct sweep_cell *best, lsk_error *err)
{
    struct progress progress = progress_start(s->args->show.progress);
    struct pairs *p = calloc(AGAIN, sizeof *p);
    const int n = p ? choose_best(s, p) : 0, turns = 2 * s->args->grid.repetitions;
    const int64_t start = now_ns();
    int r = p ? 0 : complain(err, LSK_EOS, "out of memory");
    for (int at = 0; at < turns * n && r >= 0 && !terminal_interrupted(); at++) {
        if (is_confirmed(s, &p[at % n]))
            continue;
        show_setting(&progress, "once more: ", &p[at % n].cell, at, turns * n, at ? (double)(now_ns() - start) / 1e9 / at * (turns * n - at) : 0);
        r = measure_pair(s, &p[at % n], 0, s->prompts.n, at / n, err);
    }
    progress_end(&progress);
    for (int i = 0; r >= 0 && i < n && !terminal_interrupted(); i++) {
        if (!is_confirmed(s, &p[i])) {
            finish_pairs(s, &p[i]);
            r = sweep_log_add(&s->log, &p[i].cell, err);
        }
        const struct sweep_cell *c = sweep_log_find(&s->log, &p[i].cell);
        if (r >= 0 && (!i || c->speedup > best->speedup))
            *best = *c;
    }
    free(p);
    return r;
}

/* ---- without a grid ---- */

enum { CANDIDATES = 5 };

static int keep_token(void *ud, const lsk_event *e)
{
    struct document *d = ud;
    if (e->token >= 0)
        d->token[d->n++] = e->token;
    return terminal_interrupted();
}

/* The plain reply to a prompt, and what it shows of the exits. *speed: tokens per second. */
static int learn_reply(struct sweep *s, int i, struct foretell *f, double *speed, lsk_error *err)
{
    const struct document *prompt = &s->prompts.item[i];
    lsk_generate_options o = s->ask;
    o.drafter = "none";
    o.max_tokens = s->n_gen;
    struct document d = {.token = malloc((size_t)(prompt->n + s->n_gen) * sizeof *d.token), .n = prompt->n};
    if (!d.token)
        return complain(err, LSK_EOS, "out of memory");
    memcpy(d.token, prompt->token, (size_t)prompt->n * sizeof *d.token);
    int r = reply(s->session, prompt->token, prompt->n, &o, keep_token, &d, err);
    const lsk_stats *stats = lsk_session_stats(s->session);
    *speed = stats->reply_ns > 0 ? stats->reply_tokens * 1e9 / (double)stats->reply_ns : 0;
    if (r >= 0 && f && !terminal_interrupted())
        r = foretell_read(f, s->session, s->info, d.token, d.n, prompt->n, err);
    free(d.token);
    return r;
}

/* Reads plain replies for a quarter of the time: how fast this is at all decides how long they are. Returns how many settings are worth measuring. */
static int choose_candidates(struct sweep *s, struct foretold *out, int64_t start, lsk_error *err)
{
    const int seconds = s->args->grid.seconds, asked = s->n_gen;
    struct foretell f = {.taken = NULL};
    double speed = 0;
    s->n_gen = asked < 8 ? asked : 8;
    int r = learn_reply(s, 0, NULL, &speed, err);
    s->n_gen = (int)fmin(asked, fmax(8, speed * seconds / 8));
    for (int i = 0; r >= 0 && i < s->prompts.n && (!i || now_ns() - start < (int64_t)seconds * 250000000) && !terminal_interrupted(); i++)
        r = learn_reply(s, i, &f, &speed, err);
    const int n = r < 0 || terminal_interrupted() ? 0 : foretell_best(&f, s->info, out, CANDIDATES);
    foretell_free(&f);
    s->n_gen = (int)fmin(s->n_gen, fmax(8, speed * seconds / (2 * (n + 1) * fmin(s->prompts.n, 4))));
    if (r >= 0 && !n && !terminal_interrupted())
        r = complain(err, LSK_EDATA, "the model's replies are too short to learn from: give other prompts with --file");
    return r < 0 ? r : n;
}

/* Candidates take turns until the time is over, each turn on the next prompt; those that are clearly behind leave. */
static int measure_candidates(struct sweep *s, struct pairs *p, int n, int64_t until, lsk_error *err)
{
    struct progress progress = progress_start(s->args->show.progress);
    int r = 0;
    for (int turn = 0; r >= 0 && !terminal_interrupted() && turn < SAMPLES_MAX && (turn < 1 || now_ns() < until); turn++) {
        const int prompt = turn % s->prompts.n;
        double best = 0;
        for (int i = 0; r >= 0 && i < n && (turn < 1 || now_ns() < until) && !terminal_interrupted(); i++) {
            show_setting(&progress, "", &p[i].cell, i, n, (double)(until - now_ns()) / 1e9);
            r = measure_pair(s, &p[i], prompt, prompt + 1, turn / s->prompts.n, err);
            best = fmax(best, samples_median(&p[i].ratio));
        }
        for (int i = 0; turn + 1 >= 2 * s->prompts.n && i < n; i++)
            if (samples_median(&p[i].ratio) < .95 * best) {
                struct pairs last = p[--n];
                p[n] = p[i];
                p[i--] = last;
            }
    }
    progress_end(&progress);
    return r;
}

/* What plain replies say of every exit decides what is measured: at most CANDIDATES settings, to which the seconds go. */
static int measure_auto(struct sweep *s, struct sweep_cell *best, lsk_error *err)
{
    const int64_t start = now_ns();
    struct foretold f[CANDIDATES];
    struct pairs *p = calloc(CANDIDATES, sizeof *p);
    const int n = p ? choose_candidates(s, f, start, err) : complain(err, LSK_EOS, "out of memory");
    int r = n;
    for (int i = 0; i < n; i++)
        p[i].cell = (struct sweep_cell){.drafter = "exit", .exit_layer = f[i].exit_layer, .drafts = f[i].drafts};
    if (n > 0)
        r = measure_candidates(s, p, n, start + (int64_t)s->args->grid.seconds * 1000000000, err);
    for (int i = 0; r >= 0 && i < n && !terminal_interrupted(); i++) {
        finish_pairs(s, &p[i]);
        if (p[i].ratio.n)
            r = sweep_log_add(&s->log, &p[i].cell, err);
        if (!i || p[i].cell.speedup > best->speedup)
            *best = p[i].cell;
    }
    free(p);
    return r;
}

/* ---- what comes out ---- */

static void print_best(const struct sweep *s, const struct sweep_cell *c)
{
    if (c->exit_layer)
        printf("\nbest: drafter %s, exit layer %d, ", c->drafter, c->exit_layer);
    else
        printf("\nbest: drafter %s, ", c->drafter);
    if (c->drafts)
        printf("%d draft%s a round", c->drafts, plural(c->drafts));
    else
        printf("as many drafts as pay");
    printf(": %.3f times plain decoding (%.3f to %.3f in %d repetitions%s), %.2f against %.2f tokens/s, acceptance rate %.3f, %.2f tokens a round\n", c->speedup, c->low, c->high, c->repetitions,
           s->args->grid.automatic ? "" : ", measured again", c->rate, c->plain_rate, c->acceptance, c->length);
}

static void describe_test(const struct sweep *s, char *out, size_t cap)
{
    const char *file = s->args->grid.files.n ? s->args->grid.files.item[0] : "own prompts";
    snprintf(out, cap, "%d prompts (%s), replies of %d tokens", s->prompts.n, excerpt_of(file).text, s->n_gen);
}

static int keep_profile(const struct sweep *s, const struct sweep_cell *c, lsk_error *err)
{
    struct profile best = {.draft = {c->exit_layer, c->drafts}};
    struct record r = {0};
    char test[160];
    describe_test(s, test, sizeof test);
    if (strcmp(c->drafter, "exit") || !c->drafts)
        strcpy(best.drafter, c->drafter);
    record_text(&r, "date", s->machine.date);
    record_text(&r, "version", lsk_version());
    record_text(&r, "model", s->info->path);
    record_text(&r, "weight_type", s->info->weight_type);
    record_text(&r, "device", s->info->device);
    record_text(&r, "cpu_info", s->machine.cpu);
    record_whole(&r, "n_threads", (unsigned)s->info->threads);
    record_text(&r, "test", test);
    record_text(&r, "drafter", c->drafter);
    record_whole(&r, "exit_layer", (unsigned)c->exit_layer);
    record_whole(&r, "num_speculations", (unsigned)c->drafts);
    record_number(&r, "speedup", "%.6g", c->speedup);
    record_number(&r, "speedup_low", "%.6g", c->low);
    record_number(&r, "speedup_high", "%.6g", c->high);
    record_number(&r, "acceptance_rate", "%.6g", c->acceptance);
    record_number(&r, "median_ts", "%.6g", c->rate);
    return profile_keep(s->info, &best, c->speedup, &r, err);
}

static void print_tables(const struct sweep *s)
{
    struct sweep_grid grid[GRIDS_MAX];
    const int n = sweep_grids(&s->log, grid, GRIDS_MAX);
    for (int i = 0; i < n; i++) {
        fputs(i ? "\n" : "", stdout);
        sweep_table(stdout, &grid[i]);
    }
}

/* ---- what is asked for ---- */

static int add_setting(struct sweep *s, const char *team, int exit_layer, int drafts, lsk_error *err)
{
    struct sweep_cell *c = &s->setting[s->n_settings];
    if (s->n_settings == SETTINGS_MAX)
        return complain(err, LSK_EUSAGE, "these lists ask for more than %d settings", SETTINGS_MAX);
    if (strlen(team) >= sizeof c->drafter)
        return complain(err, LSK_EUSAGE, "--drafter: \"%s\": too many together", excerpt_of(team).text);
    strcpy(c->drafter, team);
    c->exit_layer = exit_layer;
    c->drafts = drafts;
    s->n_settings++;
    return 0;
}

/* "exit,ngram+exit" as teams, each with the exits where it has one. */
static int plan_settings(struct sweep *s, lsk_error *err)
{
    static const struct numbers no_exit = {.n = 1};
    const struct grid_args *a = &s->args->grid;
    struct numbers exits = a->exits, drafts = a->drafts;
    const int half = s->info->n_layers / 2 > 1 ? s->info->n_layers / 2 : 1, step = (half + 7) / 8;
    int r = 0;
    for (int e = step; !a->exits.n && e <= half && e < s->info->n_layers; e += step)
        exits.value[exits.n++] = e;
    for (int d = 1; !a->drafts.n && d <= 6; d++)
        drafts.value[drafts.n++] = d;
    for (int e = 0; !r && e < exits.n; e++)
        r = check_exit_layer(s->info, "--exit-layer", exits.value[e], err);
    if (!r && !exits.n)
        r = complain(err, LSK_EUSAGE, "this model has one layer: there is no exit before its end");
    if (strlen(a->drafters) >= sizeof s->teams)
        return complain(err, LSK_EUSAGE, "--drafter: longer than %zu characters", sizeof s->teams - 1);
    strcpy(s->teams, a->drafters);
    for (char *p = s->teams, *end; !r && p; p = end) {
        if ((end = strchr(p, ',')))
            *end++ = 0;
        r = !strcmp(p, "none") ? complain(err, LSK_EUSAGE, "--drafter: none: plain decoding is measured beside every other anyway") : check_drafter(p, err);
        const struct numbers *own = strstr(p, "exit") ? &exits : &no_exit;
        for (int e = 0; e < own->n; e++)
            for (int d = 0; !r && d < drafts.n; d++)
                r = add_setting(s, p, own->value[e], drafts.value[d], err);
    }
    return r;
}

static int read_prompts(struct sweep *s, lsk_error *err)
{
    const struct grid_args *a = &s->args->grid;
    struct documents *d = &s->prompts;
    int r = 0;
    *d = (struct documents){.model = s->model, .name = "prompt", .special = a->special, .bos = a->bos, .chat = a->chat, .rows = {.allowed = a->bad_rows, .limit = a->samples}};
    for (int i = 0; r >= 0 && i < a->files.n; i++)
        r = documents_read(d, a->files.item[i], err);
    for (size_t i = 0; r >= 0 && !a->files.n && i < sizeof own_prompts / sizeof *own_prompts; i++)
        r = documents_add(d, "our own prompt", own_prompts[i], strlen(own_prompts[i]), err);
    if (r >= 0 && !d->n)
        r = complain(err, LSK_EDATA, "%s: no prompt in it", excerpt_of(a->files.item[0]).text);
    for (int i = 0; r >= 0 && i < d->n; i++)
        if (!d->item[i].n)
            r = complain(err, LSK_EDATA, "prompt %d is empty: give it text", i + 1);
    if (r >= 0)
        r = check_context(s->info, "--n-gen", a->n_gen + 2, d->longest, err);
    return r;
}

static uint64_t hash_prompts(const struct documents *d)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < d->n; i++) {
        for (int k = 0; k < d->item[i].n; k++)
            h = (h ^ (uint64_t)(uint32_t)d->item[i].token[k]) * 0x100000001b3u;
        h = (h ^ 0xffffffffffu) * 0x100000001b3u;
    }
    return h;
}

/* Everything that a speed depends on, but not the setting: rows with another of these would be compared with what they cannot be compared with. */
static int open_log(struct sweep *s, lsk_error *err)
{
    const struct grid_args *a = &s->args->grid;
    const lsk_model_info *i = s->info;
    const lsk_generate_options *o = &s->ask;
    snprintf(s->log.key, sizeof s->log.key,
             "model=%s device=%s weights=%s kv=%s compute=%s kernels=%s threads=%d draft_head=%d prompts=%016llx n_gen=%d repetitions=%d temp=%g top_k=%d top_p=%g min_p=%g seed=%llu version=%s", i->id,
             i->device, i->weight_type, i->kv_type, i->compute, i->kernels, i->threads, i->draft_head, (unsigned long long)hash_prompts(&s->prompts), a->n_gen, a->repetitions, (double)o->temperature,
             o->top_k, (double)o->top_p, (double)o->min_p, (unsigned long long)o->seed, lsk_version());
    sweep_log_note(&s->log, "model", i->path);
    sweep_log_note(&s->log, "machine", s->machine.cpu);
    sweep_log_note(&s->log, "date", s->machine.date);
    sweep_log_note(&s->log, "command", s->machine.command);
    return sweep_log_open(&s->log, a->automatic ? NULL : a->output ? a->output : "sweep.csv", err);
}

static int prepare(struct sweep *s, lsk_error *err)
{
    const struct sweep_args *a = s->args;
    lsk_model_options needs = {.context = 0};
    int r = apply_sampling(&a->sampling, &s->ask, err);
    for (int i = 0; r >= 0 && i < a->grid.pictures.n; i++)
        r = picture_check("--picture", a->grid.pictures.item[i], err);
    if (r >= 0 && a->grid.automatic && (a->grid.exits.n || a->grid.drafts.n || strcmp(a->grid.drafters, "exit")))
        r = complain(err, LSK_EUSAGE, "--auto finds exit layer and drafts itself: leave --exit-layer, --num-speculations and --drafter out");
    if (r >= 0 && a->grid.automatic && a->grid.output)
        r = complain(err, LSK_EUSAGE, "--auto is no grid to go on with: leave --output out");
    if (r >= 0)
        r = (s->model = open_model(&a->model, &a->show, err)) ? 0 : err->code;
    if (r < 0)
        return r;
    s->info = lsk_model_about(s->model);
    r = plan_settings(s, err);
    if (r >= 0)
        r = read_prompts(s, err);
    if (r >= 0 && a->grid.save_profile)
        r = profile_check(s->info, err);
    for (int i = 0; i < s->n_settings; i++)
        widen_drafts(&needs, s->setting[i].drafts);
    needs.context = s->prompts.longest + a->grid.n_gen + 2;
    r = r < 0 ? r : apply_head(&a->head, &needs, err);
    r = r < 0 ? r : load_model(s->model, &a->model, &a->show, &needs, err);
    return r < 0 ? r : (s->session = lsk_session_open(s->model, err)) ? open_log(s, err) : err->code;
}

static int finish(struct sweep *s, const struct sweep_cell *best, lsk_error *err)
{
    const struct grid_args *a = &s->args->grid;
    int r = 0;
    print_tables(s);
    if (terminal_interrupted()) {
        if (s->log.f)
            fprintf(stderr, "interrupted: %d settings are in %s, the same command goes on\n", s->log.n, excerpt_of(s->log.path).text);
        return 0;
    }
    print_best(s, best);
    r = terminal_flush(err);
    if (r >= 0 && a->save_profile)
        r = keep_profile(s, best, err);
    const struct picture p = sweep_picture(&s->log, a->gnuplot);
    for (int i = 0; r >= 0 && i < a->pictures.n; i++)
        r = picture_draw(&p, a->pictures.item[i], err);
    return r;
}

static int sweep(const void *args, lsk_error *err)
{
    struct sweep s = {.args = args, .machine = machine_now(), .setting = calloc(SETTINGS_MAX, sizeof *s.setting)};
    struct sweep_cell best = {.drafter = ""};
    uint64_t text;
    s.n_gen = s.args->grid.n_gen;
    int r = s.setting ? prepare(&s, err) : complain(err, LSK_EOS, "out of memory");
    if (r >= 0 && !s.args->grid.automatic)
        r = measure_reply(&s, 0, NULL, &text, err); /* warm */
    if (r >= 0)
        r = s.args->grid.automatic ? measure_auto(&s, &best, err) : measure_grid(&s, err);
    if (r >= 0 && !s.args->grid.automatic && !terminal_interrupted())
        r = confirm(&s, &best, err);
    if (r >= 0)
        r = finish(&s, &best, err);
    lsk_session_close(s.session);
    lsk_model_close(s.model);
    sweep_log_close(&s.log);
    documents_free(&s.prompts);
    free(s.setting);
    return r < 0 ? r : 0;
}

const struct command command_sweep = {
    "sweep",
    "finds the exit layer and the number of drafts that are fastest here",
    "[MODEL] [OPTIONS]",
    "Measures every setting of a grid against plain decoding, reply by reply in turns, so that a slow minute of the machine hits both; the speed-up is the median of the repetitions, with the least\n"
    "and the largest beside it. The three best of the grid asked for are measured again, twice as often (the CSV has both), and the best of these becomes the model's profile. Ctrl-C keeps what is done, a second start goes on. --auto takes a minute.",
    "  layerskip sweep model.gguf --auto\n"
    "  layerskip sweep ./layerskip-llama2-7B -f prompts.jsonl --exit-layer 4-16+2 --num-speculations 1-8 -o sweep.csv --picture sweep.png\n",
    "model",
    groups,
    sizeof(struct sweep_args),
    sweep,
    NULL};
