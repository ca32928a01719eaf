/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation as the text, and the tokens, that a model was taught to read it in. */
#ifndef TEXT_CHAT_TEMPLATE_H
#define TEXT_CHAT_TEMPLATE_H

#include "text/jinja.h"
#include "text/tokenizer.h"

/* The templates that are built in, for models that bring none. */
struct chat_builtin {
    const char *name, *help, *text;
};
const struct chat_builtin *chat_builtin_at(int i);           /* NULL past the last */
const struct chat_builtin *chat_builtin_find(const char *name); /* NULL: there is none */

struct chat_request {
    const json_t *messages;  /* [{"role", "content", ...}] */
    const json_t *tools;     /* or NULL */
    const json_t *variables; /* an object: what else this template asks for; or NULL */
    bool reply;              /* end with the beginning of the assistant's message */
    int64_t now;             /* as for jinja_render */
};

/* out lies in the arena. */
int chat_render(const struct jinja *template, const struct tokenizer *t, const struct chat_request *r, struct arena *arena, struct marked *out, struct error *err);

/* The tokens of a rendered text: bos as the vocabulary asks for it, never twice, no eos. What messages say never becomes a special token. Like tokenizer_encode. */
int chat_encode(const struct tokenizer *t, struct marked text, int32_t *out, int cap, struct error *err);

/* The control token that this template writes behind an assistant's message; -1: none. */
int32_t chat_end(const struct jinja *template, const struct tokenizer *t, const struct chat_request *r);

#endif
