/* The module `uuid`: random UUIDs (version 4) from libuuid. */
#include "core.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>
#include <uuid/uuid.h>

static int generate(lua_State *L)
{
    uuid_t id;
    char text[UUID_STR_LEN];
    uuid_generate_random(id);
    uuid_unparse_lower(id, text);
    lua_pushstring(L, text);
    return 1;
}

/* Stricter than uuid_parse, which lets white space through in some versions and knows no length. */
static int is_valid(lua_State *L)
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    luaL_checkany(L, 1);
    size_t length = 0;
    const char *text = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &length) : "";
    bool fits = length == strlen(shape);
    for (size_t i = 0; fits && i < length; i++)
        fits = shape[i] == '-' ? text[i] == '-' : isxdigit((unsigned char)text[i]) != 0;
    lua_pushboolean(L, fits);
    return 1;
}

static const luaL_Reg functions[] = {
    {"generate", generate},
    {"is_valid", is_valid},
    {NULL, NULL},
};

int luaopen_parley_uuid(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
