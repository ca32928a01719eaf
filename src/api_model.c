/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "model/fingerprint.h"
#include "model/scan.h"

_Static_assert(sizeof(lsk_error) == sizeof(struct error) && (int)LSK_ECONFIG == (int)ERR_CONFIG && (int)LSK_EUSAGE == (int)ERR_USAGE, "errors are handed over as they are");

int api_fail(lsk_error *to, const struct error *from)
{
    if (to)
        memcpy(to, from, sizeof *to);
    return from->code;
}

int api_check_reserved(const uint64_t *reserved, size_t n, const char *name, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (reserved[i])
            return fail(err, ERR_USAGE, "%s.reserved: not zero: zero the struct before it is filled; if it was, this library (" LSK_VERSION ") is older than the program: install a newer one", name);
    return 0;
}

const char *lsk_version(void) { return LSK_VERSION; }

static const lsk_model_options no_options;

static int is_f32(const char *s) { return s && !strcmp(s, "f32"); }

static int check_choice(const char *what, const char *value, const char *const *known, struct error *err)
{
    char list[128] = "";
    for (int i = 0; known[i]; i++) {
        if (!value || !strcmp(value, known[i]))
            return 0;
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", known[i]);
    }
    return fail(err, ERR_USAGE, "%s \"%s\": must be one of %s", what, value, list);
}

static int check_range(const char *what, long long v, long long lo, long long hi, struct error *err)
{
    return v >= lo && v <= hi ? 0 : fail(err, ERR_USAGE, "%s %lld: must be %lld to %lld", what, v, lo, hi);
}

static int check_options(const lsk_model_options *o, struct error *err)
{
    static const char *const kv[] = {"auto", "bf16", "f32", NULL}, *const compute[] = {"native", "f32", NULL};
    int rc = api_check_options(o, "lsk_model_options", err);
    if (!rc)
        rc = check_choice("kv", o->kv, kv, err);
    if (!rc)
        rc = check_choice("compute", o->compute, compute, err);
    if (!rc)
        rc = check_range("threads", o->threads, 0, 1024, err);
    if (!rc)
        rc = check_range("context", o->context, 0, 1 << 24, err);
    if (!rc)
        rc = check_range("sessions", o->sessions, 0, 4096, err);
    if (!rc)
        rc = check_range("batch", o->batch, 0, 65536, err);
    return rc ? rc : check_range("max_drafts", o->max_drafts, 0, DRAFTS_MAX, err);
}

static int rows_in_flight(const lsk_model *m, const lsk_model_options *o, int drafts)
{
    int sessions = o->sessions ? o->sessions : 1;
    return sessions * (1 + drafts) > m->batch ? sessions * (1 + drafts) : m->batch;
}

/* A few, or the profile's where that is more, unless the caller says. */
static int max_drafts(const lsk_model *m, const lsk_model_options *o)
{
    return o->max_drafts ? o->max_drafts : m->profile.num_speculations > LSK_FEW_DRAFTS ? m->profile.num_speculations : LSK_FEW_DRAFTS;
}

static int by_id(const void *a, const void *b) { return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b); }

/* The first of the model's most frequent tokens, as many as are asked for, in order of id. */
static int choose_draft_tokens(lsk_model *m, int asked, struct error *err)
{
    const struct config *c = &m->model.config;
    int n = asked < 0 ? 0 : asked ? asked : c->n_draft_tokens;
    if (n > c->n_draft_tokens && !c->n_draft_tokens)
        return fail(err, ERR_USAGE, "draft head %d: %s lists no frequent tokens: `layerskip quantize IN OUT TYPE --draft-tokens TEXT` makes a file that does", n, m->info.path);
    if (n > c->n_draft_tokens)
        return fail(err, ERR_USAGE, "draft head %d: %s lists %d frequent tokens: give at most that", n, m->info.path, c->n_draft_tokens);
    free(m->draft_token);
    m->draft_token = malloc(((size_t)n + 1) * sizeof *m->draft_token);
    if (!m->draft_token)
        return fail(err, ERR_OS, "out of memory");
    for (int i = 0; i < n; i++)
        m->draft_token[i] = (int32_t)c->draft_token[i];
    qsort(m->draft_token, (size_t)n, sizeof *m->draft_token, by_id);
    m->info.draft_head = n;
    return 0;
}

static int set_device_options(lsk_model *m, const lsk_model_options *o, struct error *err)
{
    int most = m->model.config.context, context = o->context ? o->context : most, ordinal = backend_ordinal(o->device);
    if (context > most)
        return fail(err, ERR_USAGE, "context %d: this model was made for at most %d", context, most);
    m->batch = o->batch ? o->batch : m->backend->prefill ? 2048 : 256; /* a device with products for many rows wants many */
    snprintf(m->device_name, sizeof m->device_name, ordinal ? "%s:%d" : "%s", m->backend->name, ordinal);
    m->o = (struct device_options){
        .weights = o->weights, .kernels = o->kernels, .wide = is_f32(o->compute), .threads = o->threads, .ordinal = ordinal,
        .kv_f32 = is_f32(o->kv) || (is_f32(o->compute) && (!o->kv || !strcmp(o->kv, "auto"))),
        .n_slots = context, .n_seqs = o->sessions ? o->sessions : 1, .n_hidden = rows_in_flight(m, o, max_drafts(m, o)),
        .draft_token = m->draft_token, .n_draft_tokens = m->info.draft_head,
        .progress = o->progress, .progress_ud = o->progress_ud,
    };
    return 0;
}

static void describe_config(lsk_model *m)
{
    const struct config *c = &m->model.config;
    lsk_model_info *i = &m->info;
    i->path = m->model.file->path;
    i->format = m->model.file->format->name;
    i->family = c->family;
    i->name = c->name;
    i->tokenizer = m->model.vocab.kind == VOCAB_BYTES ? "byte-level BPE" : "SentencePiece BPE";
    i->n_layers = c->n_layers;
    i->hidden = c->hidden;
    i->ffn = c->ffn;
    i->n_heads = c->n_heads;
    i->n_kv_heads = c->n_kv_heads;
    i->head_dim = c->head_dim;
    i->n_vocab = c->vocab;
    i->context_max = c->context;
    i->tied = c->tied;
    i->rope_theta = c->rope_theta;
    i->norm_eps = c->norm_eps;
    i->rope = config_rope_name(c);
    i->bos = c->bos;
    i->n_eos = c->n_eos;
    for (int k = 0; k < c->n_eos; k++)
        i->eos[k] = c->eos[k];
    i->temperature = c->temperature;
    i->top_p = c->top_p;
    i->min_p = c->min_p;
    i->top_k = c->top_k;
    i->unused_advice = c->unused_advice;
    i->draft_tokens = c->n_draft_tokens;
    i->ignored = c->ignored;
    i->has_chat_template = m->model.file->chat_template != NULL;
}

/* A tied model's own head is never read. */
static bool is_used(const lsk_model *m, const struct view *v) { return !m->model.config.tied || strcmp(v->name, "head"); }

/* Values and bytes in the file, and the type that most bytes have. */
static void describe_file(lsk_model *m)
{
    const struct checkpoint *f = m->model.file;
    uint64_t bytes[DT_COUNT] = {0};
    int best = 0;
    for (int i = 0; i < f->n_views; i++) {
        m->info.n_params += is_used(m, &f->view[i]) ? f->view[i].dim[0] * f->view[i].dim[1] : 0;
        m->info.file_bytes += f->view[i].bytes;
        bytes[f->view[i].type] += f->view[i].bytes;
    }
    for (int t = 1; t < DT_COUNT; t++)
        if (bytes[t] > bytes[best])
            best = t;
    m->info.file_type = dtype_table[best].name;
}

static void describe_plan(lsk_model *m, const lsk_model_options *o, const struct device_plan *p)
{
    lsk_model_info *i = &m->info;
    i->weight_type = p->weight_type;
    i->kv_type = m->o.kv_f32 ? "F32" : "BF16";
    i->compute = m->o.wide ? "f32" : "native";
    i->device = m->device_name;
    i->device_note = m->device_note;
    i->batch = m->batch;
    i->kernels = p->kernels;
    i->threads = p->threads;
    i->context = m->o.n_slots;
    i->n_kept = p->n_kept;
    i->kept_type = p->kept_type;
    i->layer_bytes = p->layer_bytes;
    i->head_bytes = p->head_bytes;
    i->draft_head_bytes = p->draft_head_bytes;
    i->pass_bytes = p->layer_bytes * (uint64_t)i->n_layers + p->head_bytes;
    uint64_t timelines = (uint64_t)m->o.n_seqs * timeline_bytes(m->o.n_slots, i->n_vocab);
    i->memory = (lsk_memory){.weights = p->weights, .kv = p->kv, .scratch = p->scratch + timelines,
                             .drafts = (uint64_t)(rows_in_flight(m, o, max_drafts(m, o)) - rows_in_flight(m, o, 0)) * p->hidden_row + timelines};
}

static int open_engine(lsk_model *m, const lsk_model_options *o, struct error *err)
{
    struct device_plan plan;
    struct error why = {0};
    m->backend = backend_find(o->device, &why);
    if (!m->backend) {
        *err = why;
        return why.code;
    }
    snprintf(m->device_note, sizeof m->device_note, "%.*s", (int)sizeof m->device_note - 1, why.text);
    int rc = choose_draft_tokens(m, o->draft_head, err);
    if (!rc)
        rc = set_device_options(m, o, err);
    if (!rc)
        rc = m->backend->plan(&m->model, &m->o, &plan, err);
    if (rc)
        return rc;
    describe_plan(m, o, &plan);
    if (o->load == LSK_LOAD_PLAN)
        return 0;
    m->device = m->backend->open(&m->model, &m->o, err);
    m->kv = m->device ? m->backend->kv_open(m->device, err) : NULL;
    if (!m->kv)
        return err->code;
    return engine_open(&m->engine, m->backend, m->kv, &m->o, m->model.config.n_layers, m->model.config.vocab, m->batch, max_drafts(m, o), err);
}

static void close_engine(lsk_model *m)
{
    engine_close(&m->engine);
    if (m->kv)
        m->backend->kv_close(m->kv);
    if (m->device)
        m->backend->close(m->device);
    m->kv = NULL;
    m->device = NULL;
}

static int set_profile(lsk_model *m, const lsk_profile *p, struct error *err)
{
    const struct config *c = &m->model.config;
    int rc = p ? check_range("profile: exit layer", p->exit_layer, 0, c->n_layers - 1, err) : 0;
    if (!rc && p)
        rc = check_range("profile: drafts in a round", p->num_speculations, 0, DRAFTS_MAX, err);
    if (rc)
        return rc;
    m->profile = p ? *p : (lsk_profile){c->exit_layer, c->num_speculations};
    if (m->profile.exit_layer && !m->profile.num_speculations)
        m->profile.num_speculations = 4;
    m->info.exit_layer = m->profile.exit_layer;
    m->info.num_speculations = m->profile.num_speculations;
    return 0;
}

static int load(lsk_model *m, const lsk_model_options *o, struct error *err)
{
    int64_t start = clock_ns();
    int rc = m->kv ? fail(err, ERR_USAGE, "%s: its weights are loaded already", m->info.path) : check_options(o, err);
    if (m->kv || rc)
        return rc;
    rc = set_profile(m, o->profile, err);
    if (!rc && o->load != LSK_LOAD_TOKENIZER)
        rc = open_engine(m, o, err);
    if (rc)
        close_engine(m);
    m->info.load_ns += clock_ns() - start;
    return rc;
}

int lsk_model_load(lsk_model *m, const lsk_model_options *o, lsk_error *err)
{
    struct error e = {0};
    return load(m, o ? o : &no_options, &e) ? api_fail(err, &e) : 0;
}

lsk_model *lsk_model_open(const char *path, const lsk_model_options *o, lsk_error *err)
{
    struct error e = {0};
    int64_t start = clock_ns();
    lsk_model *m = calloc(1, sizeof *m);
    o = o ? o : &no_options;
    int rc = m ? model_open(&m->model, path, o->ignore_config, &e) : fail(&e, ERR_OS, "out of memory");
    if (!rc)
        rc = model_fingerprint(&m->model, m->info.id, &e);
    if (!rc) {
        describe_config(m);
        describe_file(m);
        m->info.load_ns = clock_ns() - start;
        rc = load(m, o, &e);
    }
    if (!rc)
        return m;
    lsk_model_close(m);
    api_fail(err, &e);
    return NULL;
}

void lsk_model_close(lsk_model *m)
{
    if (!m)
        return;
    close_engine(m);
    model_close(&m->model);
    token_tree_close(m->tree);
    free(m->draft_token);
    free(m);
}

const lsk_model_info *lsk_model_about(const lsk_model *m) { return &m->info; }

int lsk_model_tensor(const lsk_model *m, int i, char *out, size_t cap)
{
    const struct checkpoint *f = m->model.file;
    if (i < 0 || i >= f->n_views)
        return 0;
    const struct view *v = &f->view[i];
    if (v->rank == 1)
        return snprintf(out, cap, "%s %s %llu", v->name, dtype_table[v->type].name, (unsigned long long)v->dim[0]);
    return snprintf(out, cap, "%s %s %llux%llu", v->name, dtype_table[v->type].name, (unsigned long long)v->dim[0], (unsigned long long)v->dim[1]);
}

int lsk_model_check(const lsk_model *m, lsk_progress_fn progress, int (*report)(void *ud, const char *line), void *ud, lsk_error *err)
{
    struct error e = {0};
    const struct scan_listener l = {progress, report, ud};
    int n = scan_weights(m->model.file, &l, &e);
    return n < 0 ? api_fail(err, &e) : n;
}
