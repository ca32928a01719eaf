/* SPDX-License-Identifier: Apache-2.0 */
/* A machine may have the plugin and a GPU, the plugin alone, or neither: each way there is a device or one clear line. */
#include "check.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/plugin.h"

static void what_is_not_there_is_named(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(plugin_open("nothing-of-that-name", &err));
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "nothing-of-that-name"));
    assert_non_null(strstr(err.text, "--device cpu"));
}

/* An installed library has its plugins in a folder of its own below it: what lies there is opened, and here refused, since it is empty. */
static void what_is_installed_is_found(void **state)
{
    (void)state;
    struct error err = {0};
    char folder[4096], file[4200];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 32);
    assert_true(n > 0);
    folder[n] = 0;
    strcpy(strrchr(folder, '/'), "/layerskip");
    snprintf(file, sizeof file, "%s/layerskip-found.so", folder);
    mkdir(folder, 0777);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    assert_null(plugin_open("found", &err));
    assert_non_null(strstr(err.text, "/layerskip/layerskip-found.so"));
    unlink(file);
    rmdir(folder);
    assert_null(plugin_open("found", &err));
    assert_null(strstr(err.text, "/layerskip/layerskip-found.so"));
}

static void a_gpu_or_a_reason(void **state)
{
    (void)state;
    struct error err = {0};
    const struct backend *b = backend_find("cuda", &err);
    if (b)
        assert_string_equal(b->name, "cuda");
    else
        assert_true(err.code == ERR_UNAVAILABLE && *err.text && !strchr(err.text, '\n'));
    assert_non_null(backend_find("auto", &err));
    assert_null(backend_find("cuda:999", &err));
    assert_int_equal(err.code, ERR_UNAVAILABLE);
}

static void ordinals(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(backend_ordinal("cuda:3"), 3);
    assert_int_equal(backend_ordinal("cuda"), 0);
    assert_int_equal(backend_ordinal(NULL), 0);
    static const char *const bad[] = {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999", "cudas", "gpu", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(backend_find(bad[i], &err));
        assert_int_equal(err.code, ERR_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ordinals), cmocka_unit_test(what_is_not_there_is_named), cmocka_unit_test(what_is_installed_is_found),
                                       cmocka_unit_test(a_gpu_or_a_reason)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
