/* SPDX-License-Identifier: Apache-2.0 */
/* What every backend must keep: the bits of a row depend on its own past alone. */
#include "tiny_device.h"

#include <math.h>

#include "cuts.h"

enum { SLOTS = 640, SEQS = 4, TEXT = 600 };

static int32_t text[SEQS][TEXT];
static int vocab;

static void make_text(const struct synthetic *s)
{
    uint64_t seed = 11;
    vocab = s->model.config.vocab;
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < TEXT; i++)
            text[q][i] = check_below(&seed, vocab);
}

static struct row row_at(int seq, int pos, int h) { return (struct row){.token = text[seq][pos], .pos = pos, .seq = seq, .slot = pos, .prefix = pos, .h = h}; }

static void forward(struct synthetic *s, int first, int last, const struct row *rows, int n)
{
    struct error err = {0};
    if (s->b->forward(s->kv, first, last, rows, n, &err))
        fail_with(err.text);
}

/* Logits of the row that lives in h. */
static void logits_of(struct synthetic *s, int h, float *out)
{
    struct row r = {.h = h};
    assert_int_equal(s->b->logits(s->kv, &r, 1, out, NULL), 0);
}

static void open_seqs(struct synthetic *s)
{
    for (int q = 0; q < SEQS; q++)
        assert_int_equal(s->b->seq_open(s->kv, NULL), q);
}

/* The truth: one row at a time, logits of the positions [from, to) of timeline q; what lies before them in one call. */
static float *one_by_one(struct synthetic *s, int q, int from, int to)
{
    float *out = calloc((size_t)((to - from) * vocab), sizeof *out);
    s->b->seq_trim(s->kv, q, 0);
    struct row past[300];
    for (int p = 0; p < from; p++)
        past[p] = row_at(q, p, p);
    forward(s, 0, s->model.config.n_layers, past, from);
    for (int p = from; p < to; p++) {
        struct row r = row_at(q, p, 0);
        forward(s, 0, s->model.config.n_layers, &r, 1);
        logits_of(s, 0, out + (p - from) * vocab);
    }
    return out;
}

static const struct kind {
    const char *shape, *dtype, *weights;
    bool wide, kv_f32;
} kinds[] = {
    {"tiny-gqa", "bf16", "file", false, false}, {"tiny", "f16", "file", false, true},  {"tiny-headdim", "f32", "file", false, false},
    {"tiny-ties", "bf16", "q8", false, false},  {"tiny-llama3", "bf16", "q4", false, false}, {"tiny-llama3", "bf16", "file", true, true},
    {"tiny-bias", "bf16", "file", false, false}, {"tiny-ties", "bf16", "file", false, false},
};

static void open_kind(struct synthetic *s, const struct kind *k, int threads)
{
    struct device_options o = {.weights = k->weights, .wide = k->wide, .kv_f32 = k->kv_f32, .threads = threads, .n_slots = SLOTS, .n_seqs = SEQS, .n_hidden = 300};
    synthetic_open(s, k->shape, k->dtype, &o);
    make_text(s);
    open_seqs(s);
}

#define FOR_EACH_KIND(k) for (const struct kind *k = kinds; k < kinds + sizeof kinds / sizeof *kinds; k++)

/* n rows in one call, for every n up to 64 and some beyond, starting at the edge of an attention block or not: each row has the bits that it has alone. */
static void rows_in_company_have_the_bits_of_rows_alone(void **state)
{
    (void)state;
    FOR_EACH_KIND(k)
    {
        struct synthetic s;
        open_kind(&s, k, 2);
        enum { FROM = 230, TO = 300 };
        float *want = one_by_one(&s, 0, FROM, TO), *got = calloc((size_t)vocab, sizeof *got);
        for (int n = 1; n <= 67; n += SANITIZED ? 11 : 1) {
            struct row rows[128];
            s.b->seq_trim(s.kv, 0, FROM);
            for (int i = 0; i < n; i++)
                rows[i] = row_at(0, FROM + i, i);
            forward(&s, 0, s.model.config.n_layers, rows, n);
            for (int i = 0; i < n; i++) {
                logits_of(&s, i, got);
                assert_memory_equal(got, want + i * vocab, (size_t)vocab * sizeof *got);
            }
        }
        free(want);
        free(got);
        synthetic_close(&s);
    }
}

/* Rows of several timelines in one call, in every place of it. */
static void neighbours_and_places_change_no_bit(void **state)
{
    (void)state;
    static const int where[SEQS] = {3, 255, 17, 130};
    FOR_EACH_KIND(k)
    {
        struct synthetic s;
        open_kind(&s, k, 3);
        float *want[SEQS], *got = calloc((size_t)(64 * vocab), sizeof *got);
        for (int q = 0; q < SEQS; q++)
            want[q] = one_by_one(&s, q, where[q], where[q] + 16);
        for (int place = 0; place < 64; place += SANITIZED ? 9 : 1) { /* timeline 0's row stands at each place of 64 */
            struct row rows[64];
            int next[SEQS];
            memcpy(next, where, sizeof next);
            for (int i = 0; i < 64; i++) {
                int q = i == place ? 0 : 1 + (i + (i > place)) % 3;
                if (q && next[q] >= where[q] + 16)
                    q = next[1] < where[1] + 16 ? 1 : next[2] < where[2] + 16 ? 2 : 3;
                rows[i] = q && next[q] >= where[q] + 16 ? row_at(q, next[q] - 1, i) : row_at(q, next[q]++, i);
            }
            forward(&s, 0, s.model.config.n_layers, rows, 64);
            assert_int_equal(s.b->logits(s.kv, rows, 64, got, NULL), 0);
            for (int i = 0; i < 64; i++)
                assert_memory_equal(got + i * vocab, want[rows[i].seq] + (rows[i].pos - where[rows[i].seq]) * vocab, (size_t)vocab * sizeof *got);
        }
        for (int q = 0; q < SEQS; q++)
            free(want[q]);
        free(got);
        synthetic_close(&s);
    }
}

/* [0,E) then [E,L) is [0,L); a look at the head in between changes nothing. */
static void a_range_in_parts_is_the_whole_range(void **state)
{
    (void)state;
    FOR_EACH_KIND(k)
    {
        struct synthetic s;
        open_kind(&s, k, 2);
        int layers = s.model.config.n_layers;
        float *want = one_by_one(&s, 0, 20, 28), *got = calloc((size_t)vocab, sizeof *got);
        for (int e = 1; e < layers; e++) {
            struct row rows[8];
            s.b->seq_trim(s.kv, 0, 20);
            for (int i = 0; i < 8; i++) {
                rows[i] = row_at(0, 20 + i, i);
                forward(&s, 0, e, &rows[i], 1);
                logits_of(&s, i, got);
            }
            forward(&s, e, layers, rows, 8);
            for (int i = 0; i < 8; i++) {
                logits_of(&s, i, got);
                assert_memory_equal(got, want + i * vocab, (size_t)vocab * sizeof *got);
            }
        }
        free(want);
        free(got);
        synthetic_close(&s);
    }
}

/* A row that names its ancestors by `also`, at scattered slots of a tree, has the bits of the same row in a chain; and so after kv_move. */
static void a_tree_has_the_bits_of_its_paths(void **state)
{
    (void)state;
    FOR_EACH_KIND(k)
    {
        struct synthetic s;
        open_kind(&s, k, 2);
        int layers = s.model.config.n_layers, base = 252;
        float *want = one_by_one(&s, 0, base, base + 8), *got = calloc((size_t)vocab, sizeof *got);
        s.b->seq_trim(s.kv, 0, base);
        /* every second slot is a sibling with another token; the path takes slots base, base+2, base+4, ... */
        struct row rows[16];
        uint64_t path = 0;
        for (int i = 0; i < 16; i++) {
            rows[i] = row_at(0, base + i / 2, i);
            rows[i].slot = base + i;
            rows[i].prefix = base;
            rows[i].also = path;
            if (i % 2 == 0)
                path |= (uint64_t)1 << i;
            else {
                rows[i].also &= ~((uint64_t)1 << (i - 1));
                rows[i].token = (rows[i].token + 1) % vocab;
            }
        }
        forward(&s, 0, layers, rows, 16);
        for (int i = 0; i < 8; i++) {
            logits_of(&s, 2 * i, got);
            assert_memory_equal(got, want + i * vocab, (size_t)vocab * sizeof *got);
        }
        int32_t src[7];
        for (int i = 0; i < 7; i++)
            src[i] = base + 2 * i;
        assert_int_equal(s.b->kv_move(s.kv, 0, base, src, 7, NULL), 0);
        struct row next = row_at(0, base + 7, 0);
        forward(&s, 0, layers, &next, 1);
        logits_of(&s, 0, got);
        assert_memory_equal(got, want + 7 * vocab, (size_t)vocab * sizeof *got);
        free(want);
        free(got);
        synthetic_close(&s);
    }
}

static void backends_are_found_by_name(void **state)
{
    (void)state;
    struct error err = {0};
    size_t n = strcspn(test_device(), ":");
    assert_string_equal(backend_find("cpu", &err)->name, "cpu");
    assert_ptr_equal(backend_find("auto", &err), backend_find(NULL, &err));
    assert_int_equal(strlen(backend_find(test_device(), &err)->name), n);
    assert_memory_equal(backend_find(test_device(), &err)->name, test_device(), n);
    assert_null(backend_find("tpu", &err));
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.text, "tpu"));
}

/* A shared prefix serves another timeline, and what that one writes does not reach the first. */
static void shared_pages_are_copied_before_they_change(void **state)
{
    (void)state;
    struct synthetic s;
    open_kind(&s, &kinds[0], 2);
    int layers = s.model.config.n_layers;
    float *want = one_by_one(&s, 0, 300, 310), *got = calloc((size_t)vocab, sizeof *got);
    s.b->seq_trim(s.kv, 0, 300);
    assert_int_equal(s.b->seq_share(s.kv, 0, 1, 300, NULL), 0);
    for (int i = 0; i < 10; i++) { /* both go on from 300, timeline 1 with other tokens first */
        struct row other = row_at(2, 300 + i, 1), own = row_at(0, 300 + i, 0);
        other.seq = 1;
        forward(&s, 0, layers, &other, 1);
        forward(&s, 0, layers, &own, 1);
        logits_of(&s, 0, got);
        assert_memory_equal(got, want + i * vocab, (size_t)vocab * sizeof *got);
    }
    free(want);
    free(got);
    synthetic_close(&s);
}

/* ---- prefill, where a backend has one: rows whose hidden states nobody asks for ---- */

enum { PROMPT = 520, AFTER = 6 };

/* Positions [from, to) of text q into timeline `seq`, so many in a call. */
static void prefill(struct synthetic *s, int depth, int q, int seq, int from, int to, int piece)
{
    struct row rows[300];
    struct error err = {0};
    for (int at = from, n; at < to; at += n) {
        n = to - at < piece ? to - at : piece;
        for (int i = 0; i < n; i++) {
            rows[i] = row_at(q, at + i, i);
            rows[i].seq = seq;
        }
        if (s->b->prefill(s->kv, depth, rows, n, &err))
            fail_with(err.text);
    }
}

/* Logits of the AFTER rows that follow the prompt's first `from` positions, one by one. */
static void rows_after(struct synthetic *s, int depth, int q, int seq, int from, float *out)
{
    for (int i = 0; i < AFTER; i++) {
        struct row r = row_at(q, from + i, 0);
        r.seq = seq;
        forward(s, 0, depth, &r, 1);
        logits_of(s, 0, out + i * vocab);
    }
}

/* The largest difference over the largest logit. */
static double distance(const float *a, const float *b, int n)
{
    double most = 0, scale = 0;
    for (int i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        most = d <= most ? most : d; /* a NaN is the most */
        scale = fabs((double)b[i]) > scale ? fabs((double)b[i]) : scale;
    }
    return most / scale;
}

static void check_pieces(struct synthetic *s, const struct kind *k, int depth)
{
    static const int pieces[] = {1, 7, 64, 100, 257}, ends[] = {1, 63, 256, 300, PROMPT};
    size_t bytes = (size_t)(AFTER * vocab) * sizeof(float);
    float *want = malloc(bytes), *got = malloc(bytes);
    for (size_t e = 0; e < sizeof ends / sizeof *ends; e++) {
        s->b->seq_trim(s->kv, 0, 0);
        prefill(s, depth, 0, 0, 0, ends[e], 300);
        rows_after(s, depth, 0, 0, ends[e], want);
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            s->b->seq_trim(s->kv, 0, 0);
            for (int at = 0, other = 0; at < ends[e]; at += 200, other += 5) { /* another timeline's prompt in between */
                prefill(s, depth, 0, 0, at, at + 200 < ends[e] ? at + 200 : ends[e], pieces[p]);
                prefill(s, depth, 1, 1, other, other + 5, 5);
            }
            rows_after(s, depth, 0, 0, ends[e], got);
            if (memcmp(got, want, bytes))
                fail_msg("%s %s weights %s, depth %d: %d positions in pieces of %d have other bits", k->shape, k->dtype, k->weights, depth, ends[e], pieces[p]);
            s->b->seq_trim(s->kv, 1, 0);
        }
        s->b->seq_trim(s->kv, 0, 0); /* what follows a row is nothing to it */
        prefill(s, depth, 0, 0, 0, PROMPT + 40, 300);
        s->b->seq_trim(s->kv, 0, ends[e]);
        rows_after(s, depth, 0, 0, ends[e], got);
        if (memcmp(got, want, bytes))
            fail_msg("%s %s weights %s, depth %d: %d positions of a longer prompt have other bits", k->shape, k->dtype, k->weights, depth, ends[e]);
    }
    struct row rows[PROMPT];
    s->b->seq_trim(s->kv, 0, 0);
    for (int i = 0; i < PROMPT; i++)
        rows[i] = row_at(0, i, i % 64);
    for (int i = 0; i < PROMPT; i += 64)
        forward(s, 0, depth, rows + i, PROMPT - i < 64 ? PROMPT - i : 64);
    rows_after(s, depth, 0, 0, PROMPT, got);
    double d = distance(want, got, AFTER * vocab), bound = k->wide ? 1e-3 : 4e-2;
    print_message("%s %s weights %s, depth %d: prefill differs from forward by %.1e of the largest logit (bound %.0e)\n", k->shape, k->dtype, k->weights, depth, d, bound);
    assert_true(d <= bound);
    free(want);
    free(got);
}

/* Prefill's rows are invariant among themselves: neither pieces nor neighbours nor what follows changes a bit of what later rows read; and they say the same as forward's but for rounding. */
static void a_prompt_in_pieces_has_the_bits_of_one(void **state)
{
    (void)state;
    FOR_EACH_KIND(k)
    {
        struct synthetic s;
        open_kind(&s, k, 2);
        bool has = s.b->prefill != NULL;
        if (has) {
            check_pieces(&s, k, s.model.config.n_layers);
            check_pieces(&s, k, 2);
        }
        synthetic_close(&s);
        if (!has) {
            print_message("skipped: backend %s has no prefill of its own\n", test_device());
            skip();
        }
    }
}

/* ---- the head of drafts ---- */

enum { PICKED = 70 }; /* more than one pass has */

/* The choice rule on a row of all logits, in one slice, of which only the listed ones count. */
static struct pick choose_among(const float *logits, const int32_t *list, int n, const struct ask *ask, int position)
{
    const struct ops *o = ops_pick("plain");
    const struct sampling *s = ask->s;
    float *l = malloc((size_t)vocab * sizeof *l), *e = malloc((size_t)vocab * sizeof *e); /* as it is, and edited */
    for (int i = 0; i < vocab; i++) {
        l[i] = -1e30f;
        e[i] = PICK_OUT;
    }
    for (int i = 0; i < n; i++)
        e[list[i]] = l[list[i]] = logits[list[i]];
    for (int i = 0; i < ask->n_edits; i++) {
        const struct edit *x = &ask->edits[i];
        float v = l[x->token] + x->bias;
        v = v > 0 ? v / x->repeat : v * x->repeat;
        e[x->token] = e[x->token] > PICK_OUT && v > PICK_OUT ? v - x->less : PICK_OUT;
    }
    for (int i = 0; ask->allow && i < vocab; i++)
        e[i] = ask->allow[i / 32] >> i % 32 & 1 ? e[i] : PICK_OUT;
    struct scan raw = o->scan(l, 0, vocab), top = o->scan(e, 0, vocab);
    struct pick p = {.token = top.max > PICK_OUT ? top.id : PICK_NONE};
    if (p.token >= 0 && s->temperature > 0) {
        struct cut cut = pick_filters(s) ? cut_in_slices(o, e, vocab, top.max, s, 1) : PICK_ALL;
        p.token = o->noisy(e, 0, vocab, NULL, s, position, top.max, cut, (struct best){-INFINITY, -1}).id;
    }
    uint64_t mass = o->mass(l, 0, vocab, raw.max);
    if (p.token >= 0) {
        p.logprob = pick_logprob(l[p.token], raw.max, mass);
        p.conf = pick_exp(pick_logprob(e[p.token], top.max, o->mass(e, 0, vocab, top.max)));
        p.n_top = o->top(l, 0, vocab, ask->n_top < n ? ask->n_top : n, p.top);
    }
    for (int i = 0; i < p.n_top; i++)
        p.top[i].logprob = pick_logprob(p.top[i].logprob, raw.max, mass);
    free(l);
    free(e);
    return p;
}

enum { EDITS = 40, WORDS = 128 };

/* What a request might change: row by row nothing, some tokens, a mask that leaves most, one that leaves few, both, nothing left. */
static void make_edits(struct ask *a, int row, struct edit *edits, uint32_t *allow, uint64_t *seed)
{
    int n = row % 6 == 0 ? 0 : row % 6 == 2 ? EDITS : 1 + check_below(seed, EDITS), step = 1 + check_below(seed, vocab / EDITS);
    for (int i = 0; i < n; i++)
        edits[i] = (struct edit){(i * step + 5 * row) % vocab, i % 9 == 8 ? -INFINITY : check_float(seed) * 4, i % 3 ? 1 + fabsf(check_float(seed)) : 1, i % 2 ? check_float(seed) : 0};
    for (int w = 0; w < WORDS; w++)
        allow[w] = row % 12 == 11 ? 0 : row % 6 == 3 ? (uint32_t)(check_random(seed) | check_random(seed) >> 7) : (uint32_t)(check_random(seed) & check_random(seed) >> 9 & check_random(seed) >> 17);
    a->n_edits = row % 6 == 3 || row % 6 == 4 ? 0 : n;
    a->edits = edits;
    a->allow = row % 6 >= 3 ? allow : NULL;
}

/* About one token in `share`, ascending, in runs and alone; returns how many. */
static int make_list(int32_t *list, int n_vocab, int share, uint64_t *seed)
{
    int n = 0;
    for (int i = 0; i < n_vocab; i++)
        if (share == 1 || !check_below(seed, share) || (i % 7 == 3 && n && list[n - 1] == i - 1))
            list[n++] = i;
    if (!n)
        list[n++] = n_vocab - 1;
    return n;
}

static void check_draft_picks(struct synthetic *s, const struct kind *k, const int32_t *list, int n_list)
{
    static const struct sampling samplings[] = {
        {.temperature = 0}, {.temperature = 0.8f, .seed = 7}, {.temperature = 1.3f, .seed = 8, .top_k = 5, .top_p = 0.9f}, {.temperature = 4, .seed = 9, .min_p = 0.05f, .choice = 2}};
    struct row rows[PICKED];
    struct ask asks[PICKED];
    struct pick got[PICKED];
    static struct edit edits[PICKED][EDITS];
    static uint32_t allow[PICKED][WORDS];
    uint64_t seed = 5;
    struct error err = {0};
    int32_t all[4096];
    float *logits = malloc((size_t)(PICKED * vocab) * sizeof *logits);
    assert_true(vocab <= 4096);
    for (int i = 0; i < vocab; i++)
        all[i] = i;
    for (int i = 0; i < PICKED; i++) {
        rows[i] = row_at(0, i, i);
        asks[i] = (struct ask){.s = &samplings[i % 4], .n_top = i % 3 ? 1 + i % PICK_TOP : 0, .draft = i / 5 % 2 == 0};
        make_edits(&asks[i], i < 24 ? 0 : i, edits[i], allow[i], &seed); /* calls without any edit, and with some */
    }
    forward(s, 0, 2, rows, PICKED);
    assert_int_equal(s->b->logits(s->kv, rows, PICKED, logits, NULL), 0);
    if (s->b->pick(s->kv, rows, asks, PICKED, got, &err))
        fail_with(err.text);
    for (int i = 0; i < PICKED; i++) {
        bool few = asks[i].draft && n_list;
        struct pick want = choose_among(logits + i * vocab, few ? list : all, few ? n_list : vocab, &asks[i], i + 1);
        if (got[i].token != want.token || memcmp(&got[i].logprob, &want.logprob, 4) || memcmp(&got[i].conf, &want.conf, 4) || got[i].n_top != want.n_top ||
            memcmp(got[i].top, want.top, (size_t)want.n_top * sizeof *want.top))
            fail_msg("%s %s weights %s, %d of %d tokens listed, row %d, sampling %d: token %d, not %d", k->shape, k->dtype, k->weights, n_list, vocab, i, i % 4, (int)got[i].token,
                     (int)want.token);
    }
    free(logits);
}

/* A chain of drafts in one call, if there is such a thing, against forward and pick. */
static void check_draft_chain(struct synthetic *s)
{
    enum { STEPS = 4 };
    struct sampling sampling = {.temperature = 0.9f, .seed = 4};
    struct row rows[STEPS];
    struct ask asks[STEPS];
    struct pick one[STEPS], chain[STEPS];
    static const int count[STEPS] = {1, 1, 1, 1};
    for (int i = 0; i < STEPS; i++) {
        rows[i] = row_at(1, i, i);
        rows[i].token = i ? one[i - 1].token : rows[i].token;
        asks[i] = (struct ask){.s = &sampling, .n_top = 3, .draft = true};
        forward(s, 0, 2, &rows[i], 1);
        assert_int_equal(s->b->pick(s->kv, &rows[i], &asks[i], 1, &one[i], NULL), 0);
    }
    for (int i = 1; i < STEPS; i++)
        rows[i].token = -1;
    s->b->seq_trim(s->kv, 1, 0);
    if (!s->b->draft)
        return;
    assert_int_equal(s->b->draft(s->kv, 2, rows, asks, count, STEPS, chain, NULL), 0);
    for (int i = 0; i < STEPS; i++)
        assert_true(chain[i].token == one[i].token && !memcmp(&chain[i].logprob, &one[i].logprob, 4) && !memcmp(chain[i].top, one[i].top, 3 * sizeof *one[i].top));
}

/* With a list of draft tokens drafts are chosen as the rule chooses from the whole head's logits of the listed ones; all else is as without; and both may be asked for in one call. */
static void drafts_are_chosen_among_their_tokens(void **state)
{
    (void)state;
    static const int shares[] = {0, 1, 3, 40, 100000}; /* no list, all tokens, ..., one token */
    uint64_t seed = 5;
    FOR_EACH_KIND(k)
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct synthetic s;
        char path[160];
        struct model m;
        struct device_plan plan;
        int32_t list[4096];
        synthetic_path(path, sizeof path, k->shape, k->dtype);
        assert_int_equal(model_open(&m, path, NULL, NULL), 0);
        struct device_options o = {.weights = k->weights, .wide = k->wide, .kv_f32 = k->kv_f32, .threads = 3, .n_slots = SLOTS, .n_seqs = SEQS, .n_hidden = 300, .draft_token = list};
        o.n_draft_tokens = shares[i] ? make_list(list, m.config.vocab, shares[i], &seed) : 0;
        assert_int_equal(backend_find(test_device(), NULL)->plan(&m, &o, &plan, NULL), 0);
        assert_true(o.n_draft_tokens ? plan.draft_head_bytes > 0 && (shares[i] > 1 ? plan.draft_head_bytes < plan.head_bytes : plan.draft_head_bytes == plan.head_bytes) : !plan.draft_head_bytes);
        model_close(&m);
        synthetic_open(&s, k->shape, k->dtype, &o);
        make_text(&s);
        open_seqs(&s);
        check_draft_picks(&s, k, list, o.n_draft_tokens);
        check_draft_chain(&s);
        uint64_t before = s.b->bytes_read(s.kv);
        struct row r = {.h = 0};
        struct ask ask = {.s = &(struct sampling){0}, .draft = true};
        struct pick p;
        assert_int_equal(s.b->pick(s.kv, &r, &ask, 1, &p, NULL), 0);
        assert_int_equal(s.b->bytes_read(s.kv) - before, o.n_draft_tokens ? plan.draft_head_bytes : plan.head_bytes);
        synthetic_close(&s);
    }
}

/* Rows that no caller may hand over are refused, and touch nothing. */
static void impossible_rows_are_refused(void **state)
{
    (void)state;
    struct synthetic s;
    open_kind(&s, &kinds[0], 1);
    struct error err = {0};
    int layers = s.model.config.n_layers;
    struct row good = row_at(0, 0, 0), bad[9];
    for (int i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].token = vocab;
    bad[1].token = -1;
    bad[2].seq = SEQS;
    bad[3].slot = bad[3].pos = bad[3].prefix = SLOTS + 256;
    bad[4].h = 300;
    bad[5].also = 1;
    bad[6].prefix = -1;
    bad[7].slot = -1;
    bad[8].seq = -1;
    for (int i = 0; i < 9; i++)
        assert_int_equal(s.b->forward(s.kv, 0, layers, &bad[i], 1, &err), ERR_INTERNAL);
    assert_int_equal(s.b->forward(s.kv, 0, layers + 1, &good, 1, &err), ERR_INTERNAL);
    assert_int_equal(s.b->forward(s.kv, 2, 2, &good, 1, &err), ERR_INTERNAL);
    assert_int_equal(s.b->forward(s.kv, 0, layers, &good, 1, &err), 0);
    synthetic_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_in_company_have_the_bits_of_rows_alone), cmocka_unit_test(neighbours_and_places_change_no_bit),
        cmocka_unit_test(a_range_in_parts_is_the_whole_range),         cmocka_unit_test(a_tree_has_the_bits_of_its_paths),
        cmocka_unit_test(backends_are_found_by_name),
        cmocka_unit_test(shared_pages_are_copied_before_they_change),  cmocka_unit_test(impossible_rows_are_refused),
        cmocka_unit_test(a_prompt_in_pieces_has_the_bits_of_one),        cmocka_unit_test(drafts_are_chosen_among_their_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
