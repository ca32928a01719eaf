/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation with a model: its messages, how the model is asked, the last answer. */
#ifndef TOOLS_DIALOGUE_H
#define TOOLS_DIALOGUE_H

#include <jansson.h>

#include "constraints.h"
#include "layerskip.h"
#include "profile.h"
#include "summary.h"

struct dialogue {
    lsk_model *model;
    lsk_session *session;
    json_t *messages; /* as lsk_chat_render takes them; a system message is the first */
    lsk_chat_options how;
    lsk_generate_options ask;
    struct limit_values limits; /* these it borrows: */
    struct texts stop;
    char drafter[64];       /* of a file that was loaded */
    struct profile profile; /* how answers are drafted where nobody says otherwise */
    int colour, progress;
    lsk_stats stats;  /* of the last answer */
    struct reply_facts facts;
    int answered;     /* there was one */
};

/* The system message, or NULL. text NULL or "" removes it. */
const char *dialogue_system(const struct dialogue *d);
int dialogue_set_system(struct dialogue *d, const char *text, lsk_error *err);

/* Adds what the user says, streams the answer to stdout and adds it too. Where there is no answer (an error, or an interruption before its first word) the messages are as
   before. */
int dialogue_say(struct dialogue *d, const char *text, lsk_error *err);

int dialogue_again(struct dialogue *d, lsk_error *err); /* another answer to the last question; below zero where there is none */
int dialogue_undo(struct dialogue *d);                  /* forgets the last question and its answer; 0 where there is none */
int dialogue_clear(struct dialogue *d, lsk_error *err); /* forgets all but the system message */
int dialogue_turns(const struct dialogue *d);           /* questions so far */

/* {"messages": [...], "settings": {...}, "limits": {...}, "stop": [...], "drafting": {...}}: what /set, /spec and /exit-layer change, and the stop texts. A file that is there and is no conversation is never replaced. On failure all is as
   before. */
int dialogue_save(const struct dialogue *d, const char *path, lsk_error *err);
int dialogue_load(struct dialogue *d, const char *path, lsk_error *err);

/* What /set changes: numbers (temperature, top_p, and so on; i: NULL past the last), and the texts that are names of change_limits. */
struct setting {
    const char *name, *help;
    double (*get)(const lsk_generate_options *o);
    void (*set)(lsk_generate_options *o, double value);
    double min, max;
    int whole;
};
const struct setting *setting_at(int i);
int setting_change(struct dialogue *d, const char *name, const char *value, lsk_error *err);

#endif
