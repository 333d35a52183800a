/* For the harnesses whose promise is told in Lua: a file that returns a function of the input, which raises. */
#ifndef PARLEY_FUZZ_LUA_H
#define PARLEY_FUZZ_LUA_H

#include "core.h"
#include "fuzz.h"

#include <lauxlib.h>
#include <lualib.h>

static inline void fuzz_lua_check(lua_State *L, int error)
{
    fuzz_require(!error, error ? lua_tostring(L, -1) : NULL);
}

/* A state with the modules of Parley, and the function that `path`, from the repository's top, returns at index 1. */
static inline lua_State *fuzz_lua_open(const char *path)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    luaL_requiref(L, "parley.core", luaopen_parley_core, 0);
    fuzz_lua_check(L, luaL_dostring(L, "package.path = 'lua/?.lua;lua/?/init.lua'"));
    lua_settop(L, 0);
    fuzz_lua_check(L, luaL_dofile(L, path));
    return L;
}

static inline void fuzz_lua_call(lua_State *L, const uint8_t *data, size_t size)
{
    lua_pushvalue(L, 1);
    lua_pushlstring(L, (const char *)data, size);
    fuzz_lua_check(L, lua_pcall(L, 1, 0, 0));
}

#endif
