/* SPDX-License-Identifier: Apache-2.0 */
/* Where the real model is that some tests run: SmolLM2-135M-Instruct, as scripts/smollm2.sh gets it. */
#ifndef TESTS_SMOLLM2_H
#define TESTS_SMOLLM2_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

/* The model file, or NULL with a line that says how to get it. */
static inline const char *find_smollm2(void)
{
    static char path[512];
    const char *given = getenv("LAYERSKIP_TEST_MODEL"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (given)
        snprintf(path, sizeof path, "%s", given);
    else
        snprintf(path, sizeof path, "%s%s/layerskip/SmolLM2-135M-Instruct.Q4_1.gguf", cache ? cache : home ? home : "", cache ? "" : "/.cache");
    if (access(path, R_OK) == 0)
        return path;
    print_message("%s is not there: get it with scripts/smollm2.sh, or set LAYERSKIP_TEST_MODEL\n", path);
    return NULL;
}

#endif
