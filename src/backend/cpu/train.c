/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU's trainer, in f32: opening, tensors in and out, and the calls of a step with their checks. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/trainer.h"

enum { READ_BYTES = 1 << 20 }; /* of a file at a time, at least one row */

/* ---- open ---- */

static int plan(const struct model *m, const struct train_options *o, struct train_plan *out, struct error *err)
{
    struct trainer t;
    int rc = train_lay_out(&t, m, o, out, err);
    arena_free(&t.arena);
    return rc;
}

static void close_trainer(struct trainer *t)
{
    if (!t)
        return;
    pool_close(t->pool);
    if (t->memory)
        munmap(t->memory, (size_t)t->memory_bytes);
    arena_free(&t->arena);
    free(t);
}

static int take_memory(struct trainer *t, struct error *err)
{
    void *p = mmap(NULL, (size_t)t->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return fail(err, ERR_OS, "out of memory: training needs %llu bytes; a smaller batch, a shorter length or recomputed activations need less", (unsigned long long)t->memory_bytes);
    madvise(p, (size_t)t->memory_bytes, MADV_HUGEPAGE); /* speed only */
    train_place(t, p);
    return 0;
}

/* One tensor as f32, some rows at a time. */
static int load_item(struct trainer *t, const struct train_item *it, struct error *err)
{
    const struct view *v = it->view;
    uint64_t row = view_row_bytes(v), some = READ_BYTES / row ? READ_BYTES / row : 1;
    uint8_t *raw = malloc(some * row);
    int rc = raw ? 0 : fail(err, ERR_OS, "out of memory");
    for (uint64_t r = 0; r < v->dim[0] && !rc; r += some) {
        uint64_t n = v->dim[0] - r < some ? v->dim[0] - r : some;
        rc = checkpoint_read_rows(t->model->file, v, r, n, raw, err);
        if (!rc)
            dtype_to_f32(v->type, raw, t->weight + it->at + r * v->dim[1], n * v->dim[1]);
    }
    free(raw);
    return rc;
}

static int load(struct trainer *t, struct error *err)
{
    int rc = 0;
    for (int i = 0; i < t->lay.n_items && !rc; i++) {
        rc = load_item(t, &t->lay.item[i], err);
        if (!rc && t->o.progress && t->o.progress(t->o.progress_ud, "loading", (uint64_t)i + 1, (uint64_t)t->lay.n_items))
            rc = fail(err, ERR_USAGE, "loading was stopped");
    }
    t->stale = true;
    if (!rc && t->anchor)
        memcpy(t->anchor, t->weight, t->lay.n_weights * sizeof *t->anchor);
    return rc;
}

static struct trainer *open_trainer(const struct model *m, const struct train_options *o, struct error *err)
{
    struct trainer *t = calloc(1, sizeof *t);
    struct train_plan sizes;
    if (!t) {
        fail(err, ERR_OS, "out of memory");
        return NULL;
    }
    int rc = train_lay_out(t, m, o, &sizes, err);
    if (!rc)
        rc = gemm_open(&t->gemm, GEMM_LIBRARY, err);
    t->ops = ops_pick(NULL);
    t->rows = train_rows_pick(NULL);
    if (!rc)
        rc = model_frequencies(m, t->inv_freq, err);
    if (rc || !(t->pool = pool_open(t->threads, err)) || take_memory(t, err) || load(t, err)) {
        close_trainer(t);
        return NULL;
    }
    train_angles(t);
    return t;
}

/* ---- tensors ---- */

static int n_tensors(const struct trainer *t) { return t->lay.n_items; }

static struct train_tensor tensor(const struct trainer *t, int i) { return t->lay.item[i].is; }

/* Where a tensor's numbers are, and how many bytes; NULL: there is none of that number or kind. */
static float *numbers(const struct trainer *t, int i, enum train_state what, size_t *bytes, struct error *err)
{
    float *const arrays[] = {[TRAIN_WEIGHT] = t->weight, [TRAIN_GRADIENT] = t->gradient, [TRAIN_MOMENT1] = t->moment1, [TRAIN_MOMENT2] = t->moment2};
    if (i < 0 || i >= t->lay.n_items || (size_t)what >= sizeof arrays / sizeof *arrays) {
        fail(err, ERR_INTERNAL, "tensor %d of %d, kind %d", i, t->lay.n_items, (int)what);
        return NULL;
    }
    *bytes = (size_t)t->lay.item[i].is.rows * (size_t)t->lay.item[i].is.cols * sizeof(float);
    return arrays[what] + t->lay.item[i].at;
}

static int get(struct trainer *t, int i, enum train_state what, float *out, struct error *err)
{
    size_t bytes;
    const float *from = numbers(t, i, what, &bytes, err);
    if (!from)
        return ERR_INTERNAL;
    memcpy(out, from, bytes);
    return 0;
}

static int set(struct trainer *t, int i, enum train_state what, const float *in, struct error *err)
{
    size_t bytes;
    float *to = numbers(t, i, what, &bytes, err);
    if (!to)
        return ERR_INTERNAL;
    memcpy(to, in, bytes);
    t->stale = true;
    return 0;
}

/* ---- steps ---- */

enum { FIT_ROWS = 64 };

struct fitting {
    struct trainer *t;
    const struct train_item *it;
    enum dtype type;
};

/* Rows of a matrix as they come out of its type. */
static void fit_rows(void *ctx, int i, int worker)
{
    const struct fitting *f = ctx;
    const int64_t cols = f->it->is.cols, last = (int64_t)(i + 1) * FIT_ROWS < f->it->is.rows ? (int64_t)(i + 1) * FIT_ROWS : f->it->is.rows;
    (void)worker;
    for (int64_t r = (int64_t)i * FIT_ROWS; r < last; r++)
        for (int64_t c = 0; c < cols; c += 32) {
            uint8_t block[34];
            size_t at = f->it->at + (size_t)(r * cols + c);
            dtype_from_f32(f->type, f->t->weight + at, block, 32);
            dtype_to_f32(f->type, block, f->t->fitted + at, 32);
        }
}

static const float *seen_weights(struct trainer *t)
{
    if (!t->fitted)
        return t->weight;
    for (int i = 0; i < t->lay.n_items && t->stale; i++) {
        const struct train_item *it = &t->lay.item[i];
        struct fitting f = {t, it, train_fit_type(&t->o, it->view)};
        if (f.type == DT_F32)
            memcpy(t->fitted + it->at, t->weight + it->at, (size_t)it->is.rows * (size_t)it->is.cols * sizeof(float));
        else
            pool_each(t->pool, (int)((it->is.rows + FIT_ROWS - 1) / FIT_ROWS), 4, fit_rows, &f);
    }
    t->stale = false;
    return t->fitted;
}

/* The anchor's last state; its pass needs no memory of its own but this, since it comes first. */
static int run_anchor(struct train_pass *p, struct error *err)
{
    struct trainer *t = p->t;
    struct train_pass a = *p;
    a.weights = t->anchor;
    a.keep = NULL;
    int rc = train_forward(&a, t->c->n_layers, err);
    p->done = a.done;
    memcpy(t->anchor_state, t->state[t->c->n_layers], (size_t)(p->b->n * p->b->length) * (size_t)t->hidden_pad * sizeof *t->anchor_state);
    return rc;
}

/* Exits to losses; with back, to gradients. */
static int run(struct trainer *t, const struct train_batch *b, const struct train_exit *exits, int n, bool back, struct train_result *out, struct error *err)
{
    const struct train_depths d = train_depths(t->c, exits, n);
    struct train_pass p = {.t = t, .weights = seen_weights(t), .b = b, .keep = back ? b->keep : NULL};
    p.total = (uint64_t)((d.anchor ? t->c->n_layers : 0) + d.forward + (back ? d.back : 0));
    int rc = d.anchor ? run_anchor(&p, err) : 0;
    if (!rc)
        rc = train_forward(&p, d.forward, err);
    if (!rc)
        rc = train_losses(&p, exits, n, back, out, err);
    return rc || !back ? rc : train_backward(&p, exits, n, err);
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
    int rc = n_layers >= 1 ? train_check_batch(t->c, &t->o, b, err) : fail(err, ERR_USAGE, "%d exits to evaluate: must be at least 1", n_layers);
    if (rc)
        return rc;
    struct train_exit *exits = calloc((size_t)n_layers, sizeof *exits);
    if (!exits)
        return fail(err, ERR_OS, "out of memory");
    for (int i = 0; i < n_layers; i++)
        exits[i] = (struct train_exit){.layer = layers[i], .ce = 1, .kl = 1, .accept = 1, .anchor = t->anchor ? 1 : 0};
    rc = train_check_exits(t->c, &t->o, exits, n_layers, err);
    if (!rc)
        rc = run(t, b, exits, n_layers, false, out, err);
    free(exits);
    return rc;
}

static void clear(struct trainer *t) { memset(t->gradient, 0, t->lay.n_weights * sizeof *t->gradient); }

const struct train_ops cpu_train = {
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
    .update = train_update,
};
