/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded reader: the one place where a length from a file is compared with what is there.
   All numbers are little-endian. A read that does not fit returns false and moves nothing. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *p; /* borrowed */
    size_t n;
};

struct reader {
    const uint8_t *p; /* borrowed */
    size_t n, at;     /* bytes in all, bytes read */
};

static inline size_t reader_left(const struct reader *r) { return r->n - r->at; }

bool read_bytes(struct reader *r, uint64_t n, struct bytes *out); /* a view of the next n bytes; nothing is copied */
bool read_u8(struct reader *r, uint8_t *out);
bool read_u16(struct reader *r, uint16_t *out);
bool read_u32(struct reader *r, uint32_t *out);
bool read_u64(struct reader *r, uint64_t *out);
bool read_f32(struct reader *r, float *out);
bool read_f64(struct reader *r, double *out);

bool bytes_equal(struct bytes a, const char *text); /* equal to a C string */
bool utf8_valid(struct bytes b, size_t *bad_at);    /* no overlong forms, no surrogates; bad_at (may be NULL): first bad offset */

/* The character at p (n >= 1 bytes): its length and *c; 0 when the n bytes are the beginning of one;
   -k when the first k bytes can begin none (a maximal ill-formed subsequence: one U+FFFD). */
int utf8_next(const uint8_t *p, size_t n, uint32_t *c);

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

#endif
