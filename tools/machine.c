/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* A word of a command line: quoted where a shell would change it. */
static size_t add_word(char *out, size_t cap, const char *word)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
    size_t n = 0;
    if (*word && !word[strspn(word, safe)])
        return (size_t)snprintf(out, cap, "%s", word);
    n += (size_t)snprintf(out, cap, "'");
    for (const char *p = word; *p && n + 8 < cap; p++)
        n += (size_t)snprintf(out + n, cap - n, *p == '\'' ? "'\\''" : "%c", *p);
    return n + (size_t)snprintf(out + n, cap - n, "'");
}

static void read_command(char *out, size_t cap)
{
    char line[4096];
    FILE *f = fopen("/proc/self/cmdline", "re");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0, used = 0;
    line[n] = 0;
    for (const char *word = line; word < line + n; word += strlen(word) + 1) {
        const char *slash = word == line ? strrchr(word, '/') : NULL; /* the program by its name */
        if (strlen(word) * 4 + 8 > cap - used)
            break;
        used += (size_t)snprintf(out + used, cap - used, used ? " " : "");
        used += add_word(out + used, cap - used, slash ? slash + 1 : word);
    }
    if (f)
        fclose(f);
}

struct machine machine_now(void)
{
    struct machine m = {.cpu = ""};
    char line[256];
    time_t t = time(NULL);
    struct tm utc;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %95[^\n]", m.cpu) == 1)
            break;
    if (f)
        fclose(f);
    strftime(m.date, sizeof m.date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    read_command(m.command, sizeof m.command);
    return m;
}
