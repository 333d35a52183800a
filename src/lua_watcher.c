/* The module `watcher`: watcher.c for Lua. The waiting, with luv, is in lua/parley/claude/watcher.lua. */
#include "watcher.h"

#include "core.h"
#include "fault.h"

#include <lauxlib.h>
#include <string.h>

#define WATCHER_METATABLE "parley.watcher"

static struct watcher *check_watcher(lua_State *L, int index)
{
    struct watcher *watcher = luaL_checkudata(L, index, WATCHER_METATABLE);
    luaL_argcheck(L, watcher->path, index, "the watcher is closed");
    return watcher;
}

static int open_watcher(lua_State *L)
{
    size_t length;
    const char *path = luaL_checklstring(L, 1, &length);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, length > 0 && length == strlen(path), 1, "a path without NUL bytes expected");
    luaL_argcheck(L, offset >= 0, 2, "an offset cannot be negative");

    struct watcher *watcher = lua_newuserdatauv(L, sizeof *watcher, 0);
    *watcher = (struct watcher)WATCHER_INITIALIZER;
    luaL_setmetatable(L, WATCHER_METATABLE);
    int error = watcher_open(watcher, path, (off_t)offset);
    return error ? fault_push(L, error, "cannot watch %s", path) : 1;
}

static int next(lua_State *L)
{
    struct watcher *watcher = check_watcher(L, 1);
    struct watcher_line line;
    int event = watcher_next(watcher, &line);
    switch (event) {
    case WATCHER_NOTHING:
        lua_pushnil(L);
        return 1;
    case WATCHER_LINE:
        lua_pushlstring(L, line.bytes, line.length); /* first: a finalizer may ask for the next line */
        lua_pushliteral(L, "line");
        lua_insert(L, -2);
        lua_pushinteger(L, (lua_Integer)line.offset);
        return 3;
    case WATCHER_TRUNCATED:
        lua_pushliteral(L, "truncated");
        return 1;
    case WATCHER_REPLACED:
        lua_pushliteral(L, "replaced");
        return 1;
    default:
        return fault_push(L, event, "cannot read %s", watcher->path);
    }
}

static int offset_of(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)watcher_offset(check_watcher(L, 1)));
    return 1;
}

static int exists(lua_State *L)
{
    lua_pushboolean(L, watcher_exists(check_watcher(L, 1)));
    return 1;
}

static int close_watcher(lua_State *L)
{
    watcher_close(luaL_checkudata(L, 1, WATCHER_METATABLE));
    return 0;
}

static int watcher_tostring(lua_State *L)
{
    const struct watcher *watcher = luaL_checkudata(L, 1, WATCHER_METATABLE);
    lua_pushfstring(L, "%s (%s)", WATCHER_METATABLE, watcher->path ? watcher->path : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", close_watcher}, {"exists", exists}, {"next", next}, {"offset", offset_of}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", close_watcher},
    {"__gc", close_watcher},
    {"__tostring", watcher_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", open_watcher},
    {NULL, NULL},
};

int luaopen_parley_watcher(lua_State *L)
{
    if (luaL_newmetatable(L, WATCHER_METATABLE)) {
        luaL_setfuncs(L, metamethods, 0);
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    luaL_newlib(L, functions);
    return 1;
}
