/* SPDX-License-Identifier: Apache-2.0 */
/* A backend that is opened at run time, because what it needs is not on every machine. Its file, layerskip-NAME.so, lies where plugin.c looks for it and has
   one symbol, lsk_plugin. */
#ifndef BACKEND_PLUGIN_H
#define BACKEND_PLUGIN_H

#include "backend/backend.h"

/* Both sides must have been built from the same sources. */
#define PLUGIN_BUILD (LSK_VERSION "/" PLUGIN_TEXT(__SIZEOF_POINTER__))
#define PLUGIN_TEXT(x) PLUGIN_TEXT_(x)
#define PLUGIN_TEXT_(x) #x

struct plugin {
    const char *build;            /* PLUGIN_BUILD */
    unsigned sizes[6];            /* of struct backend, device_options, model, pick, train_options, train_batch */
    const struct backend *backend;
    int (*usable)(int ordinal, struct error *err); /* is there such a device */
};

#define PLUGIN_SIZES {sizeof(struct backend), sizeof(struct device_options), sizeof(struct model), sizeof(struct pick), sizeof(struct train_options), sizeof(struct train_batch)}

/* Opened once and kept; name: a literal. NULL with the reason when it is not there or does not fit. */
const struct plugin *plugin_open(const char *name, struct error *err);

#endif
