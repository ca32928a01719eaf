/* SPDX-License-Identifier: Apache-2.0 */
/* Rows through a range of layers: the kernels of a pass in their order. */
#include <math.h>
#include <string.h>

#include "backend/cuda/cuda.h"
#include "backend/rows.h"

/* A pass being recorded. */
struct recording {
    struct kv *kv;
    const struct device *d;
    int rows, bucket, step; /* step: which of kv->step it runs on */
    struct launch launch; /* .chain from the second kernel on, where the GPU can */
    struct error *err;
    int rc;
};

/* One more kernel, unless one has failed. */
#define RECORD(t, call) ((t)->rc = (t)->rc ? (t)->rc : CUDA_TRY((t)->err, call), (t)->launch.chain = (t)->d->prop.major >= 9)

/* Squares have been written: for many rows the norm's scalars are made once, not by every block that needs them. */
static void scales(struct recording *t)
{
    const struct scales s = {.bucket = t->bucket, .square = t->kv->square, .n_square = t->d->n_square, .square_scale = 1.0f / (float)t->d->c->hidden, .eps = (float)t->d->c->norm_eps, .scale = t->kv->scale};
    if (t->bucket > SQUARES_ROWS)
        RECORD(t, cuda_scales(t->launch, &s));
}

/* What all products of a pass share. */
static struct product product_of(const struct recording *t, struct packed w, int epilogue, const void *x)
{
    const struct kv *kv = t->kv;
    const struct device *d = t->d;
    return (struct product){
        .w = w, .epilogue = epilogue, .bucket = t->bucket, .rows = t->rows, .step = kv->step + t->step, .x = x, .x_f32 = d->x_f32, .n_square = d->n_square, .scale = kv->scale,
        .square_scale = 1.0f / (float)d->c->hidden, .eps = (float)d->c->norm_eps, .n_heads = d->c->n_heads, .angle = kv->angle, .q = kv->q, .kv = kv->shape,
        .state = kv->state, .state_stride = d->state_stride, .square_out = kv->square, .n_square_out = d->n_square, .out = kv->gate,
        .out_stride = (d->c->ffn + 15) / 16 * 16};
}

static void begin(struct recording *t, const float *norm, struct packed embed)
{
    struct kv *kv = t->kv;
    const struct device *d = t->d;
    struct begin b = {
        .step = kv->step + t->step, .bucket = t->bucket, .embed = embed, .picks = kv->picks + (t->step ? t->step - 1 : 0) * STEP_ROWS, .state = kv->state, .state_stride = d->state_stride, .hidden = d->c->hidden,
        .norm = norm, .x = kv->x_hidden, .x_units = kv->hidden_units, .x_f32 = d->x_f32, .square = kv->square, .n_square = d->n_square};
    RECORD(t, cuda_begin(t->launch, &b));
    scales(t);
}

static void heads(struct recording *t, const struct cuda_layer *l, int index)
{
    const int first[3] = {0, t->d->c->n_heads, t->d->c->n_heads + t->d->c->n_kv_heads};
    for (int i = 0; i < l->n_qkv; i++) {
        struct product p = product_of(t, l->qkv[i], EPI_HEADS, t->kv->x_hidden);
        p.square = t->kv->square;
        p.bias = l->qkv_bias[i];
        p.head0 = first[i];
        p.layer = index;
        RECORD(t, cuda_product(t->launch, &p));
    }
}

static void attention(struct recording *t, int index)
{
    struct kv *kv = t->kv;
    struct attend a = {.step = kv->step + t->step, .bucket = t->bucket, .rows = t->rows, .layer = index, .kv = kv->shape, .q = kv->q, .scale = 1.0f / sqrtf((float)t->d->c->head_dim),
                       .part = kv->part, .max_chunks = kv->max_chunks, .x_out = kv->x_heads, .x_units = kv->heads_units, .x_f32 = t->d->x_f32};
    RECORD(t, cuda_attend(t->launch, &a));
}

/* state += product; next_norm: of the norm that comes next, NULL behind the last layer of the range. */
static void add(struct recording *t, struct packed w, const float *bias, const void *x, const float *next_norm)
{
    struct product p = product_of(t, w, EPI_ADD, x);
    p.bias = bias;
    p.next_norm = next_norm;
    p.x_out = t->kv->x_hidden;
    RECORD(t, cuda_product(t->launch, &p));
    if (next_norm)
        scales(t);
}

static void feed_forward_in(struct recording *t, const struct cuda_layer *l)
{
    for (int i = 0; i < l->n_gate; i++) {
        struct product p = product_of(t, l->gate[i], l->n_gate == 1 ? EPI_GATE : i == 0 ? EPI_STORE : EPI_GATE_UP, t->kv->x_hidden);
        p.square = t->kv->square;
        p.bias = l->gate_bias[i];
        p.x_out = t->kv->x_ffn;
        p.x_out_units = t->kv->ffn_units;
        RECORD(t, cuda_product(t->launch, &p));
    }
}

/* next_norm: the head's, when it follows at once; or NULL. */
static void layers(struct recording *t, int first, int last, const float *next_norm)
{
    const struct cuda_layer *l = t->d->layer;
    begin(t, l[first].attn_norm, first == 0 ? t->d->embed : (struct packed){0});
    for (int i = first; i < last && !t->rc; i++) {
        heads(t, &l[i], i);
        attention(t, i);
        add(t, l[i].o, l[i].o_bias, t->kv->x_heads, l[i].ffn_norm);
        feed_forward_in(t, &l[i]);
        add(t, l[i].down, l[i].down_bias, t->kv->x_ffn, i + 1 < last ? l[i + 1].attn_norm : next_norm);
    }
}

/* The rule at the rows of the step; edited: in two, with what requests change between them. */
static void choose(struct recording *t, int vocab, const int32_t *ids, bool edited)
{
    struct kv *kv = t->kv;
    struct choose c = {.step = kv->step + t->step, .bucket = t->rows, .logits = kv->logits, .stride = kv->logits_stride, .vocab = vocab, .ids = ids, .tile_max = kv->tile_max,
                       .picks = kv->picks + t->step * STEP_ROWS, .raw = edited ? kv->raw : NULL};
    const struct edit_rows e = {.step = c.step, .bucket = c.bucket, .logits = kv->logits, .edited = kv->edited, .stride = c.stride, .vocab = vocab, .ids = ids, .edits = kv->edits,
                            .allow = kv->allow, .words = cuda_words(kv), .tile_max = kv->tile_max};
    RECORD(t, cuda_choose(t->launch, &c));
    if (!edited)
        return;
    RECORD(t, cuda_edit(t->launch, &e));
    c.logits = kv->edited;
    c.raw_logits = kv->logits;
    RECORD(t, cuda_choose(t->launch, &c));
}

/* begun: layers() has left x for it. p->draft: only the rows of the draft tokens. */
static void head(struct recording *t, const struct pass *p, bool begun)
{
    struct kv *kv = t->kv;
    const struct packed *w = p->draft ? &t->d->draft_head : &t->d->head;
    if (!begun)
        begin(t, t->d->norm, (struct packed){0});
    struct product product = product_of(t, *w, EPI_LOGITS, kv->x_hidden);
    product.square = kv->square;
    product.out = kv->logits;
    product.out_stride = kv->logits_stride;
    product.tile_max = kv->tile_max;
    RECORD(t, cuda_product(t->launch, &product));
    if (p->kind != PASS_LOGITS)
        choose(t, w->rows, p->draft ? t->d->draft_token : NULL, p->edited);
}

static int record(struct kv *kv, const struct pass *p, struct error *err)
{
    struct recording t = {.kv = kv, .d = kv->d, .rows = p->rows, .bucket = cuda_bucket(p->rows), .launch = {.stream = kv->d->stream}, .err = err};
    if (p->kind == PASS_LAYERS || p->kind == PASS_BOTH)
        layers(&t, p->first, p->last, p->kind == PASS_BOTH ? t.d->norm : NULL);
    if (p->kind == PASS_PICK || p->kind == PASS_BOTH || p->kind == PASS_LOGITS)
        head(&t, p, p->kind == PASS_BOTH);
    for (; p->kind == PASS_DRAFT && t.step < p->steps; t.step++) {
        layers(&t, 0, p->last, t.d->norm);
        head(&t, p, true);
    }
    return t.rc;
}

/* head: which one is read, or NULL. */
static void count_bytes(struct kv *kv, int first, int last, const struct packed *head)
{
    for (int l = first; l < last; l++)
        kv->bytes_read += kv->d->layer[l].bytes;
    kv->bytes_read += head ? packed_bytes(head) : 0;
}

/* The rows' slots are there. least: as in rows_check. */
static int reserve(struct kv *kv, int first, int last, int least, const struct row *rows, int n, struct error *err)
{
    int rc = rows_check(kv->d->c, &kv->d->o, &kv->pages, first, last, least, rows, n, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaSetDevice(kv->d->ordinal));
    if (!rc)
        rc = cuda_kv_reserve(kv, rows, n, err);
    return rc ? rc : rows_check_ancestors(&kv->pages, rows, n, err);
}

int cuda_flush(struct kv *kv, struct error *err)
{
    const struct step *s = kv->pending.step;
    kv->pending.step = NULL;
    if (!s)
        return 0;
    int rc = CUDA_TRY(err, cudaSetDevice(kv->d->ordinal));
    if (!rc)
        rc = cuda_send_steps(kv, s, 1, err);
    return rc ? rc : cuda_run_pass(kv, (struct pass){.kind = PASS_LAYERS, .first = kv->pending.first, .last = kv->pending.last, .rows = s->n}, record, err);
}

int cuda_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err)
{
    int rc = cuda_flush(kv, err); /* before pages change hands: what is pending writes into its own */
    if (!rc)
        rc = reserve(kv, first, last, 0, rows, n, err);
    for (int at = 0; at < n && !rc; at += STEP_ROWS) {
        rc = cuda_flush(kv, err);
        struct step *s = rc ? NULL : cuda_take_steps(kv, 1, err);
        if (!s)
            return rc ? rc : err ? err->code : ERR_UNAVAILABLE;
        cuda_fill_step(kv, s, rows + at, NULL, n - at < STEP_ROWS ? n - at : STEP_ROWS);
        kv->pending.first = first;
        kv->pending.last = last;
        kv->pending.step = s;
        count_bytes(kv, first, last, NULL);
    }
    return rc;
}

/* ---- the head ---- */

/* What the head needs of rows: the hidden state each lies in. */
static int check_states(const struct kv *kv, const struct row *rows, int n, struct error *err)
{
    for (int i = 0; i < n; i++)
        if (rows[i].h < 0 || rows[i].h >= kv->d->o.n_hidden || rows[i].seq < 0 || rows[i].seq >= kv->d->o.n_seqs || rows[i].slot < 0)
            return fail(err, ERR_INTERNAL, "row %d of %d: h %d seq %d slot %d", i, n, rows[i].h, rows[i].seq, rows[i].slot);
    return CUDA_TRY(err, cudaSetDevice(kv->d->ordinal));
}

/* The device's picks on their way to picks_pinned. */
static int fetch_picks(struct kv *kv, int steps, int n, struct error *err)
{
    size_t stride = STEP_ROWS * sizeof *kv->picks, row = (size_t)n * sizeof *kv->picks;
    return CUDA_TRY(err, cudaMemcpy2DAsync(kv->picks_pinned, row, kv->picks, stride, row, (size_t)steps, cudaMemcpyDeviceToHost, kv->d->stream));
}

/* Is such an ask for the head of the draft tokens? */
static bool few(const struct kv *kv, const struct ask *a) { return a->draft && kv->d->draft_head.tiles; }

/* The first rows of a call that are picked at together: as many as fit a pass, whose asks say the same of `draft` and whose edits find room. *edited: some have any. */
static int batch_of(const struct kv *kv, const struct ask *asks, int n, bool *edited)
{
    int m = 0, edits = 0;
    *edited = false;
    for (; m < n && m < STEP_ROWS && asks[m].draft == asks[0].draft && edits + asks[m].n_edits <= kv->logits_stride; m++) {
        edits += asks[m].n_edits;
        *edited |= pick_edited(&asks[m]);
    }
    return m;
}

static const struct packed *head_of(const struct kv *kv, bool draft) { return draft ? &kv->d->draft_head : &kv->d->head; }

/* Are these the rows of the pending pass? */
static bool is_pending(const struct kv *kv, const struct row *rows, int n)
{
    const struct step *s = kv->pending.step;
    bool same = s && s->n == n;
    for (int i = 0; i < n && same; i++)
        same = rows[i].h == s->row[i].h && rows[i].seq == s->row[i].seq && rows[i].slot == s->row[i].slot && rows[i].pos == s->row[i].pos;
    return same;
}

/* Rows of one batch. */
static int pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, bool edited, struct pick *picks, struct error *err)
{
    struct pass p = {.kind = PASS_PICK, .rows = n, .draft = few(kv, asks), .edited = edited};
    int rc = edited ? cuda_send_edits(kv, asks, n, err) : 0;
    if (is_pending(kv, rows, n)) {
        p = (struct pass){.kind = PASS_BOTH, .first = kv->pending.first, .last = kv->pending.last, .rows = n, .draft = p.draft, .edited = edited};
        cuda_fill_asks(kv->pending.step, asks);
        rc = rc ? rc : cuda_send_steps(kv, kv->pending.step, 1, err);
        kv->pending.step = NULL;
    } else {
        rc = rc ? rc : cuda_flush(kv, err);
        if (!rc)
            rc = cuda_step(kv, rows, asks, n, err);
    }
    if (!rc)
        rc = cuda_run_pass(kv, p, record, err);
    if (!rc)
        rc = fetch_picks(kv, 1, n, err);
    if (!rc)
        rc = cuda_wait(kv, err);
    if (!rc)
        memcpy(picks, kv->picks_pinned, (size_t)n * sizeof *picks);
    count_bytes(kv, 0, 0, head_of(kv, p.draft));
    return rc;
}

int cuda_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err)
{
    int rc = check_states(kv, rows, n, err);
    for (int i = 0; i < n && !rc; i++)
        if (asks[i].n_edits < 0 || asks[i].n_edits > kv->logits_stride)
            return fail(err, ERR_INTERNAL, "row %d of %d: %d edits", i, n, asks[i].n_edits);
    for (int at = 0, m; at < n && !rc; at += m) {
        bool edited;
        m = batch_of(kv, asks + at, n - at, &edited);
        rc = pick(kv, rows + at, asks + at, m, edited, picks + at, err);
    }
    return rc;
}

int cuda_logits(struct kv *kv, const struct row *rows, int n, float *out, struct error *err)
{
    size_t vocab = (size_t)kv->d->c->vocab, stride = (size_t)kv->logits_stride;
    int rc = check_states(kv, rows, n, err);
    if (!rc)
        rc = cuda_flush(kv, err);
    for (int at = 0; at < n && !rc; at += STEP_ROWS) {
        int m = n - at < STEP_ROWS ? n - at : STEP_ROWS;
        rc = cuda_step(kv, rows + at, NULL, m, err);
        if (!rc)
            rc = cuda_run_pass(kv, (struct pass){.kind = PASS_LOGITS, .rows = m}, record, err);
        if (!rc)
            rc = CUDA_TRY(err, cudaMemcpy2DAsync(out + (size_t)at * vocab, vocab * 4, kv->logits, stride * 4, vocab * 4, (size_t)m, cudaMemcpyDeviceToHost, kv->d->stream));
        if (!rc)
            rc = cuda_wait(kv, err);
        count_bytes(kv, 0, 0, &kv->d->head);
    }
    return rc;
}

/* ---- a chain of drafts: one upload, one graph, one wait ---- */

static int check_chain(const struct kv *kv, const struct ask *asks, const int *count, int steps, int *rows, struct error *err)
{
    *rows = 0;
    if (steps < 1 || steps > STEPS_MAX)
        return fail(err, ERR_INTERNAL, "a draft of %d steps", steps);
    for (int k = 0; k < steps; k++) {
        if (count[k] < 1 || count[k] > (k ? count[k - 1] : STEP_ROWS))
            return fail(err, ERR_INTERNAL, "step %d of %d of a draft has %d rows", k, steps, count[k]);
        *rows += count[k];
    }
    for (int i = 0; i < *rows; i++)
        if (pick_edited(&asks[i]))
            return fail(err, ERR_INTERNAL, "row %d of a draft has edits", i);
    return *rows <= kv->d->o.n_hidden ? 0 : fail(err, ERR_INTERNAL, "a draft of %d rows; %d can be in flight", *rows, kv->d->o.n_hidden);
}

/* All steps are one graph: what the first of them wrote is as fresh as what this one does. */
static void share_fresh(struct step *s, const struct step *first)
{
    for (int i = 0; i < s->n_groups; i++)
        for (int j = 0; j < first->n_groups; j++)
            if (first->group[j].seq == s->group[i].seq)
                s->group[i].fresh = first->group[j].fresh;
}

int cuda_draft(struct kv *kv, int last, const struct row *rows, const struct ask *asks, const int *count, int steps, struct pick *picks, struct error *err)
{
    int n, rc = check_chain(kv, asks, count, steps, &n, err);
    if (!rc)
        rc = cuda_flush(kv, err);
    if (!rc)
        rc = reserve(kv, 0, last, -STEP_ROWS, rows, n, err);
    struct step *s = rc ? NULL : cuda_take_steps(kv, steps, err);
    if (!s)
        return rc ? rc : err ? err->code : ERR_UNAVAILABLE;
    for (int k = 0, at = 0; k < steps; at += count[k++]) {
        cuda_fill_step(kv, &s[k], rows + at, asks + at, count[k]);
        share_fresh(&s[k], &s[0]);
        count_bytes(kv, 0, last, head_of(kv, few(kv, asks)));
    }
    rc = cuda_send_steps(kv, s, steps, err);
    if (!rc)
        rc = cuda_run_pass(kv, (struct pass){.kind = PASS_DRAFT, .last = last, .rows = count[0], .steps = steps, .draft = few(kv, asks)}, record, err);
    if (!rc)
        rc = fetch_picks(kv, steps, count[0], err);
    if (!rc)
        rc = cuda_wait(kv, err);
    for (int k = 0; k < steps && !rc; picks += count[k++])
        memcpy(picks, kv->picks_pinned + k * count[0], (size_t)count[k] * sizeof *picks);
    return rc;
}
