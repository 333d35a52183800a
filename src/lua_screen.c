/* Lua's face of screen.h: the table `parley.core`.screen. lua/parley/core/screen.lua documents every function. */
#include "core.h"
#include "screen.h"

#include <lauxlib.h>
#include <stdio.h>

#define SCREEN_METATABLE "parley.screen"

static struct screen *to_screen(lua_State *L)
{
    return luaL_checkudata(L, 1, SCREEN_METATABLE);
}

static struct screen *check_screen(lua_State *L)
{
    struct screen *screen = to_screen(L);
    luaL_argcheck(L, screen->terminal, 1, "the screen is closed");
    return screen;
}

static int check_size(lua_State *L, int index, int min)
{
    lua_Integer size = luaL_checkinteger(L, index);
    if (size < min || size > SCREEN_SIZE_MAX)
        luaL_argerror(L, index, lua_pushfstring(L, "must be from %d to %d", min, SCREEN_SIZE_MAX));
    return (int)size;
}

static int check_row(lua_State *L, const struct screen *screen)
{
    lua_Integer row = luaL_checkinteger(L, 2);
    if (row < 1 || row > screen->rows)
        luaL_argerror(L, 2, lua_pushfstring(L, "the screen has the rows 1 to %d", screen->rows));
    return (int)row - 1;
}

static int lua_screen_new(lua_State *L)
{
    int rows = check_size(L, 1, 1);
    int columns = check_size(L, 2, SCREEN_COLUMNS_MIN);
    struct screen *screen = lua_newuserdatauv(L, sizeof *screen, 1); /* its value: the rows that were read last */
    *screen = (struct screen){0};
    luaL_setmetatable(L, SCREEN_METATABLE);
    lua_createtable(L, rows, 0);
    lua_setiuservalue(L, -2, 1);
    screen_open(screen, rows, columns);
    return 1;
}

static int lua_screen_feed(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 2, &length); /* first: it may make a string, and a finalizer may close */
    screen_feed(check_screen(L), bytes, length);
    return 0;
}

static int lua_screen_replies(lua_State *L)
{
    struct screen *screen = check_screen(L);
    size_t length = screen->reply_length;
    screen->reply_length = 0; /* what a finalizer adds behind the copy is for the next time */
    lua_pushlstring(L, screen->replies ? screen->replies : "", length);
    return 1;
}

static void add_text(luaL_Buffer *buffer, const struct screen *screen, int row, int from, int end)
{
    char *out = luaL_prepbuffsize(buffer, (size_t)(end - from) * SCREEN_CELL_BYTES);
    luaL_addsize(buffer, screen_text(screen, row, from, end, out));
}

static void push_text(lua_State *L, const struct screen *screen, int row, int from, int end)
{
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    add_text(&buffer, screen, row, from, end);
    luaL_pushresult(&buffer);
}

/* Pushes a row's text. A program changes few rows at a time, and whoever looks at it reads them all: the others stand
 * in the table at index `known`. Damage done by a finalizer, while the text is made, counts for the next time. */
static void push_row(lua_State *L, struct screen *screen, int row, int known)
{
    if (!screen->is_row_damaged[row]) {
        lua_rawgeti(L, known, row + 1);
        return;
    }
    lua_pushnil(L);
    lua_rawseti(L, known, row + 1);
    screen->is_row_damaged[row] = false;
    push_text(L, screen, row, 0, screen_end(screen, row, false));
    lua_pushvalue(L, -1);
    lua_rawseti(L, known, row + 1);
}

static int lua_screen_row(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    int row = check_row(L, screen);
    push_text(L, screen, row, 0, screen_end(screen, row, false));
    return 1;
}

static int lua_screen_rows(lua_State *L)
{
    struct screen *screen = check_screen(L);
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, 1);
    lua_createtable(L, screen->rows, 0);
    for (int row = 0; row < screen->rows; row++) {
        push_row(L, screen, row, 2);
        lua_rawseti(L, 3, row + 1);
    }
    return 1;
}

static int lua_screen_text(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    luaL_Buffer buffer;
    int rows = screen->rows;
    while (rows > 0 && screen_end(screen, rows - 1, false) == 0)
        rows--;
    luaL_buffinit(L, &buffer);
    for (int row = 0; row < rows; row++) {
        if (row > 0)
            luaL_addchar(&buffer, '\n');
        add_text(&buffer, screen, row, 0, screen_end(screen, row, false));
    }
    luaL_pushresult(&buffer);
    return 1;
}

static int lua_screen_cursor(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    int row, column;
    screen_cursor(screen, &row, &column);
    lua_pushinteger(L, row + 1);
    lua_pushinteger(L, column + 1);
    lua_pushboolean(L, screen->is_cursor_visible);
    return 3;
}

static int lua_screen_title(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    lua_pushstring(L, screen->title ? screen->title : "");
    return 1;
}

static void set_flag(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static int lua_screen_modes(lua_State *L)
{
    static const char *const mouse[] = {"none", "click", "drag", "move"}; /* in the order of VTERM_PROP_MOUSE_* */
    const struct screen *screen = check_screen(L);
    lua_createtable(L, 0, 4);
    set_flag(L, "bracketed_paste", screen->is_bracketed_paste);
    set_flag(L, "alternate_screen", screen->is_alternate);
    set_flag(L, "cursor_visible", screen->is_cursor_visible);
    lua_pushstring(L, mouse[screen->mouse]);
    lua_setfield(L, -2, "mouse");
    return 1;
}

static int lua_screen_size(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    lua_pushinteger(L, screen->rows);
    lua_pushinteger(L, screen->columns);
    return 2;
}

static int lua_screen_resize(lua_State *L)
{
    struct screen *screen = check_screen(L);
    int rows = check_size(L, 2, 1);
    screen_resize(screen, rows, check_size(L, 3, SCREEN_COLUMNS_MIN));
    return 0;
}

/* A palette index, "#rrggbb", or nothing for the default. */
static void set_color(lua_State *L, const char *name, const VTermColor *color, bool is_default)
{
    if (is_default)
        return;
    if (VTERM_COLOR_IS_INDEXED(color)) {
        lua_pushinteger(L, color->indexed.idx);
    } else {
        char text[sizeof "#rrggbb"];
        snprintf(text, sizeof text, "#%02x%02x%02x", color->rgb.red, color->rgb.green, color->rgb.blue);
        lua_pushstring(L, text);
    }
    lua_setfield(L, -2, name);
}

static void push_style(lua_State *L, const struct screen_run *run)
{
    const VTermScreenCellAttrs *style = &run->style;
    lua_createtable(L, 0, 6);
    const struct {
        const char *name;
        bool is_set;
    } flags[] = {
        {"bold", style->bold},           {"dim", run->is_dim},
        {"italic", style->italic},       {"reverse", style->reverse},
        {"underline", style->underline}, {"strike", style->strike},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flags[i].is_set)
            set_flag(L, flags[i].name, true);
    set_color(L, "foreground", &run->foreground, VTERM_COLOR_IS_DEFAULT_FG(&run->foreground));
    set_color(L, "background", &run->background, VTERM_COLOR_IS_DEFAULT_BG(&run->background));
}

static void push_run(lua_State *L, const struct screen *screen, int row, const struct screen_run *run)
{
    push_style(L, run);
    lua_pushinteger(L, run->from + 1);
    lua_setfield(L, -2, "from");
    lua_pushinteger(L, run->end);
    lua_setfield(L, -2, "to");
    push_text(L, screen, row, run->from, run->end);
    lua_setfield(L, -2, "text");
}

static int lua_screen_attributes(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    int row = check_row(L, screen);
    int end = screen_end(screen, row, true);
    lua_newtable(L);
    for (int from = 0; from < end;) {
        struct screen_run run = screen_run(screen, row, from, end);
        push_run(L, screen, row, &run);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        from = run.end;
    }
    return 1;
}

static int lua_screen_pen(lua_State *L)
{
    struct screen_run pen = screen_pen(check_screen(L));
    push_style(L, &pen);
    return 1;
}

static int lua_screen_last(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    int row, column = screen_last(screen, &row);
    if (column < 0)
        return 0;
    struct screen_run run = screen_run(screen, row, column, column + 1);
    push_run(L, screen, row, &run);
    return 1;
}

static int lua_screen_margins(lua_State *L)
{
    lua_pushstring(L, check_screen(L)->margins);
    return 1;
}

static int lua_screen_unfinished(lua_State *L)
{
    char bytes[ESCAPE_UNFINISHED_MAX];
    lua_pushlstring(L, bytes, escape_unfinished(&check_screen(L)->escape, bytes));
    return 1;
}

static int lua_screen_scrolled(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_screen(L)->scrolled);
    return 1;
}

static int lua_screen_generation(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_screen(L)->generation);
    return 1;
}

static int lua_screen_memory(lua_State *L)
{
    const struct screen *screen = check_screen(L);
    lua_pushinteger(L, (lua_Integer)screen_memory(screen));
    return 1;
}

static int lua_screen_close(lua_State *L)
{
    screen_close(to_screen(L));
    return 0;
}

static int lua_screen_tostring(lua_State *L)
{
    const struct screen *screen = to_screen(L);
    if (screen->terminal)
        lua_pushfstring(L, "%s (%d rows, %d columns)", SCREEN_METATABLE, screen->rows, screen->columns);
    else
        lua_pushfstring(L, "%s (closed)", SCREEN_METATABLE);
    return 1;
}

static const luaL_Reg methods[] = {
    {"attributes", lua_screen_attributes},
    {"close", lua_screen_close},
    {"cursor", lua_screen_cursor},
    {"feed", lua_screen_feed},
    {"generation", lua_screen_generation},
    {"last", lua_screen_last},
    {"margins", lua_screen_margins},
    {"memory", lua_screen_memory},
    {"modes", lua_screen_modes},
    {"pen", lua_screen_pen},
    {"replies", lua_screen_replies},
    {"resize", lua_screen_resize},
    {"row", lua_screen_row},
    {"rows", lua_screen_rows},
    {"scrolled", lua_screen_scrolled},
    {"size", lua_screen_size},
    {"text", lua_screen_text},
    {"title", lua_screen_title},
    {"unfinished", lua_screen_unfinished},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", lua_screen_close},
    {"__gc", lua_screen_close},
    {"__tostring", lua_screen_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {{"new", lua_screen_new}, {NULL, NULL}};

int luaopen_parley_screen(lua_State *L)
{
    core_class(L, SCREEN_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
