/* SPDX-License-Identifier: Apache-2.0 */
/* Text to tokens and back. A tokenizer never changes once it is open: any number of threads may use it. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "text/vocab.h"

enum { /* the values of LSK_ENCODE_... */
    ENCODE_BOS = 1,     /* bos first and eos last where the vocabulary asks for them; bos never twice */
    ENCODE_SPECIAL = 2, /* special tokens written in the text become themselves */
    ENCODE_REPLACE = 4  /* every maximal ill-formed subsequence of bytes becomes one U+FFFD; without it, ERR_DATA with its offset */
};

struct tokenizer;

/* v is borrowed and must live as long. Caller closes. */
struct tokenizer *tokenizer_open(const struct vocab *v, struct error *err);
void tokenizer_close(struct tokenizer *t); /* NULL is fine */

/* How many tokens the text has; writes at most cap of them. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags, int32_t *out, int cap, struct error *err);

/* The same, but no special token is found where user[i] is 1 for one of its bytes (user may be NULL). Not with ENCODE_REPLACE, which moves bytes. */
int tokenizer_encode_marked(const struct tokenizer *t, const char *text, size_t n, const uint8_t *user, unsigned flags, int32_t *out, int cap, struct error *err);

/* What the token stands for: real bytes, perhaps a part of a character, a space for U+2581; control tokens give their name. p == NULL: no such token. */
struct bytes tokenizer_piece(const struct tokenizer *t, int32_t id);
bool tokenizer_hidden(const struct tokenizer *t, int32_t id);                  /* control, unknown: no part of the text */
const struct vocab *tokenizer_vocab(const struct tokenizer *t);
size_t tokenizer_longest(const struct tokenizer *t);                           /* bytes of the longest piece */

#endif
