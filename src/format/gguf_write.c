/* SPDX-License-Identifier: Apache-2.0 */
#include "format/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/checked.h"

#define ULL(x) ((unsigned long long)(x))

enum { ALIGNMENT = 32, FIXED_BYTES = 4 + 4 + 8 + 8, PARTS_MAX = 4096 };

struct gguf_place {
    int part;
    uint64_t offset, bytes; /* in the part's data, behind its header */
};

struct gguf_part {
    char *path;
    struct gguf_bytes split; /* the keys split.*; none in a model of one part */
    int first, n;            /* tensors */
    uint64_t head, data;     /* bytes, before and after rounding up: head to ALIGNMENT, data always is */
};

/* ---- bytes ---- */

void gguf_free(struct gguf_bytes *b)
{
    free(b->p);
    *b = (struct gguf_bytes){0};
}

static uint8_t *extend(struct gguf_bytes *b, size_t n)
{
    size_t need;
    if (b->failed || add_size(b->n, n, &need) || need > SIZE_MAX / 2) {
        b->failed = true;
        return NULL;
    }
    if (need > b->cap) {
        uint8_t *more = realloc(b->p, 2 * need);
        if (!more) {
            b->failed = true;
            return NULL;
        }
        b->p = more;
        b->cap = 2 * need;
    }
    b->n = need;
    return b->p + need - n;
}

static void put(struct gguf_bytes *b, const void *p, size_t n)
{
    uint8_t *to = extend(b, n);
    if (to && n)
        memcpy(to, p, n);
}

static void put_number(struct gguf_bytes *b, int bytes, uint64_t v)
{
    uint8_t *to = extend(b, (size_t)bytes);
    for (int i = 0; to && i < bytes; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

static void put_string(struct gguf_bytes *b, const void *p, size_t n)
{
    put_number(b, 8, n);
    put(b, p, n);
}

static void put_key(struct gguf_bytes *b, const char *key, enum gguf_value type)
{
    put_string(b, key, strlen(key));
    put_number(b, 4, type);
    b->count++;
}

void gguf_put_number(struct gguf_bytes *b, const char *key, enum gguf_value type, uint64_t value)
{
    static const int bytes[GGUF_COUNT] = {[GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8};
    put_key(b, key, type);
    put_number(b, bytes[type], value);
}

void gguf_put_f32(struct gguf_bytes *b, const char *key, double value)
{
    float f = (float)value;
    put_key(b, key, GGUF_F32);
    put(b, &f, sizeof f);
}

void gguf_put_text(struct gguf_bytes *b, const char *key, const char *text)
{
    put_key(b, key, GGUF_TEXT);
    put_string(b, text, strlen(text));
}

static void put_list(struct gguf_bytes *b, const char *key, enum gguf_value type, int n)
{
    put_key(b, key, GGUF_ARRAY);
    put_number(b, 4, type);
    put_number(b, 8, (uint64_t)n);
}

void gguf_put_texts(struct gguf_bytes *b, const char *key, const struct bytes *text, int n)
{
    put_list(b, key, GGUF_TEXT, n);
    for (int i = 0; i < n; i++)
        put_string(b, text[i].p, text[i].n);
}

void gguf_put_words(struct gguf_bytes *b, const char *key, enum gguf_value type, const void *word, int n)
{
    put_list(b, key, type, n);
    put(b, word, 4 * (size_t)n);
}

void *gguf_put_raw(struct gguf_bytes *b, size_t n)
{
    b->count++;
    return extend(b, n);
}

/* ---- layout ---- */

static uint64_t align(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; } /* n is below 2^63 */

static int tensor_bytes(const struct tensor_out *t, uint64_t *bytes, struct error *err)
{
    uint64_t row = dtype_row_bytes(t->type, t->rank == 2 ? t->dim[1] : 1);
    if (t->rank == 1)
        row = dtype_table[t->type].block == 1 ? (uint64_t)dtype_table[t->type].bytes : 0;
    if (!row || mul_u64(row, t->dim[0], bytes) || *bytes > INT64_MAX / 4)
        return fail(err, ERR_INTERNAL, "tensor %s: %llu x %llu values of %s make no whole rows, or too many", t->name, ULL(t->dim[0]), ULL(t->dim[1]), dtype_table[t->type].name);
    return 0;
}

static void put_split(struct gguf_part *p, int no, int parts, int tensors)
{
    p->split.n = p->split.count = 0;
    gguf_put_number(&p->split, "split.no", GGUF_U16, (uint64_t)no);
    gguf_put_number(&p->split, "split.count", GGUF_U16, (uint64_t)parts);
    gguf_put_number(&p->split, "split.tensors.count", GGUF_I32, (uint64_t)tensors);
}

/* The parts' heads and data, at most `limit` bytes a part; 0: all in one. */
static int lay_out(struct gguf_out *o, uint64_t limit, struct error *err)
{
    struct gguf_part *p = NULL;
    o->n_parts = 0;
    for (int i = 0; i < o->n_tensors; i++) {
        const struct tensor_out *t = &o->tensor[i];
        uint64_t info = 8 + strlen(t->name) + 4 + 8 * (uint64_t)t->rank + 4 + 8, bytes;
        int rc = tensor_bytes(t, &bytes, err);
        if (rc)
            return rc;
        if (!p || (limit && p->n && align(p->head + info) + p->data + align(bytes) > limit)) {
            if (o->n_parts == PARTS_MAX)
                return fail(err, ERR_USAGE, "parts of %llu bytes would be more than %d: make them larger", ULL(limit), PARTS_MAX);
            p = &o->part[o->n_parts];
            if (limit)
                put_split(p, 0, 0, 0); /* for its size */
            p->first = i;
            p->n = 0;
            p->data = 0;
            p->head = FIXED_BYTES + p->split.n + (o->n_parts++ ? 0 : o->keys->n);
        }
        o->place[i] = (struct gguf_place){o->n_parts - 1, p->data, bytes};
        p->n++;
        p->head += info;
        if (add_u64(p->data, align(bytes), &p->data) || p->data > INT64_MAX / 2)
            return fail(err, ERR_USAGE, "%s: the model is too large for a file", t->name);
    }
    return 0;
}

static uint64_t part_size(const struct gguf_part *p) { return align(p->head) + p->data; }

/* "x.gguf" in parts is x-00001-of-00003.gguf and so on. */
static int name_parts(struct gguf_out *o, const char *path, struct error *err)
{
    size_t n = strlen(path), stem = n > 5 && !strcmp(path + n - 5, ".gguf") ? n - 5 : n;
    o->total = 0;
    for (int i = 0; i < o->n_parts; i++) {
        struct gguf_part *p = &o->part[i];
        p->path = arena_alloc(&o->arena, n + 32);
        if (o->n_parts > 1)
            put_split(p, i, o->n_parts, o->n_tensors);
        if (!p->path || p->split.failed)
            return fail(err, ERR_OS, "out of memory");
        snprintf(p->path, n + 32, o->n_parts > 1 ? "%.*s-%05d-of-%05d.gguf" : "%.*s", o->n_parts > 1 ? (int)stem : (int)n, path, i + 1, o->n_parts);
        o->total += part_size(p); /* at most PARTS_MAX of what a file can have */
    }
    return 0;
}

int gguf_plan(struct gguf_out *o, const char *path, const struct gguf_bytes *keys, const struct tensor_out *tensors, int n, uint64_t part_bytes, struct error *err)
{
    *o = (struct gguf_out){.keys = keys, .tensor = tensors, .n_tensors = n};
    o->place = arena_array(&o->arena, (uint64_t)n, sizeof *o->place);
    o->part = arena_array(&o->arena, (uint64_t)(n < PARTS_MAX ? n : PARTS_MAX), sizeof *o->part);
    o->file = arena_array(&o->arena, (uint64_t)(n < PARTS_MAX ? n : PARTS_MAX), sizeof *o->file);
    int rc = n < 1 ? fail(err, ERR_INTERNAL, "%s: a model without tensors", path) : keys->failed || !o->place || !o->part || !o->file ? fail(err, ERR_OS, "out of memory for %d tensors", n) : 0;
    if (!rc)
        rc = lay_out(o, 0, err);
    if (!rc && part_bytes && part_size(&o->part[0]) > part_bytes)
        rc = lay_out(o, part_bytes, err);
    if (!rc)
        rc = name_parts(o, path, err);
    if (rc)
        gguf_abandon(o);
    return rc;
}

const char *gguf_part_path(const struct gguf_out *o, int part) { return o->part[part].path; }

/* ---- files ---- */

static void put_tensor(struct gguf_bytes *b, const struct tensor_out *t, const struct gguf_place *p)
{
    put_string(b, t->name, strlen(t->name));
    put_number(b, 4, (uint64_t)t->rank);
    for (int i = t->rank; i-- > 0;) /* the fastest first */
        put_number(b, 8, t->dim[i]);
    put_number(b, 4, gguf_type_number(t->type));
    put_number(b, 8, p->offset);
}

static int write_header(struct gguf_out *o, int part, struct error *err)
{
    struct gguf_part *p = &o->part[part];
    struct gguf_bytes b = {0};
    const struct gguf_bytes none = {0}, *keys = part ? &none : o->keys;
    put(&b, "GGUF", 4);
    put_number(&b, 4, 3);
    put_number(&b, 8, (uint64_t)p->n);
    put_number(&b, 8, keys->count + p->split.count);
    put(&b, keys->p, keys->n);
    put(&b, p->split.p, p->split.n);
    for (int i = p->first; i < p->first + p->n; i++)
        put_tensor(&b, &o->tensor[i], &o->place[i]);
    int rc = b.failed ? fail(err, ERR_OS, "%s: out of memory for the header", p->path) : 0;
    if (!rc && b.n != p->head)
        rc = fail(err, ERR_INTERNAL, "%s: a header of %zu bytes where %llu were planned", p->path, b.n, ULL(p->head));
    if (!rc)
        rc = file_write_at(&o->file[part], 0, b.p, b.n, err);
    if (!rc) /* the file has its length now, and zeroes wherever no tensor is */
        rc = file_write_at(&o->file[part], part_size(p) - 1, "", 1, err);
    gguf_free(&b);
    return rc;
}

static int check_name(const struct gguf_part *p, bool force, struct error *err)
{
    struct stat st;
    if (lstat(p->path, &st))
        return 0;
    if (S_ISDIR(st.st_mode))
        return fail(err, ERR_CREATE, "%s: a folder: give the name of a file", p->path);
    return force ? 0 : fail(err, ERR_CREATE, "%s: exists already: remove it, choose another name or say --force", p->path);
}

/* A disk that is too small is better known before hours of work than after; one that does not tell its size is trusted. */
static int check_room(const struct gguf_out *o, struct error *err)
{
    struct statvfs fs;
    const char *temp = o->file[0].temp;
    uint64_t room;
    if (statvfs(temp, &fs) || !fs.f_blocks || mul_u64(fs.f_bavail, fs.f_frsize, &room) || room >= o->total)
        return 0;
    return fail(err, ERR_CREATE, "%s: needs %.1f MB, the disk has %.1f MB left", o->part[0].path, (double)o->total / 1e6, (double)room / 1e6);
}

static void remove_temporary(struct gguf_out *o)
{
    for (int i = 0; o->file && i < o->n_parts; i++)
        file_abandon(&o->file[i]);
}

int gguf_create(struct gguf_out *o, bool force, struct error *err)
{
    int rc = 0;
    for (int i = 0; i < o->n_parts && !rc; i++)
        rc = check_name(&o->part[i], force, err);
    for (int i = 0; i < o->n_parts && !rc; i++) {
        rc = file_create(&o->file[i], o->part[i].path, err);
        if (!rc && i == 0)
            rc = check_room(o, err);
        if (!rc)
            rc = write_header(o, i, err);
    }
    if (rc)
        remove_temporary(o);
    return rc;
}

int gguf_write(struct gguf_out *o, int tensor, uint64_t offset, const void *p, size_t n, struct error *err)
{
    const struct gguf_place *at = &o->place[tensor];
    if (offset > at->bytes || n > at->bytes - offset)
        return fail(err, ERR_INTERNAL, "%s: %zu bytes at offset %llu, the tensor has %llu", o->tensor[tensor].name, n, ULL(offset), ULL(at->bytes));
    return file_write_at(&o->file[at->part], align(o->part[at->part].head) + at->offset + offset, p, n, err);
}

int gguf_commit(struct gguf_out *o, struct error *err) { return files_commit(o->file, o->n_parts, err); }

void gguf_abandon(struct gguf_out *o)
{
    remove_temporary(o);
    for (int i = 0; o->part && i < o->n_parts; i++)
        gguf_free(&o->part[i].split);
    arena_free(&o->arena);
    *o = (struct gguf_out){0};
}
