/* SPDX-License-Identifier: Apache-2.0 */
/* KV pages on the device, and the buffers of a pass. */
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "base/checked.h"

static int units_of(int columns) { return (columns + 127) / 128 * 4; }

static uint64_t plane_bytes(const struct config *c, const struct device_options *o)
{
    return (uint64_t)PAGE_SLOTS * (uint64_t)((c->head_dim + 7) / 8 * 8) * (o->kv_f32 ? 4 : 2);
}

static uint64_t page_bytes(const struct config *c, const struct device_options *o) { return plane_bytes(c, o) * 2 * (uint64_t)c->n_kv_heads * (uint64_t)c->n_layers; }

uint64_t cuda_kv_bytes(const struct model *m, const struct device_options *o)
{
    uint64_t bytes;
    return mul_u64(page_bytes(&m->config, o), (uint64_t)pages_of(o->n_slots) * (uint64_t)o->n_seqs, &bytes) ? UINT64_MAX : bytes;
}

/* ---- scratch: one table of buffers serves both the plan and the allocation ---- */

struct buffer {
    void **where;
    uint64_t bytes;
};

enum { N_BUFFERS = 20 };

/* kv may be NULL: only sizes are wanted. */
static void list_buffers(struct buffer *b, struct kv *kv, const struct config *c, const struct device_options *o)
{
    static void *nowhere;
    const uint64_t rows = STEP_ROWS, state = (uint64_t)(c->hidden + 15) / 16 * 16, heads = (uint64_t)c->n_heads, pad = (uint64_t)(c->head_dim + 7) / 8 * 8;
    const uint64_t vocab = ((uint64_t)c->vocab + 15) / 16 * 16, chunks = (uint64_t)chunk_of(o->n_slots - 1) + 1, x = rows * 32 * 4;
    int i = 0;
#define BUFFER(field, size) b[i++] = (struct buffer){kv ? (void **)&kv->field : &nowhere, (size)}
    BUFFER(table, (uint64_t)o->n_seqs * (uint64_t)pages_of(o->n_slots) * 4);
    BUFFER(state, (uint64_t)o->n_hidden * state * 4);
    BUFFER(x_hidden, x * (uint64_t)units_of(c->hidden));
    BUFFER(x_heads, x * (uint64_t)units_of(c->n_heads * c->head_dim));
    BUFFER(x_ffn, x * (uint64_t)units_of(c->ffn));
    BUFFER(q, rows * heads * pad * 4);
    BUFFER(angle, (uint64_t)o->n_slots * (uint64_t)c->head_dim * 4);
    BUFFER(square, rows * state / 16 * 4);
    BUFFER(scale, rows * 4);
    BUFFER(part, rows * heads * chunks * (pad + 2) * 4);
    BUFFER(gate, rows * ((uint64_t)c->ffn + 15) / 16 * 16 * 4);
    BUFFER(logits, rows * vocab * 4);
    BUFFER(tile_max, rows * vocab / 16 * 4);
    BUFFER(edited, rows * vocab * 4);
    BUFFER(raw, rows * sizeof(struct raw));
    BUFFER(edits, vocab * sizeof(struct edit));
    BUFFER(allow, rows * ((vocab + 31) / 32) * 4);
    BUFFER(picks, STEPS_MAX * rows * sizeof(struct pick));
    BUFFER(step, STEPS_MAX * sizeof(struct step));
    BUFFER(moves, STEP_ROWS * 4 * sizeof(int32_t));
#undef BUFFER
}

uint64_t cuda_scratch_bytes(const struct model *m, const struct device_options *o)
{
    struct buffer b[N_BUFFERS];
    uint64_t sum = cuda_prefill_bytes(m, o);
    list_buffers(b, NULL, &m->config, o);
    for (int i = 0; i < N_BUFFERS; i++)
        sum += (b[i].bytes + 255) / 256 * 256;
    return sum;
}

static void set_shape(struct kv *kv)
{
    const struct config *c = kv->d->c;
    kv->hidden_units = units_of(c->hidden);
    kv->heads_units = units_of(c->n_heads * c->head_dim);
    kv->ffn_units = units_of(c->ffn);
    kv->max_chunks = chunk_of(kv->d->o.n_slots - 1) + 1;
    kv->logits_stride = (c->vocab + 15) / 16 * 16;
    kv->shape = (struct kv_shape){
        .page_bytes = page_bytes(c, &kv->d->o), .n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads, .n_heads = c->n_heads, .head_dim = c->head_dim,
        .head_pad = kv->d->head_pad, .pages_per_seq = pages_of(kv->d->o.n_slots), .f32 = kv->d->o.kv_f32};
}

/* A shared page that is about to be written gets a copy, in the order of the stream. */
static int copy_page(void *arg, int to, int from, struct error *err)
{
    struct kv *kv = arg;
    size_t n = kv->shape.page_bytes;
    return CUDA_TRY(err, cudaMemcpyAsync(kv->shape.pages + (size_t)to * n, kv->shape.pages + (size_t)from * n, n, cudaMemcpyDeviceToDevice, kv->d->stream));
}

static int take_memory(struct kv *kv, struct error *err)
{
    const struct device_options *o = &kv->d->o;
    struct buffer b[N_BUFFERS];
    list_buffers(b, kv, kv->d->c, o);
    for (int i = 0; i < N_BUFFERS; i++)
        if (!(*b[i].where = cuda_take(&kv->memory, b[i].bytes, true, "a buffer of activations", err)))
            return err ? err->code : ERR_OS;
    kv->shape.pages = cuda_take(&kv->memory, cuda_kv_bytes(kv->d->model, o), true, "the KV cache", err);
    if (!kv->shape.pages)
        return err ? err->code : ERR_OS;
    kv->shape.table = kv->table;
    kv->table_stale = arena_array(&kv->arena, (uint64_t)o->n_seqs, sizeof *kv->table_stale);
    if (!kv->table_stale)
        return fail(err, ERR_OS, "out of memory");
    int rc = pages_open(&kv->pages, &kv->arena, o->n_seqs, o->n_slots, copy_page, kv, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaHostAlloc((void **)&kv->ring, STEP_RING * sizeof *kv->ring, cudaHostAllocDefault));
    if (!rc)
        rc = CUDA_TRY(err, cudaHostAlloc((void **)&kv->picks_pinned, STEPS_MAX * STEP_ROWS * sizeof *kv->picks_pinned, cudaHostAllocDefault));
    if (!rc)
        rc = CUDA_TRY(err, cuda_angles((struct launch){.stream = kv->d->stream, .chain = false}, kv->angle, kv->d->inv_freq, o->n_slots, kv->d->c->head_dim / 2));
    return rc;
}

struct kv *cuda_kv_open(struct device *d, struct error *err)
{
    struct error e = {0};
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv) {
        fail(err, ERR_OS, "out of memory");
        return NULL;
    }
    kv->d = d;
    set_shape(kv);
    int rc = CUDA_TRY(&e, cudaSetDevice(d->ordinal));
    if (!rc)
        rc = take_memory(kv, &e);
    if (!rc)
        rc = cuda_prefill_open(kv, &e);
    if (!rc)
        return kv;
    if (err)
        *err = e;
    cuda_kv_close(kv);
    return NULL;
}

void cuda_kv_close(struct kv *kv)
{
    if (!kv)
        return;
    cudaSetDevice(kv->d->ordinal);
    cudaStreamSynchronize(kv->d->stream);
    cuda_prefill_close(kv);
    for (int i = 0; i < kv->n_graphs; i++)
        cudaGraphExecDestroy(kv->graph[i].exec);
    if (kv->ring)
        cudaFreeHost(kv->ring);
    if (kv->picks_pinned)
        cudaFreeHost(kv->picks_pinned);
    cuda_give_back(&kv->memory);
    arena_free(&kv->arena);
    free(kv);
}

int cuda_seq_share(struct kv *kv, int from, int to, int n_slots, struct error *err)
{
    int rc = cuda_flush(kv, err);
    kv->table_stale[to] = true;
    return rc ? rc : pages_share(&kv->pages, from, to, n_slots, err);
}

/* The list of a timeline's pages; from pageable memory, which has been read when the call returns. */
static int upload_table(struct kv *kv, int seq, struct error *err)
{
    const struct page_list *s = &kv->pages.seq[seq];
    if (!kv->table_stale[seq] || s->n_pages == 0)
        return 0;
    int rc = CUDA_TRY(err, cudaMemcpyAsync(kv->table + (size_t)seq * (size_t)kv->pages.pages_per_seq, s->page, (size_t)s->n_pages * 4, cudaMemcpyHostToDevice, kv->d->stream));
    kv->table_stale[seq] = rc != 0;
    return rc;
}

int cuda_kv_reserve(struct kv *kv, const struct row *rows, int n, struct error *err)
{
    for (int i = 0; i < n; i++) {
        int rc = pages_reserve(&kv->pages, rows[i].seq, rows[i].slot, err);
        if (rc < 0)
            return rc;
        kv->table_stale[rows[i].seq] |= rc > 0;
    }
    for (int i = 0; i < n; i++) {
        int rc = upload_table(kv, rows[i].seq, err);
        if (rc)
            return rc;
    }
    return 0;
}

int cuda_kv_move(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err)
{
    const struct page_list *s = &kv->pages.seq[seq];
    int32_t moves[STEP_ROWS][4];
    int m = 0, rc = cuda_flush(kv, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaSetDevice(kv->d->ordinal));
    if (rc)
        return rc;
    if (n > STEP_ROWS)
        return fail(err, ERR_INTERNAL, "%d slots to move", n);
    for (int i = 0; i < n; i++) {
        if (src[i] == dst + i)
            continue;
        rc = pages_reserve(&kv->pages, seq, dst + i, err);
        if (rc < 0)
            return rc;
        kv->table_stale[seq] |= rc > 0;
        int32_t *to = moves[m++];
        to[0] = s->page[(dst + i) / KV_PAGE];
        to[1] = (dst + i) % KV_PAGE;
        to[2] = s->page[src[i] / KV_PAGE];
        to[3] = src[i] % KV_PAGE;
    }
    if (!m)
        return 0;
    rc = CUDA_TRY(err, cudaMemcpyAsync(kv->moves, moves, (size_t)m * sizeof *moves, cudaMemcpyHostToDevice, kv->d->stream));
    return rc ? rc : CUDA_TRY(err, cuda_move_slots((struct launch){.stream = kv->d->stream, .chain = false}, kv->shape, kv->moves, m));
}
