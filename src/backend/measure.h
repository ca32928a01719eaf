/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine's memory gives: the ceiling that decoding speeds are compared with. */
#ifndef BACKEND_MEASURE_H
#define BACKEND_MEASURE_H

#include <stdint.h>

#include "base/error.h"

/* Bytes per second that `threads` pinned threads (0: all cores) read together, each its own part of `bytes` of random data, with the widest loads this CPU has; best of
   several passes. Below zero on failure. */
double measure_read(uint64_t bytes, int threads, struct error *err);

#endif
