/* SPDX-License-Identifier: Apache-2.0 */
/* What constrained decoding costs on the host: tokens drawn at random from the masks of a JSON schema, over a model's own vocabulary; the time of each mask and
   of each push. Run: build/bench/bench_grammar MODEL.gguf [SCHEMA.json] [texts (40)] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/model.h"
#include "text/json_schema.h"
#include "text/matcher.h"

enum { TIMES = 1 << 20, TOKENS = 300 };

static const char usual[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":100},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"
    "\"mail\":{\"type\":\"string\",\"pattern\":\"^[a-z0-9.]+@[a-z0-9]+\\\\.(com|org)$\"},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"
    "\"size\":{\"enum\":[\"small\",\"medium\",\"large\"]},\"more\":{}},\"required\":[\"name\",\"age\",\"tags\"]}";

struct times {
    double us[TIMES];
    int n;
};
static struct times masks, pushes;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_grammar: %s: %s\n", what, why);
    exit(70);
}

static void add(struct times *t, int64_t start)
{
    if (t->n < TIMES)
        t->us[t->n++] = (double)(clock_ns() - start) * 1e-3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, struct times *t)
{
    double sum = 0;
    qsort(t->us, (size_t)t->n, sizeof *t->us, by_value);
    for (int i = 0; i < t->n; i++)
        sum += t->us[i];
    if (t->n)
        printf("%-8s %8d calls   mean %8.1f us   median %8.1f   99 %% %8.1f   worst %8.1f\n", name, t->n, sum / t->n, t->us[t->n / 2], t->us[t->n * 99 / 100], t->us[t->n - 1]);
}

static char *read_file(const char *path)
{
    static char text[JSON_SCHEMA_MAX + 1];
    FILE *f = fopen(path, "rb");
    if (!f)
        die(path, "cannot open");
    text[fread(text, 1, JSON_SCHEMA_MAX, f)] = 0;
    fclose(f);
    return text;
}

static struct token_tree *read_vocabulary(const struct model *model, struct bytes *text)
{
    struct error err;
    const struct config *c = &model->config;
    for (int i = 0; i < c->vocab; i++)
        text[i] = tokenizer_hidden(model->tokenizer, i) ? (struct bytes){NULL, 0} : tokenizer_piece(model->tokenizer, i);
    int64_t start = clock_ns();
    struct token_tree *t = token_tree_open(text, c->vocab, c->eos, c->n_eos, &err);
    if (!t)
        die("vocabulary", err.text);
    printf("tree of %d tokens: %u nodes, %.1f ms\n", c->vocab, t->n_nodes, (double)(clock_ns() - start) * 1e-6);
    return t;
}

/* xorshift64*, as tests have it. */
static uint64_t next_random(uint64_t *s)
{
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 0x2545f4914f6cdd1dull;
}

static int draw(const uint32_t *mask, int count, uint64_t *seed)
{
    int left = (int)((next_random(seed) >> 33) % (unsigned)count), word = 0;
    for (; left >= __builtin_popcount(mask[word]); word++)
        left -= __builtin_popcount(mask[word]);
    uint32_t bits = mask[word];
    while (left--)
        bits &= bits - 1;
    return word * 32 + __builtin_ctz(bits);
}

/* One text; a new matcher for each, so that the first masks are cold as they are in a new conversation. */
static size_t write_text(const struct grammar *g, const struct token_tree *t, const struct bytes *text, uint32_t *mask, uint64_t *seed)
{
    struct error err;
    struct matcher *m = matcher_open(g, t, &err);
    if (!m)
        die("matcher", err.text);
    uint32_t state = matcher_start(m);
    for (int i = 0; i < TOKENS; i++) {
        int64_t start = clock_ns();
        int count = matcher_mask(m, state, mask, &err);
        add(&masks, start);
        if (count <= 0)
            die("mask", count ? err.text : "empty");
        int token = draw(mask, count, seed);
        if (!text[token].n || (start = clock_ns(), matcher_push(m, &state, text[token].p, text[token].n, &err)) < (int64_t)text[token].n)
            break;
        add(&pushes, start);
    }
    size_t bytes = matcher_bytes(m);
    matcher_close(m);
    return bytes;
}

int main(int argc, char **argv)
{
    struct model model;
    struct error err;
    uint64_t seed = 1;
    if (argc < 2) {
        printf("usage: bench_grammar MODEL.gguf [SCHEMA.json] [texts]: nothing is measured without a vocabulary\n");
        return 0;
    }
    const char *schema = argc > 2 ? read_file(argv[2]) : usual;
    if (model_open(&model, argv[1], NULL, &err) < 0)
        die(argv[1], err.text);
    struct bytes *text = calloc((size_t)model.config.vocab, sizeof *text);
    uint32_t *mask = calloc((size_t)model.config.vocab / 32 + 1, sizeof *mask);
    if (!text || !mask)
        die("memory", "out of it");
    struct token_tree *t = read_vocabulary(&model, text);
    int64_t start = clock_ns();
    char *gbnf = json_schema_to_gbnf("schema", (struct bytes){(const uint8_t *)schema, strlen(schema)}, &err);
    struct grammar *g = gbnf ? grammar_open("schema", (struct bytes){(const uint8_t *)gbnf, strlen(gbnf)}, &err) : NULL;
    if (!g)
        die("schema", err.text);
    printf("grammar: %zu bytes of GBNF, %d rules, %d instructions, %d classes of bytes, %.2f ms\n", strlen(gbnf), g->n_rules, g->n_code, g->n_classes, (double)(clock_ns() - start) * 1e-6);
    size_t bytes = 0;
    for (int i = 0, n = argc > 3 ? atoi(argv[3]) : 40; i < n; i++) {
        size_t used = write_text(g, t, text, mask, &seed);
        bytes = used > bytes ? used : bytes;
    }
    print("mask", &masks);
    print("push", &pushes);
    printf("states: at most %.1f MiB for a text\n", (double)bytes / (1 << 20));
    free(gbnf);
    grammar_close(g);
    token_tree_close(t);
    free(text);
    free(mask);
    model_close(&model);
    return 0;
}
