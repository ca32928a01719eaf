/* SPDX-License-Identifier: Apache-2.0 */
#include "train/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "model/fingerprint.h"
#include "train/log.h"
#include "train/save.h"
#include "train/start.h"

struct run {
    struct training t; /* completed */
    struct identity id;
    struct dataset data;
    struct trainer *trainer;
    struct batch batch;
    uint8_t *keep;             /* [layers][batch], or NULL: nothing is ever dropped */
    struct train_exit *exit;   /* [layers + 1] */
    struct train_point *point; /* [layers + 1] by layer: sums over the step's calls */
    struct log log;
    struct train_event e;
    double heads; /* exits of a call, on average over the step */
    int lock;
    int64_t used_ns, begun_ns; /* training alone; the clock at the start */
    int first;                           /* step that this process began with */
    struct error *err;
};

/* ---- numbers ---- */

/* Operations of one token: six for every weight of a product (two forward, four back), the causal half of attention, a head for every exit, a forward pass more for
   the anchor. What is computed again to save memory does not count. */
static double token_flops(const struct run *r, int step)
{
    const struct config *c = &r->t.model->config;
    const double q = (double)c->n_heads * c->head_dim, kv = (double)c->n_kv_heads * c->head_dim, head = (double)c->vocab * c->hidden;
    const double layer = 2 * c->hidden * q + 2 * c->hidden * kv + 3.0 * c->hidden * c->ffn + q * r->t.length;
    double kept = 0;
    for (int l = 0; l < c->n_layers; l++)
        kept += 1 - schedule_drop(&r->t.schedule, step, l);
    return 6 * (layer * kept + head * r->heads) + (schedule_anchored(&r->t.schedule) ? 2 * (layer * c->n_layers + head) : 0);
}

static uint64_t step_tokens(const struct training *t) { return (uint64_t)t->batch * (uint64_t)t->accumulate * (uint64_t)t->length; }

static double loss_of(const struct train_exit *x, const struct train_result *r)
{
    return x->ce * r->ce + x->kl * r->kl + x->accept * r->accept + x->anchor * r->anchor;
}

/* Sums over positions, until mean_result. */
static void add_result(struct train_result *sum, const struct train_result *r)
{
    const double weight = (double)r->positions;
    sum->ce += weight * r->ce;
    sum->kl += weight * r->kl;
    sum->accept += weight * r->accept;
    sum->anchor += weight * r->anchor;
    sum->agree += weight * r->agree;
    sum->positions += r->positions;
}

static void mean_result(struct train_result *r)
{
    double *const sums[] = {&r->ce, &r->kl, &r->accept, &r->anchor, &r->agree};
    for (size_t i = 0; i < sizeof sums / sizeof *sums && r->positions; i++)
        *sums[i] /= (double)r->positions;
}

/* What every event says. */
static void describe(struct run *r, enum train_event_kind kind)
{
    const int done = r->e.step - r->first;
    r->e.kind = kind;
    r->e.tokens = (uint64_t)r->e.step * step_tokens(&r->t);
    r->e.seconds = (double)r->used_ns * 1e-9;
    r->e.left = done > 0 ? (double)(clock_ns() - r->begun_ns) * 1e-9 / done * (r->e.steps - r->e.step) : 0;
}

static int record(struct run *r, enum train_event_kind kind)
{
    describe(r, kind);
    return log_write(&r->log, &r->e, r->err);
}

static int emit(struct run *r, enum train_event_kind kind)
{
    describe(r, kind);
    return r->t.event ? r->t.event(r->t.ud, &r->e) : 0;
}

/* ---- a step ---- */

static int fill_batch(struct run *r, int step, int micro)
{
    const struct training *t = &r->t;
    const uint64_t first = ((uint64_t)step * (uint64_t)t->accumulate + (uint64_t)micro) * (uint64_t)t->batch;
    int rc = 0;
    for (int i = 0; i < t->batch && !rc; i++)
        rc = dataset_read(&r->data, dataset_block(&r->data, t->schedule.seed, first + (uint64_t)i), &r->batch, i, r->err);
    if (r->keep)
        schedule_keep(&t->schedule, step, micro * t->batch, t->batch, r->keep);
    r->batch.view.keep = r->keep;
    return rc;
}

static int run_micro(struct run *r, int step, int micro)
{
    const struct training *t = &r->t;
    struct train_result result[RECIPE_LAYERS_MAX + 1];
    int n = schedule_exits(&t->schedule, step, micro, t->accumulate, r->exit), rc = fill_batch(r, step, micro);
    if (!rc)
        rc = t->ops->backward(r->trainer, &r->batch.view, r->exit, n, result, r->err);
    r->heads += (double)n / t->accumulate;
    for (int i = 0; i < n && !rc; i++) {
        int layer = r->exit[i].layer;
        r->e.loss += loss_of(&r->exit[i], &result[i]) / t->accumulate;
        add_result(&r->point[layer].result, &result[i]);
        r->point[layer].layer = layer;
    }
    return rc;
}

/* The step's exits, packed to the front in ascending order. */
static void gather(struct run *r)
{
    r->e.n = 0;
    for (int l = 1; l <= r->t.schedule.layers; l++)
        if (r->point[l].layer) {
            mean_result(&r->point[l].result);
            r->point[r->e.n++] = r->point[l];
        }
}

static int run_step(struct run *r, int step)
{
    const struct training *t = &r->t;
    const int64_t start = clock_ns();
    const struct train_step s = {.step = step + 1, .rate = schedule_rate(&t->schedule, step), .beta1 = t->beta1, .beta2 = t->beta2, .eps = t->eps, .decay = t->schedule.recipe.decay,
                                 .clip = t->clip, .divide = t->accumulate};
    int rc = 0;
    memset(r->point, 0, (size_t)(t->schedule.layers + 1) * sizeof *r->point);
    r->e.loss = r->heads = 0;
    for (int micro = 0; micro < t->accumulate && !rc; micro++)
        rc = run_micro(r, step, micro);
    if (!rc)
        rc = t->ops->update(r->trainer, &s, &r->e.norm, r->err);
    if (rc)
        return rc;
    gather(r);
    const int64_t took = clock_ns() - start;
    r->used_ns += took;
    double speed = (double)step_tokens(t) / ((double)took * 1e-9);
    r->e.speed = r->e.speed ? 0.9 * r->e.speed + 0.1 * speed : speed;
    r->e.flops = r->e.speed * token_flops(r, step);
    r->e.rate = s.rate;
    r->e.step = step + 1;
    return record(r, TRAIN_STEPPED);
}

/* ---- a look at held-out text ---- */

static int look_at(struct run *r, uint64_t first, const int *layers, int n)
{
    const struct training *t = &r->t;
    struct train_result result[RECIPE_EXITS_MAX + 1];
    int rc = 0;
    for (int i = 0; i < t->batch && !rc; i++) /* the last call may see blocks again: a batch has one size */
        rc = dataset_read(&r->data, dataset_held_block(&r->data, (first + (uint64_t)i) % r->data.held), &r->batch, i, r->err);
    r->batch.view.keep = NULL;
    if (!rc)
        rc = t->ops->evaluate(r->trainer, &r->batch.view, layers, n, result, r->err);
    for (int i = 0; i < n && !rc; i++)
        add_result(&r->point[i].result, &result[i]);
    return rc;
}

static int look(struct run *r)
{
    const struct training *t = &r->t;
    int layers[RECIPE_EXITS_MAX + 1], n = t->n_look, rc = 0;
    uint64_t blocks = (uint64_t)t->look_blocks < r->data.held ? (uint64_t)t->look_blocks : r->data.held;
    memcpy(layers, t->look, sizeof t->look);
    layers[n++] = t->schedule.layers;
    for (int i = 0; i < n; i++)
        r->point[i] = (struct train_point){.layer = layers[i]};
    for (uint64_t at = 0; at < blocks && !rc; at += (uint64_t)t->batch)
        rc = look_at(r, at, layers, n);
    for (int i = 0; i < n; i++)
        mean_result(&r->point[i].result);
    r->e.n = n;
    r->e.loss = r->point[n - 1].result.ce;
    return rc ? rc : record(r, TRAIN_LOOKED);
}

/* ---- the loop ---- */

/* What is left of the run, and what to do about a loss that is no number. */
static int explain(struct run *r, int saved, int rc)
{
    error_prefix(r->err, "after step %d", r->e.step);
    size_t n = strlen(r->err->text);
    if (saved)
        snprintf(r->err->text + n, sizeof r->err->text - n, "; the checkpoint of step %d is complete", saved);
    else
        snprintf(r->err->text + n, sizeof r->err->text - n, "; there is no checkpoint yet");
    n = strlen(r->err->text);
    if (rc == ERR_DATA)
        snprintf(r->err->text + n, sizeof r->err->text - n, ": begin again with a lower rate, a longer warm-up or a smaller clip");
    return rc;
}

static bool is_due(int step, int every, int steps) { return step == steps || (every && step % every == 0); }

static int save(struct run *r, int step)
{
    int rc = save_write(&r->t, &r->id, r->trainer, step, r->err);
    char *path = rc ? NULL : save_path(r->t.folder, step);
    if (!rc && !path)
        rc = fail(r->err, ERR_OS, "out of memory");
    if (!rc) {
        r->e.path = path;
        emit(r, TRAIN_SAVED);
    }
    free(path);
    return rc;
}

static int loop(struct run *r)
{
    const struct training *t = &r->t;
    const int steps = t->schedule.steps;
    int saved = r->first, stop = 0, rc = 0;
    if (!r->first && !(rc = look(r)))
        stop = emit(r, TRAIN_LOOKED);
    for (int step = r->first; step < steps && !rc && !stop; step++) {
        rc = run_step(r, step);
        if (!rc)
            stop = emit(r, TRAIN_STEPPED);
        if (!rc && is_due(step + 1, t->look_every, steps) && !(rc = look(r)))
            stop |= emit(r, TRAIN_LOOKED);
        if (!rc && (stop || is_due(step + 1, t->save_every, steps)) && !(rc = save(r, step + 1)))
            saved = step + 1;
    }
    return rc ? explain(r, saved, rc) : r->e.step < steps;
}

/* ---- opening ---- */

static int check(const struct training *t, struct error *err)
{
    const struct {
        const char *what;
        double value, lo, hi;
    } range[] = {
        {"batch", t->batch, 1, 4096}, {"accumulate", t->accumulate, 1, 1 << 16}, {"length", t->length, 2, t->model->config.context}, {"beta1", t->beta1, 0, 0.9999999},
        {"beta2", t->beta2, 0, 0.9999999}, {"eps", t->eps, 1e-30, 1}, {"weight decay", t->schedule.recipe.decay, 0, 1}, {"clip", t->clip, 0, 1e9}, {"look every", t->look_every, 0, 1 << 30},
        {"look blocks", t->look_blocks, 1, 1 << 30}, {"save every", t->save_every, 0, 1 << 30}, {"keep", t->keep, 0, 1 << 30},
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (!(range[i].value >= range[i].lo && range[i].value <= range[i].hi))
            return fail(err, ERR_USAGE, "%s %g: must be %g to %g", range[i].what, range[i].value, range[i].lo, range[i].hi);
    return 0;
}

/* Everything that the model or the recipe says where the caller said nothing. */
static int complete(struct run *r, const struct training *from)
{
    struct training *t = &r->t;
    struct schedule looks;
    *t = *from;
    t->schedule.layers = t->model->config.n_layers;
    t->corpus.tokenizer = t->model->tokenizer;
    t->corpus.vocab = t->model->config.vocab;
    if (t->schedule.recipe.curriculum == CURRICULUM_DISTILL && !t->schedule.n_exits)
        schedule_default_exits(&t->schedule);
    looks = t->schedule;
    if (t->n_look) {
        memcpy(looks.exit, t->look, sizeof looks.exit);
        looks.n_exits = t->n_look;
    } else if (!looks.n_exits) {
        schedule_default_exits(&looks);
    }
    memcpy(t->look, looks.exit, sizeof t->look);
    t->n_look = looks.n_exits;
    looks.steps = looks.steps ? looks.steps : 1;
    int rc = check(t, r->err);
    return rc ? rc : schedule_check(&looks, r->err);
}

/* One run at a time in a folder. */
static int lock_folder(struct run *r)
{
    const char *folder = r->t.folder;
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(r->err, ERR_CREATE, "%s: cannot create the folder: %s", folder, strerror(errno));
    r->lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock < 0)
        return fail(r->err, ERR_CREATE, "%s: %s", folder, strerror(errno));
    return flock(r->lock, LOCK_EX | LOCK_NB) ? fail(r->err, ERR_CREATE, "%s: another run writes here: choose another folder", folder) : 0;
}

static int open_data(struct run *r)
{
    const struct training *t = &r->t;
    size_t n = strlen(t->folder) + 16;
    char *path = malloc(n);
    int rc = path ? 0 : fail(r->err, ERR_OS, "out of memory");
    if (!rc) {
        snprintf(path, n, "%s/data.tokens", t->folder);
        rc = corpus_make(&t->corpus, path, r->err);
    }
    if (!rc)
        rc = dataset_open(&r->data, path, t->length, t->held_share, r->err);
    r->data.learn_given = t->learn_given;
    r->id.data = r->data.header.content;
    free(path);
    return rc;
}

/* Steps 0: one pass over the data. */
static int settle_steps(struct run *r)
{
    const uint64_t step = (uint64_t)r->t.batch * (uint64_t)r->t.accumulate, pass = (r->data.pass + step - 1) / step;
    if (!r->t.schedule.steps)
        r->t.schedule.steps = pass < INT32_MAX ? (int)pass : INT32_MAX;
    return schedule_check(&r->t.schedule, r->err);
}

/* A device may ask within a step too; but a step that has begun is finished: what it did is in the next checkpoint. */
static int ask_to_go_on(void *ud, const char *what, uint64_t done, uint64_t total)
{
    const struct run *r = ud;
    return r->begun_ns || !r->t.progress ? 0 : r->t.progress(r->t.ud, what, done, total);
}

static int open_device(struct run *r)
{
    const struct training *t = &r->t;
    const struct train_options o = {.batch = t->batch, .length = t->length, .exits = schedule_most_exits(&t->schedule), .threads = t->threads, .ordinal = t->ordinal, .anchor = schedule_anchored(&t->schedule), .fit = t->fit, .recompute = t->recompute,
                                    .progress = ask_to_go_on, .progress_ud = r};
    const size_t layers = (size_t)t->schedule.layers + 1;
    int rc = t->ops->plan(t->model, &o, &r->e.plan, r->err);
    if (!rc)
        rc = batch_open(&r->batch, t->batch, t->length, r->err);
    if (rc)
        return rc;
    r->exit = calloc(layers, sizeof *r->exit);
    r->point = calloc(layers, sizeof *r->point);
    r->e.point = r->point;
    r->keep = t->schedule.recipe.drop_max > 0 ? calloc(layers, (size_t)t->batch) : NULL;
    if (!r->exit || !r->point || (t->schedule.recipe.drop_max > 0 && !r->keep))
        return fail(r->err, ERR_OS, "out of memory");
    r->trainer = t->ops->open(t->model, &o, r->err);
    return r->trainer ? 0 : r->err->code;
}

static int open_run(struct run *r)
{
    const struct training *t = &r->t;
    int rc = export_check(t->model, r->err), newest = 0;
    if (!rc)
        rc = lock_folder(r);
    if (!rc)
        rc = newest = save_newest(t->folder, r->err);
    if (newest > 0 && !t->resume)
        return fail(r->err, ERR_USAGE, "%s: holds a run already (step %d): resume it, or choose another folder", t->folder, newest);
    if (!newest && t->resume && !rc)
        return fail(r->err, ERR_NOINPUT, "%s: no complete checkpoint to resume from", t->folder);
    if (rc >= 0)
        rc = model_fingerprint(t->model, r->id.model, r->err);
    if (!rc && t->start)
        rc = model_fingerprint(t->start, r->id.start, r->err);
    if (!rc)
        rc = open_data(r);
    if (!rc)
        rc = settle_steps(r);
    if (!rc)
        rc = open_device(r);
    if (!rc && newest)
        rc = save_read(t, &r->id, r->trainer, newest, r->err);
    else if (!rc && t->start)
        rc = train_start(t->ops, r->trainer, t->start, r->err);
    if (!rc)
        rc = log_open(&r->log, t->folder, newest, r->err);
    r->first = newest;
    return rc;
}

static int start(struct run *r)
{
    char *path = r->first ? save_path(r->t.folder, r->first) : NULL;
    r->begun_ns = clock_ns();
    r->e.step = r->first;
    r->e.steps = r->t.schedule.steps;
    r->e.blocks = r->data.pass;
    r->e.held = r->data.held;
    r->e.path = path;
    int stop = emit(r, TRAIN_STARTED);
    r->e.path = NULL;
    free(path);
    return stop ? 1 : loop(r);
}

int training_run(const struct training *t, struct error *err)
{
    struct error own = {0};
    struct run r = {.lock = -1, .data.file.fd = -1, .log.fd = -1, .err = err ? err : &own};
    int rc = complete(&r, t);
    if (!rc)
        rc = open_run(&r);
    if (!rc)
        rc = start(&r);
    log_close(&r.log);
    if (r.trainer)
        t->ops->close(r.trainer);
    batch_close(&r.batch);
    dataset_close(&r.data);
    free(r.exit);
    free(r.point);
    free(r.keep);
    if (r.lock >= 0)
        close(r.lock);
    return rc;
}
