/* SPDX-License-Identifier: Apache-2.0 */
/* The step: norm of all gradients, clipping, AdamW. The flat arrays are cut in blocks of one size; sums of squares are added in order of blocks. */
#include <math.h>

#include "backend/cpu/trainer.h"

struct update {
    struct trainer *t;
    struct adam matrix, vector; /* vectors do not decay */
};

static void square_block(void *ctx, int i, int worker)
{
    struct trainer *t = ctx;
    (void)worker;
    t->partial[i] = t->rows->sum_squares(t->gradient + (size_t)i * UPDATE_BLOCK, UPDATE_BLOCK);
}

static void update_block(void *ctx, int i, int worker)
{
    const struct update *u = ctx;
    struct trainer *t = u->t;
    size_t at = (size_t)i * UPDATE_BLOCK;
    (void)worker;
    t->rows->adam(t->weight + at, t->gradient + at, t->moment1 + at, t->moment2 + at, UPDATE_BLOCK, at < t->lay.n_matrices ? &u->matrix : &u->vector);
}

int train_update(struct trainer *t, const struct train_step *s, double *norm, struct error *err)
{
    int blocks = (int)(t->lay.n_weights / UPDATE_BLOCK), rc = train_check_step(s, err);
    double sum = 0;
    if (rc)
        return rc;
    pool_each(t->pool, blocks, 4, square_block, t);
    for (int i = 0; i < blocks; i++)
        sum += t->partial[i];
    *norm = sqrt(sum) / s->divide;
    if (!isfinite(*norm))
        return fail(err, ERR_DATA, "training step %lld: the gradients are not finite; nothing was changed; lower the rate, or clip", (long long)s->step);
    double scale = (s->clip > 0 && *norm > s->clip ? s->clip / *norm : 1) / s->divide;
    struct adam a = {.scale = (float)scale, .old1 = (float)s->beta1, .new1 = (float)(1 - s->beta1), .old2 = (float)s->beta2, .new2 = (float)(1 - s->beta2),
                     .keep = (float)(1 - s->rate * s->decay), .rate = (float)(s->rate / (1 - pow(s->beta1, (double)s->step))),
                     .root = (float)(1 / sqrt(1 - pow(s->beta2, (double)s->step))), .eps = (float)s->eps};
    struct update u = {t, a, a};
    u.vector.keep = 1;
    pool_each(t->pool, blocks, 4, update_block, &u);
    t->stale = true;
    return 0;
}
