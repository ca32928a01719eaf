/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "text/chat_template.h"

struct chat {
    lsk_chat public; /* first, so that either is the other */
    struct arena arena;
};

const char *lsk_chat_template(int i, const char **help)
{
    const struct chat_builtin *b = chat_builtin_at(i);
    if (b && help)
        *help = b->help;
    return b ? b->name : NULL;
}

static int refuse_template(const lsk_model *m, const char *name, struct error *err)
{
    char list[128] = "";
    for (int i = 0; chat_builtin_at(i); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", chat_builtin_at(i)->name);
    }
    if (!name)
        return fail(err, ERR_USAGE, "%s: brings no chat template: name one, of %s, or give one's text", m->info.path, list);
    return fail(err, ERR_USAGE, "chat template \"%.64s\": must be auto or one of %s", name, list);
}

static struct jinja *open_template(const lsk_model *m, const lsk_chat_options *o, struct error *err)
{
    const char *name = o->template_name && strcmp(o->template_name, "auto") ? o->template_name : NULL, *text = o->template_text;
    const struct chat_builtin *b = name ? chat_builtin_find(name) : NULL;
    if (!text)
        text = b ? b->text : name ? NULL : m->model.file->chat_template;
    if (!text) {
        refuse_template(m, name, err);
        return NULL;
    }
    return jinja_open(o->template_text ? "chat template" : b ? b->name : "the model's chat template", (struct bytes){(const uint8_t *)text, strlen(text)}, err);
}

/* text NULL: *out stays NULL. The caller calls json_decref. */
static int load_json(const char *what, const char *text, json_type type, json_t **out, struct error *err)
{
    json_error_t why;
    if (text && !(*out = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why)))
        return fail(err, ERR_DATA, "%s: line %d, column %d: %.200s", what, why.line, why.column, why.text);
    return !text || json_typeof(*out) == type ? 0 : fail(err, ERR_DATA, "%s: must be a JSON %s", what, type == JSON_ARRAY ? "array" : "object");
}

static int check_messages(const json_t *messages, struct error *err)
{
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_string(json_object_get(json_array_get(messages, i), "role")))
            return fail(err, ERR_DATA, "messages: number %zu: must be an object with a \"role\"", i + 1);
    return 0;
}

static int encode(const lsk_model *m, struct chat *c, struct marked text, struct error *err)
{
    int n = chat_encode(m->model.tokenizer, text, NULL, 0, err), cap = n + 1; /* the eos that chat_encode leaves out is written too */
    int32_t *tokens = n < 0 ? NULL : arena_array(&c->arena, (uint64_t)cap, sizeof *tokens);
    if (n < 0)
        return n;
    if (!tokens || !(c->public.text = arena_text(&c->arena, text.p, text.n)))
        return fail(err, ERR_OS, "chat: out of memory");
    c->public.tokens = tokens;
    c->public.n_text = text.n;
    c->public.n_tokens = chat_encode(m->model.tokenizer, text, tokens, cap, err);
    return c->public.n_tokens < 0 ? c->public.n_tokens : 0;
}

static int render(const lsk_model *m, struct chat *c, const struct jinja *template, const char *messages, const lsk_chat_options *o, struct error *err)
{
    json_t *list = NULL, *tools = NULL, *variables = NULL;
    struct arena work = {0};
    struct marked text;
    int rc = load_json("messages", messages, JSON_ARRAY, &list, err);
    rc = rc ? rc : check_messages(list, err);
    rc = rc ? rc : load_json("tools", o->tools, JSON_ARRAY, &tools, err);
    rc = rc ? rc : load_json("variables", o->variables, JSON_OBJECT, &variables, err);
    const struct chat_request ask = {.messages = list, .tools = tools, .variables = variables, .reply = !o->no_reply, .now = o->now ? o->now : (int64_t)time(NULL)};
    rc = rc ? rc : chat_render(template, m->model.tokenizer, &ask, &work, &text, err);
    rc = rc ? rc : encode(m, c, text, err);
    if (!rc)
        c->public.end = chat_end(template, m->model.tokenizer, &ask);
    arena_free(&work);
    json_decref(variables);
    json_decref(tools);
    json_decref(list);
    return rc;
}

lsk_chat *lsk_chat_render(const lsk_model *m, const char *messages, const lsk_chat_options *o, lsk_error *err)
{
    static const lsk_chat_options none;
    struct error e = {0};
    struct chat *c = calloc(1, sizeof *c);
    o = o ? o : &none;
    int rc = c ? api_check_options(o, "lsk_chat_options", &e) : fail(&e, ERR_OS, "chat: out of memory");
    struct jinja *template = rc ? NULL : open_template(m, o, &e);
    if (!rc)
        rc = template ? render(m, c, template, messages, o, &e) : e.code;
    jinja_close(template);
    if (!rc)
        return &c->public;
    lsk_chat_free(c ? &c->public : NULL);
    api_fail(err, &e);
    return NULL;
}

void lsk_chat_free(lsk_chat *c)
{
    struct chat *own = (struct chat *)c;
    if (own)
        arena_free(&own->arena);
    free(own);
}
