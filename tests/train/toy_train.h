/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's seam without a network: every weight is drawn to a number that depends on everything the trainer hands over (tokens, targets, starts, masks,
   exits and their weights), so that one wrong or missing piece changes all weights. */
#ifndef TESTS_TRAIN_TOY_TRAIN_H
#define TESTS_TRAIN_TOY_TRAIN_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/train.h"
#include "train/hash.h"

enum { TOY_STATES = 4, TOY_TENSORS = 256 };

struct trainer {
    const struct model *model;
    struct train_options o;
    int n;
    struct train_tensor tensor[TOY_TENSORS];
    float *value[TOY_TENSORS][TOY_STATES];
};

/* What a test asks of it. */
static struct {
    int nan_at, calls, opened, sleep_us; /* nan_at: number of the backward call whose loss is no number; 0: none */
} toy;

static int toy_plan(const struct model *m, const struct train_options *o, struct train_plan *out, struct error *err)
{
    (void)m, (void)err;
    *out = (struct train_plan){.weights = 1 << 20, .activations = (uint64_t)o->batch * (uint64_t)o->length};
    return 0;
}

static void toy_close(struct trainer *t)
{
    for (int i = 0; i < t->n; i++)
        for (int s = 0; s < TOY_STATES; s++)
            free(t->value[i][s]);
    free(t);
    toy.opened--;
}

static struct trainer *toy_open(const struct model *m, const struct train_options *o, struct error *err)
{
    struct trainer *t = calloc(1, sizeof *t);
    t->model = m;
    t->o = *o;
    toy.opened++;
    for (int i = 0; i < m->file->n_views; i++) {
        const struct view *v = &m->file->view[i];
        const size_t n = (size_t)(v->dim[0] * v->dim[1]);
        char *raw = malloc((size_t)v->bytes);
        for (int s = 0; s < TOY_STATES; s++)
            t->value[t->n][s] = calloc(n, sizeof(float));
        if (checkpoint_read_rows(m->file, v, 0, v->dim[0], raw, err)) {
            free(raw);
            toy_close(t);
            return NULL;
        }
        dtype_to_f32(v->type, raw, t->value[t->n][TRAIN_WEIGHT], n);
        free(raw);
        t->tensor[t->n++] = v->rank == 1 ? (struct train_tensor){v->name, 1, (int64_t)v->dim[0]} : (struct train_tensor){v->name, (int64_t)v->dim[0], (int64_t)v->dim[1]};
    }
    return t;
}

static int toy_n(const struct trainer *t) { return t->n; }
static struct train_tensor toy_tensor(const struct trainer *t, int i) { return t->tensor[i]; }
static size_t toy_size(const struct trainer *t, int i) { return (size_t)(t->tensor[i].rows * t->tensor[i].cols); }

static int toy_get(struct trainer *t, int i, enum train_state what, float *out, struct error *err)
{
    (void)err;
    memcpy(out, t->value[i][what], toy_size(t, i) * sizeof *out);
    return 0;
}

static int toy_set(struct trainer *t, int i, enum train_state what, const float *in, struct error *err)
{
    (void)err;
    memcpy(t->value[i][what], in, toy_size(t, i) * sizeof *in);
    return 0;
}

static uint64_t toy_hash(const struct trainer *t, const struct train_batch *b, const struct train_exit *x, int n)
{
    const size_t count = (size_t)b->n * (size_t)b->length * 4;
    uint64_t h = hash_add(HASH_START, b->token, count);
    h = hash_add(h, b->target, count);
    h = hash_add(h, b->start, count);
    if (b->keep)
        h = hash_add(h, b->keep, (size_t)t->model->config.n_layers * (size_t)b->n);
    return hash_add(h, x, (size_t)n * sizeof *x);
}

static double toy_distance(const struct trainer *t, float goal)
{
    double sum = 0;
    for (size_t k = 0; k < toy_size(t, 0); k++)
        sum += fabs((double)t->value[0][TRAIN_WEIGHT][k] - goal);
    return sum / (double)toy_size(t, 0);
}

static int toy_backward(struct trainer *t, const struct train_batch *b, const struct train_exit *exits, int n_exits, struct train_result *out, struct error *err)
{
    const float goal = (float)(toy_hash(t, b, exits, n_exits) % 1000) / 1000.0f;
    if (++toy.calls == toy.nan_at)
        return fail(err, ERR_DATA, "the loss is not finite");
    if (t->o.progress && t->o.progress(t->o.progress_ud, "training", 0, 1))
        return fail(err, ERR_USAGE, "stopped within a step");
    if (toy.sleep_us)
        usleep((useconds_t)toy.sleep_us);
    for (int i = 0; i < t->n; i++)
        for (size_t k = 0; k < toy_size(t, i); k++)
            t->value[i][TRAIN_GRADIENT][k] += t->value[i][TRAIN_WEIGHT][k] - goal;
    for (int e = 0; e < n_exits; e++)
        out[e] = (struct train_result){.ce = toy_distance(t, goal) / exits[e].layer, .kl = 0.5, .accept = 0.25, .anchor = 0.125, .agree = 0.1 * exits[e].layer, .positions = b->n * b->length};
    return 0;
}

static int toy_evaluate(struct trainer *t, const struct train_batch *b, const int *layers, int n_layers, struct train_result *out, struct error *err)
{
    (void)err;
    for (int e = 0; e < n_layers; e++)
        out[e] = (struct train_result){.ce = toy_distance(t, 0.5f), .kl = 1.0 / layers[e], .agree = (double)layers[e] / t->model->config.n_layers, .positions = b->n * b->length};
    return 0;
}

static void toy_clear(struct trainer *t)
{
    for (int i = 0; i < t->n; i++)
        memset(t->value[i][TRAIN_GRADIENT], 0, toy_size(t, i) * sizeof(float));
}

static int toy_update(struct trainer *t, const struct train_step *s, double *norm, struct error *err)
{
    (void)err;
    *norm = 0;
    for (int i = 0; i < t->n; i++)
        for (size_t k = 0; k < toy_size(t, i); k++) {
            float *w = &t->value[i][TRAIN_WEIGHT][k], *m = &t->value[i][TRAIN_MOMENT1][k], *v = &t->value[i][TRAIN_MOMENT2][k], g = t->value[i][TRAIN_GRADIENT][k] / (float)s->divide, beta1 = (float)s->beta1, beta2 = (float)s->beta2;
            *norm += (double)g * g;
            *m = beta1 * *m + (1 - beta1) * g;
            *v = beta2 * *v + (1 - beta2) * g * g;
            *w -= (float)s->rate * (*m / (1 - powf(beta1, (float)s->step)) / (sqrtf(*v) + (float)s->eps) + (float)s->decay * *w);
        }
    toy_clear(t);
    *norm = sqrt(*norm);
    return 0;
}

static const struct train_ops toy_ops = {.plan = toy_plan, .open = toy_open, .close = toy_close, .n_tensors = toy_n, .tensor = toy_tensor, .get = toy_get, .set = toy_set,
                                         .backward = toy_backward, .evaluate = toy_evaluate, .clear = toy_clear, .update = toy_update};

#endif
