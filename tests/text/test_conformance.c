/* SPDX-License-Identifier: Apache-2.0 */
/* Token ids against the reference libraries. Without arguments (as ctest runs it) this starts conformance.py on a sample of the texts, which
   calls it back as a tool:  test_conformance KIND FILE FLAGS < records > ids
   A record is a u32 length and the text; the answer is an i32 count (below zero: refused) and the ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "text/tokenizer.h"

#include <cmocka.h> /* last: it has a macro named fail */

static const char *self;
static bool skipped;

/* i32: pre length, n, n_merges, bos, eos, unk, add_bos, add_eos, add_space_prefix, has scores; model[8]; pre; types; scores; then length + bytes of every text, of every merge */
static int load_tables(struct vocab *v, const char *path, struct bytes file, struct error *err)
{
    struct reader r = {file.p, file.n, 0};
    struct bytes model, pre, types, scores = {0};
    uint32_t h[10];
    for (int i = 0; i < 10; i++)
        assert_true(read_u32(&r, &h[i]));
    assert_true(read_bytes(&r, 8, &model) && read_bytes(&r, h[0], &pre) && read_bytes(&r, 4ull * h[1], &types));
    assert_true(!h[9] || read_bytes(&r, 4ull * h[1], &scores));
    struct bytes *text = calloc((size_t)h[1] + h[2] + 1, sizeof *text);
    int32_t *type = malloc(types.n);
    float *score = malloc(scores.n + 1);
    char name[64] = {0};
    assert_true(text && type && score && pre.n < sizeof name);
    memcpy(name, pre.p, pre.n);
    memcpy(type, types.p, types.n);
    if (scores.n)
        memcpy(score, scores.p, scores.n);
    for (uint32_t i = 0, len; i < h[1] + h[2]; i++)
        assert_true(read_u32(&r, &len) && read_bytes(&r, len, &text[i]));
    struct vocab_tables t = {(const char *)model.p, name, (int)h[1], text, h[9] ? score : NULL, type, (int)h[2], text + h[1], (int)h[3], (int)h[4], (int)h[5],
                             (int)h[6], (int)h[7], (int)h[8]};
    int rc = vocab_from_tables(v, path, &t, NULL, err);
    free(text);
    free(type);
    free(score);
    return rc;
}

static int load(struct vocab *v, const char *kind, const char *path, struct error *err)
{
    char *data;
    size_t n;
    int rc = file_slurp(path, 1u << 28, &data, &n, err);
    if (rc < 0)
        return rc;
    struct bytes file = {(const uint8_t *)data, n};
    rc = strcmp(kind, "json") == 0    ? vocab_from_tokenizer_json(v, path, file, NULL, err)
         : strcmp(kind, "model") == 0 ? vocab_from_tokenizer_model(v, path, file, NULL, err)
                                      : load_tables(v, path, file, err);
    free(data);
    return rc;
}

static void encode_record(const struct tokenizer *t, const char *text, uint32_t n, unsigned flags, int64_t *ns)
{
    static int32_t *ids;
    static int cap;
    struct error err = {0};
    int64_t start = clock_ns();
    int count = tokenizer_encode(t, text, n, flags, ids, cap, &err);
    *ns += clock_ns() - start;
    if (count > cap) {
        ids = realloc(ids, sizeof *ids * (size_t)(cap = count + count / 2));
        assert_non_null(ids);
        assert_int_equal(tokenizer_encode(t, text, n, flags, ids, cap, &err), count);
    }
    if (count < 0)
        fprintf(stderr, "%s\n", err.text);
    fwrite(&count, 4, 1, stdout);
    if (count > 0)
        fwrite(ids, 4, (size_t)count, stdout);
}

static int tool(char **argv)
{
    struct vocab v;
    struct error err = {0};
    int64_t start = clock_ns(), ns = 0, bytes = 0;
    struct tokenizer *t = load(&v, argv[1], argv[2], &err) < 0 ? NULL : tokenizer_open(&v, &err);
    if (!t) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int64_t opened = clock_ns() - start;
    char *text = NULL;
    for (uint32_t n; fread(&n, 4, 1, stdin) == 1; bytes += n) {
        text = realloc(text, n + 1);
        assert_non_null(text);
        assert_int_equal(fread(text, 1, n, stdin), n);
        encode_record(t, text, n, (unsigned)atoi(argv[3]), &ns);
    }
    fprintf(stderr, "opened in %.0f ms; %.1f MB encoded at %.1f MB/s\n", (double)opened / 1e6, (double)bytes / 1e6, (double)bytes * 1e3 / (double)(ns + 1));
    free(text);
    tokenizer_close(t);
    vocab_close(&v);
    return 0;
}

static void test_ids_equal_the_reference(void **state)
{
    (void)state;
    char command[4096];
    snprintf(command, sizeof command, "python3 tests/text/conformance.py --sample '%s'", self);
    int status = system(command);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skipped = true; /* the script has printed which package cannot be installed */
    if (skipped)
        skip();
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 4)
        return tool(argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids_equal_the_reference)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed ? failed : skipped ? 77 : 0; /* 77: SKIP_RETURN_CODE of cmake/Tests.cmake */
}
