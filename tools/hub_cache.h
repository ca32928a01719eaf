/* SPDX-License-Identifier: Apache-2.0 */
/* The cache that Hugging Face's own tools use, in its published layout, so that a model is on the disk once:
     ROOT/models--ORG--NAME/blobs/ETAG              contents; ETAG.incomplete while it comes, always a beginning of it without holes
     ROOT/models--ORG--NAME/snapshots/COMMIT/FILE   a relative link to its blob
     ROOT/models--ORG--NAME/refs/REVISION           the commit of a branch or tag
     ROOT/.locks/models--ORG--NAME/ETAG.lock        held (flock) by who fetches that blob */
#ifndef TOOLS_HUB_CACHE_H
#define TOOLS_HUB_CACHE_H

#include <stdint.h>

#include "hub_files.h"

enum { HUB_PATH = 4096, HUB_COMMIT = 41 };

struct hub_repository {
    char id[200], revision[200];
    char folder[HUB_PATH - 2048]; /* ROOT/models--ORG--NAME */
    char locks[HUB_PATH - 2048];  /* ROOT/.locks/models--ORG--NAME */
    char commit[HUB_COMMIT];      /* that the revision stands for, as far as the cache knows; else "" */
};

/* HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. */
int cache_root(char *out, size_t cap, lsk_error *err);
/* HF_HOME, or what stands for it. */
int cache_home(char *out, size_t cap, lsk_error *err);

/* id and revision are checked; nothing is made. */
int cache_open(struct hub_repository *r, const char *id, const char *revision, lsk_error *err);

int cache_names(const struct hub_repository *r, struct names *out, lsk_error *err); /* what the commit's snapshot holds, sorted */
int cache_path(const struct hub_repository *r, const char *name, char *out, size_t cap, lsk_error *err); /* of a file in the snapshot; "" is the snapshot itself */
int cache_blob(const struct hub_repository *r, const char *etag, const char *ending, char *out, size_t cap, lsk_error *err);

int is_commit(const char *text); /* 40 hexadecimal digits */

/* Makes the folders; then nobody else fetches this blob. The descriptor is closed to let go. Below zero with err set, also when interrupted. */
int cache_lock(const struct hub_repository *r, const char *etag, lsk_error *err);
int cache_link(const struct hub_repository *r, const char *name, const char *etag, lsk_error *err); /* the blob's name in the snapshot */
int cache_set_revision(const struct hub_repository *r, lsk_error *err);                             /* the revision stands for the commit from now on */

/* One call for each model in the cache, sorted by repository; a non-zero return ends it. commit may have no revision: then that is "". What is no model
   (other files, an interrupted download) is told with files 0 and its bytes. */
struct cached_model {
    const char *id, *label, *revision, *commit, *path;
    int files;
    uint64_t bytes;
    int64_t changed; /* seconds since 1970 */
};
typedef int (*cached_fn)(void *ud, const struct cached_model *m);
int cache_list(cached_fn each, void *ud, lsk_error *err);

/* Removes the models that `want` names (NULL: the whole repository) from all commits, and what then nobody links. *freed: bytes. */
int cache_remove(const char *id, const char *want, uint64_t *freed, lsk_error *err);

#endif
