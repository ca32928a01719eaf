/* SPDX-License-Identifier: Apache-2.0 */
/* The headline promise on real kernels: drafted text equals plain text, token for token and in every bit of its log-probabilities, whatever the exit layer, the
   drafts, the weight type, the cache, the sampling, the threads, the kernels, the prompt's chunks and the neighbours. By default a covering sample; --full: everything. */
#include "tiny_device.h"

#include "decode/decode.h"

enum { SLOTS = 600, MAX_DRAFTS = 12, NEW = 64, TIMELINES = 3 };

/* ---- what is varied ---- */

static const struct kind {
    const char *shape, *dtype, *weights;
    bool wide, kv_f32;
} kinds[] = {
    {"tiny-ties", "bf16", "file", false, false}, {"tiny-ties", "bf16", "q8", false, false},  {"tiny-ties", "bf16", "q4", false, true},
    {"tiny-gqa", "bf16", "file", false, false},  {"tiny-llama3", "bf16", "q4", false, false}, {"tiny-llama3", "f16", "file", false, false},
    {"tiny-headdim", "f32", "file", false, true}, {"tiny-tied", "bf16", "q8", false, false},  {"tiny-bias", "bf16", "file", true, true},
};
static const struct sampling samplings[] = {
    {.temperature = 0},
    {.temperature = 0.8f, .seed = 7},
    {.temperature = 1.3f, .seed = 8, .top_k = 20, .top_p = 0.9f},
    {.temperature = 1, .seed = 9, .min_p = 0.05f, .choice = 2},
};
static const struct team {
    unsigned drafters;
    bool weighed;
} teams[] = {
    {DRAFT_EXIT, false}, {DRAFT_NGRAM, false}, {DRAFT_RECYCLE, false}, {DRAFT_EXIT | DRAFT_RECYCLE, false}, {DRAFT_NGRAM | DRAFT_EXIT | DRAFT_RECYCLE, false},
    {DRAFT_EXIT, true}, {DRAFT_NGRAM | DRAFT_EXIT | DRAFT_RECYCLE, true},
};
static const int prompts[] = {1, 2, 30, 230, 500}; /* the replies of the last two cross the edges of attention blocks inside drafts */
static const int threads[] = {1, 2, 3}, batches[] = {256, 1, 7, 64};
static const char *const sets[] = {NULL, "plain"};

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

struct combination {
    int kind, exit_layer, drafts, team, sampling, prompt, threads, batch, set;
};

struct text {
    int n;
    int32_t token[NEW];
    float logprob[NEW];
};

/* ---- planted faults: a backend that is right but for one thing ---- */

enum fault { NO_FAULT, SKIP_EARLY, STALE_SLOT, NOISE_KEY, SIBLING, NO_MOVE };
static enum fault fault;
static int fault_exit;
static const struct backend *right;

static int faulty_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err)
{
    struct row bad[256];
    if (fault == SKIP_EARLY && first == 0 && last == fault_exit && n == 1 && __builtin_popcountll(rows[0].also) > 1)
        return 0; /* the last draft's first layers */
    memcpy(bad, rows, (size_t)n * sizeof *bad);
    for (int i = 0; i < n; i++)
        if (fault == STALE_SLOT && rows[i].also) { /* the slot that the round before left behind is read instead of the own ancestor */
            bad[i].also = rows[i].also >> 1 << 2 | 1;
            bad[i].pos = bad[i].prefix + __builtin_popcountll(bad[i].also);
        }
    for (int i = 0; i < n; i++)
        if (fault == SIBLING && rows[i].slot - rows[i].prefix > __builtin_popcountll(rows[i].also)) { /* all that stand before it in the tree are seen */
            bad[i].also = ((uint64_t)1 << (rows[i].slot - rows[i].prefix)) - 1;
            bad[i].pos = rows[i].slot;
        }
    return right->forward(kv, first, last, bad, n, err);
}

static int faulty_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err)
{
    struct row bad[64];
    memcpy(bad, rows, (size_t)n * sizeof *bad);
    for (int i = 0; i < n; i++)
        if (fault == NOISE_KEY && rows[i].also)
            bad[i].pos--; /* noise of the position of the row, not of the token */
    return right->pick(kv, bad, asks, n, picks, err);
}

static int faulty_move(struct kv *kv, int seq, int dst, const int32_t *src, int n, struct error *err)
{
    return fault == NO_MOVE ? 0 : right->kv_move(kv, seq, dst, src, n, err);
}

/* ---- one reply ---- */

static struct tokenizer *words;

struct rig {
    struct synthetic s;
    struct backend b; /* the synthetic's, perhaps with a fault */
    struct engine e;
    struct timeline t[TIMELINES];
};

static void rig_open(struct rig *r, const struct combination *c)
{
    const struct kind *k = &kinds[c->kind];
    struct device_options o = {.weights = k->weights, .wide = k->wide, .kv_f32 = k->kv_f32, .kernels = sets[c->set], .threads = threads[c->threads],
                               .n_slots = SLOTS, .n_seqs = TIMELINES, .n_hidden = 256};
    struct error err = {0};
    synthetic_open(&r->s, k->shape, k->dtype, &o);
    r->b = *r->s.b;
    right = r->s.b;
    if (fault) {
        r->b.forward = faulty_forward;
        r->b.pick = faulty_pick;
        r->b.kv_move = faulty_move;
    }
    if (engine_open(&r->e, &r->b, r->s.kv, &r->s.o, r->s.model.config.n_layers, r->s.model.config.vocab, batches[c->batch], MAX_DRAFTS, &err))
        fail_with(err.text);
    words = r->s.model.tokenizer;
    for (int i = 0; i < TIMELINES; i++) {
        assert_int_equal(timeline_open(&r->t[i], &r->e, NULL), 0);
        assert_int_equal(reply_open(&r->t[i].reply, words, NULL), 0);
    }
}

static void rig_close(struct rig *r)
{
    for (int i = 0; i < TIMELINES; i++) {
        reply_close(&r->t[i].reply);
        timeline_close(&r->t[i], &r->e);
    }
    engine_close(&r->e);
    synthetic_close(&r->s);
}

static void prompt(struct rig *r, int i, int n, const struct request *ask)
{
    int32_t tokens[SLOTS];
    uint64_t seed = 100 + (uint64_t)i;
    for (int k = 0; k < n; k++)
        tokens[k] = check_below(&seed, r->s.model.config.vocab);
    assert_int_equal(reply_start(&r->t[i].reply, &(struct reply_rules){0}, NULL), 0);
    struct error err = {0};
    if (timeline_prompt(&r->t[i], &r->e, tokens, n, ask, &err))
        fail_with(err.text);
}

/* The first n timelines to their ends; what the first one said. */
static void finish(struct rig *r, int n, struct text *out)
{
    out->n = 0;
    for (;;) {
        struct timeline *ready[TIMELINES];
        struct error err = {0};
        int m = 0;
        for (int i = 0; i < n; i++) {
            if (r->t[i].reply.finish != REPLY_RUNNING)
                continue;
            if (timeline_has_prompt_left(&r->t[i])) {
                if (timeline_prefill(&r->t[i], &r->e, &err))
                    fail_with(err.text);
                m = m ? m : -1;
            } else {
                m = m < 0 ? 0 : m;
                ready[m++] = &r->t[i];
            }
        }
        if (m == 0)
            return;
        if (m > 0 && round_run(&r->e, ready, m, &err))
            fail_with(err.text);
        for (int i = 0; i < n; i++) {
            struct reply *p = &r->t[i].reply;
            for (int k = 0; k < p->n_events && i == 0 && out->n < NEW; k++) {
                out->token[out->n] = p->event[k].token;
                out->logprob[out->n++] = p->event[k].logprob;
            }
            reply_clear(p);
        }
    }
}

static struct request ask_of(const struct rig *r, const struct combination *c, bool drafted)
{
    return (struct request){.drafters = drafted ? teams[c->team].drafters : 0, .weighed = teams[c->team].weighed, .exit_layer = c->exit_layer, .n_drafts = c->drafts,
                            .depth = r->s.model.config.n_layers, .sampling = samplings[c->sampling], .max_tokens = NEW};
}

/* Drafted, in company when the combination's number is odd. */
static void drafted_text(const struct combination *c, int number, struct text *out, struct stats *stats)
{
    struct rig r;
    rig_open(&r, c);
    fault_exit = c->exit_layer;
    struct request ask = ask_of(&r, c, true), other = ask_of(&r, c, number % 4 == 1);
    other.exit_layer = 1 + c->exit_layer % (r.s.model.config.n_layers - 1);
    other.sampling.seed ^= 99;
    prompt(&r, 0, prompts[c->prompt], &ask);
    for (int i = 1; i < TIMELINES; i++)
        prompt(&r, i, 5 + 40 * i, &other);
    finish(&r, number % 2 ? TIMELINES : 1, out);
    *stats = r.t[0].stats;
    rig_close(&r);
}

/* Plain, alone, on the fastest kernels, one thread, the prompt in one piece: kept, since many combinations share it. */
static const struct text *plain_text(const struct combination *c)
{
    static struct text kept[COUNT(kinds)][COUNT(samplings)][COUNT(prompts)];
    struct text *t = &kept[c->kind][c->sampling][c->prompt];
    if (t->n == 0) {
        struct combination base = {.kind = c->kind, .sampling = c->sampling, .prompt = c->prompt};
        struct rig r;
        enum fault planted = fault;
        fault = NO_FAULT;
        rig_open(&r, &base);
        struct request ask = ask_of(&r, &base, false);
        prompt(&r, 0, prompts[c->prompt], &ask);
        finish(&r, 1, t);
        rig_close(&r);
        fault = planted;
        assert_int_equal(t->n, NEW);
    }
    return t;
}

static void describe(const struct combination *c, int at)
{
    const struct kind *k = &kinds[c->kind];
    print_error("%s %s weights %s exit %d drafts %d team %d sampling %d prompt %d threads %d batch %d kernels %s: differs at token %d\n", k->shape, k->dtype, k->weights, c->exit_layer,
                c->drafts, c->team, c->sampling, prompts[c->prompt], threads[c->threads], batches[c->batch], sets[c->set] ? sets[c->set] : "auto", at);
}

struct tally {
    long replies, tokens, different, drafted, accepted;
};

static void compare(const struct combination *c, int number, struct tally *sum, bool tell)
{
    const struct text *want = plain_text(c);
    struct text got;
    struct stats stats;
    drafted_text(c, number, &got, &stats);
    sum->replies++;
    sum->tokens += got.n;
    sum->drafted += stats.drafted;
    sum->accepted += stats.accepted;
    for (int i = 0; i < NEW; i++)
        if (i >= got.n || got.token[i] != want->token[i] || memcmp(&got.logprob[i], &want->logprob[i], sizeof(float))) {
            sum->different++;
            if (tell)
                describe(c, i);
            return;
        }
}

/* Every level of every factor, in random company. */
static struct combination random_combination(uint64_t *seed, int number)
{
    struct combination c = {.kind = number % COUNT(kinds), .drafts = number % (MAX_DRAFTS + 1), .team = number / 2 % COUNT(teams), .sampling = check_below(seed, COUNT(samplings)),
                            .prompt = check_below(seed, COUNT(prompts)), .threads = check_below(seed, COUNT(threads)), .batch = check_below(seed, COUNT(batches))};
    c.exit_layer = 1 + check_below(seed, strcmp(kinds[c.kind].shape, "tiny-gqa") ? 3 : 4);
    c.set = number % 5 == 4 && c.prompt < 3; /* the plain kernels are slow */
    c.threads = c.threads == 2 && number % 3 ? 1 : c.threads; /* more threads than cores: less often */
    return c;
}

static void report(const char *what, const struct tally *t)
{
    print_message("%s: %ld replies, %ld tokens, %ld different; acceptance %.2f\n", what, t->replies, t->tokens, t->different,
                  t->drafted ? (double)t->accepted / (double)t->drafted : 0);
}

static void drafting_changes_no_bit(void **state)
{
    (void)state;
    struct tally sum = {0};
    uint64_t seed = 2024;
    fault = NO_FAULT;
    for (int i = 0; i < 300; i++) {
        struct combination c = random_combination(&seed, i);
        compare(&c, i, &sum, true);
    }
    report("covering sample", &sum);
    assert_int_equal(sum.different, 0);
    assert_true(sum.accepted > sum.drafted / 10); /* drafts that are never accepted would test nothing */
}

static void everything_changes_no_bit(void **state)
{
    (void)state;
    struct tally sum = {0};
    int number = 0;
    fault = NO_FAULT;
    for (int k = 0; k < COUNT(kinds); k++)
        for (int e = 1; e <= (strcmp(kinds[k].shape, "tiny-gqa") ? 3 : 4); e++) {
            for (int d = 0; d <= MAX_DRAFTS; d++)
                for (int s = 0; s < COUNT(samplings); s++)
                    for (int p = 0; p < COUNT(prompts); p++) {
                        struct combination c = {.kind = k, .exit_layer = e, .drafts = d, .team = number % COUNT(teams), .sampling = s, .prompt = p, .threads = number % 3 == 2 ? 0 : number % 3,
                                                .batch = number % COUNT(batches), .set = number % 7 == 6};
                        compare(&c, number++, &sum, true);
                    }
            print_message("%s %s, exit %d: %ld replies so far\n", kinds[k].shape, kinds[k].weights, e, sum.replies);
        }
    report("everything", &sum);
    assert_int_equal(sum.different, 0);
}

/* The same test with one thing wrong: it must notice. */
static void planted_faults_are_caught(void **state)
{
    (void)state;
    static const enum fault faults[] = {SKIP_EARLY, STALE_SLOT, NOISE_KEY, SIBLING, NO_MOVE};
    static const char *const names[] = {"last early pass skipped", "a stale slot read", "noise keyed wrongly", "a sibling seen", "a walked branch not moved"};
    for (int f = 0; f < COUNT(faults); f++) {
        struct tally sum = {0};
        fault = faults[f];
        for (int i = 0; i < 12; i++) {
            struct combination c = {.kind = i % 3, .exit_layer = 1 + i % 3, .drafts = 3 + i % 4, .team = fault >= SIBLING ? 2 : 0, .sampling = fault == NOISE_KEY ? 1 : i % 2, .prompt = 2};
            compare(&c, 0, &sum, false);
        }
        report(names[f], &sum);
        assert_true(sum.different > 0);
    }
    fault = NO_FAULT;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest sample[] = {cmocka_unit_test(drafting_changes_no_bit), cmocka_unit_test(planted_faults_are_caught)};
    const struct CMUnitTest full[] = {cmocka_unit_test(everything_changes_no_bit), cmocka_unit_test(planted_faults_are_caught)};
    if (argc > 1 && !strcmp(argv[1], "--full"))
        return cmocka_run_group_tests(full, NULL, synthetic_cleanup);
    return cmocka_run_group_tests(sample, NULL, synthetic_cleanup);
}
