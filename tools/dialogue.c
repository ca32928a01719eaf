/* SPDX-License-Identifier: Apache-2.0 */
#include "dialogue.h"

#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "json_table.h"
#include "messages.h"
#include "terminal.h"
#include "values.h"
#include "whole_file.h"
#include "writer.h"

/* ---- messages ---- */

static const char *field(const struct dialogue *d, size_t i, const char *name) { return json_string_value(json_object_get(json_array_get(d->messages, i), name)); }
static int is_role(const struct dialogue *d, size_t i, const char *role) { return i < json_array_size(d->messages) && !strcmp(field(d, i, "role"), role); }

static int add(struct dialogue *d, size_t at, const char *role, const char *text, size_t n, lsk_error *err)
{
    json_t *content = json_stringn(text, n);
    if (!content)
        return complain(err, LSK_EDATA, "the text is not UTF-8: it was left out");
    return json_array_insert_new(d->messages, at, json_pack("{s:s, s:o}", "role", role, "content", content)) ? complain(err, LSK_EOS, "out of memory") : 0;
}

static void cut(struct dialogue *d, size_t n)
{
    while (json_array_size(d->messages) > n)
        json_array_remove(d->messages, json_array_size(d->messages) - 1);
}

const char *dialogue_system(const struct dialogue *d) { return is_role(d, 0, "system") ? field(d, 0, "content") : NULL; }

int dialogue_set_system(struct dialogue *d, const char *text, lsk_error *err)
{
    if (dialogue_system(d))
        json_array_remove(d->messages, 0);
    return text && *text ? add(d, 0, "system", text, strlen(text), err) : 0;
}

int dialogue_turns(const struct dialogue *d)
{
    int n = 0;
    for (size_t i = 0; i < json_array_size(d->messages); i++)
        n += is_role(d, i, "user");
    return n;
}

/* Where the last question is; the number of messages where there is none. */
static size_t last_question(const struct dialogue *d)
{
    size_t n = json_array_size(d->messages);
    for (size_t i = n; i-- > 0;)
        if (is_role(d, i, "user"))
            return i;
    return n;
}

int dialogue_undo(struct dialogue *d)
{
    size_t at = last_question(d), n = json_array_size(d->messages);
    cut(d, at);
    return at < n;
}

int dialogue_clear(struct dialogue *d, lsk_error *err)
{
    char *system = dialogue_system(d) ? strdup(dialogue_system(d)) : NULL;
    json_array_clear(d->messages);
    int r = dialogue_set_system(d, system, err);
    free(system);
    return r;
}

/* ---- answers ---- */

struct answer {
    struct writer writer; /* first: writer_event gets it */
    char *text;
    size_t n, cap;
};

static int collect(void *ud, const lsk_event *e)
{
    struct answer *a = ud;
    if (a->n + e->n_text > a->cap) {
        size_t cap = 2 * (a->n + e->n_text) + 1024;
        char *bigger = realloc(a->text, cap);
        if (!bigger)
            return a->writer.failed = complain(a->writer.err, LSK_EOS, "out of memory");
        a->text = bigger;
        a->cap = cap;
    }
    if (e->n_text)
        memcpy(a->text + a->n, e->text, e->n_text);
    a->n += e->n_text;
    return writer_event(&a->writer, e);
}

/* Seconds since 1970 as this machine's clocks show them. */
static int64_t local_time(void)
{
    time_t now = time(NULL);
    struct tm local;
    return localtime_r(&now, &local) ? (int64_t)timegm(&local) : (int64_t)now;
}

static lsk_chat *render(struct dialogue *d, lsk_error *err)
{
    char *messages = json_dumps(d->messages, JSON_COMPACT);
    d->how.now = local_time();
    lsk_chat *c = messages ? lsk_chat_render(d->model, messages, &d->how, err) : NULL;
    if (!messages)
        complain(err, LSK_EOS, "out of memory");
    free(messages);
    int room = lsk_model_about(d->model)->context;
    if (c && c->n_tokens >= room) {
        complain(err, LSK_EUSAGE, "the conversation has %d tokens, the context holds %d: /undo or /clear, or start with a larger --ctx-size", c->n_tokens, room);
        lsk_chat_free(c);
        return NULL;
    }
    return c;
}

static void keep_facts(struct dialogue *d, enum lsk_finish finish)
{
    d->stats = *lsk_session_stats(d->session);
    d->facts = (struct reply_facts){.finish = terminal_interrupted() || !finish ? LSK_FINISH_CANCELLED : finish, .rss = peak_rss(), .top_k = d->ask.top_k,
                                    .top_p = d->ask.top_p > 0 ? d->ask.top_p : 1, .min_p = d->ask.min_p};
    d->answered = 1;
}

/* Answers the messages as they stand. */
static int answer(struct dialogue *d, lsk_error *err)
{
    struct answer a = {.writer = {.colour = d->colour, .err = err}};
    struct progress progress = progress_start(d->progress);
    lsk_generate_options ask = d->ask;
    lsk_chat *c = render(d, err);
    if (!c)
        return err->code;
    if (c->end >= 0) {
        ask.eos = &c->end;
        ask.n_eos = 1;
    }
    int r = start_reply(d->session, c->tokens, c->n_tokens, &ask, &progress, err);
    if (r >= 0) {
        r = writer_end(&a.writer, 1, finish_reply(d->session, collect, &a, err));
        keep_facts(d, a.writer.finish);
    }
    if (r >= 0 && a.n == 0 && terminal_interrupted())
        r = complain(err, LSK_EUSAGE, "stopped before the first word: the question is forgotten");
    if (r >= 0)
        r = add(d, json_array_size(d->messages), "assistant", a.n ? a.text : "", a.n, err);
    lsk_chat_free(c);
    free(a.text);
    return r;
}

int dialogue_say(struct dialogue *d, const char *text, lsk_error *err)
{
    size_t n = json_array_size(d->messages);
    int r = add(d, n, "user", text, strlen(text), err);
    d->ask.choice = 0;
    r = r < 0 ? r : answer(d, err);
    if (r < 0)
        cut(d, n);
    return r;
}

int dialogue_again(struct dialogue *d, lsk_error *err)
{
    size_t n = json_array_size(d->messages), at = last_question(d);
    if (at == n)
        return complain(err, LSK_EUSAGE, "/regen: there is no answer yet");
    json_t *before = json_copy(d->messages);
    cut(d, at + 1);
    d->ask.choice++;
    int r = before ? answer(d, err) : complain(err, LSK_EOS, "out of memory");
    if (r >= 0 || !before) {
        json_decref(before);
        return r;
    }
    json_decref(d->messages);
    d->messages = before;
    return r;
}

/* ---- settings ---- */

#define SETTING(field, type)                                                                \
    static double get_##field(const lsk_generate_options *o) { return (double)o->field; }  \
    static void set_##field(lsk_generate_options *o, double v) { o->field = (type)v; }
SETTING(temperature, float)
SETTING(top_k, int)
SETTING(min_p, float)
SETTING(seed, uint64_t)
SETTING(max_tokens, int)
SETTING(draft_min_conf, float)
SETTING(presence_penalty, float)
SETTING(frequency_penalty, float)
SETTING(repeat_last_n, int)
SETTING(repeat_penalty, float)

/* The library's 0 is off, ours the likeliest token alone. */
static double get_top_p(const lsk_generate_options *o) { return o->top_p > 0 ? (double)o->top_p : 1; }
static void set_top_p(lsk_generate_options *o, double v) { o->top_p = v >= 1 ? 0 : v > (double)FLT_MIN ? (float)v : FLT_MIN; }

static const struct setting settings[] = {
    {"temperature", "0 is greedy", get_temperature, set_temperature, 0, 100, 0},
    {"top_k", "sample from the K likeliest tokens; 0 is off", get_top_k, set_top_k, 0, 1 << 24, 1},
    {"top_p", "sample from the likeliest that together have probability P; 1 is off", get_top_p, set_top_p, 0, 1, 0},
    {"min_p", "leave out what is less than P times as likely as the likeliest; 0 is off", get_min_p, set_min_p, 0, 1, 0},
    {"repeat_penalty", "divides logits of tokens that were there before; 1 is off", get_repeat_penalty, set_repeat_penalty, .01, 100, 0},
    {"presence_penalty", "is taken from logits of tokens that the answer has already", get_presence_penalty, set_presence_penalty, -100, 100, 0},
    {"frequency_penalty", "likewise, as often as it has them", get_frequency_penalty, set_frequency_penalty, -100, 100, 0},
    {"repeat_last_n", "tokens back that these three look at; 0 is none, -1 all", get_repeat_last_n, set_repeat_last_n, -1, 1 << 30, 1},
    {"seed", "the same seed gives the same answers", get_seed, set_seed, 0, 1e15, 1},
    {"max_tokens", "of an answer; 0 is until the context is full", get_max_tokens, set_max_tokens, 0, 1 << 30, 1},
    {"draft_p_min", "end a chain of drafts at one less likely than this; 0 is off", get_draft_min_conf, set_draft_min_conf, 0, 1, 0},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

const struct setting *setting_at(int i) { return i >= 0 && i < N_SETTINGS ? &settings[i] : NULL; }

static const struct setting *find_setting(const char *name)
{
    for (int i = 0; i < N_SETTINGS; i++)
        if (!strcmp(settings[i].name, name))
            return &settings[i];
    return !strcmp(name, "temp") ? &settings[0] : NULL;
}

int setting_change(struct dialogue *d, const char *name, const char *value, lsk_error *err)
{
    const struct setting *s = find_setting(name);
    char names[256] = "", near[32] = "";
    double v;
    int best = 99;
    if (!strcmp(name, "grammar") || !strcmp(name, "json_schema") || !strcmp(name, "logit_bias"))
        return change_limits(&d->limits, &d->ask, d->model, name, value, err);
    if (!s) {
        for (int i = 0; i < N_SETTINGS; i++) {
            suggest(settings[i].name, name, near, sizeof near, &best);
            snprintf(names + strlen(names), sizeof names - strlen(names), ", %s", settings[i].name);
        }
        return complain(err, LSK_EUSAGE, "/set: \"%s\": must be one of system, grammar, json_schema, logit_bias%s%s%s%s", excerpt_of(name).text, names, *near ? " (did you mean " : "", near, *near ? "?)" : "");
    }
    if (read_real(value, &v) || v < s->min || v > s->max || (s->whole && v != (double)(int64_t)v))
        return complain(err, LSK_EUSAGE, "/set %s: \"%s\": must be a %snumber from %.15g to %.15g", s->name, excerpt_of(value).text, s->whole ? "whole " : "", s->min, s->max);
    s->set(&d->ask, v);
    return 0;
}

/* ---- files ---- */

static json_t *load_conversation(const char *path, lsk_error *err)
{
    json_error_t why;
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why), *messages = json_is_array(j) ? j : json_object_get(j, "messages");
    if (!j) {
        complain(err, LSK_EDATA, "%s: %s", excerpt_of(path).text, why.line > 0 ? why.text : strerror(errno ? errno : EIO));
        return NULL;
    }
    int good = json_is_array(messages);
    for (size_t i = 0; good && i < json_array_size(messages); i++)
        good = json_is_string(json_object_get(json_array_get(messages, i), "role")) && json_is_string(json_object_get(json_array_get(messages, i), "content"));
    if (good)
        return j;
    complain(err, LSK_EDATA, "%s: is no conversation: \"messages\" must be an array of {\"role\", \"content\"}", excerpt_of(path).text);
    json_decref(j);
    return NULL;
}

/* What may be said, as change_limits takes it. */
static json_t *limits_json(const lsk_generate_options *o)
{
    json_t *biases = json_array();
    for (int i = 0; i < o->n_logit_bias; i++)
        json_array_append_new(biases, json_sprintf("%d%+.9g", (int)o->logit_bias[i].token, (double)o->logit_bias[i].bias));
    return json_pack("{s:s?, s:s?, s:o}", "grammar", o->grammar, "json_schema", o->json_schema, "logit_bias", biases);
}

/* The limits of a file in place of all that there are; on failure these stay. limits NULL: the file says nothing of them. */
static int load_limits(struct dialogue *d, const json_t *limits, lsk_error *err)
{
    static const char *const texts[] = {"grammar", "json_schema"};
    const json_t *biases = json_object_get(limits, "logit_bias");
    struct limit_values own = {.text = NULL};
    lsk_generate_options ask = d->ask;
    int r = 0;
    if (!limits)
        return 0;
    ask.grammar = ask.json_schema = NULL;
    ask.n_logit_bias = 0;
    for (int i = 0; i < 2 && r >= 0; i++) {
        const char *text = json_string_value(json_object_get(limits, texts[i]));
        r = text ? change_limits(&own, &ask, d->model, texts[i], text, err) : 0;
    }
    for (size_t i = 0; i < json_array_size(biases) && r >= 0; i++) {
        const char *text = json_string_value(json_array_get(biases, i));
        r = change_limits(&own, &ask, d->model, "logit_bias", text && *text ? text : "?", err);
    }
    if (r < 0) {
        const lsk_error why = *err;
        free_limits(&own);
        return complain(err, r, "limits: %.400s", why.text);
    }
    free_limits(&d->limits);
    d->limits = own;
    d->ask = ask;
    d->ask.logit_bias = d->limits.bias;
    return 0;
}

/* ---- stop texts and drafting in files ---- */

static json_t *stops_json(const struct texts *stop)
{
    json_t *list = json_array();
    for (int i = 0; i < stop->n; i++)
        json_array_append_new(list, json_string(stop->item[i]));
    return json_whole(list, (size_t)stop->n);
}

static int read_stops(const json_t *list, struct texts *out, lsk_error *err)
{
    struct texts given = {0};
    const json_t *text;
    size_t i;
    int good = !list || (json_is_array(list) && json_array_size(list) <= TEXTS_MAX);
    json_array_foreach(good ? list : NULL, i, text) {
        good &= json_is_string(text) && *json_string_value(text) && strlen(json_string_value(text)) == json_string_length(text);
        given.item[given.n++] = json_string_value(text);
    }
    return good ? copy_stops(&given, 0, out, err) : complain(err, LSK_EDATA, "stop: must be at most %d texts, none of them empty", TEXTS_MAX);
}

static json_t *drafting_json(const lsk_generate_options *o)
{
    return json_pack("{s:s, s:i, s:i}", "drafter", o->drafter ? o->drafter : "auto", "exit_layer", o->exit_layer, "num_speculations", o->num_speculations);
}

/* j NULL: the file says nothing of it. */
static int read_drafting(const struct dialogue *d, const json_t *j, lsk_generate_options *o, lsk_error *err)
{
    const int layers = lsk_model_about(d->model)->n_layers, most = o->num_speculations > LSK_FEW_DRAFTS ? o->num_speculations : LSK_FEW_DRAFTS;
    const json_t *layer = json_object_get(j, "exit_layer"), *drafts = json_object_get(j, "num_speculations");
    const char *name = json_string_value(json_object_get(j, "drafter"));
    if (!j)
        return 0;
    if (!name || strlen(name) >= sizeof d->drafter || (strcmp(name, "auto") && check_drafter(name, err) < 0))
        return complain(err, LSK_EDATA, "drafting: \"drafter\": must be auto, or drafters that this program has, joined by +");
    if (!json_is_integer(layer) || json_integer_value(layer) < 0 || json_integer_value(layer) >= layers)
        return complain(err, LSK_EDATA, "drafting: \"exit_layer\": must be 1 to %d, below this model's layers, or 0", layers - 1);
    if (!json_is_integer(drafts) || json_integer_value(drafts) < -1 || json_integer_value(drafts) > most)
        return complain(err, LSK_EDATA, "drafting: \"num_speculations\": must be -1 to %d; --num-speculations makes room for more", most);
    o->drafter = name;
    o->exit_layer = (int)json_integer_value(layer);
    o->num_speculations = (int)json_integer_value(drafts);
    return 0;
}

int dialogue_save(const struct dialogue *d, const char *path, lsk_error *err)
{
    json_t *old = access(path, F_OK) ? NULL : load_conversation(path, err), *values = json_object(), *all;
    struct whole_file w;
    int r;
    if (!old && !access(path, F_OK))
        return complain(err, LSK_ECREATE, "%s: is there and is no conversation: it stays; give another name", excerpt_of(path).text);
    json_decref(old);
    for (int i = 0; i < N_SETTINGS; i++)
        json_object_set_new(values, settings[i].name, settings[i].whole ? json_integer((json_int_t)settings[i].get(&d->ask)) : json_real(settings[i].get(&d->ask)));
    all = json_pack("{s:O, s:o, s:o, s:o, s:o}", "messages", d->messages, "settings", values, "limits", limits_json(&d->ask), "stop", stops_json(&d->stop), "drafting", drafting_json(&d->ask));
    if (!all)
        r = complain(err, LSK_EOS, "%s: out of memory, or the grammar, the schema or a stop text is not UTF-8", excerpt_of(path).text);
    else if ((r = whole_open(&w, path, err)) >= 0) {
        if (json_dumpf(all, w.f, JSON_INDENT(2) | JSON_REAL_PRECISION(9)))
            r = complain(err, LSK_EIO, "%s: cannot write: %s", excerpt_of(path).text, strerror(errno));
        r = whole_close(&w, r, err);
    }
    json_decref(all);
    return r;
}

int dialogue_load(struct dialogue *d, const char *path, lsk_error *err)
{
    errno = 0;
    json_t *j = load_conversation(path, err), *values = json_object_get(j, "settings");
    struct texts stop = {0};
    lsk_generate_options ask = d->ask;
    if (!j)
        return err->code;
    int r = read_drafting(d, json_object_get(j, "drafting"), &ask, err);
    r = r < 0 ? r : read_stops(json_object_get(j, "stop"), &stop, err);
    r = r < 0 ? r : load_limits(d, json_object_get(j, "limits"), err);
    if (r < 0) {
        const lsk_error why = *err;
        free_stops(&stop);
        json_decref(j);
        return complain(err, r, "%s: %.400s", excerpt_of(path).text, why.text);
    }
    d->ask.exit_layer = ask.exit_layer;
    d->ask.num_speculations = ask.num_speculations;
    if (ask.drafter != d->ask.drafter)
        d->ask.drafter = strcpy(d->drafter, ask.drafter);
    if (json_object_get(j, "stop")) {
        free_stops(&d->stop);
        d->stop = stop;
        d->ask.stop = d->stop.item;
        d->ask.n_stop = d->stop.n;
    }
    json_decref(d->messages);
    d->messages = json_incref(json_is_array(j) ? j : json_object_get(j, "messages"));
    for (int i = 0; i < N_SETTINGS; i++) {
        const json_t *v = json_object_get(values, settings[i].name);
        double number = json_number_value(v);
        if (json_is_number(v) && number >= settings[i].min && number <= settings[i].max)
            settings[i].set(&d->ask, number);
    }
    json_decref(j);
    return 0;
}
