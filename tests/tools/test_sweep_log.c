/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sweep_log.h"
#include "sweep_plot.h"

static char path[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(path, "/tmp/layerskip-sweep-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    return unlink(path);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static struct sweep_cell cell(const char *drafter, int exit_layer, int drafts, double speedup)
{
    struct sweep_cell c = {.exit_layer = exit_layer, .drafts = drafts, .tokens = 640, .rounds = 300, .drafted = 900, .accepted = 340, .repetitions = 3, .acceptance = .377778, .length = 2.13333,
                           .seconds = 1.75, .token_ms = 2.73438, .rate = 365.714, .plain_rate = 280.5, .speedup = speedup, .low = speedup - .1, .high = speedup + .1, .date = "2026-11-24T02:00:00Z"};
    strcpy(c.drafter, drafter);
    return c;
}

static struct sweep_log open_log(const char *key, int want)
{
    struct sweep_log l = {.path = NULL};
    lsk_error err = {0};
    strcpy(l.key, key);
    sweep_log_note(&l, "model", "a \"model\"\nwith: two lines");
    int r = sweep_log_open(&l, path, &err);
    if (r != want)
        fail_msg("%d: %s", r, err.text);
    return l;
}

static void add(struct sweep_log *l, struct sweep_cell c)
{
    lsk_error err = {0};
    if (sweep_log_add(l, &c, &err))
        fail_msg("%s", err.text);
}

static void append(const char *text)
{
    FILE *f = fopen(path, "a");
    fputs(text, f);
    fclose(f);
}

static void what_was_measured_is_found_again(void **state)
{
    (void)state;
    struct sweep_log l = open_log("model=1 threads=2", 0);
    const struct sweep_cell a = cell("exit", 8, 4, 1.25), b = cell("ngram+exit", 6, 0, 1.5);
    add(&l, a);
    add(&l, b);
    sweep_log_close(&l);
    append("8,5,0.5,1.0,"); /* killed while it wrote */
    l = open_log("model=1 threads=2", 0);
    assert_int_equal(l.n, 2);
    assert_memory_equal(&l.cell[0], &a, sizeof a);
    assert_memory_equal(&l.cell[1], &b, sizeof b);
    assert_string_equal(sweep_log_said(&l, "model"), "a \"model\"\\nwith: two lines");
    const struct sweep_cell none = cell("exit", 6, 0, 0);
    assert_ptr_equal(sweep_log_find(&l, &b), &l.cell[1]);
    assert_null(sweep_log_find(&l, &none));
    assert_ptr_equal(sweep_log_best(&l), &l.cell[1]);
    add(&l, cell("exit", 8, 5, 1.1));
    sweep_log_close(&l);
    l = open_log("model=1 threads=2", 0);
    assert_int_equal(l.n, 3);
    struct sweep_grid grid[4];
    assert_int_equal(sweep_grids(&l, grid, 4), 2);
    assert_int_equal(grid[0].drafts.n, 2);
    assert_int_equal(grid[0].drafts.value[1], 5);
    assert_ptr_equal(grid_cell(&grid[0], 0, 1), &l.cell[2]);
    sweep_log_close(&l);
}

/* The fastest row is not the best where others were measured more often, and the later of two rows counts. */
static void what_was_measured_again_counts(void **state)
{
    (void)state;
    struct sweep_log l = open_log("model=1 threads=2", 0);
    struct sweep_cell again[2] = {cell("exit", 8, 4, 1.2), cell("exit", 6, 4, 1.3)};
    add(&l, cell("exit", 8, 4, 1.9));
    add(&l, cell("exit", 6, 4, 1.5));
    add(&l, cell("exit", 7, 4, 1.4));
    assert_ptr_equal(sweep_log_best(&l), &l.cell[0]);
    for (int i = 0; i < 2; i++) {
        again[i].repetitions = 6;
        add(&l, again[i]);
    }
    assert_ptr_equal(sweep_log_best(&l), &l.cell[4]);
    assert_ptr_equal(sweep_log_first(&l, &again[0]), &l.cell[0]);
    assert_ptr_equal(sweep_log_find(&l, &again[0]), &l.cell[3]);
    struct sweep_grid grid;
    assert_int_equal(sweep_grids(&l, &grid, 1), 1);
    assert_ptr_equal(grid_cell(&grid, 2, 0), &l.cell[3]);
    assert_ptr_equal(grid_cell(&grid, 1, 0), &l.cell[2]);
    sweep_log_close(&l);
}

static size_t size_of_file(void)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    return (size_t)s.st_size;
}

/* A kill in the first write leaves no row: nothing is lost by beginning anew, whatever sweep it was of. */
static void a_cut_header_is_written_anew(void **state)
{
    (void)state;
    struct sweep_log l = open_log("model=1 threads=2", 0);
    sweep_log_close(&l);
    const size_t whole = size_of_file();
    for (size_t n = 0; n < whole; n++) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        l = open_log("model=1 threads=3", 0);
        assert_int_equal(size_of_file(), whole);
        add(&l, cell("exit", 8, 4, 1.25));
        sweep_log_close(&l);
        l = open_log("model=1 threads=3", 0);
        assert_int_equal(l.n, 1);
        assert_string_equal(sweep_log_said(&l, "model"), "a \"model\"\\nwith: two lines");
        sweep_log_close(&l);
        unlink(path);
        l = open_log("model=1 threads=2", 0);
        sweep_log_close(&l);
    }
}

static void what_is_no_sweep_is_kept(void **state)
{
    (void)state;
    static const char *const others[] = {"x", "x\n", "# layerskip run", "# layerskip sweep model=1\nexit_layer,other\n"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        append(others[i]);
        struct sweep_log l = open_log("model=1", LSK_EDATA);
        sweep_log_close(&l);
        assert_int_equal(size_of_file(), strlen(others[i]));
        unlink(path);
    }
}

static void another_sweep_is_refused(void **state)
{
    (void)state;
    struct sweep_log l = open_log("model=1 threads=2 n_gen=64", 0), other = {.path = NULL};
    lsk_error err = {0};
    char word[16];
    sweep_log_close(&l);
    strcpy(other.key, "model=1 threads=4 n_gen=64");
    assert_int_equal(sweep_log_open(&other, path, &err), LSK_EDATA);
    assert_non_null(strstr(err.text, "with threads=2, this sweep is with threads=4"));
    assert_string_equal(sweep_key_word(other.key, "n_gen", word, sizeof word), "64");
    assert_string_equal(sweep_key_word(other.key, "gen", word, sizeof word), "");
    sweep_log_close(&other);
}

/* What stands there may be anything: it goes on into gnuplot's scripts and pages. */
static void hostile_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } bad[] = {{"8,4,.5,1,1,1,'; system 'x',1,1,1,1,1,1,1,1,1,1,d\n", "line 4"}, {"8,4\n", "line 4"}, {"-8,4,.5,1,1,1,exit,1,1,1,1,1,1,1,1,1,1,d\n", "line 4"},
               {"8,4,nan,1,1,1,exit,1,1,1,1,1,1,1,1,1,1,d\n", "line 4"},        {"8,4,.5,1,1,1,exit,1,1,1,1,1,1,1,1,1,1,d,e\n", "line 4"},
               {"99999999999,4,.5,1,1,1,exit,1,1,1,1,1,1,1,1,1,1,d\n", "line 4"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sweep_log l = open_log("model=1", 0), again;
        lsk_error err = {0};
        sweep_log_close(&l);
        append(bad[i].text);
        assert_int_equal(sweep_log_read(&again, path, &err), LSK_EDATA);
        if (!strstr(err.text, bad[i].word))
            fail_msg("%s", err.text);
        sweep_log_close(&again);
        unlink(path);
    }
    static const char *const no_sweeps[] = {"", "x\n", "# layerskip sweep model=1\n", "# layerskip sweep model=1\nexit_layer,other\n"};
    for (size_t i = 0; i < sizeof no_sweeps / sizeof *no_sweeps; i++) {
        struct sweep_log again;
        lsk_error err = {0};
        append(no_sweeps[i]);
        assert_int_equal(sweep_log_read(&again, path, &err), LSK_EDATA);
        sweep_log_close(&again);
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(what_was_measured_is_found_again, set_up, tear_down), cmocka_unit_test_setup_teardown(another_sweep_is_refused, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(what_was_measured_again_counts, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(a_cut_header_is_written_anew, set_up, tear_down), cmocka_unit_test_setup_teardown(what_is_no_sweep_is_kept, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(hostile_files_are_refused, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
