/* SPDX-License-Identifier: Apache-2.0 */
#include "model/synth.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/philox.h"
#include "base/pool.h"
#include "format/safetensors_write.h"
#include "model/shapes.h"
#include "model/synth_text.h"

enum {
    LEVELS = 1021,   /* different values of a tensor: sums of four bytes */
    GROUP = 64,      /* values made side by side */
    CHUNK = 1 << 20, /* values that a thread makes and writes at a time; a multiple of GROUP */
    MAX_LAYERS = 1024
};

/* How a tensor's values are made. */
struct source {
    uint64_t key, count;
    double std; /* 0: all ones */
    int twins;  /* 0, or the row length: odd rows are their predecessors with some bits changed */
};

struct plan {
    const struct shape *shape;
    uint64_t seed;
    int layers, tied, n; /* n: tensors so far */
    enum dtype type;
    struct tensor_out *tensor; /* [n] */
    struct source *source;     /* [n] */
    struct arena arena;
};

static uint64_t fnv1a(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 0x100000001b3u;
    return h;
}

/* ---- which tensors there are ---- */

/* cols 0: a vector. std 0: all ones. */
static int add_tensor(struct plan *p, double std, int rows, int cols, const char *prefix, const char *name, const char *suffix)
{
    char full[128];
    int n = snprintf(full, sizeof full, "%s%s%s", prefix, name, suffix);
    char *copy = arena_text(&p->arena, full, (size_t)n);
    if (!copy)
        return -1;
    int rank = cols ? 2 : 1;
    uint64_t width = cols ? (uint64_t)cols : 1;
    p->tensor[p->n] = (struct tensor_out){.name = copy, .type = p->type, .rank = rank, .dim = {(uint64_t)rows, width}};
    p->source[p->n++] = (struct source){.key = p->seed ^ fnv1a(copy), .count = (uint64_t)rows * width, .std = std};
    return 0;
}

static int add_layer(struct plan *p, int l)
{
    const struct shape *s = p->shape;
    const int h = s->hidden, q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const double in = s->range, out = in * (l < 2 ? 1.0 : 0.25 * exp(-(l - 2) / 5.0)); /* out: matrices that add to the residual */
    const struct {
        const char *name;
        int rows, cols; /* cols 0: a norm */
        double std;
    } parts[] = {
        {"input_layernorm", h, 0, 0},       {"self_attn.q_proj", q, h, in},
        {"self_attn.k_proj", kv, h, in},    {"self_attn.v_proj", kv, h, in},
        {"self_attn.o_proj", h, q, out},    {"post_attention_layernorm", h, 0, 0},
        {"mlp.gate_proj", s->ffn, h, in},   {"mlp.up_proj", s->ffn, h, in},
        {"mlp.down_proj", h, s->ffn, out},
    };
    char prefix[32];
    snprintf(prefix, sizeof prefix, "model.layers.%d.", l);
    int bad = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bad |= add_tensor(p, parts[i].std, parts[i].rows, parts[i].cols, prefix, parts[i].name, ".weight");
        if (s->biases && parts[i].cols)
            bad |= add_tensor(p, parts[i].std, parts[i].rows, 0, prefix, parts[i].name, ".bias");
    }
    return bad;
}

static int add_all(struct plan *p, struct error *err)
{
    const struct shape *s = p->shape;
    const uint64_t most = (uint64_t)p->layers * 16 + 3;
    p->tensor = arena_array(&p->arena, most, sizeof *p->tensor);
    p->source = arena_array(&p->arena, most, sizeof *p->source);
    if (!p->tensor || !p->source)
        return fail(err, ERR_OS, "out of memory for the tensor list");
    int bad = add_tensor(p, 1.0, s->vocab, s->hidden, "", "model.embed_tokens", ".weight");
    for (int l = 0; l < p->layers; l++)
        bad |= add_layer(p, l);
    bad |= add_tensor(p, 0, s->hidden, 0, "", "model.norm", ".weight");
    if (!p->tied) {
        bad |= add_tensor(p, s->range, s->vocab, s->hidden, "", "lm_head", ".weight");
        p->source[p->n - 1].twins = s->twins ? s->hidden : 0;
    }
    return bad ? fail(err, ERR_OS, "out of memory for the tensor list") : 0;
}

/* ---- values ---- */

static inline uint32_t byte_sum(uint32_t w)
{
    uint32_t pairs = (w & 0x00ff00ffu) + ((w >> 8) & 0x00ff00ffu);
    return (pairs + (pairs >> 16)) & 0xffffu;
}

/* The byte sums of values [first, first + GROUP), first a multiple of GROUP. */
static void make_sums(uint64_t key, uint64_t first, uint32_t sum[GROUP])
{
    enum { LANES = GROUP / 4 };
    uint32_t v[4][LANES];
    const uint64_t counter = first / 4;
    for (int i = 0; i < LANES; i++) {
        struct philox r = philox(key, (uint32_t)(counter + (unsigned)i), (uint32_t)((counter + (unsigned)i) >> 32), 0, 0);
        for (int k = 0; k < 4; k++)
            v[k][i] = r.v[k];
    }
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < 4; k++)
            sum[4 * i + k] = byte_sum(v[k][i]);
}

/* The stored bits of every byte sum. */
static void make_levels(enum dtype type, double std, uint32_t level[LEVELS])
{
    const float scale = (float)(std / (2 * sqrt(21845.0)));
    for (int i = 0; i < LEVELS; i++) {
        float value = std > 0 ? (float)(2 * i - 1020) * scale : 1;
        level[i] = 0;
        dtype_from_f32(type, &value, &level[i], 1);
    }
}

/* A value of a twin tensor: rows 2k and 2k + 1 are equal but for every 16th value, which is one step further from zero. */
static uint32_t twin_value(const struct source *s, uint64_t i, const uint32_t *level)
{
    const uint64_t width = (uint64_t)s->twins, odd = i / width % 2, from = i - odd * width;
    struct philox r = philox(s->key, (uint32_t)(from / 4), (uint32_t)(from / 4 >> 32), 0, 0);
    return level[byte_sum(r.v[from % 4])] + (uint32_t)(odd && i % width % 16 == 0);
}

static inline void store(void *out, uint64_t i, uint32_t bits, int bytes)
{
    if (bytes == 2)
        ((uint16_t *)out)[i] = (uint16_t)bits;
    else
        ((uint32_t *)out)[i] = bits;
}

/* Values [first, first + n) of a tensor, first a multiple of GROUP; out has room for n rounded up to GROUP. */
static inline void fill_as(const struct source *s, const uint32_t *level, uint64_t first, uint64_t n, void *out, int bytes)
{
    uint32_t sum[GROUP];
    for (uint64_t i = 0; i < n && s->twins; i++)
        store(out, i, twin_value(s, first + i, level), bytes);
    for (uint64_t i = 0; i < n && !s->twins; i += GROUP) {
        make_sums(s->key, first + i, sum);
        for (int k = 0; k < GROUP; k++)
            store(out, i + (unsigned)k, level[sum[k]], bytes);
    }
}

static void fill(const struct source *s, enum dtype type, uint64_t first, uint64_t n, void *out)
{
    uint32_t level[LEVELS];
    make_levels(type, s->std, level);
    if (dtype_table[type].bytes == 2) /* two copies of the loop, each with its constant */
        fill_as(s, level, first, n, out, 2);
    else
        fill_as(s, level, first, n, out, 4);
}

/* ---- all threads fill and write ---- */

struct job {
    const struct plan *plan;
    const struct synth_options *o;
    struct safetensors_out out;
    void *buffer; /* [workers][CHUNK] values of at most 4 bytes */
    atomic_uint_least64_t next, done; /* chunk to take; bytes written */
    atomic_int rc;
    pthread_mutex_t lock; /* of err */
    struct error *err;
};

/* Chunk `want` of the whole checkpoint: moves *tensor and *before (chunks of the tensors before it) forward; false past the end. */
static bool find_chunk(const struct plan *p, uint64_t want, int *tensor, uint64_t *before)
{
    for (; *tensor < p->n; ++*tensor) {
        uint64_t chunks = (p->source[*tensor].count + CHUNK - 1) / CHUNK;
        if (want < *before + chunks)
            return true;
        *before += chunks;
    }
    return false;
}

/* The first failure stays. */
static void stop(struct job *j, int rc, const struct error *why)
{
    pthread_mutex_lock(&j->lock);
    if (!atomic_load(&j->rc)) {
        if (j->err)
            *j->err = *why;
        atomic_store(&j->rc, rc);
    }
    pthread_mutex_unlock(&j->lock);
}

static void work(void *arg, int worker, int n_workers)
{
    (void)n_workers;
    struct job *j = arg;
    const struct plan *p = j->plan;
    const struct synth_options *o = j->o;
    const uint64_t size = (uint64_t)dtype_table[p->type].bytes;
    void *buffer = (char *)j->buffer + (size_t)worker * CHUNK * 4;
    struct error why;
    int tensor = 0;
    uint64_t before = 0, chunk;
    while (!atomic_load(&j->rc) && find_chunk(p, chunk = atomic_fetch_add(&j->next, 1), &tensor, &before)) {
        const struct source *s = &p->source[tensor];
        uint64_t first = (chunk - before) * CHUNK, n = s->count - first < CHUNK ? s->count - first : CHUNK;
        fill(s, p->type, first, n, buffer);
        int rc = safetensors_write(&j->out, tensor, first * size, buffer, (size_t)(n * size), &why);
        uint64_t done = atomic_fetch_add(&j->done, n * size) + n * size;
        if (!rc && worker == 0 && o->progress && o->progress(o->progress_ud, "writing weights", done, j->out.total))
            rc = fail(&why, ERR_USAGE, "stopped");
        if (rc)
            stop(j, rc, &why);
    }
}

static int write_weights(const struct plan *p, const char *folder, const struct synth_options *o, struct error *err)
{
    struct job j = {.plan = p, .o = o, .lock = PTHREAD_MUTEX_INITIALIZER, .err = err};
    const uint64_t shard_bytes = o->shard_bytes ? o->shard_bytes : (uint64_t)4 << 30;
    int rc = safetensors_create(&j.out, folder, p->tensor, p->n, shard_bytes, err);
    if (rc)
        return rc;
    struct pool *pool = pool_open(o->threads, err);
    if (!pool) {
        safetensors_abandon(&j.out);
        return ERR_OS;
    }
    j.buffer = calloc((size_t)pool_threads(pool), (size_t)CHUNK * 4);
    if (!j.buffer)
        atomic_store(&j.rc, fail(err, ERR_OS, "out of memory for %d write buffers", pool_threads(pool)));
    else
        pool_run(pool, work, &j);
    pool_close(pool);
    free(j.buffer);
    rc = atomic_load(&j.rc);
    if (!rc)
        rc = safetensors_commit(&j.out, err);
    safetensors_abandon(&j.out);
    return rc;
}

/* ---- the folder ---- */

static int make_plan(struct plan *p, const struct synth_options *o, struct error *err)
{
    static const struct {
        const char *name;
        enum dtype type;
    } types[] = {{"bf16", DT_BF16}, {"f16", DT_F16}, {"f32", DT_F32}};
    const char *want = o->dtype ? o->dtype : "bf16";
    *p = (struct plan){.shape = o->shape ? shape_find(o->shape) : NULL, .seed = o->seed ? o->seed : 1, .type = DT_COUNT};
    if (!p->shape)
        return fail(err, ERR_USAGE, "shape %s: there is no such shape", o->shape ? o->shape : "(none)");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(want, types[i].name))
            p->type = types[i].type;
    if (p->type == DT_COUNT)
        return fail(err, ERR_USAGE, "dtype %s: must be bf16, f16 or f32", want);
    if (o->layers < 0 || o->layers > MAX_LAYERS)
        return fail(err, ERR_USAGE, "layers %d: must be 1 to %d, or 0 for the shape's", o->layers, MAX_LAYERS);
    p->layers = o->layers ? o->layers : p->shape->layers;
    p->tied = p->shape->tied || o->tie;
    return add_all(p, err);
}

/* "folder.tmp-PID" without slashes before the dot. NULL: out of memory. Caller frees. */
static char *temp_name(const char *folder)
{
    size_t n = strlen(folder), size = n + 32;
    while (n > 1 && folder[n - 1] == '/')
        n--;
    char *temp = malloc(size);
    if (temp)
        snprintf(temp, size, "%.*s.tmp-%ld", (int)n, folder, (long)getpid());
    return temp;
}

static uint64_t total_bytes(const struct plan *p)
{
    uint64_t total = 0;
    for (int i = 0; i < p->n; i++)
        total += p->source[i].count * (uint64_t)dtype_table[p->type].bytes;
    return total;
}

/* A folder of ours: files only. */
static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0); /* "." and ".." refuse */
    if (d)
        closedir(d);
    rmdir(path);
}

static int write_folder(const struct plan *p, const char *temp, const char *folder, const struct synth_options *o, struct error *err)
{
    if (o->progress && o->progress(o->progress_ud, "writing weights", 0, total_bytes(p))) /* asked before anything is there that must go again */
        return fail(err, ERR_USAGE, "stopped");
    if (mkdir(temp, 0777))
        return fail(err, ERR_CREATE, "%s: cannot create the folder: %s", temp, strerror(errno));
    int rc = synth_write_text(temp, p->shape, p->layers, p->tied, p->type, err);
    if (!rc)
        rc = write_weights(p, temp, o, err);
    if (!rc && rename(temp, folder))
        rc = fail(err, ERR_CREATE, "%s: cannot rename to %s: %s", temp, folder, strerror(errno));
    else if (!rc && (rc = file_sync_folder(folder, err)))
        rename(folder, temp); /* as before: it was not there */
    if (rc)
        remove_folder(temp);
    return rc;
}

int synth_write(const char *folder, const struct synth_options *o, struct error *err)
{
    struct plan plan;
    struct stat st;
    if (!lstat(folder, &st))
        return fail(err, ERR_CREATE, "%s: exists already: remove it or choose another name", folder);
    int rc = make_plan(&plan, o, err);
    if (!rc) {
        char *temp = temp_name(folder);
        rc = temp ? write_folder(&plan, temp, folder, o, err) : fail(err, ERR_OS, "out of memory");
        free(temp);
    }
    arena_free(&plan.arena);
    return rc;
}
