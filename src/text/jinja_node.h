/* SPDX-License-Identifier: Apache-2.0 */
/* A template as lexer, parser and evaluation see it: tokens, then a tree. */
#ifndef TEXT_JINJA_NODE_H
#define TEXT_JINJA_NODE_H

#include "text/jinja.h"

enum token_kind { T_END, T_TEXT, T_PRINT, T_PRINT_END, T_BLOCK, T_BLOCK_END, T_NAME, T_STRING, T_INT, T_REAL, T_SIGN };

struct token {
    enum token_kind kind;
    int line;
    struct bytes text; /* in the source; T_TEXT: with its white space cut; T_STRING: between the quotes */
};

struct tokens {
    struct token *item; /* [n], T_END last */
    int n, cap;
};

/* source: with "\n" line ends. The caller frees out->item. */
int jinja_lex(const char *name, struct bytes source, struct tokens *out, struct error *err);

enum node_kind {
    N_TEXT_LITERAL, N_INT, N_REAL, N_TRUE, N_FALSE, N_NONE, /* value in text, i, real */
    N_NAME,                       /* text */
    N_LIST, N_TUPLE,              /* a: items */
    N_DICT,                       /* a: key, value, key, value ... */
    N_ATTRIBUTE,                  /* a . text */
    N_ITEM,                       /* a [ b ] */
    N_SLICE,                      /* a [ b : c : d ], each of them may be missing */
    N_CALL,                       /* a ( b: arguments ) */
    N_FILTER, N_TEST,             /* a | text ( b: arguments ) */
    N_ARGUMENT,                   /* text = a, in a list of arguments behind the plain ones */
    N_NOT, N_MINUS, N_PLUS,       /* a */
    N_AND, N_OR,                  /* a, b */
    N_COMPARE,                    /* a, then b: a list of N_OPERAND */
    N_OPERAND,                    /* text: the sign, a */
    N_ARITHMETIC,                 /* a text b */
    N_CHOICE,                     /* a if b else c; c may be missing */
    N_TEXT,                       /* text */
    N_PRINT,                      /* a */
    N_IF,                         /* a: condition, b: body, c: what else, a list */
    N_FOR,                        /* a: target, b: iterated, c: filter or NULL, d: body, e: what else */
    N_SET,                        /* a: target, b: value */
    N_SET_BLOCK,                  /* a: target, b: body, c: filters around N_CAPTURED, or NULL */
    N_CAPTURED,                   /* the text of the block around it */
    N_FILTER_BLOCK,               /* a: filters around N_CAPTURED, b: body */
    N_MACRO,                      /* text ( a: parameters, N_ARGUMENT with a default or N_NAME ), b: body */
    N_BREAK, N_CONTINUE,
    N_BODY,                       /* a: statements */
    N_KINDS
};

struct node {
    enum node_kind kind;
    int line;
    struct bytes text;
    int64_t i;
    double real;
    struct node *a, *b, *c, *d, *e;
    struct node *next; /* in a list */
};

struct jinja {
    char *name;
    struct node *body; /* a list */
    struct arena arena; /* owns all of it, and the source */
};

/* tokens: of j's source. Fills j->body. */
int jinja_parse(struct jinja *j, const struct tokens *tokens, struct error *err);

#endif
