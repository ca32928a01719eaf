/* SPDX-License-Identifier: Apache-2.0 */
/* An arena: memory with one lifetime. Blocks are zeroed, 64-byte aligned and freed together. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *head;
    size_t used;  /* bytes handed out, rounding included */
};

void *arena_alloc(struct arena *a, size_t bytes);                  /* NULL when memory is out; never for bytes == 0 */
void *arena_array(struct arena *a, uint64_t count, size_t size);   /* count * size, checked */
char *arena_text(struct arena *a, const void *p, size_t n);        /* a copy of n bytes with a zero behind */
void arena_free(struct arena *a);                                  /* everything; the arena may be used again */

#endif
