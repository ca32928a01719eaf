/* SPDX-License-Identifier: Apache-2.0 */
/* All tokens of a vocabulary as one tree of bytes, in the order of a walk through it: what tokens have in common is looked at once. Never changes once it is made. */
#ifndef TEXT_TOKEN_TREE_H
#define TEXT_TOKEN_TREE_H

#include "base/bytes.h"
#include "base/error.h"

enum { TOKEN_BYTES_MAX = 4096 };

struct token_node {
    uint32_t skip;  /* the next node that is not below this one */
    uint32_t first; /* of the tokens that end here: token[first] to before the next node's first */
    uint16_t depth; /* bytes before this one */
    uint8_t byte;
};

struct token_tree {
    int n_tokens;            /* of the vocabulary: bits of a mask */
    uint32_t n_nodes;
    size_t longest;          /* bytes of the longest token in it */
    struct token_node *node; /* [n_nodes + 1] */
    int32_t *token;          /* by text */
    int n_end;
    int32_t *end;            /* tokens that end the text */
};

/* text[i]: what token i adds to the text; empty for control tokens, which no grammar allows, nor does one allow tokens of more than TOKEN_BYTES_MAX bytes.
   end: the tokens that end the text, whatever their text is. Caller closes. */
struct token_tree *token_tree_open(const struct bytes *text, int n, const int32_t *end, int n_end, struct error *err);
void token_tree_close(struct token_tree *t); /* NULL is fine */

#endif
