/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "options.h"

enum { COLUMN = 34, WIDTH = 118, NO_LIMIT = 1 << 20 /* a limit as large as that needs no telling */ };

static int one_letter(const char *name)
{
    return name[1] == ' ' || !name[1];
}

static const char *next_name(const char *name)
{
    name += strcspn(name, " ");
    return name + (*name == ' ');
}

/* "-m, --model PATH": the first one-letter name and the first long one. */
static void describe_names(const struct option *o, char *out, size_t cap)
{
    const char *letter = NULL, *word = NULL;
    size_t n = 0;
    for (const char *name = o->names; *name; name = next_name(name)) {
        if (one_letter(name) && !letter)
            letter = name;
        else if (!one_letter(name) && !word)
            word = name;
    }
    n += (size_t)snprintf(out, cap, letter ? "  -%.1s, " : "      ", letter);
    n += (size_t)snprintf(out + n, cap - n, "--%s%.*s", o->type == OPT_FLAG && o->fallback ? "[no-]" : "", (int)strcspn(word, " "), word);
    if (o->choices || o->value)
        snprintf(out + n, cap - n, " %s", o->choices ? o->choices : o->value);
    for (char *c = out + n + 1; o->choices && n + 1 < cap && *c; c++)
        *c = *c == ' ' ? '|' : *c;
}

/* Help text, what is legal, the default, and the other names. */
static void describe_meaning(const struct option *o, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "%s", o->help);
    const char *separator = "; also ";
    if (o->min < o->max)
        n += (size_t)snprintf(out + n, cap - n, o->max < NO_LIMIT ? " [%.15g to %.15g]" : " [%.15g or more]", o->min, o->max);
    if (o->fallback && o->type != OPT_FLAG)
        n += (size_t)snprintf(out + n, cap - n, " (default %s)", o->fallback);
    else if (o->fallback)
        n += (size_t)snprintf(out + n, cap - n, " (default on)");
    int first = 1;
    for (const char *name = o->names; *name; name = next_name(name)) {
        if (one_letter(name))
            continue;
        if (!first) {
            n += (size_t)snprintf(out + n, cap - n, "%s--%.*s", separator, (int)strcspn(name, " "), name);
            separator = ", ";
        }
        first = 0;
    }
}

static void print_wrapped(FILE *out, const char *text, int column)
{
    for (const char *p = text; *p;) {
        size_t n = strlen(p), room = WIDTH - COLUMN;
        if (n > room)
            for (n = room; n > 1 && p[n] != ' '; n--)
                ;
        fprintf(out, "%*s%.*s\n", COLUMN - column, "", (int)n, p);
        column = 0;
        p += n;
        p += strspn(p, " ");
    }
}

void options_describe(FILE *out, const struct option_group *groups)
{
    for (const struct option_group *g = groups; g->title; g++) {
        fprintf(out, "\n%s\n", g->title);
        for (const struct option *o = g->options; o->names; o++) {
            char names[160], meaning[800];
            describe_names(o, names, sizeof names);
            describe_meaning(o, meaning, sizeof meaning);
            int column = fprintf(out, "%s", names);
            if (column >= COLUMN - 1) {
                fputc('\n', out);
                column = 0;
            }
            print_wrapped(out, meaning, column);
        }
    }
}
