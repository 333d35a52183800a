/* The module `parley.core`: every primitive under its noun. */
#include "core.h"

#include "fault.h"

#include <lauxlib.h>

static const luaL_Reg submodules[] = {
    {"digest", luaopen_parley_digest},     {"http", luaopen_parley_http},       {"json", luaopen_parley_json},
    {"line", luaopen_parley_line},         {"pty", luaopen_parley_pty},         {"screen", luaopen_parley_screen},
    {"survivor", luaopen_parley_survivor}, {"text", luaopen_parley_text},       {"turn", luaopen_parley_turn},
    {"uuid", luaopen_parley_uuid},         {"watcher", luaopen_parley_watcher}, {NULL, NULL},
};

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
