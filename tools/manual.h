/* SPDX-License-Identifier: Apache-2.0 */
/* What is generated from the commands and their options beside --help: manual pages (mdoc) and completions. */
#ifndef TOOLS_MANUAL_H
#define TOOLS_MANUAL_H

#include "command.h"

/* commands: NULL-terminated. c: the one whose page it is, NULL: the program's own. date: "November 24, 2026". */
void manual_print(FILE *out, const struct command *const *commands, const struct command *c, const char *date);

/* shell: "bash", "zsh" or "fish"; LSK_EUSAGE for any other. */
int completion_print(FILE *out, const struct command *const *commands, const char *shell, lsk_error *err);

#endif
