/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: against Python's jinja2 (jinja_conformance.py calls this program back as a tool), marks, bounds and messages.
   As a tool: test_jinja render < cases > results, both one JSON object a line: {"template", "input", "now"} and {"text", "user"} or {"error"}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "text/jinja.h"

#include "check.h"

static const char *self;
static bool skipped;

/* ---- the tool ---- */

enum { INPUTS_MAX = 32 };

static json_t *render_case(const json_t *one)
{
    struct jinja_input in[INPUTS_MAX];
    struct arena arena = {0};
    struct marked out;
    struct error err = {0};
    const json_t *template = json_object_get(one, "template");
    const char *key;
    json_t *value, *result;
    int n = 0;
    json_object_foreach(json_object_get(one, "input"), key, value)
        if (n < INPUTS_MAX)
            in[n++] = (struct jinja_input){key, value, !strcmp(key, "bos_token") || !strcmp(key, "eos_token")};
    struct jinja *j = jinja_open("template", (struct bytes){(const uint8_t *)json_string_value(template), json_string_length(template)}, &err);
    if (j && !jinja_render(j, in, n, json_integer_value(json_object_get(one, "now")), &arena, &out, &err))
        result = json_pack("{s:s%}", "text", out.p, out.n);
    else
        result = json_pack("{s:s}", "error", err.text);
    arena_free(&arena);
    jinja_close(j);
    return result;
}

static int tool(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        json_t *one = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL), *result = one ? render_case(one) : NULL;
        if (!result)
            return 1;
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(result);
        json_decref(one);
    }
    free(line);
    return 0;
}

/* ---- the tests ---- */

static void test_texts_equal_those_of_jinja2(void **state)
{
    (void)state;
    char command[4096];
    snprintf(command, sizeof command, "python3 tests/text/jinja_conformance.py '%s'", self);
    int status = system(command);
    skipped = WIFEXITED(status) && WEXITSTATUS(status) == 77; /* the script has said why */
    if (skipped)
        skip();
    assert_int_equal(status, 0);
}

/* Renders with the variables x (from outside) and t (trusted). The caller frees. */
static int render(const char *template, const char *x, struct arena *arena, struct marked *out, struct error *err)
{
    json_t *outside = x ? json_loads(x, JSON_DECODE_ANY, NULL) : NULL, *trusted = json_string("TT");
    const struct jinja_input in[] = {{"x", outside, false}, {"t", trusted, true}};
    struct jinja *j = jinja_open("name", (struct bytes){(const uint8_t *)template, strlen(template)}, err);
    int rc = j ? jinja_render(j, in, 2, 0, arena, out, err) : err->code;
    jinja_close(j);
    json_decref(trusted);
    json_decref(outside);
    return rc;
}

/* The text, with what came from outside in capitals; what did not must be written small. */
static void test_marks_follow_their_bytes(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a{{ x }}b", "\"q\"", "aQb"},
        {"{{ x ~ 'c' ~ x }}", "\"q\"", "QcQ"},
        {"{{ (' ' ~ x ~ ' d ').strip() }}", "\" q \"", "Q  d"},
        {"{{ x.split(',')[1] ~ x[0] ~ x[-1] ~ x[::-1] }}", "\"q,r\"", "RQRR,Q"},
        {"{{ x | replace('q', 'z') }}", "\"qaq\"", "zAz"},
        {"{{ 'zaz' | replace('a', x) }}", "\"q\"", "zQz"},
        {"{{ x | tojson }}", "{\"k\": [\"v\", 1, \"\\n\"]}", "{\"K\": [\"V\", 1, \"\\N\"]}"},
        {"{{ x | join('+') }}", "[\"q\", \"r\"]", "Q+R"},
        {"{% set y %}<{{ x }}>{% endset %}{{ y | upper | lower }}", "\"q\"", "<Q>"},
        {"{% macro m(v) %}[{{ v }}]{% endmacro %}{{ m(x) }}", "\"q\"", "[Q]"},
        {"{% for k, v in x | items %}{{ k ~ '=' ~ v }}{% endfor %}", "{\"k\": \"v\"}", "K=V"},
        {"{% for m in x %}<|{{ m.role }}|>{% endfor %}", "[{\"role\": \"user\"}, {\"role\": \"end\"}, {\"content\": \"user\"}]", "<|user|><|END|><||>"},
        {"{{ x | indent(1) }}", "\"q\\nr\"", "Q\n R"},
        {"{{ x }}", "[\"q\"]", "['Q']"},
        {"{{ x ~ t | lower }}", "\"q\"", "Qtt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct marked out;
        struct error err = {0};
        char got[128];
        if (render(cases[i][0], cases[i][1], &arena, &out, &err))
            fail_with(err.text);
        for (size_t k = 0; k < out.n; k++)
            got[k] = out.user && out.user[k] && out.p[k] >= 'a' && out.p[k] <= 'z' ? (char)(out.p[k] - 32) : out.p[k];
        got[out.n] = 0;
        assert_string_equal(got, cases[i][2]);
        arena_free(&arena);
    }
}

static void test_texts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{{ {'a.b': 1}['a.b'] }}{{ {'a': {'b': 2}}['a.b'] is defined }}{{ [{'a': {'b': 3}}] | map(attribute='a.b') | join }}", "1False3"},
        {"{{ [{'a': {'b': 1}, 'n': 2}, {'a': {'b': 0}, 'n': 3}] | selectattr('a.b') | map(attribute='n') | join }}", "2"},
        {"{{ [{'a': {'b': 2}}, {'a': {'b': 1}}] | sort(attribute='a.b') | join(',', attribute='a.b') }}", "1,2"},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{{ ns['a.' * 200000 ~ 'a'] is defined }}", "False"},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{{ [ns] | map(attribute='a.' * 200000 ~ 'a') | list | length }}", "1"},
        {"{{ 'a\\r\\n\\rb\\n\\nc\\r'.splitlines() }}", "['a', '', 'b', '', 'c']"},
        {"{{ x[0] ~ x[1] ~ x[-1] ~ x[-2] ~ x[2] is defined ~ x[-3] is defined }}", "\xc3\xa4q""q\xc3\xa4""FalseFalse"},
        {"{% set y = (x * 1000) * 100 %}{% for i in range(40) %}{{ y[0] ~ y[-1] if not i }}{% set z = y[i] %}{% endfor %}", "\xc3\xa4q"},
        {"{{ range(9223372036854775107, 9223372036854775807) | length }}", "700"},
        {"{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807) | list }}", "[-9223372036854775807, 0]"},
        {"{{ range(9223372036854775807, -9223372036854775807, -6000000000000000000) | list }}", "[9223372036854775807, 3223372036854775807, -2776627963145224193, -8776627963145224193]"},
        {"{{ range(5, 0, -2) | list }}{{ range(0, 5, 2) | list }}{{ range(0, 5, -1) | list }}{{ range(5, 5) | list }}", "[5, 3, 1][0, 2, 4][][]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct marked out;
        struct error err = {0};
        if (render(cases[i][0], "\"\xc3\xa4q\"", &arena, &out, &err))
            fail_with(err.text);
        assert_int_equal(out.n, strlen(cases[i][1]));
        assert_memory_equal(out.p, cases[i][1], out.n);
        arena_free(&arena);
    }
}

static void test_many_lines_take_no_longer_each(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct marked out;
    struct error err = {0};
    clock_t from = clock();
    if (render("{{ (('\\n' * 1000) * 200).splitlines() | length }}", NULL, &arena, &out, &err))
        fail_with(err.text);
    assert_true(out.n == 6 && !memcmp(out.p, "200000", 6));
    assert_true((double)(clock() - from) / CLOCKS_PER_SEC < 3); /* a search of the rest in each line: half a minute */
    arena_free(&arena);
}

static void test_errors_name_the_line(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a\n\n{% if x", "line 3: a tag that does not end: write %} behind it"},
        {"a\n{# b", "line 2: a comment that does not end"},
        {"{{ 'a\n", "line 1: a string that does not end"},
        {"\n{% raw %}\n", "{% endraw %}"},
        {"\n{{ a b }}", "line 2: b where }} must stand"},
        {"{% if x %}", "line 1: the end where endif must stand"},
        {"{% for x y %}", "line 1: y where in must stand"},
        {"{% include 'x' %}", "line 1: include where if, for, set"},
        {"{{ 99999999999999999999 }}", "where a smaller number must stand"},
        {"{{ ; }}", "line 1: unexpected \";\""},
        {"\n\n{{ y.z }}", "line 3: \"y\" is undefined, so it has no \"z\""},
        {"{{ x | nope }}", "line 1: no such filter: \"nope\""},
        {"{{ x is nope }}", "line 1: no such test: \"nope\""},
        {"\n{{ raise_exception('no\nsystem') }}", "line 2: the template refuses these messages: no?system"},
        {"{{ 1 + 'a' }}", "line 1: int + str: not defined"},
        {"{{ 'a'.replace(1, 2) }}", "replace: argument 1 must be a text, not int"},
        {"{{ 'a'.strip(b='c') }}", "strip: argument \"b\" is not known"},
        {"{% break %}", "line 1: break and continue belong into a for"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct marked out;
        struct error err = {0};
        assert_int_equal(render(cases[i][0], "1", &arena, &out, &err), ERR_DATA);
        if (strncmp(err.text, "name: line ", 11) || !strstr(err.text, cases[i][1]))
            fail_with(err.text);
        arena_free(&arena);
    }
}

/* unit n times, then the rest; the caller frees. */
static char *repeated(const char *head, const char *unit, int n, const char *tail)
{
    size_t m = strlen(unit), at = strlen(head);
    char *text = malloc(at + m * (size_t)n + strlen(tail) + 1);
    assert_non_null(text);
    strcpy(text, head);
    for (int i = 0; i < n; i++, at += m)
        memcpy(text + at, unit, m);
    strcpy(text + at, tail);
    return text;
}

/* Finding a key looks at all of a key that is as long: two keys of 1 MB that differ at their ends, in one dict, and one of the second kind in another. */
#define LONG_KEY "{% set a = ('x' * 1000) * 1000 %}{% set b = a ~ 'b' %}{% set d = {a ~ 'a': 1} %}{% set e = {b: 1} %}{% for i in range(1000) %}"

static void test_hostile_templates_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *close; /* unit and close as often as n says */
        int n;
        const char *tail, *says;
    } cases[] = {
        {"{{ ", "(", ")", 100000, " }}", "nested more than 100 deep"},
        {"{{ ", "[", "]", 100000, " }}", "nested more than 100 deep"},
        {"{{ ", "not ", "", 100000, "x }}", "nested more than 100 deep"},
        {"{{ ", "-", "", 100000, "1 }}", "nested more than 100 deep"},
        {"", "{% if x %}", "", 100000, "", "nested more than 100 deep"},
        {"{{ 1", " + 1", "", 100000, " }}", "nested more than 250 deep"},
        {"{{ x", ".a", "", 100000, " }}", "nested more than 250 deep"},
        {"{{ x", "|string", "", 100000, " }}", "nested more than 250 deep"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "", "", 0, "", "nested more than 250 deep: does a macro call itself?"},
        {"{% set n = namespace(l=[]) %}{% for i in range(300) %}{% set n.l = [n.l] %}{% endfor %}{{ n.l }}", "", "", 0, "", "nested more than 250 deep"},
        {"{% set n = namespace(l='x') %}{% for i in range(99) %}{% set n.l = n.l ~ n.l %}{% endfor %}", "", "", 0, "", "needs more than 128 MiB of memory"},
        {"{{ 'x' * 9223372036854775807 }}", "", "", 0, "", "more than"},
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "", "", 0, "", "more than"},
        {"{{ range(100001) }}", "", "", 0, "", "more than 100000 numbers"},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", "", "", 0, "", "more than 100000 numbers"},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{% for i in range(100) %}{% set l = [ns] | map(attribute='", "a.", "", 500000, "a') %}{% endfor %}", "steps"},
        {"{{ (('a' * 1000) * 200).rsplit(('a' * 1000) * 100 ~ 'b') | length }}", "", "", 0, "", "steps"},
        {"{% set a = ('x' * 1000) * 1000 %}{% for i in range(1000) %}{{ a == a }}{% endfor %}", "", "", 0, "", "steps"},
        {"{% set a = ('x' * 1000) * 1000 %}{% for i in range(1000) %}{{ a <= a }}{% endfor %}", "", "", 0, "", "steps"},
        {"{% set a = ('x' * 1000) * 1000 %}{% for i in range(100) %}{{ a.endswith((", "a, ", "", 20, ")) }}{% endfor %}", "steps"},
        {"{% set n = namespace(l=[1, 2]) %}{% for i in range(40) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l == n.l }}{{ n.l }}", "", "", 0, "", "more than"},
        {LONG_KEY "{{ d[b] }}{% endfor %}", "", "", 0, "", "steps"},
        {LONG_KEY "{{ d.get(b) }}{% endfor %}", "", "", 0, "", "steps"},
        {LONG_KEY "{{ b in d }}{% endfor %}", "", "", 0, "", "steps"},
        {LONG_KEY "{{ d == e }}{% endfor %}", "", "", 0, "", "steps"},
        {LONG_KEY "{{ {b: 1, b: 2} | length }}{% endfor %}", "", "", 0, "", "steps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct marked out;
        struct error err = {0};
        char *open = repeated(cases[i].head, cases[i].unit, cases[i].n, ""), *text = repeated(open, cases[i].close, cases[i].n, cases[i].tail);
        assert_int_equal(render(text, "1", &arena, &out, &err), ERR_DATA);
        if (!strstr(err.text, cases[i].says))
            fail_with(err.text);
        arena_free(&arena);
        free(text);
        free(open);
    }
    char keys[2048] = "{% set a = ('x' * 1000) * 1000 %}{{ {";
    for (int i = 0; i < 100; i++)
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "a[%d:]: 1, ", i);
    char *sorted = repeated(keys, "", 0, "} | tojson(sort_keys=true) }}"), *deep = repeated("", "[", 500, "");
    char *closed = repeated(deep, "]", 500, "");
    struct arena arena = {0};
    struct marked out;
    struct error err = {0};
    assert_int_equal(render(sorted, "1", &arena, &out, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "steps"));
    assert_int_equal(render("{{ x }}", closed, &arena, &out, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "a value is nested more than 64 deep"));
    arena_free(&arena);
    free(closed);
    free(deep);
    free(sorted);
}

static void test_sources_that_are_no_text(void **state)
{
    (void)state;
    struct error err = {0};
    uint8_t *large = calloc(1, JINJA_SOURCE_MAX + 1);
    assert_non_null(large);
    assert_null(jinja_open("t", (struct bytes){(const uint8_t *)"a\xff", 2}, &err));
    assert_string_equal(err.text, "t: byte 0xff at offset 1 is not UTF-8: write the template in UTF-8");
    assert_null(jinja_open("t", (struct bytes){large, JINJA_SOURCE_MAX + 1}, &err));
    assert_string_equal(err.text, "t: a template of 1048577 bytes: must be at most 1048576");
    free(large);
    jinja_close(NULL);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 2)
        return tool();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks_follow_their_bytes),      cmocka_unit_test(test_errors_name_the_line),        cmocka_unit_test(test_hostile_templates_are_bounded),
        cmocka_unit_test(test_sources_that_are_no_text),       cmocka_unit_test(test_texts_equal_those_of_jinja2), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_many_lines_take_no_longer_each),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed ? failed : skipped ? 77 : 0; /* 77: SKIP_RETURN_CODE of cmake/Tests.cmake */
}
