/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers of every kind, written as GGUF: the file cuts texts as its source does, or is not written. */
#include "synthetic.h"

#include "model/model.h"
#include "model/quantize.h"

static struct folder folder;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(&folder);
    return 0;
}

static const char *const texts[] = {"", " ", "hello", "Hello, w\xc3\xb6rld 12345!", "  a  b\n\n\tc ", "aaaa ab abab<s>ab</s> aab<t>ab", "\xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80 x", "it's 3 o'clock\r\n", "the the\ntheta ttthe"};

static void take_note(void *ud, const char *line) { snprintf(ud, 300, "%s", line); }

static int convert(const char *out, char note[300], struct error *err)
{
    *note = 0;
    return quantize_write(folder.path, out, &(struct quantize_options){.type = "copy", .threads = 1, .note = take_note, .report_ud = note}, err);
}

static void show(const char *text, const int32_t *a, int n, const int32_t *b, int m)
{
    print_error("\"%s\":", text);
    for (int i = 0; i < n; i++)
        print_error(" %d", a[i]);
    print_error(" became");
    for (int i = 0; i < m; i++)
        print_error(" %d", b[i]);
    print_error("\n");
}

/* All texts, as text and with special tokens, with and without what begins and ends them. */
static void expect_same(char note[300])
{
    char out[80];
    struct error err = {0};
    struct model a, b;
    snprintf(out, sizeof out, "%s/x.gguf", folder.base);
    if (convert(out, note, &err) != 1)
        fail_msg("%s", err.text);
    if (model_open(&a, folder.path, NULL, &err) || model_open(&b, out, NULL, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (unsigned flags = 0; flags < 4; flags++) {
            if (*note && (flags & ENCODE_SPECIAL))
                continue; /* the user was told */
            int32_t x[128], y[128];
            int n = tokenizer_encode(a.tokenizer, texts[i], strlen(texts[i]), flags, x, 128, &err), m = tokenizer_encode(b.tokenizer, texts[i], strlen(texts[i]), flags, y, 128, &err);
            if (n != m || memcmp(x, y, (size_t)n * sizeof *x)) {
                show(texts[i], x, n, y, m);
                fail_msg("flags %u", flags);
            }
        }
    for (int32_t id = 0; id < a.vocab.n; id++) {
        struct bytes p = tokenizer_piece(a.tokenizer, id), q = tokenizer_piece(b.tokenizer, id);
        assert_int_equal(p.n, q.n);
        assert_memory_equal(p.p, q.p, p.n);
        assert_int_equal(tokenizer_hidden(a.tokenizer, id), tokenizer_hidden(b.tokenizer, id));
    }
    assert_int_equal(b.vocab.n, b.config.vocab); /* rows without a token have one now */
    model_close(&a);
    model_close(&b);
    unlink(out);
}

static void expect_refused(const char *word)
{
    char out[80], note[300];
    struct error err = {0};
    snprintf(out, sizeof out, "%s/x.gguf", folder.base);
    assert_int_equal(convert(out, note, &err), ERR_CONFIG);
    if (!strstr(err.text, word))
        fail_msg("\"%s\" is not in: %s", word, err.text);
    assert_int_equal(access(out, F_OK), -1);
}

/* ---- byte-level BPE ---- */

static json_t *load(const char *name)
{
    json_t *j = json_load_file(folder_file(&folder, name), 0, NULL);
    assert_non_null(j);
    return j;
}

static void store(const char *name, json_t *j)
{
    assert_int_equal(json_dump_file(j, folder_file(&folder, name), 0), 0);
    json_decref(j);
}

/* The synthetic tokenizer with merges: the tokens that they make take the places of the last ones. */
static void add_merges(void)
{
    static const char *const merges[] = {"t h", "th e", "a b", "\xc4\xa0 the", "ab ab", "\xc4\xa0 a", "\xc3\x83 \xc2\xb6", "1 2"};
    json_t *j = load("tokenizer.json"), *model = json_object_get(j, "model"), *vocab = json_object_get(model, "vocab"), *list = json_array();
    for (int i = 0; i < (int)(sizeof merges / sizeof *merges); i++) {
        char text[16], old[16];
        const char *space = strchr(merges[i], ' ');
        snprintf(text, sizeof text, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        snprintf(old, sizeof old, "<%d>", 514 - i);
        assert_int_equal(json_object_del(vocab, old), 0);
        assert_int_equal(json_object_set_new(vocab, text, json_integer(514 - i)), 0);
        json_array_append_new(list, json_string(merges[i]));
    }
    json_object_set_new(model, "merges", list);
    store("tokenizer.json", j);
}

static void set_pre_tokenizer(json_t *p)
{
    assert_non_null(p);
    folder_set(&folder, "tokenizer.json", "pre_tokenizer", p);
}

static void byte_level(void **state)
{
    (void)state;
    char note[300];
    expect_same(note);
    assert_string_equal(note, "");
    add_merges();
    expect_same(note);
    assert_string_equal(note, "");
    set_pre_tokenizer(json_pack("{s:s, s:[{s:s, s:b}, {s:s, s:b, s:b, s:b}]}", "type", "Sequence", "pretokenizers", "type", "Digits", "individual_digits", 1, "type", "ByteLevel",
                                "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1));
    expect_same(note);
    folder_set(&folder, "tokenizer_config.json", "add_bos_token", json_false());
    folder_set(&folder, "tokenizer_config.json", "add_eos_token", json_true());
    expect_same(note);
}

static void added_tokens(void **state)
{
    (void)state;
    char note[300];
    json_t *j = load("tokenizer.json");
    json_array_append_new(json_object_get(j, "added_tokens"), json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", 514, "content", "<t>", "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                                        "normalized", 0, "special", 0));
    json_object_del(json_object_get(json_object_get(j, "model"), "vocab"), "<514>");
    store("tokenizer.json", j);
    expect_same(note);
    assert_string_equal(note, "");
}

static void fewer_tokens_than_rows(void **state)
{
    (void)state;
    char note[300];
    json_t *j = load("tokenizer.json"), *vocab = json_object_get(json_object_get(j, "model"), "vocab");
    json_object_del(vocab, "<514>");
    json_object_del(vocab, "<513>");
    store("tokenizer.json", j);
    expect_same(note);
}

static void rules_without_a_name_are_refused(void **state)
{
    (void)state;
    set_pre_tokenizer(json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0));
    expect_refused("no name in GGUF");
    json_t *j = load("tokenizer.json");
    json_object_set_new(json_object_get(j, "model"), "ignore_merges", json_true());
    store("tokenizer.json", j);
    set_pre_tokenizer(json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1));
    expect_refused("goes with another pre-tokenizer");
}

/* ---- SentencePiece ---- */

#define SPACE "\xe2\x96\x81"

/* As transformers writes a Llama 2 tokenizer; `turn`: merges of two tokens take turns, which no scores can say. */
static void make_chars_json(int prepend, int turn)
{
    static const char *const pieces[] = {SPACE, "a", "b", "t", "h", "e", SPACE "a", "th", "ab", "the", SPACE "the", "aab", "abab", SPACE SPACE, "hth"};
    static const char *const sound[] = {SPACE " a", "t h", "a b", "th e", SPACE " the", "a ab", "ab ab", SPACE " " SPACE, "h th"};
    static const char *const turns[] = {SPACE " a", "t h", "a b", "th e", SPACE " the", "a ab", "ab ab", SPACE " " SPACE, "h th", "h t", "ht h"};
    json_t *vocab = json_pack("{s:i, s:i, s:i}", "<unk>", 0, "<s>", 1, "</s>", 2), *merges = json_array();
    char text[16];
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        json_object_set_new(vocab, text, json_integer(3 + b));
    }
    for (int i = 0; i < (int)(sizeof pieces / sizeof *pieces); i++)
        json_object_set_new(vocab, pieces[i], json_integer(259 + i));
    if (turn)
        json_object_set_new(vocab, "ht", json_integer(274));
    for (size_t i = 0; i < (turn ? sizeof turns / sizeof *turns : sizeof sound / sizeof *sound); i++)
        json_array_append_new(merges, json_string(turn ? turns[i] : sound[i]));
    json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", SPACE), *j = load("tokenizer.json");
    json_object_set_new(j, "normalizer", prepend ? json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type", "Prepend", "prepend", SPACE, replace) : replace);
    json_object_set_new(j, "pre_tokenizer", json_null());
    json_object_set_new(j, "decoder", json_null());
    json_object_set_new(j, "model", json_pack("{s:s, s:s, s:b, s:b, s:o, s:o}", "type", "BPE", "unk_token", "<unk>", "fuse_unk", 1, "byte_fallback", 1, "vocab", vocab, "merges", merges));
    json_array_append_new(json_object_get(j, "added_tokens"), json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", 0, "content", "<unk>", "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                                        "normalized", 0, "special", 1));
    store("tokenizer.json", j);
}

static void merges_become_scores(void **state)
{
    (void)state;
    char note[300];
    make_chars_json(0, 0);
    expect_same(note);
    assert_string_equal(note, "");
}

static void a_prefix_behind_special_tokens_is_noted(void **state)
{
    (void)state;
    char note[300];
    make_chars_json(1, 0);
    expect_same(note);
    assert_non_null(strstr(note, "spaces behind special tokens"));
}

static void merges_that_are_no_scores_are_refused(void **state)
{
    (void)state;
    make_chars_json(0, 1);
    expect_refused("merges do not follow from one score");
}

/* tokenizer.model: pieces with scores, byte pieces and control pieces. */
static void scores_stay_in_order(void **state)
{
    (void)state;
    static const char *const pieces[] = {SPACE, "a", "b", "t", "h", "e", "th", SPACE "the", "the", "ab", "abab", "aab", SPACE "a", SPACE SPACE, "bth"};
    uint8_t file[16384];
    size_t n = 0;
    char note[300], text[16];
    for (int i = 0; i < 259 + (int)(sizeof pieces / sizeof *pieces); i++) {
        static const char *const control[] = {"<unk>", "<s>", "</s>"};
        snprintf(text, sizeof text, "<0x%02X>", i - 3);
        const char *piece = i < 3 ? control[i] : i < 259 ? text : pieces[i - 259];
        size_t length = strlen(piece);
        float score = i < 259 ? 0 : -(float)(i - 258);
        const uint8_t head[] = {0x0a, (uint8_t)(length + 9), 0x0a, (uint8_t)length};
        memcpy(file + n, head, 4);
        memcpy(file + n + 4, piece, length);
        file[n + 4 + length] = 0x15;
        memcpy(file + n + 5 + length, &score, 4);
        file[n + 9 + length] = 0x18;
        file[n + 10 + length] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        n += 11 + length;
    }
    const uint8_t tail[] = {0x12, 2, 0x18, 2, 0x1a, 2, 0x20, 0}; /* trainer: BPE; normalizer: keeps spaces */
    memcpy(file + n, tail, sizeof tail);
    n += sizeof tail;
    unlink(folder_file(&folder, "tokenizer.json"));
    FILE *f = fopen(folder_file(&folder, "tokenizer.model"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, n, f), n);
    fclose(f);
    expect_same(note);
    assert_string_equal(note, "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(byte_level), T(added_tokens), T(fewer_tokens_than_rows), T(rules_without_a_name_are_refused), T(merges_become_scores), T(a_prefix_behind_special_tokens_is_noted),
        T(merges_that_are_no_scores_are_refused), T(scores_stay_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
