/* SPDX-License-Identifier: Apache-2.0 */
/* The program's surroundings: standard streams, interruption, colour, progress, clock. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stddef.h>
#include <stdint.h>

#include "layerskip.h"

/* Gives every standard descriptor that is closed a stand-in, so that no file of ours gets its number. */
void terminal_prepare(void);

/* SIGINT and SIGTERM end the program at once, except while somebody asks for them: from the first call of terminal_interrupted (progress_show is one
   too) to terminal_release they only set what it returns: the signal that came, or 0. So work asks before it leaves anything that must be removed, goes
   on asking, and releases them when it is done. A second signal of one kind ends the program in any case, but not one right behind the
   first. */
int terminal_interrupted(void);
void terminal_release(void);

/* From here to terminal_release neither signal ends the program, however often it comes; and what came before is forgotten. */
void terminal_catch(void);
int terminal_is(int fd);

/* mode: "on", "off" or "auto": a terminal, TERM that is not "dumb" and no NO_COLOR. */
int terminal_colour(const char *mode);

/* To stdout at once, as print_reply has it at a terminal, elsewhere as it is. 0, or LSK_EIO. */
int terminal_write(const char *text, size_t n, lsk_error *err);
int terminal_flush(lsk_error *err);

int64_t now_ns(void);

/* One line on stderr that is rewritten while work goes on; nothing when stderr is no terminal. */
struct progress {
    int on;
    const char *what;
    int64_t start_ns, shown_ns;
};
struct progress progress_start(int wanted);
int progress_show(void *progress, const char *what, uint64_t done, uint64_t total); /* an lsk_progress_fn: non-zero once interrupted */
int progress_tokens(struct progress *p, const char *what, int done, int total);     /* the same in tokens */
void progress_line(struct progress *p, const char *text);                           /* shows this text, without figures */
void progress_end(struct progress *p);

#endif
