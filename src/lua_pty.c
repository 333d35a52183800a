/* Lua's face of pty.h: the table `parley.core`.pty. lua/parley/core/pty.lua documents every function. */
#include "core.h"
#include "fault.h"
#include "lua_pty_options.h"
#include "pty.h"

#include <lauxlib.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define PTY_METATABLE "parley.pty"
#define UNREAPED "parley.pty.unreaped" /* in the registry: the pids whose pty was collected before they died */

enum { NAME_SIZE = 16 };

static struct pty *to_pty(lua_State *L, int index)
{
    return luaL_checkudata(L, index, PTY_METATABLE);
}

static struct pty *check_pty(lua_State *L, int index)
{
    struct pty *pty = to_pty(L, index);
    luaL_argcheck(L, pty->master >= 0, index, "the pty is closed");
    return pty;
}

static int push_spawn_fault(lua_State *L, int error, enum pty_step step, const struct pty_options *options)
{
    static const char *const steps[] = {"open", "fork", "terminal", "chdir", "exec"};
    if (step == PTY_EXEC)
        fault_push(L, error, "cannot execute '%s'", options->argv[0]);
    else if (step == PTY_CHDIR)
        fault_push(L, error, "cannot enter the folder '%s'", options->cwd);
    else
        fault_push(L, error, step == PTY_FORK ? "cannot start a process" : "cannot open a pseudo-terminal");
    lua_pushstring(L, steps[step]);
    lua_setfield(L, -2, "step");
    lua_pushstring(L, options->argv[0]);
    lua_setfield(L, -2, "executable");
    lua_pushstring(L, options->cwd);
    lua_setfield(L, -2, "cwd");
    return 2;
}

/* Reaps what the collector had to leave behind, and forgets it. */
static void reap_unreaped(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, UNREAPED);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        struct pty orphan = {.master = -1, .pid = (pid_t)lua_tointeger(L, -2), .state = PTY_RUNNING};
        if (pty_poll(&orphan) == PTY_RUNNING)
            continue;
        lua_pushvalue(L, -2);
        lua_pushnil(L);
        lua_rawset(L, -5);
    }
    lua_pop(L, 1);
}

static int lua_pty_spawn(lua_State *L)
{
    struct pty_options options = pty_check_options(L);
    enum pty_step step;

    reap_unreaped(L);
    struct pty *pty = lua_newuserdatauv(L, sizeof *pty, 0);
    *pty = (struct pty){.master = -1};
    luaL_setmetatable(L, PTY_METATABLE);
    int error = pty_spawn(pty, &options, &step);
    return error ? push_spawn_fault(L, error, step, &options) : 1;
}

static int lua_pty_pid(lua_State *L)
{
    lua_pushinteger(L, to_pty(L, 1)->pid);
    return 1;
}

static int lua_pty_descriptor(lua_State *L)
{
    lua_pushinteger(L, check_pty(L, 1)->master);
    return 1;
}

static int lua_pty_duplicate(lua_State *L)
{
    int descriptor = pty_duplicate(check_pty(L, 1));
    if (descriptor < 0)
        return fault_push(L, descriptor, "cannot duplicate the terminal's descriptor");
    lua_pushinteger(L, descriptor);
    return 1;
}

static int lua_pty_resize(lua_State *L)
{
    const struct pty *pty = check_pty(L, 1);
    unsigned short rows = pty_check_dimension(L, 2, 2, "rows");
    unsigned short columns = pty_check_dimension(L, 3, 3, "columns");
    int error = pty_resize(pty, rows, columns);
    if (error)
        return fault_push(L, error, "cannot resize the terminal");
    lua_pushboolean(L, 1);
    return 1;
}

static int lua_pty_size(lua_State *L)
{
    unsigned short rows, columns;
    int error = pty_size(check_pty(L, 1), &rows, &columns);
    if (error)
        return fault_push(L, error, "cannot read the terminal's size");
    lua_pushinteger(L, rows);
    lua_pushinteger(L, columns);
    return 2;
}

static int lua_pty_read(lua_State *L)
{
    const struct pty *pty = check_pty(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, BUFSIZ);
    luaL_argcheck(L, max > 0 && max <= INT_MAX, 2, "must be positive");
    luaL_Buffer buffer;
    ssize_t got = pty_read(pty, luaL_buffinitsize(L, &buffer, (size_t)max), (size_t)max);
    if (got < 0)
        return fault_push(L, (int)got, "cannot read from the terminal");
    luaL_pushresultsize(&buffer, (size_t)got);
    return 1;
}

static int lua_pty_write(lua_State *L)
{
    size_t length;
    const struct pty *pty = check_pty(L, 1);
    const char *bytes = luaL_checklstring(L, 2, &length);
    ssize_t put = pty_write(pty, bytes, length);
    if (put < 0)
        return fault_push(L, (int)put, "cannot write to the terminal");
    lua_pushinteger(L, put);
    return 1;
}

/* "SIGTERM" for 15; real-time signals have no name in C and become "SIG34". */
static void name_signal(int signal, char name[NAME_SIZE])
{
    const char *abbreviation = sigabbrev_np(signal);
    if (abbreviation)
        snprintf(name, NAME_SIZE, "SIG%s", abbreviation);
    else
        snprintf(name, NAME_SIZE, "SIG%d", signal);
}

static int check_signal(lua_State *L, int index)
{
    char name[NAME_SIZE];
    if (lua_type(L, index) == LUA_TNUMBER) {
        lua_Integer number = luaL_checkinteger(L, index);
        luaL_argcheck(L, number >= 0 && number < NSIG, index, "not a signal's number");
        return (int)number;
    }
    const char *wanted = luaL_checkstring(L, index);
    for (int signal = 1; signal < NSIG; signal++) {
        name_signal(signal, name);
        if (!strcmp(name, wanted))
            return signal;
    }
    return luaL_argerror(L, index, lua_pushfstring(L, "unknown signal '%s'", wanted));
}

static int lua_pty_signal(lua_State *L)
{
    struct pty *pty = to_pty(L, 1);
    int signal = check_signal(L, 2);
    int error = pty_signal(pty, signal);
    if (error)
        return fault_push(L, error, "cannot signal process group %d", (int)pty->pid);
    lua_pushboolean(L, 1);
    return 1;
}

static int lua_pty_poll_exit(lua_State *L)
{
    struct pty *pty = to_pty(L, 1);
    char name[NAME_SIZE];

    switch (pty_poll(pty)) {
    case PTY_NONE:
    case PTY_RUNNING:
        lua_pushnil(L);
        return 1;
    case PTY_LOST:
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "ECHILD");
        lua_setfield(L, -2, "error");
        return 1;
    case PTY_EXITED:
        break;
    }
    lua_createtable(L, 0, 2);
    if (WIFEXITED(pty->status)) {
        lua_pushinteger(L, WEXITSTATUS(pty->status));
        lua_setfield(L, -2, "exit_code");
        return 1;
    }
    name_signal(WTERMSIG(pty->status), name);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "signal");
    lua_pushinteger(L, WTERMSIG(pty->status));
    lua_setfield(L, -2, "signal_number");
    return 1;
}

static int lua_pty_hang_up(lua_State *L)
{
    pty_hang_up(to_pty(L, 1));
    return 0;
}

/* A child that the kernel still ends stays for poll_exit, or for the collector. */
static int lua_pty_close(lua_State *L)
{
    lua_pushboolean(L, pty_close(to_pty(L, 1)) == 0);
    return 1;
}

static int lua_pty_gc(lua_State *L)
{
    struct pty *pty = to_pty(L, 1);
    reap_unreaped(L);
    if (pty_close(pty)) {
        luaL_getsubtable(L, LUA_REGISTRYINDEX, UNREAPED);
        lua_pushboolean(L, 1);
        lua_rawseti(L, -2, pty->pid);
    }
    return 0;
}

static int lua_pty_tostring(lua_State *L)
{
    const struct pty *pty = to_pty(L, 1);
    lua_pushfstring(L, "%s (pid %d%s)", PTY_METATABLE, (int)pty->pid, pty->master < 0 ? ", closed" : "");
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", lua_pty_close},
    {"descriptor", lua_pty_descriptor},
    {"duplicate", lua_pty_duplicate},
    {"hang_up", lua_pty_hang_up},
    {"pid", lua_pty_pid},
    {"poll_exit", lua_pty_poll_exit},
    {"read", lua_pty_read},
    {"resize", lua_pty_resize},
    {"signal", lua_pty_signal},
    {"size", lua_pty_size},
    {"write", lua_pty_write},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", lua_pty_close}, {"__gc", lua_pty_gc}, {"__tostring", lua_pty_tostring}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"spawn", lua_pty_spawn}, {NULL, NULL}};

int luaopen_parley_pty(lua_State *L)
{
    core_class(L, PTY_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
