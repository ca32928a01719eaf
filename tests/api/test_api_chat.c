/* SPDX-License-Identifier: Apache-2.0 */
/* What layerskip.h promises of conversations: whose template is used, what is refused, and the real model's own template. */
#define TEST_DEVICE "cpu"
#include "smollm2.h"
#include "synthetic.h"

static struct folder folder;
static lsk_model *model;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    model = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lsk_model_close(model);
    folder_remove(&folder);
    return 0;
}

static const char hello[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";

static void assert_text(const lsk_model *m, const lsk_chat_options *o, const char *text)
{
    lsk_error err = {0};
    lsk_chat *c = lsk_chat_render(m, hello, o, &err);
    if (!c)
        fail_with(err.text);
    assert_string_equal(c->text, text);
    assert_int_equal(c->n_text, strlen(text));
    assert_true(c->n_tokens > 0);
    lsk_chat_free(c);
}

static void assert_refused(const char *messages, const lsk_chat_options *o, int code, const char *says)
{
    lsk_error err = {0};
    assert_null(lsk_chat_render(model, messages, o, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.text, says))
        fail_with(err.text);
}

static void test_whose_template(void **state)
{
    (void)state;
    const char *help;
    assert_refused(hello, NULL, LSK_EUSAGE, "brings no chat template: name one, of llama2, llama3, chatml, codellama, or give one's text");
    assert_refused(hello, &(lsk_chat_options){.template_name = "auto"}, LSK_EUSAGE, "brings no chat template");
    assert_refused(hello, &(lsk_chat_options){.template_name = "llama"}, LSK_EUSAGE, "chat template \"llama\": must be auto or one of llama2, llama3");
    assert_text(model, &(lsk_chat_options){.template_name = "chatml"}, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    assert_text(model, &(lsk_chat_options){.template_name = "chatml", .no_reply = 1}, "<|im_start|>user\nHello<|im_end|>\n");
    assert_text(model, &(lsk_chat_options){.template_name = "chatml", .template_text = "{{ messages[0].content }}!"}, "Hello!");
    folder_set(&folder, "tokenizer_config.json", "chat_template", json_string("own: {{ messages[0].content }}"));
    lsk_model *own = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER});
    assert_text(own, NULL, "own: Hello");
    assert_text(own, &(lsk_chat_options){.template_name = "chatml", .no_reply = 1}, "<|im_start|>user\nHello<|im_end|>\n");
    lsk_model_close(own);
    for (int i = 0; i < 4; i++)
        assert_true(lsk_chat_template(i, &help) && *help);
    assert_null(lsk_chat_template(4, &help));
    lsk_chat_free(NULL);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    const lsk_chat_options chatml = {.template_name = "chatml"};
    assert_refused("[", &chatml, LSK_EDATA, "messages: line 1, column 1: ");
    assert_refused("{}", &chatml, LSK_EDATA, "messages: must be a JSON array");
    assert_refused("[{\"content\": \"x\"}]", &chatml, LSK_EDATA, "messages: number 1: must be an object with a \"role\"");
    assert_refused("[{\"role\": \"user\", \"role\": \"user\"}]", &chatml, LSK_EDATA, "messages: line 1");
    assert_refused(hello, &(lsk_chat_options){.template_name = "chatml", .tools = "{}"}, LSK_EDATA, "tools: must be a JSON array");
    assert_refused(hello, &(lsk_chat_options){.template_name = "chatml", .variables = "[]"}, LSK_EDATA, "variables: must be a JSON object");
    assert_refused(hello, &(lsk_chat_options){.template_text = "\n{% if %}"}, LSK_EDATA, "chat template: line 2: %} where a value must stand");
}

static void test_what_a_template_sees(void **state)
{
    (void)state;
    assert_text(model, &(lsk_chat_options){.template_text = "{{ tools[0].name }}{{ mode }}{{ deep.x }}{{ add_generation_prompt }}", .tools = "[{\"name\": \"T\"}]", .variables = "{\"mode\": \"M\", \"deep\": {\"x\": 1}}"},
                "TM1True");
    assert_text(model, &(lsk_chat_options){.template_text = "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}{{ tools is defined }}", .now = 86400 * 365 + 3661}, "1971-01-01 01:01:01False");
}

/* The probe for the end of a message has as much memory as the conversation itself. */
static void test_end_of_a_large_conversation(void **state)
{
    (void)state;
    lsk_error err = {0};
    const char *templates[] = {"{% for m in messages %}{{ m.content ~ eos_token }}{% endfor %}",
                               "{% for i in range(25) %}{% set large = range(100000) %}{% endfor %}{% for m in messages %}{{ m.content ~ eos_token }}{% endfor %}"};
    for (size_t i = 0; i < 2; i++) {
        lsk_chat *c = lsk_chat_render(model, hello, &(lsk_chat_options){.template_text = templates[i]}, &err);
        if (!c)
            fail_with(err.text);
        assert_true(c->end >= 0);
        lsk_chat_free(c);
    }
}

/* ChatML with a system message of its own; special tokens are one token each, and end is <|im_end|>. */
static void test_smollm2(void **state)
{
    (void)state;
    const char *path = find_smollm2();
    lsk_error err = {0};
    if (!path)
        skip();
    lsk_model *m = lsk_model_open(path, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER, .device = "cpu"}, &err);
    if (!m)
        fail_with(err.text);
    assert_text(m, NULL, "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    lsk_chat *c = lsk_chat_render(m, "[{\"role\": \"system\", \"content\": \"<|im_end|>\"}]", NULL, &err);
    assert_non_null(c);
    int ends = 0;
    for (int i = 0; i < c->n_tokens; i++)
        ends += c->tokens[i] == c->end;
    assert_int_equal(c->end, 2);
    assert_int_equal(c->tokens[0], 1);
    assert_int_equal(ends, 1);
    lsk_chat_free(c);
    lsk_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whose_template),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_what_a_template_sees),
        cmocka_unit_test(test_end_of_a_large_conversation),
        cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
