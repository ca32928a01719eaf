/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the CSV of a sweep: what is read can be looked through, and a sweep that goes on with it keeps every row that it has. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sweep_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void look_through(const struct sweep_log *l)
{
    char word[64];
    must(!*sweep_key_word(l->key, "model", word, sizeof word) || strlen(word) < sizeof word);
    for (int i = 0; i < l->n; i++) {
        const struct sweep_cell *c = &l->cell[i];
        must(sweep_log_find(l, c) && sweep_log_first(l, c) <= c && memchr(c->drafter, 0, sizeof c->drafter) && memchr(c->date, 0, sizeof c->date));
    }
    must(!sweep_log_best(l) || l->n > 0);
}

static void go_on(struct sweep_log *l, int rows)
{
    lsk_error err = {0};
    const struct sweep_cell more = {.drafter = "exit", .exit_layer = 2, .drafts = 3, .tokens = 10, .rounds = 5, .repetitions = 1, .speedup = 1, .date = "2026-11-24"};
    must(l->n == rows && !sweep_log_add(l, &more, &err) && l->n == rows + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    lsk_error err = {0};
    struct sweep_log l = {0}, next = {0};
    int fd = memfd_create("sweep", 0);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int read = sweep_log_read(&l, path, &err);
    must(!read || (read < 0 && *err.text && !strchr(err.text, '\n')));
    if (!read)
        look_through(&l);
    memcpy(next.key, l.key, sizeof next.key);
    err = (lsk_error){0};
    if (!sweep_log_open(&next, path, &err)) {
        go_on(&next, next.n);
        const int rows = next.n;
        struct sweep_log again = {0};
        must(!sweep_log_read(&again, path, &err) && again.n == rows);
        sweep_log_close(&again);
    } else {
        must(*err.text && !strchr(err.text, '\n'));
    }
    sweep_log_close(&next);
    sweep_log_close(&l);
    close(fd);
    return 0;
}
