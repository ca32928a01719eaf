/* SPDX-License-Identifier: Apache-2.0 */
#include "text/stream.h"

#include <string.h>

static size_t put(char *out, const void *p, size_t n)
{
    memcpy(out, p, n);
    return n;
}

size_t stream_flush(struct stream *s, char *out)
{
    size_t n = s->n_held ? put(out, UTF8_REPLACEMENT, 3) : 0;
    s->n_held = 0;
    return n;
}

static size_t push_byte(struct stream *s, uint8_t byte, char *out)
{
    size_t n = 0;
    uint32_t c;
    s->held[s->n_held++] = byte;
    int len = utf8_next(s->held, (size_t)s->n_held, &c);
    if (len < 0 && s->n_held > 1) { /* the byte does not go on with the character: that one is broken, this byte may begin another */
        n = put(out, UTF8_REPLACEMENT, 3);
        s->held[0] = byte;
        s->n_held = 1;
        len = utf8_next(s->held, 1, &c);
    }
    if (len) {
        n += len > 0 ? put(out + n, s->held, (size_t)s->n_held) : put(out + n, UTF8_REPLACEMENT, 3);
        s->n_held = 0;
    }
    return n;
}

size_t stream_push(struct stream *s, int32_t token, char *out)
{
    struct bytes p = tokenizer_piece(s->t, token);
    size_t n = 0;
    if (tokenizer_hidden(s->t, token) && !s->show_special)
        return 0;
    for (size_t i = 0; i < p.n; i++)
        n += push_byte(s, p.p[i], out + n);
    return n;
}
