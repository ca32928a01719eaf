/* SPDX-License-Identifier: Apache-2.0 */
/* What `chat` does at lines that begin with a slash. */
#ifndef TOOLS_CHAT_COMMANDS_H
#define TOOLS_CHAT_COMMANDS_H

#include "dialogue.h"

enum { CHAT_ON = 0, CHAT_BYE = 1 };

/* line begins with '/'. What there is to say goes to stderr. CHAT_ON, CHAT_BYE, or below zero with err set. */
int chat_command(struct dialogue *d, char *line, lsk_error *err);

void chat_commands_describe(FILE *out);

#endif
