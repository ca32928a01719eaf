/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <string.h>

#include "decode/decode.h"

static const struct drafter *const drafters[] = {&drafter_none, &drafter_ngram, &drafter_exit, &drafter_recycle};

const struct drafter *drafter_at(int i) { return i >= 0 && (size_t)i < sizeof drafters / sizeof *drafters ? drafters[i] : NULL; }

/* The drafter whose name is the first n characters. */
static const struct drafter *find(const char *name, size_t n)
{
    for (int i = 0; drafter_at(i); i++)
        if (strlen(drafter_at(i)->name) == n && !memcmp(name, drafter_at(i)->name, n))
            return drafter_at(i);
    return NULL;
}

int drafters_find(const char *names, unsigned *out)
{
    *out = 0;
    for (const char *p = names;; p++) {
        size_t n = strcspn(p, "+");
        const struct drafter *d = find(p, n);
        if (!d)
            return -1;
        *out |= d->bit;
        p += n;
        if (!*p)
            return 0;
    }
}
