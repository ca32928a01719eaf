/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "text/added.h"
#include "text/piece_map.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */

enum { JOINT_BITS = 20 };

struct tokenizer {
    const struct vocab *v;
    struct merge_table merges;
    struct piece_map symbols; /* what merging may meet: normal tokens and loose characters */
    struct bytes *shown;      /* [n] what tokenizer_piece gives */
    size_t longest;
    struct added_set added[2]; /* looked for before normalising, and behind it */
    uint64_t *joint;          /* VOCAB_CHARS: bit set of hashed neighbours; where the bit is clear no token has these two side by side */
    struct arena arena;
};

static uint32_t joint_bit(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> (64 - JOINT_BITS));
}

static bool may_join(const struct tokenizer *t, int32_t left, int32_t right)
{
    uint32_t bit = joint_bit(left, right);
    return t->joint[bit / 64] >> bit % 64 & 1;
}

/* A merge can only span a place where two characters stand side by side in its result: everywhere else a text can be cut beforehand. */
static bool mark_joints(struct tokenizer *t)
{
    const struct vocab *v = t->v;
    t->joint = arena_alloc(&t->arena, (1u << JOINT_BITS) / 8);
    for (int i = 0; t->joint && i < v->n_merges; i++) {
        if (i && v->merge[i].id == v->merge[i - 1].id) /* all ways to cut one token lie side by side */
            continue;
        struct bytes p = v->piece[v->merge[i].id];
        int32_t left = -1;
        uint32_t c;
        for (size_t at = 0, len; at < p.n; at += len) {
            len = (size_t)utf8_next(p.p + at, p.n - at, &c);
            int32_t right = piece_map_find(&t->symbols, p.p + at, len);
            uint32_t bit = joint_bit(left, right);
            t->joint[bit / 64] |= (uint64_t)(at > 0) << bit % 64;
            left = right;
        }
    }
    return t->joint != NULL;
}

static int no_memory(const struct tokenizer *t, struct error *err)
{
    return fail(err, ERR_OS, "%s: out of memory for %d tokens and %d merges", t->v->name, t->v->n, t->v->n_merges);
}

static int index_symbols(struct tokenizer *t, struct error *err)
{
    const struct vocab *v = t->v;
    if (!piece_map_init(&t->symbols, &t->arena, v->piece, v->n_symbols))
        return no_memory(t, err);
    for (int i = 0; i < v->n_symbols; i++)
        if ((i >= v->n || v->type[i] == TOKEN_NORMAL) && piece_map_add(&t->symbols, i) < 0)
            return fail(err, ERR_DATA, "%s: token %d: %s", v->name, i, PIECE_MAP_CROWDED);
    return 0;
}

static bool index_added(struct tokenizer *t)
{
    const struct vocab *v = t->v;
    int raw = 0;
    if (v->n_added == 0)
        return true; /* and added is NULL: there is nothing to point into */
    while (raw < v->n_added && !v->added[raw].normalized)
        raw++;
    return added_set_init(&t->added[0], &t->arena, v->added, raw) && added_set_init(&t->added[1], &t->arena, v->added + raw, v->n_added - raw);
}

static bool show_pieces(struct tokenizer *t)
{
    const struct vocab *v = t->v;
    size_t total = 1;
    for (int i = 0; i < v->n; i++)
        total += v->piece[i].n;
    t->shown = arena_array(&t->arena, (uint64_t)v->n, sizeof *t->shown);
    uint8_t *at = arena_alloc(&t->arena, total);
    if (!t->shown || !at)
        return false;
    for (int i = 0; i < v->n; i++) {
        struct bytes p = v->piece[i];
        bool byte = v->kind == VOCAB_CHARS && v->type[i] == TOKEN_BYTE;
        t->shown[i].p = at;
        for (size_t k = 0; !byte && k < p.n; k++) {
            bool mark = v->kind == VOCAB_CHARS && p.n - k >= 3 && memcmp(p.p + k, SPACE_MARK, 3) == 0;
            *at++ = mark ? ' ' : p.p[k];
            k += mark ? 2 : 0;
        }
        t->shown[i].n = (size_t)(at - t->shown[i].p);
        t->longest = t->shown[i].n > t->longest ? t->shown[i].n : t->longest;
    }
    for (int b = 0; v->kind == VOCAB_CHARS && b < 256; b++)
        if (v->byte_token[b] >= 0) {
            uint8_t *p = arena_alloc(&t->arena, 1);
            if (!p)
                return false;
            *p = (uint8_t)b;
            t->shown[v->byte_token[b]] = (struct bytes){p, 1};
        }
    return true;
}

static int build(struct tokenizer *t, struct error *err)
{
    const struct vocab *v = t->v;
    int rc = merge_table_init(&t->merges, &t->arena, v->merge, v->n_merges, v->name, err);
    if (rc < 0 || (rc = index_symbols(t, err)) < 0)
        return rc;
    return show_pieces(t) && index_added(t) && (v->kind != VOCAB_CHARS || mark_joints(t)) ? 0 : no_memory(t, err);
}

struct tokenizer *tokenizer_open(const struct vocab *v, struct error *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        fail(err, ERR_OS, "tokenizer: out of memory");
        return NULL;
    }
    t->v = v;
    if (build(t, err) < 0) {
        tokenizer_close(t);
        return NULL;
    }
    return t;
}

void tokenizer_close(struct tokenizer *t)
{
    if (t)
        arena_free(&t->arena);
    free(t);
}

struct bytes tokenizer_piece(const struct tokenizer *t, int32_t id) { return id < 0 || id >= t->v->n ? (struct bytes){0} : t->shown[id]; }

bool tokenizer_hidden(const struct tokenizer *t, int32_t id)
{
    return id < 0 || id >= t->v->n || t->v->type[id] == TOKEN_CONTROL || t->v->type[id] == TOKEN_UNKNOWN;
}

const struct vocab *tokenizer_vocab(const struct tokenizer *t) { return t->v; }

size_t tokenizer_longest(const struct tokenizer *t) { return t->longest; }

/* ---- encoding ---- */

struct encoding {
    const struct tokenizer *t;
    unsigned flags;
    int32_t *out;
    int cap;
    size_t n;         /* tokens so far, also those beyond cap */
    int32_t last;     /* the last of them; -1: none, or one that an unk must not join */
    bool own_bos;     /* the last token is the bos that we put there: the text's own is the same one */
    struct merge_work work;
    uint32_t pending; /* symbols in work.id that are not merged yet */
    uint8_t *norm;    /* the segment at hand with spaces as U+2581 */
    size_t norm_cap;
    const uint8_t *base, *user; /* the text that is being split, and the marks of its bytes or NULL */
    uint8_t *norm_user;         /* the marks of norm, [norm_cap]; NULL where there are none */
    struct error *err;
};

static void emit(struct encoding *e, int32_t id)
{
    bool doubled = e->own_bos && id == e->t->v->bos;
    e->own_bos = false;
    if (doubled)
        return;
    if (e->n < (size_t)e->cap)
        e->out[e->n] = id;
    e->n++;
    e->last = id;
}

/* A character (or byte) that no token has: the tokens of its bytes, or unk. */
static void emit_unknown(struct encoding *e, const uint8_t *p, size_t n)
{
    const struct vocab *v = e->t->v;
    if (v->kind == VOCAB_CHARS && v->byte_token[0] >= 0)
        for (size_t i = 0; i < n; i++)
            emit(e, v->byte_token[p[i]]);
    else if (v->unk >= 0 && !(v->fuse_unk && e->last == v->unk))
        emit(e, v->unk);
}

static void flush(struct encoding *e)
{
    uint32_t n = e->pending > 1 ? merge_run(&e->t->merges, &e->work, e->pending) : e->pending;
    for (uint32_t i = 0; i < n; i++)
        if (e->work.id[i] < e->t->v->n)
            emit(e, e->work.id[i]);
        else
            emit_unknown(e, e->t->v->piece[e->work.id[i]].p, e->t->v->piece[e->work.id[i]].n);
    e->pending = 0;
}

/* With neither byte tokens nor unk the character is left out and its neighbours may merge, as in the reference. */
static void add_unknown(struct encoding *e, const uint8_t *p, size_t n)
{
    const struct vocab *v = e->t->v;
    if (v->unk < 0 && (v->kind == VOCAB_BYTES || v->byte_token[0] < 0))
        return;
    flush(e);
    emit_unknown(e, p, n);
}

static void add_bytes(struct encoding *e, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t id = e->t->v->byte_token[p[i]];
        if (id >= 0)
            e->work.id[e->pending++] = id;
        else
            add_unknown(e, p + i, 1);
    }
}

static void add_chars(struct encoding *e, const uint8_t *p, size_t n)
{
    uint32_t c;
    for (size_t at = 0, len; at < n; at += len) {
        len = (size_t)utf8_next(p + at, n - at, &c);
        int32_t symbol = piece_map_find(&e->t->symbols, p + at, len);
        if (symbol < 0) {
            add_unknown(e, p + at, len);
            continue;
        }
        if (e->pending && !may_join(e->t, e->work.id[e->pending - 1], symbol))
            flush(e);
        e->work.id[e->pending++] = symbol;
    }
}

/* A stretch without added tokens, normalised. */
static int encode_segment(struct encoding *e, const uint8_t *p, size_t n)
{
    const struct vocab *v = e->t->v;
    for (size_t at = 0, len; at < n; at += len) {
        len = pretok_word(v->pretok, p + at, n - at);
        int32_t id = v->ignore_merges ? piece_map_find(&e->t->symbols, p + at, len) : -1;
        e->last = -1;
        if (id >= 0) {
            emit(e, id);
            continue;
        }
        int rc = merge_work_grow(&e->work, len, e->err);
        if (rc < 0)
            return rc;
        (v->kind == VOCAB_BYTES ? add_bytes : add_chars)(e, p + at, len);
        flush(e);
    }
    return 0;
}

/* The added token to take at p (n bytes are left), or NULL and how far to go on. A special one must lie in the template's own text, and what a user writes
   behind it cannot make it a longer one. */
static const struct added_token *find_added(const struct encoding *e, const struct added_set *added, const uint8_t *p, size_t n, size_t *skip)
{
    const struct added_token *a = added->starts[*p] ? added_set_match(added, p, n) : NULL;
    const uint8_t *mark = e->user ? e->user + (p - e->base) : NULL;
    if (a && a->special && mark) {
        size_t run = 1;
        while (run < a->text.n && mark[run] == *mark)
            run++;
        if (*mark) {
            *skip = run;
            return NULL;
        }
        if (run < a->text.n)
            a = added_set_match(added, p, run);
    }
    *skip = a ? a->text.n : 1;
    return a && (!a->special || e->flags & ENCODE_SPECIAL) ? a : NULL;
}

/* Cuts p[0 .. n) at the added tokens of one group and gives the stretches between them to `rest`. */
static int split(struct encoding *e, const uint8_t *p, size_t n, bool normalized, int (*rest)(struct encoding *, const uint8_t *, size_t, bool))
{
    const struct added_set *added = &e->t->added[normalized];
    size_t from = 0;
    int rc = 0;
    for (size_t at = 0, skip; rc == 0 && added->n && at < n; at += skip) {
        const struct added_token *a = find_added(e, added, p + at, n - at, &skip);
        if (a) {
            rc = at > from ? rest(e, p + from, at - from, from == 0) : 0;
            emit(e, a->id);
            from = at + skip;
        }
    }
    return rc < 0 || from == n ? rc : rest(e, p + from, n - from, from == 0);
}

static int after_normalized(struct encoding *e, const uint8_t *p, size_t n, bool first)
{
    (void)first;
    return encode_segment(e, p, n);
}

static int grow_norm(struct encoding *e, size_t n)
{
    size_t cap = 3 * (n + 1), twice = e->user ? 2 : 1;
    if (e->norm_cap >= cap)
        return 0;
    free(e->norm);
    e->norm_cap = cap;
    e->norm = malloc(twice * cap);
    e->norm_user = e->user ? e->norm + cap : NULL;
    return e->norm ? 0 : fail(e->err, ERR_OS, "text: out of memory for %zu bytes", twice * cap);
}

/* Writes at norm[to] and returns where it goes on. marks: of the n bytes, or NULL: the template's own. */
static size_t put_norm(struct encoding *e, size_t to, const void *p, size_t n, const uint8_t *marks)
{
    memcpy(e->norm + to, p, n);
    if (e->norm_user && marks)
        memcpy(e->norm_user + to, marks, n);
    else if (e->norm_user)
        memset(e->norm_user + to, 0, n);
    return to + n;
}

/* Spaces become U+2581, with one more in front where the vocabulary wants it. */
static int normalise(struct encoding *e, const uint8_t *p, size_t n, bool first)
{
    const struct vocab *v = e->t->v;
    static const uint8_t ones[] = {1, 1, 1};
    const uint8_t *base = e->base, *user = e->user, *marks = user ? user + (p - base) : NULL, *space;
    if (v->kind == VOCAB_BYTES)
        return split(e, p, n, true, after_normalized);
    if (grow_norm(e, n))
        return e->err->code;
    bool spaced = v->prefix_once && (p[0] == ' ' || (n >= 3 && memcmp(p, SPACE_MARK, 3) == 0));
    size_t to = 0;
    if (!spaced && (v->prefix == PREFIX_SEGMENT || (v->prefix == PREFIX_START && first)))
        to = put_norm(e, to, SPACE_MARK, 3, NULL);
    for (size_t at = 0, end; at < n; at = end + (space != NULL)) {
        space = memchr(p + at, ' ', n - at);
        end = space ? (size_t)(space - p) : n;
        to = put_norm(e, to, p + at, end - at, marks ? marks + at : NULL);
        if (space)
            to = put_norm(e, to, SPACE_MARK, 3, marks && marks[end] ? ones : NULL);
    }
    e->base = e->norm;
    e->user = e->norm_user;
    int rc = split(e, e->norm, to, true, after_normalized);
    e->base = base;
    e->user = user;
    return rc;
}

static int replace_invalid(const uint8_t *p, size_t n, uint8_t **out, size_t *n_out, struct error *err)
{
    uint8_t *to = *out = malloc(3 * n);
    if (!to)
        return fail(err, ERR_OS, "text: out of memory for %zu bytes", 3 * n);
    for (size_t at = 0; at < n;) {
        uint32_t c;
        int len = utf8_next(p + at, n - at, &c);
        if (len > 0) {
            memcpy(to, p + at, (size_t)len);
            to += len;
            at += (size_t)len;
        } else {
            memcpy(to, UTF8_REPLACEMENT, 3);
            to += 3;
            at = len ? at + (size_t)-len : n;
        }
    }
    *n_out = (size_t)(to - *out);
    return 0;
}

static int encode_valid(struct encoding *e, const uint8_t *p, size_t n)
{
    const struct vocab *v = e->t->v;
    if (e->flags & ENCODE_BOS && v->add_bos) {
        emit(e, v->bos);
        e->own_bos = true;
    }
    int rc = n ? split(e, p, n, false, normalise) : 0;
    if (rc == 0 && e->flags & ENCODE_BOS && v->add_eos)
        emit(e, v->eos);
    if (rc == 0 && e->n > INT_MAX)
        rc = fail(e->err, ERR_USAGE, "text: more than %d tokens; encode it in parts", INT_MAX);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags, int32_t *out, int cap, struct error *err)
{
    return tokenizer_encode_marked(t, text, n, NULL, flags, out, cap, err);
}

int tokenizer_encode_marked(const struct tokenizer *t, const char *text, size_t n, const uint8_t *user, unsigned flags, int32_t *out, int cap, struct error *err)
{
    struct encoding e = {.t = t, .flags = flags, .out = out, .cap = cap < 0 ? 0 : cap, .last = -1, .user = user, .err = err};
    struct bytes in = {(const uint8_t *)text, n};
    uint8_t *fixed = NULL;
    size_t bad;
    if (n > 1u << 28)
        return fail(err, ERR_USAGE, "text: %zu bytes; encode it in parts of at most 256 MiB", n);
    if (!utf8_valid(in, &bad)) {
        if (!(flags & ENCODE_REPLACE))
            return fail(err, ERR_DATA, "text: byte 0x%02x at offset %zu is not UTF-8: give valid UTF-8", in.p[bad], bad);
        int rc = replace_invalid(in.p, n, &fixed, &in.n, err);
        if (rc < 0)
            return rc;
        in.p = fixed;
        e.user = NULL;
    }
    e.base = in.p;
    int rc = encode_valid(&e, in.p, in.n);
    merge_work_free(&e.work);
    free(e.norm);
    free(fixed);
    return rc < 0 ? rc : (int)e.n;
}
