/* The module `parley.core`: every primitive under its noun. */
#include "core.h"

#include "fault.h"

#include <string.h>

static const luaL_Reg submodules[] = {
    {"digest", luaopen_parley_digest},     {"http", luaopen_parley_http},     {"json", luaopen_parley_json},
    {"line", luaopen_parley_line},         {"lock", luaopen_parley_lock},     {"proc", luaopen_parley_proc},
    {"pty", luaopen_parley_pty},           {"screen", luaopen_parley_screen}, {"sqlite", luaopen_parley_sqlite},
    {"survivor", luaopen_parley_survivor}, {"tail", luaopen_parley_tail},     {"text", luaopen_parley_text},
    {"turn", luaopen_parley_turn},         {"uuid", luaopen_parley_uuid},     {NULL, NULL},
};

void core_class(lua_State *L, const char *metatable, const luaL_Reg *metamethods, const luaL_Reg *methods)
{
    if (luaL_newmetatable(L, metatable)) {
        luaL_setfuncs(L, metamethods, 0);
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

const char *core_unknown_option(lua_State *L, int options, const char *const names[])
{
    luaL_checktype(L, options, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, options); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        const char *const *known = names;
        while (*known && strcmp(*known, name) != 0)
            known++;
        if (!*known)
            return name;
    }
    return NULL;
}

LUALIB_API int luaopen_parley_core(lua_State *L)
{
    lua_newtable(L);
    for (const luaL_Reg *module = submodules; module->name; module++) {
        lua_pushcfunction(L, module->func);
        lua_call(L, 0, 1);
        lua_setfield(L, -2, module->name);
    }
    fault_push_metatable(L);
    lua_setfield(L, -2, "error_metatable");
    return 1;
}
