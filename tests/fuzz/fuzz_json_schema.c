/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a JSON schema: a grammar comes out or one line that says why not; what the grammar allows is JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/json_schema.h"
#include "text/matcher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        __builtin_trap();
}

/* A text of up to 300 bytes, each the next one allowed from a start that moves with the input's size; ends where it may. */
static void write_text(struct matcher *m, size_t seed)
{
    char text[301];
    uint32_t state = matcher_start(m);
    size_t n = 0;
    for (unsigned from = (unsigned)seed; n < 300 && !matcher_complete(m, state); from = from * 5 + 1) {
        uint32_t next = MATCHER_DEAD;
        unsigned byte = 0;
        for (unsigned i = 0; i < 256 && next == MATCHER_DEAD; i++) {
            byte = (from + i) & 0xff;
            next = state;
            if (matcher_push(m, &next, &(char){(char)byte}, 1, NULL) < 0)
                return;
        }
        must(next != MATCHER_DEAD);
        text[n++] = (char)byte;
        state = next;
    }
    if (matcher_complete(m, state)) {
        json_t *j = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        must(j != NULL);
        json_decref(j);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    if (size > 1 << 13)
        return 0;
    char *gbnf = json_schema_to_gbnf("schema", (struct bytes){data, size}, &err);
    must(gbnf ? !err.code : err.code < 0 && *err.text && !strchr(err.text, '\n'));
    struct grammar *g = gbnf ? grammar_open("grammar", (struct bytes){(const uint8_t *)gbnf, strlen(gbnf)}, &err) : NULL;
    /* what a schema can do to its grammar: make it endless or too large; never one that does not parse */
    must(!gbnf || g || strstr(err.text, "begins with itself") || strstr(err.text, "no text can") || strstr(err.text, "larger than") || strstr(err.text, "more than"));
    struct matcher *m = g ? matcher_open(g, NULL, NULL) : NULL;
    if (m)
        write_text(m, size);
    matcher_close(m);
    grammar_close(g);
    free(gbnf);
    return 0;
}
