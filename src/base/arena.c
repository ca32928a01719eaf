/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { ALIGN = 64, CHUNK = 64 * 1024 };

/*  | header, padded to 64 | block | block | ... free ... |   chunks hang on a list; a large block gets its own chunk */
struct arena_chunk {
    struct arena_chunk *next;
    size_t size, at; /* bytes after the header, bytes used */
};

static struct arena_chunk *add_chunk(struct arena *a, size_t bytes)
{
    size_t size = bytes > CHUNK / 4 ? bytes : CHUNK, total;
    if (add_size(size, ALIGN, &total))
        return NULL;
    struct arena_chunk *c = aligned_alloc(ALIGN, total);
    if (!c)
        return NULL;
    memset(c, 0, total);
    c->size = size;
    if (size == bytes && a->head) { /* a full chunk goes second, so that the first keeps its free space in use */
        c->next = a->head->next;
        a->head->next = c;
    } else {
        c->next = a->head;
        a->head = c;
    }
    return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    size_t need, used;
    if (add_size(bytes ? bytes : 1, ALIGN - 1, &need))
        return NULL;
    need &= ~(size_t)(ALIGN - 1);
    if (add_size(a->used, need, &used))
        return NULL;
    struct arena_chunk *c = a->head;
    if (!c || c->size - c->at < need)
        c = add_chunk(a, need);
    if (!c)
        return NULL;
    void *p = (char *)c + ALIGN + c->at;
    c->at += need;
    a->used = used;
    return p;
}

void *arena_array(struct arena *a, uint64_t count, size_t size)
{
    uint64_t bytes;
    if (mul_u64(count, size, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return arena_alloc(a, (size_t)bytes);
}

char *arena_text(struct arena *a, const void *p, size_t n)
{
    size_t size;
    char *s = add_size(n, 1, &size) ? NULL : arena_alloc(a, size);
    if (s && n)
        memcpy(s, p, n);
    return s;
}

void arena_free(struct arena *a)
{
    while (a->head) {
        struct arena_chunk *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used = 0;
}
