/* SPDX-License-Identifier: Apache-2.0 */
#include "train/corpus.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "train/hash.h"

enum {
    PIECE = 1 << 20,     /* bytes of plain text that are encoded at once */
    ROW_MAX = 1 << 26, /* bytes of one row */
    OUT_WORDS = 1 << 18, /* words that are written at once */
    ROOM = 64            /* tokens beyond one for every byte: a space put first, an end */
};

struct work {
    const struct corpus *c;
    const char *path; /* of the file being read */
    struct file_out out;
    struct dataset_header header;
    struct dataset_source *source; /* [n_files] */
    uint64_t read, total; /* bytes of the sources */
    uint64_t *count;      /* [vocab], or NULL: tokens are written, not counted */
    uint32_t *word;       /* [OUT_WORDS] not written yet */
    int n_words, bad;
    int32_t *token;       /* [cap] of the row */
    int cap;
    struct error *err;
};

/* ---- output ---- */

static int flush(struct work *w)
{
    size_t bytes = (size_t)w->n_words * 4;
    int rc = file_write_at(&w->out, DATASET_HEADER + (w->header.tokens - (uint64_t)w->n_words) * 4, w->word, bytes, w->err);
    w->header.content = hash_add(w->header.content, w->word, bytes);
    w->n_words = 0;
    return rc;
}

static int push(struct work *w, uint32_t word)
{
    w->word[w->n_words++] = word;
    w->header.tokens++;
    return w->n_words == OUT_WORDS ? flush(w) : 0;
}

/* Tokens of one document; the first n_given are prompt. */
static int push_tokens(struct work *w, const int32_t *token, int n, int n_given, bool begins)
{
    int rc = 0;
    for (int i = n_given; w->count && i < n; i++)
        w->count[token[i]]++;
    for (int i = 0; !w->count && i < n && !rc; i++)
        rc = push(w, (uint32_t)token[i] | (begins && !i ? DATASET_BEGINS : 0) | (i < n_given ? DATASET_GIVEN : 0));
    w->header.documents += begins && n;
    return rc;
}

/* ---- rows ---- */

static int grow(struct work *w, size_t n)
{
    if (n <= (size_t)w->cap)
        return 0;
    int32_t *bigger = n <= INT32_MAX / 4 ? realloc(w->token, n * sizeof *bigger) : NULL;
    if (!bigger)
        return fail(w->err, ERR_OS, "%s: out of memory for a text of %zu tokens", w->path, n);
    w->token = bigger;
    w->cap = (int)n;
    return 0;
}

/* Appends the tokens of a text to the row's first n; returns how many there are then. */
static int encode(struct work *w, int n, const char *text, size_t bytes)
{
    unsigned flags = w->c->special ? ENCODE_SPECIAL : 0;
    int rc = grow(w, (size_t)n + bytes + ROOM);
    int count = rc ? rc : tokenizer_encode(w->c->tokenizer, text, bytes, flags, w->token + n, w->cap - n - 1, w->err);
    if (count > w->cap - n - 1) { /* rare: one more token than bytes */
        rc = grow(w, (size_t)n + (size_t)count + ROOM);
        count = rc ? rc : tokenizer_encode(w->c->tokenizer, text, bytes, flags, w->token + n, w->cap - n - 1, w->err);
    }
    return count < 0 ? count : n + count;
}

/* What stands before a text: room for one. */
static int begin(struct work *w)
{
    const struct vocab *v = tokenizer_vocab(w->c->tokenizer);
    int rc = grow(w, ROOM);
    if (rc)
        return rc;
    w->token[0] = v->bos;
    return v->add_bos && v->bos >= 0;
}

static int end(struct work *w, int n)
{
    if (w->c->end >= 0 && (!n || w->token[n - 1] != w->c->end))
        w->token[n++] = w->c->end;
    return n;
}

static int text_row(struct work *w, const char *text, size_t bytes, int *n_given)
{
    int n = begin(w);
    *n_given = 0;
    n = n < 0 ? n : encode(w, n, text, bytes);
    return n < 0 ? n : end(w, n);
}

/* Prompt and response are one text; those of its tokens that the prompt alone has too are given. */
static int pair_row(struct work *w, const json_t *prompt, const json_t *response, int *n_given)
{
    size_t a = json_string_length(prompt), b = json_string_length(response);
    char *both = malloc(a + b + 1);
    int32_t *alone = NULL;
    int n_alone = 0, n = both ? begin(w) : fail(w->err, ERR_OS, "out of memory");
    if (n >= 0) {
        memcpy(both, json_string_value(prompt), a);
        memcpy(both + a, json_string_value(response), b + 1);
        n = n_alone = encode(w, n, both, a);
    }
    if (n > 0) {
        alone = malloc((size_t)n_alone * sizeof *alone);
        n = alone ? (memcpy(alone, w->token, (size_t)n_alone * sizeof *alone), begin(w)) : fail(w->err, ERR_OS, "out of memory");
    }
    n = n < 0 ? n : encode(w, n, both, a + b);
    for (*n_given = 0; n >= 0 && *n_given < n_alone && *n_given < n && alone[*n_given] == w->token[*n_given];)
        ++*n_given;
    free(both);
    free(alone);
    return n < 0 ? n : end(w, n);
}

static int list_row(struct work *w, const json_t *list, const json_t *given, int *n_given)
{
    size_t n = json_array_size(list);
    int rc = grow(w, n + 1);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= w->c->vocab)
            return fail(w->err, ERR_DATA, "token %zu is %lld: must be a whole number below %d, the model's vocabulary", i, (long long)id, w->c->vocab);
        w->token[i] = (int32_t)id;
    }
    *n_given = 0;
    if (given && (!json_is_integer(given) || json_integer_value(given) < 0 || json_integer_value(given) > (json_int_t)n))
        return fail(w->err, ERR_DATA, "\"prompt_tokens\" must be 0 to %zu, the number of tokens", n);
    if (given)
        *n_given = (int)json_integer_value(given);
    return (int)n;
}

/* The tokens of a row of JSON, or below zero. */
static int parse_row(struct work *w, const char *line, size_t bytes, int *n_given)
{
    json_error_t e;
    json_t *row = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!row)
        return fail(w->err, ERR_DATA, "column %d: %s", e.column, e.text);
    const json_t *text = json_object_get(row, "text"), *prompt = json_object_get(row, "prompt"), *response = json_object_get(row, "response"),
                 *tokens = json_object_get(row, "tokens");
    int n = json_is_array(tokens)                              ? list_row(w, tokens, json_object_get(row, "prompt_tokens"), n_given)
            : json_is_string(prompt) && json_is_string(response) ? pair_row(w, prompt, response, n_given)
            : json_is_string(text)                             ? text_row(w, json_string_value(text), json_string_length(text), n_given)
                                                               : fail(w->err, ERR_DATA, "neither {\"text\"} nor {\"prompt\", \"response\"} nor {\"tokens\"}");
    json_decref(row);
    return n;
}

/* A row that cannot be used: passed over while there are not too many. */
static int bad_row(struct work *w, uint64_t line)
{
    error_prefix(w->err, "%s: line %llu", w->path, (unsigned long long)line);
    if (w->bad++ >= w->c->bad_rows) {
        size_t n = strlen(w->err->text);
        strncat(w->err->text, w->c->bad_rows ? ": too many such rows" : ": mend it, or allow some bad rows", sizeof w->err->text - n - 1);
        return w->err->code;
    }
    if (w->c->note)
        w->c->note(w->c->ud, w->err->text);
    *w->err = (struct error){0};
    return 0;
}

static bool is_blank(const char *line, size_t n)
{
    while (n && strchr(" \t\r", line[n - 1]) && line[n - 1])
        n--;
    return n == 0;
}

static int take_row(struct work *w, const char *line, size_t bytes, uint64_t number)
{
    int n_given = 0;
    if (is_blank(line, bytes))
        return 0;
    int n = parse_row(w, line, bytes, &n_given);
    if (n < 0)
        return n == ERR_DATA ? bad_row(w, number) : n;
    return push_tokens(w, w->token, n, n_given, true);
}

/* ---- files ---- */

/* A growing window on a file. */
struct window {
    struct file file;
    char *p;
    size_t n, cap;
    uint64_t at; /* where the window ends in the file */
};

static int window_read(struct work *w, struct window *v, size_t want)
{
    if (v->n + want > v->cap) {
        char *bigger = realloc(v->p, v->n + want);
        if (!bigger)
            return fail(w->err, ERR_OS, "%s: out of memory", w->path);
        v->p = bigger;
        v->cap = v->n + want;
    }
    uint64_t left = v->file.size - v->at;
    size_t n = left < want ? (size_t)left : want;
    int rc = file_read_at(&v->file, v->at, v->p + v->n, n, w->err);
    v->n += n;
    v->at += n;
    w->read += n;
    if (!rc && w->c->progress && w->c->progress(w->c->ud, "reading text", w->read, w->total))
        return fail(w->err, ERR_USAGE, "stopped");
    return rc;
}

static void window_drop(struct window *v, size_t n)
{
    memmove(v->p, v->p + n, v->n - n);
    v->n -= n;
}

/* Whole lines of the window, the last one of the file without its newline too. */
static int take_lines(struct work *w, struct window *v, uint64_t *line)
{
    size_t from = 0;
    int rc = 0;
    for (char *stop; !rc && from < v->n; from = (size_t)(stop - v->p) + 1) {
        stop = memchr(v->p + from, '\n', v->n - from);
        if (!stop && v->at < v->file.size)
            break;
        stop = stop ? stop : v->p + v->n;
        rc = take_row(w, v->p + from, (size_t)(stop - (v->p + from)), ++*line);
    }
    window_drop(v, from < v->n ? from : v->n);
    return rc;
}

static int read_rows(struct work *w, struct window *v)
{
    uint64_t line = 0;
    int rc = 0;
    while (!rc && v->at < v->file.size) {
        rc = window_read(w, v, PIECE);
        if (!rc)
            rc = take_lines(w, v, &line);
        if (!rc && v->n > ROW_MAX)
            rc = fail(w->err, ERR_DATA, "%s: line %llu: longer than %d MiB: this is no JSONL file", w->path, (unsigned long long)line + 1, ROW_MAX >> 20);
    }
    return rc;
}

/* Where a piece of text may end: behind its last line break, else between two characters. */
static size_t cut(const char *p, size_t n)
{
    for (size_t i = n; i > n / 2; i--)
        if (p[i - 1] == '\n')
            return i;
    while (n > 1 && ((unsigned char)p[n - 1] & 0xc0) == 0x80)
        n--;
    return n > 1 ? n - 1 : n;
}

static int check_text(struct work *w, const struct window *v, size_t n)
{
    size_t bad = 0;
    uint64_t base = v->at - v->n;
    const char *zero = memchr(v->p, 0, n);
    if (zero)
        return fail(w->err, ERR_DATA, "%s: offset 0x%llx: a zero byte: this is no text", w->path, (unsigned long long)(base + (uint64_t)(zero - v->p)));
    if (!utf8_valid((struct bytes){(const uint8_t *)v->p, n}, &bad))
        return fail(w->err, ERR_DATA, "%s: offset 0x%llx: not UTF-8: this is no text, or in another encoding: convert it", w->path, (unsigned long long)(base + bad));
    return 0;
}

static int read_text(struct work *w, struct window *v)
{
    bool first = true;
    int rc = 0;
    while (!rc && (v->at < v->file.size || v->n)) {
        rc = window_read(w, v, PIECE);
        bool last = v->at == v->file.size;
        size_t take = last ? v->n : cut(v->p, v->n);
        if (!rc)
            rc = check_text(w, v, take);
        int n = rc ? rc : first ? begin(w) : 0;
        n = n < 0 ? n : encode(w, n, v->p, take);
        if (n >= 0 && last)
            n = end(w, n);
        rc = n < 0 ? n : push_tokens(w, w->token, n, 0, first);
        if (!rc)
            window_drop(v, take);
        first = false;
    }
    return rc;
}

static bool is_rows(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && !strcmp(path + n - 6, ".jsonl");
}

static int read_file(struct work *w, const char *path)
{
    struct window v = {0};
    w->path = path;
    int rc = file_open(&v.file, path, w->err);
    if (!rc && !v.file.size)
        rc = fail(w->err, ERR_DATA, "%s: the file is empty", path);
    if (!rc)
        rc = is_rows(path) ? read_rows(w, &v) : read_text(w, &v);
    free(v.p);
    file_close(&v.file);
    return rc;
}

/* ---- the whole ---- */

static int identify(struct work *w)
{
    const struct corpus *c = w->c;
    const int32_t options[] = {c->end, c->special, c->bad_rows};
    uint64_t h = hash_add(HASH_START, options, sizeof options);
    for (int i = 0; i < c->n_files; i++) {
        struct stat st;
        if (stat(c->file[i], &st))
            return fail(w->err, ERR_NOINPUT, "%s: cannot open: %s", c->file[i], strerror(errno));
        const int64_t facts[] = {(int64_t)st.st_size, (int64_t)st.st_mtim.tv_sec, (int64_t)st.st_mtim.tv_nsec};
        h = hash_add(hash_add(h, c->file[i], strlen(c->file[i]) + 1), facts, sizeof facts);
        w->source[i].weight = c->weight ? c->weight[i] : 1;
        if (!(w->source[i].weight > 0 && w->source[i].weight <= 1000))
            return fail(w->err, ERR_USAGE, "%s: weight %g: must be above 0, at most 1000", c->file[i], w->source[i].weight);
        h = hash_add(h, &w->source[i].weight, sizeof w->source[i].weight);
        w->total += (uint64_t)st.st_size;
    }
    w->header = (struct dataset_header){.vocab = (uint32_t)c->vocab, .tokenizer = hash_vocab(tokenizer_vocab(c->tokenizer)), .source = h, .content = HASH_START, .sources = (uint64_t)c->n_files};
    return 0;
}

static int write_sources(struct work *w)
{
    size_t bytes = (size_t)w->c->n_files * sizeof *w->source;
    w->header.content = hash_add(w->header.content, w->source, bytes);
    return file_write_at(&w->out, DATASET_HEADER + w->header.tokens * 4, w->source, bytes, w->err);
}

static int write_all(struct work *w, const char *path)
{
    uint8_t head[DATASET_HEADER];
    int rc = w->c->progress && w->c->progress(w->c->ud, "reading text", 0, w->total) ? fail(w->err, ERR_USAGE, "stopped") : 0; /* asked before a file is there */
    if (!rc)
        rc = file_create(&w->out, path, w->err);
    for (int i = 0; i < w->c->n_files && !rc; i++) {
        uint64_t before = w->header.tokens;
        rc = read_file(w, w->c->file[i]);
        w->source[i].tokens = w->header.tokens - before;
    }
    if (!rc)
        rc = flush(w);
    if (!rc)
        rc = write_sources(w);
    if (!rc && !w->header.documents)
        rc = fail(w->err, ERR_DATA, "%s: no row that can be used", w->path);
    if (!rc) {
        dataset_header_write(&w->header, head);
        rc = file_write_at(&w->out, 0, head, sizeof head, w->err);
    }
    return rc ? rc : file_commit(&w->out, w->err);
}

static int check_made(struct work *w, const char *path)
{
    struct dataset_header have;
    uint8_t head[DATASET_HEADER];
    struct file f;
    int rc = file_open(&f, path, w->err);
    if (rc)
        return rc;
    rc = f.size < sizeof head ? fail(w->err, ERR_DATA, "%s: cut off: remove it, and it is made again", path) : file_read_at(&f, 0, head, sizeof head, w->err);
    if (!rc)
        rc = dataset_header_read(&have, head, path, f.size, w->err);
    if (!rc && (have.tokenizer != w->header.tokenizer || have.vocab != w->header.vocab))
        rc = fail(w->err, ERR_USAGE, "%s: made with another model's tokenizer: choose another output folder, or remove this file", path);
    if (!rc && w->c->n_files && have.source != w->header.source)
        rc = fail(w->err, ERR_USAGE, "%s: made from other files, or those have changed since: choose another output folder, or remove this file", path);
    file_close(&f);
    return rc;
}

static int make(struct work *w, const char *path)
{
    int rc = identify(w);
    if (rc)
        return rc;
    if (!access(path, F_OK))
        return check_made(w, path);
    if (!w->c->n_files)
        return fail(w->err, ERR_USAGE, "no text to train on: give one or more files");
    w->word = malloc(OUT_WORDS * sizeof *w->word);
    return w->word ? write_all(w, path) : fail(w->err, ERR_OS, "out of memory");
}

int corpus_make(const struct corpus *c, const char *path, struct error *err)
{
    struct error own;
    struct work w = {.c = c, .out = {.fd = -1}, .err = err ? err : &own};
    if (c->n_files > DATASET_SOURCES_MAX)
        return fail(w.err, ERR_USAGE, "%d files of text: at most %d: join some", c->n_files, DATASET_SOURCES_MAX);
    w.source = calloc((size_t)c->n_files + 1, sizeof *w.source);
    int rc = w.source ? make(&w, path) : fail(w.err, ERR_OS, "out of memory");
    file_abandon(&w.out);
    free(w.source);
    free(w.word);
    free(w.token);
    return rc;
}

int corpus_count(const struct corpus *c, uint64_t *count, struct error *err)
{
    struct error own;
    struct work w = {.c = c, .count = count, .err = err ? err : &own};
    int rc = 0;
    for (int i = 0; i < c->n_files; i++) {
        struct stat st;
        w.total += stat(c->file[i], &st) ? 0 : (uint64_t)st.st_size; /* what is not there, read_file names */
    }
    for (int i = 0; i < c->n_files && !rc; i++)
        rc = read_file(&w, c->file[i]);
    if (!rc && !w.header.documents)
        rc = fail(w.err, ERR_DATA, "%s: no row that can be used", w.path);
    free(w.token);
    return rc;
}
