/* SPDX-License-Identifier: Apache-2.0 */
#include "format/safetensors_write.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

struct place {
    int shard;
    uint64_t offset, bytes; /* in the shard's data, behind its header */
    uint64_t base;          /* offset of that data in the file */
};

static int tensor_bytes(const struct tensor_out *t, uint64_t *bytes, struct error *err)
{
    uint64_t cols = t->rank == 2 ? t->dim[1] : 1;
    if (t->type != DT_F32 && t->type != DT_F16 && t->type != DT_BF16)
        return fail(err, ERR_INTERNAL, "%s: a safetensors file holds no %s", t->name, dtype_table[t->type].name);
    uint64_t row = dtype_row_bytes(t->type, cols);
    if (!row || mul_u64(row, t->dim[0], bytes))
        return fail(err, ERR_USAGE, "%s: shape %llu x %llu is too large for a file", t->name, (unsigned long long)t->dim[0], (unsigned long long)cols);
    return 0;
}

static int lay_out(struct safetensors_out *o, uint64_t shard_bytes, struct error *err)
{
    uint64_t at = 0, after;
    int shard = 0;
    for (int i = 0; i < o->n_tensors; i++) {
        struct place *p = &o->place[i];
        int rc = tensor_bytes(&o->tensor[i], &p->bytes, err);
        if (rc)
            return rc;
        if (shard_bytes && at && (add_u64(at, p->bytes, &after) || after > shard_bytes)) {
            shard++;
            at = 0;
        }
        p->shard = shard;
        p->offset = at;
        if (add_u64(at, p->bytes, &at) || add_u64(o->total, p->bytes, &o->total) || o->total > INT64_MAX)
            return fail(err, ERR_USAGE, "%s: the checkpoint is too large for a file", o->tensor[i].name);
    }
    o->n_shards = shard + 1;
    return 0;
}

static void shard_name(const struct safetensors_out *o, int shard, char out[64])
{
    if (o->n_shards == 1)
        snprintf(out, 64, "model.safetensors");
    else
        snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, o->n_shards);
}

/* A file of the folder, to be written. */
static int create_in(const struct safetensors_out *o, const char *name, struct file_out *f, struct error *err)
{
    size_t n = strlen(o->folder) + strlen(name) + 2;
    char *path = malloc(n);
    if (!path)
        return fail(err, ERR_OS, "out of memory");
    snprintf(path, n, "%s/%s", o->folder, name);
    int rc = file_create(f, path, err);
    free(path);
    return rc;
}

static json_t *describe(const struct tensor_out *t, const struct place *p)
{
    json_t *shape = json_pack("[I]", (json_int_t)t->dim[0]);
    if (t->rank == 2)
        json_array_append_new(shape, json_integer((json_int_t)t->dim[1]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_table[t->type].name, "shape", shape, "data_offsets", (json_int_t)p->offset,
                     (json_int_t)(p->offset + p->bytes));
}

/* The header as text, spaces behind it so that the data starts at a multiple of 64. NULL: out of memory. Caller frees. */
static char *make_header(const struct safetensors_out *o, int shard, size_t *n)
{
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int bad = 0;
    for (int i = 0; i < o->n_tensors; i++)
        if (o->place[i].shard == shard)
            bad |= json_object_set_new(root, o->tensor[i].name, describe(&o->tensor[i], &o->place[i]));
    char *text = bad ? NULL : json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    if (!text)
        return NULL;
    size_t used = strlen(text);
    *n = (8 + used + 63) / 64 * 64 - 8;
    char *out = realloc(text, *n);
    if (!out) {
        free(text);
        return NULL;
    }
    memset(out + used, ' ', *n - used);
    return out;
}

static int write_header(struct safetensors_out *o, int shard, struct error *err)
{
    size_t n = 0;
    char *text = make_header(o, shard, &n);
    if (!text)
        return fail(err, ERR_OS, "%s: cannot make the header: out of memory, or a tensor name is not UTF-8", o->shard[shard].path);
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)n >> (8 * i));
    int rc = file_write_at(&o->shard[shard], 0, length, 8, err);
    if (!rc)
        rc = file_write_at(&o->shard[shard], 8, text, n, err);
    free(text);
    for (int i = 0; i < o->n_tensors; i++)
        if (o->place[i].shard == shard)
            o->place[i].base = 8 + n;
    return rc;
}

static int create_shards(struct safetensors_out *o, struct error *err)
{
    int rc = 0;
    char name[64];
    o->shard = arena_array(&o->arena, (uint64_t)o->n_shards + 1, sizeof *o->shard);
    if (!o->shard)
        return fail(err, ERR_OS, "out of memory for %d shards", o->n_shards);
    for (int i = 0; i < o->n_shards && !rc; i++) {
        shard_name(o, i, name);
        rc = create_in(o, name, &o->shard[i], err);
        if (!rc)
            rc = write_header(o, i, err);
    }
    return rc;
}

int safetensors_create(struct safetensors_out *o, const char *folder, const struct tensor_out *tensors, int n, uint64_t shard_bytes, struct error *err)
{
    *o = (struct safetensors_out){.tensor = tensors, .n_tensors = n};
    if (n < 1)
        return fail(err, ERR_INTERNAL, "%s: a checkpoint without tensors", folder);
    o->folder = arena_text(&o->arena, folder, strlen(folder));
    o->place = arena_array(&o->arena, (uint64_t)n, sizeof *o->place);
    int rc = o->folder && o->place ? lay_out(o, shard_bytes, err) : fail(err, ERR_OS, "out of memory for %d tensors", n);
    if (!rc)
        rc = create_shards(o, err);
    if (rc)
        safetensors_abandon(o);
    return rc;
}

int safetensors_write(struct safetensors_out *o, int tensor, uint64_t offset, const void *p, size_t n, struct error *err)
{
    const struct place *at = &o->place[tensor];
    if (offset > at->bytes || n > at->bytes - offset)
        return fail(err, ERR_INTERNAL, "%s: %zu bytes at offset %llu, the tensor has %llu", o->tensor[tensor].name, n, (unsigned long long)offset,
                    (unsigned long long)at->bytes);
    return file_write_at(&o->shard[at->shard], at->base + at->offset + offset, p, n, err);
}

/* Which tensor is in which shard. */
static int write_index(struct safetensors_out *o, struct error *err)
{
    json_t *map = json_object();
    int bad = !map;
    char name[64];
    for (int i = 0; i < o->n_tensors && !bad; i++) {
        shard_name(o, o->place[i].shard, name);
        bad = json_object_set_new(map, o->tensor[i].name, json_string(name));
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)o->total, "weight_map", map);
    char *text = bad ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(root);
    struct file_out *f = &o->shard[o->n_shards];
    int rc = text ? create_in(o, "model.safetensors.index.json", f, err) : fail(err, ERR_OS, "%s: out of memory for the index", o->folder);
    if (!rc)
        rc = file_write_at(f, 0, text, strlen(text), err);
    free(text);
    return rc;
}

int safetensors_commit(struct safetensors_out *o, struct error *err)
{
    bool several = o->n_shards > 1;
    int rc = several ? write_index(o, err) : 0;
    if (!rc)
        rc = files_commit(o->shard, o->n_shards + several, err);
    safetensors_abandon(o);
    return rc;
}

void safetensors_abandon(struct safetensors_out *o)
{
    for (int i = 0; o->shard && i <= o->n_shards; i++)
        file_abandon(&o->shard[i]);
    arena_free(&o->arena);
    *o = (struct safetensors_out){0};
}
