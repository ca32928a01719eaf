/* SPDX-License-Identifier: Apache-2.0 */
/* Completions: a frame of each shell's own around what the tables of options say. */
#include "manual.h"

#include <string.h>

#include "messages.h"

enum kind { NOTHING, WORDS, FILES, FOLDERS, ANYTHING };

/* What can be completed behind an option. */
static enum kind kind_of(const struct option *o)
{
    if (!o->choices && !o->value)
        return NOTHING;
    if (o->choices)
        return WORDS;
    if (!strcmp(o->value, "FOLDER"))
        return FOLDERS;
    return !strncmp(o->value, "FILE", 4) || !strcmp(o->value, "PATH") ? FILES : ANYTHING;
}

static const char *next_word(const char *w)
{
    w += strcspn(w, " ");
    return w + (*w == ' ');
}

/* What arguments without a dash are: as the first option that they fill. */
static enum kind bare_kind(const struct command *c)
{
    size_t n = strcspn(c->bare, " ");
    for (const struct option_group *g = c->groups; n && g->title; g++)
        for (const struct option *o = g->options; o->names; o++)
            if (!strncmp(o->names, c->bare, n) && (o->names[n] == ' ' || !o->names[n]))
                return kind_of(o);
    return NOTHING;
}

/* The first clause of a help text; `escaped` are characters that get a backslash, an apostrophe is left out. */
static void print_clause(FILE *out, const char *help, const char *escaped)
{
    for (const char *c = help; *c && *c != ';' && strncmp(c, ": ", 2); c++) {
        if (strchr(escaped, *c))
            fputc('\\', out);
        if (*c != '\'')
            fputc(*c, out);
    }
}

/* Every option of a command. */
static void each_option(FILE *out, const struct command *c, void (*print)(FILE *out, const struct command *c, const struct option *o))
{
    for (const struct option_group *g = c->groups; g->title; g++)
        for (const struct option *o = g->options; o->names; o++)
            print(out, c, o);
}

/* ---- bash ---- */

static void bash_name(FILE *out, const struct command *c, const struct option *o)
{
    (void)c;
    const struct option_face f = option_face(o);
    fprintf(out, " --%.*s", (int)strcspn(f.word, " "), f.word);
    if (f.negatable)
        fprintf(out, " --no-%.*s", (int)strcspn(f.word, " "), f.word);
}

/* "--model|-m) kind=files ;;": of the options that take a value. */
static void bash_value(FILE *out, const struct command *c, const struct option *o)
{
    (void)c;
    static const char *const does[] = {[WORDS] = "words=", [FILES] = "kind=-f", [FOLDERS] = "kind=-d", [ANYTHING] = "kind=none"};
    enum kind kind = kind_of(o);
    if (kind == NOTHING)
        return;
    for (const char *name = o->names; *name; name = next_word(name)) {
        int n = (int)strcspn(name, " ");
        fprintf(out, "%s-%s%.*s", name == o->names ? "        " : "|", n > 1 ? "-" : "", n, name);
    }
    fprintf(out, ") %s", does[kind]);
    if (kind == WORDS)
        fprintf(out, "'%s'", o->choices);
    fputs(" ;;\n", out);
}

static void print_bash(FILE *out, const struct command *const *commands)
{
    fputs("# bash completion for layerskip, made by `layerskip --completion bash`\n"
          "_layerskip()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='--help --version --completion' kind='' files=''\n"
          "    if [[ $cur == '=' ]]; then\n        cur=''\n    elif [[ $prev == '=' ]]; then\n        prev=${COMP_WORDS[COMP_CWORD - 2]}\n    fi\n"
          "    [[ $prev == -* ]] && prev=${prev//_/-}\n"
          "    [[ $prev == -[!-]?* ]] && prev=-$prev\n"
          "    case $((COMP_CWORD > 1)):${COMP_WORDS[1]} in\n",
          out);
    for (int i = 0; commands[i]; i++) {
        const struct command *c = commands[i];
        enum kind bare = bare_kind(c);
        fprintf(out, "    1:%s)\n        words='--help", c->name);
        each_option(out, c, bash_name);
        fprintf(out, "' files=%s\n        case $prev in\n", bare == FILES ? "-f" : bare == FOLDERS ? "-d" : "");
        each_option(out, c, bash_value);
        fputs("        esac ;;\n", out);
    }
    fputs("    1:--completion) words='bash zsh fish' ;;\n    0:*) words+='", out);
    for (int i = 0; commands[i]; i++)
        fprintf(out, " %s", commands[i]->name);
    fputs("' ;;\n    esac\n"
          "    COMPREPLY=()\n"
          "    [[ $kind || $cur == -* || ! $files || $words != --* ]] || kind=$files\n"
          "    case $kind in\n"
          "    none) ;;\n"
          "    -?) compopt -o filenames; mapfile -t COMPREPLY < <(compgen $kind -- \"$cur\") ;;\n"
          "    *) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
          "    esac\n}\ncomplete -F _layerskip layerskip\n",
          out);
}

/* ---- zsh ---- */

static void zsh_action(FILE *out, const struct option *o)
{
    static const char *const does[] = {[FILES] = "_files", [FOLDERS] = "_files -/", [ANYTHING] = " "};
    enum kind kind = kind_of(o);
    if (kind == NOTHING)
        return;
    fputs(":value:", out);
    if (kind == WORDS)
        fprintf(out, "(%s)", o->choices);
    else
        fputs(does[kind], out);
}

/* One specification of _arguments for every name: '*--weights=[type that weights are kept in]:value:(file bf16 q8 q4)'. */
static void zsh_option(FILE *out, const struct command *c, const struct option *o)
{
    (void)c;
    const struct option_face f = option_face(o);
    for (int no = 0; no <= f.negatable; no++) {
        fprintf(out, "            '*--%s%.*s%s[", no ? "no-" : "", (int)strcspn(f.word, " "), f.word, f.value && !no ? "=" : "");
        print_clause(out, o->help, "[]:\\");
        fputc(']', out);
        if (!no)
            zsh_action(out, o);
        fputs("' \\\n", out);
    }
    if (f.letter) {
        fprintf(out, "            '*-%.1s[", f.letter);
        print_clause(out, o->help, "[]:\\");
        fputc(']', out);
        zsh_action(out, o);
        fputs("' \\\n", out);
    }
}

static void print_zsh(FILE *out, const struct command *const *commands)
{
    static const char *const bare_action[] = {[FILES] = "_files", [FOLDERS] = "_files -/", [NOTHING] = " ", [WORDS] = " ", [ANYTHING] = " "};
    fputs("#compdef layerskip\n# zsh completion for layerskip, made by `layerskip --completion zsh`\n_layerskip()\n{\n    local -a commands=(\n", out);
    for (int i = 0; commands[i]; i++) {
        fprintf(out, "        '%s:", commands[i]->name);
        print_clause(out, commands[i]->help, ":\\");
        fputs("'\n", out);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        compadd -- --help --version --completion\n        return\n    fi\n"
          "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n    --completion) compadd bash zsh fish ;;\n",
          out);
    for (int i = 0; commands[i]; i++) {
        fprintf(out, "    %s)\n        _arguments \\\n", commands[i]->name);
        each_option(out, commands[i], zsh_option);
        fprintf(out, "            '--help[show the options]' '*: :%s' ;;\n", bare_action[bare_kind(commands[i])]);
    }
    fputs("    esac\n}\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    _layerskip \"$@\"\nelse\n    compdef _layerskip layerskip\nfi\n", out);
}

/* ---- fish ---- */

static void fish_option(FILE *out, const struct command *c, const struct option *o)
{
    static const char *const does[] = {[NOTHING] = "", [WORDS] = " -x -a '", [FILES] = " -r -F", [FOLDERS] = " -x -a '(__fish_complete_directories)'", [ANYTHING] = " -x"};
    const struct option_face f = option_face(o);
    enum kind kind = kind_of(o);
    for (int no = 0; no <= f.negatable; no++) {
        fprintf(out, "complete -c layerskip -n '__fish_seen_subcommand_from %s' -l %s%.*s", c->name, no ? "no-" : "", (int)strcspn(f.word, " "), f.word);
        if (f.letter && !no)
            fprintf(out, " -s %.1s", f.letter);
        if (!no)
            fprintf(out, "%s%s%s", does[kind], kind == WORDS ? o->choices : "", kind == WORDS ? "'" : "");
        fputs(" -d '", out);
        print_clause(out, o->help, "\\");
        fputs("'\n", out);
    }
}

static void print_fish(FILE *out, const struct command *const *commands)
{
    fputs("# fish completion for layerskip, made by `layerskip --completion fish`\ncomplete -c layerskip -f\n"
          "complete -c layerskip -n __fish_use_subcommand -l completion -x -a 'bash zsh fish' -d 'print completions for a shell'\n"
          "complete -c layerskip -n __fish_use_subcommand -l version -d 'say what this program was built for'\n"
          "complete -c layerskip -l help -d 'show the options'\n",
          out);
    for (int i = 0; commands[i]; i++) {
        const struct command *c = commands[i];
        enum kind bare = bare_kind(c);
        fprintf(out, "complete -c layerskip -n __fish_use_subcommand -a %s -d '", c->name);
        print_clause(out, c->help, "\\");
        fputs("'\n", out);
        if (bare == FILES || bare == FOLDERS)
            fprintf(out, "complete -c layerskip -n '__fish_seen_subcommand_from %s' %s\n", c->name, bare == FILES ? "-F" : "-a '(__fish_complete_directories)'");
        each_option(out, c, fish_option);
    }
}

int completion_print(FILE *out, const struct command *const *commands, const char *shell, lsk_error *err)
{
    static const struct {
        const char *name;
        void (*print)(FILE *out, const struct command *const *commands);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (!strcmp(shells[i].name, shell)) {
            shells[i].print(out, commands);
            return 0;
        }
    return complain(err, LSK_EUSAGE, "--completion: \"%s\": give one of: bash, zsh, fish", excerpt_of(shell).text);
}
