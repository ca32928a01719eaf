/* SPDX-License-Identifier: Apache-2.0 */
/* Small model files, whole or broken in one place, in a temporary folder that goes when the test ends. Include after check.h. */
#ifndef TESTS_FORMAT_MAKE_FILES_H
#define TESTS_FORMAT_MAKE_FILES_H

#include <ftw.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "format/checkpoint.h"

/* ---- a folder ---- */

static char made_dir[64];

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline int make_dir(void **state)
{
    (void)state;
    strcpy(made_dir, "/tmp/layerskip-test-XXXXXX");
    return mkdtemp(made_dir) ? 0 : -1;
}

static inline int remove_dir(void **state)
{
    (void)state;
    return nftw(made_dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* The path of a file in the folder; the last eight answers stay valid. */
static inline const char *made(const char *name)
{
    static char path[8][512];
    static int at;
    at = (at + 1) % 8;
    snprintf(path[at], sizeof path[at], "%s/%s", made_dir, name);
    return path[at];
}

static inline const char *make_file(const char *name, const void *p, size_t n)
{
    const char *path = made(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(n == 0 || fwrite(p, 1, n, f) == n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline const char *make_text(const char *name, const char *text) { return make_file(name, text, strlen(text)); }

/* ---- bytes ---- */

struct blob {
    uint8_t *p;
    size_t n, cap;
};

static inline void put(struct blob *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n);
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void put_u8(struct blob *b, unsigned v) { put(b, &(uint8_t){(uint8_t)v}, 1); }
static inline void put_u32(struct blob *b, uint32_t v) { put(b, &v, 4); }
static inline void put_u64(struct blob *b, uint64_t v) { put(b, &v, 8); }
static inline void put_f32(struct blob *b, float v) { put(b, &v, 4); }
static inline void put_text(struct blob *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static inline void free_blob(struct blob *b)
{
    free(b->p);
    *b = (struct blob){0};
}

/* ---- one tiny model ---- */

enum { M_HIDDEN = 32, M_FFN = 64, M_LAYERS = 2, M_HEADS = 4, M_KV = 2, M_HEAD = 8, M_VOCAB = 48, M_TENSORS = 3 + 9 * M_LAYERS };

struct made_tensor {
    char hf[80], gguf[80], canonical[40];
    int rows, cols; /* cols 0: a vector */
};

static inline struct made_tensor tiny_tensor(int i)
{
    static const struct { const char *hf, *gguf, *canonical; int rows, cols; } whole[] = {
        {"model.embed_tokens", "token_embd", "embed", M_VOCAB, M_HIDDEN}, {"model.norm", "output_norm", "norm", M_HIDDEN, 0}, {"lm_head", "output", "head", M_VOCAB, M_HIDDEN},
    }, layer[] = {
        {"input_layernorm", "attn_norm", "attn_norm", M_HIDDEN, 0},
        {"self_attn.q_proj", "attn_q", "q", M_HEADS * M_HEAD, M_HIDDEN},
        {"self_attn.k_proj", "attn_k", "k", M_KV * M_HEAD, M_HIDDEN},
        {"self_attn.v_proj", "attn_v", "v", M_KV * M_HEAD, M_HIDDEN},
        {"self_attn.o_proj", "attn_output", "o", M_HIDDEN, M_HEADS * M_HEAD},
        {"post_attention_layernorm", "ffn_norm", "ffn_norm", M_HIDDEN, 0},
        {"mlp.gate_proj", "ffn_gate", "gate", M_FFN, M_HIDDEN},
        {"mlp.up_proj", "ffn_up", "up", M_FFN, M_HIDDEN},
        {"mlp.down_proj", "ffn_down", "down", M_HIDDEN, M_FFN},
    };
    struct made_tensor t = {.rows = 0};
    if (i < 3) {
        snprintf(t.hf, sizeof t.hf, "%s.weight", whole[i].hf);
        snprintf(t.gguf, sizeof t.gguf, "%s.weight", whole[i].gguf);
        snprintf(t.canonical, sizeof t.canonical, "%s", whole[i].canonical);
        t.rows = whole[i].rows;
        t.cols = whole[i].cols;
    } else {
        int l = (i - 3) / 9, k = (i - 3) % 9;
        snprintf(t.hf, sizeof t.hf, "model.layers.%d.%s.weight", l, layer[k].hf);
        snprintf(t.gguf, sizeof t.gguf, "blk.%d.%s.weight", l, layer[k].gguf);
        snprintf(t.canonical, sizeof t.canonical, "layers.%d.%s", l, layer[k].canonical);
        t.rows = layer[k].rows;
        t.cols = layer[k].cols;
    }
    return t;
}

/* Value c of canonical row r of tensor i. */
static inline float tiny_value(int i, int r, int c) { return (float)(i * 10000 + r * 100 + c); }

/* ---- GGUF ---- */

enum { G_U8, G_I8, G_U16, G_I16, G_U32, G_I32, G_F32, G_BOOL, G_TEXT, G_ARRAY, G_U64, G_I64, G_F64 };

struct gguf_parts {
    uint32_t magic, version, align; /* align 0: 32 */
    uint64_t n_kv, n_tensors;
    struct blob kv, info, data;
};

static inline struct gguf_parts gguf_empty(void) { return (struct gguf_parts){.magic = 0x46554747, .version = 3}; }

static inline void kv_head(struct gguf_parts *g, const char *key, uint32_t type)
{
    g->n_kv++;
    put_text(&g->kv, key);
    put_u32(&g->kv, type);
}

static inline void kv_u32(struct gguf_parts *g, const char *key, uint32_t v)
{
    kv_head(g, key, G_U32);
    put_u32(&g->kv, v);
}

static inline void kv_f32(struct gguf_parts *g, const char *key, float v)
{
    kv_head(g, key, G_F32);
    put_f32(&g->kv, v);
}

static inline void kv_bool(struct gguf_parts *g, const char *key, unsigned v)
{
    kv_head(g, key, G_BOOL);
    put_u8(&g->kv, v);
}

static inline void kv_text(struct gguf_parts *g, const char *key, const char *v)
{
    kv_head(g, key, G_TEXT);
    put_text(&g->kv, v);
}

static inline void kv_array(struct gguf_parts *g, const char *key, uint32_t type, uint64_t n)
{
    kv_head(g, key, G_ARRAY);
    put_u32(&g->kv, type);
    put_u64(&g->kv, n);
}

static inline void tensor_info(struct gguf_parts *g, const char *name, uint32_t type, uint64_t offset, uint32_t rank, ...)
{
    va_list ap;
    g->n_tensors++;
    put_text(&g->info, name);
    put_u32(&g->info, rank);
    va_start(ap, rank);
    for (uint32_t i = 0; i < rank; i++)
        put_u64(&g->info, va_arg(ap, uint64_t));
    va_end(ap);
    put_u32(&g->info, type);
    put_u64(&g->info, offset);
}

static inline void pad_to(struct blob *b, size_t align)
{
    while (b->n % align)
        put_u8(b, 0);
}

/* The tiny model's tensor i as F32, q and k in the order of adjacent-pair rotary. */
static inline void gguf_tensor(struct gguf_parts *g, int i)
{
    struct made_tensor t = tiny_tensor(i);
    int heads = strstr(t.gguf, "attn_q.") ? M_HEADS : strstr(t.gguf, "attn_k.") ? M_KV : 0;
    pad_to(&g->data, g->align ? g->align : 32);
    if (t.cols)
        tensor_info(g, t.gguf, 0, g->data.n, 2, (uint64_t)t.cols, (uint64_t)t.rows);
    else
        tensor_info(g, t.gguf, 0, g->data.n, 1, (uint64_t)t.rows);
    for (int r = 0; r < t.rows; r++) {
        int d = heads ? t.rows / heads : 1, row = heads ? r / d * d + r % d / 2 + (r % 2 ? d / 2 : 0) : r;
        for (int c = 0; c < (t.cols ? t.cols : 1); c++)
            put_f32(&g->data, tiny_value(i, row, c));
    }
}

static inline void gguf_token_table(struct gguf_parts *g)
{
    char text[16];
    kv_text(g, "tokenizer.ggml.model", "llama");
    kv_array(g, "tokenizer.ggml.tokens", G_TEXT, M_VOCAB);
    for (int i = 0; i < M_VOCAB; i++) {
        snprintf(text, sizeof text, i < 3 ? "<s%d>" : "<0x%02X>", i);
        put_text(&g->kv, text);
    }
    kv_array(g, "tokenizer.ggml.scores", G_F32, M_VOCAB);
    for (int i = 0; i < M_VOCAB; i++)
        put_f32(&g->kv, (float)-i);
    kv_array(g, "tokenizer.ggml.token_type", G_I32, M_VOCAB);
    for (int i = 0; i < M_VOCAB; i++)
        put_u32(&g->kv, i < 3 ? 3 : 6);
    kv_u32(g, "tokenizer.ggml.bos_token_id", 1);
    kv_u32(g, "tokenizer.ggml.eos_token_id", 2);
    kv_bool(g, "tokenizer.ggml.add_bos_token", 1);
}

/* The keys that a model must have; `but` is left out. */
static inline void gguf_keys(struct gguf_parts *g, const char *but)
{
    static const struct { const char *key; uint32_t value; } ints[] = {
        {"llama.block_count", M_LAYERS}, {"llama.context_length", 128}, {"llama.embedding_length", M_HIDDEN}, {"llama.feed_forward_length", M_FFN},
        {"llama.attention.head_count", M_HEADS}, {"llama.attention.head_count_kv", M_KV}, {"llama.rope.dimension_count", M_HEAD},
    };
    if (strcmp(but, "general.architecture"))
        kv_text(g, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (strcmp(but, ints[i].key))
            kv_u32(g, ints[i].key, ints[i].value);
    if (strcmp(but, "llama.attention.layer_norm_rms_epsilon"))
        kv_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

/* Complete but for the key `but` and, unless but is "", the token table. */
static inline struct gguf_parts gguf_model(const char *but)
{
    struct gguf_parts g = gguf_empty();
    gguf_keys(&g, but);
    if (!*but)
        gguf_token_table(&g);
    for (int i = 0; i < M_TENSORS; i++)
        gguf_tensor(&g, i);
    return g;
}

static inline struct blob gguf_bytes(const struct gguf_parts *g)
{
    struct blob b = {0};
    put_u32(&b, g->magic);
    put_u32(&b, g->version);
    put_u64(&b, g->n_tensors);
    put_u64(&b, g->n_kv);
    put(&b, g->kv.p, g->kv.n);
    put(&b, g->info.p, g->info.n);
    pad_to(&b, g->align ? g->align : 32);
    put(&b, g->data.p, g->data.n);
    return b;
}

/* Writes the file and frees the parts. */
static inline const char *make_gguf(const char *name, struct gguf_parts *g)
{
    struct blob b = gguf_bytes(g);
    const char *path = make_file(name, b.p, b.n);
    free_blob(&b);
    free_blob(&g->kv);
    free_blob(&g->info);
    free_blob(&g->data);
    return path;
}

/* ---- safetensors ---- */

/* A file of this header, of `length` bytes as its first 8 bytes say (0: as long as it is), and n bytes of data. */
static inline const char *make_safetensors(const char *name, const char *header, uint64_t length, const void *data, size_t n)
{
    struct blob b = {0};
    put_u64(&b, length ? length : strlen(header));
    put(&b, header, strlen(header));
    if (data)
        put(&b, data, n);
    else
        while (n--)
            put_u8(&b, 0);
    const char *path = make_file(name, b.p, b.n);
    free_blob(&b);
    return path;
}

/* Tensors [from, to) of the tiny model as F32. */
static inline void make_shard(const char *name, int from, int to)
{
    struct blob header = {0}, data = {0};
    char text[256];
    for (int i = from; i < to; i++) {
        struct made_tensor t = tiny_tensor(i);
        size_t at = data.n;
        for (int r = 0; r < t.rows; r++)
            for (int c = 0; c < (t.cols ? t.cols : 1); c++)
                put_f32(&data, tiny_value(i, r, c));
        int n = snprintf(text, sizeof text, t.cols ? "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}" : "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d%.0d],\"data_offsets\":[%zu,%zu]}",
                         i == from ? "{" : ",", t.hf, t.rows, t.cols, at, data.n);
        put(&header, text, (size_t)n);
    }
    put(&header, "}", 2);
    make_safetensors(name, (const char *)header.p, 0, data.p, data.n);
    free_blob(&header);
    free_blob(&data);
}

static const char tiny_config[] = "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
                                  "\"vocab_size\":48,\"max_position_embeddings\":128,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"tie_word_embeddings\":false}";

/* The tiny model as a Hugging Face folder; n shards. Returns the folder. */
static inline const char *make_folder(int n_shards)
{
    struct blob index = {0};
    char text[256];
    make_text("config.json", tiny_config);
    for (int s = 0; s < n_shards; s++) {
        int from = M_TENSORS * s / n_shards, to = M_TENSORS * (s + 1) / n_shards;
        snprintf(text, sizeof text, n_shards == 1 ? "model.safetensors" : "model-%d.safetensors", s);
        make_shard(text, from, to);
        for (int i = from; i < to; i++) {
            int k = snprintf(text, sizeof text, "%s\"%s\":\"model-%d.safetensors\"", i ? "," : "{\"weight_map\":{", tiny_tensor(i).hf, s);
            put(&index, text, (size_t)k);
        }
    }
    put(&index, "}}", 3);
    if (n_shards > 1)
        make_text("model.safetensors.index.json", (const char *)index.p);
    free_blob(&index);
    return made_dir;
}

/* ---- claims ---- */

/* Opening must fail with this code and say all of these words. */
static inline void expect_refused(const char *path, int code, const char *word, const char *word2)
{
    struct error err = {0};
    struct checkpoint *c = checkpoint_open(path, &err);
    if (c || err.code != code || !strstr(err.text, word) || !strstr(err.text, word2))
        print_error("wanted %d \"%s\" \"%s\", got %d: %s\n", code, word, word2, err.code, c ? "opened" : err.text);
    assert_null(c);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, word));
    assert_non_null(strstr(err.text, word2));
    assert_null(strchr(err.text, '\n'));
}

static inline struct checkpoint *expect_opened(const char *path)
{
    struct error err = {0};
    struct checkpoint *c = checkpoint_open(path, &err);
    if (!c)
        print_error("%s\n", err.text);
    assert_non_null(c);
    return c;
}

/* Every tensor of the tiny model has its values, however they are stored. */
static inline void expect_tiny(const struct checkpoint *c)
{
    float x[M_FFN * M_FFN];
    struct error err = {0};
    assert_int_equal(c->n_views, M_TENSORS);
    for (int i = 0; i < M_TENSORS; i++) {
        struct made_tensor t = tiny_tensor(i);
        const struct view *v = checkpoint_find(c, t.canonical);
        int cols = t.cols ? t.cols : 1;
        assert_non_null(v);
        assert_int_equal(v->rank, t.cols ? 2 : 1);
        assert_int_equal(v->dim[0], t.rows);
        assert_int_equal(v->dim[1], cols);
        assert_int_equal(v->type, DT_F32);
        assert_int_equal(checkpoint_read_rows(c, v, 0, v->dim[0], x, &err), 0);
        for (int r = 0; r < t.rows; r++)
            for (int k = 0; k < cols; k++)
                assert_true(x[r * cols + k] == tiny_value(i, r, k));
    }
}

#endif
