/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.model: SentencePiece's protocol buffer. Everything in it that changes ids is honoured or refused by name. */
#include <string.h>

#include <jansson.h>

#include "text/vocab_build.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct field {
    uint32_t number;
    enum wire wire;
    uint64_t value;     /* VARINT, 64, 32 */
    struct bytes bytes; /* BYTES */
};

struct reading {
    struct build *b;
    struct vocab *v;
    const uint8_t *file; /* for offsets */
    int next, n_pieces;  /* the token that comes next; those of the file itself */
    float *score;        /* [n] */
    struct bytes bos_piece, eos_piece;
    bool bpe, suffix;
};

static bool read_varint(struct reader *r, uint64_t *out)
{
    uint8_t byte = 0x80;
    *out = 0;
    for (int shift = 0; byte & 0x80; shift += 7) {
        if (shift > 63 || !read_u8(r, &byte))
            return false;
        *out |= (uint64_t)(byte & 0x7f) << shift;
    }
    return true;
}

/* The next field of a message: 1, 0 at its end, or below zero. */
static int next_field(struct reading *m, struct reader *r, const char *where, struct field *f)
{
    uint64_t key, n;
    uint32_t four;
    size_t at = r->at;
    bool ok;
    if (!reader_left(r))
        return 0;
    *f = (struct field){0};
    ok = read_varint(r, &key) && key >> 3 && key >> 3 < 1u << 29;
    if (ok) {
        f->number = (uint32_t)(key >> 3);
        f->wire = (enum wire)(key & 7);
        switch (f->wire) {
        case WIRE_VARINT:
            ok = read_varint(r, &f->value);
            break;
        case WIRE_64:
            ok = read_u64(r, &f->value);
            break;
        case WIRE_32:
            ok = read_u32(r, &four);
            f->value = ok ? four : 0;
            break;
        case WIRE_BYTES:
            ok = read_varint(r, &n) && read_bytes(r, n, &f->bytes);
            break;
        default:
            ok = false;
        }
    }
    if (ok)
        return 1;
    return fail(m->b->err, ERR_DATA, "%s: offset 0x%zx: %s: broken field; the file is truncated or no SentencePiece model", m->b->name,
                (size_t)(r->p - m->file) + at, where);
}

static struct reader inside(struct bytes b) { return (struct reader){b.p, b.n, 0}; }

static int refuse(struct reading *m, const char *what, const char *value)
{
    return fail(m->b->err, ERR_CONFIG, "%s: %s %s is not supported", m->b->name, what, value);
}

static int read_piece(struct reading *m, struct bytes message)
{
    struct reader r = inside(message);
    struct field f;
    int i = m->next++, rc;
    uint64_t type = TOKEN_NORMAL;
    while ((rc = next_field(m, &r, "piece", &f)) > 0) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == WIRE_BYTES)
            m->b->text[i] = f.bytes;
        else if (f.number == 2 && f.wire == WIRE_32)
            memcpy(&m->score[i], &bits, 4);
        else if (f.number == 3 && f.wire == WIRE_VARINT)
            type = f.value;
    }
    if (rc == 0 && (type < TOKEN_NORMAL || type > TOKEN_BYTE || type == TOKEN_UNUSED))
        return fail(m->b->err, ERR_CONFIG, "%s: token %d: piece type %llu is not supported", m->b->name, i, (unsigned long long)type);
    m->v->type[i] = (uint8_t)type;
    if (rc == 0 && type == TOKEN_UNKNOWN)
        m->v->unk = i;
    return rc;
}

static int read_trainer(struct reading *m, struct bytes message)
{
    struct reader r = inside(message);
    struct field f;
    int rc;
    while ((rc = next_field(m, &r, "trainer_spec", &f)) > 0)
        switch (f.number) {
        case 3:
            m->bpe = f.value == 2;
            break;
        case 24:
            m->suffix = f.value;
            break;
        case 46:
            m->bos_piece = f.bytes;
            break;
        case 47:
            m->eos_piece = f.bytes;
            break;
        }
    return rc;
}

static int read_normalizer(struct reading *m, struct bytes message)
{
    struct reader r = inside(message);
    struct field f;
    struct bytes name = {0};
    bool mapped = false, trims = true, escapes = true;
    int rc;
    while ((rc = next_field(m, &r, "normalizer_spec", &f)) > 0)
        switch (f.number) {
        case 1:
            name = f.bytes;
            break;
        case 2:
            mapped = f.bytes.n > 0;
            break;
        case 3:
            m->v->prefix = f.value ? PREFIX_START : PREFIX_NONE;
            break;
        case 4:
            trims = f.value;
            break;
        case 5:
            escapes = f.value;
            break;
        }
    if (rc == 0 && mapped)
        return fail(m->b->err, ERR_CONFIG, "%s: normalizer_spec: normalisation \"%.*s\" is not supported; only identity is", m->b->name,
                    (int)(name.n < 64 ? name.n : 64), name.n ? (const char *)name.p : "");
    if (rc == 0 && trims)
        return refuse(m, "normalizer_spec: remove_extra_whitespaces", "true");
    return rc == 0 && !escapes ? refuse(m, "normalizer_spec: escape_whitespaces", "false") : rc;
}

static int read_denormalizer(struct reading *m, struct bytes message)
{
    struct reader r = inside(message);
    struct field f;
    int rc;
    while ((rc = next_field(m, &r, "denormalizer_spec", &f)) > 0)
        if (f.number == 2 && f.bytes.n)
            return refuse(m, "denormalizer_spec:", "precompiled_charsmap");
    return rc;
}

static int read_model(struct reading *m, struct bytes proto)
{
    int (*const parts[])(struct reading *, struct bytes) = {NULL, read_piece, read_trainer, read_normalizer, NULL, read_denormalizer};
    struct reader r = inside(proto);
    struct field f;
    int rc;
    bool normalizer = false;
    while ((rc = next_field(m, &r, "model", &f)) > 0) {
        if (f.wire != WIRE_BYTES || f.number >= sizeof parts / sizeof *parts || !parts[f.number])
            continue;
        normalizer |= f.number == 3;
        if ((rc = parts[f.number](m, f.bytes)) < 0)
            return rc;
    }
    if (rc == 0 && !m->bpe)
        return refuse(m, "trainer_spec: a model_type other than", "BPE");
    if (rc == 0 && m->suffix)
        return refuse(m, "trainer_spec: treat_whitespace_as_suffix", "true");
    return rc == 0 && !normalizer ? refuse(m, "normalizer_spec: its default, remove_extra_whitespaces", "true,") : rc;
}

/* ---- added_tokens.json, which holds what transformers added to the file's own tokens ---- */

/* The ids that the file itself does not have. */
static uint64_t count_added(const json_t *added, uint64_t n_pieces)
{
    uint64_t n = 0;
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)added, text, id)
        n += json_is_integer(id) && json_integer_value(id) >= (json_int_t)n_pieces;
    return n;
}

static int take_added(struct reading *m, const json_t *added)
{
    const char *text;
    json_t *value;
    json_object_foreach((json_t *)added, text, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= m->v->n)
            return fail(m->b->err, ERR_DATA, "%s: added_tokens.json: \"%.64s\": id %lld; the vocabulary then has ids 0 to %d, each once", m->b->name, text, (long long)id,
                        m->v->n - 1);
        if (m->b->text[id].p && !bytes_equal(m->b->text[id], text))
            return fail(m->b->err, ERR_DATA, "%s: added_tokens.json: \"%.64s\": id %lld is \"%.*s\"", m->b->name, text, (long long)id,
                        (int)(m->b->text[id].n < 64 ? m->b->text[id].n : 64), (const char *)m->b->text[id].p);
        m->b->text[id] = (struct bytes){(const uint8_t *)text, strlen(text)};
        m->v->type[id] = m->v->type[id] == TOKEN_NORMAL ? TOKEN_USER : m->v->type[id];
    }
    return 0;
}

/* A name in special_tokens_map.json: a string, or an object that holds it. */
static void mark_special(struct reading *m, const json_t *added, const json_t *name)
{
    const char *text = json_string_value(json_is_object(name) ? json_object_get(name, "content") : name);
    const json_t *id = text ? json_object_get(added, text) : NULL;
    if (id && m->v->type[json_integer_value(id)] == TOKEN_USER)
        m->v->type[json_integer_value(id)] = TOKEN_CONTROL;
}

static void mark_specials(struct reading *m, const json_t *added, const json_t *special)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)special, key, value) {
        mark_special(m, added, value);
        for (size_t i = 0; i < json_array_size(value); i++)
            mark_special(m, added, json_array_get(value, i));
    }
}

static int32_t find_control(struct reading *m, struct bytes piece)
{
    int32_t id = piece_map_find(&m->b->map, piece.p, piece.n);
    return id >= 0 && m->v->type[id] == TOKEN_CONTROL ? id : -1;
}

static int finish(struct reading *m, const struct vocab_wish *wish)
{
    struct vocab *v = m->v;
    int rc = wish ? take_added(m, wish->added_tokens) : 0;
    if (rc < 0)
        return rc;
    if (wish)
        mark_specials(m, wish->added_tokens, wish->special_tokens);
    if ((rc = build_index(m->b)) < 0 || (rc = build_scores(m->b, m->score)) < 0 || (rc = build_added_by_type(m->b)) < 0)
        return rc;
    for (int i = 0; i < v->n_added; i++)
        v->added[i].normalized &= v->added[i].id < m->n_pieces; /* transformers looks for its own ones in the text as it stands */
    v->bos = find_control(m, m->bos_piece);
    v->eos = find_control(m, m->eos_piece);
    v->add_bos = v->bos >= 0;
    v->fuse_unk = true;
    return build_finish(m->b, wish);
}

int vocab_from_tokenizer_model(struct vocab *v, const char *name, struct bytes proto, const struct vocab_wish *wish, struct error *err)
{
    struct build b = {.v = v, .name = name, .err = err};
    struct reading m = {.b = &b, .v = v, .file = proto.p, .bos_piece = {(const uint8_t *)"<s>", 3}, .eos_piece = {(const uint8_t *)"</s>", 4}};
    struct reader r = inside(proto);
    struct field f;
    uint64_t n = 0;
    int rc;
    *v = (struct vocab){0};
    while ((rc = next_field(&m, &r, "model", &f)) > 0)
        n += f.number == 1 && f.wire == WIRE_BYTES;
    if (rc < 0)
        return rc;
    uint64_t n_all = n + (wish ? count_added(wish->added_tokens, n) : 0);
    rc = build_open(&b, v, name, VOCAB_CHARS, n_all, err);
    v->prefix = PREFIX_START;
    m.n_pieces = rc ? 0 : (int)n;
    if (rc == 0 && !(m.score = arena_array(&b.scratch, n_all, sizeof *m.score)))
        rc = build_no_memory(&b);
    if (rc == 0 && (rc = read_model(&m, proto)) == 0)
        rc = finish(&m, wish);
    return build_close(&b, rc);
}
