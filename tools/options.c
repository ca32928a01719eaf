/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <limits.h>
#include <string.h>

#include "messages.h"

/* Who gave a value: a later one replaces an earlier one. */
enum source { FROM_DEFAULT, FROM_PRESET, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

struct parser {
    const struct option_group *groups;
    const char *bare; /* the options that arguments without a dash fill */
    char *args;
    unsigned char source[OPTIONS_MAX]; /* of each option's value, in the order of the groups */
    lsk_error *err;
};

struct place {
    const struct option *option;
    char *value;
    unsigned char *source;
};

/* The option at place `index` counted through all groups; 0 when there are not so many. */
static int option_at(struct parser *p, int index, struct place *out)
{
    int i = index;
    for (const struct option_group *g = p->groups; g->title; g++)
        for (const struct option *o = g->options; o->names; o++)
            if (!i--) {
                *out = (struct place){o, p->args + g->at + o->at, &p->source[index]};
                return index < OPTIONS_MAX;
            }
    return 0;
}

static int same(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && !((a[i] == '_' || a[i] == '-') && (b[i] == '_' || b[i] == '-')))
            return 0;
    return 1;
}

/* The word of a list that equals name: its length is at *n. */
static const char *word_of(const char *words, const char *name, size_t n_name, size_t *n)
{
    for (const char *w = words; w && *w; w += *n + (w[*n] == ' ')) {
        *n = strcspn(w, " ");
        if (*n == n_name && same(w, name, n_name))
            return w;
    }
    return NULL;
}

static int find(struct parser *p, const char *name, size_t n, struct place *out)
{
    size_t length;
    for (int i = 0; option_at(p, i, out); i++)
        if (word_of(out->option->names, name, n, &length))
            return 1;
    return 0;
}

/* bad: NO_NUMBER, TOO_LARGE, or 0 for a number outside the option's range. */
static int range_error(struct parser *p, const struct option *o, const char *name, const char *text, int bad)
{
    static const struct {
        enum option_type type;
        const char *not_one, *wanted;
    } kinds[] = {{OPT_INT, "must be a whole number", "a whole number"},
                 {OPT_REAL, "is not a number: give a number", "a number"},
                 {OPT_NUMBERS, "is not a list of whole numbers: give numbers", "whole numbers"},
                 {OPT_REALS, "is not a list of numbers: give numbers", "numbers"}};
    size_t i = 0;
    while (kinds[i].type != o->type)
        i++;
    if (bad == NO_NUMBER)
        return complain(p->err, LSK_EUSAGE, "%s: \"%s\" %s from %.15g to %.15g", name, excerpt_of(text).text, kinds[i].not_one, o->min, o->max);
    return complain(p->err, LSK_EUSAGE, "%s: \"%s\" is out of range: give %s from %.15g to %.15g", name, excerpt_of(text).text, kinds[i].wanted, o->min, o->max);
}

static int outside(const struct option *o, double v)
{
    return v < o->min || v > o->max;
}

static int store_number(struct parser *p, struct place at, const char *name, const char *text)
{
    const struct option *o = at.option;
    struct numbers *list = (struct numbers *)at.value;
    struct reals *reals = (struct reals *)at.value;
    int64_t whole = 0;
    double real = 0;
    int bad, out = 0;
    if (o->type == OPT_NUMBERS) {
        bad = read_numbers(text, list);
        for (int i = 0; !bad && i < list->n; i++)
            out |= outside(o, list->value[i]);
    } else if (o->type == OPT_REALS) {
        bad = read_reals(text, reals);
        for (int i = 0; !bad && i < reals->n; i++)
            out |= outside(o, reals->value[i]);
    } else if (o->type == OPT_REAL) {
        bad = read_real(text, &real);
        out = !bad && outside(o, real);
        memcpy(at.value, &real, sizeof real);
    } else {
        bad = read_whole(text, &whole);
        out = !bad && outside(o, (double)whole);
        if (!bad && !out)
            *(int *)at.value = (int)whole;
    }
    return bad || out ? range_error(p, o, name, text, bad) : 0;
}

/* 1, 0, or -1 for a text that is neither. */
static int on_or_off(const char *text)
{
    size_t n = strlen(text), length;
    return word_of("1 on true True yes enabled", text, n, &length) ? 1 : word_of("0 off false False no disabled", text, n, &length) ? 0 : -1;
}

static int store_flag(struct parser *p, struct place at, const char *name, const char *text)
{
    int on = on_or_off(text);
    if (on < 0)
        return complain(p->err, LSK_EUSAGE, "%s: \"%s\" is neither on nor off", name, excerpt_of(text).text);
    *(int *)at.value = on || at.option->type == OPT_FLAG ? on : -1;
    return 0;
}

static int store_seed(struct parser *p, struct place at, const char *name, const char *text)
{
    uint64_t seed = UINT64_MAX;
    if (strcmp(text, "-1") && read_natural(text, &seed) < 0)
        return complain(p->err, LSK_EUSAGE, "%s: \"%s\" is not a seed: give a whole number from 0 to 2^64 - 1, or -1 for another one each time", name,
                        excerpt_of(text).text);
    memcpy(at.value, &seed, sizeof seed);
    return 0;
}

static int store_text(struct parser *p, struct place at, const char *name, const char *text)
{
    const struct option *o = at.option;
    char near[64];
    size_t n;
    int best = 99;
    if (o->type == OPT_CHOICE) {
        const char *word = word_of(o->choices, text, strlen(text), &n);
        if (!word) {
            int found = suggest(o->choices, text, near, sizeof near, &best);
            return complain(p->err, LSK_EUSAGE, "%s: \"%s\" is none of: %s%s%s%s", name, excerpt_of(text).text, o->choices,
                            found ? " (did you mean " : "", found ? near : "", found ? "?)" : "");
        }
    }
    memcpy(at.value, &text, sizeof text);
    return 0;
}

static int store_texts(struct parser *p, struct place at, const char *name, const char *text)
{
    struct texts *list = (struct texts *)at.value;
    if (list->n == TEXTS_MAX)
        return complain(p->err, LSK_EUSAGE, "%s: given more than %d times", name, TEXTS_MAX);
    list->item[list->n++] = text;
    return 0;
}

/* Of what stands without a dash there is one: of two models the first would be dropped without a word. */
static int refuse_second(struct parser *p, struct place at, const char *text)
{
    const char *first;
    memcpy(&first, at.value, sizeof first);
    return complain(p->err, LSK_EUSAGE, "--%.*s is given twice, \"%s\" and \"%s\": give one of them", (int)strcspn(at.option->names, " "), at.option->names, excerpt_of(first).text,
                    excerpt_of(text).text);
}

/* Stores a value unless a better source has given one; a first value of a better source replaces lists instead of adding to them. */
static int store(struct parser *p, struct place at, enum source source, const char *name, const char *text)
{
    static int (*const by_type[])(struct parser *, struct place, const char *, const char *) = {
        store_flag, store_flag, store_number, store_seed, store_number, store_text, store_text, store_texts, store_number, store_number};
    enum option_type type = at.option->type;
    size_t n, n_name = strcspn(at.option->names, " ");
    if (source < *at.source)
        return 0;
    if (type == OPT_TEXT && source == FROM_COMMAND_LINE && *at.source == source && word_of(p->bare, at.option->names, n_name, &n))
        return refuse_second(p, at, text);
    if (type >= OPT_NUMBERS || (type == OPT_TEXTS && source > *at.source))
        *(int *)at.value = 0; /* the count of a list comes first in its struct */
    *at.source = (unsigned char)source;
    return by_type[type](p, at, name, text);
}

static int unknown(struct parser *p, const char *argument, const char *name, size_t n)
{
    char given[64], near[64] = "";
    struct place at;
    int best = 99;
    snprintf(given, sizeof given, "%.*s", (int)(n < 63 ? n : 63), name);
    for (char *c = given; *c; c++)
        *c = *c == '_' ? '-' : *c;
    suggest("help", given, near, sizeof near, &best);
    for (int i = 0; option_at(p, i, &at); i++)
        suggest(at.option->names, given, near, sizeof near, &best);
    if (*near)
        return complain(p->err, LSK_EUSAGE, "unknown option \"%s\": did you mean --%s?", excerpt_of(argument).text, near);
    return complain(p->err, LSK_EUSAGE, "unknown option \"%s\"", excerpt_of(argument).text);
}

static int needs_value(struct parser *p, const struct option *o, const char *name)
{
    if (o->type == OPT_CHOICE)
        return complain(p->err, LSK_EUSAGE, "%s needs a value, one of: %s", name, o->choices);
    return complain(p->err, LSK_EUSAGE, "%s needs a value: %s", name, o->value ? o->value : o->choices);
}

static int is_switch(const struct option *o)
{
    return o->type == OPT_FLAG || o->type == OPT_SAID;
}

/* argv[*i] starts with a dash: stores its value, which may be the next argument. */
static int take_option(struct parser *p, int argc, char *const *argv, int *i)
{
    const char *argument = argv[*i], *name = argument + 1 + (argument[1] == '-'), *equals = strchr(name, '='), *value = equals ? equals + 1 : NULL;
    size_t n = equals ? (size_t)(equals - name) : strlen(name), length;
    struct place at;
    char shown[80];
    if (!find(p, name, n, &at)) {
        if (n < 4 || !same(name, "no-", 3) || !find(p, name + 3, n - 3, &at) || value ||
            (!is_switch(at.option) && !word_of(at.option->choices, "none", 4, &length)))
            return unknown(p, argument, name, n);
        value = is_switch(at.option) ? "off" : "none";
    } else if (!value && is_switch(at.option) && !(at.option->type == OPT_SAID && *i + 1 < argc && on_or_off(argv[*i + 1]) >= 0)) {
        value = "on";
    }
    snprintf(shown, sizeof shown, "%.*s", (int)(name - argument + (long)n), argument);
    if (!value && *i + 1 >= argc)
        return needs_value(p, at.option, shown);
    return store(p, at, FROM_COMMAND_LINE, shown, value ? value : argv[++*i]);
}

/* All that may stand without a dash stands there already. */
static int unexpected(struct parser *p, const char *argument)
{
    struct place at;
    if (find(p, "prompt", 6, &at))
        return complain(p->err, LSK_EUSAGE, "unexpected argument \"%s\": one model is enough, and text goes behind -p", excerpt_of(argument).text);
    if (*p->bare && !strchr(p->bare, ' ') && find(p, p->bare, strlen(p->bare), &at))
        return refuse_second(p, at, argument);
    return complain(p->err, LSK_EUSAGE, "unexpected argument \"%s\": this command takes no more of them", excerpt_of(argument).text);
}

static int take_bare(struct parser *p, const char **bare, const char *argument)
{
    struct place at;
    size_t n = strcspn(*bare, " ");
    if (!n || !find(p, *bare, n, &at))
        return unexpected(p, argument);
    *bare += n + ((*bare)[n] == ' ');
    return store(p, at, FROM_COMMAND_LINE, at.option->value, argument);
}

/* "LAYERSKIP_TOP_K" for "top-k ..." */
static size_t environment_name(const struct option *o, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "LAYERSKIP_%.*s", (int)strcspn(o->names, " "), o->names);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    return n;
}

static int take_environment(struct parser *p, char *const *env)
{
    struct place at;
    int r = 0;
    for (int i = 0; !r && option_at(p, i, &at); i++) {
        char name[80];
        size_t n = environment_name(at.option, name, sizeof name);
        for (char *const *e = env; !r && e && *e; e++)
            if (!strncmp(*e, name, n) && (*e)[n] == '=' && (*e)[n + 1])
                r = store(p, at, FROM_ENVIRONMENT, name, *e + n + 1);
    }
    return r;
}

static int take_defaults(struct parser *p)
{
    struct place at;
    int r = 0;
    for (int i = 0; !r && option_at(p, i, &at); i++)
        if (at.option->fallback)
            r = store(p, at, FROM_DEFAULT, at.option->names, at.option->fallback);
    return r;
}

/* An option that stands for others: "temp=0.6 top-p=0.9". Numbers only: a text would have to outlive this call. */
static int take_preset(struct parser *p, const struct option *o)
{
    struct place target;
    int r = 0;
    for (const char *s = o->sets; !r && *s; s += *s == ' ') {
        char value[32];
        size_t n = strcspn(s, "="), n_value = strcspn(s + n + 1, " ");
        snprintf(value, sizeof value, "%.*s", (int)n_value, s + n + 1);
        if (find(p, s, n, &target))
            r = store(p, target, FROM_PRESET, o->names, value);
        s += n + 1 + n_value;
    }
    return r;
}

static int take_presets(struct parser *p)
{
    struct place at;
    int r = 0;
    for (int i = 0; !r && option_at(p, i, &at); i++)
        if (at.option->sets && *at.source >= FROM_ENVIRONMENT)
            r = take_preset(p, at.option);
    return r;
}

/* Of two options that exclude each other the one from the better source counts; equal sources are the command's to judge. */
static void drop_replaced(struct parser *p)
{
    struct place at, other;
    for (int i = 0; option_at(p, i, &at); i++)
        if (at.option->instead && find(p, at.option->instead, strlen(at.option->instead), &other) && *other.source < *at.source)
            memset(other.value, 0, sizeof(const char *));
}

int options_parse(const struct option_group *groups, void *args, const char *bare, int argc, char *const *argv, char *const *env, lsk_error *err)
{
    struct parser p = {.groups = groups, .bare = bare, .args = args, .err = err};
    int r = take_defaults(&p), only_bare = 0;
    if (!r)
        r = take_environment(&p, env);
    for (int i = 0; !r && i < argc; i++) {
        if (!only_bare && !strcmp(argv[i], "--"))
            only_bare = 1;
        else if (!only_bare && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")))
            return OPTIONS_HELP;
        else if (!only_bare && argv[i][0] == '-' && argv[i][1])
            r = take_option(&p, argc, argv, &i);
        else
            r = take_bare(&p, &bare, argv[i]);
    }
    if (!r)
        drop_replaced(&p);
    return r ? r : take_presets(&p);
}

void options_blame(const struct option_group *groups, void *args, int argc, char *const *argv, char *const *env, lsk_error *err)
{
    struct parser p = {.groups = groups, .args = args, .err = err};
    struct place at, given;
    char name[80], text[sizeof err->text];
    if (strncmp(err->text, "--", 2) || !find(&p, err->text + 2, strcspn(err->text + 2, ": "), &at))
        return;
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
        const char *option = argv[i] + strspn(argv[i], "-");
        if (option > argv[i] && find(&p, option, strcspn(option, "="), &given) && given.option == at.option)
            return;
    }
    size_t n = environment_name(at.option, name, sizeof name);
    for (char *const *e = env; e && *e; e++)
        if (!strncmp(*e, name, n) && (*e)[n] == '=' && (*e)[n + 1]) {
            snprintf(text, sizeof text, "%s%.400s", name, err->text + 2 + strcspn(err->text + 2, ": "));
            strcpy(err->text, text);
            return;
        }
}
