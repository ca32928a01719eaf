/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/plugin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

enum { PATH_MOST = 4096 };

/* The folder of the library or program that this code is in, with a slash; a program found by PATH does not know its own. */
static bool own_folder(char *out)
{
    Dl_info here;
    if (dladdr((void *)(size_t)&plugin_open, &here) && here.dli_fname && strchr(here.dli_fname, '/') && strlen(here.dli_fname) < PATH_MOST) {
        strcpy(out, here.dli_fname);
    } else {
        ssize_t n = readlink("/proc/self/exe", out, PATH_MOST - 1);
        if (n <= 0)
            return false;
        out[n] = 0;
    }
    char *slash = strrchr(out, '/');
    if (slash)
        slash[1] = 0;
    return slash != NULL;
}

/* Beside this code (a build folder), below the folder of the library, where the program's libraries are, where they were to be installed, and where the system looks: the first that
   is there, whatever comes of it. */
static void *open_file(const char *name, struct error *err)
{
    static const char *const folders[] = {"", "layerskip/", LSK_PLUGIN_FOLDERS};
    char own[PATH_MOST], path[PATH_MOST + 256];
    snprintf(path, sizeof path, "layerskip-%s.so", name);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && own_folder(own); i++) {
        snprintf(path, sizeof path, "%s%slayerskip-%s.so", *folders[i] == '/' ? "" : own, folders[i], name);
        if (access(path, F_OK) == 0)
            break;
        snprintf(path, sizeof path, "layerskip-%s.so", name);
    }
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!file)
        fail(err, ERR_UNAVAILABLE, "device \"%s\": its plugin cannot be opened (%s); use --device cpu", name, dlerror());
    return file;
}

static const struct plugin *check(const char *name, const struct plugin *p, struct error *err)
{
    static const unsigned sizes[6] = PLUGIN_SIZES;
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
