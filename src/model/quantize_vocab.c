/* SPDX-License-Identifier: Apache-2.0 */
#include "model/quantize_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/byte_text.h"

enum { PAD_BYTES = 16, RANKS_MAX = 1 << 24 /* whole numbers up to here are floats */ };

struct lists {
    struct arena arena;
    struct bytes *text;  /* [n] */
    struct bytes *merge; /* [n_merges] */
    int32_t *type;       /* [n] */
    float *score;        /* [n] */
    struct vocab_tables t;
};

static int no_memory(const struct model *m, struct error *err) { return fail(err, ERR_OS, "%s: out of memory for the token table", m->file->path); }

/* ---- the lists ---- */

/* Every token as a file writes it: bytes of byte-level vocabularies in their printable alphabet; rows of the embedding beyond the last token get a name. */
static int list_texts(struct lists *l, const struct model *m, struct error *err)
{
    const struct vocab *v = &m->vocab;
    char spelled[256][3];
    uint64_t bytes = PAD_BYTES * (uint64_t)(l->t.n - v->n) + 1;
    for (int i = 0; i < 256; i++)
        byte_text(i, spelled[i]);
    for (int i = 0; i < v->n; i++)
        bytes += 2 * v->piece[i].n;
    char *at = arena_alloc(&l->arena, bytes);
    if (!at)
        return no_memory(m, err);
    for (int i = 0; i < l->t.n; i++) {
        char *start = at;
        bool spell = v->kind == VOCAB_BYTES && i < v->n && v->type[i] == TOKEN_NORMAL;
        l->type[i] = i < v->n ? v->type[i] : TOKEN_UNUSED;
        if (i >= v->n)
            at += snprintf(at, PAD_BYTES, "[PAD%d]", i);
        for (size_t k = 0; i < v->n && k < v->piece[i].n; k++) {
            uint8_t byte = v->piece[i].p[k];
            const char *c = spell ? spelled[byte] : (const char[]){(char)byte, 0};
            *at++ = c[0];
            if (spell && c[1])
                *at++ = c[1];
        }
        l->text[i] = (struct bytes){(uint8_t *)start, (size_t)(at - start)};
    }
    return 0;
}

/* "left right" in the order of their ranks. */
static int list_merges(struct lists *l, const struct model *m, struct error *err)
{
    const struct vocab *v = &m->vocab;
    uint64_t bytes = 1;
    for (int i = 0; i < v->n_merges; i++)
        bytes += l->text[v->merge[i].left].n + 1 + l->text[v->merge[i].right].n;
    uint8_t *at = arena_alloc(&l->arena, bytes);
    l->merge = arena_array(&l->arena, (uint64_t)v->n_merges + 1, sizeof *l->merge);
    if (!at || !l->merge)
        return no_memory(m, err);
    for (int i = 0; i < v->n_merges; i++) {
        struct bytes a = l->text[v->merge[i].left], b = l->text[v->merge[i].right];
        l->merge[i] = (struct bytes){at, a.n + 1 + b.n};
        memcpy(at, a.p, a.n);
        at[a.n] = ' ';
        memcpy(at + a.n + 1, b.p, b.n);
        at += a.n + 1 + b.n;
    }
    l->t.n_merges = v->n_merges;
    l->t.merge = l->merge;
    return 0;
}

/* SentencePiece's scores order the tokens that merges make; the rank of the first such merge does the same. */
static int list_scores(struct lists *l, const struct model *m, struct error *err)
{
    const struct vocab *v = &m->vocab;
    l->score = arena_array(&l->arena, (uint64_t)l->t.n, sizeof *l->score);
    if (!l->score)
        return no_memory(m, err);
    for (int i = 0; i < v->n_merges; i++) {
        float *s = &l->score[v->merge[i].id], new = -1 - (float)v->merge[i].rank;
        if (v->merge[i].rank >= RANKS_MAX)
            return fail(err, ERR_CONFIG, "%s: more than %d merges: too many to be written as scores", m->file->path, RANKS_MAX);
        if (*s == 0 || new > *s)
            *s = new;
    }
    l->t.score = l->score;
    return 0;
}

static const char *pre_name(enum pretok p)
{
    static const char *const names[] = {[PRETOK_GPT2] = "gpt-2", [PRETOK_SMOLLM] = "smollm", [PRETOK_LLAMA3] = "llama-bpe"};
    return p >= PRETOK_GPT2 && p <= PRETOK_LLAMA3 ? names[p] : NULL;
}

/* The ids that begin and end a text: the vocabulary's where it adds them, else the config's. */
static void set_ends(struct vocab_tables *t, const struct model *m)
{
    const struct vocab *v = &m->vocab;
    const struct config *c = &m->config;
    t->bos = !v->add_bos && c->bos >= 0 ? c->bos : v->bos;
    t->eos = v->add_eos ? v->eos : c->n_eos ? c->eos[0] : -1;
    t->unk = v->unk;
    t->add_bos = v->add_bos;
    t->add_eos = v->add_eos;
}

static int make_lists(struct lists *l, const struct model *m, struct error *err)
{
    const struct vocab *v = &m->vocab;
    bool bytes = v->kind == VOCAB_BYTES;
    l->t = (struct vocab_tables){.model = bytes ? "gpt2" : "llama", .pre = bytes ? pre_name(v->pretok) : "default", .n = m->config.vocab};
    set_ends(&l->t, m);
    l->t.add_space_prefix = bytes ? -1 : v->prefix != PREFIX_NONE;
    if (!l->t.pre)
        return fail(err, ERR_CONFIG, "%s: the tokenizer cuts words by a rule that has no name in GGUF", m->file->path);
    l->text = arena_array(&l->arena, (uint64_t)l->t.n, sizeof *l->text);
    l->type = arena_array(&l->arena, (uint64_t)l->t.n, sizeof *l->type);
    if (!l->text || !l->type)
        return no_memory(m, err);
    l->t.text = l->text;
    l->t.type = l->type;
    int rc = list_texts(l, m, err);
    return rc ? rc : bytes ? list_merges(l, m, err) : list_scores(l, m, err);
}

/* ---- is it the same? ---- */

static int by_pair(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    return x->left != y->left ? (x->left > y->left) - (x->left < y->left) : (x->right > y->right) - (x->right < y->right);
}

static int by_rank(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    return x->rank != y->rank ? (x->rank > y->rank) - (x->rank < y->rank) : (x->id > y->id) - (x->id < y->id);
}

static struct merge *sorted(struct arena *a, const struct vocab *v, int (*order)(const void *, const void *))
{
    struct merge *m = arena_array(a, (uint64_t)v->n_merges + 1, sizeof *m);
    if (m && v->n_merges) {
        memcpy(m, v->merge, (size_t)v->n_merges * sizeof *m);
        qsort(m, (size_t)v->n_merges, sizeof *m, order);
    }
    return m;
}

/* Every pair of symbols becomes the same token in both, and those that become one token have neighbouring ranks, so that a score for each token orders them all.
   1: yes, 0: no, below zero: out of memory. */
static int same_merges(struct arena *arena, const struct vocab *a, const struct vocab *b)
{
    struct merge *x = sorted(arena, a, by_pair), *y = sorted(arena, b, by_pair), *z = sorted(arena, a, by_rank);
    bool *seen = arena_array(arena, (uint64_t)a->n, sizeof *seen);
    if (!x || !y || !z || !seen)
        return -1;
    bool same = a->n_merges == b->n_merges;
    for (int i = 0; i < a->n_merges && same; i++) {
        same = !by_pair(&x[i], &y[i]) && x[i].id == y[i].id;
        if (a->kind == VOCAB_BYTES)
            same = same && z[i].id == b->merge[i].id && !by_pair(&z[i], &b->merge[i]);
        else if (i == 0 || z[i].id != z[i - 1].id)
            same = same && !seen[z[i].id];
        seen[z[i].id] = true;
    }
    return same;
}

static bool same_tokens(const struct vocab *a, const struct vocab *b)
{
    bool same = a->kind == b->kind && a->n <= b->n;
    for (int i = 0; i < a->n && same; i++)
        same = a->type[i] == b->type[i] && a->piece[i].n == b->piece[i].n && !memcmp(a->piece[i].p, b->piece[i].p, a->piece[i].n);
    return same && !memcmp(a->byte_token, b->byte_token, sizeof a->byte_token);
}

/* Tokens that are looked for in the text, with their texts. */
static bool same_added(const struct vocab *a, const struct vocab *b)
{
    bool same = a->n_added == b->n_added;
    for (int i = 0; i < a->n_added && same; i++) {
        const struct added_token *x = &a->added[i], *y = &b->added[i];
        same = x->id == y->id && x->special == y->special && x->text.n == y->text.n && !memcmp(x->text.p, y->text.p, x->text.n);
    }
    return same;
}

/* What the file's reader makes of the lists must be the vocabulary that we have. */
static int check_lists(struct lists *l, const struct model *m, void (*note)(void *ud, const char *line), void *ud, struct error *err)
{
    const struct vocab *a = &m->vocab;
    struct vocab b;
    int rc = vocab_from_tables(&b, m->file->path, &l->t, NULL, err);
    if (rc)
        return error_prefix(err, "the tokenizer as GGUF");
    int merges = same_merges(&l->arena, a, &b);
    const struct {
        bool differs, fatal;
        const char *what;
    } checks[] = {
        {!same_tokens(a, &b), true, "a token would be another one"},
        {merges == 0, true, "its merges do not follow from one score for each token"},
        {a->kind == VOCAB_BYTES && (a->pretok != b.pretok || a->ignore_merges != b.ignore_merges), true, "its rule for words that are tokens goes with another pre-tokenizer"},
        {a->add_bos != b.add_bos || a->add_eos != b.add_eos || (a->add_bos && a->bos != b.bos) || (a->add_eos && a->eos != b.eos), true, "another token would begin or end a text"},
        {a->kind == VOCAB_CHARS && a->unk != b.unk, true, "another token would stand for what is unknown"},
        {!same_added(a, &b), false, "tokenizer: which added tokens are found in a text, and where, is not quite the same in GGUF"},
        {a->kind == VOCAB_CHARS && (a->prefix != b.prefix || a->prefix_once != b.prefix_once || a->pretok != b.pretok || a->fuse_unk != b.fuse_unk), false,
         "tokenizer: spaces behind special tokens and runs of spaces may give other ids than tokenizer.json gives"},
    };
    if (merges < 0)
        rc = no_memory(m, err);
    for (size_t i = 0; i < sizeof checks / sizeof *checks && !rc; i++)
        if (checks[i].differs && checks[i].fatal)
            rc = fail(err, ERR_CONFIG, "%s: this tokenizer cannot be written as GGUF: %s", m->file->path, checks[i].what);
        else if (checks[i].differs)
            note(ud, checks[i].what);
    vocab_close(&b);
    return rc;
}

/* ---- keys ---- */

static void put_id(struct gguf_bytes *out, const char *key, int32_t id)
{
    if (id >= 0)
        gguf_put_number(out, key, GGUF_U32, (uint64_t)id);
}

/* Ends of a text beyond the first have two keys in GGUF; a list that they cannot say goes in a key of ours too. */
static void put_ends(struct gguf_bytes *out, const struct config *c, int32_t eos)
{
    put_id(out, "tokenizer.ggml.eos_token_id", eos);
    put_id(out, "tokenizer.ggml.eot_token_id", c->n_eos > 1 ? c->eos[1] : -1);
    put_id(out, "tokenizer.ggml.eom_token_id", c->n_eos > 2 ? c->eos[2] : -1);
    if (c->n_eos > 3 || eos != (c->n_eos ? c->eos[0] : -1))
        gguf_put_words(out, "generation.eos_token_id", GGUF_I32, c->eos, c->n_eos);
}

static void put_lists(struct gguf_bytes *out, const struct model *m, const struct vocab_tables *t)
{
    const struct meta *pad = checkpoint_meta(m->file, "pad_token_id");
    gguf_put_text(out, "tokenizer.ggml.model", t->model);
    gguf_put_text(out, "tokenizer.ggml.pre", t->pre);
    gguf_put_texts(out, "tokenizer.ggml.tokens", t->text, t->n);
    if (t->score)
        gguf_put_words(out, "tokenizer.ggml.scores", GGUF_F32, t->score, t->n);
    gguf_put_words(out, "tokenizer.ggml.token_type", GGUF_I32, t->type, t->n);
    if (!t->score)
        gguf_put_texts(out, "tokenizer.ggml.merges", t->merge, t->n_merges);
    put_id(out, "tokenizer.ggml.bos_token_id", t->bos);
    put_ends(out, &m->config, t->eos);
    put_id(out, "tokenizer.ggml.unknown_token_id", t->unk);
    put_id(out, "tokenizer.ggml.padding_token_id", pad && pad->type == META_INT && pad->i < t->n ? (int32_t)pad->i : -1);
    gguf_put_number(out, "tokenizer.ggml.add_bos_token", GGUF_BOOL, (uint64_t)t->add_bos);
    gguf_put_number(out, "tokenizer.ggml.add_eos_token", GGUF_BOOL, (uint64_t)t->add_eos);
    if (t->add_space_prefix >= 0)
        gguf_put_number(out, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, (uint64_t)t->add_space_prefix);
    if (m->file->chat_template)
        gguf_put_text(out, "tokenizer.chat_template", m->file->chat_template);
}

int quantize_vocab(const struct model *m, struct gguf_bytes *out, void (*note)(void *ud, const char *line), void *ud, struct error *err)
{
    struct lists l = {0};
    int rc = make_lists(&l, m, err);
    if (!rc)
        rc = check_lists(&l, m, note, ud, err);
    if (!rc)
        put_lists(out, m, &l.t);
    arena_free(&l.arena);
    return rc;
}
