/* SPDX-License-Identifier: Apache-2.0 */
/* From views in a file to packed weights on the device: sizes first, one allocation, then threads read chunks into pinned memory, and each queues its copy and the
   kernel that packs it on a stream of its own; two chunks of a thread are on their way while it reads. What limits is the bus. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/pack.h"
#include "backend/weights.h"
#include "base/kquants.h"
#include "base/pool.h"

enum { CHUNK_BYTES = 8 << 20, PINNED_BYTES = 512 << 20, RING = 2, THREADS_MAX = 16 }; /* of a file; pinned memory at most; chunks of a thread on their way */
enum { Q, K, V, O, GATE, UP, DOWN }; /* in weights_list's order */

/* One matrix of the file on its way; gate and up that share a block go together. */
struct item {
    const int32_t *row;        /* of v, as in struct weight */
    const struct view *v, *up; /* up: NULL, or what goes to the second half of ROWS_GATE */
    const struct packed *w;
    int map, tile0;
    int rows, chunk_rows, first_chunk;
};

/* All that is to be loaded, shapes set. */
struct listing {
    const struct model *m;
    struct weight *weight;
    struct item *item;
    struct cuda_layer *layer; /* [n_layers] */
    struct packed embed, head, draft_head;
    int n_weights, n_items, n_chunks;
    size_t slot;              /* bytes of a file that the largest chunk holds */
    uint64_t bytes, total;    /* packed, of the file */
    bool any_f32;             /* some matrix is packed as f32 */
};

static uint64_t round256(uint64_t n) { return (n + 255) / 256 * 256; }
static int round16(int n) { return (n + 15) / 16 * 16; }
static int min_int(int a, int b) { return a < b ? a : b; }

/* ---- shapes ---- */

static int weight_rows(const struct weight *w) { return w->row ? w->n_rows : (int)w->v->dim[0]; }

static struct packed shape(const struct weight *w, int rows, int tiles)
{
    struct packed p = {.kind = packed_kind_of(w->type), .rows = rows, .cols = (int)w->v->dim[1], .tiles = tiles};
    p.units = (p.cols + packed_unit_cols(p.kind) - 1) / packed_unit_cols(p.kind);
    p.unit_bytes = packed_unit_bytes(p.kind);
    return p;
}

/* Rows that are packed together, so that no tile is in two chunks. */
static int group_rows(int map, int head_dim) { return map == ROWS_HEADS ? head_dim : map == ROWS_GATE ? 8 : 16; }

/* Bytes of a row as it is sent. */
static uint64_t sent_row_bytes(const struct view *v) { return dtype_row_bytes(sent_type(v->type), v->dim[1]); }

/* Bytes of n rows in a slot: those of gate, then those of up. */
static size_t part_bytes(const struct view *v, int n) { return v ? (size_t)round256((uint64_t)n * sent_row_bytes(v)) : 0; }

static void add_item(struct listing *s, const struct weight *w, const struct weight *up, const struct packed *to, int map, int tile0)
{
    struct item it = {.row = w->row, .v = w->v, .up = up ? up->v : NULL, .w = to, .map = map, .tile0 = tile0, .rows = weight_rows(w), .first_chunk = s->n_chunks};
    int rows = it.rows, group = group_rows(map, s->m->config.head_dim);
    uint64_t fit = CHUNK_BYTES / ((uint64_t)group * (sent_row_bytes(it.v) + (it.up ? sent_row_bytes(it.up) : 0)));
    it.chunk_rows = fit < 1 ? group : fit > (uint64_t)(rows / group) ? rows : (int)fit * group;
    s->n_chunks += (rows + it.chunk_rows - 1) / it.chunk_rows;
    size_t slot = part_bytes(it.v, min_int(it.chunk_rows, rows)) + part_bytes(it.up, min_int(it.chunk_rows, rows));
    s->slot = slot > s->slot ? slot : s->slot;
    s->total += (uint64_t)rows * (view_row_bytes(it.v) + (it.up ? view_row_bytes(it.up) : 0));
    s->any_f32 |= to->kind == PACKED_F32;
    s->item[s->n_items++] = it;
}

/* One block, at a multiple of 256 bytes: until there is memory `data` holds its offset. */
static uint64_t add_block(struct listing *s, struct packed *p)
{
    p->data = (uint8_t *)(uintptr_t)s->bytes;
    s->bytes += round256(packed_bytes(p));
    return packed_bytes(p);
}

static uint64_t shape_heads(struct listing *s, struct cuda_layer *y, struct weight *w)
{
    bool one = w[Q].type == w[K].type && w[K].type == w[V].type;
    int tiles[3], n = 0, rows = 0;
    uint64_t sum = 0;
    for (int i = 0; i < 3; i++) {
        tiles[i] = packed_tiles(ROWS_HEADS, weight_rows(&w[i]), s->m->config.head_dim);
        y->qkv[i] = shape(&w[i], weight_rows(&w[i]), tiles[i]);
        w[i].bytes = packed_bytes(&y->qkv[i]);
        rows += weight_rows(&w[i]);
        n += tiles[i];
    }
    y->n_qkv = one ? 1 : 3;
    if (one) {
        memset(y->qkv, 0, sizeof y->qkv);
        y->qkv[0] = shape(&w[Q], rows, n);
    }
    for (int i = 0; i < y->n_qkv; i++)
        sum += add_block(s, &y->qkv[i]);
    for (int i = 0, tile0 = 0; i < 3; i++) {
        add_item(s, &w[i], NULL, &y->qkv[one ? 0 : i], ROWS_HEADS, tile0);
        tile0 += one ? tiles[i] : 0;
    }
    return sum;
}

static uint64_t shape_gate(struct listing *s, struct cuda_layer *y, struct weight *w)
{
    uint64_t sum = 0;
    y->n_gate = w[0].type == w[1].type ? 1 : 2;
    int map = y->n_gate == 1 ? ROWS_GATE : ROWS_PLAIN;
    for (int i = 0; i < y->n_gate; i++) {
        y->gate[i] = shape(&w[i], weight_rows(&w[i]), packed_tiles(map, weight_rows(&w[i]), 0));
        sum += w[i].bytes = add_block(s, &y->gate[i]);
        add_item(s, &w[i], y->n_gate == 1 ? &w[1] : NULL, &y->gate[i], map, 0);
    }
    if (y->n_gate == 1)
        w[0].bytes = w[1].bytes = sum / 2;
    return sum;
}

static uint64_t shape_plain(struct listing *s, struct packed *p, struct weight *w)
{
    *p = shape(w, weight_rows(w), packed_tiles(ROWS_PLAIN, weight_rows(w), 0));
    w->bytes = add_block(s, p);
    add_item(s, w, NULL, p, ROWS_PLAIN, 0);
    return w->bytes;
}

/* layer: zeroed. Everything else of s lies in a. */
static int list_all(struct listing *s, const struct model *m, const struct device_options *o, struct cuda_layer *layer, struct arena *a, struct error *err)
{
    uint64_t most = WEIGHTS_MOST(m->config.n_layers);
    *s = (struct listing){.m = m, .layer = layer, .weight = arena_array(a, most, sizeof *s->weight), .item = arena_array(a, most, sizeof *s->item)};
    if (!layer || !s->weight || !s->item)
        return fail(err, ERR_OS, "out of memory");
    int n = s->n_weights = weights_list(m, o->weights, s->weight, err);
    if (n < 0)
        return n;
    s->n_weights = weights_add_draft_head(s->weight, n, o);
    struct weight *w = s->weight;
    for (int l = 0; l < m->config.n_layers; l++, w += LAYER_MATRICES) {
        layer[l].bytes = shape_heads(s, &layer[l], w);
        layer[l].bytes += shape_plain(s, &layer[l].o, &w[O]);
        layer[l].bytes += shape_gate(s, &layer[l], &w[GATE]);
        layer[l].bytes += shape_plain(s, &layer[l].down, &w[DOWN]);
    }
    shape_plain(s, &s->embed, w++);
    if (m->config.tied)
        s->head = s->embed;
    else
        shape_plain(s, &s->head, w++);
    if (s->n_weights > n)
        shape_plain(s, &s->draft_head, w);
    return 0;
}

/* ---- norms, biases, frequencies: small, in one block ---- */

struct vectors {
    const struct model *m;
    float *host, *device; /* NULL: they are only counted */
    size_t n;
};

/* A place for n values, rounded up to 16: its copy on the host, or NULL. */
static float *place(struct vectors *s, int n, float **device)
{
    size_t at = s->n;
    s->n += (size_t)round16(n);
    *device = s->device ? s->device + at : NULL;
    return s->host ? s->host + at : NULL;
}

/* A norm or a bias, and which packed rows its values belong to. */
struct bias_part {
    const struct view *v;
    int map, up, tile0;
};

static int read_vector(const struct vectors *s, const struct bias_part *p, float *to, struct error *err)
{
    uint64_t n = p->v->dim[0];
    uint8_t *raw = malloc(p->v->bytes ? p->v->bytes : 1);
    float *wide = malloc(n ? n * sizeof *wide : 1);
    int rc = raw && wide ? checkpoint_read_rows(s->m->file, p->v, 0, n, raw, err) : fail(err, ERR_OS, "out of memory");
    if (!rc) {
        dtype_to_f32(p->v->type, raw, wide, n);
        for (int i = 0; i < (int)n; i++)
            to[packed_row(p->map, s->m->config.head_dim, p->up, p->tile0, i)] = wide[i];
    }
    free(raw);
    free(wide);
    return rc;
}

static int add_norm(struct vectors *s, const struct view *v, float **out, struct error *err)
{
    struct bias_part p = {.v = v, .map = ROWS_PLAIN};
    float *to = place(s, (int)v->dim[0], out);
    return to ? read_vector(s, &p, to, err) : 0;
}

/* The biases of a block of so many tiles; parts without one count as zeros, and where none has one *out stays NULL. */
static int add_bias(struct vectors *s, const struct bias_part *part, int n, int tiles, float **out, struct error *err)
{
    bool any = false;
    for (int i = 0; i < n; i++)
        any |= part[i].v != NULL;
    if (!any)
        return 0;
    float *to = place(s, 16 * tiles, out);
    int rc = 0;
    for (int i = 0; to && i < n && !rc; i++)
        if (part[i].v)
            rc = read_vector(s, &part[i], to, err);
    return rc;
}

static int add_biases(struct vectors *s, int l, struct cuda_layer *y, struct error *err)
{
    static const enum layer_weight heads[3] = {W_Q, W_K, W_V}, gates[2] = {W_GATE, W_UP};
    struct bias_part part[3], o = {.v = model_bias(s->m, l, W_O), .map = ROWS_PLAIN}, down = {.v = model_bias(s->m, l, W_DOWN), .map = ROWS_PLAIN};
    int rc = 0;
    for (int i = 0, tile0 = 0; i < 3 && !rc; i++) {
        part[i] = (struct bias_part){.v = model_bias(s->m, l, heads[i]), .map = ROWS_HEADS, .tile0 = tile0};
        if (y->n_qkv == 1)
            tile0 += packed_tiles(ROWS_HEADS, (int)model_weight(s->m, l, heads[i])->dim[0], s->m->config.head_dim);
        else
            rc = add_bias(s, &part[i], 1, y->qkv[i].tiles, &y->qkv_bias[i], err);
    }
    if (!rc && y->n_qkv == 1)
        rc = add_bias(s, part, 3, y->qkv[0].tiles, &y->qkv_bias[0], err);
    for (int i = 0; i < 2 && !rc; i++) {
        part[i] = (struct bias_part){.v = model_bias(s->m, l, gates[i]), .map = y->n_gate == 1 ? ROWS_GATE : ROWS_PLAIN, .up = i};
        if (y->n_gate == 2)
            rc = add_bias(s, &part[i], 1, y->gate[i].tiles, &y->gate_bias[i], err);
    }
    if (!rc && y->n_gate == 1)
        rc = add_bias(s, part, 2, y->gate[0].tiles, &y->gate_bias[0], err);
    rc = rc ? rc : add_bias(s, &o, 1, y->o.tiles, &y->o_bias, err);
    return rc ? rc : add_bias(s, &down, 1, y->down.tiles, &y->down_bias, err);
}

static int add_vectors(struct vectors *s, struct cuda_layer *layer, float **norm, float **inv_freq, struct error *err)
{
    int rc = add_norm(s, checkpoint_find(s->m->file, "norm"), norm, err);
    for (int l = 0; l < s->m->config.n_layers && !rc; l++) {
        rc = add_norm(s, model_weight(s->m, l, W_ATTN_NORM), &layer[l].attn_norm, err);
        rc = rc ? rc : add_norm(s, model_weight(s->m, l, W_FFN_NORM), &layer[l].ffn_norm, err);
        rc = rc ? rc : add_biases(s, l, &layer[l], err);
    }
    float *to = place(s, s->m->config.head_dim / 2, inv_freq);
    return rc || !to ? rc : model_frequencies(s->m, to, err);
}

static size_t count_vectors(const struct listing *s)
{
    struct vectors count = {.m = s->m};
    float *norm, *inv_freq;
    add_vectors(&count, s->layer, &norm, &inv_freq, NULL);
    return count.n;
}

static int load_vectors(struct device *d, const struct listing *s, struct error *err)
{
    size_t n = count_vectors(s);
    struct vectors v = {.m = s->m, .host = calloc(n, sizeof(float))};
    int rc = v.host ? 0 : fail(err, ERR_OS, "out of memory");
    if (!rc && !(v.device = cuda_take(&d->memory, n * sizeof(float), true, "norms and biases", err)))
        rc = err ? err->code : ERR_OS;
    if (!rc)
        rc = add_vectors(&v, d->layer, &d->norm, &d->inv_freq, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaMemcpyAsync(v.device, v.host, n * sizeof(float), cudaMemcpyHostToDevice, d->stream));
    if (!rc)
        rc = CUDA_TRY(err, cudaStreamSynchronize(d->stream));
    if (rc)
        cudaStreamSynchronize(d->stream); /* the copy may be under way */
    free(v.host);
    return rc;
}

/* ---- plan ---- */

/* Texts that live as long as the process. */
static const char *kernels_name(int major, int minor)
{
    static const struct {
        int sm;
        const char *name;
    } known[] = {{80, "cuda sm_80"}, {86, "cuda sm_86"}, {87, "cuda sm_87"}, {89, "cuda sm_89"}, {90, "cuda sm_90"},
                 {100, "cuda sm_100"}, {103, "cuda sm_103"}, {110, "cuda sm_110"}, {120, "cuda sm_120"}, {121, "cuda sm_121"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].sm == 10 * major + minor)
            return known[i].name;
    return "cuda";
}

static int find_kernels(const char *asked, int device, const char **name, struct error *err)
{
    int major = 0, minor = 0;
    *name = "";
    if (asked && strcmp(asked, "auto") && strcmp(asked, "cuda"))
        return fail(err, ERR_USAGE, "kernels \"%s\": a GPU has one set of them; use auto, or --device cpu", asked);
    int rc = CUDA_TRY(err, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (!rc)
        rc = CUDA_TRY(err, cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    if (!rc)
        *name = kernels_name(major, minor);
    return rc;
}

static void fill_plan(const struct listing *s, const struct device_options *o, struct device_plan *out)
{
    struct device_options as = *o;
    as.wide |= s->any_f32; /* as cuda_load says to the device */
    out->weights = s->bytes + round256(count_vectors(s) * sizeof(float)) + round256((uint64_t)o->n_draft_tokens * sizeof(int32_t));
    for (int l = 0; l < s->m->config.n_layers; l++)
        out->layer_bytes += s->layer[l].bytes;
    out->layer_bytes /= (uint64_t)s->m->config.n_layers;
    out->head_bytes = packed_bytes(&s->head);
    out->draft_head_bytes = packed_bytes(&s->draft_head);
    weights_describe(s->weight, s->n_weights, o->weights, out);
    out->kv = cuda_kv_bytes(s->m, o);
    out->scratch = cuda_scratch_bytes(s->m, &as);
    out->hidden_row = (uint64_t)round16(s->m->config.hidden) * 4;
}

int cuda_plan(const struct model *m, const struct device_options *o, struct device_plan *out, struct error *err)
{
    struct arena a = {0};
    struct listing s;
    *out = (struct device_plan){.kernels = ""};
    int rc = find_kernels(o->kernels, o->ordinal, &out->kernels, err);
    if (!rc && m->config.head_dim > 256)
        rc = fail(err, ERR_CONFIG, "heads of %d values: on a GPU they may have 256 at most; use --device cpu", m->config.head_dim);
    if (!rc)
        rc = list_all(&s, m, o, arena_array(&a, (uint64_t)m->config.n_layers, sizeof *s.layer), &a, err);
    if (!rc)
        fill_plan(&s, o, out);
    arena_free(&a);
    return rc;
}

/* ---- load ---- */

struct load {
    struct device *d;
    const struct listing *s;
    uint8_t *staging; /* on the device: [threads][RING][slot] */
    size_t slot;
    atomic_int next, failed;
    atomic_ullong done;
    struct error err; /* the first one */
};

/* What a thread has of its own. */
struct stage {
    cudaStream_t stream;
    cudaEvent_t packed[RING]; /* the slot is free again */
    bool used[RING];
    uint8_t *pinned, *device; /* [RING][slot] */
    bool open;
};

static int open_stage(const struct load *ld, struct stage *st, int worker, struct error *err)
{
    void *pinned = NULL;
    st->open = true;
    st->device = ld->staging + (size_t)worker * RING * ld->slot;
    int rc = CUDA_TRY(err, cudaSetDevice(ld->d->ordinal));
    if (!rc)
        rc = CUDA_TRY(err, cudaStreamCreateWithFlags(&st->stream, cudaStreamNonBlocking));
    for (int i = 0; i < RING && !rc; i++)
        rc = CUDA_TRY(err, cudaEventCreateWithFlags(&st->packed[i], cudaEventDisableTiming | cudaEventBlockingSync));
    if (!rc)
        rc = CUDA_TRY(err, cudaHostAlloc(&pinned, RING * ld->slot, cudaHostAllocDefault));
    st->pinned = pinned;
    return rc;
}

static void close_stage(struct stage *st)
{
    if (st->stream)
        cudaStreamSynchronize(st->stream); /* also after a failure: nothing may go on in memory that is given back */
    for (int i = 0; i < RING; i++)
        if (st->packed[i])
            cudaEventDestroy(st->packed[i]);
    if (st->stream)
        cudaStreamDestroy(st->stream);
    if (st->pinned)
        cudaFreeHost(st->pinned);
}

static const struct item *item_of_chunk(const struct listing *s, int chunk)
{
    int lo = 0, hi = s->n_items - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (s->item[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &s->item[lo];
}

static int pack_part(const struct load *ld, const struct item *it, bool up, int row, int n, const uint8_t *src, cudaStream_t stream, struct error *err)
{
    const struct view *v = up ? it->up : it->v;
    struct pack p = {.w = *it->w, .map = it->map, .head_dim = ld->d->c->head_dim, .up = up, .tile0 = it->tile0, .dtype = (int)sent_type(v->type), .src = src,
                     .row_bytes = (size_t)sent_row_bytes(v), .row0 = row, .n_rows = n};
    return CUDA_TRY(err, cuda_pack((struct launch){.stream = stream}, &p));
}

/* Reads n rows, as they are sent. What becomes larger is read to the end of its place, and goes to its beginning block by block. */
static int read_rows(const struct load *ld, const struct view *v, const int32_t *list, int row, int n, uint8_t *to, struct error *err)
{
    const uint64_t bytes = (uint64_t)n * view_row_bytes(v), sent = (uint64_t)n * sent_row_bytes(v), blocks = sent == bytes ? 0 : bytes / (uint64_t)dtype_table[v->type].bytes;
    const uint8_t *from = to + (sent - bytes);
    int rc = weights_read_rows(ld->d->model->file, v, list, row, n, to + (sent - bytes), err);
    for (uint64_t b = 0; b < blocks && !rc; b++, from += dtype_table[v->type].bytes, to += sent / blocks) {
        uint8_t block[Q6_K_BYTES];
        float wide[KQUANT_K];
        memcpy(block, from, (size_t)dtype_table[v->type].bytes);
        if (v->type == DT_Q4_K) {
            q4_k_to_q4_1(block, to);
        } else {
            dtype_to_f32(v->type, block, wide, KQUANT_K);
            dtype_from_f32(sent_type(v->type), wide, to, KQUANT_K);
        }
    }
    return rc;
}

/* Reads a chunk into slot i, and queues its copy and its packing. bytes: of the file. */
static int load_chunk(const struct load *ld, struct stage *st, int i, int chunk, uint64_t *bytes, struct error *err)
{
    const struct item *it = item_of_chunk(ld->s, chunk);
    int row = (chunk - it->first_chunk) * it->chunk_rows, n = min_int(it->chunk_rows, it->rows - row), rc = 0;
    uint8_t *pinned = st->pinned + (size_t)i * ld->slot, *device = st->device + (size_t)i * ld->slot;
    size_t first = part_bytes(it->v, n), second = part_bytes(it->up, n);
    *bytes = (uint64_t)n * (view_row_bytes(it->v) + (it->up ? view_row_bytes(it->up) : 0));
    if (st->used[i])
        rc = CUDA_TRY(err, cudaEventSynchronize(st->packed[i]));
    if (!rc)
        rc = read_rows(ld, it->v, it->row, row, n, pinned, err);
    if (!rc && it->up)
        rc = read_rows(ld, it->up, NULL, row, n, pinned + first, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaMemcpyAsync(device, pinned, first + second, cudaMemcpyHostToDevice, st->stream));
    if (!rc)
        rc = pack_part(ld, it, false, row, n, device, st->stream, err);
    if (!rc && it->up)
        rc = pack_part(ld, it, true, row, n, device + first, st->stream, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaEventRecord(st->packed[i], st->stream));
    st->used[i] = true;
    return rc;
}

static int tell_progress(struct load *ld, int worker, uint64_t bytes, struct error *err)
{
    unsigned long long done = atomic_fetch_add(&ld->done, bytes) + bytes;
    const struct device_options *o = &ld->d->o;
    if (worker == 0 && o->progress && o->progress(o->progress_ud, "loading", done, ld->s->total))
        return fail(err, ERR_USAGE, "loading was stopped");
    return 0;
}

static void load_job(void *arg, int worker, int n_workers)
{
    struct load *ld = arg;
    struct stage st = {0};
    struct error err = {0};
    uint64_t bytes;
    int rc = 0;
    (void)n_workers;
    for (int chunk, n = 0; !rc && !atomic_load(&ld->failed) && (chunk = atomic_fetch_add(&ld->next, 1)) < ld->s->n_chunks; n++) {
        if (!st.open)
            rc = open_stage(ld, &st, worker, &err);
        if (!rc)
            rc = load_chunk(ld, &st, n % RING, chunk, &bytes, &err);
        if (!rc)
            rc = tell_progress(ld, worker, bytes, &err);
    }
    if (!rc && st.open)
        rc = CUDA_TRY(&err, cudaStreamSynchronize(st.stream));
    close_stage(&st);
    if (rc && !atomic_exchange(&ld->failed, 1))
        ld->err = err;
}

/* As many threads as read faster than the bus carries, within what may be pinned. */
static int count_threads(const struct device *d, const struct listing *s)
{
    int n = d->o.threads > 0 ? d->o.threads : pool_default_threads();
    size_t fit = PINNED_BYTES / (RING * s->slot);
    n = min_int(min_int(n, THREADS_MAX), s->n_chunks);
    return fit < 1 ? 1 : fit < (size_t)n ? (int)fit : n;
}

static int read_weights(struct device *d, const struct listing *s, struct error *err)
{
    struct cuda_memory staging = {.n = 0};
    struct load ld = {.d = d, .s = s, .slot = s->slot};
    int threads = count_threads(d, s), rc = 0;
    struct pool *pool = pool_open(threads, err);
    if (!pool)
        return err ? err->code : ERR_OS;
    ld.staging = cuda_take(&staging, (uint64_t)threads * RING * s->slot, false, "staging while weights are loaded", err);
    if (!ld.staging)
        rc = err ? err->code : ERR_OS;
    if (!rc) {
        pool_run(pool, load_job, &ld);
        rc = ld.err.code;
        if (rc && err)
            *err = ld.err;
    }
    cuda_give_back(&staging);
    pool_close(pool);
    return rc;
}

/* All weights in one block of memory, so that a device that is too small says by how much. */
static int take_weights(struct device *d, struct listing *s, struct error *err)
{
    uint8_t *base = cuda_take(&d->memory, s->bytes, true, "weights", err);
    if (!base)
        return err ? err->code : ERR_OS;
    for (int l = 0; l < d->c->n_layers; l++) {
        struct cuda_layer *y = &d->layer[l];
        struct packed *p[] = {&y->qkv[0], &y->qkv[1], &y->qkv[2], &y->gate[0], &y->gate[1], &y->o, &y->down};
        for (size_t i = 0; i < sizeof p / sizeof *p; i++)
            p[i]->data = p[i]->tiles ? base + (uintptr_t)p[i]->data : NULL;
    }
    s->embed.data = base + (uintptr_t)s->embed.data;
    s->head.data = base + (uintptr_t)s->head.data;
    s->draft_head.data = s->draft_head.tiles ? base + (uintptr_t)s->draft_head.data : NULL;
    d->embed = s->embed;
    d->head = s->head;
    d->draft_head = s->draft_head;
    return 0;
}

static int load_draft_tokens(struct device *d, struct error *err)
{
    size_t bytes = (size_t)d->o.n_draft_tokens * sizeof *d->draft_token;
    if (!bytes)
        return 0;
    d->draft_token = cuda_take(&d->memory, bytes, false, "the list of draft tokens", err);
    if (!d->draft_token)
        return err ? err->code : ERR_OS;
    int rc = CUDA_TRY(err, cudaMemcpyAsync(d->draft_token, d->o.draft_token, bytes, cudaMemcpyHostToDevice, d->stream));
    cudaError_t e = cudaStreamSynchronize(d->stream); /* also after a failure: the copy may be under way */
    return rc ? rc : CUDA_TRY(err, e);
}

/* Needs model, c, o, ordinal and stream of d; on failure what was taken stays d's until it is closed. Products with f32 weights take f32 activations, and a pass has
   activations of one type: one such matrix (a file in f32, loaded as it is) makes the device compute in f32 throughout. */
int cuda_load(struct device *d, struct error *err)
{
    struct arena a = {0};
    struct listing s;
    d->layer = arena_array(&d->arena, (uint64_t)d->c->n_layers, sizeof *d->layer);
    int rc = list_all(&s, d->model, &d->o, d->layer, &a, err);
    if (!rc)
        rc = take_weights(d, &s, err);
    if (!rc) {
        d->x_f32 = d->o.wide || s.any_f32;
        rc = read_weights(d, &s, err);
    }
    if (!rc)
        rc = load_vectors(d, &s, err);
    if (!rc)
        rc = load_draft_tokens(d, err);
    arena_free(&a);
    return rc;
}
