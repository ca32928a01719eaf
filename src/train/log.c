/* SPDX-License-Identifier: Apache-2.0 */
#include "train/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_LIMIT = 1 << 30, ROW = 320 };

static const char header[] = "step,set,layer,tokens,seconds,rate,norm,speed,loss,ce,kl,accept,anchor,agree\n";

/* Bytes of the log up to the last whole row that is not behind `step`. */
static size_t kept(const char *text, size_t n, int step)
{
    size_t at = sizeof header - 1;
    if (n < at || memcmp(text, header, at))
        return 0;
    for (const char *stop; at < n && (stop = memchr(text + at, '\n', n - at)) && atoi(text + at) <= step;)
        at = (size_t)(stop - text) + 1;
    return at;
}

/* A new file with the rows that stay takes the old one's place. */
static int rewrite(const char *path, int step, struct error *err)
{
    char *text = NULL;
    size_t n = 0;
    struct file_out out = {.fd = -1};
    int rc = access(path, F_OK) ? 0 : file_slurp(path, LOG_LIMIT, &text, &n, err);
    if (!rc)
        rc = file_create(&out, path, err);
    if (!rc) {
        size_t keep = text ? kept(text, n, step) : 0;
        rc = keep ? file_write_at(&out, 0, text, keep, err) : file_write_at(&out, 0, header, sizeof header - 1, err);
    }
    if (!rc)
        rc = file_commit(&out, err);
    file_abandon(&out);
    free(text);
    return rc;
}

int log_open(struct log *l, const char *folder, int step, struct error *err)
{
    size_t n = strlen(folder) + 16;
    *l = (struct log){.fd = -1, .path = malloc(n)};
    if (!l->path)
        return fail(err, ERR_OS, "out of memory");
    snprintf(l->path, n, "%s/log.csv", folder);
    int rc = rewrite(l->path, step, err);
    if (!rc && (l->fd = open(l->path, O_WRONLY | O_APPEND | O_CLOEXEC)) < 0)
        rc = fail(err, ERR_CREATE, "%s: cannot open: %s", l->path, strerror(errno));
    if (rc)
        log_close(l);
    return rc;
}

void log_close(struct log *l)
{
    if (l->path && l->fd >= 0)
        close(l->fd);
    free(l->path);
    *l = (struct log){.fd = -1};
}

int log_write(struct log *l, const struct train_event *e, struct error *err)
{
    const bool stepped = e->kind == TRAIN_STEPPED;
    for (int i = 0; i < e->n; i++) {
        const struct train_result *r = &e->point[i].result;
        char row[ROW];
        int n = snprintf(row, sizeof row, "%d,%s,%d,%llu,%.3f,%.6g,%.6g,%.6g,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f\n", e->step, stepped ? "train" : "held", e->point[i].layer,
                         (unsigned long long)e->tokens, e->seconds, e->rate, e->norm, e->speed, e->loss, r->ce, r->kl, r->accept, r->anchor, r->agree);
        ssize_t put = write(l->fd, row, (size_t)n);
        if (put != n)
            return fail(err, ERR_IO, "%s: writing: %s", l->path, put < 0 ? strerror(errno) : "the disk is full");
    }
    return 0;
}
