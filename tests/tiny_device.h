/* SPDX-License-Identifier: Apache-2.0 */
/* Small random models for tests: made once in a temporary folder, opened as a device of the backend under test. */
#ifndef TESTS_TINY_DEVICE_H
#define TESTS_TINY_DEVICE_H

#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/backend.h"
#include "model/synth.h"

struct synthetic {
    struct model model;
    const struct backend *b;
    struct device *d;
    struct kv *kv;
    struct device_options o;
};

static char synthetic_root[64];

static inline int synthetic_cleanup(void **state)
{
    (void)state;
    char command[128];
    if (!*synthetic_root)
        return 0;
    snprintf(command, sizeof command, "rm -rf '%s'", synthetic_root);
    *synthetic_root = 0;
    return system(command) ? -1 : 0;
}

/* The folder of a shape in a type; made when first asked for. */
static inline void synthetic_path(char *out, size_t cap, const char *shape, const char *dtype)
{
    struct stat st;
    struct error err = {0};
    if (!*synthetic_root) {
        strcpy(synthetic_root, "/tmp/lsk-test-XXXXXX");
        assert_non_null(mkdtemp(synthetic_root));
    }
    snprintf(out, cap, "%s/%s-%s", synthetic_root, shape, dtype);
    if (!stat(out, &st))
        return;
    struct synth_options o = {.shape = shape, .dtype = dtype, .threads = 1};
    if (synth_write(out, &o, &err))
        fail_with(err.text);
}

static inline void synthetic_open(struct synthetic *s, const char *shape, const char *dtype, const struct device_options *o)
{
    char path[160];
    struct error err = {0};
    synthetic_path(path, sizeof path, shape, dtype);
    memset(s, 0, sizeof *s);
    s->o = *o;
    if (model_open(&s->model, path, NULL, &err))
        fail_with(err.text);
    s->o.ordinal = backend_ordinal(test_device());
    s->b = backend_find(test_device(), &err);
    s->d = !s->b ? NULL : s->b->open(&s->model, &s->o, &err);
    s->kv = s->d ? s->b->kv_open(s->d, &err) : NULL;
    if (!s->kv)
        fail_with(err.text);
}

static inline void synthetic_close(struct synthetic *s)
{
    s->b->kv_close(s->kv);
    s->b->close(s->d);
    model_close(&s->model);
}

#endif
