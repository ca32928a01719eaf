/* SPDX-License-Identifier: Apache-2.0 */
/* The public header without an engine: bytes are tokens, and a hash of the last tokens is the model. It lets the program's own behaviour be tested
   without weights. A process may open one model, once. The name of the "model" picks its character: any existing file is a model; a name with "corrupt" cannot be read, one with "broken"
   writes another text when it drafts, one with "ends" then gives another reason of the end, one with "slow" takes 2 ms for every step, one with
   "dear" 2 ms for every draft more, one with "evil" has a hostile name, one with "nan" fails at the third token of a reply and has a damaged tensor,
   one with "stuck" opens for 20 s and looks at nothing meanwhile, one with "mute" says nothing, one with "own" has a profile, one with "packed" has quantised tensors, one with "endless" no end of text, one with "lean" no memory for drafts, one with "greedy" asks for that, one
   with "gpu" runs on a GPU, one with "base" has no chat template, one with "rude" says what a terminal obeys, one with "penalties" the digits of its presence penalty. Its chat template is the JSON of the messages; one of them that says REFUSE is refused. */
#include "layerskip.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { VOCAB = 258, BOS = 256, EOS = 257, LAYERS = 8, CONTEXT = 8192, BATCH = 16, PASS = 1000000 };

struct lsk_model {
    lsk_model_info info;
    int loaded, broken, ends, slow, dear, nan, mute, packed, rude, penalties;
    char path[];
};

struct lsk_session {
    lsk_model *m;
    int32_t token[CONTEXT + 1];
    int n, n_prompt, n_computed, running, exit_layer, drafts, drafting;
    lsk_generate_options o;
    lsk_stats stats;
    char text[LSK_MAX_DRAFTS + 2][8];
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int refuse(lsk_error *err, int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (err) {
        err->code = code;
        vsnprintf(err->text, sizeof err->text, format, list);
    }
    va_end(list);
    return code;
}

const char *lsk_version(void)
{
    return "0.0.0-fake";
}

lsk_model *lsk_model_open(const char *path, const lsk_model_options *o, lsk_error *err)
{
    static int opened;
    if (opened++) {
        refuse(err, LSK_EINTERNAL, "model: opened a second time: headers and tokenizer are read once");
        return NULL;
    }
    if (access(path, R_OK)) {
        refuse(err, LSK_ENOINPUT, "model: no such file");
        return NULL;
    }
    if (strstr(path, "corrupt")) {
        refuse(err, LSK_EDATA, "model: offset 0x8: the header is damaged");
        return NULL;
    }
    for (int64_t end = now() + 20000000000; strstr(path, "stuck") && now() < end;)
        usleep(1000);
    lsk_model *m = calloc(1, sizeof *m + strlen(path) + 1);
    m->broken = strstr(path, "broken") != NULL;
    m->ends = strstr(path, "ends") != NULL;
    m->slow = strstr(path, "slow") != NULL;
    m->nan = strstr(path, "nan") != NULL;
    m->mute = strstr(path, "mute") != NULL;
    m->dear = strstr(path, "dear") != NULL;
    m->rude = strstr(path, "rude") != NULL;
    m->penalties = strstr(path, "penalties") != NULL;
    m->packed = strstr(path, "packed") != NULL;
    m->info = (lsk_model_info){.path = strcpy(m->path, path),
                               .format = "fake",
                               .family = "llama",
                               .name = strstr(path, "evil") ? "evil\x1b[31m\n|line" : "fake",
                               .file_type = "BF16",
                               .weight_type = "bf16",
                               .kv_type = "bf16",
                               .compute = "native",
                               .device = strstr(path, "gpu") ? "cuda" : "cpu",
                               .device_note = "",
                               .kernels = "plain",
                               .tokenizer = "bytes",
                               .rope = "default",
                               .n_layers = LAYERS,
                               .hidden = 64,
                               .ffn = 256,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 16,
                               .n_vocab = VOCAB,
                               .context_max = CONTEXT,
                               .rope_theta = 1e4,
                               .norm_eps = 1e-5,
                               .n_params = 1000000,
                               .file_bytes = 2000000,
                               .layer_bytes = 100000,
                               .head_bytes = 200000,
                               .pass_bytes = PASS,
                               .memory = {2000000, 65536, 40000, 4000},
                               .bos = BOS,
                               .n_eos = 1,
                               .eos = {EOS},
                               .exit_layer = strstr(path, "own") ? 3 : 0,
                               .num_speculations = strstr(path, "own") ? 2 : 0,
                               .unused_advice = strstr(path, "greedy") ? "generation.top_k = -2: \x1b" : "",
                               .temperature = strstr(path, "greedy") ? 0 : -1};
    m->info.has_chat_template = !strstr(path, "base");
    m->info.n_eos = strstr(path, "endless") ? 0 : 1;
    m->info.memory.drafts = strstr(path, "lean") ? 0 : 4000;
    strcpy(m->info.id, "00000000000000fa");
    for (const char *const *key = o->ignore_config; key && *key; key++)
        m->info.ignored = strcmp(*key, "sliding_window") ? NULL : *key;
    if (o->load == LSK_LOAD_TOKENIZER || !lsk_model_load(m, o, err))
        return m;
    free(m);
    return NULL;
}

int lsk_model_load(lsk_model *m, const lsk_model_options *o, lsk_error *err)
{
    if (o->context > CONTEXT)
        return refuse(err, LSK_EUSAGE, "context: %d: give at most %d", o->context, CONTEXT);
    if (o->progress && o->load == LSK_LOAD_ALL && o->progress(o->progress_ud, "loading", 1, 2))
        return refuse(err, LSK_EUSAGE, "stopped");
    m->loaded = o->load == LSK_LOAD_ALL;
    if (o->profile) {
        m->info.exit_layer = o->profile->exit_layer;
        m->info.num_speculations = o->profile->num_speculations;
    }
    if (m->packed && o->weights && strcmp(o->weights, "file")) {
        m->info.n_kept = 7;
        m->info.kept_type = "Q4_1";
    }
    m->info.context = o->context ? o->context : CONTEXT;
    m->info.threads = strcmp(m->info.device, "cpu") ? 0 : o->threads ? o->threads : 1;
    m->info.batch = o->batch ? o->batch : 256;
    return 0;
}

void lsk_model_close(lsk_model *m)
{
    free(m);
}
const lsk_model_info *lsk_model_about(const lsk_model *m)
{
    return &m->info;
}

int lsk_model_check(const lsk_model *m, lsk_progress_fn progress, int (*report)(void *ud, const char *line), void *ud, lsk_error *err)
{
    for (int64_t start = now(), end = start + (m->slow ? 20000000000 : 1), t = start; t < end; t = now()) {
        if (progress(ud, "checking weights", (uint64_t)(t - start), (uint64_t)(end - start)))
            return refuse(err, LSK_EUSAGE, "stopped");
        usleep(1000);
    }
    return !m->nan ? 0 : report(ud, "tensor fake: 1 values are not finite, the first at index 0") ? refuse(err, LSK_EUSAGE, "stopped") : 1;
}

int lsk_model_tensor(const lsk_model *m, int i, char *out, size_t cap)
{
    return i < m->info.n_layers ? snprintf(out, cap, "layers.%d.q BF16 64x64", i) : 0;
}

int lsk_encode(const lsk_model *m, const char *text, size_t n, unsigned flags, int32_t *out, int cap, lsk_error *err)
{
    int count = 0;
    (void)m;
    for (size_t i = 0; i < n && !(flags & LSK_ENCODE_REPLACE); i++)
        if ((unsigned char)text[i] >= 0xf8)
            return refuse(err, LSK_EUSAGE, "text: offset %zu: not UTF-8", i);
    if (flags & LSK_ENCODE_BOS && count++ < cap)
        out[0] = BOS;
    for (size_t i = 0; i < n; i++, count++)
        if (count < cap)
            out[count] = (unsigned char)text[i];
    return count;
}

const char *lsk_piece(const lsk_model *m, int32_t token, size_t *n)
{
    static char byte[256][2];
    (void)m;
    if (token < 0 || token >= VOCAB)
        return NULL;
    *n = token < BOS ? 1 : 3;
    if (token < BOS)
        byte[token][0] = (char)token;
    return token == BOS ? "<s>" : token == EOS ? "<e>" : byte[token];
}

lsk_chat *lsk_chat_render(const lsk_model *m, const char *messages, const lsk_chat_options *o, lsk_error *err)
{
    size_t n = strlen(messages);
    lsk_chat *c = calloc(1, sizeof *c + n * sizeof(int32_t));
    int32_t *tokens = (int32_t *)(c + 1);
    if (strstr(messages, "REFUSE") || (o && o->template_text && strstr(o->template_text, "REFUSE"))) {
        free(c);
        refuse(err, LSK_EDATA, "the model's chat template: line 1: the template refuses these messages: no");
        return NULL;
    }
    (void)m;
    for (size_t i = 0; i < n; i++)
        tokens[i] = (unsigned char)messages[i];
    *c = (lsk_chat){.text = "", .tokens = tokens, .n_tokens = (int)n, .end = -1};
    return c;
}

void lsk_chat_free(lsk_chat *c)
{
    free(c);
}

const char *lsk_chat_template(int i, const char **help)
{
    (void)i, (void)help;
    return NULL;
}

lsk_session *lsk_session_open(lsk_model *m, lsk_error *err)
{
    lsk_session *s = m->loaded ? calloc(1, sizeof *s) : NULL;
    if (s)
        s->m = m;
    else
        refuse(err, LSK_EUSAGE, "sessions need the weights");
    return s;
}

void lsk_session_close(lsk_session *s)
{
    free(s);
}
const lsk_stats *lsk_session_stats(lsk_session *s)
{
    return &s->stats;
}

int lsk_session_prompt(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_error *err)
{
    int same = 0;
    lsk_generate_options defaults = {0};
    s->o = o ? *o : defaults;
    if (n >= s->m->info.context)
        return refuse(err, LSK_EUSAGE, "prompt: %d tokens, but the context holds %d", n, s->m->info.context);
    if (s->o.exit_layer >= LAYERS)
        return refuse(err, LSK_EUSAGE, "exit layer: %d: give 1 to %d", s->o.exit_layer, LAYERS - 1);
    while (same < n - 1 && same < s->n && s->token[same] == tokens[same])
        same++;
    memcpy(s->token, tokens, (size_t)n * sizeof *tokens);
    s->n = s->n_prompt = n;
    s->n_computed = same;
    s->running = 1;
    const lsk_model_info *info = &s->m->info;
    int automatic = !s->o.drafter || !strcmp(s->o.drafter, "auto"), asked = s->o.exit_layer || s->o.num_speculations > 0 || info->exit_layer;
    s->drafting = (automatic ? asked : !strcmp(s->o.drafter, "exit")) && s->o.num_speculations >= 0;
    s->exit_layer = s->o.exit_layer ? s->o.exit_layer : info->exit_layer ? info->exit_layer : 2;
    s->drafts = !s->drafting ? 0 : s->o.num_speculations ? s->o.num_speculations : info->num_speculations ? info->num_speculations : 4;
    s->stats = (lsk_stats){.prompt_tokens = n, .cached_tokens = same, .prompt_done = same, .exit_layer = s->drafting ? s->exit_layer : 0, .num_speculations = s->drafts, .depth = s->o.depth ? s->o.depth : LAYERS,
                           .temperature = s->o.temperature, .seed = s->o.seed};
    return 0;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static int32_t next_token(const lsk_session *s)
{
    uint64_t h = mix((uint64_t)s->token[s->n - 1] << 32 ^ (uint64_t)s->n) ^ (s->o.temperature > 0 ? mix(s->o.seed + 1) : 0);
    int other = s->m->broken && s->drafting && s->n - s->n_prompt == 5;
    return h % 61 == 0 && !s->o.ignore_eos && s->m->info.n_eos ? EOS : (int32_t)("etaoin shrdlu\n"[(h + (uint64_t)other) % 14]);
}

/* The reply ends without another token. */
static int end_reply(lsk_session *s, enum lsk_finish finish, lsk_emit_fn emit, void *ud)
{
    if (emit)
        emit(ud, &(lsk_event){.token = -1, .text = "", .finish = finish, .error = finish == LSK_FINISH_ERROR ? "the model's logits are not finite (NaN or infinity) at token 3 of the reply" : NULL});
    return s->running = 0;
}

/* One token joins: its event, and whether the reply ends with it. */
static int add_token(lsk_session *s, int place, int drafted, lsk_emit_fn emit, void *ud)
{
    if (s->m->mute || (s->m->nan && s->stats.reply_tokens == 2))
        return end_reply(s, s->m->mute ? LSK_FINISH_EOS : LSK_FINISH_ERROR, emit, ud);
    static const lsk_logprob top[20] = {{'e', -1}, {'t', -2}, {200, -3}}; /* 200 is a part of a character */
    lsk_event e = {.token = next_token(s), .drafted = drafted, .logprob = -1, .text = s->text[place], .n_top = s->o.n_probs, .top = top};
    s->token[s->n++] = e.token;
    s->stats.reply_tokens++;
    s->text[place][0] = (char)e.token;
    e.n_text = e.token < BOS;
    if (s->m->rude) {
        static const char *const rude[] = {"\033]52;", "\a", "\302\233", "\r", "\177", "\b", "\n", "\t", "\303\251"};
        e.n_text = (size_t)sprintf(s->text[place], "%s", rude[(s->stats.reply_tokens - 1) % 9]);
    }
    if (s->m->penalties && s->stats.reply_tokens < 4)
        s->text[place][0] = (char)('0' + (int)(s->o.presence_penalty * (s->stats.reply_tokens == 1 ? 1 : 10)) % 10);
    for (int i = 0; i < s->o.n_stop; i++)
        if (e.token == s->o.stop[i][0])
            e.finish = LSK_FINISH_STOP, e.n_text = 0;
    if (e.token == EOS)
        e.finish = LSK_FINISH_EOS;
    else if (!e.finish && s->o.max_tokens && s->stats.reply_tokens >= s->o.max_tokens)
        e.finish = LSK_FINISH_LENGTH;
    else if (!e.finish && s->n >= s->m->info.context)
        e.finish = LSK_FINISH_CONTEXT;
    if (e.finish && s->m->ends && s->drafting)
        e.finish = LSK_FINISH_CONTEXT;
    int cancelled = emit && emit(ud, &e);
    s->running = !e.finish && !cancelled;
    return s->running;
}

int lsk_step(lsk_session *const *sessions, int n, lsk_emit_fn emit, void *ud, lsk_error *err)
{
    lsk_session *s = sessions[0];
    int64_t start = now();
    (void)err;
    if (n != 1 || !s->running)
        return 0;
    if (s->m->slow)
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    for (int i = 0; s->m->dear && i < s->drafts && s->n_computed == s->n_prompt - 1; i++)
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    if (s->n_computed < s->n_prompt - 1) {
        s->n_computed = s->n_prompt - 1 - s->n_computed < BATCH ? s->n_prompt - 1 : s->n_computed + BATCH;
        s->stats.prompt_done = s->n_computed;
        s->stats.prompt_ns += now() - start + 1;
        return 1;
    }
    int accept = s->drafts ? (int)(mix((uint64_t)s->n) % (uint64_t)(s->drafts + 1)) : 0;
    s->stats.rounds += s->drafts > 0;
    s->stats.waits += strcmp(s->m->info.device, "cpu") ? 2 : 0;
    s->stats.drafted += s->drafts;
    for (int i = 0; i < s->drafts; i++)
        s->stats.drafted_at[i]++;
    s->stats.reply_bytes += PASS + (uint64_t)s->drafts * PASS * (uint64_t)s->exit_layer / LAYERS;
    for (int i = 0; i <= accept; i++) {
        s->stats.accepted += i < accept;
        s->stats.accepted_at[i] += i < accept;
        if (!add_token(s, i, i < accept, emit, ud))
            break;
    }
    s->stats.reply_ns += now() - start + 1;
    return s->running;
}

/* A grammar without ::= is none. */
int lsk_options_check(const lsk_model *m, const lsk_generate_options *o, lsk_error *err)
{
    (void)m;
    return o->grammar && !strstr(o->grammar, "::=") ? refuse(err, LSK_EDATA, "grammar: line 1, column 6: ::= was expected") : 0;
}

int lsk_generate(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_emit_fn emit, void *ud, lsk_stats *stats,
                 lsk_error *err)
{
    int r = lsk_session_prompt(s, tokens, n, o, err);
    while (r >= 0 && (r = lsk_step(&s, 1, emit, ud, err)) > 0)
        ;
    if (stats)
        *stats = s->stats;
    return r;
}

int lsk_score_exits(lsk_session *s, const int32_t *tokens, int n, int from, const int *depths, int n_depths, lsk_exit_logits_fn each, void *ud, lsk_error *err)
{
    (void)err;
    if (s->m->slow)
        usleep(10000); /* for a text or a choice */
    for (int i = from, end = 0; i < n && !end; i++)
        for (int k = 0; k < n_depths && !end; k++) {
            float logits[VOCAB] = {0};
            uint64_t h = mix((uint64_t)tokens[i]);
            logits[(h + ((int)(h % LAYERS) >= depths[k])) % VOCAB] = 1;
            if (s->m->nan && i == 2)
                logits[3] = NAN;
            end = each(ud, i, depths[k], logits, s->m->info.n_vocab);
        }
    return 0;
}

struct one_depth {
    lsk_logits_fn each;
    void *ud;
};

static int hand_on(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    const struct one_depth *o = ud;
    (void)depth;
    return o->each(o->ud, i, logits, n_vocab);
}

int lsk_score(lsk_session *s, const int32_t *tokens, int n, int depth, lsk_logits_fn each, void *ud, lsk_error *err)
{
    return lsk_score_exits(s, tokens, n, 0, (int[]){depth ? depth : LAYERS}, 1, hand_on, &(struct one_depth){each, ud}, err);
}

const char *lsk_drafter(int i, const char **help)
{
    if (help)
        *help = "";
    return i == 0 ? "none" : i == 1 ? "exit" : NULL;
}

const char *lsk_shape(int i, const char **help)
{
    if (help)
        *help = "2 layers of nothing";
    return i == 0 ? "tiny" : NULL;
}

int lsk_synth(const char *folder, const lsk_synth_options *o, lsk_error *err)
{
    FILE *f;
    if (strcmp(o->shape, "tiny"))
        return refuse(err, LSK_EUSAGE, "shape \"%.64s\": give tiny", o->shape);
    f = fopen(folder, "wx");
    if (!f)
        return refuse(err, LSK_ECREATE, "folder: exists, or cannot be written");
    fclose(f);
    return 0;
}

int lsk_quantize(const char *in, const char *out, const lsk_quantize_options *o, lsk_error *err)
{
    (void)in, (void)out, (void)o;
    return refuse(err, LSK_EDATA, "there are no weights here");
}

double lsk_measure_read(uint64_t bytes, int threads, lsk_error *err)
{
    (void)bytes, (void)threads, (void)err;
    return 10e9;
}

const char *lsk_recipe(int i, const char **help)
{
    if (help)
        *help = "teaches nothing";
    return i == 0 ? "distill" : NULL;
}

/* Three steps; "nan" fails at the second, "slow" takes 100 ms for each. */
int lsk_train(const char *path, const lsk_train_options *o, lsk_train_fn event, void *ud, lsk_error *err)
{
    const lsk_train_point point[2] = {{.layer = 2, .kl = 1.5, .agree = 0.5}, {.layer = LAYERS, .anchor = 0.25}};
    lsk_train_event e = {.steps = 3, .n = 2, .point = point, .blocks = 10, .held = 1, .loss = 2, .speed = 1000, .left = 5};
    if (strcmp(o->recipe, "distill"))
        return refuse(err, LSK_EUSAGE, "recipe %.64s: must be one of distill", o->recipe);
    e.kind = LSK_TRAIN_STARTED;
    int stop = event(ud, &e);
    for (e.step = 1; e.step <= 3 && !stop; e.step++) {
        if (strstr(path, "nan") && e.step == 2)
            return refuse(err, LSK_EDATA, "after step 1: the loss is not finite");
        if (strstr(path, "slow"))
            usleep(100000);
        e.kind = LSK_TRAIN_STEPPED;
        stop = event(ud, &e);
    }
    e.step--;
    e.kind = LSK_TRAIN_LOOKED;
    event(ud, &e);
    e.kind = LSK_TRAIN_SAVED;
    e.text = "run/step-000003";
    event(ud, &e);
    return stop;
}
