/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MODEL_BYTE_TEXT_H
#define MODEL_BYTE_TEXT_H

#include <stdbool.h>

/* The text by which byte-level vocabularies write a byte: itself where it prints, else a character from U+0100 on. out: at most 2 bytes and a zero. */
static inline void byte_text(int byte, char out[3])
{
    unsigned c = (unsigned)byte, odd = 0;
    for (int b = 0; b <= byte; b++) {
        bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        if (b == byte && !prints)
            c = 256 + odd;
        odd += !prints;
    }
    int n = 0;
    if (c >= 128)
        out[n++] = (char)(0xc0 | c >> 6);
    out[n++] = (char)(c < 128 ? c : 0x80 | (c & 63));
    out[n] = 0;
}

#endif
