/* SPDX-License-Identifier: Apache-2.0 */
/* Grammars in llama.cpp's GBNF, compiled: rules are little programs over characters, characters are little automata over bytes.
   A compiled grammar never changes: any number of matchers (matcher.h) and threads may use it. */
#ifndef TEXT_GRAMMAR_H
#define TEXT_GRAMMAR_H

#include "base/bytes.h"
#include "base/error.h"
#include "text/word_sets.h"

enum {
    GRAMMAR_TEXT_MAX = 4 << 20, /* bytes of GBNF */
    GRAMMAR_CODE_MAX = 1 << 20, /* instructions, repetitions written out */
    GRAMMAR_RULES_MAX = 1 << 14,
    GRAMMAR_GROUPS_MAX = 256,   /* parentheses within parentheses */
    GRAMMAR_SPANS_MAX = 1024,   /* ranges in one class */
    GRAMMAR_ROWS_MAX = 1 << 16  /* of the automata that characters are */
};

/* An instruction goes on to the next one, if not said otherwise. Jumps are relative, so that code can be moved and copied. */
enum grammar_op {
    OP_CHAR,  /* a character; arg: its row */
    OP_CALL,  /* arg: the rule */
    OP_TAIL,  /* a call with nothing behind it */
    OP_SPLIT, /* goes on with the next one and with this + arg */
    OP_JUMP,  /* goes on with this + arg */
    OP_END    /* of a rule */
};

struct instr {
    uint8_t op;    /* enum grammar_op */
    bool live;     /* the rule's end can be reached from here; what cannot end is never begun */
    int32_t arg;
};

/* A row says what one byte leads to: pairs of words, first byte | last byte << 8, and the next row. ROW_DONE: the character is complete. */
enum { ROW_DONE = 0 };

struct grammar {
    struct instr *code; /* [n_code] rule by rule */
    int n_code, n_rules, root;
    int32_t *start;     /* [n_rules] first instruction; a rule that begins with a call of another has the smaller number */
    bool *nullable;     /* [n_rules] it matches the empty text */
    struct word_sets rows;
    int n_classes;      /* bytes that no row tells apart are one class */
    uint8_t class_of[256], byte_of[256]; /* a byte's class; a byte of the class */
};

/* name: for messages. Refused (ERR_DATA, with line and column): what is not GBNF, references to tokens (<...>), rules that are missing or
   twice there, left recursion, what no text can match, what is over the limits above. Caller closes. */
struct grammar *grammar_open(const char *name, struct bytes gbnf, struct error *err);
void grammar_close(struct grammar *g); /* NULL is fine */

#endif
