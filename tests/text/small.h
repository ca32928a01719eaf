/* SPDX-License-Identifier: Apache-2.0 */
/* Small vocabularies, made by hand. */
#ifndef TESTS_TEXT_SMALL_H
#define TESTS_TEXT_SMALL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

enum { SMALL_MAX = 512 };

struct small {
    struct vocab_tables tables;
    struct bytes text[SMALL_MAX], merge[SMALL_MAX];
    float score[SMALL_MAX];
    int32_t type[SMALL_MAX];
    char room[SMALL_MAX][16];
    struct vocab vocab;
    struct tokenizer *t;
};

static inline struct bytes as_bytes(const char *s) { return (struct bytes){(const uint8_t *)s, strlen(s)}; }

static inline void small_add(struct small *s, const char *text, int32_t type, float score)
{
    int i = s->tables.n++;
    s->text[i] = as_bytes(text);
    s->type[i] = type;
    s->score[i] = score;
}

/* Ids 0..255 are the bytes in order of the alphabet ('!' is 0); then what the merges ("a b") make; <|bos|> and <|eot|> are last. */
static inline void small_bytes(struct small *s, const char *pre, const char *const *merges)
{
    *s = (struct small){.tables = {.model = "gpt2", .pre = pre, .text = s->text, .type = s->type, .merge = s->merge, .bos = -1, .eos = -1, .unk = -1,
                                   .add_bos = -1, .add_eos = -1, .add_space_prefix = -1}};
    for (int pass = 0, next = 256; pass < 2; pass++)
        for (int c = 0; c < 256; c++) {
            int plain = (c > 32 && c < 127) || (c > 160 && c != 173), cp = plain ? c : next;
            if (plain != !pass)
                continue;
            next += !plain;
            char *r = s->room[s->tables.n];
            if (cp < 0x80)
                snprintf(r, 16, "%c", cp);
            else
                snprintf(r, 16, "%c%c", 0xc0 | cp >> 6, 0x80 | (cp & 63));
            small_add(s, r, TOKEN_NORMAL, 0);
        }
    for (; merges && *merges; merges++) {
        char *r = s->room[s->tables.n];
        const char *space = strchr(*merges, ' ');
        snprintf(r, 16, "%.*s%s", (int)(space - *merges), *merges, space + 1);
        small_add(s, r, TOKEN_NORMAL, 0);
        s->merge[s->tables.n_merges++] = as_bytes(*merges);
    }
    s->tables.bos = s->tables.n;
    small_add(s, "<|bos|>", TOKEN_CONTROL, 0);
    small_add(s, "<|eot|>", TOKEN_CONTROL, 0);
}

/* 0 <unk>, 1 <s>, 2 </s>, 3..258 bytes, then the pieces, each better than the next. */
static inline void small_chars(struct small *s, const char *const *pieces)
{
    *s = (struct small){.tables = {.model = "llama", .text = s->text, .type = s->type, .score = s->score, .bos = 1, .eos = 2, .unk = 0, .add_bos = -1,
                                   .add_eos = -1, .add_space_prefix = -1}};
    small_add(s, "<unk>", TOKEN_UNKNOWN, 0);
    small_add(s, "<s>", TOKEN_CONTROL, 0);
    small_add(s, "</s>", TOKEN_CONTROL, 0);
    for (int b = 0; b < 256; b++) {
        char *r = s->room[s->tables.n];
        snprintf(r, 16, "<0x%02X>", b);
        small_add(s, r, TOKEN_BYTE, 0);
    }
    for (float score = -1; *pieces; pieces++, score--)
        small_add(s, *pieces, TOKEN_NORMAL, score);
}

static inline int small_open(struct small *s, struct error *err)
{
    int rc = vocab_from_tables(&s->vocab, "small", &s->tables, NULL, err);
    s->t = rc < 0 ? NULL : tokenizer_open(&s->vocab, err);
    return rc < 0 ? rc : s->t ? 0 : err->code;
}

static inline void small_close(struct small *s)
{
    tokenizer_close(s->t);
    vocab_close(&s->vocab);
}

/* The pieces of a text joined by '|', tokens without readable text by number. */
static inline const char *small_pieces(const struct tokenizer *t, const char *text, unsigned flags)
{
    static char out[4096];
    static struct error err;
    int32_t ids[512];
    int n = tokenizer_encode(t, text, strlen(text), flags, ids, 512, &err);
    size_t at = 0;
    if (n < 0)
        return err.text;
    for (int i = 0; i < n && i < 512; i++) {
        struct bytes p = tokenizer_piece(t, ids[i]);
        bool bare = p.n == 1 && (p.p[0] < 32 || p.p[0] > 126);
        at += (size_t)(bare ? snprintf(out + at, sizeof out - at, "%s%02X", i ? "|" : "", p.p[0])
                            : snprintf(out + at, sizeof out - at, "%s%.*s", i ? "|" : "", (int)p.n, p.p));
    }
    out[at] = 0;
    return out;
}

#endif
