/* SPDX-License-Identifier: Apache-2.0 */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "messages.h"

static volatile sig_atomic_t interrupted;
static const int caught[] = {SIGINT, SIGTERM};
static struct sigaction before[2];
static int asked; /* somebody asks: signals are caught */
static atomic_llong first_ns;

static void on_interrupt(int signal_number)
{
    interrupted = signal_number;
}

/* timeout(1) tells the program and then its group, within moments: those two are one. */
static void on_interrupt_once(int signal_number)
{
    const long long now = now_ns();
    long long never = 0;
    if (!atomic_compare_exchange_strong(&first_ns, &never, now) && now - never > 300000000 && interrupted == signal_number) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    interrupted = signal_number;
}

void terminal_prepare(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR); /* the lowest free number is fd; writing results there shall fail */
}

int terminal_interrupted(void)
{
    const struct sigaction action = {.sa_handler = on_interrupt_once};
    if (!asked && !interrupted)
        atomic_store(&first_ns, 0);
    for (int i = 0; i < 2 && !asked && !interrupted; i++)
        sigaction(caught[i], &action, &before[i]);
    asked |= !interrupted;
    return interrupted;
}

void terminal_catch(void)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    for (int i = 0; i < 2; i++)
        sigaction(caught[i], &action, asked ? NULL : &before[i]);
    asked = 1;
    interrupted = 0;
}

void terminal_release(void)
{
    for (int i = 0; i < 2 && asked; i++)
        sigaction(caught[i], &before[i], NULL);
    asked = 0;
}

int terminal_is(int fd)
{
    return isatty(fd);
}

int terminal_colour(const char *mode)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    if (strcmp(mode, "auto"))
        return !strcmp(mode, "on");
    return isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && term && strcmp(term, "dumb");
}

int terminal_flush(lsk_error *err)
{
    if (fflush(stdout) || ferror(stdout))
        return complain(err, LSK_EIO, "standard output: %s", strerror(errno));
    return 0;
}

int terminal_write(const char *text, size_t n, lsk_error *err)
{
    if (isatty(STDOUT_FILENO))
        print_reply(stdout, text, n);
    else
        fwrite(text, 1, n, stdout);
    return terminal_flush(err);
}

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct progress progress_start(int wanted)
{
    return (struct progress){.on = wanted && isatty(STDERR_FILENO), .start_ns = now_ns()};
}

static int show(struct progress *p, const char *what, uint64_t done, uint64_t total, double scale, const char *unit)
{
    int64_t now = now_ns();
    if (!p->what || strcmp(p->what, what)) {
        p->what = what;
        p->start_ns = now;
    }
    double seconds = (double)(now - p->start_ns) / 1e9, speed = seconds > 0 ? (double)done / seconds : 0;
    if (p->on && seconds > 0.3 && now - p->shown_ns > 100000000) {
        p->shown_ns = now;
        fprintf(stderr, "\r\033[K%s  %3.0f %%  %.2f %s  %.0f s left", what, total ? 100.0 * (double)done / (double)total : 0, speed / scale, unit,
                speed > 0 && total > done ? (double)(total - done) / speed : 0);
        fflush(stderr);
    }
    return terminal_interrupted();
}

int progress_show(void *progress, const char *what, uint64_t done, uint64_t total)
{
    return show(progress, what, done, total, 1e9, "GB/s");
}

int progress_tokens(struct progress *p, const char *what, int done, int total)
{
    return show(p, what, (uint64_t)done, (uint64_t)total, 1, "tokens/s");
}

void progress_line(struct progress *p, const char *text)
{
    p->shown_ns = now_ns();
    if (p->on)
        fprintf(stderr, "\r\033[K%s", text);
}

void progress_end(struct progress *p)
{
    if (p->on && p->shown_ns)
        fputs("\r\033[K", stderr);
    p->shown_ns = 0;
}
