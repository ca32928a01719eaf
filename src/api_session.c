/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

_Static_assert((int)LSK_MAX_DRAFTS == (int)DRAFTS_MAX, "one limit");
_Static_assert((int)LSK_FINISH_ERROR == (int)REPLY_ERROR && (int)LSK_FINISH_EOS == (int)REPLY_EOS, "one list of reasons");

lsk_session *lsk_session_open(lsk_model *m, lsk_error *err)
{
    struct error e = {0};
    lsk_session *s = calloc(1, sizeof *s);
    int rc = s ? 0 : fail(&e, ERR_OS, "out of memory");
    if (!rc && !m->kv)
        rc = fail(&e, ERR_USAGE, "the model was opened without its weights: no session can run");
    if (!rc)
        rc = reply_open(&s->t.reply, m->model.tokenizer, &e);
    if (!rc) {
        s->m = m;
        struct reply keep = s->t.reply;
        rc = timeline_open(&s->t, &m->engine, &e);
        s->t.reply = keep;
    }
    if (rc) {
        if (s)
            reply_close(&s->t.reply);
        free(s);
        api_fail(err, &e);
        return NULL;
    }
    return s;
}

void lsk_session_close(lsk_session *s)
{
    if (!s)
        return;
    reply_close(&s->t.reply);
    timeline_close(&s->t, &s->m->engine);
    api_limits_free(&s->limits);
    free(s);
}

static const lsk_generate_options no_generate_options;

static int refuse_drafter(const char *name, struct error *err)
{
    char list[256] = "";
    for (int i = 0; drafter_at(i); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", drafter_at(i)->name);
    }
    return fail(err, ERR_USAGE, "drafter \"%s\": must be auto or one of %s, or several joined by +", name, list);
}

/* What proposes drafts: as named; else the exit where the caller asks for drafts in any way, or the profile fits. */
static int resolve_drafters(const lsk_session *s, const lsk_generate_options *o, int depth, unsigned *out)
{
    int profile = s->m->profile.exit_layer;
    bool named = o->drafter && strcmp(o->drafter, "auto"), asked = o->exit_layer || o->num_speculations > 0 || o->draft_min_conf > 0;
    int rc = drafters_find(named ? o->drafter : asked || (profile && profile < depth) ? "exit" : "none", out);
    if (o->num_speculations < 0)
        *out = 0;
    return rc;
}

/* Exit layer, drafts and depth; with the model's profile where the user says nothing. */
static int resolve_drafting(const lsk_session *s, const lsk_generate_options *o, struct request *r, struct error *err)
{
    const struct config *c = &s->m->model.config;
    const struct engine *e = &s->m->engine;
    const lsk_profile *p = &s->m->profile;
    r->depth = o->depth ? o->depth : c->n_layers;
    if (resolve_drafters(s, o, r->depth, &r->drafters))
        return refuse_drafter(o->drafter, err);
    r->exit_layer = o->exit_layer ? o->exit_layer : p->exit_layer ? p->exit_layer : c->n_layers / 4 ? c->n_layers / 4 : 1;
    r->n_drafts = o->num_speculations < 0 ? 0 : o->num_speculations ? o->num_speculations : p->num_speculations ? p->num_speculations : 4;
    if (!o->num_speculations && (r->n_drafts > e->max_drafts || r->drafters & ~(unsigned)DRAFT_EXIT))
        r->n_drafts = e->max_drafts; /* a default gives way, a wish is refused; free drafts are as many as pay */
    r->n_free = r->drafters & DRAFT_EXIT && r->drafters & ~(unsigned)DRAFT_EXIT && e->max_drafts > r->n_drafts ? e->max_drafts - r->n_drafts : 0;
    r->weighed = !o->num_speculations && r->drafters;
    r->draft_min_conf = o->draft_min_conf;
    if (r->depth < 1 || r->depth > c->n_layers)
        return fail(err, ERR_USAGE, "depth %d: must be 1 to %d, the model's layers", r->depth, c->n_layers);
    if (r->drafters & DRAFT_EXIT && (r->exit_layer < 1 || r->exit_layer >= r->depth))
        return fail(err, ERR_USAGE, "exit layer %d: must be 1 to %d, below the %d layers that verify", r->exit_layer, r->depth - 1, r->depth);
    if (r->drafters && r->n_drafts > e->max_drafts)
        return fail(err, ERR_USAGE, "%d drafts in a round: this model was opened for at most %d", r->n_drafts, e->max_drafts);
    return 0;
}

int api_check_sampling(const lsk_generate_options *o, struct error *err)
{
    if (!(o->temperature >= 0 && o->temperature <= 1e6f))
        return fail(err, ERR_USAGE, "temperature %g: must be 0 (greedy) or more", (double)o->temperature);
    if (!(o->top_p >= 0 && o->top_p <= 1))
        return fail(err, ERR_USAGE, "top_p %g: must be 0 to 1", (double)o->top_p);
    if (!(o->min_p >= 0 && o->min_p <= 1))
        return fail(err, ERR_USAGE, "min_p %g: must be 0 to 1", (double)o->min_p);
    if (o->top_k < 0)
        return fail(err, ERR_USAGE, "top_k %d: must be 0 (off) or more", o->top_k);
    if (!(o->draft_min_conf >= 0 && o->draft_min_conf <= 1))
        return fail(err, ERR_USAGE, "draft_min_conf %g: must be 0 to 1", (double)o->draft_min_conf);
    return o->max_tokens < 0 ? fail(err, ERR_USAGE, "max_tokens %d: must be 0 (no limit) or more", o->max_tokens) : 0;
}

static int resolve_sampling(const lsk_generate_options *o, struct request *r, struct error *err)
{
    r->sampling = (struct sampling){.temperature = o->temperature, .top_p = o->top_p, .min_p = o->min_p, .top_k = o->top_k, .choice = o->choice, .seed = o->seed};
    if (o->temperature < 1e-4f)
        r->sampling.temperature = 0; /* the same text as greedy, without dividing by next to nothing */
    r->max_tokens = o->max_tokens ? o->max_tokens : INT32_MAX;
    return api_check_sampling(o, err);
}

static int start_reply(lsk_session *s, const lsk_generate_options *o, struct error *err)
{
    const struct config *c = &s->m->model.config;
    int32_t eos[REPLY_EOS_MAX];
    int n = 0;
    if (o->n_eos < 0 || o->n_eos > REPLY_EOS_MAX - 16)
        return fail(err, ERR_USAGE, "%d end-of-text ids: at most %d", o->n_eos, REPLY_EOS_MAX - 16);
    for (int i = 0; i < c->n_eos && !o->ignore_eos; i++)
        eos[n++] = c->eos[i];
    for (int i = 0; i < o->n_eos; i++) {
        if (o->eos[i] < 0 || o->eos[i] >= c->vocab)
            return fail(err, ERR_USAGE, "end-of-text id %d: the vocabulary has 0 to %d", o->eos[i], c->vocab - 1);
        eos[n++] = o->eos[i];
    }
    struct reply_rules rules = {.eos = eos, .n_eos = n, .stop = o->stop, .n_stop = o->n_stop, .show_special = o->show_special != 0};
    return reply_start(&s->t.reply, &rules, err);
}

int api_check_tokens(const lsk_session *s, const int32_t *tokens, int n, struct error *err)
{
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->m->model.config.vocab)
            return fail(err, ERR_USAGE, "token %d of the prompt is %d: the vocabulary has 0 to %d", i, tokens[i], s->m->model.config.vocab - 1);
    return 0;
}

int lsk_session_prompt(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_error *err)
{
    struct error e = {0};
    struct request ask = {0};
    struct api_limits limits = {0};
    o = o ? o : &no_generate_options;
    if (s->t.reply.finish == REPLY_ERROR)
        api_limits_free(&s->limits); /* a matcher that has failed can only be closed */
    int rc = api_check_options(o, "lsk_generate_options", &e);
    if (!rc)
        rc = api_check_tokens(s, tokens, n, &e);
    if (!rc)
        rc = resolve_drafting(s, o, &ask, &e);
    if (!rc)
        rc = resolve_sampling(o, &ask, &e);
    if (!rc)
        rc = start_reply(s, o, &e);
    if (!rc)
        rc = api_limits_take(s->m, o, &s->limits, &limits, &ask, &e);
    if (!rc)
        rc = timeline_prompt(&s->t, &s->m->engine, tokens, n, &ask, &e);
    if (rc)
        s->t.reply.finish = REPLY_ERROR; /* nothing to step */
    api_limits_free(rc ? &limits : &s->limits);
    if (!rc)
        s->limits = limits;
    return rc ? api_fail(err, &e) : 0;
}

/* The event, and its candidates in s->top. */
static lsk_event event_of(lsk_session *s, int index, const struct reply_event *from)
{
    for (int i = 0; i < from->n_top; i++)
        s->top[i] = (lsk_logprob){from->top[i].token, from->top[i].logprob};
    return (lsk_event){.session = index, .token = from->token, .drafted = from->drafted, .logprob = from->logprob, .text = s->t.reply.text + from->text, .n_text = from->n_text,
                       .n_top = from->n_top, .top = s->top};
}

/* Hands out a session's events; the last one carries the reason why the reply ended. */
static void emit_events(lsk_session *s, int index, lsk_emit_fn emit, void *ud)
{
    struct reply *r = &s->t.reply;
    if (r->finish != REPLY_RUNNING)
        reply_flush(r);
    for (int i = 0; i < r->n_events; i++) {
        lsk_event e = event_of(s, index, &r->event[i]);
        e.finish = i == r->n_events - 1 ? (enum lsk_finish)r->finish : LSK_RUNNING;
        e.error = e.finish == LSK_FINISH_ERROR ? r->why.text : NULL;
        if (emit && emit(ud, &e)) {
            r->finish = i == r->n_events - 1 && r->finish != REPLY_RUNNING ? r->finish : REPLY_CANCELLED; /* the last event has said how it ended */
            break;
        }
    }
    reply_clear(r);
}

/* All sessions of one model, none twice. */
static int check_sessions(lsk_session *const *s, int n, struct error *err)
{
    int bad = -1;
    for (int i = 0; i < n; i++)
        s[i]->stepped = false;
    for (int i = 0; i < n && bad < 0; i++) {
        bad = s[i]->m != s[0]->m || s[i]->stepped ? i : -1;
        s[i]->stepped = true;
    }
    if (bad < 0)
        return 0;
    return s[bad]->m != s[0]->m ? fail(err, ERR_USAGE, "session %d belongs to another model than session 0: step them apart", bad)
                                : fail(err, ERR_USAGE, "session %d is there twice: name each once", bad);
}

/* One prompt chunk for each session that has some left; the others take part in one round. */
static int step_all(struct engine *e, lsk_session *const *s, int n, struct error *err)
{
    int m = 0, rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        if (s[i]->t.reply.finish != REPLY_RUNNING)
            continue;
        if (timeline_has_prompt_left(&s[i]->t))
            rc = timeline_prefill(&s[i]->t, e, err);
        else
            e->ready[m++] = &s[i]->t;
    }
    return rc || !m ? rc : round_run(e, e->ready, m, err);
}

int lsk_step(lsk_session *const *sessions, int n, lsk_emit_fn emit, void *ud, lsk_error *err)
{
    struct error e = {0};
    int running = 0;
    if (n < 1)
        return 0;
    if (check_sessions(sessions, n, &e))
        return api_fail(err, &e);
    for (int i = 0; i < n; i++)
        sessions[i]->stepped = sessions[i]->t.reply.finish == REPLY_RUNNING;
    int rc = step_all(&sessions[0]->m->engine, sessions, n, &e);
    for (int i = 0; i < n; i++) {
        struct reply *r = &sessions[i]->t.reply;
        if (rc && r->finish == REPLY_RUNNING) {
            r->finish = REPLY_ERROR;
            r->why = e;
        }
        if (sessions[i]->stepped && (r->n_events || r->finish != REPLY_RUNNING))
            emit_events(sessions[i], i, emit, ud);
        running += r->finish == REPLY_RUNNING;
    }
    return rc ? api_fail(err, &e) : running;
}

const lsk_stats *lsk_session_stats(lsk_session *s)
{
    const struct stats *t = &s->t.stats;
    const struct request *ask = &s->t.ask;
    int most = s->t.n_prompt ? s->t.n_prompt - 1 : 0;
    s->stats = (lsk_stats){.prompt_tokens = t->prompt_tokens, .cached_tokens = t->cached_tokens, .reply_tokens = t->reply_tokens, .prompt_ns = t->prompt_ns,
                           .reply_ns = t->reply_ns, .rounds = t->rounds, .drafted = t->drafted, .accepted = t->accepted, .reply_bytes = t->reply_bytes, .waits = t->waits,
                           .prompt_done = s->t.n_kv < most ? s->t.n_kv : most, .depth = ask->depth,
                           .temperature = ask->sampling.temperature, .seed = ask->sampling.seed};
    if (ask->drafters) {
        s->stats.exit_layer = ask->drafters & DRAFT_EXIT ? ask->exit_layer : 0;
        s->stats.num_speculations = ask->n_drafts;
    }
    memcpy(s->stats.drafted_at, t->drafted_at, sizeof t->drafted_at);
    memcpy(s->stats.accepted_at, t->accepted_at, sizeof t->accepted_at);
    return &s->stats;
}

int lsk_generate(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_emit_fn emit, void *ud, lsk_stats *stats, lsk_error *err)
{
    int rc = lsk_session_prompt(s, tokens, n, o, err);
    while (!rc && s->t.reply.finish == REPLY_RUNNING) {
        rc = lsk_step(&s, 1, emit, ud, err);
        rc = rc < 0 ? rc : 0;
    }
    if (stats)
        *stats = *lsk_session_stats(s);
    return rc;
}
