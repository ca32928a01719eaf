/* SPDX-License-Identifier: Apache-2.0 */
#include "text/vocab.h"

#include <string.h>

#include "text/vocab_build.h"

static int take_types(struct build *b, const struct vocab_tables *t)
{
    for (int i = 0; t->type && i < t->n; i++) {
        if (t->type[i] < TOKEN_NORMAL || t->type[i] > TOKEN_BYTE)
            return fail(b->err, ERR_DATA, "%s: tokenizer.ggml.token_type: token %d: type %d; 1 to 6 are known", b->name, i, t->type[i]);
        b->v->type[i] = (uint8_t)t->type[i];
    }
    return 0;
}

static int take_merges(struct build *b, const struct vocab_tables *t)
{
    b->v->merge = arena_array(&b->v->arena, (uint64_t)t->n_merges, sizeof *b->v->merge);
    if (!b->v->merge)
        return build_no_memory(b);
    for (int i = 0; i < t->n_merges; i++) {
        struct bytes m = t->merge[i];
        const uint8_t *space = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!space)
            return fail(b->err, ERR_DATA, "%s: tokenizer.ggml.merges: merge %d: \"%.*s\" is not two pieces", b->name, i, (int)(m.n < 64 ? m.n : 64), m.p);
        size_t left = (size_t)(space - m.p);
        int rc = build_merge(b, i, (struct bytes){m.p, left}, (struct bytes){space + 1, m.n - left - 1});
        if (rc < 0)
            return rc;
    }
    b->v->n_merges = t->n_merges;
    return 0;
}

static int choose_pretok(struct build *b, const char *pre)
{
    b->v->pretok = pre ? pretok_by_name(pre) : PRETOK_UNKNOWN;
    if (b->v->pretok != PRETOK_UNKNOWN)
        return 0;
    return fail(b->err, ERR_CONFIG, "%s: tokenizer.ggml.pre: \"%s\" is not supported; known are %s", b->name, pre ? pre : "(absent)", pretok_names());
}

static int fill(struct build *b, const struct vocab_tables *t)
{
    struct vocab *v = b->v;
    for (int i = 0; i < t->n; i++)
        b->text[i] = t->text[i];
    int rc = take_types(b, t);
    if (rc < 0 || (rc = build_index(b)) < 0)
        return rc;
    if (v->kind == VOCAB_BYTES) {
        if ((rc = choose_pretok(b, t->pre)) < 0 || (rc = take_merges(b, t)) < 0)
            return rc;
        v->ignore_merges = v->pretok == PRETOK_LLAMA3;
    } else {
        if (!t->score)
            return fail(b->err, ERR_DATA, "%s: tokenizer.ggml.scores is missing; a \"llama\" vocabulary needs it", b->name);
        if ((rc = build_scores(b, t->score)) < 0)
            return rc;
        v->unk = t->unk;
        v->fuse_unk = true;
        v->prefix = t->add_space_prefix == 0 ? PREFIX_NONE : PREFIX_START;
    }
    v->bos = t->bos;
    v->eos = t->eos;
    v->add_bos = t->add_bos < 0 ? v->kind == VOCAB_CHARS || v->pretok == PRETOK_LLAMA3 : t->add_bos;
    v->add_eos = t->add_eos > 0;
    return build_added_by_type(b);
}

int vocab_from_tables(struct vocab *v, const char *name, const struct vocab_tables *t, const struct vocab_wish *wish, struct error *err)
{
    struct build b;
    bool bytes = strcmp(t->model, "gpt2") == 0;
    if (!bytes && strcmp(t->model, "llama") != 0) {
        *v = (struct vocab){0};
        return fail(err, ERR_CONFIG, "%s: tokenizer.ggml.model: \"%s\" is not supported; known are gpt2 and llama", name, t->model);
    }
    int rc = build_open(&b, v, name, bytes ? VOCAB_BYTES : VOCAB_CHARS, t->n < 0 ? 0 : (uint64_t)t->n, err);
    if (rc == 0 && (rc = fill(&b, t)) == 0)
        rc = build_finish(&b, wish);
    return build_close(&b, rc);
}
