/* SPDX-License-Identifier: Apache-2.0 */
#include "folders.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int make_folders(char *path)
{
    int bad = 0;
    for (char *c = strchr(path + 1, '/'); c && !bad; c = strchr(c + 1, '/')) {
        *c = 0;
        bad = mkdir(path, 0777) && errno != EEXIST;
        *c = '/';
    }
    return bad;
}

int sync_folder(char *path)
{
    char *last = strrchr(path, '/'), *name = last ? last + 1 : path, first = *name;
    *name = 0;
    int fd = open(*path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), bad = fd < 0 || fsync(fd);
    *name = first;
    if (fd >= 0)
        close(fd);
    return bad;
}
