/* SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"

/* Line ends become "\n", and one at the very end goes, as in Jinja. */
static bool copy_source(struct jinja *j, struct bytes text, struct bytes *out)
{
    uint8_t *p = (uint8_t *)arena_text(&j->arena, text.p, text.n);
    size_t n = 0;
    for (size_t i = 0; p && i < text.n; i++) {
        bool cr = text.p[i] == '\r';
        i += cr && i + 1 < text.n && text.p[i + 1] == '\n';
        p[n++] = cr ? '\n' : text.p[i];
    }
    if (!p)
        return false;
    n -= n && p[n - 1] == '\n';
    p[n] = 0;
    *out = (struct bytes){p, n};
    return true;
}

static int parse(struct jinja *j, struct bytes text, struct error *err)
{
    struct tokens tokens = {0};
    struct bytes source;
    size_t bad;
    if (text.n > JINJA_SOURCE_MAX)
        return fail(err, ERR_DATA, "%s: a template of %zu bytes: must be at most %d", j->name, text.n, JINJA_SOURCE_MAX);
    if (!utf8_valid(text, &bad))
        return fail(err, ERR_DATA, "%s: byte 0x%02x at offset %zu is not UTF-8: write the template in UTF-8", j->name, text.p[bad], bad);
    if (!copy_source(j, text, &source))
        return fail(err, ERR_OS, "%s: out of memory", j->name);
    int rc = jinja_lex(j->name, source, &tokens, err);
    rc = rc ? rc : jinja_parse(j, &tokens, err);
    free(tokens.item);
    return rc;
}

struct jinja *jinja_open(const char *name, struct bytes text, struct error *err)
{
    struct jinja *j = calloc(1, sizeof *j);
    if (j && (j->name = arena_text(&j->arena, name, strlen(name)))) {
        if (!parse(j, text, err))
            return j;
    } else {
        fail(err, ERR_OS, "%s: out of memory", name);
    }
    jinja_close(j);
    return NULL;
}

void jinja_close(struct jinja *j)
{
    if (j)
        arena_free(&j->arena);
    free(j);
}

/* The marks of all texts from outside are the same ones. */
static int mark_inputs(struct run *r, const struct jinja_input *in, int n)
{
    size_t longest = 0;
    for (int i = 0; i < n; i++) {
        size_t one = in[i].value && !in[i].trusted ? json_longest_text(in[i].value, 0) : 0;
        longest = one > longest ? one : longest;
    }
    uint8_t *ones = run_alloc(r, longest + 16, 1); /* 16: what one escaped character is written with */
    if (!ones)
        return r->err->code;
    r->ones = memset(ones, 1, longest + 16);
    return 0;
}

int jinja_render(const struct jinja *j, const struct jinja_input *in, int n, int64_t now, struct arena *arena, struct marked *out, struct error *err)
{
    struct scope globals = {0};
    struct build text = {0};
    struct run r = {.name = j->name, .arena = arena, .err = err, .line = 1, .now = now, .scope = &globals, .out = &text};
    int rc = mark_inputs(&r, in, n);
    for (int i = 0; i < n && !rc; i++) {
        struct value v;
        if (!in[i].value)
            continue;
        rc = value_from_json(&r, in[i].value, in[i].trusted, 0, &v);
        rc = rc ? rc : dict_set(&r, &globals.names, (struct marked){in[i].name, NULL, strlen(in[i].name)}, &v);
    }
    rc = rc ? rc : run_statements(&r, j->body);
    *out = build_done(&text).text;
    return rc;
}
