/* SPDX-License-Identifier: Apache-2.0 */
/* A grammar and, behind a zero byte, a text: what compiles can be run, and every text that masks allow is one that the grammar allows. */
#include <stdlib.h>

#include "text/matcher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TOKENS = 260 };

static struct token_tree *all_bytes(void)
{
    static uint8_t byte[256];
    static struct bytes text[TOKENS];
    static const struct bytes more[] = {{(const uint8_t *)"\"a", 2}, {(const uint8_t *)"ab", 2}, {(const uint8_t *)"\xc3\xa9\xc3", 3}};
    for (int i = 0; i < 256; i++) {
        byte[i] = (uint8_t)i;
        text[i] = (struct bytes){&byte[i], 1};
    }
    for (int i = 0; i < 3; i++)
        text[256 + i] = more[i];
    return token_tree_open(text, TOKENS, (int32_t[]){TOKENS - 1}, 1, NULL);
}

static void must(bool ok)
{
    if (!ok)
        __builtin_trap();
}

/* A live state has a token, since every byte is one. */
static void use(struct matcher *m, const uint8_t *text, size_t n)
{
    struct error err = {0};
    uint32_t state = matcher_start(m), mask[(TOKENS + 31) / 32];
    for (size_t i = 0; i <= n; i++) {
        int count = matcher_mask(m, state, mask, &err);
        must(count > 0 || err.code);
        if (i == n || count < 0)
            return;
        uint32_t next = state;
        int64_t taken = matcher_push(m, &next, text + i, 1, &err);
        must(taken < 0 ? err.code != 0 : taken == (int64_t)(mask[text[i] / 32] >> text[i] % 32 & 1) && (next == MATCHER_DEAD) == !taken);
        if (taken == 1)
            state = next;
        must(matcher_tidy(m, (uint32_t *[]){&state}, 1, &err) == 0 || err.code == ERR_OS);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct token_tree *t;
    size_t n = 0;
    struct error err = {0};
    if (!t)
        must((t = all_bytes()) != NULL);
    if (size > 1 << 12)
        return 0;
    while (n < size && data[n])
        n++;
    struct grammar *g = grammar_open("grammar", (struct bytes){data, n}, &err);
    must(!g == (err.code != 0));
    struct matcher *m = g ? matcher_open(g, t, &err) : NULL;
    if (m)
        use(m, data + n + (n < size), size - n - (n < size) < 64 ? size - n - (n < size) : 64);
    matcher_close(m);
    grammar_close(g);
    return 0;
}
