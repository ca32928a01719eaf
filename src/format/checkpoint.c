/* SPDX-License-Identifier: Apache-2.0 */
#include "format/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "format/fill.h"

enum { HEAD_BYTES = 64, STAGING_BYTES = 1 << 20 };

static const struct format *const formats[] = {&format_gguf, &format_safetensors, &format_folder};

static const struct format *probe(const char *path, struct bytes head)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i]->probe(path, head))
            return formats[i];
    return NULL;
}

static int refuse_unknown(const char *path, struct bytes head, uint64_t size, struct error *err)
{
    struct reader r = {head.p, head.n, 0};
    uint64_t length;
    if (size == 0)
        return fail(err, ERR_DATA, "%s: the file is empty", path);
    if (!read_u64(&r, &length))
        return fail(err, ERR_DATA, "%s: %llu bytes are too few for a model", path, (unsigned long long)size);
    if (!memcmp(head.p, "PK\3\4", 4) || head.p[0] == 0x80)
        return fail(err, ERR_DATA, "%s: a PyTorch pickle, which is never read: convert it with transformers, save_pretrained(DIR, safe_serialization=True)", path);
    return fail(err, ERR_DATA, "%s: neither GGUF (no magic) nor safetensors (header length %llu in a file of %llu bytes, no '{' behind it): give a .gguf file, a .safetensors file or a Hugging Face folder",
                path, (unsigned long long)length, (unsigned long long)size);
}

static int choose(const char *path, const struct format **out, struct error *err)
{
    struct stat st;
    if (!stat(path, &st) && S_ISDIR(st.st_mode)) {
        if (access(path, X_OK))
            return fail(err, ERR_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
        *out = probe(path, (struct bytes){0});
        return *out ? 0 : fail(err, ERR_NOINPUT, "%s: a folder without config.json: give a Hugging Face folder, or a .gguf or .safetensors file", path);
    }
    uint8_t head[HEAD_BYTES];
    struct file f;
    int rc = file_open(&f, path, err);
    if (rc)
        return rc;
    struct bytes b = {head, f.size < HEAD_BYTES ? (size_t)f.size : HEAD_BYTES};
    rc = file_read_at(&f, 0, head, b.n, err);
    if (!rc && !(*out = probe(path, b)))
        rc = refuse_unknown(path, b, f.size, err);
    file_close(&f);
    return rc;
}

/* The folder itself, or that of the file: "." when the path has none. */
static char *folder_of(struct checkpoint *c)
{
    const char *slash = strrchr(c->path, '/');
    if (c->format == &format_folder)
        return c->path;
    return slash ? arena_text(&c->arena, c->path, slash == c->path ? 1 : (size_t)(slash - c->path)) : arena_text(&c->arena, ".", 1);
}

struct checkpoint *checkpoint_open(const char *path, struct error *err)
{
    const struct format *format = NULL;
    if (choose(path, &format, err))
        return NULL;
    struct checkpoint *c = calloc(1, sizeof *c);
    if (!c) {
        fill_memory(err);
        return NULL;
    }
    c->format = format;
    c->tokens = (struct token_table){.bos = -1, .eos = -1, .unk = -1, .add_bos = -1, .add_eos = -1, .add_space_prefix = -1};
    c->path = arena_text(&c->arena, path, strlen(path));
    c->dir = c->path ? folder_of(c) : NULL;
    if (c->dir ? format->open(c, path, err) : fill_memory(err)) {
        checkpoint_close(c);
        return NULL;
    }
    return c;
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_shards; i++)
        file_close(&c->shard[i]);
    arena_free(&c->arena);
    free(c);
}

static int view_order(const void *name, const void *v) { return strcmp(name, ((const struct view *)v)->name); }
static int meta_order(const void *key, const void *m) { return strcmp(key, ((const struct meta *)m)->key); }

const struct view *checkpoint_find(const struct checkpoint *c, const char *name)
{
    return c->n_views ? bsearch(name, c->view, (size_t)c->n_views, sizeof *c->view, view_order) : NULL;
}

const struct meta *checkpoint_meta(const struct checkpoint *c, const char *key)
{
    return c->n_meta ? bsearch(key, c->meta, (size_t)c->n_meta, sizeof *c->meta, meta_order) : NULL;
}

uint64_t view_row_bytes(const struct view *v) { return dtype_row_bytes(v->type, v->dim[1]); }

/* Adjacent-pair rotary puts the halves of a head of d rows side by side: the file's row 2j is canonical row j, its row 2j + 1 is row d/2 + j. */
static uint64_t canonical_row(uint64_t r, uint64_t d) { return r - r % d + r % d / 2 + (r % 2 ? d / 2 : 0); }
static uint64_t file_row(uint64_t r, uint64_t d) { return r % d < d / 2 ? r + r % d : r + r % d + 1 - d; }

/* The file's rows that hold canonical rows [row, row + n): their own span within half a head, else whole heads. */
static void span_of(uint64_t row, uint64_t n, uint64_t d, uint64_t *from, uint64_t *to)
{
    uint64_t last = row + n - 1;
    if (2 * row / d == 2 * last / d) {
        *from = file_row(row, d);
        *to = file_row(last, d) + 1;
    } else {
        *from = row - row % d;
        *to = last - last % d + d;
    }
}

static int read_pairs(const struct checkpoint *c, const struct view *v, uint64_t row, uint64_t n, uint64_t row_bytes, uint8_t *out, struct error *err)
{
    uint64_t d = v->dim[0] / (uint64_t)v->pair_heads, from, to, group = STAGING_BYTES / row_bytes;
    span_of(row, n, d, &from, &to);
    group = group < 1 ? 1 : group > to - from ? to - from : group;
    uint8_t *staging = malloc(group * row_bytes);
    if (!staging)
        return fill_memory(err);
    int rc = 0;
    for (; from < to && !rc; from += group) {
        group = group > to - from ? to - from : group;
        rc = file_read_at(&c->shard[v->shard], v->offset + from * row_bytes, staging, group * row_bytes, err);
        for (uint64_t i = 0; i < group && !rc; i++) {
            uint64_t r = canonical_row(from + i, d);
            if (r - row < n) /* unsigned: also false below row */
                memcpy(out + (r - row) * row_bytes, staging + i * row_bytes, row_bytes);
        }
    }
    free(staging);
    return rc;
}

int checkpoint_read_rows(const struct checkpoint *c, const struct view *v, uint64_t row, uint64_t n, void *out, struct error *err)
{
    uint64_t row_bytes = view_row_bytes(v), end;
    if (add_u64(row, n, &end) || end > v->dim[0])
        return fail(err, ERR_INTERNAL, "tensor %s: rows %llu + %llu of %llu", v->file_name, (unsigned long long)row, (unsigned long long)n, (unsigned long long)v->dim[0]);
    if (n == 0 || row_bytes == 0)
        return 0;
    if (v->pair_heads)
        return read_pairs(c, v, row, n, row_bytes, out, err);
    return file_read_at(&c->shard[v->shard], v->offset + row * row_bytes, out, n * row_bytes, err);
}
