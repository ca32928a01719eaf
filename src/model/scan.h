/* SPDX-License-Identifier: Apache-2.0 */
/* A look at every stored weight: files that load can still hold numbers that are none. */
#ifndef MODEL_SCAN_H
#define MODEL_SCAN_H

#include "format/checkpoint.h"

/* Who is told; either may be NULL, and either stops it with ERR_USAGE by a non-zero return. */
struct scan_listener {
    int (*progress)(void *ud, const char *what, uint64_t done, uint64_t total); /* bytes */
    int (*report)(void *ud, const char *line);                                  /* a tensor that has NaN or infinity */
    void *ud;
};

/* Reads all tensors, a few MiB at a time, and reports each that has NaN or infinity (a quantised one through its scales) with their number and the first index. Returns how many tensors have any, or below zero. */
int scan_weights(const struct checkpoint *c, const struct scan_listener *l, struct error *err);

#endif
