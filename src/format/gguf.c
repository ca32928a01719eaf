/* SPDX-License-Identifier: Apache-2.0 */
/* The GGUF container, versions 2 and 3: a header of counts, key-value pairs, tensor descriptions, then aligned data. All of it is hostile. */
#include "format/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "format/fill.h"

#define ULL(x) ((unsigned long long)(x))

enum {
    WINDOW = 64 << 10,
    POOL = 64 << 10,
    KEY_BYTES_MAX = 65535,
    NAME_BYTES_MAX = 64,
    INTS_MAX = 1 << 18,         /* longer lists of numbers are of no use to anybody here */
    TOKENS_MAX = 1 << 22,
    PAIR_BYTES_MIN = 8 + 1 + 4 + 1,
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8,
    ALIGNMENT_MAX = 4096
};

static const unsigned char value_bytes[GGUF_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8}; /* the least that one takes */

/* Tensor types by their number in the file; type < 0: known by name only. Numbers that are not here were removed or never given out. */
static const struct {
    const char *name;
    int type;
} tensor_types[] = {
    [0] = {"F32", DT_F32},    [1] = {"F16", DT_F16},    [2] = {"Q4_0", DT_Q4_0}, [3] = {"Q4_1", DT_Q4_1}, [6] = {"Q5_0", -1},    [7] = {"Q5_1", -1},
    [8] = {"Q8_0", DT_Q8_0},  [9] = {"Q8_1", -1},       [10] = {"Q2_K", -1},     [11] = {"Q3_K", -1},     [12] = {"Q4_K", DT_Q4_K},   [13] = {"Q5_K", -1},
    [14] = {"Q6_K", DT_Q6_K},      [15] = {"Q8_K", -1},      [16] = {"IQ2_XXS", -1},  [17] = {"IQ2_XS", -1},   [18] = {"IQ3_XXS", -1}, [19] = {"IQ1_S", -1},
    [20] = {"IQ4_NL", -1},    [21] = {"IQ3_S", -1},     [22] = {"IQ2_S", -1},    [23] = {"IQ4_XS", -1},   [24] = {"I8", -1},     [25] = {"I16", -1},
    [26] = {"I32", -1},       [27] = {"I64", -1},       [28] = {"F64", -1},      [29] = {"IQ1_M", -1},    [30] = {"BF16", DT_BF16}, [34] = {"TQ1_0", -1},
    [35] = {"TQ2_0", -1},     [39] = {"MXFP4", -1},
};

uint32_t gguf_type_number(enum dtype type)
{
    uint32_t i = 0;
    while (!tensor_types[i].name || tensor_types[i].type != (int)type)
        i++;
    return i;
}

/* One file being read, through a window; strings go to a pool in the checkpoint's arena. */
struct gguf {
    struct checkpoint *c;
    const struct file *file;
    int shard, first_view; /* of this file in the checkpoint's lists */
    uint64_t at, window_at;
    size_t window_n;
    uint8_t *window; /* [WINDOW] */
    char *pool;
    size_t pool_left;
    uint32_t alignment;
    struct error *err;
};

static int refuse(struct gguf *g, const char *what, uint64_t value, const char *why)
{
    return fail(g->err, ERR_DATA, "%s: offset 0x%llx: %s %llu: %s", g->file->path, ULL(g->at), what, ULL(value), why);
}

static uint64_t left(const struct gguf *g) { return g->file->size - g->at; }

static int take(struct gguf *g, void *out, uint64_t n, const char *what)
{
    uint8_t *to = out;
    if (n > left(g))
        return refuse(g, what, n, "more bytes than the file has left: it is cut off or damaged, get it again");
    while (n) {
        uint64_t in = g->at - g->window_at;
        if (g->at < g->window_at || in >= g->window_n) {
            g->window_at = g->at;
            g->window_n = left(g) < WINDOW ? (size_t)left(g) : WINDOW;
            int rc = file_read_at(g->file, g->at, g->window, g->window_n, g->err);
            if (rc)
                return rc;
            in = 0;
        }
        size_t m = g->window_n - (size_t)in < n ? g->window_n - (size_t)in : (size_t)n;
        memcpy(to, g->window + in, m);
        to += m;
        n -= m;
        g->at += m;
    }
    return 0;
}

static int take_number(struct gguf *g, unsigned bytes, uint64_t *out, const char *what)
{
    uint8_t b[8];
    int rc = take(g, b, bytes, what);
    *out = 0;
    for (unsigned i = 0; !rc && i < bytes; i++)
        *out |= (uint64_t)b[i] << (8 * i);
    return rc;
}

/* A string with a zero behind it. */
static int take_text(struct gguf *g, struct bytes *out, uint64_t limit, const char *what)
{
    uint64_t n;
    int rc = take_number(g, 8, &n, what);
    if (rc)
        return rc;
    if (n > left(g) || n > limit)
        return refuse(g, what, n, n > limit ? "longer than such a string may be" : "a length that goes past the end of the file");
    if (n + 1 > g->pool_left) {
        g->pool_left = n + 1 > POOL ? (size_t)n + 1 : POOL;
        g->pool = arena_alloc(&g->c->arena, g->pool_left);
        if (!g->pool) {
            g->pool_left = 0;
            return fill_memory(g->err);
        }
    }
    char *text = g->pool;
    g->pool += n + 1;
    g->pool_left -= (size_t)n + 1;
    text[n] = 0;
    *out = (struct bytes){(uint8_t *)text, (size_t)n};
    return take(g, text, n, what);
}

/* A string that serves as a C string. */
static int take_name(struct gguf *g, const char **out, uint64_t limit, const char *what)
{
    struct bytes b;
    int rc = take_text(g, &b, limit, what);
    if (!rc && memchr(b.p, 0, b.n))
        return refuse(g, what, b.n, "a zero byte in its text");
    *out = rc ? NULL : (const char *)b.p;
    return rc;
}

/* ---- values ---- */

static int take_scalar(struct gguf *g, uint64_t type, struct meta *m)
{
    uint64_t v;
    int rc = take_number(g, value_bytes[type], &v, m->key);
    if (rc)
        return rc;
    unsigned unused = 64 - 8 * value_bytes[type];
    bool sign = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
    if (type == GGUF_F32 || type == GGUF_F64) {
        float f;
        uint32_t u = (uint32_t)v;
        memcpy(&f, &u, sizeof f);
        memcpy(&m->real, &v, sizeof m->real);
        if (type == GGUF_F32)
            m->real = f;
        m->type = META_REAL;
        return 0;
    }
    if (type == GGUF_BOOL && v > 1)
        return refuse(g, m->key, v, "a bool is 0 or 1");
    if (type == GGUF_U64 && v > INT64_MAX)
        return refuse(g, m->key, v, "out of range");
    m->type = type == GGUF_BOOL ? META_BOOL : META_INT;
    m->i = sign ? (int64_t)(v << unused) >> unused : (int64_t)v;
    m->real = (double)m->i;
    return 0;
}

/* The lists of the token table. */
static int take_texts(struct gguf *g, uint64_t n, const struct bytes **out, int *n_out, const char *key)
{
    struct bytes *b = n > TOKENS_MAX ? NULL : arena_array(&g->c->arena, n, sizeof *b);
    if (n > TOKENS_MAX)
        return refuse(g, key, n, "more entries than a vocabulary may have");
    if (!b)
        return fill_memory(g->err);
    for (uint64_t i = 0; i < n; i++) {
        int rc = take_text(g, &b[i], INT32_MAX, key);
        if (rc)
            return rc;
    }
    *out = b;
    *n_out = (int)n;
    return 0;
}

/* n numbers of 4 bytes; f32 and i32 differ only in who reads them. */
static int take_words(struct gguf *g, uint64_t n, const void **out, const char *key)
{
    uint32_t *w = arena_array(&g->c->arena, n, sizeof *w);
    if (!w)
        return fill_memory(g->err);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v;
        int rc = take_number(g, 4, &v, key);
        if (rc)
            return rc;
        w[i] = (uint32_t)v;
    }
    *out = w;
    return 0;
}

static int describe(struct gguf *g, struct meta *m, uint64_t n, const char *what)
{
    char text[64];
    int length = snprintf(text, sizeof text, "[%llu %s]", ULL(n), what);
    m->type = META_OTHER;
    m->i = (int64_t)n;
    m->text = arena_text(&g->c->arena, text, (size_t)length);
    return m->text ? 0 : fill_memory(g->err);
}

/* Lists that nobody asked for are walked, so that what they hold is checked too; short ones of whole numbers are kept. */
static int take_list(struct gguf *g, struct meta *m, uint64_t type, uint64_t n)
{
    bool keep = type != GGUF_TEXT && type != GGUF_F32 && type != GGUF_F64 && n <= INTS_MAX;
    int64_t *ints = keep ? arena_array(&g->c->arena, n, sizeof *ints) : NULL;
    if (keep && !ints)
        return fill_memory(g->err);
    for (uint64_t i = 0; i < n; i++) {
        struct meta one = {.key = m->key};
        uint64_t length = 0;
        int rc = type == GGUF_TEXT ? take_number(g, 8, &length, m->key) : take_scalar(g, type, &one);
        if (!rc && length > left(g))
            return refuse(g, m->key, length, "a string length that goes past the end of the file");
        if (rc)
            return rc;
        g->at += length;
        if (keep)
            ints[i] = one.i;
    }
    if (!keep)
        return describe(g, m, n, type == GGUF_TEXT ? "strings" : "numbers");
    m->type = META_INTS;
    m->i = (int64_t)n;
    m->ints = ints;
    return 0;
}

static int take_array(struct gguf *g, struct meta *m)
{
    uint64_t type, n;
    struct token_table *t = &g->c->tokens;
    int rc = take_number(g, 4, &type, m->key);
    if (!rc)
        rc = take_number(g, 8, &n, m->key);
    if (rc)
        return rc;
    if (type >= GGUF_COUNT)
        return refuse(g, m->key, type, "no such value type in a list");
    if (type == GGUF_ARRAY)
        return refuse(g, m->key, n, "lists of lists are not supported");
    if (n > left(g) / value_bytes[type])
        return refuse(g, m->key, n, "more entries than the file has bytes left for");
    const struct {
        const char *key;
        uint64_t type;
        const struct bytes **text;
        int *n;
    } known[] = {
        {"tokenizer.ggml.tokens", GGUF_TEXT, &t->text, &t->n},
        {"tokenizer.ggml.merges", GGUF_TEXT, &t->merge, &t->n_merges},
        {"tokenizer.ggml.scores", GGUF_F32, NULL, NULL},
        {"tokenizer.ggml.token_type", GGUF_I32, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(m->key, known[i].key))
            continue;
        if (type != known[i].type && !(type == GGUF_U32 && known[i].type == GGUF_I32))
            return refuse(g, m->key, type, "the wrong value type for this list");
        const void *words = NULL;
        rc = known[i].text ? take_texts(g, n, known[i].text, known[i].n, m->key) : take_words(g, n, &words, m->key);
        if (known[i].type == GGUF_F32)
            t->score = words;
        if (known[i].type == GGUF_I32)
            t->type = words;
        return rc ? rc : describe(g, m, n, "entries");
    }
    return take_list(g, m, type, n);
}

static int check_key(struct gguf *g, const char *key)
{
    if (!*key)
        return refuse(g, "key length", 0, "a key must have a name");
    for (const char *p = key; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f)
            return refuse(g, "key: byte", (unsigned char)*p, "a key must be printable ASCII");
    return 0;
}

static int take_pair(struct gguf *g)
{
    struct meta m = {.pair = {.offset = g->at}};
    uint64_t type;
    int rc = take_name(g, &m.key, KEY_BYTES_MAX, "key length");
    if (!rc)
        rc = check_key(g, m.key);
    if (!rc)
        rc = take_number(g, 4, &type, m.key);
    if (rc)
        return rc;
    if (type >= GGUF_COUNT)
        return refuse(g, m.key, type, "no such value type");
    if (!strcmp(m.key, "general.alignment") && type != GGUF_U32)
        return refuse(g, m.key, type, "the alignment must be of type u32 (4)");
    if (type == GGUF_TEXT) {
        m.type = META_TEXT;
        rc = take_name(g, &m.text, INT32_MAX, m.key);
    } else {
        rc = type == GGUF_ARRAY ? take_array(g, &m) : take_scalar(g, type, &m);
    }
    if (!rc && !strcmp(m.key, "general.alignment")) {
        if (m.i < 8 || m.i > ALIGNMENT_MAX || (m.i & (m.i - 1)))
            return refuse(g, m.key, (uint64_t)m.i, "must be a power of two from 8 to 4096");
        g->alignment = (uint32_t)m.i;
    }
    m.pair.bytes = g->at - m.pair.offset;
    return rc ? rc : fill_meta(g->c, &m, g->err);
}

/* ---- tensors ---- */

static int refuse_tensor(struct gguf *g, const char *name, const char *field, uint64_t value, const char *why)
{
    return fail(g->err, ERR_DATA, "%s: offset 0x%llx: tensor \"%s\": %s %llu: %s", g->file->path, ULL(g->at), name, field, ULL(value), why);
}

static int take_dims(struct gguf *g, struct view *v)
{
    uint64_t rank, dim[4], product = 1;
    int rc = take_number(g, 4, &rank, "rank");
    if (rc)
        return rc;
    if (rank < 1 || rank > 4)
        return refuse_tensor(g, v->file_name, "rank", rank, "must be 1 to 4");
    for (unsigned i = 0; i < rank; i++) {
        rc = take_number(g, 8, &dim[i], "dimension");
        if (rc)
            return rc;
        if (dim[i] == 0 || dim[i] > INT64_MAX || mul_u64(product, dim[i], &product) || product > INT64_MAX)
            return refuse_tensor(g, v->file_name, "dimension", dim[i], "zero, or too large for a tensor");
    }
    if (rank > 2)
        return refuse_tensor(g, v->file_name, "rank", rank, "weights of this family are vectors or matrices");
    v->rank = (int)rank;
    v->dim[0] = rank == 2 ? dim[1] : dim[0]; /* the file writes the fastest dimension first */
    v->dim[1] = rank == 2 ? dim[0] : 1;
    return 0;
}

static int take_type(struct gguf *g, struct view *v)
{
    uint64_t type, n = sizeof tensor_types / sizeof *tensor_types;
    int rc = take_number(g, 4, &type, "tensor type");
    if (rc)
        return rc;
    if (type >= n || !tensor_types[type].name)
        return refuse_tensor(g, v->file_name, "type", type, "no such tensor type (removed, or newer than this program)");
    const char *name = tensor_types[type].name;
    if (tensor_types[type].type < 0)
        return fail(g->err, ERR_DATA, "%s: tensor \"%s\": type %s: not supported; convert the file to F32, F16, BF16, Q8_0, Q6_K, Q4_K, Q4_0 or Q4_1 (llama-quantize, or make it anew from the original)",
                    g->file->path, v->file_name, name);
    v->type = (enum dtype)tensor_types[type].type;
    if (v->dim[1] % (uint64_t)dtype_table[v->type].block)
        return fail(g->err, ERR_DATA, "%s: tensor \"%s\": rows of %llu values do not divide into the blocks of %s", g->file->path, v->file_name, ULL(v->dim[1]), name);
    if (mul_u64(dtype_row_bytes(v->type, v->dim[1]), v->dim[0], &v->bytes) || v->bytes > left(g))
        return fail(g->err, ERR_DATA, "%s: tensor \"%s\": %llu x %llu values of %s are more than the file's %llu bytes", g->file->path, v->file_name, ULL(v->dim[0]), ULL(v->dim[1]),
                    name, ULL(g->file->size));
    return 0;
}

static int take_tensor(struct gguf *g)
{
    struct view v = {.shard = g->shard};
    int rc = take_name(g, &v.file_name, NAME_BYTES_MAX, "tensor name length");
    if (!rc && !*v.file_name)
        return refuse(g, "tensor name length", 0, "a tensor must have a name");
    if (!rc)
        rc = take_dims(g, &v);
    if (!rc)
        rc = take_type(g, &v);
    if (!rc)
        rc = take_number(g, 8, &v.offset, "tensor offset");
    if (rc)
        return rc;
    if (v.offset % g->alignment || v.offset > g->file->size)
        return refuse_tensor(g, v.file_name, "offset", v.offset, "not a multiple of the alignment, or past the end of the file: it is cut off or damaged, get it again");
    v.name = fill_name(g->c, &gguf_names, v.file_name);
    return v.name ? fill_view(g->c, &v, g->err) : fill_memory(g->err);
}

/* Offsets count from the first aligned byte behind the header: make them the file's own and check that they fit. */
static int place_tensors(struct gguf *g)
{
    int n = g->c->n_views - g->first_view;
    uint64_t data = (g->at + g->alignment - 1) / g->alignment * g->alignment;
    struct view *v = n ? g->c->view + g->first_view : NULL;
    struct span *s = arena_array(&g->c->arena, (uint64_t)n, sizeof *s);
    if (!s)
        return fill_memory(g->err);
    for (int i = 0; i < n; i++) {
        v[i].offset += data; /* each below the file's size, at most 2^63 */
        s[i] = (struct span){v[i].offset, v[i].offset + v[i].bytes, v[i].file_name};
    }
    return fill_check_spans(s, n, data, g->file->size, false, g->file->path, g->err);
}

static int take_counts(struct gguf *g, uint64_t *n_tensors, uint64_t *n_pairs)
{
    uint64_t magic, version;
    int rc = take_number(g, 4, &magic, "magic");
    if (!rc)
        rc = take_number(g, 4, &version, "version");
    if (!rc && magic != 0x46554747)
        return refuse(g, "magic", magic, "not a GGUF file");
    if (!rc && version > 0xffff && !(version & 0xffff))
        return refuse(g, "version", version, "a big-endian file: convert it to little-endian");
    if (!rc && (version < 2 || version > 3))
        return refuse(g, "version", version, "only versions 2 and 3 are supported: convert the model anew");
    if (!rc)
        rc = take_number(g, 8, n_tensors, "tensor count");
    if (!rc)
        rc = take_number(g, 8, n_pairs, "key count");
    if (rc)
        return rc;
    if (*n_tensors > left(g) / TENSOR_BYTES_MIN || *n_tensors > TENSORS_MAX)
        return refuse(g, "tensor count", *n_tensors, "more than the file has bytes for, or than a model has");
    if (*n_pairs > left(g) / PAIR_BYTES_MIN || *n_pairs > KEYS_MAX)
        return refuse(g, "key count", *n_pairs, "more than the file has bytes for, or than a model has");
    return 0;
}

static int read_shard(struct gguf *g)
{
    uint64_t n_tensors = 0, n_pairs = 0;
    int rc = take_counts(g, &n_tensors, &n_pairs);
    for (uint64_t i = 0; !rc && i < n_pairs; i++)
        rc = take_pair(g);
    for (uint64_t i = 0; !rc && i < n_tensors; i++)
        rc = take_tensor(g);
    return rc ? rc : place_tensors(g);
}

/* ---- files ---- */

/* Opens path as the next shard and reads it. */
static int add_shard(struct checkpoint *c, const char *path, struct error *err)
{
    int rc = fill_open(c, path, err);
    if (rc)
        return rc;
    struct gguf g = {.c = c, .file = &c->shard[c->n_shards - 1], .shard = c->n_shards - 1, .first_view = c->n_views, .alignment = 32, .err = err};
    g.window = malloc(WINDOW);
    rc = g.window ? read_shard(&g) : fill_memory(err);
    free(g.window);
    return rc;
}

/* A whole number among the keys from `first` on. */
static int64_t number_of(const struct checkpoint *c, int first, const char *key, int64_t absent)
{
    for (int i = first; i < c->n_meta; i++)
        if (!strcmp(c->meta[i].key, key) && c->meta[i].type == META_INT)
            return c->meta[i].i;
    return absent;
}

/* Further files of a split model carry tensors; their keys only say so. */
static int check_split(struct checkpoint *c, int first_meta, int64_t count, const char *path, struct error *err)
{
    if (number_of(c, first_meta, "split.no", -1) != c->n_shards - 1 || number_of(c, first_meta, "split.count", -1) != count)
        return fail(err, ERR_DATA, "%s: keys split.no and split.count: not part %d of %lld", path, c->n_shards, (long long)count);
    for (int i = first_meta; i < c->n_meta; i++)
        if (strncmp(c->meta[i].key, "split.", 6) && strncmp(c->meta[i].key, "general.", 8))
            return fail(err, ERR_DATA, "%s: key \"%s\": only the first part of a split model may have it", path, c->meta[i].key);
    c->n_meta = first_meta;
    return 0;
}

static int add_parts(struct checkpoint *c, int64_t count, struct error *err)
{
    char tail[32];
    if (count > SHARDS_MAX)
        return fail(err, ERR_DATA, "%s: key split.count %lld: more than %d parts", c->path, (long long)count, SHARDS_MAX);
    snprintf(tail, sizeof tail, "-00001-of-%05d.gguf", (int)count);
    size_t n = strlen(c->path), stem = n - strlen(tail);
    if (n < strlen(tail) || strcmp(c->path + stem, tail) || number_of(c, 0, "split.no", -1) != 0)
        return fail(err, ERR_DATA, "%s: a part of a split model: give the first one, whose name ends in \"%s\"", c->path, tail);
    char *path = arena_alloc(&c->arena, n + 1);
    int rc = path ? fill_shards(c, (int)count, err) : fill_memory(err);
    for (int i = 2; !rc && i <= count; i++) {
        int first_meta = c->n_meta;
        snprintf(path, n + 1, "%.*s-%05d-of-%05d.gguf", (int)stem, c->path, i, (int)count);
        rc = add_shard(c, path, err);
        if (!rc)
            rc = check_split(c, first_meta, count, path, err);
    }
    int64_t tensors = number_of(c, 0, "split.tensors.count", c->n_views);
    if (!rc && tensors != c->n_views)
        return fail(err, ERR_DATA, "%s: key split.tensors.count %lld, but the parts hold %d tensors", c->path, (long long)tensors, c->n_views);
    return rc;
}

static bool probe_gguf(const char *path, struct bytes head)
{
    (void)path;
    return head.p && head.n >= 4 && !memcmp(head.p, "GGUF", 4);
}

static int open_gguf(struct checkpoint *c, const char *path, struct error *err)
{
    int rc = fill_shards(c, 1, err);
    if (!rc)
        rc = add_shard(c, path, err);
    int64_t count = rc ? 0 : number_of(c, 0, "split.count", 0);
    if (!rc && count > 1)
        rc = add_parts(c, count, err);
    if (!rc)
        rc = fill_seal(c, err);
    if (!rc)
        rc = gguf_translate(c, err);
    return rc ? rc : fill_seal(c, err);
}

const struct format format_gguf = {"gguf", probe_gguf, open_gguf};
