/* SPDX-License-Identifier: Apache-2.0 */
#include "model/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/pool.h"
#include "model/quantize_keys.h"

#define ULL(x) ((unsigned long long)(x))
#define COPY DT_COUNT

enum { CHUNK = 1 << 18, NAME_BYTES = 64 }; /* values that a thread converts and writes at a time; a name's zero included */

/* What a file may be asked to be: types by number, then named mixes of them. Embedding and head decide every token, so in a file of 4 bits they get more.
   file_type: llama.cpp's number of such a file. more: V and DOWN of some layers get 6 bits, as in llama.cpp (which gives those of q4_k_s five). */
enum more { MORE_NEVER, MORE_FIRST, MORE_SPREAD };
static const struct type {
    const char *name;
    enum dtype type, embed, head;
    uint32_t file_type;
    enum more more;
} types[] = {
    [DT_F32] = {"f32", DT_F32, DT_F32, DT_F32, 0, MORE_NEVER},     [DT_F16] = {"f16", DT_F16, DT_F16, DT_F16, 1, MORE_NEVER},
    [DT_BF16] = {"bf16", DT_BF16, DT_BF16, DT_BF16, 32, MORE_NEVER}, [DT_Q8_0] = {"q8_0", DT_Q8_0, DT_Q8_0, DT_Q8_0, 7, MORE_NEVER},
    [DT_Q4_0] = {"q4_0", DT_Q4_0, DT_Q8_0, DT_Q8_0, 2, MORE_NEVER}, [DT_Q4_1] = {"q4_1", DT_Q4_1, DT_Q8_0, DT_Q8_0, 3, MORE_NEVER},
    [DT_Q4_K] = {"q4_k", DT_Q4_K, DT_Q6_K, DT_Q6_K, 15, MORE_NEVER}, [DT_Q6_K] = {"q6_k", DT_Q6_K, DT_Q6_K, DT_Q6_K, 18, MORE_NEVER},
    [COPY] = {"copy", COPY, COPY, COPY, 0, MORE_NEVER},
    {"q4_k_s", DT_Q4_K, DT_Q4_K, DT_Q6_K, 14, MORE_FIRST},           {"q4_k_m", DT_Q4_K, DT_Q4_K, DT_Q6_K, 15, MORE_SPREAD},
};
enum { N_TYPES = sizeof types / sizeof *types };

enum kind { K_EMBED, K_HEAD, K_LAYER, K_NORMS = K_LAYER + W_COUNT, K_BIASES, K_ROPE, K_COUNT };
static const char *const kind_names[K_COUNT] = {
    [K_EMBED] = "embed", [K_HEAD] = "head", [K_LAYER + W_Q] = "q", [K_LAYER + W_K] = "k", [K_LAYER + W_V] = "v", [K_LAYER + W_O] = "o",
    [K_LAYER + W_GATE] = "gate", [K_LAYER + W_UP] = "up", [K_LAYER + W_DOWN] = "down", [K_NORMS] = "norms", [K_BIASES] = "biases", [K_ROPE] = "rope",
};

/* One tensor to write. */
struct item {
    const struct view *v;  /* or NULL: */
    const float *values;   /* [rows] */
    int kind, layer;       /* layer: of a matrix */
    enum dtype from, to;
    uint64_t rows, cols;   /* a vector has one column */
    uint64_t head_dim;     /* 0, or: rows go into the order of adjacent-pair rotary, by heads of so many */
    uint64_t chunk_rows, first_chunk, bytes_in; /* bytes_in: as it was stored */
};

struct measure {
    double square, error, most; /* sums of squares of values and of errors; the largest error */
};

struct job {
    const struct quantize_options *o;
    struct model model;
    struct arena arena;
    struct item *item;        /* [n] */
    struct tensor_out *tensor; /* [n] */
    float *rope;              /* [head_dim / 2] or NULL */
    unsigned told[K_COUNT];   /* bits by type: the user knows what became of it */
    int n, most;
    const struct type *mix;
    enum dtype embed, head; /* COPY: as stored */
    struct gguf_bytes keys;
    struct gguf_out out;
    uint64_t n_chunks, total;
    struct measure *measure; /* [n_chunks]: summed in order, whoever made them */
    struct error *why;       /* [threads] */
    atomic_int failed;
    atomic_ullong next, done;
};

static void say(void *ud, const char *line)
{
    const struct job *j = ud;
    if (j->o->note)
        j->o->note(j->o->report_ud, line);
}

/* ---- types ---- */

/* One of the first n. */
static const struct type *find_type(const char *what, const char *name, int n, struct error *err)
{
    char list[160] = "";
    for (int t = 0; t < n; t++) {
        if (name && !strcasecmp(types[t].name, name))
            return &types[t];
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", t ? ", " : "", types[t].name);
    }
    fail(err, ERR_USAGE, "%s \"%s\": must be one of %s", what, name ? name : "(none)", list);
    return NULL;
}

static bool is_quantised(enum dtype t) { return t != COPY && dtype_table[t].block > 1; }

/* A tied embedding is the head, too. */
static int choose_types(struct job *j, struct error *err)
{
    const struct quantize_options *o = j->o;
    const bool tied = j->model.config.tied;
    const struct type *all = j->mix = find_type("type", o->type, N_TYPES, err);
    const struct type *head = all && o->output_type ? find_type("output type", o->output_type, COPY + 1, err) : all;
    const struct type *embed = head && o->embed_type ? find_type("embedding type", o->embed_type, COPY + 1, err) : head ? all : NULL;
    if (!embed)
        return ERR_USAGE;
    j->head = o->output_type ? head->type : o->pure ? all->type : all->head;
    j->embed = o->embed_type ? embed->type : o->pure ? all->type : all->embed;
    if (tied && o->output_type && o->embed_type && j->embed != j->head)
        return fail(err, ERR_USAGE, "%s: the embedding is the head too: give one type for it", j->model.file->path);
    if (tied && !o->embed_type)
        j->embed = j->head;
    return 0;
}

/* Do V and DOWN of a layer get more bits? The first eighth of layers, of V at least four; or also the last eighth, and every third between. */
static bool gets_more(const struct job *j, int kind, int layer)
{
    const int n = j->model.config.n_layers, eighth = n / 8;
    if (j->mix->more == MORE_FIRST)
        return (kind == K_LAYER + W_V && layer < 4) || (kind == K_LAYER + W_DOWN && layer < eighth);
    return j->mix->more == MORE_SPREAD && (kind == K_LAYER + W_V || kind == K_LAYER + W_DOWN) && (layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2);
}

/* Types for rows that make no whole blocks of another: those of 256 become the next of 32, those F16, as in llama.cpp. */
static enum dtype next_type(enum dtype t) { return t == DT_Q4_K ? DT_Q4_1 : t == DT_Q6_K ? DT_Q8_0 : DT_F16; }

/* The type that an item gets: vectors stay exact. The user hears once of each kind of tensor that does not get the type it should. */
static int settle_type(struct job *j, struct item *it, struct error *err)
{
    enum dtype want = it->kind == K_EMBED ? j->embed : it->kind == K_HEAD ? j->head : gets_more(j, it->kind, it->layer) ? DT_Q6_K : j->mix->type;
    want = it->to = it->kind >= K_NORMS ? DT_F32 : want == COPY ? it->from : want;
    while (it->cols % (uint64_t)dtype_table[it->to].block)
        it->to = next_type(it->to);
    if (it->to != want && !(j->told[it->kind] >> want & 1)) {
        char line[240];
        snprintf(line, sizeof line, "%s%s: rows of %llu values make no blocks of %d for %s: %s %s", j->tensor[it - j->item].name, it->kind >= K_LAYER ? " and its like" : "", ULL(it->cols),
                 dtype_table[want].block, dtype_table[want].name, it->kind >= K_LAYER ? "they get" : "it gets", dtype_table[it->to].name);
        say(j, line);
        j->told[it->kind] |= 1u << want;
    }
    if (is_quantised(it->from) && is_quantised(it->to) && it->from != it->to && !j->o->allow_requantize)
        return fail(err, ERR_USAGE, "tensor %s: is %s already, rounding it again to %s adds one error to another: take the original, or say --allow-requantize",
                    it->v->file_name, dtype_table[it->from].name, dtype_table[it->to].name);
    return 0;
}

/* ---- the list of tensors ---- */

static int add(struct job *j, const char *name, struct item it, struct error *err)
{
    char *file_name = arena_alloc(&j->arena, NAME_BYTES);
    struct item *to = &j->item[j->n];
    if (!file_name)
        return fail(err, ERR_OS, "out of memory for the tensor list");
    if (j->n == j->most || !gguf_tensor_name(name, file_name, NAME_BYTES))
        return fail(err, ERR_INTERNAL, "tensor %s has no name in GGUF", name);
    *to = it;
    to->bytes_in = it.v ? it.v->bytes : it.rows * 4;
    j->tensor[j->n] = (struct tensor_out){.name = file_name, .rank = it.v ? it.v->rank : 1, .dim = {it.rows, it.cols}};
    int rc = settle_type(j, to, err);
    j->tensor[j->n++].type = to->to;
    uint64_t unit = it.head_dim ? it.head_dim : 1;
    to->chunk_rows = CHUNK / it.cols / unit * unit;
    to->chunk_rows = to->chunk_rows < unit ? unit : to->chunk_rows > it.rows ? it.rows : to->chunk_rows;
    to->first_chunk = j->n_chunks;
    j->n_chunks += (it.rows + to->chunk_rows - 1) / to->chunk_rows;
    j->total += to->bytes_in;
    return rc;
}

static int add_view(struct job *j, const char *name, int kind, int layer, int heads, struct error *err)
{
    const struct view *v = checkpoint_find(j->model.file, name);
    if (!v)
        return 0;
    return add(j, name, (struct item){.v = v, .kind = kind, .layer = layer, .from = v->type, .rows = v->dim[0], .cols = v->dim[1], .head_dim = heads ? v->dim[0] / (uint64_t)heads : 0}, err);
}

static int add_layer(struct job *j, int layer, struct error *err)
{
    static const char *const names[W_COUNT] = {"attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down"};
    const struct config *c = &j->model.config;
    char name[64];
    int rc = 0;
    for (int w = 0; w < W_COUNT && !rc; w++) {
        int heads = w == W_Q ? c->n_heads : w == W_K ? c->n_kv_heads : 0;
        snprintf(name, sizeof name, "layers.%d.%s", layer, names[w]);
        rc = add_view(j, name, w == W_ATTN_NORM || w == W_FFN_NORM ? K_NORMS : K_LAYER + w, layer, heads, err);
        snprintf(name, sizeof name, "layers.%d.%s.bias", layer, names[w]);
        if (!rc)
            rc = add_view(j, name, K_BIASES, layer, heads, err);
    }
    return rc;
}

/* Llama 3's scaling is a tensor in GGUF: that of the file, or one made from the config. */
static int add_rope(struct job *j, struct error *err)
{
    const struct config *c = &j->model.config;
    uint64_t n = (uint64_t)c->head_dim / 2;
    if (c->rope != ROPE_LLAMA3)
        return add_view(j, "rope_factors", K_ROPE, 0, 0, err);
    j->rope = arena_array(&j->arena, n, sizeof *j->rope);
    int rc = j->rope ? quantize_rope(&j->model, j->rope, err) : fail(err, ERR_OS, "out of memory");
    return rc ? rc : add(j, "rope_factors", (struct item){.values = j->rope, .kind = K_ROPE, .from = DT_F32, .rows = n, .cols = 1}, err);
}

static int list_items(struct job *j, struct error *err)
{
    const struct config *c = &j->model.config;
    j->most = j->model.file->n_views + 1;
    j->item = arena_array(&j->arena, (uint64_t)j->most, sizeof *j->item);
    j->tensor = arena_array(&j->arena, (uint64_t)j->most, sizeof *j->tensor);
    int rc = j->item && j->tensor ? add_rope(j, err) : fail(err, ERR_OS, "out of memory for the tensor list");
    if (!rc)
        rc = add_view(j, "embed", K_EMBED, 0, 0, err);
    for (int l = 0; l < c->n_layers && !rc; l++)
        rc = add_layer(j, l, err);
    if (!rc)
        rc = add_view(j, "norm", K_NORMS, 0, 0, err);
    return rc || c->tied ? rc : add_view(j, "head", K_HEAD, 0, 0, err); /* a head that a tied config does not use is left out */
}

/* ---- the work ---- */

/* What a thread needs for a chunk. */
struct room {
    uint8_t *raw, *out; /* rows as stored, rows as written */
    float *wide, *back; /* rows as written, before and after rounding */
};

static int take_room(const struct job *j, struct room *r, struct error *err)
{
    uint64_t raw = 0, out = 0, wide = 0;
    for (int i = 0; i < j->n; i++) {
        const struct item *it = &j->item[i];
        uint64_t in_bytes = it->chunk_rows * dtype_row_bytes(it->from, it->cols), out_bytes = it->chunk_rows * dtype_row_bytes(it->to, it->cols), values = it->chunk_rows * it->cols;
        raw = in_bytes > raw ? in_bytes : raw;
        out = out_bytes > out ? out_bytes : out;
        wide = values > wide ? values : wide;
    }
    *r = (struct room){malloc(raw), malloc(out), malloc(wide * sizeof(float)), malloc(wide * sizeof(float))};
    return r->raw && r->out && r->wide && r->back ? 0 : fail(err, ERR_OS, "out of memory for a buffer of %llu bytes", ULL(raw + out + 8 * wide));
}

static void free_room(struct room *r)
{
    free(r->raw);
    free(r->out);
    free(r->wide);
    free(r->back);
}

/* The chunk's row that is written as its row `row`: adjacent-pair rotary has the halves of a head side by side. */
static uint64_t source_row(const struct item *it, uint64_t row)
{
    uint64_t d = it->head_dim, in = d ? row % d : 0;
    return d ? row - in + in / 2 + (in % 2 ? d / 2 : 0) : row;
}

/* Sums in 16 lanes, so that compilers make vector code of them. */
static struct measure compare(const float *x, const float *y, uint64_t n)
{
    enum { LANES = 16 };
    double square[LANES] = {0}, error[LANES] = {0};
    float most[LANES] = {0};
    for (uint64_t i = 0; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float a = x[i + (unsigned)k], e = fabsf(a - y[i + (unsigned)k]);
            square[k] += (double)a * (double)a;
            error[k] += (double)e * (double)e;
            most[k] = e > most[k] ? e : most[k];
        }
    for (uint64_t i = n / LANES * LANES; i < n; i++) {
        float e = fabsf(x[i] - y[i]);
        square[0] += (double)x[i] * (double)x[i];
        error[0] += (double)e * (double)e;
        most[0] = e > most[0] ? e : most[0];
    }
    struct measure m = {0};
    for (int k = 0; k < LANES; k++) {
        m.square += square[k];
        m.error += error[k];
        m.most = most[k] > m.most ? most[k] : m.most;
    }
    return m;
}

/* Sums that are no numbers: some value was none, or became none. */
static int refuse_values(const struct job *j, const struct item *it, uint64_t row, uint64_t rows, const struct room *r, struct error *err)
{
    const char *name = it->v ? it->v->file_name : j->tensor[it - j->item].name;
    for (uint64_t i = 0; i < rows * it->cols; i++) {
        uint64_t at = row * it->cols + i;
        if (!isfinite(r->wide[i]))
            return fail(err, ERR_DATA, "%s: tensor \"%s\": near index %llu a value is not finite: the checkpoint is damaged (`info --check` lists all such tensors)", j->model.file->path, name, ULL(at));
        if (!isfinite(r->back[i]))
            return fail(err, ERR_DATA, "%s: tensor \"%s\": near index %llu the value %g is beyond the range of %s: choose another type", j->model.file->path, name, ULL(at), (double)r->wide[i],
                        dtype_table[it->to].name);
    }
    return fail(err, ERR_INTERNAL, "tensor \"%s\": sums that are no numbers", name);
}

static int convert(struct job *j, const struct item *it, uint64_t row, uint64_t rows, const struct room *r, struct measure *m, struct error *err)
{
    const uint64_t in = dtype_row_bytes(it->from, it->cols), out = dtype_row_bytes(it->to, it->cols), n = rows * it->cols;
    int rc = 0;
    if (it->v)
        rc = checkpoint_read_rows(j->model.file, it->v, row, rows, r->raw, err);
    else
        memcpy(r->raw, it->values + row, rows * sizeof *it->values);
    if (rc)
        return rc;
    for (uint64_t i = 0; i < rows; i++) {
        const uint8_t *from = r->raw + source_row(it, i) * in;
        dtype_to_f32(it->from, from, r->wide + i * it->cols, it->cols);
        if (it->from == it->to)
            memcpy(r->out + i * out, from, out);
    }
    if (it->from != it->to)
        dtype_from_f32(it->to, r->wide, r->out, n);
    dtype_to_f32(it->to, r->out, r->back, n);
    *m = compare(r->wide, r->back, n);
    if (!isfinite(m->square) || !isfinite(m->error))
        return refuse_values(j, it, row, rows, r, err);
    return gguf_write(&j->out, (int)(it - j->item), row * out, r->out, rows * out, err);
}

static const struct item *item_of(const struct job *j, uint64_t chunk)
{
    int lo = 0, hi = j->n - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (j->item[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &j->item[lo];
}

static void work(void *arg, int worker, int n_workers)
{
    (void)n_workers;
    struct job *j = arg;
    struct room room;
    struct error *err = &j->why[worker];
    int rc = take_room(j, &room, err);
    for (uint64_t chunk; !rc && !atomic_load(&j->failed) && (chunk = atomic_fetch_add(&j->next, 1)) < j->n_chunks;) {
        const struct item *it = item_of(j, chunk);
        uint64_t row = (chunk - it->first_chunk) * it->chunk_rows, rows = it->rows - row < it->chunk_rows ? it->rows - row : it->chunk_rows;
        rc = convert(j, it, row, rows, &room, &j->measure[chunk], err);
        uint64_t part = rows * dtype_row_bytes(it->from, it->cols), done = atomic_fetch_add(&j->done, part) + part;
        if (!rc && worker == 0 && j->o->progress && j->o->progress(j->o->progress_ud, "quantising", done, j->total))
            rc = fail(err, ERR_USAGE, "stopped");
    }
    if (rc)
        atomic_store(&j->failed, 1);
    free_room(&room);
}

static int run(struct job *j, struct error *err)
{
    struct pool *pool = pool_open(j->o->threads, err);
    if (!pool)
        return ERR_OS;
    int n = pool_threads(pool), rc = 0;
    j->measure = arena_array(&j->arena, j->n_chunks, sizeof *j->measure);
    j->why = arena_array(&j->arena, (uint64_t)n, sizeof *j->why);
    if (j->measure && j->why)
        pool_run(pool, work, j);
    else
        rc = fail(err, ERR_OS, "out of memory for %llu pieces of work", ULL(j->n_chunks));
    pool_close(pool);
    for (int i = 0; i < n && !rc; i++)
        if (j->why[i].code)
            rc = fail(err, j->why[i].code, "%s", j->why[i].text);
    return rc;
}

/* ---- the report ---- */

static const char *merge_types(const char *a, const char *b) { return !a || !strcmp(a, b) ? b : "mixed"; }

/* The total's types are those of the matrices. */
static void add_item(const struct job *j, const struct item *it, bool typed, struct quantize_row *row, struct measure *sum)
{
    if (typed) {
        row->from = merge_types(row->from, dtype_table[it->from].name);
        row->to = merge_types(row->to, dtype_table[it->to].name);
    }
    row->tensors++;
    row->values += it->rows * it->cols;
    row->bytes_before += it->bytes_in;
    row->bytes_after += it->rows * dtype_row_bytes(it->to, it->cols);
    for (uint64_t c = 0; j->measure && c < (it->rows + it->chunk_rows - 1) / it->chunk_rows; c++) {
        const struct measure *m = &j->measure[it->first_chunk + c];
        sum->square += m->square;
        sum->error += m->error;
        sum->most = m->most > sum->most ? m->most : sum->most;
    }
}

static void report(const struct job *j)
{
    for (int kind = 0; kind <= K_COUNT && j->o->row; kind++) {
        struct quantize_row row = {.kind = kind < K_COUNT ? kind_names[kind] : "total", .rms_error = -1};
        struct measure sum = {0};
        for (int i = 0; i < j->n; i++)
            if (kind == K_COUNT || j->item[i].kind == kind)
                add_item(j, &j->item[i], kind < K_COUNT || j->item[i].kind < K_NORMS, &row, &sum);
        if (j->measure) {
            row.rms_error = sum.square > 0 ? sqrt(sum.error / sum.square) : 0;
            row.max_error = sum.most;
        }
        if (row.tensors)
            j->o->row(j->o->report_ud, &row);
    }
}

/* ---- the file ---- */

/* That of the type that most values in the layers' matrices get; where it is the one that was asked for, a mix has its own. */
static uint32_t file_type(const struct job *j)
{
    uint64_t values[DT_COUNT] = {0};
    int best = 0;
    for (int i = 0; i < j->n; i++)
        if (j->item[i].kind >= K_LAYER && j->item[i].kind < K_NORMS)
            values[j->item[i].to] += j->item[i].rows * j->item[i].cols;
    for (int t = 1; t < DT_COUNT; t++)
        if (values[t] > values[best])
            best = t;
    return (j->mix->type == (enum dtype)best ? j->mix : &types[best])->file_type;
}

/* Replacing what is being read would not harm the copy that is made first, but nobody means it. */
static int check_names(const struct job *j, struct error *err)
{
    struct stat a, b;
    for (int p = 0; p < j->out.n_parts; p++)
        for (int i = 0; i < j->model.file->n_shards; i++)
            if (!stat(gguf_part_path(&j->out, p), &a) && !fstat(j->model.file->shard[i].fd, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
                return fail(err, ERR_USAGE, "%s: input and output are one file: choose another name", gguf_part_path(&j->out, p));
    return 0;
}

static int plan(struct job *j, const char *out, struct error *err)
{
    int rc = choose_types(j, err);
    if (!rc)
        rc = list_items(j, err);
    if (!rc)
        rc = quantize_keys(&j->model, file_type(j), &j->keys, say, j, err);
    if (!rc)
        rc = gguf_plan(&j->out, out ? out : "", &j->keys, j->tensor, j->n, j->o->part_bytes, err);
    return rc || !out ? rc : check_names(j, err);
}

static int write_file(struct job *j, struct error *err)
{
    int rc = 0;
    if (j->o->progress && j->o->progress(j->o->progress_ud, "quantising", 0, j->total)) /* asked before anything is there that must go again */
        rc = fail(err, ERR_USAGE, "stopped");
    if (!rc)
        rc = gguf_create(&j->out, j->o->force, err);
    if (!rc)
        rc = run(j, err);
    return rc ? rc : gguf_commit(&j->out, err);
}

static int set_profile(struct config *c, const struct quantize_options *o, struct error *err)
{
    if (o->exit_layer < 0 || o->exit_layer >= c->n_layers)
        return fail(err, ERR_USAGE, "exit layer %d: this model has %d layers: give 1 to %d", o->exit_layer, c->n_layers, c->n_layers - 1);
    if (o->num_speculations < 0 || (o->num_speculations && !o->exit_layer && !c->exit_layer))
        return fail(err, ERR_USAGE, "%d drafts in a round, and no exit layer to draft from: give that too", o->num_speculations);
    c->exit_layer = o->exit_layer ? o->exit_layer : c->exit_layer;
    c->num_speculations = o->num_speculations ? o->num_speculations : c->num_speculations;
    if (o->n_draft_tokens) {
        c->draft_token = o->draft_token;
        c->n_draft_tokens = o->n_draft_tokens;
    }
    return 0;
}

int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *err)
{
    struct job j = {.o = o};
    if (!out && !o->dry_run)
        return fail(err, ERR_USAGE, "no output file given");
    int rc = model_open(&j.model, in, o->ignore, err), parts = 0;
    if (!rc)
        rc = set_profile(&j.model.config, o, err);
    if (!rc)
        rc = plan(&j, out, err);
    if (!rc && !o->dry_run)
        rc = write_file(&j, err);
    if (!rc) {
        parts = j.out.n_parts;
        report(&j);
    }
    gguf_abandon(&j.out);
    gguf_free(&j.keys);
    arena_free(&j.arena);
    model_close(&j.model);
    return rc ? rc : parts;
}
