/* SPDX-License-Identifier: Apache-2.0 */
/* What GGUF calls things, in the words of the other format. */
#include <stdio.h>
#include <string.h>

#include "format/fill.h"
#include "format/gguf.h"

static const struct stem global_stems[] = {{"token_embd", "embed"}, {"output_norm", "norm"}, {"output", "head"}, {"rope_freqs", "rope_factors"}, {NULL, NULL}};
static const struct stem layer_stems[] = {
    {"attn_norm", "attn_norm"}, {"attn_q", "q"},      {"attn_k", "k"},    {"attn_v", "v"},      {"attn_output", "o"},
    {"ffn_norm", "ffn_norm"},   {"ffn_gate", "gate"}, {"ffn_up", "up"},   {"ffn_down", "down"}, {NULL, NULL},
};
const struct naming gguf_names = {"blk.", global_stems, layer_stems};

size_t gguf_tensor_name(const char *canonical, char *out, size_t cap)
{
    const char *at = canonical, *dot = strrchr(canonical, '.');
    const struct stem *table = global_stems;
    int digits = 0;
    if (!strncmp(at, "layers.", 7) && (digits = (int)strspn(at + 7, "0123456789")) && at[7 + digits] == '.') {
        table = layer_stems;
        at += 7 + digits + 1;
    }
    bool bias = dot && !strcmp(dot, ".bias");
    size_t n = bias ? (size_t)(dot - at) : strlen(at);
    for (const struct stem *s = table; s->file; s++)
        if (strlen(s->canonical) == n && !memcmp(s->canonical, at, n)) {
            int length = snprintf(out, cap, "%s%.*s%s%s.%s", digits ? gguf_names.layers : "", digits, canonical + 7 * (digits > 0), digits ? "." : "", s->file, bias ? "bias" : "weight");
            return (size_t)length < cap ? (size_t)length : 0;
        }
    return 0;
}

/* Keys behind "ARCHITECTURE."; general.*: facts about the file's making. */
static const struct key {
    const char *gguf, *canonical;
    bool required;
} keys[] = {
    {"block_count", "num_hidden_layers", true},
    {"context_length", "max_position_embeddings", true},
    {"embedding_length", "hidden_size", true},
    {"feed_forward_length", "intermediate_size", true},
    {"attention.head_count", "num_attention_heads", true},
    {"attention.head_count_kv", "num_key_value_heads", false},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", true},
    {"vocab_size", "vocab_size", false},
    {"rope.freq_base", "rope_theta", false},
    {"rope.scaling.type", "rope_scaling.rope_type", false},
    {"rope.scaling.factor", "rope_scaling.factor", false},
    {"rope.scaling.original_context_length", "rope_scaling.original_max_position_embeddings", false},
    {"rope.scaling.finetuned", "general.rope_scaling_finetuned", false},
    {"tensor_data_layout", "general.tensor_data_layout", false},
};

/* Line by line: renaming spoils the order that checkpoint_meta needs. */
static struct meta *find(struct checkpoint *c, const char *key)
{
    for (int i = 0; i < c->n_meta; i++)
        if (!strcmp(c->meta[i].key, key))
            return &c->meta[i];
    return NULL;
}

static struct meta *find_in(struct checkpoint *c, const char *arch, const char *rest)
{
    char name[160];
    snprintf(name, sizeof name, "%s.%s", arch, rest);
    return find(c, name);
}

static int rename_keys(struct checkpoint *c, const char *arch, struct error *err)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct meta *m = find_in(c, arch, keys[i].gguf);
        if (!m && keys[i].required)
            return fail(err, ERR_DATA, "%s: key \"%s.%s\" is missing: the file is not a complete model", c->path, arch, keys[i].gguf);
        if (m)
            m->key = keys[i].canonical;
    }
    return 0;
}

/* The size of a key, that of a value and the rotary size are one number here, under the first name that is there. */
static int settle_head_dim(struct checkpoint *c, const char *arch, struct error *err)
{
    static const char *const names[] = {"attention.key_length", "attention.value_length", "rope.dimension_count"};
    static const char *const copies[] = {"", "general.value_length", "general.rope_dimension_count"};
    const struct meta *first = NULL;
    for (int i = 0; i < 3; i++) {
        struct meta *m = find_in(c, arch, names[i]);
        if (!m)
            continue;
        if (first && (m->type != first->type || m->i != first->i))
            return fail(err, ERR_CONFIG, "%s: key \"%s\" is %lld and \"%s\" %lld: a model in which they differ is not supported", c->path, m->key, (long long)m->i,
                        first->file_key, (long long)first->i);
        m->key = first ? copies[i] : "head_dim";
        first = first ? first : m;
    }
    return 0;
}

/* ---- the token table ---- */

static int check_id(struct checkpoint *c, const char *key, int32_t *out, struct error *err)
{
    const struct meta *m = find(c, key);
    if (!m)
        return 0;
    if (m->type != META_INT || m->i < 0 || m->i >= c->tokens.n)
        return fail(err, ERR_DATA, "%s: key \"%s\": value %lld: must be a token id below %d", c->path, key, (long long)m->i, c->tokens.n);
    *out = (int32_t)m->i;
    return 0;
}

static int read_ids(struct checkpoint *c, struct error *err)
{
    struct token_table *t = &c->tokens;
    const struct {
        const char *key;
        int32_t *to;
    } ids[] = {{"tokenizer.ggml.bos_token_id", &t->bos}, {"tokenizer.ggml.eos_token_id", &t->eos}, {"tokenizer.ggml.unknown_token_id", &t->unk}};
    const struct {
        const char *key;
        int *to;
    } flags[] = {{"tokenizer.ggml.add_bos_token", &t->add_bos}, {"tokenizer.ggml.add_eos_token", &t->add_eos}, {"tokenizer.ggml.add_space_prefix", &t->add_space_prefix}};
    for (int i = 0; i < 3; i++) {
        const struct meta *m = find(c, flags[i].key);
        if (m && m->type != META_BOOL)
            return fail(err, ERR_DATA, "%s: key \"%s\": must be a bool", c->path, m->key);
        if (m)
            *flags[i].to = (int)m->i;
        int rc = check_id(c, ids[i].key, ids[i].to, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_texts(struct checkpoint *c, struct error *err)
{
    const struct {
        const char *key, **to;
    } texts[] = {{"tokenizer.ggml.model", &c->tokens.model}, {"tokenizer.ggml.pre", &c->tokens.pre}, {"tokenizer.chat_template", &c->chat_template}};
    for (int i = 0; i < 3; i++) {
        const struct meta *m = find(c, texts[i].key);
        if (m && m->type != META_TEXT)
            return fail(err, ERR_DATA, "%s: key \"%s\": must be a string", c->path, m->key);
        if (m)
            *texts[i].to = m->text;
    }
    return 0;
}

static int check_lists(struct checkpoint *c, struct error *err)
{
    static const char *const lists[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"};
    for (int i = 0; i < 4; i++) {
        const struct meta *m = find(c, lists[i]);
        if (m && m->type != META_OTHER)
            return fail(err, ERR_DATA, "%s: key \"%s\": must be a list", c->path, m->key);
        if (m && i < 3 && m->i != c->tokens.n)
            return fail(err, ERR_DATA, "%s: key \"%s\" has %lld entries, \"tokenizer.ggml.tokens\" %d: they must be as many", c->path, m->key, (long long)m->i, c->tokens.n);
    }
    return 0;
}

/* What no key of GGUF says, the tensors do. */
static int add_flag(struct checkpoint *c, const char *key, bool value, struct error *err)
{
    return fill_meta(c, &(struct meta){.key = key, .type = META_BOOL, .i = value, .real = value}, err);
}

/* The vocabulary's size where no key says it, and under their other names the ids that begin and end a text. */
static int derive_keys(struct checkpoint *c, struct error *err)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    int64_t *eos = arena_array(&c->arena, 3, sizeof *eos), n = 0;
    int rc = eos ? 0 : fill_memory(err);
    for (int i = 0; i < 3 && !rc; i++) {
        int32_t id = -1;
        rc = check_id(c, ends[i], &id, err);
        if (id >= 0)
            eos[n++] = id;
    }
    if (!rc && n)
        rc = fill_meta(c, &(struct meta){.key = "eos_token_id", .file_key = ends[0], .type = META_INTS, .i = n, .ints = eos}, err);
    if (!rc && c->tokens.bos >= 0)
        rc = fill_meta(c, &(struct meta){.key = "bos_token_id", .file_key = "tokenizer.ggml.bos_token_id", .type = META_INT, .i = c->tokens.bos, .real = c->tokens.bos}, err);
    if (!rc && c->tokens.n && !find(c, "vocab_size"))
        rc = fill_meta(c, &(struct meta){.key = "vocab_size", .file_key = "tokenizer.ggml.tokens", .type = META_INT, .i = c->tokens.n, .real = c->tokens.n}, err);
    if (!rc)
        rc = add_flag(c, "tie_word_embeddings", !checkpoint_find(c, "head"), err);
    if (!rc)
        rc = add_flag(c, "attention_bias", checkpoint_find(c, "layers.0.q.bias"), err);
    return rc ? rc : add_flag(c, "mlp_bias", checkpoint_find(c, "layers.0.gate.bias"), err);
}

/* ---- rotary pairs ---- */

static int heads_of(struct checkpoint *c, const char *key, int absent, int *out, struct error *err)
{
    const struct meta *m = find(c, key);
    *out = absent;
    if (!m)
        return 0;
    if (m->type != META_INT || m->i < 1 || m->i > UINT16_MAX)
        return fail(err, ERR_DATA, "%s: key \"%s\": value %lld: must be a whole number from 1 to %d", c->path, m->file_key, (long long)m->i, UINT16_MAX);
    *out = (int)m->i;
    return 0;
}

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && !strcmp(s + n - m, tail);
}

static int mark_pairs(struct checkpoint *c, struct error *err)
{
    int q, kv, rc = heads_of(c, "num_attention_heads", 1, &q, err);
    if (!rc)
        rc = heads_of(c, "num_key_value_heads", q, &kv, err);
    for (int i = 0; i < c->n_views && !rc; i++) {
        struct view *v = &c->view[i];
        bool is_q = ends_in(v->name, ".q") || ends_in(v->name, ".q.bias"), is_k = ends_in(v->name, ".k") || ends_in(v->name, ".k.bias");
        if (*v->name == '?' || (!is_q && !is_k))
            continue;
        v->pair_heads = is_q ? q : kv;
        if (v->dim[0] % (2 * (uint64_t)v->pair_heads))
            rc = fail(err, ERR_DATA, "%s: tensor \"%s\": %llu rows do not divide into %d heads of an even size", c->path, v->file_name, (unsigned long long)v->dim[0], v->pair_heads);
    }
    return rc;
}

int gguf_translate(struct checkpoint *c, struct error *err)
{
    struct meta *arch = find(c, "general.architecture");
    if (!arch || arch->type != META_TEXT)
        return fail(err, ERR_DATA, "%s: key \"general.architecture\" is missing or not a string: the file is not a model", c->path);
    arch->key = "model_type";
    int rc = rename_keys(c, arch->text, err);
    if (!rc)
        rc = settle_head_dim(c, arch->text, err);
    if (!rc)
        rc = check_lists(c, err);
    if (!rc)
        rc = read_ids(c, err);
    if (!rc)
        rc = read_texts(c, err);
    if (!rc)
        rc = derive_keys(c, err);
    return rc || strcmp(arch->text, "llama") ? rc : mark_pairs(c, err);
}
