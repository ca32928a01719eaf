/* SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "messages.h"
#include "whole_file.h"

extern char **environ;

void picture_label(FILE *out, const char *text, int characters)
{
    struct shown shown;
    for (size_t left = strlen(text), taken; left && characters > 0; text += taken, left -= taken, characters--) {
        taken = show_character(text, left, &shown);
        if (*shown.text == '\\') /* gnuplot would act on it: the sign that looks like it */
            fprintf(out, "∖%s", shown.text + 1);
        else
            fputs(*text == '"' ? "'" : shown.text, out);
    }
}

static int is_svg(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcmp(path + n - 4, ".svg");
}

int picture_check(const char *option, const char *path, lsk_error *err)
{
    size_t n = strlen(path);
    if (is_svg(path) || (n > 4 && !strcmp(path + n - 4, ".png")))
        return 0;
    return complain(err, LSK_EUSAGE, "%s: \"%s\": a picture is NAME.png or NAME.svg", option, excerpt_of(path).text);
}

/* Runs gnuplot from the script into the file. */
static int run_gnuplot(const char *program, int script, int out, lsk_error *err)
{
    posix_spawn_file_actions_t actions;
    char *argv[] = {(char *)program, (char *)"-", NULL};
    pid_t child;
    int status = 0;
    if (posix_spawn_file_actions_init(&actions))
        return complain(err, LSK_EOS, "out of memory");
    posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    int failed = posix_spawnp(&child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed == ENOENT)
        return complain(err, LSK_EUNAVAILABLE, "%s is not installed, and it draws the curves: apt install gnuplot-nox", excerpt_of(program).text);
    if (failed)
        return complain(err, LSK_EOS, "%s: cannot start: %s", excerpt_of(program).text, strerror(failed));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return complain(err, LSK_EUNAVAILABLE, "%s failed (status %d): its message is above", excerpt_of(program).text, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 0;
}

static int draw(const struct picture *p, const char *terminal, int out, lsk_error *err)
{
    FILE *script = tmpfile();
    if (!script)
        return complain(err, LSK_ECREATE, "a temporary file: %s", strerror(errno));
    fprintf(script, "set terminal %s size %d,%d background '#ffffff'\n", terminal, p->width, p->height);
    p->script(script, p->ud);
    int bad = fflush(script) || ferror(script) || lseek(fileno(script), 0, SEEK_SET);
    int r = bad ? complain(err, LSK_EIO, "a temporary file: %s", strerror(errno)) : run_gnuplot(p->gnuplot, fileno(script), out, err);
    fclose(script);
    return r;
}

int picture_draw(const struct picture *p, const char *path, lsk_error *err)
{
    struct whole_file w;
    int r = whole_open(&w, path, err);
    return r < 0 ? r : whole_close(&w, draw(p, is_svg(path) ? "svg dynamic" : "pngcairo", fileno(w.f), err), err);
}

int picture_inline(const struct picture *p, const char *name, FILE *out, lsk_error *err)
{
    char terminal[96], line[8192];
    FILE *f = tmpfile();
    int r = f ? 0 : complain(err, LSK_ECREATE, "a temporary file: %s", strerror(errno)), inside = 0;
    snprintf(terminal, sizeof terminal, "svg dynamic name '%.40s'", name);
    if (r >= 0)
        r = draw(p, terminal, fileno(f), err);
    if (r >= 0)
        rewind(f);
    while (r >= 0 && fgets(line, sizeof line, f)) { /* what stands before the element is for files of their own */
        inside |= !strncmp(line, "<svg", 4);
        if (inside)
            fputs(line, out);
    }
    if (f)
        fclose(f);
    return r;
}
