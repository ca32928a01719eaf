/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <jansson.h>

#include "text/small.h"

/* A protocol buffer, written by hand. */
struct proto { uint8_t p[16384]; size_t n; };

static void put_varint(struct proto *m, uint64_t v)
{
    for (; v > 127; v >>= 7)
        m->p[m->n++] = (uint8_t)(v | 128);
    m->p[m->n++] = (uint8_t)v;
}

static void put_number(struct proto *m, uint32_t field, uint64_t v)
{
    put_varint(m, field << 3);
    put_varint(m, v);
}

static void put_bytes(struct proto *m, uint32_t field, const void *p, size_t n)
{
    put_varint(m, field << 3 | 2);
    put_varint(m, n);
    memcpy(m->p + m->n, p, n);
    m->n += n;
}

static void put_piece(struct proto *m, const char *text, float score, int type)
{
    struct proto piece = {.n = 0};
    put_bytes(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    memcpy(piece.p + piece.n, &score, 4);
    piece.n += 4;
    if (type != TOKEN_NORMAL)
        put_number(&piece, 3, (uint64_t)type);
    put_bytes(m, 1, piece.p, piece.n);
}

struct settings { int model_type, dummy_prefix, trims, escapes, suffix, piece_type; const char *charsmap, *rules; };
static const struct settings usual = {2, 1, 0, 1, 0, TOKEN_NORMAL, "", "identity"};

static void make(struct proto *m, struct settings s)
{
    struct proto trainer = {.n = 0}, normalizer = {.n = 0};
    char byte[8];
    m->n = 0;
    put_piece(m, "<unk>", 0, TOKEN_UNKNOWN);
    put_piece(m, "<s>", 0, TOKEN_CONTROL);
    put_piece(m, "</s>", 0, TOKEN_CONTROL);
    for (int b = 0; b < 256; b++) {
        snprintf(byte, sizeof byte, "<0x%02X>", b);
        put_piece(m, byte, 0, TOKEN_BYTE);
    }
    put_piece(m, "ab", -1, s.piece_type);
    put_piece(m, "\xe2\x96\x81", -2, TOKEN_NORMAL);
    put_piece(m, "a", -3, TOKEN_NORMAL);
    put_piece(m, "b", -4, TOKEN_NORMAL);
    put_number(&trainer, 3, (uint64_t)s.model_type);
    put_number(&trainer, 24, (uint64_t)s.suffix);
    put_bytes(m, 2, trainer.p, trainer.n);
    put_bytes(&normalizer, 1, s.rules, strlen(s.rules));
    put_bytes(&normalizer, 2, s.charsmap, strlen(s.charsmap));
    put_number(&normalizer, 3, (uint64_t)s.dummy_prefix);
    put_number(&normalizer, 4, (uint64_t)s.trims);
    put_number(&normalizer, 5, (uint64_t)s.escapes);
    put_bytes(m, 3, normalizer.p, normalizer.n);
}

static struct proto m;
static struct vocab v;
static struct error err;

static int load(void) { return vocab_from_tokenizer_model(&v, "FILE", (struct bytes){m.p, m.n}, NULL, &err); }

static void test_reads(void **state)
{
    struct settings s = usual;
    (void)state;
    for (int prefix = 0; prefix < 2; prefix++) {
        s.dummy_prefix = prefix;
        make(&m, s);
        assert_int_equal(load(), 0);
        struct tokenizer *t = tokenizer_open(&v, &err);
        assert_string_equal(small_pieces(t, "ab b\xc3\xa9", ENCODE_BOS), prefix ? "<s>| |ab| |b|C3|A9" : "<s>|ab| |b|C3|A9");
        assert_true(v.unk == 0 && v.bos == 1 && v.eos == 2 && v.add_bos && !v.add_eos);
        tokenizer_close(t);
        vocab_close(&v);
    }
}

static void refused(struct settings s, const char *says)
{
    make(&m, s);
    assert_int_equal(load(), ERR_CONFIG);
    if (strncmp(err.text, "FILE: ", 6) != 0 || !strstr(err.text, says))
        assert_string_equal(err.text, says); /* shows both */
    assert_null(v.arena.head);
}

static void item_28_refused_by_name(void **state)
{
    struct settings s;
    (void)state;
    refused((s = usual, s.model_type = 1, s), "model_type");
    refused((s = usual, s.trims = 1, s), "remove_extra_whitespaces");
    refused((s = usual, s.escapes = 0, s), "escape_whitespaces");
    refused((s = usual, s.suffix = 1, s), "treat_whitespace_as_suffix");
    s = usual;
    s.charsmap = "map";
    s.rules = "nmt_nfkc";
    refused(s, "nmt_nfkc");
    for (int type = 0; type < 9; type += type == 0 ? 5 : type == 5 ? 2 : 1)
        refused((s = usual, s.piece_type = type, s), "token 259: piece type");
}

static int load_with(const char *added, const char *special)
{
    struct vocab_wish wish = {.add_bos = -1, .add_eos = -1, .bos = -1, .eos = -1};
    json_t *a = added ? json_loads(added, 0, NULL) : NULL, *b = special ? json_loads(special, 0, NULL) : NULL;
    assert_true((a || !added) && (b || !special));
    wish.added_tokens = a;
    wish.special_tokens = b;
    make(&m, usual);
    int rc = vocab_from_tokenizer_model(&v, "FILE", (struct bytes){m.p, m.n}, &wish, &err);
    json_decref(a);
    json_decref(b);
    return rc;
}

/* Found in the text as it stands, at once; those that special_tokens_map.json names only where special tokens are parsed. */
static void test_added_tokens_json(void **state)
{
    (void)state;
    assert_int_equal(load_with("{\"<x y>\": 264, \"<pad>\": 263, \"<turn>\": 265, \"<s>\": 1, \"ab\": 259}",
                               "{\"pad_token\": \"<pad>\", \"eos_token\": {\"content\": \"</s>\"}, \"additional_special_tokens\": [{\"content\": \"<turn>\"}, 7]}"), 0);
    struct tokenizer *t = tokenizer_open(&v, &err);
    assert_int_equal(v.n, 266);
    assert_string_equal(small_pieces(t, "a<x y>b", 0), " |a|<x y>|b");
    assert_string_equal(small_pieces(t, "<pad>", ENCODE_SPECIAL), "<pad>");
    assert_string_equal(small_pieces(t, "a<turn>", ENCODE_SPECIAL), " |a|<turn>");
    assert_non_null(strstr(small_pieces(t, "<pad>", 0), "a|"));
    assert_string_equal(small_pieces(t, "ab", 0), " |ab");
    assert_true(tokenizer_hidden(t, 263) && tokenizer_hidden(t, 265) && !tokenizer_hidden(t, 264) && !tokenizer_hidden(t, 259));
    tokenizer_close(t);
    vocab_close(&v);
}

static void test_broken_added_tokens(void **state)
{
    static const struct { const char *json, *says; } rows[] = {
        {"{\"<a>\": 264}", "\"<a>\": id 264"},                       /* a gap before it */
        {"{\"<a>\": -1}", "\"<a>\": id -1"},
        {"{\"<a>\": 9000000000000000000}", "\"<a>\": id 9000000000000000000"},
        {"{\"<a>\": \"263\"}", "\"<a>\": id -1"},
        {"{\"<a>\": 263, \"<b>\": 263}", "id 263"},               /* doubled */
        {"{\"<a>\": 1}", "\"<a>\": id 1 is \"<s>\""},
        {"{\"ab\": 263}", "tokens 259 and 263: same text"},
        {"{\"\": 263}", "token 263: empty text"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(load_with(rows[i].json, NULL), ERR_DATA);
        if (!strstr(err.text, rows[i].says))
            assert_string_equal(err.text, rows[i].says); /* shows both */
        assert_null(v.arena.head);
    }
    assert_int_equal(load_with(NULL, "{\"pad_token\": \"<pad>\", \"x\": [[[]]]}"), 0); /* names that nothing adds */
    vocab_close(&v);
}

/* Every shorter file, and every file with one byte changed, is read or refused; under ASan nothing outside is touched. */
static void test_truncated_and_flipped(void **state)
{
    uint64_t seed = 5;
    (void)state;
    make(&m, usual);
    size_t n = m.n;
    for (size_t cut = 0; cut < n; cut += cut < 64 || cut > n - 64 ? 1 : 61) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, m.p, cut);
        if (vocab_from_tokenizer_model(&v, "FILE", (struct bytes){copy, cut}, NULL, &err) == 0)
            vocab_close(&v);
        free(copy);
    }
    for (int round = 0; round < 3000; round++) {
        size_t at = (size_t)check_below(&seed, (int)n);
        uint8_t old = m.p[at];
        m.p[at] ^= (uint8_t)(1 + check_below(&seed, 255));
        if (load() == 0)
            vocab_close(&v);
        m.p[at] = old;
    }
}

static void test_offsets_are_named(void **state)
{
    (void)state;
    make(&m, usual);
    size_t n = m.n;
    put_varint(&m, 1 << 3 | 2);
    put_varint(&m, UINT64_MAX);
    assert_int_equal(load(), ERR_DATA);
    char offset[32];
    snprintf(offset, sizeof offset, "offset 0x%zx", n);
    assert_non_null(strstr(err.text, offset));
    m.n = 0;
    assert_int_equal(load(), ERR_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(item_28_refused_by_name), cmocka_unit_test(test_truncated_and_flipped),
                                       cmocka_unit_test(test_offsets_are_named), cmocka_unit_test(test_added_tokens_json),
                                       cmocka_unit_test(test_broken_added_tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
