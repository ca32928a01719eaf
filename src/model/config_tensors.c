/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"

enum { LISTED = 5 };

/* What is wrong with the tensors: how much, and the first few by name. */
struct report {
    const struct checkpoint *c;
    bool *expected; /* [n_views] */
    int count;
    char text[400];
};

static void note(struct report *r, const char *name, const char *what)
{
    size_t n = strlen(r->text);
    if (r->count++ < LISTED)
        snprintf(r->text + n, sizeof r->text - n, "%s%.40s %s", n ? "; " : "", name, what);
}

/* A tensor of rows x cols must be there; cols == 0: a vector. */
static void expect(struct report *r, const char *name, int rows, int cols)
{
    char what[80];
    const struct view *v = checkpoint_find(r->c, name);
    uint64_t n_cols = cols ? (uint64_t)cols : 1;
    if (!v) {
        note(r, name, "is missing");
        return;
    }
    r->expected[v - r->c->view] = true;
    if (v->rank != (cols ? 2 : 1) || v->dim[0] != (uint64_t)rows || v->dim[1] != n_cols) {
        snprintf(what, sizeof what, "is %llu x %llu, not %d x %d", (unsigned long long)v->dim[0], (unsigned long long)v->dim[1], rows, cols ? cols : 1);
        note(r, name, what);
    } else if (!cols && dtype_table[v->type].block > 1) {
        snprintf(what, sizeof what, "is of type %s, a vector must be F32, F16 or BF16", dtype_table[v->type].name);
        note(r, name, what);
    }
}

static void expect_layer(struct report *r, const struct config *o, int layer)
{
    int q = o->n_heads * o->head_dim, kv = o->n_kv_heads * o->head_dim;
    const struct {
        const char *name;
        int rows, cols;
        bool bias;
    } weights[] = {
        {"attn_norm", o->hidden, 0, false},        {"ffn_norm", o->hidden, 0, false},      {"q", q, o->hidden, o->attention_bias},
        {"k", kv, o->hidden, o->attention_bias},   {"v", kv, o->hidden, o->attention_bias}, {"o", o->hidden, q, o->attention_bias},
        {"gate", o->ffn, o->hidden, o->mlp_bias},  {"up", o->ffn, o->hidden, o->mlp_bias}, {"down", o->hidden, o->ffn, o->mlp_bias},
    };
    char name[64];
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        snprintf(name, sizeof name, "layers.%d.%s", layer, weights[i].name);
        expect(r, name, weights[i].rows, weights[i].cols);
        snprintf(name, sizeof name, "layers.%d.%s.bias", layer, weights[i].name);
        if (weights[i].bias)
            expect(r, name, weights[i].rows, 0);
    }
}

int config_check_tensors(const struct config *config, const struct checkpoint *c, struct error *err)
{
    struct report r = {.c = c, .expected = calloc((size_t)c->n_views + 1, sizeof *r.expected)};
    if (!r.expected)
        return fail(err, ERR_OS, "out of memory");
    expect(&r, "embed", config->vocab, config->hidden);
    expect(&r, "norm", config->hidden, 0);
    if (!config->tied || checkpoint_find(c, "head")) /* when tied it may be there, unused */
        expect(&r, "head", config->vocab, config->hidden);
    if (config->rope_factors)
        expect(&r, "rope_factors", config->head_dim / 2, 0);
    for (int l = 0; l < config->n_layers; l++)
        expect_layer(&r, config, l);
    for (int i = 0; i < c->n_views; i++)
        if (!r.expected[i])
            note(&r, c->view[i].file_name, "is not a weight of this model");
    free(r.expected);
    return r.count ? fail(err, ERR_DATA, "%s: %d tensor%s wrong: %s%s", c->path, r.count, r.count == 1 ? " is" : "s are", r.text, r.count > LISTED ? "; ..." : "") : 0;
}
