/* The primitives' entry points. Each opens one submodule and leaves its table on the stack; all are repeatable. */
#ifndef PARLEY_CORE_H
#define PARLEY_CORE_H

#include <lua.h>

int luaopen_parley_core(lua_State *L);

int luaopen_parley_digest(lua_State *L);
int luaopen_parley_http(lua_State *L);
int luaopen_parley_json(lua_State *L);
int luaopen_parley_line(lua_State *L);
int luaopen_parley_pty(lua_State *L);
int luaopen_parley_screen(lua_State *L);
int luaopen_parley_survivor(lua_State *L);
int luaopen_parley_text(lua_State *L);
int luaopen_parley_turn(lua_State *L);
int luaopen_parley_uuid(lua_State *L);
int luaopen_parley_watcher(lua_State *L);

#endif
