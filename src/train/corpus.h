/* SPDX-License-Identifier: Apache-2.0 */
/* From files of text to one file of tokens (dataset.h), made once.
     NAME.jsonl   a document for every line: {"text": "..."}, {"prompt": "...", "response": "..."} or {"tokens": [1, 2], "prompt_tokens": 1}
     any other    one document of UTF-8 text
   A row that cannot be used is reported with its line; more of them than are allowed end the work. */
#ifndef TRAIN_CORPUS_H
#define TRAIN_CORPUS_H

#include "text/tokenizer.h"
#include "train/dataset.h"

struct corpus {
    const char *const *file; /* [n_files] */
    int n_files; /* at most DATASET_SOURCES_MAX */
    const double *weight;    /* [n_files] how often a pass takes each file; NULL: once */
    const struct tokenizer *tokenizer;
    int vocab;      /* ids below this are tokens of the model */
    int32_t end;    /* put behind every text; -1: none. Rows of token ids stay as they are */
    bool special;   /* <|im_start|> and the like in the text are tokens */
    int bad_rows;   /* most that are passed over */
    void (*note)(void *ud, const char *line);                                   /* a row that was passed over; or NULL */
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* bytes; or NULL; non-zero stops with ERR_USAGE */
    void *ud;
};

/* Writes the file at `path`, or, when it is there, sees to it that it was made from the same files (by name, size, time and weight) with the same options. */
int corpus_make(const struct corpus *c, const char *path, struct error *err);

/* How often each token is there, prompts not counted: adds to count [vocab]. Nothing is written. */
int corpus_count(const struct corpus *c, uint64_t *count, struct error *err);

#endif
