/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/json_schema.h"
#include "text/random_walk.h"

static struct bytes as_bytes(const char *s) { return (struct bytes){(const uint8_t *)s, strlen(s)}; }

static struct grammar *open_schema(const char *schema)
{
    struct error err = {0};
    char *gbnf = json_schema_to_gbnf("schema", as_bytes(schema), &err);
    if (!gbnf)
        print_error("%s\n", schema);
    if (!gbnf)
        fail_with(err.text);
    struct grammar *g = grammar_open("schema", as_bytes(gbnf), &err);
    if (!g)
        print_error("%s\n%s\n", schema, gbnf);
    if (!g)
        fail_with(err.text);
    free(gbnf);
    return g;
}

static bool accepts(const struct grammar *g, const char *text)
{
    struct error err = {0};
    struct matcher *m = matcher_open(g, NULL, &err);
    if (!m)
        fail_with(err.text);
    uint32_t state = matcher_start(m);
    int64_t n = matcher_push(m, &state, text, strlen(text), &err);
    if (n < 0)
        fail_with(err.text);
    bool complete = matcher_complete(m, state);
    matcher_close(m);
    return complete;
}

#define PERSON "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":1},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},\"mail\":{\"type\":\"string\"}},\"required\":[\"age\"]}"
#define TREE "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}"
#define OPEN_OBJECT "{\"properties\":{\"name\":{\"type\":\"string\"},\"nation\":{\"type\":\"integer\"},\"\\u00e9t\\u00e9\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"boolean\"}}"

/* Texts that are allowed, and behind NULL those that are not; two NULLs end a list. */
static const struct {
    const char *schema, *text[24];
} table[] = {
    {JSON_SCHEMA_ANY_OBJECT, {"{}", "{ }", "{\"a\":1}", "{\"a\": [1, {\"b\": \"\\ud83d\\ude00\\u00e9\\n\"}], \"c\": true}", "{\"x\":\n  -1.5e-7\n}", NULL, "", "[]", "1", "{\"a\"}", "{\"a\":1,}", "{\"a\":\"\\ud83d\"}",
                              "{\"a\":01}", "{\"a\":1}\n", NULL}},
    {"true", {"1", "\"a\"", "null", "[ ]", NULL, "nul", NULL}},
    {"{}", {"{\"a\":[]}", NULL, "x", NULL}},
    {"{\"type\":\"string\"}", {"\"\"", "\"\xf0\x9f\x98\x80\\\"\\/\x7f\"", NULL, "\"\n\"", "\"", "1", NULL}},
    {"{\"type\":[\"string\",\"null\"]}", {"\"a\"", "null", NULL, "1", NULL}},
    {"{\"type\":[\"integer\",\"object\",\"boolean\"]}", {"12", "{}", "{\"a\":1}", "false", NULL, "1.5", "[]", NULL}},
    {"{\"type\":\"integer\"}", {"0", "-12", "9999999999999999", NULL, "01", "1.0", "1e3", "99999999999999999", NULL}},
    {"{\"type\":\"number\"}", {"0", "-12.50", "1e-7", "1E+99", NULL, ".5", "1.", "1e999", NULL}},
    {"{\"type\":\"integer\",\"minimum\":7,\"maximum\":123}", {"7", "9", "10", "99", "100", "119", "123", NULL, "6", "124", "130", "200", "-7", "1234", "07", NULL}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":-12,\"exclusiveMaximum\":2.5}", {"-11", "-9", "0", "2", NULL, "-12", "3", "-111", NULL}},
    {"{\"type\":\"integer\",\"minimum\":0}", {"0", "10", "123456", NULL, "-1", NULL}},
    {"{\"type\":\"integer\",\"maximum\":-5}", {"-5", "-10", "-77", NULL, "-4", "0", "5", NULL}},
    {"{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":9223372036854775807}", {"-1", "1", NULL, "1.5", NULL}},
    {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}", {"0", "1", "0.25", "1.0", "0.0", NULL, "1.1", "-0.5", "2", NULL}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0}", {"0.5", "1", "17.25", NULL, "0", "0.0", "-1", NULL}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":-1,\"exclusiveMaximum\":1}", {"0", "-0.5", "0.999999", NULL, "1", "-1", "1.0", "-1.0", NULL}},
    {"{\"type\":\"number\",\"minimum\":-20,\"maximum\":-3}", {"-20", "-3", "-3.5", "-19.99", "-20.0", NULL, "-20.5", "-2", "3", NULL}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", {"\"ab\"", "\"\xc3\xa9\\n\xf0\x9f\x98\x80\"", NULL, "\"a\"", "\"abcd\"", "\"\xc3\xa9\"", NULL}},
    {"{\"enum\":[\"red\",1,null,{\"a\":[2]},\"\\\"\\\\\\u00e9\"]}", {"\"red\"", "1", "null", "{\"a\":[2]}", "\"\\\"\\\\\xc3\xa9\"", NULL, "\"blue\"", "2", NULL}},
    {"{\"type\":\"string\",\"enum\":[\"red\",1]}", {"\"red\"", NULL, "1", NULL}},
    {"{\"type\":\"integer\",\"enum\":[1.0,2.5,1e300]}", {"1.0", "1e300", NULL, "2.5", NULL}},
    {"{\"enum\":[0.1,[2.5,0.30000000000000004]]}", {"0.1", "[2.5,0.30000000000000004]", NULL, "0.10000000000000001", NULL}},
    {"{\"const\":\"x\"}", {"\"x\"", NULL, "\"y\"", NULL}},
    {PERSON, {"{\"age\":5}", "{\"name\":\"A\",\"age\":150}", "{\"age\": 1, \"mail\": \"\"}", "{\"name\":\"A\",\"age\":0,\"mail\":\"b\"}", NULL, "{}", "{\"name\":\"A\"}", "{\"age\":151}", "{\"name\":\"\",\"age\":1}",
              "{\"mail\":\"b\",\"age\":1}", "{\"age\":1,\"x\":1}", NULL}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2}},\"additionalProperties\":false}", {"{}", "{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}", NULL, "{\"b\":2,\"a\":1}", "{\"c\":1}", NULL}},
    {OPEN_OBJECT, {"{}", "{\"name\":\"x\"}", "{\"name\":\"x\",\"nation\":1,\"nam\":true,\"names\":false,\"z\":true}", "{\"na\":true}", "{\"\xc3\xa9t\xc3\xa9\":null,\"\xc3\xa9t\":true}", "{\"\":true}", NULL,
                   "{\"nation\":1,\"name\":true}", "{\"z\":1}", "{\"z\":true,\"name\":true}", "{\"name\":true}", "{\"n\\u0061me\":true}", NULL}},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1,\"maxProperties\":2}", {"{\"a\":1}", "{\"a\":1,\"b\":2}", NULL, "{}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":null}", NULL}},
    {"{\"type\":\"object\",\"required\":[\"k\"],\"additionalProperties\":true}", {"{\"k\":[1]}", "{\"k\":1,\"l\":2}", NULL, "{}", "{\"l\":2}", NULL}},
    {"{\"properties\":{\"a\":false,\"b\":{\"type\":\"null\"},\"c\":false},\"additionalProperties\":true}", {"{}", "{\"b\":null}", "{\"d\":1}", "{\"b\":null,\"aa\":1}", NULL, "{\"a\":1}", "{\"c\":1}", "{\"b\":1}", NULL}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}", {"[]", "[1]", "[1, 2,3]", NULL, "[\"a\"]", "[1,]", NULL}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}", {"[1,2]", "[1,2,3]", NULL, "[]", "[1]", "[1,2,3,4]", NULL}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1}", {"[null]", "[null,null]", NULL, "[]", NULL}},
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"items\":{\"type\":\"null\"}}", {"[1,\"a\"]", "[1,\"a\",null]", NULL, "[\"a\",1]", "[1,\"a\",2]", NULL}},
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"maxItems\":1,\"items\":false}", {"[1]", NULL, "[1,\"a\"]", NULL}},
    {"{\"type\":\"array\",\"maxItems\":0}", {"[]", "[ ]", NULL, "[1]", NULL}},
    {"{\"type\":\"array\",\"minItems\":1,\"uniqueItems\":false}", {"[1]", "[{},[]]", NULL, "[]", NULL}},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}", {"1", "\"a\"", NULL, "\"ab\"", "null", NULL}},
    {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},\"required\":[\"k\",\"x\"]},"
     "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":[\"k\"]},{\"type\":\"null\"}]}", {"{\"k\":\"a\",\"x\":1}", "{\"k\":\"b\"}", "null", NULL, "{\"k\":\"a\"}", "{}", NULL}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}},\"additionalProperties\":false,\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
     {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}", NULL, "{}", NULL}},
    {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\"}},\"required\":[\"a\"]},{\"$ref\":\"#/$defs/b\"}],\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":3}},"
     "\"$defs\":{\"b\":{\"properties\":{\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}}}", {"{\"a\":3,\"b\":null}", NULL, "{\"a\":3}", "{\"a\":2,\"b\":null}", "{\"a\":3.5,\"b\":null}", NULL}},
    {TREE, {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}", NULL, "{\"v\":1,\"next\":1}", "{\"v\":1}", NULL}},
    {"{\"definitions\":{\"a/b~c\":{\"type\":\"null\"}},\"items\":{\"$ref\":\"#/definitions/a~1b~0c\"}}", {"[null]", NULL, "[1]", NULL}},
    {"{\"type\":\"string\",\"pattern\":\"^[a-c]+\\\\d{2,3}$\"}", {"\"abc12\"", "\"a123\"", NULL, "\"d12\"", "\"a1\"", "\"a1234\"", "\"a12 \"", NULL}},
    {"{\"type\":\"string\",\"pattern\":\"^(foo|ba(?:r|z)*?)\\\\.x?$\"}", {"\"foo.\"", "\"ba.x\"", "\"barzr.\"", NULL, "\"foo\"", "\"fooa\"", NULL}},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", {"\"b\"", "\"abc\"", "\"\\n\\u00e9b\"", NULL, "\"ac\"", NULL}},
    {"{\"type\":\"string\",\"pattern\":\"^a|b$\"}", {"\"ax\"", "\"xb\"", NULL, "\"xax\"", NULL}},
    {"{\"type\":\"string\",\"pattern\":\"^[^a\\\\n]\\\"[\\\\\\\\\\\"]$\"}", {"\"b\\\"\\\\\"", "\"\\t\\\"\\\"\"", NULL, "\"a\\\"\\\\\"", "\"\\n\\\"\\\\\"", "\"b\"\\\\\"", NULL}},
    {"{\"type\":\"string\",\"pattern\":\"^[\\\\w.+-]+@\\\\S\\\\s\\\\x41\\\\u00e9.$\"}", {"\"a.b-c@x A\xc3\xa9\xe2\x82\xac\"", NULL, "\"a@xxA\xc3\xa9z\"", NULL}},
    {"{\"type\":\"string\",\"format\":\"date\"}", {"\"2024-02-28\"", "\"1999-12-31\"", NULL, "\"2024-02-30\"", "\"2024-13-01\"", NULL}},
    {"{\"type\":\"string\",\"format\":\"date-time\"}", {"\"2024-02-28T23:59:59.5Z\"", "\"1999-12-31T00:00:00+01:00\"", NULL, "\"2024-02-28\"", NULL}},
    {"{\"type\":\"string\",\"format\":\"uuid\"}", {"\"123e4567-e89b-12d3-a456-426614174000\"", NULL, "\"123e4567\"", NULL}},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}", {"\"127.0.0.1\"", "\"255.249.30.9\"", NULL, "\"256.0.0.1\"", "\"1.2.3\"", NULL}},
};

static void texts_against_schemas(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct grammar *g = open_schema(table[i].schema);
        bool want = true;
        for (int k = 0; table[i].text[k] || want; k++)
            if (!table[i].text[k])
                want = false;
            else if (accepts(g, table[i].text[k]) != want)
                fail_msg("%s\n%s '%s'", table[i].schema, want ? "refuses" : "accepts", table[i].text[k]);
        grammar_close(g);
    }
}

static const struct {
    const char *schema, *what;
} refused[] = {
    {"{", "line 1"},
    {"{\"type\":\"string\",\"type\":\"null\"}", "duplicate"},
    {"1", "schema: #: a schema is an object"},
    {"false", "no value is allowed"},
    {"{\"type\":\"text\"}", "type is a name"},
    {"{\"type\":[]}", "type is a name"},
    {"{\"not\":{}}", "keyword 'not' is not supported"},
    {"{\"properties\":{\"a\":{\"items\":[{}]}}}", "#/a: items is one schema"},
    {"{\"properties\":{\"a\":{\"items\":{\"multipleOf\":2}}}}", "#/a/items: keyword 'multipleOf'"},
    {"{\"uniqueItems\":true}", "'uniqueItems'"},
    {"{\"patternProperties\":{}}", "'patternProperties'"},
    {"{\"format\":\"email\"}", "format 'email'"},
    {"{\"format\":\"uuid\",\"maxLength\":3}", "neither together"},
    {"{\"pattern\":\"(?=a)\"}", "looks around"},
    {"{\"pattern\":\"(a)\\\\1\"}", "escape that is not supported"},
    {"{\"pattern\":\"\\\\bx\"}", "escape that is not supported"},
    {"{\"pattern\":\"a^\"}", "^ within"},
    {"{\"pattern\":\"a$b\"}", "$ within"},
    {"{\"pattern\":\"(a\"}", "( without )"},
    {"{\"pattern\":\"a)\"}", ") without ("},
    {"{\"pattern\":\"a**\"}", "nothing to repeat"},
    {"{\"pattern\":\"[a\"}", "without ]"},
    {"{\"pattern\":\"[b-a]\"}", "range that ends before"},
    {"{\"pattern\":\"a{x}\"}", "no quantifier"},
    {"{\"pattern\":\"a{3,2}\"}", "wrong way round"},
    {"{\"pattern\":\"a{9999999}\"}", "too large"},
    {"{\"pattern\":\"[\\\\x00]\"}", "short form"},
    {"{\"type\":\"number\",\"minimum\":0.5}", "minimum 0.5"},
    {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "no number"},
    {"{\"type\":\"integer\",\"minimum\":\"5\"}", "minimum is a number"},
    {"{\"type\":\"string\",\"minLength\":-1}", "minLength is a whole number"},
    {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "maxLength 2 is less"},
    {"{\"items\":false,\"minItems\":1}", "minItems 1"},
    {"{\"enum\":[]}", "enum has no value"},
    {"{\"enum\":[1],\"minimum\":0}", "'minimum' beside enum"},
    {"{\"type\":\"null\",\"const\":1}", "const has no value of the type"},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "branches 0 and 1"},
    {"{\"oneOf\":[{\"enum\":[1,2]},{\"enum\":[3,2.0]}]}", "branches 0 and 1"},
    {"{\"anyOf\":[]}", "anyOf is a list"},
    {"{\"allOf\":[]}", "allOf is a list"},
    {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "'pattern' is said twice"},
    {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "no type is allowed"},
    {"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},{\"properties\":{\"b\":{}}}]}", "property 'b'"},
    {"{\"allOf\":[{\"items\":{\"type\":\"null\"}},{\"prefixItems\":[{}]}]}", "'prefixItems' and 'items'"},
    {"{\"allOf\":[{\"$ref\":\"#\"}]}", "contains itself"},
    {"{\"$ref\":\"#/$defs/x\"}", "there is nothing"},
    {"{\"$ref\":\"http://example.com\"}", "only references into this schema"},
    {"{\"required\":[\"a\"],\"additionalProperties\":false}", "'a' can never be there"},
    {"{\"required\":[\"a\"],\"properties\":{\"a\":false}}", "'a' can never be there"},
    {"{\"properties\":{\"a\":{}},\"minProperties\":1}", "minProperties"},
    {"{\"additionalProperties\":\"no\"}", "a schema is an object"},
};

static void refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct error err = {0};
        char *gbnf = json_schema_to_gbnf("schema", as_bytes(refused[i].schema), &err);
        if (gbnf || err.code != ERR_DATA || !strstr(err.text, refused[i].what) || strncmp(err.text, "schema: ", 8) != 0)
            fail_msg("%s\ngives '%s' without '%s'", refused[i].schema, err.text, refused[i].what);
    }
}

/* Every schema of the table: sampled texts are JSON. (test_json_schema_valid.py holds them against the schema, with --sample.) */
static int sample(const char *schema, int n, bool print)
{
    struct bytes text[WALK_TOKENS];
    static char out[WALK_TEXT];
    struct token_tree *t = walk_tokens(text);
    struct grammar *g = open_schema(schema);
    struct matcher *m = matcher_open(g, t, NULL);
    uint64_t seed = 11;
    int ended = 0;
    for (int i = 0; i < n; i++) {
        int size = walk_sentence(m, text, out, i, &seed);
        json_error_t e;
        json_t *j = size < 0 ? json_null() : json_loadb(out, (size_t)size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e), *line = print && size >= 0 ? json_pack("[ss%]", schema, out, (size_t)size) : NULL;
        if (!j)
            fail_msg("%s\n%s: %s", schema, e.text, out);
        if (line)
            json_dumpf(line, stdout, JSON_COMPACT);
        if (line)
            printf("\n");
        json_decref(line);
        json_decref(j);
        ended += size >= 0;
    }
    matcher_close(m);
    grammar_close(g);
    token_tree_close(t);
    return ended;
}

static void sampled_texts_are_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (sample(table[i].schema, 15, false) < 10)
            fail_msg("%s\ntoo few sampled texts came to an end", table[i].schema);
}

static int sample_all(void)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        sample(table[i].schema, 25, true);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--sample") == 0)
        return sample_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_against_schemas),
        cmocka_unit_test(refused_by_name),
        cmocka_unit_test(sampled_texts_are_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
