/* SPDX-License-Identifier: Apache-2.0 */
/* What the program says on stderr when something is wrong, in text that is safe for a terminal. */
#ifndef TOOLS_MESSAGES_H
#define TOOLS_MESSAGES_H

#include <stdio.h>

#include "layerskip.h"

/* Sets code and text (one line, cut where it is too long) and returns code. */
int complain(lsk_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The character at text (n >= 1 bytes are left) as it may be shown: itself, or \n, \t, \r, or \xNN for one byte of what is not printable. Returns how
 * many bytes it took. */
struct shown {
    char text[8];
};
size_t show_character(const char *text, size_t n, struct shown *out);

/* A whole text so: one line, nothing that a terminal obeys. */
void print_shown(FILE *out, const char *text);

/* n bytes so, but for line ends and tabs, which stay. */
void print_reply(FILE *out, const char *text, size_t n);

/* "layerskip: warning: TEXT" on stderr, shown so. */
void print_warning(const char *text);

/* Text from outside for a message: at most 64 bytes, shown as above, "..." where it was cut. */
struct excerpt {
    char text[96];
};
struct excerpt excerpt_of(const char *text);

/* Bytes of the character at text (1 to 4), or 0 when the bytes there are not one valid character. n: bytes left. */
int utf8_length(const char *text, size_t n);

/* The word of `words` (names parted by blanks) nearest to `name`, when it is near enough to be meant; copied to out. Returns 0 when none is. */
int suggest(const char *words, const char *name, char *out, size_t cap, int *best);

#endif
