/* SPDX-License-Identifier: Apache-2.0 */
/* Models by name: ORG/NAME of the Hugging Face hub, from the cache when it is there, else fetched into it. */
#ifndef TOOLS_HUB_H
#define TOOLS_HUB_H

#include "layerskip.h"
#include "options.h"

struct hub_args {
    const char *repository, *file, *token, *revision; /* repository: ORG/NAME[:FILE-OR-TYPE] */
    int offline;
};
extern const struct option hub_options[];

/* CACHE_FIRST: no request is made when the cache has the model. ASK_HUB: what the hub has now, unless offline. */
enum hub_when { CACHE_FIRST, ASK_HUB };

/* Where the model lies: a GGUF file (its first part) or a folder. Caller frees *path. */
int hub_find(const struct hub_args *a, enum hub_when when, int progress, char **path, lsk_error *err);

/* The model that a command's options name: a copy of path, or the hub's. Caller frees *out. */
int find_model(const char *path, const struct hub_args *a, int progress, char **out, lsk_error *err);

/* "ORG/NAME:PICK" in two; *pick is "" where there is none. */
int hub_split(const char *text, char *id, size_t cap, const char **pick, lsk_error *err);

#endif
