/* SPDX-License-Identifier: Apache-2.0 */
/* A synthetic checkpoint in a temporary folder, made through the public API, and changes to its files. */
#ifndef TESTS_SYNTHETIC_H
#define TESTS_SYNTHETIC_H

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "layerskip.h"

struct folder {
    char base[40], path[56];
};

static inline void folder_make_of(struct folder *f, const lsk_synth_options *o)
{
    lsk_error err = {0};
    snprintf(f->base, sizeof f->base, "/tmp/layerskip-test.XXXXXX");
    assert_non_null(mkdtemp(f->base));
    snprintf(f->path, sizeof f->path, "%s/model", f->base);
    if (lsk_synth(f->path, o, &err))
        fail_msg("%s", err.text);
}

static inline void folder_make(struct folder *f, const char *shape) { folder_make_of(f, &(lsk_synth_options){.shape = shape, .seed = 1, .threads = 1}); }

static inline void folder_remove(struct folder *f)
{
    DIR *d = opendir(f->path);
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(f->path);
    assert_int_equal(rmdir(f->base), 0);
}

static inline const char *folder_file(const struct folder *f, const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    return path;
}

/* Sets one key of a JSON file in the folder; takes the value. */
static inline void folder_set(const struct folder *f, const char *file, const char *key, json_t *value)
{
    json_t *json = json_load_file(folder_file(f, file), 0, NULL);
    assert_non_null(json);
    assert_int_equal(json_object_set_new(json, key, value), 0);
    assert_int_equal(json_dump_file(json, folder_file(f, file), 0), 0);
    json_decref(json);
}

/* On the device under test unless o names one. o may be NULL. */
static inline lsk_model *folder_open(const struct folder *f, const lsk_model_options *o)
{
    lsk_error err = {0};
    lsk_model_options own = o ? *o : (lsk_model_options){0};
    own.device = own.device ? own.device : test_device();
    lsk_model *m = lsk_model_open(f->path, &own, &err);
    if (!m)
        fail_msg("%s: %s", f->path, err.text);
    return m;
}

static inline lsk_session *must_session(lsk_model *m)
{
    lsk_error err = {0};
    lsk_session *s = lsk_session_open(m, &err);
    if (!s)
        fail_msg("%s", err.text);
    return s;
}

#endif
