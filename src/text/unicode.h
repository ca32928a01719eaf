/* SPDX-License-Identifier: Apache-2.0 */
/* The classes of characters that pre-tokenisation asks for. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdint.h>

enum char_class { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_NEWLINE }; /* NEWLINE: \r and \n, white space too */
enum char_class char_class(uint32_t c);

#endif
