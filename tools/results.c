/* SPDX-License-Identifier: Apache-2.0 */
#include "results.h"

#include <errno.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "messages.h"

/* Names as in the original scripts where those have the figure. */
static const struct {
    const char *key, *title;
    double scale; /* of the table */
    int decimals, of_text;
} figures[N_FIGURES] = {
    [ACCEPTANCE_RATE] = {"acceptance_rate", "acceptance rate", 1, 3, 0},
    [ACCEPTED_LENGTH] = {"mean_accepted_length", "mean accepted length", 1, 2, 0},
    [TOKENS_PER_SECOND] = {"tokens_per_second", "tokens/s, with the prompt", 1, 2, 0},
    [TIME_PER_TOKEN] = {"time_per_token", "ms/token, with the prompt", 1e3, 2, 0},
    [DECODE_TOKENS_PER_SECOND] = {"decode_tokens_per_second", "tokens/s of the reply alone", 1, 2, 0},
    [PREFILL_TIME] = {"prefill_time", "prefill, ms", 1e3, 1, 0},
    [TOTAL_TIME] = {"total_time", "total, s", 1, 2, 0},
    [PROMPT_TOKENS] = {"prompt_tokens", "prompt, tokens", 1, 1, 0},
    [REPLY_TOKENS] = {"reply_tokens", "reply, tokens", 1, 1, 0},
    [TEXT_ROUGE_1] = {"rouge-1", "ROUGE-1", 1, 4, 1},
    [TEXT_ROUGE_2] = {"rouge-2", "ROUGE-2", 1, 4, 1},
    [TEXT_ROUGE_3] = {"rouge-3", "ROUGE-3", 1, 4, 1},
    [TEXT_ROUGE_L] = {"rouge-l", "ROUGE-L", 1, 4, 1},
    [SENTENCE_BLEU] = {"sentence_bleu", "BLEU of each sample", 1, 2, 1},
    [EXACT_MATCH] = {"exact_match", "exact match", 1, 4, 1},
    [EDIT_DISTANCE] = {"edit_distance", "edit distance, characters", 1, 1, 1},
    [REPETITION] = {"repetition", "repeated runs of 4 tokens", 1, 4, 1},
    [PASS] = {"pass@1", "pass@1", 1, 4, 1},
};

/* ---- the file ---- */

static int keep(struct results *all, const struct result *one, lsk_error *err)
{
    if (all->n == all->cap) {
        const int cap = 2 * all->cap + 64;
        struct result *bigger = realloc(all->item, (size_t)cap * sizeof *bigger);
        if (!bigger)
            return complain(err, LSK_EOS, "out of memory");
        all->item = bigger;
        all->cap = cap;
    }
    all->item[all->n++] = *one;
    return 0;
}

static int take_number(const json_t *row, const char *key, double *out)
{
    const json_t *j = json_object_get(row, key);
    *out = json_is_null(j) ? NAN : json_number_value(j);
    return json_is_number(j) || json_is_null(j);
}

static int take_count(const json_t *j, long *out)
{
    *out = (long)json_integer_value(j);
    return json_is_integer(j) && *out >= 0;
}

/* BLEU's counts in the order in which they are written. */
static long *bleu_place(struct bleu *b, int i)
{
    return i < BLEU_ORDERS ? &b->right[i] : i < 2 * BLEU_ORDERS ? &b->total[i - BLEU_ORDERS] : i == 2 * BLEU_ORDERS ? &b->words : &b->reference_words;
}
enum { BLEU_COUNTS = 2 * BLEU_ORDERS + 2 };

static int parse_result(const char *line, int sample, struct result *out)
{
    json_t *row = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    const json_t *counts = json_object_get(row, "bleu_counts");
    long number = 0, place = 0, rounds = 0, drafted = 0, accepted = 0;
    int good = take_count(json_object_get(row, "sample"), &number) && number == sample && take_count(json_object_get(row, "line"), &place) &&
               take_count(json_object_get(row, "rounds"), &rounds) && take_count(json_object_get(row, "drafted"), &drafted) &&
               take_count(json_object_get(row, "accepted"), &accepted) && json_array_size(counts) == BLEU_COUNTS;
    *out = (struct result){.line = place, .rounds = (int)rounds, .drafted = (int)drafted, .accepted = (int)accepted};
    for (int i = 0; good && i < N_FIGURES; i++)
        good = take_number(row, figures[i].key, &out->figure[i]);
    for (int i = 0; good && i < BLEU_COUNTS; i++)
        good = take_count(json_array_get(counts, (size_t)i), bleu_place(&out->bleu, i));
    json_decref(row);
    return good;
}

/* What an earlier run left. A last line without its end was cut off by a fault: it goes. */
static int read_all(struct results *all, const char *settings, lsk_error *err)
{
    char *line = NULL;
    size_t cap = 0;
    off_t end = 0;
    int r = 0, number = 0;
    for (ssize_t n; r >= 0 && (n = getline(&line, &cap, all->file)) > 0 && line[n - 1] == '\n'; end += n, number++) {
        struct result one;
        line[n - 1] = 0;
        if (!number && strcmp(line, settings))
            r = complain(err, LSK_EDATA, "%s: line 1: another run's results: remove the file, or give --fresh", excerpt_of(all->path).text);
        else if (number && !parse_result(line, number - 1, &one))
            r = complain(err, LSK_EDATA, "%s: line %d: no result of sample %d: remove the file, or give --fresh", excerpt_of(all->path).text, number + 1, number - 1);
        else if (number)
            r = keep(all, &one, err);
    }
    free(line);
    if (r >= 0 && (ferror(all->file) || ftruncate(fileno(all->file), end) || fseeko(all->file, end, SEEK_SET)))
        r = complain(err, LSK_EIO, "%s: %s", excerpt_of(all->path).text, strerror(errno));
    if (r >= 0 && !number && (fprintf(all->file, "%s\n", settings) < 0 || fflush(all->file)))
        r = complain(err, LSK_EIO, "%s: %s", excerpt_of(all->path).text, strerror(errno));
    return r;
}

int results_open(struct results *all, const char *path, const char *settings, lsk_error *err)
{
    *all = (struct results){.path = path, .file = fopen(path, "a+e")};
    if (!all->file)
        return complain(err, LSK_ECREATE, "%s: cannot create: %s", excerpt_of(path).text, strerror(errno));
    if (flock(fileno(all->file), LOCK_EX | LOCK_NB))
        return complain(err, LSK_EIO, "%s: another run is writing it", excerpt_of(path).text);
    rewind(all->file);
    return read_all(all, settings, err);
}

int results_add(struct results *all, const struct result *one, const struct record *texts, lsk_error *err)
{
    struct result copy = *one;
    struct record r = {0};
    char counts[BLEU_COUNTS * 22 + 3] = "[";
    record_whole(&r, "sample", (unsigned)all->n);
    record_whole(&r, "line", (unsigned long long)one->line);
    record_whole(&r, "rounds", (unsigned)one->rounds);
    record_whole(&r, "drafted", (unsigned)one->drafted);
    record_whole(&r, "accepted", (unsigned)one->accepted);
    for (int i = 0; i < N_FIGURES; i++)
        record_number(&r, figures[i].key, "%.12g", one->figure[i]);
    for (int i = 0, n = 1; i < BLEU_COUNTS; i++)
        n += snprintf(counts + n, sizeof counts - (size_t)n, "%s%ld", i ? ", " : "", *bleu_place(&copy.bleu, i));
    strcat(counts, "]");
    record_raw(&r, "bleu_counts", counts);
    for (int i = 0; i < texts->n; i++)
        record_text(&r, texts->field[i].key, texts->field[i].text);
    record_json(all->file, &r);
    if (fputc('\n', all->file) == EOF || fflush(all->file))
        return complain(err, LSK_EIO, "%s: %s; the samples before are kept, the same command goes on", excerpt_of(all->path).text, strerror(errno));
    return keep(all, one, err);
}

void results_close(struct results *all)
{
    if (all->file)
        fclose(all->file);
    free(all->item);
    *all = (struct results){0};
}

/* ---- sums ---- */

struct sum {
    double mean, spread, least, most; /* NaN: of none */
    int n;
};

static struct sum sum_of(const struct results *all, int n, enum figure f)
{
    struct sum s = {.least = INFINITY, .most = -INFINITY};
    double total = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        const double v = all->item[i].figure[f];
        if (isnan(v))
            continue;
        total += v;
        s.n++;
        s.least = fmin(s.least, v);
        s.most = fmax(s.most, v);
    }
    s.mean = s.n ? total / s.n : NAN;
    for (int i = 0; i < n; i++)
        squares += isnan(all->item[i].figure[f]) ? 0 : (all->item[i].figure[f] - s.mean) * (all->item[i].figure[f] - s.mean);
    s.spread = s.n > 1 ? sqrt(squares / (s.n - 1)) : NAN;
    return s;
}

struct totals {
    long rounds, drafted, accepted;
    struct bleu bleu;
    double bleu_score, acceptance;
};

static struct totals totals_of(const struct results *all, int n)
{
    struct totals t = {0};
    for (int i = 0; i < n; i++) {
        t.rounds += all->item[i].rounds;
        t.drafted += all->item[i].drafted;
        t.accepted += all->item[i].accepted;
        bleu_add(&t.bleu, &all->item[i].bleu);
    }
    t.bleu_score = n ? bleu_score(&t.bleu, 0) : NAN;
    t.acceptance = t.drafted ? (double)t.accepted / (double)t.drafted : NAN;
    return t;
}

/* Figures of the text as their means, the others each as an object. */
static void print_metrics(FILE *out, const struct results *all, int n, const struct totals *t)
{
    struct record text = {0};
    for (int i = 0; i < N_FIGURES; i++)
        if (figures[i].of_text)
            record_number(&text, figures[i].key, "%.12g", sum_of(all, n, (enum figure)i).mean);
    record_number(&text, "bleu_score", "%.12g", t->bleu_score);
    fputs("{\"predicted_text\": ", out);
    record_json(out, &text);
    for (int i = 0; i < N_FIGURES; i++) {
        const struct sum s = sum_of(all, n, (enum figure)i);
        struct record r = {0};
        if (figures[i].of_text)
            continue;
        record_number(&r, "mean", "%.12g", s.mean);
        record_number(&r, "sd", "%.12g", s.spread);
        record_number(&r, "min", "%.12g", s.least);
        record_number(&r, "max", "%.12g", s.most);
        if (i == ACCEPTANCE_RATE)
            record_number(&r, "of_all_drafts", "%.12g", t->acceptance);
        fprintf(out, ", \"%s\": ", figures[i].key);
        record_json(out, &r);
    }
    fputc('}', out);
}

void results_json(FILE *out, const struct results *all, int n, const struct record *facts)
{
    const struct totals t = totals_of(all, n);
    struct record r = *facts;
    record_whole(&r, "samples", (unsigned)n);
    record_whole(&r, "rounds", (unsigned long)t.rounds);
    record_whole(&r, "drafted", (unsigned long)t.drafted);
    record_whole(&r, "accepted", (unsigned long)t.accepted);
    char *metrics = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&metrics, &size);
    if (text)
        print_metrics(text, all, n, &t);
    record_raw(&r, "metrics", text && !fclose(text) ? metrics : "null");
    record_json(out, &r);
    free(metrics);
}

static void print_cell(FILE *out, double v, int decimals)
{
    if (isfinite(v))
        fprintf(out, "  %10.*f", decimals, v);
    else
        fprintf(out, "  %10s", "-");
}

void results_table(FILE *out, const struct results *all, int n)
{
    const struct totals t = totals_of(all, n);
    fprintf(out, "%-28s  %10s  %10s  %10s  %10s\n", "", "mean", "sd", "least", "most");
    for (int i = 0; i < N_FIGURES; i++) {
        const struct sum s = sum_of(all, n, (enum figure)i);
        const double values[] = {s.mean, s.spread, s.least, s.most};
        if (!s.n)
            continue;
        fprintf(out, "%-28s", figures[i].title);
        for (int k = 0; k < 4; k++)
            print_cell(out, values[k] * figures[i].scale, figures[i].decimals);
        fputc('\n', out);
        if (i == SENTENCE_BLEU) {
            fprintf(out, "%-28s", "BLEU of all together");
            print_cell(out, t.bleu_score, 2);
            fputc('\n', out);
        }
    }
    if (t.drafted)
        fprintf(out, "drafts: %ld accepted of %ld, %.3f, in %ld rounds\n", t.accepted, t.drafted, t.acceptance, t.rounds);
}
