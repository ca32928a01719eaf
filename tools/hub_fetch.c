/* SPDX-License-Identifier: Apache-2.0 */
#include "hub_fetch.h"

#include "messages.h"

#if LSK_HUB
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub_download.h"
#include "hub_http.h"

enum { LISTING = 32 << 20, MOST_FILES = 4000 };

/* {"sha": COMMIT, "siblings": [{"rfilename": NAME}, ...]}: the names that may matter and are safe, sorted. A revision that is a commit stands for no other. */
static int read_listing(const struct hub_http *h, const char *text, size_t n, struct hub_repository *to, struct names *out, lsk_error *err)
{
    json_error_t where;
    json_t *j = json_loadb(text, n, 0, &where);
    const char *sha = json_string_value(json_object_get(j, "sha"));
    const json_t *files = json_object_get(j, "siblings");
    int r = 0;
    if (!j)
        r = complain(err, LSK_EDATA, "%s: %s lists it in no valid JSON: offset %d: %s", h->repository, h->endpoint, where.position, where.text);
    else if (!sha || !is_commit(sha) || !json_is_array(files))
        r = complain(err, LSK_EDATA, "%s: %s lists it without \"sha\" (40 hexadecimal digits) and \"siblings\": it is no hub: see HF_ENDPOINT", h->repository, h->endpoint);
    else if (is_commit(to->revision) && strcmp(sha, to->revision))
        r = complain(err, LSK_EDATA, "%s: commit %s was asked for, but %s answers with %s: ask another hub (HF_ENDPOINT)", h->repository, to->revision, h->endpoint, sha);
    else
        memcpy(to->commit, sha, HUB_COMMIT);
    for (size_t i = 0; r >= 0 && i < json_array_size(files); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(files, i), "rfilename"));
        if (name && name_is_safe(name) && name_matters(name))
            r = out->n < MOST_FILES ? names_add(out, name, err) : complain(err, LSK_EDATA, "%s: more than %d model files", h->repository, MOST_FILES);
    }
    json_decref(j);
    names_sort(out);
    return r;
}

static int list_repository(struct hub_http *h, struct hub_repository *r, struct names *out, lsk_error *err)
{
    char url[HUB_URL], *text = NULL;
    size_t n = 0;
    int rc = http_url(h, "api/models/", "revision", r->revision, "", url, sizeof url, err);
    if (rc >= 0)
        rc = http_text(h, url, LISTING, &text, &n, err);
    if (rc >= 0)
        rc = read_listing(h, text, n, r, out, err);
    free(text);
    return rc;
}

static int fetch_files(struct hub_http *h, const struct hub_repository *r, const struct model_files *m, lsk_error *err)
{
    char what[200];
    int rc = 0;
    for (int i = 0; rc >= 0 && i < m->files.n; i++) {
        const char *name = m->files.name[i], *base = strrchr(name, '/');
        snprintf(what, sizeof what, m->files.n > 1 ? "%s (%d of %d)" : "%s", base ? base + 1 : name, i + 1, m->files.n);
        rc = download_file(h, r, name, what, err);
    }
    return rc;
}

/* The revision is about to stand for another commit: models of the old one that are the same in the new one stay startable under its name. */
static int carry_over(struct hub_http *h, const struct hub_repository *old, const struct hub_repository *new, const struct names *listed, lsk_error *err)
{
    struct names known = {0};
    struct models models = {0};
    int rc = *old->commit && strcmp(old->commit, new->commit) ? cache_names(old, &known, err) : 0;
    if (rc >= 0)
        rc = models_find(&known, &models, err);
    for (int k = 0; rc >= 0 && k < models.n; k++) {
        const struct names *files = &models.model[k].files;
        rc = 1;
        for (int i = 0; rc > 0 && i < files->n; i++)
            rc = names_find(listed, files->name[i]) ? link_known(h, new, files->name[i], err) : 0;
    }
    models_free(&models);
    names_free(&known);
    return rc;
}

int hub_fetch(const struct hub_source *source, struct hub_repository *r, const char *want, char *chosen, size_t cap, lsk_error *err)
{
    struct progress progress = progress_start(source->progress);
    struct hub_http h = {.endpoint = source->endpoint, .token = source->token, .repository = r->id, .progress = &progress};
    const struct hub_repository before = *r;
    struct names all = {0};
    struct model_files m = {0};
    char others[200] = "", line[1800];
    int rc = http_open(&h, err);
    if (rc >= 0)
        rc = list_repository(&h, r, &all, err);
    if (rc >= 0 && (rc = choose_model(&all, want, &m, others, sizeof others, err)) == LSK_ENOINPUT) {
        lsk_error why = *err;
        complain(err, rc, "%s, revision %s: %s", r->id, r->revision, why.text);
    }
    if (rc >= 0 && *others && *m.open) {
        snprintf(line, sizeof line, "%s: %s is taken; %s:TYPE takes another of: %s", r->id, m.label, r->id, others);
        print_warning(line);
    }
    if (rc >= 0) {
        snprintf(chosen, cap, "%s", *m.open ? m.open : m.label);
        rc = fetch_files(&h, r, &m, err);
    }
    if (rc >= 0)
        rc = carry_over(&h, &before, r, &all, err);
    if (rc >= 0)
        rc = cache_set_revision(r, err);
    progress_end(&progress);
    http_close(&h);
    terminal_release();
    names_free(&m.files);
    names_free(&all);
    return rc;
}
#else
int hub_fetch(const struct hub_source *source, struct hub_repository *r, const char *want, char *chosen, size_t cap, lsk_error *err)
{
    (void)want, (void)chosen, (void)cap;
    return complain(err, LSK_EUNAVAILABLE, "%s: not in the cache, and this layerskip was built without libcurl: install libcurl4-openssl-dev and libssl-dev and build again, or fetch it otherwise from %s", r->id,
                    source->endpoint);
}
#endif
