/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/matcher.h"

static struct bytes as_bytes(const char *s) { return (struct bytes){(const uint8_t *)s, strlen(s)}; }

static struct grammar *open_grammar(const char *gbnf)
{
    struct error err = {0};
    struct grammar *g = grammar_open("test", as_bytes(gbnf), &err);
    if (!g)
        fail_with(err.text);
    return g;
}

/* want: -1: complete; -2: accepted so far; else the first byte that is refused. */
enum { COMPLETE = -1, OPEN = -2 };

static int verdict(const struct grammar *g, const char *text, size_t n)
{
    struct error err = {0};
    struct matcher *m = matcher_open(g, NULL, &err);
    if (!m)
        fail_with(err.text);
    uint32_t state = matcher_start(m);
    int64_t taken = matcher_push(m, &state, text, n, &err);
    if (taken < 0)
        fail_with(err.text);
    int got = taken < (int64_t)n ? (int)taken : matcher_complete(m, state) ? COMPLETE : OPEN;
    matcher_close(m);
    return got;
}

#define JSON_GRAMMAR                                                                                                                  \
    "root   ::= object\n"                                                                                                             \
    "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n\n"                                          \
    "object ::=\n  \"{\" ws (\n            string \":\" ws value\n    (\",\" ws string \":\" ws value)*\n  )? \"}\" ws\n"               \
    "array  ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws # a comment\n"                                                          \
    "string ::=\n  \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\" ws\n"          \
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"                           \
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"

static const struct {
    const char *gbnf, *text;
    int want;
} table[] = {
    {"root ::= \"abc\"", "", OPEN},
    {"root ::= \"abc\"", "ab", OPEN},
    {"root ::= \"abc\"", "abc", COMPLETE},
    {"root ::= \"abc\"", "abcd", 3},
    {"root ::= \"abc\"", "axc", 1},
    {"root ::= \"\"", "", COMPLETE},
    {"root ::=", "", COMPLETE},
    {"root ::=\n", "a", 0},
    {"root ::= \"a\" | \"bc\" | ", "", COMPLETE},
    {"root ::= \"a\" | \"bc\" |\n \"bd\"", "bd", COMPLETE},
    {"root ::= (\"a\" | \"bc\") \"d\"", "bcd", COMPLETE},
    {"root ::= (\"a\" | \"bc\") \"d\"", "ab", 1},
    {"root ::= [a-c] [^a-c] .", "ad\n", COMPLETE},
    {"root ::= [a-c] [^a-c] .", "aa", 1},
    {"root ::= [a\\-c]+", "a-c-", COMPLETE},
    {"root ::= [a\\-c]+", "ab", 1},
    {"root ::= [ac-]+", "a-c", COMPLETE},
    {"root ::= [\\]^]+", "]^", COMPLETE},
    {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\\"\\\\\\[\\]\"", "A\xc3\xa9\xf0\x9f\x98\x80\n\t\"\\[]", COMPLETE},
    {"root ::= \"\xc3\xa9\"", "\xc3", OPEN},
    {"root ::= \"\xc3\xa9\"", "\xc3\xa8", 1},
    {"root ::= [\xe3\x81\x81-\xe3\x82\x9f]+", "\xe3\x81\x81\xe3\x82\x9f\xe3\x82\x80", COMPLETE}, /* hiragana */
    {"root ::= [\xe3\x81\x81-\xe3\x82\x9f]+", "\xe3\x82\xa0", 2},
    {"root ::= [\xe3\x81\x81-\xe3\x82\x9f]+", "\xe3\x81\x80", 2},
    {"root ::= .", "\xed\xa0\x80", 1},             /* a surrogate */
    {"root ::= .", "\xc0\x80", 0},                 /* overlong */
    {"root ::= .", "\xe0\x9f\xbf", 1},
    {"root ::= .", "\xf0\x8f\xbf\xbf", 1},
    {"root ::= .", "\xf4\x90\x80\x80", 1},
    {"root ::= .", "\xf4\x8f\xbf\xbf", COMPLETE},
    {"root ::= [^a]", "\xf0\x90\x80\x80", COMPLETE},
    {"root ::= [\\x00-\\u07ff]", "\xdf\xbf", COMPLETE},
    {"root ::= [\\x00-\\u07ff]", "\xe0\xa0\x80", 0},
    {"root ::= [\\u0800-\\U00010000]", "\xf0\x90\x80\x81", 3},
    {"root ::= [\\uD800-\\uE000]", "\xee\x80\x80", COMPLETE},
    {"root ::= \"ab\"*", "", COMPLETE},
    {"root ::= \"ab\"*", "aba", OPEN},
    {"root ::= \"ab\"*", "abab", COMPLETE},
    {"root ::= \"ab\"+", "", OPEN},
    {"root ::= \"ab\"+", "ababab", COMPLETE},
    {"root ::= \"ab\"? \"c\"", "c", COMPLETE},
    {"root ::= \"ab\"? \"c\"", "abab", 2},
    {"root ::= \"a\"{3}", "aa", OPEN},
    {"root ::= \"a\"{3}", "aaa", COMPLETE},
    {"root ::= \"a\"{3}", "aaaa", 3},
    {"root ::= \"a\"{2,}", "a", OPEN},
    {"root ::= \"a\"{2,}", "aaaaaaa", COMPLETE},
    {"root ::= \"a\"{ 2 , 4 }", "aaa", COMPLETE},
    {"root ::= \"a\"{2,4}", "aaaaa", 4},
    {"root ::= \"a\"{0,2} \"b\"", "aab", COMPLETE},
    {"root ::= \"a\"{0,2} \"b\"", "aaa", 2},
    {"root ::= \"a\"{0} \"b\"", "b", COMPLETE},
    {"root ::= \"a\"{0,} \"b\"", "aaaab", COMPLETE},
    {"root ::= (\"a\" | \"b\"{2}){2} \"c\"", "bbac", COMPLETE},
    {"root ::= (\"a\" | \"b\"{2}){2} \"c\"", "bc", 1},
    {"root ::= (\"a\"{2}){3}", "aaaaaa", COMPLETE},
    {"root ::= (\"\"*)* ((\"a\"?)*)+", "aaa", COMPLETE}, /* empty loops */
    {"root ::= ()* \"a\"", "a", COMPLETE},
    {"root ::= x y\nx ::= \"a\"?\ny ::= x x \"b\"\n", "aab", COMPLETE},
    {"root ::= x y\nx ::= \"a\"?\ny ::= x x \"b\"\n", "aaaab", 3},
    {"root ::= \"(\" root \")\" | \"x\"", "(((x)))", COMPLETE},
    {"root ::= \"(\" root \")\" | \"x\"", "((x)))", 5},
    {"root ::= s\ns ::= \"a\" s \"b\" |", "aaabbb", COMPLETE},
    {"root ::= s\ns ::= \"a\" s \"b\" |", "aaabb", OPEN},
    {"root ::= s\ns ::= \"a\" s \"b\" |", "aabbb", 4},
    {"root ::= \"a\" root | \"b\"", "aaaaaaab", COMPLETE},
    {"root ::= (\"a\" | \"a\" \"b\") (\"b\" \"c\" | \"c\")", "abbc", COMPLETE}, /* ambiguous: both ways are followed */
    {"root ::= (\"a\" | \"a\" \"b\") (\"b\" \"c\" | \"c\")", "abc", COMPLETE},
    {"root ::= (\"a\" | \"a\" \"b\") (\"b\" \"c\" | \"c\")", "abbb", 3},
    {"root ::= \"x\" a\na ::= b | \"y\"\nb ::= \"z\" b", "xz", 1}, /* what cannot end is never begun */
    {"root ::= \"x\" a\na ::= b | \"y\"\nb ::= \"z\" b", "xy", COMPLETE},
    {"# a comment\nroot ::= # another\n  a-1_B # more\r\n\r\n\ta-1_B ::= \"x\" (\n # here too\n \"y\" |\n\"z\" )\n", "xz", COMPLETE},
    {JSON_GRAMMAR, "{\"a\": [1, 2.5e-3, {\"b\":null}], \"c\":\"\\u00e9\\n\xe2\x82\xac\"}", COMPLETE},
    {JSON_GRAMMAR, "{\"a\": [1, 2.5e-3, {\"b\":nil}]}", 24},
    {JSON_GRAMMAR, "{\"a\" 1}", 5},
    {JSON_GRAMMAR, "{\"a\":\n\n1}", 6},
};

static void texts_against_grammars(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct grammar *g = open_grammar(table[i].gbnf);
        int got = verdict(g, table[i].text, strlen(table[i].text));
        if (got != table[i].want)
            fail_msg("%s\non '%s': %d instead of %d", table[i].gbnf, table[i].text, got, table[i].want);
        grammar_close(g);
    }
}

static const struct {
    const char *gbnf, *what;
} refused[] = {
    {"", "no rule 'root'"},
    {"a ::= \"x\"", "no rule 'root'"},
    {"root ::= a", "line 1, column 10: there is no rule 'a'"},
    {"root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: rule 'root' is there twice"},
    {"root = \"a\"", "::= was expected"},
    {"root ::= \"a", "no end"},
    {"root ::= [a", "no end"},
    {"root ::= [a-\\u00", "4 hexadecimal digits"},
    {"root ::= []", "no character"},
    {"root ::= [\\uD800-\\uDFFF]", "no character"},
    {"root ::= [^\\x00-\\U0010FFFF]", "no character"},
    {"root ::= [z-a]", "swap"},
    {"root ::= \"\\q\"", "escape"},
    {"root ::= \"\\uD83D\"", "surrogate"},
    {"root ::= \"\\U00110000\"", "U+110000"},
    {"root ::= \"\xff\"", "not UTF-8"},
    {"root ::= (\"a\"", "line 1, column 10: '(' without ')'"},
    {"root ::= \"a\")", "')' without '('"},
    {"root ::= *", "there is none"},
    {"root ::= \"a\" | +", "there is none"},
    {"root ::= (?)", "there is none"},
    {"root ::= \"a\"{3,2}", "swap"},
    {"root ::= \"a\"{x}", "repetition"},
    {"root ::= \"a\"{2", "no end"},
    {"root ::= \"a\"{99999999999999999999}", "repetition"},
    {"root ::= \"a\"{2}{3}", "there is none"},
    {"root ::= (\"a\"{1000000}){1000000}", "larger than"},
    {"root ::= ((((\"a\"{99}){99}){99}){99}){99}", "larger than"},
    {"root ::= <[1000]>", "references to tokens"},
    {"root ::= !<think>", "references to tokens"},
    {"root ::= root \"a\" | \"b\"", "rule 'root' begins with itself"},
    {"root ::= a\na ::= b \"x\" | \"y\"\nb ::= c? d\nc ::= \"z\"\nd ::= a", "begins with itself"},
    {"root ::= \"a\" root", "no text can ever match"},
    {"root ::= \"a\" x\nx ::= \"b\" x", "no text can ever match"},
    {"root ::= $", "name was expected"},
};

static void refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct error err = {0};
        struct grammar *g = grammar_open("test", as_bytes(refused[i].gbnf), &err);
        if (g || err.code != ERR_DATA || !strstr(err.text, refused[i].what) || strncmp(err.text, "test: ", 6) != 0)
            fail_msg("%s\ngives '%s' without '%s'", refused[i].gbnf, err.text, refused[i].what);
    }
}

static void repeat_text(char *out, const char *part, int times)
{
    for (*out = 0; times-- > 0; out += strlen(part))
        strcpy(out, part);
}

/* Grammars that are exponential for one who tries every way, or deep for one who recurses. */
static void no_blow_up(void **state)
{
    static char gbnf[1 << 20], text[1 << 16];
    (void)state;
    const struct {
        const char *gbnf;
        int want;
    } hard[] = {
        {"root ::= ((\"a\"*)*)*", COMPLETE},
        {"root ::= (\"a\" | \"a\")*", COMPLETE},
        {"root ::= s\ns ::= \"a\" s | \"a\" s \"b\" | ", COMPLETE},
        {"root ::= s \"x\"\ns ::= \"a\" s s | \"\"", OPEN},
        {"root ::= (\"a\" | \"aa\" | \"aaa\"){1,400}", COMPLETE},
    };
    memset(text, 'a', 400);
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        struct grammar *g = open_grammar(hard[i].gbnf);
        assert_int_equal(verdict(g, text, 400), hard[i].want);
        grammar_close(g);
    }
    struct grammar *deep = open_grammar("root ::= \"(\" root \")\" | \"x\"");
    memset(text, '(', 20000);
    text[20000] = 'x';
    memset(text + 20001, ')', 20000);
    assert_int_equal(verdict(deep, text, 40001), COMPLETE);
    grammar_close(deep);
    strcpy(gbnf, "root ::= ");
    repeat_text(gbnf + 9, "(", GRAMMAR_GROUPS_MAX + 1);
    assert_null(grammar_open("test", as_bytes(gbnf), NULL));
    strcpy(gbnf, "root ::= ");
    repeat_text(gbnf + 9, "\"a\"? ", 20000);
    struct grammar *wide = open_grammar(gbnf);
    assert_int_equal(verdict(wide, "aaa", 3), COMPLETE);
    grammar_close(wide);
    strcpy(gbnf, "root ::= ");
    repeat_text(gbnf + 9, "\"a\"? ", 100000);
    wide = open_grammar(gbnf); /* compiles, and is refused where it is used */
    assert_null(matcher_open(wide, NULL, NULL));
    grammar_close(wide);
}

/* 1500 places call a rule that ends with a call of one of 1500 others: all pairs of them. */
static void too_many_ways_are_an_error(void **state)
{
    static char gbnf[1 << 18];
    struct error err = {0};
    char *to = gbnf + sprintf(gbnf, "root ::= \"b\" (y0");
    (void)state;
    for (int i = 1; i < 1500; i++)
        to += sprintf(to, " | y%d", i);
    to += sprintf(to, ") | \"c\"\nz ::= w0");
    for (int i = 1; i < 1500; i++)
        to += sprintf(to, " | w%d", i);
    for (int i = 0; i < 1500; i++)
        to += sprintf(to, "\ny%d ::= z \".\"\nw%d ::= \"a\"", i, i);
    struct grammar *g = open_grammar(gbnf);
    struct matcher *m = matcher_open(g, NULL, &err);
    uint32_t at = matcher_start(m), start = at;
    for (int k = 0; k < 2; k++) {
        assert_int_equal(matcher_push(m, &at, "b", 1, &err), ERR_DATA);
        assert_non_null(strstr(err.text, "too many ways"));
        assert_int_equal(at, start);
    }
    assert_int_equal(matcher_push(m, &at, "c", 1, &err), 1); /* other ways are open still */
    assert_true(matcher_complete(m, at));
    matcher_close(m);
    grammar_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_against_grammars),
        cmocka_unit_test(refused_by_name),
        cmocka_unit_test(no_blow_up),
        cmocka_unit_test(too_many_ways_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
