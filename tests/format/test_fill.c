/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <string.h>

#include "format/fill.h"

static const struct stem global_stems[] = {{"emb", "embed"}, {NULL, NULL}}, layer_stems[] = {{"attn.q", "q"}, {NULL, NULL}};
static const struct naming names = {"blk.", global_stems, layer_stems};

static void names_become_canonical(void **state)
{
    (void)state;
    static const struct { const char *file, *canonical; } rows[] = {
        {"emb.weight", "embed"}, {"emb.bias", "embed.bias"}, {"blk.0.attn.q.weight", "layers.0.q"}, {"blk.17.attn.q.bias", "layers.17.q.bias"}, {"blk.01.attn.q.weight", "?blk.01.attn.q.weight"},
        {"blk.12345.attn.q.weight", "?blk.12345.attn.q.weight"}, {"blk..attn.q.weight", "?blk..attn.q.weight"}, {"blk.-1.attn.q.weight", "?blk.-1.attn.q.weight"}, {"attn.q.weight", "?attn.q.weight"},
        {"blk.0.emb.weight", "?blk.0.emb.weight"}, {"emb", "?emb"}, {"emb.scale", "?emb.scale"}, {"", "?"}, {".weight", "?.weight"}, {"blk.0.weight", "?blk.0.weight"}, {"blk.0.", "?blk.0."},
    };
    struct checkpoint c = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(fill_name(&c, &names, rows[i].file), rows[i].canonical);
    arena_free(&c.arena);
}

static void item_08_spans(void **state)
{
    (void)state;
    static const struct {
        struct span s[3];
        bool gapless;
        const char *word, *word2; /* NULL: fine */
    } rows[] = {
        {{{10, 20, "a"}, {20, 30, "b"}, {30, 40, "c"}}, true, NULL, NULL},
        {{{30, 40, "c"}, {20, 30, "b"}, {10, 20, "a"}}, true, NULL, NULL},
        {{{10, 20, "a"}, {20, 20, "b"}, {20, 40, "c"}}, true, NULL, NULL},
        {{{10, 15, "a"}, {20, 30, "b"}, {32, 38, "c"}}, false, NULL, NULL},
        {{{10, 20, "a"}, {21, 30, "b"}, {30, 40, "c"}}, true, "\"b\"", "after a"},
        {{{10, 20, "a"}, {19, 30, "b"}, {30, 40, "c"}}, false, "\"b\"", "inside a"},
        {{{10, 20, "a"}, {10, 20, "b"}, {30, 40, "c"}}, false, "begins at offset 10", "ends at 20"},
        {{{9, 20, "a"}, {20, 30, "b"}, {30, 40, "c"}}, false, "\"a\"", "header"},
        {{{10, 20, "a"}, {20, 30, "b"}, {30, 41, "c"}}, false, "\"c\"", "41"},
        {{{10, 20, "a"}, {20, 30, "b"}, {30, 39, "c"}}, true, "after c", "1 bytes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span s[3];
        struct error err = {0};
        memcpy(s, rows[i].s, sizeof s);
        int rc = fill_check_spans(s, 3, 10, 40, rows[i].gapless, "file", &err);
        assert_int_equal(rc, rows[i].word ? ERR_DATA : 0);
        assert_true(!rows[i].word || (strstr(err.text, rows[i].word) && strstr(err.text, rows[i].word2)));
    }
}

static void lists_grow_and_are_sorted(void **state)
{
    (void)state;
    struct checkpoint c = {.path = (char *)"file"};
    struct error err;
    for (int i = 0; i < 1000; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "k%d", i * 7919 % 1000);
        assert_int_equal(fill_meta(&c, &(struct meta){.key = arena_text(&c.arena, key, (size_t)n), .type = META_INT, .i = i * 7919 % 1000}, &err), 0);
    }
    assert_int_equal(fill_seal(&c, &err), 0);
    assert_int_equal(checkpoint_meta(&c, "k523")->i, 523);
    assert_null(checkpoint_meta(&c, "k1000"));
    assert_int_equal(fill_meta(&c, &(struct meta){.key = "k77"}, &err), 0);
    assert_int_equal(fill_seal(&c, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "\"k77\" is there twice"));
    arena_free(&c.arena);
}

static void item_10_lists_end(void **state)
{
    (void)state;
    struct checkpoint c = {.path = (char *)"file"};
    struct error err;
    int rc = 0, n = 0;
    for (; n <= TENSORS_MAX && !rc; n++)
        rc = fill_view(&c, &(struct view){.name = "x"}, &err);
    assert_int_equal(rc, ERR_DATA);
    assert_int_equal(n, TENSORS_MAX + 1);
    assert_non_null(strstr(err.text, "more than 65536 tensors"));
    arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_canonical), cmocka_unit_test(item_08_spans), cmocka_unit_test(lists_grow_and_are_sorted), cmocka_unit_test(item_10_lists_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
