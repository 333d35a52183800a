/* The module `line`: a line editor, by libedit, for a program that waits on a loop.
 *
 * libedit edits, keeps the history and paints; it never reads. The caller reads the terminal, decides what a key means
 * and calls an action by its name. Each action is bound to one of the 32 C1 controls, which no keyboard sends, and
 * libedit is handed that one character: it finds nothing more to read and returns. So nothing here ever blocks.
 *
 * libedit paints by the C locale's character widths. Parley's text is UTF-8 whatever the environment says, so every
 * call runs under a locale of its own and the process's stays untouched. */
#include "core.h"

#include "fault.h"

#include <errno.h>
#include <histedit.h>
#include <lauxlib.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uv.h>
#include <wchar.h>
#include <wctype.h>

#define EDITOR "parley.line"
#define FIRST_KEY 0x80

typedef struct {
    EditLine *line;
    History *history;
    locale_t utf8;
    wchar_t key;   /* what libedit reads next; 0: nothing */
    int place;     /* in the history: 0 is what was typed, 1 the newest */
    char *draft;   /* what was typed, at any other place */
    char *pattern; /* what is searched for, until something else is done */
    char prompt[64];
} Editor;

static Editor *editor_of(EditLine *line)
{
    Editor *editor = NULL;
    el_get(line, EL_CLIENTDATA, &editor);
    return editor;
}

static void forget(char **text)
{
    free(*text);
    *text = NULL;
}

/* The history. libedit's own commands keep no more than 1024 characters of what was typed. */

static char *copy_text(EditLine *line, int is_to_cursor)
{
    const LineInfo *info = el_line(line);
    return strndup(info->buffer, (size_t)((is_to_cursor ? info->cursor : info->lastchar) - info->buffer));
}

static int replace_text(EditLine *line, const char *text)
{
    const LineInfoW *info = el_wline(line);
    el_cursor(line, (int)(info->lastchar - info->cursor));
    el_deletestr(line, (int)(info->lastchar - info->buffer));
    return *text ? el_insertstr(line, text) : 0;
}

static const char *entry_at(History *entries, int place)
{
    HistEvent event;
    int status = history(entries, &event, H_FIRST);
    for (; status >= 0 && place > 1; place--)
        status = history(entries, &event, H_NEXT);
    return status >= 0 ? event.str : NULL;
}

/* Goes to the next entry in a direction; with a pattern to one that has it inside and is not what is shown already. */
static unsigned char go(EditLine *line, int step, const char *pattern)
{
    Editor *editor = editor_of(line);
    char *shown = copy_text(line, 0);
    const char *text = NULL;
    int place = editor->place;
    do {
        place += step;
        text = place > 0 ? entry_at(editor->history, place) : place == 0 ? editor->draft : NULL;
    } while (shown && text && place > 0 && pattern && (!strstr(text, pattern) || strcmp(text, shown) == 0));
    int is_there = shown && text && replace_text(line, text) == 0;
    if (shown && text && !is_there)
        replace_text(line, shown);
    if (is_there && place == 0)
        forget(&editor->draft);
    if (is_there && editor->place == 0)
        editor->draft = shown;
    else
        free(shown);
    if (is_there)
        editor->place = place;
    return is_there ? CC_REFRESH : CC_ERROR; /* which beeps */
}

static unsigned char search(EditLine *line, int step)
{
    Editor *editor = editor_of(line);
    if (!editor->pattern)
        editor->pattern = copy_text(line, 1);
    return editor->pattern ? go(line, step, editor->pattern) : CC_ERROR;
}

/* Own commands; their return value is what libedit does next. */
static unsigned char history_back(EditLine *line, int key)
{
    (void)key;
    return go(line, 1, NULL);
}

static unsigned char history_forward(EditLine *line, int key)
{
    (void)key;
    return go(line, -1, NULL);
}

static unsigned char search_back(EditLine *line, int key)
{
    (void)key;
    return search(line, 1);
}

static unsigned char search_forward(EditLine *line, int key)
{
    (void)key;
    return search(line, -1);
}

static unsigned char restart(EditLine *line, int key)
{
    Editor *editor = editor_of(line);
    (void)key;
    editor->place = 0;
    forget(&editor->draft);
    return CC_FATAL; /* forgets the text, paints the prompt where the cursor stands */
}

static unsigned char repaint(EditLine *line, int key)
{
    (void)line, (void)key;
    return CC_REFRESH;
}

static const struct {
    const char *name, *command;
} actions[] = {
    {"left", "ed-prev-char"},
    {"right", "ed-next-char"},
    {"word_left", "ed-prev-word"},
    {"word_right", "em-next-word"},
    {"home", "ed-move-to-beg"},
    {"end", "ed-move-to-end"},
    {"line_up", "ed-prev-line"},
    {"line_down", "ed-next-line"},
    {"history_back", "parley-history-back"},
    {"history_forward", "parley-history-forward"},
    {"search_back", "parley-search-back"},
    {"search_forward", "parley-search-forward"},
    {"erase", "ed-delete-prev-char"},
    {"delete", "ed-delete-next-char"},
    {"erase_word", "ed-delete-prev-word"},
    {"delete_word", "em-delete-next-word"},
    {"kill_to_end", "ed-kill-line"},
    {"kill_to_start", "vi-kill-line-prev"},
    {"yank", "em-yank"},
    {"transpose", "ed-transpose-chars"},
    {"clear_screen", "ed-clear-screen"},
    {"restart", "parley-restart"},
    {"repaint", "parley-repaint"},
};
#define ACTIONS (sizeof actions / sizeof *actions)
_Static_assert(ACTIONS <= 32, "there are 32 C1 controls");

static Editor *check_editor(lua_State *L)
{
    Editor *editor = luaL_checkudata(L, 1, EDITOR);
    if (!editor->line)
        luaL_error(L, "the line editor is closed");
    return editor;
}

/* libedit asks for one wide character: 1 and the character, or 0 for none. */
static int next_key(EditLine *line, wchar_t *key)
{
    Editor *editor = editor_of(line);
    if (!editor || !editor->key)
        return 0;
    *key = editor->key;
    editor->key = 0;
    return 1;
}

static char *prompt_of(EditLine *line)
{
    Editor *editor = editor_of(line);
    static char none[] = "";
    return editor ? editor->prompt : none;
}

static void run_action(Editor *editor, size_t index)
{
    int count;
    if (strncmp(actions[index].name, "search", 6) != 0)
        forget(&editor->pattern);
    editor->key = (wchar_t)(FIRST_KEY + index);
    el_wgets(editor->line, &count);
    editor->key = 0;
}

static void run_named(Editor *editor, const char *name)
{
    for (size_t i = 0; i < ACTIONS; i++)
        if (strcmp(actions[i].name, name) == 0)
            run_action(editor, i);
}

static void set_up(Editor *editor)
{
    EditLine *line = editor->line;
    HistEvent event;
    el_set(line, EL_CLIENTDATA, editor);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_SIGNAL, 0);
    el_set(line, EL_PROMPT_ESC, prompt_of, '\1');
    el_wset(line, EL_ADDFN, L"parley-history-back", L"an older text", history_back); /* it keeps the pointers */
    el_wset(line, EL_ADDFN, L"parley-history-forward", L"a newer text", history_forward);
    el_wset(line, EL_ADDFN, L"parley-search-back", L"an older text with this in it", search_back);
    el_wset(line, EL_ADDFN, L"parley-search-forward", L"a newer text with this in it", search_forward);
    el_wset(line, EL_ADDFN, L"parley-restart", L"a new line", restart);
    el_wset(line, EL_ADDFN, L"parley-repaint", L"paint it again", repaint);
    for (size_t i = 0; i < ACTIONS; i++) {
        char key[8];
        snprintf(key, sizeof key, "\\%03o", (unsigned)(FIRST_KEY + i));
        el_set(line, EL_BIND, key, actions[i].command, NULL);
    }
    el_wset(line, EL_GETCFN, next_key);
    /* Every key reaches the caller: Ctrl-C, Ctrl-Z, Ctrl-S, and Ctrl-J apart from Return. */
    el_set(line, EL_SETTY, "-d", "-isig", "-ixon", "-icrnl", "-inlcr", NULL);
    history(editor->history, &event, H_SETSIZE, 1000);
    history(editor->history, &event, H_SETUNIQUE, 1);
    el_set(line, EL_UNBUFFERED, 1); /* one key a call; takes the terminal into raw mode */
}

/* line.open() takes over the terminal of standard input and output, or returns nil and an error object. */
static int line_open(lua_State *L)
{
    struct termios settings;
    Editor *editor = lua_newuserdatauv(L, sizeof *editor, 0);
    *editor = (Editor){0};
    luaL_setmetatable(L, EDITOR);
    if (tcgetattr(STDIN_FILENO, &settings) || tcgetattr(STDOUT_FILENO, &settings))
        return fault_push(L, -errno, "standard input and output are no terminal");
    editor->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!editor->utf8)
        editor->utf8 = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (!editor->utf8)
        return fault_push(L, -errno, "there is no UTF-8 locale");
    locale_t outer = uselocale(editor->utf8);
    editor->history = history_init();
    editor->line = editor->history ? el_init("parley", stdin, stdout, stderr) : NULL;
    if (editor->line)
        set_up(editor);
    uselocale(outer);
    return editor->line ? 1 : fault_push(L, UV_ENOMEM, "the line editor cannot be made");
}

static int line_close(lua_State *L)
{
    Editor *editor = luaL_checkudata(L, 1, EDITOR);
    locale_t outer = editor->utf8 ? uselocale(editor->utf8) : (locale_t)0;
    if (editor->line)
        el_end(editor->line); /* puts the terminal back as it was */
    if (editor->history)
        history_end(editor->history);
    if (editor->utf8) {
        uselocale(outer);
        freelocale(editor->utf8);
    }
    forget(&editor->draft);
    forget(&editor->pattern);
    *editor = (Editor){0};
    return 0;
}

/* Between these two the terminal is as it was found: for a stop by Ctrl-Z. */
static int line_set_raw(lua_State *L)
{
    Editor *editor = check_editor(L);
    el_set(editor->line, EL_PREP_TERM, lua_toboolean(L, 2));
    return 0;
}

static int line_begin(lua_State *L)
{
    const char *prompt = luaL_checkstring(L, 2); /* first, as everywhere: a finalizer may close the editor */
    Editor *editor = check_editor(L);
    luaL_argcheck(L, strlen(prompt) < sizeof editor->prompt, 2, "the prompt is too long");
    strcpy(editor->prompt, prompt);
    locale_t outer = uselocale(editor->utf8);
    el_resize(editor->line);
    run_named(editor, "restart");
    uselocale(outer);
    return 0;
}

static int line_act(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);
    Editor *editor = check_editor(L);
    for (size_t i = 0; i < ACTIONS; i++) {
        if (strcmp(actions[i].name, name) == 0) {
            locale_t outer = uselocale(editor->utf8);
            run_action(editor, i);
            uselocale(outer);
            return 0;
        }
    }
    return luaL_error(L, "the line editor has no action '%s'", name);
}

static int line_insert(lua_State *L)
{
    const char *text = luaL_checkstring(L, 2);
    Editor *editor = check_editor(L);
    locale_t outer = uselocale(editor->utf8);
    int status = *text ? el_insertstr(editor->line, text) : 0;
    run_named(editor, "repaint");
    uselocale(outer);
    lua_pushboolean(L, status == 0);
    return 1;
}

static int line_text(lua_State *L)
{
    Editor *editor = check_editor(L);
    locale_t outer = uselocale(editor->utf8);
    const LineInfo *info = el_line(editor->line);
    uselocale(outer);
    lua_pushinteger(L, info->cursor - info->buffer);
    lua_pushlstring(L, info->buffer, (size_t)(info->lastchar - info->buffer));
    lua_insert(L, -2);
    return 2;
}

static int line_remember(lua_State *L)
{
    HistEvent event;
    const char *text = luaL_checkstring(L, 2);
    history(check_editor(L)->history, &event, H_ENTER, text);
    return 0;
}

static unsigned short columns_of_terminal(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* The columns that libedit shows a character in, from this one on: a tab ends at the next eighth or with the row, a
 * control character is shown as ^X, and what cannot be printed as \U+1234. */
static int width_of(wchar_t letter, int column, int columns)
{
    int width = wcwidth(letter);
    if (letter == L'\t')
        return column / 8 * 8 + 8 < columns ? 8 - column % 8 : columns - column;
    if (letter < 0x100 && iswcntrl((wint_t)letter))
        return 2;
    if (!iswprint((wint_t)letter))
        return letter > 0xffff ? 8 : 7;
    return width > 0 ? width : 0;
}

/* The row that the cursor is in, counted from the prompt's, when the terminal wraps at `columns`. */
static int rows_above_cursor(Editor *editor, int columns)
{
    const LineInfoW *info = el_wline(editor->line);
    int column = 0, row = 0;
    int is_literal = 0;
    for (const char *byte = editor->prompt; *byte; byte++) {
        if (*byte == '\1')
            is_literal = !is_literal;
        else if (!is_literal)
            column++;
    }
    for (const wchar_t *at = info->buffer; at < info->cursor; at++) {
        int width = *at == L'\n' ? 0 : width_of(*at, column, columns);
        if (*at == L'\n' || (column + width > columns && iswprint((wint_t)*at))) { /* only this is never cut */
            row++;
            column = 0;
        }
        column += width;
        row += column / columns;
        column %= columns;
    }
    return row;
}

/* Wipes prompt and text off the screen and leaves the cursor where the prompt began. */
static int line_hide(lua_State *L)
{
    Editor *editor = check_editor(L);
    locale_t outer = uselocale(editor->utf8);
    int rows = rows_above_cursor(editor, columns_of_terminal());
    uselocale(outer);
    if (rows > 0)
        printf("\033[%dA", rows);
    fputs("\r\033[J", stdout);
    fflush(stdout);
    return 0;
}

/* Paints prompt and text from where the cursor stands: after `hide`, or once the terminal has another size. */
static int line_show(lua_State *L)
{
    Editor *editor = check_editor(L);
    locale_t outer = uselocale(editor->utf8);
    el_resize(editor->line);
    el_set(editor->line, EL_REFRESH);
    uselocale(outer);
    return 0;
}

static int line_tostring(lua_State *L)
{
    Editor *editor = luaL_checkudata(L, 1, EDITOR);
    lua_pushstring(L, editor->line ? EDITOR : EDITOR " (closed)");
    return 1;
}

static const luaL_Reg methods[] = {
    {"act", line_act},         {"begin", line_begin},
    {"close", line_close},     {"hide", line_hide},
    {"insert", line_insert},   {"remember", line_remember},
    {"set_raw", line_set_raw}, {"show", line_show},
    {"text", line_text},       {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", line_close},
    {"__gc", line_close},
    {"__tostring", line_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", line_open},
    {NULL, NULL},
};

int luaopen_parley_line(lua_State *L)
{
    core_class(L, EDITOR, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
