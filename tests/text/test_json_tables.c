/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/json_tables.h"
#include "text/vocab.h"

static struct json_tables t;
static struct error err;

/* From a copy of exactly n bytes, so that a read behind them is seen; it is gone before anything is looked at. */
static int open_bytes(const char *text, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    err = (struct error){0};
    int rc = json_tables_open(&t, "FILE", (struct bytes){copy, n}, &err);
    free(copy);
    return rc;
}

static void opened(const char *text)
{
    if (open_bytes(text, strlen(text)) < 0)
        assert_string_equal(err.text, "");
}

static void refused(const char *text, const char *says)
{
    assert_int_equal(open_bytes(text, strlen(text)), ERR_DATA);
    if (strncmp(err.text, "FILE: ", 6) != 0 || !strstr(err.text, says))
        assert_string_equal(err.text, says); /* shows both */
    assert_null(t.text);
    assert_null(t.rest);
}

/* The texts of a list joined by '|'. */
static const char *shown(const struct json_texts *list)
{
    static char out[256];
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; i < list->n; i++)
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%.*s", i ? "|" : "", (int)list->p[i].n, (const char *)list->p[i].p);
    return out;
}

static void rest_is(const char *text)
{
    char *rest = json_dumps(t.rest, JSON_COMPACT);
    assert_string_equal(rest, text);
    free(rest);
}

static void test_both_forms_of_merges(void **state)
{
    (void)state;
    opened("{\"model\":{\"vocab\":{\"a\":0,\"b\" : 1 ,\"ab\":2},\"merges\":[\"a b\", \"ab  c\"]}}");
    assert_string_equal(shown(&t.token), "a|b|ab");
    assert_string_equal(shown(&t.id), "0|1|2");
    assert_string_equal(shown(&t.part), "a|b|ab| c");
    assert_int_equal(piece_map_find(&t.map, "ab", 2), 2);
    assert_int_equal(piece_map_find(&t.map, "c", 1), -1);
    rest_is("{\"model\":{\"vocab\":{},\"merges\":[]}}");
    json_tables_close(&t);
    opened("{\"model\":{\"vocab\":{},\"merges\":[[\"a\",\"b\"],\"c d\", [ \"e f\" , \"g\" ] ]}}");
    assert_string_equal(shown(&t.part), "a|b|c|d|e f|g");
    assert_int_equal(t.token.n, 0);
    json_tables_close(&t);
}

/* Keys may come in any order and be written with escapes; the same keys in other places mean nothing. */
static void test_only_the_tables_are_taken(void **state)
{
    (void)state;
    opened("{\"vocab\":{\"x\":1},\"a\":{\"model\":{\"vocab\":{\"y\":2},\"merges\":[7]}},"
           "\"model\":{\"merges\":[\"a b\"],\"type\":\"BPE\",\"sub\":{\"vocab\":{\"z\":3}},\"vocab\":{\"a\":0}},\"after\":[1,2]}");
    assert_string_equal(shown(&t.token), "a");
    assert_string_equal(shown(&t.part), "a|b");
    rest_is("{\"vocab\":{\"x\":1},\"a\":{\"model\":{\"vocab\":{\"y\":2},\"merges\":[7]}},"
            "\"model\":{\"merges\":[],\"type\":\"BPE\",\"sub\":{\"vocab\":{\"z\":3}},\"vocab\":{}},\"after\":[1,2]}");
    json_tables_close(&t);
    opened("{\"mod\\u0065l\":{\"vo\\u0063ab\":{\"a\":0},\"m\\u0065rges\":[\"a b\"]}}");
    assert_string_equal(shown(&t.token), "a");
    assert_string_equal(shown(&t.part), "a|b");
    rest_is("{\"model\":{\"vocab\":{},\"merges\":[]}}");
    json_tables_close(&t);
}

static void test_texts_are_unescaped(void **state)
{
    (void)state;
    opened("{\"model\":{\"vocab\":{\"\\u0120a\":0,\"\\\"\\\\\":1,\"\\ud83d\\ude00\":2,\"\":3},\"merges\":[\"\\u0120 a\",[\"\\ud83d\\ude00\",\"\\/\"]]}}");
    assert_string_equal(shown(&t.token), "\xc4\xa0" "a|\"\\|\xf0\x9f\x98\x80|");
    assert_string_equal(shown(&t.part), "\xc4\xa0|a|\xf0\x9f\x98\x80|/");
    assert_int_equal(piece_map_find(&t.map, "\xf0\x9f\x98\x80", 4), 2);
    json_tables_close(&t);
}

/* Not a table: left where its type can be told by name. */
static void test_other_kinds_stay(void **state)
{
    static const char *const files[] = {"{}", "{\"model\":null}", "{\"model\":[{\"vocab\":{\"a\":0}}]}", "{\"model\":{\"vocab\":[[\"a\",-1.5]],\"merges\":{\"a\":1}}}"};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        opened(files[i]);
        assert_int_equal(t.token.n + t.part.n, 0);
        rest_is(files[i]);
        json_tables_close(&t);
    }
}

static void test_there_twice(void **state)
{
    (void)state;
    refused("{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"a\":2},\"merges\":[]}}", "token \"a\": is there twice");
    refused("{\"model\":{\"vocab\":{\"a\":0,\"\\u0061\":1},\"merges\":[]}}", "token \"a\": is there twice");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"vocab\":{\"b\":1}}}", "duplicate");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"vocab\":{\"b\":1}}}", "twice");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"model\":{\"vocab\":{\"b\":1}}}", "twice");
    refused("{\"model\":{\"vocab\":{\"a\":0}},\"model\":{}}", "duplicate");
    refused("{\"x\":1,\"x\":2}", "duplicate");
}

static void test_merges_are_pairs(void **state)
{
    static const char *const bad[] = {"7", "null", "{}", "\"ab\"", "\" b\"", "\"a \"", "\"\"", "[]", "[\"a\"]", "[\"a\",\"b\",\"c\"]", "[\"a\",7]", "[\"\",\"b\"]", "[\"a\",\"\"]", "[[],[]]"};
    char text[128];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "{\"model\":{\"merges\":[\"a b\",%s]}}", bad[i]);
        refused(text, "merge 1: expected two pieces");
    }
}

static void test_broken_json(void **state)
{
    static const char whole[] = "{\"x\":[1,{\"y\":\"\\\\\"}],\"model\":{\"merges\":[\"a b\",[\"c\",\"d\"]],\"vocab\":{\"a\":0,\"\\u0062\":1},\"z\":null}}";
    static const struct { const char *text, *says; } bad[] = {
        {"[]", "expected '{'"},
        {"{} x", "offset 0x3"},
        {"{\"model\":{\"vocab\":{\"a\" 0}}}", "offset 0x17: expected ':'"},
        {"{\"model\":{\"vocab\":{\"a\":}}}", "expected a value"},
        {"{\"model\":{\"vocab\":{\"a\":0,}}}", "expected '\"'"},
        {"{\"model\":{\"vocab\":{a:0}}}", "expected '\"'"},
        {"{\"model\":{\"vocab\":{\"\\u0000\":0}}}", "0000"},
        {"{\"model\":{\"vocab\":{\"\\ud800\":0}}}", "surrogate"},
        {"{\"model\":{\"vocab\":{\"a\tb\":0}}}", "control"},
        {"{\"model\":{\"vocab\":{\"a\xff\":0}}}", "offset 0x15: not UTF-8"},
        {"{\"model\":{\"merges\":[\"a b\" \"c d\"]}}", "expected ','"},
        {"{\"model\":{\"merges\":[[\"a\" \"b\"]]}}", "expected ','"},
        {"{\"x\":\"\xff\"}", "not UTF-8"},
        {"{\"x\":[1 2]}", "offset 0x"},
        {"{\"x\":[}]}", "offset 0x"},
        {"{\"x\":{]}", "offset 0x"},
        {"{\"x\":nil}", "offset 0x"},
    };
    (void)state;
    opened(whole);
    json_tables_close(&t);
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        assert_int_equal(open_bytes(whole, n), ERR_DATA);
        assert_int_equal(strncmp(err.text, "FILE: offset 0x", 15), 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i].text, bad[i].says);
}

/* What the tree's parser refuses is named where it stands in the file, tables included. */
static void test_offsets_count_the_tables(void **state)
{
    static const char *const parts[] = {"{\"x\":nil,\"model\":{\"vocab\":{\"a\":0,\"b\":1}}}", "{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"x\":nil}}",
                                        "{\"model\":{\"merges\":[\"a b\"],\"vocab\":{\"a\":0,\"b\":1}},\"x\":nil}"};
    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char at[32];
        snprintf(at, sizeof at, "offset 0x%zx: ", (size_t)(strstr(parts[i], "nil") + 3 - parts[i]));
        refused(parts[i], at);
    }
}

static void test_deep_and_many(void **state)
{
    enum { DEEP = 1000000, MANY = VOCAB_MAX + 1 };
    static const char head[] = "{\"model\":{\"vocab\":{";
    char *text = malloc(5 * (size_t)MANY + 64);
    assert_non_null(text);
    (void)state;
    strcpy(text, "{\"x\":");
    memset(text + 5, '[', DEEP);
    memset(text + 5 + DEEP, ']', DEEP);
    strcpy(text + 5 + 2 * DEEP, "}");
    refused(text, "depth");
    strcpy(text, head);
    for (size_t i = 0; i < MANY; i++)
        memcpy(text + sizeof head - 1 + 5 * i, "\"\":0,", 6);
    refused(text, "more than 4194304 tokens");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms_of_merges), cmocka_unit_test(test_only_the_tables_are_taken), cmocka_unit_test(test_texts_are_unescaped),
        cmocka_unit_test(test_other_kinds_stay),     cmocka_unit_test(test_there_twice),               cmocka_unit_test(test_merges_are_pairs),
        cmocka_unit_test(test_broken_json),          cmocka_unit_test(test_offsets_count_the_tables),  cmocka_unit_test(test_deep_and_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
