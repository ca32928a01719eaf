/* SPDX-License-Identifier: Apache-2.0 */
/* The headline promise on real kernels: drafted text equals plain text, token for token and in every bit of its log-probabilities, whatever the exit layer, the
   drafts, the weight type, the cache, the sampling, penalties, biases, a grammar, the threads, the kernels, the prompt's chunks and the neighbours. By default a covering sample; --full: everything;
   --tokens N: a covering sample of N tokens and more with up to 64 timelines in a call, for devices that like many rows. */
#include "tiny_device.h"

#include <math.h>

#include "backend/cpu/matmul.h"
#include "decode/decode.h"

enum { SLOTS = 600, MAX_DRAFTS = 12, NEW = 64, TIMELINES = 3, CROWD = 64 };

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
    bool weighed, free;
} teams[] = {
    {DRAFT_EXIT, false, false}, {DRAFT_NGRAM, false, false}, {DRAFT_RECYCLE, false, false}, {DRAFT_EXIT | DRAFT_RECYCLE, false, true}, {DRAFT_NGRAM | DRAFT_EXIT | DRAFT_RECYCLE, false, true},
    {DRAFT_EXIT, true, false}, {DRAFT_NGRAM | DRAFT_EXIT | DRAFT_RECYCLE, true, false},
};
static const int prompts[] = {1, 2, 30, 230, 500}; /* the replies of the last two cross the edges of attention blocks inside drafts */
static const int threads[] = {1, 2, 3}, batches[] = {256, 1, 7, 64};
static const char *const sets[] = {NULL, "plain", "avx2"};
static const int gaps[] = {0, 2, 5}; /* drafts are chosen among all tokens but every so manieth; 0: but none */

static const struct bias biases[] = {{5, 2}, {9, -INFINITY}, {100, -3}, {300, 1.5f}};
static const struct limits limits[] = {
    {.n_bias = 0}, {.repeat = 1.3f, .presence = 0.5f, .frequency = 0.2f, .last_n = 20, .bias = biases, .n_bias = 4}, {.repeat = 0.8f, .last_n = INT32_MAX}, {.n_bias = 0}};
static const char grammar_text[] = "root ::= ([a-zA-Z ]+ [0-9]? | \"\\\"\" [^\"]{0,9} \"\\\".\")+ \"\\n\"+"; /* of the last of them: it never has to end */
enum { GRAMMAR = 3 };

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

struct combination {
    int kind, exit_layer, drafts, team, sampling, prompt, threads, batch, set, gap, limits;
};

struct text {
    int n;
    int32_t token[NEW];
    float logprob[NEW];
};

/* ---- planted faults: a backend that is right but for one thing ---- */

enum fault { NO_FAULT, SKIP_EARLY, STALE_SLOT, NOISE_KEY, SIBLING, NO_MOVE, EDITS_OF_ROOT };
static enum fault fault;
static int fault_exit;
static const struct backend *right;

static int faulty_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err)
{
    struct row bad[CROWD * (1 + MAX_DRAFTS)];
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
    struct row bad[CROWD * (1 + MAX_DRAFTS)];
    memcpy(bad, rows, (size_t)n * sizeof *bad);
    for (int i = 0; i < n; i++)
        if (fault == NOISE_KEY && rows[i].also)
            bad[i].pos--; /* noise of the position of the row, not of the token */
    struct ask of_root[CROWD * (1 + MAX_DRAFTS)];
    memcpy(of_root, asks, (size_t)n * sizeof *asks);
    for (int i = 1; i < n; i++)
        if (fault == EDITS_OF_ROOT && rows[i].also && rows[i].seq == rows[i - 1].seq) { /* penalties as they were where the round began */
            of_root[i].n_edits = of_root[i - 1].n_edits;
            of_root[i].edits = of_root[i - 1].edits;
        }
    return right->pick(kv, bad, of_root, n, picks, err);
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
    struct timeline t[CROWD];
    int32_t draft_token[512];
    int n; /* timelines */
    struct grammar *grammar;
    struct token_tree *tree;
    struct matcher *matcher[CROWD]; /* one for each timeline */
};

static void open_matchers(struct rig *r)
{
    static struct bytes text[4096];
    struct error err = {0};
    int n = r->s.model.config.vocab;
    assert_true(n <= 4096);
    for (int i = 0; i < n; i++)
        text[i] = tokenizer_hidden(words, i) ? (struct bytes){0} : tokenizer_piece(words, i);
    r->grammar = grammar_open("grammar", (struct bytes){(const uint8_t *)grammar_text, sizeof grammar_text - 1}, &err);
    r->tree = token_tree_open(text, n, NULL, 0, &err);
    for (int i = 0; i < r->n; i++)
        if (!r->grammar || !(r->matcher[i] = matcher_open(r->grammar, r->tree, &err)))
            fail_with(err.text);
}

static void rig_open(struct rig *r, const struct combination *c, int n)
{
    const struct kind *k = &kinds[c->kind];
    struct device_options o = {.weights = k->weights, .wide = k->wide, .kv_f32 = k->kv_f32, .kernels = sets[c->set], .threads = threads[c->threads],
                               .n_slots = SLOTS, .n_seqs = n, .n_hidden = n * (1 + MAX_DRAFTS) > 256 ? n * (1 + MAX_DRAFTS) : 256};
    struct error err = {0};
    o.draft_token = r->draft_token;
    for (int id = 0; gaps[c->gap] && id < 509; id++) /* as many as the smallest vocabulary has */
        if (id % gaps[c->gap])
            r->draft_token[o.n_draft_tokens++] = id;
    synthetic_open(&r->s, k->shape, k->dtype, &o);
    r->b = *r->s.b;
    right = r->s.b;
    if (fault) {
        r->b.forward = faulty_forward;
        r->b.pick = faulty_pick;
        r->b.kv_move = faulty_move;
        r->b.draft = NULL; /* every pass goes through the faulty ones */
    }
    if (engine_open(&r->e, &r->b, r->s.kv, &r->s.o, r->s.model.config.n_layers, r->s.model.config.vocab, batches[c->batch], MAX_DRAFTS, &err))
        fail_with(err.text);
    words = r->s.model.tokenizer;
    r->n = n;
    for (int i = 0; i < n; i++) {
        assert_int_equal(timeline_open(&r->t[i], &r->e, NULL), 0);
        assert_int_equal(reply_open(&r->t[i].reply, words, NULL), 0);
    }
    open_matchers(r);
}

static void rig_close(struct rig *r)
{
    for (int i = 0; i < r->n; i++) {
        reply_close(&r->t[i].reply);
        timeline_close(&r->t[i], &r->e);
        matcher_close(r->matcher[i]);
    }
    token_tree_close(r->tree);
    grammar_close(r->grammar);
    engine_close(&r->e);
    synthetic_close(&r->s);
}

/* text: which of the texts that prompts are made of. */
static void prompt(struct rig *r, int i, int text, int n, const struct request *ask)
{
    int32_t tokens[SLOTS];
    uint64_t seed = 100 + (uint64_t)text;
    for (int k = 0; k < n; k++)
        tokens[k] = check_below(&seed, r->s.model.config.vocab);
    assert_int_equal(reply_start(&r->t[i].reply, &(struct reply_rules){0}, NULL), 0);
    struct error err = {0};
    struct request own = *ask;
    own.limits.matcher = own.limits.matcher ? r->matcher[i] : NULL;
    if (timeline_prompt(&r->t[i], &r->e, tokens, n, &own, &err))
        fail_with(err.text);
}

/* The first n timelines to their ends; what the first n_out of them said. */
static void finish(struct rig *r, int n, struct text *out, int n_out)
{
    for (int i = 0; i < n_out; i++)
        out[i].n = 0;
    for (;;) {
        struct timeline *ready[CROWD];
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
            for (int k = 0; k < p->n_events && i < n_out && out[i].n < NEW; k++) {
                out[i].token[out[i].n] = p->event[k].token;
                out[i].logprob[out[i].n++] = p->event[k].logprob;
            }
            reply_clear(p);
        }
    }
}

static struct request ask_of(const struct rig *r, const struct combination *c, bool drafted)
{
    struct request ask = {.drafters = drafted ? teams[c->team].drafters : 0, .weighed = teams[c->team].weighed, .exit_layer = c->exit_layer, .n_drafts = c->drafts,
                          .n_free = teams[c->team].free ? MAX_DRAFTS - c->drafts : 0, .depth = r->s.model.config.n_layers, .sampling = samplings[c->sampling],
                          .limits = limits[c->limits], .max_tokens = NEW};
    ask.limits.matcher = c->limits == GRAMMAR ? r->matcher[0] : NULL; /* prompt() gives each its own */
    return ask;
}

/* Drafted, in company when the combination's number is odd. */
static void drafted_text(const struct combination *c, int number, struct text *out, struct stats *stats)
{
    static struct rig r;
    rig_open(&r, c, TIMELINES);
    fault_exit = c->exit_layer;
    struct request ask = ask_of(&r, c, true), other = ask_of(&r, c, number % 4 == 1);
    other.exit_layer = 1 + c->exit_layer % (r.s.model.config.n_layers - 1);
    other.sampling.seed ^= 99;
    prompt(&r, 0, 0, prompts[c->prompt], &ask);
    for (int i = 1; i < TIMELINES; i++)
        prompt(&r, i, i, 5 + 40 * i, &other);
    finish(&r, number % 2 ? TIMELINES : 1, out, 1);
    *stats = r.t[0].stats;
    rig_close(&r);
}

/* Plain, alone, on the fastest kernels, one thread, the prompt in one piece: kept, since many combinations share it. */
static const struct text *plain_text(const struct combination *c)
{
    static struct text kept[COUNT(kinds)][COUNT(samplings)][COUNT(prompts)][COUNT(limits)];
    struct text *t = &kept[c->kind][c->sampling][c->prompt][c->limits];
    if (t->n == 0) {
        struct combination base = {.kind = c->kind, .sampling = c->sampling, .prompt = c->prompt, .limits = c->limits};
        static struct rig r;
        enum fault planted = fault;
        fault = NO_FAULT;
        rig_open(&r, &base, TIMELINES);
        struct request ask = ask_of(&r, &base, false);
        prompt(&r, 0, 0, prompts[c->prompt], &ask);
        finish(&r, 1, t, 1);
        rig_close(&r);
        fault = planted;
        assert_int_equal(t->n, NEW);
    }
    return t;
}

static void describe(const struct combination *c, int at)
{
    const struct kind *k = &kinds[c->kind];
    print_error("%s %s weights %s exit %d drafts %d team %d sampling %d prompt %d threads %d batch %d kernels %s draft head %d limits %d: differs at token %d\n", k->shape, k->dtype, k->weights, c->exit_layer,
                c->drafts, c->team, c->sampling, prompts[c->prompt], threads[c->threads], batches[c->batch], sets[c->set] ? sets[c->set] : "auto", c->gap, c->limits, at);
}

struct tally {
    long replies, tokens, different, drafted, accepted;
};

static void judge(const struct combination *c, const struct text *got, const struct text *want, const struct stats *stats, struct tally *sum, bool tell)
{
    sum->replies++;
    sum->tokens += got->n;
    sum->drafted += stats->drafted;
    sum->accepted += stats->accepted;
    for (int i = 0; i < NEW; i++)
        if (i >= got->n || got->token[i] != want->token[i] || memcmp(&got->logprob[i], &want->logprob[i], sizeof(float))) {
            sum->different++;
            if (tell && sum->different <= 20)
                describe(c, i);
            return;
        }
}

static void compare(const struct combination *c, int number, struct tally *sum, bool tell)
{
    const struct text *want = plain_text(c);
    struct text got;
    struct stats stats;
    drafted_text(c, number, &got, &stats);
    judge(c, &got, want, &stats, sum, tell);
}

/* Every so many replies are made by another set of kernels, where there is one: plain seldom, since it is slow. */
static int set_of(int number, int every)
{
    if (!test_on_cpu())
        return 0;
    return number % every == every - 1 ? 1 : number % every == every / 2 && kernels_pick("avx2") ? 2 : 0;
}

/* Every level of every factor, in random company. */
static struct combination random_combination(uint64_t *seed, int number)
{
    struct combination c = {.kind = number % COUNT(kinds), .drafts = number % (MAX_DRAFTS + 1), .team = number / 2 % COUNT(teams), .sampling = check_below(seed, COUNT(samplings)),
                            .prompt = check_below(seed, COUNT(prompts)), .threads = check_below(seed, COUNT(threads)), .batch = check_below(seed, COUNT(batches)),
                            .gap = check_below(seed, COUNT(gaps)), .limits = number % 3 ? 0 : check_below(seed, COUNT(limits))};
    c.exit_layer = 1 + check_below(seed, strcmp(kinds[c.kind].shape, "tiny-gqa") ? 3 : 4);
    c.set = c.prompt < 3 ? set_of(number, 5) : 0;
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
    test_of_cpu("kernels plain and avx2");
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
                                                .batch = number % COUNT(batches), .set = set_of(number, 7), .gap = number % 5 % COUNT(gaps), .limits = number % 11 % COUNT(limits)};
                        compare(&c, number++, &sum, true);
                    }
            print_message("%s %s, exit %d: %ld replies so far\n", kinds[k].shape, kinds[k].weights, e, sum.replies);
        }
    report("everything", &sum);
    assert_int_equal(sum.different, 0);
}

/* ---- a crowd: up to 64 timelines in a call, each with its own prompt, sampling, drafter, exit layer and number of drafts ---- */

enum { TEXTS = 3 };
static long crowd_tokens = 9 * 16 * NEW; /* at least so many */

/* Plain and alone, in a rig that is open: kept for all crowds of that kind. */
static const struct text *plain_in(struct rig *r, struct text *kept, const struct combination *c, int text)
{
    struct text *t = &kept[((c->sampling * COUNT(prompts) + c->prompt) * TEXTS + text) * COUNT(limits) + c->limits];
    if (t->n == 0) {
        struct request ask = ask_of(r, c, false);
        timeline_forget(&r->t[0], &r->e);
        prompt(r, 0, text, prompts[c->prompt], &ask);
        finish(r, 1, t, 1);
        assert_int_equal(t->n, NEW);
    }
    return t;
}

/* n timelines at once against what each says alone. */
static void compare_crowd(struct rig *r, struct text *kept, int kind, int n, uint64_t *seed, struct tally *sum)
{
    static struct text got[CROWD];
    struct combination c[CROWD];
    int text[CROWD];
    const struct text *want[CROWD];
    for (int i = 0; i < n; i++) {
        c[i] = random_combination(seed, check_below(seed, 1 << 20));
        c[i].kind = kind;
        c[i].exit_layer = 1 + check_below(seed, r->s.model.config.n_layers - 1);
        c[i].set = c[i].threads = c[i].batch = 0;
        text[i] = check_below(seed, TEXTS);
        want[i] = plain_in(r, kept, &c[i], text[i]);
    }
    for (int i = 0; i < n; i++) {
        struct request ask = ask_of(r, &c[i], true);
        timeline_forget(&r->t[i], &r->e);
        prompt(r, i, text[i], prompts[c[i].prompt], &ask);
    }
    finish(r, n, got, n);
    for (int i = 0; i < n; i++)
        judge(&c[i], &got[i], want[i], &r->t[i].stats, sum, true);
}

static void a_crowd_changes_no_bit(void **state)
{
    (void)state;
    static struct rig r;
    static struct text kept[COUNT(samplings) * COUNT(prompts) * TEXTS * COUNT(limits)];
    static const int sizes[] = {64, 16, 33, 2, 64, 8, 63, 5}; /* calls of one group of rows and of many */
    struct tally sum = {0};
    uint64_t seed = 77;
    fault = NO_FAULT;
    for (int k = 0; k < COUNT(kinds); k++) {
        struct combination base = {.kind = k, .batch = k % COUNT(batches) == 1 ? 2 : k % COUNT(batches), .gap = k % COUNT(gaps)};
        int most = crowd_tokens / COUNT(kinds) / NEW < CROWD ? 16 : CROWD;
        memset(kept, 0, sizeof kept);
        rig_open(&r, &base, most);
        for (int i = most == CROWD ? 0 : 1; sum.tokens < crowd_tokens * (k + 1) / COUNT(kinds); i++)
            compare_crowd(&r, kept, k, sizes[i % COUNT(sizes)] < most ? sizes[i % COUNT(sizes)] : most, &seed, &sum);
        rig_close(&r);
        print_message("%s %s weights %s: %ld replies so far, %ld tokens, %ld different\n", kinds[k].shape, kinds[k].dtype, kinds[k].weights, sum.replies, sum.tokens, sum.different);
    }
    report("crowds", &sum);
    assert_int_equal(sum.different, 0);
    assert_true(sum.accepted > sum.drafted / 10);
}

/* The same test with one thing wrong: it must notice. */
static void planted_faults_are_caught(void **state)
{
    (void)state;
    static const enum fault faults[] = {SKIP_EARLY, STALE_SLOT, NOISE_KEY, SIBLING, NO_MOVE, EDITS_OF_ROOT};
    static const char *const names[] = {"last early pass skipped", "a stale slot read", "noise keyed wrongly", "a sibling seen", "a walked branch not moved", "penalties of the root for all its drafts"};
    for (int f = 0; f < COUNT(faults); f++) {
        struct tally sum = {0};
        fault = faults[f];
        for (int i = 0; i < 12; i++) {
            struct combination c = {.kind = i % 3, .exit_layer = 1 + i % 3, .drafts = 3 + i % 4, .team = fault == SIBLING || fault == NO_MOVE ? 2 : 0, .sampling = fault == NOISE_KEY ? 1 : i % 2, .prompt = 2,
                                    .limits = fault == EDITS_OF_ROOT};
            compare(&c, 0, &sum, false);
        }
        report(names[f], &sum);
        assert_true(sum.different > 0);
    }
    fault = NO_FAULT;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest sample[] = {cmocka_unit_test(drafting_changes_no_bit), cmocka_unit_test(a_crowd_changes_no_bit), cmocka_unit_test(planted_faults_are_caught)};
    const struct CMUnitTest crowds[] = {cmocka_unit_test(a_crowd_changes_no_bit), cmocka_unit_test(planted_faults_are_caught)};
    const struct CMUnitTest full[] = {cmocka_unit_test(everything_changes_no_bit), cmocka_unit_test(planted_faults_are_caught)};
    if (argc > 1 && !strcmp(argv[1], "--full"))
        return cmocka_run_group_tests(full, NULL, synthetic_cleanup);
    if (argc > 2 && !strcmp(argv[1], "--tokens")) {
        crowd_tokens = atol(argv[2]);
        return cmocka_run_group_tests(crowds, NULL, synthetic_cleanup);
    }
    return cmocka_run_group_tests(sample, NULL, synthetic_cleanup);
}
