/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a Python program that nobody has read, in a child process that can compute and read and nothing else: no files written, no network, no processes or signals, little memory, little time. */
/* It reads the files of Python and of the system's libraries where the kernel has Landlock (5.13), elsewhere all that the user can read. */
#ifndef TOOLS_SANDBOX_H
#define TOOLS_SANDBOX_H

#include "layerskip.h"

enum sandbox_verdict { SANDBOX_PASSED, SANDBOX_FAILED, SANDBOX_TIMEOUT };

struct sandbox_result {
    enum sandbox_verdict verdict;
    char why[160]; /* the type of the exception, or how it ended: nothing that the program could choose */
};

/* Finds python3 in PATH (caller frees) and tries the limits: NULL with err set where a program cannot be confined here. */
char *sandbox_python(lsk_error *err);

/* Whether the kernel has Landlock, and files of the user are hidden. */
int sandbox_hides_files(void);

/* PASSED: the program ran to its end, and did not just leave. */
int sandbox_run(const char *python, const char *program, double seconds, struct sandbox_result *out, lsk_error *err);

#endif
