/* SPDX-License-Identifier: Apache-2.0 */
/* A session compiles a grammar once for as long as replies ask for the same text; what its matcher has found out for one reply is there for the next, and changes nothing. */
#include "api.h"
#include "synthetic.h"

enum { TOKENS = 60 };
static struct folder folder;
static lsk_model *model;
static const int32_t prompt[] = {72, 101, 108, 108, 111, 32};
enum { PROMPT = sizeof prompt / sizeof *prompt };
static const char letters[] = "root ::= ([a-z]+ \" \" | [0-9]{1,3} \"-\"){4,40} \".\"",
                  object[] = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 12}, \"b\": {\"enum\": [\"x\", null, true]}}, \"required\": [\"a\", \"b\"]}";

struct got {
    int n;
    int32_t token[TOKENS];
    float logprob[TOKENS];
    enum lsk_finish finish;
};

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    model = folder_open(&folder, &(lsk_model_options){.context = 160, .sessions = 2, .threads = 1});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lsk_model_close(model);
    folder_remove(&folder);
    return 0;
}

static int take(void *ud, const lsk_event *e)
{
    struct got *g = ud;
    g->finish = e->finish;
    if (e->token >= 0) {
        g->token[g->n] = e->token;
        g->logprob[g->n++] = e->logprob;
    }
    return 0;
}

static void get(lsk_session *s, const lsk_generate_options *o, struct got *g)
{
    lsk_error err = {0};
    memset(g, 0, sizeof *g);
    if (lsk_generate(s, prompt, PROMPT, o, take, g, NULL, &err))
        fail_msg("%s", err.text);
}

static void test_the_same_text_is_compiled_once(void **state)
{
    (void)state;
    static struct got fresh, again;
    lsk_session *s = must_session(model);
    char *copy = strdup(object); /* what counts is the text, not where it lies */
    assert_non_null(copy);
    for (int i = 0; i < 9; i++) {
        const struct matcher *before = s->limits.grammar.matcher;
        lsk_generate_options o = {.max_tokens = TOKENS, .drafter = i % 2 ? "exit+recycle" : "none", .exit_layer = 2, .temperature = i % 3 ? 1 : 0, .seed = (uint64_t)i};
        *(i < 4 || i > 6 ? &o.json_schema : &o.grammar) = i < 4 ? i % 2 ? copy : object : i > 6 ? "{}" : letters;
        lsk_session *other = must_session(model);
        get(other, &o, &fresh);
        lsk_session_close(other);
        get(s, &o, &again);
        assert_memory_equal(&fresh, &again, sizeof fresh);
        assert_true(again.n > 2);
        assert_non_null(s->limits.grammar.matcher);
        assert_int_equal(s->limits.grammar.matcher == before, i != 0 && i != 4 && i != 7);
    }
    free(copy);
    lsk_session_close(s);
}

static void test_what_is_no_longer_asked_for_is_gone(void **state)
{
    (void)state;
    static struct got got;
    lsk_session *s = must_session(model);
    lsk_error err = {0};
    get(s, &(lsk_generate_options){.max_tokens = 5, .grammar = letters}, &got);
    assert_non_null(s->limits.grammar.matcher);
    get(s, &(lsk_generate_options){.max_tokens = 5}, &got);
    assert_null(s->limits.grammar.matcher);
    /* the same text as what it is not */
    get(s, &(lsk_generate_options){.max_tokens = 5, .grammar = letters}, &got);
    assert_int_equal(lsk_session_prompt(s, prompt, PROMPT, &(lsk_generate_options){.json_schema = letters}, &err), LSK_EDATA);
    /* behind a prompt that failed when the grammar was there already */
    get(s, &(lsk_generate_options){.max_tokens = 5, .grammar = letters}, &got);
    assert_true(lsk_session_prompt(s, prompt, 0, &(lsk_generate_options){.grammar = letters}, &err) < 0);
    struct got again;
    get(s, &(lsk_generate_options){.max_tokens = 5, .grammar = letters}, &again);
    assert_memory_equal(got.token, again.token, sizeof got.token);
    lsk_session_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_same_text_is_compiled_once), cmocka_unit_test(test_what_is_no_longer_asked_for_is_gone)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
