/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings in a stream of bytes: the text is cut exactly before the first one that is complete, and whatever might still become one is held
   back. The result depends on the bytes alone, not on how they are cut into pushes. Nothing is allocated after stop_open. */
#ifndef TEXT_STOP_H
#define TEXT_STOP_H

#include "base/bytes.h"
#include "base/error.h"

enum { STOP_MAX = 64, STOP_BYTES_MAX = 4096 }; /* strings; bytes of one */

struct stop_text {
    uint8_t *text;    /* owned */
    uint32_t *border; /* [n] length of the longest proper prefix of text[0 .. i] that is also its end */
    uint32_t n, matched;
};

struct stop {
    int n;
    uint32_t held;               /* bytes held back: the first `held` of text[holder] */
    int holder;
    bool found;
    struct stop_text text[STOP_MAX];
};

/* ERR_USAGE names the string that is empty, too long or not UTF-8. n may be 0. On failure *s holds nothing. */
int stop_open(struct stop *s, const struct bytes *text, int n, struct error *err);
void stop_close(struct stop *s); /* zeroes are fine */

/* Writes the bytes that are now sure to out (n + STOP_BYTES_MAX bytes at most) and returns their number. s->found: a stop string is complete, and nothing comes after. */
size_t stop_push(struct stop *s, const void *in, size_t n, char *out);
size_t stop_flush(struct stop *s, char *out); /* at the end of the text: what was held back */

#endif
