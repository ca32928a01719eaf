/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor that is about to be written, whatever the format. */
#ifndef FORMAT_TENSOR_OUT_H
#define FORMAT_TENSOR_OUT_H

#include <stdint.h>

#include "base/dtype.h"

struct tensor_out {
    const char *name; /* as the file spells it */
    enum dtype type;
    int rank;         /* 1 or 2 */
    uint64_t dim[2];  /* as in struct view */
};

#endif
