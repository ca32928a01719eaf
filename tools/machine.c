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

/* How long --hf-token is at the beginning of a word, however it is spelt; 0 where another word is there. */
static size_t key_option(const char *word)
{
    static const char *const names[] = {"hft", "hf-token", "hf_token"};
    const size_t dashes = strspn(word, "-"), n = strcspn(word + dashes, "=");
    for (size_t i = 0; dashes && i < sizeof names / sizeof *names; i++)
        if (n == strlen(names[i]) && !strncmp(word + dashes, names[i], n))
            return dashes + n;
    return 0;
}

/* What is written goes on to others: a key to the hub is left out of it. */
static void read_command(char *out, size_t cap)
{
    char line[4096], hidden[32];
    FILE *f = fopen("/proc/self/cmdline", "re");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0, used = 0;
    line[n] = 0;
    for (const char *word = line, *before = ""; word < line + n; before = word, word += strlen(word) + 1) {
        const size_t behind = key_option(before), option = key_option(word);
        const char *slash = word == line ? strrchr(word, '/') : NULL, *seen = slash ? slash + 1 : word; /* the program by its name */
        if (strlen(word) * 4 + 8 > cap - used)
            break;
        if (behind && !before[behind])
            seen = "...";
        else if (option && word[option] && snprintf(hidden, sizeof hidden, "%.*s=...", (int)option, word))
            seen = hidden;
        used += (size_t)snprintf(out + used, cap - used, used ? " " : "");
        used += add_word(out + used, cap - used, seen);
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
