/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "common.h"
#include "constraints.h"
#include "folders.h"
#include "messages.h"
#include "profile.h"
#include "results.h"
#include "sandbox.h"
#include "summary.h"
#include "testset.h"

struct work_args {
    struct prompt_args how; /* special and bos only */
    int n_predict, ignore_eos, run_code, fresh;
    double code_timeout;
    struct texts stop;
    struct numbers stop_ids;
    const char *folder, *output, *preset;
};
struct benchmark_args {
    struct model_args model;
    struct testset_args data;
    struct work_args work;
    struct sampling_args sampling;
    struct limit_args limits;
    struct draft_args draft;
    struct head_args head;
    struct show_args show;
};

static const struct option reply_options[] = {
    {"n-predict max-tokens max-steps max-new-tokens n", OPT_INT, offsetof(struct work_args, n_predict), "N", "512", 1, 1 << 20, .help = "most tokens of a reply"},
    {"reverse-prompt stop stop-words r", OPT_TEXTS, offsetof(struct work_args, stop), "TEXT", .help = "end a reply before this text, \\n and the like replaced; may be repeated"},
    {"stop-token-ids", OPT_NUMBERS, offsetof(struct work_args, stop_ids), "IDS", NULL, 0, 1 << 24, .help = "end a reply at these tokens too"},
    {"ignore-eos", OPT_FLAG, offsetof(struct work_args, ignore_eos), .help = "go on behind the end-of-text token"},
    {"special", OPT_FLAG, offsetof(struct work_args, how.special), .help = "<|im_start|> and the like in the prompts are tokens"},
    {"bos", OPT_FLAG, offsetof(struct work_args, how.bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {"preset", OPT_CHOICE, offsetof(struct work_args, preset), NULL, .choices = "layerskip", .sets = "temp=0.6 top-p=0.9 seed=42",
     .help = "sampling of the original scripts (temperature 0.6, top-p 0.9, seed 42), where not given"},
    {0}};

static const struct option code_options[] = {
    {"run-code", OPT_FLAG, offsetof(struct work_args, run_code),
     .help = "human_eval: run prompt and reply with the row's tests, for pass@1. A reply ends where its function does. It can read files (which: at the end) but not write any, "
             "and runs without network, processes, more than 1 GiB"},
    {"code-timeout", OPT_REAL, offsetof(struct work_args, code_timeout), "S", "3", 0.1, 3600, .help = "seconds that one may take"},
    {0}};

static const struct option result_options[] = {
    {"output-dir", OPT_TEXT, offsetof(struct work_args, folder), "DIR", "logs", .help = "where the samples' results go (SET-KEY.jsonl, with the replies) and their sums (SET-KEY.json)"},
    {"fresh", OPT_FLAG, offsetof(struct work_args, fresh), .help = "forget what an earlier run with the same options has measured, instead of going on"},
    {"output o", OPT_CHOICE, offsetof(struct work_args, output), NULL, "md", .choices = "md json", .help = "form of the sums on stdout: a table, or JSON"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct benchmark_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct benchmark_args, model.hub)},
                                             {"data", testset_options, offsetof(struct benchmark_args, data)},
                                             {"replies", reply_options, offsetof(struct benchmark_args, work)},
                                             {"running code", code_options, offsetof(struct benchmark_args, work)},
                                             {"sampling", sampling_options, offsetof(struct benchmark_args, sampling)},
                                             {"what replies may say", limit_options, offsetof(struct benchmark_args, limits)},
                                             {"self-speculation", draft_options, offsetof(struct benchmark_args, draft)},
                                             {"the head of drafts", head_options, offsetof(struct benchmark_args, head)},
                                             {"results", result_options, offsetof(struct benchmark_args, work)},
                                             {"messages", show_options, offsetof(struct benchmark_args, show)},
                                             {0}};

enum { PATH_CAP = 4096, WARM_UP = 16 };

struct benchmark {
    const struct benchmark_args *a;
    struct testset set;
    struct results results;
    struct profile profile;
    struct texts stop;
    struct limit_values limits;
    lsk_generate_options o;
    lsk_model *m;
    char *python;   /* NULL: no code is run */
    char *settings; /* JSON: what the results depend on */
    char path[PATH_CAP], sums[PATH_CAP];
    int wanted; /* samples */
    struct progress progress;
    int64_t start_ns, tokens; /* of this run */
    int begun;
    lsk_error *err;
};

/* One reply on its way. */
struct reply {
    struct benchmark *b;
    int32_t *token;
    int n, cap;
    enum lsk_finish finish;
    FILE *text;
};

/* ---- what is run ---- */

static int fill_options(struct benchmark *b)
{
    const struct benchmark_args *a = b->a;
    int r = apply_sampling(&a->sampling, &b->o, b->err);
    if (r >= 0)
        r = apply_drafting(&a->draft, &b->o, b->err);
    if (r >= 0)
        r = apply_limits(&a->limits, &b->limits, &b->o, b->err);
    if (r >= 0)
        r = copy_stops(&a->work.stop, 1, &b->stop, b->err);
    b->o.ignore_eos = a->work.ignore_eos;
    b->o.eos = a->work.stop_ids.value;
    b->o.n_eos = a->work.stop_ids.n;
    b->o.show_special = a->work.how.special;
    return r;
}

/* A reply that will be run ends where its function does. */
static int add_code_stops(struct benchmark *b)
{
    for (const char *const *s = b->set.task->stop; s && *s; s++) {
        if (b->stop.n == TEXTS_MAX || !(b->stop.item[b->stop.n] = strdup(*s)))
            return complain(b->err, LSK_EUSAGE, "too many stop strings: give at most %d", TEXTS_MAX - 8);
        b->stop.n++;
    }
    b->python = sandbox_python(b->err);
    if (b->python && !sandbox_hides_files())
        print_warning("--run-code: this kernel has no Landlock, so what is run can read every file that you can read");
    return b->python ? 0 : b->err->code;
}

/* Texts, then numbers, as JSON. */
static char *list_texts(const struct texts *t, const struct numbers *ids)
{
    char *json = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&json, &n);
    if (!out)
        return NULL;
    fputc('[', out);
    for (int i = 0; i < t->n; i++) {
        fputs(i ? ", " : "", out);
        print_json_string(out, t->item[i], strlen(t->item[i]));
    }
    for (int i = 0; i < ids->n; i++)
        fprintf(out, "%s%d", i || t->n ? ", " : "", ids->value[i]);
    fputc(']', out);
    return fclose(out) ? NULL : json;
}

static void record_flag(struct record *r, const char *key, int on)
{
    record_raw(r, key, on ? "true" : "false");
}

static void record_settings(const struct benchmark *b, struct record *r, const char *stops, const char *biases, char hash[2][17])
{
    const struct benchmark_args *a = b->a;
    const lsk_model_info *info = lsk_model_about(b->m);
    record_whole(r, "layerskip_benchmark", 1);
    record_text(r, "version", lsk_version());
    record_text(r, "model_id", info->id);
    record_text(r, "device", info->device);
    record_text(r, "weights", a->model.weights);
    record_text(r, "kv", a->model.kv);
    record_text(r, "compute", a->model.compute);
    record_text(r, "kernels", a->model.kernels);
    record_whole(r, "threads", (unsigned)a->model.threads);
    record_whole(r, "batch", (unsigned)a->model.batch);
    record_text(r, "dataset", a->data.task);
    record_text(r, "data", hash[0]);
    if (a->data.shots_path)
        record_text(r, "shots", hash[1]);
    record_whole(r, "n_shot", (unsigned)a->data.n_shot);
    record_flag(r, "random_shuffle", a->data.random_shuffle >= 0);
    record_whole(r, "data_seed", a->data.data_seed);
    record_text(r, "template", a->data.template ? a->data.template : "{message}");
    record_text(r, "prompt_column", a->data.prompt_column);
    record_text(r, "response_column", a->data.response_column);
    record_flag(r, "special", a->work.how.special);
    record_flag(r, "bos", a->work.how.bos);
    record_whole(r, "max_tokens", (unsigned)a->work.n_predict);
    record_flag(r, "ignore_eos", a->work.ignore_eos);
    record_raw(r, "stop", stops);
    record_number(r, "temperature", "%.9g", b->o.temperature);
    record_number(r, "top_k", "%.0f", b->o.top_k);
    record_number(r, "top_p", "%.9g", b->o.top_p);
    record_number(r, "min_p", "%.9g", b->o.min_p);
    record_whole(r, "seed", b->o.seed);
    record_number(r, "repeat_penalty", "%.9g", a->limits.repeat);
    record_number(r, "repeat_last_n", "%.0f", a->limits.last_n);
    record_number(r, "presence_penalty", "%.9g", a->limits.presence);
    record_number(r, "frequency_penalty", "%.9g", a->limits.frequency);
    record_raw(r, "logit_bias", biases);
    record_text(r, "grammar", b->o.grammar);
    record_text(r, "json_schema", b->o.json_schema);
    record_text(r, "drafter", b->o.drafter);
    record_number(r, "exit_layer", "%.0f", b->o.exit_layer);
    record_number(r, "num_speculations", "%.0f", b->o.num_speculations);
    record_number(r, "draft_min_conf", "%.9g", b->o.draft_min_conf);
    record_number(r, "depth", "%.0f", b->o.depth);
    record_text(r, "draft_head", a->head.draft_head);
    record_whole(r, "profile_exit_layer", (unsigned)b->profile.draft.exit_layer);
    record_whole(r, "profile_num_speculations", (unsigned)b->profile.draft.num_speculations);
    record_number(r, "code_timeout", "%.9g", b->python ? a->work.code_timeout : NAN);
}

/* Everything that the results depend on but the number of samples: a later run may want more of them. */
static int describe_settings(struct benchmark *b)
{
    struct record r = {0};
    char hash[2][17], *stops = list_texts(&b->stop, &b->a->work.stop_ids), *biases = list_texts(&b->a->limits.bias, &(struct numbers){0});
    size_t n = 0;
    FILE *out = stops && biases ? open_memstream(&b->settings, &n) : NULL;
    snprintf(hash[0], sizeof hash[0], "%016llx", (unsigned long long)b->set.rows.hash);
    snprintf(hash[1], sizeof hash[1], "%016llx", (unsigned long long)b->set.shot_rows.hash);
    if (out) {
        record_settings(b, &r, stops, biases, hash);
        record_json(out, &r);
    }
    free(stops);
    free(biases);
    return out && !fclose(out) ? 0 : complain(b->err, LSK_EOS, "out of memory");
}

/* FOLDER/SET-KEY.jsonl, and .json beside it. */
static int open_results(struct benchmark *b)
{
    const struct work_args *w = &b->a->work;
    uint64_t key = 0xcbf29ce484222325u;
    for (const char *c = b->settings; *c; c++)
        key = (key ^ (unsigned char)*c) * 0x100000001b3u;
    const char *const ends[] = {"jsonl", "json"};
    for (int i = 0; i < 2; i++)
        if (snprintf(i ? b->sums : b->path, PATH_CAP, "%s/%s-%016llx.%s", w->folder, b->a->data.task, (unsigned long long)key, ends[i]) >= PATH_CAP)
            return complain(b->err, LSK_EUSAGE, "--output-dir: \"%s\": the name is too long", excerpt_of(w->folder).text);
    if (make_folders(b->path))
        return complain(b->err, LSK_ECREATE, "%s: cannot make the folder: %s", excerpt_of(w->folder).text, strerror(errno));
    if (w->fresh && unlink(b->path) && errno != ENOENT)
        return complain(b->err, LSK_ECREATE, "%s: cannot remove: %s", excerpt_of(b->path).text, strerror(errno));
    return results_open(&b->results, b->path, b->settings, b->err);
}

/* ---- one sample ---- */

static void show(struct benchmark *b, int token)
{
    char line[160];
    const int done = b->results.n - b->begun;
    const double seconds = (double)(now_ns() - b->start_ns) * 1e-9;
    size_t n = (size_t)snprintf(line, sizeof line, "sample %d of %d, token %d", b->results.n + 1, b->wanted, token);
    if (seconds > 0)
        n += (size_t)snprintf(line + n, sizeof line - n, "  %.1f tokens/s", (double)b->tokens / seconds);
    if (done)
        snprintf(line + n, sizeof line - n, "  %.0f s left", seconds / done * (b->wanted - b->results.n));
    if (now_ns() - b->progress.shown_ns > 200000000)
        progress_line(&b->progress, line);
}

static int take_event(void *ud, const lsk_event *e)
{
    struct reply *x = ud;
    if (e->token >= 0 && x->n < x->cap)
        x->token[x->n++] = e->token;
    for (size_t i = 0; i < e->n_text; i++)
        if (e->text[i])
            fputc(e->text[i], x->text);
        else
            fputs("\xef\xbf\xbd", x->text);
    x->finish = e->finish;
    x->b->tokens += e->token >= 0;
    show(x->b, x->n);
    return terminal_interrupted();
}

static void take_speed(const lsk_stats *s, const lsk_model_info *info, struct result *out)
{
    const struct figures f = figures_of(s, info);
    const double prefill = (double)s->prompt_ns * 1e-9, total = prefill + (double)s->reply_ns * 1e-9;
    out->rounds = s->rounds;
    out->drafted = s->drafted;
    out->accepted = s->accepted;
    out->figure[ACCEPTANCE_RATE] = s->drafted ? f.acceptance : NAN;
    out->figure[ACCEPTED_LENGTH] = s->rounds ? f.length : NAN;
    out->figure[TOKENS_PER_SECOND] = s->reply_tokens && total > 0 ? s->reply_tokens / total : NAN;
    out->figure[TIME_PER_TOKEN] = s->reply_tokens ? total / s->reply_tokens : NAN;
    out->figure[DECODE_TOKENS_PER_SECOND] = f.reply_rate > 0 ? f.reply_rate : NAN;
    out->figure[PREFILL_TIME] = prefill;
    out->figure[TOTAL_TIME] = total;
    out->figure[PROMPT_TOKENS] = s->prompt_tokens;
    out->figure[REPLY_TOKENS] = s->reply_tokens;
}

static int measure_text(const struct sample *s, const struct reply *x, const char *text, struct result *out, lsk_error *err)
{
    double rouge[N_ROUGE] = {0};
    long edits = 0;
    int r = rouge_scores(s->reference, text, rouge, err);
    if (r >= 0)
        r = bleu_count(s->reference, text, &out->bleu, err);
    if (r >= 0)
        r = edit_distance(s->reference, text, &edits, err);
    if (r >= 0)
        r = repetition(x->token, x->n, &out->figure[REPETITION], err);
    for (int i = 0; i < N_ROUGE; i++)
        out->figure[TEXT_ROUGE_1 + i] = rouge[i];
    out->figure[SENTENCE_BLEU] = bleu_score(&out->bleu, 1);
    out->figure[EXACT_MATCH] = exact_match(s->reference, text);
    out->figure[EDIT_DISTANCE] = (double)edits;
    return r;
}

/* Prompt, reply and tests as one program. */
static int run_code(struct benchmark *b, const struct sample *s, const char *text, struct sandbox_result *out)
{
    char *program = NULL;
    if (!b->python)
        return 0;
    if (asprintf(&program, "%s%s\n\n%s\n\ncheck(%s)\n", s->bare, text, s->test, s->entry_point) < 0)
        return complain(b->err, LSK_EOS, "out of memory");
    int r = sandbox_run(b->python, program, b->a->work.code_timeout, out, b->err);
    free(program);
    return r;
}

static int finish_sample(struct benchmark *b, const struct sample *s, const struct reply *x, const char *text, const lsk_stats *stats)
{
    static const char *const verdicts[] = {"passed", "failed", "timeout"};
    struct sandbox_result code = {.why = ""};
    struct record texts = {0};
    struct result one = {.line = s->line};
    take_speed(stats, lsk_model_about(b->m), &one);
    int r = measure_text(s, x, text, &one, b->err);
    if (r >= 0)
        r = run_code(b, s, text, &code);
    one.figure[PASS] = b->python ? code.verdict == SANDBOX_PASSED : NAN;
    record_text(&texts, "finish", finish_name(x->finish));
    if (b->python) {
        record_text(&texts, "verdict", verdicts[code.verdict]);
        record_text(&texts, "why", code.why);
    }
    record_text(&texts, "reply", text);
    record_text(&texts, "reference", s->reference);
    return r < 0 || terminal_interrupted() ? r : results_add(&b->results, &one, &texts, b->err);
}

/* Each in a session of its own: prefill is then the whole prompt's, whatever stood before it. */
static int run_sample(struct benchmark *b, const struct sample *s, int i, int most) /* i below 0: not measured */
{
    const int room = lsk_model_about(b->m)->context - s->n;
    lsk_generate_options o = b->o;
    char *text = NULL;
    size_t n_text = 0;
    struct reply x = {.b = b, .cap = most < room ? most : room};
    o.max_tokens = x.cap;
    o.choice = i > 0 ? (uint32_t)i : 0;
    o.stop = b->stop.item;
    o.n_stop = b->stop.n;
    x.token = malloc(((size_t)x.cap + 1) * sizeof *x.token);
    x.text = open_memstream(&text, &n_text);
    lsk_session *session = x.token && x.text ? lsk_session_open(b->m, b->err) : NULL;
    int r = session ? reply(session, s->token, s->n, &o, take_event, &x, b->err) : x.token && x.text ? b->err->code : complain(b->err, LSK_EOS, "out of memory");
    if (x.text && fclose(x.text) && r >= 0)
        r = complain(b->err, LSK_EOS, "out of memory");
    if (r >= 0 && !terminal_interrupted() && i >= 0)
        r = finish_sample(b, s, &x, text, lsk_session_stats(session));
    lsk_session_close(session);
    free(x.token);
    free(text);
    return r;
}

static int take_sample(struct benchmark *b, int i, int measured)
{
    struct sample s;
    const int most = b->a->work.n_predict;
    int r = testset_sample(&b->set, b->m, &b->a->work.how, i, &s, b->err);
    if (r >= 0)
        r = run_sample(b, &s, measured ? i : -1, measured || most < WARM_UP ? most : WARM_UP);
    sample_free(&s);
    return r;
}

static int run_samples(struct benchmark *b)
{
    const int first = b->begun = b->results.n;
    int r = 0;
    b->progress = progress_start(b->a->show.progress);
    b->start_ns = now_ns();
    if (first < b->wanted)
        r = take_sample(b, first, 0); /* the very first tokens are slow */
    b->start_ns = now_ns();
    b->tokens = 0;
    for (int i = first; r >= 0 && i < b->wanted && !terminal_interrupted(); i++)
        r = take_sample(b, i, 1);
    progress_end(&b->progress);
    return r;
}

/* ---- sums ---- */

/* "[3, 17]" */
static char *bad_lines(const struct testset *set)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    for (int i = 0; out && i < set->n_bad; i++)
        fprintf(out, "%s%lld", i ? ", " : "[", (long long)set->bad[i]);
    if (out)
        fputs(set->n_bad ? "]" : "[]", out);
    return out && !fclose(out) ? text : NULL;
}

static struct record facts_of(const struct benchmark *b, const char *lines)
{
    struct record r = {0};
    record_text(&r, "model", lsk_model_about(b->m)->path);
    record_text(&r, "data_path", b->a->data.path);
    record_raw(&r, "settings", b->settings);
    record_whole(&r, "samples_wanted", (unsigned)b->wanted);
    record_whole(&r, "bad_rows", (unsigned)b->set.n_bad);
    record_raw(&r, "bad_lines", lines);
    return r;
}

/* The file appears when it is whole. */
static int write_sums(struct benchmark *b, const struct record *facts, int n)
{
    char part[PATH_CAP + 8];
    snprintf(part, sizeof part, "%s.part", b->sums);
    FILE *f = fopen(part, "we");
    if (!f)
        return complain(b->err, LSK_ECREATE, "%s: cannot create: %s", excerpt_of(part).text, strerror(errno));
    results_json(f, &b->results, n, facts);
    fputc('\n', f);
    int bad = fflush(f) || fsync(fileno(f));
    if (fclose(f) || bad || rename(part, b->sums) || sync_folder(b->sums))
        return complain(b->err, LSK_EIO, "%s: %s", excerpt_of(b->sums).text, strerror(errno));
    return 0;
}

/* What drafts: the profile, where nothing else was asked for. */
static void print_drafting(const struct benchmark *b)
{
    const lsk_profile *p = &b->profile.draft;
    const int own = strcmp(b->o.drafter, "auto") || b->o.exit_layer || b->o.num_speculations || b->o.depth;
    if (b->o.num_speculations < 0 || !strcmp(b->o.drafter, "none"))
        printf("plain decoding");
    else if (!own && p->exit_layer)
        printf("drafter auto, profile %s: exit layer %d, %d in a round", b->profile.source, p->exit_layer, p->num_speculations);
    else if (!own)
        printf("plain decoding (%s%s)", *b->profile.source ? "profile " : "no profile", b->profile.source);
    else
        printf("drafter %s", b->o.drafter);
    if (own && b->o.exit_layer)
        printf(", exit layer %d", b->o.exit_layer);
    if (own && b->o.num_speculations > 0)
        printf(", %d draft%s in a round", b->o.num_speculations, plural(b->o.num_speculations));
    if (b->o.drafter == b->profile.drafter)
        printf(", profile %s", b->profile.source);
    if (b->o.depth)
        printf(", only the first %d layers", b->o.depth);
}

static void print_head(const struct benchmark *b, int n)
{
    const struct testset *set = &b->set;
    printf("%s: %d of %d sample%s of %s, %d-shot", b->a->data.task, n, b->wanted, plural(b->wanted), excerpt_of(b->a->data.path).text, b->a->data.n_shot);
    if (set->n_bad)
        printf("; %d bad row%s passed over", set->n_bad, plural(set->n_bad));
    putchar('\n');
    print_drafting(b);
    if (b->o.temperature > 0)
        printf("; temperature %g, seed %llu\n\n", (double)b->o.temperature, (unsigned long long)b->o.seed);
    else
        printf("; greedy\n\n");
}

static int report(struct benchmark *b)
{
    const int n = b->results.n < b->wanted ? b->results.n : b->wanted;
    char *lines = bad_lines(&b->set);
    const struct record facts = facts_of(b, lines);
    int r = lines ? write_sums(b, &facts, n) : complain(b->err, LSK_EOS, "out of memory");
    if (r >= 0 && !strcmp(b->a->work.output, "json")) {
        results_json(stdout, &b->results, n, &facts);
        putchar('\n');
    } else if (r >= 0) {
        print_head(b, n);
        results_table(stdout, &b->results, n);
    }
    if (r >= 0)
        fprintf(stderr, "%s: %d sample%s%s\n", b->path, n, plural(n), n < b->wanted ? "; interrupted, the same command goes on" : "");
    free(lines);
    return r;
}

/* ---- the command ---- */

static int check_numbers(const struct benchmark *b)
{
    const lsk_model_info *info = lsk_model_about(b->m);
    for (int i = 0; i < b->o.n_eos; i++)
        if (b->o.eos[i] >= info->n_vocab)
            return complain(b->err, LSK_EUSAGE, "--stop-token-ids: %d: this model has %d tokens: give 0 to %d", b->o.eos[i], info->n_vocab, info->n_vocab - 1);
    if (b->o.depth > info->n_layers)
        return complain(b->err, LSK_EUSAGE, "--depth: %d: this model has %d layers: give 1 to %d, or 0", b->o.depth, info->n_layers, info->n_layers);
    int r = check_exit_layer(info, "--exit-layer", b->o.exit_layer, b->err);
    return r < 0 ? r : check_limits(&b->a->limits, b->m, &b->o, b->err);
}

static int load_and_run(struct benchmark *b)
{
    const struct benchmark_args *a = b->a;
    const int most = lsk_model_about(b->m)->context_max, wanted = b->set.longest + a->work.n_predict;
    lsk_model_options needs = {.context = wanted < most ? wanted : most, .max_drafts = b->o.num_speculations > 0 ? b->o.num_speculations : 0, .profile = &b->profile.draft};
    int r = apply_head(&a->head, &needs, b->err);
    if (r >= 0)
        r = plan_model(b->m, &a->model, &needs, b->err);
    if (r >= 0)
        r = describe_settings(b);
    if (r >= 0)
        r = open_results(b);
    if (r >= 0 && b->results.n)
        fprintf(stderr, "%s: goes on behind %d sample%s\n", b->path, b->results.n, plural(b->results.n));
    if (r >= 0 && b->results.n < b->wanted)
        r = load_model(b->m, &a->model, &a->show, &needs, b->err);
    if (r >= 0)
        r = run_samples(b);
    return r < 0 ? r : report(b);
}

static int benchmark(const void *args, lsk_error *err)
{
    struct benchmark b = {.a = args, .err = err};
    int r = fill_options(&b);
    if (r >= 0)
        r = testset_open(&b.set, &b.a->data, b.a->work.run_code, err);
    if (r >= 0 && b.a->work.run_code)
        r = add_code_stops(&b);
    if (r >= 0)
        r = (b.m = open_model(&b.a->model, &b.a->show, err)) ? check_numbers(&b) : err->code;
    if (r >= 0) {
        b.profile = profile_find(lsk_model_about(b.m));
        profile_apply(&b.profile, &b.o);
        r = testset_prepare(&b.set, b.m, &b.a->work.how, err);
        b.wanted = b.set.n;
    }
    if (r >= 0 && !terminal_interrupted())
        r = load_and_run(&b);
    results_close(&b.results);
    lsk_model_close(b.m);
    testset_close(&b.set);
    free_stops(&b.stop);
    free_limits(&b.limits);
    free(b.python);
    free(b.settings);
    return r < 0 ? r : 0;
}

static void explain(FILE *out)
{
    fprintf(out, "\nData\n"
                 "  custom_jsonl          prompt, response: texts, or lists of token ids\n"
                 "  cnn_dm_summarization  article, highlights: \"Article: ...\\nSummary:\"\n"
                 "  xsum_summarization    document, summary: likewise\n"
                 "  cnn_dm_lm             article: its first 100 words are the prompt, the others the reference\n"
                 "  human_eval            prompt, canonical_solution; with --run-code also test and entry_point\n"
                 "  top_v2                utterance, semantic_parse\n"
                 "\nFigures\n"
                 "  ROUGE are F-measures as the package rouge-score gives them without stemming, BLEU is sacrebleu's (13a words, 0 to 100): of all samples together, and the mean of each\n"
                 "  sample's own. Exact match is equality, white space at both ends aside; the edit distance counts characters. Repeated runs: of 4 tokens that came before. Speeds are\n"
                 "  each sample's, with its prompt and without; prefill is the prompt's pass, every prompt read anew. A sample without drafts has no acceptance rate.\n"
                 "\n  The results' file has a line for every sample. The same command goes on where an earlier one ended; another model, file or option is another file.\n"
                 "\n  What --run-code runs can read %s.\n  Of what it says only the type of a Python exception is kept.\n",
            sandbox_hides_files() ? "/usr, /lib and Python's own files, and no others: Landlock is in force here" : "every file that you can read: this kernel has no Landlock (Linux 5.13), which would hide them");
}

const struct command command_benchmark = {
    "benchmark",
    "a data set through a model: speed, acceptance and quality of the replies",
    "[MODEL] --data-path FILE [OPTIONS]",
    "Continues every prompt of a data set and compares the replies with the references. Ctrl-C keeps what is done.",
    "  layerskip benchmark ./layerskip-llama2-7B --dataset cnn_dm_summarization --data-path test.jsonl --shots-path train.jsonl --n-shot 1 --num-samples 100 --exit-layer 8 --num-speculations 12\n"
    "  layerskip benchmark model.gguf --data-path questions.jsonl --template 'Q: {message}\\nA:' --stop '\\nQ:' -n 64\n"
    "  layerskip benchmark model.gguf --dataset human_eval --data-path HumanEval.jsonl --run-code\n",
    "model",
    groups,
    sizeof(struct benchmark_args),
    benchmark,
    explain};
