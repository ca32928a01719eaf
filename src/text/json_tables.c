/* SPDX-License-Identifier: Apache-2.0 */
#include "text/json_tables.h"

#include <stdlib.h>
#include <string.h>

#include "base/pull.h"
#include "text/vocab.h"

struct walk {
    struct json_tables *t;
    struct pull json;
    struct { size_t from, to; } hole[3]; /* what the brackets of a table hold, in file order; behind them an empty one at the end of the text */
    int n_holes;
};

static int no_memory(struct walk *w) { return fail(w->json.err, ERR_OS, "%s: out of memory for %zu bytes of JSON", w->json.path, w->json.n); }

static int push(struct walk *w, struct json_texts *list, struct bytes text)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 1024;
        struct bytes *p = reallocarray(list->p, cap, sizeof *p);
        if (!p)
            return no_memory(w);
        list->p = p;
        list->cap = cap;
    }
    list->p[list->n++] = text;
    return 0;
}

/* Gives every key of an object to `take`, which reads the value. */
static int each_member(struct walk *w, int (*take)(struct walk *, struct bytes key))
{
    struct bytes key;
    int rc = pull_expect(&w->json, '{'), more = 1;
    for (bool first = true; !rc && (more = pull_more(&w->json, '}', first)) > 0; first = false) {
        rc = pull_text(&w->json, &key);
        if (!rc)
            rc = pull_expect(&w->json, ':');
        if (!rc)
            rc = take(w, key);
    }
    return rc ? rc : more;
}

static int take_token(struct walk *w, struct bytes key)
{
    struct bytes id;
    if (w->t->token.n == VOCAB_MAX)
        return fail(w->json.err, ERR_DATA, "%s: model.vocab: more than %d tokens; that is not supported", w->json.path, VOCAB_MAX);
    int rc = pull_skip(&w->json, &id);
    if (!rc)
        rc = push(w, &w->t->token, key);
    return rc ? rc : push(w, &w->t->id, id);
}

static int read_vocab(struct walk *w) { return each_member(w, take_token); }

/* "left right" or ["left", "right"]. */
static int take_merge(struct walk *w)
{
    struct pull *j = &w->json;
    struct bytes part[2] = {0};
    int rc = 0, more = 1;
    if (pull_peek(j, '"')) {
        rc = pull_text(j, &part[0]);
        const uint8_t *space = rc ? NULL : memchr(part[0].p, ' ', part[0].n);
        if (space) {
            part[1] = (struct bytes){space + 1, part[0].n - (size_t)(space + 1 - part[0].p)};
            part[0].n -= part[1].n + 1;
            more = 0;
        }
    } else if (pull_peek(j, '[')) {
        rc = pull_expect(j, '[');
        for (int i = 0; !rc && (more = pull_more(j, ']', i == 0)) > 0 && i < 2 && pull_peek(j, '"'); i++)
            rc = pull_text(j, &part[i]);
    }
    if (rc < 0 || more < 0)
        return rc < 0 ? rc : more;
    if (more || !part[0].n || !part[1].n)
        return fail(j->err, ERR_DATA, "%s: offset 0x%zx: merge %zu: expected two pieces", j->path, j->at, w->t->part.n / 2);
    rc = push(w, &w->t->part, part[0]);
    return rc ? rc : push(w, &w->t->part, part[1]);
}

static int read_merges(struct walk *w)
{
    int rc = pull_expect(&w->json, '['), more = 1;
    for (bool first = true; !rc && (more = pull_more(&w->json, ']', first)) > 0; first = false)
        rc = take_merge(w);
    return rc ? rc : more;
}

/* A value of another kind than the table's stays in the rest, where it can be refused by what the file is. */
static int take_model_member(struct walk *w, struct bytes key)
{
    static const struct {
        const char *key;
        char open;
        int (*read)(struct walk *);
    } tables[] = {{"vocab", '{', read_vocab}, {"merges", '[', read_merges}};
    struct pull *j = &w->json;
    struct bytes passed;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (bytes_equal(key, tables[i].key) && pull_peek(j, tables[i].open)) {
            if (w->n_holes == 2)
                return pull_refuse(j, "model.vocab or model.merges is there twice");
            w->hole[w->n_holes].from = j->at + 1;
            int rc = tables[i].read(w);
            w->hole[w->n_holes++].to = j->at - 1;
            return rc;
        }
    return pull_skip(j, &passed);
}

static int take_root_member(struct walk *w, struct bytes key)
{
    struct bytes passed;
    return bytes_equal(key, "model") && pull_peek(&w->json, '{') ? each_member(w, take_model_member) : pull_skip(&w->json, &passed);
}

/* A strict parser sees everything that was passed over, in its place: what it accepts has been walked through rightly. */
static int parse_rest(struct walk *w, struct bytes json)
{
    json_error_t e;
    size_t n = 0, from = 0, at;
    char *rest = malloc(json.n + 1);
    if (!rest)
        return no_memory(w);
    w->hole[w->n_holes].from = w->hole[w->n_holes].to = json.n;
    for (int i = 0; i <= w->n_holes; from = w->hole[i++].to) {
        memcpy(rest + n, json.p + from, w->hole[i].from - from);
        n += w->hole[i].from - from;
    }
    w->t->rest = json_loadb(rest, n, JSON_REJECT_DUPLICATES, &e);
    free(rest);
    if (w->t->rest)
        return 0;
    at = (size_t)e.position;
    for (int i = 0; i < w->n_holes; i++)
        at += at < w->hole[i].from ? 0 : w->hole[i].to - w->hole[i].from;
    w->json.at = at;
    return pull_refuse(&w->json, e.text);
}

static int index_tokens(struct walk *w)
{
    struct json_tables *t = w->t;
    int n = (int)t->token.n;
    if (!piece_map_init(&t->map, &t->arena, t->token.p, n))
        return no_memory(w);
    for (int i = 0; i < n; i++) {
        int32_t other = piece_map_add(&t->map, i);
        if (other != i)
            return fail(w->json.err, ERR_DATA, "%s: model.vocab: token \"%.64s\": %s", w->json.path, (const char *)t->token.p[i].p,
                        other < 0 ? PIECE_MAP_CROWDED : "is there twice");
    }
    return 0;
}

static int read_text(struct walk *w, struct bytes json)
{
    if (!w->json.text)
        return no_memory(w);
    if (json.n)
        memcpy(w->json.text, json.p, json.n);
    if (!utf8_valid(json, &w->json.at))
        return pull_refuse(&w->json, "not UTF-8");
    int rc = each_member(w, take_root_member);
    if (!rc)
        rc = pull_end(&w->json);
    if (!rc)
        rc = parse_rest(w, json);
    return rc ? rc : index_tokens(w);
}

int json_tables_open(struct json_tables *t, const char *name, struct bytes json, struct error *err)
{
    *t = (struct json_tables){.text = malloc(json.n + 1)};
    struct walk w = {.t = t, .json = {.text = t->text, .n = json.n, .path = name, .err = err}};
    int rc = read_text(&w, json);
    if (rc < 0)
        json_tables_close(t);
    return rc;
}

void json_tables_close(struct json_tables *t)
{
    json_decref(t->rest);
    free(t->token.p);
    free(t->id.p);
    free(t->part.p);
    free(t->text);
    arena_free(&t->arena);
    *t = (struct json_tables){0};
}
