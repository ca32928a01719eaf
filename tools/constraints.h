/* SPDX-License-Identifier: Apache-2.0 */
/* What a reply may say: penalties, biases, a grammar or a JSON schema, as several commands take them. */
#ifndef TOOLS_CONSTRAINTS_H
#define TOOLS_CONSTRAINTS_H

#include "layerskip.h"
#include "options.h"

struct limit_args {
    double repeat, presence, frequency;
    int last_n;
    struct texts bias;
    const char *grammar, *grammar_file, *schema, *schema_file;
};
extern const struct option limit_options[];

/* What lsk_generate_options borrows of them. */
struct limit_values {
    lsk_logit_bias bias[TEXTS_MAX];
    char *text; /* of the grammar or the schema */
};

/* Into *o, which borrows *own. Files are read. */
int apply_limits(const struct limit_args *a, struct limit_values *own, lsk_generate_options *o, lsk_error *err);
void free_limits(struct limit_values *own); /* zeroes are fine */

/* What the library shall be asked: a window of 0 is none everywhere in the program, where the library takes 64. */
lsk_generate_options without_window(const lsk_generate_options *o);

/* Does this model take them? Its tokenizer will do. Messages name the file where the text is from one. */
int check_limits(const struct limit_args *a, const lsk_model *m, const lsk_generate_options *o, lsk_error *err);

/* "15043+1", "15043-1.5", "15043-inf". 0, or below zero where it is none of these. */
int read_bias(const char *text, lsk_logit_bias *out);

/* Another grammar ("grammar") or schema ("json_schema") in place of whichever there is, or none ("" as text); or ("logit_bias") one bias more, or none at all. On failure all is as before. */
int change_limits(struct limit_values *own, lsk_generate_options *o, const lsk_model *m, const char *name, const char *text, lsk_error *err);

#endif
