/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to a tree, by recursive descent with Jinja's own precedences and a bound on nesting. A function that returns NULL has set the error. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_node.h"

struct parser {
    struct jinja *j;
    const struct token *t; /* the one at hand; T_END stays */
    int depth;
    struct error *err;
};

static struct node *parse_expression(struct parser *p);
static struct node *parse_unary(struct parser *p, bool with_filters);
static bool parse_statements(struct parser *p, const char *const *ends, struct node **out);

/* ---- tokens ---- */

static bool is(const struct parser *p, enum token_kind kind, const char *text) { return p->t->kind == kind && bytes_equal(p->t->text, text); }
static bool is_sign(const struct parser *p, const char *text) { return is(p, T_SIGN, text); }
static bool is_name(const struct parser *p, const char *text) { return is(p, T_NAME, text); }

static struct bytes take(struct parser *p)
{
    struct bytes text = p->t->text;
    p->t += p->t->kind != T_END;
    return text;
}

static bool take_if(struct parser *p, bool it_is)
{
    if (it_is)
        take(p);
    return it_is;
}

static void *unexpected(struct parser *p, const char *wanted)
{
    static const char *const ends[] = {"the end", "text", "{{", "}}", "{%", "%}"};
    struct bytes t = p->t->text;
    const char *what = p->t->kind < T_NAME ? ends[p->t->kind] : NULL;
    fail(p->err, ERR_DATA, "%s: line %d: %.*s where %s must stand", p->j->name, p->t->line, what ? (int)strlen(what) : t.n < 40 ? (int)t.n : 40, what ? what : (const char *)t.p, wanted);
    return NULL;
}

static bool need(struct parser *p, enum token_kind kind, const char *text)
{
    return take_if(p, text ? is(p, kind, text) : p->t->kind == kind) || unexpected(p, text ? text : kind == T_BLOCK_END ? "%}" : kind == T_PRINT_END ? "}}" : "a name");
}

static bool enter(struct parser *p)
{
    if (p->depth++ < JINJA_NESTING_MAX)
        return true;
    fail(p->err, ERR_DATA, "%s: line %d: nested more than %d deep: make it simpler", p->j->name, p->t->line, JINJA_NESTING_MAX);
    return false;
}

/* ---- nodes ---- */

static struct node *make(struct parser *p, enum node_kind kind, struct node *a, struct node *b)
{
    struct node *n = arena_alloc(&p->j->arena, sizeof *n);
    if (!n) {
        fail(p->err, ERR_OS, "%s: out of memory", p->j->name);
        return NULL;
    }
    n->kind = kind;
    n->line = p->t->line;
    n->a = a;
    n->b = b;
    return n;
}

static struct node *make_text(struct parser *p, enum node_kind kind, struct bytes text, struct node *a, struct node *b)
{
    struct node *n = make(p, kind, a, b);
    if (n)
        n->text = text;
    return n;
}

/* ---- literals ---- */

static size_t put_character(uint8_t *out, uint32_t c)
{
    if (c >= 0xd800 && (c < 0xe000 || c > 0x10ffff))
        c = 0xfffd;
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 63));
    out[0] = (uint8_t)(lead[n] | c);
    return n;
}

static size_t read_digits(struct bytes s, size_t at, size_t most, unsigned base, uint32_t *out)
{
    size_t n = 0;
    for (*out = 0; n < most && at + n < s.n; n++) {
        uint8_t c = s.p[at + n];
        unsigned digit = c >= '0' && c <= '9' ? c - 48u : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10u : 99u;
        if (digit >= base)
            break;
        *out = *out * base + digit;
    }
    return n;
}

/* The escape behind the backslash at s[at]: writes what it stands for, returns how much of s it took. Unknown ones stay as they are. */
static size_t unescape(struct bytes s, size_t at, uint8_t *out, size_t *n_out)
{
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    static const struct {
        char letter;
        uint8_t digits;
    } wide[] = {{'x', 2}, {'u', 4}, {'U', 8}};
    char c = at + 1 < s.n ? (char)s.p[at + 1] : 0;
    const char *known = c ? strchr(from, c) : NULL;
    uint32_t value;
    size_t n;
    if (known) {
        out[(*n_out)++] = (uint8_t)to[known - from];
        return 2;
    }
    if (c == '\n')
        return 2;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (c == wide[i].letter && read_digits(s, at + 2, wide[i].digits, 16, &value) == wide[i].digits) {
            *n_out += put_character(out + *n_out, value);
            return 2u + wide[i].digits;
        }
    if ((n = read_digits(s, at + 1, 3, 8, &value))) {
        *n_out += put_character(out + *n_out, value);
        return 1 + n;
    }
    out[(*n_out)++] = '\\';
    return 1;
}

/* Strings side by side are one. */
static struct node *parse_string(struct parser *p)
{
    size_t total = 1, n = 0;
    for (const struct token *t = p->t; t->kind == T_STRING; t++)
        total += t->text.n;
    uint8_t *out = arena_alloc(&p->j->arena, total);
    struct node *node = out ? make(p, N_TEXT_LITERAL, NULL, NULL) : NULL;
    if (!node) {
        fail(p->err, ERR_OS, "%s: out of memory", p->j->name);
        return NULL;
    }
    while (p->t->kind == T_STRING) {
        struct bytes s = take(p);
        for (size_t at = 0; at < s.n;)
            if (s.p[at] == '\\')
                at += unescape(s, at, out, &n);
            else
                out[n++] = s.p[at++];
    }
    node->text = (struct bytes){out, n};
    return node;
}

static struct node *parse_number(struct parser *p)
{
    struct node *n = make(p, p->t->kind == T_INT ? N_INT : N_REAL, NULL, NULL);
    char digits[64];
    size_t k = 0;
    bool overflow = false;
    struct bytes s = p->t->text;
    for (size_t i = 0; i < s.n && k < sizeof digits - 1; i++)
        if (s.p[i] != '_')
            digits[k++] = (char)s.p[i];
    digits[k] = 0;
    for (size_t i = 0; n && n->kind == N_INT && i < k; i++)
        overflow |= __builtin_mul_overflow(n->i, (int64_t)10, &n->i) || __builtin_add_overflow(n->i, (int64_t)(digits[i] - '0'), &n->i);
    json_t *real = n && n->kind == N_REAL ? json_loads(digits, JSON_DECODE_ANY, NULL) : NULL; /* unlike strtod it knows no locale */
    if (real)
        n->real = json_number_value(real);
    if (n && (overflow || k == sizeof digits - 1 || (n->kind == N_REAL && !real)))
        n = unexpected(p, "a smaller number");
    json_decref(real);
    take(p);
    return n;
}

/* ---- expressions ---- */

/* Items up to the closing sign, parted by commas; pairs: each is "key: value". */
static bool parse_items(struct parser *p, const char *close, bool pairs, struct node **out)
{
    while (!is_sign(p, close)) {
        struct node *item = parse_expression(p);
        if (!item || (pairs && !need(p, T_SIGN, ":")))
            return false;
        *out = item;
        out = &item->next;
        if (pairs) {
            if (!(item = parse_expression(p)))
                return false;
            *out = item;
            out = &item->next;
        }
        if (!take_if(p, is_sign(p, ",")))
            break;
    }
    return need(p, T_SIGN, close);
}

static struct node *parse_bracketed(struct parser *p, enum node_kind kind, const char *close)
{
    struct node *n = make(p, kind, NULL, NULL);
    take(p);
    return n && parse_items(p, close, kind == N_DICT, &n->a) ? n : NULL;
}

/* (a): itself. (a,) and (a, b) and (): a tuple. */
static struct node *parse_parenthesis(struct parser *p)
{
    take(p);
    struct node *n = make(p, N_TUPLE, NULL, NULL);
    if (!n || take_if(p, is_sign(p, ")")))
        return n;
    if (!(n->a = parse_expression(p)))
        return NULL;
    if (take_if(p, is_sign(p, ")")))
        return n->a;
    return need(p, T_SIGN, ",") && parse_items(p, ")", false, &n->a->next) ? n : NULL;
}

static struct node *parse_name(struct parser *p)
{
    static const struct {
        const char *name;
        enum node_kind kind;
    } constants[] = {{"true", N_TRUE}, {"True", N_TRUE}, {"false", N_FALSE}, {"False", N_FALSE}, {"none", N_NONE}, {"None", N_NONE}};
    enum node_kind kind = N_NAME;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (is_name(p, constants[i].name))
            kind = constants[i].kind;
    struct node *n = make(p, kind, NULL, NULL);
    struct bytes text = take(p);
    if (n)
        n->text = text;
    return n;
}

static struct node *parse_primary(struct parser *p)
{
    switch (p->t->kind) {
    case T_NAME: return parse_name(p);
    case T_STRING: return parse_string(p);
    case T_INT:
    case T_REAL: return parse_number(p);
    default: break;
    }
    if (is_sign(p, "("))
        return parse_parenthesis(p);
    if (is_sign(p, "["))
        return parse_bracketed(p, N_LIST, "]");
    if (is_sign(p, "{"))
        return parse_bracketed(p, N_DICT, "}");
    return unexpected(p, "a value");
}

/* Behind "(": plain arguments, then named ones. */
static bool parse_arguments(struct parser *p, struct node **out)
{
    bool named = false;
    while (!is_sign(p, ")")) {
        bool this_named = p->t->kind == T_NAME && p->t[1].kind == T_SIGN && bytes_equal(p->t[1].text, "=");
        struct bytes name = p->t->text;
        if (named && !this_named)
            return unexpected(p, "a named argument") != NULL;
        named = this_named;
        if (named)
            p->t += 2;
        struct node *value = parse_expression(p);
        if (!value || (named && !(value = make_text(p, N_ARGUMENT, name, value, NULL))))
            return false;
        *out = value;
        out = &value->next;
        if (!take_if(p, is_sign(p, ",")))
            break;
    }
    return need(p, T_SIGN, ")");
}

static struct node *parse_call(struct parser *p, struct node *callee)
{
    struct node *n = make(p, N_CALL, callee, NULL);
    take(p);
    return n && parse_arguments(p, &n->b) ? n : NULL;
}

static struct node *parse_attribute(struct parser *p, struct node *of)
{
    take(p);
    if (p->t->kind == T_INT) {
        struct node *index = parse_number(p);
        return index ? make(p, N_ITEM, of, index) : NULL;
    }
    struct bytes name = p->t->text;
    return need(p, T_NAME, NULL) ? make_text(p, N_ATTRIBUTE, name, of, NULL) : NULL;
}

/* Behind "[": an index, or a slice with up to three parts. */
static struct node *parse_subscript(struct parser *p, struct node *of)
{
    struct node *n = make(p, N_ITEM, of, NULL), *part[3] = {NULL};
    int k = 0;
    take(p);
    for (; n && k < 3; k++) {
        if (!is_sign(p, ":") && !is_sign(p, "]") && !(part[k] = parse_expression(p)))
            return NULL;
        if (!take_if(p, k < 2 && is_sign(p, ":")))
            break;
        n->kind = N_SLICE;
    }
    if (!n || (n->kind == N_ITEM && !part[0]))
        return n ? unexpected(p, "an index") : NULL;
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    return need(p, T_SIGN, "]") ? n : NULL;
}

static struct node *parse_postfix(struct parser *p, struct node *n)
{
    while (n)
        if (is_sign(p, "."))
            n = parse_attribute(p, n);
        else if (is_sign(p, "["))
            n = parse_subscript(p, n);
        else if (is_sign(p, "("))
            n = parse_call(p, n);
        else
            break;
    return n;
}

static struct node *parse_filter(struct parser *p, struct node *of)
{
    struct bytes name = p->t->text;
    struct node *n = need(p, T_NAME, NULL) ? make_text(p, N_FILTER, name, of, NULL) : NULL;
    return n && take_if(p, is_sign(p, "(")) && !parse_arguments(p, &n->b) ? NULL : n;
}

/* An argument without parentheses, "is divisibleby 3", is one value; "and", "or", "else" and the like are none. */
static bool begins_argument(const struct parser *p)
{
    static const char *const words[] = {"else", "or", "and", "is", "in", "not", "if"};
    if (p->t->kind == T_STRING || p->t->kind == T_INT || p->t->kind == T_REAL || is_sign(p, "[") || is_sign(p, "{"))
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (is_name(p, words[i]))
            return false;
    return p->t->kind == T_NAME;
}

static struct node *parse_test(struct parser *p, struct node *of)
{
    bool negated = take_if(p, is_name(p, "not"));
    struct bytes name = p->t->text;
    struct node *n = need(p, T_NAME, NULL) ? make_text(p, N_TEST, name, of, NULL) : NULL;
    if (n && take_if(p, is_sign(p, "("))) {
        if (!parse_arguments(p, &n->b))
            return NULL;
    } else if (n && begins_argument(p) && !(n->b = parse_postfix(p, parse_primary(p)))) {
        return NULL;
    }
    return n && negated ? make(p, N_NOT, n, NULL) : n;
}

static struct node *parse_filters(struct parser *p, struct node *n)
{
    while (n)
        if (take_if(p, is_sign(p, "|")))
            n = parse_filter(p, n);
        else if (take_if(p, is_name(p, "is")))
            n = parse_test(p, n);
        else if (is_sign(p, "("))
            n = parse_call(p, n);
        else
            break;
    return n;
}

static struct node *parse_unary(struct parser *p, bool with_filters)
{
    struct node *n;
    if (!enter(p))
        return NULL;
    if (is_sign(p, "-") || is_sign(p, "+")) {
        enum node_kind kind = is_sign(p, "-") ? N_MINUS : N_PLUS;
        take(p);
        n = parse_unary(p, false);
        n = n ? make(p, kind, n, NULL) : NULL;
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    p->depth--;
    return with_filters ? parse_filters(p, n) : n;
}

/* Operators that bind alike, from the weakest; all but ** of the left side first, and ** as in Jinja too. */
static const struct {
    const char *sign[4];
} levels[] = {{{"+", "-"}}, {{"~"}}, {{"*", "/", "//", "%"}}, {{"**"}}};
enum { N_LEVELS = sizeof levels / sizeof *levels };

static bool at_level(const struct parser *p, int level)
{
    for (int i = 0; i < 4 && levels[level].sign[i]; i++)
        if (is_sign(p, levels[level].sign[i]))
            return true;
    return false;
}

static struct node *parse_arithmetic(struct parser *p, int level)
{
    if (level == N_LEVELS)
        return parse_unary(p, true);
    struct node *n = parse_arithmetic(p, level + 1);
    while (n && at_level(p, level)) {
        struct bytes sign = take(p);
        struct node *right = parse_arithmetic(p, level + 1);
        n = right ? make_text(p, N_ARITHMETIC, sign, n, right) : NULL;
    }
    return n;
}

/* "==" and its kin, "in", "not in": taken, and told by name. */
static bool take_comparison(struct parser *p, struct bytes *sign)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    *sign = p->t->text;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (take_if(p, is_sign(p, signs[i])))
            return true;
    if (take_if(p, is_name(p, "in")))
        return true;
    if (!is_name(p, "not") || p->t[1].kind != T_NAME || !bytes_equal(p->t[1].text, "in"))
        return false;
    p->t += 2;
    return true; /* called "not" */
}

static struct node *parse_comparison(struct parser *p)
{
    struct node *n = parse_arithmetic(p, 0), *all = NULL, **end = NULL;
    struct bytes sign;
    while (n && take_comparison(p, &sign)) {
        struct node *right = parse_arithmetic(p, 0);
        struct node *one = right ? make_text(p, N_OPERAND, sign, right, NULL) : NULL;
        if (!one)
            return NULL;
        if (!all) {
            if (!(all = make(p, N_COMPARE, n, NULL)))
                return NULL;
            end = &all->b;
        }
        *end = one;
        end = &one->next;
    }
    return all ? all : n;
}

static struct node *parse_not(struct parser *p)
{
    if (!is_name(p, "not"))
        return parse_comparison(p);
    if (!enter(p))
        return NULL;
    take(p);
    struct node *n = parse_not(p);
    p->depth--;
    return n ? make(p, N_NOT, n, NULL) : NULL;
}

static struct node *parse_logic(struct parser *p, bool or)
{
    struct node *n = or ? parse_logic(p, false) : parse_not(p);
    while (n && take_if(p, is_name(p, or ? "or" : "and"))) {
        struct node *right = or ? parse_logic(p, false) : parse_not(p);
        n = right ? make(p, or ? N_OR : N_AND, n, right) : NULL;
    }
    return n;
}

static struct node *parse_expression(struct parser *p)
{
    if (!enter(p))
        return NULL;
    struct node *n = parse_logic(p, true);
    while (n && take_if(p, is_name(p, "if"))) {
        struct node *condition = parse_logic(p, true);
        n = condition ? make(p, N_CHOICE, n, condition) : NULL;
        if (n && take_if(p, is_name(p, "else")) && !(n->c = parse_expression(p)))
            n = NULL;
    }
    p->depth--;
    return n;
}

/* One expression, or several with commas: a tuple. choice: "a if b" may be one. */
static struct node *parse_tuple(struct parser *p, bool choice)
{
    struct node *n = choice ? parse_expression(p) : parse_logic(p, true);
    if (!n || !is_sign(p, ","))
        return n;
    struct node *tuple = make(p, N_TUPLE, n, NULL);
    while (tuple && n && take_if(p, is_sign(p, ",")) && p->t->kind != T_BLOCK_END && p->t->kind != T_PRINT_END)
        n = n->next = choice ? parse_expression(p) : parse_logic(p, true);
    return n ? tuple : NULL;
}

/* ---- statements ---- */

/* "a", "a, b" or, to be set, "a.b". */
static struct node *parse_target(struct parser *p, bool attribute)
{
    struct node *n = NULL, *tuple = NULL, **end = NULL;
    bool round = take_if(p, is_sign(p, "("));
    do {
        if (p->t->kind != T_NAME)
            return unexpected(p, "a name");
        struct node *one = parse_name(p);
        if (one && one->kind != N_NAME)
            return unexpected(p, "a name that is no constant");
        if (one && attribute && !n && is_sign(p, "."))
            return parse_attribute(p, one);
        if (n && !tuple && (tuple = make(p, N_TUPLE, n, NULL)))
            end = &n->next;
        if (!one || (n && !tuple))
            return NULL;
        if (n)
            *end = one, end = &one->next;
        else
            n = one;
    } while (take_if(p, is_sign(p, ",")));
    return round && !need(p, T_SIGN, ")") ? NULL : tuple ? tuple : n;
}

/* The body of a block up to one of these words, which is left to be read. */
static bool parse_body(struct parser *p, struct node **out, const char *const *ends)
{
    return need(p, T_BLOCK_END, NULL) && parse_statements(p, ends, out);
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    struct node *first = make(p, N_IF, NULL, NULL), *n = first;
    while (n) {
        if (!(n->a = parse_expression(p)) || !parse_body(p, &n->b, ends))
            return NULL;
        if (!take_if(p, is_name(p, "elif")))
            break;
        n = n->c = make(p, N_IF, NULL, NULL);
    }
    if (n && take_if(p, is_name(p, "else")) && !parse_body(p, &n->c, last))
        return NULL;
    return n && need(p, T_NAME, "endif") ? first : NULL;
}

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    struct node *n = make(p, N_FOR, NULL, NULL);
    if (!n || !(n->a = parse_target(p, false)) || !need(p, T_NAME, "in") || !(n->b = parse_tuple(p, false)))
        return NULL;
    if (take_if(p, is_name(p, "if")) && !(n->c = parse_expression(p)))
        return NULL;
    if (!parse_body(p, &n->d, ends) || (take_if(p, is_name(p, "else")) && !parse_body(p, &n->e, last)))
        return NULL;
    return need(p, T_NAME, "endfor") ? n : NULL;
}

static struct node *parse_set(struct parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    struct node *n = make(p, N_SET, NULL, NULL);
    if (!n || !(n->a = parse_target(p, true)))
        return NULL;
    if (take_if(p, is_sign(p, "=")))
        return (n->b = parse_tuple(p, true)) ? n : NULL;
    n->kind = N_SET_BLOCK;
    if (is_sign(p, "|") && !((n->c = make(p, N_CAPTURED, NULL, NULL)) && (n->c = parse_filters(p, n->c))))
        return NULL;
    return parse_body(p, &n->b, ends) && need(p, T_NAME, "endset") ? n : NULL;
}

static struct node *parse_filter_block(struct parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct node *n = make(p, N_FILTER_BLOCK, make(p, N_CAPTURED, NULL, NULL), NULL);
    if (!n || !n->a || !(n->a = parse_filter(p, n->a)) || !(n->a = parse_filters(p, n->a)))
        return NULL;
    return parse_body(p, &n->b, ends) && need(p, T_NAME, "endfilter") ? n : NULL;
}

static struct node *parse_macro(struct parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct node *n = make_text(p, N_MACRO, p->t->text, NULL, NULL), **end = n ? &n->a : NULL;
    if (!n || !need(p, T_NAME, NULL) || !need(p, T_SIGN, "("))
        return NULL;
    while (!is_sign(p, ")")) {
        struct node *one = make_text(p, N_NAME, p->t->text, NULL, NULL);
        if (!one || !need(p, T_NAME, NULL))
            return NULL;
        if (take_if(p, is_sign(p, "="))) {
            one->kind = N_ARGUMENT;
            if (!(one->a = parse_expression(p)))
                return NULL;
        }
        *end = one;
        end = &one->next;
        if (!take_if(p, is_sign(p, ",")))
            break;
    }
    return need(p, T_SIGN, ")") && parse_body(p, &n->b, ends) && need(p, T_NAME, "endmacro") ? n : NULL;
}

/* {% generation %} marks what a trainer learns; here it is its body. */
static struct node *parse_generation(struct parser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    struct node *n = make(p, N_BODY, NULL, NULL);
    return n && parse_body(p, &n->a, ends) && need(p, T_NAME, "endgeneration") ? n : NULL;
}

static struct node *parse_break(struct parser *p) { return make(p, N_BREAK, NULL, NULL); }
static struct node *parse_continue(struct parser *p) { return make(p, N_CONTINUE, NULL, NULL); }

static const struct {
    const char *word;
    struct node *(*parse)(struct parser *p);
} statements[] = {{"if", parse_if},       {"for", parse_for},           {"set", parse_set},     {"macro", parse_macro},      {"filter", parse_filter_block},
                  {"break", parse_break}, {"continue", parse_continue}, {"generation", parse_generation}};

/* Behind "{%". */
static struct node *parse_block(struct parser *p)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (is_name(p, statements[i].word)) {
            take(p);
            struct node *n = statements[i].parse(p);
            return n && need(p, T_BLOCK_END, NULL) ? n : NULL;
        }
    return unexpected(p, "if, for, set, macro, filter, break or continue, the statements of chat templates,");
}

static struct node *parse_print(struct parser *p)
{
    struct node *value = parse_tuple(p, true), *n = value ? make(p, N_PRINT, value, NULL) : NULL;
    return n && need(p, T_PRINT_END, NULL) ? n : NULL;
}

static bool at_end(const struct parser *p, const char *const *ends)
{
    for (; *ends; ends++)
        if (is_name(p, *ends))
            return true;
    return false;
}

static bool parse_statements(struct parser *p, const char *const *ends, struct node **out)
{
    if (!enter(p))
        return false;
    while (p->t->kind != T_END) {
        struct node *n = NULL;
        if (p->t->kind == T_TEXT) {
            n = make_text(p, N_TEXT, p->t->text, NULL, NULL);
            take(p);
        } else if (take_if(p, p->t->kind == T_PRINT)) {
            n = parse_print(p);
        } else {
            take(p);
            if (at_end(p, ends)) {
                p->depth--;
                return true;
            }
            n = parse_block(p);
        }
        if (!n)
            return false;
        *out = n;
        out = &n->next;
    }
    p->depth--;
    if (!*ends)
        return true;
    while (ends[1])
        ends++;
    return unexpected(p, *ends); /* the last one closes the block */
}

int jinja_parse(struct jinja *j, const struct tokens *tokens, struct error *err)
{
    static const char *const no_ends[] = {NULL};
    struct parser p = {.j = j, .t = tokens->item, .err = err};
    return parse_statements(&p, no_ends, &j->body) ? 0 : err->code;
}
