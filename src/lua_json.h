/* What the two halves of the module `json` share: lua_json.c decodes, lua_json_encode.c encodes. */
#ifndef PARLEY_LUA_JSON_H
#define PARLEY_LUA_JSON_H

#include <lua.h>
#include <stdbool.h>

#define JSON_ARRAY_METATABLE "parley.json.array"
#define JSON_NULL "parley.json.null" /* the registry's key of the one null */

#define JSON_DEPTH_DEFAULT 512

/* The upvalues of decode and encode, so that no value costs a look-up in the registry. */
#define JSON_NULL_INDEX lua_upvalueindex(1)
#define JSON_ARRAY_INDEX lua_upvalueindex(2)

/* encode(value, options?) */
int json_encode(lua_State *L);

/* The checks of an option table at a positive index. They raise, naming the option. `names` ends with NULL. */
void json_check_names(lua_State *L, int options, const char *const names[]);
int json_check_depth(lua_State *L, int options);
bool json_check_flag(lua_State *L, int options, const char *name);

#endif
