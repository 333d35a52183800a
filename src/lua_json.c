/* The module `json`: JSON to Lua. cJSON makes the tree, json_text.c sees to it that nothing is lost on the way, and
 * this file turns the tree into tables. The way back is in lua_json_encode.c. */
#include "lua_json.h"

#include "core.h"
#include "fault.h"
#include "json_text.h"

#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>
#include <uv.h>

#define TREE_METATABLE "parley.json.tree"

/* How a tree is to be read, and the first thing in it that a strict reading refuses. */
struct reading {
    bool has_nul, is_strict;
    const char *fault; /* a format for `culprit`, static; NULL while all is well */
    const char *culprit;
};

static void push_value(lua_State *L, const cJSON *item, struct reading *reading);

static void refuse(struct reading *reading, const char *fault, const char *culprit)
{
    if (reading->is_strict && !reading->fault) {
        reading->fault = fault;
        reading->culprit = culprit;
    }
}

static int tree_gc(lua_State *L)
{
    cJSON **tree = luaL_checkudata(L, 1, TREE_METATABLE);
    cJSON_Delete(*tree);
    *tree = NULL;
    return 0;
}

/* A string in which JSON_NUL_MARK stands for NUL. */
static void push_marked(lua_State *L, const char *bytes, size_t length)
{
    luaL_Buffer buffer;
    char *copy = luaL_buffinitsize(L, &buffer, length);
    memcpy(copy, bytes, length);
    for (char *mark = copy; (mark = memchr(mark, (unsigned char)JSON_NUL_MARK, length - (size_t)(mark - copy)));)
        *mark = '\0';
    luaL_pushresultsize(&buffer, length);
}

static void push_string(lua_State *L, const char *bytes, bool has_nul)
{
    size_t length = strlen(bytes);
    if (has_nul && memchr(bytes, (unsigned char)JSON_NUL_MARK, length))
        push_marked(L, bytes, length);
    else
        lua_pushlstring(L, bytes, length);
}

/* Lua reads a number by the rules promised here: an integer exactly while it fits 64 bits, anything else as a float. */
static void push_number(lua_State *L, const char *digits, struct reading *reading)
{
    if (!lua_stringtonumber(L, digits))
        luaL_error(L, "no number in this locale: %s", digits);
    if (isinf(lua_tonumber(L, -1)))
        refuse(reading, "the number %s is too large", digits);
}

static void push_array(lua_State *L, const cJSON *array, struct reading *reading)
{
    lua_createtable(L, cJSON_GetArraySize(array), 0);
    lua_Integer index = 0;
    for (const cJSON *item = array->child; item; item = item->next) {
        push_value(L, item, reading);
        lua_rawseti(L, -2, ++index);
    }
    lua_pushvalue(L, JSON_ARRAY_INDEX);
    lua_setmetatable(L, -2);
}

static bool has_key(lua_State *L)
{
    lua_pushvalue(L, -1);
    bool is_there = lua_rawget(L, -3) != LUA_TNIL;
    lua_pop(L, 1);
    return is_there;
}

/* A key that comes twice overwrites: the last one wins, as in JavaScript. */
static void push_object(lua_State *L, const cJSON *object, struct reading *reading)
{
    lua_createtable(L, 0, cJSON_GetArraySize(object));
    for (const cJSON *item = object->child; item; item = item->next) {
        push_string(L, item->string, reading->has_nul);
        if (reading->is_strict && has_key(L))
            refuse(reading, "the key \"%s\" comes twice", item->string);
        push_value(L, item, reading);
        lua_rawset(L, -3);
    }
}

/* Recursion is bounded by the depth that json_text_prepare let through. */
static void push_value(lua_State *L, const cJSON *item, struct reading *reading)
{
    luaL_checkstack(L, 4, "JSON nested too deep");
    switch (item->type & 0xFF) {
    case cJSON_False:
    case cJSON_True:
        lua_pushboolean(L, cJSON_IsTrue(item));
        break;
    case cJSON_Number:
        lua_pushinteger(L, (lua_Integer)item->valuedouble);
        break;
    case cJSON_String:
        if (*item->valuestring == JSON_NUMBER_MARK)
            push_number(L, item->valuestring + 1, reading);
        else
            push_string(L, item->valuestring, reading->has_nul);
        break;
    case cJSON_Array:
        push_array(L, item, reading);
        break;
    case cJSON_Object:
        push_object(L, item, reading);
        break;
    default:
        lua_pushvalue(L, JSON_NULL_INDEX);
        break;
    }
}

/* What the tree has of the text is not all the user's: a mark shows as what it stands for. */
static int push_refusal(lua_State *L, const struct reading *reading)
{
    static const char mark[] = {JSON_NUL_MARK, '\0'};
    const char *culprit = luaL_gsub(L, reading->culprit, mark, "\\u0000");
    return fault_push_code(L, "EJSON", reading->fault, culprit);
}

static int push_fault(lua_State *L, const struct json_text *text)
{
    int count = fault_push_code(L, "EJSON", "%s at byte %I", text->fault, (LUAI_UACINT)text->offset);
    lua_pushinteger(L, (lua_Integer)text->offset);
    lua_setfield(L, -2, "offset");
    return count;
}

int json_check_depth(lua_State *L, int options)
{
    if (lua_getfield(L, options, "depth") == LUA_TNIL) {
        lua_pop(L, 1);
        return JSON_DEPTH_DEFAULT;
    }
    int is_integer;
    lua_Integer depth = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || lua_type(L, -1) != LUA_TNUMBER || depth < 1 || depth > JSON_DEPTH_MAX)
        luaL_error(L, "option `depth` must be an integer from 1 to %d", JSON_DEPTH_MAX);
    lua_pop(L, 1);
    return (int)depth;
}

bool json_check_flag(lua_State *L, int options, const char *name)
{
    int type = lua_getfield(L, options, name);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        luaL_error(L, "option `%s` must be a boolean", name);
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

void json_check_names(lua_State *L, int options, const char *const names[])
{
    const char *unknown = core_unknown_option(L, options, names);
    if (unknown)
        luaL_error(L, "unknown option `%s`", unknown);
}

static int json_decode(lua_State *L)
{
    static const char *const option_names[] = {"depth", "strict", NULL};
    size_t length;
    const char *source = luaL_checklstring(L, 1, &length);
    bool has_options = !lua_isnoneornil(L, 2);
    if (has_options)
        json_check_names(L, 2, option_names);
    int depth = has_options ? json_check_depth(L, 2) : JSON_DEPTH_DEFAULT;
    bool strict = has_options && json_check_flag(L, 2, "strict");

    cJSON **tree = lua_newuserdatauv(L, sizeof *tree, 0);
    *tree = NULL;
    luaL_setmetatable(L, TREE_METATABLE);

    /* From here to the release no call into Lua, which could raise and leave the rewritten text behind. */
    struct json_text text;
    int error = json_text_prepare(&text, source, length, depth, strict);
    if (!error) {
        *tree = cJSON_ParseWithLengthOpts(text.bytes, text.length + 1, NULL, true);
        error = *tree ? 0 : UV_ENOMEM; /* nothing else is left that it could refuse */
    }
    json_text_release(&text);

    if (error == UV_EINVAL)
        return push_fault(L, &text);
    if (error)
        return fault_push(L, error, "cannot decode %I bytes of JSON", (LUAI_UACINT)length);
    struct reading reading = {.has_nul = text.has_nul, .is_strict = strict};
    push_value(L, *tree, &reading);
    int count = reading.fault ? push_refusal(L, &reading) : 1;
    cJSON_Delete(*tree);
    *tree = NULL;
    return count;
}

static int json_array(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_setmetatable(L, JSON_ARRAY_METATABLE);
    return 1;
}

static int json_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    luaL_getmetatable(L, JSON_ARRAY_METATABLE);
    lua_pushboolean(L, lua_istable(L, 1) && lua_getmetatable(L, 1) && lua_rawequal(L, -1, -2));
    return 1;
}

static int null_tostring(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

/* One null a state, however often the module is opened: the registry keeps it beside its metatable. */
static void push_null(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, JSON_NULL) == LUA_TUSERDATA)
        return;
    lua_pop(L, 1);
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, JSON_NULL);
    lua_setfield(L, -2, "__name");
    lua_pushcfunction(L, null_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, JSON_NULL);
}

static const luaL_Reg functions[] = {
    {"array", json_array},
    {"is_array", json_is_array},
    {NULL, NULL},
};

int luaopen_parley_json(lua_State *L)
{
    if (luaL_newmetatable(L, TREE_METATABLE)) {
        lua_pushcfunction(L, tree_gc);
        lua_setfield(L, -2, "__gc");
    }
    luaL_newlib(L, functions);
    push_null(L);
    lua_setfield(L, -2, "null");
    luaL_newmetatable(L, JSON_ARRAY_METATABLE);
    lua_setfield(L, -2, "array_metatable");

    lua_getfield(L, -1, "null");
    lua_getfield(L, -2, "array_metatable");
    lua_pushcclosure(L, json_decode, 2);
    lua_setfield(L, -2, "decode");
    lua_getfield(L, -1, "null");
    lua_getfield(L, -2, "array_metatable");
    lua_pushcclosure(L, json_encode, 2);
    lua_setfield(L, -2, "encode");
    return 1;
}
