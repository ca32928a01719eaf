/* SPDX-License-Identifier: Apache-2.0 */
/* What a GGUF file says about a model and its tokenizer, as the files of a Hugging Face folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/export.h"

enum { TYPE_CONTROL = 3, TYPE_USER = 4 }; /* of a token */

static const char remedy[] = "train from the model's Hugging Face folder instead";

int export_gguf_check(const struct model *m, struct error *err)
{
    const struct vocab *v = &m->vocab;
    if (m->config.rope_factors || m->config.rope == ROPE_LLAMA3)
        return fail(err, ERR_CONFIG, "%s: tensor rope_freqs: its rope scaling cannot be written to a config.json: %s", m->file->path, remedy);
    if (v->kind != VOCAB_BYTES || (v->pretok != PRETOK_GPT2 && v->pretok != PRETOK_SMOLLM))
        return fail(err, ERR_CONFIG, "%s: tokenizer %s: only those of kind gpt-2 and smollm can be written to a tokenizer.json: %s", m->file->path,
                    m->file->tokens.pre ? m->file->tokens.pre : m->file->tokens.model, remedy);
    return 0;
}

/* A 32-bit number as people write it: 1e-05, not 9.99999974737875e-06. */
static double shorten(double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", v);
    return strtod(text, NULL);
}

static json_t *rope_of(const struct config *c)
{
    return c->rope == ROPE_LINEAR ? json_pack("{s:s, s:f}", "rope_type", "linear", "factor", shorten(c->rope_factor)) : json_null();
}

static json_t *ends_of(const struct config *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_eos; i++)
        json_array_append_new(list, json_integer(c->eos[i]));
    return list;
}

static json_t *id_or_null(int32_t id) { return id >= 0 ? json_integer(id) : json_null(); }

json_t *export_gguf_config(const struct model *m)
{
    const struct config *c = &m->config;
    return json_pack("{s:[s], s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:o, s:b, s:b, s:b, s:o, s:o}", "architectures", "LlamaForCausalLM", "model_type",
                     "llama", "hidden_act", "silu", "torch_dtype", "bfloat16", "hidden_size", c->hidden, "intermediate_size", c->ffn, "num_hidden_layers", c->n_layers,
                     "num_attention_heads", c->n_heads, "num_key_value_heads", c->n_kv_heads, "head_dim", c->head_dim, "vocab_size", c->vocab, "max_position_embeddings",
                     c->context, "rms_norm_eps", shorten(c->norm_eps), "rope_theta", shorten(c->rope_theta), "rope_scaling", rope_of(c), "tie_word_embeddings", c->tied, "attention_bias",
                     c->attention_bias, "mlp_bias", c->mlp_bias, "bos_token_id", id_or_null(c->bos), "eos_token_id", ends_of(c));
}

/* ---- tokenizer.json ---- */

static json_t *text_of(struct bytes b) { return json_stringn((const char *)b.p, b.n); }

static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1);
}

static json_t *pre_tokenizer(enum pretok kind)
{
    if (kind == PRETOK_GPT2)
        return byte_level();
    return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Digits", "individual_digits", 1, byte_level());
}

/* A text gets the beginning-of-text token in front where the file says so. */
static json_t *post_processor(const struct model *m)
{
    const struct vocab *v = &m->vocab;
    if (!v->add_bos || v->bos < 0)
        return byte_level();
    const struct bytes b = m->file->tokens.text[v->bos];
    json_t *id = text_of(b), *single = json_pack("[{s:{s:O, s:i}}, {s:{s:s, s:i}}]", "SpecialToken", "id", id, "type_id", 0, "Sequence", "id", "A", "type_id", 0);
    json_t *pair = json_pack("[{s:{s:O, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}]", "SpecialToken", "id", id, "type_id", 0, "Sequence", "id", "A", "type_id", 0, "Sequence", "id", "B",
                             "type_id", 1);
    json_t *tokens = json_object(), *entry = json_pack("{s:O, s:[i], s:[O]}", "id", id, "ids", v->bos, "tokens", id);
    json_object_set_new(tokens, json_string_value(id), entry);
    json_decref(id);
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", tokens);
}

static json_t *added_tokens(const struct token_table *t)
{
    json_t *list = json_array();
    for (int i = 0; t->type && i < t->n; i++)
        if (t->type[i] == TYPE_CONTROL || t->type[i] == TYPE_USER)
            json_array_append_new(list, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", i, "content", text_of(t->text[i]), "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                  "normalized", 0, "special", t->type[i] == TYPE_CONTROL));
    return list;
}

/* NULL: out of memory, or a piece that is no UTF-8. */
static json_t *bpe_model(const struct model *m)
{
    const struct token_table *t = &m->file->tokens;
    json_t *vocab = json_object(), *merges = json_array();
    int bad = !vocab || !merges;
    for (int i = 0; i < t->n && !bad; i++)
        bad = json_object_setn_new(vocab, (const char *)t->text[i].p, t->text[i].n, json_integer(i));
    for (int i = 0; i < t->n_merges && !bad; i++)
        bad = json_array_append_new(merges, text_of(t->merge[i]));
    if (bad) {
        json_decref(vocab);
        json_decref(merges);
        return NULL;
    }
    return json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                     "byte_fallback", 0, "ignore_merges", m->vocab.ignore_merges, "vocab", vocab, "merges", merges);
}

static json_t *named_or_null(const struct model *m, int32_t id) { return id >= 0 ? text_of(m->file->tokens.text[id]) : json_null(); }

int export_gguf_tokenizer(const struct model *m, const char *folder, struct error *err)
{
    const struct vocab *v = &m->vocab;
    const char *chat = m->file->chat_template;
    int rc = export_json(folder, "tokenizer.json",
                         json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens", added_tokens(&m->file->tokens),
                                   "normalizer", "pre_tokenizer", pre_tokenizer(v->pretok), "post_processor", post_processor(m), "decoder", byte_level(), "model", bpe_model(m)),
                         err);
    if (!rc)
        rc = export_json(folder, "tokenizer_config.json",
                         json_pack("{s:s, s:o, s:o, s:b, s:b, s:b, s:i, s:o}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", named_or_null(m, v->bos), "eos_token",
                                   named_or_null(m, v->eos), "add_bos_token", v->add_bos, "add_eos_token", v->add_eos, "clean_up_tokenization_spaces", 0, "model_max_length",
                                   m->config.context, "chat_template", chat ? json_string(chat) : json_null()),
                         err);
    return rc ? rc : export_json(folder, "generation_config.json", json_pack("{s:o, s:o}", "bos_token_id", id_or_null(m->config.bos), "eos_token_id", ends_of(&m->config)), err);
}
