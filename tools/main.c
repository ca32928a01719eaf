/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "manual.h"
#include "messages.h"
#include "terminal.h"

extern char **environ;

static const struct command *const commands[] = {&command_run, &command_chat, &command_info, &command_tokenize, &command_bench, &command_benchmark, &command_verify, &command_synth,
                                                 &command_quantize, &command_train, &command_generate_corpus, &command_perplexity, &command_plot,
                                                 &command_sweep, &command_eval, &command_report, &command_pull, &command_list, &command_rm, NULL};
enum { N_COMMANDS = sizeof commands / sizeof *commands - 1 };

static void print_help(void)
{
    printf("layerskip %s: runs Llama-type checkpoints; the first layers draft, all verify, the text is the same\n\n"
           "usage: layerskip COMMAND [OPTIONS]\n\ncommands\n",
           lsk_version());
    for (int i = 0; i < N_COMMANDS; i++)
        printf("  %-16s %s\n", commands[i]->name, commands[i]->help);
    printf("\nexamples\n"
           "  layerskip run -hf facebook/layerskip-llama3.2-1B -p \"Once upon a time\"\n"
           "  layerskip run model.gguf -p \"Once upon a time\"\n"
           "  layerskip sweep model.gguf --auto\n\n"
           "`layerskip COMMAND --help` lists a command's options; `layerskip --version` says what this program\n"
           "was built for; `source <(layerskip --completion bash)` lets the shell complete them (also zsh, fish).\n");
}

static void print_version(void)
{
    printf("layerskip %s\nbuilt by %s %s\ncpu features:", lsk_version(),
#ifdef __clang__
           "clang", __clang_version__);
#else
           "gcc", __VERSION__);
#endif
#if defined(__x86_64__)
    const struct {
        const char *name;
        int has;
    } features[] = {{"avx2", __builtin_cpu_supports("avx2")},
                    {"fma", __builtin_cpu_supports("fma")},
                    {"avx512f", __builtin_cpu_supports("avx512f")},
                    {"avx512vnni", __builtin_cpu_supports("avx512vnni")},
                    {"avx512bf16", __builtin_cpu_supports("avx512bf16")}};
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (features[i].has)
            printf(" %s", features[i].name);
#endif
    printf("\n");
}

static void print_command_help(const struct command *c)
{
    char *more = NULL;
    size_t n;
    printf("usage: layerskip %s %s\n\n", c->name, c->usage);
    prose_print(stdout, c->about);
    options_describe(stdout, c->groups);
    FILE *memory = c->more_help ? open_memstream(&more, &n) : NULL;
    if (memory) {
        c->more_help(memory);
        if (!fclose(memory))
            prose_print(stdout, more);
        free(more);
    }
    printf("\nexamples\n%s\n", c->examples);
    prose_print(stdout, "Names may be written with - or _. Every option can also come from the environment, as LAYERSKIP_ and its first long name in capitals (--ctx-size 4096 is "
                        "LAYERSKIP_CTX_SIZE=4096); the command line wins.");
}

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

/* value: what follows it, or NULL. */
static int unknown_command(const char *name, const char *value, lsk_error *err)
{
    char near[32] = "";
    int best = 99;
    for (int i = 0; i < N_COMMANDS; i++)
        suggest(commands[i]->name, name, near, sizeof near, &best);
    if (*name == '-')
        return complain(err, LSK_EUSAGE, "\"%s\" stands before any command: name one first, for example `layerskip run %s%s%s` (`layerskip --help` lists them)", excerpt_of(name).text,
                        excerpt_of(name).text, value ? " " : "", value ? excerpt_of(value).text : "");
    return complain(err, LSK_EUSAGE, "unknown command \"%s\"%s%s%s (`layerskip --help` lists them)", excerpt_of(name).text,
                    *near ? ": did you mean " : "", near, *near ? "?" : "");
}

static int run_command(const struct command *c, int argc, char **argv, lsk_error *err)
{
    void *args = calloc(1, c->size);
    if (!args)
        return complain(err, LSK_EOS, "out of memory");
    int status = 0, parsed = options_parse(c->groups, args, c->bare, argc, argv, environ, err);
    size_t n = strlen(err->text);
    if (parsed == OPTIONS_HELP)
        print_command_help(c);
    else if (parsed < 0)
        snprintf(err->text + n, sizeof err->text - n, " (`layerskip %s --help` lists the options)", c->name);
    else
        status = c->run(args, err);
    if (status == LSK_EUSAGE)
        options_blame(c->groups, args, argc, argv, environ, err);
    free(args);
    return parsed < 0 ? parsed : status;
}

/* What the build makes manual pages of: --manual COMMAND|layerskip DATE. */
static int print_manual(const char *name, const char *date, lsk_error *err)
{
    const struct command *c = name ? find_command(name) : NULL;
    if (!date || (!c && strcmp(name, "layerskip")))
        return complain(err, LSK_EUSAGE, "--manual: give a command, or layerskip, and the date of its page");
    manual_print(stdout, commands, c, date);
    return 0;
}

/* `help COMMAND` is `COMMAND --help`. */
static int help(const char *name, lsk_error *err)
{
    const struct command *c = name ? find_command(name) : NULL;
    if (name && !c)
        return unknown_command(name, NULL, err);
    if (c)
        print_command_help(c);
    else
        print_help();
    return 0;
}

static int dispatch(int argc, char **argv, lsk_error *err)
{
    const char *name = argc > 1 ? argv[1] : "";
    const struct command *c = find_command(name);
    if (c)
        return run_command(c, argc - 2, argv + 2, err);
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        print_version();
    else if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
        return help(argc > 2 ? argv[2] : NULL, err);
    else if (!strcmp(name, "--completion"))
        return completion_print(stdout, commands, argc > 2 ? argv[2] : "", err);
    else if (!strcmp(name, "--manual"))
        return print_manual(argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL, err);
    else if (!*name)
        return complain(err, LSK_EUSAGE, "no command given: `layerskip --help` lists them");
    else
        return unknown_command(name, argc > 2 ? argv[2] : NULL, err);
    return 0;
}

/* One line, whatever a file name in it holds. */
static void print_error(const char *text)
{
    fputs("layerskip: error: ", stderr);
    print_shown(stderr, text);
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    lsk_error err = {0};
    terminal_prepare();
    int status = dispatch(argc, argv, &err);
    if (status >= 0) {
        int flushed = terminal_flush(&err);
        status = flushed < 0 ? flushed : status;
    }
    if (terminal_interrupted())
        return 128 + terminal_interrupted();
    if (status < 0)
        print_error(err.text);
    return status < 0 ? -status : status;
}
