/* SPDX-License-Identifier: Apache-2.0 */
/* Planted candidates: good, wrong, endless, and hostile ones, none of which may leave a trace. */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "sandbox.h"
#include "terminal.h"

static lsk_error err;
static char *python;

static struct sandbox_result run(const char *program, double seconds)
{
    struct sandbox_result r;
    if (sandbox_run(python, program, seconds, &r, &err))
        fail_with(err.text);
    return r;
}

static void fails(const char *program, const char *why)
{
    struct sandbox_result r = run(program, 10);
    if (r.verdict != SANDBOX_FAILED || !strstr(r.why, why))
        fail_msg("verdict %d, \"%s\", not \"%s\", of\n%s", r.verdict, r.why, why, program);
}

static void passes(const char *program)
{
    struct sandbox_result r = run(program, 10);
    if (r.verdict != SANDBOX_PASSED)
        fail_msg("verdict %d, \"%s\" of\n%s", r.verdict, r.why, program);
}

static void a_good_one_passes(void **state)
{
    (void)state;
    passes("import math, collections, itertools, re, heapq, functools, typing\ndef f(a):\n    return sorted(a)\nassert f([2, 1]) == [1, 2]\nprint('x' * 100000)\n");
    passes("# é 日本\nassert len('日本') == 2\nimport random, hashlib, datetime, string, decimal, copy, json\nrandom.seed(1)\n");
}

static void a_wrong_one_fails(void **state)
{
    (void)state;
    fails("def f(a):\n    return a\nassert f([2, 1]) == [1, 2]", "AssertionError");
    fails("def f(a:\n", "SyntaxError");
    fails("    return 1", "IndentationError");
    fails("import os\nos._exit(0)", "status 0 before the tests were done");
    fails("raise SystemExit", "before the tests were done");
    fails("quit()", "before the tests were done");
    fails("import ctypes\nctypes.string_at(0)", "signal 11");
}

static void an_endless_one_is_ended(void **state)
{
    static const char *const programs[] = {"while True: pass", "import time\ntime.sleep(60)", "while True: print('x' * 4096)", "import os\nos.close(1)\nos.close(2)\nos.close(3)\nwhile True: pass"};
    (void)state;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        const int64_t start = now_ns();
        struct sandbox_result r = run(programs[i], .25);
        assert_true(now_ns() - start < 5000000000);
        assert_true(r.verdict != SANDBOX_PASSED);
        assert_true(i == 3 || (r.verdict == SANDBOX_TIMEOUT && strstr(r.why, "0.25 s")));
    }
}

static void memory_is_little(void **state)
{
    (void)state;
    fails("x = bytearray(2 << 30)", "MemoryError");
    fails("x = [0]\nwhile True: x += x", "MemoryError");
}

static void no_processes_no_signals(void **state)
{
    char program[200];
    (void)state;
    fails("import os\nwhile True: os.fork()", "PermissionError");
    fails("import subprocess\nsubprocess.run(['/bin/true'])", "PermissionError");
    fails("import os\nos.system('true') == 0 or 1 / 0", "ZeroDivisionError");
    fails("import threading\nthreading.Thread(target=print).start()", "RuntimeError");
    snprintf(program, sizeof program, "import os\nos.kill(%d, 15)", (int)getpid());
    fails(program, "PermissionError");
    snprintf(program, sizeof program, "import fcntl\nfcntl.fcntl(1, fcntl.F_SETOWN, %d)", (int)getpid());
    fails(program, "PermissionError");
    fails("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))", "Error");
}

/* Whatever the low half of a pointer says: limits are set for nobody, and looked at for nobody else. */
static void no_limits(void **state)
{
    static const struct {
        int other;
        const char *pointer;
    } calls[] = {{1, "p"}, {0, "p"}, {1, "None"}};
    struct rlimit before, after;
    char program[600];
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_CPU, &before), 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        snprintf(program, sizeof program,
                 "import ctypes\nc = ctypes.CDLL(None)\nc.mmap.restype = ctypes.c_void_p\n"
                 "p = c.mmap(ctypes.c_void_p(1 << 32), ctypes.c_size_t(4096), 3, 0x32, -1, ctypes.c_long(0))\nassert p == 1 << 32\np = ctypes.c_void_p(p)\n"
                 "ctypes.memset(p, 1, 16)\nif c.syscall(ctypes.c_long(%d), ctypes.c_long(%d), ctypes.c_long(%d), %s, None): raise PermissionError\n",
                 (int)SYS_prlimit64, calls[i].other ? (int)getpid() : 0, (int)RLIMIT_CPU, calls[i].pointer);
        fails(program, "PermissionError");
    }
    assert_int_equal(getrlimit(RLIMIT_CPU, &after), 0);
    assert_memory_equal(&before, &after, sizeof before);
    passes("import resource\nassert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, 64)\n");
}

/* Where the kernel can hide files: only what an interpreter is made of is read. */
static void no_secrets(void **state)
{
    char path[] = "/tmp/sandbox.XXXXXX", program[200];
    static const char *const seen[] = {"/etc/passwd", "/proc/self/environ", "/"};
    (void)state;
    snprintf(program, sizeof program, "open('/proc/%d/environ')", (int)getpid());
    if (sandbox_hides_files() || geteuid())
        fails(program, "PermissionError");
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1); /* as it was */
    if (!sandbox_hides_files())
        skip();
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(program, sizeof program, "import os\nos.stat('%s')\nopen('%s')", path, path);
    fails(program, "PermissionError");
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        snprintf(program, sizeof program, "import os\nos.stat('%s')\nos.open('%s', os.O_RDONLY)", seen[i], seen[i]);
        fails(program, "PermissionError");
    }
    assert_int_equal(unlink(path), 0);
}

/* What a program says is not kept: it may be what it has read. */
static void nothing_is_told(void **state)
{
    static const char *const programs[] = {"raise SystemExit('secret')", "raise ValueError('secret')", "print('secret')\nimport os\nos._exit(1)", "raise type('secret', (Exception,), {})",
                                           "class secretError(ValueError): pass\nraise secretError", "print('ValueError: x\\nValueErrorsecret')\nraise SystemExit(1)"};
    (void)state;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        struct sandbox_result r = run(programs[i], 10);
        assert_int_equal(r.verdict, SANDBOX_FAILED);
        assert_string_equal(r.why, i == 1 ? "ValueError" : "left with status 1 before the tests were done");
    }
}

static void no_files(void **state)
{
    char folder[] = "/tmp/sandbox.XXXXXX", kept[64], program[400];
    static const char *const attempts[] = {"open(d + '/new', 'w')", "open(d + '/kept', 'a')", "open(d + '/kept', 'r+')", "os.open(d + '/new', os.O_CREAT)", "os.open(d + '/kept', os.O_TRUNC)",
                                           "os.open(d, os.O_TMPFILE | os.O_RDWR)", "os.remove(d + '/kept')", "os.rename(d + '/kept', d + '/new')", "os.mkdir(d + '/new')", "os.rmdir(d)",
                                           "os.symlink('/', d + '/new')", "os.link(d + '/kept', d + '/new')", "os.chmod(d + '/kept', 0)", "os.truncate(d + '/kept', 0)", "os.utime(d + '/kept', (0, 0))",
                                           "os.mkfifo(d + '/new')", "os.memfd_create('x')", "os.chroot('/')"};
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(kept, sizeof kept, "%s/kept", folder);
    FILE *f = fopen(kept, "w");
    assert_non_null(f);
    fputs("precious", f);
    fclose(f);
    size_t n = (size_t)snprintf(program, sizeof program, "import os, sys\nd = '%s'\nassert os.stat(d + '/kept').st_size == 8\n", folder);
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        snprintf(program + n, sizeof program - n, "%s", attempts[i]);
        fails(program, "PermissionError");
    }
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_size, 8);
    assert_int_equal(unlink(kept), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing else was there */
}

static void no_network(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    char program[200];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)state;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1) || getsockname(fd, (struct sockaddr *)&at, &n))
        skip();
    snprintf(program, sizeof program, "import socket\nsocket.create_connection(('127.0.0.1', %d))", ntohs(at.sin_port));
    fails(program, "PermissionError");
    fails("import socket\nsocket.socket(socket.AF_UNIX)", "PermissionError");
    close(fd);
}

static void nothing_is_inherited(void **state)
{
    int fd = open("/dev/null", O_RDWR); /* without O_CLOEXEC */
    (void)state;
    setenv("SECRET_OF_THE_USER", "x", 1);
    passes("import os\nfor n in range(4, 64):\n    try: os.fstat(n)\n    except OSError: continue\n    raise ValueError\n"
           "assert 'SECRET_OF_THE_USER' not in os.environ and os.getcwd() == '/'\n");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one_passes), cmocka_unit_test(a_wrong_one_fails), cmocka_unit_test(an_endless_one_is_ended), cmocka_unit_test(memory_is_little),
        cmocka_unit_test(no_processes_no_signals), cmocka_unit_test(no_limits), cmocka_unit_test(no_secrets), cmocka_unit_test(nothing_is_told), cmocka_unit_test(no_files), cmocka_unit_test(no_network), cmocka_unit_test(nothing_is_inherited),
    };
    python = sandbox_python(&err);
    if (!python) {
        print_message("skipped: %s\n", err.text);
        return 77;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(python);
    return failed;
}
