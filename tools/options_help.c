/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "options.h"

enum { COLUMN = 34, WIDTH = 100, NO_LIMIT = 1 << 20 /* a limit as large as that needs no telling */ };

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

/* Characters, not bytes. */
static int columns_of(const char *text, size_t n)
{
    int columns = 0;
    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)text[i] & 0xc0) != 0x80;
    return columns;
}

/* Words from `column` on, further lines from `indent` on. Returns the column behind them; the line is not ended. */
static int print_words(FILE *out, const char *text, size_t n, int indent, int column)
{
    for (const char *p = text, *end = text + n; p < end;) {
        const char *blank = memchr(p, ' ', (size_t)(end - p));
        size_t length = (size_t)((blank ? blank : end) - p);
        int width = columns_of(p, length), begins = column <= indent;
        if (!begins && column + 1 + width > WIDTH) {
            fputc('\n', out);
            column = 0;
            begins = 1;
        }
        column += fprintf(out, "%*s", begins ? indent - column : 1, "");
        fwrite(p, 1, length, out);
        column += width;
        p += length + 1;
        p += p < end ? strspn(p, " ") : 0;
    }
    return column;
}

/* Where the text of "  NAME   text" begins; the indentation of a line that is no such entry. */
static int text_column(const char *line, size_t n, size_t indent)
{
    const char *gap = indent == 2 ? memmem(line + 2, n - 2, "  ", 2) : NULL;
    return gap ? (int)((size_t)(gap - line) + strspn(gap, " ")) : (int)indent;
}

void prose_print(FILE *out, const char *text)
{
    int column = 0, hang = 0;
    for (const char *line = text, *next; *line; line = next) {
        size_t n = strcspn(line, "\n"), indent = strspn(line, " ");
        int start = n ? text_column(line, n, indent) : 0, goes_on = column && start == (int)indent && (start == hang || (hang > 2 && start > 2));
        next = line + n + (line[n] == '\n');
        if (!goes_on) {
            fputs(column ? "\n" : "", out);
            column = 0;
            hang = start;
            if (start > (int)indent)
                column = fprintf(out, "%.*s", start, line);
        }
        if (n)
            column = print_words(out, line + start, n - (size_t)start, hang, column);
        else
            fputc('\n', out);
    }
    fputs(column ? "\n" : "", out);
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
            print_words(out, meaning, strlen(meaning), COLUMN, column);
            fputc('\n', out);
        }
    }
}
