/* SPDX-License-Identifier: Apache-2.0 */
#include "line.h"

#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "messages.h"
#include "terminal.h"

enum { MESSAGE_MAX = 16 << 20 };

#ifdef LSK_EDIT
#include <histedit.h>

enum { HISTORY_MAX = 1000 };
#else
typedef struct editline EditLine;
typedef struct historyW HistoryW;
#endif

struct line {
    int terminal, colour;
    int typed; /* when an interruption came, something stood in the line */
    const wchar_t *prompt;
    wchar_t sought[64]; /* what Ctrl-R looks for */
    char *history_path;
    EditLine *el; /* NULL: plain lines */
    HistoryW *history;
};

static const wchar_t first_prompt[] = L"> ", next_prompt[] = L". ";

/* ---- editing ---- */

#ifdef LSK_EDIT

static struct line *of(EditLine *el)
{
    void *data = NULL;
    el_wget(el, EL_CLIENTDATA, &data);
    return data;
}

/* \1 stands around what takes no room. */
static wchar_t *show_prompt(EditLine *el)
{
    static wchar_t text[128];
    const struct line *l = of(el);
    const wchar_t *before = l->colour ? L"\1\033[1;36m\1" : L"", *behind = l->colour ? L"\1\033[0m\1" : L"";
    swprintf(text, sizeof text / sizeof *text, *l->sought ? L"%ls[%ls] %ls%ls" : L"%ls%ls%ls%ls", before, *l->sought ? l->sought : L"", l->prompt, behind);
    return text;
}

/* 1 and a byte; 0: the end; below zero: interrupted. It looks up from time to time: a signal may have come just before it began to wait, or to another thread. */
static int read_byte(struct line *l, char *byte)
{
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    int ready = 0;
    while (!terminal_interrupted() && ((ready = poll(&in, 1, 200)) == 0 || (ready < 0 && errno == EINTR)))
        ;
    if (!terminal_interrupted())
        return ready > 0 && read(STDIN_FILENO, byte, 1) == 1; /* a terminal that is gone is an end too */
    const LineInfoW *now = el_wline(l->el);
    l->typed = now->lastchar > now->buffer;
    return -1;
}

/* libedit's own reader goes on behind the first interruption. */
static int read_character(EditLine *el, wchar_t *out)
{
    struct line *l = of(el);
    mbstate_t state = {0};
    size_t used = (size_t)-2;
    char byte;
    for (int i = 0; i < 4 && used == (size_t)-2; i++) {
        int n = read_byte(l, &byte);
        if (n != 1)
            return n;
        used = mbrtowc(out, &byte, 1, &state);
    }
    if (used == (size_t)-1 || used == (size_t)-2)
        *out = 0xfffd;
    return 1;
}

/* Behind "\e[200~", what a terminal sends before a pasted text: all up to "\e[201~" goes into the line, newlines too. */
static unsigned char paste(EditLine *el, int key)
{
    static const wchar_t end[] = L"\033[201~";
    size_t n = 0, cap = 4096, n_end = wcslen(end);
    wchar_t *text = malloc(cap * sizeof *text), c;
    (void)key;
    while (text && n < MESSAGE_MAX && el_wgetc(el, &c) == 1) {
        text[n++] = c == '\r' ? '\n' : c;
        if (n >= n_end && !wmemcmp(text + n - n_end, end, n_end)) {
            n -= n_end;
            break;
        }
        if (n + 1 < cap)
            continue;
        wchar_t *bigger = realloc(text, 2 * cap * sizeof *text);
        if (!bigger)
            break;
        text = bigger;
        cap *= 2;
    }
    size_t kept = 0;
    for (size_t i = 0; text && i < n; i++)
        if (text[i] >= ' ' || text[i] == '\n' || text[i] == '\t')
            text[kept++] = text[i];
    if (text) {
        text[kept] = 0;
        el_winsertstr(el, text);
    }
    free(text);
    return CC_REFRESH;
}

static unsigned char new_line(EditLine *el, int key)
{
    (void)key;
    el_winsertstr(el, L"\n");
    return CC_REFRESH;
}

/* The entry number `skip`, from the newest, that holds what is sought; NULL: there is none. */
static const wchar_t *find_entry(struct line *l, int skip)
{
    HistEventW e;
    for (int r = history_w(l->history, &e, H_FIRST); r >= 0; r = history_w(l->history, &e, H_NEXT))
        if (wcsstr(e.str, l->sought) && skip-- == 0)
            return e.str;
    return NULL;
}

/* Ctrl-R: what is typed is looked for in the history, again Ctrl-R goes further back, any other key ends it and does what it does. libedit's own search loses the end of the
   line that it finds. */
static unsigned char search(EditLine *el, int key)
{
    struct line *l = of(el);
    const size_t most = sizeof l->sought / sizeof *l->sought - 1;
    wchar_t c = 0;
    (void)key;
    for (int skip = 0; l->history && el_wgetc(el, &c) == 1;) {
        size_t n = wcslen(l->sought);
        if (c == L'\177' || c == L'\b')
            l->sought[n ? n - 1 : 0] = 0;
        else if (c == L'R' - 64)
            skip++;
        else if (c < ' ' || n == most)
            break;
        else
            l->sought[n] = c;
        skip = c == L'R' - 64 ? skip : 0;
        const wchar_t *found = *l->sought ? find_entry(l, skip) : L"";
        if (found && !el_wreplacestr(el, found))
            el_cursor(el, (int)wcslen(found));
        skip -= !found && skip;
        el_wset(el, EL_REFRESH);
    }
    wmemset(l->sought, 0, most);
    if (c && c < ' ')
        el_wpush(el, (wchar_t[]){c, 0});
    return CC_REFRESH;
}

static void bind_keys(EditLine *el)
{
    static const wchar_t *const keys[][2] = {{L"\\e[200~", L"paste"},  {L"\\e\\r", L"new-line"}, {L"\\e\\n", L"new-line"}, {L"^R", L"search"},
                                             {L"^W", L"ed-delete-prev-word"}, {L"\\e[3~", L"ed-delete-next-char"}, {L"\\e[1;5C", L"em-next-word"}, {L"\\e[1;5D", L"ed-prev-word"},
                                             {L"\\e[H", L"ed-move-to-beg"},   {L"\\e[F", L"ed-move-to-end"},       {L"\\e[1~", L"ed-move-to-beg"}, {L"\\e[4~", L"ed-move-to-end"}};
    el_wset(el, EL_EDITOR, L"emacs");
    el_wset(el, EL_ADDFN, L"paste", L"takes a pasted text as a whole", paste);
    el_wset(el, EL_ADDFN, L"search", L"looks for a text in the history", search);
    el_wset(el, EL_ADDFN, L"new-line", L"begins another line of the message", new_line);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        el_wset(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    el_source(el, NULL); /* the user's own ~/.editrc has the last word */
}

static void open_editor(struct line *l, const char *history)
{
    HistEventW e;
    const char *term = getenv("TERM");
    if (!term || !*term || !strcmp(term, "dumb") || !(l->el = el_init("layerskip", stdin, stderr, stderr)))
        return;
    el_wset(l->el, EL_CLIENTDATA, l);
    el_wset(l->el, EL_PROMPT_ESC, show_prompt, L'\1');
    el_wset(l->el, EL_GETCFN, read_character);
    el_wset(l->el, EL_SIGNAL, 0);
    bind_keys(l->el);
    l->history_path = history ? strdup(history) : NULL;
    if (!(l->history = history_winit()))
        return;
    history_w(l->history, &e, H_SETSIZE, HISTORY_MAX);
    history_w(l->history, &e, H_SETUNIQUE, 1);
    if (l->history_path)
        history_w(l->history, &e, H_LOAD, l->history_path);
    el_wset(l->el, EL_HIST, history_w, l->history);
}

/* A program that is killed loses nothing; two at once keep what the last of them saved. */
static void save_history(struct line *l)
{
    HistEventW e;
    char temp[4096 + 32];
    if (!l->history_path || (size_t)snprintf(temp, sizeof temp, "%s.tmp-%ld", l->history_path, (long)getpid()) >= sizeof temp)
        return;
    mode_t mask = umask(077);
    if (history_w(l->history, &e, H_SAVE, temp) < 0 || rename(temp, l->history_path))
        unlink(temp);
    umask(mask);
}

static void remember(struct line *l, const char *text)
{
    HistEventW e;
    size_t n = strlen(text) + 1;
    wchar_t *wide = l->history && n > 1 ? malloc(n * sizeof *wide) : NULL;
    if (wide && mbstowcs(wide, text, n) != (size_t)-1 && history_w(l->history, &e, H_ENTER, wide) >= 0)
        save_history(l);
    free(wide);
}

static int edit_line(struct line *l, char **text, lsk_error *err)
{
    int n = 0;
    l->typed = 0;
    el_resize(l->el);
    el_wset(l->el, EL_PREP_TERM, 1); /* before the prompt is there, so that no key is the terminal's own any more */
    fputs("\033[?2004h", stderr);
    const wchar_t *wide = el_wgets(l->el, &n);
    fputs("\033[?2004l", stderr);
    if (terminal_interrupted() || !wide || n <= 0) {
        fputs(terminal_interrupted() ? "^C\n" : "\n", stderr);
        return terminal_interrupted() ? (l->typed ? LINE_CLEARED : LINE_INTERRUPTED) : LINE_END;
    }
    size_t cap = (size_t)n * MB_LEN_MAX + 1, used = 0;
    mbstate_t state = {0};
    if (!(*text = malloc(cap)))
        return complain(err, LSK_EOS, "out of memory");
    for (int i = 0; i < n; i++) {
        size_t k = wcrtomb(*text + used, wide[i], &state);
        used += k == (size_t)-1 ? 0 : k;
    }
    (*text)[used] = 0;
    return LINE_TEXT;
}

static void close_editor(struct line *l)
{
    if (l->el)
        el_end(l->el);
    if (l->history)
        history_wend(l->history);
}

#else

static void open_editor(struct line *l, const char *history)
{
    (void)history;
    if (l->terminal)
        print_warning("this build is without libedit: no line editing, no history");
}
static void remember(struct line *l, const char *text) { (void)l, (void)text; }
static int edit_line(struct line *l, char **text, lsk_error *err) { return (void)l, (void)text, complain(err, LSK_EINTERNAL, "no editor"); }
static void close_editor(struct line *l) { (void)l; }

#endif

/* ---- messages ---- */

struct line *line_open(const char *history, int colour, lsk_error *err)
{
    struct line *l = calloc(1, sizeof *l);
    if (!l) {
        complain(err, LSK_EOS, "out of memory");
        return NULL;
    }
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8"))
        setlocale(LC_CTYPE, "C.UTF-8");
    l->terminal = terminal_is(STDIN_FILENO);
    l->colour = colour;
    if (l->terminal)
        open_editor(l, history);
    return l;
}

void line_close(struct line *l)
{
    if (!l)
        return;
    close_editor(l);
    free(l->history_path);
    free(l);
}

int line_is_terminal(const struct line *l) { return l->terminal; }

static int plain_line(struct line *l, char **text, lsk_error *err)
{
    size_t cap = 0;
    errno = 0;
    if (l->terminal)
        fprintf(stderr, "%ls", l->prompt);
    ssize_t n = getline(text, &cap, stdin);
    if (n >= 0)
        return LINE_TEXT;
    free(*text);
    *text = NULL;
    if (terminal_interrupted()) {
        clearerr(stdin);
        fputc('\n', stderr);
        return LINE_INTERRUPTED;
    }
    return ferror(stdin) ? complain(err, LSK_EIO, "standard input: %s", strerror(errno)) : LINE_END;
}

/* One line without the newline that ended it. */
static int read_one(struct line *l, const wchar_t *prompt, char **text, lsk_error *err)
{
    l->prompt = prompt;
    *text = NULL;
    int r = l->el ? edit_line(l, text, err) : plain_line(l, text, err);
    size_t n = *text ? strlen(*text) : 0;
    if (n && (*text)[n - 1] == '\n')
        (*text)[n - 1] = 0;
    return r;
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* *text with a newline and more behind it; frees more. */
static int join(char **text, char *more, lsk_error *err)
{
    size_t n = strlen(*text), m = strlen(more);
    char *both = n + m < MESSAGE_MAX ? realloc(*text, n + m + 2) : NULL;
    if (both) {
        both[n] = '\n';
        memcpy(both + n + 1, more, m + 1);
        *text = both;
    }
    free(more);
    return both ? 0 : complain(err, LSK_EUSAGE, "the message is longer than %d MiB", MESSAGE_MAX >> 20);
}

/* Lines are joined until the message is whole. quoted: it began with three quotes, which are gone. */
static int read_rest(struct line *l, int quoted, char **text, lsk_error *err)
{
    char *more;
    while (quoted ? !ends_with(*text, "\"\"\"") : ends_with(*text, "\\")) {
        if (!quoted)
            (*text)[strlen(*text) - 1] = 0;
        int r = read_one(l, next_prompt, &more, err);
        if (r == LINE_END)
            return LINE_TEXT;
        if (r != LINE_TEXT)
            return r == LINE_INTERRUPTED ? LINE_CLEARED : r;
        if ((r = join(text, more, err)) < 0)
            return r;
    }
    if (quoted)
        (*text)[strlen(*text) - 3] = 0;
    return LINE_TEXT;
}

int line_read(struct line *l, char **text, lsk_error *err)
{
    int r = read_one(l, first_prompt, text, err);
    if (r != LINE_TEXT)
        return r;
    int quoted = !strncmp(*text, "\"\"\"", 3);
    if (quoted)
        memmove(*text, *text + 3, strlen(*text) - 2);
    r = read_rest(l, quoted, text, err);
    if (r == LINE_TEXT) {
        remember(l, *text);
        return r;
    }
    free(*text);
    *text = NULL;
    return r;
}

int line_history_path(const char *name, char *out, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int absolute = state && *state == '/';
    if (!absolute && !(home && *home == '/'))
        return -1;
    int n = snprintf(out, cap, "%s%s/layerskip/%s", absolute ? state : home, absolute ? "" : "/.local/state", name);
    if ((size_t)n >= cap)
        return -1;
    for (char *slash = strchr(out + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int r = mkdir(out, 0700);
        *slash = '/';
        if (r && errno != EEXIST)
            return -1;
    }
    return 0;
}
