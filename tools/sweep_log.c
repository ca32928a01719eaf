/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "messages.h"

static const char first_word[] = "# layerskip sweep ";

/* The columns, the first ones as in the original sweep. */
enum kind { WHOLE, REAL, TEXT };
#define COLUMN(name, kind, field) {name, kind, offsetof(struct sweep_cell, field), sizeof ((struct sweep_cell *)0)->field}
static const struct {
    const char *name;
    enum kind kind;
    size_t at, size;
} columns[] = {COLUMN("exit_layer", WHOLE, exit_layer),
               COLUMN("num_speculations", WHOLE, drafts),
               COLUMN("acceptance_rate", REAL, acceptance),
               COLUMN("total_time", REAL, seconds),
               COLUMN("time_per_token", REAL, token_ms),
               COLUMN("tokens_per_second", REAL, rate),
               COLUMN("drafter", TEXT, drafter),
               COLUMN("plain_tokens_per_second", REAL, plain_rate),
               COLUMN("speedup", REAL, speedup),
               COLUMN("speedup_low", REAL, low),
               COLUMN("speedup_high", REAL, high),
               COLUMN("mean_accepted_length", REAL, length),
               COLUMN("tokens", WHOLE, tokens),
               COLUMN("rounds", WHOLE, rounds),
               COLUMN("drafted", WHOLE, drafted),
               COLUMN("accepted", WHOLE, accepted),
               COLUMN("repetitions", WHOLE, repetitions),
               COLUMN("date", TEXT, date)};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* ---- reading ---- */

/* What texts consist of: they go on into scripts of gnuplot. */
static const char plain_text[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-:";

static int read_cell(char *line, struct sweep_cell *c)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        char *field = (char *)c + columns[i].at, *value = strsep(&line, ",");
        int64_t whole;
        if (!value || (line == NULL) != (i + 1 == N_COLUMNS))
            return -1;
        if (columns[i].kind == TEXT && strlen(value) < columns[i].size && !value[strspn(value, plain_text)])
            strcpy(field, value);
        else if (columns[i].kind == WHOLE && !read_whole(value, &whole) && whole >= 0 && whole <= INT32_MAX)
            *(int *)field = (int)whole;
        else if (columns[i].kind != REAL || read_real(value, (double *)field) < 0)
            return -1;
    }
    return 0;
}

static int keep(struct sweep_log *l, const struct sweep_cell *c, lsk_error *err)
{
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 64;
        struct sweep_cell *bigger = realloc(l->cell, (size_t)cap * sizeof *bigger);
        if (!bigger)
            return complain(err, LSK_EOS, "out of memory");
        l->cell = bigger;
        l->cap = cap;
    }
    l->cell[l->n++] = *c;
    return 0;
}

void sweep_log_note(struct sweep_log *l, const char *name, const char *text)
{
    if (l->n_notes == SWEEP_NOTES)
        return;
    snprintf(l->note[l->n_notes].name, sizeof l->note->name, "%s", name);
    snprintf(l->note[l->n_notes].text, sizeof l->note->text, "%s", text);
    l->n_notes++;
}

const char *sweep_log_said(const struct sweep_log *l, const char *name)
{
    for (int i = 0; i < l->n_notes; i++)
        if (!strcmp(l->note[i].name, name))
            return l->note[i].text;
    return "";
}

static void print_header(FILE *out)
{
    for (int i = 0; i < N_COLUMNS; i++)
        fprintf(out, "%s%s", i ? "," : "", columns[i].name);
    fputc('\n', out);
}

static int is_header(const char *line)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        size_t n = strlen(columns[i].name);
        if (strncmp(line, columns[i].name, n) || line[n] != (i + 1 < N_COLUMNS ? ',' : 0))
            return 0;
        line += n + 1;
    }
    return 1;
}

static int no_sweep(const struct sweep_log *l, lsk_error *err)
{
    return complain(err, LSK_EDATA, "%s: no sweep: its first line must begin with \"%s\"", excerpt_of(l->path).text, first_word);
}

/* One line by its number. *headed: the columns have been named. */
static int read_line(struct sweep_log *l, char *line, int number, int *headed, lsk_error *err)
{
    struct sweep_cell c = {.drafter = ""};
    char *colon = *line == '#' ? strstr(line, ": ") : NULL;
    if (number == 1 ? strncmp(line, first_word, sizeof first_word - 1) != 0 : 0)
        return no_sweep(l, err);
    if (number == 1) {
        snprintf(l->key, sizeof l->key, "%s", line + sizeof first_word - 1);
    } else if (colon) {
        *colon = 0;
        sweep_log_note(l, line + 2, colon + 2);
    } else if (!*headed) {
        *headed = is_header(line);
        return *headed ? 0 : complain(err, LSK_EDATA, "%s: line %d: the columns are not those of this version: give another --output", excerpt_of(l->path).text, number);
    } else if (read_cell(line, &c) < 0) {
        return complain(err, LSK_EDATA, "%s: line %d: no row of a sweep: %d columns are needed, as the header names them", excerpt_of(l->path).text, number, N_COLUMNS);
    } else {
        return keep(l, &c, err);
    }
    return 0;
}

/* *end: what of the file is whole lines; 0 where its columns are not named yet, as a kill in the first write leaves it. */
static int read_all(struct sweep_log *l, size_t *end, lsk_error *err)
{
    char *text = NULL, *p;
    size_t n = 0;
    int r = read_stream(l->path, &text, &n, err), headed = 0, number = 0;
    for (p = text; r >= 0 && p; ) {
        char *stop = memchr(p, '\n', n - (size_t)(p - text));
        if (!stop)
            break;
        *stop = 0;
        r = read_line(l, p, ++number, &headed, err);
        p = stop + 1;
    }
    if (r >= 0)
        *end = headed ? (size_t)(p - text) : 0;
    if (r >= 0 && !number && strncmp(text, first_word, n < sizeof first_word - 1 ? n : sizeof first_word - 1))
        r = no_sweep(l, err);
    free(text);
    return r;
}

int sweep_log_read(struct sweep_log *l, const char *path, lsk_error *err)
{
    size_t end = 0;
    *l = (struct sweep_log){.path = path};
    int r = read_all(l, &end, err);
    return r < 0 || end ? r : complain(err, LSK_EDATA, "%s: no sweep: it ends before its columns are named", excerpt_of(path).text);
}

/* ---- going on ---- */

/* The first word in which two keys differ, as "threads=4". */
static void first_difference(const char *a, const char *b, char *out_a, char *out_b, size_t cap)
{
    for (;;) {
        size_t n = strcspn(a, " "), m = strcspn(b, " ");
        if (n != m || strncmp(a, b, n) || !*a) {
            snprintf(out_a, cap, "%.*s", (int)n, a);
            snprintf(out_b, cap, "%.*s", (int)m, b);
            return;
        }
        a += n + (a[n] == ' ');
        b += m + (b[m] == ' ');
    }
}

static int go_on(struct sweep_log *l, const char *key, size_t end, lsk_error *err)
{
    char was[128], is[128];
    int r = 0;
    if (strcmp(l->key, key)) {
        first_difference(l->key, key, was, is, sizeof was);
        r = complain(err, LSK_EDATA, "%s: was measured with %s, this sweep is with %s: give another --output", excerpt_of(l->path).text, excerpt_of(was).text, excerpt_of(is).text);
    }
    if (r >= 0 && (truncate(l->path, (off_t)end) || !(l->f = fopen(l->path, "ae"))))
        r = complain(err, LSK_ECREATE, "%s: %s", excerpt_of(l->path).text, strerror(errno));
    return r;
}

static int write_out(struct sweep_log *l, lsk_error *err)
{
    return !fflush(l->f) && !ferror(l->f) && !fsync(fileno(l->f)) ? 0 : complain(err, LSK_EIO, "%s: cannot write: %s", excerpt_of(l->path).text, strerror(errno));
}

static int begin(struct sweep_log *l, lsk_error *err)
{
    l->f = fopen(l->path, "we");
    if (!l->f)
        return complain(err, LSK_ECREATE, "%s: cannot create: %s", excerpt_of(l->path).text, strerror(errno));
    fprintf(l->f, "%s%s\n", first_word, l->key);
    for (int i = 0; i < l->n_notes; i++) {
        fprintf(l->f, "# %s: ", l->note[i].name);
        print_shown(l->f, l->note[i].text);
        fputc('\n', l->f);
    }
    print_header(l->f);
    return write_out(l, err);
}

int sweep_log_open(struct sweep_log *l, const char *path, lsk_error *err)
{
    l->path = path;
    if (!path)
        return 0;
    const struct sweep_log asked = *l;
    size_t end = 0;
    l->n_notes = 0;
    int r = access(path, F_OK) ? 0 : read_all(l, &end, err);
    if (r < 0)
        return r;
    if (end)
        return go_on(l, asked.key, end, err);
    *l = asked;
    return begin(l, err);
}

int sweep_log_add(struct sweep_log *l, const struct sweep_cell *c, lsk_error *err)
{
    int r = keep(l, c, err);
    if (r < 0 || !l->f)
        return r;
    for (int i = 0; i < N_COLUMNS; i++) {
        const char *field = (const char *)c + columns[i].at;
        fputs(i ? "," : "", l->f);
        if (columns[i].kind == TEXT)
            fputs(field, l->f);
        else if (columns[i].kind == WHOLE)
            fprintf(l->f, "%d", *(const int *)field);
        else
            fprintf(l->f, "%.6g", *(const double *)field);
    }
    fputc('\n', l->f);
    return write_out(l, err);
}

void sweep_log_close(struct sweep_log *l)
{
    if (l->f)
        fclose(l->f);
    free(l->cell);
}

/* ---- asking ---- */

static int is_of(const struct sweep_cell *c, const struct sweep_cell *setting)
{
    return c->exit_layer == setting->exit_layer && c->drafts == setting->drafts && !strcmp(c->drafter, setting->drafter);
}

const struct sweep_cell *sweep_log_first(const struct sweep_log *l, const struct sweep_cell *setting)
{
    for (int i = 0; i < l->n; i++)
        if (is_of(&l->cell[i], setting))
            return &l->cell[i];
    return NULL;
}

const struct sweep_cell *sweep_log_find(const struct sweep_log *l, const struct sweep_cell *setting)
{
    for (int i = l->n - 1; i >= 0; i--)
        if (is_of(&l->cell[i], setting))
            return &l->cell[i];
    return NULL;
}

const struct sweep_cell *sweep_log_best(const struct sweep_log *l)
{
    const struct sweep_cell *best = NULL;
    for (int i = 0; i < l->n; i++) {
        const struct sweep_cell *c = &l->cell[i];
        if (!best || c->repetitions > best->repetitions || (c->repetitions == best->repetitions && c->speedup > best->speedup))
            best = c;
    }
    return best;
}

const char *sweep_key_word(const char *key, const char *name, char *out, size_t cap)
{
    const size_t n = strlen(name);
    *out = 0;
    for (const char *p = key; *p; p += strcspn(p, " "), p += *p == ' ')
        if (!strncmp(p, name, n) && p[n] == '=')
            snprintf(out, cap, "%.*s", (int)strcspn(p + n + 1, " "), p + n + 1);
    return out;
}
