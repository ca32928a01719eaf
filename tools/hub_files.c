/* SPDX-License-Identifier: Apache-2.0 */
#include "hub_files.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "messages.h"

/* ---- names ---- */

int names_add(struct names *l, const char *name, lsk_error *err)
{
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 32;
        char **bigger = realloc(l->name, (size_t)cap * sizeof *bigger);
        if (!bigger)
            return complain(err, LSK_EOS, "out of memory");
        l->name = bigger;
        l->cap = cap;
    }
    l->name[l->n] = strdup(name);
    return l->name[l->n++] ? 0 : (l->n--, complain(err, LSK_EOS, "out of memory"));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void names_sort(struct names *l)
{
    int n = 0;
    if (l->n)
        qsort(l->name, (size_t)l->n, sizeof *l->name, by_text);
    for (int i = 0; i < l->n; i++)
        if (n && !strcmp(l->name[n - 1], l->name[i]))
            free(l->name[i]);
        else
            l->name[n++] = l->name[i];
    l->n = n;
}

void names_free(struct names *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->name[i]);
    free(l->name);
    *l = (struct names){0};
}

const char *names_find(const struct names *l, const char *name)
{
    char *const *found = l->n ? bsearch(&name, l->name, (size_t)l->n, sizeof *l->name, by_text) : NULL;
    return found ? *found : NULL;
}

int name_is_safe(const char *name)
{
    size_t n = strlen(name);
    for (const char *part = name; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
        size_t length = strcspn(part, "/");
        if (!length || length > 255 || (*part == '.' && (length == 1 || (length == 2 && part[1] == '.'))))
            return 0;
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f || name[i] == '\\')
            return 0;
    return n < 1024;
}

int repository_is_valid(const char *id)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *slash = strchr(id, '/');
    for (const char *part = id; part; part = part == id && slash ? slash + 1 : NULL) {
        size_t n = strspn(part, letters);
        if (!n || n > 96 || (part[n] && part + n != slash) || strchr(".-", *part) || strchr(".-", part[n - 1]))
            return 0;
    }
    return !strstr(id, "--") && !strstr(id, ".."); /* the first parts an id in the cache's folder names */
}

/* ---- GGUF ---- */

/* "stem-00002-of-00003.gguf" is part 2 of 3; a file of its own is part 1 of 1. */
struct part {
    unsigned number, of;
    size_t stem; /* bytes before "-00002" */
};
static struct part part_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name);
    struct part p = {0};
    int taken = 0;
    if (n > 15 && sscanf(name + n - 15, "-%5u-of-%5u%n", &p.number, &p.of, &taken) == 2 && taken == 15 && p.number && p.number <= p.of)
        return (p.stem = n - 15, p);
    return (struct part){1, 1, n};
}

static const char *base_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static int ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcasecmp(name + n - m, end);
}

/* A file to open: GGUF, and the first of its parts; vision encoders and importance matrices lie beside models and are none. */
static int begins_model(const char *name)
{
    return ends_with(name, ".gguf") && part_of(name).number == 1 && strncasecmp(base_of(name), "mmproj", 6) && !strcasestr(base_of(name), "imatrix");
}

/* "Q4_1" of "SmolLM2-135M.q4_1.gguf": the last part of the name that is a type's, in capitals. "" when none is. */
static void type_of(const char *name, char *out, size_t cap)
{
    static const char *const types[] = {"Q[1-9]*", "IQ[1-9]*", "TQ[1-9]*", "F16", "F32", "BF16", "FP16", "FP32", "MXFP4*"};
    const char *base = base_of(name), *end = base + part_of(base).stem;
    char word[64];
    *out = 0;
    for (size_t n; base < end; base += n + 1) {
        n = strcspn(base, ".-");
        n = n < (size_t)(end - base) ? n : (size_t)(end - base);
        snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), base);
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            if (!fnmatch(types[i], word, FNM_CASEFOLD))
                snprintf(out, cap, "%s", word);
    }
    for (char *c = out; *c; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
}

/* The name of another part, NULL where it is missing. */
static const char *find_part(const struct names *all, const char *first, unsigned number)
{
    struct part p = part_of(first);
    char name[1100];
    if (p.of == 1)
        return names_find(all, first);
    snprintf(name, sizeof name, "%.*s-%05u-of-%05u%s", (int)p.stem, first, number, p.of, first + p.stem + 15);
    return names_find(all, name);
}

/* All parts, when all are there: 1, else 0, or below zero. */
static int take_parts(const struct names *all, const char *first, struct names *out, lsk_error *err)
{
    struct part p = part_of(first);
    int r = 1, n = out->n;
    for (unsigned i = 1; r > 0 && i <= p.of; i++) {
        const char *name = find_part(all, first, i);
        r = !name ? 0 : names_add(out, name, err) < 0 ? err->code : 1;
    }
    while (r <= 0 && out->n > n)
        free(out->name[--out->n]);
    return r;
}

static int take_gguf(const struct names *all, const char *first, struct model_files *out, lsk_error *err)
{
    type_of(first, out->type, sizeof out->type);
    out->open = first;
    return take_parts(all, first, &out->files, err);
}

/* ---- a folder of safetensors ---- */

/* What is fetched, in this order. */
static const char *const folder_patterns[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                                              "added_tokens.json", "chat_template*", "model.safetensors.index.json", "model.safetensors", "model-*.safetensors"};
enum { N_PATTERNS = sizeof folder_patterns / sizeof *folder_patterns, SINGLE = N_PATTERNS - 2, SHARDS = N_PATTERNS - 1 };

/* 1 when config, tokenizer and all weights are there. */
static int take_folder(const struct names *all, struct model_files *out, lsk_error *err)
{
    int single = names_find(all, "model.safetensors") != NULL, weights = 0, r = 0;
    if (!names_find(all, "config.json") || !(names_find(all, "tokenizer.json") || names_find(all, "tokenizer.model")))
        return 0;
    for (int k = 0; r >= 0 && k < N_PATTERNS; k++)
        for (int i = 0; r >= 0 && i < all->n; i++) {
            if (fnmatch(folder_patterns[k], all->name[i], FNM_PATHNAME) || (single && (k == SHARDS || k == SINGLE - 1)))
                continue;
            if (k == SHARDS && part_of(all->name[i]).number == 1)
                r = weights = take_parts(all, all->name[i], &out->files, err);
            else if (k < SHARDS)
                r = names_add(&out->files, all->name[i], err);
        }
    out->open = "";
    snprintf(out->type, sizeof out->type, "safetensors");
    return r < 0 ? r : single || (weights > 0 && names_find(all, "model.safetensors.index.json"));
}

/* ---- models ---- */

int name_matters(const char *name)
{
    int matters = ends_with(name, ".gguf") || ends_with(name, ".bin") || ends_with(name, ".pth");
    for (int k = 0; k < N_PATTERNS && !matters; k++)
        matters = !fnmatch(folder_patterns[k], name, FNM_PATHNAME);
    return matters;
}

/* Equal types side by side, and among those equal files. */
static int by_type(const void *a, const void *b)
{
    const struct model_files *x = *(struct model_files *const *)a, *y = *(struct model_files *const *)b;
    int order = strcmp(x->type, y->type);
    return order ? order : strcmp(base_of(x->open), base_of(y->open));
}

/* How much of two neighbours' names is the same: 0, 1: the type, 2: the file too. */
static int likeness(const struct model_files *a, const struct model_files *b)
{
    return strcmp(base_of(a->open), base_of(b->open)) ? !strcmp(a->type, b->type) : 2;
}

static int label_models(const struct models *l, lsk_error *err)
{
    struct model_files **sorted = malloc(((size_t)l->n + 1) * sizeof *sorted);
    if (!sorted)
        return complain(err, LSK_EOS, "out of memory");
    for (int i = 0; i < l->n; i++)
        sorted[i] = &l->model[i];
    qsort(sorted, (size_t)l->n, sizeof *sorted, by_type);
    for (int i = 0; i < l->n; i++) {
        struct model_files *m = sorted[i];
        int before = i ? likeness(sorted[i - 1], m) : 0, after = i + 1 < l->n ? likeness(m, sorted[i + 1]) : 0, shared = before > after ? before : after;
        snprintf(m->label, sizeof m->label, "%s", shared > 1 ? m->open : shared || !*m->type ? base_of(m->open) : m->type);
    }
    free(sorted);
    return 0;
}

int models_find(const struct names *all, struct models *out, lsk_error *err)
{
    int r = 0;
    *out = (struct models){.model = calloc((size_t)all->n + 1, sizeof *out->model)};
    if (!out->model)
        return complain(err, LSK_EOS, "out of memory");
    for (int i = 0; r >= 0 && i <= all->n; i++) {
        struct model_files *m = &out->model[out->n];
        if (i < all->n && !begins_model(all->name[i]))
            continue;
        r = i < all->n ? take_gguf(all, all->name[i], m, err) : take_folder(all, m, err);
        if (r > 0)
            out->n++;
        else
            names_free(&m->files);
    }
    return r < 0 ? r : label_models(out, err);
}

void models_free(struct models *l)
{
    for (int i = 0; i < l->n; i++)
        names_free(&l->model[i].files);
    free(l->model);
    *l = (struct models){0};
}

/* 0: not named, 1: by its type or its file's last part, 2: by its file with all folders, which nothing else can mean. */
static int is_named(const struct model_files *m, const char *want)
{
    int named = !strcasecmp(m->type, want);
    for (int i = 0; *m->open && i < m->files.n && named < 2; i++)
        named = !strcmp(m->files.name[i], want) ? 2 : named || !strcmp(base_of(m->files.name[i]), want);
    return named;
}

/* How much a model is wanted; 0: not at all. */
static int rank_of(const struct model_files *m, const char *want)
{
    if (want)
        return is_named(m, want);
    return !*m->open ? 1 : !strcmp(m->type, "Q8_0") ? 4 : !strcmp(m->type, "Q4_1") ? 3 : 2;
}

static int refuse_choice(const struct names *all, const char *want, const char *labels, lsk_error *err)
{
    if (*labels)
        return complain(err, LSK_ENOINPUT, "no \"%s\" there: choose one of: %s", excerpt_of(want).text, labels);
    for (int i = 0; i < all->n; i++)
        if (ends_with(all->name[i], ".bin") || ends_with(all->name[i], ".pth"))
            return complain(err, LSK_ENOINPUT, "only PyTorch pickle weights (%s), which are never read: look for a repository with safetensors or GGUF files", excerpt_of(all->name[i]).text);
    return complain(err, LSK_ENOINPUT, "no complete model there: neither a GGUF file nor config.json, a tokenizer and model*.safetensors");
}

/* "Q4_0, Q8_0": every model but that one. */
static void list_others(const struct models *l, int skip, char *out, size_t cap)
{
    size_t n = 0;
    *out = 0;
    for (int i = 0; i < l->n && n < cap; i++)
        if (i != skip)
            n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", l->model[i].label);
}

int choose_model(const struct names *all, const char *want, struct model_files *out, char *others, size_t cap, lsk_error *err)
{
    char labels[400];
    struct models l;
    int best = 0, chosen = -1, equals = 0, r = models_find(all, &l, err);
    for (int i = 0; i < l.n; i++) {
        int rank = rank_of(&l.model[i], want);
        equals = rank > best ? 1 : equals + (rank && rank == best);
        if (rank > best) {
            best = rank;
            chosen = i;
        }
    }
    list_others(&l, -1, labels, sizeof labels);
    list_others(&l, chosen, others, cap);
    if (want)
        *others = 0;
    if (r >= 0 && want && equals > 1)
        r = complain(err, LSK_ENOINPUT, "\"%s\" is more than one: choose one of: %s", excerpt_of(want).text, labels);
    else if (r >= 0 && chosen < 0)
        r = refuse_choice(all, want, labels, err);
    if (r >= 0) {
        *out = l.model[chosen];
        l.model[chosen].files = (struct names){0};
    }
    models_free(&l);
    return r;
}
