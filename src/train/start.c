/* SPDX-License-Identifier: Apache-2.0 */
#include "train/start.h"

#include <stdlib.h>

#include "base/checked.h"

static int set_tensor(const struct train_ops *ops, struct trainer *t, int i, const struct model *from, struct error *err)
{
    const struct train_tensor to = ops->tensor(t, i);
    const struct view *v = checkpoint_find(from->file, to.name);
    const uint64_t n = (uint64_t)to.rows * (uint64_t)to.cols;
    uint64_t bytes;
    if (!v || (v->rank == 2 ? v->dim[0] != (uint64_t)to.rows || v->dim[1] != (uint64_t)to.cols : v->dim[0] * v->dim[1] != n))
        return fail(err, ERR_USAGE, "%s: tensor %s: %s: training can only start from a model of the same shape", from->file->path, to.name, v ? "has another shape" : "is not there");
    if (mul_u64(n, sizeof(float), &bytes))
        return fail(err, ERR_DATA, "%s: tensor %s: too large", from->file->path, to.name);
    void *raw = malloc(v->bytes);
    float *value = malloc(bytes);
    int rc = raw && value ? checkpoint_read_rows(from->file, v, 0, v->dim[0], raw, err) : fail(err, ERR_OS, "out of memory");
    if (!rc) {
        dtype_to_f32(v->type, raw, value, n);
        rc = ops->set(t, i, TRAIN_WEIGHT, value, err);
    }
    free(raw);
    free(value);
    return rc;
}

int train_start(const struct train_ops *ops, struct trainer *t, const struct model *from, struct error *err)
{
    int rc = 0;
    for (int i = 0; i < ops->n_tensors(t) && !rc; i++)
        rc = set_tensor(ops, t, i, from, err);
    return rc;
}
