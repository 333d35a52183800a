/* The module `sqlite`: a database file. A statement is prepared on first use and kept, under its text, as long as the
 * connection: the texts are the program's own, and few. */
#include "core.h"
#include "fault.h"

#include <errno.h>
#include <lauxlib.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>
#include <uv.h>

#define SQLITE_METATABLE "parley.sqlite"
#define STATEMENT_METATABLE "parley.sqlite.statement"

enum { STATEMENTS = 1 }; /* the connection's user value: text to statement */

/* The connection owns its statements: closing it ends them, whether or not the collector has. While a query runs a
 * finalizer may come along that uses the connection, or closes it: the one is refused, the other waits. */
struct connection {
    sqlite3 *handle;       /* NULL: closed */
    sqlite3_stmt *running; /* between its first step and its reset */
    bool is_busy, is_closing;
};

/* Belongs to the connection of which it is a user value, and is not to be seen from Lua. */
struct statement {
    sqlite3_stmt *handle;
};

static const struct {
    int value;
    const char *name;
} codes[] = {
    {SQLITE_ERROR, "SQLITE_ERROR"},         {SQLITE_INTERNAL, "SQLITE_INTERNAL"},
    {SQLITE_PERM, "SQLITE_PERM"},           {SQLITE_ABORT, "SQLITE_ABORT"},
    {SQLITE_BUSY, "SQLITE_BUSY"},           {SQLITE_LOCKED, "SQLITE_LOCKED"},
    {SQLITE_NOMEM, "SQLITE_NOMEM"},         {SQLITE_READONLY, "SQLITE_READONLY"},
    {SQLITE_INTERRUPT, "SQLITE_INTERRUPT"}, {SQLITE_IOERR, "SQLITE_IOERR"},
    {SQLITE_CORRUPT, "SQLITE_CORRUPT"},     {SQLITE_NOTFOUND, "SQLITE_NOTFOUND"},
    {SQLITE_FULL, "SQLITE_FULL"},           {SQLITE_CANTOPEN, "SQLITE_CANTOPEN"},
    {SQLITE_PROTOCOL, "SQLITE_PROTOCOL"},   {SQLITE_SCHEMA, "SQLITE_SCHEMA"},
    {SQLITE_TOOBIG, "SQLITE_TOOBIG"},       {SQLITE_CONSTRAINT, "SQLITE_CONSTRAINT"},
    {SQLITE_MISMATCH, "SQLITE_MISMATCH"},   {SQLITE_MISUSE, "SQLITE_MISUSE"},
    {SQLITE_NOLFS, "SQLITE_NOLFS"},         {SQLITE_AUTH, "SQLITE_AUTH"},
    {SQLITE_RANGE, "SQLITE_RANGE"},         {SQLITE_NOTADB, "SQLITE_NOTADB"},
};

/* Leaves nil and an error object. What the system said, where it was asked, is the object's `cause`. */
static int push_failure(lua_State *L, sqlite3 *handle, int status, const char *what)
{
    const char *name = "SQLITE_ERROR";
    int system = handle ? sqlite3_system_errno(handle) : 0;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].value == (status & 0xff))
            name = codes[i].name;
    fault_push_code(L, name, "%s: %s", what, handle ? sqlite3_errmsg(handle) : sqlite3_errstr(status));
    int primary = status & 0xff;
    if (system && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN || primary == SQLITE_FULL)) {
        lua_pushstring(L, uv_err_name(-system));
        lua_setfield(L, -2, "cause");
    }
    return 2;
}

static struct connection *check_connection(lua_State *L, int index)
{
    struct connection *connection = luaL_checkudata(L, index, SQLITE_METATABLE);
    luaL_argcheck(L, connection->handle && !connection->is_closing, index, "the database is closed");
    return connection;
}

static struct connection *check_idle(lua_State *L, int index)
{
    struct connection *connection = check_connection(L, index);
    luaL_argcheck(L, !connection->is_busy, index, "the database is in the middle of a query");
    return connection;
}

static const char *check_text(lua_State *L, int index)
{
    size_t length;
    const char *text = luaL_checklstring(L, index, &length);
    luaL_argcheck(L, length > 0 && length == strlen(text), index, "a text without NUL bytes expected");
    return text;
}

static int open_database(lua_State *L)
{
    const char *path = check_text(L, 1);
    lua_Integer timeout = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, timeout >= 0 && timeout <= 3600000, 2, "0 to 3600000 milliseconds expected");

    struct connection *connection = lua_newuserdatauv(L, sizeof *connection, STATEMENTS);
    *connection = (struct connection){NULL, NULL, false, false};
    luaL_setmetatable(L, SQLITE_METATABLE);
    lua_newtable(L);
    lua_setiuservalue(L, -2, STATEMENTS);
    int status = sqlite3_open_v2(path, &connection->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (status == SQLITE_OK)
        status = sqlite3_extended_result_codes(connection->handle, 1);
    if (status == SQLITE_OK)
        status = sqlite3_busy_timeout(connection->handle, (int)timeout);
    if (status == SQLITE_OK)
        return 1;
    push_failure(L, connection->handle, status, path);
    sqlite3_close_v2(connection->handle);
    connection->handle = NULL;
    return 2;
}

/* The statement of the text at index 2 of the connection at 1. NULL: a failure, `*status`, or an empty text. */
static sqlite3_stmt *prepared(lua_State *L, struct connection *connection, int *status)
{
    const char *text = lua_tostring(L, 2), *rest;
    *status = SQLITE_OK;
    lua_getiuservalue(L, 1, STATEMENTS);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        struct statement *statement = lua_newuserdatauv(L, sizeof *statement, 0);
        statement->handle = NULL;
        luaL_setmetatable(L, STATEMENT_METATABLE);
        *status =
            sqlite3_prepare_v3(connection->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &statement->handle, &rest);
        if (!statement->handle)
            return NULL;
        if (rest[strspn(rest, " \n\t;")]) {
            sqlite3_finalize(statement->handle);
            statement->handle = NULL;
            luaL_argerror(L, 2, "one statement expected");
        }
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -2);
        lua_rawset(L, -5);
    }
    struct statement *statement = lua_touserdata(L, -1);
    return statement->handle;
}

/* A string stays where it is until the reset: it stands on the stack meanwhile. */
static int bind_value(lua_State *L, sqlite3_stmt *statement, int place, int index)
{
    size_t length;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return sqlite3_bind_null(statement, place);
    case LUA_TBOOLEAN:
        return sqlite3_bind_int(statement, place, lua_toboolean(L, index));
    case LUA_TNUMBER:
        return lua_isinteger(L, index) ? sqlite3_bind_int64(statement, place, lua_tointeger(L, index))
                                       : sqlite3_bind_double(statement, place, lua_tonumber(L, index));
    default:
        text = lua_tolstring(L, index, &length);
        return sqlite3_bind_text64(statement, place, text, length, SQLITE_STATIC, SQLITE_UTF8);
    }
}

static void push_column(lua_State *L, sqlite3_stmt *statement, int column)
{
    const char *bytes;
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
        lua_pushnil(L);
        break;
    case SQLITE_INTEGER:
        lua_pushinteger(L, sqlite3_column_int64(statement, column));
        break;
    case SQLITE_FLOAT:
        lua_pushnumber(L, sqlite3_column_double(statement, column));
        break;
    default:
        bytes = sqlite3_column_blob(statement, column); /* before its length, which a conversion would change */
        lua_pushlstring(L, bytes ? bytes : "", (size_t)sqlite3_column_bytes(statement, column));
    }
}

/* (connection, text, values …) in, the rows or nil and an error out. Runs protected, see query. */
static int run(lua_State *L)
{
    struct connection *connection = lua_touserdata(L, 1);
    int values = lua_gettop(L) - 2, status;
    sqlite3_stmt *statement = prepared(L, connection, &status);
    if (status != SQLITE_OK)
        return push_failure(L, connection->handle, status, "cannot prepare a statement");
    luaL_argcheck(L, statement && sqlite3_bind_parameter_count(statement) == values, 2,
                  "as many values as the statement has places expected");
    connection->running = statement;
    for (int i = 1; i <= values && status == SQLITE_OK; i++)
        status = bind_value(L, statement, i, i + 2);
    lua_newtable(L);
    lua_Integer count = 0;
    while (status == SQLITE_OK && (status = sqlite3_step(statement)) == SQLITE_ROW) {
        int columns = sqlite3_column_count(statement);
        lua_createtable(L, 0, columns);
        for (int i = 0; i < columns; i++) {
            push_column(L, statement, i);
            lua_setfield(L, -2, sqlite3_column_name(statement, i));
        }
        lua_rawseti(L, -2, ++count);
        status = SQLITE_OK;
    }
    return status == SQLITE_DONE ? 1 : push_failure(L, connection->handle, status, "cannot run a statement");
}

static void end(lua_State *L, struct connection *connection, int index)
{
    if (lua_getiuservalue(L, index, STATEMENTS) == LUA_TTABLE) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            struct statement *statement = lua_touserdata(L, -1);
            sqlite3_finalize(statement->handle);
            statement->handle = NULL;
        }
    }
    lua_pop(L, 1);
    sqlite3_close_v2(connection->handle);
    connection->handle = NULL;
}

/* Whatever fails meanwhile, memory too, the statement is reset: one that is not would hold a lock on the file. */
static int query(lua_State *L)
{
    struct connection *connection = check_idle(L, 1);
    check_text(L, 2);
    for (int i = 3; i <= lua_gettop(L); i++) {
        int type = lua_type(L, i);
        bool fits = type == LUA_TNIL || type == LUA_TBOOLEAN || type == LUA_TNUMBER || type == LUA_TSTRING;
        luaL_argcheck(L, fits, i, "nil, a boolean, a number or a string expected");
    }
    int arguments = lua_gettop(L);
    luaL_checkstack(L, 2, NULL);
    lua_pushcfunction(L, run);
    lua_insert(L, 1);
    lua_pushvalue(L, 2); /* the connection stays on the stack */
    lua_insert(L, 1);
    connection->is_busy = true;
    int outcome = lua_pcall(L, arguments, LUA_MULTRET, 0);
    connection->is_busy = false;
    if (connection->running) {
        sqlite3_reset(connection->running);
        sqlite3_clear_bindings(connection->running);
        connection->running = NULL;
    }
    if (connection->is_closing)
        end(L, connection, 1);
    return outcome == LUA_OK ? lua_gettop(L) - 1 : lua_error(L);
}

static int script(lua_State *L)
{
    const char *text = check_text(L, 2); /* first: a finalizer may close the connection */
    struct connection *connection = check_idle(L, 1);
    int status = sqlite3_exec(connection->handle, text, NULL, NULL, NULL);
    if (status != SQLITE_OK)
        return push_failure(L, connection->handle, status, "cannot run a script");
    lua_pushboolean(L, true);
    return 1;
}

static int in_transaction(lua_State *L)
{
    lua_pushboolean(L, !sqlite3_get_autocommit(check_connection(L, 1)->handle));
    return 1;
}

static int finalize(lua_State *L)
{
    struct statement *statement = lua_touserdata(L, 1);
    sqlite3_finalize(statement->handle);
    statement->handle = NULL;
    return 0;
}

/* At the state's end the collector may have taken the statements before: they finalize themselves then. */
static int close_database(lua_State *L)
{
    struct connection *connection = luaL_checkudata(L, 1, SQLITE_METATABLE);
    if (connection->is_busy)
        connection->is_closing = true;
    else if (connection->handle)
        end(L, connection, 1);
    return 0;
}

static int connection_tostring(lua_State *L)
{
    const struct connection *connection = luaL_checkudata(L, 1, SQLITE_METATABLE);
    const char *path = connection->handle ? sqlite3_db_filename(connection->handle, "main") : "closed";
    lua_pushfstring(L, "%s (%s)", SQLITE_METATABLE, path);
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", close_database}, {"in_transaction", in_transaction}, {"query", query}, {"script", script}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", close_database},
    {"__gc", close_database},
    {"__tostring", connection_tostring},
    {NULL, NULL},
};

static const luaL_Reg statement_metamethods[] = {{"__gc", finalize}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"open", open_database}, {NULL, NULL}};

int luaopen_parley_sqlite(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    core_class(L, SQLITE_METATABLE, metamethods, methods);
    core_class(L, STATEMENT_METATABLE, statement_metamethods, none);
    luaL_newlib(L, functions);
    return 1;
}
