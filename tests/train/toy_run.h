/* SPDX-License-Identifier: Apache-2.0 */
/* A small run with the toy trainer, in a folder of its own. */
#ifndef TESTS_TRAIN_TOY_RUN_H
#define TESTS_TRAIN_TOY_RUN_H

#include "texts.h"
#include "toy_train.h"

#include "train/trainer.h"

struct toy_run {
    struct texts texts;
    char folder[96];
    struct training t;
    int stop_at;                 /* step after which event asks to end; 0: none */
    int stepped, looked, saved, started;
    double first_look, last_look, last_loss;
    char last_path[160];
};

static inline int toy_event(void *ud, const struct train_event *e)
{
    struct toy_run *r = ud;
    r->started += e->kind == TRAIN_STARTED;
    r->stepped += e->kind == TRAIN_STEPPED;
    r->looked += e->kind == TRAIN_LOOKED;
    r->saved += e->kind == TRAIN_SAVED;
    if (e->kind == TRAIN_LOOKED && r->looked == 1)
        r->first_look = e->loss;
    if (e->kind == TRAIN_LOOKED)
        r->last_look = e->loss;
    if (e->kind == TRAIN_STEPPED)
        r->last_loss = e->loss;
    if (e->kind == TRAIN_SAVED)
        snprintf(r->last_path, sizeof r->last_path, "%s", e->path);
    return r->stop_at && e->step >= r->stop_at;
}

/* Asks to stop once training has begun, as an interruption does. */
static inline int toy_progress(void *ud, const char *what, uint64_t done, uint64_t total)
{
    const struct toy_run *r = ud;
    (void)done;
    (void)total;
    return r->started || !strcmp(what, "training");
}

static inline void toy_run_open(struct toy_run *r, const char *recipe, int steps)
{
    memset(r, 0, sizeof *r);
    memset(&toy, 0, sizeof toy);
    texts_open(&r->texts);
    char text[6000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i * i % 26);
    texts_add(&r->texts, "a.txt", text, sizeof text);
    snprintf(r->folder, sizeof r->folder, "%s/run", r->texts.dir);
    r->t = (struct training){.model = &r->texts.model, .ops = &toy_ops, .device = "cpu", .folder = r->folder, .corpus = r->texts.corpus,
                             .schedule = {.recipe = *recipe_find(recipe), .steps = steps, .seed = 3, .warmup = 0.1, .floor = 0.1},
                             .batch = 2, .accumulate = 2, .length = 16, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1, .held_share = 0.05,
                             .look_every = 4, .look_blocks = 4, .save_every = 5, .keep = 2, .event = toy_event, .progress = toy_progress};
}

static inline void toy_run_close(struct toy_run *r)
{
    assert_int_equal(toy.opened, 0);
    texts_close(&r->texts);
}

static inline int toy_run(struct toy_run *r, struct error *err)
{
    r->t.ud = r; /* the struct may have been copied */
    r->t.model = &r->texts.model;
    r->t.folder = r->folder;
    r->texts.file[0] = r->texts.path[0];
    r->t.corpus.file = r->texts.file;
    r->t.corpus.ud = &r->texts;
    return training_run(&r->t, err);
}

static inline void must_run(struct toy_run *r, int want)
{
    struct error err = {0};
    int rc = toy_run(r, &err);
    if (rc < 0)
        fail_with(err.text);
    assert_int_equal(rc, want);
}

static inline void must_fail(struct toy_run *r, int code, const char *what)
{
    struct error err = {0};
    assert_int_equal(toy_run(r, &err), code);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not say %s", err.text, what);
}

static inline bool run_has(const struct toy_run *r, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    return !access(path, F_OK);
}

/* A file of the run; caller frees. */
static inline char *run_file(const struct toy_run *r, const char *name, size_t *n)
{
    char path[160], *p = NULL;
    struct error err = {0};
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    if (file_slurp(path, 1 << 26, &p, n, &err))
        fail_with(err.text);
    return p;
}

static inline void same_file(const struct toy_run *a, const struct toy_run *b, const char *name)
{
    size_t n, m;
    char *p = run_file(a, name, &n), *q = run_file(b, name, &m);
    if (n != m || memcmp(p, q, n))
        fail_msg("%s differs", name);
    free(p);
    free(q);
}

#endif
