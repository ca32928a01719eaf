/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"

/* Words, and runs of words, are known by 64 bits of hash: among a million of them two of one hash have a chance of some 1e-8. */
struct words {
    uint64_t *hash;
    int n;
};

static int no_memory(lsk_error *err)
{
    return complain(err, LSK_EOS, "out of memory");
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* Bytes of the white space at text, as Python's str.split sees it; 0: none. */
static size_t space_at(const char *text)
{
    static const char *const wide[] = {"\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    const unsigned char c = (unsigned char)*text;
    if ((c >= 9 && c <= 13) || (c >= 28 && c <= 32))
        return 1;
    for (size_t i = 0; c >= 0x80 && i < sizeof wide / sizeof *wide; i++)
        if (!strncmp(text, wide[i], strlen(wide[i])))
            return strlen(wide[i]);
    return !strncmp(text, "\xe2\x80", 2) && (unsigned char)text[2] >= 0x80 && (unsigned char)text[2] <= 0x8a ? 3 : 0;
}

static int split(const char *text, struct words *out, lsk_error *err)
{
    size_t n = strlen(text);
    out->n = 0;
    out->hash = malloc((n / 2 + 1) * sizeof *out->hash);
    if (!out->hash)
        return no_memory(err);
    for (size_t blank; *text;) {
        for (; (blank = space_at(text)); text += blank)
            ;
        if (!*text)
            break;
        uint64_t h = 0;
        for (; *text && !space_at(text); text++)
            h = mix(h, (unsigned char)*text);
        out->hash[out->n++] = mix(h, 1);
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Runs of n words, sorted. */
static int runs(const struct words *w, int n, struct words *out, lsk_error *err)
{
    out->n = w->n >= n ? w->n - n + 1 : 0;
    out->hash = malloc(((size_t)out->n + 1) * sizeof *out->hash);
    if (!out->hash)
        return no_memory(err);
    for (int i = 0; i < out->n; i++) {
        out->hash[i] = 0;
        for (int k = 0; k < n; k++)
            out->hash[i] = mix(out->hash[i], w->hash[i + k]);
    }
    qsort(out->hash, (size_t)out->n, sizeof *out->hash, ascending);
    return 0;
}

/* How many runs of n words both have, each as often as in the one that has it less often. */
static int common_runs(const struct words *a, const struct words *b, int n, long *common, lsk_error *err)
{
    struct words x = {0}, y = {0};
    int r = runs(a, n, &x, err), i = 0, k = 0;
    if (r >= 0)
        r = runs(b, n, &y, err);
    *common = 0;
    while (r >= 0 && i < x.n && k < y.n) {
        const int order = ascending(&x.hash[i], &y.hash[k]);
        *common += !order;
        i += order <= 0;
        k += order >= 0;
    }
    free(x.hash);
    free(y.hash);
    return r;
}

/* ---- ROUGE ---- */

/* Letters and digits of ASCII in lower case are words, anything else parts them. Two characters beyond ASCII have lower cases in it. */
static int rouge_words(const char *text, struct words *out, lsk_error *err)
{
    char *plain = strdup(text);
    if (!plain)
        return no_memory(err);
    for (char *p = plain; *p; p++) {
        if (!strncmp(p, "\xe2\x84\xaa", 3)) /* the Kelvin sign: k */
            memmove(strcpy(p, "k") + 1, p + 3, strlen(p + 3) + 1);
        else if (!strncmp(p, "\xc4\xb0", 2)) /* I with a dot: i, and a dot that parts */
            memcpy(p, "I ", 2);
        *p = isalnum((unsigned char)*p) && (unsigned char)*p < 0x80 ? (char)tolower((unsigned char)*p) : ' ';
    }
    int r = split(plain, out, err);
    free(plain);
    return r;
}

/* The longest common subsequence: one row of the table is enough. */
static int longest_common(const struct words *a, const struct words *b, long *out, lsk_error *err)
{
    int *row = calloc((size_t)b->n + 1, sizeof *row);
    if (!row)
        return no_memory(err);
    for (int i = 0; i < a->n; i++)
        for (int k = 0, corner = 0; k < b->n; k++) {
            const int above = row[k + 1];
            row[k + 1] = a->hash[i] == b->hash[k] ? corner + 1 : above > row[k] ? above : row[k];
            corner = above;
        }
    *out = row[b->n];
    free(row);
    return 0;
}

static double f_measure(double common, int reference, int reply)
{
    const double precision = common / (reply > 0 ? reply : 1), recall = common / (reference > 0 ? reference : 1);
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

int rouge_scores(const char *reference, const char *reply, double f[N_ROUGE], lsk_error *err)
{
    struct words a = {0}, b = {0};
    long common = 0;
    int r = rouge_words(reference, &a, err);
    if (r >= 0)
        r = rouge_words(reply, &b, err);
    for (int n = 1; r >= 0 && n <= 3; n++) {
        r = common_runs(&a, &b, n, &common, err);
        f[ROUGE_1 + n - 1] = f_measure((double)common, a.n - n + 1, b.n - n + 1);
    }
    if (r >= 0)
        r = longest_common(&a, &b, &common, err);
    f[ROUGE_L] = f_measure((double)common, a.n, b.n);
    free(a.hash);
    free(b.hash);
    return r;
}

/* ---- BLEU ---- */

/* Replaces *text by what the function makes of it. */
static int rewrite(char **text, void (*make)(FILE *out, const char *in, const void *how), const void *how, lsk_error *err)
{
    char *made = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&made, &n);
    if (out)
        make(out, *text, how);
    if (!out || fclose(out)) {
        free(made);
        return no_memory(err);
    }
    free(*text);
    *text = made;
    return 0;
}

static void replace(FILE *out, const char *in, const void *how)
{
    const char *const *pair = how;
    const size_t n = strlen(pair[0]);
    for (const char *next; (next = strstr(in, pair[0])); in = next + n) {
        fwrite(in, 1, (size_t)(next - in), out);
        fputs(pair[1], out);
    }
    fputs(in, out);
}

/* Punctuation that always stands alone: all of ASCII but ' , - and . */
static void part_punctuation(FILE *out, const char *in, const void *how)
{
    (void)how;
    for (; *in; in++) {
        const int alone = (unsigned char)*in < 0x80 && (*in == ' ' || ispunct((unsigned char)*in)) && !strchr("',-.", *in);
        if (alone)
            fputc(' ', out);
        fputc(*in, out);
        if (alone)
            fputc(' ', out);
    }
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }
static int is_other(char c) { return !is_digit(c); }
static int is_point(char c) { return c == '.' || c == ','; }
static int is_dash(char c) { return c == '-'; }

struct pair_rule {
    int (*first)(char), (*second)(char);
    const char *before, *behind; /* two such neighbours are parted, and get these around them */
};

static void part_pairs(FILE *out, const char *in, const void *how)
{
    const struct pair_rule *rule = how;
    while (*in) {
        if (in[1] && rule->first(in[0]) && rule->second(in[1])) {
            fprintf(out, "%s%c %c%s", rule->before, in[0], in[1], rule->behind);
            in += 2;
        } else {
            fputc(*in++, out);
        }
    }
}

/* The end of the text without white space. */
static size_t trimmed(const char *text)
{
    size_t end = 0;
    for (size_t i = 0, blank; text[i]; i += blank ? blank : 1)
        if (!(blank = space_at(text + i)))
            end = i + 1;
    return end;
}

/* The mteval-v13a words of WMT. */
static int bleu_words(const char *text, struct words *out, lsk_error *err)
{
    static const char *const pairs[][2] = {{"<skipped>", ""}, {"-\n", ""}, {"\n", " "}, {"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}};
    static const struct pair_rule rules[] = {{is_other, is_point, "", " "}, {is_point, is_other, " ", ""}, {is_digit, is_dash, "", " "}};
    char *line = strndup(text, trimmed(text));
    int r = line ? 0 : no_memory(err);
    for (size_t i = 0; r >= 0 && i < sizeof pairs / sizeof *pairs; i++)
        r = rewrite(&line, replace, pairs[i], err);
    char *padded = r >= 0 ? malloc(strlen(line) + 3) : NULL;
    if (r >= 0 && !padded)
        r = no_memory(err);
    if (r >= 0)
        sprintf(padded, " %s ", line);
    free(line);
    if (r >= 0)
        r = rewrite(&padded, part_punctuation, NULL, err);
    for (size_t i = 0; r >= 0 && i < sizeof rules / sizeof *rules; i++)
        r = rewrite(&padded, part_pairs, &rules[i], err);
    if (r >= 0)
        r = split(padded, out, err);
    free(padded);
    return r;
}

int bleu_count(const char *reference, const char *reply, struct bleu *out, lsk_error *err)
{
    struct words a = {0}, b = {0};
    int r = bleu_words(reference, &a, err);
    if (r >= 0)
        r = bleu_words(reply, &b, err);
    *out = (struct bleu){.words = b.n, .reference_words = a.n};
    for (int n = 1; r >= 0 && n <= BLEU_ORDERS; n++) {
        out->total[n - 1] = b.n >= n ? b.n - n + 1 : 0;
        r = common_runs(&a, &b, n, &out->right[n - 1], err);
    }
    free(a.hash);
    free(b.hash);
    return r;
}

void bleu_add(struct bleu *sum, const struct bleu *b)
{
    for (int n = 0; n < BLEU_ORDERS; n++) {
        sum->right[n] += b->right[n];
        sum->total[n] += b->total[n];
    }
    sum->words += b->words;
    sum->reference_words += b->reference_words;
}

/* An order without a match counts as half a match, the next as a quarter, and so on; without any match the score is 0. */
double bleu_score(const struct bleu *b, int sentence)
{
    double logs = 0, smooth = 1;
    int orders = 0;
    if (!b->right[0])
        return 0;
    for (; orders < BLEU_ORDERS && b->total[orders]; orders++) {
        smooth *= b->right[orders] ? 1 : 2;
        logs += log((b->right[orders] ? 100.0 * (double)b->right[orders] : 100 / smooth) / (double)b->total[orders]);
    }
    if (orders < BLEU_ORDERS && !sentence)
        return 0;
    const double brevity = b->words < b->reference_words ? exp(1 - (double)b->reference_words / (double)b->words) : 1;
    return brevity * exp(logs / orders);
}

/* ---- characters and tokens ---- */

static uint32_t *characters(const char *text, int *n)
{
    const size_t bytes = strlen(text);
    uint32_t *out = malloc((bytes + 1) * sizeof *out);
    *n = 0;
    for (size_t i = 0, length; out && i < bytes; i += length) {
        length = (size_t)utf8_length(text + i, bytes - i);
        length += !length;
        out[*n] = 0;
        memcpy(&out[(*n)++], text + i, length);
    }
    return out;
}

int edit_distance(const char *a, const char *b, long *out, lsk_error *err)
{
    int n_a = 0, n_b = 0;
    uint32_t *x = characters(a, &n_a), *y = characters(b, &n_b);
    int *row = malloc(((size_t)n_b + 1) * sizeof *row), r = x && y && row ? 0 : no_memory(err);
    for (int k = 0; r >= 0 && k <= n_b; k++)
        row[k] = k;
    for (int i = 0; r >= 0 && i < n_a; i++) {
        int corner = row[0]++;
        for (int k = 0; k < n_b; k++) {
            const int above = row[k + 1], least = above < row[k] ? above : row[k], replaced = corner + (x[i] != y[k]);
            row[k + 1] = replaced <= least ? replaced : least + 1;
            corner = above;
        }
    }
    if (r >= 0)
        *out = row[n_b];
    free(x);
    free(y);
    free(row);
    return r;
}

int exact_match(const char *reference, const char *reply)
{
    for (size_t blank; (blank = space_at(reference)); reference += blank)
        ;
    for (size_t blank; (blank = space_at(reply)); reply += blank)
        ;
    const size_t n = trimmed(reference);
    return n == trimmed(reply) && !memcmp(reference, reply, n);
}

int repetition(const int32_t *token, int n, double *out, lsk_error *err)
{
    struct words tokens = {malloc(((size_t)n + 1) * sizeof *tokens.hash), n}, four = {0};
    int r = tokens.hash ? 0 : no_memory(err), distinct = 0;
    for (int i = 0; r >= 0 && i < n; i++)
        tokens.hash[i] = mix(1, (uint32_t)token[i]);
    if (r >= 0)
        r = runs(&tokens, 4, &four, err);
    for (int i = 0; r >= 0 && i < four.n; i++)
        distinct += !i || four.hash[i] != four.hash[i - 1];
    *out = four.n ? 1 - (double)distinct / four.n : 0;
    free(tokens.hash);
    free(four.hash);
    return r;
}
