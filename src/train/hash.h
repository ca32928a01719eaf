/* SPDX-License-Identifier: Apache-2.0 */
/* 64-bit FNV-1a: whether two runs speak of the same thing. It tells mistakes apart, not attacks. */
#ifndef TRAIN_HASH_H
#define TRAIN_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "text/vocab.h"

#define HASH_START 0xcbf29ce484222325u

static inline uint64_t hash_add(uint64_t h, const void *p, size_t n)
{
    for (const uint8_t *b = p, *end = b + n; b < end; b++)
        h = (h ^ *b) * 0x100000001b3u;
    return h;
}

/* Everything that decides which tokens a text becomes. */
uint64_t hash_vocab(const struct vocab *v);

#endif
