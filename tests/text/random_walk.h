/* SPDX-License-Identifier: Apache-2.0 */
/* A small vocabulary with parts of characters in it, and texts of tokens drawn from masks. */
#ifndef TESTS_TEXT_RANDOM_WALK_H
#define TESTS_TEXT_RANDOM_WALK_H

#include <string.h>

#include "check.h"
#include "text/matcher.h"

enum { WALK_CONTROL = 256, WALK_END, WALK_END_2, WALK_PIECES, WALK_TOKENS = WALK_PIECES + 43, WALK_WORDS = (WALK_TOKENS + 31) / 32, WALK_TEXT = 1 << 14 };

static const char *const walk_pieces[WALK_TOKENS - WALK_PIECES] = {
    "{\"", "\":", "\": ", "\",", "\", \"", "}", "]}", "[[", ", ", " \"", "\n  ", "true", "false", "null", "name", "\"name\"", "nam", "age", "12", "100", "0.5", "-1", "e-", "\\n", "\\u", "\\ud83d\\u",
    "ab", "abab", "ba", "aa", "aaaa", "(", "((", "))", "a)", "\xc3", "\xa9\xc3\xa9", "b\xc3", ("\xa9" "a"), "\xe2\x82", "\xac\"", "\xf0\x9f\x98\x80", "{\"age\":1",
};

static inline struct token_tree *walk_tokens(struct bytes text[WALK_TOKENS])
{
    static uint8_t byte[256];
    static const int32_t end[] = {WALK_END, WALK_END_2};
    for (int i = 0; i < WALK_TOKENS; i++) {
        byte[i % 256] = (uint8_t)i;
        text[i] = i < 256 ? (struct bytes){&byte[i], 1} : (struct bytes){(const uint8_t *)"<end>", i == WALK_CONTROL ? 0 : 5};
        if (i >= WALK_PIECES)
            text[i] = (struct bytes){(const uint8_t *)walk_pieces[i - WALK_PIECES], strlen(walk_pieces[i - WALK_PIECES])};
    }
    for (int i = 0; i < 256; i++)
        byte[i] = (uint8_t)i;
    return token_tree_open(text, WALK_TOKENS, end, 2, NULL);
}

static inline bool walk_allows(const uint32_t *mask, int token) { return mask[token / 32] >> token % 32 & 1; }

/* In a hurry what ends a text is preferred. */
static inline int walk_pick(const uint32_t *mask, int count, bool hurry, uint64_t *seed)
{
    static const int soon[] = {WALK_END, '"', 'b', '1', 'a', '}', ']', ')', ':'};
    hurry = hurry && check_below(seed, 4);
    for (size_t i = 0; hurry && i < sizeof soon / sizeof *soon; i++)
        if (walk_allows(mask, soon[i]))
            return soon[i];
    int nth = check_below(seed, count), token = 0;
    for (;; token++)
        if (walk_allows(mask, token) && nth-- == 0)
            return token;
}

/* Writes a random sentence, zero-terminated, and returns its length; -1: it did not end in time. Fails the test where no token is allowed. */
static inline int walk_sentence(struct matcher *m, const struct bytes *text, char out[WALK_TEXT], int patience, uint64_t *seed)
{
    uint32_t state = matcher_start(m), mask[WALK_WORDS];
    struct error err = {0};
    size_t n = 0;
    for (int steps = 0; steps < 8 * patience + 400 && n < WALK_TEXT - 64; steps++) {
        int count = matcher_mask(m, state, mask, &err);
        if (count <= 0)
            fail_msg("%d tokens are allowed behind '%.*s': %s", count, (int)n, out, err.text);
        int token = walk_pick(mask, count, steps > patience, seed);
        if (token == WALK_END || token == WALK_END_2) {
            out[n] = 0;
            return (int)n;
        }
        memcpy(out + n, text[token].p, text[token].n);
        n += text[token].n;
        assert_int_equal(matcher_push(m, &state, text[token].p, text[token].n, &err), text[token].n);
    }
    return -1;
}

#endif
