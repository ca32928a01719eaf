/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/hf.h"

enum { TOKENIZER_FILE_MAX = 256 << 20 };

/* ---- tokenizer ---- */

static int said(const struct checkpoint *c, const char *key)
{
    const struct meta *m = checkpoint_meta(c, key);
    return m && m->type == META_BOOL ? m->i != 0 : -1;
}

/* A token's name: a string, or an object with that and how the token is to be looked for. */
static const char *named(const struct checkpoint *c, const char *key, const char *content)
{
    const struct meta *m = checkpoint_meta(c, key);
    if (!m)
        m = checkpoint_meta(c, content);
    return m && m->type == META_TEXT ? m->text : NULL;
}

/* What a file beside the tokenizer's holds, or NULL when there is none. The caller calls json_decref. */
static int load_beside(struct checkpoint *c, const char *name, json_t **out, struct error *err)
{
    const char *path;
    int rc = hf_find(c, name, &path, err);
    *out = NULL;
    return rc > 0 ? hf_load_json(path, HF_BIG_JSON_MAX, out, err) : rc;
}

/* A token's name in special_tokens_map.json. */
static const char *special_name(const json_t *map, const char *key)
{
    const json_t *v = json_object_get(map, key);
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

static int vocab_from_gguf(struct vocab *v, const struct checkpoint *c, const struct vocab_wish *wish, struct error *err)
{
    const struct token_table *t = &c->tokens;
    struct vocab_tables in = {.model = t->model, .pre = t->pre, .n = t->n, .text = t->text, .score = t->score, .type = t->type, .n_merges = t->n_merges, .merge = t->merge,
                              .bos = t->bos, .eos = t->eos, .unk = t->unk, .add_bos = t->add_bos, .add_eos = t->add_eos, .add_space_prefix = t->add_space_prefix};
    return vocab_from_tables(v, c->path, &in, wish, err);
}

/* tokenizer.json wins over tokenizer.model, also where it cannot be read: that is an error, not a reason to look further. */
static int read_tokenizer_file(struct vocab *v, struct checkpoint *c, const struct vocab_wish *wish, struct error *err)
{
    static const struct {
        const char *file;
        int (*read)(struct vocab *, const char *, struct bytes, const struct vocab_wish *, struct error *);
    } kinds[] = {{"tokenizer.json", vocab_from_tokenizer_json}, {"tokenizer.model", vocab_from_tokenizer_model}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *path;
        char *text;
        size_t n;
        int rc = hf_find(c, kinds[i].file, &path, err);
        if (rc == 0)
            continue;
        if (rc > 0)
            rc = file_slurp(path, TOKENIZER_FILE_MAX, &text, &n, err);
        if (rc)
            return rc;
        rc = kinds[i].read(v, path, (struct bytes){(const uint8_t *)text, n}, wish, err);
        free(text);
        return rc;
    }
    return fail(err, ERR_NOINPUT, "%s: neither tokenizer.json nor tokenizer.model is there; copy one from the model's page", c->dir);
}

static int vocab_from_folder(struct vocab *v, struct checkpoint *c, struct vocab_wish wish, struct error *err)
{
    json_t *special = NULL, *added = NULL;
    int rc = load_beside(c, "special_tokens_map.json", &special, err);
    if (!rc)
        rc = load_beside(c, "added_tokens.json", &added, err);
    wish.bos_text = wish.bos_text ? wish.bos_text : special_name(special, "bos_token");
    wish.eos_text = wish.eos_text ? wish.eos_text : special_name(special, "eos_token");
    wish.special_tokens = special;
    wish.added_tokens = added;
    if (!rc)
        rc = read_tokenizer_file(v, c, &wish, err);
    json_decref(special);
    json_decref(added);
    return rc;
}

static int open_tokenizer(struct model *m, struct error *err)
{
    struct checkpoint *c = m->file;
    struct vocab_wish wish = {.add_bos = said(c, "tokenizer.add_bos_token"), .bos = -1, .bos_text = named(c, "tokenizer.bos_token", "tokenizer.bos_token.content"),
                              .add_eos = said(c, "tokenizer.add_eos_token"), .eos = -1, .eos_text = named(c, "tokenizer.eos_token", "tokenizer.eos_token.content")};
    int rc = c->tokens.n ? vocab_from_gguf(&m->vocab, c, &wish, err)
             : c->dir    ? vocab_from_folder(&m->vocab, c, wish, err)
                         : fail(err, ERR_NOINPUT, "%s: no tokenizer: open the folder that holds this file and tokenizer.json", c->path);
    if (rc)
        return rc;
    if (m->vocab.n > m->config.vocab)
        return fail(err, ERR_DATA, "%s: the tokenizer has %d tokens, the embedding only %d rows", c->path, m->vocab.n, m->config.vocab);
    m->tokenizer = tokenizer_open(&m->vocab, err);
    return m->tokenizer ? 0 : err->code;
}

int model_open(struct model *m, const char *path, const char *const *ignore, struct error *err)
{
    struct error own = {0};
    *m = (struct model){.file = checkpoint_open(path, &own)};
    int rc = m->file ? 0 : own.code;
    if (!rc)
        rc = config_read(&m->config, m->file, ignore, &own);
    if (!rc)
        rc = config_check_tensors(&m->config, m->file, &own);
    if (!rc)
        rc = open_tokenizer(m, &own);
    if (rc) {
        model_close(m);
        if (err)
            *err = own;
    }
    return rc;
}

void model_close(struct model *m)
{
    tokenizer_close(m->tokenizer);
    vocab_close(&m->vocab);
    if (m->file)
        checkpoint_close(m->file);
    *m = (struct model){0};
}

/* ---- weights ---- */

static const struct view *find(const struct model *m, int layer, enum layer_weight w, const char *suffix)
{
    static const char *const names[W_COUNT] = {"attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down"};
    char name[64];
    snprintf(name, sizeof name, "layers.%d.%s%s", layer, names[w], suffix);
    return checkpoint_find(m->file, name);
}

const struct view *model_weight(const struct model *m, int layer, enum layer_weight w) { return find(m, layer, w, ""); }

const struct view *model_bias(const struct model *m, int layer, enum layer_weight w) { return find(m, layer, w, ".bias"); }

/* ---- rotary frequencies ---- */

/* Slow waves are stretched by the factor, fast ones kept, those between mixed (Llama 3.1). The order of f32 operations is transformers'. */
static float scale_llama3(const struct config *c, float inv)
{
    float wave = (float)(2 * M_PI) / inv, factor = (float)c->rope_factor, low = (float)c->rope_low, high = (float)c->rope_high, old = (float)c->rope_context;
    if (wave > old / low)
        return inv / factor;
    if (wave < old / high)
        return inv;
    float smooth = (old / wave - low) / (high - low);
    return (1.0f - smooth) * inv / factor + smooth * inv;
}

static int divide_by_factors(const struct model *m, float *inv_freq, struct error *err)
{
    const struct view *v = checkpoint_find(m->file, "rope_factors");
    uint64_t n = (uint64_t)m->config.head_dim / 2;
    float *raw = malloc(n * sizeof *raw), *factor = malloc(n * sizeof *factor);
    int rc = raw && factor ? checkpoint_read_rows(m->file, v, 0, n, raw, err) : fail(err, ERR_OS, "out of memory");
    if (!rc) {
        dtype_to_f32(v->type, raw, factor, n);
        for (uint64_t j = 0; j < n; j++)
            inv_freq[j] /= factor[j];
    }
    free(raw);
    free(factor);
    return rc;
}

int model_frequencies(const struct model *m, float *inv_freq, struct error *err)
{
    const struct config *c = &m->config;
    for (int j = 0; j < c->head_dim / 2; j++) {
        float inv = 1.0f / powf((float)c->rope_theta, (float)(2 * j) / (float)c->head_dim);
        inv_freq[j] = c->rope == ROPE_LLAMA3 ? scale_llama3(c, inv) : c->rope == ROPE_LINEAR ? inv / (float)c->rope_factor : inv;
    }
    return c->rope_factors ? divide_by_factors(m, inv_freq, err) : 0;
}
