/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A file name or a tensor name is hostile: it must not break the one-line rule or reach a terminal as an escape sequence. */
static void make_one_line(char *s)
{
    char *to = s;
    for (const unsigned char *b = (const unsigned char *)s; *b;) {
        bool c0 = *b < 0x20 || *b == 0x7f, c1 = *b == 0xc2 && b[1] >= 0x80 && b[1] < 0xa0, line = *b == 0xe2 && b[1] == 0x80 && (b[2] == 0xa8 || b[2] == 0xa9);
        *to++ = c0 || c1 || line ? '?' : (char)*b;
        b += c1 ? 2 : line ? 3 : 1;
    }
    *to = 0;
}

int fail(struct error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        make_one_line(err->text);
        err->code = code;
    }
    return code;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
    if (!err)
        return ERR_INTERNAL;
    char head[sizeof err->text], old[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    make_one_line(head);
    memcpy(old, err->text, sizeof old);
    size_t n = strlen(head);
    if (n > sizeof err->text / 2)
        n = sizeof err->text / 2;
    memcpy(err->text, head, n);
    snprintf(err->text + n, sizeof err->text - n, ": %.*s", (int)(sizeof err->text - n - 3), old);
    return err->code;
}
