/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "faults.h"

static char folder[64], path[80];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_file.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/f", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    remove(path);
    return rmdir(folder); /* fails when a temporary file was left */
}

static void write_file(const char *text)
{
    struct error err = {0};
    struct file_out o;
    assert_int_equal(file_create(&o, path, &err), 0);
    assert_int_equal(file_write_at(&o, 0, text, strlen(text), &err), 0);
    assert_int_equal(file_commit(&o, &err), 0);
    file_abandon(&o); /* fine after a commit */
}

static void test_round_trip(void **state)
{
    (void)state;
    struct error err = {0};
    struct file f;
    char got[8] = {0}, *all;
    size_t n;
    write_file("0123456789");
    assert_int_equal(file_open(&f, path, &err), 0);
    assert_int_equal(f.size, 10);
    assert_int_equal(file_read_at(&f, 3, got, 4, &err), 0);
    assert_string_equal(got, "3456");
    assert_int_equal(file_read_at(&f, 8, got, 3, &err), ERR_IO); /* past the end, and says where */
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "offset 10"));
    file_close(&f);
    file_close(&f);
    assert_int_equal(file_slurp(path, 10, &all, &n, &err), 0);
    assert_int_equal(n, 10);
    assert_string_equal(all, "0123456789"); /* with a zero behind */
    free(all);
    assert_int_equal(file_slurp(path, 9, &all, &n, &err), ERR_DATA);
}

static void test_shrinking_file(void **state)
{
    (void)state;
    struct error err = {0};
    struct file f;
    char got[10];
    write_file("0123456789");
    assert_int_equal(file_open(&f, path, &err), 0);
    assert_int_equal(truncate(path, 4), 0);
    assert_int_equal(file_read_at(&f, 0, got, 10, &err), ERR_IO);
    file_close(&f);
}

/* Only regular files are read; a pipe without a writer does not hang. */
static void test_not_files(void **state)
{
    (void)state;
    struct error err = {0};
    struct file f;
    assert_int_equal(file_open(&f, path, &err), ERR_NOINPUT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(file_open(&f, folder, &err), ERR_NOINPUT);
    assert_int_equal(file_open(&f, "/dev/null", &err), ERR_NOINPUT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_open(&f, path, &err), ERR_NOINPUT);
    file_close(&f);
}

static void test_old_file_stays_until_commit(void **state)
{
    (void)state;
    struct error err = {0};
    struct file_out o;
    char *all;
    size_t n;
    write_file("old");
    assert_int_equal(file_create(&o, path, &err), 0);
    assert_int_equal(file_write_at(&o, 3, "er", 2, &err), 0); /* in any order */
    assert_int_equal(file_write_at(&o, 0, "new", 3, &err), 0);
    assert_int_equal(file_slurp(path, 100, &all, &n, &err), 0);
    assert_string_equal(all, "old");
    free(all);
    file_abandon(&o);
    file_abandon(&o);
    assert_int_equal(file_create(&o, path, &err), 0);
    assert_int_equal(file_write_at(&o, 0, "newer", 5, &err), 0);
    assert_int_equal(file_commit(&o, &err), 0);
    assert_int_equal(file_slurp(path, 100, &all, &n, &err), 0);
    assert_string_equal(all, "newer");
    free(all);
}

static void test_failing_writes(void **state)
{
    (void)state;
    struct error err = {0};
    struct file_out o = {0};
    char missing[160];
    file_abandon(&o);
    snprintf(missing, sizeof missing, "%s/no/such", folder);
    assert_int_equal(file_create(&o, missing, &err), ERR_CREATE);
    file_abandon(&o);
    assert_int_equal(mkdir(path, 0700), 0); /* a folder is in the way of the rename */
    assert_int_equal(file_create(&o, path, &err), 0);
    assert_int_equal(file_commit(&o, &err), ERR_CREATE);
    assert_int_equal(file_sync_folder(missing, &err), ERR_IO);
    assert_int_equal(file_sync_folder(path, &err), 0);
}

static void check_content(const char *want)
{
    struct error err = {0};
    char *all;
    size_t n;
    if (!want) {
        assert_int_not_equal(access(path, F_OK), 0);
        return;
    }
    assert_int_equal(file_slurp(path, 100, &all, &n, &err), 0);
    assert_string_equal(all, want);
    free(all);
}

/* Commits with a fault at call `at`. */
static int commit_with(int at, const char *old)
{
    struct error err = {0};
    struct file_out o;
    remove(path);
    if (old)
        write_file(old);
    assert_int_equal(file_create(&o, path, &err), 0);
    assert_int_equal(file_write_at(&o, 0, "new", 3, &err), 0);
    fault_at = at;
    int rc = file_commit(&o, &err);
    if (rc)
        assert_non_null(strstr(err.text, "Input/output error"));
    return rc;
}

/* Whatever fails, the file is as before; remove_folder sees what else was left. */
static void test_failing_commits(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        int failed = 0, at = 0;
        for (bool reached = true; reached; at++) {
            int rc = commit_with(at, old ? "old" : NULL);
            reached = fault_at < 0;
            fault_at = -1;
            failed += rc != 0;
            check_content(!rc ? "new" : old ? "old" : NULL);
        }
        assert_int_equal(failed, 3); /* syncs of file and folder, and the rename between; a second name (link) is only a wish */
        assert_int_equal(at, old ? 5 : 4);
    }
}

static void test_folder_of_a_name(void **state)
{
    (void)state;
    struct error err = {0};
    struct stat st;
    char slashed[96];
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(stat(folder, &st), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(slashed, sizeof slashed, "%s%.*s", path, i, "//");
        synced_folder = 0;
        assert_int_equal(file_sync_folder(slashed, &err), 0);
        assert_int_equal(synced_folder, st.st_ino);
    }
    assert_int_equal(stat("/", &st), 0);
    assert_int_equal(file_sync_folder("/x", &err), 0);
    assert_int_equal(synced_folder, st.st_ino);
    assert_int_equal(stat(".", &st), 0);
    assert_int_equal(file_sync_folder("x", &err), 0);
    assert_int_equal(synced_folder, st.st_ino);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_shrinking_file, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_not_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_old_file_stays_until_commit, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_failing_writes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_failing_commits, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_folder_of_a_name, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
