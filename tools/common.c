/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"

#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "constraints.h"
#include "messages.h"
#include "summary.h"

const struct option model_options[] = {
    {"model m", OPT_TEXT, offsetof(struct model_args, path), "PATH", .instead = "hf-repo",
     .help = "a Hugging Face folder, a .safetensors or a .gguf file; may also stand first without -m"},
    {"weights", OPT_CHOICE, offsetof(struct model_args, weights), NULL, "file", .choices = "file bf16 q8 q4",
     .help =
         "type that weights are kept in: as stored, or converted while loading; what a file has quantised already stays as it is, with a warning"},
    {"kv", OPT_CHOICE, offsetof(struct model_args, kv), NULL, "auto", .choices = "auto bf16 f32",
     .help = "type of the KV cache; auto is bf16, and f32 with --compute f32"},
    {"compute", OPT_CHOICE, offsetof(struct model_args, compute), NULL, "native", .choices = "native f32",
     .help = "f32 keeps float activations everywhere: slower, for accuracy tests"},
    {"kernels", OPT_CHOICE, offsetof(struct model_args, kernels), NULL, "auto", .choices = "auto plain avx2 avx512",
     .help = "kernels to use; auto is the fastest set that this device has; plain, avx2 and avx512 are the CPU's and give the same bits"},
    {"device", OPT_TEXT, offsetof(struct model_args, device), NULL, "auto", .choices = "auto cpu cuda cuda:N",
     .help = "where the model runs: auto is the first GPU where one can be used, else the CPU; cuda:1 is the second GPU"},
    {"threads t", OPT_INT, offsetof(struct model_args, threads), "N", "0", 0, 1024, .help = "threads of the CPU; 0 is one for every core"},
    {"batch-size b", OPT_INT, offsetof(struct model_args, batch), "N", "0", 0, 65536, .help = "prompt tokens in one step; 0 is 256, on a GPU 2048"},
    {"ignore-config", OPT_TEXTS, offsetof(struct model_args, ignore_config), "KEY",
     .help = "pass over this unknown key of the model's configuration; may be repeated"},
    {0}};

const struct option show_options[] = {
    {"progress", OPT_FLAG, offsetof(struct show_args, progress), NULL, "on", .help = "show progress on stderr where that is a terminal"}, {0}};

const struct option prompt_options[] = {
    {"prompt p", OPT_TEXT, offsetof(struct prompt_args, text), "TEXT", .instead = "file",
     .help = "the prompt; without -p and -f it is read from stdin when that is not a terminal"},
    {"file f", OPT_TEXT, offsetof(struct prompt_args, file), "FILE", .instead = "prompt",
     .help = "read the prompt from a file, - is stdin; one newline at its end is dropped"},
    {"escape e", OPT_FLAG, offsetof(struct prompt_args, escape), NULL, "on", .help = "replace \\n, \\t, \\xHH and the like in -p and stop strings"},
    {"special", OPT_FLAG, offsetof(struct prompt_args, special),
     .help = "<|im_start|> and the like in the prompt are tokens, and such tokens are shown"},
    {"bos", OPT_FLAG, offsetof(struct prompt_args, bos), NULL, "on", .help = "begin with the beginning-of-text token where the model asks for it"},
    {0}};

const struct option sampling_options[] = {
    {"temp temperature", OPT_REAL, offsetof(struct sampling_args, temperature), "T", "0", 0, 100,
     .help = "0 is greedy, also where the model's files suggest another temperature"},
    {"sample", OPT_SAID, offsetof(struct sampling_args, sample), "[True|False]", .sets = "temp=0.6",
     .help = "as in the original scripts: True samples, at temperature 0.6 unless --temp says otherwise (0 is refused); False is greedy, whatever "
             "the temperature"},
    {"top-k", OPT_INT, offsetof(struct sampling_args, top_k), "K", "0", 0, 1 << 24, .help = "sample from the K likeliest tokens; 0 is off"},
    {"top-p", OPT_REAL, offsetof(struct sampling_args, top_p), "P", "1", 0, 1,
     .help = "sample from the likeliest tokens that together have probability P; 1 is off"},
    {"min-p", OPT_REAL, offsetof(struct sampling_args, min_p), "P", "0", 0, 1,
     .help = "leave out tokens that are less than P times as likely as the likeliest; 0 is off"},
    {"seed s", OPT_SEED, offsetof(struct sampling_args, seed), "N", "0",
     .help = "the same seed gives the same text, drafted or not; -1 is another one each time"},
    {0}};

const struct option draft_options[] = {
    {"exit-layer", OPT_INT, offsetof(struct draft_args, exit_layer), "E", "-1", -1, 1023,
     .help = "layers that a draft runs; -1 or 0 is the model's profile, else a quarter of its layers"},
    {"num-speculations num-assistant-tokens spec-draft-n-max draft-max", OPT_INT, offsetof(struct draft_args, num_speculations), "D", "-1", -1,
     LSK_MAX_DRAFTS, .help = "drafts in a round; 0 is plain decoding, -1 as many as are worth their time, from the exit layer at most the profile's, else 4. Beside them other drafters "
             "add what is worth its time"},
    {"generation-strategy", OPT_CHOICE, offsetof(struct draft_args, strategy), NULL, "auto", .choices = "auto autoregressive self_speculative",
     .help = "auto drafts where the model has a LayerSkip profile or one of these options asks for it; autoregressive with --exit-layer E is --depth "
             "E, as in the original scripts"},
    {"draft-p-min spec-draft-p-min assistant-confidence-threshold", OPT_REAL, offsetof(struct draft_args, min_conf), "P", "0", 0, 1,
     .help = "end a chain of drafts at one that its exit gives less than this probability"},
    {"drafter", OPT_TEXT, offsetof(struct draft_args, drafter), "NAMES", "auto", .choices = "auto none ngram exit recycle",
     .help = "what proposes drafts: auto, none, or some of ngram (what followed before), exit (the first layers) and recycle (what the head gave last), joined by +"},
    {"depth early-exit-only", OPT_INT, offsetof(struct draft_args, depth), "N", "0", 0, 1024,
     .help = "decode with the first N layers only, for study: this changes the text; 0 is all"},
    {0}};

const struct option head_options[] = {
    {"draft-head", OPT_TEXT, offsetof(struct head_args, draft_head), NULL, "auto", .choices = "auto off N",
     .help = "how many of the model's most frequent tokens the exit drafts among: fewer make a draft cheaper and miss more often, the text stays the same; auto is all that the model "
             "lists (`quantize --draft-tokens` makes the list), off or no list is the whole vocabulary"},
    {0}};

static const char *const *ignored(const struct model_args *a)
{
    return a->ignore_config.n ? a->ignore_config.item : NULL;
}

int check_device(const char *device, lsk_error *err)
{
    size_t n = !strncmp(device, "cuda:", 5) ? strspn(device + 5, "0123456789") : 0;
    char near[16] = "";
    int best = 99;
    if (!strcmp(device, "auto") || !strcmp(device, "cpu") || !strcmp(device, "cuda") || (n > 0 && n < 4 && !device[5 + n]))
        return 0;
    suggest("auto cpu cuda", device, near, sizeof near, &best);
    return complain(err, LSK_EUSAGE, "--device: \"%s\": must be auto, cpu, cuda or cuda:N, the GPU of that number from 0%s%s%s", excerpt_of(device).text,
                    *near ? " (did you mean " : "", near, *near ? "?)" : "");
}

lsk_model *open_model(const struct model_args *a, const struct show_args *show, lsk_error *err)
{
    char *path = NULL;
    if (a->device && check_device(a->device, err) < 0)
        return NULL;
    if (find_model(a->path, &a->hub, show->progress, &path, err) < 0)
        return NULL;
    lsk_model *m = lsk_model_open(path, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER, .ignore_config = ignored(a)}, err);
    free(path);
    const char *key = m ? lsk_model_about(m)->ignored : NULL;
    char line[200];
    if (key) {
        snprintf(line, sizeof line, "--ignore-config %s: this key changes what the model computes: the text may differ from the reference", excerpt_of(key).text);
        print_warning(line);
    }
    return m;
}

/* What a GPU is going to hold, before it does: its memory is small and shared. */
static void print_plan(const lsk_model_info *i)
{
    char b[4][32];
    fprintf(stderr, "plan       %s: weights %s, KV cache %s, activations %s: %s in all\n", i->device, bytes_text(i->memory.weights, b[0], 32), bytes_text(i->memory.kv, b[1], 32),
            bytes_text(i->memory.scratch, b[2], 32), bytes_text(i->memory.weights + i->memory.kv + i->memory.scratch, b[3], 32));
    if (!strcmp(i->weight_type, "F32"))
        print_warning("F32 weights have no tensor cores and twice the bytes; --weights bf16 is faster");
}

void widen_drafts(lsk_model_options *needs, int drafts)
{
    if (drafts > LSK_FEW_DRAFTS && drafts > needs->max_drafts)
        needs->max_drafts = drafts;
}

static lsk_model_options options_of(const struct model_args *a, const lsk_model_options *needs, struct progress *progress)
{
    lsk_model_options o = *needs;
    o.device = a->device;
    o.weights = a->weights;
    o.kv = a->kv;
    o.compute = a->compute;
    o.kernels = a->kernels;
    o.threads = a->threads;
    o.batch = a->batch;
    o.progress = progress_show;
    o.progress_ud = progress;
    return o;
}

int plan_model(lsk_model *m, const struct model_args *a, const lsk_model_options *needs, lsk_error *err)
{
    struct progress silent = {.on = 0};
    lsk_model_options o = options_of(a, needs, &silent);
    o.load = LSK_LOAD_PLAN;
    return lsk_model_load(m, &o, err);
}

int load_model(lsk_model *m, const struct model_args *a, const struct show_args *show, const lsk_model_options *needs, lsk_error *err)
{
    struct progress progress = progress_start(show->progress);
    lsk_model_options o = options_of(a, needs, &progress);
    const lsk_model_info *info = lsk_model_about(m);
    char line[160];
    int r = plan_model(m, a, needs, err);
    if (r >= 0 && needs->load != LSK_LOAD_PLAN) {
        if (strcmp(info->device, "cpu"))
            print_plan(info);
        else if (*info->device_note && isatty(STDERR_FILENO))
            fprintf(stderr, "device     cpu; %s\n", excerpt_of(info->device_note).text);
        r = lsk_model_load(m, &o, err);
    }
    progress_end(&progress);
    terminal_release();
    if (r < 0 || !info->n_kept)
        return r;
    snprintf(line, sizeof line, "--weights %s: %d tensors are quantised in the file (mostly %s) and stay as they are", a->weights, info->n_kept,
             info->kept_type);
    print_warning(line);
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

size_t replace_escapes(char *text)
{
    static const char from[] = "nrt\"'\\", to[] = "\n\r\t\"'\\";
    char *out = text;
    for (const char *p = text; *p; p++) {
        const char *known = *p == '\\' && p[1] ? strchr(from, p[1]) : NULL;
        if (known) {
            *out++ = to[known - from];
            p++;
        } else if (*p == '\\' && p[1] == 'x' && hex_digit(p[2]) >= 0 && hex_digit(p[3]) >= 0) {
            *out++ = (char)(16 * hex_digit(p[2]) + hex_digit(p[3]));
            p += 3;
        } else {
            *out++ = *p;
        }
    }
    *out = 0;
    return (size_t)(out - text);
}

int read_stream(const char *path, char **text, size_t *n, lsk_error *err)
{
    const size_t limit = (size_t)64 << 20;
    int from_stdin = !strcmp(path, "-"), code = 0;
    const char *name = from_stdin ? "standard input" : path;
    FILE *f = from_stdin ? stdin : fopen(path, "re");
    size_t cap = 1 << 16, used = 0;
    char *buffer = malloc(cap);
    if (!f || !buffer) {
        code = complain(err, f ? LSK_EOS : LSK_ENOINPUT, "%s: %s", excerpt_of(name).text, f ? "out of memory" : strerror(errno));
        goto done;
    }
    for (size_t got; (got = fread(buffer + used, 1, cap - used - 1, f)) > 0;) {
        used += got;
        if (used + 1 < cap)
            continue;
        char *bigger = cap < limit ? realloc(buffer, 2 * cap) : NULL;
        if (!bigger) {
            code = complain(err, LSK_EUSAGE, "%s: longer than %zu MiB", excerpt_of(name).text, limit >> 20);
            goto done;
        }
        buffer = bigger;
        cap *= 2;
    }
    if (ferror(f)) {
        code = complain(err, LSK_EIO, "%s: %s", excerpt_of(name).text, strerror(errno));
        goto done;
    }
    buffer[used] = 0;
    *n = used;
    *text = buffer;
    buffer = NULL;
done:
    free(buffer);
    if (f && !from_stdin)
        fclose(f);
    return code;
}

int read_prompt(const struct prompt_args *a, char **text, size_t *n, lsk_error *err)
{
    if (a->text && a->file)
        return complain(err, LSK_EUSAGE, "both --prompt and --file are given: give one of them");
    if (!a->text && !a->file && isatty(STDIN_FILENO))
        return complain(err, LSK_EUSAGE, "no prompt: give -p TEXT or -f FILE, or pipe text in");
    if (a->text) {
        *text = strdup(a->text);
        if (!*text)
            return complain(err, LSK_EOS, "out of memory");
        *n = a->escape ? replace_escapes(*text) : strlen(*text);
    } else {
        int r = read_stream(a->file ? a->file : "-", text, n, err);
        if (r < 0)
            return r;
        *n -= *n && (*text)[*n - 1] == '\n';
    }
    if (*n)
        return 0;
    free(*text);
    *text = NULL;
    if (a->file && strcmp(a->file, "-"))
        return complain(err, LSK_EUSAGE, "%s: the file is empty, so there is no prompt", excerpt_of(a->file).text);
    return complain(err, LSK_EUSAGE, "the prompt is empty: give -p TEXT or -f FILE, or pipe text in");
}

int encode_prompt(const lsk_model *m, const struct prompt_args *a, const char *text, size_t n, int32_t **tokens, lsk_error *err)
{
    unsigned flags = (a->bos ? LSK_ENCODE_BOS : 0) | (a->special ? LSK_ENCODE_SPECIAL : 0);
    int count = lsk_encode(m, text, n, flags, NULL, 0, err);
    if (count < 0 && a->file && !a->text) {
        lsk_error why = *err;
        return complain(err, count, "%.200s: %.300s", a->file, why.text);
    }
    if (count < 0)
        return count;
    *tokens = malloc((size_t)(count + 1) * sizeof **tokens);
    if (!*tokens)
        return complain(err, LSK_EOS, "out of memory");
    return lsk_encode(m, text, n, flags, *tokens, count, err);
}

uint64_t seed_of(uint64_t asked)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return asked == UINT64_MAX ? (uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^ (uint64_t)getpid() << 16 : asked;
}

int apply_sampling(const struct sampling_args *a, lsk_generate_options *o, lsk_error *err)
{
    if (a->sample > 0 && a->temperature == 0)
        return complain(err, LSK_EUSAGE, "--sample and --temp 0 contradict each other: give one of them");
    o->temperature = a->sample < 0 ? 0 : (float)a->temperature;
    if (o->temperature == 0 && (a->top_k || a->top_p < 1 || a->min_p > 0))
        print_warning("--top-k, --top-p and --min-p have no effect on greedy decoding: give --temp");
    o->top_k = a->top_k;
    o->top_p = a->top_p >= 1 ? 0 : a->top_p > FLT_MIN ? (float)a->top_p : FLT_MIN; /* the library's 0 is off, ours the likeliest token alone */
    o->min_p = (float)a->min_p;
    o->seed = seed_of(a->seed);
    return 0;
}

int check_drafter(const char *names, lsk_error *err)
{
    const char *name, *p = names;
    for (size_t n; p; p = p[n] ? p + n + 1 : NULL) {
        int i = 0;
        n = strcspn(p, "+");
        while ((name = lsk_drafter(i, NULL)) && (strlen(name) != n || strncmp(name, p, n)))
            i++;
        if (!name)
            return complain(err, LSK_EUSAGE, "--drafter: \"%s\": must be none, or ngram, exit, recycle or several of them joined by +", excerpt_of(names).text);
    }
    return 0;
}

int copy_stops(const struct texts *given, int escape, struct texts *out, lsk_error *err)
{
    for (*out = (struct texts){0}; out->n < given->n;) {
        char *copy = strdup(given->item[out->n]);
        if (!copy)
            return complain(err, LSK_EOS, "out of memory");
        if (escape)
            replace_escapes(copy);
        out->item[out->n++] = copy;
        if (!*copy)
            return complain(err, LSK_EUSAGE, "--reverse-prompt: a stop string may not be empty");
    }
    return 0;
}

void free_stops(struct texts *stops)
{
    for (int i = 0; i < stops->n; i++)
        free((char *)stops->item[i]);
    stops->n = 0;
}

int apply_head(const struct head_args *a, lsk_model_options *needs, lsk_error *err)
{
    uint64_t n = 0;
    needs->draft_head = !strcmp(a->draft_head, "off") ? -1 : 0;
    if (needs->draft_head || !strcmp(a->draft_head, "auto"))
        return 0;
    if (read_natural(a->draft_head, &n) || n < 1 || n > INT32_MAX)
        return complain(err, LSK_EUSAGE, "--draft-head: \"%s\": must be auto, off or a number of tokens from 1", excerpt_of(a->draft_head).text);
    needs->draft_head = (int)n;
    return 0;
}

static int check_contradictions(const struct draft_args *a, int plain, lsk_error *err)
{
    if (plain && a->exit_layer > 0 && a->depth && a->depth != a->exit_layer)
        return complain(err, LSK_EUSAGE, "--generation-strategy autoregressive --exit-layer %d and --depth %d contradict each other: give one of them", a->exit_layer, a->depth);
    if (!plain && a->depth && a->exit_layer >= a->depth)
        return complain(err, LSK_EUSAGE, "--exit-layer: %d: must be below --depth %d, whose layers verify the drafts", a->exit_layer, a->depth);
    if (plain && a->num_speculations > 0)
        print_warning("--generation-strategy autoregressive: decoding is plain, --num-speculations has no effect");
    else if (!plain && !strcmp(a->drafter, "none") && (a->exit_layer > 0 || a->num_speculations > 0))
        print_warning("--drafter none: decoding is plain, --exit-layer and --num-speculations have no effect");
    return 0;
}

int apply_drafting(const struct draft_args *a, lsk_generate_options *o, lsk_error *err)
{
    int plain = !strcmp(a->strategy, "autoregressive");
    int drafted = !plain && strcmp(a->strategy, "auto"), automatic = !strcmp(a->drafter, "auto");
    if (!automatic && check_drafter(a->drafter, err) < 0)
        return err->code;
    if ((plain && !automatic && strcmp(a->drafter, "none")) || (drafted && !strcmp(a->drafter, "none")))
        return complain(err, LSK_EUSAGE, "--generation-strategy %s and --drafter %s contradict each other: give one of them", a->strategy,
                        excerpt_of(a->drafter).text);
    if (check_contradictions(a, plain, err) < 0)
        return err->code;
    if (a->exit_layer > 0 && !automatic && !plain && strcmp(a->drafter, "none") && !strstr(a->drafter, "exit"))
        print_warning("--exit-layer: nothing drafts from it: --drafter names no exit");
    o->drafter = plain ? "none" : drafted && automatic ? "exit" : a->drafter; /* what "auto" is, the library decides */
    o->exit_layer = a->exit_layer > 0 && !plain ? a->exit_layer : 0;
    o->num_speculations = a->num_speculations > 0 ? a->num_speculations : a->num_speculations == 0 ? -1 : 0;
    o->draft_min_conf = (float)a->min_conf;
    o->depth = plain && a->exit_layer > 0 && !a->depth ? a->exit_layer : a->depth;
    return 0;
}

int check_exit_layer(const lsk_model_info *info, const char *flag, int exit_layer, lsk_error *err)
{
    if (exit_layer < info->n_layers)
        return 0;
    return complain(err, LSK_EUSAGE, "%s: %d: this model has %d layers: give 1 to %d", flag, exit_layer, info->n_layers, info->n_layers - 1);
}

int check_context(const lsk_model_info *info, const char *flag, int asked, int n_prompt, lsk_error *err)
{
    if (asked <= info->context_max - n_prompt)
        return 0;
    if (!n_prompt)
        return complain(err, LSK_EUSAGE, "%s: %d: this model's context holds %d tokens: give at most that", flag, asked, info->context_max);
    return complain(err, LSK_EUSAGE, "%s: %d, behind %d tokens of prompt: this model's context holds %d: give at most %d%s", flag, asked, n_prompt, info->context_max,
                    info->context_max > n_prompt ? info->context_max - n_prompt : 0, info->context_max > n_prompt ? "" : " and a shorter prompt");
}

struct listener {
    lsk_emit_fn emit;
    void *ud;
    enum lsk_finish finish;
    char why[sizeof((lsk_error *)0)->text];
};

static int pass_event(void *ud, const lsk_event *e)
{
    struct listener *l = ud;
    l->finish = e->finish;
    if (e->error)
        snprintf(l->why, sizeof l->why, "%s", e->error);
    return l->emit ? l->emit(l->ud, e) : 0;
}

int start_reply(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, struct progress *p, lsk_error *err)
{
    const lsk_generate_options asked = without_window(o);
    int r = lsk_session_prompt(s, tokens, n, &asked, err), done;
    while (r >= 0 && (done = lsk_session_stats(s)->prompt_done) < n - 1 && !terminal_interrupted()) {
        progress_tokens(p, "reading the prompt", done, n);
        r = lsk_step(&s, 1, NULL, NULL, err);
    }
    progress_end(p);
    return r < 0 ? r : 0;
}

int finish_reply(lsk_session *s, lsk_emit_fn emit, void *ud, lsk_error *err)
{
    struct listener l = {.emit = emit, .ud = ud};
    int r = 1;
    while (r > 0 && !terminal_interrupted())
        r = lsk_step(&s, 1, pass_event, &l, err);
    if (r >= 0 && l.finish == LSK_FINISH_ERROR)
        r = complain(err, LSK_EDATA, "%s", l.why);
    return r;
}

int reply(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_emit_fn emit, void *ud, lsk_error *err)
{
    struct progress silent = {.on = 0};
    int r = start_reply(s, tokens, n, o, &silent, err);
    return r < 0 ? r : finish_reply(s, emit, ud, err);
}

struct piece_text piece_of(const lsk_model *m, int32_t token)
{
    struct piece_text t = {""};
    struct shown shown;
    size_t left = 0, used = 0;
    const char *p = lsk_piece(m, token, &left);
    for (size_t taken; p && left && used < sizeof t.text - sizeof shown; p += taken, left -= taken) {
        taken = show_character(p, left, &shown);
        used += (size_t)snprintf(t.text + used, sizeof t.text - used, "%s", shown.text);
    }
    return t;
}
