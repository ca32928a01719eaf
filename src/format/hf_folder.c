/* SPDX-License-Identifier: Apache-2.0 */
/* A Hugging Face folder: one safetensors file, or several and an index, and the JSON files beside them. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/fill.h"
#include "format/hf.h"

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

/* n: of the folder's name; of all folders only the root has a slash at its end. */
static bool is_below(const char *path, const char *folder, size_t n) { return !strncmp(path, folder, n) && (path[n] == '/' || folder[n - 1] == '/'); }

/* In the folder, or, where the folder is a snapshot in the hub's cache (REPO/snapshots/REVISION), among the blobs that its links are for. */
static bool is_inside(const char *target, const char *folder)
{
    static const char parent[] = "/snapshots";
    if (is_below(target, folder, strlen(folder)))
        return true;
    const char *revision = strrchr(folder, '/');
    size_t n = revision ? (size_t)(revision - folder) : 0, m = sizeof parent - 1;
    if (n < m || memcmp(folder + n - m, parent, m))
        return false;
    n -= m;
    return !strncmp(target, folder, n) && is_below(target + n, "/blobs", 6);
}

int hf_find(struct checkpoint *c, const char *name, const char **out, struct error *err)
{
    size_t n = strlen(c->dir) + strlen(name) + 2;
    char *path = arena_alloc(&c->arena, n), *target = NULL, *folder = NULL;
    if (!path)
        return fill_memory(err);
    snprintf(path, n, "%s/%s", c->dir, name);
    int rc = 1;
    if (!*name || strchr(name, '/') || !strcmp(name, "..") || !strcmp(name, "."))
        return fail(err, ERR_DATA, "%s: file name \"%.64s\": must be a plain name, without a folder", c->dir, name);
    if (access(path, F_OK) && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    target = realpath(path, NULL);
    folder = realpath(c->dir, NULL);
    if (!target || !folder)
        rc = fail(err, ERR_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    else if (!is_inside(target, folder))
        rc = fail(err, ERR_DATA, "%s: a link out of the folder, to %.200s: put the file itself there", path, target);
    free(target);
    free(folder);
    *out = path;
    return rc;
}

static int refuse_weightless(struct checkpoint *c, struct error *err)
{
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"};
    const char *path;
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        int rc = hf_find(c, pickles[i], &path, err);
        if (rc < 0)
            return rc;
        if (rc)
            return fail(err, ERR_DATA, "%s: only PyTorch pickle weights (%s), which are never read: convert them with transformers, save_pretrained(DIR, safe_serialization=True)", c->path,
                        pickles[i]);
    }
    return fail(err, ERR_NOINPUT, "%s: no %s and no %s", c->path, single_name, index_name);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The files that the index names, each once. */
static int list_files(struct checkpoint *c, const char *path, json_t *map, const char ***out, int *n_out, struct error *err)
{
    size_t n = json_object_size(map), k = 0;
    const char **list = n && n <= TENSORS_MAX ? arena_array(&c->arena, n, sizeof *list) : NULL, *name;
    json_t *value;
    if (!json_is_object(map) || !n || n > TENSORS_MAX)
        return fail(err, ERR_DATA, "%s: field weight_map: must name 1 to %d tensors", path, TENSORS_MAX);
    if (!list)
        return fill_memory(err);
    json_object_foreach(map, name, value)
    {
        if (!json_is_string(value))
            return fail(err, ERR_DATA, "%s: field weight_map: tensor \"%.64s\": must be a file name", path, name);
        list[k++] = json_string_value(value);
    }
    qsort(list, n, sizeof *list, by_text);
    for (size_t i = k = 0; i < n; i++)
        if (!k || strcmp(list[k - 1], list[i]))
            list[k++] = list[i];
    if (k > SHARDS_MAX)
        return fail(err, ERR_DATA, "%s: names %zu files, more than %d", path, k, SHARDS_MAX);
    for (size_t i = 0; i < k; i++) /* the map's own texts go while these are needed */
        if (!(list[i] = arena_text(&c->arena, list[i], strlen(list[i]))))
            return fill_memory(err);
    *out = list;
    *n_out = (int)k;
    return 0;
}

/* Every tensor lies in the file that the index gives for it, once, and every tensor of the index is there. Those found become null in the map. */
static int check_index(struct checkpoint *c, const char *path, json_t *map, const char *const *files, struct error *err)
{
    for (int i = 0; i < c->n_views; i++) {
        const struct view *v = &c->view[i];
        const json_t *at = json_object_get(map, v->file_name);
        const char *said = json_is_null(at) ? "that it is elsewhere too" : json_is_string(at) ? json_string_value(at) : "nothing of it";
        if (strcmp(said, files[v->shard]))
            return fail(err, ERR_DATA, "%s: tensor \"%.64s\" is in %.64s, but the index says %.64s", path, v->file_name, files[v->shard], said);
        if (json_object_set_new(map, v->file_name, json_null()))
            return fill_memory(err);
    }
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
        if (!json_is_null(value) && !hf_is_buffer(name))
            return fail(err, ERR_DATA, "%s: tensor \"%.64s\" is not in %.64s", path, name, json_string_value(value));
    return 0;
}

static int add_shards(struct checkpoint *c, const char *path, const json_t *index, struct error *err)
{
    const char **files = NULL, *file;
    int n = 0, rc = list_files(c, path, json_object_get(index, "weight_map"), &files, &n, err);
    if (!rc)
        rc = fill_shards(c, n, err);
    for (int i = 0; i < n && !rc; i++) {
        rc = hf_find(c, files[i], &file, err);
        rc = rc < 0 ? rc : rc ? safetensors_add(c, file, err) : fail(err, ERR_NOINPUT, "%s: names %.64s, which is not there: get it again", path, files[i]);
    }
    return rc ? rc : check_index(c, path, json_object_get(index, "weight_map"), files, err);
}

static int add_weights(struct checkpoint *c, struct error *err)
{
    const char *path;
    int rc = hf_find(c, single_name, &path, err);
    if (rc > 0) {
        rc = fill_shards(c, 1, err);
        return rc ? rc : safetensors_add(c, path, err);
    }
    if (rc == 0)
        rc = hf_find(c, index_name, &path, err);
    if (rc <= 0)
        return rc ? rc : refuse_weightless(c, err);
    json_t *index = NULL;
    rc = hf_load_json(path, HF_BIG_JSON_MAX, &index, err);
    if (!rc)
        rc = add_shards(c, path, index, err);
    json_decref(index);
    return rc;
}

static bool probe_folder(const char *path, struct bytes head)
{
    char file[PATH_MAX];
    return !head.p && snprintf(file, sizeof file, "%s/config.json", path) < (int)sizeof file && !access(file, F_OK);
}

static int open_folder(struct checkpoint *c, const char *path, struct error *err)
{
    (void)path;
    int rc = add_weights(c, err);
    if (!rc)
        rc = hf_read_configs(c, err);
    return rc ? rc : fill_seal(c, err);
}

const struct format format_folder = {"safetensors", probe_folder, open_folder};
