/* SPDX-License-Identifier: Apache-2.0 */
/* From the hub into the cache: everything that a model needs, or nothing that a start would find. */
#ifndef TOOLS_HUB_FETCH_H
#define TOOLS_HUB_FETCH_H

#include "hub_cache.h"

struct hub_source {
    const char *endpoint, *token; /* token: or NULL */
    int progress;
};

/* Asks for the repository's commit and files, fetches those of the model that `want` names, and then has the revision stand for that commit. chosen: a name of
   the model, for choose_model. LSK_EUNAVAILABLE in a program that was built without libcurl. */
int hub_fetch(const struct hub_source *source, struct hub_repository *r, const char *want, char *chosen, size_t cap, lsk_error *err);

#endif
