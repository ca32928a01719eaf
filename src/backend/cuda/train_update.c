/* SPDX-License-Identifier: Apache-2.0 */
/* The step: norm of all gradients, clipping, AdamW. What to do is decided on the device; the host waits at the end, to tell the norm. */
#include <math.h>

#include "backend/cuda/trainer.h"

int cuda_train_fit_items(struct trainer *t, int first, int n, struct error *err)
{
    int rc = 0;
    for (int i = first; i < first + n && !rc; i++) {
        const struct train_item *it = &t->lay.item[i];
        const enum dtype type = train_fit_type(&t->o, it->view);
        if (type != DT_F32)
            rc = CUDA_TRY(err, cuda_train_fit(t->stream, (int)type, t->half + it->at, t->weight + it->at, it->is.rows, it->is.cols, (int)it->ld));
    }
    return rc;
}

static int queue_update(struct trainer *t, const struct train_step *s, struct error *err)
{
    const struct train_adam a = {.old1 = (float)s->beta1, .new1 = (float)(1 - s->beta1), .old2 = (float)s->beta2, .new2 = (float)(1 - s->beta2),
                                 .keep = (float)(1 - s->rate * s->decay), .rate = (float)(s->rate / (1 - pow(s->beta1, (double)s->step))),
                                 .root = (float)(1 / sqrt(1 - pow(s->beta2, (double)s->step))), .eps = (float)s->eps, .weight = t->weight, .gradient = t->gradient,
                                 .moment1 = t->moment1, .moment2 = t->moment2, .half = t->half, .n = t->lay.n_weights, .n_matrices = t->lay.n_matrices, .decision = t->decision};
    int rc = CUDA_TRY(err, cuda_train_squares(t->stream, t->square, t->gradient, t->lay.n_weights));
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_decide(t->stream, t->decision, t->square, (int)(t->lay.n_weights / TRAIN_UPDATE_BLOCK), s->divide, s->clip));
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_adam(t->stream, &a));
    if (!rc)
        rc = cuda_train_fit_items(t, 0, t->lay.n_items, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaMemcpyAsync(t->host.decision, t->decision, sizeof *t->decision, cudaMemcpyDeviceToHost, t->stream));
    return rc;
}

int cuda_train_update(struct trainer *t, const struct train_step *s, double *norm, struct error *err)
{
    int rc = train_check_step(s, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaSetDevice(t->o.ordinal));
    if (!rc)
        rc = queue_update(t, s, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaStreamSynchronize(t->stream));
    if (rc)
        return rc;
    *norm = t->host.decision->norm;
    if (!t->host.decision->go)
        return fail(err, ERR_DATA, "training step %lld: the gradients are not finite; nothing was changed; lower the rate, or clip", (long long)s->step);
    return 0;
}
