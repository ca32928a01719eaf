/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: against Python's jinja2 (jinja_conformance.py calls this program back as a tool), marks, bounds and messages.
   As a tool: test_jinja render < cases > results, both one JSON object a line: {"template", "input", "now"} and {"text", "user"} or {"error"}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

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

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 2)
        return tool();
    return 0;
}
