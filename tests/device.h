/* SPDX-License-Identifier: Apache-2.0 */
/* Which device the tests of no particular backend run on: what LSK_TEST_DEVICE says, else the CPU. A file about the CPU alone defines TEST_DEVICE as "cpu" before it includes this. */
#ifndef TESTS_DEVICE_H
#define TESTS_DEVICE_H

#include "check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline const char *test_device(void)
{
#ifdef TEST_DEVICE
    return TEST_DEVICE;
#else
    const char *given = getenv("LSK_TEST_DEVICE");
    return given && *given ? given : "cpu";
#endif
}

static inline bool test_on_cpu(void) { return !strcmp(test_device(), "cpu"); }

/* Is this the CPU, whose own the following is? Otherwise says that it is left out. */
static inline bool test_of_cpu(const char *what)
{
    if (!test_on_cpu())
        print_message("skipped: %s: a matter of the CPU alone\n", what);
    return test_on_cpu();
}

#endif
