/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "faults.h"
#include "dialogue.h"

static const char *text_of(const char *path)
{
    static char text[4096];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* The disk fails at each call in turn: a saved conversation is whole, the old one or the new one, and the folder has nothing else. */
static void saving_is_whole(void **state)
{
    char folder[] = "/tmp/dialogue-XXXXXX", path[64];
    struct dialogue d = {.messages = json_array()};
    lsk_error err = {0};
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.json", folder);
    assert_int_equal(dialogue_set_system(&d, "old", &err), 0);
    assert_int_equal(dialogue_save(&d, path, &err), 0);
    char *old = strdup(text_of(path));
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(synced_folder, st.st_ino);
    assert_int_equal(dialogue_set_system(&d, "new", &err), 0);
    for (int i = 0; i < 3; i++) { /* the file, its name, its folder */
        fault_at = i;
        assert_int_equal(dialogue_save(&d, path, &err), i == 1 ? LSK_ECREATE : LSK_EIO);
        assert_int_equal(fault_at, -1);
        assert_non_null(strstr(err.text, i == 0 ? "a.json: cannot write: " : i == 1 ? "a.json: cannot rename: " : "a.json: was written, but the folder cannot be synced"));
        assert_int_equal(strcmp(text_of(path), old) == 0, i < 2);
    }
    fault_at = 3;
    assert_int_equal(dialogue_save(&d, path, &err), 0);
    assert_int_equal(fault_at, 0); /* three calls */
    fault_at = -1;
    synced_folder = 0;
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(dialogue_save(&d, "a.json", &err), 0);
    assert_int_equal(synced_folder, st.st_ino);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
    json_decref(d.messages);
    free(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(saving_is_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
