/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "exit_map.h"

/* Three layers, three positions. Position 0 settles at once, 1 changes its mind, 2 is found by the last layer alone. */
static const char source[] = "{\"words\": [\"Once\", \" <b>\\t\", \"\\u001b[31m\"], \"layers\": [[[5, 0.9, \" upon\"], [7, 0.5, \" a\"], [1, 0.1, \"\\\"\"]],"
                             "[[5, 0.9, \" upon\"], [8, 0.5, \" the\"], [2, 0.1, \"&\"]], [[5, 0.9, \" upon\"], [7, 0.25, \" a\"], [3, 0.1, \"\\n\"]]]}";

static int load(struct exit_map *m, const char *text, lsk_error *err)
{
    json_error_t where;
    json_t *j = json_loads(text, 0, &where);
    assert_non_null(j);
    int r = exit_map_load(m, j, "here", err);
    json_decref(j);
    return r;
}

static struct exit_map must_load(void)
{
    struct exit_map m = {0};
    lsk_error err = {0};
    if (load(&m, source, &err) < 0)
        fail_msg("%s", err.text);
    return m;
}

static void cells_are_seen_from_the_last_layer(void **state)
{
    (void)state;
    static const enum map_kind want[3][3] = {{MAP_SETTLED, MAP_SAME, MAP_OTHER}, {MAP_SETTLED, MAP_OTHER, MAP_OTHER}, {MAP_SETTLED, MAP_SETTLED, MAP_SETTLED}};
    struct exit_map m = must_load();
    for (int layer = 0; layer < 3; layer++)
        for (int i = 0; i < 3; i++)
            assert_int_equal(map_kind(&m, layer, i), want[layer][i]);
    assert_int_equal(map_settled(&m, 0), 1);
    assert_int_equal(map_settled(&m, 1), 3);
    exit_map_free(&m);
}

static char *printed(const struct exit_map *m, int colour, int columns)
{
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (columns)
        exit_map_text(f, m, colour, columns);
    else
        exit_map_table(f, m);
    fclose(f);
    return text;
}

static void the_terminal_shows_it_with_and_without_colours(void **state)
{
    (void)state;
    struct exit_map m = must_load();
    char *text = printed(&m, 0, 80);
    assert_string_equal(text, "   3 = upon  = a     =\\n     \n"
                              "   2 = upon    the    &      \n"
                              "   1 = upon  = a      \"      \n"
                              "      Once     <b>\\t  \\x1B[3 \n");
    free(text);
    text = printed(&m, 1, 80);
    assert_non_null(strstr(text, "\033[48;5;28m"));
    assert_null(strstr(text, "\033[31m"));
    free(text);
    text = printed(&m, 0, 14); /* one position across */
    int lines = 0;
    for (char *c = text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 3 * 4 + 2);
    free(text);
    exit_map_free(&m);
}

static void a_page_escapes_what_the_text_says(void **state)
{
    (void)state;
    struct exit_map m = must_load();
    char *text = printed(&m, 0, 0);
    assert_non_null(strstr(text, "&lt;b&gt;\\t"));
    assert_non_null(strstr(text, "<td title=0.10>&amp;</td>"));
    assert_non_null(strstr(text, "<td class=s title=0.25> a</td>"));
    assert_null(strchr(text, 27));
    free(text);
    exit_map_free(&m);
}

static void it_survives_json(void **state)
{
    (void)state;
    struct exit_map m = must_load(), again = {0};
    lsk_error err = {0};
    json_t *j = exit_map_json(&m);
    assert_int_equal(exit_map_load(&again, j, "here", &err), 0);
    assert_memory_equal(again.cell, m.cell, 9 * sizeof *m.cell);
    assert_memory_equal(again.word, m.word, 3 * sizeof *m.word);
    json_decref(j);
    exit_map_free(&m);
    exit_map_free(&again);
}

/* JSON has no NaN: no map is better than one with a hole that moves all behind it. */
static void what_json_cannot_say_is_no_map(void **state)
{
    (void)state;
    struct exit_map m = must_load();
    m.cell[4].p = NAN;
    assert_null(exit_map_json(&m));
    exit_map_free(&m);
}

static void damaged_maps_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"{}", "{\"words\": [], \"layers\": []}", "{\"words\": [\"a\"], \"layers\": [[]]}", "{\"words\": [\"a\"], \"layers\": [[[1, 2]]]}",
                                      "{\"words\": [\"a\"], \"layers\": [[[-1, 0.5, \"a\"]]]}", "{\"words\": [\"a\"], \"layers\": [[[\"1\", 0.5, \"a\"]]]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct exit_map m = {0};
        lsk_error err = {0};
        assert_int_equal(load(&m, bad[i], &err), LSK_EDATA);
        assert_non_null(strstr(err.text, "here: \"map\""));
        exit_map_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cells_are_seen_from_the_last_layer), cmocka_unit_test(the_terminal_shows_it_with_and_without_colours),
                                       cmocka_unit_test(a_page_escapes_what_the_text_says), cmocka_unit_test(it_survives_json), cmocka_unit_test(what_json_cannot_say_is_no_map),
                                       cmocka_unit_test(damaged_maps_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
