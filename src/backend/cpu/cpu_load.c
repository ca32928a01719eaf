/* SPDX-License-Identifier: Apache-2.0 */
/* From views in a file to packed weights: sizes first, one allocation, then all threads read, convert and pack. Fresh pages are cleared by the kernel when
   they are touched, 2 MiB at a time, and one thread waits while another clears the same: so a thread takes a chunk of several such pages, and goes through it
   in pieces that stay in its cache between reading and packing. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/cpu.h"
#include "backend/weights.h"
#include "base/checked.h"

enum { CHUNK_BYTES = 4 << 20, PIECE_BYTES = 1 << 18 }; /* of a file: what a thread takes at a time; what it reads at a time, at least one block */

/* One matrix to load. */
struct item {
    const struct view *v;
    const int32_t *row;        /* as in struct weight */
    struct matrix *m;
    enum dtype type;           /* as packed */
    int chunk_blocks, piece_blocks, first_chunk;
};

struct load {
    struct device *d;
    struct item *item;
    int n_items, n_chunks;
    size_t staging; /* bytes that a piece needs */
    uint64_t total;
    atomic_int next, failed;
    atomic_ullong done;
    struct error *err; /* [threads] */
};

static int shape_item(struct item *it, const struct weight *w, struct matrix *m, struct error *err)
{
    const struct view *v = w->v;
    *it = (struct item){.v = v, .row = w->row, .m = m, .type = w->type};
    matrix_shape(m, matrix_kind_of(it->type), w->row ? w->n_rows : (int)v->dim[0], (int)v->dim[1]);
    if (!matrix_bytes(m->kind, m->rows, m->cols))
        return fail(err, ERR_CONFIG, "tensor %s is too large: %llu x %llu", v->file_name, (unsigned long long)v->dim[0], (unsigned long long)v->dim[1]);
    return 0;
}

static struct matrix *layer_matrix(struct cpu_layer *l, enum layer_weight w)
{
    switch (w) {
    case W_Q: return &l->q;
    case W_K: return &l->k;
    case W_V: return &l->v;
    case W_O: return &l->o;
    case W_GATE: return &l->gate;
    case W_UP: return &l->up;
    case W_DOWN: return &l->down;
    default: return NULL;
    }
}

static uint64_t item_bytes(const struct item *it) { return matrix_bytes(it->m->kind, it->m->rows, it->m->cols); }

/* Matrices that are no layer's. */
struct ends {
    struct matrix *embed, *head, *draft_head;
};

/* All matrices of the model, shapes set; list and items have room for WEIGHTS_MOST. */
static int list_items(const struct model *m, const struct device_options *o, struct cpu_layer *layer, const struct ends *ends, struct weight *list, struct item *items, struct error *err)
{
    int n = weights_list(m, o->weights, list, err), rc = n < 0 ? n : 0;
    n = rc ? rc : weights_add_draft_head(list, n, o);
    for (int i = 0; i < n && !rc; i++) {
        struct weight *w = &list[i];
        struct cpu_layer *l = w->is_head ? NULL : &layer[w->layer];
        struct matrix *to = l ? layer_matrix(l, w->which) : w->row ? ends->draft_head : i == m->config.n_layers * LAYER_MATRICES ? ends->embed : ends->head;
        rc = shape_item(&items[i], w, to, err);
        w->bytes = rc ? 0 : item_bytes(&items[i]);
        if (l)
            l->bytes += w->bytes;
    }
    return rc ? rc : n;
}

/* ---- plan ---- */

/* Norms and biases. */
static uint64_t small_bytes(const struct model *m)
{
    uint64_t sum = 0;
    for (int i = 0; i < m->file->n_views; i++)
        if (m->file->view[i].rank == 1)
            sum += (uint64_t)pad16((int)m->file->view[i].dim[0]) * 4;
    return sum;
}

static void fill_plan(const struct model *m, const struct device_options *o, const struct weight *list, int n, const struct cpu_layer *layer, int threads, struct device_plan *out)
{
    int n_draft = o->n_draft_tokens > 0;
    out->weights = small_bytes(m);
    for (int i = 0; i < n; i++)
        out->weights += list[i].bytes;
    for (int l = 0; l < m->config.n_layers; l++)
        out->layer_bytes += layer[l].bytes;
    out->layer_bytes /= (uint64_t)m->config.n_layers;
    out->head_bytes = list[n - 1 - n_draft].bytes;
    out->draft_head_bytes = n_draft ? list[n - 1].bytes : 0;
    weights_describe(list, n, o->weights, out);
    out->kv = cpu_kv_bytes(&m->config, o);
    out->scratch = cpu_scratch_bytes(&m->config, o, threads);
    out->hidden_row = (uint64_t)pad16(m->config.hidden) * 4;
    out->threads = threads;
}

int cpu_plan(const struct model *m, const struct device_options *o, struct device_plan *out, struct error *err)
{
    struct arena a = {0};
    struct cpu_layer *layer = arena_array(&a, (uint64_t)m->config.n_layers, sizeof *layer);
    uint64_t most = WEIGHTS_MOST(m->config.n_layers);
    struct weight *list = arena_array(&a, most, sizeof *list);
    struct item *items = arena_array(&a, most, sizeof *items);
    struct matrix embed, head, draft_head;
    const struct kernels *kernels;
    const struct ops *ops;
    int rc = cpu_find_kernels(o->kernels, &kernels, &ops, err);
    *out = (struct device_plan){.kernels = rc ? "" : kernels->name};
    if (!rc && (!layer || !list || !items))
        rc = fail(err, ERR_OS, "out of memory");
    int n = rc ? rc : list_items(m, o, layer, &(struct ends){&embed, &head, &draft_head}, list, items, err);
    if (n >= 0)
        fill_plan(m, o, list, n, layer, o->threads > 0 ? o->threads : pool_default_threads(), out);
    arena_free(&a);
    return n < 0 ? n : 0;
}

/* ---- load ---- */

static const struct item *item_of_chunk(const struct load *ld, int chunk)
{
    int lo = 0, hi = ld->n_items - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (ld->item[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &ld->item[lo];
}

/* Rows in the file's type become rows of the packed type, in place of the conversion buffer. */
static const uint8_t *convert_rows(const struct item *it, const uint8_t *src, int rows, float *wide, uint8_t *to)
{
    if (it->type == it->v->type)
        return src;
    uint64_t cols = it->v->dim[1], in = dtype_row_bytes(it->v->type, cols), out = dtype_row_bytes(it->type, cols);
    for (int r = 0; r < rows; r++) {
        dtype_to_f32(it->v->type, src + (uint64_t)r * in, wide, cols);
        dtype_from_f32(it->type, wide, to + (uint64_t)r * out, cols);
    }
    return to;
}

/* Blocks from..to of an item. */
static int load_piece(const struct load *ld, const struct item *it, int from, int to, uint8_t *staging, struct error *err)
{
    struct matrix *m = it->m;
    int row = from * MATRIX_ROWS, rows = (to * MATRIX_ROWS < m->rows ? to * MATRIX_ROWS : m->rows) - row;
    uint64_t in = dtype_row_bytes(it->v->type, it->v->dim[1]), out = dtype_row_bytes(it->type, it->v->dim[1]);
    int rc = weights_read_rows(ld->d->model->file, it->v, it->row, row, rows, staging, err);
    if (rc)
        return rc;
    size_t most = (size_t)it->piece_blocks * MATRIX_ROWS;
    float *wide = (float *)(staging + (most * in + 63) / 64 * 64);
    uint8_t *converted = (uint8_t *)wide + (it->v->dim[1] * 4 + 63) / 64 * 64;
    const uint8_t *src = convert_rows(it, staging, rows, wide, converted);
    for (int b = from; b < to; b++)
        matrix_pack_block(m, b, it->type, src + (uint64_t)(b - from) * MATRIX_ROWS * out, (size_t)out);
    return 0;
}

static int load_chunk(const struct load *ld, const struct item *it, int chunk, uint8_t *staging, struct error *err)
{
    int from = (chunk - it->first_chunk) * it->chunk_blocks, end = from + it->chunk_blocks, rc = 0;
    end = end < it->m->blocks ? end : it->m->blocks;
    for (int to; from < end && !rc; from = to) {
        to = from + it->piece_blocks < end ? from + it->piece_blocks : end;
        rc = load_piece(ld, it, from, to, staging, err);
    }
    return rc;
}

static void load_job(void *arg, int worker, int n_workers)
{
    struct load *ld = arg;
    (void)n_workers;
    uint8_t *staging = aligned_alloc(64, (ld->staging + 63) / 64 * 64);
    if (!staging) {
        fail(&ld->err[worker], ERR_OS, "out of memory for a staging buffer of %zu bytes", ld->staging);
        atomic_store(&ld->failed, 1);
        return;
    }
    for (int chunk; !atomic_load(&ld->failed) && (chunk = atomic_fetch_add(&ld->next, 1)) < ld->n_chunks;) {
        const struct item *it = item_of_chunk(ld, chunk);
        if (load_chunk(ld, it, chunk, staging, &ld->err[worker]))
            atomic_store(&ld->failed, 1);
        unsigned long long part = (unsigned long long)it->chunk_blocks * MATRIX_ROWS * dtype_row_bytes(it->v->type, it->v->dim[1]);
        unsigned long long done = atomic_fetch_add(&ld->done, part) + part;
        if (worker == 0 && ld->d->o.progress && ld->d->o.progress(ld->d->o.progress_ud, "loading", done < ld->total ? done : ld->total, ld->total)) {
            fail(&ld->err[worker], ERR_USAGE, "loading was stopped");
            atomic_store(&ld->failed, 1);
        }
    }
    free(staging);
}

/* Blocks that so many bytes of a file make: at least one, at most all. */
static int blocks_of(const struct item *it, uint64_t bytes)
{
    uint64_t n = bytes / (dtype_row_bytes(it->v->type, it->v->dim[1]) * MATRIX_ROWS);
    return n < 1 ? 1 : n > (uint64_t)it->m->blocks ? it->m->blocks : (int)n;
}

/* Chunks of each item, and the staging that the largest piece needs: rows as read, one row widened, rows as converted. */
static void cut_chunks(struct load *ld)
{
    for (int i = 0; i < ld->n_items; i++) {
        struct item *it = &ld->item[i];
        uint64_t in = dtype_row_bytes(it->v->type, it->v->dim[1]), out = dtype_row_bytes(it->type, it->v->dim[1]);
        it->chunk_blocks = blocks_of(it, CHUNK_BYTES);
        it->piece_blocks = blocks_of(it, PIECE_BYTES);
        it->first_chunk = ld->n_chunks;
        ld->n_chunks += (it->m->blocks + it->chunk_blocks - 1) / it->chunk_blocks;
        ld->total += (uint64_t)it->m->rows * in;
        size_t need = (size_t)it->piece_blocks * MATRIX_ROWS * (in + (it->type == it->v->type ? 0 : out)) + it->v->dim[1] * 4 + 192;
        if (need > ld->staging)
            ld->staging = need;
    }
}

static int take_weights(struct device *d, struct item *items, int n, struct error *err)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        if (add_size(bytes, item_bytes(&items[i]), &bytes))
            return fail(err, ERR_OS, "the weights are larger than the address space");
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return fail(err, ERR_OS, "out of memory: the weights need %zu bytes; --weights q8 or q4 needs less", bytes);
    madvise(p, bytes, MADV_HUGEPAGE); /* speed only */
    d->weights = p;
    d->weights_bytes = bytes;
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        items[i].m->data = d->weights + at;
        at += item_bytes(&items[i]);
    }
    return 0;
}

/* A norm or a bias as padded f32; NULL view: nothing to do. */
static int load_vector(struct device *d, const struct view *v, float **out, struct error *err)
{
    if (!v)
        return 0;
    uint64_t n = v->dim[0] * v->dim[1];
    *out = arena_array(&d->arena, (uint64_t)pad16((int)n), sizeof **out);
    uint8_t *raw = malloc(v->bytes ? v->bytes : 1);
    int rc = *out && raw ? checkpoint_read_rows(d->model->file, v, 0, v->dim[0], raw, err) : fail(err, ERR_OS, "out of memory");
    if (!rc)
        dtype_to_f32(v->type, raw, *out, n);
    free(raw);
    return rc;
}

static int load_vectors(struct device *d, struct error *err)
{
    int rc = load_vector(d, checkpoint_find(d->model->file, "norm"), &d->norm, err);
    for (int l = 0; l < d->c->n_layers && !rc; l++) {
        struct cpu_layer *to = &d->layer[l];
        float **bias[W_COUNT] = {[W_Q] = &to->q_bias, [W_K] = &to->k_bias, [W_V] = &to->v_bias, [W_O] = &to->o_bias,
                                 [W_GATE] = &to->gate_bias, [W_UP] = &to->up_bias, [W_DOWN] = &to->down_bias};
        rc = load_vector(d, model_weight(d->model, l, W_ATTN_NORM), &to->attn_norm, err);
        if (!rc)
            rc = load_vector(d, model_weight(d->model, l, W_FFN_NORM), &to->ffn_norm, err);
        for (int w = 0; w < W_COUNT && !rc; w++)
            if (bias[w])
                rc = load_vector(d, model_bias(d->model, l, (enum layer_weight)w), bias[w], err);
    }
    return rc;
}

static int run_load(struct load *ld, struct error *err)
{
    pool_run(ld->d->pool, load_job, ld);
    for (int i = 0; i < pool_threads(ld->d->pool); i++)
        if (ld->err[i].code) {
            *err = ld->err[i];
            return err->code;
        }
    return 0;
}

int cpu_load(struct device *d, struct error *err)
{
    const struct config *c = d->c;
    d->layer = arena_array(&d->arena, (uint64_t)c->n_layers, sizeof *d->layer);
    d->inv_freq = arena_array(&d->arena, (uint64_t)c->head_dim / 2, sizeof *d->inv_freq);
    struct arena a = {0};
    struct load ld = {.d = d, .item = arena_array(&a, WEIGHTS_MOST(c->n_layers), sizeof *ld.item)};
    struct weight *list = arena_array(&a, WEIGHTS_MOST(c->n_layers), sizeof *list);
    ld.err = arena_array(&a, (uint64_t)pool_threads(d->pool), sizeof *ld.err);
    int rc = d->layer && d->inv_freq && list && ld.item && ld.err ? 0 : fail(err, ERR_OS, "out of memory");
    if (!rc)
        rc = ld.n_items = list_items(d->model, &d->o, d->layer, &(struct ends){&d->embed, &d->head, &d->draft_head}, list, ld.item, err);
    if (rc >= 0)
        rc = take_weights(d, ld.item, ld.n_items, err);
    if (!rc) {
        cut_chunks(&ld);
        struct error why = {0};
        rc = run_load(&ld, &why);
        if (rc && err)
            *err = why;
    }
    if (!rc && c->tied)
        d->head = d->embed;
    if (!rc)
        rc = load_vectors(d, err);
    if (!rc)
        rc = model_frequencies(d->model, d->inv_freq, err);
    arena_free(&a);
    return rc;
}
