/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that fails: the calls that put a file under its name, of which one can be made to fail. Include in one source of a test program; the program's own definitions win over libc's. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fault_at = -1;      /* this many calls still work, the next one fails; below zero: all work */
static uint64_t synced_folder; /* the inode of the last folder that was synced */

static bool fails(void)
{
    if (fault_at < 0 || fault_at-- > 0)
        return false;
    errno = EIO;
    return true;
}

int fsync(int fd)
{
    struct stat st;
    if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
        synced_folder = st.st_ino;
    return fails() ? -1 : (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) { return fails() ? -1 : renameat(AT_FDCWD, from, AT_FDCWD, to); }
int link(const char *from, const char *to) { return fails() ? -1 : linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

#endif
