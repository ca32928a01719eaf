/* SPDX-License-Identifier: Apache-2.0 */
/* A call's rows on their way to the device, and passes as graphs. */
#include <string.h>

#include "backend/cuda/cuda.h"

struct step *cuda_take_steps(struct kv *kv, int n, struct error *err)
{
    if (kv->ring_at + n > STEP_RING && cuda_wait(kv, err))
        return NULL;
    struct step *s = &kv->ring[kv->ring_at];
    kv->ring_at += n;
    return s;
}

static void fill_row(const struct kv *kv, struct step_row *to, const struct row *r)
{
    const struct page_list *s = &kv->pages.seq[r->seq];
    *to = (struct step_row){.token = r->token, .pos = r->pos, .seq = r->seq, .slot = r->slot, .prefix = r->prefix, .h = r->h, .also = r->also};
    to->page = r->slot / PAGE_SLOTS < s->n_pages ? s->page[r->slot / PAGE_SLOTS] : 0; /* a pick writes no K and V, and its row may be long gone */
    to->at = r->slot % PAGE_SLOTS;
    to->straight = r->slot == r->pos && (r->also & (r->also + 1)) == 0;
}

static int32_t lower(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t higher(int32_t a, int32_t b) { return a > b ? a : b; }

static void join_group(struct step_group *g, const struct step_row *r)
{
    g->max_pos = higher(g->max_pos, r->pos);
    g->min_pos = lower(g->min_pos, r->pos);
    g->fresh = lower(g->fresh, r->slot);
    g->straight = higher(g->straight, r->straight ? r->pos + 1 : r->prefix);
    g->tree = lower(g->tree, r->straight ? INT32_MAX : r->prefix);
}

/* Rows of one timeline together, in the order of the call. */
void cuda_group_rows(struct step *s)
{
    int m = 0;
    s->n_groups = s->n_chunks = s->max_rows = 0;
    for (int i = 0; i < s->n; i++) {
        int j = 0;
        while (j < i && s->row[j].seq != s->row[i].seq)
            j++;
        if (j < i)
            continue;
        struct step_group *g = &s->group[s->n_groups];
        *g = (struct step_group){.seq = s->row[i].seq, .first = m, .chunk0 = s->n_chunks, .min_pos = INT32_MAX, .fresh = INT32_MAX, .tree = INT32_MAX};
        for (int k = i; k < s->n; k++)
            if (s->row[k].seq == g->seq) {
                s->order_pos[m] = s->row[k].pos;
                s->order[m++] = k;
                join_group(g, &s->row[k]);
            }
        g->n = m - g->first;
        g->chunks = chunk_of(g->max_pos) + 1;
        s->max_rows = higher(s->max_rows, g->n);
        s->n_chunks += g->chunks;
        s->n_groups++;
    }
}

static struct step_ask ask_of(const struct ask *a)
{
    const struct sampling *s = a->s;
    return (struct step_ask){.temperature = s->temperature, .top_p = s->top_p, .min_p = s->min_p, .top_k = s->top_k, .n_top = a->n_top, .masked = a->allow != NULL,
                             .n_edits = a->n_edits, .choice = s->choice, .seed = s->seed};
}

void cuda_fill_asks(struct step *s, const struct ask *asks)
{
    for (int i = 0, at = 0; i < s->n; at += asks[i++].n_edits) {
        s->ask[i] = ask_of(&asks[i]);
        s->ask[i].first_edit = at;
    }
}

/* From pageable memory, which has been read when the calls return. */
int cuda_send_edits(struct kv *kv, const struct ask *asks, int n, struct error *err)
{
    size_t words = (size_t)cuda_words(kv), vocab_words = ((size_t)kv->d->c->vocab + 31) / 32;
    int rc = 0;
    for (int i = 0, at = 0; i < n && !rc; at += asks[i++].n_edits) {
        if (asks[i].n_edits)
            rc = CUDA_TRY(err, cudaMemcpyAsync(kv->edits + at, asks[i].edits, (size_t)asks[i].n_edits * sizeof *kv->edits, cudaMemcpyHostToDevice, kv->d->stream));
        if (!rc && asks[i].allow)
            rc = CUDA_TRY(err, cudaMemcpyAsync(kv->allow + (size_t)i * words, asks[i].allow, vocab_words * sizeof *kv->allow, cudaMemcpyHostToDevice, kv->d->stream));
    }
    return rc;
}

void cuda_fill_step(const struct kv *kv, struct step *s, const struct row *rows, const struct ask *asks, int n)
{
    s->n = n;
    for (int i = 0; i < n; i++)
        fill_row(kv, &s->row[i], &rows[i]);
    if (asks)
        cuda_fill_asks(s, asks);
    cuda_group_rows(s);
}

int cuda_send_steps(struct kv *kv, const struct step *s, int n, struct error *err)
{
    return CUDA_TRY(err, cudaMemcpyAsync(kv->step, s, (size_t)n * sizeof *s, cudaMemcpyHostToDevice, kv->d->stream));
}

int cuda_step(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct error *err)
{
    struct step *s = cuda_take_steps(kv, 1, err);
    if (!s)
        return err ? err->code : ERR_UNAVAILABLE;
    cuda_fill_step(kv, s, rows, asks, n);
    return cuda_send_steps(kv, s, 1, err);
}

/* ---- graphs ---- */

static struct pass_graph *find_graph(struct kv *kv, const struct pass *p)
{
    for (int i = 0; i < kv->n_graphs; i++) {
        const struct pass *g = &kv->graph[i].pass;
        if (g->kind == p->kind && g->first == p->first && g->last == p->last && g->rows == p->rows && g->steps == p->steps && g->draft == p->draft && g->edited == p->edited)
            return &kv->graph[i];
    }
    return NULL;
}

/* A free place, or that of the graph that was not used for longest. */
static struct pass_graph *place_for_graph(struct kv *kv)
{
    if (kv->n_graphs < GRAPHS_MAX)
        return &kv->graph[kv->n_graphs];
    struct pass_graph *oldest = &kv->graph[0];
    for (int i = 1; i < kv->n_graphs; i++)
        oldest = kv->graph[i].used < oldest->used ? &kv->graph[i] : oldest;
    cudaGraphExecDestroy(oldest->exec);
    *oldest = kv->graph[--kv->n_graphs];
    return &kv->graph[kv->n_graphs];
}

static int make_graph(struct kv *kv, const struct pass *p, int (*record)(struct kv *, const struct pass *, struct error *), cudaGraphExec_t *exec, struct error *err)
{
    cudaGraph_t graph = NULL;
    int rc = CUDA_TRY(err, cudaStreamBeginCapture(kv->d->stream, cudaStreamCaptureModeThreadLocal));
    if (rc)
        return rc;
    rc = record(kv, p, err);
    cudaError_t e = cudaStreamEndCapture(kv->d->stream, &graph); /* also after a failure: the stream has to leave the capture */
    rc = rc ? rc : CUDA_TRY(err, e);
    if (!rc)
        rc = CUDA_TRY(err, cudaGraphInstantiate(exec, graph, 0));
    if (graph)
        cudaGraphDestroy(graph);
    cudaGetLastError();
    return rc;
}

int cuda_run_pass(struct kv *kv, struct pass p, int (*record)(struct kv *, const struct pass *, struct error *), struct error *err)
{
    p.rows = cuda_pass_rows(p.rows);
    struct pass_graph *g = find_graph(kv, &p);
    if (!g) {
        struct pass_graph made = {.pass = p};
        int rc = make_graph(kv, &p, record, &made.exec, err);
        if (rc)
            return rc;
        g = place_for_graph(kv);
        *g = made;
        kv->n_graphs++;
    }
    g->used = ++kv->clock;
    return CUDA_TRY(err, cudaGraphLaunch(g->exec, kv->d->stream));
}

int cuda_wait(struct kv *kv, struct error *err)
{
    kv->waits++;
    kv->ring_at = 0;
    return CUDA_TRY(err, cudaStreamSynchronize(kv->d->stream));
}
