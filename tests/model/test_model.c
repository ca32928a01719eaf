/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a model: which tokenizer file counts, what is said when none can, and rotary frequencies as transformers has them. */
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "synthetic.h"

#include "base/half.h"
#include "model/model.h"

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

static void must_open(struct model *m, const char *path)
{
    struct error err = {0};
    if (model_open(m, path, NULL, &err))
        fail_msg("%s", err.text);
}

/* Opening fails with this code, the words are in the text, and nothing is held. */
static void must_fail(const char *path, int code, const char *word, const char *other)
{
    struct model m;
    struct error err = {0};
    static const struct model nothing;
    assert_int_equal(model_open(&m, path, NULL, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.text, word) || !strstr(err.text, other))
        fail_msg("\"%s\" or \"%s\" is not in: %s", word, other, err.text);
    assert_memory_equal(&m, &nothing, sizeof m);
    assert_int_equal(model_open(&m, path, NULL, NULL), code); /* err may be NULL */
}

/* ---- tokenizer files ---- */

static void write_file(const char *name, const void *p, size_t n)
{
    FILE *f = fopen(folder_file(&folder, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static size_t put_piece(uint8_t *out, const char *text, float score, int type)
{
    size_t n = strlen(text), at = 0;
    uint32_t bits = f32_bits(score);
    out[at++] = 0x0a; /* pieces: a message of n + 9 bytes */
    out[at++] = (uint8_t)(n + 9);
    out[at++] = 0x0a;
    out[at++] = (uint8_t)n;
    memcpy(out + at, text, n);
    at += n;
    out[at++] = 0x15;
    memcpy(out + at, &bits, 4);
    at += 4;
    out[at++] = 0x18;
    out[at++] = (uint8_t)type;
    return at;
}

/* <unk>, <s>, </s>, the bytes, and n words. */
static void write_sentencepiece(int n)
{
    static uint8_t p[65536];
    size_t at = put_piece(p, "<unk>", 0, 2);
    at += put_piece(p + at, "<s>", 0, 3);
    at += put_piece(p + at, "</s>", 0, 3);
    char text[16];
    for (int i = 0; i < 256 + n; i++) {
        snprintf(text, sizeof text, i < 256 ? "<0x%02X>" : "w%d", i);
        at += put_piece(p + at, text, (float)-i, i < 256 ? 6 : 1);
    }
    memcpy(p + at, "\x12\x02\x18\x02\x1a\x02\x20", 8); /* trainer_spec { model_type: BPE }, normalizer_spec { remove_extra_whitespaces: false } */
    write_file("tokenizer.model", p, at + 8);
}

static void test_json_wins_over_model(void **state)
{
    (void)state;
    struct model m;
    write_sentencepiece(10);
    must_open(&m, folder.path);
    assert_int_equal(m.vocab.kind, VOCAB_BYTES);
    assert_int_equal(m.vocab.n, 515);
    model_close(&m);
    model_close(&m); /* twice is fine */
    unlink(folder_file(&folder, "tokenizer.json"));
    must_open(&m, folder.path);
    assert_int_equal(m.vocab.kind, VOCAB_CHARS);
    assert_int_equal(m.vocab.n, 269);
    model_close(&m);
}

static void test_no_tokenizer(void **state)
{
    (void)state;
    unlink(folder_file(&folder, "tokenizer.json"));
    must_fail(folder.path, ERR_NOINPUT, folder.path, "neither tokenizer.json nor tokenizer.model is there");
}

/* A broken tokenizer.json is an error, not a reason to look further. */
static void test_broken_tokenizer(void **state)
{
    (void)state;
    write_sentencepiece(10);
    write_file("tokenizer.json", "{\"model\": ", 10);
    must_fail(folder.path, ERR_DATA, "tokenizer.json", folder.path);
    write_file("tokenizer.json", "", 0);
    must_fail(folder.path, ERR_DATA, "tokenizer.json", folder.path);
    unlink(folder_file(&folder, "tokenizer.json"));
    write_file("tokenizer.model", "\x0a\xff\xff\xff\xff\x7f", 6);
    must_fail(folder.path, ERR_DATA, "tokenizer.model", folder.path);
}

/* One that is there but is no file of this folder is not passed over for tokenizer.model. */
static void test_tokenizer_that_is_no_file_of_the_folder(void **state)
{
    (void)state;
    char outside[64], json[128];
    write_sentencepiece(10);
    snprintf(outside, sizeof outside, "%s/outside.json", folder.base);
    snprintf(json, sizeof json, "%s", folder_file(&folder, "tokenizer.json"));
    assert_int_equal(rename(json, outside), 0);
    assert_int_equal(symlink(outside, json), 0);
    must_fail(folder.path, ERR_DATA, json, "a link out of the folder");
    assert_int_equal(unlink(outside) | unlink(json), 0);
    assert_int_equal(mkdir(json, 0700), 0);
    must_fail(folder.path, ERR_NOINPUT, json, "not a regular file");
    assert_int_equal(rmdir(json), 0);
    assert_int_equal(mkfifo(json, 0600), 0);
    must_fail(folder.path, ERR_NOINPUT, json, "not a regular file");
}

static void test_more_tokens_than_rows(void **state)
{
    (void)state;
    unlink(folder_file(&folder, "tokenizer.json"));
    write_sentencepiece(515 - 259);
    struct model m;
    must_open(&m, folder.path);
    model_close(&m);
    write_sentencepiece(515 - 259 + 1);
    must_fail(folder.path, ERR_DATA, "516 tokens", "515 rows");
}

/* added_tokens.json counts beside tokenizer.model; tokenizer.json has its own. */
static void test_added_tokens_beside_the_model(void **state)
{
    (void)state;
    static const char added[] = "{\"<x>\": 269, \"<y>\": 270}", map[] = "{\"pad_token\": \"<y>\"}", broken[] = "{\"<x>\": 400}", cut[] = "{\"<x>\": ";
    struct model m;
    write_sentencepiece(10);
    write_file("added_tokens.json", added, strlen(added));
    write_file("special_tokens_map.json", map, strlen(map));
    must_open(&m, folder.path);
    assert_int_equal(m.vocab.n, 515);
    model_close(&m);
    unlink(folder_file(&folder, "tokenizer.json"));
    must_open(&m, folder.path);
    assert_int_equal(m.vocab.n, 271);
    assert_int_equal(m.vocab.type[269], TOKEN_USER);
    assert_int_equal(m.vocab.type[270], TOKEN_CONTROL);
    model_close(&m);
    write_file("added_tokens.json", broken, strlen(broken));
    must_fail(folder.path, ERR_DATA, "added_tokens.json", "id 400");
    write_file("added_tokens.json", cut, strlen(cut));
    must_fail(folder.path, ERR_DATA, "added_tokens.json", "line 1");
    write_sentencepiece(515 - 259);
    write_file("added_tokens.json", "{\"<x>\": 515}", 12);
    must_fail(folder.path, ERR_DATA, "516 tokens", "515 rows");
    unlink(folder_file(&folder, "added_tokens.json"));
    write_file("special_tokens_map.json", cut, strlen(cut));
    must_fail(folder.path, ERR_DATA, "special_tokens_map.json", "line 1");
}

/* add_bos_token without a template: the token is the one that tokenizer_config.json names, as a text or as an object. */
static void test_bos_is_named_beside_the_tokenizer(void **state)
{
    (void)state;
    static const char map[] = "{\"bos_token\": {\"content\": \"<s>\"}}";
    struct model m;
    folder_set(&folder, "tokenizer.json", "post_processor", json_null());
    must_open(&m, folder.path);
    assert_true(m.vocab.add_bos && m.vocab.bos == m.config.bos && !m.vocab.add_eos);
    model_close(&m);
    folder_set(&folder, "tokenizer_config.json", "bos_token", json_pack("{s:s, s:b}", "content", "</s>", "special", 1));
    must_open(&m, folder.path);
    assert_true(m.vocab.add_bos && m.vocab.bos != m.config.bos);
    assert_int_equal(m.vocab.piece[m.vocab.bos].n, 4);
    assert_memory_equal(m.vocab.piece[m.vocab.bos].p, "</s>", 4);
    model_close(&m);
    write_file("special_tokens_map.json", map, strlen(map));
    must_open(&m, folder.path);
    assert_memory_equal(m.vocab.piece[m.vocab.bos].p, "</s>", 4); /* special_tokens_map.json counts last, */
    model_close(&m);
    folder_set(&folder, "tokenizer_config.json", "bos_token", json_null());
    must_open(&m, folder.path);
    assert_memory_equal(m.vocab.piece[m.vocab.bos].p, "<s>", 3); /* where nothing else names one */
    model_close(&m);
    unlink(folder_file(&folder, "special_tokens_map.json"));
    must_fail(folder.path, ERR_DATA, "tokenizer.json", "no such token");
}

/* ---- chat templates ---- */

/* n times the same text, then the tail. Freed by the caller. */
static char *repeat(const char *text, size_t n, const char *tail)
{
    size_t step = strlen(text);
    char *all = malloc(n * step + strlen(tail) + 1);
    assert_non_null(all);
    for (size_t i = 0; i < n; i++)
        memcpy(all + i * step, text, step);
    strcpy(all + n * step, tail);
    return all;
}

/* Kept byte for byte, and at once: whatever executed it would not come back. */
static void must_keep_template(const char *text)
{
    struct model m;
    clock_t before = clock();
    must_open(&m, folder.path);
    assert_true(clock() - before < (SANITIZED ? 20 : 4) * CLOCKS_PER_SEC);
    assert_non_null(m.file->chat_template);
    assert_true(!strcmp(m.file->chat_template, text));
    model_close(&m);
}

static void test_item_26_templates_are_stored_and_never_executed(void **state)
{
    (void)state;
    char *texts[] = {
        repeat("(", 500000, "}}"), repeat("{% if x %}", 50000, ""), repeat("{{ [", 100000, ""), repeat("x", 900000, ""),
        repeat("{% for i in range(10**9) %}", 20, "{{ i }}{% endfor %}"), repeat("{% macro a() %}{{ a() }}{% endmacro %}", 1, "{{ a() }}"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        folder_set(&folder, "tokenizer_config.json", "chat_template", json_string(texts[i]));
        must_keep_template(texts[i]);
        write_file("chat_template.jinja", texts[i], strlen(texts[i]));
        folder_set(&folder, "tokenizer_config.json", "chat_template", json_string("not this one"));
        must_keep_template(texts[i]);
        unlink(folder_file(&folder, "chat_template.jinja"));
        free(texts[i]);
    }
    char *huge = repeat("{{ x }}", 700000, "");
    write_file("chat_template.jinja", huge, strlen(huge));
    must_fail(folder.path, ERR_DATA, "chat_template.jinja", "bytes, more than");
    unlink(folder_file(&folder, "chat_template.jinja"));
    folder_set(&folder, "tokenizer_config.json", "chat_template", json_string(huge));
    must_fail(folder.path, ERR_DATA, "tokenizer_config.json", "bytes, more than");
    free(huge);
}

/* ---- weights and frequencies ---- */

static void test_weights_by_name(void **state)
{
    (void)state;
    static const char *const names[W_COUNT] = {"attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down"};
    struct model m;
    char name[32];
    must_open(&m, folder.path);
    for (int l = 0; l < 4; l++)
        for (int w = 0; w < W_COUNT; w++) {
            const struct view *v = model_weight(&m, l, (enum layer_weight)w);
            snprintf(name, sizeof name, "layers.%d.%s", l, names[w]);
            assert_non_null(v);
            assert_string_equal(v->name, name);
            assert_null(model_bias(&m, l, (enum layer_weight)w));
        }
    assert_null(model_weight(&m, 4, W_Q));
    assert_null(model_weight(&m, -1, W_Q));
    model_close(&m);
    struct folder biased;
    folder_make(&biased, "tiny-bias");
    must_open(&m, biased.path);
    assert_string_equal(model_bias(&m, 3, W_DOWN)->name, "layers.3.down.bias");
    assert_null(model_bias(&m, 3, W_FFN_NORM));
    model_close(&m);
    folder_remove(&biased);
}

static void get_frequencies(const char *path, float *out)
{
    struct model m;
    struct error err = {0};
    must_open(&m, path);
    if (model_frequencies(&m, out, &err))
        fail_msg("%s", err.text);
    model_close(&m);
}

static int ulps(float a, float b) { return abs((int)f32_bits(a) - (int)f32_bits(b)); }

/* The largest distance, in units of the last place, from what transformers recorded. */
static int compare_frequencies(const char *shape, const float *got)
{
    char path[64];
    int worst = 0;
    snprintf(path, sizeof path, "tests/golden/%s.json", shape);
    json_t *golden = json_load_file(path, 0, NULL), *want = json_object_get(golden, "inv_freq"), *v;
    size_t i;
    assert_true(json_array_size(want) >= 8);
    json_array_foreach(want, i, v)
    {
        int d = ulps(got[i], (float)json_number_value(v));
        worst = d > worst ? d : worst;
    }
    json_decref(golden);
    return worst;
}

static void test_frequencies_are_those_of_transformers(void **state)
{
    (void)state;
    static const char *const shapes[] = {"tiny", "tiny-gqa", "tiny-tied", "tiny-llama3", "tiny-headdim", "tiny-bias"};
    float got[64];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct folder f;
        folder_make(&f, shapes[i]);
        get_frequencies(f.path, got);
        int worst = compare_frequencies(shapes[i], got);
        print_message("%s: %d ulp\n", shapes[i], worst);
        assert_true(worst <= 1); /* powf and torch.pow are two libraries */
        folder_set(&f, "config.json", "rope_theta", json_real(10001));
        get_frequencies(f.path, got);
        assert_true(compare_frequencies(shapes[i], got) > 1); /* and it can fail */
        folder_remove(&f);
    }
}

static void test_linear_scaling_divides(void **state)
{
    (void)state;
    float plain[8], scaled[8];
    get_frequencies(folder.path, plain);
    folder_set(&folder, "config.json", "rope_scaling", json_pack("{s:s, s:f}", "type", "linear", "factor", 4.0));
    get_frequencies(folder.path, scaled);
    for (int i = 0; i < 8; i++)
        assert_true(scaled[i] == plain[i] / 4);
}

/* llama3: the first frequencies stay, the last are divided by the factor, those between lie between and fall. */
static void test_llama3_scaling(void **state)
{
    (void)state;
    float plain[16], scaled[16];
    struct folder f;
    folder_make(&f, "tiny-llama3");
    get_frequencies(f.path, scaled);
    folder_set(&f, "config.json", "rope_scaling", json_null());
    get_frequencies(f.path, plain);
    assert_true(scaled[0] == plain[0] && scaled[15] == plain[15] / 32);
    int between = 0;
    for (int i = 0; i < 16; i++) {
        assert_true(scaled[i] <= plain[i] && scaled[i] >= plain[i] / 32 * 0.999999f && (i == 0 || scaled[i] < scaled[i - 1]));
        between += scaled[i] < plain[i] && scaled[i] > plain[i] / 31;
    }
    assert_true(between > 0);
    folder_remove(&f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_json_wins_over_model), TEST(test_no_tokenizer),
        TEST(test_broken_tokenizer),     TEST(test_more_tokens_than_rows),
        TEST(test_weights_by_name),      TEST(test_frequencies_are_those_of_transformers),
        TEST(test_linear_scaling_divides), TEST(test_llama3_scaling),
        TEST(test_tokenizer_that_is_no_file_of_the_folder),
        TEST(test_item_26_templates_are_stored_and_never_executed),
        TEST(test_bos_is_named_beside_the_tokenizer), TEST(test_added_tokens_beside_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
