/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in templates word by word, and that what messages say is no control token. */
#include "check.h"

#include "text/chat_template.h"
#include "text/small.h"

static struct small s;
static struct arena arena;

static struct marked must_render(const char *template, const char *messages, bool reply)
{
    json_t *list = json_loads(messages, 0, NULL);
    const struct chat_request ask = {.messages = list, .reply = reply};
    struct error err = {0};
    struct marked out = {0};
    struct jinja *j = jinja_open("t", as_bytes(template), &err);
    if (!j || chat_render(j, s.t, &ask, &arena, &out, &err))
        fail_with(err.text);
    out.p = arena_text(&arena, out.p, out.n); /* the list's texts go */
    jinja_close(j);
    json_decref(list);
    return out;
}

static const char *text_of(const char *name, const char *messages, bool reply) { return must_render(chat_builtin_find(name)->text, messages, reply).p; }

static const char dialogue[] = "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \" a \"}, {\"role\": \"assistant\", \"content\": \"b\"},"
                               " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"c\"}, {\"type\": \"image\"}]}]";

static void open_chars(void)
{
    static const char *const pieces[] = {"\xe2\x96\x81", "a", "b", "c", "S", NULL};
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
}

static void test_builtins(void **state)
{
    (void)state;
    open_chars();
    assert_string_equal(text_of("llama2", dialogue, true), "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]");
    assert_string_equal(text_of("codellama", "[{\"role\": \"user\", \"content\": \"a\"}]", true), "<s>[INST] a [/INST]");
    assert_string_equal(text_of("llama3", dialogue, true),
                        "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>"
                        "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    assert_string_equal(text_of("chatml", dialogue, true), "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n a <|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
    assert_string_equal(text_of("chatml", "[{\"role\": \"user\", \"content\": \"a\"}]", false), "<|im_start|>user\na<|im_end|>\n");
    assert_string_equal(text_of("llama3", "[]", false), "<s>");
    for (int i = 0; chat_builtin_at(i); i++)
        assert_non_null(chat_builtin_find(chat_builtin_at(i)->name)->text);
    assert_null(chat_builtin_find("llama"));
    assert_null(chat_builtin_at(-1));
    arena_free(&arena);
    small_close(&s);
}

static void test_llama2_wants_turns(void **state)
{
    (void)state;
    open_chars();
    json_t *list = json_loads("[{\"role\": \"assistant\", \"content\": \"a\"}]", 0, NULL);
    const struct chat_request ask = {.messages = list};
    struct error err = {0};
    struct marked out;
    struct jinja *j = jinja_open("llama2", as_bytes(chat_builtin_find("llama2")->text), &err);
    assert_non_null(j);
    assert_int_equal(chat_render(j, s.t, &ask, &arena, &out, &err), ERR_DATA);
    assert_string_equal(err.text, "llama2: line 1: the template refuses these messages: roles must be user, assistant, user, and so on");
    jinja_close(j);
    json_decref(list);
    arena_free(&arena);
    small_close(&s);
}

/* The pieces of a conversation joined by '|'. */
static const char *tokens_of(const char *template, const char *messages)
{
    static char out[1024];
    struct error err = {0};
    int32_t ids[256];
    json_t *list = json_loads(messages, 0, NULL);
    const struct chat_request ask = {.messages = list, .reply = true};
    struct jinja *j = jinja_open("t", as_bytes(template), &err);
    struct marked text = {0};
    if (!j || chat_render(j, s.t, &ask, &arena, &text, &err))
        fail_with(err.text);
    int n = chat_encode(s.t, text, ids, 256, &err);
    size_t at = 0;
    for (int i = 0; i < n && i < 256; i++) {
        struct bytes p = tokenizer_piece(s.t, ids[i]);
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%.*s", i ? "|" : "", (int)p.n, p.p);
    }
    jinja_close(j);
    json_decref(list);
    return out;
}

/* A user who writes a control token gets its letters; the template's own is one token; and one made of both is none. */
static void test_what_messages_say_is_no_control_token(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    small_bytes(&s, "gpt-2", none);
    assert_int_equal(small_open(&s, NULL), 0);
    const char *template = "{% for m in messages %}<|bos|>{{ m.content }}<|eot|>{% endfor %}";
    assert_string_equal(tokens_of(template, "[{\"content\": \"<|eot|>\"}]"), "<|bos|>|<|||e|o|t|||>|<|eot|>");
    assert_string_equal(tokens_of(template, "[{\"content\": \"<|e\"}]"), "<|bos|>|<|||e|<|eot|>");
    assert_string_equal(tokens_of("<|{{ messages[0].content }}|><|bos|>", "[{\"content\": \"eot\"}]"), "<|||e|o|t|||>|<|bos|>");
    assert_string_equal(tokens_of("<|{{ messages[0].role }}|>", "[{\"role\": \"eot\"}]"), "<|||e|o|t|||>");
    assert_string_equal(tokens_of("{{ messages[0].content | replace('x', '<|eot|>') }}", "[{\"content\": \"axb\"}]"), "a|<|eot|>|b");
    arena_free(&arena);
    small_close(&s);
    open_chars(); /* spaces are rewritten there: marks move along */
    template = "<s>a {{ messages[0].content }} </s>";
    assert_string_equal(tokens_of(template, "[{\"content\": \"b c\"}]"), "<s>|a| |b| |c| |</s>");
    const char *with = tokens_of(template, "[{\"content\": \" </s> b\"}]"), *tail = strstr(with, "b| |</s>");
    assert_non_null(tail);
    assert_true(strstr(with, "</s>") == tail + 4);
    arena_free(&arena);
    small_close(&s);
}

static void test_end_of_a_message(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    static const struct {
        const char *template;
        const char *end;
    } cases[] = {{"{% for m in messages %}<|bos|>{{ m.content }}<|eot|>\n{% endfor %}", "<|eot|>"},
                 {"{% for m in messages %}{{ m.content }} x\n{% endfor %}", NULL},
                 {"{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %} </s>{{ '<|eot|>' }}{% endif %}{% endfor %}", "<|eot|>"},
                 {"{{ raise_exception('never') }}", NULL}};
    small_bytes(&s, "gpt-2", none);
    assert_int_equal(small_open(&s, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct jinja *j = jinja_open("t", as_bytes(cases[i].template), &err);
        assert_non_null(j);
        int32_t end = chat_end(j, s.t, &(struct chat_request){0});
        assert_int_equal(end >= 0, cases[i].end != NULL);
        if (end >= 0)
            assert_true(bytes_equal(tokenizer_piece(s.t, end), cases[i].end));
        jinja_close(j);
    }
    arena_free(&arena);
    small_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builtins),
        cmocka_unit_test(test_llama2_wants_turns),
        cmocka_unit_test(test_what_messages_say_is_no_control_token),
        cmocka_unit_test(test_end_of_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
