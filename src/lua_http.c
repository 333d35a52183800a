/* The module `http`: http.c for Lua. The sockets, with luv, are in lua/parley/base/http.lua. */
#include "http.h"

#include "core.h"
#include "fault.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#define HTTP_METATABLE "parley.http"

static struct http *check_http(lua_State *L)
{
    return luaL_checkudata(L, 1, HTTP_METATABLE);
}

/* http.new(head_limit, header_limit) */
static int new_parser(lua_State *L)
{
    lua_Integer head = luaL_checkinteger(L, 1), fields = luaL_checkinteger(L, 2);
    luaL_argcheck(L, head > 0, 1, "a positive number of bytes expected");
    luaL_argcheck(L, fields > 0, 2, "a positive number of headers expected");
    struct http *http = lua_newuserdatauv(L, sizeof *http, 0);
    http_init(http, (size_t)head, (size_t)fields);
    luaL_setmetatable(L, HTTP_METATABLE);
    return 1;
}

/* parser:feed(bytes, from?) returns event, next, body. */
static int feed(lua_State *L)
{
    static const char *const names[] = {[HTTP_READ_MORE] = "more", [HTTP_READ_HEAD] = "head", [HTTP_READ_END] = "end"};
    struct http *http = check_http(L);
    size_t length, used;
    const char *bytes = luaL_checklstring(L, 2, &length);
    lua_Integer from = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, from >= 1 && (size_t)from <= length + 1, 3, "out of range");
    int event = http_feed(http, bytes + from - 1, length - (size_t)from + 1, &used);
    if (event == UV_EPROTO) {
        fault_push_code(L, "EPROTO", "%s", http->problem);
        lua_pushinteger(L, http->status);
        lua_setfield(L, -2, "status");
        return 2;
    }
    if (event < 0)
        return fault_push(L, event, "cannot read the request");
    bool has_body = http->body.length > 0;
    if (has_body) /* first: a finalizer, at the next string, may feed or close the parser */
        lua_pushlstring(L, http->body.bytes, http->body.length);
    lua_pushstring(L, names[event]);
    lua_pushinteger(L, from + (lua_Integer)used);
    if (has_body)
        lua_rotate(L, -3, 2);
    return 2 + has_body;
}

/* Pushes the value; behind that of the same name before it, which is at the top of the stack. */
static void push_value(lua_State *L, const struct http *http, const struct http_field *field)
{
    const char *bytes = http->head.bytes;
    bool is_first = lua_isnil(L, -1);
    if (is_first)
        lua_pop(L, 1);
    else
        lua_pushliteral(L, ", ");
    lua_pushlstring(L, bytes + field->value, field->value_length);
    if (!is_first)
        lua_concat(L, 3);
}

static void push_headers(lua_State *L, const struct http *http)
{
    const char *bytes = http->head.bytes;
    lua_createtable(L, 0, (int)http->field_count);
    for (size_t i = 0; i < http->field_count; i++) {
        const struct http_field *field = &http->fields[i];
        lua_pushlstring(L, bytes + field->name, field->name_length);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        push_value(L, http, field);
        lua_rawset(L, -3);
    }
}

static const struct http *check_head(lua_State *L)
{
    const struct http *http = check_http(L);
    if (!http->is_head_done || http->error)
        luaL_error(L, "the head of a request is there only after the event 'head'");
    return http;
}

/* A copy, in a userdata on top of the stack: a finalizer may feed or close the parser while strings are made. */
static const struct http *copy_head(lua_State *L)
{
    const struct http *http = check_head(L);
    size_t fields = http->field_count * sizeof *http->fields, text = http->head.length;
    struct http *copy = lua_newuserdatauv(L, sizeof *copy + fields + text, 0);
    http = check_head(L);
    if (fields != http->field_count * sizeof *http->fields || text != http->head.length)
        luaL_error(L, "another request was read meanwhile");
    *copy = *http;
    copy->fields = (struct http_field *)(copy + 1);
    copy->head.bytes = (char *)copy->fields + fields;
    if (fields)
        memcpy(copy->fields, http->fields, fields);
    if (text)
        memcpy(copy->head.bytes, http->head.bytes, text);
    return copy;
}

/* parser:head() */
static int head(lua_State *L)
{
    const struct http *http = copy_head(L);
    const llhttp_t *parser = &http->parser;
    lua_createtable(L, 0, 7);
    lua_pushstring(L, llhttp_method_name((enum llhttp_method)parser->method));
    lua_setfield(L, -2, "method");
    lua_pushlstring(L, http->head.bytes, http->target_length);
    lua_setfield(L, -2, "target");
    lua_pushinteger(L, parser->http_minor);
    lua_setfield(L, -2, "minor");
    lua_pushboolean(L, llhttp_should_keep_alive(parser));
    lua_setfield(L, -2, "keeps_alive");
    lua_pushboolean(L, http->is_chunked);
    lua_setfield(L, -2, "chunked");
    if (!http->is_chunked) {
        lua_pushinteger(L, parser->flags & F_CONTENT_LENGTH ? (lua_Integer)parser->content_length : 0);
        lua_setfield(L, -2, "length");
    }
    push_headers(L, http);
    lua_setfield(L, -2, "headers");
    return 1;
}

static int close_parser(lua_State *L)
{
    http_free(check_http(L));
    return 0;
}

static int parser_tostring(lua_State *L)
{
    const struct http *http = check_http(L);
    lua_pushfstring(L, "%s (%s)", HTTP_METATABLE, http->error ? http->problem : "reading");
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", close_parser},
    {"feed", feed},
    {"head", head},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", close_parser},
    {"__gc", close_parser},
    {"__tostring", parser_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"new", new_parser},
    {NULL, NULL},
};

int luaopen_parley_http(lua_State *L)
{
    core_class(L, HTTP_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
