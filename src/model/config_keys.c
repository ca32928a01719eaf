/* SPDX-License-Identifier: Apache-2.0 */
#include "model/config_keys.h"

#include <stdio.h>
#include <string.h>

/* Facts about making, training, packing or running that leave the arithmetic as it is. A dot at the end: everything below it.
   All of "generation." is advice on how to sample, which whoever asks for a reply takes or leaves; the logits are the same. */
static const char *const harmless[] = {
    "generation.", "tokenizer.", "general.", "quantize.", "split.", "transformers.js_config.", "id2label.", "label2id.", "task_specific_params.",
    "_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "architectures", "attention_dropout", "hidden_dropout", "initializer_range",
    "is_llama_config", "max_sequence_length", "output_attentions", "output_hidden_states", "pad_token_id", "return_dict", "torchscript", "transformers_version", "unsloth_fixed",
    "unsloth_version", "use_bfloat16", "use_cache", "max_length", "min_length", "chunk_size_feed_forward",
    "tokenizer_class", "sep_token_id", "_flash_attn_2_enabled", "use_flash_attn", "max_window_layers", "neftune_noise_alpha",
};

/* Features that are not here unless the key says that they are off: this value, or null, false, 0, empty. */
static const struct {
    const char *key, *text;
    double number;
} features[] = {
    {"hidden_act", "silu", 0},            {"hidden_activation", "silu", 0},      {"pretraining_tp", NULL, 1},
    {"rope_interleaved", NULL, 0},        {"sliding_window", NULL, 0},           {"use_sliding_window", NULL, 0},
    {"quantization_config", NULL, 0},     {"compression_config", NULL, 0},       {"num_local_experts", NULL, 0},
    {"num_experts", NULL, 0},             {"num_experts_per_tok", NULL, 0},      {"attention_multiplier", NULL, 1},
    {"embedding_multiplier", NULL, 1},    {"residual_multiplier", NULL, 1},      {"logits_scaling", NULL, 1},
    {"logit_scale", NULL, 1},             {"final_logit_softcapping", NULL, 0},  {"attn_logit_softcapping", NULL, 0},
    {"query_pre_attn_scalar", NULL, 0},   {"qk_layernorm", NULL, 0},             {"use_qk_norm", NULL, 0},
    {"clip_qkv", NULL, 0},                {"alibi", NULL, 0},                    {"layer_types", NULL, 0},
    {"no_rope_layers", NULL, 0},          {"parallel_attn", NULL, 0},            {"auto_map", NULL, 0},
    {"is_encoder_decoder", NULL, 0},      {"vision_config", NULL, 0},            {"partial_rotary_factor", NULL, 1},
    {"rope_parameters.partial_rotary_factor", NULL, 1},                          {"rope_scaling.partial_rotary_factor", NULL, 1},
    {"llama.expert_count", NULL, 0},      {"llama.rope.scale_linear", NULL, 1},  {"llama.attention.sliding_window", NULL, 0},
    {"llama.rope.scaling.attn_factor", NULL, 1},                                 {"num_beams", NULL, 1},
};

struct shown meta_show(const struct meta *m)
{
    struct shown s;
    switch (m->type) {
    case META_NULL: snprintf(s.text, sizeof s.text, "null"); break;
    case META_BOOL: snprintf(s.text, sizeof s.text, "%s", m->i ? "true" : "false"); break;
    case META_INT: snprintf(s.text, sizeof s.text, "%lld", (long long)m->i); break;
    case META_REAL: snprintf(s.text, sizeof s.text, "%.9g", m->real); break;
    case META_TEXT: snprintf(s.text, sizeof s.text, "\"%.64s\"", m->text); break;
    case META_INTS: snprintf(s.text, sizeof s.text, "[%lld numbers]", (long long)m->i); break;
    default: snprintf(s.text, sizeof s.text, "%.70s", m->text ? m->text : "?");
    }
    return s;
}

/* Equal, or below: "a" covers "a.b". */
static bool covers(const char *row, const char *key)
{
    size_t n = strlen(row);
    return !strncmp(row, key, n) && (key[n] == 0 || key[n] == '.' || row[n - 1] == '.');
}

static bool is_harmless(const char *key)
{
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (!strcmp(harmless[i], key) || (harmless[i][strlen(harmless[i]) - 1] == '.' && covers(harmless[i], key)))
            return true;
    return false;
}

/* Null, false, nothing: whatever it would turn on is off. */
static bool is_neutral(const struct meta *m)
{
    switch (m->type) {
    case META_NULL: return true;
    case META_REAL: return m->real == 0;
    case META_TEXT: return !*m->text;
    case META_OTHER: return !strcmp(m->text, "[]") || !strcmp(m->text, "{}");
    default: return m->i == 0;
    }
}

bool config_key_is(const struct meta *m, const char *name)
{
    return covers(name, m->key) || covers(name, m->file_key);
}

static bool is_listed(const struct meta *m, const char *const *list)
{
    for (; list && *list; list++)
        if (config_key_is(m, *list))
            return true;
    return false;
}

static int check_feature(const struct checkpoint *c, const struct meta *m, size_t row, struct error *err)
{
    const char *text = features[row].text;
    double number = features[row].number;
    if (text ? m->type == META_TEXT && !strcmp(m->text, text) : number != 0 && (m->type == META_INT || m->type == META_REAL) && m->real == number)
        return 0;
    char only[40] = "this engine does not have it";
    if (text)
        snprintf(only, sizeof only, "only \"%s\" is supported", text);
    else if (number != 0)
        snprintf(only, sizeof only, "only %g is supported", number);
    return fail(err, ERR_CONFIG, "%s: config key \"%s\" = %s: %s, and it would change what the model computes", c->path, m->file_key, meta_show(m).text, only);
}

int config_pass_key(const struct checkpoint *c, const struct meta *m, const char *const *ignore, const char **changing, struct error *err)
{
    bool listed = is_listed(m, ignore);
    if (is_harmless(m->key) || is_neutral(m))
        return 0;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (covers(features[i].key, m->key)) {
            int rc = check_feature(c, m, i, listed ? NULL : err);
            if (!rc || !listed)
                return rc;
            *changing = m->file_key;
        }
    return listed ? 0 : fail(err, ERR_CONFIG, "%s: config: unknown key \"%s\" = %s; if it does not change the arithmetic, name it with --ignore-config %s", c->path, m->file_key, meta_show(m).text,
                m->file_key);
}
