/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer on a GPU: opening, tensors in and out, and the calls of a step. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/trainer.h"

/* ---- open ---- */

static int plan(const struct model *m, const struct train_options *o, struct train_plan *out, struct error *err)
{
    struct trainer t;
    int rc = cuda_train_lay_out(&t, m, o, out, err);
    arena_free(&t.arena);
    return rc;
}

static void close_trainer(struct trainer *t)
{
    if (!t)
        return;
    cudaSetDevice(t->o.ordinal);
    if (t->stream) {
        cudaStreamSynchronize(t->stream);
        cudaStreamDestroy(t->stream);
    }
    if (t->memory)
        cudaFree(t->memory);
    if (t->host.memory)
        cudaFreeHost(t->host.memory);
    arena_free(&t->arena);
    free(t);
}

static double gib(uint64_t bytes) { return (double)bytes / 1073741824.0; }

/* All of the device's memory in one block, so that it fails here or never. */
static int take_memory(struct trainer *t, const struct train_plan *s, struct error *err)
{
    size_t available = 0, all = 0;
    void *device = NULL, *pinned = NULL;
    int rc = CUDA_TRY(err, cudaMemGetInfo(&available, &all));
    if (rc)
        return rc;
    cudaError_t e = t->memory_bytes > available ? cudaErrorMemoryAllocation : cuda_fault() ? cudaErrorUnknown : cudaMalloc(&device, t->memory_bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return fail(err, ERR_OS, "the GPU is out of memory: training needs %.2f GiB (weights and what the step keeps %.2f, activations %.2f, the original %.2f), %.2f of %.2f GiB are free; "
                    "a smaller -b with a larger --accumulate, a smaller --length or --recompute need less", gib(t->memory_bytes), gib(s->weights + s->gradients + s->optimizer),
                    gib(s->activations), gib(s->anchor), gib(available), gib(all));
    }
    if (e != cudaSuccess)
        return cuda_error(err, e, "cudaMalloc");
    t->memory = device;
    rc = CUDA_TRY(err, cudaHostAlloc(&pinned, t->host.bytes, cudaHostAllocDefault));
    if (rc)
        return rc;
    cuda_train_place(t, device, pinned);
    memset(pinned, 0, t->host.bytes);
    return CUDA_TRY(err, cudaMemsetAsync(device, 0, t->memory_bytes, t->stream));
}

static int open_device(struct trainer *t, const struct train_plan *sizes, struct error *err)
{
    int rc = cuda_usable(t->o.ordinal, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaSetDevice(t->o.ordinal));
    if (!rc)
        rc = CUDA_TRY(err, cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking));
    if (!rc)
        rc = take_memory(t, sizes, err);
    if (!rc)
        rc = CUDA_TRY(err, train_product_prepare());
    return rc ? rc : CUDA_TRY(err, train_attention_prepare());
}

/* t->staging := n rows as f32, ld apart, zeros between them. */
static void widen(const struct trainer *t, const struct view *v, const uint8_t *raw, uint64_t n, uint64_t ld)
{
    const uint64_t cols = v->dim[1], bytes = view_row_bytes(v);
    if (ld == cols) {
        dtype_to_f32(v->type, raw, t->host.staging, n * cols);
        return;
    }
    for (uint64_t r = 0; r < n; r++) {
        dtype_to_f32(v->type, raw + r * bytes, t->host.staging + r * ld, cols);
        memset(t->host.staging + r * ld + cols, 0, (size_t)(ld - cols) * sizeof(float));
    }
}

/* One tensor as f32, some rows at a time. A vector is as many rows of one number. */
static int load_item(struct trainer *t, const struct train_item *it, struct error *err)
{
    const struct view *v = it->view;
    const uint64_t ld = v->rank == 2 ? (uint64_t)it->ld : v->dim[1], fit = STAGING_FLOATS / ld, some = fit < v->dim[0] ? fit : v->dim[0];
    uint8_t *raw = some ? malloc(some * view_row_bytes(v)) : NULL;
    int rc = raw ? 0 : fail(err, ERR_OS, "out of memory");
    for (uint64_t r = 0; r < v->dim[0] && !rc; r += some) {
        const uint64_t n = v->dim[0] - r < some ? v->dim[0] - r : some;
        rc = checkpoint_read_rows(t->model->file, v, r, n, raw, err);
        if (rc)
            break;
        widen(t, v, raw, n, ld);
        rc = CUDA_TRY(err, cudaMemcpyAsync(t->weight + it->at + r * ld, t->host.staging, n * ld * sizeof(float), cudaMemcpyHostToDevice, t->stream));
        if (!rc)
            rc = CUDA_TRY(err, cudaStreamSynchronize(t->stream));
    }
    free(raw);
    return rc;
}

static int load(struct trainer *t, struct error *err)
{
    const size_t vectors = t->lay.n_weights - t->lay.n_matrices;
    int rc = 0;
    for (int i = 0; i < t->lay.n_items && !rc; i++) {
        rc = load_item(t, &t->lay.item[i], err);
        if (!rc && t->o.progress && t->o.progress(t->o.progress_ud, "loading", (uint64_t)i + 1, (uint64_t)t->lay.n_items))
            rc = fail(err, ERR_USAGE, "loading was stopped");
    }
    if (!rc)
        rc = CUDA_TRY(err, cuda_train_halve(t->stream, t->half, t->weight, t->lay.n_matrices));
    if (!rc && t->anchor)
        rc = CUDA_TRY(err, cudaMemcpyAsync(t->anchor, t->half, t->lay.n_matrices * sizeof *t->anchor, cudaMemcpyDeviceToDevice, t->stream));
    if (!rc)
        rc = cuda_train_fit_items(t, 0, t->lay.n_items, err);
    if (!rc && t->anchor)
        rc = CUDA_TRY(err, cudaMemcpyAsync(t->anchor_vector, t->weight + t->lay.n_matrices, vectors * sizeof *t->anchor_vector, cudaMemcpyDeviceToDevice, t->stream));
    return rc;
}

/* t->partial lends the frequencies a place. */
static int make_angles(struct trainer *t, struct error *err)
{
    const int half = t->c->head_dim / 2;
    int rc = model_frequencies(t->model, t->inv_freq, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaMemcpyAsync(t->partial, t->inv_freq, (size_t)half * sizeof *t->inv_freq, cudaMemcpyHostToDevice, t->stream));
    if (!rc)
        rc = CUDA_TRY(err, cuda_angles((struct launch){.stream = t->stream}, t->angle, t->partial, t->o.length, half));
    return rc ? rc : CUDA_TRY(err, cudaStreamSynchronize(t->stream));
}

static struct trainer *open_trainer(const struct model *m, const struct train_options *o, struct error *err)
{
    struct trainer *t = calloc(1, sizeof *t);
    struct train_plan sizes;
    if (!t) {
        fail(err, ERR_OS, "out of memory");
        return NULL;
    }
    int rc = cuda_train_lay_out(t, m, o, &sizes, err);
    if (!rc)
        rc = open_device(t, &sizes, err);
    if (!rc)
        rc = load(t, err);
    if (!rc)
        rc = make_angles(t, err);
    if (!rc)
        return t;
    close_trainer(t);
    return NULL;
}

/* ---- tensors ---- */

static int n_tensors(const struct trainer *t) { return t->lay.n_items; }

static struct train_tensor tensor(const struct trainer *t, int i) { return t->lay.item[i].is; }

/* Where a tensor's numbers are; NULL: there is none of that number or kind. */
static float *numbers(const struct trainer *t, int i, enum train_state what, struct error *err)
{
    float *const arrays[] = {[TRAIN_WEIGHT] = t->weight, [TRAIN_GRADIENT] = t->gradient, [TRAIN_MOMENT1] = t->moment1, [TRAIN_MOMENT2] = t->moment2};
    if (i >= 0 && i < t->lay.n_items && (size_t)what < sizeof arrays / sizeof *arrays)
        return arrays[what] + t->lay.item[i].at;
    fail(err, ERR_INTERNAL, "tensor %d of %d, kind %d", i, t->lay.n_items, (int)what);
    return NULL;
}

/* Bytes of a row on the host and on the device. */
static size_t row_bytes(const struct train_item *it) { return (size_t)it->is.cols * sizeof(float); }
static size_t pitch(const struct train_item *it) { return (size_t)it->ld * sizeof(float); }

static int get(struct trainer *t, int i, enum train_state what, float *out, struct error *err)
{
    const float *from = numbers(t, i, what, err);
    if (!from)
        return ERR_INTERNAL;
    const struct train_item *it = &t->lay.item[i];
    int rc = CUDA_TRY(err, cudaSetDevice(t->o.ordinal));
    if (!rc)
        rc = CUDA_TRY(err, cudaMemcpy2DAsync(out, row_bytes(it), from, pitch(it), row_bytes(it), (size_t)it->is.rows, cudaMemcpyDeviceToHost, t->stream));
    return rc ? rc : CUDA_TRY(err, cudaStreamSynchronize(t->stream));
}

static int set(struct trainer *t, int i, enum train_state what, const float *in, struct error *err)
{
    float *to = numbers(t, i, what, err);
    if (!to)
        return ERR_INTERNAL;
    const struct train_item *it = &t->lay.item[i];
    int rc = CUDA_TRY(err, cudaSetDevice(t->o.ordinal));
    if (!rc)
        rc = CUDA_TRY(err, cudaMemcpy2DAsync(to, pitch(it), in, row_bytes(it), row_bytes(it), (size_t)it->is.rows, cudaMemcpyHostToDevice, t->stream));
    if (!rc && what == TRAIN_WEIGHT && it->at < t->lay.n_matrices)
        rc = CUDA_TRY(err, cuda_train_halve(t->stream, t->half + it->at, to, (size_t)it->is.rows * (size_t)it->ld));
    if (!rc && what == TRAIN_WEIGHT)
        rc = cuda_train_fit_items(t, i, 1, err);
    return rc ? rc : CUDA_TRY(err, cudaStreamSynchronize(t->stream));
}

/* ---- steps ---- */

/* The anchor's last state; its pass needs no memory of its own but this, since it comes first. */
static int run_anchor(struct train_pass *p, struct error *err)
{
    struct trainer *t = p->t;
    struct train_pass a = *p;
    a.weights = (struct train_weights){t->anchor, t->anchor_vector};
    a.drops = false;
    const size_t bytes = row_at(p->b->n * p->b->length, t->hidden_pad) * sizeof *t->anchor_state;
    int rc = cuda_train_forward(&a, t->c->n_layers, err);
    p->done = a.done;
    return rc ? rc : CUDA_TRY(err, cudaMemcpyAsync(t->anchor_state, t->state[t->c->n_layers], bytes, cudaMemcpyDeviceToDevice, t->stream));
}

/* Exits to losses; with back, to gradients. */
static int queue(struct train_pass *p, const struct train_exit *exits, int n, bool back, struct error *err)
{
    const struct train_depths d = train_depths(p->t->c, exits, n);
    p->total = (uint64_t)((d.anchor ? p->t->c->n_layers : 0) + d.forward + (back ? d.back : 0));
    int rc = cuda_train_prepare(p, back, err);
    if (!rc && d.anchor)
        rc = run_anchor(p, err);
    if (!rc)
        rc = cuda_train_forward(p, d.forward, err);
    if (!rc)
        rc = cuda_train_losses(p, exits, n, back, err);
    return rc || !back ? rc : cuda_train_backward(p, exits, n, err);
}

static int run(struct trainer *t, const struct train_batch *b, const struct train_exit *exits, int n, bool back, struct train_result *out, struct error *err)
{
    struct train_pass p = {.t = t, .weights = {t->half, t->weight + t->lay.n_matrices}, .b = b};
    int rc = CUDA_TRY(err, cudaSetDevice(t->o.ordinal));
    if (!rc)
        rc = queue(&p, exits, n, back, err);
    if (!rc)
        return cuda_train_results(&p, exits, n, out, err);
    cudaStreamSynchronize(t->stream); /* the batch's numbers may be on their way still */
    return rc;
}

static int backward(struct trainer *t, const struct train_batch *b, const struct train_exit *exits, int n_exits, struct train_result *out, struct error *err)
{
    int rc = n_exits >= 1 && n_exits <= t->max_exits ? 0 : fail(err, ERR_USAGE, "%d exits: this trainer was opened for 1 to %d", n_exits, t->max_exits);
    if (!rc)
        rc = train_check_batch(t->c, &t->o, b, err);
    if (!rc)
        rc = train_check_exits(t->c, &t->o, exits, n_exits, err);
    return rc ? rc : run(t, b, exits, n_exits, true, out, err);
}

static int evaluate(struct trainer *t, const struct train_batch *b, const int *layers, int n_layers, struct train_result *out, struct error *err)
{
    struct train_exit exits[TOTALS_MOST];
    int rc = n_layers >= 1 && n_layers <= TOTALS_MOST ? train_check_batch(t->c, &t->o, b, err) : fail(err, ERR_USAGE, "%d exits to evaluate: must be 1 to %d", n_layers, TOTALS_MOST);
    for (int i = 0; i < n_layers && !rc; i++)
        exits[i] = (struct train_exit){.layer = layers[i], .ce = 1, .kl = 1, .accept = 1, .anchor = t->anchor ? 1 : 0};
    if (!rc)
        rc = train_check_exits(t->c, &t->o, exits, n_layers, err);
    return rc ? rc : run(t, b, exits, n_layers, false, out, err);
}

/* A failure shows in the next call. */
static void clear(struct trainer *t)
{
    cudaSetDevice(t->o.ordinal);
    cudaMemsetAsync(t->gradient, 0, t->lay.n_weights * sizeof *t->gradient, t->stream);
}

const struct train_ops cuda_train = {
    .plan = plan,
    .open = open_trainer,
    .close = close_trainer,
    .n_tensors = n_tensors,
    .tensor = tensor,
    .get = get,
    .set = set,
    .backward = backward,
    .evaluate = evaluate,
    .clear = clear,
    .update = cuda_train_update,
};
