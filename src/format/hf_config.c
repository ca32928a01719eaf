/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/fill.h"
#include "format/hf.h"

enum { DEPTH = 4, KEY_BYTES = 512, SHOWN = 72 };

int hf_load_json(const char *path, size_t limit, json_t **out, struct error *err)
{
    char *text = NULL;
    size_t n;
    json_error_t e;
    int rc = file_slurp(path, limit, &text, &n, err);
    if (rc)
        return rc;
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!j)
        return fail(err, ERR_DATA, "%s: line %d, column %d: %s", path, e.line, e.column, e.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return fail(err, ERR_DATA, "%s: must be a JSON object", path);
    }
    *out = j;
    return 0;
}

/* A list of whole numbers as such, anything else as a short text. */
static int set_list(struct checkpoint *c, struct meta *m, const json_t *v, struct error *err)
{
    size_t n = json_array_size(v);
    bool all = json_is_array(v);
    for (size_t i = 0; i < n && all; i++)
        all = json_is_integer(json_array_get(v, i));
    int64_t *ints = all ? arena_array(&c->arena, n, sizeof *ints) : NULL;
    if (all) {
        for (size_t i = 0; ints && i < n; i++)
            ints[i] = json_integer_value(json_array_get(v, i));
        m->type = META_INTS;
        m->i = (int64_t)n;
        m->ints = ints;
        return ints ? 0 : fill_memory(err);
    }
    char text[SHOWN];
    size_t length = json_dumpb(v, text, sizeof text, JSON_COMPACT | JSON_ENCODE_ANY);
    if (length > sizeof text)
        length = (size_t)snprintf(text, sizeof text, "%zu entries", json_is_array(v) ? n : json_object_size(v));
    m->type = META_OTHER;
    m->text = arena_text(&c->arena, text, length);
    return m->text ? 0 : fill_memory(err);
}

static int set_value(struct checkpoint *c, struct meta *m, const json_t *v, struct error *err)
{
    switch (json_typeof(v)) {
    case JSON_NULL: m->type = META_NULL; return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        m->type = META_BOOL;
        m->i = json_is_true(v);
        return 0;
    case JSON_INTEGER:
        m->type = META_INT;
        m->i = json_integer_value(v);
        m->real = (double)m->i;
        return 0;
    case JSON_REAL:
        m->type = META_REAL;
        m->real = json_real_value(v);
        return 0;
    case JSON_STRING:
        m->type = META_TEXT;
        m->text = arena_text(&c->arena, json_string_value(v), json_string_length(v));
        return m->text ? 0 : fill_memory(err);
    default: return set_list(c, m, v, err);
    }
}

/* Every leaf below object gets the key "prefix.name"; calls itself at most DEPTH deep. */
static int add_object(struct checkpoint *c, const char *path, const char *prefix, json_t *object, int depth, struct error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        char key[KEY_BYTES];
        if (snprintf(key, sizeof key, "%s%s", prefix, name) >= (int)sizeof key - 1)
            return fail(err, ERR_DATA, "%s: key \"%.64s...\": too long", path, name);
        int rc;
        if (json_is_object(value) && json_object_size(value) && depth < DEPTH) {
            strcat(key, ".");
            rc = add_object(c, path, key, value, depth + 1, err);
        } else {
            struct meta m = {.key = arena_text(&c->arena, key, strlen(key))};
            rc = m.key ? set_value(c, &m, value, err) : fill_memory(err);
            if (!rc)
                rc = fill_meta(c, &m, err);
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* A string, or among several named ones that of the name "default". */
static const json_t *default_template(const json_t *config)
{
    const json_t *t = json_object_get(config, "chat_template");
    for (size_t i = 0; json_is_array(t) && i < json_array_size(t); i++) {
        const json_t *row = json_array_get(t, i), *name = json_object_get(row, "name");
        if (json_is_string(name) && !strcmp(json_string_value(name), "default"))
            return json_object_get(row, "template");
    }
    return t;
}

static int read_template(struct checkpoint *c, const json_t *config, struct error *err)
{
    const char *path;
    char *text = NULL;
    size_t n = 0;
    int rc = hf_find(c, "chat_template.jinja", &path, err);
    if (rc < 0)
        return rc;
    if (rc) {
        rc = file_slurp(path, HF_JSON_MAX, &text, &n, err);
        if (!rc && !(c->chat_template = arena_text(&c->arena, text, n)))
            rc = fill_memory(err);
        free(text);
        return rc;
    }
    const json_t *t = default_template(config);
    if (json_is_string(t) && !(c->chat_template = arena_text(&c->arena, json_string_value(t), json_string_length(t))))
        return fill_memory(err);
    return 0;
}

/* In the order in which they are read. */
static const struct source {
    const char *name, *prefix;
    size_t limit;
    bool required, has_template;
    const char *const *only; /* the names that are taken, NULL-terminated; NULL: all */
} sources[] = {
    {"config.json", "", HF_JSON_MAX, true, false, NULL},
    {"generation_config.json", "generation.", HF_JSON_MAX, false, false, NULL},
    {"tokenizer_config.json", "tokenizer.", HF_BIG_JSON_MAX, false, true, (const char *const[]){"add_bos_token", "add_eos_token", "bos_token", "eos_token", NULL}},
};

/* A file that describes every token anew has more keys than a checkpoint may, and none of those is needed. */
static void keep_only(json_t *object, const char *const *names)
{
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, name, value)
    {
        const char *const *n = names;
        while (*n && strcmp(*n, name))
            n++;
        if (!*n)
            json_object_del(object, name);
    }
}

/* Prefixes that the readers give to keys from elsewhere, and those of GGUF: whoever finds them must be able to trust where they are from. */
static int check_names(const struct checkpoint *c, const char *path, struct error *err)
{
    static const char *const reserved[] = {"generation.", "tokenizer.", "general.", "quantize.", "split."};
    for (int i = 0; i < c->n_meta; i++)
        for (size_t k = 0; k < sizeof reserved / sizeof *reserved; k++)
            if (!strncmp(c->meta[i].key, reserved[k], strlen(reserved[k])))
                return fail(err, ERR_CONFIG, "%s: config key \"%.64s\": \"%s\" stands for another file's keys: remove it", path, c->meta[i].key, reserved[k]);
    return 0;
}

static int read_source(struct checkpoint *c, const struct source *s, struct error *err)
{
    const char *path;
    json_t *j = NULL;
    int rc = hf_find(c, s->name, &path, err);
    if (rc == 0 && s->required)
        return fail(err, ERR_NOINPUT, "%s: no %s beside the weights: it is needed to know the model's shape", c->dir, s->name);
    if (rc > 0)
        rc = hf_load_json(path, s->limit, &j, err);
    if (!rc && s->has_template)
        rc = read_template(c, j, err);
    if (j && s->only)
        keep_only(j, s->only);
    if (!rc && j)
        rc = add_object(c, path, s->prefix, j, 0, err);
    if (!rc && !*s->prefix)
        rc = check_names(c, path, err);
    json_decref(j);
    return rc;
}

int hf_read_configs(struct checkpoint *c, struct error *err)
{
    int rc = 0;
    for (size_t i = 0; i < sizeof sources / sizeof *sources && !rc; i++)
        rc = read_source(c, &sources[i], err);
    return rc;
}
