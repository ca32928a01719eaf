/* SPDX-License-Identifier: Apache-2.0 */
/* Replies as the tests of the session interface compare them: tokens, the bits of their log-probabilities, text, how they ended. */
#ifndef TESTS_API_REPLIES_H
#define TESTS_API_REPLIES_H

#include <stdbool.h>

#include "synthetic.h"

enum { REPLY_MAX = 512, REPLY_TEXT = 16384 };

struct reply {
    int32_t token[REPLY_MAX];
    uint32_t logprob[REPLY_MAX];
    int n, drafted, events, ends; /* tokens, accepted drafts among them, events, events with a finish */
    char text[REPLY_TEXT];
    size_t n_text;
    enum lsk_finish finish;
    int cancel_at; /* cancels at this token; 0: never */
};

static inline int reply_take(void *ud, const lsk_event *e)
{
    struct reply *r = ud;
    r->events++;
    r->ends += e->finish != LSK_RUNNING;
    assert_true(r->ends == 0 || e->finish != LSK_RUNNING); /* nothing after the end */
    if (e->token >= 0) {
        assert_true(r->n < REPLY_MAX);
        memcpy(&r->logprob[r->n], &e->logprob, 4);
        r->token[r->n++] = e->token;
        r->drafted += e->drafted;
    }
    assert_true(r->n_text + e->n_text < REPLY_TEXT);
    memcpy(r->text + r->n_text, e->text, e->n_text);
    r->n_text += e->n_text;
    r->text[r->n_text] = 0;
    r->finish = e->finish;
    return r->cancel_at && r->n >= r->cancel_at;
}

/* One reply; the engine must not fail. */
static inline void reply_get(lsk_session *s, const int32_t *prompt, int n, const lsk_generate_options *o, struct reply *r)
{
    lsk_error err = {0};
    memset(r, 0, sizeof *r);
    if (lsk_generate(s, prompt, n, o, reply_take, r, NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(r->ends, 1);
    assert_true(r->finish != LSK_FINISH_ERROR);
}

/* The same reply, whatever was drafted on the way. */
static inline void reply_equal(const struct reply *a, const struct reply *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->token, b->token, (size_t)a->n * sizeof *a->token);
    assert_memory_equal(a->logprob, b->logprob, (size_t)a->n * sizeof *a->logprob);
    assert_int_equal(a->n_text, b->n_text);
    assert_memory_equal(a->text, b->text, a->n_text);
    assert_int_equal(a->finish, b->finish);
}

static inline void prompt_fill(int32_t *ids, int n, uint64_t seed)
{
    seed = seed * 2 + 1;
    for (int i = 0; i < n; i++)
        ids[i] = 3 + check_below(&seed, 500);
}

#endif
