/* The module `tail`: tail.c for Lua. The waiting, with luv, is in lua/parley/claude/tail.lua. */
#include "tail.h"

#include "core.h"
#include "fault.h"

#include <lauxlib.h>
#include <string.h>

#define TAIL_METATABLE "parley.tail"

static struct tail *check_tail(lua_State *L, int index)
{
    struct tail *tail = luaL_checkudata(L, index, TAIL_METATABLE);
    luaL_argcheck(L, tail->path, index, "the tail is closed");
    return tail;
}

static int open_tail(lua_State *L)
{
    size_t length;
    const char *path = luaL_checklstring(L, 1, &length);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, length > 0 && length == strlen(path), 1, "a path without NUL bytes expected");
    luaL_argcheck(L, offset >= 0, 2, "an offset cannot be negative");

    struct tail *tail = lua_newuserdatauv(L, sizeof *tail, 0);
    *tail = (struct tail)TAIL_INITIALIZER;
    luaL_setmetatable(L, TAIL_METATABLE);
    int error = tail_open(tail, path, (off_t)offset);
    return error ? fault_push(L, error, "cannot watch %s", path) : 1;
}

static int next(lua_State *L)
{
    struct tail *tail = check_tail(L, 1);
    struct tail_line line;
    int event = tail_next(tail, &line);
    switch (event) {
    case TAIL_NOTHING:
        lua_pushnil(L);
        return 1;
    case TAIL_LINE:
        lua_pushlstring(L, line.bytes, line.length); /* first: a finalizer may ask for the next line */
        lua_pushliteral(L, "line");
        lua_insert(L, -2);
        lua_pushinteger(L, (lua_Integer)line.offset);
        return 3;
    case TAIL_TRUNCATED:
        lua_pushliteral(L, "truncated");
        return 1;
    case TAIL_REPLACED:
        lua_pushliteral(L, "replaced");
        return 1;
    default:
        return fault_push(L, event, "cannot read %s", tail->path);
    }
}

static int offset_of(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)tail_offset(check_tail(L, 1)));
    return 1;
}

static int held(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)tail_held(check_tail(L, 1)));
    return 1;
}

static int exists(lua_State *L)
{
    lua_pushboolean(L, tail_exists(check_tail(L, 1)));
    return 1;
}

static int close_tail(lua_State *L)
{
    tail_close(luaL_checkudata(L, 1, TAIL_METATABLE));
    return 0;
}

static int tail_tostring(lua_State *L)
{
    const struct tail *tail = luaL_checkudata(L, 1, TAIL_METATABLE);
    lua_pushfstring(L, "%s (%s)", TAIL_METATABLE, tail->path ? tail->path : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", close_tail}, {"exists", exists}, {"held", held}, {"next", next}, {"offset", offset_of}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", close_tail},
    {"__gc", close_tail},
    {"__tostring", tail_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", open_tail},
    {NULL, NULL},
};

int luaopen_parley_tail(lua_State *L)
{
    core_class(L, TAIL_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
