/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_engine.h"

static int32_t letter(char c)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,";
    return (int32_t)(strchr(letters, c) - letters);
}

/* Pushes text letter by letter, taking events every `every` tokens; the whole text to out. Returns how many tokens were taken before the end. */
static int say(struct reply *r, const struct reply_rules *rules, const char *text, int every, char *out)
{
    int n = 0;
    size_t at = 0;
    assert_int_equal(reply_start(r, rules, NULL), 0);
    for (; text[n] && r->finish == REPLY_RUNNING; n++) {
        reply_push(r, &(struct pick){.token = letter(text[n]), .logprob = -0.5f}, 0, n % 2);
        if (r->finish != REPLY_RUNNING)
            reply_flush(r);
        if (n % every == every - 1 || r->finish != REPLY_RUNNING) {
            for (int i = 0; i < r->n_events; i++) {
                memcpy(out + at, r->text + r->event[i].text, r->event[i].n_text);
                at += r->event[i].n_text;
            }
            reply_clear(r);
        }
    }
    if (r->finish == REPLY_RUNNING) {
        reply_flush(r);
        for (int i = 0; i < r->n_events; i++) {
            memcpy(out + at, r->text + r->event[i].text, r->event[i].n_text);
            at += r->event[i].n_text;
        }
        reply_clear(r);
    }
    out[at] = 0;
    return n;
}

static void texts_and_stops(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    static const char *const stop[] = {"END", "N,"};
    int32_t eos[] = {letter('z'), letter('9')};
    static const struct {
        const char *in, *out;
        int n_stop, n_eos, tokens;
        enum reply_finish finish;
    } cases[] = {
        {"HelloWorld", "HelloWorld", 0, 0, 10, REPLY_RUNNING},
        {"HelloENDWorld", "Hello", 2, 0, 8, REPLY_STOP},
        {"HelloEENDWorld", "HelloE", 2, 0, 9, REPLY_STOP},
        {"HelloENWorldEN", "HelloENWorldEN", 2, 0, 14, REPLY_RUNNING}, /* what was held back comes out at the end */
        {"HelloEN,World", "HelloE", 2, 0, 8, REPLY_STOP},
        {"ab9cz", "ab", 0, 2, 3, REPLY_EOS}, /* the earliest end, not the first listed */
        {"abENz", "abEN", 2, 2, 5, REPLY_EOS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int every = 1; every < 6; every++) {
            struct reply_rules rules = {.stop = stop, .n_stop = cases[i].n_stop, .eos = eos, .n_eos = cases[i].n_eos};
            char out[64];
            int n = say(&f->t[0].reply, &rules, cases[i].in, every, out);
            assert_string_equal(out, cases[i].out);
            assert_int_equal(n, cases[i].tokens);
            assert_int_equal(f->t[0].reply.finish, cases[i].finish);
        }
    toy_teardown(f);
}

static void limits_are_named(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    const char *many[STOP_MAX + 1], *empty[] = {"a", ""};
    for (int i = 0; i <= STOP_MAX; i++)
        many[i] = "x";
    struct error err = {0};
    assert_int_equal(reply_start(&f->t[0].reply, &(struct reply_rules){.stop = many, .n_stop = STOP_MAX + 1}, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "at most"));
    assert_int_equal(reply_start(&f->t[0].reply, &(struct reply_rules){.stop = empty, .n_stop = 2}, &err), ERR_USAGE);
    toy_teardown(f);
}

static void every_end_has_an_event(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct reply *r = &f->t[0].reply;
    reply_start(r, &(struct reply_rules){0}, NULL);
    r->finish = REPLY_LENGTH;
    reply_flush(r);
    assert_int_equal(r->n_events, 1);
    assert_int_equal(r->event[0].token, -1);
    assert_int_equal(r->event[0].n_text, 0);
    toy_teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_and_stops), cmocka_unit_test(limits_are_named), cmocka_unit_test(every_end_has_an_event)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
