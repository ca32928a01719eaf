/* SPDX-License-Identifier: Apache-2.0 */
#include "train/fingerprint.h"

#include <stdlib.h>
#include <string.h>

enum { HEAD_BYTES = 4096 }; /* of a tensor that are looked at, unless one row is more */

static uint64_t add_number(uint64_t h, uint64_t v) { return fingerprint_add(h, &v, sizeof v); }
static uint64_t add_bytes(uint64_t h, struct bytes b) { return fingerprint_add(add_number(h, b.n), b.p, b.n); }

uint64_t fingerprint_vocab(const struct vocab *v)
{
    const int32_t numbers[] = {(int32_t)v->kind,        v->n,       v->n_merges,  v->n_added,          (int32_t)v->pretok, (int32_t)v->prefix,
                               v->ignore_merges,        v->fuse_unk, v->prefix_once, v->add_bos, v->add_eos, v->bos, v->eos, v->unk};
    uint64_t h = fingerprint_add(FINGERPRINT_START, numbers, sizeof numbers);
    for (int i = 0; i < v->n; i++)
        h = add_number(add_bytes(h, v->piece[i]), v->type[i]);
    for (int i = 0; i < v->n_merges; i++)
        h = add_number(add_number(h, (uint64_t)(uint32_t)v->merge[i].left << 32 | (uint32_t)v->merge[i].right), (uint32_t)v->merge[i].id);
    for (int i = 0; i < v->n_added; i++)
        h = add_number(add_bytes(h, v->added[i].text), (uint64_t)(uint32_t)v->added[i].id << 2 | (uint64_t)v->added[i].special << 1 | v->added[i].normalized);
    return h;
}

static int add_tensor(const struct checkpoint *c, const struct view *v, uint64_t *h, struct error *err)
{
    uint64_t row = view_row_bytes(v), rows = row < HEAD_BYTES ? HEAD_BYTES / row : 1;
    rows = rows > v->dim[0] ? v->dim[0] : rows;
    void *head = malloc(rows * row);
    int rc = head ? checkpoint_read_rows(c, v, 0, rows, head, err) : fail(err, ERR_OS, "out of memory");
    if (!rc) {
        *h = fingerprint_add(*h, v->name, strlen(v->name) + 1);
        *h = add_number(add_number(add_number(*h, v->dim[0]), v->dim[1]), v->type);
        *h = fingerprint_add(*h, head, rows * row);
    }
    free(head);
    return rc;
}

int fingerprint_model(const struct model *m, uint64_t *out, struct error *err)
{
    const struct config *c = &m->config;
    const double numbers[] = {c->hidden, c->ffn, c->n_layers, c->n_heads, c->n_kv_heads, c->head_dim, c->vocab, c->norm_eps, c->rope_theta, (double)c->rope,
                              c->rope_factor, c->rope_low, c->rope_high, c->rope_context, c->tied};
    uint64_t h = fingerprint_add(FINGERPRINT_START, numbers, sizeof numbers);
    for (int i = 0; i < m->file->n_views; i++) {
        int rc = add_tensor(m->file, &m->file->view[i], &h, err);
        if (rc)
            return rc;
    }
    *out = h;
    return 0;
}
