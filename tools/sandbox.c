/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "messages.h"
#include "terminal.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0
#endif

/* All that an interpreter needs which computes and reads: what is not here fails with EPERM. Writing reaches the pipes that it inherits; calls that depend on
   an argument are below. */
static const int allowed[] = {
    __NR_read, __NR_write, __NR_readv, __NR_writev, __NR_pread64, __NR_lseek, __NR_close, __NR_fstat, __NR_newfstatat, __NR_statx, __NR_readlinkat, __NR_faccessat, __NR_getdents64, __NR_getcwd,
    __NR_dup, __NR_dup3, __NR_pipe2, __NR_ppoll, __NR_pselect6,
    __NR_mmap, __NR_munmap, __NR_mprotect, __NR_mremap, __NR_madvise, __NR_brk,
    __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigreturn, __NR_sigaltstack, __NR_futex, __NR_set_tid_address, __NR_set_robust_list, __NR_sched_yield, __NR_sched_getaffinity,
    __NR_clock_gettime, __NR_clock_getres, __NR_clock_nanosleep, __NR_nanosleep, __NR_gettimeofday, __NR_times, __NR_getrusage, __NR_getrandom, __NR_sysinfo, __NR_uname, __NR_getpid, __NR_gettid,
    __NR_getppid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid, __NR_execve, __NR_exit, __NR_exit_group,
#ifdef __NR_rseq
    __NR_rseq,
#endif
#ifdef __NR_faccessat2
    __NR_faccessat2,
#endif
#if defined(__x86_64__)
    __NR_stat, __NR_lstat, __NR_access, __NR_readlink, __NR_arch_prctl, __NR_dup2, __NR_poll, __NR_select, __NR_time,
#endif
};
enum { N_ALLOWED = sizeof allowed / sizeof *allowed, FILTER_MAX = 2 * N_ALLOWED + 48, UNCONFINED = 126 };

static const struct {
    int resource;
    rlim_t most;
} limits[] = {{RLIMIT_AS, (rlim_t)1 << 30}, {RLIMIT_FSIZE, 0}, {RLIMIT_NOFILE, 64}, {RLIMIT_NPROC, 1}, {RLIMIT_CORE, 0}, {RLIMIT_STACK, 16 << 20}};

/* ---- the child: from fork to exec only what may be called there ---- */

static int add(struct sock_filter *f, int n, unsigned code, unsigned k, int yes, int no)
{
    f[n] = (struct sock_filter){(uint16_t)code, (uint8_t)yes, (uint8_t)no, k};
    return n + 1;
}

static int load(struct sock_filter *f, int n, size_t at)
{
    return add(f, n, BPF_LD | BPF_W | BPF_ABS, (unsigned)at, 0, 0);
}

/* Bits that an argument may not have. The kernel reads a flag or a process id from the low half of the argument's 64 bits, and a pointer from both. */
struct mask {
    int argument, half; /* 1: high */
    unsigned bits;
};

/* A call that is allowed where none of the n_mask masks is met. */
static int allow_without(struct sock_filter *f, int n, int call, const struct mask *mask, int n_mask)
{
    n = add(f, n, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 2 * n_mask + 2);
    for (int i = 0; i < n_mask; i++) {
        n = load(f, n, offsetof(struct seccomp_data, args) + 8 * (size_t)mask[i].argument + 4 * (size_t)mask[i].half);
        n = add(f, n, BPF_JMP | BPF_JSET | BPF_K, mask[i].bits, 2 * (n_mask - i) - 1, 0);
    }
    n = add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    return add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);
}

/* fcntl: descriptors and their flags, but no signals to an owner. */
static int allow_flags_of_files(struct sock_filter *f, int n)
{
    static const unsigned commands[] = {F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC};
    const int count = sizeof commands / sizeof *commands;
    n = add(f, n, BPF_JMP | BPF_JEQ | BPF_K, __NR_fcntl, 0, count + 3);
    n = load(f, n, offsetof(struct seccomp_data, args) + 8);
    for (int i = 0; i < count; i++)
        n = add(f, n, BPF_JMP | BPF_JEQ | BPF_K, commands[i], count - i, 0);
    n = add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);
    return add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

static int filter_calls(void)
{
    const unsigned writes = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);
    static const struct mask own_limits[] = {{0, 0, ~0u}, {2, 0, ~0u}, {2, 1, ~0u}}; /* looking at its own, with no new ones */
    struct sock_filter f[FILTER_MAX];
    int n = load(f, 0, offsetof(struct seccomp_data, arch));
    n = add(f, n, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    n = add(f, n, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    n = load(f, n, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < N_ALLOWED; i++) {
        n = add(f, n, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        n = add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    }
    n = add(f, n, BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 1);
    n = add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY, 0, 0); /* nothing is a terminal */
    n = allow_flags_of_files(f, n);
    n = allow_without(f, n, __NR_openat, &(struct mask){2, 0, writes}, 1);
#ifdef __NR_open
    n = allow_without(f, n, __NR_open, &(struct mask){1, 0, writes}, 1);
#endif
    n = allow_without(f, n, __NR_prlimit64, own_limits, sizeof own_limits / sizeof *own_limits);
    n = add(f, n, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = f};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

struct child {
    const char *python;
    int files;               /* what may be read (a Landlock ruleset); -1: all files */
    int program, said, done; /* descriptors: stdin, stdout and stderr, the one behind them that the last line writes to */
    double seconds;
};

/* Namespaces of its own where the kernel gives them to everybody; the filter does not need them. */
static void confine_and_run(const struct child *c)
{
    static char *const environment[] = {"LANG=C.UTF-8", NULL};
    char *const command[] = {(char *)c->python, "-I", "-B", "-", NULL};
    const rlim_t seconds = (rlim_t)c->seconds + 1;
    int bad = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || (c->files >= 0 && syscall(__NR_landlock_restrict_self, c->files, 0u));
    bad = bad || dup2(c->program, 0) < 0 || dup2(c->said, 1) < 0 || dup2(c->said, 2) < 0 || dup2(c->done, 3) < 0 || syscall(__NR_close_range, 4u, ~0u, 0u);
    setsid();
    (void)unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC);
    for (size_t i = 0; !bad && i < sizeof limits / sizeof *limits; i++)
        bad = setrlimit(limits[i].resource, &(struct rlimit){limits[i].most, limits[i].most});
    bad = bad || setrlimit(RLIMIT_CPU, &(struct rlimit){seconds, seconds}) || chdir("/") || !ARCHITECTURE || filter_calls();
    if (!bad)
        execve(c->python, command, environment);
    _exit(UNCONFINED);
}

/* ---- the parent ---- */

int sandbox_hides_files(void)
{
    return syscall(__NR_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* Files below path (or path itself) may be read and run, where it exists. */
static int show_files(int rules, const char *path)
{
    struct stat st;
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE, .parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0)
        return 0;
    if (!fstat(rule.parent_fd, &st) && S_ISDIR(st.st_mode))
        rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
    int r = (int)syscall(__NR_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0u);
    close(rule.parent_fd);
    return r;
}

/* The files that an interpreter is made of. Returns 0 where the kernel cannot hide the others (*out: -1), -1 where it should and does not. */
static int choose_files(const char *python, int *out)
{
    static const char *const common[] = {"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ssl/openssl.cnf"};
    const struct landlock_ruleset_attr all = {.handled_access_fs = 2 * LANDLOCK_ACCESS_FS_MAKE_SYM - 1}; /* reading and writing as the first version knew them */
    char *real = sandbox_hides_files() ? realpath(python, NULL) : NULL, path[PATH_MAX + 32];
    *out = real ? (int)syscall(__NR_landlock_create_ruleset, &all, sizeof all, 0u) : -1;
    int r = real && *out < 0 ? -1 : 0;
    if (*out >= 0) {
        char *name = strrchr(real, '/');
        for (size_t i = 0; i < sizeof common / sizeof *common && !r; i++)
            r = show_files(*out, common[i]);
        snprintf(path, sizeof path, "/etc%s", name); /* Debian's /etc/python3.11 */
        r = r || show_files(*out, real) || show_files(*out, path);
        *name = 0;
        snprintf(path, sizeof path, "%s/../lib", real);
        r = r || show_files(*out, path) ? -1 : 0;
    }
    free(real);
    return r;
}

/* A file without a name that holds the program and, as its last line, the word that proves its end. */
static int program_file(const char *program, const char *proof)
{
    int fd = (int)syscall(__NR_memfd_create, "candidate", 1u /* MFD_CLOEXEC */);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f)
        return -1;
    fprintf(f, "%s\n__import__('os').write(3, b'%s')\n", program, proof);
    int copy = fflush(f) ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);
    fclose(f);
    if (copy >= 0)
        lseek(copy, 0, SEEK_SET);
    return copy;
}

/* Reads what the child says until it is gone, keeping the end. Returns 0 when time is up. */
static int listen_to(int said, int done, int64_t until, char *tail, size_t cap, char *proof, size_t n_proof)
{
    struct pollfd fd[] = {{said, POLLIN, 0}, {done, POLLIN, 0}};
    char buffer[4096];
    size_t n_tail = 0, got = 0;
    while (fd[0].fd >= 0 || fd[1].fd >= 0) {
        const int64_t left = until - now_ns();
        if (left <= 0 || terminal_interrupted())
            return 0;
        if (poll(fd, 2, left / 1000000 < 100 ? (int)(left / 1000000) + 1 : 100) <= 0)
            continue;
        for (int i = 0; i < 2; i++) {
            if (!fd[i].revents)
                continue;
            ssize_t n = read(fd[i].fd, buffer, sizeof buffer);
            if (n <= 0)
                fd[i].fd = -1;
            for (ssize_t k = 0; k < n && i; k++)
                got += got < n_proof ? (proof[got] = buffer[k], 1) : 0;
            for (ssize_t k = 0; k < n && !i; k++) {
                if (n_tail + 1 == cap)
                    memmove(tail, tail + 1, --n_tail);
                tail[n_tail++] = buffer[k];
            }
        }
    }
    tail[n_tail] = 0;
    proof[got] = 0;
    return 1;
}

/* The type of Python's exception that the last line names. Nothing else of what a program says is kept: it may be what it has read. */
static const char *exception_of(char *tail)
{
    static const char *const types[] = {"ArithmeticError", "AssertionError", "AttributeError", "BufferError", "EOFError", "Exception", "FileExistsError", "FileNotFoundError", "FloatingPointError", "ImportError",
                                        "IndentationError", "IndexError", "IsADirectoryError", "KeyError", "KeyboardInterrupt", "LookupError", "MemoryError", "ModuleNotFoundError", "NameError",
                                        "NotADirectoryError", "NotImplementedError", "OSError", "OverflowError", "PermissionError", "RecursionError", "ReferenceError", "RuntimeError", "StopIteration",
                                        "SyntaxError", "SystemError", "TabError", "TimeoutError", "TypeError", "UnboundLocalError", "UnicodeDecodeError", "UnicodeEncodeError", "UnicodeError", "ValueError",
                                        "ZeroDivisionError"};
    size_t n = strlen(tail);
    while (n && strchr(" \n\r", tail[n - 1]))
        tail[--n] = 0;
    const char *line = strrchr(tail, '\n');
    line = line ? line + 1 : tail;
    n = strcspn(line, ":");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strlen(types[i]) == n && !memcmp(types[i], line, n))
            return types[i];
    return NULL;
}

static void judge(const struct child *c, int status, int in_time, int proved, char *tail, struct sandbox_result *out)
{
    *out = (struct sandbox_result){.verdict = proved ? SANDBOX_PASSED : SANDBOX_FAILED};
    if (!in_time || (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU))) {
        out->verdict = SANDBOX_TIMEOUT;
        snprintf(out->why, sizeof out->why, "not done in %g s", c->seconds);
    } else if (WIFSIGNALED(status) && !proved) {
        snprintf(out->why, sizeof out->why, "ended by signal %d", WTERMSIG(status));
    } else if (!proved) {
        const char *type = WEXITSTATUS(status) == UNCONFINED ? "no confinement" : exception_of(tail);
        if (type)
            snprintf(out->why, sizeof out->why, "%s", type);
        else
            snprintf(out->why, sizeof out->why, "left with status %d before the tests were done", WEXITSTATUS(status));
    }
}

int sandbox_run(const char *python, const char *program, double seconds, struct sandbox_result *out, lsk_error *err)
{
    int said[2] = {-1, -1}, done[2] = {-1, -1}, status = 0;
    uint64_t noise[2];
    char proof[33], got[33] = "", tail[2048] = "";
    if (getrandom(noise, sizeof noise, 0) != (ssize_t)sizeof noise)
        return complain(err, LSK_EOS, "no random bytes: %s", strerror(errno));
    snprintf(proof, sizeof proof, "%016llx%016llx", (unsigned long long)noise[0], (unsigned long long)noise[1]);
    struct child c = {python, -1, program_file(program, proof), -1, -1, seconds};
    const int dumpable = prctl(PR_GET_DUMPABLE);
    pid_t pid = -1;
    prctl(PR_SET_DUMPABLE, 0); /* what /proc says about this process is not for the child */
    if (c.program >= 0 && !choose_files(python, &c.files) && !pipe2(said, O_CLOEXEC) && !pipe2(done, O_CLOEXEC)) {
        c.said = fcntl(said[1], F_DUPFD_CLOEXEC, 10); /* above those that it will be copied to */
        c.done = fcntl(done[1], F_DUPFD_CLOEXEC, 10);
        pid = c.said < 0 || c.done < 0 ? -1 : fork();
    }
    if (!pid)
        confine_and_run(&c);
    int r = pid > 0 ? 0 : complain(err, LSK_EOS, "cannot start a candidate: %s", strerror(errno));
    const int own[] = {c.files, c.program, c.said, c.done, said[1], done[1]};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] >= 0)
            close(own[i]);
    if (pid > 0) {
        int in_time = listen_to(said[0], done[0], now_ns() + (int64_t)(seconds * 1e9), tail, sizeof tail, got, sizeof got - 1);
        kill(pid, SIGKILL); /* it may have closed what it speaks through, and go on */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        judge(&c, status, in_time, !strcmp(got, proof), tail, out);
    }
    if (said[0] >= 0)
        close(said[0]);
    if (done[0] >= 0)
        close(done[0]);
    if (dumpable == 1)
        prctl(PR_SET_DUMPABLE, 1);
    return r;
}

/* The first python3 in PATH that runs confined: some are scripts that start another. */
char *sandbox_python(lsk_error *err)
{
    const char *path = getenv("PATH");
    struct sandbox_result result = {.verdict = SANDBOX_FAILED};
    for (const char *p = path ? path : ""; *p; p += strcspn(p, ":"), p += *p == ':') {
        char *name = NULL;
        if (*p != '/' || asprintf(&name, "%.*s/python3", (int)strcspn(p, ":"), p) < 0)
            continue;
        int r = access(name, X_OK) ? 1 : sandbox_run(name, "pass", 10, &result, err);
        if (!r && result.verdict == SANDBOX_PASSED)
            return name;
        free(name);
        if (r < 0)
            return NULL;
    }
    if (*result.why)
        complain(err, LSK_EUNAVAILABLE, "--run-code: python3 cannot be confined on this machine, so nothing is run: %s", result.why);
    else
        complain(err, LSK_EUNAVAILABLE, "--run-code: no python3 in PATH: install it, or leave --run-code away");
    return NULL;
}
