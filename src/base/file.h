/* SPDX-License-Identifier: Apache-2.0 */
/* Files: opened once, only regular ones, read with pread (no mmap: a file that shrinks is an error, not a signal),
   written under a temporary name and renamed when complete. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct file {
    int fd;
    uint64_t size; /* bytes when it was opened */
    char *path;    /* for messages; owned */
};

/* ERR_NOINPUT when missing, unreadable or not a regular file (a folder, pipe or device is never read). Caller closes; on failure nothing is held. */
int file_open(struct file *f, const char *path, struct error *err);
void file_close(struct file *f); /* a zeroed struct is fine */

/* Exactly n bytes from offset, or ERR_IO naming file and offset (also when the file has become shorter). */
int file_read_at(const struct file *f, uint64_t offset, void *out, size_t n, struct error *err);

/* The whole file with a zero byte behind it, or ERR_DATA when it is larger than limit. Caller frees *out. */
int file_slurp(const char *path, size_t limit, char **out, size_t *n, struct error *err);

/* Output: written to "PATH.tmp-PID", made visible by a commit. */
struct file_out {
    int fd;
    char *path, *temp, *old; /* owned */
};
int file_create(struct file_out *o, const char *path, struct error *err);
int file_write_at(struct file_out *o, uint64_t offset, const void *p, size_t n, struct error *err); /* threads may write disjoint ranges */
void file_abandon(struct file_out *o); /* removes the temporary file; fine after a commit or on zeroes */

/* Makes n >= 1 files of one folder visible together: all are synced; what they replace is set aside as "PATH.old-PID"; they are renamed, the first one last; the folder is synced;
   what was set aside is removed. On failure every PATH is as before and nothing else is left. That is what the running system sees: after a failed sync of the folder nobody can
   say which of the two a crash would leave. A crash in the middle of several leaves no mixture of old and new (the old ones are set aside first); a single one is replaced in one step. */
int files_commit(struct file_out *o, int n, struct error *err);
int file_commit(struct file_out *o, struct error *err); /* of one */

/* After a rename the new name in the folder around PATH (a file or a folder, also with a slash at its end) must reach the disk too. */
int file_sync_folder(const char *path, struct error *err);

#endif
