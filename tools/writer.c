/* SPDX-License-Identifier: Apache-2.0 */
#include "writer.h"

#include <stdio.h>

#include "terminal.h"

int writer_event(void *writer, const lsk_event *e)
{
    struct writer *w = writer;
    w->finish = e->finish;
    if (e->n_text) {
        if (w->colour && e->drafted != w->tinted)
            fputs(e->drafted ? "\033[32m" : "\033[0m", stdout);
        w->tinted = e->drafted;
        w->wrote = 1;
        w->failed = terminal_write(e->text, e->n_text, w->err);
    }
    return w->failed || terminal_interrupted();
}

int writer_end(struct writer *w, int wanted, int r)
{
    if (w->colour && w->tinted)
        fputs("\033[0m", stdout);
    if (w->wrote || (r >= 0 && wanted))
        fputc('\n', stdout);
    r = w->failed ? w->failed : r;
    return r < 0 ? r : terminal_flush(w->err);
}
