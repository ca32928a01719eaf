/* SPDX-License-Identifier: Apache-2.0 */
#include "model/config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config_keys.h"

/* A model family: what its config may ask for. A new one is a new row. */
static const struct family {
    const char *name;
    bool attention_bias, mlp_bias;
} families[] = {
    {"llama", true, true},
};

/* What is read before it is understood. */
struct draft {
    struct config c;
    const char *model_type, *rope_type, *rope_type_old;
    double inner_theta, temperature, top_p, min_p;
    int early_exit;
    bool do_sample;
};

enum kind { INT, REAL, BOOL, TEXT };

#define TO(field) offsetof(struct draft, field)

/* Ranges include their ends. Two rows may fill one field; keys come sorted, so the later in the alphabet has the last word. */
static const struct key {
    const char *name;
    enum kind kind;
    double min, max;
    size_t to;
    bool required;
} keys[] = {
    {"model_type", TEXT, 0, 0, TO(model_type), true},
    {"hidden_size", INT, 2, 1 << 17, TO(c.hidden), true},
    {"intermediate_size", INT, 1, 1 << 19, TO(c.ffn), true},
    {"num_hidden_layers", INT, 1, 1024, TO(c.n_layers), true},
    {"num_attention_heads", INT, 1, 4096, TO(c.n_heads), true},
    {"num_key_value_heads", INT, 1, 4096, TO(c.n_kv_heads), false},
    {"head_dim", INT, 2, 512, TO(c.head_dim), false},
    {"vocab_size", INT, 1, 1 << 22, TO(c.vocab), true},
    {"max_position_embeddings", INT, 1, 1 << 24, TO(c.context), true},
    {"rms_norm_eps", REAL, 1e-20, 1, TO(c.norm_eps), true},
    {"rope_theta", REAL, 1e-6, 1e15, TO(c.rope_theta), false},
    {"rope_scaling.rope_type", TEXT, 0, 0, TO(rope_type), false},
    {"rope_scaling.type", TEXT, 0, 0, TO(rope_type_old), false},
    {"rope_scaling.rope_theta", REAL, 1e-6, 1e15, TO(inner_theta), false},
    {"rope_scaling.factor", REAL, 1e-3, 1e6, TO(c.rope_factor), false},
    {"rope_scaling.low_freq_factor", REAL, 1e-6, 1e6, TO(c.rope_low), false},
    {"rope_scaling.high_freq_factor", REAL, 1e-6, 1e6, TO(c.rope_high), false},
    {"rope_scaling.original_max_position_embeddings", INT, 1, 1 << 24, TO(c.rope_context), false},
    {"tie_word_embeddings", BOOL, 0, 1, TO(c.tied), false},
    {"attention_bias", BOOL, 0, 1, TO(c.attention_bias), false},
    {"mlp_bias", BOOL, 0, 1, TO(c.mlp_bias), false},
    {"torch_dtype", TEXT, 0, 0, TO(c.dtype), false},
    {"dtype", TEXT, 0, 0, TO(c.dtype), false},
    {"general.name", TEXT, 0, 0, TO(c.name), false},
    {"_name_or_path", TEXT, 0, 0, TO(c.name), false},
    {"layerskip.exit_layer", INT, 1, 1023, TO(c.exit_layer), false},
    {"layerskip.num_speculations", INT, 1, 32, TO(c.num_speculations), false},
    {"generation.assistant_early_exit", INT, 1, 1023, TO(early_exit), false},
    {"generation.do_sample", BOOL, 0, 1, TO(do_sample), false},
    {"generation.temperature", REAL, 0, 1e6, TO(temperature), false},
    {"generation.top_p", REAL, 0, 1, TO(top_p), false},
    {"generation.min_p", REAL, 0, 1, TO(min_p), false},
    {"generation.top_k", INT, -1, INT32_MAX, TO(c.top_k), false},
};

/* Read by hand: a number or a list. */
static const char *const id_keys[] = {"bos_token_id", "eos_token_id", "generation.bos_token_id", "generation.eos_token_id", "layerskip.draft_tokens"};

/* transformers 5 writes "rope_parameters" where older ones wrote "rope_scaling". */
static bool same_key(const char *row, const char *key)
{
    static const char old[] = "rope_scaling.", new[] = "rope_parameters.";
    if (!strncmp(key, new, sizeof new - 1) && !strncmp(row, old, sizeof old - 1))
        return !strcmp(row + sizeof old - 1, key + sizeof new - 1);
    return !strcmp(row, key);
}

static int refuse(const struct checkpoint *c, const struct meta *m, const char *why, struct error *err)
{
    return fail(err, ERR_CONFIG, "%s: config key \"%s\" = %s: %s", c->path, m->file_key, meta_show(m).text, why);
}

/* Advice that cannot be used stops nobody. */
static void pass_over(struct draft *d, const struct meta *m, const char *why)
{
    char *to = d->c.unused_advice;
    size_t n = strlen(to);
    snprintf(to + n, sizeof d->c.unused_advice - n, "%s%s = %s: %s", n ? "; " : "", m->file_key, meta_show(m).text, why);
}

static int read_key(const struct checkpoint *c, const struct key *k, const struct meta *m, struct draft *d, struct error *err)
{
    char why[64] = "";
    static const char *const wanted[] = {"must be a whole number", "must be a number", "must be true or false", "must be a string"};
    static const enum meta_type types[] = {META_INT, META_REAL, META_BOOL, META_TEXT};
    void *to = (char *)d + k->to;
    if (m->type != types[k->kind] && !(k->kind == REAL && m->type == META_INT))
        snprintf(why, sizeof why, "%s", wanted[k->kind]);
    else if (k->kind == TEXT)
        memcpy(to, &m->text, sizeof m->text);
    else if (k->kind == BOOL)
        *(bool *)to = m->i != 0;
    else if (!(m->real >= k->min && m->real <= k->max)) /* false for a NaN */
        snprintf(why, sizeof why, "must be from %g to %g", k->min, k->max);
    else if (k->kind == INT)
        *(int *)to = (int)m->i;
    else
        *(double *)to = m->real;
    if (*why && strncmp(k->name, "generation.", 11))
        return refuse(c, m, why, err);
    if (*why)
        pass_over(d, m, why);
    return 0;
}

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (same_key(keys[i].name, name))
            return &keys[i];
    return NULL;
}

static int read_keys(const struct checkpoint *c, struct draft *d, struct error *err)
{
    bool found[sizeof keys / sizeof *keys] = {false};
    for (int i = 0; i < c->n_meta; i++) {
        const struct meta *m = &c->meta[i];
        const struct key *k = find_key(m->key);
        if (!k || m->type == META_NULL)
            continue;
        if (found[k - keys])
            return refuse(c, m, "said twice, in rope_scaling and in rope_parameters: remove one", err);
        found[k - keys] = true;
        int rc = read_key(c, k, m, d, err);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].required && !found[i])
            return fail(err, ERR_CONFIG, "%s: config key \"%s\" is missing", c->path, keys[i].name);
    return 0;
}

static int check_family(const struct checkpoint *c, struct draft *d, struct error *err)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        if (strcmp(d->model_type, f->name))
            continue;
        d->c.family = f->name;
        if ((d->c.attention_bias && !f->attention_bias) || (d->c.mlp_bias && !f->mlp_bias))
            return fail(err, ERR_CONFIG, "%s: config key \"%s\" = true: models of type %s have none", c->path, d->c.mlp_bias ? "mlp_bias" : "attention_bias", f->name);
        return 0;
    }
    return fail(err, ERR_CONFIG, "%s: config key \"model_type\" = \"%.64s\": only models of the Llama family (\"llama\") are supported", c->path, d->model_type);
}

static int check_shape(const struct checkpoint *c, struct config *o, struct error *err)
{
    if (!o->n_kv_heads)
        o->n_kv_heads = o->n_heads;
    if (o->n_heads % o->n_kv_heads)
        return fail(err, ERR_CONFIG, "%s: config key \"num_key_value_heads\" = %d: must divide num_attention_heads = %d", c->path, o->n_kv_heads, o->n_heads);
    if (!o->head_dim && o->hidden % o->n_heads)
        return fail(err, ERR_CONFIG, "%s: config key \"hidden_size\" = %d: must be a multiple of num_attention_heads = %d where head_dim is not given", c->path, o->hidden,
                    o->n_heads);
    if (!o->head_dim)
        o->head_dim = o->hidden / o->n_heads;
    if (o->head_dim % 2 || o->head_dim > 512)
        return fail(err, ERR_CONFIG, "%s: config key \"head_dim\" = %d: must be even and at most 512", c->path, o->head_dim);
    if ((int64_t)o->head_dim * o->n_heads > 1 << 18)
        return fail(err, ERR_CONFIG, "%s: config key \"num_attention_heads\" = %d: %d heads of %d values are too many", c->path, o->n_heads, o->n_heads, o->head_dim);
    if (o->exit_layer >= o->n_layers)
        return fail(err, ERR_CONFIG, "%s: the LayerSkip profile has exit_layer %d: must be 1 to %d, below the model's %d layers", c->path, o->exit_layer, o->n_layers - 1, o->n_layers);
    return 0;
}

/* ---- rotary ---- */

static const struct {
    const char *name;
    enum rope_kind kind;
    bool factor, bands; /* the parameters that it takes */
} rope_types[] = {
    {"default", ROPE_PLAIN, false, false}, {"none", ROPE_PLAIN, false, false}, {"linear", ROPE_LINEAR, true, false}, {"llama3", ROPE_LLAMA3, true, true},
};

/* A kind must have all of its parameters and none of the others, where a factor of 1 says nothing. */
static int check_rope_parameters(const struct checkpoint *c, const struct config *o, size_t row, struct error *err)
{
    const struct {
        const char *name;
        double value;
        bool wanted;
    } p[] = {
        {"factor", o->rope_factor, rope_types[row].factor},
        {"low_freq_factor", o->rope_low, rope_types[row].bands},
        {"high_freq_factor", o->rope_high, rope_types[row].bands},
        {"original_max_position_embeddings", o->rope_context, rope_types[row].bands},
    };
    for (int i = 0; i < 4; i++)
        if (p[i].wanted != (p[i].value != 0) && !(i == 0 && p[i].value == 1) && !(i == 3 && !p[i].wanted))
            return fail(err, ERR_CONFIG, "%s: config key \"rope_scaling.%s\": %s for rope type \"%s\"", c->path, p[i].name, p[i].wanted ? "is missing" : "is of no use", rope_types[row].name);
    if (rope_types[row].bands && o->rope_low >= o->rope_high)
        return fail(err, ERR_CONFIG, "%s: config key \"rope_scaling.low_freq_factor\" = %g: must be below high_freq_factor = %g", c->path, o->rope_low, o->rope_high);
    return 0;
}

static int check_rope(const struct checkpoint *c, struct draft *d, struct error *err)
{
    const char *type = d->rope_type ? d->rope_type : d->rope_type_old ? d->rope_type_old : "default";
    struct config *o = &d->c;
    if (d->rope_type && d->rope_type_old && strcmp(d->rope_type, d->rope_type_old))
        return fail(err, ERR_CONFIG, "%s: config keys \"rope_scaling.rope_type\" = \"%.40s\" and \"rope_scaling.type\" = \"%.40s\" differ", c->path, d->rope_type, d->rope_type_old);
    if (o->rope_theta && d->inner_theta && o->rope_theta != d->inner_theta)
        return fail(err, ERR_CONFIG, "%s: config keys \"rope_theta\" = %g and \"rope_parameters.rope_theta\" = %g differ", c->path, o->rope_theta, d->inner_theta);
    if (!o->rope_theta)
        o->rope_theta = d->inner_theta ? d->inner_theta : 10000;
    o->rope_factors = checkpoint_find(c, "rope_factors") != NULL;
    for (size_t i = 0; i < sizeof rope_types / sizeof *rope_types; i++) {
        if (strcmp(type, rope_types[i].name))
            continue;
        o->rope = rope_types[i].kind;
        if (o->rope_factors && o->rope != ROPE_PLAIN)
            return fail(err, ERR_CONFIG, "%s: rope type \"%s\" and a tensor of rope factors: only one of them can hold", c->path, type);
        return check_rope_parameters(c, o, i, err);
    }
    return fail(err, ERR_CONFIG, "%s: config key \"rope_scaling.rope_type\" = \"%.40s\": not supported (default, linear and llama3 are)", c->path, type);
}

const char *config_rope_name(const struct config *c)
{
    static const char *const names[] = {[ROPE_PLAIN] = "plain", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3"};
    return c->rope_factors ? "factors" : names[c->rope];
}

/* ---- tokens and sampling ---- */

/* One id or a list of them; the generation config has the last word. */
static int read_ids(const struct checkpoint *c, const char *name, const char *stronger, int vocab, int32_t *out, int max, int *n, struct error *err)
{
    const struct meta *m = checkpoint_meta(c, stronger);
    if (!m || m->type == META_NULL)
        m = checkpoint_meta(c, name);
    *n = 0;
    if (!m || m->type == META_NULL)
        return 0;
    if (m->type != META_INT && m->type != META_INTS)
        return refuse(c, m, "must be a token id or a list of them", err);
    const int64_t *ids = m->type == META_INT ? &m->i : m->ints;
    int64_t count = m->type == META_INT ? 1 : m->i;
    if (count > max)
        return fail(err, ERR_CONFIG, "%s: config key \"%s\" lists %lld ids, at most %d", c->path, m->file_key, (long long)count, max);
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= vocab)
            return fail(err, ERR_CONFIG, "%s: config key \"%s\": token id %lld: must be below vocab_size = %d", c->path, m->file_key, (long long)ids[i], vocab);
        out[i] = (int32_t)ids[i];
    }
    *n = (int)count;
    return 0;
}

static int read_tokens(const struct checkpoint *c, struct config *o, struct error *err)
{
    int n;
    o->bos = -1;
    int rc = read_ids(c, id_keys[0], id_keys[2], o->vocab, &o->bos, 1, &n, err);
    return rc ? rc : read_ids(c, id_keys[1], id_keys[3], o->vocab, o->eos, CONFIG_EOS_MAX, &o->n_eos, err);
}

/* Ids of the vocabulary, none twice. */
static int check_draft_tokens(const struct checkpoint *c, const struct meta *m, int vocab, uint8_t *seen, struct error *err)
{
    for (int64_t i = 0; i < m->i; i++) {
        int64_t id = m->ints[i];
        if (id < 0 || id >= vocab)
            return fail(err, ERR_CONFIG, "%s: config key \"%s\": entry %lld is token id %lld: must be below vocab_size = %d", c->path, m->file_key, (long long)i, (long long)id, vocab);
        if (seen[id]++)
            return fail(err, ERR_CONFIG, "%s: config key \"%s\": entry %lld: token id %lld is there twice: remove one", c->path, m->file_key, (long long)i, (long long)id);
    }
    return 0;
}

static int read_draft_tokens(const struct checkpoint *c, struct config *o, struct error *err)
{
    const struct meta *m = checkpoint_meta(c, id_keys[4]);
    if (!m || m->type == META_NULL)
        return 0;
    if (m->type != META_INTS || m->i < 1 || m->i > o->vocab)
        return refuse(c, m, "must be a list of token ids, at least one, none twice", err);
    uint8_t *seen = calloc((size_t)o->vocab, 1);
    int rc = seen ? check_draft_tokens(c, m, o->vocab, seen, err) : fail(err, ERR_OS, "out of memory");
    free(seen);
    o->draft_token = m->ints;
    o->n_draft_tokens = (int)m->i;
    return rc;
}

/* transformers samples only where do_sample says so, and then at temperature 1 unless told. */
static void settle_sampling(const struct checkpoint *c, struct draft *d)
{
    bool said = checkpoint_meta(c, "generation.do_sample") || checkpoint_meta(c, "generation.temperature");
    d->c.temperature = !said ? -1 : !d->do_sample ? 0 : d->temperature < 0 ? 1 : (float)d->temperature;
    d->c.top_p = (float)d->top_p;
    d->c.min_p = (float)d->min_p;
    if (d->c.top_k < 0) /* some say -1 where others say 0: off */
        d->c.top_k = 0;
}

/* Where config.json has no profile, the exit layer that the generation config advises is one. */
static void settle_exit(const struct checkpoint *c, struct draft *d)
{
    if (d->early_exit >= d->c.n_layers)
        pass_over(d, checkpoint_meta(c, "generation.assistant_early_exit"), "must be below the number of layers");
    else if (!d->c.exit_layer)
        d->c.exit_layer = d->early_exit;
}

static bool is_read(const char *key)
{
    for (size_t i = 0; i < sizeof id_keys / sizeof *id_keys; i++)
        if (!strcmp(id_keys[i], key))
            return true;
    return find_key(key) != NULL;
}

/* What is to be passed over must be there, and nothing that is applied. */
static int check_ignored(const struct checkpoint *c, const char *const *ignore, struct error *err)
{
    for (; ignore && *ignore; ignore++) {
        bool found = false;
        for (int i = 0; i < c->n_meta; i++) {
            const struct meta *m = &c->meta[i];
            if (!config_key_is(m, *ignore))
                continue;
            if (is_read(m->key))
                return fail(err, ERR_USAGE, "--ignore-config %.64s: config key \"%s\" is used, not passed over", *ignore, m->file_key);
            found = true;
        }
        if (!found)
            return fail(err, ERR_USAGE, "--ignore-config %.64s: not in the configuration of %s", *ignore, c->path);
    }
    return 0;
}

int config_read(struct config *out, const struct checkpoint *c, const char *const *ignore, struct error *err)
{
    struct draft d = {.c.name = "", .temperature = -1};
    int rc = check_ignored(c, ignore, err);
    if (!rc)
        rc = read_keys(c, &d, err);
    if (!rc)
        rc = check_family(c, &d, err);
    if (!rc)
        rc = check_shape(c, &d.c, err);
    if (!rc)
        rc = check_rope(c, &d, err);
    if (!rc)
        rc = read_tokens(c, &d.c, err);
    if (!rc)
        rc = read_draft_tokens(c, &d.c, err);
    for (int i = 0; i < c->n_meta && !rc; i++)
        if (!is_read(c->meta[i].key))
            rc = config_pass_key(c, &c->meta[i], ignore, &d.c.ignored, err);
    if (rc)
        return rc;
    settle_sampling(c, &d);
    settle_exit(c, &d);
    *out = d.c;
    return 0;
}
