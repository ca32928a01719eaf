/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "format/make_files.h"

#include "format/fill.h"
#include "format/hf.h"

/* The metadata of the files in the folder, without weights. */
static int read_configs(struct checkpoint *c, struct error *err)
{
    *c = (struct checkpoint){.path = made_dir, .dir = made_dir};
    *err = (struct error){0};
    int rc = hf_read_configs(c, err);
    return rc ? rc : fill_seal(c, err);
}

static void values_become_metadata(void **state)
{
    (void)state;
    make_text("config.json", "{\"n\":null,\"t\":true,\"i\":-7,\"r\":1.5,\"s\":\"x\\u00e9\",\"list\":[1,-2],\"none\":[],\"names\":[\"A\"],\"mixed\":[1,null],\"empty\":{},"
                             "\"a\":{\"b\":{\"c\":3,\"d\":[4]}},\"deep\":{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":6}}}}}}");
    make_text("generation_config.json", "{\"temperature\":0.6,\"eos_token_id\":[1,2]}");
    make_text("tokenizer_config.json", "{\"chat_template\":\"hello\",\"bos_token\":{\"content\":\"<s>\"}}");
    struct checkpoint c;
    struct error err;
    assert_int_equal(read_configs(&c, &err), 0);
    assert_int_equal(checkpoint_meta(&c, "n")->type, META_NULL);
    assert_int_equal(checkpoint_meta(&c, "t")->i, 1);
    assert_int_equal(checkpoint_meta(&c, "i")->i, -7);
    assert_true(checkpoint_meta(&c, "i")->real == -7.0);
    assert_true(checkpoint_meta(&c, "r")->type == META_REAL && checkpoint_meta(&c, "r")->real == 1.5);
    assert_string_equal(checkpoint_meta(&c, "s")->text, "x\xc3\xa9");
    assert_int_equal(checkpoint_meta(&c, "list")->ints[1], -2);
    assert_true(checkpoint_meta(&c, "none")->type == META_INTS && checkpoint_meta(&c, "none")->i == 0);
    assert_string_equal(checkpoint_meta(&c, "names")->text, "[\"A\"]");
    assert_int_equal(checkpoint_meta(&c, "mixed")->type, META_OTHER);
    assert_string_equal(checkpoint_meta(&c, "empty")->text, "{}");
    assert_int_equal(checkpoint_meta(&c, "a.b.c")->i, 3);
    assert_int_equal(checkpoint_meta(&c, "a.b.d")->ints[0], 4);
    assert_string_equal(checkpoint_meta(&c, "deep.1.2.3.4")->text, "{\"5\":6}");
    assert_true(checkpoint_meta(&c, "generation.temperature")->real == 0.6);
    assert_int_equal(checkpoint_meta(&c, "generation.eos_token_id")->i, 2);
    assert_string_equal(checkpoint_meta(&c, "tokenizer.bos_token.content")->text, "<s>");
    assert_null(checkpoint_meta(&c, "tokenizer.chat_template")); /* it has its own place */
    assert_string_equal(c.chat_template, "hello");
    arena_free(&c.arena);
}

/* 12,000 tokens of six keys each are more keys than a checkpoint may have; none of them is wanted. */
static void a_list_of_all_tokens_is_left_out(void **state)
{
    (void)state;
    static char text[2 << 20];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"add_bos_token\":true,\"added_tokens_decoder\":{");
    for (int i = 0; i < 12000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%d\":{\"content\":\"t%d\",\"lstrip\":false,\"normalized\":false,\"rstrip\":false,\"single_word\":false,\"special\":true}",
                              i ? "," : "", i, i);
    n += (size_t)snprintf(text + n, sizeof text - n, "},\"eos_token\":\"</s>\"}");
    assert_true(n < sizeof text - 1);
    struct checkpoint c;
    struct error err;
    make_text("config.json", "{}");
    make_text("tokenizer_config.json", text);
    assert_int_equal(read_configs(&c, &err), 0);
    assert_int_equal(c.n_meta, 2);
    assert_int_equal(checkpoint_meta(&c, "tokenizer.add_bos_token")->i, 1);
    assert_string_equal(checkpoint_meta(&c, "tokenizer.eos_token")->text, "</s>");
    arena_free(&c.arena);
}

static void names_of_other_files_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"general.x\":1}", "{\"general\":{\"name\":\"x\"}}", "{\"split.count\":2}", "{\"quantize.x\":1}", "{\"tokenizer.add_bos_token\":true}",
                                      "{\"generation\":{\"top_k\":1}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct checkpoint c;
        struct error err;
        make_text("config.json", bad[i]);
        assert_int_equal(read_configs(&c, &err), ERR_CONFIG);
        assert_non_null(strstr(err.text, "another file's keys"));
        arena_free(&c.arena);
    }
}

static void templates_are_found(void **state)
{
    (void)state;
    struct checkpoint c;
    struct error err;
    make_text("config.json", "{}");
    assert_int_equal(read_configs(&c, &err), 0);
    assert_null(c.chat_template);
    arena_free(&c.arena);
    make_text("tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool\",\"template\":\"a\"},{\"name\":\"default\",\"template\":\"b\"}]}");
    assert_int_equal(read_configs(&c, &err), 0);
    assert_string_equal(c.chat_template, "b");
    arena_free(&c.arena);
    make_text("chat_template.jinja", "c");
    assert_int_equal(read_configs(&c, &err), 0);
    assert_string_equal(c.chat_template, "c");
    arena_free(&c.arena);
}

static void refused(const char *text, const char *word)
{
    struct checkpoint c;
    struct error err;
    make_text("config.json", text);
    assert_int_equal(read_configs(&c, &err), ERR_DATA);
    if (!strstr(err.text, word))
        print_error("wanted \"%s\", got %s\n", word, err.text);
    assert_non_null(strstr(err.text, word));
    assert_non_null(strstr(err.text, "config.json"));
    arena_free(&c.arena);
}

static void item_29_config_that_is_not_json(void **state)
{
    (void)state;
    refused("", "line 1");
    refused("[]", "must be a JSON object");
    refused("{\"a\":1", "line 1");
    refused("{\"a\":1}x", "line 1");
    refused("{\"a\":1,\n\"a\":2}", "duplicate");
    refused("{\"rms_norm_eps\":1e400}", "1e400");
    refused("{\"rms_norm_eps\":NaN}", "NaN");
    refused("{\"hidden_size\":99999999999999999999}", "99999999999999999999");
    refused("{\"a\":\"\xff\"}", "0xff");
    refused("{\"a\":\"\\ud800\"}", "line 1");
    refused("{\"a\\u0000\":1}", "line 1");
    static char big[HF_JSON_MAX + 2];
    memset(big, ' ', sizeof big - 1);
    refused(big, "more than");
    memset(big, '[', 100000);
    big[100000] = 0;
    memcpy(big, "{\"a\":", 5);
    refused(big, "depth");
    char key[700];
    snprintf(key, sizeof key, "{\"%0600d\":1}", 0);
    refused(key, "too long");
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {T(values_become_metadata), T(templates_are_found), T(a_list_of_all_tokens_is_left_out), T(names_of_other_files_are_refused), T(item_29_config_that_is_not_json)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
