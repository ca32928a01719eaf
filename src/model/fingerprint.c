/* SPDX-License-Identifier: Apache-2.0 */
#include "model/fingerprint.h"

#include <stdio.h>
#include <string.h>

enum { PROBE_BYTES = 64 };

/* FNV-1a, 64 bits */
static uint64_t add(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

static uint64_t add_text(uint64_t h, const char *text) { return add(h, text, strlen(text) + 1); }

static uint64_t add_meta(uint64_t h, const struct meta *m)
{
    h = add_text(h, m->key);
    h = add(h, &m->i, sizeof m->i);
    h = add(h, &m->real, sizeof m->real);
    if (m->text)
        h = add_text(h, m->text);
    return m->ints ? add(h, m->ints, (size_t)m->i * sizeof *m->ints) : h;
}

/* First, middle and last bytes of a tensor as they lie in the file: all of a small one. */
static int add_probes(uint64_t *h, const struct checkpoint *c, const struct view *v, struct error *err)
{
    uint8_t probe[PROBE_BYTES];
    const size_t n = v->bytes < PROBE_BYTES ? (size_t)v->bytes : PROBE_BYTES;
    const uint64_t at[] = {0, (v->bytes - n + 1) / 2, v->bytes - n};
    int rc = 0;
    for (size_t i = 0; i < sizeof at / sizeof *at && !rc; i++) {
        rc = file_read_at(&c->shard[v->shard], v->offset + at[i], probe, n, err);
        *h = rc ? *h : add(*h, probe, n);
    }
    return rc;
}

int model_fingerprint(const struct model *m, char out[17], struct error *err)
{
    const struct checkpoint *c = m->file;
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < c->n_views; i++) {
        h = add_text(h, c->view[i].name);
        h = add_text(h, dtype_table[c->view[i].type].name);
        h = add(h, c->view[i].dim, sizeof c->view[i].dim);
    }
    for (int i = 0; i < c->n_meta; i++)
        h = add_meta(h, &c->meta[i]);
    int rc = 0;
    for (int i = 0; i < c->n_views && !rc; i++)
        rc = add_probes(&h, c, &c->view[i], err);
    snprintf(out, 17, "%016llx", (unsigned long long)h);
    return rc;
}
