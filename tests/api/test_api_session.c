/* SPDX-License-Identifier: Apache-2.0 */
/* What layerskip.h promises of sessions. All on the shape "tiny": 4 layers, 515 tokens, of which the first are single bytes and token n is written "<n>". */
#include <math.h>

#include "replies.h"

/* ---- counting allocations: the test program's own malloc, unless a sanitizer has one ---- */

#if !SANITIZED
static int n_allocations;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
#define COUNTED __attribute__((visibility("default")))
COUNTED void *malloc(size_t n) { return __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED), __libc_malloc(n); }
COUNTED void *calloc(size_t n, size_t size) { return __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED), __libc_calloc(n, size); }
COUNTED void *realloc(void *p, size_t n) { return __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED), __libc_realloc(p, n); }
COUNTED void *aligned_alloc(size_t align, size_t n) { return __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED), __libc_memalign(align, n); }
#endif

/* ---- for each test: one folder, one model with four sessions of 96 tokens ---- */

enum { CONTEXT = 96, SESSIONS = 4 };
static struct folder folder;
static lsk_model *model;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    model = folder_open(&folder, &(lsk_model_options){.context = CONTEXT, .sessions = SESSIONS, .batch = 32, .threads = 1});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lsk_model_close(model);
    folder_remove(&folder);
    return 0;
}

static lsk_generate_options with_drafts(int drafts, int exit_layer)
{
    return (lsk_generate_options){.drafter = drafts ? "exit" : "none", .exit_layer = exit_layer, .num_speculations = drafts, .max_tokens = 24};
}

static void get_alone(const int32_t *prompt, int n, const lsk_generate_options *o, struct reply *r)
{
    lsk_session *s = must_session(model);
    reply_get(s, prompt, n, o, r);
    lsk_session_close(s);
}

/* ---- options ---- */

struct bad_options {
    lsk_generate_options o;
    const char *word;
};

/* Each is refused with its word, nothing runs, and the session is as good as before. */
static void refuse_options(const struct bad_options *bad, size_t n)
{
    static const int32_t prompt[] = {5, 6, 7};
    lsk_session *s = must_session(model);
    for (size_t i = 0; i < n; i++) {
        lsk_error err = {0};
        assert_int_equal(lsk_session_prompt(s, prompt, 3, &bad[i].o, &err), LSK_EUSAGE);
        if (!strstr(err.text, bad[i].word))
            fail_msg("\"%s\" is not in: %s", bad[i].word, err.text);
        assert_int_equal(err.code, LSK_EUSAGE);
        assert_int_equal(lsk_step(&s, 1, NULL, NULL, &err), 0);
    }
    struct reply r;
    lsk_generate_options o = {.max_tokens = 3};
    reply_get(s, prompt, 3, &o, &r);
    assert_int_equal(r.n, 3);
    lsk_session_close(s);
}

/* The limit is in the message. */
static void item_30_exit_layers_and_drafts_out_of_range(void **state)
{
    (void)state;
    static const struct bad_options bad[] = {
        {{.drafter = "exit", .exit_layer = 4}, "exit layer 4: must be 1 to 3"},
        {{.exit_layer = 4}, "exit layer 4: must be 1 to 3"},
        {{.drafter = "exit", .exit_layer = -1}, "exit layer -1: must be 1 to 3"},
        {{.drafter = "exit", .exit_layer = 2, .depth = 2}, "exit layer 2: must be 1 to 1"},
        {{.drafter = "exit", .num_speculations = 16}, "16 drafts in a round: this model was opened for at most 15"},
        {{.num_speculations = 33}, "33 drafts in a round: this model was opened for at most 15"},
    };
    refuse_options(bad, sizeof bad / sizeof *bad);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    static const int32_t bad_eos[] = {2, 515};
    static const char *const empty[] = {"x", ""}, *const broken[] = {"\xff"};
    static char huge[4200];
    static const char *huge_stop[] = {huge};
    memset(huge, 'a', sizeof huge - 1);
    const struct bad_options bad[] = {
        {{.drafter = "magic"}, "drafter \"magic\""},
        {{.depth = 5}, "depth 5: must be 1 to 4"},
        {{.depth = -1}, "depth -1"},
        {{.temperature = -0.5f}, "temperature -0.5"},
        {{.temperature = NAN}, "temperature"},
        {{.temperature = INFINITY}, "temperature inf"},
        {{.top_p = 1.5f}, "top_p 1.5: must be 0 to 1"},
        {{.top_p = NAN}, "top_p"},
        {{.min_p = -0.25f}, "min_p -0.25: must be 0 to 1"},
        {{.top_k = -5}, "top_k -5"},
        {{.draft_min_conf = 2}, "draft_min_conf 2"},
        {{.max_tokens = -1}, "max_tokens -1"},
        {{.eos = bad_eos, .n_eos = 2}, "end-of-text id 515: the vocabulary has 0 to 514"},
        {{.eos = bad_eos, .n_eos = 1000}, "1000 end-of-text ids"},
        {{.eos = bad_eos, .n_eos = -1}, "-1 end-of-text ids"},
        {{.stop = empty, .n_stop = 2}, "0 bytes"},
        {{.stop = broken, .n_stop = 1}, "UTF-8"},
        {{.stop = huge_stop, .n_stop = 1}, "4096"},
        {{.stop = empty, .n_stop = 65}, "65 stop strings: at most 64"},
    };
    refuse_options(bad, sizeof bad / sizeof *bad);
}

/* The engine never sees it. */
static void refuse_prompt(const int32_t *ids, int n, const char *word, const char *number)
{
    lsk_error err = {0};
    lsk_session *s = must_session(model);
    assert_int_equal(lsk_generate(s, ids, n, NULL, NULL, NULL, NULL, &err), LSK_EUSAGE);
    if (!strstr(err.text, word) || !strstr(err.text, number))
        fail_msg("\"%s\" or \"%s\" is not in: %s", word, number, err.text);
    assert_int_equal(lsk_generate(s, ids, n, NULL, NULL, NULL, NULL, NULL), LSK_EUSAGE); /* err may be NULL */
    lsk_session_close(s);
}

static void item_35_empty_prompts(void **state)
{
    (void)state;
    refuse_prompt((int32_t[]){5}, 0, "empty", "at least one token");
    refuse_prompt((int32_t[]){5}, -3, "empty", "at least one token");
}

static void item_36_prompts_as_long_as_the_context(void **state)
{
    (void)state;
    int32_t ids[CONTEXT + 1];
    prompt_fill(ids, CONTEXT + 1, 1);
    refuse_prompt(ids, CONTEXT, "96 tokens", "context 96");
    refuse_prompt(ids, CONTEXT + 1, "97 tokens", "context 96");
}

static void item_40_tokens_that_are_none(void **state)
{
    (void)state;
    refuse_prompt((int32_t[]){5, -1}, 2, "token 1 of the prompt is -1", "0 to 514");
    refuse_prompt((int32_t[]){5, 6, 515}, 3, "token 2 of the prompt is 515", "0 to 514");
}

/* ---- where a reply ends ---- */

/* A prompt of one token less than the context gives one token; every prompt fills the context to its last place, whatever is drafted. The context is a whole
   KV page here, so that a draft behind the end has no place to go. */
static void item_36_context_fits_exactly(void **state)
{
    (void)state;
    enum { WHOLE = 256 };
    static const int rest[] = {1, 2, 5, 14, 40};
    int32_t ids[WHOLE];
    static struct reply plain, r;
    lsk_model *m = folder_open(&folder, &(lsk_model_options){.context = WHOLE, .threads = 1});
    lsk_session *s = must_session(m);
    prompt_fill(ids, WHOLE, 2);
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        for (int d = 0; d <= 12; d++) {
            lsk_generate_options o = {.drafter = d ? "exit" : "none", .exit_layer = 2, .num_speculations = d};
            reply_get(s, ids, WHOLE - rest[i], &o, d ? &r : &plain);
            if (d)
                reply_equal(&plain, &r);
            assert_int_equal(plain.n, rest[i]);
            assert_int_equal(plain.finish, LSK_FINISH_CONTEXT);
        }
    lsk_session_close(s);
    lsk_model_close(m);
}

static void test_max_tokens_is_exact(void **state)
{
    (void)state;
    int32_t ids[20];
    struct reply plain, r;
    int drafted = 0;
    prompt_fill(ids, 20, 3);
    lsk_generate_options o = with_drafts(0, 0);
    get_alone(ids, 20, &o, &plain);
    assert_int_equal(plain.n, 24);
    for (int max = 1; max <= 24; max += max < 6 ? 1 : 6)
        for (int d = 0; d <= 12; d++) {
            o = with_drafts(d, 2);
            o.max_tokens = max;
            get_alone(ids, 20, &o, &r);
            assert_int_equal(r.n, max);
            assert_int_equal(r.finish, LSK_FINISH_LENGTH);
            assert_memory_equal(r.token, plain.token, (size_t)max * sizeof *r.token);
            assert_memory_equal(r.logprob, plain.logprob, (size_t)max * sizeof *r.logprob);
            drafted += r.drafted;
        }
    assert_true(drafted > 20); /* drafts were accepted, so the limit fell inside a walk too */
}

/* Of several ids the one that comes first ends the reply, also when it was drafted. */
static void test_earliest_eos_wins(void **state)
{
    (void)state;
    int32_t ids[20];
    struct reply plain, r;
    prompt_fill(ids, 20, 4);
    lsk_generate_options o = with_drafts(0, 0);
    get_alone(ids, 20, &o, &plain);
    for (int d = 0; d <= 12; d++)
        for (int at = 0; at < 12; at++) {
            const int32_t eos[] = {plain.token[at + 9], plain.token[at], plain.token[at + 4]};
            int first = 0;
            while (plain.token[first] != eos[0] && plain.token[first] != eos[1] && plain.token[first] != eos[2])
                first++;
            o = with_drafts(d, 2);
            o.eos = eos;
            o.n_eos = 3;
            o.ignore_eos = at % 2; /* the checkpoint's ids; not these */
            get_alone(ids, 20, &o, &r);
            assert_int_equal(r.finish, LSK_FINISH_EOS);
            assert_int_equal(r.n, first + 1);
            assert_memory_equal(r.token, plain.token, (size_t)r.n * sizeof *r.token);
        }
}

static void test_eos_of_the_checkpoint(void **state)
{
    (void)state;
    struct folder own;
    int32_t ids[20];
    struct reply plain, r;
    prompt_fill(ids, 20, 4);
    lsk_generate_options o = with_drafts(0, 0);
    get_alone(ids, 20, &o, &plain);
    int32_t a = plain.token[7], b = plain.token[3];
    folder_make(&own, "tiny");
    folder_set(&own, "config.json", "eos_token_id", json_integer(1)); /* generation_config.json says otherwise */
    folder_set(&own, "generation_config.json", "eos_token_id", json_pack("[i, i]", a, b));
    lsk_model *m = folder_open(&own, &(lsk_model_options){.context = CONTEXT, .threads = 1});
    lsk_session *s = must_session(m);
    assert_int_equal(lsk_model_about(m)->n_eos, 2);
    reply_get(s, ids, 20, &o, &r);
    assert_int_equal(r.finish, LSK_FINISH_EOS);
    assert_true(r.n <= 4 && (r.token[r.n - 1] == a || r.token[r.n - 1] == b));
    o.ignore_eos = 1;
    reply_get(s, ids, 20, &o, &r);
    reply_equal(&plain, &r);
    lsk_session_close(s);
    lsk_model_close(m);
    folder_remove(&own);
}

/* A stop string is cut out exactly where it first occurs, however tokens and drafts divide it, and its tokens are the last. */
static void test_stop_strings(void **state)
{
    (void)state;
    int32_t ids[20];
    struct reply plain, r;
    int tried = 0;
    prompt_fill(ids, 20, 5);
    lsk_generate_options o = with_drafts(0, 0);
    get_alone(ids, 20, &o, &plain);
    for (size_t at = 0; at + 9 < plain.n_text; at += 3) {
        char stop[10] = {0};
        const char *stops[] = {"never there", stop};
        memcpy(stop, plain.text + at, 2 + at % 8);
        bool ascii = true;
        for (const char *c = stop; *c; c++)
            ascii &= *c > 0;
        if (!ascii)
            continue;
        size_t cut = (size_t)(strstr(plain.text, stop) - plain.text);
        for (int d = 0; d <= 8; d += 2) {
            o = with_drafts(d, 2);
            o.stop = stops;
            o.n_stop = 2;
            get_alone(ids, 20, &o, &r);
            assert_int_equal(r.finish, LSK_FINISH_STOP);
            assert_int_equal(r.n_text, cut);
            assert_memory_equal(r.text, plain.text, cut);
            assert_true(r.n <= plain.n);
            assert_memory_equal(r.token, plain.token, (size_t)r.n * sizeof *r.token);
        }
        tried++;
    }
    assert_true(tried > 8);
    const char *half[] = {"<nothing"};
    o = with_drafts(4, 2);
    o.stop = half;
    o.n_stop = 1;
    get_alone(ids, 20, &o, &r); /* what was held back for it comes out at the end */
    reply_equal(&plain, &r);
}

static void test_emit_cancels(void **state)
{
    (void)state;
    int32_t ids[20];
    struct reply plain, r;
    prompt_fill(ids, 20, 6);
    lsk_generate_options o = with_drafts(0, 0);
    get_alone(ids, 20, &o, &plain);
    lsk_session *s = must_session(model);
    for (int d = 0; d <= 12; d += 4) {
        lsk_error err = {0};
        memset(&r, 0, sizeof r);
        r.cancel_at = 5;
        o = with_drafts(d, 2);
        assert_int_equal(lsk_generate(s, ids, 20, &o, reply_take, &r, NULL, &err), 0);
        assert_int_equal(r.n, 5); /* not one more, also when more were committed in the round */
        assert_memory_equal(r.token, plain.token, 5 * sizeof *r.token);
        assert_int_equal(lsk_step(&s, 1, reply_take, &r, &err), 0);
        assert_int_equal(r.n, 5);
        reply_get(s, ids, 20, &o, &r);
        reply_equal(&plain, &r);
    }
    for (int at = 1; at <= 7; at++) { /* also in a round that ends the reply anyway */
        lsk_error err = {0};
        memset(&r, 0, sizeof r);
        r.cancel_at = at;
        o = with_drafts(8, 3);
        o.max_tokens = 7;
        assert_int_equal(lsk_generate(s, ids, 20, &o, reply_take, &r, NULL, &err), 0);
        assert_int_equal(r.n, at);
    }
    lsk_session_close(s);
}

/* ---- prefix reuse ---- */

static int cached(lsk_session *s) { return lsk_session_stats(s)->cached_tokens; }

/* The same reply with a warm and with a cold session, and the warm one kept `want` tokens. */
static void check_reuse(lsk_session *warm, const int32_t *ids, int n, const lsk_generate_options *o, int want)
{
    struct reply a, b;
    reply_get(warm, ids, n, o, &a);
    assert_int_equal(cached(warm), want);
    assert_int_equal(lsk_session_stats(warm)->prompt_tokens, n);
    lsk_session *cold = must_session(model);
    reply_get(cold, ids, n, o, &b);
    assert_int_equal(cached(cold), 0);
    lsk_session_close(cold);
    reply_equal(&a, &b);
}

static void test_prefix_reuse(void **state)
{
    (void)state;
    bool apart = !test_on_cpu(); /* a GPU keeps prompt and reply apart: what a reply wrote is no part of a prompt */
    for (int d = 0; d <= 6; d += 3) {
        int32_t ids[CONTEXT];
        struct reply first;
        lsk_generate_options o = with_drafts(d, 2);
        lsk_session *s = must_session(model);
        prompt_fill(ids, CONTEXT, 7);
        reply_get(s, ids, 30, &o, &first);
        check_reuse(s, ids, 30, &o, 29); /* the same again: all but the pending token */
        memcpy(ids + 30, first.token, 24 * sizeof *ids);
        check_reuse(s, ids, 60, &o, apart ? 29 : 53); /* a dialogue goes on: prompt, reply, more; the reply's last token has no K and V */
        ids[40] ^= 1;
        check_reuse(s, ids, 60, &o, 40); /* inside the old reply */
        check_reuse(s, ids, 10, &o, 9);
        check_reuse(s, ids, 60, &o, apart ? 9 : 10); /* behind the prompt stands another reply now */
        o.depth = 3;
        check_reuse(s, ids, 60, &o, 0); /* at another depth other layers hold K and V */
        check_reuse(s, ids, 60, &o, 59);
        lsk_session_close(s);
    }
}

/* ---- several sessions ---- */

static int route(void *ud, const lsk_event *e)
{
    assert_in_range(e->session, 0, SESSIONS - 1);
    return reply_take((struct reply *)ud + e->session, e);
}

static void test_sessions_do_not_see_each_other(void **state)
{
    (void)state;
    static const lsk_generate_options asks[SESSIONS] = {
        {.drafter = "none", .max_tokens = 30},
        {.drafter = "exit", .exit_layer = 2, .num_speculations = 5, .max_tokens = 20},
        {.drafter = "exit", .exit_layer = 3, .num_speculations = 12, .max_tokens = 40, .temperature = 0.8f, .top_p = 0.9f, .seed = 5},
        {.drafter = "exit", .exit_layer = 1, .num_speculations = 2, .max_tokens = 25, .temperature = 1.5f, .seed = 6, .depth = 3},
    };
    static const int lengths[SESSIONS] = {3, 50, 34, 20};
    static struct reply alone[SESSIONS], together[SESSIONS];
    lsk_session *s[SESSIONS];
    lsk_error err = {0};
    int32_t ids[SESSIONS][CONTEXT];
    for (int i = 0; i < SESSIONS; i++) {
        prompt_fill(ids[i], CONTEXT, 10 + (uint64_t)i);
        get_alone(ids[i], lengths[i], &asks[i], &alone[i]);
        assert_int_equal(alone[i].n, asks[i].max_tokens);
    }
    for (int i = 0; i < SESSIONS; i++) {
        s[i] = must_session(model);
        memset(&together[i], 0, sizeof together[i]);
        assert_int_equal(lsk_session_prompt(s[i], ids[i], lengths[i], &asks[i], &err), 0);
    }
    int running, steps = 0;
    while ((running = lsk_step(s, SESSIONS, route, together, &err)) > 0)
        steps++;
    assert_int_equal(running, 0);
    assert_true(steps >= 29);
    for (int i = 0; i < SESSIONS; i++) {
        reply_equal(&alone[i], &together[i]);
        lsk_session_close(s[i]);
    }
}

static void test_number_of_sessions(void **state)
{
    (void)state;
    lsk_session *s[SESSIONS];
    lsk_error err = {0};
    for (int i = 0; i < SESSIONS; i++)
        s[i] = must_session(model);
    assert_null(lsk_session_open(model, &err));
    assert_int_equal(err.code, LSK_EUSAGE);
    assert_non_null(strstr(err.text, "all 4 timelines"));
    lsk_session_close(s[2]);
    s[2] = must_session(model);
    for (int i = 0; i < SESSIONS; i++)
        lsk_session_close(s[i]);
    lsk_session_close(NULL);
}

/* ---- early exit as the whole model ---- */

struct argmax {
    int32_t id[CONTEXT];
};

static int take_argmax(void *ud, int i, const float *logits, int n_vocab)
{
    struct argmax *a = ud;
    a->id[i] = 0;
    for (int j = 1; j < n_vocab; j++)
        if (logits[j] > logits[a->id[i]])
            a->id[i] = j;
    return 0;
}

static void test_depth_is_the_model_cut_off(void **state)
{
    (void)state;
    int32_t ids[CONTEXT];
    static struct reply by_depth[5], r;
    lsk_error err = {0};
    lsk_session *s = must_session(model);
    for (int depth = 1; depth <= 4; depth++) {
        struct argmax a;
        lsk_generate_options o = {.drafter = "none", .depth = depth, .max_tokens = 30};
        prompt_fill(ids, 20, 20);
        reply_get(s, ids, 20, &o, &by_depth[depth]);
        memcpy(ids + 20, by_depth[depth].token, 30 * sizeof *ids);
        if (lsk_score(s, ids, 50, depth == 4 ? 0 : depth, take_argmax, &a, &err))
            fail_msg("%s", err.text);
        assert_memory_equal(a.id + 19, by_depth[depth].token, 30 * sizeof *ids);
        for (int exit_layer = 1; exit_layer < depth; exit_layer++) {
            o = (lsk_generate_options){.drafter = "exit", .exit_layer = exit_layer, .num_speculations = 5, .depth = depth, .max_tokens = 30};
            reply_get(s, ids, 20, &o, &r);
            reply_equal(&by_depth[depth], &r);
        }
    }
    assert_memory_not_equal(by_depth[1].token, by_depth[4].token, 30 * sizeof *ids);
    lsk_session_close(s);
}

/* lsk_score forgets the timeline: a reply that was on its way is over, and the session goes on with the next prompt. */
static void test_score_ends_a_reply(void **state)
{
    (void)state;
    int32_t ids[20];
    struct argmax a;
    struct reply plain, r = {.n = 0};
    lsk_error err = {0};
    lsk_generate_options o = with_drafts(0, 0);
    prompt_fill(ids, 20, 21);
    get_alone(ids, 20, &o, &plain);
    lsk_session *s = must_session(model);
    assert_int_equal(lsk_session_prompt(s, ids, 20, &o, &err), 0);
    assert_int_equal(lsk_step(&s, 1, reply_take, &r, &err), 1); /* the prompt */
    assert_int_equal(lsk_step(&s, 1, reply_take, &r, &err), 1); /* a token */
    assert_int_equal(r.n, 1);
    assert_int_equal(lsk_score(s, ids, 20, 0, take_argmax, &a, &err), 0);
    assert_int_equal(a.id[19], plain.token[0]);
    assert_int_equal(lsk_step(&s, 1, reply_take, &r, &err), 0);
    assert_int_equal(r.n, 1);
    reply_get(s, ids, 20, &o, &r);
    assert_int_equal(cached(s), 0);
    reply_equal(&plain, &r);
    lsk_session_close(s);
}

/* ---- statistics, memory ---- */

static void test_statistics(void **state)
{
    (void)state;
    int32_t ids[40];
    static struct reply r;
    lsk_stats stats;
    lsk_error err = {0};
    int drafted = 0, accepted = 0;
    lsk_session *s = must_session(model);
    lsk_generate_options o = {.drafter = "exit", .exit_layer = 2, .num_speculations = 4, .max_tokens = 50};
    prompt_fill(ids, 40, 22);
    memset(&r, 0, sizeof r);
    assert_int_equal(lsk_generate(s, ids, 40, &o, reply_take, &r, &stats, &err), 0);
    assert_int_equal(stats.prompt_tokens, 40);
    assert_int_equal(stats.prompt_done, 39); /* the last one's pass is the reply's */
    assert_true(stats.temperature == 0);
    assert_int_equal(stats.reply_tokens, 50);
    assert_int_equal(stats.rounds + stats.accepted, 50); /* every round adds one token of the model's own */
    assert_int_equal(stats.accepted, r.drafted);
    for (int i = 0; i < LSK_MAX_DRAFTS; i++) {
        assert_true(stats.accepted_at[i] <= stats.drafted_at[i] && (i < 4 || stats.drafted_at[i] == 0));
        drafted += stats.drafted_at[i];
        accepted += stats.accepted_at[i];
    }
    assert_int_equal(drafted, stats.drafted);
    assert_int_equal(accepted, stats.accepted);
    assert_true(stats.accepted > 0 && stats.accepted < stats.drafted && stats.rounds > 1);
    assert_true(stats.prompt_ns > 0 && stats.reply_ns > 0 && stats.reply_bytes >= lsk_model_about(model)->pass_bytes * (uint64_t)stats.rounds);
    lsk_session_close(s);
}

/* What a drafter of no name means, the same for every caller. */
static void test_automatic_drafting(void **state)
{
    (void)state;
    static const struct {
        lsk_generate_options o;
        int profile, exit_layer, drafts; /* profile: exit layer 3, 2 drafts */
    } cases[] = {
        {{.drafter = NULL}, 0, 0, 0},
        {{.drafter = "auto"}, 0, 0, 0},
        {{.exit_layer = 2}, 0, 2, 4},
        {{.num_speculations = 3}, 0, 1, 3},
        {{.draft_min_conf = 0.5f}, 0, 1, 4},
        {{.exit_layer = 2, .num_speculations = -1}, 0, 0, 0},
        {{.drafter = "none", .exit_layer = 2}, 0, 0, 0},
        {{.drafter = "exit", .num_speculations = -1}, 0, 0, 0},
        {{.drafter = NULL}, 1, 3, 2},
        {{.exit_layer = 2}, 1, 2, 2},
        {{.num_speculations = 5}, 1, 3, 5},
        {{.num_speculations = -1}, 1, 0, 0},
        {{.drafter = "none"}, 1, 0, 0},
        {{.depth = 3}, 1, 0, 0}, /* a profile that does not fit gives way */
    };
    lsk_model *with = folder_open(&folder, &(lsk_model_options){.context = CONTEXT, .threads = 1, .profile = &(lsk_profile){3, 2}});
    lsk_session *s[2] = {must_session(model), must_session(with)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lsk_error err = {0};
        lsk_session *one = s[cases[i].profile];
        if (lsk_session_prompt(one, (int32_t[]){5, 6, 7}, 3, &cases[i].o, &err))
            fail_msg("case %d: %s", (int)i, err.text);
        const lsk_stats *stats = lsk_session_stats(one);
        if (stats->exit_layer != cases[i].exit_layer || stats->num_speculations != cases[i].drafts)
            fail_msg("case %d: exit layer %d, %d drafts", (int)i, stats->exit_layer, stats->num_speculations);
    }
    lsk_session_close(s[0]);
    lsk_session_close(s[1]);
    lsk_model_close(with);
}

static void test_statistics_say_what_was_asked(void **state)
{
    (void)state;
    int32_t ids[40];
    lsk_error err = {0};
    lsk_session *s = must_session(model);
    lsk_generate_options o = {.temperature = 0.5f, .seed = 77, .max_tokens = 2};
    static const int done[] = {32, 39, 39}; /* a batch, the seven before the last token, a round */
    prompt_fill(ids, 40, 5);
    assert_int_equal(lsk_session_stats(s)->prompt_done, 0); /* of no prompt */
    assert_int_equal(lsk_session_prompt(s, ids, 40, &o, &err), 0);
    assert_int_equal(lsk_session_stats(s)->prompt_done, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lsk_step(&s, 1, NULL, NULL, &err), 1);
        assert_int_equal(lsk_session_stats(s)->prompt_done, done[i]);
    }
    assert_true(lsk_session_stats(s)->temperature == 0.5f && lsk_session_stats(s)->seed == 77);
    o.temperature = 1e-6f; /* greedy, and said so */
    assert_int_equal(lsk_session_prompt(s, ids, 40, &o, &err), 0);
    assert_int_equal(lsk_session_stats(s)->prompt_done, 39);
    assert_true(lsk_session_stats(s)->temperature == 0);
    lsk_session_close(s);
}

static void test_no_allocation_per_token(void **state)
{
    (void)state;
    if (!test_of_cpu("allocations, which a driver makes as it likes"))
        skip();
#if !SANITIZED
    static const char *const stop[] = {"never there"};
    lsk_session *s[2];
    lsk_error err = {0};
    int32_t ids[50];
    prompt_fill(ids, 50, 23);
    void *probe = malloc(1); /* the counter counts */
    assert_true(n_allocations > 0);
    free(probe);
    for (int i = 0; i < 2; i++) {
        lsk_generate_options o = with_drafts(4 * i, 2);
        o.temperature = (float)i;
        o.stop = stop;
        o.n_stop = 1;
        s[i] = must_session(model);
        assert_int_equal(lsk_session_prompt(s[i], ids, 50, &o, &err), 0);
    }
    int before = n_allocations, running, steps = 0;
    do
        running = lsk_step(s, 2, NULL, NULL, &err), steps++;
    while (running > 0);
    assert_int_equal(n_allocations - before, 0);
    assert_int_equal(running, 0);
    assert_true(steps > 24);
    for (int i = 0; i < 2; i++)
        lsk_session_close(s[i]);
#else
    skip();
#endif
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_options_are_checked),
        TEST(item_30_exit_layers_and_drafts_out_of_range),
        TEST(item_35_empty_prompts),
        TEST(item_36_prompts_as_long_as_the_context),
        TEST(item_40_tokens_that_are_none),
        TEST(item_36_context_fits_exactly),
        TEST(test_max_tokens_is_exact),
        TEST(test_earliest_eos_wins),
        TEST(test_eos_of_the_checkpoint),
        TEST(test_stop_strings),
        TEST(test_emit_cancels),
        TEST(test_prefix_reuse),
        TEST(test_sessions_do_not_see_each_other),
        TEST(test_number_of_sessions),
        TEST(test_depth_is_the_model_cut_off),
        TEST(test_score_ends_a_reply),
        TEST(test_statistics),
        TEST(test_automatic_drafting),
        TEST(test_statistics_say_what_was_asked),
        TEST(test_no_allocation_per_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
