/* SPDX-License-Identifier: Apache-2.0 */
/* A vocabulary: the plain description that a tokenizer is made from, whichever file it was read from. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "text/merge.h"
#include "text/pretok.h"

enum {
    VOCAB_MAX = 1 << 22,       /* tokens */
    VOCAB_PIECE_MAX = 256,     /* bytes of a piece that merges are made from by score; real ones have less than 100 */
    VOCAB_ADDED_MAX = 512,     /* bytes of an added token; likewise */
    VOCAB_MERGES_MAX = 1 << 20 /* made from scores; 256,000 real tokens make 0.6 million */
};

enum vocab_kind {
    VOCAB_BYTES, /* byte-level BPE: GPT-2, Llama 3, SmolLM2 */
    VOCAB_CHARS  /* BPE on characters, space written U+2581, other characters as byte tokens: SentencePiece, Llama 2 */
};

enum token_type { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE }; /* numbers as in the files */

/* A token that is found in the text as a whole, before anything is merged. */
struct added_token {
    int32_t id;
    bool special;      /* only with ENCODE_SPECIAL */
    bool normalized;   /* looked for behind the dummy prefix and the rewriting of spaces, not before */
    struct bytes text; /* what is looked for */
};

enum vocab_prefix { /* the space that SentencePiece puts before the first word */
    PREFIX_NONE,
    PREFIX_START,   /* at the start of the text */
    PREFIX_SEGMENT, /* and behind every added token that is not `normalized` */
};

struct vocab {
    const char *name;         /* the file, for messages */
    enum vocab_kind kind;
    int n;                    /* tokens */
    int n_symbols;            /* n + characters that are no token but part of one; merging passes through them */
    struct bytes *piece;      /* [n_symbols] real bytes; spaces of VOCAB_CHARS are U+2581 */
    uint8_t *type;            /* [n] enum token_type */
    int n_merges;
    struct merge *merge;      /* [n_merges] */
    int n_added;
    struct added_token *added; /* [n_added] */
    enum pretok pretok;
    bool ignore_merges;       /* a word that is a token is not taken apart */
    enum vocab_prefix prefix;
    bool prefix_once;         /* no prefix where a space is already */
    bool add_bos, add_eos;
    bool fuse_unk;            /* a run of unknown characters is one unk */
    int32_t bos, eos, unk;    /* -1: none */
    int32_t byte_token[256];  /* the token of a byte, -1: none */
    struct arena arena;       /* owns all of the above */
};

/* What the files beside the vocabulary's own (or the user) say; {-1, -1, -1, -1}: nothing. The texts, or NULL, name a token where the file
   itself names none, and over it where add_... is said too: then transformers makes the template anew. */
struct vocab_wish {
    int add_bos, add_eos;
    int32_t bos, eos;
    const char *bos_text, *eos_text;
    const struct json_t *added_tokens, *special_tokens; /* added_tokens.json, special_tokens_map.json: what tokenizer.model lacks; or NULL */
};

/* The arrays of a GGUF file, borrowed. */
struct vocab_tables {
    const char *model, *pre; /* "llama" or "gpt2"; the pre-tokenizer's name or NULL */
    int n;
    const struct bytes *text; /* [n] */
    const float *score;       /* [n] or NULL */
    const int32_t *type;      /* [n] or NULL */
    int n_merges;
    const struct bytes *merge; /* [n_merges] "left right" */
    int32_t bos, eos, unk;     /* -1: absent */
    int add_bos, add_eos, add_space_prefix; /* -1: not said */
};

/* name: the file, for messages. On failure *v holds nothing; else the caller closes it. wish may be NULL. */
int vocab_from_tables(struct vocab *v, const char *name, const struct vocab_tables *t, const struct vocab_wish *wish, struct error *err);
int vocab_from_tokenizer_json(struct vocab *v, const char *name, struct bytes json, const struct vocab_wish *wish, struct error *err);
int vocab_from_tokenizer_model(struct vocab *v, const char *name, struct bytes proto, const struct vocab_wish *wish, struct error *err);
void vocab_close(struct vocab *v); /* zeroes are fine */

#endif
