/* Unicode text: normalisation, by utf8proc. */
#include "core.h"

#include "fault.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <utf8proc.h>
#include <uv.h>

/* (pointer, length) in, a string out; runs in protected mode. */
static int push_bytes(lua_State *L)
{
    lua_pushlstring(L, lua_touserdata(L, 1), (size_t)lua_tointeger(L, 2));
    return 1;
}

/* text.nfc(s) returns the canonical composition of valid UTF-8, or nil and an error object (EILSEQ). */
static int text_nfc(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)length, &composed,
                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size < 0)
        return fault_push(L, size == UTF8PROC_ERROR_NOMEM ? UV_ENOMEM : UV_EILSEQ, "the text cannot be normalised");
    lua_pushcfunction(L, push_bytes); /* may raise for want of memory: `composed` is freed all the same */
    lua_pushlightuserdata(L, composed);
    lua_pushinteger(L, size);
    int status = lua_pcall(L, 2, 1, 0);
    free(composed);
    return status == LUA_OK ? 1 : lua_error(L);
}

static const luaL_Reg functions[] = {
    {"nfc", text_nfc},
    {NULL, NULL},
};

int luaopen_parley_text(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
