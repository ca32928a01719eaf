/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_open(struct file *f, const char *path, struct error *err)
{
    struct stat st;
    *f = (struct file){.fd = -1};
    /* O_NONBLOCK: opening a pipe nobody writes to must not hang; it does nothing to a regular file. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(err, ERR_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(err, ERR_NOINPUT, "%s: not a regular file", path);
    }
    char *copy = strdup(path);
    if (!copy) {
        close(fd);
        return fail(err, ERR_OS, "out of memory");
    }
    *f = (struct file){.fd = fd, .size = (uint64_t)st.st_size, .path = copy};
    return 0;
}

void file_close(struct file *f)
{
    if (f->path)
        close(f->fd);
    free(f->path);
    *f = (struct file){.fd = -1};
}

int file_read_at(const struct file *f, uint64_t offset, void *out, size_t n, struct error *err)
{
    char *p = out;
    while (n) {
        ssize_t got = pread(f->fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(err, ERR_IO, "%s: reading at offset %llu: %s", f->path, (unsigned long long)offset, strerror(errno));
        if (got == 0)
            return fail(err, ERR_IO, "%s: ends at offset %llu, %zu bytes early: the file has changed while open", f->path,
                        (unsigned long long)offset, n);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

int file_slurp(const char *path, size_t limit, char **out, size_t *n, struct error *err)
{
    struct file f;
    int rc = file_open(&f, path, err);
    if (rc)
        return rc;
    char *p = NULL;
    if (f.size > limit) {
        rc = fail(err, ERR_DATA, "%s: %llu bytes, more than the %zu that such a file may have", path, (unsigned long long)f.size, limit);
    } else if (!(p = malloc((size_t)f.size + 1))) {
        rc = fail(err, ERR_OS, "%s: out of memory for %llu bytes", path, (unsigned long long)f.size);
    } else if (!(rc = file_read_at(&f, 0, p, (size_t)f.size, err))) {
        p[f.size] = 0;
        *out = p;
        *n = (size_t)f.size;
        p = NULL;
    }
    free(p);
    file_close(&f);
    return rc;
}

int file_create(struct file_out *o, const char *path, struct error *err)
{
    size_t n = strlen(path) + 32;
    *o = (struct file_out){.fd = -1, .path = strdup(path), .temp = malloc(n)};
    if (!o->path || !o->temp) {
        free(o->path);
        free(o->temp);
        *o = (struct file_out){.fd = -1};
        return fail(err, ERR_OS, "out of memory");
    }
    snprintf(o->temp, n, "%s.tmp-%ld", path, (long)getpid());
    o->fd = open(o->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        int rc = fail(err, ERR_CREATE, "%s: cannot create: %s", o->temp, strerror(errno));
        free(o->path);
        free(o->temp);
        *o = (struct file_out){.fd = -1};
        return rc;
    }
    return 0;
}

int file_write_at(struct file_out *o, uint64_t offset, const void *p, size_t n, struct error *err)
{
    const char *at = p;
    while (n) {
        ssize_t put = pwrite(o->fd, at, n, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail(err, ERR_IO, "%s: writing at offset %llu: %s", o->temp, (unsigned long long)offset, strerror(put ? errno : ENOSPC));
        at += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

int file_sync_folder(const char *path, struct error *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    const char *slash = memrchr(path, '/', n);
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!dir)
        return fail(err, ERR_OS, "out of memory");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    if (fd < 0 || fsync(fd))
        rc = fail(err, ERR_IO, "%s: cannot sync the folder: %s", dir, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(dir);
    return rc;
}

static int sync_data(struct file_out *o, struct error *err)
{
    int rc = 0, fd = o->fd;
    o->fd = -1;
    if (fsync(fd)) /* never retried: after a failed fsync the kernel has forgotten which pages were dirty */
        rc = fail(err, ERR_IO, "%s: cannot sync: %s", o->temp, strerror(errno));
    if (close(fd) && !rc)
        rc = fail(err, ERR_IO, "%s: cannot close: %s", o->temp, strerror(errno));
    return rc;
}

/* What has the final name gets another one; alone, a second one where the file system can: then there is no moment without it. */
static int set_aside(struct file_out *o, bool alone, struct error *err)
{
    struct stat st = {0};
    if (lstat(o->path, &st) && errno == ENOENT)
        return 0;
    size_t n = strlen(o->path) + 32;
    char *old = malloc(n);
    int rc = 0;
    if (!old)
        return fail(err, ERR_OS, "out of memory");
    snprintf(old, n, "%s.old-%ld", o->path, (long)getpid());
    if (S_ISDIR(st.st_mode))
        rc = fail(err, ERR_CREATE, "%s: a folder: give the name of a file", o->path);
    else if ((!alone || link(o->path, old)) && rename(o->path, old))
        rc = fail(err, ERR_CREATE, "%s: cannot rename to %s: %s", o->path, old, strerror(errno));
    if (rc)
        free(old);
    else
        o->old = old;
    return rc;
}

static int give_name(struct file_out *o, struct error *err)
{
    if (rename(o->temp, o->path))
        return fail(err, ERR_CREATE, "%s: cannot rename to %s: %s", o->temp, o->path, strerror(errno));
    free(o->temp);
    o->temp = NULL;
    return 0;
}

static void put_back(struct file_out *o, struct error *err)
{
    if (!o->temp && !o->old)
        unlink(o->path);
    else if (o->old && rename(o->old, o->path))
        error_prefix(err, "%s is now %s", o->path, o->old);
    else if (o->old)
        unlink(o->old); /* as long as both names were of one file the rename did nothing */
}

int files_commit(struct file_out *o, int n, struct error *err)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = sync_data(&o[i], err);
    for (int i = 0; i < n && !rc; i++)
        rc = set_aside(&o[i], n == 1, err);
    for (int i = n; i-- > 0 && !rc;)
        rc = give_name(&o[i], err);
    if (!rc)
        rc = file_sync_folder(o[0].path, err);
    for (int i = 0; i < n; i++) {
        if (rc)
            put_back(&o[i], err);
        else if (o[i].old)
            unlink(o[i].old);
        file_abandon(&o[i]);
    }
    return rc;
}

int file_commit(struct file_out *o, struct error *err) { return files_commit(o, 1, err); }

void file_abandon(struct file_out *o)
{
    if (o->path && o->fd >= 0)
        close(o->fd);
    if (o->temp)
        unlink(o->temp);
    free(o->old);
    free(o->temp);
    free(o->path);
    *o = (struct file_out){.fd = -1};
}
