/* SPDX-License-Identifier: Apache-2.0 */
/* One file into the cache: in ranges side by side, gone on with where it was cut, checked, and there under its name only when it is whole. */
#ifndef TOOLS_HUB_DOWNLOAD_H
#define TOOLS_HUB_DOWNLOAD_H

#include "hub_cache.h"
#include "hub_http.h"

/* Links a file of r->commit whose content the cache has already from another commit. 1, 0 when it has not, or below zero. */
int link_known(struct hub_http *h, const struct hub_repository *r, const char *name, lsk_error *err);

/* A file of r->commit; nothing is done where the snapshot has it. `what`: its name for progress, with its number where there are more. */
int download_file(struct hub_http *h, const struct hub_repository *r, const char *name, const char *what, lsk_error *err);

#endif
