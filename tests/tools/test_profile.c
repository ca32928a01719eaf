/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "profile.h"

static lsk_model_info model = {.id = "0123456789abcdef", .n_layers = 8, .exit_layer = 2, .num_speculations = 3};
static char base[64], path[256];

static int set_up(void **state)
{
    (void)state;
    lsk_error err;
    strcpy(base, "/tmp/layerskip-test-XXXXXX");
    assert_non_null(mkdtemp(base));
    setenv("XDG_CONFIG_HOME", base, 1);
    assert_int_equal(profile_path(&model, path, sizeof path, &err), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    return system(command);
}

static void save(lsk_profile draft)
{
    struct record r = {0};
    lsk_error err = {0};
    record_text(&r, "date", "2026-11-23T13:15:38Z");
    record_number(&r, "speedup", "%.6g", 1.5);
    if (profile_save(&model, &(struct profile){.draft = draft}, &r, &err))
        fail_msg("%s", err.text);
}

static void plant(const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void expect(const char *source, int exit_layer, int drafts)
{
    struct profile p = profile_find(&model);
    assert_string_equal(p.source, source);
    assert_int_equal(p.draft.exit_layer, exit_layer);
    assert_int_equal(p.draft.num_speculations, drafts);
}

static void places(void **state)
{
    (void)state;
    char out[256], want[256];
    lsk_error err;
    snprintf(want, sizeof want, "%s/layerskip/profiles/0123456789abcdef.json", base);
    assert_string_equal(path, want);
    setenv("HOME", "/home/somebody", 1);
    const char *const ignored[] = {"", "relative/path"};
    for (int i = 0; i < 3; i++) {
        if (i < 2)
            setenv("XDG_CONFIG_HOME", ignored[i], 1);
        else
            unsetenv("XDG_CONFIG_HOME");
        assert_int_equal(profile_path(&model, out, sizeof out, &err), 0);
        assert_string_equal(out, "/home/somebody/.config/layerskip/profiles/0123456789abcdef.json");
    }
    assert_int_equal(profile_path(&model, out, 20, &err), LSK_ECONFIG);
    unsetenv("HOME");
    assert_int_equal(profile_path(&model, out, sizeof out, &err), LSK_ECONFIG);
    expect("from the checkpoint", 2, 3); /* no place: nothing measured */
}

static void what_was_saved_is_found(void **state)
{
    (void)state;
    lsk_model_info bare = model;
    bare.exit_layer = 0;
    assert_string_equal(profile_find(&bare).source, "");
    expect("from the checkpoint", 2, 3);
    save((lsk_profile){5, 6});
    expect("measured 2026-11-23", 5, 6);
    save((lsk_profile){0, 0}); /* plain decoding was faster: that holds against the checkpoint too */
    expect("measured 2026-11-23", 0, 0);
    char folder[256];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/layerskip/profiles", base);
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    assert_int_equal(n, 1); /* nothing half-written is left */
}

/* A team may draft instead of the exit: then it is said by name, where nothing else was asked for. */
static void a_drafter_is_kept_and_applied(void **state)
{
    (void)state;
    lsk_generate_options asked = {.drafter = "auto", .exit_layer = 3}, free_choice = {.drafter = "auto"}, none = {.drafter = "none"};
    struct record r = {0};
    lsk_error err = {0};
    record_text(&r, "date", "2026-11-23T13:15:38Z");
    assert_int_equal(profile_save(&model, &(struct profile){.draft = {5, 0}, .drafter = "ngram+exit"}, &r, &err), 0);
    struct profile p = profile_find(&model);
    assert_string_equal(p.drafter, "ngram+exit");
    assert_string_equal(p.source, "measured 2026-11-23");
    assert_int_equal(p.draft.exit_layer, 5);
    assert_int_equal(p.draft.num_speculations, 0);
    profile_apply(&p, &free_choice);
    assert_string_equal(free_choice.drafter, "ngram+exit");
    assert_int_equal(free_choice.exit_layer, 5);
    profile_apply(&p, &asked);
    assert_string_equal(asked.drafter, "auto");
    profile_apply(&p, &none);
    assert_string_equal(none.drafter, "none");
    save((lsk_profile){5, 6});
    p = profile_find(&model);
    free_choice = (lsk_generate_options){.drafter = "auto"};
    profile_apply(&p, &free_choice);
    assert_string_equal(free_choice.drafter, "auto"); /* an exit's profile is the library's to apply */
}

static void what_gains_little_is_no_profile(void **state)
{
    (void)state;
    struct record r = {0};
    lsk_error err = {0};
    const struct profile best = {.draft = {5, 4}};
    record_text(&r, "date", "2026-11-23T13:15:38Z");
    assert_int_equal(profile_keep(&model, &best, 1.029, &r, &err), 0);
    expect("measured 2026-11-23", 0, 0);
    assert_int_equal(profile_keep(&model, &best, 1.031, &r, &err), 0);
    expect("measured 2026-11-23", 5, 4);
}

/* A line on stderr names the file, and decoding is plain. */
static void expect_warning(const char *word)
{
    char text[2000];
    fflush(stderr);
    FILE *f = tmpfile();
    int keep = dup(2);
    dup2(fileno(f), 2);
    expect("", 0, 0);
    dup2(keep, 2);
    close(keep);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    if (!strstr(text, path) || !strstr(text, word) || strchr(text, '\n') != text + strlen(text) - 1 || strchr(text, 27))
        fail_msg("\"%s\" or the path is not in: %s", word, text);
}

static void hostile_files_are_a_warning(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } bad[] = {{"", "offset 0"},
               {"[1]", "exit_layer"},
               {"{\"exit_layer\": 8, \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}}", "\"exit_layer\" must be a whole number from 0 to 7"},
               {"{\"exit_layer\": -1, \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}}", "exit_layer"},
               {"{\"exit_layer\": 1e400, \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}}", "offset"},
               {"{\"exit_layer\": 99999999999999999999, \"num_speculations\": 2}", "offset"},
               {"{\"exit_layer\": 2.0, \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}}", "exit_layer"},
               {"{\"exit_layer\": \"2\", \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}}", "exit_layer"},
               {"{\"exit_layer\": 2, \"exit_layer\": 3, \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}}", "offset"},
               {"{\"exit_layer\": 2, \"num_speculations\": 33, \"measured\": {\"date\": \"2026-11-23\"}}", "\"num_speculations\" must be a whole number from 1 to 32"},
               {"{\"exit_layer\": 2, \"num_speculations\": 0, \"measured\": {\"date\": \"2026-11-23\"}}", "num_speculations"},
               {"{\"exit_layer\": 2, \"num_speculations\": 2}", "date"},
               {"{\"exit_layer\": 2, \"num_speculations\": 2, \"measured\": {\"date\": \"\\u001b[31m23-11-26\"}}", "date"},
               {"{\"exit_layer\": 2, \"num_speculations\": 2, \"measured\": {\"date\": \"2026-11-23\"}", "offset"},
               {"{\"exit_layer\": 2, \"num_speculations\": 2, \"drafter\": \"exti\", \"measured\": {\"date\": \"2026-11-23\"}}", "\"drafter\" must name drafters"},
               {"{\"exit_layer\": 2, \"num_speculations\": 2, \"drafter\": 5, \"measured\": {\"date\": \"2026-11-23\"}}", "\"drafter\" must name drafters"},
               {"\x1b[31m", "offset"}};
    save((lsk_profile){5, 6});
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plant(bad[i].text, strlen(bad[i].text));
        expect_warning(bad[i].word);
    }
    static char deep[65536];
    memset(deep, '[', sizeof deep);
    plant(deep, 60000);
    expect_warning("offset");
    plant(deep, sizeof deep);
    assert_int_equal(truncate(path, 1 << 20), 0);
    expect_warning("65536 bytes");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* read without waiting for anybody */
    expect_warning("regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_warning("regular file");
}

static void saving_that_fails_says_where(void **state)
{
    (void)state;
    struct record r = {0};
    lsk_error err = {0};
    save((lsk_profile){5, 6});
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(profile_save(&model, &(struct profile){.draft = {1, 1}}, &r, &err), LSK_ECREATE);
    assert_non_null(strstr(err.text, path));
    char temp[300];
    snprintf(temp, sizeof temp, "%s.tmp-%ld", path, (long)getpid());
    assert_int_not_equal(access(temp, F_OK), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(places), TEST(what_was_saved_is_found), TEST(a_drafter_is_kept_and_applied), TEST(what_gains_little_is_no_profile), TEST(hostile_files_are_a_warning), TEST(saving_that_fails_says_where)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
