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

struct option_face option_face(const struct option *o)
{
    struct option_face f = {.negatable = o->type == OPT_FLAG && o->fallback, .value = o->choices || o->value};
    for (const char *name = o->names; *name; name = next_name(name)) {
        if (one_letter(name) && !f.letter)
            f.letter = name;
        else if (!one_letter(name) && !f.word)
            f.word = name;
    }
    return f;
}

int option_value(const struct option *o, char *out, size_t cap)
{
    int n = snprintf(out, cap, "%s", o->choices ? o->choices : o->value);
    for (char *c = out; o->choices && *c; c++)
        *c = *c == ' ' ? '|' : *c;
    return n;
}

/* "-m, --model PATH" */
static void describe_names(const struct option *o, char *out, size_t cap)
{
    const struct option_face f = option_face(o);
    size_t n = (size_t)snprintf(out, cap, f.letter ? "  -%.1s, " : "      ", f.letter);
    n += (size_t)snprintf(out + n, cap - n, "--%s%.*s", f.negatable ? "[no-]" : "", (int)strcspn(f.word, " "), f.word);
    if (f.value) {
        out[n++] = ' ';
        option_value(o, out + n, cap - n);
    }
}

void option_meaning(const struct option *o, char *out, size_t cap)
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
            option_meaning(o, meaning, sizeof meaning);
            int column = fprintf(out, "%s", names);
            if (column >= COLUMN - 1) {
                fputc('\n', out);
                column = 0;
            }
            print_wrapped(out, meaning, column);
        }
    }
}
