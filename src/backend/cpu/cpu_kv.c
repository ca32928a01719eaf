/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of the KV cache and the timelines that use them. */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/checked.h"

static size_t element_bytes(const struct device_options *o) { return o->kv_f32 ? 4 : 2; }

static size_t head_bytes(const struct config *c, const struct device_options *o)
{
    return element_bytes(o) * KV_PAGE * (size_t)(c->head_dim + pad16(c->head_dim));
}

static size_t page_bytes(const struct config *c, const struct device_options *o)
{
    return head_bytes(c, o) * (size_t)c->n_kv_heads * (size_t)c->n_layers;
}

uint64_t cpu_kv_bytes(const struct config *c, const struct device_options *o)
{
    uint64_t bytes;
    return mul_u64((uint64_t)page_bytes(c, o), (uint64_t)pages_of(o->n_slots) * (uint64_t)o->n_seqs, &bytes) ? UINT64_MAX : bytes;
}

/* ---- scratch: one table of buffers serves both the plan and the allocation ---- */

struct buffer {
    float **where;
    uint64_t floats;
};

static int larger(int a, int b) { return a > b ? a : b; }

static int widest_input(const struct config *c) { return larger(pad16(c->hidden), larger(pad16(c->n_heads * c->head_dim), pad16(c->ffn))); }

static size_t thread_floats(const struct config *c) { return (attention_scratch(pad16(c->head_dim)) + 15) / 16 * 16 + 64; }

enum { N_BUFFERS = 14 };

/* kv may be NULL: only sizes are wanted. */
static void list_buffers(struct buffer *b, struct kv *kv, const struct config *c, const struct device_options *o, int threads)
{
    static float *nowhere;
    uint64_t rows = ROWS_MAX, heads = (uint64_t)(c->n_heads * pad16(c->head_dim));
    int i = 0;
#define BUFFER(field, count) b[i++] = (struct buffer){kv ? &kv->field : &nowhere, (count)}
    BUFFER(x, rows * (uint64_t)widest_input(c));
    BUFFER(q, rows * heads);
    BUFFER(k, rows * (uint64_t)pad16(c->n_kv_heads * c->head_dim));
    BUFFER(v, rows * (uint64_t)pad16(c->n_kv_heads * c->head_dim));
    BUFFER(att, rows * heads);
    BUFFER(gate, rows * (uint64_t)pad16(c->ffn));
    BUFFER(up, rows * (uint64_t)pad16(c->ffn));
    BUFFER(y, rows * (uint64_t)pad16(c->hidden));
    BUFFER(cs, rows * (uint64_t)(c->head_dim / 2));
    BUFFER(sn, rows * (uint64_t)(c->head_dim / 2));
    BUFFER(logits, PICK_ROWS * (uint64_t)pad16(c->vocab));
    BUFFER(edited, PICK_ROWS * (uint64_t)pad16(c->vocab));
    BUFFER(hidden, (uint64_t)o->n_hidden * (uint64_t)pad16(c->hidden));
    BUFFER(attention, (uint64_t)threads * thread_floats(c));
#undef BUFFER
}

static size_t operand_bytes(const struct config *c, enum operand_kind kind)
{
    int k = (widest_input(c) + MATRIX_K_ALIGN - 1) / MATRIX_K_ALIGN * MATRIX_K_ALIGN;
    return ROWS_MAX * operand_row_bytes(kind, k);
}

static uint64_t list_numbers(const struct config *c) { return PICK_ROWS * (uint64_t)pad16(c->vocab); }

uint64_t cpu_scratch_bytes(const struct config *c, const struct device_options *o, int threads)
{
    struct buffer b[N_BUFFERS];
    list_buffers(b, NULL, c, o, threads);
    uint64_t sum = (uint64_t)threads * PICK_ROWS * sizeof(struct pick_part) + list_numbers(c) * sizeof(int32_t);
    for (int k = 0; k < OPERAND_KINDS; k++)
        sum += operand_bytes(c, (enum operand_kind)k);
    for (int i = 0; i < N_BUFFERS; i++)
        sum += b[i].floats * 4;
    return sum;
}

static int copy_page(void *arg, int to, int from, struct error *err)
{
    struct kv *kv = arg;
    (void)err;
    memcpy(kv->data + (size_t)to * kv->page_bytes, kv->data + (size_t)from * kv->page_bytes, kv->page_bytes);
    return 0;
}

static int take_memory(struct kv *kv, struct error *err)
{
    const struct config *c = kv->d->c;
    const struct device_options *o = &kv->d->o;
    int threads = pool_threads(kv->d->pool);
    struct buffer b[N_BUFFERS];
    list_buffers(b, kv, c, o, threads);
    for (int i = 0; i < N_BUFFERS; i++)
        if (!(*b[i].where = arena_array(&kv->arena, b[i].floats, 4)))
            return fail(err, ERR_OS, "out of memory for %llu bytes of activations", (unsigned long long)cpu_scratch_bytes(c, o, threads));
    for (int k = 0; k < OPERAND_KINDS; k++)
        if (!(kv->op[k] = arena_alloc(&kv->arena, operand_bytes(c, (enum operand_kind)k))))
            return fail(err, ERR_OS, "out of memory");
    kv->part = arena_array(&kv->arena, (uint64_t)threads * PICK_ROWS, sizeof *kv->part);
    kv->list = arena_array(&kv->arena, list_numbers(c), sizeof *kv->list);
    if (!kv->part || !kv->list)
        return fail(err, ERR_OS, "out of memory");
    int rc = pages_open(&kv->pages, &kv->arena, o->n_seqs, o->n_slots, copy_page, kv, err);
    if (rc)
        return rc;
    kv->attention_floats = thread_floats(c);
    kv->x_stride = widest_input(c);
    /* calloc: the system gives zero pages when they are first touched, so an unused cache costs address space only */
    kv->data = calloc((size_t)kv->pages.n_pages, kv->page_bytes);
    if (!kv->data)
        return fail(err, ERR_OS, "out of memory: the KV cache needs %llu bytes; lower --ctx-size", (unsigned long long)cpu_kv_bytes(c, o));
    return 0;
}

struct kv *cpu_kv_open(struct device *d, struct error *err)
{
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv) {
        fail(err, ERR_OS, "out of memory");
        return NULL;
    }
    kv->d = d;
    kv->element = element_bytes(&d->o);
    kv->head_bytes = head_bytes(d->c, &d->o);
    kv->v_offset = kv->element * KV_PAGE * (size_t)d->c->head_dim;
    kv->page_bytes = page_bytes(d->c, &d->o);
    if (take_memory(kv, err)) {
        cpu_kv_close(kv);
        return NULL;
    }
    return kv;
}

void cpu_kv_close(struct kv *kv)
{
    if (!kv)
        return;
    free(kv->data);
    arena_free(&kv->arena);
    free(kv);
}

/* ---- timelines ---- */

int cpu_seq_open(struct kv *kv, struct error *err) { return pages_seq_open(&kv->pages, err); }

void cpu_seq_close(struct kv *kv, int seq) { pages_seq_close(&kv->pages, seq); }

void cpu_seq_trim(struct kv *kv, int seq, int n_slots) { pages_trim(&kv->pages, seq, n_slots); }

int cpu_seq_share(struct kv *kv, int from, int to, int n_slots, struct error *err) { return pages_share(&kv->pages, from, to, n_slots, err); }

/* One head's K (strided) and V (contiguous) of one slot. */
static void copy_slot(const struct kv *kv, uint8_t *to, int dst, const uint8_t *from, int src)
{
    size_t e = kv->element, hd = (size_t)kv->d->c->head_dim, pad = (size_t)kv->d->head_pad;
    uint8_t *k = to + ((size_t)(dst / 16) * hd * 16 + (size_t)(dst % 16)) * e;
    const uint8_t *k0 = from + ((size_t)(src / 16) * hd * 16 + (size_t)(src % 16)) * e;
    for (size_t d = 0; d < hd; d++)
        memcpy(k + d * 16 * e, k0 + d * 16 * e, e);
    memmove(to + kv->v_offset + (size_t)dst * pad * e, from + kv->v_offset + (size_t)src * pad * e, pad * e);
}

int cpu_kv_move(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err)
{
    const struct page_list *s = &kv->pages.seq[seq];
    for (int i = 0; i < n; i++) {
        if (src[i] == dst + i)
            continue;
        int rc = pages_reserve(&kv->pages, seq, dst + i, err);
        if (rc < 0)
            return rc;
        int to = s->page[(dst + i) / KV_PAGE], from = s->page[src[i] / KV_PAGE];
        for (int l = 0; l < kv->d->c->n_layers; l++)
            for (int h = 0; h < kv->d->c->n_kv_heads; h++)
                copy_slot(kv, kv_head(kv, to, l, h), (dst + i) % KV_PAGE, kv_head(kv, from, l, h), src[i] % KV_PAGE);
    }
    return 0;
}
