/* SPDX-License-Identifier: Apache-2.0 */
#include "hub_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folders.h"
#include "messages.h"
#include "terminal.h"

/* ---- places ---- */

static int make_path(char *out, size_t cap, lsk_error *err, const char *format, ...) __attribute__((format(printf, 4, 5)));
static int make_path(char *out, size_t cap, lsk_error *err, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(out, cap, format, list);
    va_end(list);
    return n >= 0 && (size_t)n < cap ? 0 : complain(err, LSK_ECONFIG, "the hub's cache: a path is longer than %zu bytes", cap - 1);
}

/* The variable's folder with "~/" as a shell would have it; 1 when it is set. */
static int from_environment(const char *variable, const char *below, char *out, size_t cap, lsk_error *err)
{
    const char *value = getenv(variable), *home = getenv("HOME");
    int tilde = value && !strncmp(value, "~/", 2) && home;
    if (!value || !*value)
        return 0;
    return make_path(out, cap, err, "%s%s%s", tilde ? home : "", value + tilde, below) < 0 ? err->code : 1;
}

int cache_home(char *out, size_t cap, lsk_error *err)
{
    int r = from_environment("HF_HOME", "", out, cap, err);
    if (!r)
        r = from_environment("XDG_CACHE_HOME", "/huggingface", out, cap, err);
    if (!r)
        r = from_environment("HOME", "/.cache/huggingface", out, cap, err);
    return r ? (r < 0 ? r : 0) : complain(err, LSK_ECONFIG, "no place for models: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set");
}

int cache_root(char *out, size_t cap, lsk_error *err)
{
    int r = from_environment("HF_HUB_CACHE", "", out, cap, err);
    if (!r && !(r = cache_home(out, cap, err)))
        r = strlen(out) + 5 < cap ? (strcat(out, "/hub"), 0) : complain(err, LSK_ECONFIG, "the hub's cache: a path is longer than %zu bytes", cap - 1);
    return r < 0 ? r : 0;
}

int is_commit(const char *text)
{
    return strspn(text, "0123456789abcdef") == 40 && !text[40];
}

/* The commit that a file of refs/ holds. 0, and out is "", where it holds none. */
static int read_commit(const char *path, char out[HUB_COMMIT])
{
    char text[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, " \t\r\n")] = 0;
    *out = 0;
    if (is_commit(text))
        memcpy(out, text, HUB_COMMIT);
    return *out != 0;
}

int cache_open(struct hub_repository *r, const char *id, const char *revision, lsk_error *err)
{
    char root[HUB_PATH - 2400], path[HUB_PATH];
    *r = (struct hub_repository){0};
    if (!repository_is_valid(id))
        return complain(err, LSK_EUSAGE, "\"%s\": not the name of a repository: ORG/NAME, as in the address of its page on the hub", excerpt_of(id).text);
    if (!name_is_safe(revision) || strlen(revision) >= sizeof r->revision)
        return complain(err, LSK_EUSAGE, "--revision: \"%s\": not a branch, a tag or a commit", excerpt_of(revision).text);
    snprintf(r->id, sizeof r->id, "%s", id);
    snprintf(r->revision, sizeof r->revision, "%s", revision);
    const char *slash = strchr(id, '/'), *name = slash ? slash + 1 : id;
    int rc = cache_root(root, sizeof root, err), n = slash ? (int)(slash - id) : 0;
    if (rc >= 0)
        rc = make_path(r->folder, sizeof r->folder, err, "%s/models--%.*s%s%s", root, n, id, slash ? "--" : "", name);
    if (rc >= 0)
        rc = make_path(r->locks, sizeof r->locks, err, "%s/.locks/models--%.*s%s%s", root, n, id, slash ? "--" : "", name);
    if (rc >= 0)
        rc = make_path(path, sizeof path, err, "%s/refs/%s", r->folder, revision);
    if (rc < 0)
        return rc;
    if (is_commit(revision))
        memcpy(r->commit, revision, HUB_COMMIT);
    else
        read_commit(path, r->commit);
    return 0;
}

int cache_path(const struct hub_repository *r, const char *name, char *out, size_t cap, lsk_error *err)
{
    return make_path(out, cap, err, "%s/snapshots/%s%s%s", r->folder, r->commit, *name ? "/" : "", name);
}

int cache_blob(const struct hub_repository *r, const char *etag, const char *ending, char *out, size_t cap, lsk_error *err)
{
    return make_path(out, cap, err, "%s/blobs/%s%s", r->folder, etag, ending);
}

/* ---- reading ---- */

/* Regular files below a folder, those that links lead to too, sorted; a folder that is not there holds none. With targets: where its links lead instead. */
static int list_files(const char *folder, int targets, struct names *out, lsk_error *err)
{
    char *roots[] = {(char *)folder, NULL}, target[HUB_PATH];
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    int r = walk ? 0 : complain(err, LSK_EOS, "%s: %s", folder, strerror(errno));
    for (FTSENT *e; r >= 0 && (e = fts_read(walk));) {
        struct stat st;
        ssize_t n = targets && e->fts_info == FTS_SL ? readlink(e->fts_accpath, target, sizeof target - 1) : 0;
        if (n > 0) {
            target[n] = 0;
            r = names_add(out, strrchr(target, '/') ? strrchr(target, '/') + 1 : target, err);
        } else if ((e->fts_info == FTS_F || (e->fts_info == FTS_SL && !targets)) && !stat(e->fts_accpath, &st) && S_ISREG(st.st_mode)) {
            const char *name = e->fts_path + strlen(folder) + 1;
            r = name_is_safe(name) ? names_add(out, name, err) : 0;
        }
    }
    if (walk)
        fts_close(walk);
    names_sort(out);
    return r;
}

int cache_names(const struct hub_repository *r, struct names *out, lsk_error *err)
{
    char folder[HUB_PATH];
    int rc = *r->commit ? cache_path(r, "", folder, sizeof folder, err) : 0;
    return rc < 0 || !*r->commit ? rc : list_files(folder, 0, out, err);
}

/* ---- writing ---- */

int cache_lock(const struct hub_repository *r, const char *etag, lsk_error *err)
{
    char path[HUB_PATH], blob[HUB_PATH];
    int rc = make_path(path, sizeof path, err, "%s/%s.lock", r->locks, etag), told = 0;
    if (rc >= 0)
        rc = cache_blob(r, etag, "", blob, sizeof blob, err);
    if (rc < 0)
        return rc;
    if (make_folders(blob))
        return complain(err, LSK_ECREATE, "%s: cannot be made: %s: set HF_HUB_CACHE to a folder that you may write", r->folder, strerror(errno));
    int fd = make_folders(path) ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (fd < 0)
        return complain(err, LSK_ECREATE, "%s: %s", path, strerror(errno));
    while (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK && !terminal_interrupted()) { /* any other error: a file system without locks */
        if (!told++)
            print_warning("another program is downloading this file: waiting for it");
        usleep(100000);
    }
    if (!terminal_interrupted())
        return fd;
    close(fd);
    return complain(err, LSK_EUSAGE, "interrupted");
}

int cache_link(const struct hub_repository *r, const char *name, const char *etag, lsk_error *err)
{
    char path[HUB_PATH], temp[HUB_PATH + 32], target[HUB_PATH];
    size_t n = 0;
    int rc = cache_path(r, name, path, sizeof path, err);
    for (const char *c = name; (c = strchr(c, '/')) && n + 3 < 2048; c++)
        n += (size_t)snprintf(target + n, sizeof target - n, "../");
    if (rc >= 0)
        rc = make_path(target + n, sizeof target - n, err, "../../blobs/%s", etag);
    if (rc < 0)
        return rc;
    snprintf(temp, sizeof temp, "%s.tmp-%ld", path, (long)getpid());
    if (!make_folders(path) && !symlink(target, temp) && !rename(temp, path) && !sync_folder(path))
        return 0;
    rc = complain(err, LSK_ECREATE, "%s: %s", path, strerror(errno));
    unlink(temp);
    return rc;
}

int cache_set_revision(const struct hub_repository *r, lsk_error *err)
{
    char path[HUB_PATH], temp[HUB_PATH + 32], known[HUB_COMMIT];
    int rc = is_commit(r->revision) ? 0 : make_path(path, sizeof path, err, "%s/refs/%s", r->folder, r->revision);
    if (rc < 0 || is_commit(r->revision) || (read_commit(path, known) && !strcmp(known, r->commit)))
        return rc;
    snprintf(temp, sizeof temp, "%s.tmp-%ld", path, (long)getpid());
    int fd = make_folders(path) ? -1 : open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int bad = fd < 0 || write(fd, r->commit, 40) != 40 || fsync(fd);
    if (fd >= 0)
        bad |= close(fd);
    if (!bad && !rename(temp, path) && !sync_folder(path))
        return 0;
    rc = complain(err, LSK_ECREATE, "%s: %s", path, strerror(errno));
    unlink(temp);
    return rc;
}

/* ---- everything that is there ---- */

/* Names in a folder that begin and end so, sorted. */
static int list_folder(const char *folder, const char *begin, const char *end, struct names *out, lsk_error *err)
{
    DIR *d = opendir(folder);
    int r = 0;
    for (struct dirent *e; d && r >= 0 && (e = readdir(d));) {
        size_t n = strlen(e->d_name), m = strlen(end);
        if (*e->d_name != '.' && !strncmp(e->d_name, begin, strlen(begin)) && n >= m && !strcmp(e->d_name + n - m, end))
            r = names_add(out, e->d_name, err);
    }
    if (d)
        closedir(d);
    names_sort(out);
    return r;
}

static int size_of(const char *path, struct cached_model *m)
{
    struct stat st;
    if (stat(path, &st))
        return 0;
    m->bytes += (uint64_t)st.st_size;
    m->changed = st.st_mtime > m->changed ? st.st_mtime : m->changed;
    return 1;
}

/* The first branch or tag that stands for the commit. */
static int find_revision(const struct hub_repository *r, const struct names *revisions, char *out, size_t cap, lsk_error *err)
{
    char path[HUB_PATH], commit[HUB_COMMIT];
    int rc = 0;
    *out = 0;
    for (int i = 0; rc >= 0 && !*out && i < revisions->n; i++) {
        rc = make_path(path, sizeof path, err, "%s/refs/%s", r->folder, revisions->name[i]);
        if (rc >= 0 && read_commit(path, commit) && !strcmp(commit, r->commit))
            snprintf(out, cap, "%s", revisions->name[i]);
    }
    return rc;
}

/* The models of one commit. */
static int list_commit(const struct hub_repository *r, const char *revision, cached_fn each, void *ud, lsk_error *err)
{
    struct names all = {0};
    struct models models = {0};
    char path[HUB_PATH];
    int rc = cache_names(r, &all, err);
    if (rc >= 0)
        rc = models_find(&all, &models, err);
    for (int k = 0; rc >= 0 && k < models.n; k++) {
        const struct model_files *f = &models.model[k];
        struct cached_model m = {.id = r->id, .label = f->label, .revision = revision, .commit = r->commit, .path = path, .files = f->files.n};
        for (int i = 0; rc >= 0 && i < f->files.n; i++)
            if ((rc = cache_path(r, f->files.name[i], path, sizeof path, err)) >= 0)
                size_of(path, &m);
        if (rc >= 0 && (rc = cache_path(r, f->open, path, sizeof path, err)) >= 0 && each(ud, &m))
            rc = LSK_EUSAGE;
    }
    models_free(&models);
    names_free(&all);
    return rc;
}

/* What an interrupted download has left. */
static int list_incomplete(const struct hub_repository *r, cached_fn each, void *ud, lsk_error *err)
{
    struct names blobs = {0};
    struct cached_model m = {.id = r->id, .label = "", .revision = "", .commit = "", .path = r->folder};
    char path[HUB_PATH];
    int rc = make_path(path, sizeof path, err, "%s/blobs", r->folder), n = 0;
    if (rc >= 0)
        rc = list_folder(path, "", ".incomplete", &blobs, err);
    for (int i = 0; rc >= 0 && i < blobs.n; i++)
        if ((rc = cache_blob(r, blobs.name[i], "", path, sizeof path, err)) >= 0)
            n += size_of(path, &m);
    if (rc >= 0 && n && each(ud, &m))
        rc = LSK_EUSAGE;
    names_free(&blobs);
    return rc;
}

static int list_repository(struct hub_repository *r, cached_fn each, void *ud, lsk_error *err)
{
    struct names commits = {0}, revisions = {0};
    char path[HUB_PATH], revision[256];
    int rc = make_path(path, sizeof path, err, "%s/snapshots", r->folder);
    if (rc >= 0)
        rc = list_folder(path, "", "", &commits, err);
    if (rc >= 0 && (rc = make_path(path, sizeof path, err, "%s/refs", r->folder)) >= 0)
        rc = access(path, F_OK) ? 0 : list_files(path, 0, &revisions, err);
    for (int i = 0; rc >= 0 && i < commits.n; i++) {
        if (!is_commit(commits.name[i]))
            continue;
        memcpy(r->commit, commits.name[i], HUB_COMMIT);
        rc = find_revision(r, &revisions, revision, sizeof revision, err);
        if (rc >= 0)
            rc = list_commit(r, revision, each, ud, err);
    }
    names_free(&commits);
    names_free(&revisions);
    return rc < 0 ? rc : list_incomplete(r, each, ud, err);
}

int cache_list(cached_fn each, void *ud, lsk_error *err)
{
    static const char begin[] = "models--";
    char root[HUB_PATH], id[256];
    struct names folders = {0};
    struct hub_repository r;
    int rc = cache_root(root, sizeof root, err);
    if (rc >= 0)
        rc = list_folder(root, begin, "", &folders, err);
    for (int i = 0; rc >= 0 && i < folders.n; i++) {
        snprintf(id, sizeof id, "%s", folders.name[i] + sizeof begin - 1);
        char *parted = strstr(id, "--");
        if (parted) {
            *parted = '/';
            memmove(parted + 1, parted + 2, strlen(parted + 2) + 1);
        }
        if (repository_is_valid(id) && (rc = cache_open(&r, id, "main", err)) >= 0)
            rc = list_repository(&r, each, ud, err);
    }
    names_free(&folders);
    return rc;
}

/* ---- removing ---- */

static int remove_tree(const char *folder, uint64_t *freed, lsk_error *err)
{
    char *roots[] = {(char *)folder, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    int r = walk ? 0 : complain(err, LSK_EOS, "%s: %s", folder, strerror(errno));
    for (FTSENT *e; r >= 0 && (e = fts_read(walk));) {
        int gone = e->fts_info == FTS_D || e->fts_info == FTS_NS || !(e->fts_info == FTS_DP ? rmdir(e->fts_accpath) : unlink(e->fts_accpath));
        if (!gone)
            r = complain(err, LSK_EIO, "%s: cannot be removed: %s", e->fts_path, strerror(errno));
        else if (e->fts_info == FTS_F)
            *freed += (uint64_t)e->fts_statp->st_size;
    }
    if (walk)
        fts_close(walk);
    return r;
}

/* Takes the model's names out of this commit's snapshot; what they were for goes to blobs. */
static int unlink_model(const struct hub_repository *r, const char *want, struct names *blobs, lsk_error *err)
{
    struct names all = {0};
    struct model_files m = {0};
    char others[8], path[HUB_PATH], target[HUB_PATH];
    int rc = cache_names(r, &all, err);
    if (rc >= 0)
        rc = choose_model(&all, want, &m, others, sizeof others, err);
    for (int i = 0; rc >= 0 && i < m.files.n; i++) {
        rc = cache_path(r, m.files.name[i], path, sizeof path, err);
        ssize_t n = rc < 0 ? 0 : readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (n > 0 && strrchr(target, '/'))
            rc = names_add(blobs, strrchr(target, '/') + 1, err);
        if (rc >= 0 && unlink(path))
            rc = complain(err, LSK_EIO, "%s: cannot be removed: %s", path, strerror(errno));
    }
    names_free(&m.files);
    names_free(&all);
    return rc;
}

/* Removes blobs that no snapshot links any more. Returns how many links there are left. */
static int sweep(const struct hub_repository *r, const struct names *blobs, uint64_t *freed, lsk_error *err)
{
    struct names linked = {0};
    struct stat st;
    char path[HUB_PATH];
    int rc = make_path(path, sizeof path, err, "%s/snapshots", r->folder);
    if (rc >= 0)
        rc = list_files(path, 1, &linked, err);
    for (int i = 0; rc >= 0 && i < blobs->n; i++)
        if (!names_find(&linked, blobs->name[i]) && (rc = cache_blob(r, blobs->name[i], "", path, sizeof path, err)) >= 0 && !lstat(path, &st) && !unlink(path))
            *freed += (uint64_t)st.st_size;
    rc = rc < 0 ? rc : linked.n;
    names_free(&linked);
    return rc;
}

static int remove_one(struct hub_repository *r, const char *want, uint64_t *freed, lsk_error *err)
{
    struct names commits = {0}, blobs = {0};
    char path[HUB_PATH];
    int n = 0, rc = make_path(path, sizeof path, err, "%s/snapshots", r->folder);
    if (rc >= 0)
        rc = list_folder(path, "", "", &commits, err);
    if (rc >= 0)
        complain(err, LSK_ENOINPUT, "no complete model there"); /* unless the commits have more to say */
    for (int i = 0; rc >= 0 && i < commits.n; i++) {
        if (!is_commit(commits.name[i]))
            continue;
        memcpy(r->commit, commits.name[i], HUB_COMMIT);
        rc = unlink_model(r, want, &blobs, err);
        n += rc >= 0;
        rc = rc == LSK_ENOINPUT ? 0 : rc; /* another commit may have it */
    }
    if (rc >= 0)
        rc = n ? sweep(r, &blobs, freed, err) : LSK_ENOINPUT;
    names_free(&commits);
    names_free(&blobs);
    return rc;
}

int cache_remove(const char *id, const char *want, uint64_t *freed, lsk_error *err)
{
    struct hub_repository r;
    int rc = cache_open(&r, id, "main", err);
    if (rc < 0)
        return rc;
    *freed = 0;
    if (access(r.folder, F_OK))
        return complain(err, LSK_ENOINPUT, "%s: not in the cache: no %s (`layerskip list` shows what is)", r.id, r.folder);
    rc = want ? remove_one(&r, want, freed, err) : 0;
    if (rc == 0) /* nothing is linked any more */
        rc = remove_tree(r.folder, freed, err);
    if (rc == 0 && !access(r.locks, F_OK))
        rc = remove_tree(r.locks, freed, err);
    return rc < 0 ? rc : 0;
}
