/* Error objects made in C. */
#include "fault.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdarg.h>
#include <stdbool.h>
#include <uv.h>

static int fault_tostring(lua_State *L)
{
    lua_getfield(L, 1, "code");
    lua_getfield(L, 1, "message");
    lua_pushfstring(L, "%s: %s", luaL_optstring(L, -2, "error"), luaL_optstring(L, -1, ""));
    return 1;
}

void fault_push_metatable(lua_State *L)
{
    if (luaL_newmetatable(L, FAULT_METATABLE)) {
        lua_pushcfunction(L, fault_tostring);
        lua_setfield(L, -2, "__tostring");
    }
}

/* Expects the message on top; leaves nil and the error object. */
static int finish(lua_State *L, const char *code)
{
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    fault_push_metatable(L);
    lua_setmetatable(L, -2);
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

int fault_push(lua_State *L, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    lua_pushvfstring(L, format, arguments);
    va_end(arguments);
    bool is_no_program = error == -ENOEXEC; /* libuv has no name for it */
    lua_pushfstring(L, ": %s", is_no_program ? "not a program of this machine" : uv_strerror(error));
    lua_concat(L, 2);
    return finish(L, is_no_program ? "ENOEXEC" : uv_err_name(error));
}

int fault_push_code(lua_State *L, const char *code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    lua_pushvfstring(L, format, arguments);
    va_end(arguments);
    return finish(L, code);
}
