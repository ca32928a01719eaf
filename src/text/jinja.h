/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: the part of Jinja that they are written in, run as transformers runs it (trim_blocks, lstrip_blocks, nothing outside can be reached or
   changed). Templates are hostile input: nesting, steps and memory are bounded. The rendered text remembers which of its bytes came from outside, so that
   "<|im_end|>" in a message stays six words and never ends it. */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include <jansson.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"

enum {
    JINJA_SOURCE_MAX = 1 << 20,       /* bytes of a template */
    JINJA_NESTING_MAX = 100,          /* of brackets and blocks while parsing */
    JINJA_DEPTH_MAX = 250,            /* of evaluation; macros may call themselves */
    JINJA_STEPS_MAX = 50 * 1000 * 1000,
    JINJA_MEMORY_MAX = 128 << 20
};

struct jinja; /* a parsed template; never changes */

/* UTF-8 text; user[i] is 1 where byte i came from outside, and user is NULL where none did. */
struct marked {
    const char *p;
    const uint8_t *user;
    size_t n;
};

/* A variable that the template sees. Its texts are from outside unless they are trusted. */
struct jinja_input {
    const char *name;
    const json_t *value; /* borrowed; NULL: the variable is undefined */
    bool trusted;
};

/* name: of the template, for messages (copied). NULL with err set when the text is no template of this subset: "NAME: line 3: ...". Caller closes. */
struct jinja *jinja_open(const char *name, struct bytes text, struct error *err);
void jinja_close(struct jinja *j); /* NULL is fine */

/* out lies in the arena, which the caller frees. now: seconds since 1970, in the time zone in which strftime_now shall write. */
int jinja_render(const struct jinja *j, const struct jinja_input *in, int n, int64_t now, struct arena *arena, struct marked *out, struct error *err);

#endif
