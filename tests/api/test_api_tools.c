/* SPDX-License-Identifier: Apache-2.0 */
/* What layerskip.h promises of text, scoring, lists, synthetic checkpoints and measuring. */
#include <stdbool.h>

#include "synthetic.h"

static struct folder folder;
static lsk_model *model;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    model = folder_open(&folder, &(lsk_model_options){.context = 100, .batch = 16, .threads = 1});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lsk_model_close(model);
    folder_remove(&folder);
    return 0;
}

/* ---- text ---- */

static void test_encode(void **state)
{
    (void)state;
    lsk_error err = {0};
    int32_t a[64], b[64];
    const char *text = "h\xc3\xa9llo <s> <300>";
    int n = lsk_encode(model, text, strlen(text), 0, a, 64, &err);
    assert_int_equal(n, (int)strlen(text)); /* without merges every byte is a token; what looks special is text */
    assert_int_equal(lsk_encode(model, text, strlen(text), 0, NULL, 0, &err), n);
    b[5] = -7;
    assert_int_equal(lsk_encode(model, text, strlen(text), 0, b, 5, &err), n); /* says how many, writes five */
    assert_memory_equal(a, b, 5 * sizeof *a);
    assert_int_equal(b[5], -7);
    assert_int_equal(lsk_encode(model, text, strlen(text), LSK_ENCODE_SPECIAL, b, 64, &err), n - 2);
    assert_int_equal(b[7], 1);
    assert_int_equal(lsk_encode(model, "", 0, 0, b, 64, &err), 0);
    assert_int_equal(lsk_encode(model, "<s>a", 4, LSK_ENCODE_SPECIAL | LSK_ENCODE_BOS, b, 64, &err), 2); /* bos never twice */
    assert_int_equal(b[0], 1);
    assert_int_equal(lsk_encode(model, "a\0b", 3, 0, b, 64, &err), 3);
}

static void test_encode_what_is_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text, *at;
        int n_replaced;
    } bad[] = {{"\xff", "0", 3}, {"ab\xc3(", "2", 6}, {"abc\xed\xa0\x80", "3", 12}, {"\xe2\x82", "0", 3}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lsk_error err = {0};
        int32_t ids[16];
        size_t n = strlen(bad[i].text);
        assert_int_equal(lsk_encode(model, bad[i].text, n, 0, ids, 16, &err), LSK_EDATA);
        assert_non_null(strstr(err.text, bad[i].at));
        assert_int_equal(lsk_encode(model, bad[i].text, n, LSK_ENCODE_REPLACE, ids, 16, &err), bad[i].n_replaced);
    }
}

/* Every token has its bytes; the bytes of a text's tokens are the text. */
static void test_piece(void **state)
{
    (void)state;
    lsk_error err = {0};
    int32_t ids[256];
    char text[256], back[256];
    size_t n, at = 0;
    for (int i = 0; i < 127; i++)
        text[i] = (char)(i + 1);
    int count = lsk_encode(model, text, 127, 0, ids, 256, &err);
    for (int i = 0; i < count; i++) {
        const char *p = lsk_piece(model, ids[i], &n);
        assert_non_null(p);
        memcpy(back + at, p, n);
        at += n;
    }
    assert_int_equal(at, 127);
    assert_memory_equal(text, back, 127);
    for (int32_t id = 0; id < 515; id++)
        assert_non_null(lsk_piece(model, id, &n));
    assert_memory_equal(lsk_piece(model, 300, &n), "<300>", 5);
    assert_int_equal(n, 5);
    assert_memory_equal(lsk_piece(model, 1, &n), "<s>", 3);
    assert_null(lsk_piece(model, -1, &n));
    assert_null(lsk_piece(model, 515, &n));
    assert_null(lsk_piece(model, INT32_MAX, &n));
}

/* ---- scoring ---- */

enum { VOCAB = 515, LENGTH = 40 };
struct rows {
    float x[LENGTH][VOCAB];
    int n, stop_at;
};

static int keep(void *ud, int i, const float *logits, int n_vocab)
{
    struct rows *r = ud;
    assert_int_equal(n_vocab, VOCAB);
    assert_int_equal(i, r->n);
    memcpy(r->x[r->n++], logits, sizeof r->x[0]);
    return r->n == r->stop_at;
}

static int score(lsk_session *s, int n, int depth, struct rows *r, lsk_error *err)
{
    int32_t ids[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        ids[i] = 3 + i * 11;
    r->n = 0;
    return lsk_score(s, ids, n, depth, keep, r, err);
}

static void test_score(void **state)
{
    (void)state;
    static struct rows full, part, again;
    lsk_error err = {0};
    lsk_session *s = must_session(model);
    assert_int_equal(score(s, LENGTH, 0, &full, &err), 0);
    assert_int_equal(full.n, LENGTH);
    assert_int_equal(score(s, LENGTH, 4, &again, &err), 0); /* all layers by number */
    assert_memory_equal(full.x, again.x, sizeof full.x);
    assert_int_equal(score(s, LENGTH, 2, &part, &err), 0);
    assert_memory_not_equal(full.x, part.x, sizeof full.x);
    assert_int_equal(score(s, 17, 0, &part, &err), 0); /* a position does not see what follows it */
    assert_int_equal(part.n, 17);
    assert_memory_equal(full.x, part.x, 17 * sizeof full.x[0]);
    part.stop_at = 3;
    assert_int_equal(score(s, LENGTH, 0, &part, &err), 0);
    assert_int_equal(part.n, 3);
    lsk_session_close(s);
}

/* Rows behind one depth and from a position on, out of a pass that stops at several. */
struct exits {
    const struct rows *want[3];
    int depth[3], from, seen[3], last;
};

static int keep_exit(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    struct exits *e = ud;
    int k = 0;
    while (e->depth[k] != depth)
        assert_true(++k < 3);
    assert_int_equal(i, e->from + e->seen[k]++);
    assert_true(!k || e->seen[k] <= e->seen[k - 1]); /* a position's depths in order */
    assert_memory_equal(logits, e->want[k]->x[i], (size_t)n_vocab * sizeof *logits);
    return 0;
}

static void test_score_exits(void **state)
{
    (void)state;
    static struct rows rows[3];
    struct exits e = {.want = {&rows[0], &rows[1], &rows[2]}, .depth = {1, 3, 4}};
    lsk_error err = {0};
    lsk_session *s = must_session(model);
    int32_t ids[LENGTH];
    for (int k = 0; k < 3; k++)
        assert_int_equal(score(s, LENGTH, e.depth[k], &rows[k], &err), 0);
    for (int i = 0; i < LENGTH; i++)
        ids[i] = 3 + i * 11;
    for (e.from = 0; e.from < LENGTH; e.from += 13) {
        memset(e.seen, 0, sizeof e.seen);
        assert_int_equal(lsk_score_exits(s, ids, LENGTH, e.from, e.depth, 3, keep_exit, &e, &err), 0);
        for (int k = 0; k < 3; k++)
            assert_int_equal(e.seen[k], LENGTH - e.from);
    }
    assert_int_equal(lsk_score_exits(s, ids, LENGTH, LENGTH, e.depth, 3, keep_exit, &e, &err), LSK_EUSAGE);
    assert_int_equal(lsk_score_exits(s, ids, LENGTH, 0, (int[]){2, 2}, 2, keep_exit, &e, &err), LSK_EUSAGE);
    assert_int_equal(lsk_score_exits(s, ids, LENGTH, 0, (int[]){5}, 1, keep_exit, &e, &err), LSK_EUSAGE);
    assert_int_equal(lsk_score_exits(s, ids, LENGTH, 0, NULL, 0, keep_exit, &e, &err), LSK_EUSAGE);
    lsk_session_close(s);
}

static void test_score_refuses(void **state)
{
    (void)state;
    static struct rows r;
    lsk_error err = {0};
    int32_t ids[101] = {0}, bad = 515;
    lsk_session *s = must_session(model);
    assert_int_equal(score(s, 3, 5, &r, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "depth 5"));
    assert_int_equal(score(s, 3, -1, &r, &err), LSK_EUSAGE);
    assert_int_equal(score(s, 0, 0, &r, &err), LSK_EUSAGE);
    assert_int_equal(lsk_score(s, ids, 101, 0, keep, &r, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "101"));
    assert_int_equal(lsk_score(s, &bad, 1, 0, keep, &r, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "515"));
    assert_int_equal(r.n, 0);
    assert_int_equal(score(s, LENGTH, 0, &r, &err), 0);
    assert_int_equal(r.n, LENGTH);
    lsk_session_close(s);
}

/* ---- lists, synthetic checkpoints, measuring ---- */

static bool listed(const char *(*list)(int, const char **), const char *name)
{
    const char *help = NULL, *got;
    bool found = false;
    int i = 0;
    for (; (got = list(i, &help)); i++) {
        assert_true(help && *help);
        found |= !strcmp(got, name);
        help = NULL;
    }
    assert_null(list(i + 5, NULL));
    assert_null(list(-1, NULL));
    assert_non_null(list(0, NULL));
    return found;
}

static void test_lists(void **state)
{
    (void)state;
    assert_true(listed(lsk_drafter, "none") && listed(lsk_drafter, "exit"));
    assert_true(listed(lsk_shape, "tiny") && listed(lsk_shape, "llama2-13b"));
    assert_false(listed(lsk_shape, "exit"));
}

static int stop(void *ud, const char *what, uint64_t done, uint64_t total)
{
    (void)ud;
    return what && done <= total;
}

static void test_synth_and_opening_report(void **state)
{
    (void)state;
    lsk_error err = {0};
    char path[80];
    snprintf(path, sizeof path, "%s/second", folder.base);
    assert_int_equal(lsk_synth(path, &(lsk_synth_options){.shape = "none such"}, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "none such"));
    assert_int_equal(lsk_synth(folder.path, &(lsk_synth_options){.shape = "tiny"}, &err), LSK_ECREATE); /* it is there */
    assert_int_equal(lsk_synth(path, &(lsk_synth_options){.shape = "tiny", .progress = stop, .threads = 1}, &err), LSK_EUSAGE);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_null(lsk_model_open(folder.path, &(lsk_model_options){.device = test_device(), .progress = stop, .threads = 1}, &err));
    assert_int_equal(err.code, LSK_EUSAGE);
    assert_non_null(strstr(err.text, "stopped"));
}

static void test_measure_read(void **state)
{
    (void)state;
    lsk_error err = {0};
    double rate = lsk_measure_read(8 << 20, 1, &err);
    assert_true(rate > 1e6 && rate < 1e13);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_encode), TEST(test_encode_what_is_not_utf8), TEST(test_piece), TEST(test_score), TEST(test_score_exits), TEST(test_score_refuses), TEST(test_lists),
        TEST(test_synth_and_opening_report), TEST(test_measure_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
