/* SPDX-License-Identifier: Apache-2.0 */
/* Characters: UTF-8 one at a time, and the classes that pre-tokenisation asks for. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum char_class { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_NEWLINE }; /* NEWLINE: \r and \n, white space too */
enum char_class char_class(uint32_t c);

/* The character at p (n >= 1 bytes): its length and *c; 0 when the n bytes are the beginning of one;
   -k when the first k bytes can begin none (a maximal ill-formed subsequence: one U+FFFD). */
int utf8_next(const uint8_t *p, size_t n, uint32_t *c);

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

#endif
