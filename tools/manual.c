/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages in mdoc. Free text (about, examples, more_help) has a simple form: a line that stands before an indented one is a heading, "  NAME   text" an entry,
   a line that is indented further goes on, and an empty line ends a paragraph. */
#include "manual.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_INDENT = 2, MORE_INDENT = 8 };

/* One piece of text as roff takes it: nothing in it is a request, a macro or an escape, and it can be copied from the screen. */
static void print_escaped(FILE *out, const char *text, size_t n)
{
    static const char *const escapes[128] = {['\\'] = "\\e", ['"'] = "\\(dq", ['-'] = "\\-", ['`'] = "\\(ga", ['\''] = "\\(aq", ['~'] = "\\(ti", ['^'] = "\\(ha"};
    fputs("\\&", out);
    for (size_t i = 0; i < n; i++) {
        const char *escape = text[i] > 0 ? escapes[(int)text[i]] : NULL;
        if (escape)
            fputs(escape, out);
        else
            fputc(text[i], out);
    }
}

/* An argument of a macro. */
static void print_quoted(FILE *out, const char *text, size_t n)
{
    fputs(" \"", out);
    print_escaped(out, text, n);
    fputc('"', out);
}

static void print_line(FILE *out, const char *text, size_t n)
{
    print_escaped(out, text, n);
    fputc('\n', out);
}

/* Text that is filled: a new sentence begins a new line, so that roff can space it. */
static void print_filled(FILE *out, const char *text, size_t n)
{
    size_t start = 0;
    for (size_t i = 1; i + 1 < n; i++)
        if (strchr(".?!", text[i - 1]) && text[i] == ' ') {
            print_line(out, text + start, i - start);
            start = i + 1;
        }
    print_line(out, text + start, n - start);
}

static size_t indent_of(const char *line)
{
    return strspn(line, " ");
}

/* The length of an entry's name: what stands before two blanks; 0 where there is none. */
static size_t entry_name(const char *text, size_t n)
{
    for (size_t i = 1; i + 1 < n; i++)
        if (text[i] == ' ' && text[i + 1] == ' ')
            return i;
    return 0;
}

struct page {
    FILE *out;
    int list; /* a list of entries is open */
    int text; /* there is something below the last heading */
    int gap;  /* the line before was empty */
};

static void end_list(struct page *p)
{
    if (p->list)
        fputs(".El\n", p->out);
    p->list = 0;
}

static void print_entry(struct page *p, const char *name, size_t n)
{
    if (!p->list)
        fputs(".Bl -tag -width Ds\n", p->out);
    p->list = 1;
    fputs(".It Sy", p->out);
    print_quoted(p->out, name, n);
    fputc('\n', p->out);
}

/* One line that is no heading and not empty. */
static void print_body(struct page *p, const char *text, size_t n, size_t indent)
{
    size_t name = indent == ENTRY_INDENT ? entry_name(text, n) : 0;
    if (name) {
        print_entry(p, text, name);
        name += indent_of(text + name);
    } else if (p->list && indent < MORE_INDENT) {
        end_list(p);
    } else if (p->gap && p->text) {
        fputs(".Pp\n", p->out);
    }
    print_filled(p->out, text + name, n - name);
    p->text = 1;
}

static void print_text(FILE *out, const char *text)
{
    struct page p = {.out = out};
    for (const char *line = text, *next; *line; line = next) {
        size_t n = strcspn(line, "\n"), indent = indent_of(line);
        next = line + n + (line[n] == '\n');
        if (!n) {
            end_list(&p);
        } else if (!indent && indent_of(next)) {
            end_list(&p);
            fputs(".Ss", out);
            print_quoted(out, line, n);
            fputc('\n', out);
            p.text = 0;
        } else {
            print_body(&p, line + indent, n - indent, indent);
        }
        p.gap = !n;
    }
    end_list(&p);
}

/* Lines as they are, less the indentation that --help gives them. */
static void print_literal(FILE *out, const char *text)
{
    fputs(".Bd -literal\n", out);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t n = strcspn(line, "\n"), indent = indent_of(line);
        indent = indent < ENTRY_INDENT ? indent : ENTRY_INDENT;
        if (n)
            print_line(out, line + indent, n - indent);
    }
    fputs(".Ed\n", out);
}

static void print_option(FILE *out, const struct option *o)
{
    const struct option_face face = option_face(o);
    char meaning[800];
    fputs(".It", out);
    if (face.letter)
        fprintf(out, " Fl %.1s ,", face.letter);
    fputs(" Fl", out);
    char name[64];
    int n = snprintf(name, sizeof name, "-%s%.*s", face.negatable ? "[no-]" : "", (int)strcspn(face.word, " "), face.word);
    print_quoted(out, name, (size_t)n);
    if (face.value) {
        fputs(" Ar", out);
        char value[160];
        n = option_value(o, value, sizeof value);
        print_quoted(out, value, (size_t)n);
    }
    fputc('\n', out);
    option_meaning(o, meaning, sizeof meaning);
    print_filled(out, meaning, strlen(meaning));
}

static void print_head(FILE *out, const char *name, const char *about, const char *date)
{
    char title[64];
    snprintf(title, sizeof title, "%s", name);
    for (char *c = title; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    fprintf(out, ".\\\" SPDX-License-Identifier: Apache-2.0\n.Dd %s\n.Dt %s 1\n.Os layerskip %s\n.Sh NAME\n.Nm %s\n.Nd", date, title, lsk_version(), name);
    fputc(' ', out);
    print_line(out, about, strlen(about));
}

static void print_common(FILE *out)
{
    fputs(".Sh EXIT STATUS\n"
          "0 when all went well; otherwise one line on stderr says why, and the status is one of\n"
          ".In sysexits.h :\n"
          "64 (usage), 65 (data), 66 (no input), 69 (no device), 70 (a bug), 71 (system), 73 (cannot create), 74 (input or output),\n"
          "77 (the hub refuses access), 78 (configuration).\n"
          "1 means that\n.Nm layerskip verify\nfound a reply that differs or nothing to compare, or\n.Nm layerskip info Fl \\-check\na weight that is no number.\n"
          "An interrupted command gives 128 and the number of the signal.\n",
          out);
}

static void print_command(FILE *out, const struct command *c, const char *date)
{
    char name[48];
    snprintf(name, sizeof name, "layerskip-%s", c->name);
    print_head(out, name, c->help, date);
    fprintf(out, ".Sh SYNOPSIS\n.Nm layerskip %s\n", c->name);
    print_line(out, c->usage, strlen(c->usage));
    fputs(".Sh DESCRIPTION\n", out);
    print_text(out, c->about);
    fputs(".Sh OPTIONS\nNames may be written with - or _.\n", out);
    for (const struct option_group *g = c->groups; g->title; g++) {
        fputs(".Ss", out);
        print_quoted(out, g->title, strlen(g->title));
        fputs("\n.Bl -tag -width Ds\n", out);
        for (const struct option *o = g->options; o->names; o++)
            print_option(out, o);
        fputs(".El\n", out);
    }
    char *more = NULL;
    size_t n;
    FILE *memory = c->more_help ? open_memstream(&more, &n) : NULL;
    if (memory) {
        c->more_help(memory);
        if (!fclose(memory)) {
            fputs(".Sh NOTES\n", out);
            print_text(out, more);
        }
        free(more);
    }
    fputs(".Sh ENVIRONMENT\nEvery option can also come from the environment, as LAYERSKIP_ and its first long name in capitals:\n"
          ".Fl \\-ctx\\-size Ar 4096\nis\n.Ev LAYERSKIP_CTX_SIZE Ns =4096 .\nThe command line wins.\n",
          out);
    print_common(out);
    fputs(".Sh EXAMPLES\n", out);
    print_literal(out, c->examples);
    fputs(".Sh SEE ALSO\n.Xr layerskip 1 ,\n.Xr layerskip\\-profile 5 ,\n.Xr layerskip 7\n", out);
}

static void print_program(FILE *out, const struct command *const *commands, const char *date)
{
    print_head(out, "layerskip", "runs Llama-type checkpoints; the first layers draft, all layers verify", date);
    fputs(".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar options\n.Nm\n.Fl \\-completion Cm bash | zsh | fish\n.Nm\n.Fl \\-version\n"
          ".Sh DESCRIPTION\nEach command has a page of its own, and\n.Nm Ar command Fl \\-help\nsays the same shorter.\nResults go to stdout, all else to stderr.\n"
          ".Bl -tag -width Ds\n",
          out);
    for (; *commands; commands++) {
        fprintf(out, ".It Xr layerskip\\-%s 1\n", (*commands)->name);
        print_line(out, (*commands)->help, strlen((*commands)->help));
    }
    fputs(".El\n.Pp\n.Fl \\-completion\nprints completions for a shell:\n.Dl source <(layerskip \\-\\-completion bash)\n", out);
    print_common(out);
    fputs(".Sh SEE ALSO\n.Xr layerskip 3 ,\n.Xr layerskip\\-profile 5 ,\n.Xr layerskip 7\n", out);
}

void manual_print(FILE *out, const struct command *const *commands, const struct command *c, const char *date)
{
    if (c)
        print_command(out, c, date);
    else
        print_program(out, commands, date);
}
