/* SPDX-License-Identifier: Apache-2.0 */
/* What a matcher wants to know about the code before it runs it. Everything here is linear in the code. */
#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "text/grammar_parts.h"

struct analysis {
    struct grammar *g;
    int32_t *rule_of;              /* [n_code] */
    int32_t *jump_in, *next_jump;  /* [n_code] the jumps and splits that lead to an instruction; -1: none */
    int32_t *call_in, *next_call;  /* [n_rules], [n_code] the calls of a rule; -1: none */
    int32_t *stack, *rank, *left;  /* [n_code], [n_rules], [n_rules] calls that a rule may begin with */
    uint8_t *empty;                /* [n_code] the rule's end can be reached without a character */
    uint8_t *ends;                 /* [n_code] it can be reached */
    uint8_t *first;                /* [n_code] reached from the rule's start without a character */
    struct arena arena;
};

static bool is_call(const struct instr *i) { return i->op == OP_CALL || i->op == OP_TAIL; }
static bool is_jump(const struct instr *i) { return i->op == OP_SPLIT || i->op == OP_JUMP; }

static bool link_code(struct analysis *a)
{
    struct grammar *g = a->g;
    size_t n = (size_t)g->n_code, rules = (size_t)g->n_rules;
    int32_t **places[] = {&a->rule_of, &a->jump_in, &a->next_jump, &a->next_call, &a->stack, &a->call_in, &a->rank, &a->left};
    for (int i = 0; i < 8; i++) {
        size_t count = i < 5 ? n : rules;
        *places[i] = arena_array(&a->arena, count, sizeof **places[i]);
        if (!*places[i])
            return false;
        memset(*places[i], 0xff, count * sizeof **places[i]);
    }
    a->empty = arena_alloc(&a->arena, n);
    a->ends = arena_alloc(&a->arena, n);
    a->first = arena_alloc(&a->arena, n);
    if (!a->empty || !a->ends || !a->first)
        return false;
    for (int r = 0; r < g->n_rules; r++)
        a->rule_of[g->start[r]] = r;
    for (int32_t i = 0; i < g->n_code; i++) {
        const struct instr *in = &g->code[i];
        if (a->rule_of[i] < 0)
            a->rule_of[i] = a->rule_of[i - 1];
        if (is_jump(in)) {
            a->next_jump[i] = a->jump_in[i + in->arg];
            a->jump_in[i + in->arg] = i;
        } else if (is_call(in)) {
            a->next_call[i] = a->call_in[in->arg];
            a->call_in[in->arg] = i;
        }
    }
    return true;
}

/* Marks every instruction from which its rule's end can be reached, with characters or without, by going backward from the ends. */
static void mark_ends(struct analysis *a, uint8_t *mark, bool with_characters)
{
    const struct grammar *g = a->g;
    int n = 0;
#define REACH(at) (mark[at] ? (void)0 : (void)(mark[at] = 1, a->stack[n++] = (at)))
    for (int32_t i = 0; i < g->n_code; i++)
        if (g->code[i].op == OP_END)
            REACH(i);
    while (n) {
        int32_t at = a->stack[--n], rule = a->rule_of[at], before = at - 1;
        for (int32_t from = a->jump_in[at]; from >= 0; from = a->next_jump[from])
            REACH(from);
        if (g->start[rule] == at) {
            for (int32_t call = a->call_in[rule]; call >= 0; call = a->next_call[call])
                if (mark[call + 1])
                    REACH(call);
            continue;
        }
        const struct instr *in = &g->code[before];
        if (in->op == OP_SPLIT || (in->op == OP_CHAR && with_characters) || (is_call(in) && mark[g->start[in->arg]]))
            REACH(before);
    }
#undef REACH
}

/* Marks what a rule can begin with, and counts the calls among it. */
static void mark_first(struct analysis *a, int32_t rule)
{
    const struct grammar *g = a->g;
    int n = 0;
#define REACH(at) (a->first[at] || !a->ends[at] ? (void)0 : (void)(a->first[at] = 1, a->stack[n++] = (at)))
    a->left[rule] = 0;
    REACH(g->start[rule]);
    while (n) {
        int32_t at = a->stack[--n];
        const struct instr *in = &g->code[at];
        if (is_jump(in))
            REACH(at + in->arg);
        if (in->op == OP_SPLIT || (is_call(in) && a->empty[g->start[in->arg]]))
            REACH(at + 1);
        a->left[rule] += is_call(in);
    }
#undef REACH
}

/* A rule of those left over, all of which begin with another one of them, that is on a circle. */
static int32_t find_circle(const struct analysis *a, int32_t rule)
{
    const struct grammar *g = a->g;
    while (a->left[rule] > 0) {
        int32_t i = g->start[rule];
        a->left[rule] = 0; /* been here */
        while (!is_call(&g->code[i]) || !a->first[i] || a->rank[g->code[i].arg] >= 0)
            i++;
        rule = g->code[i].arg;
    }
    return rule;
}

/* Ranks rules so that one which begins with another comes before it. Left recursion leaves some without a rank. */
static int rank_rules(struct analysis *a, const char *name, const struct bytes *names, struct error *err)
{
    const struct grammar *g = a->g;
    int32_t *queue = a->stack, head = 0, tail = 0;
    for (int32_t r = 0; r < g->n_rules; r++)
        mark_first(a, r);
    for (int32_t r = 0; r < g->n_rules; r++)
        if (!a->left[r])
            queue[tail++] = r;
    while (head < tail) {
        int32_t r = queue[head++];
        a->rank[r] = g->n_rules - head;
        for (int32_t call = a->call_in[r]; call >= 0; call = a->next_call[call])
            if (a->first[call] && --a->left[a->rule_of[call]] == 0)
                queue[tail++] = a->rule_of[call];
    }
    for (int32_t r = 0; r < g->n_rules; r++)
        if (a->rank[r] < 0) {
            struct bytes b = names[find_circle(a, r)];
            return fail(err, ERR_DATA, "%s: rule '%.*s' begins with itself (left recursion): write it with * or +, or put the recursion behind something", name,
                        (int)(b.n < 80 ? b.n : 80), (const char *)b.p);
        }
    return 0;
}

/* Rules get their ranks as numbers, code what was found out about it. */
static bool seal(struct analysis *a)
{
    struct grammar *g = a->g;
    int32_t *start = calloc((size_t)g->n_rules, sizeof *start);
    g->nullable = calloc((size_t)g->n_rules, sizeof *g->nullable);
    if (!start || !g->nullable) {
        free(start);
        return false;
    }
    for (int32_t r = 0; r < g->n_rules; r++) {
        start[a->rank[r]] = g->start[r];
        g->nullable[a->rank[r]] = a->empty[g->start[r]];
    }
    free(g->start);
    g->start = start;
    g->root = a->rank[g->root];
    for (int32_t i = g->n_code; i-- > 0;) { /* backward: `first` is reused for "nothing follows but jumps to the end" */
        struct instr *in = &g->code[i];
        in->live = a->ends[i];
        a->first[i] = in->op == OP_END || (in->op == OP_JUMP && in->arg > 0 && a->first[i + in->arg]);
        if (is_call(in))
            *in = (struct instr){a->first[i + 1] ? OP_TAIL : OP_CALL, a->ends[i], a->rank[in->arg]};
    }
    return true;
}

static void find_classes(struct grammar *g)
{
    bool begins[257] = {true};
    for (uint32_t i = 0; i < g->rows.n_words; i += 2) {
        begins[g->rows.word[i] & 0xff] = true;
        begins[(g->rows.word[i] >> 8) + 1] = true;
    }
    for (int b = 0; b < 256; b++) {
        g->n_classes += begins[b];
        g->class_of[b] = (uint8_t)(g->n_classes - 1);
        g->byte_of[g->n_classes - 1] = (uint8_t)b;
    }
}

static int analyse(struct grammar *g, const char *name, const struct bytes *names, struct error *err)
{
    struct analysis a = {.g = g};
    int rc = 0;
    if (!link_code(&a))
        rc = fail(err, ERR_OS, "%s: out of memory", name);
    if (rc == 0) {
        mark_ends(&a, a.empty, false);
        mark_ends(&a, a.ends, true);
        if (!a.ends[g->start[g->root]])
            rc = fail(err, ERR_DATA, "%s: no text can ever match 'root': every way through it leads into endless recursion", name);
    }
    if (rc == 0)
        rc = rank_rules(&a, name, names, err);
    if (rc == 0 && !seal(&a))
        rc = fail(err, ERR_OS, "%s: out of memory", name);
    if (rc == 0)
        find_classes(g);
    arena_free(&a.arena);
    return rc;
}

struct grammar *grammar_open(const char *name, struct bytes gbnf, struct error *err)
{
    struct bytes *names = NULL;
    struct grammar *g = calloc(1, sizeof *g);
    int rc = g ? grammar_parse(g, name, gbnf, &names, err) : fail(err, ERR_OS, "%s: out of memory", name);
    if (rc == 0)
        rc = analyse(g, name, names, err);
    free(names);
    if (rc == 0)
        return g;
    grammar_close(g);
    return NULL;
}

void grammar_close(struct grammar *g)
{
    if (!g)
        return;
    free(g->code);
    free(g->start);
    free(g->nullable);
    word_sets_free(&g->rows);
    free(g);
}
