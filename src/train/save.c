/* SPDX-License-Identifier: Apache-2.0 */
#include "train/save.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/checkpoint.h"

enum { SETTINGS_MAX = 40, STATES = 3, CHUNK = 1 << 16 };

static const struct {
    enum train_state what;
    const char *name;
} states[STATES] = {{TRAIN_WEIGHT, "weight"}, {TRAIN_MOMENT1, "moment1"}, {TRAIN_MOMENT2, "moment2"}};

static char *join(const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s", folder, name);
    return path;
}

char *save_path(const char *folder, int step)
{
    char name[32];
    snprintf(name, sizeof name, "step-%06d", step);
    return join(folder, name);
}

/* ---- settings ---- */

struct setting {
    const char *name;
    double value;
};

/* Everything that decides what a step does. */
static int list_settings(const struct training *t, struct setting out[SETTINGS_MAX])
{
    static const char *const exits[RECIPE_EXITS_MAX] = {"exit_1", "exit_2", "exit_3", "exit_4", "exit_5", "exit_6", "exit_7", "exit_8", "exit_9", "exit_10", "exit_11", "exit_12",
                                                        "exit_13", "exit_14", "exit_15", "exit_16"};
    const struct schedule *s = &t->schedule;
    const struct recipe *r = &s->recipe;
    const struct setting all[] = {
        {"layer_dropout", r->drop_max}, {"dropout_grows", r->drop_grows}, {"exit_scale", r->exit_scale}, {"curriculum", r->curriculum}, {"rotation", r->rotation},
        {"rate", r->rate}, {"anchor", r->anchor}, {"steps", s->steps}, {"warmup", s->warmup}, {"floor", s->floor}, {"batch", t->batch}, {"accumulate", t->accumulate}, {"length", t->length},
        {"beta1", t->beta1}, {"beta2", t->beta2}, {"eps", t->eps}, {"decay", r->decay}, {"clip", t->clip}, {"held_out", t->held_share}, {"learn_prompts", t->learn_given},
        {"exits", s->n_exits},
    };
    int n = sizeof all / sizeof *all;
    memcpy(out, all, sizeof all);
    for (int i = 0; i < s->n_exits; i++)
        out[n++] = (struct setting){exits[i], s->exit[i]};
    return n;
}

static json_t *hex(uint64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "0x%016" PRIx64, v);
    return json_string(text);
}

static json_t *describe(const struct training *t, const struct identity *id, int step)
{
    struct setting set[SETTINGS_MAX];
    int n = list_settings(t, set), bad = 0;
    json_t *settings = json_object();
    for (int i = 0; i < n; i++)
        bad |= json_object_set_new(settings, set[i].name, json_real(set[i].value));
    if (bad) {
        json_decref(settings);
        return NULL;
    }
    return json_pack("{s:i, s:s, s:s, s:o, s:s, s:o, s:o, s:s, s:s}", "step", step, "start", id->start, "recipe", t->schedule.recipe.name, "seed", hex(t->schedule.seed), "model", id->model, "data", hex(id->data),
                     "settings", settings, "fit", dtype_table[t->fit].name, "device", t->device);
}

static int differs(const char *path, const char *what, const char *was, const char *is, struct error *err)
{
    return fail(err, ERR_USAGE, "%s: %s was %s, now it is %s: resume with what the run began with, or begin another one in another folder", path, what, *was ? was : "none", *is ? is : "none");
}

static int damaged(const char *path, const char *what, struct error *err)
{
    return fail(err, ERR_DATA, "%s: %s: this checkpoint is damaged: remove it and resume from an older one", path, what);
}

static int same_text(const struct checkpoint *c, const char *key, const char *now, struct error *err)
{
    const struct meta *m = checkpoint_meta(c, key);
    if (!m || m->type != META_TEXT)
        return damaged(c->path, key, err);
    return strcmp(m->text, now) ? differs(c->path, key, m->text, now, err) : 0;
}

static int same_hex(const struct checkpoint *c, const char *key, uint64_t value, struct error *err)
{
    char now[32];
    snprintf(now, sizeof now, "0x%016" PRIx64, value);
    return same_text(c, key, now, err);
}

static int check_same(const struct training *t, const struct identity *id, const struct checkpoint *c, struct error *err)
{
    struct setting set[SETTINGS_MAX];
    int n = list_settings(t, set), rc = same_text(c, "model", id->model, err);
    if (!rc)
        rc = same_text(c, "start", id->start, err);
    if (!rc)
        rc = same_text(c, "recipe", t->schedule.recipe.name, err);
    if (!rc)
        rc = same_text(c, "fit", dtype_table[t->fit].name, err);
    for (int i = 0; i < n && !rc; i++) {
        char key[64], was[32], now[32];
        snprintf(key, sizeof key, "settings.%s", set[i].name);
        const struct meta *m = checkpoint_meta(c, key);
        if (!m || (m->type != META_REAL && m->type != META_INT))
            return damaged(c->path, key, err);
        snprintf(was, sizeof was, "%.9g", m->real);
        snprintf(now, sizeof now, "%.9g", set[i].value);
        if (m->real != set[i].value)
            rc = differs(c->path, set[i].name, was, now, err);
    }
    if (!rc)
        rc = same_hex(c, "seed", t->schedule.seed, err);
    return rc ? rc : same_hex(c, "data", id->data, err);
}

/* A run may move to another kind of device, but it shall know that the bits are then not those of a run that stayed. */
static void note_device(const struct training *t, const struct checkpoint *c)
{
    const struct meta *m = checkpoint_meta(c, "device");
    char line[400];
    if (!m || m->type != META_TEXT || !strcmp(m->text, t->device) || !t->corpus.note)
        return;
    snprintf(line, sizeof line, "%s: was trained on %.32s and goes on on %s: from here on the bits are not those of a run that stayed there", c->path, m->text, t->device);
    t->corpus.note(t->corpus.ud, line);
}

/* ---- folders ---- */

/* A folder of files, and of one more level of such folders. */
static void remove_folder(const char *path, int levels)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!unlinkat(dirfd(d), e->d_name, 0) || !levels || e->d_name[0] == '.')
            continue;
        char *inner = join(path, e->d_name);
        if (inner)
            remove_folder(inner, levels - 1);
        free(inner);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

/* Renamed first: what is half removed must not look like a checkpoint. */
static void remove_checkpoint(const char *folder, int step)
{
    char *path = save_path(folder, step), *temp = path ? malloc(strlen(path) + 32) : NULL;
    if (temp) {
        snprintf(temp, strlen(path) + 32, "%s.tmp-%ld", path, (long)getpid());
        if (!rename(path, temp))
            remove_folder(temp, 1);
    }
    free(path);
    free(temp);
}

/* The step that a name stands for; 0: none. */
static int step_of(const char *name)
{
    int step = 0, used = 0;
    return sscanf(name, "step-%9d%n", &step, &used) == 1 && !name[used] && step > 0 ? step : 0;
}

static int by_number(const void *a, const void *b) { return *(const int *)b - *(const int *)a; }

/* The steps of all checkpoints, newest first. Returns how many; caller frees *steps. */
static int list_steps(const char *folder, int **steps, struct error *err)
{
    DIR *d = opendir(folder);
    int n = 0, cap = 0, rc = d ? 0 : fail(err, ERR_NOINPUT, "%s: %s", folder, strerror(errno));
    *steps = NULL;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (!step_of(e->d_name))
            continue;
        if (n == cap) {
            int *bigger = realloc(*steps, (size_t)(cap = 2 * cap + 16) * sizeof **steps);
            if (!bigger) {
                rc = fail(err, ERR_OS, "out of memory");
                break;
            }
            *steps = bigger;
        }
        (*steps)[n++] = step_of(e->d_name);
    }
    if (d)
        closedir(d);
    if (n)
        qsort(*steps, (size_t)n, sizeof **steps, by_number);
    return rc ? rc : n;
}

/* What a killed run left: "step-000500.tmp-123", "log.csv.tmp-123". */
static void remove_leftovers(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        bool ours = !strncmp(e->d_name, "step-", 5) || !strncmp(e->d_name, "log.csv.", 8) || !strncmp(e->d_name, "data.tokens.", 12);
        char *path = ours && strstr(e->d_name, ".tmp-") ? join(folder, e->d_name) : NULL;
        if (path && unlink(path))
            remove_folder(path, 1);
        free(path);
    }
    if (d)
        closedir(d);
}

int save_newest(const char *folder, struct error *err)
{
    int *steps, n = list_steps(folder, &steps, err), newest = n > 0 ? steps[0] : n;
    free(steps);
    if (n >= 0)
        remove_leftovers(folder);
    return newest;
}

/* ---- writing ---- */

static int write_state(const struct training *t, const struct identity *id, const struct export *e, const char *temp, int step, struct error *err)
{
    int n = t->ops->n_tensors(e->trainer), rc = 0;
    struct export_tensor *list = calloc((size_t)n * STATES, sizeof *list);
    char *folder = join(temp, "trainer");
    if (!list || !folder)
        rc = fail(err, ERR_OS, "out of memory");
    else if (mkdir(folder, 0777))
        rc = fail(err, ERR_CREATE, "%s: cannot create the folder: %s", folder, strerror(errno));
    for (int i = 0; i < n * STATES && !rc; i++) {
        list[i].tensor = i / STATES;
        list[i].what = states[i % STATES].what;
        snprintf(list[i].name, sizeof list[i].name, "%s.%s", states[i % STATES].name, t->ops->tensor(e->trainer, i / STATES).name);
    }
    if (!rc)
        rc = export_tensors(e, folder, list, n * STATES, DT_F32, err);
    if (!rc)
        rc = export_json(folder, "config.json", describe(t, id, step), err);
    free(list);
    free(folder);
    return rc;
}

static int write_to(const struct training *t, const struct identity *id, struct trainer *trainer, const char *temp, const char *path, int step, struct error *err)
{
    const struct schedule *s = &t->schedule;
    const struct export e = {.model = t->model, .ops = t->ops, .trainer = trainer, .type = export_type(t->model),
                             .exit_layer = s->recipe.curriculum != CURRICULUM_NONE && s->layers > 1 ? t->look[0] : 0, .num_speculations = 4};
    if (mkdir(temp, 0777))
        return fail(err, ERR_CREATE, "%s: cannot create the folder: %s", temp, strerror(errno));
    int rc = export_write(&e, temp, err);
    if (!rc)
        rc = write_state(t, id, &e, temp, step, err);
    if (!rc && rename(temp, path))
        rc = fail(err, ERR_CREATE, "%s: cannot rename to %s: %s", temp, path, strerror(errno));
    if (rc)
        remove_folder(temp, 1);
    return rc ? rc : file_sync_folder(path, err);
}

/* Old checkpoints go; that one cannot be removed is no reason to stop. */
static void prune(const struct training *t)
{
    struct error ignored;
    int *steps, n = list_steps(t->folder, &steps, &ignored);
    for (int i = t->keep; t->keep && i < n; i++)
        remove_checkpoint(t->folder, steps[i]);
    free(steps);
}

int save_write(const struct training *t, const struct identity *id, struct trainer *trainer, int step, struct error *err)
{
    char *path = save_path(t->folder, step), *temp = path ? malloc(strlen(path) + 32) : NULL;
    int rc = temp ? 0 : fail(err, ERR_OS, "out of memory");
    if (!rc) {
        snprintf(temp, strlen(path) + 32, "%s.tmp-%ld", path, (long)getpid());
        rc = write_to(t, id, trainer, temp, path, step, err);
    }
    if (!rc)
        prune(t);
    free(path);
    free(temp);
    return rc;
}

/* ---- reading ---- */

static int read_tensor(const struct training *t, const struct checkpoint *c, struct trainer *trainer, int i, int state, struct error *err)
{
    struct train_tensor tensor = t->ops->tensor(trainer, i);
    char name[112];
    snprintf(name, sizeof name, "?%s.%s", states[state].name, tensor.name);
    const struct view *v = checkpoint_find(c, name);
    uint64_t rows = (uint64_t)(tensor.rows == 1 ? tensor.cols : tensor.rows), cols = (uint64_t)(tensor.rows == 1 ? 1 : tensor.cols);
    if (!v || v->type != DT_F32 || v->dim[0] != rows || v->dim[1] != cols)
        return damaged(c->path, name + 1, err);
    float *value = malloc((size_t)v->bytes);
    int rc = value ? checkpoint_read_rows(c, v, 0, rows, value, err) : fail(err, ERR_OS, "out of memory for %" PRIu64 " bytes", v->bytes);
    if (!rc)
        rc = t->ops->set(trainer, i, states[state].what, value, err);
    free(value);
    return rc;
}

int save_read(const struct training *t, const struct identity *id, struct trainer *trainer, int step, struct error *err)
{
    char *path = save_path(t->folder, step), *state = path ? join(path, "trainer") : NULL;
    struct checkpoint *c = state ? checkpoint_open(state, err) : NULL;
    int rc = c ? check_same(t, id, c, err) : state ? err->code : fail(err, ERR_OS, "out of memory");
    const struct meta *m = c ? checkpoint_meta(c, "step") : NULL;
    if (!rc && (!m || m->type != META_INT || m->i != step))
        rc = fail(err, ERR_DATA, "%s: is not of step %d: the folder was renamed: give it its old name", state, step);
    if (!rc)
        note_device(t, c);
    for (int i = 0; i < t->ops->n_tensors(trainer) * STATES && !rc; i++)
        rc = read_tensor(t, c, trainer, i / STATES, i % STATES, err);
    checkpoint_close(c);
    free(path);
    free(state);
    return rc;
}
