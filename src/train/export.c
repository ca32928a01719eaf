/* SPDX-License-Identifier: Apache-2.0 */
#include "train/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/fill.h"
#include "format/hf.h"
#include "format/safetensors_write.h"

enum { CHUNK = 4096, FILE_LIMIT = 256 << 20 };
#define SHARD_BYTES ((uint64_t)4 << 30)

static bool is_gguf(const struct model *m) { return !strcmp(m->file->format->name, "gguf"); }

int export_check(const struct model *m, struct error *err) { return is_gguf(m) ? export_gguf_check(m, err) : 0; }

enum dtype export_type(const struct model *m)
{
    const struct view *v = model_weight(m, 0, W_Q);
    return v && dtype_table[v->type].block == 1 ? v->type : DT_BF16;
}

/* ---- files ---- */

static int write_file(const char *folder, const char *name, const void *p, size_t n, struct error *err)
{
    struct file_out f = {.fd = -1};
    size_t room = strlen(folder) + strlen(name) + 2;
    char *path = malloc(room);
    if (!path)
        return fail(err, ERR_OS, "out of memory");
    snprintf(path, room, "%s/%s", folder, name);
    int rc = file_create(&f, path, err);
    if (!rc)
        rc = file_write_at(&f, 0, p, n, err);
    if (!rc)
        rc = file_commit(&f, err);
    file_abandon(&f);
    free(path);
    return rc;
}

int export_json(const char *folder, const char *name, json_t *json, struct error *err)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(json);
    int rc = text ? write_file(folder, name, text, strlen(text), err) : fail(err, ERR_OS, "%s/%s: out of memory", folder, name);
    free(text);
    return rc;
}

static int copy_files(const struct model *m, const char *folder, struct error *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
                                        "chat_template.jinja", "generation_config.json", "LICENSE", "LICENSE.txt", "USE_POLICY.md", "NOTICE"};
    int rc = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && !rc; i++) {
        const char *path;
        char *p = NULL;
        size_t n = 0;
        int found = hf_find(m->file, names[i], &path, err);
        rc = found < 0 ? found : 0;
        if (found > 0)
            rc = file_slurp(path, FILE_LIMIT, &p, &n, err);
        if (found > 0 && !rc)
            rc = write_file(folder, names[i], p, n, err);
        free(p);
    }
    return rc;
}

/* ---- config.json ---- */

static int load_config(const struct model *m, json_t **out, struct error *err)
{
    const char *path;
    if (is_gguf(m)) {
        *out = export_gguf_config(m);
        return *out ? 0 : fail(err, ERR_OS, "out of memory");
    }
    int found = hf_find(m->file, "config.json", &path, err);
    return found < 0 ? found : found ? hf_load_json(path, HF_JSON_MAX, out, err) : fail(err, ERR_NOINPUT, "%s: config.json is gone", m->file->dir);
}

/* The type under the name that the source uses for it; a LayerSkip profile where there is none. */
static int write_config(const struct export *e, const char *folder, struct error *err)
{
    static const char *const torch_name[DT_COUNT] = {[DT_F32] = "float32", [DT_F16] = "float16", [DT_BF16] = "bfloat16"};
    json_t *config = NULL;
    int rc = load_config(e->model, &config, err);
    if (rc)
        return rc;
    const char *key = json_object_get(config, "dtype") ? "dtype" : "torch_dtype";
    int bad = json_object_set_new(config, key, json_string(torch_name[e->type]));
    if (e->exit_layer && !e->model->config.exit_layer)
        bad |= json_object_set_new(config, "layerskip", json_pack("{s:i, s:i}", "exit_layer", e->exit_layer, "num_speculations", e->num_speculations));
    if (bad) {
        json_decref(config);
        config = NULL;
    }
    return export_json(folder, "config.json", config, err);
}

/* ---- weights ---- */

/* "layers.3.q.bias" is "model.layers.3.self_attn.q_proj.bias"; false: no such name. */
static bool spell(const char *canonical, char out[96])
{
    char stem[64];
    int layer = 0, used = 0;
    bool in_layer = sscanf(canonical, "layers.%d.%n", &layer, &used) == 1 && used;
    const char *name = canonical + used, *dot = strstr(name, ".bias");
    const struct stem *s = in_layer ? hf_names.layer : hf_names.global;
    snprintf(stem, sizeof stem, "%.*s", (int)(dot ? (size_t)(dot - name) : strlen(name)), name);
    while (s->file && strcmp(s->canonical, stem))
        s++;
    if (!s->file)
        return false;
    if (in_layer)
        snprintf(out, 96, "%s%d.%s.%s", hf_names.layers, layer, s->file, dot ? "bias" : "weight");
    else
        snprintf(out, 96, "%s.weight", s->file);
    return true;
}

static int write_tensor(struct safetensors_out *o, int i, const float *value, uint64_t n, enum dtype type, struct error *err)
{
    const uint64_t size = (uint64_t)dtype_table[type].bytes;
    uint32_t packed[CHUNK]; /* room for every type */
    int rc = 0;
    for (uint64_t at = 0; at < n && !rc; at += CHUNK) {
        uint64_t count = n - at < CHUNK ? n - at : CHUNK;
        dtype_from_f32(type, value + at, packed, count);
        rc = safetensors_write(o, i, at * size, packed, (size_t)(count * size), err);
    }
    return rc;
}

static int write_values(const struct export *e, struct safetensors_out *o, const struct export_tensor *list, int n, enum dtype type, struct error *err)
{
    uint64_t most = 0;
    for (int i = 0; i < n; i++) {
        uint64_t size = o->tensor[i].dim[0] * (o->tensor[i].rank == 2 ? o->tensor[i].dim[1] : 1);
        most = size > most ? size : most;
    }
    float *value = malloc((size_t)most * sizeof *value);
    int rc = value ? 0 : fail(err, ERR_OS, "out of memory for a tensor of %llu values", (unsigned long long)most);
    for (int i = 0; i < n && !rc; i++) {
        uint64_t size = o->tensor[i].dim[0] * (o->tensor[i].rank == 2 ? o->tensor[i].dim[1] : 1);
        rc = e->ops->get(e->trainer, list[i].tensor, list[i].what, value, err);
        if (!rc)
            rc = write_tensor(o, i, value, size, type, err);
    }
    free(value);
    return rc;
}

int export_tensors(const struct export *e, const char *folder, const struct export_tensor *list, int n, enum dtype type, struct error *err)
{
    struct safetensors_out o = {0};
    struct tensor_out *out = calloc((size_t)n, sizeof *out);
    if (!out)
        return fail(err, ERR_OS, "out of memory for %d tensors", n);
    for (int i = 0; i < n; i++) {
        struct train_tensor t = e->ops->tensor(e->trainer, list[i].tensor);
        bool vector = t.rows == 1;
        out[i] = (struct tensor_out){.name = list[i].name, .type = type, .rank = vector ? 1 : 2,
                                     .dim = {(uint64_t)(vector ? t.cols : t.rows), (uint64_t)(vector ? 1 : t.cols)}};
    }
    int rc = safetensors_create(&o, folder, out, n, SHARD_BYTES, err);
    if (!rc)
        rc = write_values(e, &o, list, n, type, err);
    if (!rc)
        rc = safetensors_commit(&o, err);
    safetensors_abandon(&o);
    free(out);
    return rc;
}

static int write_weights(const struct export *e, const char *folder, struct error *err)
{
    int n = e->ops->n_tensors(e->trainer), rc = 0;
    struct export_tensor *list = calloc((size_t)n, sizeof *list);
    if (!list)
        return fail(err, ERR_OS, "out of memory for %d tensors", n);
    for (int i = 0; i < n && !rc; i++) {
        const char *name = e->ops->tensor(e->trainer, i).name;
        list[i] = (struct export_tensor){.tensor = i, .what = TRAIN_WEIGHT};
        if (!spell(name, list[i].name))
            rc = fail(err, ERR_INTERNAL, "tensor %s: a Hugging Face folder has no name for it", name);
    }
    if (!rc)
        rc = export_tensors(e, folder, list, n, e->type, err);
    free(list);
    return rc;
}

int export_write(const struct export *e, const char *folder, struct error *err)
{
    int rc = write_weights(e, folder, err);
    if (!rc)
        rc = is_gguf(e->model) ? export_gguf_tokenizer(e->model, folder, err) : copy_files(e->model, folder, err);
    return rc ? rc : write_config(e, folder, err);
}
