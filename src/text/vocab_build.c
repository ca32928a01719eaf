/* SPDX-License-Identifier: Apache-2.0 */
#include "text/vocab_build.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int build_no_memory(struct build *b) { return fail(b->err, ERR_OS, "%s: out of memory for %d tokens", b->name, b->v->n); }

int build_open(struct build *b, struct vocab *v, const char *name, enum vocab_kind kind, uint64_t n, struct error *err)
{
    *v = (struct vocab){.kind = kind, .bos = -1, .eos = -1, .unk = -1};
    *b = (struct build){.v = v, .name = name, .err = err};
    if (n < 1 || n > VOCAB_MAX)
        return fail(err, ERR_DATA, "%s: vocabulary of %llu tokens; 1 to %d are supported", name, (unsigned long long)n, VOCAB_MAX);
    v->n = v->n_symbols = (int)n;
    v->name = arena_text(&v->arena, name, strlen(name));
    b->text = arena_array(&b->scratch, n, sizeof *b->text);
    v->type = arena_array(&v->arena, n, 1);
    if (!v->name || !b->text || !v->type)
        return build_no_memory(b);
    memset(v->type, TOKEN_NORMAL, n);
    return 0;
}

int build_close(struct build *b, int rc)
{
    arena_free(&b->scratch);
    if (rc < 0)
        vocab_close(b->v);
    return rc;
}

void vocab_close(struct vocab *v)
{
    arena_free(&v->arena);
    *v = (struct vocab){0};
}

static int crowded(struct build *b, int i) { return fail(b->err, ERR_DATA, "%s: token %d: %s", b->name, i, PIECE_MAP_CROWDED); }

int build_index(struct build *b)
{
    if (!piece_map_init(&b->map, &b->scratch, b->text, b->v->n))
        return build_no_memory(b);
    for (int i = 0; i < b->v->n; i++) {
        struct bytes t = b->text[i];
        size_t bad;
        if (!t.p || !t.n)
            return fail(b->err, ERR_DATA, "%s: token %d: %s; the vocabulary has %d tokens and needs a text for each", b->name, i,
                        t.p ? "empty text" : "missing", b->v->n);
        if (!utf8_valid(t, &bad))
            return fail(b->err, ERR_DATA, "%s: token %d: byte %zu of its text is not UTF-8", b->name, i, bad);
        int32_t other = piece_map_add(&b->map, i);
        if (other < 0)
            return crowded(b, i);
        if (other != i)
            return fail(b->err, ERR_DATA, "%s: tokens %d and %d: same text \"%.*s\"", b->name, other, i, (int)(t.n < 64 ? t.n : 64), t.p);
        b->longest = t.n > b->longest ? t.n : b->longest;
    }
    b->joined = arena_alloc(&b->scratch, b->longest);
    return b->joined ? 0 : build_no_memory(b);
}

int build_merge(struct build *b, int i, struct bytes left, struct bytes right)
{
    struct merge m = {piece_map_find(&b->map, left.p, left.n), piece_map_find(&b->map, right.p, right.n), -1, (uint32_t)i};
    if (m.left >= 0 && m.right >= 0 && left.n + right.n <= b->longest) {
        memcpy(b->joined, left.p, left.n);
        memcpy(b->joined + left.n, right.p, right.n);
        m.id = piece_map_find(&b->map, b->joined, left.n + right.n);
    }
    if (m.id < 0)
        return fail(b->err, ERR_DATA, "%s: merge %d: \"%.*s\" + \"%.*s\": %s not in the vocabulary", b->name, i, (int)(left.n < 64 ? left.n : 64), left.p,
                    (int)(right.n < 64 ? right.n : 64), right.p, m.left < 0 ? "the left part is" : m.right < 0 ? "the right part is" : "together they are");
    b->v->merge[i] = m;
    return 0;
}

struct scored { float score; int32_t id; };

static int by_score(const void *a, const void *b) /* best first */
{
    const struct scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->id > y->id) - (x->id < y->id);
}

/* rank[id]: 0 for the best score, equal for equal scores. */
static int rank_scores(struct build *b, const float *score, uint32_t **out)
{
    int n = b->v->n;
    struct scored *s = arena_array(&b->scratch, (uint64_t)n, sizeof *s);
    uint32_t *rank = *out = arena_array(&b->scratch, (uint64_t)n, sizeof *rank), r = 0;
    if (!s || !rank)
        return build_no_memory(b);
    for (int i = 0; i < n; i++) {
        if (isnan(score[i]))
            return fail(b->err, ERR_DATA, "%s: token %d: score is not a number", b->name, i);
        s[i] = (struct scored){score[i], i};
    }
    qsort(s, (size_t)n, sizeof *s, by_score);
    for (int i = 0; i < n; i++) {
        r += i && s[i].score != s[i - 1].score;
        rank[s[i].id] = r;
    }
    return 0;
}

/* Gives every character of the normal tokens that is none itself to symbol[n..], once each; with symbol == NULL, only counts them. */
static int loose_characters(struct build *b, struct bytes *symbol, uint64_t *n_loose, uint64_t *n_chars)
{
    const struct vocab *v = b->v;
    uint8_t *seen = arena_alloc(&b->scratch, 0x110000 / 8);
    uint32_t c;
    if (!seen)
        return build_no_memory(b);
    *n_loose = *n_chars = 0;
    for (int i = 0; i < v->n; i++) {
        struct bytes t = b->text[i];
        if (v->type[i] != TOKEN_NORMAL)
            continue;
        if (t.n > VOCAB_PIECE_MAX)
            return fail(b->err, ERR_DATA, "%s: token %d: %zu bytes long; at most %d are supported", b->name, i, t.n, VOCAB_PIECE_MAX);
        for (size_t at = 0, len; at < t.n; at += len, ++*n_chars) {
            len = (size_t)utf8_next(t.p + at, t.n - at, &c);
            if (seen[c / 8] >> c % 8 & 1)
                continue;
            seen[c / 8] |= (uint8_t)(1 << c % 8);
            int32_t id = piece_map_find(&b->map, t.p + at, len);
            if (id >= 0 && v->type[id] == TOKEN_NORMAL)
                continue;
            if (symbol)
                symbol[v->n + (int)*n_loose] = (struct bytes){t.p + at, len};
            ++*n_loose;
        }
    }
    return 0;
}

/* The symbols that merging passes through: normal tokens, then the characters that are only found inside them. */
static int index_symbols(struct build *b, struct piece_map *map, struct bytes **out, uint64_t *n_chars)
{
    struct vocab *v = b->v;
    uint64_t loose;
    int rc = loose_characters(b, NULL, &loose, n_chars);
    if (rc < 0)
        return rc;
    *out = arena_array(&b->scratch, (uint64_t)v->n + loose, sizeof **out);
    if (!*out || !piece_map_init(map, &b->scratch, *out, v->n + (int)loose))
        return build_no_memory(b);
    memcpy(*out, b->text, (size_t)v->n * sizeof **out);
    if ((rc = loose_characters(b, *out, &loose, n_chars)) < 0)
        return rc;
    v->n_symbols = v->n + (int)loose;
    for (int i = 0; i < v->n_symbols; i++)
        if ((i >= v->n || v->type[i] == TOKEN_NORMAL) && piece_map_add(map, i) < 0)
            return crowded(b, i);
    return 0;
}

/* SentencePiece joins any two neighbours whose joint text is a token, the best score first. All ways to cut a token in two symbols, ranked by
   the token's score, are the same rule as a list of merges. */
int build_scores(struct build *b, const float *score)
{
    struct vocab *v = b->v;
    struct piece_map map;
    struct bytes *symbol = NULL;
    uint64_t n_chars;
    uint32_t *rank, c;
    int rc = index_symbols(b, &map, &symbol, &n_chars);
    if (rc < 0 || (rc = rank_scores(b, score, &rank)) < 0)
        return rc;
    b->text = symbol;
    uint64_t cap = n_chars < VOCAB_MERGES_MAX ? n_chars : VOCAB_MERGES_MAX;
    v->merge = arena_array(&v->arena, cap, sizeof *v->merge);
    if (!v->merge)
        return build_no_memory(b);
    for (int i = 0; i < v->n; i++) {
        struct bytes t = symbol[i];
        if (v->type[i] != TOKEN_NORMAL)
            continue;
        for (size_t at = (size_t)utf8_next(t.p, t.n, &c); at < t.n; at += (size_t)utf8_next(t.p + at, t.n - at, &c)) {
            int32_t left = piece_map_find(&map, t.p, at), right = left < 0 ? -1 : piece_map_find(&map, t.p + at, t.n - at);
            if (right < 0)
                continue;
            if (v->n_merges == VOCAB_MERGES_MAX)
                return fail(b->err, ERR_DATA, "%s: token %d: the scores make more than %d merges; that is not supported", b->name, i, VOCAB_MERGES_MAX);
            v->merge[v->n_merges++] = (struct merge){left, right, i, rank[i]};
        }
    }
    return 0;
}

int build_added(struct build *b, int n)
{
    b->v->added = arena_array(&b->v->arena, (uint64_t)n, sizeof *b->v->added);
    return b->v->added ? 0 : build_no_memory(b);
}

int build_added_by_type(struct build *b)
{
    struct vocab *v = b->v;
    int n = 0;
    for (int i = 0; i < v->n; i++)
        n += v->type[i] == TOKEN_CONTROL || v->type[i] == TOKEN_UNKNOWN || v->type[i] == TOKEN_USER;
    int rc = build_added(b, n);
    for (int i = 0; rc == 0 && i < v->n; i++) {
        bool special = v->type[i] == TOKEN_CONTROL || v->type[i] == TOKEN_UNKNOWN;
        if (special || v->type[i] == TOKEN_USER)
            v->added[v->n_added++] = (struct added_token){i, special, !special && v->kind == VOCAB_CHARS, b->text[i]};
    }
    return rc;
}

bool byte_piece(struct bytes text, uint8_t *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    if (text.n != 6 || memcmp(text.p, "<0x", 3) != 0 || text.p[5] != '>')
        return false;
    const char *high = memchr(digits, text.p[3], 16), *low = memchr(digits, text.p[4], 16);
    if (high && low)
        *byte = (uint8_t)((high - digits) << 4 | (low - digits));
    return high && low;
}

/* Byte-level files write every byte as a printable character: the printable ones of Latin-1 as themselves, the others (0 to 32, 127 to 160, 173)
   as U+0100 and following. -1: not in this alphabet. */
static int byte_of(uint32_t c)
{
    if (c < 256)
        return (c > 32 && c < 127) || (c > 160 && c != 173) ? (int)c : -1;
    c -= 256;
    return c < 33 ? (int)c : c < 67 ? (int)c + 94 : c == 67 ? 173 : -1;
}

static size_t decode_byte_level(struct bytes text, uint8_t *out)
{
    size_t at = 0, size = 0;
    while (at < text.n) {
        uint32_t c;
        at += (size_t)utf8_next(text.p + at, text.n - at, &c);
        int byte = byte_of(c);
        if (byte < 0)
            return 0;
        out[size++] = (uint8_t)byte;
    }
    return size;
}

/* Copies all texts into the vocabulary's arena, as real bytes. */
static int take_pieces(struct build *b)
{
    struct vocab *v = b->v;
    uint64_t total = 1;
    for (int i = 0; i < v->n_symbols; i++)
        total += b->text[i].n;
    uint8_t *at = arena_alloc(&v->arena, total);
    v->piece = arena_array(&v->arena, (uint64_t)v->n_symbols, sizeof *v->piece);
    if (!at || !v->piece)
        return build_no_memory(b);
    for (int i = 0; i < v->n_symbols; i++) {
        struct bytes t = b->text[i];
        size_t n = 0;
        bool byte_level = v->kind == VOCAB_BYTES && v->type[i] == TOKEN_NORMAL;
        if (byte_level && !(n = decode_byte_level(t, at)))
            v->type[i] = TOKEN_UNUSED; /* no text can become it; the reference prints it as it stands */
        if (!n) {
            memcpy(at, t.p, t.n);
            n = t.n;
        }
        v->piece[i] = (struct bytes){at, n};
        at += n;
    }
    for (int i = 0; i < v->n_added; i++) {
        if (v->added[i].text.n > VOCAB_ADDED_MAX)
            return fail(b->err, ERR_DATA, "%s: added token %d: %zu bytes long; at most %d are supported", b->name, v->added[i].id, v->added[i].text.n,
                        VOCAB_ADDED_MAX);
        char *text = arena_text(&v->arena, v->added[i].text.p, v->added[i].text.n);
        if (!text)
            return build_no_memory(b);
        v->added[i].text.p = (const uint8_t *)text;
    }
    return 0;
}

static int find_byte_tokens(struct build *b)
{
    struct vocab *v = b->v;
    int n = 0;
    memset(v->byte_token, 0xff, sizeof v->byte_token);
    for (int i = 0; i < v->n; i++) {
        uint8_t byte = v->piece[i].p[0];
        if (v->kind == VOCAB_BYTES && (v->type[i] != TOKEN_NORMAL || v->piece[i].n != 1))
            continue;
        if (v->kind == VOCAB_CHARS && v->type[i] != TOKEN_BYTE)
            continue;
        if (v->kind == VOCAB_CHARS && !byte_piece(v->piece[i], &byte))
            return fail(b->err, ERR_DATA, "%s: token %d: byte token \"%.*s\"; <0x00> to <0xFF> are known", b->name, i,
                        (int)(v->piece[i].n < 64 ? v->piece[i].n : 64), v->piece[i].p);
        n += v->byte_token[byte] < 0;
        v->byte_token[byte] = i;
    }
    if (v->kind == VOCAB_CHARS && n && n < 256)
        return fail(b->err, ERR_DATA, "%s: %d of 256 byte tokens; all or none are needed", b->name, n);
    return 0;
}

static int by_text(const void *a, const void *b) /* the raw ones first */
{
    const struct added_token *x = a, *y = b;
    if (x->normalized != y->normalized)
        return x->normalized - y->normalized;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int d = memcmp(x->text.p, y->text.p, n);
    if (d || x->text.n != y->text.n)
        return d ? d : x->text.n < y->text.n ? -1 : 1;
    return (x->id < y->id) - (x->id > y->id); /* the last of equal ones is taken */
}

static int check_id(struct build *b, const char *what, int32_t id)
{
    if (id >= -1 && id < b->v->n)
        return 0;
    return fail(b->err, ERR_DATA, "%s: %s token %d; the vocabulary has ids 0 to %d", b->name, what, id, b->v->n - 1);
}

/* The token that a wish comes down to, by id or by text. */
static int32_t choose_id(const struct build *b, int32_t own, int32_t wished, const char *text, bool stronger)
{
    int32_t named = text && (own < 0 || stronger) ? piece_map_find(&b->map, text, strlen(text)) : -1;
    return wished >= 0 ? wished : named >= 0 ? named : own;
}

int build_finish(struct build *b, const struct vocab_wish *wish)
{
    struct vocab *v = b->v;
    if (wish) {
        v->bos = choose_id(b, v->bos, wish->bos, wish->bos_text, wish->add_bos >= 0);
        v->eos = choose_id(b, v->eos, wish->eos, wish->eos_text, wish->add_eos >= 0);
        v->add_bos = wish->add_bos >= 0 ? wish->add_bos : v->add_bos;
        v->add_eos = wish->add_eos >= 0 ? wish->add_eos : v->add_eos;
    }
    int rc = check_id(b, "bos", v->bos);
    if (rc < 0 || (rc = check_id(b, "eos", v->eos)) < 0 || (rc = check_id(b, "unk", v->unk)) < 0)
        return rc;
    if ((v->add_bos && v->bos < 0) || (v->add_eos && v->eos < 0))
        return fail(b->err, ERR_DATA, "%s: add_%s_token is true, but no such token is named", b->name, v->add_bos && v->bos < 0 ? "bos" : "eos");
    if ((rc = take_pieces(b)) < 0 || (rc = find_byte_tokens(b)) < 0)
        return rc;
    int kept = 0; /* no merge may make a control token out of text */
    for (int i = 0; i < v->n_merges; i++)
        if (v->type[v->merge[i].id] == TOKEN_NORMAL)
            v->merge[kept++] = v->merge[i];
    v->n_merges = kept;
    if (v->n_added)
        qsort(v->added, (size_t)v->n_added, sizeof *v->added, by_text);
    return 0;
}
