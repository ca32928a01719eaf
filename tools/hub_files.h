/* SPDX-License-Identifier: Apache-2.0 */
/* Which files of a repository make a model: the same rule for what the hub lists and for what the cache holds. */
#ifndef TOOLS_HUB_FILES_H
#define TOOLS_HUB_FILES_H

#include <stddef.h>

#include "layerskip.h"

struct names {
    int n, cap;
    char **name;
};
int names_add(struct names *l, const char *name, lsk_error *err);
void names_sort(struct names *l); /* each stays once */
const char *names_find(const struct names *sorted, const char *name); /* NULL: it is not there */
void names_free(struct names *l);

/* May a name from outside become part of a path? Relative, no ".", ".." or empty part, printable. */
int name_is_safe(const char *name);
int name_matters(const char *name); /* has it to do with models? Others are not even listed. */
/* "ORG/NAME" or "NAME", as the hub allows them. */
int repository_is_valid(const char *id);

/* One model of a repository: a GGUF file with all its parts, or a folder of safetensors. */
struct model_files {
    struct names files; /* in the order to fetch them, weights last: who has the last one has all */
    const char *open;   /* the file to open, or "": the folder. One of the names that it was made from */
    char type[64];      /* "Q4_1" of the file's name, "" where it has none; "safetensors" */
    char label[1024];   /* what follows ORG/NAME to name it, and it alone: the type, else the file, else the file with its folders */
};
struct models {
    int n;
    struct model_files *model;
};

/* All models among sorted names, which must outlive them; one with missing parts is none. Caller frees them, also after an error. */
int models_find(const struct names *all, struct models *out, lsk_error *err);
void models_free(struct models *l);

/* The one that `want` names: a file (with its folders, else by its last part), a type such as Q4_1 in any case, or "safetensors"; NULL is Q8_0, else Q4_1, else the
   first GGUF file, else the folder. 0, or LSK_ENOINPUT with a text that begins with what is wrong and lists what is there. others: "Q4_0, Q8_0" where want is NULL and
   there was a choice, else "". */
int choose_model(const struct names *all, const char *want, struct model_files *out, char *others, size_t cap, lsk_error *err);

#endif
