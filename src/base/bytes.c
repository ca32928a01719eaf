/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <string.h>

bool read_bytes(struct reader *r, uint64_t n, struct bytes *out)
{
    if (n > reader_left(r))
        return false;
    *out = (struct bytes){r->p + r->at, (size_t)n};
    r->at += (size_t)n;
    return true;
}

static bool read_le(struct reader *r, unsigned n, uint64_t *out)
{
    struct bytes b;
    if (!read_bytes(r, n, &b))
        return false;
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)b.p[i] << (8 * i);
    *out = v;
    return true;
}

bool read_u8(struct reader *r, uint8_t *out)
{
    uint64_t v;
    if (!read_le(r, 1, &v))
        return false;
    *out = (uint8_t)v;
    return true;
}

bool read_u16(struct reader *r, uint16_t *out)
{
    uint64_t v;
    if (!read_le(r, 2, &v))
        return false;
    *out = (uint16_t)v;
    return true;
}

bool read_u32(struct reader *r, uint32_t *out)
{
    uint64_t v;
    if (!read_le(r, 4, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}

bool read_u64(struct reader *r, uint64_t *out) { return read_le(r, 8, out); }

bool read_f32(struct reader *r, float *out)
{
    uint32_t v;
    if (!read_u32(r, &v))
        return false;
    memcpy(out, &v, sizeof v);
    return true;
}

bool read_f64(struct reader *r, double *out)
{
    uint64_t v;
    if (!read_u64(r, &v))
        return false;
    memcpy(out, &v, sizeof v);
    return true;
}

bool bytes_equal(struct bytes a, const char *text)
{
    size_t n = strlen(text);
    return a.n == n && (n == 0 || memcmp(a.p, text, n) == 0);
}

int utf8_next(const uint8_t *p, size_t n, uint32_t *c)
{
    uint8_t b = p[0];
    *c = b;
    if (b < 0x80)
        return 1;
    int len = b < 0xc2 || b > 0xf4 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
    if (!len)
        return -1;
    /* the second byte rules out overlong forms, surrogates and what lies beyond U+10FFFF */
    uint8_t lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80, hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    uint32_t v = b & (0xffu >> (len + 1));
    for (int i = 1; i < len; i++, lo = 0x80, hi = 0xbf) {
        if ((size_t)i == n)
            return 0;
        if (p[i] < lo || p[i] > hi)
            return -i;
        v = v << 6 | (p[i] & 0x3f);
    }
    *c = v;
    return len;
}

bool utf8_valid(struct bytes b, size_t *bad_at)
{
    for (size_t i = 0; i < b.n;) {
        uint64_t eight;
        if (b.n - i >= sizeof eight) { /* nearly all text is ASCII */
            memcpy(&eight, b.p + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        uint32_t c;
        int len = utf8_next(b.p + i, b.n - i, &c);
        if (len <= 0) {
            if (bad_at)
                *bad_at = i;
            return false;
        }
        i += (size_t)len;
    }
    return true;
}
