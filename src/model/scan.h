/* SPDX-License-Identifier: Apache-2.0 */
/* A look at every stored weight: files that load can still hold numbers that are none. */
#ifndef MODEL_SCAN_H
#define MODEL_SCAN_H

#include "format/checkpoint.h"

/* Reads all tensors, a few MiB at a time, and reports each that has NaN or infinity (a quantised one through its scales) with their number and the first index. Returns how many tensors have any, or below zero. */
int scan_weights(const struct checkpoint *c, void (*report)(void *ud, const char *line), void *ud, struct error *err);

#endif
