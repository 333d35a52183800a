/* The primitives' entry points, and what their faces share. Each opener leaves its submodule's table on the stack; all
 * are repeatable. */
#ifndef PARLEY_CORE_H
#define PARLEY_CORE_H

#include <lauxlib.h>
#include <lua.h>

int luaopen_parley_core(lua_State *L);

int luaopen_parley_digest(lua_State *L);
int luaopen_parley_http(lua_State *L);
int luaopen_parley_json(lua_State *L);
int luaopen_parley_line(lua_State *L);
int luaopen_parley_lock(lua_State *L);
int luaopen_parley_proc(lua_State *L);
int luaopen_parley_pty(lua_State *L);
int luaopen_parley_screen(lua_State *L);
int luaopen_parley_sqlite(lua_State *L);
int luaopen_parley_survivor(lua_State *L);
int luaopen_parley_tail(lua_State *L);
int luaopen_parley_text(lua_State *L);
int luaopen_parley_turn(lua_State *L);
int luaopen_parley_uuid(lua_State *L);

/* Makes the metatable of a kind of userdata on first use. Both lists end with {NULL, NULL}. */
void core_class(lua_State *L, const char *metatable, const luaL_Reg *metamethods, const luaL_Reg *methods);

/* The first name in the option table at a positive index that is not among `names`, which end with NULL; for a key
 * that is no string its type. NULL when all are known. The name is kept by what this leaves on the stack. */
const char *core_unknown_option(lua_State *L, int options, const char *const names[]);

#endif
