/* What pty.spawn takes from Lua, checked. */
#include "lua_pty_options.h"

#include "core.h"

#include <lauxlib.h>
#include <limits.h>
#include <string.h>

enum { DEFAULT_ROWS = 24, DEFAULT_COLUMNS = 80 };

/* Checks that the value on top is a string that C can hold. It is the option `name`, or the element `index` of it. */
static const char *check_text(lua_State *L, const char *name, lua_Integer index)
{
    size_t length = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    if (text && strlen(text) == length)
        return text;
    const char *label = index ? lua_pushfstring(L, "%s[%I]", name, (LUAI_UACINT)index) : lua_pushstring(L, name);
    luaL_argerror(L, 1,
                  text ? lua_pushfstring(L, "%s has a NUL byte", label)
                       : lua_pushfstring(L, "%s must be a string, not %s", label, luaL_typename(L, -2)));
    return NULL;
}

/* Turns the list on top into a NULL-ended array of its strings, in a userdata pushed above it. Between the two goes a
 * table that keeps the strings alive: a finalizer may change the list as soon as memory is asked for. */
static char *const *check_list(lua_State *L, const char *name)
{
    int list = lua_gettop(L);
    if (!lua_istable(L, list))
        luaL_argerror(L, 1, lua_pushfstring(L, "%s must be a list of strings, not %s", name, luaL_typename(L, list)));
    lua_Integer count = (lua_Integer)lua_rawlen(L, list);
    lua_createtable(L, (int)count, 0);
    const char **strings = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *strings, 0);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, list, i);
        strings[i - 1] = check_text(L, name, i);
        lua_rawseti(L, list + 1, i);
    }
    strings[count] = NULL;
    return (char *const *)strings;
}

/* A misspelt `env` would hand the whole environment of the host to the child. */
static void check_names(lua_State *L)
{
    static const char *const names[] = {"argv", "env", "cwd", "rows", "columns", NULL};
    const char *unknown = core_unknown_option(L, 1, names);
    if (unknown)
        luaL_argerror(L, 1, lua_pushfstring(L, "unknown option '%s'", unknown));
}

struct pty_options pty_check_options(lua_State *L)
{
    struct pty_options options = {.rows = DEFAULT_ROWS, .columns = DEFAULT_COLUMNS};
    check_names(L);
    lua_settop(L, 1);
    luaL_checkstack(L, 16, NULL);
    if (lua_getfield(L, 1, "rows") != LUA_TNIL)
        options.rows = pty_check_dimension(L, -1, 1, "rows");
    if (lua_getfield(L, 1, "columns") != LUA_TNIL)
        options.columns = pty_check_dimension(L, -1, 1, "columns");
    if (lua_getfield(L, 1, "cwd") != LUA_TNIL)
        options.cwd = check_text(L, "cwd", 0);
    if (lua_getfield(L, 1, "env") != LUA_TNIL)
        options.env = check_list(L, "env");
    for (char *const *entry = options.env; entry && *entry; entry++)
        if (**entry == '=' || !strchr(*entry, '='))
            luaL_argerror(L, 1, lua_pushfstring(L, "env: '%s' is not NAME=value", *entry));
    lua_getfield(L, 1, "argv");
    options.argv = check_list(L, "argv");
    luaL_argcheck(L, options.argv[0], 1, "argv is empty");
    return options;
}

unsigned short pty_check_dimension(lua_State *L, int index, int argument, const char *name)
{
    int is_integer;
    lua_Integer value = lua_tointegerx(L, index, &is_integer);
    if (lua_type(L, index) != LUA_TNUMBER || !is_integer || value < 1 || value > USHRT_MAX)
        luaL_argerror(L, argument, lua_pushfstring(L, "%s must be an integer from 1 to %d", name, USHRT_MAX));
    return (unsigned short)value;
}
