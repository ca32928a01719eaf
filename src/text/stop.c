/* SPDX-License-Identifier: Apache-2.0 */
#include "text/stop.h"

#include <stdlib.h>
#include <string.h>

static int add(struct stop *s, struct bytes b, struct error *err)
{
    int i = s->n;
    size_t bad;
    if (!b.n || b.n > STOP_BYTES_MAX)
        return fail(err, ERR_USAGE, "stop string %d: %zu bytes; 1 to %d are supported", i, b.n, STOP_BYTES_MAX);
    if (!utf8_valid(b, &bad))
        return fail(err, ERR_USAGE, "stop string %d: byte %zu is not UTF-8", i, bad);
    struct stop_text *t = &s->text[s->n++];
    *t = (struct stop_text){malloc(b.n), malloc(b.n * sizeof *t->border), (uint32_t)b.n, 0};
    if (!t->text || !t->border)
        return fail(err, ERR_OS, "stop string %d: out of memory", i);
    memcpy(t->text, b.p, b.n);
    t->border[0] = 0;
    for (uint32_t k = 0, at = 1; at < t->n; at++) {
        while (k && t->text[at] != t->text[k])
            k = t->border[k - 1];
        k += t->text[at] == t->text[k];
        t->border[at] = k;
    }
    return 0;
}

int stop_open(struct stop *s, const struct bytes *text, int n, struct error *err)
{
    int rc = 0;
    *s = (struct stop){0};
    if (n < 0 || n > STOP_MAX)
        return fail(err, ERR_USAGE, "%d stop strings; at most %d are supported", n, STOP_MAX);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = add(s, text[i], err);
    if (rc < 0)
        stop_close(s);
    return rc;
}

void stop_close(struct stop *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->text[i].text);
        free(s->text[i].border);
    }
    *s = (struct stop){0};
}

/* Moves one string's match on by a byte (Knuth, Morris, Pratt). */
static void advance(struct stop_text *t, uint8_t byte)
{
    while (t->matched && t->text[t->matched] != byte)
        t->matched = t->border[t->matched - 1];
    t->matched += t->text[t->matched] == byte;
}

/* The bytes held back are the longest match so far, so they need no buffer: they are a prefix of that stop string. */
size_t stop_push(struct stop *s, const void *in, size_t n, char *out)
{
    const uint8_t *p = in;
    size_t size = 0;
    for (size_t i = 0; i < n && !s->found; i++) {
        uint32_t held = 0;
        int holder = 0;
        for (int k = 0; k < s->n; k++) {
            struct stop_text *t = &s->text[k];
            advance(t, p[i]);
            bool whole = t->matched == t->n;
            if (whole ? !s->found || t->matched > held : !s->found && t->matched > held) {
                held = t->matched;
                holder = k;
            }
            s->found |= whole;
        }
        size_t sure = s->held + 1 - held, old = sure < s->held ? sure : s->held;
        if (old)
            memcpy(out + size, s->text[s->holder].text, old);
        if (sure > old)
            out[size + old] = (char)p[i];
        size += sure;
        s->held = held;
        s->holder = holder;
    }
    if (s->found)
        s->held = 0;
    return size;
}

size_t stop_flush(struct stop *s, char *out)
{
    size_t n = s->held;
    if (n)
        memcpy(out, s->text[s->holder].text, n);
    s->held = 0;
    return n;
}
