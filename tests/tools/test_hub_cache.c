/* SPDX-License-Identifier: Apache-2.0 */
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

#include "folders.h"
#include "hub_cache.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static char folder[64];
static struct hub_repository r;
static lsk_error err;

static void put(const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(make_folders(path), 0);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_hub_cache.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    setenv("HF_HUB_CACHE", folder, 1);
    return 0;
}

static int end(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void places(void **state)
{
    static const struct {
        const char *cache, *hf_home, *xdg, *home, *root;
    } cases[] = {{"/c", "/h", "/x", "/me", "/c"}, {"", "/h", "/x", "/me", "/h/hub"}, {"", "", "/x", "/me", "/x/huggingface/hub"}, {"", "", "", "/me", "/me/.cache/huggingface/hub"},
                 {"~/c", "", "", "/me", "/me/c"}, {"", "~/h", "", "/me", "/me/h/hub"}, {"", "", "", "", NULL}};
    char root[HUB_PATH];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("HF_HUB_CACHE", cases[i].cache, 1);
        setenv("HF_HOME", cases[i].hf_home, 1);
        setenv("XDG_CACHE_HOME", cases[i].xdg, 1);
        setenv("HOME", cases[i].home, 1);
        assert_int_equal(cache_root(root, sizeof root, &err), cases[i].root ? 0 : LSK_ECONFIG);
        assert_string_equal(cases[i].root ? root : "", cases[i].root ? cases[i].root : "");
    }
    setenv("HF_HUB_CACHE", folder, 1);
    assert_int_equal(cache_root(root, 5, &err), LSK_ECONFIG);
}

static void a_revision_is_a_commit_or_none(void **state)
{
    static const char *const damaged[] = {"", "main", (COMMIT "0"), "0123456789ABCDEF0123456789abcdef01234567", "../../../../../../../../../../etc/xx", ("\n" COMMIT)};
    (void)state;
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        put("models--a--b/refs/main", damaged[i]);
        assert_int_equal(cache_open(&r, "a/b", "main", &err), 0);
        assert_string_equal(r.commit, "");
    }
    put("models--a--b/refs/main", COMMIT "\n");
    assert_int_equal(cache_open(&r, "a/b", "main", &err), 0);
    assert_string_equal(r.commit, COMMIT);
    assert_int_equal(cache_open(&r, "a/b", "fedcba9876543210fedcba987654321001234567", &err), 0);
    assert_string_equal(r.commit, "fedcba9876543210fedcba987654321001234567");
    assert_int_equal(cache_open(&r, "a/b", "../main", &err), LSK_EUSAGE);
    assert_int_equal(cache_open(&r, "../b", "main", &err), LSK_EUSAGE);
}

static void links_and_names(void **state)
{
    struct names names = {0};
    char path[HUB_PATH], target[100] = "";
    (void)state;
    put("models--a--b/blobs/e1", "one");
    put("models--a--b/refs/main", COMMIT);
    assert_int_equal(cache_open(&r, "a/b", "main", &err), 0);
    assert_int_equal(cache_link(&r, "x/y/m.gguf", "e1", &err), 0);
    assert_int_equal(cache_link(&r, "x/y/m.gguf", "e1", &err), 0); /* again */
    assert_int_equal(cache_link(&r, "gone", "e2", &err), 0);       /* leads to nothing: is none */
    assert_int_equal(cache_path(&r, "x/y/m.gguf", path, sizeof path, &err), 0);
    assert_true(readlink(path, target, sizeof target - 1) > 0);
    assert_string_equal(target, "../../../../blobs/e1");
    assert_int_equal(cache_names(&r, &names, &err), 0);
    assert_int_equal(names.n, 1);
    assert_string_equal(names.name[0], "x/y/m.gguf");
    names_free(&names);
    assert_int_equal(cache_path(&r, "x", path, 20, &err), LSK_ECONFIG);
}

static void a_lock_is_held_by_one(void **state)
{
    (void)state;
    assert_int_equal(cache_open(&r, "a/b", "main", &err), 0);
    int fd = cache_lock(&r, "e1", &err);
    assert_true(fd >= 0);
    char path[200];
    snprintf(path, sizeof path, "flock -n %s/.locks/models--a--b/e1.lock true", folder);
    assert_int_not_equal(system(path), 0);
    close(fd);
    assert_int_equal(system(path), 0);
}

static int count(void *ud, const struct cached_model *m)
{
    int *n = ud;
    assert_true(m->bytes > 0);
    ++*n;
    return 0;
}

static void removing_stays_inside(void **state)
{
    uint64_t freed;
    int n = 0;
    char link[200], outside[100];
    (void)state;
    put("outside/kept", "x");
    put("models--a--b/blobs/e1", "one");
    put("models--c/blobs/e1.incomplete", "one");
    snprintf(outside, sizeof outside, "%s/outside", folder);
    snprintf(link, sizeof link, "%s/models--a--b/snapshots/there", folder);
    assert_int_equal(make_folders(link), 0);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(cache_list(count, &n, &err), 0);
    assert_int_equal(n, 1); /* the incomplete one */
    assert_int_equal(cache_remove("a/b", NULL, &freed, &err), 0);
    assert_int_equal(freed, 3);
    snprintf(link, sizeof link, "%s/outside/kept", folder);
    assert_int_equal(access(link, F_OK), 0);
    assert_int_equal(cache_remove("a/b", NULL, &freed, &err), LSK_ENOINPUT);
    assert_int_equal(cache_remove("c", "Q8_0", &freed, &err), LSK_ENOINPUT);
    assert_int_equal(cache_remove("../x", NULL, &freed, &err), LSK_EUSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(places, begin, end),          cmocka_unit_test_setup_teardown(a_revision_is_a_commit_or_none, begin, end),
        cmocka_unit_test_setup_teardown(links_and_names, begin, end), cmocka_unit_test_setup_teardown(a_lock_is_held_by_one, begin, end),
        cmocka_unit_test_setup_teardown(removing_stays_inside, begin, end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
