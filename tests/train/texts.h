/* SPDX-License-Identifier: Apache-2.0 */
/* A temporary folder with files of text, and a small model whose tokens are bytes. */
#ifndef TESTS_TRAIN_TEXTS_H
#define TESTS_TRAIN_TEXTS_H

#include "tiny_device.h"

#include "train/corpus.h"

struct texts {
    char dir[64], out[96];
    char path[4][96];
    const char *file[4];
    int n, notes;
    char last_note[512];
    struct model model;
    struct corpus corpus;
};

static inline void take_note(void *ud, const char *line)
{
    struct texts *t = ud;
    t->notes++;
    snprintf(t->last_note, sizeof t->last_note, "%s", line);
}

static inline void texts_open(struct texts *t)
{
    char path[160];
    struct error err = {0};
    memset(t, 0, sizeof *t);
    strcpy(t->dir, "/tmp/lsk-texts-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->out, sizeof t->out, "%s/data.tokens", t->dir);
    synthetic_path(path, sizeof path, "tiny", "f32");
    if (model_open(&t->model, path, NULL, &err))
        fail_with(err.text);
    t->corpus = (struct corpus){.file = t->file, .tokenizer = t->model.tokenizer, .vocab = t->model.config.vocab, .end = 2, .note = take_note, .ud = t};
}

static inline void texts_close(struct texts *t)
{
    char command[128];
    model_close(&t->model);
    snprintf(command, sizeof command, "rm -rf '%s'", t->dir);
    assert_int_equal(system(command), 0);
}

static inline void texts_add(struct texts *t, const char *name, const void *p, size_t n)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    strcpy(t->path[t->n], path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    t->file[t->n] = t->path[t->n];
    t->corpus.n_files = ++t->n;
}

static inline void texts_add_text(struct texts *t, const char *name, const char *text) { texts_add(t, name, text, strlen(text)); }

static inline void must_make(struct texts *t)
{
    struct error err = {0};
    if (corpus_make(&t->corpus, t->out, &err))
        fail_with(err.text);
}

static inline void must_refuse(struct texts *t, int code, const char *what)
{
    struct error err = {0};
    assert_int_equal(corpus_make(&t->corpus, t->out, &err), code);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not say %s", err.text, what);
    assert_true(access(t->out, F_OK) != 0); /* nothing half-written */
}

#endif
