/* SPDX-License-Identifier: Apache-2.0 */
/* One rendering: values as Python has them, and what evaluation and the built-in functions share. Everything lies in the caller's arena and nothing is freed
   before it, so values are copied by assignment. */
#ifndef TEXT_JINJA_RUN_H
#define TEXT_JINJA_RUN_H

#include "text/jinja_node.h"

enum value_kind { V_UNDEFINED, V_NONE, V_BOOL, V_INT, V_REAL, V_TEXT, V_LIST, V_DICT, V_NAMESPACE, V_LOOP, V_MACRO, V_FUNCTION };

struct list;
struct dict;
struct loop;
struct macro;
struct function;

struct value {
    enum value_kind kind;
    union {
        bool truth;
        int64_t i;
        double real;
        struct marked text;  /* V_TEXT; V_UNDEFINED: the name that was looked for */
        struct list *list;
        struct dict *dict;   /* V_DICT, V_NAMESPACE */
        struct loop *loop;
        const struct macro *macro;
        const struct function *function;
    };
};

struct list {
    struct value *item; /* [n] */
    size_t n;
    bool tuple;
};
struct pair {
    struct marked key;
    struct value value;
};
struct dict {
    struct pair *pair; /* [n] in order of insertion */
    size_t n, cap;
};
struct loop { /* the variable of that name */
    const struct list *list;
    size_t at, depth;
    struct value changed; /* what changed() saw last */
    bool has_changed;
};

struct scope {
    struct scope *outer;
    struct dict names;
};
struct macro {
    const struct node *node;
    struct scope *scope; /* where it was defined */
};

/* Text that is being put together. */
struct build {
    uint8_t *p, *user;
    size_t n, cap;
};

struct run {
    const char *name;
    struct arena *arena;
    struct error *err;
    int line, depth;
    uint64_t steps;
    size_t loops;
    int64_t now;
    struct scope *scope;
    struct build *out;
    struct value captured; /* of the block whose filters are evaluated */
    enum { RUN_ON, RUN_BREAK, RUN_CONTINUE } flow;
    const uint8_t *ones; /* the marks of texts from outside */
};

/* ---- jinja_value.c ---- */

int run_fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3))); /* "NAME: line N: ..." */
int run_charge(struct run *r, uint64_t steps);                         /* an error when there were too many */
int run_charge_texts(struct run *r, struct marked a, struct marked b); /* what comparing them costs */
void *run_alloc(struct run *r, uint64_t n, size_t size);               /* NULL with the error set */

int build_add(struct run *r, struct build *b, struct marked text);
int build_text(struct run *r, struct build *b, const char *text); /* a template's own */
struct value build_done(const struct build *b);

static inline struct value value_bool(bool truth) { return (struct value){.kind = V_BOOL, .truth = truth}; }
static inline struct value value_int(int64_t i) { return (struct value){.kind = V_INT, .i = i}; }
static inline struct value value_text(struct marked text) { return (struct value){.kind = V_TEXT, .text = text}; }
static inline struct value value_none(void) { return (struct value){.kind = V_NONE}; }
struct value value_undefined(struct marked name);
int value_list(struct run *r, size_t n, struct value *out); /* n undefined items */

static inline struct marked marked_of(const char *text) { return (struct marked){text, NULL, __builtin_strlen(text)}; }
struct marked marked_slice(struct marked t, size_t from, size_t to);
bool marked_equal(struct marked a, struct marked b);
size_t marked_find(struct marked t, struct marked what, size_t from); /* t.n: not there */
size_t marked_length(struct marked t);                                /* characters */
size_t marked_next(struct marked t, size_t at);                       /* bytes of the character there */

bool value_is_number(const struct value *v); /* bool, int or real */
double value_real(const struct value *v);
const char *value_kind_name(const struct value *v); /* as Python calls it: "str" */
bool value_true(const struct value *v);
int value_equal(struct run *r, const struct value *a, const struct value *b, bool *out);
int value_compare(struct run *r, const struct value *a, const struct value *b, int *out); /* below, at or above 0 */
int value_contains(struct run *r, const struct value *in, const struct value *what, bool *out);
int value_length(struct run *r, const struct value *v, size_t *out);
int value_items(struct run *r, const struct value *v, const struct list **out); /* what a loop over it sees */
int value_print(struct run *r, const struct value *v, struct build *b);         /* as {{ }} writes it */
struct json_style {
    struct marked indent, comma, colon; /* indent.p NULL: on one line */
    bool ascii, sorted;
};
int value_json(struct run *r, const struct value *v, const struct json_style *style, struct build *b);

int dict_find(struct run *r, const struct dict *d, struct marked key, struct value **out); /* *out is NULL where it is not there */
int dict_set(struct run *r, struct dict *d, struct marked key, const struct value *v);
int value_from_json(struct run *r, const json_t *json, bool trusted, int depth, struct value *out);
size_t json_longest_text(const json_t *json, int depth);

/* ---- jinja_call.c, jinja_text.c ---- */

enum { ARGUMENTS_MAX = 16, PARAMETERS_MAX = 4 };

/* One call: as written, then sorted by the function's parameters. */
struct call {
    const char *name;
    struct value self; /* the object of a method, the value of a filter or test */
    struct value plain[ARGUMENTS_MAX];
    struct pair named[ARGUMENTS_MAX];
    int n_plain, n_named;
    const struct value *arg[PARAMETERS_MAX]; /* NULL: not given */
};

enum { IN_GLOBALS = 1, IN_FILTERS = 2, IN_TESTS = 4, IN_TEXTS = 8, IN_DICTS = 16, IN_LOOPS = 32 }; /* where a name is looked for; methods by the object's kind */

struct builtin {
    const char *name;
    unsigned places;
    const char *parameters; /* parted by blanks; NULL: it looks at plain and named itself */
    int (*run)(struct run *r, struct call *c, struct value *out);
};
struct function {
    const struct builtin *builtin;
    struct value self;
};

extern const struct builtin text_builtins[]; /* ended by a NULL name */

const struct builtin *builtin_find(unsigned place, struct marked name); /* NULL: there is none */
int builtin_run(struct run *r, const struct builtin *b, struct call *c, struct value *out);
int call_text(struct run *r, const struct call *c, int i, const char *fallback, struct marked *out); /* argument i, a text */
int call_int(struct run *r, const struct call *c, int i, int64_t fallback, int64_t *out);

/* ---- jinja_eval.c ---- */

int run_statements(struct run *r, const struct node *n);
int run_attribute(struct run *r, const struct value *of, struct marked name, struct value *out); /* dict keys and list indices, no methods */
int run_path(struct run *r, const struct value *of, struct marked path, struct value *out);      /* attribute="a.b": of each part in turn */

#endif
