/* SPDX-License-Identifier: Apache-2.0 */
#include "texts.h"

#include <sys/resource.h>
#include <signal.h>

enum { BOS = 1, END = 2, B = (int)DATASET_BEGINS, G = DATASET_GIVEN };

/* The words of the file, and how many. */
static uint32_t *words(const struct texts *t, size_t *n)
{
    struct error err = {0};
    char *p = NULL;
    size_t bytes = 0;
    if (file_slurp(t->out, 1 << 26, &p, &bytes, &err))
        fail_with(err.text);
    *n = (bytes - DATASET_HEADER - (size_t)t->n * sizeof(struct dataset_source)) / 4;
    memmove(p, p + DATASET_HEADER, bytes - DATASET_HEADER);
    return (uint32_t *)p;
}

/* Tokens of text without anything around it. */
static int encoded(const struct texts *t, const char *text, int32_t *out)
{
    struct error err = {0};
    int n = tokenizer_encode(t->model.tokenizer, text, strlen(text), 0, out, 64, &err);
    assert_true(n >= 0);
    return n;
}

static void expect(const uint32_t *got, size_t *at, const struct texts *t, const char *given, const char *learnt)
{
    int32_t a[64], b[64];
    int n = encoded(t, given, a), m = encoded(t, learnt, b);
    assert_int_equal(got[(*at)++], (uint32_t)B | BOS | (*given ? (uint32_t)G : 0));
    for (int i = 0; i < n; i++)
        assert_int_equal(got[(*at)++], (uint32_t)a[i] | (uint32_t)G);
    for (int i = 0; i < m; i++)
        assert_int_equal(got[(*at)++], b[i]);
    assert_int_equal(got[(*at)++], END);
}

static void every_kind_of_text(void **state)
{
    (void)state;
    struct texts t;
    texts_open(&t);
    texts_add_text(&t, "a.txt", "Hello\nthere");
    texts_add_text(&t, "b.jsonl", "{\"text\": \"one\"}\n\n{\"prompt\": \"2+2=\", \"response\": \"4\", \"more\": 1}\r\n{\"tokens\": [5, 6, 514, 7], \"prompt_tokens\": 2}");
    must_make(&t);
    size_t n, at = 0;
    uint32_t *w = words(&t, &n);
    expect(w, &at, &t, "", "Hello\nthere");
    expect(w, &at, &t, "", "one");
    expect(w, &at, &t, "2+2=", "4");
    const uint32_t list[4] = {(uint32_t)B | (uint32_t)G | 5, (uint32_t)G | 6, 514, 7};
    for (int i = 0; i < 4; i++)
        assert_int_equal(w[at++], list[i]);
    assert_int_equal(at, n);
    free(w);
    must_make(&t); /* it is there: nothing to do */
    t.corpus.n_files = 0;
    must_make(&t); /* and may be used without its sources */
    texts_close(&t);
}

/* Counting sees what is learnt, and writes nothing. */
static void tokens_are_counted(void **state)
{
    (void)state;
    struct texts t;
    struct error err = {0};
    uint64_t count[515] = {0}, all = 0;
    int32_t four[64];
    texts_open(&t);
    texts_add_text(&t, "a.jsonl", "{\"prompt\": \"2+2=\", \"response\": \"4\"}\n{\"tokens\": [5, 6, 514, 7, 7], \"prompt_tokens\": 2}");
    assert_int_equal(corpus_count(&t.corpus, count, &err), 0);
    assert_int_equal(encoded(&t, "4", four), 1);
    for (int i = 0; i < 515; i++)
        all += count[i];
    assert_true(all == 5 && count[four[0]] == 1 && count[END] == 1 && count[514] == 1 && count[7] == 2);
    assert_int_not_equal(access(t.out, F_OK), 0);
    texts_add_text(&t, "b.jsonl", "{\"text\": 5}");
    assert_int_equal(corpus_count(&t.corpus, count, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "b.jsonl: line 1: "));
    t.file[1] = "/nowhere/c.txt";
    assert_int_equal(corpus_count(&t.corpus, count, &err), ERR_NOINPUT);
    texts_close(&t);
}

static void long_text_is_one_document(void **state)
{
    (void)state;
    struct texts t;
    texts_open(&t);
    const size_t n = (3 << 20) + 12345;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 61 == 60 ? '\n' : (char)('a' + i % 23);
    for (size_t i = 1 << 20; i < 2 << 20; i += 2) /* a stretch of two-byte characters without a line break */
        memcpy(text + i, "\xc3\xa9", 2);
    texts_add(&t, "long.txt", text, n);
    must_make(&t);
    size_t got;
    uint32_t *w = words(&t, &got);
    assert_int_equal(got, n + 2);
    for (size_t i = 1; i < got; i++)
        assert_false(w[i] & DATASET_BEGINS);
    char back[8];
    for (size_t i = 0; i < n; i++) { /* a token is a byte */
        struct bytes piece = tokenizer_piece(t.model.tokenizer, (int32_t)w[i + 1]);
        assert_int_equal(piece.n, 1);
        memcpy(back, piece.p, 1);
        if (back[0] != text[i])
            fail_msg("byte %zu differs", i);
    }
    free(w);
    free(text);
    texts_close(&t);
}

static void bad_rows(void **state)
{
    (void)state;
    struct texts t;
    const struct {
        const char *row, *what;
    } rows[] = {
        {"{\"text\": 5}", "neither"},        {"{\"tokens\": [1, 515]}", "token 1 is 515: must be a whole number below 515"},
        {"{\"tokens\": [-1]}", "token 0 is -1"}, {"{\"tokens\": [1.5]}", "token 0"}, {"{\"tokens\": [1], \"prompt_tokens\": 2}", "prompt_tokens"},
        {"{\"text\": \"a\"", "column"},      {"nothing", "column"},            {"[1]", "neither"}, {"{\"text\": \"\xff\"}", "column"}, {"{\"text\":\"a\",\"text\":\"b\"}", "column"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[200];
        texts_open(&t);
        snprintf(text, sizeof text, "{\"text\": \"good\"}\n%s\n{\"text\": \"good\"}\n", rows[i].row);
        texts_add_text(&t, "x.jsonl", text);
        must_refuse(&t, ERR_DATA, rows[i].what);
        must_refuse(&t, ERR_DATA, "x.jsonl: line 2: ");
        t.corpus.bad_rows = 1;
        must_make(&t);
        assert_int_equal(t.notes, 1);
        assert_non_null(strstr(t.last_note, "x.jsonl: line 2: "));
        size_t n;
        free(words(&t, &n));
        assert_int_equal(n, 2 * 6);
        texts_close(&t);
    }
    texts_open(&t);
    texts_add_text(&t, "x.jsonl", "?\n?\n?\n");
    t.corpus.bad_rows = 2;
    must_refuse(&t, ERR_DATA, "line 3");
    t.corpus.bad_rows = 3;
    must_refuse(&t, ERR_DATA, "no row that can be used");
    texts_close(&t);
}

static void hostile_files(void **state)
{
    (void)state;
    struct texts t;
    const struct {
        const char *name, *bytes;
        size_t n;
        const char *what;
    } file[] = {{"empty.txt", "", 0, "the file is empty"},
                {"empty.jsonl", "", 0, "the file is empty"},
                {"blank.jsonl", "\n  \n", 4, "no row"},
                {"binary.txt", "abc\0def", 7, "offset 0x3: a zero byte"},
                {"latin.txt", "caf\xe9 au lait", 12, "offset 0x3: not UTF-8"},
                {"binary.jsonl", "\x7f" "ELF\0\1\2", 7, "line 1: column"}};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        texts_open(&t);
        texts_add(&t, file[i].name, file[i].bytes, file[i].n);
        must_refuse(&t, ERR_DATA, file[i].what);
        must_refuse(&t, ERR_DATA, i == 2 ? "" : file[i].name);
        texts_close(&t);
    }
    texts_open(&t);
    must_refuse(&t, ERR_USAGE, "no text");
    t.file[0] = "/tmp/lsk-there-is-no-such-file";
    t.corpus.n_files = 1;
    must_refuse(&t, ERR_NOINPUT, "no-such-file");
    t.file[0] = t.dir;
    must_refuse(&t, ERR_NOINPUT, "not a regular file");
    texts_close(&t);
}

static void another_source_is_refused(void **state)
{
    (void)state;
    struct texts t;
    struct error err = {0};
    texts_open(&t);
    texts_add_text(&t, "a.txt", "some text");
    must_make(&t);
    texts_add_text(&t, "b.txt", "more text");
    assert_int_equal(corpus_make(&t.corpus, t.out, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "other files"));
    t.corpus.n_files = 1;
    t.corpus.end = -1;
    assert_int_equal(corpus_make(&t.corpus, t.out, &err), ERR_USAGE);
    t.corpus.end = 2;
    must_make(&t);
    t.corpus.vocab = 400;
    assert_int_equal(corpus_make(&t.corpus, t.out, &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "tokenizer"));
    texts_close(&t);
}

static void weights_of_files(void **state)
{
    (void)state;
    double weight[2] = {0.25, 3};
    struct texts t;
    struct error err = {0};
    size_t n;
    texts_open(&t);
    texts_add_text(&t, "a.txt", "some text");
    texts_add_text(&t, "b.txt", "more text than in the first");
    t.corpus.weight = weight;
    must_make(&t);
    uint32_t *w = words(&t, &n);
    const struct dataset_source *s = (const void *)(w + n);
    assert_true(s[0].weight == 0.25 && s[1].weight == 3);
    assert_true(s[0].tokens > 2 && s[0].tokens + s[1].tokens == n && w[s[0].tokens] & B);
    free(w);
    weight[0] = 0.5;
    assert_int_equal(corpus_make(&t.corpus, t.out, &err), ERR_USAGE);
    unlink(t.out);
    weight[1] = 0;
    must_refuse(&t, ERR_USAGE, "b.txt: weight 0");
    weight[1] = 1001;
    must_refuse(&t, ERR_USAGE, "b.txt: weight 1001");
    texts_close(&t);
}

/* A file-size limit stands in for a full disk: nothing is left behind. */
static void full_disk(void **state)
{
    (void)state;
    struct texts t;
    texts_open(&t);
    char text[20000];
    memset(text, 'x', sizeof text);
    texts_add(&t, "a.txt", text, sizeof text);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 30000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    must_refuse(&t, ERR_IO, "data.tokens.tmp");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    must_make(&t);
    texts_close(&t);
}

static int stop_at_once(void *ud, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    assert_true(done <= total);
    return done >= (ud ? 1 : 0);
}

static void stops_when_asked(void **state)
{
    (void)state;
    struct texts t;
    texts_open(&t);
    texts_add_text(&t, "a.txt", "text");
    t.corpus.progress = stop_at_once; /* before a file is there */
    must_refuse(&t, ERR_USAGE, "stopped");
    t.corpus.ud = &t; /* and once something was read */
    must_refuse(&t, ERR_USAGE, "stopped");
    texts_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_text), cmocka_unit_test(tokens_are_counted), cmocka_unit_test(long_text_is_one_document), cmocka_unit_test(bad_rows), cmocka_unit_test(hostile_files),
        cmocka_unit_test(another_source_is_refused), cmocka_unit_test(weights_of_files), cmocka_unit_test(full_disk), cmocka_unit_test(stops_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
