/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts: many rows of one timeline through layers [0, last). A chunk of rows takes seven kernels a layer, one after the other on the device's stream; the host
   only queues them. Of the last layer nothing but K and V is wanted: hidden states are not kept. */
#include <math.h>
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/prefill.h"

struct prefill {
    int rows;      /* of a chunk at most, a multiple of PREFILL_TILE: also the stride of all buffers */
    int clusters;
    float *state;  /* [rows][state_stride] */
    float *angle;  /* [head_dim / 2][rows][2] */
    uint16_t *q;   /* [rows][n_heads][head_pad] */
    void *x_hidden, *x_heads, *x_ffn; /* [steps][rows][64] */
    float *gate;   /* gates of layers that have gate and up apart; or NULL */
    int32_t *token; /* [rows] */
    int32_t *token_host;
};

/* ---- memory ---- */

enum { B_STATE, B_ANGLE, B_Q, B_X_HIDDEN, B_X_HEADS, B_X_FFN, B_GATE, B_TOKEN, B_COUNT };

static int chunk_rows(int n_slots) { return n_slots >= PREFILL_ROWS ? PREFILL_ROWS : prefill_stride(n_slots); }

static void size_buffers(uint64_t size[B_COUNT], const struct config *c, int n_slots, bool apart)
{
    const uint64_t rows = (uint64_t)chunk_rows(n_slots), step = rows * PREFILL_STEP * 2;
    size[B_STATE] = rows * (uint64_t)((c->hidden + 15) / 16 * 16) * 4;
    size[B_ANGLE] = rows * (uint64_t)(c->head_dim / 2) * 8;
    size[B_Q] = rows * (uint64_t)c->n_heads * (uint64_t)((c->head_dim + 7) / 8 * 8) * 2;
    size[B_X_HIDDEN] = step * (uint64_t)prefill_steps(c->hidden);
    size[B_X_HEADS] = step * (uint64_t)prefill_steps(c->n_heads * c->head_dim);
    size[B_X_FFN] = step * (uint64_t)prefill_steps(c->ffn);
    size[B_GATE] = apart ? prefill_gate_bytes(c->ffn, (int)rows) : 0;
    size[B_TOKEN] = rows * sizeof(int32_t);
}

uint64_t cuda_prefill_bytes(const struct model *m, const struct device_options *o)
{
    uint64_t size[B_COUNT], sum = 0;
    bool apart = false;
    if (o->wide || o->kv_f32 || m->config.head_dim > 256)
        return 0;
    for (int l = 0; l < m->config.n_layers; l++)
        apart |= model_weight(m, l, W_GATE)->type != model_weight(m, l, W_UP)->type;
    size_buffers(size, &m->config, o->n_slots, apart);
    for (int i = 0; i < B_COUNT; i++)
        sum += (size[i] + 255) / 256 * 256;
    return sum;
}

/* The kernels know every kind of weights but f32, and would round an f32 cache to bf16, which is not what it was asked for. */
static bool can_serve(const struct device *d, bool *apart)
{
    bool good = d->prop.major == 9 && d->prop.minor == 0 && !d->x_f32 && !d->o.kv_f32 && d->c->head_dim <= 256;
    for (int l = 0; l < d->c->n_layers && good; l++) {
        const struct cuda_layer *y = &d->layer[l];
        for (int i = 0; i < y->n_qkv; i++)
            good &= y->qkv[i].kind != PACKED_F32;
        for (int i = 0; i < y->n_gate; i++)
            good &= y->gate[i].kind != PACKED_F32;
        good &= y->o.kind != PACKED_F32 && y->down.kind != PACKED_F32;
        *apart |= y->n_gate > 1;
    }
    return good;
}

int cuda_prefill_open(struct kv *kv, struct error *err)
{
    const struct device *d = kv->d;
    bool apart = false;
    if (!can_serve(d, &apart))
        return 0;
    struct prefill *p = calloc(1, sizeof *p);
    if (!p)
        return fail(err, ERR_OS, "out of memory");
    kv->prefill = p;
    p->rows = chunk_rows(d->o.n_slots);
    p->token_host = malloc((size_t)p->rows * sizeof *p->token_host);
    if (!p->token_host)
        return fail(err, ERR_OS, "out of memory");
    int rc = CUDA_TRY(err, prefill_prepare(&p->clusters));
    if (!rc)
        rc = CUDA_TRY(err, prefill_attend_prepare());
    uint64_t size[B_COUNT];
    void **where[B_COUNT] = {(void **)&p->state, (void **)&p->angle, (void **)&p->q, &p->x_hidden, &p->x_heads, &p->x_ffn, (void **)&p->gate, (void **)&p->token};
    size_buffers(size, d->c, d->o.n_slots, apart);
    /* Cleared: the padding of q and of activations is never written. */
    for (int i = 0; i < B_COUNT && !rc; i++)
        if (size[i] && !(*where[i] = cuda_take(&kv->memory, size[i], true, "a prompt's activations", err)))
            rc = err ? err->code : ERR_OS;
    if (!rc) /* that was in another stream */
        rc = CUDA_TRY(err, cudaDeviceSynchronize());
    return rc;
}

void cuda_prefill_close(struct kv *kv)
{
    if (!kv->prefill)
        return;
    free(kv->prefill->token_host);
    free(kv->prefill);
    kv->prefill = NULL;
}

/* ---- a chunk ---- */

struct chunk {
    struct kv *kv;
    const struct prefill *p;
    int n, pos0, seq;
};

static struct launch next_launch(const struct chunk *c) { return (struct launch){.stream = c->kv->d->stream, .chain = true}; }

static int start(const struct chunk *c, struct error *err)
{
    const struct device *d = c->kv->d;
    struct prefill_begin b = {.n = c->n, .stride = c->p->rows, .pos0 = c->pos0, .hidden = d->c->hidden, .half = d->c->head_dim / 2,
                              .state_stride = d->state_stride, .token = c->p->token, .embed = d->embed, .inv_freq = d->inv_freq, .state = c->p->state, .angle = c->p->angle};
    int rc = CUDA_TRY(err, cudaMemcpyAsync(c->p->token, c->p->token_host, (size_t)c->n * sizeof(int32_t), cudaMemcpyHostToDevice, d->stream));
    return rc ? rc : CUDA_TRY(err, prefill_begin((struct launch){.stream = d->stream, .chain = false}, &b));
}

static int norm(const struct chunk *c, const float *weight, struct error *err)
{
    const struct device *d = c->kv->d;
    struct prefill_norm r = {.n = c->n, .stride = c->p->rows, .hidden = d->c->hidden, .state_stride = d->state_stride, .eps = (float)d->c->norm_eps,
                             .state = c->p->state, .weight = weight, .x = c->p->x_hidden};
    return CUDA_TRY(err, prefill_norm(next_launch(c), &r));
}

static int multiply(const struct chunk *c, struct prefill_product *m, struct error *err)
{
    m->n = c->n;
    m->stride = c->p->rows;
    m->clusters = c->p->clusters;
    c->kv->bytes_read += packed_bytes(&m->w);
    return CUDA_TRY(err, prefill_product(next_launch(c), m));
}

/* q, k and v; the last layer needs no q: its heads come first, so they are left out of the matrix. */
static int project(const struct chunk *c, int layer, bool last, struct error *err)
{
    const struct device *d = c->kv->d;
    const struct cuda_layer *y = &d->layer[layer];
    const int heads[3] = {0, d->c->n_heads, d->c->n_heads + d->c->n_kv_heads}, skip = d->c->n_heads * ((d->c->head_dim / 2 + 7) / 8);
    int rc = 0;
    for (int i = last && y->n_qkv > 1; i < y->n_qkv && !rc; i++) {
        struct prefill_product m = {.w = y->qkv[i], .epilogue = EPI_HEADS, .x = c->p->x_hidden, .bias = y->qkv_bias[i], .head0 = heads[i], .layer = layer,
                                    .seq = c->seq, .pos0 = c->pos0, .angle = c->p->angle, .q = c->p->q, .kv = c->kv->shape};
        if (last && y->n_qkv == 1) {
            m.w.data += (size_t)skip * (size_t)m.w.units * m.w.unit_bytes;
            m.w.tiles -= skip;
            m.head0 = heads[1];
            m.bias = m.bias ? m.bias + skip * TILE_ROWS : NULL;
        }
        rc = multiply(c, &m, err);
    }
    return rc;
}

static int add(const struct chunk *c, struct packed w, const float *bias, const void *x, struct error *err)
{
    struct prefill_product m = {.w = w, .epilogue = EPI_ADD, .x = x, .bias = bias, .state = c->p->state, .state_stride = c->kv->d->state_stride};
    return multiply(c, &m, err);
}

static int attend(const struct chunk *c, int layer, struct error *err)
{
    const struct kv_shape kv = c->kv->shape;
    struct prefill_attend a = {.n = c->n, .stride = c->p->rows, .layer = layer, .seq = c->seq, .pos0 = c->pos0, .kv = kv, .q = c->p->q,
                               .scale = 1.0f / sqrtf((float)kv.head_dim), .x_out = c->p->x_heads};
    return CUDA_TRY(err, prefill_attend(next_launch(c), &a));
}

static int gate(const struct chunk *c, const struct cuda_layer *y, struct error *err)
{
    int rc = 0;
    for (int i = 0; i < y->n_gate && !rc; i++) {
        struct prefill_product m = {.w = y->gate[i], .epilogue = y->n_gate == 1 ? EPI_GATE : i == 0 ? EPI_STORE : EPI_GATE_UP, .x = c->p->x_hidden,
                                    .bias = y->gate_bias[i], .x_out = c->p->x_ffn, .gate = c->p->gate};
        rc = multiply(c, &m, err);
    }
    return rc;
}

static int walk_layers(const struct chunk *c, int last, struct error *err)
{
    int rc = start(c, err);
    for (int l = 0; l < last && !rc; l++) {
        const struct cuda_layer *y = &c->kv->d->layer[l];
        rc = norm(c, y->attn_norm, err);
        if (!rc)
            rc = project(c, l, l + 1 == last, err);
        if (rc || l + 1 == last)
            break;
        rc = attend(c, l, err);
        if (!rc)
            rc = add(c, y->o, y->o_bias, c->p->x_heads, err);
        if (!rc)
            rc = norm(c, y->ffn_norm, err);
        if (!rc)
            rc = gate(c, y, err);
        if (!rc)
            rc = add(c, y->down, y->down_bias, c->p->x_ffn, err);
    }
    return rc;
}

/* What may not be handed in; all of it would be our own bug, and none may corrupt memory. */
static int check(const struct kv *kv, int last, const struct row *rows, int n, struct error *err)
{
    const struct config *c = kv->d->c;
    if (last < 1 || last > c->n_layers)
        return fail(err, ERR_INTERNAL, "prefill of layers 0..%d of %d", last, c->n_layers);
    for (int i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        bool good = r->seq >= 0 && r->seq < kv->d->o.n_seqs && r->seq == rows[0].seq && kv->pages.seq[r->seq].open && r->pos == rows[0].pos + i && r->slot == r->pos &&
                    r->slot >= 0 && r->slot / KV_PAGE < kv->shape.pages_per_seq && r->token >= 0 && r->token < c->vocab;
        if (!good)
            return fail(err, ERR_INTERNAL, "row %d of %d of a prompt: token %d pos %d seq %d slot %d", i, n, r->token, r->pos, r->seq, r->slot);
    }
    if (n > 0 && (rows[0].pos + KV_PAGE - 1) / KV_PAGE > kv->pages.seq[rows[0].seq].n_pages)
        return fail(err, ERR_INTERNAL, "a prompt's rows from position %d on, but timeline %d ends before", rows[0].pos, rows[0].seq);
    return 0;
}

int cuda_prefill(struct kv *kv, int last, const struct row *rows, int n, struct error *err)
{
    if (!kv->prefill)
        return cuda_forward(kv, 0, last, rows, n, err);
    int rc = check(kv, last, rows, n, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaSetDevice(kv->d->ordinal));
    if (!rc)
        rc = cuda_flush(kv, err);
    for (int at = 0; at < n && !rc; at += kv->prefill->rows) {
        const struct prefill *p = kv->prefill;
        struct chunk c = {.kv = kv, .p = p, .n = n - at < p->rows ? n - at : p->rows, .pos0 = rows[at].pos, .seq = rows[at].seq};
        for (int i = 0; i < c.n; i++)
            p->token_host[i] = rows[at + i].token;
        rc = cuda_kv_reserve(kv, rows + at, c.n, err);
        if (!rc) /* the tokens are copied from pageable memory, which has been read when that call returns */
            rc = walk_layers(&c, last, err);
    }
    return rc ? rc : cuda_wait(kv, err); /* so that the time of a prompt is its own */
}
