/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <string.h>

#include "decode/decode.h"

static const struct drafter *const drafters[] = {&drafter_none, &drafter_exit};

const struct drafter *drafter_at(int i) { return i >= 0 && (size_t)i < sizeof drafters / sizeof *drafters ? drafters[i] : NULL; }

const struct drafter *drafter_find(const char *name)
{
    for (int i = 0; drafter_at(i); i++)
        if (!strcmp(name, drafter_at(i)->name))
            return drafter_at(i);
    return NULL;
}
