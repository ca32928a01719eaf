/* SPDX-License-Identifier: Apache-2.0 */
#include "messages.h"

#include <stdarg.h>
#include <string.h>

int complain(lsk_error *err, int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    err->code = code;
    vsnprintf(err->text, sizeof err->text, format, list);
    va_end(list);
    return code;
}

int utf8_length(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    int length = !n ? 0 : s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if ((size_t)length > n)
        return 0;
    for (int i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if (length >= 3) { /* overlong forms, surrogates, past U+10FFFF */
        unsigned lead = (unsigned)s[0] << 8 | s[1];
        if (lead < 0xe0a0 || (lead >= 0xeda0 && lead < 0xee00) || (lead >= 0xf000 && lead < 0xf090) || lead >= 0xf490)
            return 0;
    }
    return length;
}

size_t show_character(const char *text, size_t n, struct shown *out)
{
    static const char names[] = "\nn\tt\rr";
    int length = utf8_length(text, n);
    unsigned char c = (unsigned char)*text;
    for (const char *name = names; *name; name += 2)
        if (*text == *name) {
            snprintf(out->text, sizeof out->text, "\\%c", name[1]);
            return 1;
        }
    int control = length == 1 ? c < ' ' || c == 0x7f : c == 0xc2 && length && (unsigned char)text[1] < 0xa0; /* U+0080 to U+009F too */
    if (length && !control) {
        snprintf(out->text, sizeof out->text, "%.*s", length, text);
        return (size_t)length;
    }
    snprintf(out->text, sizeof out->text, "\\x%02X", c);
    return 1;
}

void print_shown(FILE *out, const char *text)
{
    struct shown shown;
    for (size_t left = strlen(text), taken; left; text += taken, left -= taken) {
        taken = show_character(text, left, &shown);
        fputs(shown.text, out);
    }
}

void print_reply(FILE *out, const char *text, size_t n)
{
    struct shown shown;
    for (size_t taken; n; text += taken, n -= taken) {
        taken = show_character(text, n, &shown);
        if (*text == '\n' || *text == '\t')
            fputc(*text, out);
        else
            fputs(shown.text, out);
    }
}

void print_warning(const char *text)
{
    fputs("layerskip: warning: ", stderr);
    print_shown(stderr, text);
    fputc('\n', stderr);
}

struct excerpt excerpt_of(const char *text)
{
    struct excerpt e;
    struct shown shown;
    size_t left = strlen(text), used = 0;
    while (left) {
        size_t taken = show_character(text, left, &shown), n = strlen(shown.text);
        if (used + n > 64)
            break;
        memcpy(e.text + used, shown.text, n);
        used += n;
        text += taken;
        left -= taken;
    }
    strcpy(e.text + used, left ? "..." : "");
    return e;
}

/* Edit distance with neighbours swapped counting as one; names longer than 31 bytes are far from everything. */
static int distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int d[32][32];
    if (n_a > 31 || n_b > 31)
        return 99;
    for (size_t i = 0; i <= n_a; i++)
        for (size_t j = 0; j <= n_b; j++) {
            if (!i || !j) {
                d[i][j] = (int)(i + j);
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n_a][n_b];
}

int suggest(const char *words, const char *name, char *out, size_t cap, int *best)
{
    int found = 0;
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " "), n_name = strlen(name);
        int far = distance(w, n, name, n_name);
        if (far < *best && far <= (n_name < 5 ? 1 : 2) && n > 1 && n < cap) {
            *best = far;
            memcpy(out, w, n);
            out[n] = 0;
            found = 1;
        }
        w += n + (w[n] == ' ');
    }
    return found;
}
