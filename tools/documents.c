/* SPDX-License-Identifier: Apache-2.0 */
#include "documents.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "messages.h"

static int add(struct documents *all, struct document d, lsk_error *err)
{
    struct document *bigger = realloc(all->item, (size_t)(all->n + 1) * sizeof *bigger);
    if (!bigger) {
        free(d.token);
        return complain(err, LSK_EOS, "out of memory");
    }
    all->item = bigger;
    all->item[all->n++] = d;
    all->longest = d.n > all->longest ? d.n : all->longest;
    return 0;
}

/* The text as a conversation's first message. */
static int add_chat(struct documents *d, const char *place, const char *text, size_t n, lsk_error *err)
{
    json_t *messages = json_pack("[{s:s, s:s%}]", "role", "user", "content", text, n);
    char *json = messages ? json_dumps(messages, JSON_COMPACT) : NULL;
    lsk_chat *c = json ? lsk_chat_render(d->model, json, NULL, err) : NULL;
    struct document item = {.n = c ? c->n_tokens : 0, .token = c ? malloc((size_t)(c->n_tokens + 1) * sizeof *item.token) : NULL};
    if (!json)
        complain(err, LSK_EDATA, "%s: the text is not UTF-8", place);
    else if (c && !item.token)
        complain(err, LSK_EOS, "out of memory");
    else if (c)
        memcpy(item.token, c->tokens, (size_t)c->n_tokens * sizeof *item.token);
    lsk_chat_free(c);
    free(json);
    json_decref(messages);
    return item.token ? add(d, item, err) : err->code;
}

int documents_add(struct documents *d, const char *place, const char *text, size_t n, lsk_error *err)
{
    struct document item = {0};
    if (d->chat)
        return add_chat(d, place, text, n, err);
    item.n = encode_prompt(d->model, &(struct prompt_args){.bos = d->bos, .special = d->special, .file = place}, text, n, &item.token, err);
    return item.n < 0 ? item.n : add(d, item, err);
}

static int add_tokens(struct documents *all, const char *place, const json_t *list, const json_t *given, lsk_error *err)
{
    const size_t n = json_array_size(list);
    struct document d = {.n = (int)n, .given = (int)json_integer_value(given), .token = malloc((n + 1) * sizeof *d.token)};
    if (!d.token)
        return complain(err, LSK_EOS, "out of memory");
    if (given && (!json_is_integer(given) || json_integer_value(given) < 0 || json_integer_value(given) > (json_int_t)n)) {
        free(d.token);
        return complain(err, LSK_EDATA, "%s: prompt_tokens: must be a whole number of at most %zu, the row's tokens", place, n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= lsk_model_about(all->model)->n_vocab) {
            free(d.token);
            return complain(err, LSK_EDATA, "%s: token %zu: must be a whole number below %d, the model's vocabulary", place, i, lsk_model_about(all->model)->n_vocab);
        }
        d.token[i] = (int32_t)id;
    }
    return add(all, d, err);
}

static int add_row(void *ud, const json_t *row, const char *place, lsk_error *err)
{
    struct documents *d = ud;
    const json_t *tokens = json_object_get(row, "tokens"), *text;
    if (json_is_array(tokens))
        return add_tokens(d, place, tokens, json_object_get(row, "prompt_tokens"), err);
    if (!(text = row_column(row, d->name, place, err)))
        return err->code;
    if (!json_is_string(text))
        return complain(err, LSK_EDATA, "%s: \"%s\": must be a text", place, d->name);
    return documents_add(d, place, json_string_value(text), json_string_length(text), err);
}

int documents_read(struct documents *d, const char *path, lsk_error *err)
{
    char *text = NULL;
    size_t n = 0;
    if (rows_are(path))
        return rows_read(&d->rows, path, add_row, d, err);
    int r = read_stream(path, &text, &n, err);
    if (r >= 0)
        r = documents_add(d, path, text, n, err);
    free(text);
    return r;
}

void documents_free(struct documents *d)
{
    for (int i = 0; i < d->n; i++)
        free(d->item[i].token);
    free(d->item);
}
