/* SPDX-License-Identifier: Apache-2.0 */
#include "train/hash.h"

static uint64_t add_number(uint64_t h, uint64_t v) { return hash_add(h, &v, sizeof v); }
static uint64_t add_bytes(uint64_t h, struct bytes b) { return hash_add(add_number(h, b.n), b.p, b.n); }

uint64_t hash_vocab(const struct vocab *v)
{
    const int32_t numbers[] = {(int32_t)v->kind,        v->n,       v->n_merges,  v->n_added,          (int32_t)v->pretok, (int32_t)v->prefix,
                               v->ignore_merges,        v->fuse_unk, v->prefix_once, v->add_bos, v->add_eos, v->bos, v->eos, v->unk};
    uint64_t h = hash_add(HASH_START, numbers, sizeof numbers);
    for (int i = 0; i < v->n; i++)
        h = add_number(add_bytes(h, v->piece[i]), v->type[i]);
    for (int i = 0; i < v->n_merges; i++)
        h = add_number(add_number(h, (uint64_t)(uint32_t)v->merge[i].left << 32 | (uint32_t)v->merge[i].right), (uint32_t)v->merge[i].id);
    for (int i = 0; i < v->n_added; i++)
        h = add_number(add_bytes(h, v->added[i].text), (uint64_t)(uint32_t)v->added[i].id << 2 | (uint64_t)v->added[i].special << 1 | v->added[i].normalized);
    return h;
}
