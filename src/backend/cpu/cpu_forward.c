/* SPDX-License-Identifier: Apache-2.0 */
/* Rows through a range of layers. One job per group of rows: all threads walk the layers together, a barrier between steps. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/rows.h"

struct pass {
    struct kv *kv;
    int first, last;
    const struct row *rows;
    int n;
};

/* One thread's view of a pass. */
struct lane {
    const struct pass *p;
    struct kv *kv;
    const struct device *d;
    int w, nw;        /* this worker of so many */
    int row, row_end; /* its share of the rows */
};

struct operand cpu_operand(const struct kv *kv, const struct matrix *w, int n)
{
    enum operand_kind kind = matrix_operand(w->kind, kv->d->o.wide);
    return (struct operand){.kind = kind, .rows = n, .k = w->k, .row_bytes = operand_row_bytes(kind, w->k), .data = kv->op[kind]};
}

void cpu_operand_row(const struct kv *kv, const struct matrix *w, int r, const float *x)
{
    struct operand op = cpu_operand(kv, w, ROWS_MAX);
    kv->d->kernels->operand_row(&op, r, x, w->cols);
}

static void meet(const struct lane *t) { pool_barrier(t->d->pool); }

static float *hidden_of(const struct lane *t, int r) { return t->kv->hidden + (size_t)t->p->rows[r].h * (size_t)t->d->hidden_pad; }

/* This thread's blocks of out = w x (+ bias). */
static void multiply_blocks(const struct lane *t, const struct matrix *w, const float *bias, int from, int to, float *out, int stride)
{
    struct operand op = cpu_operand(t->kv, w, t->p->n);
    if (from >= to)
        return;
    t->d->kernels->matmul(w, &op, from, to, out, (size_t)stride);
    for (int r = 0; bias && r < t->p->n; r++)
        t->d->ops->add(out + (size_t)r * (size_t)stride + from * 16, bias + from * 16, (to - from) * 16);
}

static void multiply(const struct lane *t, const struct matrix *w, const float *bias, float *out, int stride)
{
    int from, to;
    pool_share(w->blocks, t->w, t->nw, &from, &to);
    multiply_blocks(t, w, bias, from, to, out, stride);
}

/* Fills row r of the operands that these matrices take; a kind is filled once. */
static void prepare(const struct lane *t, const struct matrix *const *w, int n_w, int r, const float *x)
{
    for (int i = 0; i < n_w; i++) {
        bool done = false;
        for (int j = 0; j < i; j++)
            done |= matrix_operand(w[j]->kind, t->d->o.wide) == matrix_operand(w[i]->kind, t->d->o.wide);
        if (!done)
            cpu_operand_row(t->kv, w[i], r, x);
    }
}

static void embed(const struct lane *t)
{
    for (int r = t->row; r < t->row_end; r++)
        matrix_row(&t->d->embed, t->p->rows[r].token, hidden_of(t, r));
}

/* Angles as transformers has them: f32 frequency times f32 position, one rounding, then cosine and sine. */
static void angles(const struct lane *t)
{
    int half = t->d->c->head_dim / 2;
    for (int r = t->row; r < t->row_end; r++)
        for (int j = 0; j < half; j++) {
            float a = (float)t->p->rows[r].pos * t->d->inv_freq[j];
            t->kv->cs[r * half + j] = (float)cos((double)a);
            t->kv->sn[r * half + j] = (float)sin((double)a);
        }
}

static void norm_rows(const struct lane *t, const float *weight, const struct matrix *const *w, int n_w)
{
    const struct device *d = t->d;
    for (int r = t->row; r < t->row_end; r++) {
        float *x = t->kv->x + (size_t)r * (size_t)t->kv->x_stride;
        d->ops->norm(x, hidden_of(t, r), weight, d->hidden_pad, d->c->hidden, (float)d->c->norm_eps);
        prepare(t, w, n_w, r, x);
    }
}

/* hidden += y, for this thread's rows */
static void add_rows(const struct lane *t)
{
    for (int r = t->row; r < t->row_end; r++)
        t->d->ops->add(hidden_of(t, r), t->kv->y + (size_t)r * (size_t)t->d->hidden_pad, t->d->hidden_pad);
}

static void store_bf16(uint16_t *to, int stride, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        to[i * stride] = f32_to_bf16(x[i]);
}

static void store_f32(float *to, int stride, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        to[i * stride] = x[i];
}

/* K and V of one head to the row's slot. A row reads its own K and V through the cache, as later rows will. */
static void store_kv(const struct lane *t, int layer, int r, int head, const float *k, const float *v)
{
    const struct kv *kv = t->kv;
    const struct row *row = &t->p->rows[r];
    int hd = t->d->c->head_dim, at = row->slot % KV_PAGE;
    uint8_t *base = kv_head(kv, kv->pages.seq[row->seq].page[row->slot / KV_PAGE], layer, head);
    size_t k_at = (size_t)(at / 16) * (size_t)hd * 16 + (size_t)(at % 16), v_at = (size_t)at * (size_t)t->d->head_pad;
    if (t->d->o.kv_f32) {
        store_f32((float *)base + k_at, 16, k, hd);
        store_f32((float *)(base + kv->v_offset) + v_at, 1, v, hd);
    } else {
        store_bf16((uint16_t *)base + k_at, 16, k, hd);
        store_bf16((uint16_t *)(base + kv->v_offset) + v_at, 1, v, hd);
    }
}

/* Rotates q and k, one KV head with its query heads at a time, and stores k and v. */
static void rotate_rows(const struct lane *t, int layer)
{
    const struct config *c = t->d->c;
    struct kv *kv = t->kv;
    int hd = c->head_dim, pad = t->d->head_pad, group = c->n_heads / c->n_kv_heads, from, to;
    pool_share(t->p->n * c->n_kv_heads, t->w, t->nw, &from, &to);
    for (int i = from; i < to; i++) {
        int r = i / c->n_kv_heads, head = i % c->n_kv_heads;
        const float *cs = kv->cs + r * (hd / 2), *sn = kv->sn + r * (hd / 2);
        for (int g = head * group; g < (head + 1) * group; g++) {
            float *q = kv->q + ((size_t)r * (size_t)c->n_heads + (size_t)g) * (size_t)pad;
            memcpy(q, kv->x + (size_t)r * (size_t)kv->x_stride + g * hd, (size_t)hd * sizeof *q);
            t->d->ops->rotate(q, cs, sn, hd);
        }
        float *k = kv->k + (size_t)r * (size_t)pad16(t->d->kv_dim) + head * hd;
        t->d->ops->rotate(k, cs, sn, hd);
        store_kv(t, layer, r, head, k, kv->v + (size_t)r * (size_t)pad16(t->d->kv_dim) + head * hd);
    }
}

static void attend_rows(const struct lane *t, int layer)
{
    const struct config *c = t->d->c;
    struct kv *kv = t->kv;
    int pad = t->d->head_pad, group = c->n_heads / c->n_kv_heads;
    /* Interleaved, not in runs: late rows see more keys than early ones. */
    for (int i = t->w; i < t->p->n * c->n_kv_heads; i += t->nw) {
        int r = i / c->n_kv_heads, head = i % c->n_kv_heads;
        const struct row *row = &t->p->rows[r];
        size_t at = ((size_t)r * (size_t)c->n_heads + (size_t)(head * group)) * (size_t)pad;
        struct attention a = {
            .kv = kv_head(kv, 0, layer, head), .page_bytes = kv->page_bytes, .v_offset = kv->v_offset, .page = kv->pages.seq[row->seq].page,
            .f32 = t->d->o.kv_f32, .head_dim = c->head_dim, .pad = pad, .n_query = group, .scale = 1.0f / sqrtf((float)c->head_dim),
            .q = kv->q + at, .out = kv->att + at, .pos = row->pos, .slot = row->slot, .prefix = row->prefix, .also = row->also,
            .scratch = kv->attention + (size_t)t->w * kv->attention_floats,
        };
        t->d->ops->attend(&a);
    }
}

/* Heads side by side without their padding, then the operand of the output product. */
static void gather_heads(const struct lane *t, const struct matrix *o)
{
    const struct config *c = t->d->c;
    int hd = c->head_dim, pad = t->d->head_pad;
    for (int r = t->row; r < t->row_end; r++) {
        float *x = t->kv->x + (size_t)r * (size_t)t->kv->x_stride;
        for (int h = 0; h < c->n_heads; h++)
            memcpy(x + h * hd, t->kv->att + ((size_t)r * (size_t)c->n_heads + (size_t)h) * (size_t)pad, (size_t)hd * sizeof *x);
        cpu_operand_row(t->kv, o, r, x);
    }
}

/* gate and up of the same outputs by the same thread, so that it can join them at once */
static void feed_forward_in(const struct lane *t, const struct cpu_layer *l)
{
    int from, to, stride = t->d->ffn_pad;
    pool_share(l->gate.blocks, t->w, t->nw, &from, &to);
    multiply_blocks(t, &l->gate, l->gate_bias, from, to, t->kv->gate, stride);
    multiply_blocks(t, &l->up, l->up_bias, from, to, t->kv->up, stride);
    for (int r = 0; r < t->p->n; r++) {
        size_t at = (size_t)r * (size_t)stride + (size_t)from * 16;
        t->d->ops->gate(t->kv->gate + at, t->kv->up + at, (to - from) * 16);
    }
}

static void layer(const struct lane *t, int index)
{
    const struct cpu_layer *l = &t->d->layer[index];
    struct kv *kv = t->kv;
    int kv_stride = pad16(t->d->kv_dim), hidden = t->d->hidden_pad;

    norm_rows(t, l->attn_norm, (const struct matrix *const[]){&l->q, &l->k, &l->v}, 3);
    meet(t);
    multiply(t, &l->q, l->q_bias, kv->x, kv->x_stride);
    multiply(t, &l->k, l->k_bias, kv->k, kv_stride);
    multiply(t, &l->v, l->v_bias, kv->v, kv_stride);
    meet(t);
    rotate_rows(t, index);
    meet(t); /* K and V first, then attention: rows of one call may see each other */
    attend_rows(t, index);
    meet(t);
    gather_heads(t, &l->o);
    meet(t);
    multiply(t, &l->o, l->o_bias, kv->y, hidden);
    meet(t);
    add_rows(t);
    norm_rows(t, l->ffn_norm, (const struct matrix *const[]){&l->gate, &l->up}, 2);
    meet(t);
    feed_forward_in(t, l);
    meet(t);
    for (int r = t->row; r < t->row_end; r++)
        cpu_operand_row(kv, &l->down, r, kv->gate + (size_t)r * (size_t)t->d->ffn_pad);
    meet(t);
    multiply(t, &l->down, l->down_bias, kv->y, hidden);
    meet(t);
    add_rows(t); /* the next step reads only rows of this thread's share, so no barrier */
}

static void walk_layers(void *arg, int worker, int n_workers)
{
    const struct pass *p = arg;
    struct lane t = {.p = p, .kv = p->kv, .d = p->kv->d, .w = worker, .nw = n_workers};
    pool_share(p->n, worker, n_workers, &t.row, &t.row_end);
    if (p->first == 0)
        embed(&t);
    angles(&t);
    for (int l = p->first; l < p->last; l++)
        layer(&t, l);
}

int cpu_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err)
{
    int rc = rows_check(kv->d->c, &kv->d->o, &kv->pages, first, last, 0, rows, n, err);
    for (int i = 0; i < n && rc >= 0; i++)
        rc = pages_reserve(&kv->pages, rows[i].seq, rows[i].slot, err);
    if (rc >= 0)
        rc = rows_check_ancestors(&kv->pages, rows, n, err);
    if (rc)
        return rc;
    for (int at = 0; at < n; at += ROWS_MAX) {
        struct pass p = {.kv = kv, .first = first, .last = last, .rows = rows + at, .n = n - at < ROWS_MAX ? n - at : ROWS_MAX};
        pool_run(kv->d->pool, walk_layers, &p);
        for (int l = first; l < last; l++)
            kv->bytes_read += kv->d->layer[l].bytes;
    }
    return 0;
}
