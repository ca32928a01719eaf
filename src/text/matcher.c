/* SPDX-License-Identifier: Apache-2.0 */
/* A state is a set of items: a row that waits for a byte, where the rule goes on when the character is complete, and the frame of that rule. A frame is the set of
   places (instruction, frame) that its rule returns to; all calls of one rule at one place of the text share one frame, as in Earley's parser, so the number of ways
   to read a text does not multiply. Frames are interned too, and refer to older ones only: rules are entered in the order of their numbers, a rule that begins with
   another before that one, so a frame is complete when it is made. */
#include "text/matcher.h"

#include <stdlib.h>
#include <string.h>

enum { UNKNOWN = UINT32_MAX, BOTTOM = 0, ITEM = 3, MASKS = 32 };

struct call {
    uint32_t at, frame; /* where it returns to */
    int32_t next;       /* of the same rule, -1: none */
};

struct matcher {
    const struct grammar *g;
    const struct token_tree *t;
    struct word_sets frames; /* pairs (instruction, frame), sorted; BOTTOM has none */
    struct word_sets states; /* 1 where the text may end, and items (row, instruction, frame), sorted; MATCHER_DEAD has none */
    uint32_t *next;          /* [states][n_classes] */
    uint8_t *cost;           /* [states][n_classes] the work of that step, rounded up to a power of two: its exponent */
    uint32_t cap_next, cap_cost, start;
    uint64_t work;           /* of the step that runs */
    size_t bytes_max;

    struct word_sets pairs;  /* of the step that runs: (instruction, frame) reached */
    uint32_t *item;          /* word 0 and the items of the state that is being made */
    uint32_t n_item, cap_item;
    struct call *call;       /* of the step */
    uint32_t n_call, cap_call;
    int32_t *called;         /* [n_rules] last call of the step, -1: none */
    uint64_t *waiting;       /* a bit per rule: called, not yet entered */
    uint32_t *gather, cap_gather;

    uint32_t *stack;         /* [longest + 1] states along a token */
    uint32_t mask_of[MASKS]; /* the states whose masks are kept; MATCHER_DEAD: none */
    int mask_count[MASKS];
    uint32_t *mask;          /* [MASKS][words + 1]; the last word takes the bits of token_none */
};

static int out_of_memory(struct error *err) { return fail(err, ERR_OS, "grammar: out of memory"); }

static int too_ambiguous(struct error *err)
{
    return fail(err, ERR_DATA, "grammar: the text so far can be read in too many ways: let alternatives begin with different characters");
}

/* ---- a step ---- */

static int add_item(struct matcher *m, uint32_t row, uint32_t at, uint32_t frame, struct error *err)
{
    uint32_t *item = grow(m->item, &m->cap_item, (uint64_t)m->n_item + ITEM, sizeof *item);
    if (!item)
        return out_of_memory(err);
    m->item = item;
    item[m->n_item] = row;
    item[m->n_item + 1] = at;
    item[m->n_item + 2] = frame;
    m->n_item += ITEM;
    return 0;
}

static int add_pair(struct matcher *m, uint32_t at, uint32_t frame, struct error *err)
{
    if (!m->g->code[at].live)
        return 0;
    if (m->pairs.n >= MATCHER_PAIRS_MAX || ++m->work > MATCHER_WORK_MAX)
        return too_ambiguous(err);
    return word_sets_add(&m->pairs, (uint32_t[]){at, frame}, 2) < 0 ? out_of_memory(err) : 0;
}

static int add_call(struct matcher *m, int32_t rule, uint32_t at, uint32_t frame, struct error *err)
{
    struct call *call = grow(m->call, &m->cap_call, (uint64_t)m->n_call + 1, sizeof *call);
    if (!call)
        return out_of_memory(err);
    m->call = call;
    if (++m->work > MATCHER_WORK_MAX)
        return too_ambiguous(err);
    call[m->n_call] = (struct call){at, frame, m->called[rule]};
    m->called[rule] = (int32_t)m->n_call++;
    m->waiting[rule / 64] |= (uint64_t)1 << rule % 64;
    return 0;
}

/* A call with nothing behind it returns where its caller returns to, so that recursion at the end of a rule takes no memory. */
static int add_calls(struct matcher *m, const struct instr *in, uint32_t at, uint32_t frame, struct error *err)
{
    int rc = 0;
    uint32_t n = 0;
    if (in->op != OP_TAIL || frame == BOTTOM)
        return add_call(m, in->arg, at + 1, frame, err);
    const uint32_t *back = word_sets_at(&m->frames, frame, &n);
    for (uint32_t i = 0; rc == 0 && i < n; i += 2)
        rc = add_call(m, in->arg, back[i], back[i + 1], err);
    return rc;
}

static int visit(struct matcher *m, uint32_t at, uint32_t frame, struct error *err)
{
    const struct instr *in = &m->g->code[at];
    int rc = 0;
    uint32_t n = 0;
    switch (in->op) {
    case OP_CHAR: return add_item(m, (uint32_t)in->arg, at + 1, frame, err);
    case OP_SPLIT: rc = add_pair(m, at + 1, frame, err); /* fall through */
    case OP_JUMP: return rc < 0 ? rc : add_pair(m, at + (uint32_t)in->arg, frame, err);
    case OP_CALL:
    case OP_TAIL:
        if (m->g->nullable[in->arg])
            rc = add_pair(m, at + 1, frame, err);
        return rc < 0 ? rc : add_calls(m, in, at, frame, err);
    default: break;
    }
    m->item[0] |= frame == BOTTOM;
    const uint32_t *back = word_sets_at(&m->frames, frame, &n);
    for (uint32_t i = 0; rc == 0 && i < n; i += 2)
        rc = add_pair(m, back[i], back[i + 1], err);
    return rc;
}

static int by_words(const uint32_t *a, const uint32_t *b, int n)
{
    for (int i = 0; i < n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static int by_pair(const void *a, const void *b) { return by_words(a, b, 2); }
static int by_item(const void *a, const void *b) { return by_words(a, b, ITEM); }

/* Sorts and drops what is there twice; returns the number of words left. */
static uint32_t sort_words(uint32_t *w, uint32_t n, uint32_t size, int (*order)(const void *, const void *))
{
    uint32_t to = 0;
    if (n > size)
        qsort(w, n / size, size * sizeof *w, order);
    for (uint32_t i = 0; i < n; i += size)
        if (!to || order(w + to - size, w + i) != 0) {
            memmove(w + to, w + i, size * sizeof *w);
            to += size;
        }
    return to;
}

/* All calls of the rule become one frame, and the rule begins. */
static int enter(struct matcher *m, int32_t rule, struct error *err)
{
    uint32_t n = 0;
    for (int32_t i = m->called[rule]; i >= 0; i = m->call[i].next) {
        uint32_t *w = grow(m->gather, &m->cap_gather, (uint64_t)n + 2, sizeof *w);
        if (!w)
            return out_of_memory(err);
        m->gather = w;
        w[n++] = m->call[i].at;
        w[n++] = m->call[i].frame;
    }
    m->called[rule] = -1;
    int64_t frame = word_sets_add(&m->frames, m->gather, sort_words(m->gather, n, 2, by_pair));
    return frame < 0 ? out_of_memory(err) : add_pair(m, (uint32_t)m->g->start[rule], (uint32_t)frame, err);
}

/* Follows every pair to the characters that it waits for. */
static int follow(struct matcher *m, struct error *err)
{
    int rc = 0;
    uint32_t at = 0;
    for (int32_t rule = 0; rc == 0;) {
        for (; rc == 0 && at < m->pairs.n; at++)
            rc = visit(m, m->pairs.word[2 * at], m->pairs.word[2 * at + 1], err);
        while (rule < m->g->n_rules && !m->waiting[rule / 64])
            rule = (rule / 64 + 1) * 64;
        if (rc < 0 || rule >= m->g->n_rules)
            break;
        uint64_t *word = &m->waiting[rule / 64];
        rule = rule / 64 * 64 + __builtin_ctzll(*word);
        *word &= *word - 1;
        rc = enter(m, rule, err);
    }
    m->n_call = rc < 0 ? m->n_call : 0;
    return rc;
}

/* Calls are left over after a failure only. */
static void begin_step(struct matcher *m)
{
    word_sets_clear(&m->pairs);
    if (m->n_call) {
        memset(m->called, 0xff, (size_t)m->g->n_rules * sizeof *m->called);
        memset(m->waiting, 0, ((size_t)m->g->n_rules + 63) / 64 * sizeof *m->waiting);
    }
    m->n_call = 0;
    m->item[0] = 0;
    m->n_item = 1;
}

static int grow_table(struct matcher *m, uint64_t n)
{
    uint32_t *next = grow(m->next, &m->cap_next, n, sizeof *next);
    m->next = next ? next : m->next;
    uint8_t *cost = grow(m->cost, &m->cap_cost, n, sizeof *cost);
    m->cost = cost ? cost : m->cost;
    return next && cost ? 0 : -1;
}

/* The state that pairs and items make: its number, or below zero. */
static int64_t end_step(struct matcher *m, struct error *err)
{
    int rc = follow(m, err);
    if (rc < 0)
        return rc;
    uint32_t n = sort_words(m->item + 1, m->n_item - 1, ITEM, by_item), states = m->states.n;
    if (!n && !m->item[0])
        return MATCHER_DEAD;
    if (matcher_bytes(m) > m->bytes_max)
        return fail(err, ERR_DATA, "grammar: its states take more than %zu MiB: use smaller repetitions or fewer alternatives", m->bytes_max >> 20);
    size_t classes = (size_t)m->g->n_classes;
    if (grow_table(m, (states + 1) * classes) < 0)
        return out_of_memory(err);
    int64_t id = word_sets_add(&m->states, m->item, n + 1);
    if (id < 0)
        return out_of_memory(err);
    if (m->states.n > states)
        memset(m->next + states * classes, 0xff, classes * sizeof *m->next);
    return id;
}

/* The row behind this byte; UNKNOWN: none. */
static uint32_t next_row(const struct grammar *g, uint32_t row, uint32_t byte)
{
    uint32_t n;
    const uint32_t *edge = word_sets_at(&g->rows, row, &n);
    for (uint32_t i = 0; i < n && byte >= (edge[i] & 0xff); i += 2)
        if (byte <= edge[i] >> 8)
            return edge[i + 1];
    return UNKNOWN;
}

static inline size_t place(const struct matcher *m, uint32_t state, int class) { return (size_t)state * (size_t)m->g->n_classes + (size_t)class; }

static int64_t make_step(struct matcher *m, uint32_t state, int class, struct error *err)
{
    int rc = 0;
    uint32_t n;
    const uint32_t *w = word_sets_at(&m->states, state, &n);
    m->work = 0;
    begin_step(m);
    for (uint32_t i = 1; rc == 0 && i < n; i += ITEM) {
        uint32_t row = next_row(m->g, w[i], m->g->byte_of[class]);
        if (row == ROW_DONE)
            rc = add_pair(m, w[i + 1], w[i + 2], err);
        else if (row != UNKNOWN)
            rc = add_item(m, row, w[i + 1], w[i + 2], err);
        if (++m->work > MATCHER_WORK_MAX)
            rc = too_ambiguous(err);
    }
    int64_t next = rc < 0 ? rc : end_step(m, err);
    if (next >= 0) {
        m->next[place(m, state, class)] = (uint32_t)next;
        m->cost[place(m, state, class)] = (uint8_t)(64 - __builtin_clzll(m->work | 1));
    }
    return next;
}

static inline int64_t step(struct matcher *m, uint32_t state, uint8_t byte, struct error *err)
{
    int class = m->g->class_of[byte];
    uint32_t next = m->next[place(m, state, class)];
    return next != UNKNOWN ? next : make_step(m, state, class, err);
}

/* ---- texts ---- */

/* The states that always are: the dead one, which every byte leaves dead, and the first one. */
static int make_first_states(struct matcher *m, struct error *err)
{
    size_t classes = (size_t)m->g->n_classes;
    if (grow_table(m, classes) < 0 || word_sets_add(&m->frames, NULL, 0) != BOTTOM || word_sets_add(&m->states, NULL, 0) != MATCHER_DEAD)
        return out_of_memory(err);
    memset(m->next, 0, classes * sizeof *m->next);
    memset(m->cost, 0, classes);
    m->item = grow(m->item, &m->cap_item, 1, sizeof *m->item);
    if (!m->item)
        return out_of_memory(err);
    m->work = 0;
    begin_step(m);
    int rc = add_pair(m, (uint32_t)m->g->start[m->g->root], BOTTOM, err);
    int64_t start = rc < 0 ? rc : end_step(m, err);
    m->start = start < 0 ? MATCHER_DEAD : (uint32_t)start;
    return start < 0 ? (int)start : 0;
}

struct matcher *matcher_open(const struct grammar *g, const struct token_tree *t, struct error *err)
{
    struct matcher *m = calloc(1, sizeof *m);
    int rc = -1;
    if (m) {
        *m = (struct matcher){.g = g, .t = t, .bytes_max = MATCHER_BYTES_MAX, .called = malloc((size_t)g->n_rules * sizeof *m->called), .waiting = calloc(((size_t)g->n_rules + 63) / 64, sizeof *m->waiting)};
        m->stack = t ? calloc(t->longest + 1, sizeof *m->stack) : NULL;
        m->mask = t ? calloc(MASKS * (token_words(t) + 1), sizeof *m->mask) : NULL;
    }
    if (!m || !m->called || !m->waiting || (t && (!m->stack || !m->mask)))
        out_of_memory(err);
    else {
        memset(m->called, 0xff, (size_t)g->n_rules * sizeof *m->called);
        rc = make_first_states(m, err);
    }
    if (rc == 0)
        return m;
    matcher_close(m);
    return NULL;
}

void matcher_close(struct matcher *m)
{
    if (!m)
        return;
    void *owned[] = {m->next, m->cost, m->item, m->call, m->called, m->waiting, m->gather, m->stack, m->mask};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    word_sets_free(&m->frames);
    word_sets_free(&m->states);
    word_sets_free(&m->pairs);
    free(m);
}

uint32_t matcher_start(const struct matcher *m) { return m->start; }

bool matcher_complete(const struct matcher *m, uint32_t state)
{
    uint32_t n;
    const uint32_t *w = word_sets_at(&m->states, state, &n);
    return n && w[0];
}

int64_t matcher_push(struct matcher *m, uint32_t *state, const void *p, size_t n, struct error *err)
{
    const uint8_t *byte = p;
    uint32_t s = *state;
    for (size_t i = 0; i < n; i++) {
        int64_t next = step(m, s, byte[i], err);
        if (next < 0)
            return next;
        s = (uint32_t)next;
        if (s == MATCHER_DEAD) {
            *state = s;
            return (int64_t)i;
        }
    }
    *state = s;
    return (int64_t)n;
}

/* ---- masks ---- */

static void set_bit(uint32_t *mask, int32_t token) { mask[token / 32] |= 1u << token % 32; }

static int fill_mask(struct matcher *m, uint32_t state, uint32_t *mask, struct error *err)
{
    const struct token_tree *t = m->t;
    int count = 0;
    uint64_t work = 0;
    memset(mask, 0, (token_words(t) + 1) * sizeof *mask);
    m->stack[0] = state;
    for (uint32_t i = 0; i < t->n_nodes;) {
        const struct token_node *node = &t->node[i];
        uint32_t from = m->stack[node->depth];
        int64_t next = step(m, from, node->byte, err);
        if (next < 0)
            return (int)next;
        work += (uint64_t)1 << m->cost[place(m, from, m->g->class_of[node->byte])]; /* also of a step that was made before: else the limit would depend on that */
        if (work > MATCHER_MASK_WORK_MAX)
            return too_ambiguous(err);
        if (next == MATCHER_DEAD) {
            i = node->skip;
            continue;
        }
        m->stack[node->depth + 1] = (uint32_t)next;
        set_bit(mask, node->token);
        if (node->more)
            for (int32_t same = t->same[node->token]; same >= 0; same = t->same[same])
                set_bit(mask, same);
        i++;
    }
    for (int i = 0; i < t->n_end && matcher_complete(m, state); i++)
        set_bit(mask, t->end[i]);
    for (size_t i = 0; i < token_words(t); i++)
        count += __builtin_popcount(mask[i]);
    return count;
}

static int fill_mask_alone(const struct matcher *m, uint32_t state, uint32_t *mask, struct error *err);

int matcher_mask(struct matcher *m, uint32_t state, uint32_t *mask, struct error *err)
{
    size_t words = token_words(m->t);
    uint32_t at = state % MASKS, *kept = m->mask + at * (words + 1);
    if (state == MATCHER_DEAD) {
        memset(mask, 0, words * sizeof *mask);
        return 0;
    }
    if (m->mask_of[at] != state) {
        m->mask_of[at] = MATCHER_DEAD;
        m->mask_count[at] = fill_mask(m, state, kept, NULL);
        if (m->mask_count[at] < 0)
            m->mask_count[at] = fill_mask_alone(m, state, kept, err);
        if (m->mask_count[at] < 0)
            return m->mask_count[at];
        m->mask_of[at] = state;
    }
    memcpy(mask, kept, words * sizeof *mask);
    return m->mask_count[at];
}

/* ---- memory ---- */

void matcher_limit(struct matcher *m, size_t bytes) { m->bytes_max = bytes; }

size_t matcher_bytes(const struct matcher *m) { return word_sets_bytes(&m->frames) + word_sets_bytes(&m->states) + m->cap_next * sizeof *m->next + m->cap_cost; }

/* Frames that the states need, and those that these need: references go to smaller numbers only. */
static void mark_frames(const struct matcher *m, uint32_t *const *state, int n, uint32_t *keep)
{
    uint32_t words;
    for (int i = 0; i < n; i++) {
        const uint32_t *w = word_sets_at(&m->states, *state[i], &words);
        for (uint32_t k = ITEM; k < words; k += ITEM)
            keep[w[k]] = 1;
    }
    for (uint32_t f = m->frames.n; f-- > 0;) {
        const uint32_t *w = word_sets_at(&m->frames, f, &words);
        for (uint32_t k = 1; keep[f] && k < words; k += 2)
            keep[w[k]] = 1;
    }
}

/* Frames and states of `old` again, in the same order and therefore sorted as before; keep becomes a frame's new number. `old` stays as it is. */
static int readd(struct matcher *m, const struct matcher *old, uint32_t *const *state, int n, uint32_t *keep, struct error *err)
{
    uint32_t words;
    for (uint32_t f = 0; f < old->frames.n; f++) {
        const uint32_t *from = word_sets_at(&old->frames, f, &words);
        if (!keep[f])
            continue;
        uint32_t *w = grow(m->gather, &m->cap_gather, (uint64_t)words + 1, sizeof *w);
        if (!w)
            return out_of_memory(err);
        m->gather = w;
        for (uint32_t k = 0; k < words; k++)
            w[k] = k % 2 ? keep[from[k]] : from[k];
        int64_t id = word_sets_add(&m->frames, w, words);
        if (id < 0)
            return out_of_memory(err);
        keep[f] = (uint32_t)id;
    }
    for (int i = 0; i < n; i++) {
        const uint32_t *w = word_sets_at(&old->states, *state[i], &words);
        begin_step(m);
        for (uint32_t k = 1; k < words; k += ITEM)
            if (add_item(m, w[k], w[k + 1], keep[w[k + 2]], err) < 0)
                return err ? err->code : ERR_OS;
        m->item[0] = words && w[0];
        int64_t id = end_step(m, err);
        if (id < 0)
            return (int)id;
        *state[i] = (uint32_t)id;
    }
    return 0;
}

int matcher_tidy(struct matcher *m, uint32_t *const *state, int n, struct error *err)
{
    struct matcher old = *m;
    if (matcher_bytes(m) <= m->bytes_max / 4)
        return 0;
    uint32_t *keep = calloc((size_t)m->frames.n + 1, sizeof *keep);
    if (!keep)
        return out_of_memory(err);
    mark_frames(m, state, n, keep);
    m->frames = m->states = (struct word_sets){0};
    m->next = NULL;
    m->cost = NULL;
    m->cap_next = m->cap_cost = 0;
    memset(m->mask_of, 0, sizeof m->mask_of);
    int rc = make_first_states(m, err);
    if (rc == 0)
        rc = readd(m, &old, state, n, keep, err);
    free(keep);
    free(old.next);
    free(old.cost);
    word_sets_free(&old.frames);
    word_sets_free(&old.states);
    return rc;
}

/* A matcher that is full of other states fails where a fresh one would not: that one decides, so that what a text may go on with depends on the text alone. */
static int fill_mask_alone(const struct matcher *m, uint32_t state, uint32_t *mask, struct error *err)
{
    struct matcher *alone = matcher_open(m->g, m->t, err);
    uint32_t *keep = calloc((size_t)m->frames.n + 1, sizeof *keep), at = state, *list[] = {&at};
    int rc = alone && keep ? 0 : out_of_memory(err);
    if (rc == 0) {
        alone->bytes_max = m->bytes_max;
        mark_frames(m, list, 1, keep);
        rc = readd(alone, m, list, 1, keep, err);
    }
    rc = rc < 0 ? rc : fill_mask(alone, at, mask, err);
    free(keep);
    matcher_close(alone);
    return rc;
}
