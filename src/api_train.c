/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "api.h"
#include "train/trainer.h"

_Static_assert((int)LSK_TRAIN_SAVED == (int)TRAIN_SAVED && (int)LSK_TRAIN_LOOKED == (int)TRAIN_LOOKED, "one list of events");

const char *lsk_recipe(int i, const char **help)
{
    const struct recipe *r = recipe_at(i);
    if (r && help)
        *help = r->help;
    return r ? r->name : NULL;
}

struct listener {
    lsk_train_fn event;
    void *ud;
    lsk_progress_fn progress;
    void *progress_ud;
};

static int pass_event(void *ud, const struct train_event *e)
{
    const struct listener *l = ud;
    lsk_train_point point[RECIPE_LAYERS_MAX + 1];
    lsk_train_event out = {.kind = (enum lsk_train_kind)e->kind, .step = e->step, .steps = e->steps, .tokens = e->tokens, .loss = e->loss, .rate = e->rate, .norm = e->norm,
                           .speed = e->speed, .flops = e->flops, .left = e->left, .n = e->n, .point = point, .text = e->path,
                           .memory = e->plan.weights + e->plan.gradients + e->plan.optimizer + e->plan.activations + e->plan.anchor, .blocks = e->blocks, .held = e->held};
    for (int i = 0; i < e->n; i++) {
        const struct train_result *r = &e->point[i].result;
        point[i] = (lsk_train_point){.layer = e->point[i].layer, .ce = r->ce, .kl = r->kl, .accept = r->accept, .anchor = r->anchor, .agree = r->agree};
    }
    return l->event ? l->event(l->ud, &out) : 0;
}

static void pass_note(void *ud, const char *line)
{
    const struct listener *l = ud;
    if (l->event)
        l->event(l->ud, &(lsk_train_event){.kind = LSK_TRAIN_NOTE, .text = line});
}

static int pass_progress(void *ud, const char *what, uint64_t done, uint64_t total)
{
    const struct listener *l = ud;
    return l->progress ? l->progress(l->progress_ud, what, done, total) : 0;
}

/* Zero stands for the default, below zero for none. */
static double or_default(double v, double fallback) { return v == 0 ? fallback : v < 0 ? 0 : v; }
static int or_count(int v, int fallback) { return v == 0 ? fallback : v < 0 ? 0 : v; }

static int find_recipe(const lsk_train_options *o, struct recipe *out, struct error *err)
{
    char list[400] = "";
    const struct recipe *r = o->recipe ? recipe_find(o->recipe) : NULL;
    for (int i = 0; !r && recipe_at(i); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", recipe_at(i)->name);
    }
    if (!r)
        return fail(err, ERR_USAGE, "recipe %s: must be one of %s", o->recipe ? o->recipe : "(none)", list);
    *out = *r;
    out->rate = or_default(o->rate, r->rate);
    out->drop_max = or_default(o->layer_dropout, r->drop_max);
    out->exit_scale = or_default(o->exit_scale, r->exit_scale);
    out->anchor = or_default(o->anchor, r->anchor);
    out->decay = or_default(o->decay, r->decay);
    return 0;
}

static int set_exits(const lsk_train_options *o, struct training *t, struct error *err)
{
    if (o->n_exits < 0 || o->n_exits > RECIPE_EXITS_MAX)
        return fail(err, ERR_USAGE, "%d exit layers: at most %d", o->n_exits, RECIPE_EXITS_MAX);
    for (int i = 0; i < o->n_exits; i++)
        t->look[i] = o->exits[i];
    t->n_look = o->n_exits;
    if (t->schedule.recipe.curriculum == CURRICULUM_DISTILL) {
        memcpy(t->schedule.exit, t->look, sizeof t->look);
        t->schedule.n_exits = o->n_exits;
    }
    return 0;
}

static int set_data(const lsk_train_options *o, struct training *t, struct error *err)
{
    const struct config *c = &t->model->config;
    t->corpus = (struct corpus){.file = o->data, .weight = o->weights, .special = o->special != 0, .bad_rows = o->bad_rows, .note = pass_note, .progress = pass_progress, .end = c->n_eos ? c->eos[0] : -1};
    while (o->data && o->data[t->corpus.n_files])
        t->corpus.n_files++;
    if (!o->document_end)
        return 0;
    int32_t id = -1;
    int n = *o->document_end ? tokenizer_encode(t->model->tokenizer, o->document_end, strlen(o->document_end), ENCODE_SPECIAL, &id, 1, NULL) : 0;
    t->corpus.end = n == 1 ? id : -1;
    return *o->document_end && n != 1 ? fail(err, ERR_USAGE, "document end \"%s\": the model has no such special token", o->document_end) : 0;
}

static int find_fit(const char *name, enum dtype *type, struct error *err)
{
    static const char *const names[] = {[DT_Q8_0] = "q8_0", [DT_Q4_0] = "q4_0", [DT_Q4_1] = "q4_1"};
    *type = DT_F32;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (names[i] && !strcmp(name, names[i]))
            *type = (enum dtype)i;
    return name && *type == DT_F32 ? fail(err, ERR_USAGE, "fit \"%s\": must be one of q8_0, q4_0, q4_1", name) : 0;
}

static int set_training(const lsk_train_options *o, const struct model *m, struct listener *l, struct training *t, struct error *err)
{
    struct error why = {0}; /* of the CPU, with "auto" */
    const struct backend *b = backend_find(o->device, &why);
    if (!b) {
        *err = why;
        return why.code;
    }
    if (*why.text)
        pass_note(l, why.text);
    if (!b->train)
        return fail(err, ERR_UNAVAILABLE, "device %s does not train: use --device cpu", b->name);
    if (!o->folder)
        return fail(err, ERR_USAGE, "no folder given for the checkpoints");
    *t = (struct training){
        .model = m, .ops = b->train, .device = b->name, .folder = o->folder, .batch = o->batch ? o->batch : 8, .accumulate = o->accumulate ? o->accumulate : 1,
        .length = o->length ? o->length : m->config.context < 1024 ? m->config.context : 1024, .beta1 = or_default(o->beta1, 0.9), .beta2 = or_default(o->beta2, 0.95),
        .eps = or_default(o->eps, 1e-8), .clip = or_default(o->clip, 1), .held_share = or_default(o->held_out, 0.01),
        .learn_given = o->learn_prompts != 0, .look_every = or_count(o->look_every, 100), .look_blocks = or_count(o->look_blocks, 32), .save_every = or_count(o->save_every, 500),
        .keep = or_count(o->keep, 2), .resume = o->resume != 0, .recompute = o->recompute != 0, .threads = o->threads, .ordinal = backend_ordinal(o->device), .progress = pass_progress, .event = pass_event, .ud = l,
        .schedule = {.steps = o->steps, .seed = o->seed, .warmup = or_default(o->warmup, 0.03), .floor = or_default(o->floor, 0.1)},
    };
    int rc = find_recipe(o, &t->schedule.recipe, err);
    if (!rc)
        rc = find_fit(o->fit, &t->fit, err);
    if (!rc)
        rc = set_exits(o, t, err);
    if (!rc)
        rc = set_data(o, t, err);
    t->corpus.ud = l;
    return rc;
}

int lsk_train(const char *path, const lsk_train_options *o, lsk_train_fn event, void *ud, lsk_error *err)
{
    struct error e = {0};
    struct model m, start;
    struct training t;
    struct listener l = {event, ud, o->progress, o->progress_ud};
    int rc = api_check_options(o, "lsk_train_options", &e);
    if (!rc)
        rc = model_open(&m, path, o->ignore_config, &e);
    if (rc)
        return api_fail(err, &e);
    rc = o->start ? model_open(&start, o->start, o->ignore_config, &e) : 0;
    if (rc) {
        model_close(&m);
        return api_fail(err, &e);
    }
    rc = set_training(o, &m, &l, &t, &e);
    t.start = o->start ? &start : NULL;
    if (!rc)
        rc = training_run(&t, &e);
    if (o->start)
        model_close(&start);
    model_close(&m);
    return rc < 0 ? api_fail(err, &e) : rc;
}
