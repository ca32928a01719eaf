/* SPDX-License-Identifier: Apache-2.0 */
/* All tokens of a vocabulary as one tree of bytes, in the order of a walk through it: what tokens have in common is looked at once. Never changes once it is made. */
#ifndef TEXT_TOKEN_TREE_H
#define TEXT_TOKEN_TREE_H

#include "base/bytes.h"
#include "base/error.h"

enum { TOKEN_BYTES_MAX = 4096 };

struct token_node {
    uint32_t skip;  /* the next node that is not below this one */
    int32_t token;  /* that ends here; with none a number past the vocabulary's, token_none, so that a walk needs no branch */
    uint16_t depth; /* bytes before this one */
    uint8_t byte;
    bool more;      /* same[token] ends here too */
};

struct token_tree {
    int n_tokens;            /* of the vocabulary: bits of a mask */
    uint32_t n_nodes;
    size_t longest;          /* bytes of the longest token in it */
    struct token_node *node; /* [n_nodes] */
    int32_t *same;           /* [n_tokens] another token with this text, -1: none */
    int n_end;
    int32_t *end;            /* tokens that end the text */
};

/* Words of a mask, and the first bit behind them. */
static inline size_t token_words(const struct token_tree *t) { return ((size_t)t->n_tokens + 31) / 32; }
static inline int32_t token_none(const struct token_tree *t) { return (int32_t)token_words(t) * 32; }

/* text[i]: what token i adds to the text; empty for control tokens, which no grammar allows, nor does one allow tokens of more than TOKEN_BYTES_MAX bytes.
   end: the tokens that end the text, whatever their text is. Caller closes. */
struct token_tree *token_tree_open(const struct bytes *text, int n, const int32_t *end, int n_end, struct error *err);
void token_tree_close(struct token_tree *t); /* NULL is fine */

#endif
