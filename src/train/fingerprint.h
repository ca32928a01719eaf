/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two runs speak of the same thing: 64-bit FNV-1a hashes. They tell mistakes apart, not attacks. */
#ifndef TRAIN_FINGERPRINT_H
#define TRAIN_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/model.h"

#define FINGERPRINT_START 0xcbf29ce484222325u

static inline uint64_t fingerprint_add(uint64_t h, const void *p, size_t n)
{
    for (const uint8_t *b = p, *end = b + n; b < end; b++)
        h = (h ^ *b) * 0x100000001b3u;
    return h;
}

/* Everything that decides which tokens a text becomes. */
uint64_t fingerprint_vocab(const struct vocab *v);

/* The config's numbers, every tensor's name, type and shape, and the first bytes of its values. */
int fingerprint_model(const struct model *m, uint64_t *out, struct error *err);

#endif
