/* How a primitive reports what failed in the world: nil and an error object that Lua code branches on by `code`. */
#ifndef PARLEY_FAULT_H
#define PARLEY_FAULT_H

#include <lua.h>

/* The metatable's name, shared with lua/parley/base/errors.lua. */
#define FAULT_METATABLE "parley.error"

/* Pushes the metatable of error objects, made on first use. Owner: the registry. */
void fault_push_metatable(lua_State *L);

/* Pushes nil and {code = "ENOENT", message = …}, and returns 2. `error` is a negative UV_E* value; `format` and what
 * follows are lua_pushfstring's, a sentence that says what was tried. The system's own words are appended. */
int fault_push(lua_State *L, int error, const char *format, ...);

/* The same for a failure that has no UV_E* value: `code` is Parley's own word. */
int fault_push_code(lua_State *L, const char *code, const char *format, ...);

#endif
