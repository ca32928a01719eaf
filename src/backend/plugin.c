/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/plugin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The file beside the library or program that this code is in; else where the system looks for libraries. */
static void *open_file(const char *name, struct error *err)
{
    char path[4096];
    Dl_info here;
    void *file = NULL;
    const char *slash = NULL;
    if (dladdr((void *)(size_t)&plugin_open, &here) && here.dli_fname && (slash = strrchr(here.dli_fname, '/'))) {
        int n = snprintf(path, sizeof path, "%.*s/layerskip-%s.so", (int)(slash - here.dli_fname), here.dli_fname, name);
        if (n > 0 && (size_t)n < sizeof path)
            file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!file) {
        snprintf(path, sizeof path, "layerskip-%s.so", name);
        file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!file)
        fail(err, ERR_UNAVAILABLE, "device \"%s\": its plugin cannot be opened (%s); use --device cpu", name, dlerror());
    return file;
}

static const struct plugin *check(const char *name, const struct plugin *p, struct error *err)
{
    static const unsigned sizes[4] = PLUGIN_SIZES;
    if (p && !strcmp(p->build, PLUGIN_BUILD) && !memcmp(p->sizes, sizes, sizeof sizes))
        return p;
    fail(err, ERR_UNAVAILABLE, "device \"%s\": its plugin is of another build than this program; install both together", name);
    return NULL;
}

const struct plugin *plugin_open(const char *name, struct error *err)
{
    static struct {
        const char *name; /* there is one kind of plugin so far: a second gets a place of its own */
        const struct plugin *plugin;
    } opened;
    const struct plugin *p = NULL;
    pthread_mutex_lock(&lock);
    if (opened.plugin && !strcmp(opened.name, name)) {
        p = opened.plugin;
    } else {
        void *file = open_file(name, err);
        p = file ? check(name, dlsym(file, "lsk_plugin"), err) : NULL;
        if (p) {
            opened.name = name;
            opened.plugin = p;
        } else if (file) {
            dlclose(file);
        }
    }
    pthread_mutex_unlock(&lock);
    return p;
}
