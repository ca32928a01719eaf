/* SPDX-License-Identifier: Apache-2.0 */
/* JSON read token by token, in place, by a caller that knows what must come: no tree, no recursion, linear time, no memory of its own. */
#ifndef BASE_PULL_H
#define BASE_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

#define PULL_NUMBER_MAX ((uint64_t)1 << 48)

struct pull {
    char *text; /* [n], written to: strings are unescaped where they stand */
    size_t n, at;
    const char *path;
    uint64_t origin; /* offset of text in that file, for messages */
    struct error *err;
};

int pull_refuse(struct pull *j, const char *what);          /* ERR_DATA at the present offset */
bool pull_peek(struct pull *j, char c);                     /* after white space comes c */
int pull_expect(struct pull *j, char c);                    /* takes it, or refuses */
int pull_more(struct pull *j, char close, bool first);      /* between members: 1 one more follows, 0 closed, below 0 refused */
int pull_text(struct pull *j, struct bytes *out);           /* a string: a zero behind it, none inside; UTF-8 if the text is */
int pull_string(struct pull *j, char **out);                /* the same as a C string */
int pull_number(struct pull *j, uint64_t *out);             /* plain decimal, at most PULL_NUMBER_MAX */
int pull_skip(struct pull *j, struct bytes *raw);           /* any value, as it is written; strings and brackets end, nothing else is checked */
int pull_end(struct pull *j);                               /* nothing but white space is left */

#endif
