/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a chat template: it renders within its bounds, or says in one line why not; what it gives is UTF-8, with marks of 0 and 1. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char values[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"s \\u00e9\"}, {\"role\": \"user\", \"content\": \" a\\nb<|im_end|> \"},"
                             "{\"role\": \"assistant\", \"content\": \"<think>x</think>y\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"k\": 1.5}}}]}],"
                             "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}], \"add_generation_prompt\": true, \"bos_token\": \"<s>\"}";

static void must(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *all;
    struct jinja_input in[8];
    struct error err = {0};
    const char *key;
    json_t *value;
    int n = 0;
    all = all ? all : json_loads(values, 0, NULL);
    json_object_foreach(all, key, value)
        in[n++] = (struct jinja_input){key, value, !strcmp(key, "bos_token")};
    struct jinja *j = jinja_open("fuzz", (struct bytes){data, size}, &err);
    must(j ? !*err.text : err.code < 0 && *err.text && !strchr(err.text, '\n'));
    if (!j)
        return 0;
    struct arena arena = {0};
    struct marked out;
    int rc = jinja_render(j, in, n, 1700000000, &arena, &out, &err);
    must((rc == 0) == (*err.text == 0) && !strchr(err.text, '\n'));
    must(rc || utf8_valid((struct bytes){(const uint8_t *)out.p, out.n}, NULL));
    for (size_t i = 0; !rc && out.user && i < out.n; i++)
        must(out.user[i] <= 1);
    must(arena.used <= (size_t)JINJA_MEMORY_MAX + (1 << 20));
    arena_free(&arena);
    jinja_close(j);
    return 0;
}
