/* SPDX-License-Identifier: Apache-2.0 */
/* Texts as tokens: plain files, and NAME.jsonl with rows as generate-corpus writes them, {"tokens", "prompt_tokens"}, or {"text"}. */
#ifndef TOOLS_DOCUMENTS_H
#define TOOLS_DOCUMENTS_H

#include "layerskip.h"
#include "rows.h"

struct document {
    int32_t *token;
    int n, given; /* given: of the prompt */
};

struct documents {
    const lsk_model *model;
    const char *name; /* the column that holds a text: "text", "prompt" */
    int special, bos, chat; /* chat: a text is a user's message, in the model's own chat format */
    struct rows rows;
    struct document *item;
    int n, longest;
};

/* The caller sets what stands before `item`, reads files, and frees in any case. */
int documents_read(struct documents *d, const char *path, lsk_error *err); /* "-": stdin */
int documents_add(struct documents *d, const char *place, const char *text, size_t n, lsk_error *err);
void documents_free(struct documents *d);

#endif
