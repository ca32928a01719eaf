/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "text/small.h"
#include "text/stream.h"

static const char *const pieces[] = {"\xe2\x96\x81Hi", "\xe2\x96\x81", "H", "i", NULL};

static size_t push(struct stream *s, int32_t id, char *out)
{
    size_t n = stream_push(s, id, out);
    assert_true(n <= stream_room(s->t));
    out[n] = 0;
    return n;
}

static void test_first_token_keeps_its_space(void **state)
{
    static struct small s;
    char out[256];
    (void)state;
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
    struct stream st = {.t = s.t};
    push(&st, 259, out);
    assert_string_equal(out, " Hi");
    push(&st, 259, out);
    assert_string_equal(out, " Hi");
    small_close(&s);
}

static void item_42_whole_characters_only(void **state)
{
    static struct small s;
    static const uint8_t euro[] = {0xe2, 0x82, 0xac};
    char out[256];
    (void)state;
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
    struct stream st = {.t = s.t};
    assert_int_equal(push(&st, 3 + euro[0], out), 0);
    assert_int_equal(push(&st, 3 + euro[1], out), 0);
    assert_int_equal(push(&st, 3 + euro[2], out), 3);
    assert_memory_equal(out, euro, 3);
    push(&st, 3 + euro[0], out); /* cut inside the character: U+FFFD, only at the end */
    push(&st, 3 + euro[1], out);
    assert_int_equal(stream_flush(&st, out), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    assert_int_equal(stream_flush(&st, out), 0);
    small_close(&s);
}

static void item_42_broken_bytes(void **state)
{
    static struct small s;
    char out[256];
    (void)state;
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
    struct stream st = {.t = s.t};
    push(&st, 3 + 0xff, out);
    assert_string_equal(out, "\xef\xbf\xbd");
    push(&st, 3 + 0xe2, out);
    push(&st, 259, out); /* the character does not go on */
    assert_string_equal(out, "\xef\xbf\xbd Hi");
    push(&st, 3 + 0xe2, out);
    push(&st, 3 + 0xc3, out); /* another one begins */
    assert_string_equal(out, "\xef\xbf\xbd");
    push(&st, 3 + 0xa9, out);
    assert_string_equal(out, "\xc3\xa9");
    small_close(&s);
}

static void test_control_tokens(void **state)
{
    static struct small s;
    char out[256];
    (void)state;
    small_chars(&s, pieces);
    assert_int_equal(small_open(&s, NULL), 0);
    struct stream quiet = {.t = s.t}, loud = {.t = s.t, .show_special = true};
    for (int32_t id = 0; id < 3; id++)
        assert_int_equal(push(&quiet, id, out), 0);
    push(&loud, 2, out);
    assert_string_equal(out, "</s>");
    assert_int_equal(push(&loud, -1, out), 0);
    assert_int_equal(push(&loud, 1 << 30, out), 0);
    small_close(&s);
}

/* What a stream writes is what Python's bytes.decode('utf-8', errors='replace') makes of the joined bytes: here, our own encode with replacement. */
static void item_42_random_bytes(void **state)
{
    static struct small s;
    uint64_t seed = 11;
    (void)state;
    small_bytes(&s, "gpt-2", NULL);
    assert_int_equal(small_open(&s, NULL), 0);
    for (int round = 0; round < 5000; round++) {
        static const uint8_t likely[] = {0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0, 'a', 0xc3, 0xff};
        char text[16], joined[64], again[64];
        int n = 1 + check_below(&seed, 15), m = 0;
        struct stream st = {.t = s.t}, plain = {.t = s.t};
        size_t size = 0, size_again = 0;
        int32_t ids[64];
        for (int i = 0; i < n; i++) {
            text[i] = (char)likely[check_below(&seed, sizeof likely)];
            size += stream_push(&st, s.vocab.byte_token[(uint8_t)text[i]], joined + size);
        }
        size += stream_flush(&st, joined + size);
        assert_true(utf8_valid((struct bytes){(uint8_t *)joined, size}, NULL));
        m = tokenizer_encode(s.t, text, (size_t)n, ENCODE_REPLACE, ids, 64, NULL);
        for (int i = 0; i < m; i++)
            size_again += stream_push(&plain, ids[i], again + size_again);
        assert_int_equal(size, size_again);
        assert_memory_equal(joined, again, size);
    }
    small_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_token_keeps_its_space), cmocka_unit_test(item_42_whole_characters_only), cmocka_unit_test(item_42_broken_bytes),
        cmocka_unit_test(test_control_tokens),              cmocka_unit_test(item_42_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
