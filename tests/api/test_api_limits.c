/* SPDX-License-Identifier: Apache-2.0 */
/* Penalties, biases, grammars and candidates as layerskip.h promises them: refused by name where they are wrong, and the same reply whatever drafted it. */
#include <math.h>

#include "replies.h"

enum { CONTEXT = 160, SESSIONS = 3, TOP = 20 };
static struct folder folder;
static lsk_model *model;
static const int32_t prompt[] = {72, 101, 108, 108, 111, 32, 72, 101, 108, 108, 111};
enum { PROMPT = sizeof prompt / sizeof *prompt };

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    model = folder_open(&folder, &(lsk_model_options){.context = CONTEXT, .sessions = SESSIONS, .threads = 1});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lsk_model_close(model);
    folder_remove(&folder);
    return 0;
}

static void get_alone(const lsk_generate_options *o, struct reply *r)
{
    lsk_session *s = must_session(model);
    reply_get(s, prompt, PROMPT, o, r);
    lsk_session_close(s);
}

/* ---- what is refused ---- */

static void wrong_values_are_refused_by_name(void **state)
{
    (void)state;
    static const lsk_logit_bias low[] = {{-1, 1}}, high[] = {{515, 1}}, nan[] = {{1, NAN}}, plus[] = {{3, INFINITY}}, much[] = {{3, 2e6f}};
    static lsk_logit_bias many[516];
    static const struct {
        lsk_generate_options o;
        int code;
        const char *word;
    } bad[] = {
        {{.repeat_penalty = NAN}, LSK_EUSAGE, "repeat_penalty nan: must be 0.01 to 100"},
        {{.repeat_penalty = -1}, LSK_EUSAGE, "repeat_penalty -1"},
        {{.presence_penalty = INFINITY}, LSK_EUSAGE, "presence_penalty inf: must be -100 to 100"},
        {{.frequency_penalty = -101}, LSK_EUSAGE, "frequency_penalty -101"},
        {{.frequency_penalty = NAN}, LSK_EUSAGE, "frequency_penalty nan"},
        {{.n_probs = 21}, LSK_EUSAGE, "n_probs 21: must be 0 to 20"},
        {{.n_probs = -1}, LSK_EUSAGE, "n_probs -1"},
        {{.logit_bias = low, .n_logit_bias = 1}, LSK_EUSAGE, "logit_bias: token -1: the vocabulary has 0 to 514"},
        {{.logit_bias = high, .n_logit_bias = 1}, LSK_EUSAGE, "token 515"},
        {{.logit_bias = nan, .n_logit_bias = 1}, LSK_EUSAGE, "token 1: nan: must be"},
        {{.logit_bias = plus, .n_logit_bias = 1}, LSK_EUSAGE, "token 3: inf"},
        {{.logit_bias = much, .n_logit_bias = 1}, LSK_EUSAGE, "token 3: 2e+06"},
        {{.logit_bias = many, .n_logit_bias = 516}, LSK_EUSAGE, "516 entries: must be 0 to 515"},
        {{.logit_bias = many, .n_logit_bias = -1}, LSK_EUSAGE, "-1 entries"},
        {{.grammar = "root ::= \"a\"\nother := \"b\""}, LSK_EDATA, "grammar: line 2, column 7"},
        {{.grammar = "root ::= root \"a\" | \"b\""}, LSK_EDATA, "left recursion"},
        {{.grammar = ""}, LSK_EDATA, "grammar: there is no rule 'root'"},
        {{.json_schema = "{\"type\": \"strin\"}"}, LSK_EDATA, "JSON schema: "},
        {{.json_schema = "{\"type\": "}, LSK_EDATA, "JSON schema: line 1, column "},
        {{.json_schema = "{\"not\": {}}"}, LSK_EDATA, "not"},
        {{.grammar = "root ::= \"a\"", .json_schema = "{}"}, LSK_EUSAGE, "give one of them"},
        {{.grammar = "root ::= \"a\"", .ignore_eos = 1}, LSK_EUSAGE, "ignore_eos"},
        {{.json_schema = "{}", .ignore_eos = 1}, LSK_EUSAGE, "ignore_eos"},
    };
    lsk_session *s = must_session(model);
    lsk_model *words = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER});
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lsk_error err = {0}, early = {0};
        assert_int_equal(lsk_session_prompt(s, prompt, PROMPT, &bad[i].o, &err), bad[i].code);
        if (!strstr(err.text, bad[i].word))
            fail_msg("\"%s\" is not in: %s", bad[i].word, err.text);
        assert_int_equal(lsk_options_check(words, &bad[i].o, &early), bad[i].code);
        assert_string_equal(early.text, err.text);
        assert_int_equal(lsk_step(&s, 1, NULL, NULL, &err), 0);
    }
    lsk_generate_options good = {.max_tokens = 3, .json_schema = "{}", .repeat_penalty = 1.1f, .n_probs = TOP};
    assert_int_equal(lsk_options_check(words, &good, NULL), 0);
    lsk_model_close(words);
    struct reply r;
    reply_get(s, prompt, PROMPT, &good, &r);
    lsk_session_close(s);
}

/* ---- the same reply, whatever drafted it ---- */

static const lsk_logit_bias biases[] = {{65, 3}, {66, 3}, {65, -1}, {10, -INFINITY}, {400, 2}};
static const lsk_generate_options ways[] = {
    {.logit_bias = biases, .n_logit_bias = 5},
    {.repeat_penalty = 1.4f},
    {.repeat_penalty = 1.2f, .presence_penalty = .3f, .frequency_penalty = .4f, .repeat_last_n = 12, .logit_bias = biases, .n_logit_bias = 4, .n_probs = 5},
    {.grammar = "root ::= ([a-z]+ \" \" | [0-9]{1,3} \"-\"){4,40} \".\"", .n_probs = TOP},
    {.json_schema = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 12}, \"b\": {\"type\": \"integer\"}, \"c\": {\"enum\": [\"x\", null, true]}}, "
                    "\"required\": [\"a\", \"b\", \"c\"]}",
     .frequency_penalty = .1f, .repeat_last_n = -1},
};
enum { WAYS = sizeof ways / sizeof *ways };

static lsk_generate_options way(int i, int warm, const char *drafter)
{
    lsk_generate_options o = ways[i];
    o.max_tokens = 60;
    o.temperature = warm ? .9f : 0;
    o.seed = 11;
    o.drafter = drafter;
    o.num_speculations = strcmp(drafter, "none") ? 5 : 0;
    o.exit_layer = 2;
    return o;
}

static void drafting_changes_no_reply(void **state)
{
    (void)state;
    static const char *const drafters[] = {"exit", "ngram", "recycle", "ngram+exit+recycle"};
    int drafted = 0;
    for (int i = 0; i < WAYS; i++)
        for (int warm = 0; warm < 2; warm++) {
            static struct reply plain, free_reply, got;
            lsk_generate_options o = way(i, warm, "none"), none = {.max_tokens = 60, .temperature = o.temperature, .seed = o.seed};
            get_alone(&o, &plain);
            get_alone(&none, &free_reply);
            assert_true(plain.n != free_reply.n || memcmp(plain.token, free_reply.token, (size_t)plain.n * sizeof *plain.token)); /* it does something */
            for (int d = 0; d < 4; d++) {
                o = way(i, warm, drafters[d]);
                get_alone(&o, &got);
                reply_equal(&plain, &got);
                drafted += got.drafted;
            }
        }
    assert_true(drafted > 100);
}

static int take_first(void *ud, const lsk_event *e)
{
    struct reply *r = ud;
    return reply_take(&r[e->session], e);
}

static void sessions_with_grammars_of_their_own_go_together(void **state)
{
    (void)state;
    static struct reply alone[SESSIONS], together[SESSIONS];
    lsk_session *s[SESSIONS];
    lsk_error err = {0};
    memset(together, 0, sizeof together);
    for (int i = 0; i < SESSIONS; i++) {
        lsk_generate_options o = way(WAYS - 1 - i, i % 2, "exit+recycle");
        get_alone(&o, &alone[i]);
    }
    for (int i = 0; i < SESSIONS; i++) {
        lsk_generate_options o = way(WAYS - 1 - i, i % 2, "exit+recycle");
        s[i] = must_session(model);
        assert_int_equal(lsk_session_prompt(s[i], prompt, PROMPT, &o, &err), 0);
    }
    while (lsk_step(s, SESSIONS, take_first, together, &err) > 0)
        ;
    for (int i = 0; i < SESSIONS; i++) {
        reply_equal(&alone[i], &together[i]);
        lsk_session_close(s[i]);
    }
}

/* ---- grammars ---- */

static void a_reply_is_a_text_of_its_grammar(void **state)
{
    (void)state;
    lsk_session *s = must_session(model);
    struct reply r;
    for (int i = 0; i < 8; i++) {
        lsk_generate_options o = {.drafter = i % 2 ? "exit" : "none", .temperature = 1.5f, .seed = (uint64_t)i, .grammar = i < 4 ? "root ::= \"yes\" | \"no\" | \"<300>\"" : "root ::= [0-9]{3}"};
        reply_get(s, prompt, PROMPT, &o, &r); /* each prompt replaces the grammar before it */
        assert_int_equal(r.finish, LSK_FINISH_EOS);
        if (i < 4)
            assert_true(!strcmp(r.text, "yes") || !strcmp(r.text, "no") || !strcmp(r.text, "<300>"));
        else
            assert_true(strlen(r.text) == 3 && strspn(r.text, "0123456789") == 3);
    }
    for (int i = 0; i < 6; i++) {
        lsk_generate_options o = way(WAYS - 1, 1, i % 2 ? "recycle" : "exit");
        o.seed = (uint64_t)i;
        o.max_tokens = 0;
        reply_get(s, prompt, PROMPT, &o, &r);
        if (r.finish != LSK_FINISH_EOS) { /* white space and digits may take all the room */
            assert_int_equal(r.finish, LSK_FINISH_CONTEXT);
            continue;
        }
        json_t *j = json_loads(r.text, JSON_REJECT_DUPLICATES, NULL);
        assert_true(json_is_string(json_object_get(j, "a")) && json_is_integer(json_object_get(j, "b")) && json_object_get(j, "c"));
        json_decref(j);
    }
    lsk_session_close(s);
}

struct end {
    enum lsk_finish finish;
    char error[508];
    int n;
};

static int take_end(void *ud, const lsk_event *e)
{
    struct end *end = ud;
    end->n += e->token >= 0;
    end->finish = e->finish;
    assert_int_equal(e->error != NULL, e->finish == LSK_FINISH_ERROR);
    if (e->error)
        strcpy(end->error, e->error);
    return 0;
}

static void what_leaves_no_token_ends_the_reply_with_its_reason(void **state)
{
    (void)state;
    static lsk_logit_bias all[515];
    for (int i = 0; i < 515; i++)
        all[i] = (lsk_logit_bias){i, -INFINITY};
    lsk_session *s = must_session(model);
    lsk_generate_options o = {.logit_bias = all, .n_logit_bias = 515, .max_tokens = 5};
    struct end end = {LSK_RUNNING, "", 0};
    assert_int_equal(lsk_generate(s, prompt, PROMPT, &o, take_end, &end, NULL, NULL), 0);
    assert_int_equal(end.finish, LSK_FINISH_ERROR);
    assert_int_equal(end.n, 0);
    assert_string_equal(end.error, "logit bias: leaves no token behind 0 tokens of the reply: take some of it away");
    int32_t b = -1;
    assert_int_equal(lsk_encode(model, "b", 1, 0, &b, 1, NULL), 1);
    o = (lsk_generate_options){.grammar = "root ::= \"ab\"", .logit_bias = &all[b], .n_logit_bias = 1, .drafter = "exit"};
    assert_int_equal(lsk_generate(s, prompt, PROMPT, &o, take_end, &end, NULL, NULL), 0);
    assert_int_equal(end.finish, LSK_FINISH_ERROR);
    assert_non_null(strstr(end.error, "of those that the grammar allows"));
    lsk_session_close(s);
}

/* ---- candidates ---- */

struct told {
    int n, n_top[64];
    lsk_logprob top[64][TOP];
    int32_t token[64];
    float logprob[64];
};

static int take_top(void *ud, const lsk_event *e)
{
    struct told *t = ud;
    if (e->token < 0)
        return 0;
    t->token[t->n] = e->token;
    t->logprob[t->n] = e->logprob;
    t->n_top[t->n] = e->n_top;
    memcpy(t->top[t->n++], e->top, (size_t)e->n_top * sizeof *e->top);
    return 0;
}

static void candidates_are_the_models_own(void **state)
{
    (void)state;
    static const char *const drafters[] = {"none", "exit", "recycle", "ngram+exit+recycle"};
    static struct told plain, got;
    lsk_session *s = must_session(model);
    for (int k = 0; k < 12; k++) {
        int wanted = k < 4 ? 3 : TOP, limited = k >= 8;
        lsk_generate_options o = {.drafter = drafters[k % 4], .exit_layer = 2, .num_speculations = k % 4 ? 4 : 0, .n_probs = wanted, .max_tokens = 30, .temperature = limited ? 1 : 0,
                                  .seed = 3, .repeat_penalty = limited ? 1.5f : 0, .grammar = limited ? "root ::= [a-zA-Z0-9 ]*" : NULL};
        memset(&got, 0, sizeof got);
        assert_int_equal(lsk_generate(s, prompt, PROMPT, &o, take_top, &got, NULL, NULL), 0);
        for (int i = 0; i < got.n; i++) {
            assert_int_equal(got.n_top[i], wanted);
            for (int j = 1; j < wanted; j++)
                assert_true(got.top[i][j].logprob < got.top[i][j - 1].logprob || (got.top[i][j].logprob == got.top[i][j - 1].logprob && got.top[i][j].token > got.top[i][j - 1].token));
            assert_true(got.logprob[i] <= got.top[i][0].logprob);
            if (!limited)
                assert_true(got.token[i] == got.top[i][0].token && got.logprob[i] == got.top[i][0].logprob);
        }
        if (k % 4 == 0)
            plain = got;
        assert_true(got.n > 0);
        assert_memory_equal(&got, &plain, sizeof got); /* to the last bit */
    }
    lsk_session_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_values_are_refused_by_name), cmocka_unit_test(drafting_changes_no_reply), cmocka_unit_test(sessions_with_grammars_of_their_own_go_together),
        cmocka_unit_test(a_reply_is_a_text_of_its_grammar), cmocka_unit_test(what_leaves_no_token_ends_the_reply_with_its_reason), cmocka_unit_test(candidates_are_the_models_own),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
