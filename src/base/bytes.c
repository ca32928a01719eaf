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

/* Length of the well-formed UTF-8 character at p (n bytes left), or 0. Table 3-7 of the Unicode standard. */
static unsigned char_length(const uint8_t *p, size_t n)
{
    static const struct { uint8_t lo, hi, len, lo2, hi2; } rows[] = {
        {0x00, 0x7f, 1, 0, 0},       {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf},
        {0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
        {0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (p[0] < rows[i].lo || p[0] > rows[i].hi)
            continue;
        if (rows[i].len > n || (rows[i].len > 1 && (p[1] < rows[i].lo2 || p[1] > rows[i].hi2)))
            return 0;
        for (unsigned k = 2; k < rows[i].len; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return rows[i].len;
    }
    return 0;
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
        unsigned len = char_length(b.p + i, b.n - i);
        if (!len) {
            if (bad_at)
                *bad_at = i;
            return false;
        }
        i += len;
    }
    return true;
}
