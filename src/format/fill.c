/* SPDX-License-Identifier: Apache-2.0 */
#include "format/fill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))

int fill_memory(struct error *err) { return fail(err, ERR_OS, "out of memory"); }

int fill_shards(struct checkpoint *c, int n, struct error *err)
{
    struct file *shard = arena_array(&c->arena, (uint64_t)n, sizeof *shard);
    if (!shard)
        return fill_memory(err);
    if (c->n_shards)
        memcpy(shard, c->shard, (size_t)c->n_shards * sizeof *shard);
    c->shard = shard;
    return 0;
}

int fill_open(struct checkpoint *c, const char *path, struct error *err)
{
    int rc = file_open(&c->shard[c->n_shards], path, err);
    if (!rc)
        c->n_shards++;
    return rc;
}

void *fill_grow(struct arena *a, void *list, int n, size_t size)
{
    if (n ? n < 16 || (n & (n - 1)) : list != NULL)
        return list;
    void *more = arena_array(a, n ? 2 * (uint64_t)n : 16, size);
    if (more && n)
        memcpy(more, list, (size_t)n * size);
    return more;
}

int fill_view(struct checkpoint *c, const struct view *v, struct error *err)
{
    if (c->n_views >= TENSORS_MAX)
        return fail(err, ERR_DATA, "%s: more than %d tensors", c->path, TENSORS_MAX);
    struct view *list = fill_grow(&c->arena, c->view, c->n_views, sizeof *list);
    if (!list)
        return fill_memory(err);
    c->view = list;
    list[c->n_views++] = *v;
    return 0;
}

int fill_meta(struct checkpoint *c, const struct meta *m, struct error *err)
{
    if (c->n_meta >= KEYS_MAX)
        return fail(err, ERR_DATA, "%s: more than %d keys", c->path, KEYS_MAX);
    struct meta *list = fill_grow(&c->arena, c->meta, c->n_meta, sizeof *list);
    if (!list)
        return fill_memory(err);
    c->meta = list;
    list[c->n_meta] = *m;
    if (!m->file_key)
        list[c->n_meta].file_key = m->key;
    c->n_meta++;
    return 0;
}

static const char *find_stem(const struct stem *s, const char *text, size_t n)
{
    for (; s->file; s++)
        if (strlen(s->file) == n && !memcmp(s->file, text, n))
            return s->canonical;
    return NULL;
}

/* The layer's number as the file writes it: no sign, no leading zero, at most four digits. Returns its length or 0. */
static size_t number_length(const char *s)
{
    size_t n = strspn(s, "0123456789");
    return n > 4 || (n > 1 && *s == '0') ? 0 : n;
}

const char *fill_name(struct checkpoint *c, const struct naming *names, const char *file_name)
{
    char out[96];
    const char *at = file_name, *dot = strrchr(file_name, '.'), *stem;
    size_t n = strlen(names->layers), digits = 0;
    const struct stem *table = names->global;
    if (!strncmp(at, names->layers, n) && (digits = number_length(at + n)) && at[n + digits] == '.') {
        table = names->layer;
        at += n + digits + 1;
    }
    bool bias = dot && !strcmp(dot, ".bias");
    if (dot > at && (bias || !strcmp(dot, ".weight")) && (stem = find_stem(table, at, (size_t)(dot - at)))) {
        int in_layer = table == names->layer;
        snprintf(out, sizeof out, "%s%.*s%s%s%s", in_layer ? "layers." : "", in_layer ? (int)digits : 0, file_name + n * (size_t)in_layer, in_layer ? "." : "", stem,
                 bias ? ".bias" : "");
        return arena_text(&c->arena, out, strlen(out));
    }
    size_t length = strlen(file_name);
    char *unknown = arena_alloc(&c->arena, length + 2);
    if (unknown) {
        unknown[0] = '?';
        memcpy(unknown + 1, file_name, length + 1);
    }
    return unknown;
}

static int by_begin(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

int fill_check_spans(struct span *s, int n, uint64_t from, uint64_t to, bool gapless, const char *path, struct error *err)
{
    if (n)
        qsort(s, (size_t)n, sizeof *s, by_begin);
    uint64_t at = from;
    const char *before = "the header";
    for (int i = 0; i < n; i++) {
        if (s[i].begin < at)
            return fail(err, ERR_DATA, "%s: tensor \"%s\": begins at offset %llu, inside %s, which ends at %llu", path, s[i].name, ULL(s[i].begin), before, ULL(at));
        if (s[i].begin > at && gapless)
            return fail(err, ERR_DATA, "%s: tensor \"%s\": begins at offset %llu, %llu unused bytes after %s", path, s[i].name, ULL(s[i].begin), ULL(s[i].begin - at), before);
        if (s[i].end > to)
            return fail(err, ERR_DATA, "%s: tensor \"%s\": ends at offset %llu, the file at %llu: it is cut off or damaged, get it again", path, s[i].name, ULL(s[i].end), ULL(to));
        at = s[i].end;
        before = s[i].name;
    }
    if (gapless && at != to)
        return fail(err, ERR_DATA, "%s: %llu bytes at the end, from offset %llu, after %s, belong to no tensor", path, ULL(to - at), ULL(at), before);
    return 0;
}

static int by_name(const void *a, const void *b) { return strcmp(((const struct view *)a)->name, ((const struct view *)b)->name); }
static int by_key(const void *a, const void *b) { return strcmp(((const struct meta *)a)->key, ((const struct meta *)b)->key); }

int fill_seal(struct checkpoint *c, struct error *err)
{
    if (c->n_views)
        qsort(c->view, (size_t)c->n_views, sizeof *c->view, by_name);
    if (c->n_meta)
        qsort(c->meta, (size_t)c->n_meta, sizeof *c->meta, by_key);
    for (int i = 1; i < c->n_views; i++)
        if (!strcmp(c->view[i].name, c->view[i - 1].name))
            return fail(err, ERR_DATA, "%s: tensor \"%s\" is there twice (and in %s)", c->shard[c->view[i - 1].shard].path, c->view[i].file_name, c->shard[c->view[i].shard].path);
    for (int i = 1; i < c->n_meta; i++)
        if (!strcmp(c->meta[i].key, c->meta[i - 1].key))
            return fail(err, ERR_DATA, "%s: key \"%s\" is there twice", c->path, c->meta[i].file_key);
    return 0;
}
