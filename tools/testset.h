/* SPDX-License-Identifier: Apache-2.0 */
/* Test sets: rows of a file as prompts and references, in the tasks' published layouts, with shots and a template, in an order that a seed gives. Rows are read when they are wanted; in memory are
   their places alone. What cannot be used is said with its line and counted. */
#ifndef TOOLS_TESTSET_H
#define TOOLS_TESTSET_H

#include <stdint.h>

#include "common.h"
#include "table.h"

struct testset_args {
    const char *task, *path, *shots_path, *prompt_column, *response_column, *template;
    int n_shot, num_samples, random_shuffle; /* random_shuffle: below 0 for no */
    uint64_t data_seed;
};
extern const struct option testset_options[];

/* What a task's file looks like, and what is made of it. */
struct task {
    const char *name;
    const char *prompt, *response;       /* columns */
    const char *before, *between, *into; /* the prompt: before, its text, between; into begins the reference */
    const char *behind, *last;           /* a shot is prompt and reference and what is behind; then the last one's end */
    int words;                           /* above 0: the prompt is so many words of its text, the reference the rest */
    int one_line;                        /* line breaks of a shot's reference are blanks */
    int code;                            /* columns test and entry_point: a reply can be run */
    const char *const *stop;             /* what ends a reply that is run; NULL-terminated, or NULL */
};

/* Rows of one file that can be used. */
struct rows {
    struct table table;
    struct place {
        int64_t offset, line;
    } *place;
    int n, *order; /* [n] the places, shuffled */
    uint64_t hash; /* of the file */
};

struct testset {
    const struct testset_args *args;
    const struct task *task;
    struct rows rows, shot_rows;
    char *shots, *template_head, *template_tail;
    int code;       /* tests are wanted */
    int n_rows;     /* candidates: all but what are shots; in the order of order[] */
    int *order;
    int n, *sample; /* what testset_prepare took of them */
    int longest;    /* tokens of the longest prompt */
    int n_bad;
    int64_t *bad;   /* lines */
};

struct sample {
    int64_t line;
    char *prompt, *reference;
    int32_t *token; /* [n] the prompt */
    int n;
    char *bare, *test, *entry_point; /* the prompt without shots and template, and its tests; NULL where none are wanted */
};

/* Looks at all rows. code: their tests are wanted. Close it in any case. */
int testset_open(struct testset *d, const struct testset_args *a, int code, lsk_error *err);

/* Takes the samples: those whose prompts are tokens of the model, and leave room for one more in its context. how: bos and special. */
int testset_prepare(struct testset *d, const lsk_model *m, const struct prompt_args *how, lsk_error *err);
int testset_sample(struct testset *d, const lsk_model *m, const struct prompt_args *how, int i, struct sample *out, lsk_error *err);
void sample_free(struct sample *s);
void testset_close(struct testset *d);

#endif
