/* SPDX-License-Identifier: Apache-2.0 */
#include "hub_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

#include "hub_cache.h"
#include "messages.h"
#include "values.h"

/* ---- headers ---- */

/* Without W/ and quotes, when what is left may be a file's name. */
static void keep_etag(const char *value, char *out, size_t cap)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-.";
    value += !strncmp(value, "W/", 2) ? 2 : 0;
    value += *value == '"';
    size_t n = strspn(value, letters);
    *out = 0;
    if (n && n < cap && *value != '.' && (!value[n] || !strcmp(value + n, "\"")))
        snprintf(out, cap, "%.*s", (int)n, value);
}

static int64_t number_of(const char *text)
{
    int64_t v;
    return read_whole(text, &v) < 0 || v < 0 ? -1 : v;
}

/* "bytes 5-9/10" */
static void keep_range(const char *value, struct hub_answer *a)
{
    long long at, end, of;
    if (sscanf(value, "bytes %lld-%lld/%lld", &at, &end, &of) == 3) {
        a->range_at = at;
        a->of = of;
    }
}

static void keep_header(struct hub_answer *a, const char *name, const char *value)
{
    if (!strcasecmp(name, "etag"))
        keep_etag(value, a->etag, sizeof a->etag);
    else if (!strcasecmp(name, "x-linked-etag"))
        keep_etag(value, a->linked_etag, sizeof a->linked_etag);
    else if (!strcasecmp(name, "x-repo-commit"))
        snprintf(a->commit, sizeof a->commit, "%.40s", is_commit(value) ? value : "");
    else if (!strcasecmp(name, "x-error-code"))
        snprintf(a->code, sizeof a->code, "%.39s", value);
    else if (!strcasecmp(name, "content-length"))
        a->length = number_of(value);
    else if (!strcasecmp(name, "x-linked-size"))
        a->linked_size = number_of(value);
    else if (!strcasecmp(name, "content-range"))
        keep_range(value, a);
}

static size_t take_header(char *line, size_t size, size_t n, void *ud)
{
    struct hub_answer *a = ud;
    char copy[512];
    snprintf(copy, sizeof copy, "%.*s", (int)(n * size < 511 ? n * size : 511), line);
    copy[strcspn(copy, "\r\n")] = 0;
    char *colon = strchr(copy, ':');
    if (!strncmp(copy, "HTTP/", 5)) {
        const char *status = strchr(copy, ' ');
        *a = (struct hub_answer){.status = status ? strtol(status, NULL, 10) : 0, .length = -1, .linked_size = -1, .range_at = -1, .of = -1};
    } else if (colon) {
        *colon = 0;
        keep_header(a, copy, colon + 1 + strspn(colon + 1, " \t"));
    }
    return n * size;
}

/* ---- requests ---- */

int http_open(struct hub_http *h, lsk_error *err)
{
    h->easy = curl_global_init(CURL_GLOBAL_DEFAULT) ? NULL : curl_easy_init();
    return h->easy ? 0 : complain(err, LSK_EOS, "libcurl cannot be set up");
}

void http_close(struct hub_http *h)
{
    curl_easy_cleanup(h->easy);
    h->easy = NULL;
    curl_global_cleanup();
}

int http_is_ours(const struct hub_http *h, const char *url)
{
    const char *host = strstr(h->endpoint, "://");
    size_t n = host ? (size_t)(host + 3 - h->endpoint) + strcspn(host + 3, "/") : strlen(h->endpoint);
    return !strncasecmp(url, h->endpoint, n) && (url[n] == '/' || url[n] == '?' || !url[n]);
}

static int ask_interrupted(void *ud, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)ud, (void)a, (void)b, (void)c, (void)d;
    return terminal_interrupted();
}

int http_prepare(const struct hub_http *h, CURL *easy, const char *url, struct hub_answer *answer, lsk_error *err)
{
    const char *schemes = strncasecmp(h->endpoint, "https:", 6) ? "http,https" : "https"; /* never from https to http */
    int with_token = h->token && http_is_ours(h, url);
    *answer = (struct hub_answer){.length = -1, .linked_size = -1, .range_at = -1, .of = -1};
    curl_easy_reset(easy);
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {{CURLOPT_NOSIGNAL, 1}, {CURLOPT_CONNECTTIMEOUT, 15}, {CURLOPT_LOW_SPEED_LIMIT, 1}, {CURLOPT_LOW_SPEED_TIME, 30}, {CURLOPT_MAXREDIRS, 5}, {CURLOPT_NOPROGRESS, 0},
                   {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1}, {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1} /* a connection for each range */};
    const struct {
        CURLoption option;
        const char *value;
    } texts[] = {{CURLOPT_URL, url}, {CURLOPT_USERAGENT, "layerskip/" LSK_VERSION}, {CURLOPT_PROTOCOLS_STR, schemes}, {CURLOPT_REDIR_PROTOCOLS_STR, schemes},
                 {CURLOPT_ACCEPT_ENCODING, "identity"}, {CURLOPT_XOAUTH2_BEARER, with_token ? h->token : NULL}};
    CURLcode bad = CURLE_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        bad |= curl_easy_setopt(easy, numbers[i].option, numbers[i].value);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bad |= curl_easy_setopt(easy, texts[i].option, texts[i].value);
    /* As the bearer's token and not as a header of ours: libcurl then leaves it out for another host. */
    bad |= curl_easy_setopt(easy, CURLOPT_HTTPAUTH, with_token ? CURLAUTH_BEARER : CURLAUTH_NONE);
    bad |= curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, ask_interrupted);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, answer);
    return bad ? complain(err, LSK_EOS, "libcurl: %s", curl_easy_strerror(bad)) : 0;
}

/* text, escaped; with slashes as they are where `path`. */
static size_t escape(const char *text, int path, char *out, size_t cap)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    size_t n = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c && n + 4 < cap; c++)
        n += (size_t)snprintf(out + n, cap - n, strchr(plain, *c) || (path && *c == '/') ? "%c" : "%%%02X", *c);
    out[n < cap ? n : 0] = 0;
    return n;
}

int http_url(const struct hub_http *h, const char *prefix, const char *verb, const char *revision, const char *name, char *out, size_t cap, lsk_error *err)
{
    char safe_revision[640], safe_name[3200];
    escape(revision, 0, safe_revision, sizeof safe_revision);
    escape(name, 1, safe_name, sizeof safe_name);
    int n = snprintf(out, cap, "%s/%s%s/%s/%s%s%s", h->endpoint, prefix, h->repository, verb, safe_revision, *name ? "/" : "", safe_name);
    return (size_t)n < cap ? 0 : complain(err, LSK_EUSAGE, "HF_ENDPOINT: an address of more than %zu bytes", cap - 1);
}

/* ---- what went wrong ---- */

double http_patience(const struct hub_http *h, CURL *easy, CURLcode result, const struct hub_answer *answer, int failures)
{
    long s = answer->status;
    int unreachable = result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST || result == CURLE_COULDNT_RESOLVE_PROXY;
    int cut = result == CURLE_PARTIAL_FILE || result == CURLE_RECV_ERROR || result == CURLE_SEND_ERROR || result == CURLE_GOT_NOTHING || result == CURLE_OPERATION_TIMEDOUT ||
              result == CURLE_HTTP2 || result == CURLE_HTTP2_STREAM || (unreachable && h->reached);
    int busy = result == CURLE_OK && (s == 408 || s == 429 || s == 500 || s == 502 || s == 503 || s == 504);
    curl_off_t asked = 0;
    if ((!cut && !busy) || failures > HUB_TRIES)
        return -1;
    if (busy && !curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &asked) && asked > 0)
        return asked <= HUB_LONGEST_WAIT ? (double)asked : -1;
    if (cut && failures == 1)
        return 0.1; /* something came since the last time: go on */
    return 0.25 * (double)(1 << (failures < 8 ? failures : 8)); /* 0.5, 1, 2, 4, ... s */
}

/* How a token comes to be missing or wrong. */
static int refuse_access(const struct hub_http *h, const struct hub_answer *a, lsk_error *err)
{
    const char *id = h->repository, *at = h->endpoint;
    int gated = !strcmp(a->code, "GatedRepo") || a->status == 403;
    if (gated && h->token)
        return complain(err, -EX_NOPERM, "%s: gated (HTTP %ld), and HF_TOKEN's account may not read it: accept its licence at %s/%s with that account", id, a->status, at, id);
    if (gated)
        return complain(err, -EX_NOPERM, "%s: gated (HTTP %ld): accept its licence at %s/%s and set HF_TOKEN to a token of %s/settings/tokens", id, a->status, at, id, at);
    if (h->token && strcmp(a->code, "RepoNotFound"))
        return complain(err, -EX_NOPERM, "%s: the hub refuses the token (HTTP %ld): set HF_TOKEN to a valid one of %s/settings/tokens", id, a->status, at);
    return complain(err, -EX_NOPERM, "%s: no such repository, or a private or gated one (HTTP %ld): check the name at %s/%s%s", id, a->status, at, id,
                    h->token ? ", and whether the token's account may read it" : "; for a gated one accept its licence there and set HF_TOKEN");
}

int http_refusal(const struct hub_http *h, CURL *easy, CURLcode result, const struct hub_answer *a, const char *name, lsk_error *err)
{
    const char *id = h->repository, *mark = *name ? "/" : "";
    curl_off_t wait = 0;
    if (terminal_interrupted())
        return complain(err, LSK_EUSAGE, "interrupted");
    if (result != CURLE_OK)
        return complain(err, LSK_EUNAVAILABLE, "%s%s%s: %s: %s: check the network, HF_ENDPOINT and the proxy's variables, or use a model that is there already", id, mark, name, h->endpoint,
                        curl_easy_strerror(result));
    if (a->status == 401 || a->status == 403)
        return refuse_access(h, a, err);
    if (a->status == 404 && (*name || !strcmp(a->code, "EntryNotFound")))
        return complain(err, LSK_ENOINPUT, "%s%s%s: no such file at %s (HTTP 404)", id, mark, name, h->endpoint);
    if (a->status == 404 && !strcmp(a->code, "RevisionNotFound"))
        return complain(err, LSK_ENOINPUT, "%s: no such revision (HTTP 404): its branches are at %s/%s/tree/main", id, h->endpoint, id);
    if (a->status == 404)
        return complain(err, LSK_ENOINPUT, "%s: no such repository at %s (HTTP 404): check the name", id, h->endpoint);
    if (a->status == 429 && !curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &wait) && wait > 0)
        return complain(err, LSK_EUNAVAILABLE, "%s%s%s: too many requests (HTTP 429): the hub asks for %lld s of patience; a token (HF_TOKEN) allows more", id, mark, name, (long long)wait);
    return complain(err, LSK_EUNAVAILABLE, "%s%s%s: %s answers HTTP %ld%s: try again later", id, mark, name, h->endpoint, a->status, a->status >= 500 ? ", also when asked again" : "");
}

/* ---- one request after the other ---- */

struct text {
    char *bytes;
    size_t n, limit;
};

static size_t take_text(char *bytes, size_t size, size_t n, void *ud)
{
    struct text *t = ud;
    n *= size;
    char *bigger = n > t->limit - t->n ? NULL : realloc(t->bytes, t->n + n + 1);
    if (!bigger)
        return 0;
    t->bytes = bigger;
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
    t->bytes[t->n] = 0;
    return n;
}

static void pause_for(const struct hub_http *h, double seconds, const struct hub_answer *a)
{
    char line[96];
    snprintf(line, sizeof line, "the hub %s %ld: another try in %.0f s", a->status ? "answers" : "does not answer", a->status, seconds);
    progress_line(h->progress, line);
    for (int64_t end = now_ns() + (int64_t)(seconds * 1e9); now_ns() < end && !terminal_interrupted();)
        usleep(20000);
}

/* Until it is answered, and not by "later". */
static int request(struct hub_http *h, const char *url, const char *name, struct text *body, struct hub_answer *a, lsk_error *err)
{
    for (int failures = 1;; failures++) {
        int r = http_prepare(h, h->easy, url, a, err);
        if (r < 0)
            return r;
        curl_easy_setopt(h->easy, CURLOPT_NOBODY, body ? 0L : 1L);
        curl_easy_setopt(h->easy, CURLOPT_FOLLOWLOCATION, body ? 1L : 0L);
        curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, take_text);
        curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, body);
        if (body)
            body->n = 0;
        CURLcode result = curl_easy_perform(h->easy);
        h->reached |= a->status > 0;
        double wait = http_patience(h, h->easy, result, a, failures);
        if (result == CURLE_OK && a->status >= 200 && a->status < (body ? 300 : 400))
            return 0;
        if (result == CURLE_WRITE_ERROR)
            return complain(err, LSK_EDATA, "%s: %s answers with more than %zu bytes", h->repository, h->endpoint, body ? body->limit : 0);
        if (wait < 0 || terminal_interrupted())
            return http_refusal(h, h->easy, result, a, name, err);
        pause_for(h, wait, a);
    }
}

int http_text(struct hub_http *h, const char *url, size_t limit, char **text, size_t *n, lsk_error *err)
{
    struct text body = {.limit = limit};
    struct hub_answer a;
    int r = request(h, url, "", &body, &a, err);
    *text = body.bytes;
    *n = body.n;
    if (r >= 0 && body.bytes)
        return 0;
    free(body.bytes);
    *text = NULL;
    return r < 0 ? r : complain(err, LSK_EDATA, "%s: %s answers with nothing", h->repository, h->endpoint);
}

int http_head(struct hub_http *h, char *url, size_t cap, const char *name, struct hub_answer *answer, lsk_error *err)
{
    for (int hop = 0; hop < 6; hop++) {
        const char *next = NULL;
        int r = request(h, url, name, NULL, answer, err);
        if (r < 0 || answer->status < 300)
            return r;
        curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL, &next);
        if (!next || strlen(next) >= cap)
            return complain(err, LSK_EDATA, "%s/%s: %s redirects (HTTP %ld) to no address", h->repository, name, h->endpoint, answer->status);
        int there = *answer->linked_etag || !http_is_ours(h, next);
        snprintf(url, cap, "%s", next);
        if (there)
            return 0;
    }
    return complain(err, LSK_EDATA, "%s/%s: %s redirects in circles", h->repository, name, h->endpoint);
}
