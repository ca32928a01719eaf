/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <time.h>

#include "command.h"
#include "hub_cache.h"
#include "messages.h"
#include "record.h"
#include "summary.h"

struct list_args {
    int json;
};

static const struct option list_options[] = {{"json", OPT_FLAG, offsetof(struct list_args, json), .help = "print JSON, one object in a line"}, {0}};
static const struct option_group groups[] = {{"output", list_options, 0}, {0}};

struct listing {
    int json, n;
};

static void print_json(const struct cached_model *m, const char *name)
{
    struct record r = {0};
    record_text(&r, "model", name);
    record_text(&r, "revision", m->revision);
    record_text(&r, "commit", m->commit);
    record_text(&r, "path", m->path);
    record_whole(&r, "files", (unsigned)m->files);
    record_whole(&r, "bytes", m->bytes);
    record_whole(&r, "changed", (unsigned long long)m->changed);
    record_json(stdout, &r);
    putchar('\n');
}

static void print_row(const struct cached_model *m, const char *name)
{
    char size[32], day[16] = "", revision[24];
    struct tm t;
    time_t changed = (time_t)m->changed;
    if (localtime_r(&changed, &t))
        strftime(day, sizeof day, "%Y-%m-%d", &t);
    snprintf(revision, sizeof revision, "%.20s", m->files ? *m->revision ? m->revision : m->commit : "(incomplete)");
    printf("%-56s  %-20s  %10s  %s\n", name, revision, bytes_text(m->bytes, size, sizeof size), day);
}

static int show(void *ud, const struct cached_model *m)
{
    struct listing *l = ud;
    char name[1300];
    snprintf(name, sizeof name, "%s%s%s", m->id, *m->label ? ":" : "", m->label);
    if (!l->n++ && !l->json)
        printf("%-56s  %-20s  %10s  %s\n", "MODEL", "REVISION", "SIZE", "CHANGED");
    if (l->json)
        print_json(m, name);
    else
        print_row(m, excerpt_of(name).text);
    return 0;
}

static int list(const void *args, lsk_error *err)
{
    struct listing l = {.json = ((const struct list_args *)args)->json};
    char root[HUB_PATH];
    int r = cache_root(root, sizeof root, err);
    if (r >= 0)
        r = cache_list(show, &l, err);
    if (r >= 0 && !l.n)
        fprintf(stderr, "no models in %s: `layerskip pull ORG/NAME` brings one\n", excerpt_of(root).text);
    return r;
}

const struct command command_list = {"list",
                                     "lists the models that are in the hub's cache",
                                     "[OPTIONS]",
                                     "What stands under MODEL is what `-hf`, `pull` and `rm` take. A repository's revision may have moved on at the hub: `pull` asks. Incomplete\n"
                                     "downloads go on with the next `pull`; `rm ORG/NAME` removes them too.",
                                     "  layerskip list\n  layerskip list --json | jq -r .path\n",
                                     "",
                                     groups,
                                     sizeof(struct list_args),
                                     list,
                                     NULL};
