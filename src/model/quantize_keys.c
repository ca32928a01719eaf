/* SPDX-License-Identifier: Apache-2.0 */
#include "model/quantize_keys.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/quantize_vocab.h"

enum { QUANTIZATION_VERSION = 2 };

/* ---- from GGUF ---- */

/* Keys about the file itself, which is another one now, and those that are said anew. A dot at the end: everything below it. */
static bool is_about_file(const char *key)
{
    static const char *const keys[] = {"general.file_type", "general.quantization_version", "general.alignment", "split.",
                                       "layerskip.exit_layer", "layerskip.num_speculations", "layerskip.draft_tokens"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t n = strlen(keys[i]);
        if (keys[i][n - 1] == '.' ? !strncmp(key, keys[i], n) : !strcmp(key, keys[i]))
            return true;
    }
    return false;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = (*(const struct meta *const *)a)->pair.offset, y = (*(const struct meta *const *)b)->pair.offset;
    return (x > y) - (x < y);
}

/* Byte for byte, in the file's order: types, long lists and keys that nobody here knows stay as they are. */
static int copy_keys(const struct checkpoint *c, struct gguf_bytes *out, struct error *err)
{
    const struct meta **list = calloc((size_t)c->n_meta + 1, sizeof *list);
    int n = 0, rc = list ? 0 : fail(err, ERR_OS, "out of memory");
    for (int i = 0; i < c->n_meta && !rc; i++)
        if (c->meta[i].pair.bytes && !is_about_file(c->meta[i].file_key))
            list[n++] = &c->meta[i];
    if (n)
        qsort(list, (size_t)n, sizeof *list, by_offset);
    for (int i = 0; i < n && !rc; i++) {
        void *to = gguf_put_raw(out, list[i]->pair.bytes);
        rc = to ? file_read_at(&c->shard[0], list[i]->pair.offset, to, list[i]->pair.bytes, err) : fail(err, ERR_OS, "out of memory");
    }
    free(list);
    return rc;
}

/* ---- from a config ---- */

/* What the folder or file is called. */
static const char *base_name(struct arena *a, const char *path)
{
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (from = n; from && path[from - 1] != '/';)
        from--;
    return arena_text(a, path + from, n - from);
}

static int put_general(const struct model *m, struct gguf_bytes *out, struct error *err)
{
    struct arena a = {0};
    const char *name = *m->config.name ? m->config.name : base_name(&a, m->file->path);
    gguf_put_text(out, "general.architecture", "llama");
    gguf_put_text(out, "general.type", "model");
    if (name)
        gguf_put_text(out, "general.name", name);
    arena_free(&a);
    return name ? 0 : fail(err, ERR_OS, "out of memory");
}

static void put_shape(const struct config *c, struct gguf_bytes *out)
{
    const struct {
        const char *key;
        int value;
    } whole[] = {
        {"llama.vocab_size", c->vocab},
        {"llama.context_length", c->context},
        {"llama.embedding_length", c->hidden},
        {"llama.block_count", c->n_layers},
        {"llama.feed_forward_length", c->ffn},
        {"llama.attention.head_count", c->n_heads},
        {"llama.attention.head_count_kv", c->n_kv_heads},
        {"llama.attention.key_length", c->head_dim},
        {"llama.attention.value_length", c->head_dim},
        {"llama.rope.dimension_count", c->head_dim},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (whole[i].value)
            gguf_put_number(out, whole[i].key, GGUF_U32, (uint64_t)whole[i].value);
    gguf_put_f32(out, "llama.attention.layer_norm_rms_epsilon", c->norm_eps);
    gguf_put_f32(out, "llama.rope.freq_base", c->rope_theta);
    if (c->rope == ROPE_LINEAR) {
        gguf_put_text(out, "llama.rope.scaling.type", "linear");
        gguf_put_f32(out, "llama.rope.scaling.factor", c->rope_factor);
    }
}

/* As a config.json has them; 0: not there. */
static int put_profile(const struct config *c, struct gguf_bytes *out, struct error *err)
{
    int32_t *ids = malloc(((size_t)c->n_draft_tokens + 1) * sizeof *ids);
    if (c->exit_layer)
        gguf_put_number(out, "layerskip.exit_layer", GGUF_U32, (uint64_t)c->exit_layer);
    if (c->exit_layer && c->num_speculations)
        gguf_put_number(out, "layerskip.num_speculations", GGUF_U32, (uint64_t)c->num_speculations);
    for (int i = 0; ids && i < c->n_draft_tokens; i++)
        ids[i] = (int32_t)c->draft_token[i];
    if (ids && c->n_draft_tokens)
        gguf_put_words(out, "layerskip.draft_tokens", GGUF_I32, ids, c->n_draft_tokens);
    free(ids);
    return ids ? 0 : fail(err, ERR_OS, "out of memory");
}

/* Advice on sampling, under the names by which we read it; nobody else does. */
static void put_sampling(const struct checkpoint *c, struct gguf_bytes *out)
{
    static const char *const keys[] = {"generation.do_sample", "generation.temperature", "generation.top_k", "generation.top_p", "generation.min_p"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct meta *m = checkpoint_meta(c, keys[i]);
        if (m && (m->type == META_BOOL || m->type == META_INT))
            gguf_put_number(out, m->key, m->type == META_BOOL ? GGUF_BOOL : GGUF_I32, (uint64_t)m->i);
        else if (m && m->type == META_REAL)
            gguf_put_f32(out, m->key, m->real);
    }
}

int quantize_keys(const struct model *m, uint32_t file_type, struct gguf_bytes *out, void (*note)(void *ud, const char *line), void *ud, struct error *err)
{
    int rc;
    if (m->file->tokens.n) {
        rc = copy_keys(m->file, out, err);
    } else {
        rc = put_general(m, out, err);
        if (!rc) {
            put_shape(&m->config, out);
            put_sampling(m->file, out);
            rc = quantize_vocab(m, out, note, ud, err);
        }
    }
    rc = rc ? rc : put_profile(&m->config, out, err);
    gguf_put_number(out, "general.file_type", GGUF_U32, file_type);
    gguf_put_number(out, "general.quantization_version", GGUF_U32, QUANTIZATION_VERSION);
    return rc;
}

/* ---- rotary ---- */

/* The f32 by which `plain` is divided to give `scaled`; where rounding leaves none, one that misses by a unit in the last place. */
static float find_factor(float plain, float scaled)
{
    float f = plain / scaled, near[3] = {f, nextafterf(f, 0), nextafterf(f, INFINITY)};
    for (int i = 0; i < 3; i++)
        if (plain / near[i] == scaled)
            return near[i];
    return f;
}

int quantize_rope(const struct model *m, float *factor, struct error *err)
{
    struct model plain = *m;
    size_t n = (size_t)m->config.head_dim / 2;
    float *inv = malloc(n * sizeof *inv);
    plain.config.rope = ROPE_PLAIN;
    int rc = inv ? model_frequencies(m, factor, err) : fail(err, ERR_OS, "out of memory");
    if (!rc)
        rc = model_frequencies(&plain, inv, err);
    for (size_t j = 0; j < n && !rc; j++)
        factor[j] = find_factor(inv[j], factor[j]);
    free(inv);
    return rc;
}
