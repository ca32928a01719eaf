/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "folders.h"
#include "messages.h"
#include "summary.h"

enum { FILE_MAX = 65536, PATH_CAP = 4096 };

int profile_path(const lsk_model_info *m, char *out, size_t cap, lsk_error *err)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int absolute = config && *config == '/'; /* the specification has others ignored */
    if (!absolute && !(home && *home == '/'))
        return complain(err, LSK_ECONFIG, "no place for profiles: neither XDG_CONFIG_HOME nor HOME is an absolute path");
    int n = snprintf(out, cap, "%s%s/layerskip/profiles/%s.json", absolute ? config : home, absolute ? "" : "/.config", m->id);
    return (size_t)n < cap ? 0 : complain(err, LSK_ECONFIG, "no place for profiles: the path of the configuration is longer than %zu bytes", cap);
}

/* ---- reading ---- */

static int read_number(const json_t *j, const char *key, int min, int max, int *out, lsk_error *err)
{
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return complain(err, LSK_EDATA, "\"%s\" must be a whole number from %d to %d", key, min, max);
    *out = (int)json_integer_value(v);
    return 0;
}

static int read_profile(const json_t *j, int n_layers, struct profile *out, lsk_error *err)
{
    const char *date = json_string_value(json_object_get(json_object_get(j, "measured"), "date"));
    const json_t *drafter = json_object_get(j, "drafter");
    int r = read_number(j, "exit_layer", 0, n_layers - 1, &out->draft.exit_layer, err);
    if (!r && drafter && (!json_is_string(drafter) || json_string_length(drafter) >= sizeof out->drafter || check_drafter(json_string_value(drafter), err) < 0))
        r = complain(err, LSK_EDATA, "\"drafter\" must name drafters that this program has, joined by +");
    if (!r && drafter)
        strcpy(out->drafter, json_string_value(drafter));
    if (!r)
        r = read_number(j, "num_speculations", out->draft.exit_layer > 0 && !drafter, LSK_MAX_DRAFTS, &out->draft.num_speculations, err);
    if (!r && (!date || strspn(date, "0123456789-") < 10))
        r = complain(err, LSK_EDATA, "\"measured\" must have a \"date\" that begins as 2026-11-23");
    if (!r)
        snprintf(out->source, sizeof out->source, "measured %.10s", date);
    return r;
}

/* Bytes of a small regular file, or below zero: LSK_ENOINPUT when it is not there. */
static int read_small(const char *path, char *text, size_t cap, lsk_error *err)
{
    struct stat st;
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && !fstat(fd, &st) && (!S_ISREG(st.st_mode) || st.st_size > (off_t)cap))
        complain(err, LSK_EDATA, "not a regular file of at most %zu bytes", cap);
    else if (fd < 0 || (n = read(fd, text, cap)) < 0)
        complain(err, errno == ENOENT || errno == ENOTDIR ? LSK_ENOINPUT : LSK_EIO, "%s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return n < 0 ? err->code : (int)n;
}

static int read_file(const char *path, int n_layers, struct profile *out, lsk_error *err)
{
    char text[FILE_MAX];
    json_error_t where;
    int n = read_small(path, text, sizeof text, err);
    if (n < 0)
        return n;
    json_t *j = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &where);
    int r = j ? read_profile(j, n_layers, out, err) : complain(err, LSK_EDATA, "offset %d: %s", where.position, where.text);
    json_decref(j);
    return r;
}

struct profile profile_find(const lsk_model_info *m)
{
    struct profile p = {.source = ""};
    char path[PATH_CAP], line[PATH_CAP + 600];
    lsk_error err;
    int r = profile_path(m, path, sizeof path, &err) ? LSK_ENOINPUT : read_file(path, m->n_layers, &p, &err);
    if (!r)
        return p;
    if (r == LSK_ENOINPUT)
        return m->exit_layer ? (struct profile){.draft = {m->exit_layer, m->num_speculations}, .source = "from the checkpoint"} : (struct profile){.source = ""};
    snprintf(line, sizeof line, "%s: no profile: %s; decoding is plain: remove the file or measure again", path, err.text);
    print_warning(line);
    return (struct profile){.source = ""};
}

/* ---- writing ---- */

static int write_profile(const char *path, const struct profile *p, const struct record *measured)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return -1;
    fprintf(f, "{\"exit_layer\": %d, \"num_speculations\": %d, ", p->draft.exit_layer, p->draft.num_speculations);
    if (*p->drafter)
        fprintf(f, "\"drafter\": \"%s\", ", p->drafter);
    fputs("\"measured\": ", f);
    record_json(f, measured);
    fputs("}\n", f);
    int bad = fflush(f) || ferror(f) || fsync(fileno(f));
    return fclose(f) || bad;
}

int profile_check(const lsk_model_info *m, lsk_error *err)
{
    char path[PATH_CAP];
    int r = profile_path(m, path, sizeof path, err), bad = r ? 0 : make_folders(path);
    if (r)
        return r;
    *strrchr(path, '/') = 0;
    return bad || access(path, W_OK | X_OK) ? complain(err, LSK_ECREATE, "%s: no profile can be saved there: %s", path, strerror(errno)) : 0;
}

int profile_save(const lsk_model_info *m, const struct profile *p, const struct record *measured, lsk_error *err)
{
    char path[PATH_CAP], temp[PATH_CAP + 32];
    int r = profile_path(m, path, sizeof path, err);
    if (r)
        return r;
    snprintf(temp, sizeof temp, "%s.tmp-%ld", path, (long)getpid());
    if (!make_folders(path) && !write_profile(temp, p, measured) && !rename(temp, path) && !sync_folder(path))
        return 0;
    r = complain(err, LSK_ECREATE, "%s: %s", path, strerror(errno));
    unlink(temp);
    return r;
}

static const double least_gain = 1.03;

int profile_keep(const lsk_model_info *m, const struct profile *best, double speedup, const struct record *measured, lsk_error *err)
{
    static const struct profile plain;
    const struct profile *p = speedup >= least_gain ? best : &plain;
    char path[PATH_CAP];
    int r = profile_save(m, p, measured, err);
    if (r < 0 || (r = profile_path(m, path, sizeof path, err)) < 0)
        return r;
    fputs("profile saved to ", stderr);
    print_shown(stderr, path);
    if (p == &plain)
        fputs(": drafting gains less than 3 %, plain decoding stays\n", stderr);
    else
        fprintf(stderr, ": %s%sexit layer %d, %d draft%s in a round\n", p->drafter, *p->drafter ? ", " : "", p->draft.exit_layer, p->draft.num_speculations, plural(p->draft.num_speculations));
    return 0;
}

/* ---- using ---- */

void profile_apply(const struct profile *p, lsk_generate_options *o)
{
    if (!*p->drafter || (o->drafter && strcmp(o->drafter, "auto")) || o->exit_layer || o->num_speculations || o->depth)
        return;
    o->drafter = p->drafter;
    o->exit_layer = p->draft.exit_layer;
    o->num_speculations = p->draft.num_speculations;
}
