/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json. Everything in it that changes ids is honoured or refused by name. */
#include <string.h>

#include "text/json_tables.h"
#include "text/vocab_build.h"

#define SPACE_MARK "\xe2\x96\x81"

struct reading {
    struct build *b;
    struct vocab *v;
    const struct json_tables *tables;
    json_t *root, *model;
    bool prepend, replace;                 /* normalizers */
    bool digits, byte_level, gpt2, metaspace; /* pre-tokenizers */
    enum pretok split;
    struct vocab_wish template;            /* what the post-processor adds */
};

static int refuse(struct reading *r, const char *where, const char *what, const char *value)
{
    return fail(r->b->err, ERR_CONFIG, "%s: %s: %s \"%.80s\" is not supported", r->b->name, where, what, value ? value : "(not a string)");
}

static int malformed(struct reading *r, const char *where, const char *wanted)
{
    return fail(r->b->err, ERR_DATA, "%s: %s: expected %s", r->b->name, where, wanted);
}

static bool has_text(json_t *object, const char *key, const char *text)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s && strcmp(s, text) == 0;
}

static bool is_on(json_t *object, const char *key, bool otherwise)
{
    json_t *v = json_object_get(object, key);
    return v ? json_is_true(v) : otherwise;
}

static struct bytes bytes_of(json_t *string) { return (struct bytes){(const uint8_t *)json_string_value(string), json_string_length(string)}; }

/* Gives every part of root[key] (an object, a Sequence of objects, or null) to `take`. */
static int each(struct reading *r, const char *key, const char *list, int (*take)(struct reading *, const char *where, const char *type, json_t *part))
{
    json_t *top = json_object_get(r->root, key), *parts = has_text(top, "type", "Sequence") ? json_object_get(top, list) : NULL;
    if (!top || json_is_null(top))
        return 0;
    for (size_t i = 0; i < (parts ? json_array_size(parts) : 1); i++) {
        json_t *part = parts ? json_array_get(parts, i) : top;
        const char *type = json_string_value(json_object_get(part, "type"));
        int rc = type ? take(r, key, type, part) : malformed(r, key, "an object with a type");
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take_normalizer(struct reading *r, const char *where, const char *type, json_t *part)
{
    json_t *pattern = json_object_get(part, "pattern");
    if (strcmp(type, "Prepend") == 0 && has_text(part, "prepend", SPACE_MARK) && !r->prepend && !r->replace)
        r->prepend = true;
    else if (strcmp(type, "Replace") == 0 && has_text(pattern, "String", " ") && has_text(part, "content", SPACE_MARK))
        r->replace = true;
    else
        return refuse(r, where, "type (or its settings)", type);
    return 0;
}

static int take_split(struct reading *r, const char *where, json_t *part)
{
    json_t *regex = json_object_get(json_object_get(part, "pattern"), "Regex");
    bool inverted = is_on(part, "invert", false);
    if (!json_is_string(regex) || (r->split = pretok_by_regex(bytes_of(regex))) == PRETOK_UNKNOWN)
        return refuse(r, where, "Split pattern", json_string_value(regex));
    if (!has_text(part, "behavior", inverted ? "Removed" : "Isolated")) /* the known patterns leave nothing out, so both are the same */
        return refuse(r, where, "Split behavior", json_string_value(json_object_get(part, "behavior")));
    return 0;
}

static int take_metaspace(struct reading *r, const char *where, json_t *part)
{
    const char *scheme = json_string_value(json_object_get(part, "prepend_scheme"));
    if (!scheme)
        scheme = is_on(part, "add_prefix_space", true) ? "always" : "never";
    if (!has_text(part, "replacement", SPACE_MARK))
        return refuse(r, where, "Metaspace replacement", json_string_value(json_object_get(part, "replacement")));
    if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
        return refuse(r, where, "Metaspace prepend_scheme", scheme);
    r->metaspace = r->v->prefix_once = true;
    r->v->prefix = *scheme == 'a' ? PREFIX_SEGMENT : *scheme == 'f' ? PREFIX_START : PREFIX_NONE;
    r->v->pretok = is_on(part, "split", true) ? PRETOK_SPACES : PRETOK_NONE;
    return 0;
}

static int take_pre_tokenizer(struct reading *r, const char *where, const char *type, json_t *part)
{
    if (r->byte_level || r->metaspace)
        return refuse(r, where, "a further step", type);
    if (strcmp(type, "Metaspace") == 0 && !r->digits && !r->split)
        return take_metaspace(r, where, part);
    if (strcmp(type, "Split") == 0 && !r->digits && !r->split)
        return take_split(r, where, part);
    if (strcmp(type, "Digits") == 0 && is_on(part, "individual_digits", false) && !r->split)
        r->digits = true;
    else if (strcmp(type, "ByteLevel") == 0 && !is_on(part, "add_prefix_space", true)) {
        r->byte_level = true;
        r->gpt2 = is_on(part, "use_regex", true);
    } else
        return refuse(r, where, "type (or its settings)", type);
    return 0;
}

static int take_decoder(struct reading *r, const char *where, const char *type, json_t *part)
{
    if (strcmp(type, "ByteLevel") == 0 && r->v->kind == VOCAB_BYTES)
        return 0;
    if (r->v->kind == VOCAB_CHARS && (strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0 || strcmp(type, "Metaspace") == 0 ||
                                      (strcmp(type, "Strip") == 0 && has_text(part, "content", " ")) ||
                                      (strcmp(type, "Replace") == 0 && has_text(json_object_get(part, "pattern"), "String", SPACE_MARK))))
        return 0;
    return refuse(r, where, "type (or its settings)", type);
}

/* TemplateProcessing: bos A eos, either of them missing. */
static int take_template(struct reading *r, const char *where, json_t *part)
{
    json_t *single = json_object_get(part, "single"), *ids = json_object_get(part, "special_tokens");
    bool text_seen = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        json_t *step = json_array_get(single, i), *token = json_object_get(step, "SpecialToken");
        if (json_object_get(step, "Sequence") && !text_seen) {
            text_seen = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(token, "id"));
        json_t *list = name ? json_object_get(json_object_get(ids, name), "ids") : NULL, *id = json_array_get(list, 0);
        int *add = text_seen ? &r->template.add_eos : &r->template.add_bos;
        if (json_array_size(list) != 1 || !json_is_integer(id) || *add > 0 || json_integer_value(id) < 0 || json_integer_value(id) >= r->v->n)
            return malformed(r, where, "a template of one special token, the text and one special token at most, each with one id of the vocabulary");
        *add = 1;
        *(text_seen ? &r->template.eos : &r->template.bos) = (int32_t)json_integer_value(id);
    }
    return text_seen ? 0 : malformed(r, where, "a template that contains the text");
}

static int take_post_processor(struct reading *r, const char *where, const char *type, json_t *part)
{
    if (strcmp(type, "TemplateProcessing") == 0)
        return take_template(r, where, part);
    return strcmp(type, "ByteLevel") == 0 ? 0 : refuse(r, where, "type", type); /* ByteLevel moves offsets only */
}

/* A setting of the model that must be absent, null, false, 0 or "". */
static int check_unused(struct reading *r, json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) || (json_is_string(v) && !json_string_length(v)))
        return 0;
    return fail(r->b->err, ERR_CONFIG, "%s: %s: set to something; only null is supported", r->b->name, key);
}

static int choose_pretok(struct reading *r)
{
    struct vocab *v = r->v;
    v->kind = r->byte_level ? VOCAB_BYTES : VOCAB_CHARS;
    if (r->byte_level) {
        if (r->prepend || r->replace)
            return refuse(r, "normalizer", "in front of ByteLevel, type", "Prepend or Replace");
        if ((r->split && r->gpt2) || (r->digits && !r->gpt2))
            return refuse(r, "pre_tokenizer", "combination", r->digits ? "Digits and ByteLevel without its regex" : "Split and ByteLevel with its own regex");
        v->pretok = r->digits ? PRETOK_SMOLLM : r->gpt2 ? PRETOK_GPT2 : r->split;
    } else if (r->digits || r->split || r->metaspace == r->replace || (r->metaspace && r->prepend)) {
        return fail(r->b->err, ERR_CONFIG, "%s: pre_tokenizer: expected ByteLevel, Metaspace, or none and a normalizer that turns spaces into U+2581", r->b->name);
    } else if (r->replace) {
        v->prefix = r->prepend ? PREFIX_SEGMENT : PREFIX_NONE;
    }
    return 0;
}

/* ---- tokens ---- */

static int place(struct reading *r, long long id, struct bytes text)
{
    if (id < 0 || id >= r->v->n)
        return fail(r->b->err, ERR_DATA, "%s: token \"%.64s\": id %lld; %d tokens need ids 0 to %d", r->b->name, (const char *)text.p, id, r->v->n, r->v->n - 1);
    if (r->b->text[id].p)
        return fail(r->b->err, ERR_DATA, "%s: id %lld is given to \"%.64s\" and to \"%.64s\"", r->b->name, id, (const char *)r->b->text[id].p,
                    (const char *)text.p);
    r->b->text[id] = text;
    return 0;
}

/* A plain decimal, or -1. */
static long long id_of(struct bytes raw)
{
    long long id = 0;
    size_t i = 0;
    for (; i < raw.n && i < 10 && raw.p[i] >= '0' && raw.p[i] <= '9'; i++)
        id = id * 10 + raw.p[i] - '0';
    return i == raw.n && (i == 1 || *raw.p != '0') ? id : -1;
}

/* The index of a text in model.vocab, or -1. */
static int32_t find_token(const struct reading *r, json_t *text) { return piece_map_find(&r->tables->map, json_string_value(text), json_string_length(text)); }

static int read_vocab(struct reading *r, json_t *added)
{
    const struct json_texts *token = &r->tables->token, *ids = &r->tables->id;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < token->n; i++) {
        long long id = id_of(ids->p[i]);
        if (id < 0)
            return fail(r->b->err, ERR_DATA, "%s: token \"%.64s\": id %.*s; expected a whole number from 0 up", r->b->name, (const char *)token->p[i].p,
                        (int)(ids->p[i].n < 64 ? ids->p[i].n : 64), ids->p[i].p);
        rc = place(r, id, token->p[i]);
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(added); i++) {
        json_t *a = json_array_get(added, i), *content = json_object_get(a, "content"), *number = json_object_get(a, "id");
        long long id = json_is_integer(number) ? json_integer_value(number) : -1;
        if (!json_is_string(content) || !json_string_length(content))
            return malformed(r, "added_tokens", "a content for every token");
        int32_t known = find_token(r, content);
        if (known < 0)
            rc = place(r, id, bytes_of(content));
        else if (id != id_of(ids->p[known]))
            rc = fail(r->b->err, ERR_DATA, "%s: added token \"%.64s\": has another id in the vocabulary", r->b->name, json_string_value(content));
    }
    return rc;
}

/* What a `normalized` token looks like behind the normalizer. */
static int normalize(struct reading *r, struct bytes *text)
{
    uint8_t *p = arena_alloc(&r->b->scratch, 3 * text->n + 3), *to = p;
    if (!p)
        return build_no_memory(r->b);
    for (size_t i = 0; i < text->n + r->prepend; i++) {
        bool mark = i < r->prepend || text->p[i - r->prepend] == ' ';
        memcpy(to, mark ? (const uint8_t *)SPACE_MARK : &text->p[i - r->prepend], mark ? 3 : 1);
        to += mark ? 3 : 1;
    }
    *text = (struct bytes){p, (size_t)(to - p)};
    return 0;
}

static int read_added(struct reading *r, json_t *added)
{
    static const char *const unsupported[] = {"single_word", "lstrip", "rstrip"};
    int n = (int)json_array_size(added), rc = n ? build_added(r->b, n) : 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        json_t *a = json_array_get(added, (size_t)i);
        struct added_token *t = &r->v->added[r->v->n_added++];
        struct bytes text = bytes_of(json_object_get(a, "content"));
        bool special = is_on(a, "special", false), normalized = is_on(a, "normalized", !special);
        for (size_t k = 0; k < sizeof unsupported / sizeof *unsupported; k++)
            if (is_on(a, unsupported[k], false))
                return fail(r->b->err, ERR_CONFIG, "%s: added token \"%.64s\": %s is true; that is not supported", r->b->name, (const char *)text.p,
                            unsupported[k]);
        *t = (struct added_token){(int32_t)json_integer_value(json_object_get(a, "id")), special, normalized && !r->metaspace, text};
        r->v->type[t->id] = special ? TOKEN_CONTROL : TOKEN_USER;
        if (t->normalized && r->v->kind == VOCAB_CHARS)
            rc = normalize(r, &t->text);
    }
    return rc;
}

static int read_merges(struct reading *r)
{
    const struct json_texts *part = &r->tables->part;
    size_t n = part->n / 2;
    if (n > 1u << 26 || !(r->v->merge = arena_array(&r->v->arena, n + 1, sizeof *r->v->merge)))
        return build_no_memory(r->b);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = build_merge(r->b, (int)i, part->p[2 * i], part->p[2 * i + 1]);
    r->v->n_merges = (int)n;
    return rc;
}

static int read_model(struct reading *r, json_t *added)
{
    struct vocab *v = r->v;
    json_t *m = r->model, *unk = json_object_get(m, "unk_token");
    uint8_t byte;
    int rc = read_vocab(r, added);
    if (rc < 0 || (rc = build_index(r->b)) < 0)
        return rc;
    bool byte_fallback = is_on(m, "byte_fallback", false);
    if (byte_fallback && v->kind == VOCAB_BYTES)
        return refuse(r, "model", "with ByteLevel, setting", "byte_fallback");
    for (int i = 0; byte_fallback && i < v->n; i++)
        if (byte_piece(r->b->text[i], &byte))
            v->type[i] = TOKEN_BYTE;
    v->ignore_merges = is_on(m, "ignore_merges", false);
    v->fuse_unk = is_on(m, "fuse_unk", false);
    if ((rc = read_merges(r)) < 0 || (rc = read_added(r, added)) < 0)
        return rc;
    if (json_is_string(unk)) {
        v->unk = piece_map_find(&r->b->map, json_string_value(unk), json_string_length(unk));
        if (v->unk < 0)
            return fail(r->b->err, ERR_DATA, "%s: unk_token \"%.64s\" is not in the vocabulary", r->b->name, json_string_value(unk));
        v->type[v->unk] = TOKEN_UNKNOWN;
    }
    return 0;
}

static int check_root(struct reading *r)
{
    static const char *const known[] = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"};
    static const char *const unused[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    const char *key;
    json_t *value;
    json_object_foreach(r->root, key, value) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(key, known[i]) != 0)
            i++;
        if (i == sizeof known / sizeof *known)
            return refuse(r, "tokenizer.json", "key", key);
    }
    if (!has_text(r->model, "type", "BPE"))
        return refuse(r, "model", "type", json_string_value(json_object_get(r->model, "type")));
    if (!json_is_object(json_object_get(r->model, "vocab")))
        return malformed(r, "model.vocab", "an object of ids by text");
    if (!json_is_array(json_object_get(r->model, "merges")))
        return malformed(r, "model.merges", "an array of pairs");
    int rc = 0; /* truncation and padding are passed over: they belong to a call, and transformers sets them anew in each */
    for (size_t i = 0; rc == 0 && i < sizeof unused / sizeof *unused; i++)
        rc = check_unused(r, r->model, unused[i]);
    return rc;
}

/* The tokens of the model, and the added ones that it does not have. */
static uint64_t count_tokens(const struct reading *r, json_t *added)
{
    uint64_t n = r->tables->token.n;
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *content = json_object_get(json_array_get(added, i), "content");
        n += !json_is_string(content) || find_token(r, content) < 0;
    }
    return n;
}

static int read_root(struct reading *r, const struct vocab_wish *wish)
{
    json_t *added = json_object_get(r->root, "added_tokens");
    int rc = check_root(r);
    if (rc == 0)
        rc = each(r, "normalizer", "normalizers", take_normalizer);
    if (rc == 0)
        rc = each(r, "pre_tokenizer", "pretokenizers", take_pre_tokenizer);
    if (rc == 0)
        rc = choose_pretok(r);
    if (rc == 0)
        rc = each(r, "decoder", "decoders", take_decoder);
    if (rc == 0)
        rc = each(r, "post_processor", "processors", take_post_processor);
    if (rc == 0)
        rc = read_model(r, added);
    if (rc < 0)
        return rc;
    r->v->add_bos = r->template.add_bos > 0;
    r->v->add_eos = r->template.add_eos > 0;
    r->v->bos = r->template.bos;
    r->v->eos = r->template.eos;
    return build_finish(r->b, wish);
}

int vocab_from_tokenizer_json(struct vocab *v, const char *name, struct bytes json, const struct vocab_wish *wish, struct error *err)
{
    struct build b;
    struct json_tables tables;
    struct reading r = {.b = &b, .v = v, .tables = &tables, .template = {.add_bos = -1, .add_eos = -1, .bos = -1, .eos = -1}};
    *v = (struct vocab){0};
    int rc = json_tables_open(&tables, name, json, err);
    if (rc < 0)
        return rc;
    r.root = tables.rest;
    r.model = json_object_get(r.root, "model");
    rc = build_open(&b, v, name, VOCAB_CHARS, count_tokens(&r, json_object_get(r.root, "added_tokens")), err);
    if (rc == 0)
        rc = read_root(&r, wish);
    rc = build_close(&b, rc);
    json_tables_close(&tables);
    return rc;
}
