/* SPDX-License-Identifier: Apache-2.0 */
#include "model/synth_text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/byte_text.h"

static int write_text(const char *folder, const char *name, const char *text, struct error *err)
{
    struct file_out f = {.fd = -1};
    size_t n = strlen(folder) + strlen(name) + 2;
    char *path = malloc(n);
    if (!path)
        return fail(err, ERR_OS, "out of memory");
    snprintf(path, n, "%s/%s", folder, name);
    int rc = file_create(&f, path, err);
    if (!rc)
        rc = file_write_at(&f, 0, text, strlen(text), err);
    if (!rc)
        rc = file_commit(&f, err);
    file_abandon(&f);
    free(path);
    return rc;
}

/* Takes the JSON; NULL stands for memory that ran out while it was made. */
static int write_json(const char *folder, const char *name, json_t *json, struct error *err)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(json);
    int rc = text ? write_text(folder, name, text, err) : fail(err, ERR_OS, "%s/%s: out of memory", folder, name);
    free(text);
    return rc;
}

static json_t *make_rope(const struct shape *s)
{
    if (s->rope_factor == 0)
        return json_null();
    return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", s->rope_factor, "low_freq_factor", s->rope_low, "high_freq_factor",
                     s->rope_high, "original_max_position_embeddings", s->rope_original);
}

static json_t *make_config(const struct shape *s, int layers, int tied, enum dtype type)
{
    static const char *const torch_name[DT_COUNT] = {[DT_F32] = "float32", [DT_F16] = "float16", [DT_BF16] = "bfloat16"};
    return json_pack("{s:[s], s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:o, s:b, s:b, s:b, s:f, s:i, s:n}",
                     "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu", "torch_dtype", torch_name[type],
                     "hidden_size", s->hidden, "intermediate_size", s->ffn, "num_hidden_layers", layers, "num_attention_heads", s->heads,
                     "num_key_value_heads", s->kv_heads, "head_dim", s->head_dim, "vocab_size", s->vocab, "max_position_embeddings", s->context,
                     "rms_norm_eps", s->norm_eps, "rope_theta", s->rope_theta, "rope_scaling", make_rope(s), "tie_word_embeddings", tied,
                     "attention_bias", s->biases, "mlp_bias", s->biases, "initializer_range", s->range, "bos_token_id", s->bos, "eos_token_id");
}

/* Ids in order: the two control tokens have theirs, the bytes take the lowest that are free, the rest is named by number. */
static json_t *make_vocab(const struct shape *s)
{
    json_t *vocab = json_object();
    char text[32];
    int byte = 0, bad = !vocab;
    for (int id = 0; id < s->vocab && !bad; id++) {
        if (id == s->bos || id == s->eos)
            snprintf(text, sizeof text, "%s", id == s->bos ? "<s>" : "</s>");
        else if (byte < 256)
            byte_text(byte++, text);
        else
            snprintf(text, sizeof text, "<%d>", id);
        bad = json_object_set_new(vocab, text, json_integer(id));
    }
    if (!bad)
        return vocab;
    json_decref(vocab);
    return NULL;
}

static json_t *make_control(const char *text, int id)
{
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0,
                     "special", 1);
}

static json_t *make_byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1);
}

/* Text A becomes <s> A, a pair A B becomes <s> A <s> B. */
static json_t *make_template(const struct shape *s)
{
    json_t *single = json_pack("[{s:{s:s, s:i}}, {s:{s:s, s:i}}]", "SpecialToken", "id", "<s>", "type_id", 0, "Sequence", "id", "A", "type_id", 0);
    json_t *pair = json_pack("[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}]", "SpecialToken", "id", "<s>", "type_id", 0, "Sequence", "id",
                             "A", "type_id", 0, "SpecialToken", "id", "<s>", "type_id", 1, "Sequence", "id", "B", "type_id", 1);
    return json_pack("{s:s, s:o, s:o, s:{s:{s:s, s:[i], s:[s]}}}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", "<s>",
                     "id", "<s>", "ids", s->bos, "tokens", "<s>");
}

static json_t *make_tokenizer(const struct shape *s)
{
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:[]}", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                              "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", make_vocab(s), "merges");
    return json_pack("{s:s, s:n, s:n, s:[o, o], s:n, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens",
                     make_control("<s>", s->bos), make_control("</s>", s->eos), "normalizer", "pre_tokenizer", make_byte_level(), "post_processor",
                     make_template(s), "decoder", make_byte_level(), "model", model);
}

static json_t *make_tokenizer_config(const struct shape *s)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:i}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", "<s>", "eos_token", "</s>",
                     "add_bos_token", 1, "add_eos_token", 0, "clean_up_tokenization_spaces", 0, "model_max_length", s->context);
}

int synth_write_text(const char *folder, const struct shape *s, int layers, int tied, enum dtype type, struct error *err)
{
    int rc = write_json(folder, "config.json", make_config(s, layers, tied, type), err);
    if (!rc)
        rc = write_json(folder, "generation_config.json", json_pack("{s:i, s:b}", "bos_token_id", s->bos, "do_sample", 0), err);
    if (!rc)
        rc = write_json(folder, "tokenizer.json", make_tokenizer(s), err);
    if (!rc)
        rc = write_json(folder, "tokenizer_config.json", make_tokenizer_config(s), err);
    return rc;
}
