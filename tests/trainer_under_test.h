/* SPDX-License-Identifier: Apache-2.0 */
/* A trainer on a small random model, and what tests ask of it. */
#ifndef TESTS_TRAINER_UNDER_TEST_H
#define TESTS_TRAINER_UNDER_TEST_H

#include "tiny_device.h"

struct trial {
    struct model model;
    const struct train_ops *ops;
    struct trainer *t;
};

static inline struct train_tensor trial_tensor(const struct trial *x, int i) { return x->ops->tensor(x->t, i); }

static inline size_t trial_size(const struct trial *x, int i) { return (size_t)(trial_tensor(x, i).rows * trial_tensor(x, i).cols); }

static inline float *trial_get(const struct trial *x, int i, enum train_state what)
{
    struct error err = {0};
    float *p = malloc(trial_size(x, i) * sizeof *p);
    assert_non_null(p);
    if (x->ops->get(x->t, i, what, p, &err))
        fail_with(err.text);
    return p;
}

static inline void trial_set(const struct trial *x, int i, enum train_state what, const float *p)
{
    struct error err = {0};
    if (x->ops->set(x->t, i, what, p, &err))
        fail_with(err.text);
}

/* Norms of a synthetic model are 1, which hides mistakes: w[i] = 1 + ((7 i) mod 11 - 5) / 16, as tests/golden/make_train.py has it. */
static inline void trial_bend_norms(const struct trial *x)
{
    for (int i = 0; i < x->ops->n_tensors(x->t); i++) {
        struct train_tensor is = trial_tensor(x, i);
        size_t n = strlen(is.name);
        if (n < 4 || strcmp(is.name + n - 4, "norm"))
            continue;
        float *w = trial_get(x, i, TRAIN_WEIGHT);
        for (int j = 0; j < is.cols; j++)
            w[j] = 1 + (float)(j * 7 % 11 - 5) / 16;
        trial_set(x, i, TRAIN_WEIGHT, w);
        free(w);
    }
}

static inline void trial_open(struct trial *x, const char *shape, const struct train_options *o)
{
    char path[160];
    struct error err = {0};
    synthetic_path(path, sizeof path, shape, "bf16");
    if (model_open(&x->model, path, NULL, &err))
        fail_with(err.text);
    x->ops = backend_find("cpu", &err)->train;
    x->t = x->ops->open(&x->model, o, &err);
    if (!x->t)
        fail_with(err.text);
    trial_bend_norms(x);
}

static inline void trial_close(struct trial *x)
{
    x->ops->close(x->t);
    model_close(&x->model);
}

/* All numbers of one kind, in order of the tensors; *n of them. */
static inline float *trial_all(const struct trial *x, enum train_state what, size_t *n)
{
    size_t at = 0;
    for (int i = 0; i < x->ops->n_tensors(x->t); i++)
        at += trial_size(x, i);
    float *all = malloc(at * sizeof *all);
    assert_non_null(all);
    *n = at;
    at = 0;
    for (int i = 0; i < x->ops->n_tensors(x->t); i++) {
        float *p = trial_get(x, i, what);
        memcpy(all + at, p, trial_size(x, i) * sizeof *p);
        at += trial_size(x, i);
        free(p);
    }
    return all;
}

#endif
