/* SPDX-License-Identifier: Apache-2.0 */
/* An engine over the toy backend, and a vocabulary of one letter for every token. */
#ifndef TESTS_DECODE_TOY_ENGINE_H
#define TESTS_DECODE_TOY_ENGINE_H

#include "check.h"

#include "decode/decode.h"
#include "toy_backend.h"

enum { TOY_SLOTS = 256, TOY_SEQS = 4, TOY_DRAFTS = DRAFTS_MAX };

struct toy {
    struct kv *kv;
    struct engine engine;
    struct vocab vocab;
    struct tokenizer *tokenizer;
    struct timeline t[TOY_SEQS];
    int n;
};

static void toy_vocab(struct toy *f)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,";
    struct bytes text[TOY_VOCAB];
    for (int i = 0; i < TOY_VOCAB; i++)
        text[i] = (struct bytes){(const uint8_t *)letters + i, 1};
    struct vocab_tables in = {.model = "gpt2", .pre = "smollm", .n = TOY_VOCAB, .text = text, .bos = -1, .eos = -1, .unk = -1, .add_bos = -1, .add_eos = -1, .add_space_prefix = -1};
    struct error err = {0};
    if (vocab_from_tables(&f->vocab, "toy", &in, NULL, &err))
        print_message("%s\n", err.text);
    f->tokenizer = tokenizer_open(&f->vocab, &err);
    assert_non_null(f->tokenizer);
}

/* n timelines that nothing was asked of yet. */
static inline struct toy *toy_setup(int n, enum toy_fault fault)
{
    struct toy *f = calloc(1, sizeof *f);
    struct device_options o = {.n_slots = TOY_SLOTS, .n_seqs = TOY_SEQS, .n_hidden = TOY_SEQS * (1 + TOY_DRAFTS)};
    f->kv = toy_open(TOY_SLOTS, TOY_SEQS, o.n_hidden);
    f->kv->fault = fault;
    f->n = n;
    toy_vocab(f);
    assert_int_equal(engine_open(&f->engine, &toy_backend, f->kv, &o, TOY_LAYERS, TOY_VOCAB, 16, TOY_DRAFTS, NULL), 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(timeline_open(&f->t[i], &f->engine, NULL), 0);
        assert_int_equal(reply_open(&f->t[i].reply, f->tokenizer, NULL), 0);
    }
    return f;
}

static inline void toy_teardown(struct toy *f)
{
    for (int i = 0; i < f->n; i++) {
        reply_close(&f->t[i].reply);
        timeline_close(&f->t[i], &f->engine);
    }
    engine_close(&f->engine);
    toy_close(f->kv);
    tokenizer_close(f->tokenizer);
    vocab_close(&f->vocab);
    free(f);
}

/* A prompt of n tokens made from seed. */
static inline void toy_prompt(struct toy *f, int i, int n, uint64_t seed, const struct request *ask)
{
    int32_t tokens[TOY_SLOTS];
    struct reply_rules rules = {0};
    for (int k = 0; k < n; k++)
        tokens[k] = (int32_t)(toy_mix(seed, (uint64_t)k) % TOY_VOCAB);
    assert_int_equal(reply_start(&f->t[i].reply, &rules, NULL), 0);
    assert_int_equal(timeline_prompt(&f->t[i], &f->engine, tokens, n, ask, NULL), 0);
}

/* Steps until every reply has ended, as lsk_step does. */
static inline void toy_finish(struct toy *f)
{
    for (;;) {
        struct timeline *ready[TOY_SEQS];
        int m = 0;
        for (int i = 0; i < f->n; i++) {
            struct timeline *t = &f->t[i];
            if (t->reply.finish != REPLY_RUNNING)
                continue;
            if (timeline_has_prompt_left(t))
                assert_int_equal(timeline_prefill(t, &f->engine, NULL), 0);
            else
                ready[m++] = t;
            reply_clear(&t->reply);
        }
        bool left = m > 0;
        for (int i = 0; i < f->n; i++)
            left |= f->t[i].reply.finish == REPLY_RUNNING;
        if (!left)
            return;
        if (m)
            assert_int_equal(round_run(&f->engine, ready, m, NULL), 0);
    }
}

#endif
