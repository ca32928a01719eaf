/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A file name or a tensor name is hostile: it must not break the one-line rule or reach a terminal as an escape sequence. */
static void make_one_line(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
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
