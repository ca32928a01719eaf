/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/backend.h"

#include <stddef.h>
#include <string.h>

extern const struct backend backend_cpu;

static const struct backend *const backends[] = {&backend_cpu};

const struct backend *backend_find(const char *name, struct error *err)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!name || !strcmp(name, "auto") || !strcmp(name, backends[i]->name))
            return backends[i];
    fail(err, ERR_USAGE, "device \"%s\": this build has only cpu", name);
    return NULL;
}
