/* SPDX-License-Identifier: Apache-2.0 */
#include "text/token_tree.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct bytes text;
    int32_t id;
};

static int by_text(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int c = memcmp(x->text.p, y->text.p, n);
    return c ? c : x->text.n != y->text.n ? (x->text.n > y->text.n ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static size_t common(struct bytes a, struct bytes b)
{
    size_t n = 0;
    while (n < a.n && n < b.n && a.p[n] == b.p[n])
        n++;
    return n;
}

/* The tokens that the tree is made of, sorted; returns their number. */
static int list_tokens(struct entry *e, const struct bytes *text, int n, const bool *ends)
{
    int used = 0;
    for (int i = 0; i < n; i++)
        if (text[i].n && text[i].n <= TOKEN_BYTES_MAX && !ends[i])
            e[used++] = (struct entry){text[i], i};
    qsort(e, (size_t)used, sizeof *e, by_text);
    return used;
}

static void plant(struct token_tree *t, const struct entry *e, int n)
{
    uint32_t open[TOKEN_BYTES_MAX]; /* the nodes of the token before */
    size_t depth = 0;
    for (int i = 0; i < n; i++) {
        size_t same = i ? common(e[i - 1].text, e[i].text) : 0;
        while (depth > same)
            t->node[open[--depth]].skip = t->n_nodes;
        for (; depth < e[i].text.n; depth++) {
            open[depth] = t->n_nodes;
            t->node[t->n_nodes++] = (struct token_node){.token = token_none(t), .depth = (uint16_t)depth, .byte = e[i].text.p[depth]};
        }
        struct token_node *last = &t->node[open[depth - 1]];
        last->more = last->token != token_none(t);
        t->same[e[i].id] = last->more ? last->token : -1;
        last->token = e[i].id;
        t->longest = depth > t->longest ? depth : t->longest;
    }
    while (depth)
        t->node[open[--depth]].skip = t->n_nodes;
}

/* How many nodes the sorted tokens make. */
static uint64_t count_nodes(const struct entry *e, int n)
{
    uint64_t nodes = 0;
    for (int i = 0; i < n; i++)
        nodes += e[i].text.n - (i ? common(e[i - 1].text, e[i].text) : 0);
    return nodes;
}

static int build(struct token_tree *t, const struct bytes *text, struct entry *e, bool *ends, struct error *err)
{
    for (int i = 0; i < t->n_end; i++) {
        if (t->end[i] < 0 || t->end[i] >= t->n_tokens)
            return fail(err, ERR_USAGE, "end-of-text token %d: the vocabulary has tokens 0 to %d", t->end[i], t->n_tokens - 1);
        ends[t->end[i]] = true;
    }
    int n = list_tokens(e, text, t->n_tokens, ends);
    uint64_t nodes = count_nodes(e, n);
    if (nodes >= INT32_MAX)
        return fail(err, ERR_DATA, "the vocabulary's tokens have %llu bytes that they do not share: it is no vocabulary", (unsigned long long)nodes);
    t->node = calloc((size_t)nodes + 1, sizeof *t->node);
    if (!t->node)
        return fail(err, ERR_OS, "out of memory for the tree of %d tokens", n);
    plant(t, e, n);
    return 0;
}

struct token_tree *token_tree_open(const struct bytes *text, int n, const int32_t *end, int n_end, struct error *err)
{
    struct token_tree *t = calloc(1, sizeof *t);
    size_t room = n > 0 ? (size_t)n : 1;
    struct entry *e = calloc(room, sizeof *e);
    bool *ends = calloc(room, 1);
    int rc = -1;
    if (t) {
        t->same = calloc(room, sizeof *t->same);
        t->end = calloc(n_end > 0 ? (size_t)n_end : 1, sizeof *t->end);
    }
    if (!t || !e || !ends || !t->same || !t->end)
        rc = fail(err, ERR_OS, "out of memory for the tree of %d tokens", n);
    else {
        t->n_tokens = n;
        t->n_end = n_end;
        if (n_end)
            memcpy(t->end, end, (size_t)n_end * sizeof *end);
        rc = build(t, text, e, ends, err);
    }
    free(e);
    free(ends);
    if (rc == 0)
        return t;
    token_tree_close(t);
    return NULL;
}

void token_tree_close(struct token_tree *t)
{
    if (!t)
        return;
    free(t->node);
    free(t->same);
    free(t->end);
    free(t);
}
