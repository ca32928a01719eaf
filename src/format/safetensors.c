/* SPDX-License-Identifier: Apache-2.0 */
/* One safetensors file: 8 bytes of header length, a JSON header, and tensors that fill the rest without a gap. */
#include <string.h>

#include "base/checked.h"
#include "base/pull.h"
#include "format/fill.h"
#include "format/hf.h"

#define ULL(x) ((unsigned long long)(x))

enum { HEADER_MAX = 100000000, LENGTH_BYTES = 8 };

/* Types by name; type < 0: no weight can have it. */
static const struct tensor_type {
    const char *name;
    int bits, type;
} types[] = {
    {"F32", 32, DT_F32}, {"F16", 16, DT_F16},  {"BF16", 16, DT_BF16},   {"F64", 64, -1},     {"I64", 64, -1},      {"I32", 32, -1},
    {"I16", 16, -1},     {"I8", 8, -1},        {"U64", 64, -1},         {"U32", 32, -1},     {"U16", 16, -1},      {"U8", 8, -1},
    {"BOOL", 8, -1},     {"F8_E4M3", 8, -1},   {"F8_E5M2", 8, -1},      {"F8_E8M0", 8, -1},  {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1},
    {"C64", 64, -1},     {"F6_E2M3", 6, -1},   {"F6_E3M2", 6, -1},      {"F4", 4, -1},
};

static const struct stem global_stems[] = {{"model.embed_tokens", "embed"}, {"model.norm", "norm"}, {"lm_head", "head"}, {NULL, NULL}};
static const struct stem layer_stems[] = {
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "q"}, {"self_attn.k_proj", "k"}, {"self_attn.v_proj", "v"}, {"self_attn.o_proj", "o"},
    {"post_attention_layernorm", "ffn_norm"}, {"mlp.gate_proj", "gate"}, {"mlp.up_proj", "up"}, {"mlp.down_proj", "down"}, {NULL, NULL},
};
const struct naming hf_names = {"model.layers.", global_stems, layer_stems};

/* One file being read. */
struct header {
    struct checkpoint *c;
    struct pull json;
    uint64_t data; /* where tensors begin */
    int n;
    struct span *span;
    struct error *err;
};

/* One entry as written. */
struct entry {
    char *name;
    const struct tensor_type *type;
    int rank;
    uint64_t dim[RANK_MAX], begin, end;
};

static int refuse(const struct header *h, const struct entry *e, const char *field, const char *why)
{
    return fail(h->err, ERR_DATA, "%s: tensor \"%s\": field %s: %s", h->json.path, e->name, field, why);
}

static int take_type(struct header *h, struct entry *e)
{
    char *name;
    int rc = pull_string(&h->json, &name);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name)) {
            e->type = &types[i];
            return 0;
        }
    return fail(h->err, ERR_DATA, "%s: tensor \"%s\": field dtype: value \"%.32s\": no such type", h->json.path, e->name, name);
}

/* At most max numbers in brackets; returns how many, or an error. */
static int take_list(struct header *h, const struct entry *e, const char *field, uint64_t *out, int max)
{
    int n = 0, rc = pull_expect(&h->json, '['), more = 1;
    for (; !rc && (more = pull_more(&h->json, ']', n == 0)) > 0; n++) {
        if (n == max)
            return refuse(h, e, field, "too many numbers");
        rc = pull_number(&h->json, &out[n]);
    }
    return rc ? rc : more < 0 ? more : n;
}

static int take_field(struct header *h, struct entry *e, unsigned *seen)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    char *key;
    uint64_t ends[2] = {0};
    int rc = pull_string(&h->json, &key), i = 0;
    if (!rc)
        rc = pull_expect(&h->json, ':');
    if (rc)
        return rc;
    while (i < 3 && strcmp(fields[i], key))
        i++;
    if (i == 3 || *seen & 1u << i)
        return fail(h->err, ERR_DATA, "%s: tensor \"%s\": field %.32s: %s", h->json.path, e->name, key, i == 3 ? "unknown" : "there twice");
    *seen |= 1u << i;
    if (i == 0)
        return take_type(h, e);
    int n = i == 1 ? take_list(h, e, "shape", e->dim, RANK_MAX) : take_list(h, e, "data_offsets", ends, 2);
    if (n < 0)
        return n;
    if (i == 1)
        e->rank = n;
    else if (n != 2)
        return refuse(h, e, "data_offsets", "must be two numbers");
    else
        e->begin = ends[0], e->end = ends[1];
    return 0;
}

/* Shape times type must be what the offsets span. */
static int check_size(struct header *h, const struct entry *e)
{
    uint64_t bits = (uint64_t)e->type->bits;
    if (e->begin > e->end)
        return refuse(h, e, "data_offsets", "begin is above end");
    for (int i = 0; i < e->rank; i++)
        if (mul_u64(bits, e->dim[i], &bits))
            return refuse(h, e, "shape", "the product of its dimensions is too large");
    if (bits % 8)
        return refuse(h, e, "shape", "its values do not fill whole bytes");
    if (bits / 8 != e->end - e->begin)
        return fail(h->err, ERR_DATA, "%s: tensor \"%s\": field data_offsets: spans %llu bytes, shape and dtype %s need %llu", h->json.path, e->name, ULL(e->end - e->begin),
                    e->type->name, ULL(bits / 8));
    return 0;
}

bool hf_is_buffer(const char *name)
{
    static const char tail[] = ".rotary_emb.inv_freq";
    size_t n = strlen(name);
    return n >= sizeof tail - 1 && !strcmp(name + n - (sizeof tail - 1), tail);
}

static int add_tensor(struct header *h, const struct entry *e)
{
    if (h->n >= TENSORS_MAX)
        return fail(h->err, ERR_DATA, "%s: more than %d tensors", h->json.path, TENSORS_MAX);
    struct span *s = fill_grow(&h->c->arena, h->span, h->n, sizeof *s);
    if (!s)
        return fill_memory(h->err);
    h->span = s;
    s[h->n++] = (struct span){h->data + e->begin, h->data + e->end, e->name};
    if (hf_is_buffer(e->name))
        return 0;
    if (e->type->type < 0)
        return fail(h->err, ERR_DATA, "%s: tensor \"%s\": dtype %s cannot hold a weight here: F32, F16 and BF16 can", h->json.path, e->name, e->type->name);
    if (e->rank > 2)
        return refuse(h, e, "shape", "weights of this family are vectors or matrices");
    struct view v = {.name = fill_name(h->c, &hf_names, e->name), .file_name = e->name, .shard = h->c->n_shards - 1, .offset = h->data + e->begin, .bytes = e->end - e->begin,
                     .type = (enum dtype)e->type->type, .rank = e->rank == 2 ? 2 : 1,
                     .dim = {e->rank ? e->dim[0] : 1, e->rank == 2 ? e->dim[1] : 1}};
    return v.name ? fill_view(h->c, &v, h->err) : fill_memory(h->err);
}

static int take_tensor(struct header *h, struct entry *e)
{
    unsigned seen = 0;
    int rc = pull_expect(&h->json, '{'), more = 1;
    for (bool first = true; !rc && (more = pull_more(&h->json, '}', first)) > 0; first = false)
        rc = take_field(h, e, &seen);
    if (rc || more < 0)
        return rc ? rc : more;
    if (seen != 7)
        return refuse(h, e, "dtype, shape or data_offsets", "missing");
    rc = check_size(h, e);
    return rc ? rc : add_tensor(h, e);
}

static int skip_metadata(struct header *h)
{
    char *text;
    int rc = pull_expect(&h->json, '{'), more = 1;
    for (bool first = true; !rc && (more = pull_more(&h->json, '}', first)) > 0; first = false) {
        rc = pull_string(&h->json, &text);
        if (!rc)
            rc = pull_expect(&h->json, ':');
        if (!rc)
            rc = pull_string(&h->json, &text);
    }
    return rc ? rc : more;
}

static int take_header(struct header *h)
{
    bool metadata = false;
    int rc = pull_expect(&h->json, '{'), more = 1;
    for (bool first = true; !rc && (more = pull_more(&h->json, '}', first)) > 0; first = false) {
        struct entry e = {0};
        rc = pull_string(&h->json, &e.name);
        if (!rc)
            rc = pull_expect(&h->json, ':');
        if (rc)
            break;
        if (strcmp(e.name, "__metadata__")) {
            rc = take_tensor(h, &e);
        } else {
            rc = metadata ? pull_refuse(&h->json, "__metadata__ is there twice") : skip_metadata(h);
            metadata = true;
        }
    }
    return rc ? rc : more < 0 ? more : pull_end(&h->json);
}

static int load_header(struct header *h, const struct file *f)
{
    uint8_t length[LENGTH_BYTES];
    uint64_t n = 0;
    size_t bad;
    struct pull *j = &h->json;
    if (f->size < LENGTH_BYTES)
        return fail(h->err, ERR_DATA, "%s: %llu bytes are too few for a safetensors file", f->path, ULL(f->size));
    int rc = file_read_at(f, 0, length, sizeof length, h->err);
    if (rc)
        return rc;
    struct reader r = {length, sizeof length, 0};
    read_u64(&r, &n);
    if (n == 0 || n > HEADER_MAX || n > f->size - LENGTH_BYTES)
        return fail(h->err, ERR_DATA, "%s: offset 0x0: header length %llu in a file of %llu bytes: must be 1 to %d and fit (cut off or damaged: get it again)", f->path, ULL(n),
                    ULL(f->size), HEADER_MAX);
    *j = (struct pull){.text = arena_alloc(&h->c->arena, (size_t)n), .n = (size_t)n, .path = f->path, .origin = LENGTH_BYTES, .err = h->err};
    if (!j->text)
        return fill_memory(h->err);
    h->data = LENGTH_BYTES + n;
    rc = file_read_at(f, LENGTH_BYTES, j->text, (size_t)n, h->err);
    if (!rc && !utf8_valid((struct bytes){(uint8_t *)j->text, (size_t)n}, &bad)) {
        j->at = bad;
        return pull_refuse(j, "not UTF-8");
    }
    return rc;
}

int safetensors_add(struct checkpoint *c, const char *path, struct error *err)
{
    int rc = fill_open(c, path, err);
    if (rc)
        return rc;
    const struct file *f = &c->shard[c->n_shards - 1];
    struct header h = {.c = c, .err = err};
    rc = load_header(&h, f);
    if (!rc)
        rc = take_header(&h);
    return rc ? rc : fill_check_spans(h.span, h.n, h.data, f->size, true, f->path, err);
}

/* A header length, then white space and a brace. */
static bool probe_safetensors(const char *path, struct bytes head)
{
    (void)path;
    size_t at = LENGTH_BYTES;
    while (head.p && at < head.n && memchr(" \t\r\n", head.p[at], 4))
        at++;
    return head.p && at < head.n && head.p[at] == '{';
}

static int open_safetensors(struct checkpoint *c, const char *path, struct error *err)
{
    int rc = fill_shards(c, 1, err);
    if (!rc)
        rc = safetensors_add(c, path, err);
    if (!rc)
        rc = hf_read_configs(c, err);
    return rc ? rc : fill_seal(c, err);
}

const struct format format_safetensors = {"safetensors", probe_safetensors, open_safetensors};
