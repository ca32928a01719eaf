/* SPDX-License-Identifier: Apache-2.0 */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hub_cache.h"
#include "hub_fetch.h"
#include "messages.h"

const struct option hub_options[] = {
    {"hf-repo hf hfr", OPT_TEXT, offsetof(struct hub_args, repository), "ORG/NAME[:TYPE]", .instead = "model",
     .help = "a model of the Hugging Face hub: from the cache that its own tools use, else downloaded into it; :Q4_1 is the GGUF file of that type, :FILE that file, :safetensors the folder; "
             "without it Q8_0, else Q4_1, else the first, else the folder"},
    {"hf-file hff", OPT_TEXT, offsetof(struct hub_args, file), "FILE", .help = "the file, as behind the colon"},
    {"hf-token hft", OPT_TEXT, offsetof(struct hub_args, token), "TOKEN", .help = "for gated and private repositories; without it HF_TOKEN, else what `hf auth login` has left. Other users see a command line: prefer HF_TOKEN"},
    {"revision", OPT_TEXT, offsetof(struct hub_args, revision), "NAME", "main", .help = "branch, tag or commit"},
    {"offline", OPT_FLAG, offsetof(struct hub_args, offline), .help = "never ask the hub, as HF_HUB_OFFLINE=1: only what is in the cache"},
    {0}};

int hub_split(const char *text, char *id, size_t cap, const char **pick, lsk_error *err)
{
    size_t n = strcspn(text, ":");
    *pick = text[n] ? text + n + 1 : "";
    if (n >= cap || (text[n] && !**pick))
        return complain(err, LSK_EUSAGE, "\"%s\": must be ORG/NAME or ORG/NAME:FILE-OR-TYPE", excerpt_of(text).text);
    snprintf(id, cap, "%.*s", (int)n, text);
    return 0;
}

/* As Python's tools read such variables. */
static int is_on(const char *variable)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = getenv(variable);
    for (size_t i = 0; value && i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(value, words[i]))
            return 1;
    return 0;
}

/* The token in the file, NULL where there is none. */
static const char *stored_token(char *out, size_t cap)
{
    const char *named = getenv("HF_TOKEN_PATH");
    char path[HUB_PATH];
    lsk_error ignored;
    if (named && *named)
        snprintf(path, sizeof path, "%s", named);
    else if (cache_home(path, sizeof path - 7, &ignored) < 0)
        return NULL;
    else
        strcat(path, "/token");
    FILE *f = fopen(path, "re");
    int found = f && fgets(out, (int)cap, f);
    if (f)
        fclose(f);
    if (!found)
        return NULL;
    out[strcspn(out, " \t\r\n")] = 0;
    return *out ? out : NULL;
}

static int find_token(const struct hub_args *a, char *out, size_t cap, const char **token, lsk_error *err)
{
    const char *given = a->token ? a->token : getenv("HF_TOKEN");
    *token = given && *given ? given : stored_token(out, cap);
    for (const char *c = *token; c && *c; c++)
        if (*c <= ' ' || *c >= 0x7f)
            return complain(err, LSK_EUSAGE, "%s: a token has only letters, digits and signs", a->token ? "--hf-token" : "HF_TOKEN");
    return 0;
}

static int find_endpoint(char *out, size_t cap, lsk_error *err)
{
    const char *given = getenv("HF_ENDPOINT");
    int n = snprintf(out, cap, "%s", given && *given ? given : "https://huggingface.co");
    while (n > 0 && (size_t)n < cap && out[n - 1] == '/')
        out[--n] = 0;
    if ((size_t)n >= cap || (strncasecmp(out, "http://", 7) && strncasecmp(out, "https://", 8)) || strpbrk(out, " \t\r\n?#@"))
        return complain(err, LSK_EUSAGE, "HF_ENDPOINT: \"%s\": must be an address such as https://huggingface.co", excerpt_of(given ? given : "").text);
    return 0;
}

/* The model that the cache has under the repository's commit: its path goes to *path. */
static int find_cached(const struct hub_repository *r, const char *want, int tell, char **path, lsk_error *err)
{
    struct names all = {0};
    struct model_files m = {0};
    char others[200], place[HUB_PATH], line[1800];
    int rc = cache_names(r, &all, err);
    if (rc >= 0)
        rc = choose_model(&all, want, &m, others, sizeof others, err);
    if (rc >= 0)
        rc = cache_path(r, m.open, place, sizeof place, err);
    if (rc >= 0 && tell && *others && *m.open) {
        snprintf(line, sizeof line, "%s: %s is used; %s:TYPE takes another of those in the cache: %s", r->id, m.label, r->id, others);
        print_warning(line);
    }
    if (rc >= 0 && !(*path = strdup(place)))
        rc = complain(err, LSK_EOS, "out of memory");
    names_free(&m.files);
    names_free(&all);
    return rc;
}

static int ask_hub(const struct hub_args *a, struct hub_repository *r, const char *want, int progress, char **path, lsk_error *err)
{
    char endpoint[1024], stored[1024], chosen[1100] = "";
    struct hub_source source = {.endpoint = endpoint, .progress = progress};
    int rc = find_endpoint(endpoint, sizeof endpoint, err);
    if (rc >= 0)
        rc = find_token(a, stored, sizeof stored, &source.token, err);
    if (rc >= 0)
        rc = hub_fetch(&source, r, want, chosen, sizeof chosen, err);
    return rc < 0 ? rc : find_cached(r, chosen, 0, path, err);
}

/* The cache has no such model, and nobody may be asked. */
static int refuse_offline(const struct hub_args *a, const struct hub_repository *r, lsk_error *err)
{
    lsk_error why = *err;
    return complain(err, LSK_ENOINPUT, "%s, revision %s: not in the cache %s (%.120s), and %s forbids to ask the hub: `layerskip pull` it while online", r->id, r->revision, r->folder,
                    *r->commit ? why.text : "nothing of it is", a->offline ? "--offline" : "HF_HUB_OFFLINE");
}

int hub_find(const struct hub_args *a, enum hub_when when, int progress, char **path, lsk_error *err)
{
    struct hub_repository r;
    char id[200];
    const char *want;
    int offline = a->offline || is_on("HF_HUB_OFFLINE"), rc = hub_split(a->repository, id, sizeof id, &want, err);
    if (rc >= 0 && *want && a->file)
        rc = complain(err, LSK_EUSAGE, "--hf-file: \"%s\": the file is said behind the colon already", excerpt_of(a->file).text);
    if (rc >= 0)
        rc = cache_open(&r, id, a->revision ? a->revision : "main", err);
    if (rc < 0)
        return rc;
    want = a->file ? a->file : *want ? want : NULL;
    if (when == CACHE_FIRST || offline)
        rc = find_cached(&r, want, 1, path, err);
    else
        rc = LSK_ENOINPUT;
    if (rc != LSK_ENOINPUT)
        return rc;
    return offline ? refuse_offline(a, &r, err) : ask_hub(a, &r, want, progress, path, err);
}

int find_model(const char *path, const struct hub_args *a, int progress, char **out, lsk_error *err)
{
    if (path && a->repository)
        return complain(err, LSK_EUSAGE, "both --model and --hf-repo are given: give one of them");
    if (a->repository)
        return hub_find(a, CACHE_FIRST, progress, out, err);
    if (a->file)
        return complain(err, LSK_EUSAGE, "--hf-file: \"%s\": of which repository? Give -hf ORG/NAME too", excerpt_of(a->file).text);
    if (!path)
        return complain(err, LSK_EUSAGE, "no model given: -m PATH, a folder or a file, or -hf ORG/NAME");
    return (*out = strdup(path)) ? 0 : complain(err, LSK_EOS, "out of memory");
}
