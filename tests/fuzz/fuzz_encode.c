/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as text: what comes back as bytes is the text itself (with U+FFFD for what is no UTF-8). Also stop strings on the way. */
#include "text/small.h"
#include "text/stop.h"
#include "text/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct small bytes, chars;

static void open_both(void)
{
    static const char *const merges[] = {"a b", "ab c", "\xc4\xa0 a", "a a", "aa aa", NULL};
    static const char *const pieces[] = {"\xe2\x96\x81", "\xe2\x96\x81" "a", "aa", "a", "b", "ab", "xyz", "yz", NULL};
    small_bytes(&bytes, "llama-bpe", merges);
    small_chars(&chars, pieces);
    chars.tables.add_space_prefix = 0;
    if (small_open(&bytes, NULL) < 0 || small_open(&chars, NULL) < 0)
        __builtin_trap();
}

static void round_trip(const struct tokenizer *t, const uint8_t *data, size_t size, bool marks_are_spaces)
{
    static int32_t ids[1 << 16];
    static char text[1 << 18], sure[1 << 18];
    struct error err;
    struct stream st = {.t = t};
    size_t n = 0, bad = 0;
    int count = tokenizer_encode(t, (const char *)data, size, ENCODE_REPLACE, ids, 1 << 16, &err);
    if (count < 0 || count > 1 << 16)
        __builtin_trap();
    for (int i = 0; i < count; i++)
        n += stream_push(&st, ids[i], text + n);
    n += stream_flush(&st, text + n);
    bool valid = utf8_valid((struct bytes){data, size}, &bad);
    if (!utf8_valid((struct bytes){(uint8_t *)text, n}, NULL) || (valid && !marks_are_spaces && (n != size || memcmp(text, data, n) != 0)))
        __builtin_trap();
    struct stop stop;
    struct bytes strings[] = {{(const uint8_t *)"ab", 2}, {(const uint8_t *)"aab!", 4}};
    if (stop_open(&stop, strings, 2, &err) < 0)
        __builtin_trap();
    size_t m = stop_push(&stop, text, n / 2, sure);
    m += stop_push(&stop, text + n / 2, n - n / 2, sure + m);
    m += stop_flush(&stop, sure + m);
    if (memcmp(sure, text, m) != 0 || (!stop.found && m != n))
        __builtin_trap();
    stop_close(&stop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!bytes.t)
        open_both();
    if (size > 1 << 12)
        return 0;
    round_trip(bytes.t, data, size, false);
    round_trip(chars.t, data, size, true);
    return 0;
}
