/* SPDX-License-Identifier: Apache-2.0 */
/* What a trainer's calls may hold: the same on every device. */
#include <math.h>
#include <string.h>

#include "backend/train.h"

int train_check_options(const struct config *c, const struct train_options *o, struct error *err)
{
    if (o->batch < 1 || o->length < 1 || o->exits < 0 || o->threads < 0)
        return fail(err, ERR_USAGE, "training: batch %d, length %d, exits %d, threads %d: batch and length must be at least 1, the others not negative", o->batch, o->length,
                    o->exits, o->threads);
    if (o->length > c->context)
        return fail(err, ERR_USAGE, "training: length %d: the model's context is %d", o->length, c->context);
    if (o->batch > INT32_MAX / o->length)
        return fail(err, ERR_USAGE, "training: batch %d of length %d: too many positions at once; accumulate gradients over several batches", o->batch, o->length);
    return 0;
}

int train_check_batch(const struct config *c, const struct train_options *o, const struct train_batch *b, struct error *err)
{
    if (b->n < 1 || b->n > o->batch || b->length < 1 || b->length > o->length)
        return fail(err, ERR_USAGE, "batch of %d sequences of %d tokens: this trainer was opened for 1 to %d of 1 to %d", b->n, b->length, o->batch, o->length);
    for (int i = 0; i < b->n * b->length; i++) {
        int s = i / b->length, pos = i % b->length;
        if (b->token[i] < 0 || b->token[i] >= c->vocab)
            return fail(err, ERR_DATA, "sequence %d, position %d: token %d: the vocabulary has %d; was the data made with another tokenizer?", s, pos, b->token[i], c->vocab);
        if (b->target[i] >= c->vocab)
            return fail(err, ERR_DATA, "sequence %d, position %d: target %d: the vocabulary has %d; was the data made with another tokenizer?", s, pos, b->target[i], c->vocab);
        if (b->start && (b->start[i] < 0 || b->start[i] > pos))
            return fail(err, ERR_DATA, "sequence %d, position %d: its document starts at %d; it must start at 0 to %d", s, pos, b->start[i], pos);
    }
    return 0;
}

int train_check_exits(const struct config *c, const struct train_options *o, const struct train_exit *exits, int n, struct error *err)
{
    for (int i = 0; i < n; i++) {
        const struct train_exit *e = &exits[i];
        if (e->layer < 1 || e->layer > c->n_layers)
            return fail(err, ERR_USAGE, "exit after %d layers: the model has %d; must be 1 to %d", e->layer, c->n_layers, c->n_layers);
        if (!isfinite(e->ce) || !isfinite(e->kl) || !isfinite(e->accept) || !isfinite(e->anchor))
            return fail(err, ERR_USAGE, "exit after %d layers: weights ce %g, kl %g, accept %g, anchor %g: must be finite", e->layer, (double)e->ce, (double)e->kl,
                        (double)e->accept, (double)e->anchor);
        if (e->anchor != 0 && !o->anchor)
            return fail(err, ERR_USAGE, "exit after %d layers: weight %g for the anchor, and the trainer was opened without one", e->layer, (double)e->anchor);
    }
    return 0;
}

enum dtype train_fit_type(const struct train_options *o, const struct view *v)
{
    bool ends = !strcmp(v->name, "embed") || !strcmp(v->name, "head");
    return v->rank != 2 || v->dim[1] % 32 ? DT_F32 : ends && o->fit != DT_F32 ? DT_Q8_0 : o->fit;
}

int train_check_step(const struct train_step *s, struct error *err)
{
    bool good = s->step >= 1 && isfinite(s->rate) && s->rate >= 0 && s->beta1 >= 0 && s->beta1 < 1 && s->beta2 >= 0 && s->beta2 < 1 && isfinite(s->eps) && s->eps > 0 &&
                isfinite(s->decay) && s->decay >= 0 && s->clip >= 0 && isfinite(s->divide) && s->divide > 0;
    return good ? 0 : fail(err, ERR_USAGE, "training step %lld: rate %g, beta1 %g, beta2 %g, eps %g, decay %g, clip %g, divide %g: steps count from 1, betas are in [0, 1), eps and divide above 0",
                           (long long)s->step, s->rate, s->beta1, s->beta2, s->eps, s->decay, s->clip, s->divide);
}

struct train_depths train_depths(const struct config *c, const struct train_exit *exits, int n)
{
    struct train_depths d = {0};
    for (int i = 0; i < n; i++) {
        d.back = exits[i].layer > d.back ? exits[i].layer : d.back;
        d.forward = exits[i].kl != 0 || exits[i].accept != 0 ? c->n_layers : d.forward;
        d.anchor |= exits[i].anchor != 0;
    }
    d.forward = d.back > d.forward ? d.back : d.forward;
    return d;
}
