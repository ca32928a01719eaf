/* SPDX-License-Identifier: Apache-2.0 */
#include "model/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int add_row(uint64_t *h, const struct checkpoint *c, const struct view *v, struct error *err)
{
    size_t n = (size_t)view_row_bytes(v);
    void *row = malloc(n);
    int rc = row ? checkpoint_read_rows(c, v, 0, 1, row, err) : fail(err, ERR_OS, "out of memory");
    if (!rc)
        *h = add(*h, row, n);
    free(row);
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
    int rc = add_row(&h, c, model_weight(m, m->config.n_layers - 1, W_Q), err);
    snprintf(out, 17, "%016llx", (unsigned long long)h);
    return rc;
}
