/* SPDX-License-Identifier: Apache-2.0 */
/* One table of options serves the command line, the environment, --help and whatever is generated from them later.
   `-` and `_` are equal in names, one dash is as good as two, "--name value" is "--name=value", and nothing may be abbreviated. */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "layerskip.h"
#include "values.h"

enum { TEXTS_MAX = 64, OPTIONS_MAX = 96 };

struct texts {
    int n;
    const char *item[TEXTS_MAX + 1]; /* NULL behind the last; borrowed from the command line or the environment */
};

enum option_type {
    OPT_FLAG,    /* int, 0 or 1; --no-NAME clears it */
    OPT_SAID,    /* int: 1 or -1 when it was said, else 0; like a flag, but "--name true" and "--name False" are taken too */
    OPT_INT,     /* int */
    OPT_SEED,    /* uint64_t; "-1" stands for UINT64_MAX */
    OPT_REAL,    /* double */
    OPT_TEXT,    /* const char * */
    OPT_CHOICE,  /* const char *: one of `choices`; --no-NAME is "none" where that is one of them */
    OPT_TEXTS,   /* struct texts: may be given several times */
    OPT_NUMBERS, /* struct numbers: "1,2,4", "1-8", "4-32+4", "1-64*2" */
    OPT_REALS    /* struct reals: "0,0.6" */
};

struct option {
    const char *names; /* parted by blanks; messages and the environment use the first */
    enum option_type type;
    size_t at;            /* where the value lies in the group's struct */
    const char *value;    /* what --help calls it: "N"; with choices those are shown instead. "PATH", "FILE..." and "FOLDER" are completed as such */
    const char *fallback; /* the default as one would write it, or NULL */
    double min, max;      /* of numbers, and of each number of a list */
    const char *choices;  /* of OPT_CHOICE, parted by blanks; of other texts: only for --help */
    const char *sets;     /* "name=value ...": what the option stands for when it is given, where those are not given themselves */
    const char *instead;  /* the option that this one replaces where a worse source gave it, as -f does with LAYERSKIP_PROMPT; texts only */
    const char *help;
};

struct option_group {
    const char *title;            /* NULL ends an array of groups */
    const struct option *options; /* an entry without names ends it */
    size_t at;                    /* where the group's struct lies in the command's */
};

enum { OPTIONS_OK = 0, OPTIONS_HELP = 1 };

/* Fills args (zeroed by the caller) from the defaults, then env ("LAYERSKIP_NAME=value" entries, NULL-terminated; empty ones are none), then
   argv[0..argc). bare: names of the options that arguments without a dash fill, in order, parted by blanks. Returns OPTIONS_OK, OPTIONS_HELP when
   help is asked for, or LSK_EUSAGE. */
int options_parse(const struct option_group *groups, void *args, const char *bare, int argc, char *const *argv, char *const *env, lsk_error *err);

/* A complaint that begins with an option, "--exit-layer: 9: ...", names the variable instead where that gave the value. args: as options_parse filled it. */
void options_blame(const struct option_group *groups, void *args, int argc, char *const *argv, char *const *env, lsk_error *err);

/* The options of a command as --help shows them. */
void options_describe(FILE *out, const struct option_group *groups);

/* Free text as manual.c has it, for a screen: lines of 100 columns at most; lines of one indentation go on, others begin anew, "  NAME   text" too. */
void prose_print(FILE *out, const char *text);

/* What one option looks like. */
struct option_face {
    const char *letter, *word; /* the first name of one letter, or NULL, and the first long one; the word ends at a blank */
    int negatable;             /* shown as --[no-]word */
    int value;                 /* it takes one */
};
struct option_face option_face(const struct option *o);
int option_value(const struct option *o, char *out, size_t cap);   /* "N", "auto|cpu|cuda"; returns its length */
void option_meaning(const struct option *o, char *out, size_t cap); /* help, what is legal, the default, other names */

#endif
