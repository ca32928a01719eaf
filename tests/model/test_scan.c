/* SPDX-License-Identifier: Apache-2.0 */
#include "synthetic.h"

#include <math.h>

#include "base/half.h"
#include "model/scan.h"

struct lines {
    int n, stop;              /* at this line */
    uint64_t done, total, stop_at; /* bytes */
    char text[4][400];
};

static int keep(void *ud, const char *line)
{
    struct lines *l = ud;
    if (l->n < 4)
        snprintf(l->text[l->n], sizeof l->text[0], "%s", line);
    return ++l->n == l->stop;
}

static int count_bytes(void *ud, const char *what, uint64_t done, uint64_t total)
{
    struct lines *l = ud;
    assert_string_equal(what, "checking weights");
    assert_true(done > l->done && done <= total);
    l->done = done;
    l->total = total;
    return done >= l->stop_at;
}

/* Puts a bf16 value into the file, at an element of a tensor. */
static void plant(const struct checkpoint *c, const char *name, uint64_t index, float value)
{
    const struct view *v = checkpoint_find(c, name);
    uint16_t h = f32_to_bf16(value);
    assert_non_null(v);
    int fd = open(c->shard[v->shard].path, O_WRONLY);
    assert_int_equal(pwrite(fd, &h, 2, (off_t)(v->offset + 2 * index)), 2);
    close(fd);
}

static int count_end(void *ud, const lsk_event *e)
{
    int *ends = ud;
    if (e->finish)
        ends[e->finish]++;
    ends[0]++;
    return 0;
}

/* Item 80: a reply over such weights ends, in its first round, with one event that says so; drafted or not. */
static void check_reply_ends(lsk_model *m)
{
    lsk_session *s = must_session(m);
    int32_t prompt[3] = {1, 2, 3};
    for (int drafts = 0; drafts < 3; drafts++) {
        int ends[8] = {0};
        lsk_generate_options o = {.drafter = drafts ? "exit" : "none", .exit_layer = 2, .num_speculations = drafts, .max_tokens = 9};
        assert_int_equal(lsk_generate(s, prompt, 3, &o, count_end, ends, NULL, NULL), 0);
        assert_int_equal(ends[0], 1);
        assert_int_equal(ends[LSK_FINISH_ERROR], 1);
    }
    lsk_session_close(s);
}

/* Either listener ends it. */
static void check_stops(const struct checkpoint *c)
{
    struct error err = {0};
    struct lines l = {.stop = 1, .stop_at = UINT64_MAX};
    const struct scan_listener listener = {count_bytes, keep, &l};
    assert_int_equal(scan_weights(c, &listener, &err), ERR_USAGE);
    assert_string_equal(err.text, "stopped");
    assert_int_equal(l.n, 1);
    l = (struct lines){.stop_at = 1};
    assert_int_equal(scan_weights(c, &listener, &err), ERR_USAGE);
    assert_true(l.done > 0 && l.done < l.total && l.n == 0);
}

/* Item 12: weights that are no numbers load; a look at all of them names tensor and index. */
static void item_12_values_that_are_not_finite_are_named(void **state)
{
    (void)state;
    struct folder f;
    struct error err = {0};
    struct lines l = {.stop_at = UINT64_MAX};
    const struct scan_listener listener = {count_bytes, keep, &l};
    folder_make(&f, "tiny-gqa");
    struct checkpoint *c = checkpoint_open(f.path, &err);
    assert_non_null(c);
    assert_int_equal(scan_weights(c, &listener, &err), 0);
    assert_true(l.total && l.done == l.total);
    plant(c, "layers.1.q", 777, NAN);
    plant(c, "layers.1.q", 900, INFINITY);
    plant(c, "norm", 3, -INFINITY);
    l.done = 0;
    assert_int_equal(scan_weights(c, &listener, &err), 2);
    assert_int_equal(l.n, 2);
    const char *q = strstr(l.text[0], "q_proj") ? l.text[0] : l.text[1], *norm = q == l.text[0] ? l.text[1] : l.text[0];
    assert_non_null(strstr(q, "model.layers.1.self_attn.q_proj.weight: 2 values"));
    assert_non_null(strstr(q, "index 777"));
    assert_non_null(strstr(norm, "model.norm.weight: 1 values"));
    assert_non_null(strstr(norm, "index 3"));
    assert_int_equal(scan_weights(c, &(struct scan_listener){0}, &err), 2);
    check_stops(c);
    checkpoint_close(c);
    lsk_model *m = folder_open(&f, NULL);
    assert_int_equal(lsk_model_check(m, NULL, keep, &l, NULL), 2);
    l.stop = l.n + 1;
    assert_int_equal(lsk_model_check(m, NULL, keep, &l, NULL), LSK_EUSAGE);
    check_reply_ends(m);
    lsk_model_close(m);
    folder_remove(&f);
}

/* A file that became shorter is an error, not a crash. */
static void a_file_that_shrank_is_an_error(void **state)
{
    (void)state;
    struct folder f;
    struct error err = {0};
    folder_make(&f, "tiny");
    struct checkpoint *c = checkpoint_open(f.path, &err);
    assert_int_equal(truncate(c->shard[0].path, 20000), 0);
    assert_int_equal(scan_weights(c, &(struct scan_listener){0}, &err), ERR_IO);
    checkpoint_close(c);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(item_12_values_that_are_not_finite_are_named), cmocka_unit_test(a_file_that_shrank_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
