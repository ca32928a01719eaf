/* SPDX-License-Identifier: Apache-2.0 */
#include "hub_download.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "folders.h"
#include "messages.h"
#include "summary.h"

enum { SLOTS = 4, CHUNK = 16 << 20, REFRESHES = 3 };

/* As long as it goes in ranges; in one request; or the answer to a range was everything, so begin again with one request. */
enum { IN_RANGES, WHOLE, NOW_WHOLE };
enum state { IDLE, RUNNING, WAITING, COMPLETE };

/* A range on its way. The first one in the file's order writes what comes at once, the others keep it until it is their turn, so the file never has a hole:
   whoever goes on with it, we or the hub's own tools, needs its size alone. */
struct slot {
    struct download *d;
    CURL *easy;
    enum state state;
    struct hub_answer answer;
    int64_t at, end, got; /* its bytes are [at, end), of which so many came */
    int64_t from;         /* what this request asked for first */
    int all;              /* this request asked for everything, not for a range */
    int64_t skip;         /* bytes that come again because the server knows no ranges */
    char *kept;
    size_t n_kept;
    int64_t wake_ns;
};

struct download {
    struct hub_http *h;
    const char *name, *what, *etag;
    char home[HUB_URL], url[HUB_URL]; /* at the hub, and where that sends us */
    char path[HUB_PATH];              /* ETAG.incomplete */
    int fd, whole, n_slots, first, failures, refreshed;
    int64_t size, have, next; /* have: in the file; next: the first byte that nobody has been asked for */
    int64_t came, start_ns;
    CURLM *multi;
    EVP_MD_CTX *hash;
    struct slot slot[SLOTS];
    lsk_error *err;
    int bad; /* a callback has set err */
};

/* ---- content ---- */

/* What the hub calls a file by: the SHA-256 of a large one, git's SHA-1 of a small one. Others cannot be checked. */
static int begin_hash(struct download *d)
{
    size_t n = strlen(d->etag);
    char head[40];
    int git = n == 40, known = (git || n == 64) && strspn(d->etag, "0123456789abcdef") == n;
    if (!known)
        return 0;
    d->hash = EVP_MD_CTX_new();
    if (!d->hash || !EVP_DigestInit_ex(d->hash, git ? EVP_sha1() : EVP_sha256(), NULL))
        return complain(d->err, LSK_EOS, "libcrypto cannot make a hash");
    if (git && !EVP_DigestUpdate(d->hash, head, (size_t)snprintf(head, sizeof head, "blob %lld", (long long)d->size) + 1))
        return complain(d->err, LSK_EOS, "libcrypto cannot make a hash");
    return 0;
}

static int check_hash(struct download *d)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned n = 0;
    if (!d->hash)
        return 0;
    EVP_DigestFinal_ex(d->hash, sum, &n);
    for (unsigned i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", sum[i]);
    if (!strcmp(text, d->etag))
        return 0;
    unlink(d->path);
    return complain(d->err, LSK_EDATA, "%s/%s: damaged on its way: its hash is %.12s... and must be %.12s...; what came is removed: try again", d->h->repository, d->name, text, d->etag);
}

static int write_error(struct download *d, int error)
{
    int full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    return complain(d->err, LSK_EIO, "%s: %s%s", d->path, strerror(error),
                    full ? ": make room, or set HF_HUB_CACHE to a folder on another disk; what came stays, and the next try goes on from there" : "");
}

static int append(struct download *d, const char *bytes, size_t n)
{
    if (d->hash)
        EVP_DigestUpdate(d->hash, bytes, n);
    while (n) {
        ssize_t written = pwrite(d->fd, bytes, n, (off_t)d->have);
        if (written <= 0 && errno != EINTR)
            return write_error(d, written ? errno : ENOSPC);
        written = written > 0 ? written : 0;
        bytes += written;
        n -= (size_t)written;
        d->have += written;
    }
    return 0;
}

/* ---- ranges ---- */

static int refuse_range(struct download *d, const char *what)
{
    d->bad = 1;
    complain(d->err, LSK_EDATA, "%s/%s: the server sends %s: try again, or set HF_ENDPOINT to another mirror", d->h->repository, d->name, what);
    return 0;
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *ud)
{
    struct slot *s = ud;
    struct download *d = s->d;
    const size_t all = n *= size;
    if (s->answer.status != 200 && s->answer.status != 206)
        return all; /* a refusal's explanation */
    if (s->answer.status == 200 && !s->all) {
        d->whole = NOW_WHOLE;
        return 0;
    }
    if (s->answer.status == 206 && (s->answer.range_at != s->from || s->answer.of != d->size))
        return (size_t)refuse_range(d, "another range than was asked for");
    if (s->skip) {
        size_t passed = (int64_t)n < s->skip ? n : (size_t)s->skip;
        s->skip -= (int64_t)passed;
        bytes += passed;
        n -= passed;
    }
    if ((int64_t)n > s->end - s->at - s->got)
        return (size_t)refuse_range(d, "more than it announced");
    if (s == &d->slot[d->first] && append(d, bytes, n) < 0)
        return d->bad = 1, 0;
    if (s != &d->slot[d->first]) {
        memcpy(s->kept + s->n_kept, bytes, n);
        s->n_kept += n;
    }
    s->got += (int64_t)n;
    d->came += (int64_t)n;
    if (n)
        d->failures = d->refreshed = 0;
    return all;
}

static int start(struct slot *s)
{
    struct download *d = s->d;
    char range[64];
    int r = http_prepare(d->h, s->easy, d->url, &s->answer, d->err);
    if (r < 0)
        return r;
    s->all = d->whole || (s->at + s->got == 0 && s->end == d->size);
    s->skip = d->whole ? s->at + s->got : 0;
    s->from = d->whole ? 0 : s->at + s->got;
    snprintf(range, sizeof range, "%lld-%lld", (long long)s->from, (long long)s->end - 1);
    CURLcode bad = curl_easy_setopt(s->easy, CURLOPT_FOLLOWLOCATION, 1L);
    bad |= curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, take_bytes);
    bad |= curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    bad |= curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    bad |= curl_easy_setopt(s->easy, CURLOPT_RANGE, s->all ? NULL : range);
    if (bad || curl_multi_add_handle(d->multi, s->easy))
        return complain(d->err, LSK_EOS, "libcurl cannot begin a request");
    s->state = RUNNING;
    return 0;
}

/* The next piece that nobody has been asked for, if there is one. */
static int start_next(struct slot *s)
{
    struct download *d = s->d;
    int64_t left = d->size - d->next;
    s->state = IDLE;
    s->at = d->next;
    s->end = d->next += d->whole || left < CHUNK ? left : CHUNK;
    s->got = 0;
    return left ? start(s) : 0;
}

/* Slots are in the file's order from `first` on: what has come of it goes to the file, and who is done takes the next piece. */
static int drain(struct download *d)
{
    for (struct slot *s = &d->slot[d->first]; s->state != IDLE; s = &d->slot[d->first]) {
        int r = append(d, s->kept, s->n_kept);
        s->n_kept = 0;
        if (r < 0 || s->state != COMPLETE)
            return r;
        d->first = (d->first + 1) % d->n_slots;
        if ((r = start_next(s)) < 0)
            return r;
    }
    return 0;
}

/* A redirect's address holds for an hour or less: asks the hub for another. */
static int refresh(struct download *d, struct slot *s)
{
    struct hub_answer answer;
    d->refreshed++;
    memcpy(d->url, d->home, sizeof d->url);
    s->state = WAITING;
    s->wake_ns = 0;
    return http_head(d->h, d->url, sizeof d->url, d->name, &answer, d->err);
}

static int finish(struct download *d, CURL *easy, CURLcode result)
{
    struct slot *s = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&s);
    curl_multi_remove_handle(d->multi, easy);
    long status = s->answer.status;
    int whole = s->got == s->end - s->at;
    if (d->bad || d->whole == NOW_WHOLE)
        return d->bad ? d->err->code : 0;
    if (whole && (status == 200 || status == 206)) {
        s->state = COMPLETE;
        return 0;
    }
    if (result == CURLE_OK && status >= 400 && status < 500 && !http_is_ours(d->h, d->url) && d->refreshed < REFRESHES && status != 429)
        return refresh(d, s);
    if (result == CURLE_OK && (status == 200 || status == 206))
        result = CURLE_PARTIAL_FILE;
    double wait = http_patience(d->h, easy, result, &s->answer, ++d->failures);
    if (wait < 0 || terminal_interrupted())
        return http_refusal(d->h, easy, result, &s->answer, d->name, d->err);
    s->state = WAITING;
    s->wake_ns = now_ns() + (int64_t)(wait * 1e9);
    return 0;
}

static void stop_all(struct download *d)
{
    for (int i = 0; i < d->n_slots; i++) {
        struct slot *s = &d->slot[i];
        if (s->state == RUNNING)
            curl_multi_remove_handle(d->multi, s->easy);
        s->state = IDLE;
        s->n_kept = 0;
    }
}

static int begin_again_whole(struct download *d)
{
    stop_all(d);
    d->whole = WHOLE;
    d->first = 0;
    d->n_slots = 1;
    d->next = d->have;
    return start_next(&d->slot[0]);
}

static void show(struct download *d)
{
    char line[400], done[32], all[32], left[32] = "";
    double seconds = (double)(now_ns() - d->start_ns) / 1e9, speed = seconds > 0 ? (double)d->came / seconds : 0;
    int64_t there = d->have;
    for (int i = 0; i < d->n_slots; i++)
        there += (int64_t)d->slot[i].n_kept;
    double eta = speed > 0 ? (double)(d->size - there) / speed : 0;
    if (!d->h->progress->on || seconds < 0.3 || now_ns() - d->h->progress->shown_ns < 100000000)
        return;
    if (speed > 0)
        snprintf(left, sizeof left, eta < 120 ? "  %.0f s left" : eta < 7200 ? "  %.0f min left" : "  %.0f h left", eta < 120 ? eta : eta < 7200 ? eta / 60 : eta / 3600);
    snprintf(line, sizeof line, "%s  %3.0f %%  %s of %s  %.1f MB/s%s", excerpt_of(d->what).text, 100.0 * (double)there / (double)d->size, bytes_text((uint64_t)there, done, sizeof done),
             bytes_text((uint64_t)d->size, all, sizeof all), speed / 1e6, left);
    progress_line(d->h->progress, line);
}

/* Until the file has all its bytes. */
static int transfer(struct download *d)
{
    int running, pending, r = 0;
    for (int i = 0; r >= 0 && i < d->n_slots; i++)
        r = start_next(&d->slot[i]);
    while (r >= 0 && d->have < d->size) {
        curl_multi_perform(d->multi, &running);
        for (CURLMsg *m; r >= 0 && (m = curl_multi_info_read(d->multi, &pending));)
            if (m->msg == CURLMSG_DONE)
                r = finish(d, m->easy_handle, m->data.result);
        if (r >= 0 && d->whole == NOW_WHOLE)
            r = begin_again_whole(d);
        if (r >= 0)
            r = drain(d);
        for (int i = 0; r >= 0 && i < d->n_slots; i++)
            if (d->slot[i].state == WAITING && now_ns() >= d->slot[i].wake_ns)
                r = start(&d->slot[i]);
        if (r >= 0 && terminal_interrupted())
            r = complain(d->err, LSK_EUSAGE, "interrupted");
        show(d);
        if (r >= 0 && d->have < d->size)
            curl_multi_poll(d->multi, NULL, 0, 50, NULL);
    }
    stop_all(d);
    return r;
}

/* ---- one file ---- */

/* What an earlier try has left, as far as it can be gone on with. */
static int read_beginning(struct download *d)
{
    static char bytes[1 << 16];
    struct stat st;
    int64_t there = !fstat(d->fd, &st) && st.st_size <= d->size ? st.st_size : 0;
    if (!there && ftruncate(d->fd, 0))
        return write_error(d, errno);
    while (d->have < there && !terminal_interrupted()) {
        ssize_t n = pread(d->fd, bytes, sizeof bytes, (off_t)d->have);
        if (n <= 0)
            return complain(d->err, LSK_EIO, "%s: %s", d->path, n ? strerror(errno) : "it became shorter");
        if (d->hash)
            EVP_DigestUpdate(d->hash, bytes, (size_t)n);
        d->have += n;
    }
    return terminal_interrupted() ? complain(d->err, LSK_EUSAGE, "interrupted") : 0;
}

static int check_room(struct download *d)
{
    struct statvfs disk;
    char needed[32], there[32];
    if (fstatvfs(d->fd, &disk))
        return 0; /* writing will tell */
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize, need = (uint64_t)(d->size - d->have);
    if (need <= room)
        return 0;
    return complain(d->err, LSK_EIO, "%s: the disk is full: %s more are needed, %s are free: make room, or set HF_HUB_CACHE to a folder on another disk", d->path,
                    bytes_text(need, needed, sizeof needed), bytes_text(room, there, sizeof there));
}

static int prepare(struct download *d)
{
    int64_t chunks = (d->size - d->have + CHUNK - 1) / CHUNK;
    d->n_slots = chunks < SLOTS ? (int)chunks : SLOTS;
    d->next = d->have;
    d->start_ns = now_ns();
    d->multi = curl_multi_init();
    int bad = !d->multi;
    for (int i = 0; i < d->n_slots; i++) {
        d->slot[i].d = d;
        bad |= !(d->slot[i].easy = curl_easy_init());
        bad |= d->n_slots > 1 && !(d->slot[i].kept = malloc(CHUNK));
    }
    return bad ? complain(d->err, LSK_EOS, "out of memory") : 0;
}

static void clean_up(struct download *d)
{
    for (int i = 0; i < SLOTS; i++) {
        curl_easy_cleanup(d->slot[i].easy);
        free(d->slot[i].kept);
    }
    curl_multi_cleanup(d->multi);
    EVP_MD_CTX_free(d->hash);
    if (d->fd >= 0)
        close(d->fd);
}

/* Fills ETAG.incomplete and gives it its name. The blob's lock is held. */
static int fill(struct download *d, char *blob)
{
    int r = 0;
    d->fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (d->fd < 0)
        return complain(d->err, LSK_ECREATE, "%s: %s", d->path, strerror(errno));
    if ((r = begin_hash(d)) >= 0 && (r = read_beginning(d)) >= 0 && (r = check_room(d)) >= 0 && d->have < d->size)
        r = (r = prepare(d)) < 0 ? r : transfer(d);
    if (r >= 0)
        r = check_hash(d);
    if (r >= 0 && (fsync(d->fd) || rename(d->path, blob) || sync_folder(blob)))
        r = write_error(d, errno);
    if (r < 0 && !d->have)
        unlink(d->path);
    return r;
}

/* The blob that `answer` announced, if it is not there yet. */
static int fetch_blob(struct download *d, const struct hub_repository *r)
{
    char blob[HUB_PATH];
    struct stat st;
    int rc = cache_blob(r, d->etag, ".incomplete", d->path, sizeof d->path, d->err);
    if (rc >= 0)
        rc = cache_blob(r, d->etag, "", blob, sizeof blob, d->err);
    if (rc < 0)
        return rc;
    int lock = cache_lock(r, d->etag, d->err);
    if (lock < 0)
        return lock;
    if (stat(blob, &st) || st.st_size != d->size)
        rc = fill(d, blob);
    clean_up(d);
    close(lock);
    return rc;
}

/* What the hub has under this name: where it lies, its etag and size. */
static int locate(struct download *d, const struct hub_repository *r, struct hub_answer *a)
{
    int rc = http_url(d->h, "", "resolve", r->commit, d->name, d->home, sizeof d->home, d->err);
    memcpy(d->url, d->home, sizeof d->url);
    if (rc >= 0)
        rc = http_head(d->h, d->url, sizeof d->url, d->name, a, d->err);
    if (rc < 0)
        return rc;
    d->etag = *a->linked_etag ? a->linked_etag : a->etag;
    d->size = a->linked_size >= 0 || a->status >= 300 ? a->linked_size : a->length;
    if (*d->etag && d->size >= 0)
        return 0;
    return complain(d->err, LSK_EDATA, "%s/%s: %s does not say the file's %s: it is no hub, or a broken mirror: see HF_ENDPOINT", r->id, d->name, d->h->endpoint, *d->etag ? "size" : "etag");
}

static struct download *begin(struct hub_http *h, const char *name, const char *what, lsk_error *err)
{
    struct download *d = calloc(1, sizeof *d);
    if (d)
        *d = (struct download){.h = h, .name = name, .what = what, .fd = -1, .err = err};
    else
        complain(err, LSK_EOS, "out of memory");
    return d;
}

static int is_linked(const struct hub_repository *r, const char *name)
{
    struct stat st;
    char path[HUB_PATH];
    lsk_error ignored;
    return cache_path(r, name, path, sizeof path, &ignored) >= 0 && !stat(path, &st) && S_ISREG(st.st_mode);
}

int link_known(struct hub_http *h, const struct hub_repository *r, const char *name, lsk_error *err)
{
    struct hub_answer a;
    struct stat st;
    char blob[HUB_PATH];
    struct download *d = is_linked(r, name) ? NULL : begin(h, name, name, err);
    if (!d)
        return is_linked(r, name) ? 1 : err->code;
    int rc = locate(d, r, &a);
    if (rc >= 0)
        rc = cache_blob(r, d->etag, "", blob, sizeof blob, err);
    if (rc >= 0 && !stat(blob, &st) && st.st_size == d->size)
        rc = cache_link(r, name, d->etag, err) < 0 ? err->code : 1;
    free(d);
    return rc;
}

int download_file(struct hub_http *h, const struct hub_repository *r, const char *name, const char *what, lsk_error *err)
{
    struct hub_answer a;
    if (is_linked(r, name))
        return 0;
    struct download *d = begin(h, name, what, err);
    int rc = d ? locate(d, r, &a) : err->code;
    if (rc >= 0)
        rc = fetch_blob(d, r);
    if (rc >= 0)
        rc = cache_link(r, name, d->etag, err);
    free(d);
    return rc;
}
