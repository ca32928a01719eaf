/* SPDX-License-Identifier: Apache-2.0 */
/* What a person types: lines with editing and a history that stays (libedit), on a pipe or a dumb terminal plain lines. A message is one line, or several:
   with \ at the end of all but the last, between two """, or pasted. */
#ifndef TOOLS_LINE_H
#define TOOLS_LINE_H

#include "layerskip.h"

struct line;

enum line_result { LINE_TEXT, LINE_END /* Ctrl-D, or the end of the pipe */, LINE_CLEARED /* Ctrl-C with text typed */, LINE_INTERRUPTED /* without, or SIGTERM */ };

/* history: a file that need not be there, or NULL. colour: of the prompt. NULL with err set. Caller closes. */
struct line *line_open(const char *history, int colour, lsk_error *err);
void line_close(struct line *l); /* NULL is fine */

/* Is there a person? Else nothing but answers and errors is worth saying. */
int line_is_terminal(const struct line *l);

/* The next message, which the caller frees; on anything but LINE_TEXT *text is NULL. Below zero with err set. SIGINT must be caught (terminal_catch). */
int line_read(struct line *l, char **text, lsk_error *err);

/* The file of that name that keeps the history, $XDG_STATE_HOME/layerskip/NAME (or in ~/.local/state), its folder made. 0, or below zero: there is no place. */
int line_history_path(const char *name, char *out, size_t cap);

#endif
