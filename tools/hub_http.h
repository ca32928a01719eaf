/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to the hub: requests that are tried again where that helps, and refusals that say what to do. libcurl is behind it. */
#ifndef TOOLS_HUB_HTTP_H
#define TOOLS_HUB_HTTP_H

#include <curl/curl.h>
#include <stdint.h>

#include "terminal.h"

enum { HUB_URL = 8192, HUB_TRIES = 6, HUB_LONGEST_WAIT = 120 /* seconds that a server may have us wait */ };

struct hub_http {
    const char *endpoint, *repository; /* "https://huggingface.co" without a slash at its end; "ORG/NAME" for messages */
    const char *token;                 /* or NULL; goes to the endpoint's host alone, also behind redirects */
    struct progress *progress;
    CURL *easy;  /* for one request after the other */
    int reached; /* a server has answered */
};

/* What a server said of itself; every hop of a redirect begins anew. */
struct hub_answer {
    long status;                                   /* 0: none came */
    char etag[132], linked_etag[132], commit[41];  /* normalised; "" where not said */
    char code[40];                                 /* X-Error-Code */
    int64_t length, linked_size, range_at, of;     /* -1: not said; range_at, of: Content-Range */
};

int http_open(struct hub_http *h, lsk_error *err); /* the fields above `easy` are the caller's */
void http_close(struct hub_http *h);

/* Sets a handle up for a request: where to, whose token, limits of time, and where its headers go. 0, or LSK_EOS. */
int http_prepare(const struct hub_http *h, CURL *easy, const char *url, struct hub_answer *answer, lsk_error *err);

/* ENDPOINT/{prefix}ORG/NAME/{verb}/{revision}{/name}, escaped. */
int http_url(const struct hub_http *h, const char *prefix, const char *verb, const char *revision, const char *name, char *out, size_t cap, lsk_error *err);

int http_is_ours(const struct hub_http *h, const char *url); /* scheme, host and port are the endpoint's */

/* Is another try worth it? Seconds to wait for it, or below zero. failures: how many in a row, with this one. */
double http_patience(const struct hub_http *h, CURL *easy, CURLcode result, const struct hub_answer *answer, int failures);
int http_refusal(const struct hub_http *h, CURL *easy, CURLcode result, const struct hub_answer *answer, const char *name, lsk_error *err); /* in words; the code */

/* A whole answer of status 200 as text, at most `limit` bytes. Caller frees *text. */
int http_text(struct hub_http *h, const char *url, size_t limit, char **text, size_t *n, lsk_error *err);

/* Headers only. Redirects within the endpoint's host are followed, until one leads elsewhere or says what it leads to; url is then where the content is. */
int http_head(struct hub_http *h, char *url, size_t cap, const char *name, struct hub_answer *answer, lsk_error *err);

#endif
