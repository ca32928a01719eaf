/* SPDX-License-Identifier: Apache-2.0 */
/* Where, when and by which command something was measured: what a number needs beside it. */
#ifndef TOOLS_MACHINE_H
#define TOOLS_MACHINE_H

struct machine {
    char cpu[96], date[32]; /* "AMD EPYC 9B14"; "2026-11-23T13:15:38Z" */
    char command[2048];     /* as a shell would take it again, but "..." for a key to the hub; "" where /proc does not say */
};

struct machine machine_now(void);

#endif
