/* SPDX-License-Identifier: Apache-2.0 */
#include "whole_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folders.h"
#include "messages.h"

int whole_open(struct whole_file *w, const char *path, lsk_error *err)
{
    *w = (struct whole_file){.path = path};
    int fit = snprintf(w->temp, sizeof w->temp, "%s.tmp-%ld", path, (long)getpid()) < (int)sizeof w->temp;
    w->f = fit ? fopen(w->temp, "we") : NULL;
    return w->f ? 0 : complain(err, LSK_ECREATE, "%s: cannot create: %s", excerpt_of(path).text, fit ? strerror(errno) : "the name is too long");
}

int whole_close(struct whole_file *w, int r, lsk_error *err)
{
    struct stat st;
    if (r >= 0 && (fflush(w->f) || ferror(w->f) || fsync(fileno(w->f)) || fstat(fileno(w->f), &st)))
        r = complain(err, LSK_EIO, "%s: cannot write: %s", excerpt_of(w->path).text, strerror(errno));
    else if (r >= 0 && !st.st_size)
        r = complain(err, LSK_EIO, "%s: nothing was written", excerpt_of(w->path).text);
    fclose(w->f);
    if (r >= 0 && rename(w->temp, w->path))
        r = complain(err, LSK_ECREATE, "%s: cannot rename: %s", excerpt_of(w->path).text, strerror(errno));
    else if (r >= 0 && sync_folder(w->temp)) /* which is in the same folder */
        return complain(err, LSK_EIO, "%s: was written, but the folder cannot be synced, so that it may not outlast a crash: %s", excerpt_of(w->path).text, strerror(errno));
    if (r < 0)
        unlink(w->temp);
    return r;
}
