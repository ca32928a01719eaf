/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/backend.h"

#include <stdlib.h>
#include <string.h>

#include "backend/plugin.h"

extern const struct backend backend_cpu;

/* "NAME" or "NAME:N". */
static bool parse(const char *device, const char *name, int *ordinal)
{
    size_t n = strlen(name);
    *ordinal = 0;
    if (strncmp(device, name, n) || (device[n] && device[n] != ':'))
        return false;
    if (!device[n])
        return true;
    char *end;
    long v = strtol(device + n + 1, &end, 10);
    *ordinal = (int)v;
    return device[n + 1] >= '0' && device[n + 1] <= '9' && !*end && v < 1024;
}

int backend_ordinal(const char *device)
{
    int ordinal;
    return device && parse(device, "cuda", &ordinal) ? ordinal : 0;
}

static const struct backend *find_cuda(int ordinal, struct error *err)
{
    const struct plugin *p = plugin_open("cuda", err);
    return p && !p->usable(ordinal, err) ? p->backend : NULL;
}

const struct backend *backend_find(const char *device, struct error *err)
{
    int ordinal;
    if (!device || !strcmp(device, "auto")) {
        const struct backend *cuda = find_cuda(0, err);
        return cuda ? cuda : &backend_cpu;
    }
    if (!strcmp(device, "cpu"))
        return &backend_cpu;
    if (parse(device, "cuda", &ordinal))
        return find_cuda(ordinal, err);
    fail(err, ERR_USAGE, "device \"%s\": must be auto, cpu, cuda or cuda:N", device);
    return NULL;
}
