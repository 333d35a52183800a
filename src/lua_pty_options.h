/* What pty.spawn takes from Lua, checked. */
#ifndef PARLEY_LUA_PTY_OPTIONS_H
#define PARLEY_LUA_PTY_OPTIONS_H

#include "pty.h"

#include <lua.h>

/* The table at index 1 as options. They point into what this leaves on the stack. Raises an error that names the
 * option. */
struct pty_options pty_check_options(lua_State *L);

/* The value at `index`, an integer that fits struct winsize. Raises an error about the argument `argument`. */
unsigned short pty_check_dimension(lua_State *L, int index, int argument, const char *name);

#endif
